//! libtorch, opened when the first tensor is wanted and not before.
//!
//! A program that links libtorch pays 0.2 to 0.3 s for it before `main`, and does not start at all where it is not installed. Checking a
//! workflow, planning one, or finding that nothing is left to do needs no tensor. So the functions that torch-sys declares are
//! defined here: each jumps to its body in libtorch's C++ interface, which [`open`] has opened. The C++ code is torch-sys's
//! own, built by `build.rs`, and travels inside the program.

#![expect(unsafe_code, reason = "opening a library and calling into it is what this crate is for")]

use std::ffi::c_void;
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

/// The libtorch that this program is built for.
pub const VERSION: &str = fetched::VERSION;

/// torch-sys's C++ half.
static LIBTCH: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libtch.so"));

/// Why libtorch could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}")]
pub struct OpenError {
    /// What is wrong, and where.
    pub what: String,
    /// What to do.
    pub help: String,
}

/// Opens libtorch if it is not open yet. Everything that makes a tensor has called this: what reaches a function of torch-sys
/// without it ends the process.
///
/// # Errors
/// libtorch is in none of the folders that [`home`] looks into, is of another version, or cannot be loaded.
pub fn open() -> Result<(), OpenError> {
    libtch().map(|_| ())
}

/// Makes kernels on a GPU give the same bits each time: `torch.use_deterministic_algorithms(True)`, and no TF32. A kernel that
/// cannot throws. Called after [`open`].
pub fn use_deterministic_algorithms() {
    // SAFETY: `settings.cpp` defines it so.
    unsafe {
        let body: unsafe extern "C" fn() = std::mem::transmute(symbol("blip_use_deterministic_algorithms\0"));
        body();
    }
}

/// Whether this libtorch has a CUDA half.
fn has_cuda() -> bool {
    cuda(&home()).exists()
}

fn cuda(home: &Path) -> PathBuf {
    home.join("lib/libtorch_cuda.so")
}

/// Libraries stay open for the life of the process: kernels and types are registered in them.
fn libtch() -> Result<&'static Library, OpenError> {
    static OPENED: OnceLock<Result<Library, OpenError>> = OnceLock::new();
    OPENED.get_or_init(|| open_all(&home())).as_ref().map_err(Clone::clone)
}

fn open_all(home: &Path) -> Result<Library, OpenError> {
    let cpu = home.join(home::LIBRARY);
    if !cpu.exists() {
        return Err(error(format!("libtorch {VERSION} is needed and {} is missing", cpu.display())));
    }
    let found = std::fs::read_to_string(home.join("build-version")).unwrap_or_default();
    if !found.starts_with(VERSION) {
        let found = if found.trim().is_empty() { "of unknown version" } else { found.trim() };
        return Err(error(format!("libtorch {VERSION} is needed and {} is {found}", home.display())));
    }
    std::mem::forget(library(&cpu, RTLD_NOW)?);
    // One build serves both: opening the CUDA half where there is one registers its kernels with the half that is open.
    let cuda = cuda(home);
    if cuda.exists() {
        match library(&cuda, RTLD_NOW) {
            Ok(library) => std::mem::forget(library),
            Err(error) => {
                tracing::warn!(library = %cuda.display(), %error, "the CUDA half of libtorch could not be opened")
            }
        }
    }
    libtch_in_memory()
}

/// Opens torch-sys's C++ half from memory, so that the program is one file. It calls a few functions that only torch-sys's streams
/// have, which nothing here uses: they are looked up when called, that is never.
fn libtch_in_memory() -> Result<Library, OpenError> {
    let failed = |what: std::io::Error| error(format!("libtorch's interface cannot be opened from memory: {what}"));
    let file =
        rustix::fs::memfd_create("libtch.so", rustix::fs::MemfdFlags::CLOEXEC).map_err(|what| failed(what.into()))?;
    let mut file = std::fs::File::from(file);
    std::io::Write::write_all(&mut file, LIBTCH).map_err(failed)?;
    library(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())), RTLD_LAZY)
}

fn library(path: &Path, flags: i32) -> Result<Library, OpenError> {
    // SAFETY: the initialisers of libtorch's libraries register kernels and types and may run on any thread; their versions agree.
    unsafe { Library::open(Some(path), flags | RTLD_GLOBAL) }
        .map_err(|what| error(format!("libtorch cannot be opened: {}", reason(&what))))
}

/// libloading keeps the dynamic linker's words in the source of its error.
fn reason(error: &libloading::Error) -> String {
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

/// Where a function of torch-sys's C++ half lies. Its name ends in NUL.
fn symbol(name: &'static str) -> *mut c_void {
    let found = libtch().and_then(|library| {
        // SAFETY: only the address is taken; who calls it knows its type.
        unsafe { library.get::<*mut c_void>(name.as_bytes()) }
            .map(|symbol| symbol.into_raw())
            .map_err(|what| error(format!("libtorch's interface lacks a function: {what}")))
    });
    match found {
        Ok(address) => address,
        Err(error) => {
            // Whoever calls is C to the compiler: there is nobody to hand an error to.
            tracing::error!(function = name.trim_end_matches('\0'), %error, "called although libtorch is not open");
            std::process::abort()
        }
    }
}
