//! From packages to what QEMU boots: QEMU itself, kernels as plain ELF files, their modules, and the programs and
//! modules of the first steps.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, anyhow, bail};

use super::archive::Archive;
use super::cpio::{Cpio, Entry};
use super::{KERNELS, Series, cache, guest, locked, made_once};
use crate::command::{command, output};

/// A kernel that can be booted.
pub(crate) struct Image {
    /// The name of its series.
    pub(crate) series: &'static str,
    /// What `uname -r` says there.
    pub(crate) release: String,
    /// The kernel itself, not compressed: QEMU starts it without decompressing it slowly.
    pub(super) vmlinux: PathBuf,
    /// `lib/modules/RELEASE`.
    pub(super) modules: PathBuf,
    /// The first archive of the guest's start; a second one brings the job.
    pub(super) start: PathBuf,
    /// Where QEMU and virtiofsd are.
    pub(super) tools: PathBuf,
}

/// Gets everything that is not there yet: 1 GB and a minute at the first time, nothing and a moment later.
///
/// # Errors
/// What is missing on this machine, or why something cannot be downloaded.
pub(crate) fn prepare() -> Result<Vec<Image>> {
    let cache = cache()?;
    let _lock = locked(&cache)?;
    let tools = cache.join("qemu");
    let folders: Vec<PathBuf> =
        KERNELS.iter().map(|series| cache.join(series.name.replace('.', "_"))).collect();
    if !tools.exists() || folders.iter().any(|folder| !folder.exists()) {
        can_fetch()?;
        let mut suites: Vec<&str> = KERNELS.iter().map(|series| series.suite).collect();
        suites.extend([QEMU_SUITE, VIRTIOFSD_SUITE]);
        suites.sort_unstable();
        suites.dedup();
        println!("fetching kernels and QEMU into {}", cache.display());
        let archive = Archive::open(&cache, &suites)?;
        made_once(&tools, |part| fetch_tools(&archive, part))?;
        for (series, folder) in KERNELS.iter().zip(&folders) {
            made_once(folder, |part| fetch_kernel(&archive, series, part))
                .with_context(|| format!("kernel {}", series.name))?;
        }
    }
    KERNELS.iter().zip(&folders).map(|(series, folder)| Image::open(series, folder, &tools)).collect()
}

fn can_fetch() -> Result<()> {
    if !cfg!(target_arch = "x86_64") {
        bail!("guests are x86-64 machines, like the programs that they run: this is none");
    }
    for program in ["apt-get", "dpkg-deb", "depmod", "xz", "zstd", "lz4", "busybox"] {
        if output(command("sh").args(["-c", &format!("PATH=$PATH:/usr/sbin:/sbin command -v {program}")]))
            .is_err()
        {
            bail!("{program} is not installed; `cargo xtask test --only packages` installs it on Debian");
        }
    }
    Ok(())
}

/// QEMU 10: the 7.2 of Debian 12 corrupts the flags register in its emulation, which crashes guests now and then. Its
/// file server on the other hand is the last one that comes with QEMU.
fn fetch_tools(archive: &Archive, to: &Path) -> Result<()> {
    archive.unpack_with_dependencies("qemu-system-x86", QEMU_SUITE, to)?;
    let older = to.join("virtiofsd.part");
    fs::create_dir(&older)?;
    archive.unpack(&[format!("qemu-system-common/{VIRTIOFSD_SUITE}")], &older)?;
    fs::rename(older.join("usr/lib/qemu/virtiofsd"), to.join("virtiofsd"))
        .context("qemu-system-common has no virtiofsd")?;
    fs::remove_dir_all(&older)?;
    for program in [to.join(QEMU), to.join("virtiofsd")] {
        let linked = output(command("ldd").arg(&program).env("LD_LIBRARY_PATH", libraries(to)))?;
        if let Some(missing) = linked.lines().find(|line| line.contains("not found")) {
            bail!("{} cannot run here: {}; this works on Debian 12", program.display(), missing.trim());
        }
    }
    Ok(())
}

fn fetch_kernel(archive: &Archive, series: &Series, to: &Path) -> Result<()> {
    let package = archive.newest_kernel(series)?;
    println!("{}: {package}", series.name);
    let of_suite = |package: &str| format!("{package}/{}", series.suite);
    // From 7 on the image is an empty package that depends on its parts.
    let mut packages = vec![of_suite(&package)];
    if archive.depends(&package)?.contains("linux-binary-") {
        packages = ["linux-base-", "linux-binary-", "linux-modules-"]
            .map(|part| of_suite(&package.replace("linux-image-", part)))
            .to_vec();
    }
    let unpacked = to.join("unpacked");
    fs::create_dir(&unpacked)?;
    archive.unpack(&packages, &unpacked)?;
    let modules = [unpacked.join("lib/modules"), unpacked.join("usr/lib/modules")]
        .into_iter()
        .find(|folder| folder.exists())
        .context("the package has no modules")?;
    let release = only_entry(&modules)?;
    let boot =
        [unpacked.join("boot").join(format!("vmlinuz-{release}")), modules.join(&release).join("vmlinuz")];
    let vmlinuz = boot.iter().find(|file| file.exists()).context("the package has no kernel")?;
    fs::write(to.join("vmlinux"), decompressed(&fs::read(vmlinuz)?)?)?;
    fs::create_dir_all(to.join("lib/modules"))?;
    fs::rename(modules.join(&release), to.join("lib/modules").join(&release))?;
    fs::remove_dir_all(&unpacked)?;
    // busybox, which loads the first ones, reads them uncompressed only.
    let script = "find \"$0\" -name '*.ko.xz' -exec xz --decompress --quiet {} +";
    output(command("sh").args(["-c", script]).arg(to.join("lib/modules")))?;
    output(command("sh").args(["-c", "PATH=$PATH:/sbin depmod -b \"$0\" \"$1\""]).arg(to).arg(&release))?;
    fs::write(to.join("start.cpio"), start(&to.join("lib/modules").join(&release))?)?;
    Ok(())
}

/// The archive that gets this machine's files into the guest: busybox, and the modules for that.
fn start(modules: &Path) -> Result<Vec<u8>> {
    let mut archive = Cpio::new();
    for folder in ["bin", "modules", "proc", "sys", "dev", "host", "memory", "new"] {
        archive.add(folder, Entry::Folder);
    }
    archive
        .add("bin/busybox", Entry::Program(&fs::read("/bin/busybox").context("busybox-static is needed")?));
    archive.add("init", Entry::Program(guest::INIT.as_bytes()));
    let dependencies = fs::read_to_string(modules.join("modules.dep"))?;
    let mut order: Vec<&str> = Vec::new();
    for name in guest::FIRST_MODULES {
        let line = dependencies.lines().find(|line| {
            let file = line.split(':').next().unwrap_or_default();
            file.rsplit('/').next().is_some_and(|file| file.replace('-', "_") == format!("{name}.ko"))
        });
        // What is not listed is built in.
        let Some((file, needs)) = line.and_then(|line| line.split_once(':')) else { continue };
        // depmod lists what must come first last.
        for file in needs.split_whitespace().rev().chain([file]) {
            if !order.contains(&file) {
                order.push(file);
            }
        }
    }
    for (n, file) in order.iter().enumerate() {
        archive.add(&format!("modules/{n:02}.ko"), Entry::File(&fs::read(modules.join(file))?));
    }
    Ok(archive.finish())
}

/// The ELF file inside a compressed kernel image.
fn decompressed(image: &[u8]) -> Result<Vec<u8>> {
    const PACKERS: &[(&[u8], &str)] = &[
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\x02\x21\x4c\x18", "lz4"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x1f\x8b\x08", "gzip"),
    ];
    const SMALLEST: usize = 10 << 20;
    for &(magic, program) in PACKERS {
        let starts = image.windows(magic.len()).enumerate().filter(|(_, window)| *window == magic);
        for (at, _) in starts {
            let mut packer = command(program);
            packer.arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut child = packer.spawn().with_context(|| format!("failed to start {program}"))?;
            let mut input = child.stdin.take().ok_or_else(|| anyhow!("no pipe to {program}"))?;
            let bytes = image[at..].to_vec();
            // What follows the packed kernel ends the packer with an error: only what came out before it counts.
            let writer = std::thread::spawn(move || drop(input.write_all(&bytes)));
            let unpacked = child.wait_with_output()?.stdout;
            let _ = writer.join();
            if unpacked.starts_with(b"\x7fELF") && unpacked.len() > SMALLEST {
                return Ok(unpacked);
            }
        }
    }
    bail!("no kernel is in the image that zstd, lz4, xz or gzip could unpack")
}

impl Image {
    fn open(series: &Series, folder: &Path, tools: &Path) -> Result<Self> {
        let modules = folder.join("lib/modules");
        let release = only_entry(&modules)?;
        Ok(Self {
            series: series.name,
            modules: modules.join(&release),
            release,
            vmlinux: folder.join("vmlinux"),
            start: folder.join("start.cpio"),
            tools: tools.to_path_buf(),
        })
    }
}

/// Where the libraries of QEMU are that this machine lacks, as `LD_LIBRARY_PATH`.
pub(super) fn libraries(tools: &Path) -> OsString {
    let mut list = tools.join("usr/lib/x86_64-linux-gnu").into_os_string();
    list.push(":");
    list.push(tools.join("lib/x86_64-linux-gnu"));
    list
}

/// The name of the one thing in a folder.
fn only_entry(folder: &Path) -> Result<String> {
    let entry = fs::read_dir(folder).with_context(|| format!("failed to read {}", folder.display()))?.next();
    let entry = entry.with_context(|| format!("{} is empty", folder.display()))??;
    Ok(entry.file_name().to_string_lossy().into_owned())
}

/// QEMU below the folder of the tools.
pub(super) const QEMU: &str = "usr/bin/qemu-system-x86_64";
const QEMU_SUITE: &str = "bookworm-backports";
const VIRTIOFSD_SUITE: &str = "bookworm";
