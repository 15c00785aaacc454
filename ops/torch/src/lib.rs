//! libtorch, loaded when the first tensor is needed and not before.
//!
//! A program that links libtorch spends 0.2 to 0.3 s on it before `main`, and does not start at all
//! where it is not installed. Checking or planning a workflow, or finding that everything is up to
//! date, needs no tensor. So the functions that torch-sys declares are defined here: each jumps to
//! its body in torch-sys's C++ half, which [`open`] has loaded. `build.rs` builds that half as a
//! shared library, which is embedded in the program.

#![expect(
    unsafe_code,
    reason = "this crate exists to load a library and call into it"
)]

use std::ffi::{CStr, c_char, c_void};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LAZY, RTLD_NOW};

mod fetched;
mod functions;
mod gpu;
mod home;

pub use gpu::gpu;
pub use home::home;

/// The version of libtorch that this program is built for.
pub const VERSION: &str = fetched::VERSION;

/// torch-sys's C++ half, a shared library.
static LIBTCH: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libtch.so"));

/// Why libtorch could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}")]
pub struct OpenError {
    pub what: String,
    /// How to fix it.
    pub help: String,
}

/// Loads libtorch if it is not loaded yet. To be called before any tensor is made: a call of a
/// torch-sys function without libtorch aborts the process.
///
/// # Errors
/// libtorch is in none of the folders that [`home`] looks into, has another version, or cannot be
/// loaded.
pub fn open() -> Result<(), OpenError> {
    libtch().map(|_| ())
}

/// Makes kernels on a GPU deterministic: `torch.use_deterministic_algorithms(True)`, and no TF32.
/// An operation without a deterministic kernel throws. Called after [`open`].
pub fn use_deterministic_algorithms() {
    // SAFETY: `settings.cpp` defines the function with this signature.
    unsafe {
        let body: unsafe extern "C" fn() =
            std::mem::transmute(symbol("blip_use_deterministic_algorithms\0"));
        body();
    }
}

/// The vector instructions of libtorch's CPU kernels, such as "AVX2":
/// `torch.backends.cpu.get_cpu_capability()`. Called after [`open`].
pub fn cpu_capability() -> String {
    // SAFETY: `settings.cpp` defines the function with this signature; the text it returns ends
    // with NUL and is never freed.
    let name = unsafe {
        let body: unsafe extern "C" fn() -> *const c_char =
            std::mem::transmute(symbol("blip_cpu_capability\0"));
        CStr::from_ptr(body())
    };
    name.to_string_lossy().into_owned()
}

/// Whether this libtorch is a CUDA build.
fn has_cuda() -> bool {
    cuda_library(&home()).exists()
}

fn cuda_library(home: &Path) -> PathBuf {
    home.join("lib/libtorch_cuda.so")
}

/// Libraries are never unloaded: kernels and types stay registered in them.
fn libtch() -> Result<&'static Library, OpenError> {
    static OPENED: OnceLock<Result<Library, OpenError>> = OnceLock::new();
    OPENED
        .get_or_init(|| load_all(&home()))
        .as_ref()
        .map_err(Clone::clone)
}

fn load_all(home: &Path) -> Result<Library, OpenError> {
    let cpu = home.join(home::LIBRARY);
    if !cpu.exists() {
        return Err(error(format!(
            "libtorch {VERSION} is required, but {} does not exist",
            cpu.display()
        )));
    }
    let found = std::fs::read_to_string(home.join("build-version")).unwrap_or_default();
    if !found.starts_with(VERSION) {
        let found = if found.trim().is_empty() {
            "of an unknown version"
        } else {
            found.trim()
        };
        return Err(error(format!(
            "libtorch {VERSION} is required, but {} is {found}",
            home.display()
        )));
    }
    std::mem::forget(load(&cpu, RTLD_NOW)?);
    // After the CPU library, with which the CUDA library registers its kernels. If it cannot be
    // loaded, as without a driver, the CPU still works.
    let cuda = cuda_library(home);
    if cuda.exists() {
        match load(&cuda, RTLD_NOW) {
            Ok(library) => std::mem::forget(library),
            Err(error) => {
                let library = cuda.display();
                tracing::warn!(%library, %error, "could not load the CUDA library of libtorch");
            }
        }
    }
    load_embedded()
}

/// Loads torch-sys's C++ half from memory, so that the program is one file. Symbols are bound
/// lazily: it refers to a few callbacks for torch-sys's streams, which nothing here uses, so they
/// are never looked up.
fn load_embedded() -> Result<Library, OpenError> {
    let failed = |what: std::io::Error| {
        error(format!(
            "could not load libtorch's interface from memory: {what}"
        ))
    };
    let file = rustix::fs::memfd_create("libtch.so", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|what| failed(what.into()))?;
    let mut file = std::fs::File::from(file);
    std::io::Write::write_all(&mut file, LIBTCH).map_err(failed)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    load(Path::new(&path), RTLD_LAZY)
}

fn load(path: &Path, flags: i32) -> Result<Library, OpenError> {
    // SAFETY: the initialisers of libtorch's libraries only register kernels and types and may run
    // on any thread; all libraries are of one version.
    unsafe { Library::open(Some(path), flags | RTLD_GLOBAL) }
        .map_err(|what| error(format!("could not load libtorch: {}", root_cause(&what))))
}

/// libloading keeps the message of the dynamic linker in the source of its error.
fn root_cause(error: &libloading::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(deeper) = source {
        text = deeper.to_string();
        source = deeper.source();
    }
    text
}

fn error(what: String) -> OpenError {
    let help = format!(
        "run `libtorch.sh` (in a checkout: `make libtorch`) to have it fetched, \
         or set LIBTORCH to the folder of a libtorch {VERSION}"
    );
    OpenError { what, help }
}

/// The address of a function of torch-sys's C++ half. The name ends in NUL.
fn symbol(name: &'static str) -> *mut c_void {
    let found = libtch().and_then(|library| {
        // SAFETY: only the address is taken; the caller knows the type.
        unsafe { library.get::<*mut c_void>(name.as_bytes()) }
            .map(|symbol| symbol.into_raw())
            .map_err(|what| error(format!("missing function in libtorch's interface: {what}")))
    });
    match found {
        Ok(address) => address,
        Err(error) => {
            // The caller has the signature of a C function: it cannot return an error, and must not
            // unwind.
            let function = name.trim_end_matches('\0');
            tracing::error!(function, %error, "called before libtorch was loaded");
            std::process::abort()
        }
    }
}
