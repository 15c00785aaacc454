//! Where tensors live: CPU or GPU, how many threads, and what of the machine the bits of results depend on.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use tch::Device;

/// The libtorch that this program is built for.
pub const LIBTORCH: &str = "2.11.0";

/// libtorch has one random generator and one thread count per process, so one stage at a time computes with it.
static TURN: Mutex<()> = Mutex::new(());
static START: Once = Once::new();

/// Waits for this thread's turn to compute with libtorch. Everything that trains or draws random numbers holds it.
pub fn exclusive() -> MutexGuard<'static, ()> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    start();
    turn
}

/// The number of threads that matrix operations use: the machine's cores, or `BLIP_THREADS`.
pub fn threads() -> i32 {
    let asked = std::env::var("BLIP_THREADS").ok().and_then(|text| text.parse().ok()).filter(|count| *count > 0);
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |cores| cores.get().min(1024) as i32))
}

/// The device that models run on: the first GPU when libtorch finds one, else the CPU. `BLIP_DEVICE=cpu` keeps to the CPU.
pub fn best() -> Device {
    start();
    if std::env::var("BLIP_DEVICE").is_ok_and(|device| device == "cpu") {
        Device::Cpu
    } else {
        Device::cuda_if_available()
    }
}

/// Names and values of what bits depend on, for keys.
pub fn environment() -> Vec<(String, String)> {
    let field = |name: &str, value: String| (name.to_owned(), value);
    let device = match best() {
        Device::Cpu => "cpu".to_owned(),
        Device::Cuda(_) => "cuda".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    let mut fields = vec![field("libtorch", LIBTORCH.to_owned()), field("device", device.clone())];
    if device == "cpu" {
        fields.push(field("threads", threads().to_string()));
        fields.push(field("instructions", instructions().to_owned()));
    }
    fields
}

/// The vector instructions that libtorch's kernels choose by.
fn instructions() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            return "avx512";
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            return "avx2";
        }
    }
    "default"
}

fn start() {
    START.call_once(|| {
        load_cuda();
        tch::set_num_threads(threads());
    });
}

/// Opens libtorch's CUDA half where it lies beside the CPU half: this registers its kernels, so one build serves both.
fn load_cuda() {
    let Some(library) = cuda_library() else { return };
    // SAFETY: the library's initialisers register kernels with the libtorch that is already loaded and is of the same build.
    #[expect(unsafe_code, reason = "opening a library is how its kernels are registered")]
    let opened = unsafe {
        use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
        Library::open(Some(&library), RTLD_NOW | RTLD_GLOBAL)
    };
    match opened {
        // Kernels stay registered for the life of the process: the library is never closed.
        Ok(library) => std::mem::forget(library),
        Err(error) => {
            tracing::warn!(library = %library.display(), %error, "the CUDA half of libtorch could not be opened")
        }
    }
}

fn cuda_library() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let cpu = maps
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .find(|path| path.ends_with("/libtorch_cpu.so"))?;
    let library = PathBuf::from(cpu).with_file_name("libtorch_cuda.so");
    library.exists().then_some(library)
}
