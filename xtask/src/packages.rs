//! Debian packages: what the tests need, what is missing, and installing it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::command::{command, output, run};
use crate::step::Outcome;

/// What the end-to-end tests run: programs that nobody here wrote, with what they need.
pub(crate) const FOR_TESTS: &[&str] = &[
    "nginx-light",
    "wrk",
    "curl",
    "openssl",
    "python3",
    "python3-venv",
    "redis-server",
    "postgresql-15",
    "wget",
    "gnutls-bin",
    "nodejs",
    "nghttp2-client",
    "nghttp2-server",
    "apache2-utils",
    "haproxy",
    "git",
    "memcached",
    "mariadb-server",
    "mosquitto",
    "mosquitto-clients",
    "caddy",
    "prometheus",
    "gcc",
    "libc6-dev",
    "libssl-dev",
    "pkg-config",
];

/// What makes the virtual machines: busybox and kmod for a guest's first steps, packers for kernels and modules. QEMU
/// and the kernels themselves are unpacked into a cache, not installed.
pub(crate) const FOR_GUESTS: &[&str] = &["busybox-static", "kmod", "xz-utils", "zstd", "lz4"];

/// Installs what is missing of `packages`, or says why not.
pub(crate) fn install(packages: &[&str]) -> Result<Outcome> {
    println!("the tests use these Debian packages: {}", packages.join(" "));
    if !Path::new("/usr/bin/apt-get").exists() || !Path::new("/usr/bin/dpkg-query").exists() {
        return Ok(Outcome::Skipped("no apt-get here: tests skip what they do not find".to_owned()));
    }
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        println!("all of them are installed");
        return Ok(Outcome::Passed);
    }
    if !is_root() {
        let hint = format!("not root; install them with: apt-get install {}", missing.join(" "));
        return Ok(Outcome::Skipped(hint));
    }
    println!("installing: {} (none of their services is started)", missing.join(" "));
    let _guard = NoServices::new()?;
    let install = || {
        let mut apt = command("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt.args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(&missing);
        run(&mut apt)
    };
    if install().is_err() {
        // The lists of a fresh or old machine do not fit the archive.
        run(command("apt-get").args(["update", "--quiet"]))?;
        install()?;
    }
    Ok(Outcome::Passed)
}

/// Whether we may install, attach and listen everywhere.
pub(crate) fn is_root() -> bool {
    output(command("id").arg("-u")).is_ok_and(|id| id == "0")
}

fn is_installed(package: &str) -> bool {
    let status = output(command("dpkg-query").args(["--show", "--showformat=${Status}", package]));
    status.is_ok_and(|status| status.ends_with(" installed"))
}

/// While it lives, installing a package starts no service: a test's nginx is not one on port 80.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn new() -> Result<Self> {
        let ours = !Path::new(POLICY).exists();
        if ours {
            fs::write(POLICY, "#!/bin/sh\nexit 101\n")
                .with_context(|| format!("failed to write {POLICY}"))?;
            fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self { ours })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("warning: failed to remove {POLICY}: {error}");
        }
    }
}

/// Asked by package scripts before they start a service; 101 means no.
const POLICY: &str = "/usr/sbin/policy-rc.d";
