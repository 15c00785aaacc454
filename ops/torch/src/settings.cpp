// Settings of libtorch that torch-sys has no function for.

#include <ATen/Context.h>
#include <c10/util/env.h>

// torch.use_deterministic_algorithms(True), and 32 bits that are 32 bits: kernels on a GPU give the same bits each time, or throw.
// By default attention's and index_add's gradients are added up in the order in which threads happen to finish, and convolutions
// round to TF32. cuBLAS gives the same bits with a fixed workspace only, which PyTorch wants said in the environment.
extern "C" void blip_use_deterministic_algorithms() {
  c10::utils::set_env("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/false);
  at::globalContext().setDeterministicAlgorithms(/*b=*/true, /*warn_only=*/false);
  at::globalContext().setDeterministicFillUninitializedMemory(false);  // nothing here reads memory that it did not write
  at::globalContext().setBenchmarkCuDNN(false);
  at::globalContext().setAllowTF32CuDNN(false);
  at::globalContext().setAllowTF32CuBLAS(false);
}
