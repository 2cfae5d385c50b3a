//! Why the kernel side could not be started, in full: the evidence is kept, and each message says what to do.

use aya::programs::ProgramError;

use super::features;

/// Why the kernel side could not be started.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Something that can be known without trying.
    #[error("{0}")]
    Missing(features::Missing),
    /// BTF is there but cannot be used.
    #[error("failed to read the kernel's types: {detail}\nspantap needs BTF (CONFIG_DEBUG_INFO_BTF)")]
    NoBtf {
        /// What was wrong.
        detail: String,
    },
    /// The kernel's structs are not as expected.
    #[error("this kernel has no {path}\nplease report it with the output of `uname -r`")]
    Member {
        /// The member path.
        path: &'static str,
    },
    /// The object's maps could not be made.
    #[error(
        "failed to create the eBPF maps: {detail}\nis memory limited (ulimit -l, cgroup), or eBPF forbidden in this container?"
    )]
    Maps {
        /// The system call and its error.
        detail: String,
    },
    /// A program without which nothing is seen was refused.
    #[error("the kernel refused the program {program}: {detail}")]
    Program {
        /// Its name.
        program: &'static str,
        /// The error, with the last lines of the verifier's log.
        detail: String,
    },
}

/// A program's error, with the end of the verifier's log: that is where it says why.
pub(super) fn refusal(error: &ProgramError) -> String {
    const LINES: usize = 12;
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        let log = verifier_log.to_string();
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        let tail = &lines[lines.len().saturating_sub(LINES)..];
        return if tail.is_empty() {
            io_error.to_string()
        } else {
            format!("{io_error}\n{}", tail.join("\n"))
        };
    }
    chain(error)
}

/// An error with its causes on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
