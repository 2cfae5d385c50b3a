//! Debian's archive, read by an apt of its own: sources, lists and downloads lie in the cache, and the machine's own
//! apt is left as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Series;
use crate::command::{command, output};

/// An apt with sources of its own.
pub(super) struct Archive {
    folder: PathBuf,
    configuration: PathBuf,
}

/// What signs Debian's lists; every Debian has it.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

impl Archive {
    /// Reads the lists of these suites, from the mirror that the machine itself uses.
    ///
    /// # Errors
    /// Without a network or a Debian mirror.
    pub(super) fn open(cache: &Path, suites: &[&str]) -> Result<Self> {
        let folder = cache.join("apt");
        for name in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(name))?;
        }
        let mirror = mirror()?;
        let source = |suite: &&str| format!("deb [arch=amd64 signed-by={KEYS}] {mirror} {suite} main\n");
        fs::write(folder.join("sources.list"), suites.iter().map(source).collect::<String>())?;
        let configuration = folder.join("apt.conf");
        let base = folder.display();
        fs::write(
            &configuration,
            format!(
                "Dir::State \"{base}/state\";\nDir::State::status \"/var/lib/dpkg/status\";\n\
                 Dir::Cache \"{base}/cache\";\nDir::Etc::sourcelist \"{base}/sources.list\";\n\
                 Dir::Etc::sourceparts \"/nonexistent\";\nAPT::Sandbox::User \"root\";\n\
                 Acquire::Languages \"none\";\nAcquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n"
            ),
        )?;
        let archive = Self { folder, configuration };
        output(archive.apt("apt-get").args(["update", "--quiet", "--error-on=any"]))?;
        Ok(archive)
    }

    /// The newest cloud kernel of a series, as the name of its package.
    pub(super) fn newest_kernel(&self, series: &Series) -> Result<String> {
        let names = output(self.apt("apt-cache").args(["pkgnames", "linux-image-"]))?;
        let mut found: Vec<&str> = Vec::new();
        for name in names.lines().filter(|name| is_kernel(name, series.version)) {
            // All suites are in one list; a name says its version, and in which suite that is.
            if output(self.apt("apt-cache").args(["madison", name]))?
                .contains(&format!(" {}/main ", series.suite))
            {
                found.push(name);
            }
        }
        let newest = found.into_iter().max_by_key(|name| numbers(name));
        newest.map(str::to_owned).with_context(|| format!("{} has no kernel {}", series.suite, series.name))
    }

    /// What a package depends on, as its control file says it.
    pub(super) fn depends(&self, package: &str) -> Result<String> {
        output(self.apt("apt-cache").args(["show", "--no-all-versions", package]))
    }

    /// Downloads packages (`name`, `name=version` or `name/suite`) and unpacks them into `to`.
    pub(super) fn unpack(&self, packages: &[String], to: &Path) -> Result<()> {
        let debs = self.fresh_folder()?;
        output(self.apt("apt-get").current_dir(&debs).args(["download", "--quiet"]).args(packages))?;
        unpack_all(&debs, to)
    }

    /// Downloads a package of `suite` with everything that it depends on and that is not installed here, and unpacks
    /// all of it into `to`.
    pub(super) fn unpack_with_dependencies(&self, package: &str, suite: &str, to: &Path) -> Result<()> {
        let debs = self.fresh_folder()?;
        fs::create_dir(debs.join("partial"))?;
        let mut apt = self.apt("apt-get");
        apt.args([
            "install",
            "--yes",
            "--quiet",
            "--download-only",
            "--no-install-recommends",
            "--reinstall",
        ]);
        apt.arg("-o").arg(format!("Dir::Cache::archives={}", debs.display()));
        apt.args(["--target-release", suite, package]);
        output(&mut apt)?;
        unpack_all(&debs, to)
    }

    fn fresh_folder(&self) -> Result<PathBuf> {
        let debs = self.folder.join("debs");
        if debs.exists() {
            fs::remove_dir_all(&debs)?;
        }
        fs::create_dir_all(&debs)?;
        Ok(debs)
    }

    fn apt(&self, program: &str) -> Command {
        let mut apt = command(program);
        apt.env("APT_CONFIG", &self.configuration).env("DEBIAN_FRONTEND", "noninteractive");
        apt
    }
}

/// The Debian mirror that this machine's apt uses.
fn mirror() -> Result<String> {
    let targets = ["indextargets", "--format", "$(ORIGIN) $(CODENAME) $(REPO_URI)", "Identifier: Packages"];
    let list = output(command("apt-get").args(targets))?;
    let words = list.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mut mirrors = words.filter_map(|words| match words[..] {
        ["Debian", codename, uri] if !codename.contains('-') => Some(uri.to_owned()),
        _ => None,
    });
    mirrors.next_back().context("apt knows no Debian mirror; run `apt-get update`, then try again")
}

/// `linux-image-6.12.95+deb12-cloud-amd64` or `linux-image-5.10.0-32-cloud-amd64`, with a version that begins so.
fn is_kernel(package: &str, version: &str) -> bool {
    let Some(rest) = package.strip_prefix("linux-image-") else { return false };
    let Some(found) = rest.strip_suffix("-cloud-amd64") else { return false };
    // A release candidate is no kernel that people run.
    found.starts_with(version) && found.starts_with(|c: char| c.is_ascii_digit()) && !found.contains("rc")
}

/// The numbers of a name, by which versions are ordered.
fn numbers(name: &str) -> Vec<u32> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

fn unpack_all(debs: &Path, to: &Path) -> Result<()> {
    let mut count = 0;
    for entry in fs::read_dir(debs)? {
        let deb = entry?.path();
        if deb.extension().is_some_and(|extension| extension == "deb") {
            output(command("dpkg-deb").arg("--extract").arg(&deb).arg(to))?;
            count += 1;
        }
    }
    fs::remove_dir_all(debs)?;
    if count == 0 {
        bail!("apt-get has downloaded nothing");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_from_other_packages() {
        assert!(is_kernel("linux-image-5.10.0-32-cloud-amd64", "5.10."));
        assert!(is_kernel("linux-image-6.12.95+deb12-cloud-amd64", ""));
        assert!(!is_kernel("linux-image-6.12.95+deb12-cloud-amd64", "6.1."));
        assert!(!is_kernel("linux-image-cloud-amd64", ""));
        assert!(!is_kernel("linux-image-6.12.95+deb12-amd64", ""));
        assert!(!is_kernel("linux-image-7.4~rc2-cloud-amd64", ""));
    }

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        assert!(numbers("linux-image-7.10.2+deb13") > numbers("linux-image-7.9.14+deb13"));
        assert!(numbers("linux-image-5.10.0-32") > numbers("linux-image-5.10.0-9"));
    }
}
