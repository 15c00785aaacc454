//! Builds torch-sys's C++ half as a shared library, and generates a Rust definition for each
//! function that torch-sys declares.
//!
//! torch-sys itself would link every program against libtorch, which takes 0.2 to 0.3 s to load
//! before `main`. With its feature `doc-only` it declares the functions and links nothing;
//! `src/functions.rs` defines them.

#![expect(
    clippy::print_stderr,
    reason = "a build script reports errors by printing"
)]

use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

#[path = "src/fetched.rs"]
mod fetched;

/// The files in which torch-sys declares the functions of its C++ half.
const DECLARATIONS: [&str; 3] = ["lib.rs", "cuda.rs", "c_generated.rs"];
const SOURCES: [&str; 2] = ["torch_api.cpp", "torch_api_generated.cpp"];
/// Functions that torch-sys does not have.
const ADDITIONS: &str = "src/settings.cpp";

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=BLIP_PORTABLE");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={ADDITIONS}");
    println!("cargo:rerun-if-changed=src/fetched.rs");
    let libtorch = libtorch();
    println!(
        "cargo:rerun-if-changed={}",
        libtorch.join("build-version").display()
    );
    println!(
        "cargo:rustc-env=BLIP_LIBTORCH_HOME={}",
        remembered(&libtorch).display()
    );
    let out = PathBuf::from(
        env::var_os("OUT_DIR").unwrap_or_else(|| fail("OUT_DIR is not set", "build with cargo")),
    );
    let torch_sys = torch_sys();
    write(
        &out.join("declarations.rs"),
        &forwards(&torch_sys.join("src")),
    );
    build(&torch_sys.join("libtch"), &libtorch, &out);
}

/// The folder of libtorch, as an absolute path without links: the program must find it from any
/// working directory.
fn libtorch() -> PathBuf {
    let asked = env::var_os("LIBTORCH")
        .map(PathBuf::from)
        .filter(|home| !home.as_os_str().is_empty());
    let mut candidates: Vec<PathBuf> = asked.clone().into_iter().collect();
    // `.libtorch` is what `.cargo/config.toml` says where the user says nothing, whether or not the
    // link is there.
    if asked.is_none_or(|home| home.ends_with(".libtorch")) {
        candidates.extend(fetched::folders());
    }
    let found = candidates
        .iter()
        .find(|home| home.join("lib/libtorch_cpu.so").exists());
    let home = found.unwrap_or_else(|| {
        let mut looked: Vec<String> = Vec::new();
        for home in &candidates {
            looked.push(format!("not in {}", home.display()));
        }
        if looked.is_empty() {
            looked.push("LIBTORCH is not set".to_owned());
        }
        let looked = looked.join(", ");
        let what = format!("libtorch {} is needed: {looked}", fetched::VERSION);
        let help = "run `scripts/libtorch.sh` (`make` does) to fetch it, or set LIBTORCH to the \
                    folder of one";
        fail(&what, help)
    });
    home.canonicalize().unwrap_or_else(|_| home.clone())
}

/// What the program remembers of where libtorch was: nothing if it is to run on other machines.
fn remembered(libtorch: &Path) -> &Path {
    let portable = env::var_os("BLIP_PORTABLE").is_some_and(|value| value == "1");
    if portable { Path::new("") } else { libtorch }
}

/// The folder into which cargo unpacked torch-sys's sources.
fn torch_sys() -> PathBuf {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = env::var("TARGET").unwrap_or_default();
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--filter-platform",
            &target,
        ])
        .current_dir(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default())
        .output()
        .unwrap_or_else(|error| {
            fail(
                &format!("could not run cargo metadata: {error}"),
                "check the Rust installation",
            )
        });
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        fail(
            &format!(
                "cargo metadata failed: {}",
                String::from_utf8_lossy(&output.stderr)
            ),
            "run it by hand to see why",
        )
    });
    let packages = metadata["packages"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let manifest = packages
        .iter()
        .find(|package| package["name"] == "torch-sys")
        .and_then(|p| p["manifest_path"].as_str());
    let manifest = manifest
        .unwrap_or_else(|| fail("cargo metadata does not list torch-sys", "see Cargo.toml"));
    Path::new(manifest)
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default()
}

/// `forward! { fn name(arg: type, ...) -> type }` for every function that torch-sys declares.
fn forwards(sources: &Path) -> String {
    let mut forwards = String::new();
    for file in DECLARATIONS {
        let path = sources.join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| {
            fail(&format!("{}: {error}", path.display()), "run `cargo fetch`")
        });
        let blocks = text
            .split("extern \"C\" {\n")
            .skip(1)
            .filter_map(|rest| rest.split("\n}").next());
        for declaration in blocks.flat_map(|block| block.split(';')) {
            let lines = declaration
                .lines()
                .map(str::trim)
                .filter(|line| !line.starts_with("//"));
            let declaration = lines.collect::<Vec<_>>().join(" ");
            if let Some(declaration) = declaration.trim().strip_prefix("pub ") {
                let _ = writeln!(forwards, "forward! {{ {declaration} }}");
            }
        }
    }
    forwards
}

/// Compiles and links `libtch.so`. It has no rpath: libtorch is already loaded when it is.
fn build(sources: &Path, libtorch: &Path, out: &Path) {
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .pic(true)
        .warnings(false)
        .debug(false)
        .opt_level(1) // it only passes arguments on; optimising would just make the build slower
        .cargo_metadata(false)
        .include(libtorch.join("include"))
        .include(libtorch.join("include/torch/csrc/api/include"))
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .define("GLOG_USE_GLOG_EXPORT", None)
        .files(SOURCES.map(|source| sources.join(source)))
        .file(ADDITIONS);
    let objects = build.compile_intermediates();
    let mut link = build.get_compiler().to_command();
    link.args(["-shared", "-s", "-Wl,-z,lazy", "-o"])
        .arg(out.join("libtch.so"))
        .args(objects);
    link.arg("-L")
        .arg(libtorch.join("lib"))
        .args(["-Wl,--no-as-needed", "-ltorch_cpu", "-lc10"]);
    match link.status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(
            &format!("could not link torch-sys's C++ half: {status}"),
            "see the compiler's output above",
        ),
        Err(error) => fail(
            &format!("could not run the C++ compiler: {error}"),
            "install g++ or set CXX",
        ),
    }
}

fn write(path: &Path, text: &str) {
    if let Err(error) = std::fs::write(path, text) {
        fail(
            &format!("{}: {error}", path.display()),
            "check that there is room on the disk",
        );
    }
}

fn fail(what: &str, help: &str) -> ! {
    eprintln!("libtorch: {what}\n  help: {help}");
    exit(1)
}
