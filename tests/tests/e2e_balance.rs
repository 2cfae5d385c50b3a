//! What was lost is known to the byte: seen bytes and lost bytes are together what the programs say they have moved.

use std::{collections::BTreeSet, fs};

use spantap_tests::{
    agent::{Accounts, Agent},
    config::ConfigFile,
    machine,
    nginx::{Logged, Nginx},
    wrk::Wrk,
};

/// Connections end after seven requests, so that many begin and end while the ring is full.
const LOCATIONS: &str = r"
    keepalive_requests 7;
    location /ok/ { return 200 'hello\n'; }
    location /missing/ { return 404; }
    location /file/ { try_files /page =404; }
";
const PREFIXES: &[&str] = &["/ok/", "/missing/", "/file/"];
/// The same traffic is asked for again if others on this machine have used the network meanwhile.
const ATTEMPTS: usize = 5;
/// Requests of each of wrk's connections, in each round; no multiple of seven, so that none is opened in vain.
const EACH: usize = 2_001;
const CONNECTIONS: usize = 2;
const ROUNDS: usize = 3;

/// Connections that each wrk opens and closes before it begins, to see whether somebody listens.
const TRIALS: usize = 2;

/// What happened while the ring was too small.
struct Measured {
    /// What nginx has served.
    log: Vec<Logged>,
    /// What wrk's connections have received, by itself.
    received: u64,
    accounts: Accounts,
    /// Connections that were opened on this machine meanwhile.
    opened: u64,
}

fn measure(backend: &str) -> Measured {
    let nginx = Nginx::start(LOCATIONS);
    nginx.file("page", &[b'x'; 30_000]);
    // Whose bytes are counted is nginx's and wrk's TCP: nginx's processes talk to one another over a Unix socket.
    let capture = format!("{{backend: {backend}, ring_buffer: 64KiB, unix_sockets: false}}");
    let config = ConfigFile::new(&format!(
        "file_format: \"1.1\"\ndistribution:\n  spantap:\n    capture: {capture}\n"
    ));
    let opened_before = active_opens();
    let mut agent = Agent::start_with(|command| {
        command.args(["--config", config.name()]);
    });
    let mut received = 0;
    for _ in 0..ROUNDS {
        let lines = nginx.log_lines();
        agent.program().signal(libc::SIGSTOP);
        let wrk = Wrk::start_at_full_speed(&nginx.url(""), CONNECTIONS, EACH, PREFIXES);
        // It wakes up in the middle of the traffic, so that what is lost is only a part.
        nginx.wait_for_log(lines + EACH);
        agent.program().signal(libc::SIGCONT);
        nginx.wait_for_log(lines + CONNECTIONS * EACH);
        let report = wrk.finish();
        let bytes = report.lines().find_map(|line| line.strip_prefix("bytes received: "));
        received += bytes.and_then(|text| text.parse::<u64>().ok()).unwrap_or_else(|| panic!("{report}"));
    }
    let log = nginx.stop();
    let opened = active_opens() - opened_before - (ROUNDS * TRIALS) as u64;
    let accounts = agent.finish().accounts;
    Measured { log, received, accounts, opened }
}

/// `Tcp: ActiveOpens` of this network namespace; proc_net_snmp in the kernel's documentation.
fn active_opens() -> u64 {
    let text = fs::read_to_string("/proc/net/snmp").expect("Linux");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let mut both = names.split(' ').zip(values.split(' '));
    both.find(|(name, _)| *name == "ActiveOpens").and_then(|(_, value)| value.parse().ok()).expect("a number")
}

fn assert_balance(backend: &str) {
    let Some(_turn) = machine::ready(&["nginx", "wrk", "openssl"]) else { return };
    for attempt in 1.. {
        let Measured { log, received, accounts, opened } = measure(backend);
        assert_eq!(log.len(), ROUNDS * CONNECTIONS * EACH);
        let requests: u64 = log.iter().map(|line| line.request_bytes).sum();
        let responses: u64 = log.iter().map(|line| line.response_bytes).sum();
        assert_eq!(received, responses, "wrk and nginx agree on the responses");
        // Each byte is seen twice: by the end that sends and by the one that receives it.
        let moved = 2 * (requests + responses);
        let lost = |name: &str| accounts.left_out.get(name).copied().unwrap_or(0);
        let seen = accounts.seen["seen bytes"];
        let (full, unseen) = (lost("kernel: ring full bytes"), lost("kernel: unseen bytes"));
        println!("{backend}: {moved} bytes moved, {seen} seen, {full} in lost records, {unseen} unseen");
        let connections = log.iter().map(|line| line.connection).collect::<BTreeSet<_>>().len() as u64;
        if seen + full + unseen != moved && opened != connections && attempt < ATTEMPTS {
            println!("{opened} connections were opened here, {connections} of them to our nginx: once more");
            continue;
        }
        println!("{accounts:#?}");
        assert!(full > 0 && seen > 0, "the ring was never full, or always");
        assert_eq!(seen + full + unseen, moved);
        assert_eq!(unseen, 0, "no call was missed, only records were lost");
        return;
    }
}

#[test]
fn every_lost_byte_is_counted_by_the_sockets_backend() {
    assert_balance("auto");
}

#[test]
fn every_lost_byte_is_counted_by_the_syscalls_backend() {
    assert_balance("syscalls");
}
