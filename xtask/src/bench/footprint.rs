//! `agent`: what the agent itself takes: CPU time per exchange, resident memory, locked memory by map.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::Plan;
use super::agent::Agent;
use super::bpf::Objects;
use super::procfs;
use super::report::{Report, Table};
use super::stats::Spread;
use super::web::{self, FILE, Nginx, RETURN, TLS};

/// Resident memory at idle, at most.
const RESIDENT_MAX_MIB: f64 = 40.0;
/// Locked memory of the maps, at most.
const MAPS_MAX_MIB: f64 = 40.0;
/// How long an agent idles before its memory is read.
const IDLE: Duration = Duration::from_secs(5);
/// Runs of each load.
const ROUNDS: usize = 3;

/// Runs the benchmark.
pub(super) fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let mut memory =
        Table::new("Agent: resident memory, MiB", &["when", "resident", "anonymous", "files", "peak"]);
    eprintln!("agent: idle");
    let agent = Agent::start(&plan.agent, None, &plan.folder)?;
    thread::sleep(IDLE);
    memory.row(resident("idle for 5 s", agent.pid()));
    let idle_cpu = procfs::cpu_of_process(agent.pid())?;
    thread::sleep(IDLE);
    let idle_cpu = procfs::cpu_of_process(agent.pid())? - idle_cpu;
    let locked = locked(&Objects::of(agent.pid())?);
    agent.stop()?;

    let mut cpu = Table::new(
        format!("Agent: CPU time under load, {ROUNDS} runs of {} s, all cores free", plan.seconds),
        &[
            "load",
            "exchanges/s",
            "us per exchange (median, min to max)",
            "cores used",
            "records per exchange",
        ],
    );
    let nginx = Nginx::start(&plan.folder, None)?;
    for case in [FILE, RETURN, TLS] {
        eprintln!("agent: {}", case.what);
        let (mut rate, mut us, mut used, mut records) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let agent = Agent::start(&plan.agent, None, &plan.folder)?;
            let mut row = Vec::new();
            let run = web::load(&nginx, case, plan.seconds, None, Some(agent), |agent| {
                row = resident(case.what, agent.pid());
                Ok(())
            })?;
            let exchanges = run.accounts.get("exchanges") as f64;
            let seconds = run.requests as f64 / run.per_second;
            rate.push(exchanges / seconds);
            us.push(run.agent_cpu.as_secs_f64() * 1e6 / exchanges);
            used.push(run.agent_cpu.as_secs_f64() / seconds);
            records.push(run.accounts.get("kernel records") as f64 / exchanges);
            if us.len() == ROUNDS {
                memory.row(row);
            }
        }
        cpu.row([
            case.what.to_owned(),
            format!("{:.0}", Spread::of(rate).median),
            Spread::of(us).show(2),
            format!("{:.2}", Spread::of(used).median),
            format!("{:.1}", Spread::of(records).median),
        ]);
    }
    cpu.note("an exchange is a request with its response, seen on one side; each request of wrk makes two");
    cpu.note(format!(
        "idle: {:.1} ms of CPU time a second",
        idle_cpu.as_secs_f64() * 1000.0 / IDLE.as_secs_f64()
    ));
    memory.note("`files` holds the ring buffer twice: its pages are mapped twice in a row, as every reader of it does");
    memory.note(format!("target: resident at most {RESIDENT_MAX_MIB} MiB when idle"));
    report.add(cpu);
    report.add(memory);
    report.add(locked);
    Ok(())
}

fn resident(when: &str, pid: u32) -> Vec<String> {
    let status = format!("/proc/{pid}/status");
    let mib = |name: &str| {
        procfs::field(&status, name).map_or("?".to_owned(), |kib| format!("{:.1}", kib as f64 / 1024.0))
    };
    vec![when.to_owned(), mib("VmRSS"), mib("RssAnon"), mib("RssFile"), mib("VmHWM")]
}

fn locked(objects: &Objects) -> Table {
    let mib = |bytes: u64| format!("{:.2}", bytes as f64 / f64::from(1 << 20));
    let mut table = Table::new("Locked BPF memory, MiB", &["what", "MiB"]);
    for map in objects.maps.values().filter(|map| !map.is_ring) {
        table.row([map.name.clone(), mib(map.bytes)]);
    }
    table.row(["all maps but the ring buffer".to_owned(), mib(objects.map_bytes())]);
    table.row(["the ring buffer".to_owned(), mib(objects.ring_bytes())]);
    table.row(["programs".to_owned(), mib(objects.program_bytes())]);
    table.row(["all maps".to_owned(), mib(objects.map_bytes() + objects.ring_bytes())]);
    table.note(format!("target: all maps at most {MAPS_MAX_MIB} MiB"));
    table
}
