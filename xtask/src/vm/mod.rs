//! `cargo xtask vm`: other kernels, in virtual machines that show this machine's files.
//!
//! A guest boots a kernel of Debian's under QEMU, with this machine's root folder below it, read-only: every program
//! and library that is installed here runs there as it is. What the guest writes is in its memory, and goes with it.

mod archive;
mod cpio;
mod guest;
mod image;
mod machine;

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

pub(crate) use image::{Image, prepare};
pub(crate) use machine::{Boot, Ended, boot};

/// A row of Debian kernels of which the newest is taken.
pub(crate) struct Series {
    /// What it is called on the command line and in reports.
    pub(crate) name: &'static str,
    /// The Debian suite that has it.
    suite: &'static str,
    /// How the version begins; empty takes the newest of all.
    version: &'static str,
}

/// The kernels that the agent must work on, the oldest first: long-term ones, and the newest that is packaged.
pub(crate) const KERNELS: &[Series] = &[
    Series { name: "5.10", suite: "bullseye", version: "5.10." },
    Series { name: "6.1", suite: "bookworm", version: "6.1." },
    Series { name: "6.12", suite: "bookworm-backports", version: "6.12." },
    Series { name: "newest", suite: "trixie-backports", version: "" },
];

/// Options of `cargo xtask vm`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Download the kernels and QEMU, 1 GB below the user's cache folder, as far as they are not there yet.
    Fetch,
    /// Run a command as root in a guest; its exit status is ours.
    Run(RunOptions),
}

#[derive(Args)]
struct RunOptions {
    /// Which kernel: `5.10`, `6.1`, `6.12` or `newest`.
    kernel: String,
    /// Memory of the guest, in MiB.
    #[arg(long, default_value_t = 2048)]
    memory: u32,
    /// Processors of the guest.
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// Give up after so many seconds.
    #[arg(long, default_value_t = 600)]
    timeout: u64,
    /// Load this kernel module first; may be given several times.
    #[arg(long, value_name = "NAME")]
    module: Vec<String>,
    /// The command.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Runs the subcommand. False if the guest's command has failed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    match &options.task {
        Task::Fetch => {
            for image in prepare()? {
                println!("{:6}  Linux {}", image.series, image.release);
            }
            Ok(true)
        }
        Task::Run(options) => {
            let images = prepare()?;
            let Some(image) = images.iter().find(|image| image.series == options.kernel) else {
                let names: Vec<&str> = KERNELS.iter().map(|series| series.name).collect();
                bail!("there is no kernel `{}`; there are {}", options.kernel, names.join(", "));
            };
            let ended = boot(&Boot {
                image,
                memory_mib: options.memory,
                cpus: options.cpus,
                timeout: Duration::from_secs(options.timeout),
                modules: &options.module,
                command: &options.command,
                output: None,
            })?;
            println!("{ended}");
            Ok(ended == Ended::Status(0))
        }
    }
}

/// Where kernels and QEMU are kept, for all checkouts of this user: `spantap/vm` below `$XDG_CACHE_HOME`, or below
/// `~/.cache`.
fn cache() -> Result<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let folder = base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("spantap/vm");
    fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    Ok(folder)
}

/// Makes a folder as a whole: what `fill` leaves behind when it fails is not taken for it the next time.
fn made_once(folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if folder.exists() {
        return Ok(());
    }
    let part = folder.with_extension("part");
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    fs::create_dir_all(&part).with_context(|| format!("failed to make {}", part.display()))?;
    fill(&part)?;
    fs::rename(&part, folder).with_context(|| format!("failed to make {}", folder.display()))
}

/// Keeps other checkouts from filling the cache at the same time, while it lives.
fn locked(cache: &Path) -> Result<File> {
    let file = File::create(cache.join("lock"))?;
    file.lock().context("failed to lock the cache")?;
    Ok(file)
}
