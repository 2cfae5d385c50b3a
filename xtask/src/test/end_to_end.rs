//! The end-to-end tests on this machine's kernel: the agent as users have it, and programs that nobody here wrote.
//!
//! With a BPF toolchain of other versions than the prebuilt object's, bits cannot be compared; then the tests run on
//! the rebuilt object, in an agent built from a copy of the checkout.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::command::{cargo, command, output, run as run_command};
use crate::ebpf::{self, Checked};
use crate::packages::is_root;
use crate::step::Outcome;
use crate::toolchain::Toolchain;
use crate::workspace;

pub(super) fn run() -> Result<Outcome> {
    let tests = targets(&workspace::root().join("tests/tests"))?;
    if tests.is_empty() {
        return Ok(Outcome::Skipped("there are no end-to-end tests yet".to_owned()));
    }
    if !is_root() {
        return Ok(Outcome::Skipped("not root: loading eBPF programs needs it".to_owned()));
    }
    if !Path::new(BTF).exists() {
        return Ok(Outcome::Skipped(format!("this kernel has no {BTF}")));
    }
    let agent = agent()?;
    let failed = failing(&tests, &agent);
    if failed.is_empty() {
        return Ok(Outcome::Passed);
    }
    if failed.len() > REPEATED_AT_MOST {
        bail!("failed: {}", failed.join(", "));
    }
    println!("\n{} failed and is repeated: what then passes is told as flaky", failed.join(", "));
    let again = failing(&failed, &agent);
    if again.is_empty() {
        Ok(Outcome::Flaky(failed.join(", ")))
    } else {
        bail!("failed twice: {}", again.join(", "))
    }
}

/// Real programs on a machine that others use, too, now and then take longer than a test waits. So few failures are
/// tried again, loudly; a fault that is there most of the time still fails.
pub(super) const REPEATED_AT_MOST: usize = 3;

/// Runs these tests, and returns those that have failed.
fn failing(tests: &[String], agent: &Path) -> Vec<String> {
    let fails = |name: &&String| {
        let mut test = cargo();
        test.args(["test", "--package", "spantap-tests", "--locked"]).env("SPANTAP_BIN", agent);
        // One after the other: each watches the whole machine, and measures.
        run_command(test.args(["--test", name, "--", "--test-threads=1", "--nocapture"])).is_err()
    };
    tests.iter().filter(fails).cloned().collect()
}

/// Builds the agent that is tested, in release: numbers and times are those of the agent that users run.
pub(super) fn agent() -> Result<PathBuf> {
    let root = workspace::root();
    let checkout = match rebuilt_object(&root)? {
        Some(object) => copy_with(&root, &object)?,
        None => root,
    };
    let mut build = cargo();
    build.current_dir(&checkout).args(["build", "--release", "--locked", "--package", "spantap"]);
    run_command(build.env("CARGO_TARGET_DIR", workspace::target()))?;
    Ok(workspace::target().join("release/spantap"))
}

/// Checks the prebuilt object; `Some` if another one must be tested in its place.
fn rebuilt_object(root: &Path) -> Result<Option<PathBuf>> {
    let toolchain = match Toolchain::find() {
        Ok(toolchain) => toolchain,
        Err(why) => {
            println!("the eBPF object is taken as it is, it cannot be rebuilt here: {why}");
            return Ok(None);
        }
    };
    match ebpf::check(&root.join("collector-ebpf"), &toolchain)? {
        Checked::Same => {
            println!("the prebuilt eBPF object is what the sources make, bit for bit");
            Ok(None)
        }
        Checked::Drifted(why) => {
            bail!("the prebuilt eBPF object is not what the sources make: {why}; run `cargo xtask ebpf`")
        }
        Checked::OtherToolchain { object, why } => {
            println!("the eBPF object was rebuilt and is tested in place of the prebuilt one: {why}");
            Ok(Some(object))
        }
    }
}

/// Copies the files that Git knows to `target/rebuilt`, with another eBPF object.
fn copy_with(root: &Path, object: &Path) -> Result<PathBuf> {
    let copy = root.join("target/rebuilt");
    let files = output(command("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]))?;
    for file in files.lines().filter(|file| root.join(file).is_file()) {
        let to = copy.join(file);
        let folder = to.parent().context("a file of the checkout has no folder")?;
        fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
        fs::copy(root.join(file), &to).with_context(|| format!("failed to copy {file}"))?;
    }
    fs::copy(object, copy.join("collector-ebpf/prebuilt/spantap.bpf.o"))?;
    Ok(copy)
}

/// The names of the test binaries in `folder`, without the house rules, which have a step of their own.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("failed to read {}", folder.display()))? {
        let path = entry?.path();
        let is_target = path.join("main.rs").is_file() || path.extension().is_some_and(|e| e == "rs");
        let name = path.file_stem().and_then(|name| name.to_str());
        if let Some(name) = name.filter(|name| is_target && *name != "tidy") {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The kernel's own type information.
const BTF: &str = "/sys/kernel/btf/vmlinux";
