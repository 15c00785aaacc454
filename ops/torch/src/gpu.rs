//! The name of the GPU, from NVIDIA's driver: that takes a tenth of the time of loading libtorch.

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

/// The name of the first GPU, such as `NVIDIA H100 80GB HBM3`, if this libtorch is a CUDA build and
/// the driver reports one (`CUDA_VISIBLE_DEVICES` hides some).
pub fn gpu() -> Option<&'static str> {
    static NAME: OnceLock<Option<String>> = OnceLock::new();
    NAME.get_or_init(|| crate::has_cuda().then(first_gpu).flatten())
        .as_deref()
}

/// Uses the interface of `cuda.h`, whose functions return 0 on success.
fn first_gpu() -> Option<String> {
    const NAME_LEN: c_int = 256;
    // SAFETY: the driver's library may be loaded on any thread, and `cuda.h` declares the functions
    // with these signatures.
    unsafe {
        let driver = Library::open(Some("libcuda.so.1"), RTLD_NOW | RTLD_LOCAL).ok()?;
        let init = driver
            .get::<unsafe extern "C" fn(c_uint) -> c_int>(b"cuInit\0")
            .ok()?;
        let device = driver
            .get::<unsafe extern "C" fn(*mut c_int, c_int) -> c_int>(b"cuDeviceGet\0")
            .ok()?;
        let name = driver
            .get::<unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int>(b"cuDeviceGetName\0")
            .ok()?;
        let (mut first, mut text) = (0, [0 as c_char; NAME_LEN as usize]);
        let found = init(0) == 0
            && device(&raw mut first, 0) == 0
            && name(text.as_mut_ptr(), NAME_LEN, first) == 0;
        let found = found.then(|| CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned());
        // Not unloaded: the driver has started threads, and libtorch will use it.
        std::mem::forget(driver);
        found
    }
}
