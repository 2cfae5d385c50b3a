//! Do many threads, and many short connections, leave every exchange once, exact accounts, and nothing that grows?

use std::{collections::BTreeMap, fs};

use spantap_tests::{
    agent::{Agent, Finished},
    compiled::Compiled,
    config::ConfigFile,
    machine,
    otlp::Kind,
    program::{Program, wait_until},
};

/// What of the agent's memory may be more after the same traffic once more, in KiB.
const GROWTH_KIB: u64 = 8 * 1024;
/// The same traffic is made again if others on this machine have used the network meanwhile.
const ATTEMPTS: usize = 5;

/// An exchange as one of its ends saw it: path, status, peer's address and port.
type Seen = (String, String, String, String);

struct Run {
    client: Vec<Seen>,
    server: Vec<Seen>,
    /// Bytes, each of which is seen twice.
    moved: u64,
}

/// Runs `crowd`, and reads what it says.
fn run(crowd: &Compiled, arguments: &[&str]) -> Run {
    let ended = Program::run("crowd", &mut crowd.command(arguments)).success("crowd");
    print!("{}", ended.stderr);
    let mut run = Run { client: Vec::new(), server: Vec::new(), moved: 0 };
    for line in ended.stdout.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [path, status, client_port, server, port] = words[..] else {
            panic!("not a line of `crowd`: {line}")
        };
        let seen = |address: &str, port: &str| {
            (path.to_owned(), status.to_owned(), address.to_owned(), port.to_owned())
        };
        run.client.push(seen(server, port));
        run.server.push(seen("127.0.0.1", client_port));
        let request = format!("GET {path} HTTP/1.1\r\nHost: crowd\r\n\r\n").len();
        let response = "HTTP/1.1 200 Fine\r\nContent-Length: 7\r\n\r\n1234567".len();
        run.moved += (request + response) as u64;
    }
    run
}

fn agent(backend: &str) -> Agent {
    let config = ConfigFile::new(&format!(
        "file_format: \"1.1\"\ndistribution:\n  spantap:\n    capture: {{backend: {backend}, ring_buffer: 64MiB}}\n"
    ));
    Agent::start_with(|command| {
        command.args(["--config", config.name()]);
    })
}

/// Every exchange of the runs was found once at each end. False if the balance of bytes is not exact, which other
/// traffic on this machine also does.
fn balances(backend: &str, runs: &[Run], connections: u64, finished: &Finished) -> bool {
    println!("{:#?}", finished.accounts);
    finished.accounts.assert_nothing_lost();
    for (kind, expected) in [(Kind::Client, 0), (Kind::Server, 1)] {
        let mut left: BTreeMap<&Seen, i64> = BTreeMap::new();
        let ends = runs.iter().flat_map(|run| if expected == 0 { &run.client } else { &run.server });
        ends.for_each(|seen| *left.entry(seen).or_default() += 1);
        for span in finished.select(|span| span.service == "crowd" && span.kind == kind) {
            let get = |name: &str| span.get(name).to_owned();
            let seen = (
                span.path().to_owned(),
                get("http.response.status_code"),
                get("network.peer.address"),
                get("network.peer.port"),
            );
            match left.get_mut(&seen) {
                Some(count) => *count -= 1,
                None => panic!("{backend}: a wrong span: {span}"),
            }
        }
        left.retain(|_, count| *count != 0);
        assert!(left.is_empty(), "{backend}: {} {kind:?} spans missing or doubled: {left:?}", left.len());
    }
    let count = |name: &str| finished.accounts.seen.get(name).copied().unwrap_or(0);
    let moved = 2 * runs.iter().map(|run| run.moved).sum::<u64>();
    println!("{backend}: {moved} bytes moved, {} seen", count("seen bytes"));
    assert!(count("seen bytes") >= moved, "{backend}: bytes are missing");
    let unseen = finished.accounts.left_out.get("kernel: unseen bytes").copied().unwrap_or(0);
    (count("seen bytes"), unseen, count("open events"), count("close events"))
        == (moved, 0, connections, connections)
}

#[test]
fn thousands_of_threads_have_each_their_own_connection() {
    let Some(_turn) = machine::ready(&["cc"]) else { return };
    let crowd = Compiled::new("crowd", &["crowd.c"]);
    for backend in machine::backends() {
        let attempt = || {
            let agent = agent(&backend);
            let run = run(&crowd, &["2000", "1", "5"]);
            wait_for_spans(&agent, 2 * run.client.len());
            balances(&backend, &[run], 2 * 2_000, &agent.finish())
        };
        assert!((0..ATTEMPTS).any(|_| attempt()), "{backend}: the accounts never balance");
    }
}

#[test]
fn short_connections_by_the_thousand_are_all_told_and_forgotten() {
    let Some(_turn) = machine::ready(&["cc"]) else { return };
    let crowd = Compiled::new("crowd", &["crowd.c"]);
    for backend in machine::backends() {
        let attempt = || {
            let mut agent = agent(&backend);
            let mut runs = Vec::new();
            let mut resident = Vec::new();
            for round in 1..=3 {
                runs.push(run(&crowd, &["8", "1250", "1"]));
                wait_for_spans(&agent, round * 2 * runs[0].client.len());
                resident.push(resident_kib(agent.program().tgid()));
            }
            println!("{backend}: {resident:?} KiB resident after each round");
            assert!(resident[2] <= resident[1] + GROWTH_KIB, "{backend}: it grows: {resident:?} KiB");
            balances(&backend, &runs, 3 * 2 * 8 * 1_250, &agent.finish())
        };
        assert!((0..ATTEMPTS).any(|_| attempt()), "{backend}: the accounts never balance");
    }
}

/// Waits until so many spans have been printed, whosever they are; to read them all takes its time.
fn wait_for_spans(agent: &Agent, count: usize) {
    let printed =
        || fs::read_to_string(agent.stdout_file()).map_or(0, |text| text.matches("\"spanId\"").count());
    wait_until("the spans", machine::patience(), || printed() >= count);
}

fn resident_kib(tgid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{tgid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
