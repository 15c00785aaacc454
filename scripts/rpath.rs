//! Build script of every package whose programs and tests link libtorch: they find it without any environment variable.

#![expect(clippy::print_stdout, reason = "a build script speaks to cargo by printing")]

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    // torch-sys says where it found libtorch. The link `.libtorch` is resolved, so that a binary works when it is moved.
    let Some(lib) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else { return };
    let lib = lib.canonicalize().unwrap_or(lib);
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
}
