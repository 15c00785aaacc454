// Settings of libtorch for which torch-sys has no function.

#include <ATen/Context.h>
#include <ATen/Version.h>
#include <c10/util/env.h>

#include <string>

// torch.use_deterministic_algorithms(True), and float32 without TF32: kernels on a GPU give the same
// bits each time, or throw. By default the gradients of attention and index_add are summed in the
// order in which threads finish, and convolutions round to TF32. cuBLAS is deterministic only with
// a fixed workspace, which PyTorch requires in an environment variable.
extern "C" void blip_use_deterministic_algorithms() {
  c10::utils::set_env("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/false);
  at::globalContext().setDeterministicAlgorithms(/*b=*/true, /*warn_only=*/false);
  // No kernel reads memory that was not written, so filling it would only cost time.
  at::globalContext().setDeterministicFillUninitializedMemory(false);
  at::globalContext().setBenchmarkCuDNN(false);
  at::globalContext().setAllowTF32CuDNN(false);
  at::globalContext().setAllowTF32CuBLAS(false);
}

// torch.backends.cpu.get_cpu_capability(): the vector instructions of the selected CPU kernels, such
// as "AVX2". The text is never freed.
extern "C" const char* blip_cpu_capability() {
  static const std::string capability = at::get_cpu_capability();
  return capability.c_str();
}
