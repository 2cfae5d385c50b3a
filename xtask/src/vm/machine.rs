//! One run of a guest: QEMU, and the file server that shows it this machine's files.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use std::{fmt, process};

use anyhow::{Context, Result, bail};

use super::image::{Image, QEMU, libraries};
use super::{cache, guest};
use crate::command::command;

/// What is to run, and where.
pub(crate) struct Boot<'a> {
    /// The kernel.
    pub(crate) image: &'a Image,
    /// Memory of the guest, in MiB.
    pub(crate) memory_mib: u32,
    /// Processors of the guest.
    pub(crate) cpus: u32,
    /// When to give up.
    pub(crate) timeout: Duration,
    /// Kernel modules that are loaded before.
    pub(crate) modules: &'a [String],
    /// The command: the program and its arguments.
    pub(crate) command: &'a [OsString],
    /// The file for its output; `None` shows it.
    pub(crate) output: Option<&'a Path>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The command ended with this status.
    Status(i32),
    /// The command was not through when the time was over.
    TimedOut,
    /// The guest ended before the command did.
    Died,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "the guest's command ended with status {status}"),
            Self::TimedOut => f.write_str("the guest's command took too long and was ended"),
            Self::Died => f.write_str("the guest ended before its command did"),
        }
    }
}

/// Boots a guest, runs the command and waits for its end.
///
/// # Errors
/// If the guest cannot be started. How its command ended is no error.
pub(crate) fn boot(boot: &Boot<'_>) -> Result<Ended> {
    let folder = RunFolder::make()?;
    let mut archive = fs::read(&boot.image.start)?;
    archive.extend(guest::job(boot.image, boot.modules, boot.command));
    let start = folder.0.join("start.cpio");
    fs::write(&start, archive)?;
    let socket = folder.0.join("files.sock");
    let _files = Running(serve_files(boot.image, &socket, &folder.0.join("files.log"))?);
    wait_for(&socket, &folder.0.join("files.log"))?;
    let (console, status) = (folder.0.join("console"), folder.0.join("status"));
    let mut qemu = qemu(boot, &socket, &start, &console, &status);
    if let Some(file) = boot.output {
        let file = File::create(file).with_context(|| format!("failed to make {}", file.display()))?;
        qemu.stderr(file.try_clone()?).stdout(file);
    }
    let mut qemu = Running(qemu.stdin(Stdio::null()).spawn().context("failed to start QEMU")?);
    let deadline = Instant::now() + boot.timeout;
    loop {
        let ended = qemu.0.try_wait()?.is_some();
        // Written last, as a line: whatever the guest does then is of no interest.
        let said = fs::read_to_string(&status).unwrap_or_default();
        if let Some(status) = said.strip_suffix('\n') {
            return Ok(Ended::Status(status.trim().parse().context("the guest's status is no number")?));
        }
        if ended {
            println!("the guest's last words:\n{}", last_lines(&console)?);
            return Ok(Ended::Died);
        }
        if Instant::now() >= deadline {
            return Ok(Ended::TimedOut);
        }
        thread::sleep(POLL);
    }
}

fn last_lines(console: &Path) -> Result<String> {
    const LINES: usize = 40;
    let said = String::from_utf8_lossy(&fs::read(console)?).into_owned();
    let lines: Vec<&str> = said.lines().collect();
    Ok(lines[lines.len().saturating_sub(LINES)..].join("\n"))
}

/// This machine's files, which the guest mounts read-only.
fn serve_files(image: &Image, socket: &Path, log: &Path) -> Result<Child> {
    let mut server = bound(&image.tools, &image.tools.join("virtiofsd"));
    server.arg(format!("--socket-path={}", socket.display()));
    server.args(["-o", "source=/", "-o", "cache=always", "-o", "sandbox=chroot", "-o", "log_level=err"]);
    let log = File::create(log)?;
    server.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    server.spawn().context("failed to start virtiofsd")
}

fn wait_for(socket: &Path, log: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !socket.exists() {
        if Instant::now() >= deadline {
            bail!("virtiofsd does not serve: {}", fs::read_to_string(log)?.trim());
        }
        thread::sleep(POLL);
    }
    Ok(())
}

fn qemu(boot: &Boot<'_>, socket: &Path, start: &Path, console: &Path, status: &Path) -> Command {
    let tools = &boot.image.tools;
    let mut qemu = bound(tools, &tools.join(QEMU));
    for folder in ["usr/share/qemu", "usr/share/seabios"] {
        qemu.arg("-L").arg(tools.join(folder));
    }
    qemu.args(["-M", "pc", "-cpu", "max", "-vga", "none", "-display", "none", "-no-reboot"]);
    qemu.args(["-nodefaults", "-no-user-config"]);
    // Emulated even where KVM seems to be there: in a machine that is virtual itself it may hang.
    qemu.args(["-accel", "tcg,thread=multi", "-smp", &boot.cpus.to_string()]);
    let memory = format!("{}M", boot.memory_mib);
    // The file server reads and writes the guest's memory.
    qemu.args(["-m", &memory, "-numa", "node,memdev=memory"]);
    qemu.args(["-object", &format!("memory-backend-memfd,id=memory,size={memory},share=on")]);
    qemu.args(["-chardev", &format!("socket,id=files,path={}", socket.display())]);
    qemu.args(["-device", &format!("vhost-user-fs-pci,chardev=files,tag={}", guest::SHARE)]);
    qemu.args(["-serial", &format!("file:{}", console.display()), "-serial", "stdio"]);
    qemu.args(["-serial", &format!("file:{}", status.display())]);
    qemu.arg("-kernel").arg(&boot.image.vmlinux).arg("-initrd").arg(start);
    qemu.args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on"]);
    qemu
}

/// A command that ends with us, and finds the libraries that came with it.
fn bound(tools: &Path, program: &Path) -> Command {
    let mut bound = command("setpriv");
    bound.args(["--pdeathsig", "KILL", "--"]).arg(program).env("LD_LIBRARY_PATH", libraries(tools));
    bound
}

/// A process that is ended when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder for one run, removed when it is over.
struct RunFolder(PathBuf);

impl RunFolder {
    fn make() -> Result<Self> {
        // Several guests may run at a time, started by one process.
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = cache()?.join(format!("run-{}-{n}", process::id()));
        fs::create_dir(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// How often it is looked whether something has happened.
const POLL: Duration = Duration::from_millis(20);
