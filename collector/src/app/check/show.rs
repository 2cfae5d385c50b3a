//! The check as a screen for people, and as JSON for programs.

use std::fmt::{self, Write};

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::{Check, Finding, Section, Status};

/// Where continued lines begin: behind the mark and the name.
const INDENT: usize = 34;
/// Columns of the screen.
const WIDTH: usize = 110;

impl Status {
    /// Its name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Note => "note",
            Self::Part => "part_missing",
            Self::Nothing => "fails",
        }
    }

    fn mark(self) -> (&'static str, Style) {
        match self {
            Self::Works => ("ok", AnsiColor::Green.on_default()),
            Self::Note => ("note", Style::new().dimmed()),
            Self::Part => ("PART", AnsiColor::Yellow.on_default().bold()),
            Self::Nothing => ("FAIL", AnsiColor::Red.on_default().bold()),
        }
    }
}

impl Section {
    /// Its name in JSON and on the screen.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Capabilities => "capabilities",
            Self::Backends => "backends",
            Self::Programs => "programs",
            Self::Tls => "tls",
            Self::Memory => "memory",
        }
    }
}

/// The screen, with colours; whoever prints it takes them out where there is no terminal.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bold = Style::new().bold();
        let mut section = None;
        let mut accepted = Vec::new();
        for finding in &self.findings {
            if section.replace(finding.section) != Some(finding.section) {
                write_accepted(f, &mut accepted)?;
                writeln!(f, "{bold}{}{bold:#}", finding.section.name())?;
            }
            // Those that work need no line each.
            if finding.section == Section::Programs && finding.status == Status::Works {
                accepted.push(finding.name.as_str());
                continue;
            }
            write_finding(f, finding)?;
        }
        write_accepted(f, &mut accepted)?;
        self.write_verdict(f)
    }
}

impl Check {
    /// The check as JSON, one object: `version`, `full_capture`, `backend` (null if none works) and `findings`, each
    /// with `section`, `name`, `status`, `found` and `advice` (null if nothing is to be done).
    #[must_use]
    pub fn to_json(&self) -> Value {
        let findings = self.findings.iter().map(|finding| {
            json!({
                "section": finding.section.name(),
                "name": finding.name,
                "status": finding.status.name(),
                "found": finding.found,
                "advice": finding.advice,
            })
        });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "full_capture": self.is_full_capture(),
            "backend": self.backend.map(|backend| backend.name()),
            "findings": findings.collect::<Vec<_>>(),
        })
    }

    fn write_verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |status| {
            let all = self.findings.iter().filter(|finding| finding.status == status);
            all.map(|finding| finding.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let (fails, parts) = (names(Status::Nothing), names(Status::Part));
        let status = match self.backend {
            Some(_) if self.is_full_capture() => Status::Works,
            Some(_) => Status::Part,
            None => Status::Nothing,
        };
        let style = status.mark().1;
        match (status, self.backend) {
            (Status::Works, Some(backend)) => {
                writeln!(f, "\n{style}full capture works here{style:#}, by the backend {}", backend.name())
            }
            (Status::Part, Some(backend)) => writeln!(
                f,
                "\n{style}spantap runs here, but does not see everything{style:#}, by the backend {}; see {}",
                backend.name(),
                if fails.is_empty() { parts } else { fails }
            ),
            _ => writeln!(f, "\n{style}spantap cannot watch this machine{style:#}; see {fails}"),
        }
    }
}

fn write_accepted(f: &mut fmt::Formatter<'_>, names: &mut Vec<&str>) -> fmt::Result {
    if names.is_empty() {
        return Ok(());
    }
    let found = format!("loaded and attached: {}", names.join(", "));
    let name = format!("{} programs", names.len());
    names.clear();
    write_line(f, Status::Works, &name, &found)
}

fn write_finding(f: &mut fmt::Formatter<'_>, finding: &Finding) -> fmt::Result {
    write_line(f, finding.status, &finding.name, &finding.found)?;
    match &finding.advice {
        Some(advice) => {
            let bold = Style::new().bold();
            for line in wrapped(&format!("-> {advice}")) {
                writeln!(f, "{:INDENT$}{bold}{line}{bold:#}", "")?;
            }
            Ok(())
        }
        None => Ok(()),
    }
}

fn write_line(f: &mut fmt::Formatter<'_>, status: Status, name: &str, found: &str) -> fmt::Result {
    let (mark, style) = status.mark();
    let mut lines = wrapped(found).into_iter();
    let first = lines.next().unwrap_or_default();
    writeln!(f, "  {style}{mark:<4}{style:#}  {name:<25} {first}")?;
    lines.try_for_each(|line| writeln!(f, "{:INDENT$}{line}", ""))
}

/// Lines that fit beside the names. A verifier's lines stay as they are, but for their length.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH - INDENT {
                lines.push(std::mem::take(&mut line));
            }
            let _ = write!(line, "{}{word}", if line.is_empty() { "" } else { " " });
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Backend;

    fn check(statuses: &[Status], backend: Option<Backend>) -> Check {
        let findings = statuses
            .iter()
            .map(|&status| {
                Finding::new(Section::Programs, status.name(), status, "refused: a\nb").advise("do it")
            })
            .collect();
        Check { findings, backend }
    }

    #[test]
    fn the_screen_says_how_it_stands() {
        let text = check(&[Status::Works], Some(Backend::Sockets)).to_string();
        assert!(text.contains("full capture works here") && text.contains("1 programs"), "{text}");
        let text = check(&[Status::Works, Status::Part], Some(Backend::Syscalls)).to_string();
        assert!(text.contains("does not see everything"), "{text}");
        assert!(text.contains("syscalls; see part_missing"), "{text}");
        assert!(text.contains("-> do it"), "{text}");
        let text = check(&[Status::Nothing], None).to_string();
        assert!(text.contains("cannot watch this machine"), "{text}");
    }

    #[test]
    fn long_lines_are_folded_and_given_ones_kept() {
        let lines = wrapped(&format!("first\n{}", "word ".repeat(40)));
        assert!(lines.len() > 2 && lines[0] == "first");
        assert!(lines.iter().all(|line| line.len() <= WIDTH - INDENT), "{lines:?}");
    }

    #[test]
    fn json_says_the_same() {
        let json = check(&[Status::Part], Some(Backend::Sockets)).to_json();
        assert_eq!(json["full_capture"], false);
        assert_eq!(json["backend"], "sockets");
        assert_eq!(json["findings"][0]["status"], "part_missing");
        assert_eq!(json["findings"][0]["section"], "programs");
        assert_eq!(json["findings"][0]["advice"], "do it");
    }
}
