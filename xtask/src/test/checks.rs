//! The steps that need nothing but Cargo.

use anyhow::Result;

use crate::command::{cargo, output, run};
use crate::step::Outcome;

pub(super) fn fmt() -> Result<Outcome> {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    // Not in the workspace: another target, another toolchain. Its formatting is ours.
    run(cargo().args(["fmt", "--manifest-path", "collector-ebpf/Cargo.toml", "--check"]))?;
    Ok(Outcome::Passed)
}

pub(super) fn clippy() -> Result<Outcome> {
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-Dwarnings"]))?;
    Ok(Outcome::Passed)
}

pub(super) fn unit() -> Result<Outcome> {
    run(cargo().args(["test", "--workspace", "--exclude", "spantap-tests", "--locked"]))?;
    Ok(Outcome::Passed)
}

pub(super) fn tidy() -> Result<Outcome> {
    run(cargo().args(["test", "--package", "spantap-tests", "--test", "tidy", "--locked"]))?;
    Ok(Outcome::Passed)
}

pub(super) fn docs() -> Result<Outcome> {
    run(cargo().args(["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-Dwarnings"))?;
    Ok(Outcome::Passed)
}

pub(super) fn deny() -> Result<Outcome> {
    if let Some(reason) = no_cargo_deny() {
        return Ok(Outcome::Skipped(reason));
    }
    for manifest in ["Cargo.toml", "collector-ebpf/Cargo.toml"] {
        let mut deny = cargo();
        deny.args(["deny", "--config", "deny.toml", "--manifest-path", manifest]);
        run(deny.args(["check", "bans", "licenses", "sources"]))?;
    }
    Ok(Outcome::Passed)
}

pub(super) fn advisories() -> Result<Outcome> {
    if let Some(reason) = no_cargo_deny() {
        return Ok(Outcome::Skipped(reason));
    }
    // They come over the network: that they cannot be fetched says nothing about us.
    if let Err(error) = output(cargo().args(["deny", "fetch", "db"])) {
        println!("{error:#}");
        return Ok(Outcome::Skipped("the database of advisories cannot be fetched".to_owned()));
    }
    run(cargo().args(["deny", "check", "--disable-fetch", "advisories"]))?;
    Ok(Outcome::Passed)
}

fn no_cargo_deny() -> Option<String> {
    let missing = output(cargo().args(["deny", "--version"])).is_err();
    missing.then(|| "cargo-deny is not installed: cargo install --locked cargo-deny".to_owned())
}
