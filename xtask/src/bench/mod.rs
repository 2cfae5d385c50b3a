//! `cargo xtask bench NAME`: measurements, apart from tests because their numbers belong to a machine.
//!
//! A benchmark is a file of this folder and a row in [`BENCHES`]; the subcommand and its list walk that table. What is
//! measured and how to repeat it: `docs/benchmarks.md`.

mod agent;
mod bpf;
mod capture;
mod child;
mod databases;
mod driver;
mod footprint;
mod latency;
mod machine;
mod nginx;
mod procfs;
mod protocols;
mod report;
mod stats;
mod tls;
mod watch;
mod web;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::command::{cargo, run as run_command};
use crate::packages::is_root;
use crate::workspace;
use report::Report;

/// One benchmark.
struct Bench {
    /// What it is called on the command line.
    name: &'static str,
    /// What it measures, with the unit.
    measures: &'static str,
    /// The programs it runs.
    needs: &'static [&'static str],
    /// Whether it runs the agent, which takes root and a build.
    runs_agent: bool,
    /// Runs it and adds its tables.
    run: fn(&Plan, &mut Report) -> Result<()>,
}

/// Every benchmark, in the order of the list.
const BENCHES: &[Bench] = &[
    Bench {
        name: "capture",
        measures: "nanoseconds added to a system call, and per run of a kernel program",
        needs: &["setpriv", "taskset"],
        runs_agent: true,
        run: capture::run,
    },
    Bench {
        name: "tls",
        measures: "nanoseconds added to an SSL_write and an SSL_read",
        needs: &["setpriv", "taskset", "python3", "openssl"],
        runs_agent: true,
        run: tls::run,
    },
    Bench {
        name: "watch",
        measures: "milliseconds until a TLS library is watched that no process has used before",
        needs: &["setpriv", "curl", "ldd"],
        runs_agent: true,
        run: watch::run,
    },
    Bench {
        name: "nginx",
        measures: "requests/s that nginx keeps, and its CPU time per request, with and without the agent",
        needs: &["setpriv", "taskset", "nginx", "wrk", "openssl"],
        runs_agent: true,
        run: nginx::run,
    },
    Bench {
        name: "databases",
        measures: "operations/s that redis-server and PostgreSQL keep, and their CPU time per operation",
        needs: &["setpriv", "taskset", "redis-server", "redis-benchmark", "redis-cli", "pgbench"],
        runs_agent: true,
        run: databases::run,
    },
    Bench {
        name: "latency",
        measures: "microseconds added to the answers of nginx at half load, median and 99th percentile",
        needs: &["setpriv", "taskset", "nginx", "wrk", "openssl", "h2load"],
        runs_agent: true,
        run: latency::run,
    },
    Bench {
        name: "agent",
        measures: "the agent's CPU time per exchange, resident memory, and locked memory by map",
        needs: &["setpriv", "taskset", "nginx", "wrk", "openssl"],
        runs_agent: true,
        run: footprint::run,
    },
    Bench {
        name: "protocols",
        measures: "exchanges/s through the parsers and spans/s to OTLP, instructions, allocations, memory when idle",
        needs: &[],
        runs_agent: false,
        run: protocols::run,
    },
    Bench {
        name: "export",
        measures: "CPU time of 100,000 spans to a backend, nanoseconds and bytes of metrics, 50 and 500 services",
        needs: &[],
        runs_agent: false,
        run: protocols::export,
    },
];

/// Options of `cargo xtask bench`.
#[derive(Args)]
pub(crate) struct Options {
    /// Which one, or `all`; without it they are listed.
    name: Option<String>,
    /// Pairs of runs, one with the agent and one without.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Seconds that one run of a web server takes.
    #[arg(long, value_name = "S", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Only the workloads whose name contains this.
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
    /// Also write the tables to a file, as Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// The agent to measure; without it, this checkout's is built.
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// Compare with this other agent instead of with none.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Backends that `capture` measures, with commas between them; those that this machine lacks fail.
    #[arg(long, value_name = "NAMES", default_value = "auto")]
    backends: String,
    /// The workload of `capture`, which runs as a process of its own.
    #[arg(long, hide = true)]
    driver: Option<String>,
}

/// What a benchmark is asked to do.
struct Plan {
    /// Pairs of runs.
    pairs: u32,
    /// Seconds of one run of a web server.
    seconds: u32,
    /// A part of the names of the workloads that are run.
    only: Option<String>,
    /// The agent that is measured.
    agent: PathBuf,
    /// What it is compared with: no agent, or another one.
    against: Option<PathBuf>,
    /// The socket backends that `capture` measures, with commas between them.
    backends: String,
    /// Where files of a run lie.
    folder: PathBuf,
}

impl Plan {
    /// Whether the workload of this name is asked for.
    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|word| name.contains(word.as_str()))
    }

    /// What the other half of each pair is called.
    fn baseline(&self) -> &'static str {
        if self.against.is_some() { "the other agent" } else { "no agent" }
    }
}

/// Runs the subcommand.
pub(crate) fn run(options: &Options) -> Result<bool> {
    if let Some(workload) = &options.driver {
        driver::run(workload)?;
        return Ok(true);
    }
    let Some(name) = &options.name else {
        for bench in BENCHES {
            println!("{:16} {}", bench.name, bench.measures);
        }
        println!("{:16} all of them", "all");
        return Ok(true);
    };
    let benches: Vec<&Bench> = BENCHES.iter().filter(|bench| name == "all" || bench.name == name).collect();
    if benches.is_empty() {
        bail!("there is no benchmark `{name}`; `cargo xtask bench` lists them");
    }
    let runs_agent = benches.iter().any(|bench| bench.runs_agent);
    if runs_agent && !is_root() {
        bail!("the agent needs root to load its kernel programs; run as root: cargo xtask bench {name}");
    }
    machine::require(benches.iter().flat_map(|bench| bench.needs.iter().copied()))?;
    let plan = plan(options, runs_agent)?;
    let mut report = Report::new(machine::describe());
    for warning in machine::warnings() {
        report.warn(warning);
    }
    report.print_head();
    for bench in benches {
        let from = report.tables();
        (bench.run)(&plan, &mut report).with_context(|| format!("the benchmark {} failed", bench.name))?;
        report.print_tables(from);
    }
    if let Some(file) = &options.markdown {
        fs::write(file, report.markdown()).with_context(|| format!("failed to write {}", file.display()))?;
        println!("wrote {}", file.display());
    }
    Ok(true)
}

fn plan(options: &Options, runs_agent: bool) -> Result<Plan> {
    let folder = workspace::target().join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let agent = match &options.agent {
        Some(file) => file.clone(),
        None if !runs_agent => PathBuf::new(),
        None => {
            run_command(cargo().args(["build", "--release", "--locked", "--package", "spantap"]))?;
            workspace::target().join("release/spantap")
        }
    };
    let agents = [Some(&agent), options.against.as_ref()].into_iter().flatten();
    for file in agents.filter(|_| runs_agent) {
        if !file.is_file() {
            bail!("there is no agent {}", file.display());
        }
    }
    Ok(Plan {
        pairs: options.pairs,
        seconds: options.seconds,
        only: options.only.clone(),
        agent,
        against: options.against.clone(),
        backends: options.backends.clone(),
        folder,
    })
}
