//! `cargo xtask ebpf`: builds the kernel programs, or checks that the prebuilt object is what the sources make.
//!
//! The object is checked in, so that users need none of this. `toolchain.txt` beside it says which versions made it:
//! with the same ones the sources must give the same bits, with others only tests can tell.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::command::{command, output, run as run_command};
use crate::toolchain::Toolchain;
use crate::workspace;

/// Options of `cargo xtask ebpf`.
#[derive(Args)]
pub(crate) struct Options {
    /// Write nothing: fail if the prebuilt object differs from what the sources make.
    #[arg(long)]
    check: bool,
    /// The folder of the eBPF crate.
    #[arg(long, default_value = "collector-ebpf", value_name = "FOLDER")]
    source: PathBuf,
}

/// What `--check` has found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// The same bits.
    Same,
    /// Other bits, by the same toolchain: the object is not what the sources make.
    Drifted(String),
    /// Other bits, by another toolchain: this object must pass the tests in place of the prebuilt one.
    OtherToolchain {
        /// The object made here.
        object: PathBuf,
        /// What differs, for people.
        why: String,
    },
}

/// Runs the subcommand. False if `--check` has found a drift.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let source = workspace::root().join(&options.source);
    let toolchain = Toolchain::find()?;
    if options.check {
        return Ok(match check(&source, &toolchain)? {
            Checked::Same => {
                println!("the prebuilt object is what the sources make, bit for bit");
                true
            }
            Checked::Drifted(why) => {
                println!(
                    "the prebuilt object is NOT what the sources make: {why}\nrun `cargo xtask ebpf` and commit"
                );
                false
            }
            Checked::OtherToolchain { object, why } => {
                println!("cannot compare bit for bit: {why}");
                println!(
                    "{} must pass the tests instead: `cargo xtask test` runs them on it",
                    object.display()
                );
                true
            }
        });
    }
    let object = build(&source, &toolchain)?;
    let folder = source.join("prebuilt");
    fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let (to, record) = (folder.join(OBJECT), folder.join(RECORD));
    fs::copy(&object, &to).with_context(|| format!("failed to write {}", to.display()))?;
    fs::write(&record, describe(&source, &toolchain, &object)?)
        .with_context(|| format!("failed to write {}", record.display()))?;
    println!("wrote {} ({} bytes) and {RECORD}", to.display(), fs::metadata(&to)?.len());
    Ok(true)
}

/// Builds the object and compares it with the prebuilt one.
pub(crate) fn check(source: &Path, toolchain: &Toolchain) -> Result<Checked> {
    let prebuilt = source.join("prebuilt").join(OBJECT);
    let before = fs::read(&prebuilt).with_context(|| format!("failed to read {}", prebuilt.display()))?;
    let record = source.join("prebuilt").join(RECORD);
    let recorded = fs::read_to_string(&record).with_context(|| {
        format!("failed to read {}; `cargo xtask ebpf` writes it together with the object", record.display())
    })?;
    if !recorded.contains(&format!("sha256 {}\n", sha256(&prebuilt)?)) {
        return Ok(Checked::Drifted(format!("its sum is not the one in {RECORD}")));
    }
    let object = build(source, toolchain)?;
    let now = fs::read(&object).with_context(|| format!("failed to read {}", object.display()))?;
    if before == now {
        return Ok(Checked::Same);
    }
    let here = describe(source, toolchain, &object)?;
    let differs = |line: &&str| !line.starts_with("sha256 ") && !recorded.lines().any(|other| other == *line);
    let other: Vec<&str> = here.lines().filter(differs).collect();
    if other.is_empty() {
        let first = before.iter().zip(&now).position(|(a, b)| a != b).unwrap_or(before.len().min(now.len()));
        let why = format!("{} and {} bytes, the first difference at {first:#x}", before.len(), now.len());
        return Ok(Checked::Drifted(why));
    }
    Ok(Checked::OtherToolchain { object, why: format!("it was not made with {}", other.join(", ")) })
}

/// Builds the object in `target/ebpf` and returns its path.
fn build(source: &Path, toolchain: &Toolchain) -> Result<PathBuf> {
    let target = workspace::root().join("target/ebpf");
    // The sources of the dependencies must be there before their folders can be named to the compiler.
    run_command(cargo(source, toolchain, &target).arg("fetch").args(locked(source)))?;
    let mut build = cargo(source, toolchain, &target);
    build.args(["build", "--release"]).args(locked(source));
    // Joined to the flags of the crate's `.cargo/config.toml`: RUSTFLAGS would replace them.
    let flags: Vec<String> = remap(source, toolchain).into_iter().map(|flag| format!("{flag:?}")).collect();
    build.arg("--config").arg(format!("target.{TARGET}.rustflags=[{}]", flags.join(",")));
    run_command(&mut build)?;
    let built = target.join(TARGET).join("release").join(binary_name(source)?);
    let object = target.join(OBJECT);
    run_command(command(&toolchain.strip).arg("--strip-debug").arg(&built).arg("-o").arg(&object))?;
    Ok(object)
}

/// Cargo in the folder of the eBPF crate, whose `.cargo/config.toml` says target, linker and build-std.
fn cargo(source: &Path, toolchain: &Toolchain, target: &Path) -> Command {
    let mut cargo = command(&toolchain.cargo);
    cargo.current_dir(source);
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "RUSTC_WRAPPER"] {
        cargo.env_remove(name);
    }
    cargo.env("RUSTC", &toolchain.rustc).env("RUSTC_BOOTSTRAP", "1");
    cargo.env("PATH", &toolchain.path).env("CARGO_TARGET_DIR", target);
    cargo
}

fn locked(source: &Path) -> Option<&'static str> {
    source.join("Cargo.lock").exists().then_some("--locked")
}

/// Flags that keep the machine's paths out of the object: it is the same from every checkout, home and registry.
fn remap(source: &Path, toolchain: &Toolchain) -> Vec<String> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or(home).unwrap_or_default();
    // One folder per registry, named after its address.
    let registries = fs::read_dir(home.join("registry/src")).into_iter().flatten().flatten();
    let mut paths =
        vec![(source.to_path_buf(), "/spantap/collector-ebpf"), (toolchain.library.clone(), "/rust/library")];
    paths.extend(registries.map(|folder| (folder.path(), "/registry")));
    let mut flags = Vec::new();
    for (path, to) in paths {
        flags.push(format!("--remap-path-prefix={}={to}", path.display()));
        // As the compiler may see it: links resolved.
        if let Some(real) = fs::canonicalize(&path).ok().filter(|real| *real != path) {
            flags.push(format!("--remap-path-prefix={}={to}", real.display()));
        }
    }
    flags
}

/// The contents of `toolchain.txt`.
fn describe(source: &Path, toolchain: &Toolchain, object: &Path) -> Result<String> {
    let lock = fs::read_to_string(source.join("Cargo.lock")).unwrap_or_default();
    let aya = locked_version(&lock, "aya-ebpf").unwrap_or("unknown");
    Ok(format!("{}aya-ebpf {aya}\nsha256 {}\n", toolchain.versions, sha256(object)?))
}

/// The version of a package in a lock file.
fn locked_version<'l>(lock: &'l str, package: &str) -> Option<&'l str> {
    let (_, after) = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    after.split('"').next()
}

fn sha256(file: &Path) -> Result<String> {
    let line = output(command("sha256sum").arg(file))?;
    line.split_whitespace().next().map(str::to_owned).context("sha256sum printed nothing")
}

/// The name of the crate's binary.
fn binary_name(source: &Path) -> Result<String> {
    let manifest = fs::read_to_string(source.join("Cargo.toml"))?;
    let bin = manifest.split("[[bin]]").nth(1).context("the eBPF crate has no [[bin]]")?;
    let name = bin.lines().find_map(|line| line.trim().strip_prefix("name = "));
    Ok(name.context("the [[bin]] of the eBPF crate has no name")?.trim_matches('"').to_owned())
}

/// The target triple: BPF, little endian.
const TARGET: &str = "bpfel-unknown-none";
/// The object in `prebuilt/`.
const OBJECT: &str = "spantap.bpf.o";
/// What made it, in `prebuilt/`.
const RECORD: &str = "toolchain.txt";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_the_lock_file() {
        let lock = "[[package]]\nname = \"aya-ebpf-macros\"\nversion = \"9\"\n\n[[package]]\nname = \
                    \"aya-ebpf\"\nversion = \"0.2.1\"\n";
        assert_eq!(locked_version(lock, "aya-ebpf"), Some("0.2.1"));
        assert_eq!(locked_version(lock, "other"), None);
    }
}
