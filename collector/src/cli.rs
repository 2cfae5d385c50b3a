//! The command line: what can be asked for, in the words of `--help`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Shows what every service on this Linux node does, without touching it.
#[derive(Debug, Parser)]
#[command(name = "spantap", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(
    after_help = "Without a command it watches every process of this host and prints their requests:\n  \
    sudo spantap\nTo send them to an OpenTelemetry backend instead, give its URL:\n  \
    sudo OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 spantap"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of `run`, which is what is done without a command.
    #[command(flatten)]
    pub run: RunArgs,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch this host (needs root)
    Run(RunArgs),
    /// Watch a small workload of spantap's own for 15 seconds: see what it does in one command
    Demo(DemoArgs),
    /// Show the requests in a packet capture (pcap, pcapng); needs no privileges
    Replay(ReplayArgs),
    /// Say what works on this machine, what does not, and what to do; exit status 0 only if everything does
    Check(CheckArgs),
    /// Work with configuration files
    Config {
        /// What to do with them.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// The demo's own server and client.
    #[command(hide = true)]
    Workload {
        /// Which of the two.
        part: WorkloadPart,
        /// Where the client finds the server.
        #[arg(long)]
        port: Option<u16>,
    },
}

/// Options of `run`.
#[derive(Args, Clone, Debug, Default)]
pub struct RunArgs {
    /// Configuration file; without one the OTEL_* environment variables count
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to print on standard output, whatever the configuration says
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Stop after so long (for example 30s, 5m)
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// At the end, print the accounts: what came in, what went out, what was left out and why
    #[arg(long)]
    pub accounts: bool,
}

/// Options of `check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// One JSON object instead of a screen
    #[arg(long)]
    pub json: bool,
    /// Configuration file: the section `capture` applies
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Options of `demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// How long
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "15s")]
    pub duration: Duration,
    /// Show the bundled recording even where the host could be watched
    #[arg(long)]
    pub recording: bool,
}

/// Options of `replay`.
#[derive(Args, Clone, Debug)]
pub struct ReplayArgs {
    /// The capture file
    pub file: PathBuf,
    /// What to print
    #[arg(long, value_name = "FORMAT", default_value = "pretty")]
    pub format: Format,
    /// Configuration file: routes, protocols and exporters apply
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// At the end, print the accounts: what came in, what went out, what was left out and why
    #[arg(long)]
    pub accounts: bool,
}

/// Commands of `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say everything that is wrong with a configuration file
    Check {
        /// The file
        file: PathBuf,
    },
}

/// Formats of standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A line for each request, and a table at the end
    Pretty,
    /// OTLP JSON, one object a line
    OtlpJson,
    /// Nothing
    None,
}

/// The halves of the demo's workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WorkloadPart {
    /// An HTTP server with a slow route and a failing one.
    Server,
    /// A client that uses it.
    Client,
}

/// `15s`, `500ms`, `2m`, `1h`, or a plain number of seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| "expected a time such as 30s or 5m".to_owned())?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "" | "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => return Err(format!("unknown unit {unit:?}; use ms, s, m or h")),
    };
    milliseconds.map(Duration::from_millis).ok_or_else(|| "that is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn durations() {
        assert_eq!(duration("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        for bad in ["", "s", "-1s", "1d", "1.5s", "99999999999999999999s", "18446744073709551615h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
