//! Which processes are watched, by the configuration's rules.

use std::{
    collections::{HashMap, HashSet},
    io,
    ops::RangeInclusive,
};

use spantap_config::{Discovery, Overrides, Rule, TelemetryBackends};
use spantap_ebpf_common::event::Tgid;
use spantap_protocols::Role;

use super::{procfs, telemetry_backends};

/// Processes remembered at once; beyond it the cache starts anew.
const PROCESSES_MAX: usize = 32_768;

/// Decides, and remembers what was decided.
#[derive(Debug, Default)]
pub struct Selection {
    rules: Discovery,
    only: Option<HashSet<Tgid>>,
    decided: HashMap<Tgid, Choice, foldhash::fast::RandomState>,
    changes: Vec<Change>,
}

/// What the kernel side is to do about a process from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Leave it alone.
    Ignore(Tgid),
    /// Report its calls, if they were not.
    Report(Tgid),
}

/// Whether an exchange is wanted, and by which rule of `include`, see [`Selection::overrides`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It is.
    Yes(Option<usize>),
    /// The rules leave it out.
    No,
    /// The rules could not be applied to its process, which was gone by then or may not be looked at. Then it is left out:
    /// what is excluded must never be told.
    Undecided,
}

/// What is done about a process.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Choice {
    /// All of it is watched, by this rule of `include` if it is by one.
    Watch(Option<usize>),
    /// None of it.
    Ignore,
    /// None of it, since it is not known whether it should be.
    Undecided,
    /// Some: what arrives at these ports.
    Ports(Ports),
}

/// The rules that fit a process but may not fit all that it does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ports {
    /// Whether all is included but what is excluded, since there are no rules that include.
    all: bool,
    /// The rules that fit, in their order: those with ports fit what is served there.
    include: Vec<(Option<RangeInclusive<u16>>, usize)>,
    exclude: Vec<RangeInclusive<u16>>,
}

impl Selection {
    /// By these rules; without any, every process is watched.
    #[must_use]
    pub fn new(rules: Discovery) -> Self {
        Self { rules, ..Self::default() }
    }

    /// These processes and no others, whatever the rules say.
    pub fn only(&mut self, tgids: HashSet<Tgid>) {
        self.only = Some(tgids);
    }

    /// A process has begun, or runs something else now. `comm` names it if it is already gone.
    pub fn decide(&mut self, tgid: Tgid, comm: &[u8]) {
        let before = self.decided.remove(&tgid);
        if *self.choice(tgid, comm) != Choice::Ignore {
            self.report_again(tgid, before);
        }
    }

    /// A process was met: decides unless that is done already. If it is gone, and its `parent` is called the same, it is a
    /// forked child, which is treated as its parent is.
    pub fn know(&mut self, tgid: Tgid, parent: Tgid, comm: &[u8]) {
        if *self.choice(tgid, comm) == Choice::Undecided
            && parent != Tgid(0)
            && procfs::comm(parent).is_some_and(|name| name == procfs::comm_text(comm))
        {
            let choice = self.choice(parent, comm).clone();
            self.decided.insert(tgid, choice);
        }
    }

    /// Whether an exchange of the process is wanted. `port`: of our end of the socket.
    pub fn wants(&mut self, tgid: Tgid, comm: &[u8], role: Role, port: Option<u16>) -> Wanted {
        match self.choice(tgid, comm) {
            Choice::Watch(rule) => Wanted::Yes(*rule),
            Choice::Ignore => Wanted::No,
            Choice::Undecided => Wanted::Undecided,
            Choice::Ports(ports) => ports.want(role, port),
        }
    }

    /// What is different for what a rule has included.
    #[must_use]
    pub fn overrides(&self, rule: usize) -> Option<&Overrides> {
        self.rules.include.get(rule).map(|include| &include.overrides)
    }

    /// Leaves a process alone from now on, whatever the rules say, until it runs something else.
    pub fn ignore(&mut self, tgid: Tgid) {
        if self.decided.insert(tgid, Choice::Ignore) != Some(Choice::Ignore) {
            self.changes.push(Change::Ignore(tgid));
        }
    }

    /// The process is gone, and its number may be given to another.
    pub fn forget(&mut self, tgid: Tgid) {
        let before = self.decided.remove(&tgid);
        self.report_again(tgid, before);
    }

    /// What has changed since the last call, in the order in which it did.
    pub fn take_changes(&mut self) -> impl Iterator<Item = Change> {
        self.changes.drain(..)
    }

    /// The kernel side forgets by itself whom it ignores when the process runs something else or ends. If it did so
    /// before it had been told whom to ignore, it must be told again.
    fn report_again(&mut self, tgid: Tgid, before: Option<Choice>) {
        if before == Some(Choice::Ignore) {
            self.changes.push(Change::Report(tgid));
        }
    }

    fn choice(&mut self, tgid: Tgid, comm: &[u8]) -> &Choice {
        if !self.decided.contains_key(&tgid) {
            if self.decided.len() >= PROCESSES_MAX {
                self.start_anew();
            }
            let choice = self.judge(tgid, comm);
            if choice == Choice::Ignore {
                self.changes.push(Change::Ignore(tgid));
            }
            self.decided.insert(tgid, choice);
        }
        &self.decided[&tgid]
    }

    fn start_anew(&mut self) {
        let ignored = self.decided.drain().filter(|(_, choice)| *choice == Choice::Ignore);
        self.changes.extend(ignored.map(|(tgid, _)| Change::Report(tgid)));
    }

    fn judge(&self, tgid: Tgid, comm: &[u8]) -> Choice {
        if let Some(only) = &self.only {
            return if only.contains(&tgid) { Choice::Watch(None) } else { Choice::Ignore };
        }
        let Discovery { include, exclude, telemetry_backends, .. } = &self.rules;
        if *telemetry_backends == TelemetryBackends::Skip && is_telemetry_backend(tgid, comm) {
            return Choice::Ignore;
        }
        if include.is_empty() && exclude.is_empty() {
            return Choice::Watch(None);
        }
        let facts = Facts::of(tgid, comm);
        let included = facts.fitting(include.iter().map(|include| &include.rule));
        let excluded = facts.fitting(exclude.iter());
        let all = include.is_empty();
        if excluded.rules.iter().any(|(port, _)| port.is_none()) {
            return Choice::Ignore;
        }
        // One that surely fits includes it, but one before that may be the first.
        if excluded.unknown || included.unknown {
            return Choice::Undecided;
        }
        match &included.rules[..] {
            [] if !all => Choice::Ignore,
            [] if excluded.rules.is_empty() => Choice::Watch(None),
            [(None, first), ..] if excluded.rules.is_empty() => Choice::Watch(Some(*first)),
            _ => {
                let exclude = excluded.rules.into_iter().filter_map(|(port, _)| port).collect();
                Choice::Ports(Ports { all, include: included.rules, exclude })
            }
        }
    }
}

impl Ports {
    fn want(&self, role: Role, port: Option<u16>) -> Wanted {
        let serves = |range: &RangeInclusive<u16>| {
            role == Role::Server && port.is_some_and(|port| range.contains(&port))
        };
        if self.exclude.iter().any(serves) {
            return Wanted::No;
        }
        let fits = |(range, _): &&(Option<RangeInclusive<u16>>, usize)| range.as_ref().is_none_or(serves);
        match self.include.iter().find(fits) {
            Some((_, rule)) => Wanted::Yes(Some(*rule)),
            None if self.all => Wanted::Yes(None),
            None => Wanted::No,
        }
    }
}

/// Said once per process, for it may be missed.
fn is_telemetry_backend(tgid: Tgid, comm: &[u8]) -> bool {
    let path = procfs::executable(tgid);
    let name = path.as_deref().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let name = name.unwrap_or_else(|| procfs::comm_text(comm));
    let is_one = telemetry_backends::is_one(&name);
    if is_one {
        tracing::info!(executable = name, pid = tgid.0, "a telemetry backend is left alone");
    }
    is_one
}

/// What rules ask of a process.
struct Facts {
    pid: u32,
    /// Its path, or if that is not known what the kernel called the process when it began, without a slash.
    executable: String,
    is_executable_known: bool,
    /// Nothing can be read of it any more.
    is_gone: bool,
    command_line: String,
    control_groups: Vec<String>,
}

/// The rules that fit a process.
struct Fitting {
    /// Their ports and numbers.
    rules: Vec<(Option<RangeInclusive<u16>>, usize)>,
    /// Whether there is one of which that cannot be said.
    unknown: bool,
}

impl Facts {
    fn of(tgid: Tgid, comm: &[u8]) -> Self {
        let command_line = procfs::command_line(tgid).unwrap_or_default();
        let control_groups = procfs::control_groups(tgid);
        // The last of all: if it is there now, all before was read of the process, too.
        let executable = procfs::try_executable(tgid);
        let is_there = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
        Self {
            pid: tgid.0,
            is_executable_known: executable.is_ok(),
            is_gone: executable.as_ref().is_err_and(|error| !is_there(error)),
            executable: executable
                .map_or_else(|_| procfs::comm_text(comm), |path| path.to_string_lossy().into_owned()),
            command_line,
            control_groups,
        }
    }

    fn fitting<'a>(&self, rules: impl Iterator<Item = &'a Rule>) -> Fitting {
        let mut fitting = Fitting { rules: Vec::new(), unknown: false };
        for (number, rule) in rules.enumerate() {
            match self.fit(rule) {
                Some(true) => fitting.rules.push((rule.port.clone(), number)),
                Some(false) => {}
                // What is after a rule that fits whatever the process does makes no difference.
                None if fitting.rules.iter().any(|(port, _)| port.is_none()) => {}
                None => fitting.unknown = true,
            }
        }
        fitting
    }

    /// Whether everything but the port fits, if that can be said.
    fn fit(&self, rule: &Rule) -> Option<bool> {
        let groups = || self.control_groups.iter().map(String::as_str);
        let is = |fits: bool| Some(fits);
        // Of what cannot be read nothing is known.
        let read = |fits: bool| (!self.is_gone).then_some(fits);
        let criteria = [
            rule.pid.map(|pid| is(pid == self.pid)),
            rule.executable.as_ref().map(|glob| match glob.matches_path(&self.executable) {
                fits if self.is_executable_known => is(fits),
                // A script is called by its own name, and what runs it may be what the rule names.
                fits => (fits && !glob.is_path() && !self.is_cut()).then_some(true),
            }),
            rule.command_line.as_ref().map(|glob| read(glob.matches(&self.command_line))),
            rule.cgroup.as_ref().map(|glob| read(groups().any(|group| glob.matches(group)))),
            rule.container
                .as_ref()
                .map(|glob| read(groups().filter_map(procfs::container_id).any(|id| glob.matches(id)))),
        ];
        // One that does not fit is enough.
        let mut named = criteria.into_iter().flatten();
        let known = named.clone().all(|fits| fits.is_some());
        if named.any(|fits| fits == Some(false)) { Some(false) } else { known.then_some(true) }
    }

    /// The kernel keeps 15 bytes of a name (`TASK_COMM_LEN` of `include/linux/sched.h`, with a zero).
    fn is_cut(&self) -> bool {
        self.executable.len() >= 15
    }
}

#[cfg(test)]
#[path = "selection_tests.rs"]
mod tests;
