//! What the user says about the device, and the variables of libraries that change bits.

use std::sync::OnceLock;

/// The device that the user wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceChoice {
    /// The first GPU if there is one, else the CPU.
    Auto,
    Cpu,
    /// The first GPU; an error where there is none.
    Cuda,
}

/// A variable of the environment that has an invalid value.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what}")]
pub struct SettingError {
    pub what: String,
    /// How to fix it.
    pub help: String,
}

/// Variables by which libtorch and its libraries select kernels, threads or precision on a CPU, so
/// that they give other bits.
const CPU_VARIABLES: [&str; 11] = [
    "ATEN_CPU_CAPABILITY",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_DYNAMIC",
    "MKL_ENABLE_INSTRUCTIONS",
    "OMP_DYNAMIC",
    "OMP_THREAD_LIMIT",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
];

/// The same on a GPU.
const GPU_VARIABLES: [&str; 4] = [
    "CUBLAS_WORKSPACE_CONFIG",
    "CUBLASLT_WORKSPACE_SIZE",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
];

/// What a command line says takes precedence over `BLIP_DEVICE`.
static CHOSEN: OnceLock<DeviceChoice> = OnceLock::new();

impl DeviceChoice {
    /// Makes this the device of the process, whatever `BLIP_DEVICE` says. Only the first call has
    /// an effect.
    pub fn choose(self) {
        let _ = CHOSEN.set(self);
    }

    /// The device that was chosen, by [`DeviceChoice::choose`] or `BLIP_DEVICE`.
    ///
    /// # Errors
    /// `BLIP_DEVICE` has another value than `auto`, `cpu` or `cuda`.
    pub fn current() -> Result<Self, SettingError> {
        match CHOSEN.get() {
            Some(chosen) => Ok(*chosen),
            None => Self::from_variable(variable),
        }
    }

    fn from_variable(read: impl Fn(&str) -> Option<String>) -> Result<Self, SettingError> {
        match read("BLIP_DEVICE").as_deref() {
            None | Some("auto") => Ok(Self::Auto),
            Some("cpu") => Ok(Self::Cpu),
            Some("cuda") => Ok(Self::Cuda),
            Some(other) => Err(SettingError {
                what: format!("BLIP_DEVICE is `{other}`, which is not a device"),
                help: "set it to cpu, cuda or auto, or unset it".to_owned(),
            }),
        }
    }
}

/// The number of threads for matrix operations: `BLIP_THREADS`, or the machine's cores.
///
/// # Errors
/// `BLIP_THREADS` is not a number of threads.
pub(super) fn threads() -> Result<i32, SettingError> {
    threads_from(variable)
}

fn threads_from(read: impl Fn(&str) -> Option<String>) -> Result<i32, SettingError> {
    let Some(text) = read("BLIP_THREADS") else {
        return Ok(
            std::thread::available_parallelism().map_or(1, |cores| cores.get().min(1024) as i32)
        );
    };
    match text.parse() {
        Ok(count @ 1..=1024) => Ok(count),
        _ => Err(SettingError {
            what: format!("BLIP_THREADS is `{text}`, which is not a number of threads"),
            help: "set it to a number from 1 to 1024, or unset it".to_owned(),
        }),
    }
}

/// Those of the variables that are set, with their values. Where none is set nothing is added to
/// keys.
pub(super) fn variables(on_gpu: bool) -> Vec<(String, String)> {
    variables_from(on_gpu, variable)
}

fn variables_from(on_gpu: bool, read: impl Fn(&str) -> Option<String>) -> Vec<(String, String)> {
    let names: &[&str] = if on_gpu {
        &GPU_VARIABLES
    } else {
        &CPU_VARIABLES
    };
    names
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), read(name)?)))
        .collect()
}

/// The vector instructions for which libtorch has CPU kernels, as it selects them
/// (`aten/src/ATen/native/DispatchStub.cpp`): what `ATEN_CPU_CAPABILITY` says, else the best that
/// the CPU has.
pub(super) fn instruction_set() -> &'static str {
    match variable("ATEN_CPU_CAPABILITY").as_deref() {
        Some("avx512") => "avx512",
        Some("avx2") => "avx2",
        Some("default") => "default",
        _ => detected_instruction_set(),
    }
}

fn detected_instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512vl") && has!("avx512bw") && has!("avx512dq") && has!("fma") {
            return "avx512";
        }
        if has!("avx2") && has!("fma") {
            return "avx2";
        }
    }
    "default"
}

/// A variable of the environment. An empty one counts as not set.
fn variable(name: &str) -> Option<String> {
    let value = std::env::var_os(name)?.to_string_lossy().into_owned();
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set<'a>(name: &'a str, value: &'a str) -> impl Fn(&str) -> Option<String> + 'a {
        move |asked| (asked == name).then(|| value.to_owned())
    }

    #[test]
    fn a_device_is_one_of_three_and_anything_else_is_an_error() {
        let device = |value| DeviceChoice::from_variable(set("BLIP_DEVICE", value));
        assert_eq!(
            DeviceChoice::from_variable(|_| None),
            Ok(DeviceChoice::Auto)
        );
        assert_eq!(device("auto"), Ok(DeviceChoice::Auto));
        assert_eq!(device("cpu"), Ok(DeviceChoice::Cpu));
        assert_eq!(device("cuda"), Ok(DeviceChoice::Cuda));
        let error = device("banana").unwrap_err();
        assert_eq!(error.what, "BLIP_DEVICE is `banana`, which is not a device");
        assert_eq!(error.help, "set it to cpu, cuda or auto, or unset it");
    }

    #[test]
    fn threads_are_a_positive_number() {
        assert_eq!(threads_from(set("BLIP_THREADS", "3")), Ok(3));
        assert!(threads_from(|_| None).unwrap() >= 1);
        for value in ["0", "-1", "many", "1.5", "99999"] {
            let error = threads_from(set("BLIP_THREADS", value)).unwrap_err();
            assert_eq!(
                error.what,
                format!("BLIP_THREADS is `{value}`, which is not a number of threads")
            );
        }
    }

    #[test]
    fn every_variable_that_is_set_is_named_with_its_value() {
        assert_eq!(variables_from(false, |_| None), []);
        for name in CPU_VARIABLES {
            let expected = (name.to_owned(), "x".to_owned());
            assert_eq!(variables_from(false, set(name, "x")), [expected]);
            assert_eq!(variables_from(true, set(name, "x")), []);
        }
        for name in GPU_VARIABLES {
            let expected = (name.to_owned(), "x".to_owned());
            assert_eq!(variables_from(true, set(name, "x")), [expected]);
        }
    }
}
