//! The toolchain for the BPF target: a Rust compiler with its sources, and bpf-linker with the same LLVM.
//!
//! Debian has it as `rustc-web`, `cargo-web` and `rust-web-src`; with rustup it is the `rust-src` component.
//! `-Zbuild-std=core` is for nightly compilers only, and `RUSTC_BOOTSTRAP=1` makes a stable one accept it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};

use crate::command::{command, output, run};
use crate::workspace;

/// A complete toolchain.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// The compiler.
    pub(crate) rustc: PathBuf,
    /// Its Cargo.
    pub(crate) cargo: PathBuf,
    /// The sources of `core` that are compiled.
    pub(crate) library: PathBuf,
    /// The tool that takes the debug sections out of the object; BTF stays, it is what the kernel reads.
    pub(crate) strip: PathBuf,
    /// `PATH` with bpf-linker on it.
    pub(crate) path: OsString,
    /// One line per tool: the name, a blank, the version. Objects are compared bit for bit only between equal ones.
    pub(crate) versions: String,
}

impl Toolchain {
    /// Finds the compiler and bpf-linker; builds bpf-linker if it is missing and its LLVM is there.
    ///
    /// # Errors
    /// What is missing, and how to install it.
    pub(crate) fn find() -> Result<Self> {
        let compilers = [
            (PathBuf::from("/usr/bin/rustc"), PathBuf::from("/usr/bin/cargo")),
            (PathBuf::from("rustc"), PathBuf::from("cargo")),
        ];
        let compiler = compilers.into_iter().find_map(|(rustc, cargo)| {
            let library = library(&rustc)?;
            Some((rustc, cargo, library))
        });
        let (rustc, cargo, library) = compiler.ok_or_else(|| {
            anyhow!(
                "no Rust 1.90 or later with its sources\n  on Debian: apt-get install rustc-web cargo-web \
                 rust-web-src\n  with rustup: rustup component add rust-src"
            )
        })?;
        let verbose = output(command(&rustc).arg("-vV"))?;
        let release = verbose.lines().next().unwrap_or_default().to_owned();
        let llvm = field(&verbose, "LLVM version: ").unwrap_or("unknown");
        let path = path_with_linker(llvm)?;
        let linker = output(command("bpf-linker").env("PATH", &path).arg("--version"))?;
        let strip = strip_tool(llvm)?;
        Ok(Self {
            rustc,
            cargo,
            library,
            strip,
            path,
            versions: format!("{release}\nLLVM {llvm}\n{linker}\n"),
        })
    }
}

/// The sources of the standard library, if the compiler is new enough and has them.
fn library(rustc: &Path) -> Option<PathBuf> {
    let version = output(command(rustc).arg("--version")).ok()?;
    if minor(&version)? < MINOR_MIN {
        return None;
    }
    let sysroot = output(command(rustc).args(["--print", "sysroot"])).ok()?;
    let library = Path::new(&sysroot).join("lib/rustlib/src/rust/library");
    library.join("core/Cargo.toml").exists().then_some(library)
}

/// 96 of `rustc 1.96.0 (...)`.
fn minor(version: &str) -> Option<u32> {
    version.strip_prefix("rustc 1.")?.split('.').next()?.parse().ok()
}

fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name))
}

/// llvm-strip of the compiler's LLVM, else any.
fn strip_tool(llvm: &str) -> Result<PathBuf> {
    let major = major(llvm);
    let debian = PathBuf::from(format!("/usr/lib/llvm-{major}/bin/llvm-strip"));
    [debian, PathBuf::from(format!("llvm-strip-{major}")), PathBuf::from("llvm-strip")]
        .into_iter()
        .find(|tool| output(command(tool).arg("--version")).is_ok())
        .ok_or_else(|| anyhow!("no llvm-strip\n  on Debian: apt-get install llvm-{major}"))
}

/// 22 of `22.1.8`.
fn major(llvm: &str) -> &str {
    llvm.split('.').next().unwrap_or_default()
}

/// `PATH` with bpf-linker on it, which is on it already, was built before, or is built now.
fn path_with_linker(llvm: &str) -> Result<OsString> {
    let ours = workspace::root().join("target/tools");
    let places = [None, Some(ours.join("bin"))];
    for place in places {
        let path = prepend(place.as_deref());
        if output(command("bpf-linker").env("PATH", &path).arg("--version")).is_ok() {
            return Ok(path);
        }
    }
    let major = major(llvm);
    let llvm_bin = PathBuf::from(format!("/usr/lib/llvm-{major}/bin"));
    if !llvm_bin.join("llvm-config").exists() {
        return Err(anyhow!(
            "no bpf-linker, and no LLVM {major} to build it with\n  on Debian: apt-get install llvm-{major}-dev \
             libpolly-{major}-dev libzstd-dev zlib1g-dev\n  else: install a released bpf-linker on PATH"
        ));
    }
    println!("building bpf-linker with LLVM {major}: this takes a minute, once");
    let mut install = command("cargo");
    install.args(["install", "bpf-linker", "--version", LINKER, "--locked", "--no-default-features"]);
    install.arg(format!("--features=llvm-{major}")).arg("--root").arg(&ours);
    install.env("PATH", prepend(Some(&llvm_bin)));
    install.env("CARGO_TARGET_DIR", ours.join("build"));
    run(&mut install)?;
    Ok(prepend(Some(&ours.join("bin"))))
}

fn prepend(folder: Option<&Path>) -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = folder.map(Path::to_path_buf).into_iter().chain(env::split_paths(&path));
    env::join_paths(folders).unwrap_or(path)
}

/// The first release whose `core` builds for the BPF target as it is used here.
const MINOR_MIN: u32 = 90;
/// The version of bpf-linker that made the prebuilt object.
const LINKER: &str = "^0.13";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(minor("rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)"), Some(96));
        assert_eq!(minor("rustc 2.0.0"), None);
        assert_eq!(field("host: x\nLLVM version: 22.1.8", "LLVM version: "), Some("22.1.8"));
    }
}
