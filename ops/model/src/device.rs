//! Where tensors live: CPU or GPU, the number of threads, and which properties of the machine the
//! bits of results depend on.

use std::sync::{Mutex, MutexGuard, Once, PoisonError};

pub use blip_torch::OpenError;
use tch::Device;

/// libtorch has one random generator and one thread count per process, so only one stage at a time
/// computes with it.
static DEVICE_LOCK: Mutex<()> = Mutex::new(());
static SETUP: Once = Once::new();

/// Waits for the device lock. Everything that trains or draws random numbers holds it.
///
/// # Errors
/// libtorch cannot be opened.
pub fn lock() -> Result<MutexGuard<'static, ()>, OpenError> {
    // A panic while the lock was held leaves nothing to repair: whoever locks next seeds the
    // generator before using it.
    let guard = DEVICE_LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    open_and_configure()?;
    Ok(guard)
}

/// The number of threads that matrix operations use: the machine's cores, or `BLIP_THREADS`.
pub fn threads() -> i32 {
    let requested = std::env::var("BLIP_THREADS")
        .ok()
        .and_then(|text| text.parse().ok())
        .filter(|count| *count > 0);
    requested.unwrap_or_else(|| {
        std::thread::available_parallelism().map_or(1, |cores| cores.get().min(1024) as i32)
    })
}

/// The device that models run on: the first GPU if there is one and libtorch has its CUDA
/// libraries, else the CPU. `BLIP_DEVICE=cpu` forces the CPU.
///
/// # Errors
/// libtorch cannot be opened, or it finds no GPU although the driver reports one. That is an error
/// and not a fallback: training on the CPU instead would silently take weeks.
pub fn best() -> Result<Device, OpenError> {
    open_and_configure()?;
    let Some(gpu) = gpu() else {
        return Ok(Device::Cpu);
    };
    if !tch::Cuda::is_available() {
        let what = format!(
            "libtorch {} finds no GPU, though the driver shows {gpu}",
            blip_torch::VERSION
        );
        let help = "update NVIDIA's driver to one for CUDA 13 or newer, \
                    or set BLIP_DEVICE=cpu to compute on the CPU";
        return Err(OpenError {
            what,
            help: help.to_owned(),
        });
    }
    Ok(Device::Cuda(0))
}

/// The name of the GPU to use, unless `BLIP_DEVICE=cpu` forbids it.
fn gpu() -> Option<&'static str> {
    let cpu_only = std::env::var("BLIP_DEVICE").is_ok_and(|device| device == "cpu");
    if cpu_only { None } else { blip_torch::gpu() }
}

/// Names and values of everything about this machine that the bits of results depend on: a part of
/// the keys of numeric ops. Does not open libtorch, since keys are also computed when nothing runs.
pub fn environment() -> Vec<(String, String)> {
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut fields = vec![field("libtorch", blip_torch::VERSION)];
    match gpu() {
        Some(gpu) => fields.extend([field("device", "cuda"), field("gpu", gpu)]),
        None => fields.extend([
            field("device", "cpu"),
            field("threads", &threads().to_string()),
            field("instructions", instruction_set()),
        ]),
    }
    fields
}

/// The vector instructions by which libtorch selects its CPU kernels.
fn instruction_set() -> &'static str {
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

fn open_and_configure() -> Result<(), OpenError> {
    blip_torch::open()?;
    SETUP.call_once(|| {
        tch::set_num_threads(threads());
        if gpu().is_some() {
            blip_torch::use_deterministic_algorithms();
        }
    });
    Ok(())
}
