//! `databases`: what the agent costs a saturated redis-server and PostgreSQL, in alternating pairs of runs with and
//! without it. The same figures as `nginx`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Plan;
use super::agent::{Accounts, Agent};
use super::child::{Cores, Running, bound};
use super::machine;
use super::procfs;
use super::report::{Report, Table};
use super::stats::{Spread, median};
use crate::command::{command, output};

/// One load on one server.
struct Case {
    /// Its name on the command line.
    name: &'static str,
    /// For people.
    what: &'static str,
    /// The server it is for.
    server: fn(&Path) -> Result<Server>,
    /// The client and its arguments, for so many seconds.
    load: fn(u32) -> Vec<String>,
    /// Operations per second and how many there were, from what the client printed.
    parse: fn(&str, u32) -> Option<Load>,
}

const CASES: &[Case] = &[
    Case {
        name: "redis",
        what: "redis-server, GET, 32 connections",
        server: redis,
        load: |seconds| redis_benchmark(seconds, 1),
        parse: |text, seconds| of_redis_benchmark(text, seconds, 1),
    },
    Case {
        name: "redis-pipeline",
        what: "redis-server, GET, 32 connections, 16 at once on each",
        server: redis,
        load: |seconds| redis_benchmark(seconds, 16),
        parse: |text, seconds| of_redis_benchmark(text, seconds, 16),
    },
    Case {
        name: "postgres",
        what: "PostgreSQL, SELECT by key, prepared, 8 connections",
        server: postgres,
        load: |seconds| pgbench(seconds, "prepared"),
        parse: |text, _| of_pgbench(text),
    },
    Case {
        name: "postgres-simple",
        what: "PostgreSQL, SELECT by key, simple queries, 8 connections",
        server: postgres,
        load: |seconds| pgbench(seconds, "simple"),
        parse: |text, _| of_pgbench(text),
    },
];

/// The server's cores, and those of its clients and the agent.
const CORES: [Cores; 2] = [Some("0"), Some("1")];
const REDIS_PORT: u16 = 16379;
const POSTGRES_PORT: u16 = 15432;
/// Requests of one redis-benchmark for each second that a run is meant to take: it counts, it has no clock.
const REDIS_PER_SECOND: u32 = 60_000;
/// Before and after a load, for the agent to get ready and to finish.
const SETTLE: Duration = Duration::from_millis(500);
/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the benchmark.
pub(super) fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let mut table = Table::new(
        format!(
            "databases, {} pairs of {} s: the server on core 0; clients and agent on core 1",
            plan.pairs, plan.seconds
        ),
        &[
            "case",
            "operations/s",
            "keeps (median, min to max)",
            "server us/operation",
            "ratio (median, min to max)",
            "agent us/operation",
            "spans/operation",
            "lost",
        ],
    );
    let mut disturbed = 0;
    let cases: Vec<&Case> = CASES.iter().filter(|case| plan.wants(case.name)).collect();
    for case in &cases {
        table.row(row(plan, case, &mut disturbed)?);
    }
    if cases.is_empty() {
        return Ok(());
    }
    table
        .note(format!("operations/s and server us/operation: with {}, then with the agent", plan.baseline()));
    table.note("server us/operation: CPU time of all its processes; 2 spans: the server's and the client's");
    table.disturbed(disturbed);
    report.add(table);
    Ok(())
}

/// What one run took.
struct Run {
    load: Load,
    server: Duration,
    agent: Duration,
    accounts: Accounts,
}

impl Run {
    fn per(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / self.load.operations
    }
}

/// What a client says it has done.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Load {
    operations: f64,
    per_second: f64,
}

fn row(plan: &Plan, case: &Case, disturbed: &mut usize) -> Result<Vec<String>> {
    let server = (case.server)(&plan.folder)?;
    let (mut with, mut without): (Vec<Run>, Vec<Run>) = (Vec::new(), Vec::new());
    once(case, &server, 1, None)?;
    for pair in 0..plan.pairs {
        eprintln!("databases: {}: pair {} of {}", case.what, pair + 1, plan.pairs);
        for is_with in [pair % 2 == 0, pair % 2 != 0] {
            let program = if is_with { Some(&plan.agent) } else { plan.against.as_ref() };
            let agent = program.map(|program| Agent::start(program, CORES[1], &plan.folder)).transpose()?;
            *disturbed += usize::from(machine::others(agent.as_ref().map(Agent::pid)));
            let run = once(case, &server, plan.seconds, agent)?;
            if is_with { &mut with } else { &mut without }.push(run);
        }
    }
    let ratio = |of: &dyn Fn(&Run) -> f64| {
        Spread::of(with.iter().zip(&without).map(|(with, without)| of(with) / of(without))).show(3)
    };
    let both = |of: &dyn Fn(&Run) -> f64, digits: usize| {
        let [without, with] = [&without, &with].map(|runs| median(runs.iter().map(of)));
        format!("{without:.digits$}, {with:.digits$}")
    };
    let lost: u64 = with.iter().map(|run| run.accounts.lost()).sum();
    Ok(vec![
        case.what.to_owned(),
        both(&|run| run.load.per_second, 0),
        ratio(&|run| run.load.per_second),
        both(&|run| run.per(run.server), 2),
        ratio(&|run| run.per(run.server)),
        format!("{:.2}", median(with.iter().map(|run| run.per(run.agent)))),
        Spread::of(with.iter().map(|run| run.accounts.get("spans") as f64 / run.load.operations)).show(3),
        lost.to_string(),
    ])
}

fn once(case: &Case, server: &Server, seconds: u32, agent: Option<Agent>) -> Result<Run> {
    if agent.is_some() {
        thread::sleep(SETTLE);
    }
    let agent_cpu = || agent.as_ref().map_or(Ok(Duration::ZERO), |agent| procfs::cpu_of_process(agent.pid()));
    let before = (procfs::cpu_of_family(server.pid())?, agent_cpu()?);
    let arguments = (case.load)(seconds);
    let (program, arguments) = arguments.split_first().context("no client")?;
    let said = output(bound(program, CORES[1]).args(arguments))?;
    let load = (case.parse)(&said, seconds).with_context(|| format!("{program} made nothing: {said}"))?;
    // Processes that served have ended and are counted, and what waits in the ring is this run's too.
    thread::sleep(SETTLE);
    let (server, agent_cpu) = (procfs::cpu_of_family(server.pid())? - before.0, agent_cpu()? - before.1);
    let accounts = agent.map(Agent::stop).transpose()?.unwrap_or_default();
    Ok(Run { load, server, agent: agent_cpu, accounts })
}

fn redis_benchmark(seconds: u32, pipeline: u32) -> Vec<String> {
    let (port, requests) =
        (REDIS_PORT.to_string(), (seconds * pipeline.min(8) * REDIS_PER_SECOND).to_string());
    let pipeline = pipeline.to_string();
    ["redis-benchmark", "-p", &port, "-c", "32", "-t", "get", "--csv", "-n", &requests, "-P", &pipeline]
        .map(str::to_owned)
        .to_vec()
}

/// `"GET","123456.78",...`
fn of_redis_benchmark(text: &str, seconds: u32, pipeline: u32) -> Option<Load> {
    let line = text.lines().find_map(|line| line.strip_prefix("\"GET\",\""))?;
    let per_second = line.split('"').next()?.parse().ok()?;
    Some(Load { operations: f64::from(seconds * pipeline.min(8) * REDIS_PER_SECOND), per_second })
}

fn pgbench(seconds: u32, mode: &str) -> Vec<String> {
    let (port, seconds) = (POSTGRES_PORT.to_string(), seconds.to_string());
    [
        "pgbench",
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-U",
        "app",
        "-n",
        "-S",
        "-c",
        "8",
        "-M",
        mode,
        "-T",
        &seconds,
        "postgres",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// `number of transactions actually processed: 30123` and `tps = 10041.5 (without initial connection time)`.
fn of_pgbench(text: &str) -> Option<Load> {
    let after = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    let operations = after("number of transactions actually processed: ")?.parse().ok()?;
    Some(Load { operations, per_second: after("tps = ")?.parse().ok()? })
}

/// A running server, and where its data are.
struct Server {
    main: Running,
    _folder: Folder,
}

/// A folder of a run, taken away after it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Server {
    fn pid(&self) -> u32 {
        self.main.pid()
    }

    /// Starts it and waits until it takes connections.
    fn start(name: &'static str, start: &mut Command, port: u16, folder: Folder) -> Result<Self> {
        start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut main = Running::start(name, start)?;
        let until = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            main.check().with_context(|| format!("{name} does not start; is port {port} in use?"))?;
            if Instant::now() > until {
                bail!("{name} does not listen");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { main, _folder: folder })
    }
}

fn redis(folder: &Path) -> Result<Server> {
    let mut start = bound("redis-server", CORES[0]);
    start.args([
        "--port",
        &REDIS_PORT.to_string(),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
    ]);
    start.arg("--dir").arg(folder);
    let server = Server::start("redis-server", &mut start, REDIS_PORT, Folder(folder.join("redis")))?;
    let set = ["-p", &REDIS_PORT.to_string(), "SET", "key:__rand_int__", "xxx"].map(str::to_owned);
    output(command("redis-cli").args(set))?;
    Ok(server)
}

/// As the user `postgres`, since it refuses to run as root; its data lie where that user may go.
fn postgres(_: &Path) -> Result<Server> {
    let binaries =
        fs::read_dir("/usr/lib/postgresql").context("no PostgreSQL server; apt-get install postgresql")?;
    let mut binaries: Vec<PathBuf> = binaries.flatten().map(|entry| entry.path().join("bin")).collect();
    binaries.sort();
    let binaries = binaries.pop().context("no PostgreSQL server; apt-get install postgresql")?;
    let id = |flag: &str| Ok::<u32, anyhow::Error>(output(command("id").args([flag, "postgres"]))?.parse()?);
    let (user, group) = (id("-u")?, id("-g")?);
    let folder = Folder(std::env::temp_dir().join(format!("spantap-bench-{}", std::process::id())));
    fs::create_dir_all(&folder.0).with_context(|| format!("failed to make {}", folder.0.display()))?;
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o700))?;
    chown(&folder.0, Some(user), Some(group))?;
    let as_postgres = |binary: &str| {
        let mut command = bound("setpriv", CORES[0]);
        command.args(["--reuid", &user.to_string(), "--regid", &group.to_string(), "--clear-groups"]);
        // Other credentials take the parent-death signal away.
        command
            .args(["--pdeathsig", "TERM", "--"])
            .arg(binaries.join(binary))
            .arg("-D")
            .arg(&folder.0)
            .current_dir("/");
        command
    };
    output(as_postgres("initdb").args([
        "--auth=trust",
        "--username=app",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
    ]))?;
    let mut start = as_postgres("postgres");
    let port = format!("port={POSTGRES_PORT}");
    for setting in [
        port.as_str(),
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "autovacuum=off",
        "fsync=off",
    ] {
        start.args(["-c", setting]);
    }
    let server = Server::start("postgres", &mut start, POSTGRES_PORT, folder)?;
    let until = Instant::now() + PATIENCE;
    let init =
        ["-h", "127.0.0.1", "-p", &POSTGRES_PORT.to_string(), "-U", "app", "-i", "-q", "-s", "2", "postgres"]
            .map(str::to_owned);
    // It listens before it has started up.
    loop {
        match output(command("pgbench").args(&init)) {
            Ok(_) => return Ok(server),
            Err(error) if Instant::now() > until => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_read() {
        let text = "\"test\",\"rps\",\"avg_latency_ms\"\n\"GET\",\"125000.00\",\"0.2\",\"0.1\"\n";
        assert_eq!(
            of_redis_benchmark(text, 2, 16),
            Some(Load { operations: 960_000.0, per_second: 125_000.0 })
        );
        assert_eq!(of_redis_benchmark("", 2, 1), None);
        let text = "scaling factor: 2\nnumber of transactions actually processed: 30123\nlatency average = 0.8 ms\n\
                    tps = 10041.500000 (without initial connection time)\n";
        assert_eq!(of_pgbench(text), Some(Load { operations: 30_123.0, per_second: 10_041.5 }));
        assert_eq!(of_pgbench("pgbench: error"), None);
    }
}
