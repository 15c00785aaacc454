//! Where tensors live: CPU or GPU, how many threads, and what of the machine the bits of results
//! depend on.

use std::sync::{Mutex, MutexGuard, Once, PoisonError};

pub use blip_torch::OpenError;
use tch::Device;

/// libtorch has one random generator and one thread count per process, so one stage at a time
/// computes with it.
static TURN: Mutex<()> = Mutex::new(());
static START: Once = Once::new();

/// Waits for this thread's turn to compute with libtorch. Everything that trains or draws random
/// numbers holds it.
///
/// # Errors
/// libtorch cannot be opened.
pub fn exclusive() -> Result<MutexGuard<'static, ()>, OpenError> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    start()?;
    Ok(turn)
}

/// The number of threads that matrix operations use: the machine's cores, or `BLIP_THREADS`.
pub fn threads() -> i32 {
    let asked = std::env::var("BLIP_THREADS")
        .ok()
        .and_then(|text| text.parse().ok())
        .filter(|count| *count > 0);
    asked.unwrap_or_else(|| {
        std::thread::available_parallelism().map_or(1, |cores| cores.get().min(1024) as i32)
    })
}

/// The device that models run on: the first GPU where there is one and libtorch has a CUDA half,
/// else the CPU. `BLIP_DEVICE=cpu` keeps to the CPU.
///
/// # Errors
/// libtorch cannot be opened, or finds no GPU where the driver shows one: computing on the CPU
/// instead would take weeks unasked.
pub fn best() -> Result<Device, OpenError> {
    start()?;
    let Some(gpu) = gpu() else {
        return Ok(Device::Cpu);
    };
    if !tch::Cuda::is_available() {
        let what = format!(
            "libtorch {} finds no GPU, though the driver shows {gpu}",
            blip_torch::VERSION
        );
        let help = "update NVIDIA's driver to one for CUDA 13 or newer, or set BLIP_DEVICE=cpu to compute on the CPU";
        return Err(OpenError {
            what,
            help: help.to_owned(),
        });
    }
    Ok(Device::Cuda(0))
}

/// The GPU that is to be computed on.
fn gpu() -> Option<&'static str> {
    let cpu_only = std::env::var("BLIP_DEVICE").is_ok_and(|device| device == "cpu");
    if cpu_only { None } else { blip_torch::gpu() }
}

/// Names and values of what bits depend on, for keys. libtorch is not opened for them.
pub fn environment() -> Vec<(String, String)> {
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut fields = vec![field("libtorch", blip_torch::VERSION)];
    match gpu() {
        Some(gpu) => fields.extend([field("device", "cuda"), field("gpu", gpu)]),
        None => fields.extend([
            field("device", "cpu"),
            field("threads", &threads().to_string()),
            field("instructions", instructions()),
        ]),
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

/// libtorch, open and set up.
fn start() -> Result<(), OpenError> {
    blip_torch::open()?;
    START.call_once(|| {
        tch::set_num_threads(threads());
        if gpu().is_some() {
            blip_torch::use_deterministic_algorithms();
        }
    });
    Ok(())
}
