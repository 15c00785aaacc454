//! Where tensors live: CPU or GPU, the number of threads, and which properties of the machine the
//! bits of results depend on.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

pub use blip_torch::OpenError;
use tch::Device;

mod settings;

pub use self::settings::{DeviceChoice, SettingError};

/// libtorch has one random generator and one thread count per process, so only one stage at a time
/// computes with it.
static DEVICE_LOCK: Mutex<()> = Mutex::new(());
static CONFIGURED: OnceLock<Result<(), OpenError>> = OnceLock::new();

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

/// The device that models run on: what the user chose, else the first GPU if there is one and
/// libtorch has its CUDA libraries, else the CPU.
///
/// # Errors
/// libtorch cannot be opened, or it finds no GPU although the driver reports one. That is an error
/// and not a fallback: training on the CPU instead would silently take weeks.
pub fn best() -> Result<Device, OpenError> {
    open_and_configure()?;
    let Some(gpu) = gpu().map_err(invalid_setting)? else {
        return Ok(Device::Cpu);
    };
    if !tch::Cuda::is_available() {
        let what = format!(
            "libtorch {} finds no GPU, though the driver shows {gpu}",
            blip_torch::VERSION
        );
        let help = "update NVIDIA's driver to one for CUDA 13 or newer, \
                    or compute on the CPU: --device cpu, or BLIP_DEVICE=cpu";
        return Err(OpenError {
            what,
            help: help.to_owned(),
        });
    }
    Ok(Device::Cuda(0))
}

/// The name of the GPU to use; `None` for the CPU.
fn gpu() -> Result<Option<&'static str>, SettingError> {
    match DeviceChoice::current()? {
        DeviceChoice::Cpu => Ok(None),
        DeviceChoice::Auto => Ok(blip_torch::gpu()),
        DeviceChoice::Cuda => blip_torch::gpu().map(Some).ok_or_else(|| SettingError {
            what: "this machine has no GPU that can be used, but the device is `cuda`".to_owned(),
            help: "check NVIDIA's driver and that libtorch has its CUDA libraries, or choose \
                   another device"
                .to_owned(),
        }),
    }
}

/// Names and values of everything about this machine that the bits of results depend on: a part of
/// the keys of numeric ops. Does not open libtorch, since keys are also computed when nothing runs.
///
/// # Errors
/// A variable of the environment has an invalid value.
pub fn environment() -> Result<Vec<(String, String)>, SettingError> {
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let gpu = gpu()?;
    let mut fields = vec![field("libtorch", blip_torch::VERSION)];
    match gpu {
        Some(gpu) => fields.extend([field("device", "cuda"), field("gpu", gpu)]),
        None => fields.extend([
            field("device", "cpu"),
            field("threads", &settings::threads()?.to_string()),
            field("instructions", settings::instruction_set()),
        ]),
    }
    fields.extend(settings::variables(gpu.is_some()));
    Ok(fields)
}

fn open_and_configure() -> Result<(), OpenError> {
    blip_torch::open()?;
    CONFIGURED.get_or_init(configure).clone()
}

fn configure() -> Result<(), OpenError> {
    tch::set_num_threads(settings::threads().map_err(invalid_setting)?);
    if gpu().map_err(invalid_setting)?.is_some() {
        blip_torch::use_deterministic_algorithms();
        return Ok(());
    }
    check_instructions(settings::instruction_set(), &blip_torch::cpu_capability())
}

/// Keys say which vector instructions libtorch computes with, before it is opened. Results under a
/// key that is not true would be wrong for whoever shares the cache.
fn check_instructions(in_key: &str, reported: &str) -> Result<(), OpenError> {
    let used = match reported {
        "AVX512" => "avx512",
        "AVX2" => "avx2",
        _ => "default",
    };
    if used == in_key {
        return Ok(());
    }
    Err(OpenError {
        what: format!(
            "libtorch {} computes with {used} instructions, but the results would be stored as \
             those of {in_key}",
            blip_torch::VERSION
        ),
        help: format!("set ATEN_CPU_CAPABILITY={in_key}, or report this as a bug"),
    })
}

fn invalid_setting(error: SettingError) -> OpenError {
    OpenError {
        what: error.what,
        help: error.help,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorch_must_use_the_instructions_that_are_in_the_key() {
        assert!(check_instructions("avx512", "AVX512").is_ok());
        assert!(check_instructions("avx2", "AVX2").is_ok());
        assert!(check_instructions("default", "NO AVX").is_ok());
        let error = check_instructions("avx512", "AVX2").unwrap_err();
        assert_eq!(
            error.what,
            format!(
                "libtorch {} computes with avx2 instructions, but the results would be stored as \
                 those of avx512",
                blip_torch::VERSION
            )
        );
        assert_eq!(
            error.help,
            "set ATEN_CPU_CAPABILITY=avx512, or report this as a bug"
        );
    }
}
