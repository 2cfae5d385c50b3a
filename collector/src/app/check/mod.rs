//! `spantap check`: what works on this machine, what does not, and what to do about it.
//!
//! Backends and probes are not guessed at from versions and settings: each is started as the agent would, and stopped.

mod machine;
mod show;

use spantap_config::{Backend as Wanted, Capture};

use super::wiring;
use crate::kernel::{self, Backend, Kernel, KernelError, Report, Way};

/// How it stands with one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// As it should be.
    Works,
    /// Not as it could be, but nothing is lost.
    Note,
    /// Something will not be seen.
    Part,
    /// Nothing will be seen.
    Nothing,
}

/// One line of the check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The part of the screen.
    pub section: Section,
    /// What was looked at.
    pub name: String,
    /// How it stands.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What to do, where something is to be done.
    pub advice: Option<String>,
}

/// Parts of the screen, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// The kernel and how it is set up.
    Machine,
    /// What this process may do.
    Capabilities,
    /// Ways to see sockets.
    Backends,
    /// Programs that were loaded and attached.
    Programs,
    /// Probes in TLS libraries.
    Tls,
    /// What the kernel side takes.
    Memory,
}

impl Finding {
    fn new(section: Section, name: &str, status: Status, found: impl Into<String>) -> Self {
        Self { section, name: name.to_owned(), status, found: found.into(), advice: None }
    }

    fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Check {
    /// In the order of the screen.
    pub findings: Vec<Finding>,
    /// The backend that the agent would use here; `None` if it would not start.
    pub backend: Option<Backend>,
}

impl Check {
    /// Looks at everything. What is attached for it is detached when this returns.
    #[must_use]
    pub fn run(capture: &Capture) -> Self {
        let mut trials = Trials::run(capture);
        let mut findings = machine::look();
        findings.extend(capabilities(trials.tls.as_ref()));
        findings.append(&mut trials.findings);
        Self { findings, backend: trials.backend }
    }

    /// Whether everything that spantap can see would be seen here.
    #[must_use]
    pub fn is_full_capture(&self) -> bool {
        self.findings.iter().all(|finding| matches!(finding.status, Status::Works | Status::Note))
    }
}

fn capabilities(tls: Option<&Result<Way, String>>) -> Vec<Finding> {
    let held = kernel::Held::own();
    if held.in_user_namespace {
        let found = "this is a user namespace of its own, whose capabilities are worth nothing to eBPF";
        let finding = Finding::new(Section::Capabilities, "user namespace", Status::Nothing, found);
        return vec![finding.advise("run outside of it; in a container, without a mapping of users")];
    }
    let finding = |capability: &kernel::Capability| {
        let (status, found) = if held.has(capability) {
            (Status::Works, capability.purpose.to_owned())
        } else {
            let status = match capability.weight {
                kernel::Weight::All => Status::Nothing,
                // Whether the kernel wants it was tried.
                kernel::Weight::Part if capability.is_for_probes() && matches!(tls, Some(Ok(_))) => {
                    Status::Note
                }
                kernel::Weight::Part => Status::Part,
                kernel::Weight::Cost => Status::Note,
            };
            let without = if status == Status::Note && capability.is_for_probes() {
                "this kernel does without"
            } else {
                capability.without
            };
            (status, format!("missing; wanted {}: {without}", capability.purpose))
        };
        let finding = Finding::new(Section::Capabilities, capability.name, status, found);
        match status {
            Status::Part | Status::Nothing => {
                finding.advise("run as root, or with this capability: docs/privileges.md")
            }
            _ => finding,
        }
    };
    kernel::CAPABILITIES.iter().map(finding).collect()
}

/// What came of starting the kernel side in every way.
struct Trials {
    findings: Vec<Finding>,
    backend: Option<Backend>,
    /// Whether files can be probed; `None` if that could not be tried.
    tls: Option<Result<Way, String>>,
}

impl Trials {
    fn run(capture: &Capture) -> Self {
        let settings = wiring::kernel_settings(capture);
        let mut trials = Self { findings: Vec::new(), backend: None, tls: None };
        let mut programs = Vec::new();
        let mut memory = None;
        // As the agent would start, for its choice; then what it did not choose, for the record.
        let started = Trial::start(&settings, &mut trials.tls, &mut memory);
        trials.backend = started.outcome.as_ref().ok().copied();
        match &started.outcome {
            Ok(backend) => {
                trials.findings.push(chosen(*backend, capture.backend));
                trials.findings.push(unix_sockets(started.without_unix, capture));
            }
            Err(error) if settings.backend != Backend::Auto => {
                trials.findings.push(refused(settings.backend, error, Status::Nothing));
            }
            Err(_) => {}
        }
        add_programs(&mut programs, started);
        for &backend in Backend::ALL {
            if [trials.backend, Some(settings.backend)].contains(&Some(backend)) {
                continue;
            }
            let settings = kernel::Settings { backend, ..settings.clone() };
            let trial = Trial::start(&settings, &mut trials.tls, &mut memory);
            let finding = match &trial.outcome {
                Ok(_) => Finding::new(Section::Backends, backend.name(), Status::Works, "works, not chosen"),
                Err(error) if trials.backend.is_some() => refused(backend, error, Status::Note),
                Err(error) => refused(backend, error, Status::Nothing),
            };
            trials.findings.push(finding);
            // That it works says nothing of what was chosen.
            add_programs(&mut programs, Trial { degraded: Vec::new(), ..trial });
        }
        trials.findings.append(&mut programs);
        trials.findings.push(probing(trials.tls.as_ref(), capture));
        trials.findings.extend(memory.map(|bytes| {
            let found = format!("{:.1} MiB, of which the ring is {}", mib(bytes), capture.ring_buffer);
            Finding::new(Section::Memory, "maps", Status::Works, found)
        }));
        trials
    }
}

/// What came of one start. Nothing of it is left.
struct Trial {
    outcome: Result<Backend, KernelError>,
    attempts: Report,
    /// Programs whose absence costs something.
    degraded: Vec<String>,
    /// Why Unix sockets are not seen, if they are not.
    without_unix: Option<&'static str>,
}

impl Trial {
    fn start(
        settings: &kernel::Settings,
        tls: &mut Option<Result<Way, String>>,
        memory: &mut Option<u64>,
    ) -> Self {
        let mut attempts = Report::new();
        let mut degraded = Vec::new();
        let mut without_unix = None;
        let outcome = Kernel::start_reporting(settings, &mut attempts).map(|mut kernel| {
            without_unix = kernel.without_unix;
            *memory = memory.or_else(machine::map_bytes);
            degraded.extend(kernel.degraded.iter().map(|(program, _)| (*program).to_owned()));
            if tls.is_none() {
                let known = attempts.len();
                *tls = Some(kernel.attacher.try_probing(&mut attempts));
                // Without one of these something is not seen, whatever the backend.
                let refused = attempts[known..].iter().filter(|attempt| attempt.refused.is_some());
                degraded.extend(refused.map(|attempt| attempt.program.clone()));
            }
            kernel.backend
        });
        Self { outcome, attempts, degraded, without_unix }
    }
}

fn chosen(backend: Backend, wanted: Wanted) -> Finding {
    let why = match wanted {
        Wanted::Auto => "works; chosen, because it is the cheapest that sees everything on this kernel",
        _ => "works; chosen by capture.backend",
    };
    Finding::new(Section::Backends, backend.name(), Status::Works, why)
}

fn unix_sockets(without: Option<&str>, capture: &Capture) -> Finding {
    let (status, found) = match without {
        None => (Status::Works, "watched like TCP connections"),
        Some(reason) if capture.unix_sockets => (Status::Part, reason),
        Some(reason) => (Status::Note, reason),
    };
    Finding::new(Section::Backends, "Unix sockets", status, found)
}

fn refused(backend: Backend, error: &KernelError, status: Status) -> Finding {
    let text = error.to_string();
    let reason = match error {
        // What to do about it stands beside what is missing.
        KernelError::Missing(_) => text.lines().next().unwrap_or_default(),
        _ => &text,
    };
    Finding::new(Section::Backends, backend.name(), status, format!("does not start: {reason}"))
}

/// Adds what is not known yet of the programs of a trial: backends share some, and some are attached twice.
fn add_programs(findings: &mut Vec<Finding>, trial: Trial) {
    for attempt in trial.attempts {
        let (status, found) = match attempt.refused {
            None => (
                Status::Works,
                match attempt.verified {
                    Some(verified) => format!("loaded and attached ({verified} instructions verified)"),
                    None => "loaded and attached".to_owned(),
                },
            ),
            Some(reason) if trial.degraded.contains(&attempt.program) => {
                (Status::Part, format!("refused: {reason}"))
            }
            // Its backend is not used, or has another in its place.
            Some(reason) => (Status::Note, format!("refused, and not needed: {reason}")),
        };
        let known = findings.iter_mut().find(|finding| finding.name == attempt.program);
        match known {
            // One place of several may be refused; that is the one to speak of.
            Some(known) if known.status == Status::Works && status == Status::Part => {
                (known.status, known.found) = (status, found);
            }
            Some(_) => {}
            None => findings.push(Finding::new(Section::Programs, &attempt.program, status, found)),
        }
    }
}

fn probing(tls: Option<&Result<Way, String>>, capture: &Capture) -> Finding {
    const NAME: &str = "uprobes";
    let (status, found) = match tls {
        _ if !capture.tls.openssl => {
            (Status::Note, "switched off by capture.tls; what goes through TLS is not seen".to_owned())
        }
        Some(Ok(way)) => {
            (Status::Works, format!("attached by {}; one was, to a file, and detached", way.name()))
        }
        Some(Err(reason)) => (Status::Part, format!("what goes through TLS is not seen: {reason}")),
        None => (Status::Nothing, "not tried, since no backend starts".to_owned()),
    };
    Finding::new(Section::Tls, NAME, status, found)
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Attempt;

    fn trial(program: &str, refused: Option<&str>, degraded: &[&str]) -> Trial {
        let attempt =
            Attempt { program: program.to_owned(), refused: refused.map(str::to_owned), verified: None };
        let degraded = degraded.iter().map(|name| (*name).to_owned()).collect();
        Trial { outcome: Ok(Backend::Syscalls), attempts: vec![attempt], degraded, without_unix: None }
    }

    #[test]
    fn only_what_is_lost_counts() {
        let check = |findings| Check { findings, backend: None };
        let finding = |status| Finding::new(Section::Machine, "x", status, "");
        assert!(check(vec![finding(Status::Works), finding(Status::Note)]).is_full_capture());
        assert!(!check(vec![finding(Status::Works), finding(Status::Part)]).is_full_capture());
        assert!(!check(vec![finding(Status::Nothing)]).is_full_capture());
    }

    #[test]
    fn only_programs_whose_absence_costs_something_are_missed() {
        let mut findings = Vec::new();
        add_programs(&mut findings, trial("a", None, &[]));
        add_programs(&mut findings, trial("b", Some("no"), &[]));
        add_programs(&mut findings, trial("c", Some("last line"), &["c"]));
        add_programs(&mut findings, trial("c", None, &[]));
        let found: Vec<_> = findings.iter().map(|one| (one.name.as_str(), one.status)).collect();
        assert_eq!(found, [("a", Status::Works), ("b", Status::Note), ("c", Status::Part)]);
        assert!(findings[2].found.contains("last line"));
        add_programs(&mut findings, trial("a", Some("elsewhere"), &["a"]));
        assert_eq!(findings[0].status, Status::Part);
    }

    #[test]
    fn a_refusal_is_told_with_its_reason() {
        let error = KernelError::Program { program: "p", detail: "d".into() };
        assert!(refused(Backend::Sockets, &error, Status::Note).found.contains("program p: d"));
        let error = KernelError::Missing(kernel::Missing::Btf);
        let found = refused(Backend::Sockets, &error, Status::Nothing).found;
        assert!(found.contains("/sys/kernel/btf/vmlinux") && found.lines().count() == 1, "{found}");
    }
}
