//! Is whatever moves bytes seen, whichever way it moves them, and by each backend?
//!
//! `programs/ways.c` speaks HTTP/1 by each way and says what it did. This also runs in guests with other kernels.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, thread,
    time::{Duration, Instant},
};

use spantap_tests::{
    agent::{Agent, Finished},
    compiled::Compiled,
    config::ConfigFile,
    machine,
    otlp::{Kind, Span},
    program::{Program, folder},
};

/// An exchange as one of its ends saw it: path, status, and the peer.
type Seen = (String, u16, String, String);

/// What `ways` says that it did.
#[derive(Debug, Default)]
struct Truth {
    /// By way and kind of span.
    exchanges: BTreeMap<(String, Kind), Vec<Seen>>,
    /// Bytes that it moved; each is seen twice.
    moved: u64,
    /// Ways that this kernel does not have.
    absent: BTreeSet<String>,
}

impl Truth {
    fn add(&mut self, said: &str) {
        for line in said.lines().filter(|line| *line != "connected") {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["exchange", way, path, status, client, client_port, server, server_port] => {
                    let status = status.parse().expect("a status");
                    let peers = [(Kind::Client, server, server_port), (Kind::Server, client, client_port)];
                    for (kind, peer, port) in peers {
                        let seen = (path.to_owned(), status, peer.to_owned(), port.to_owned());
                        self.exchanges.entry((way.to_owned(), kind)).or_default().push(seen);
                    }
                }
                ["moved", _, bytes] => self.moved += bytes.parse::<u64>().expect("a number"),
                ["absent", way] => {
                    self.absent.insert(way.to_owned());
                }
                _ => panic!("not a line of `ways`: {line}"),
            }
        }
    }

    /// Leaves out the exchanges whose heads are in no memory where this backend could find them.
    fn hide(&mut self, backend: &str) {
        self.exchanges.retain(|(way, _), _| !hides(backend, way));
    }

    fn count(&self) -> usize {
        self.exchanges.values().map(Vec::len).sum()
    }
}

/// Whether a backend sees only how many bytes this way moves, not what they are: docs/capture.md says why. Where one end
/// cannot be seen to ask or to answer, neither end has an exchange: `ways` moves the bytes of both in the same way.
fn hides(backend: &str, way: &str) -> bool {
    match (backend, way) {
        // The bytes come from a file.
        (_, "sendfile-head") => true,
        // Only the body.
        (_, "uring-body") => false,
        ("syscalls", way) => way.starts_with("uring-"),
        ("sockets", "sendmmsg-recvmmsg" | "recvmmsg-many") => true,
        ("sockets", "uring-recv" | "uring-read" | "uring-recvmsg" | "uring-multishot") => true,
        _ => false,
    }
}

fn agent(backend: &str) -> Agent {
    let config = ConfigFile::new(&format!(
        "file_format: \"1.1\"\ndistribution:\n  spantap:\n    capture:\n      backend: {backend}\n"
    ));
    let agent = Agent::start_with(|command| {
        command.args(["--config", config.name()]).env("RUST_LOG", "info,spantap::app::agent=debug");
    });
    let said = format!("backend=\"{backend}\"");
    assert!(agent.stderr().contains(&said), "no {said} in {}", agent.stderr());
    agent
}

fn way_of(span: &Span) -> &str {
    span.path().trim_start_matches('/').split('/').next().unwrap_or_default()
}

fn is_ours(span: &Span) -> bool {
    span.service == "ways"
}

#[test]
fn every_way_of_moving_bytes_is_seen() {
    let Some(_turn) = machine::ready(&["cc"]) else { return };
    let ways = Compiled::new("ways", &["ways.c", "uring.c"]);
    for backend in machine::backends() {
        let mut attempts = 0;
        while !balances(&backend, &ways) {
            attempts += 1;
            assert!(attempts < 5, "{backend}: the bytes that were seen are not those that moved");
        }
    }
}

/// Runs all ways. False if the balance of bytes is not exact, which other traffic on this machine also does.
fn balances(backend: &str, ways: &Compiled) -> bool {
    println!("--- {backend}");
    let agent = agent(backend);
    let mut truth = Truth::default();
    truth.add(&Program::run("ways", &mut ways.command(&[])).success("ways").stdout);
    truth.hide(backend);
    println!("this kernel does not have: {:?}", truth.absent);
    wait_for(&agent, truth.count());
    let finished = agent.finish();
    println!("{:#?}", finished.accounts);
    finished.accounts.assert_nothing_lost();
    assert_same(backend, &truth, &finished);
    // What was seen of no call is known to the byte all the same.
    // Nor is what nobody reads reported, once the agent has said so.
    let left_out = |name: &str| finished.accounts.left_out.get(name).copied().unwrap_or(0);
    let unseen = left_out("kernel: unseen bytes") + left_out("kernel: unwanted bytes");
    let (seen, moved) = (finished.accounts.seen["seen bytes"], 2 * truth.moved);
    println!("{backend}: {moved} bytes moved, {seen} seen, {unseen} unseen or unwanted");
    assert!(seen + unseen >= moved, "{backend}: bytes are missing");
    seen + unseen == moved
}

#[test]
fn connections_older_than_the_agent_have_their_addresses_in_every_network() {
    let Some(_turn) = machine::ready(&["cc"]) else { return };
    let ways = Compiled::new("ways", &["ways.c", "uring.c"]);
    for backend in machine::backends() {
        println!("--- {backend}");
        let folder = folder();
        let after = folder.path().join("go");
        let name = after.to_str().expect("our own names are UTF-8");
        // The first call that is seen of some is a peek.
        let all = ["write-read", "sendmsg-recvmsg", "peek", "v6", "v6-peek", "mapped", "apart", "apart-v6"];
        let mut older: Vec<Program> = all
            .iter()
            .map(|way| Program::start("ways", &mut ways.command(&["--after", name, way])))
            .collect();
        for program in &mut older {
            program.wait_ready("connected", |program| program.stdout().contains("connected\n"));
        }
        let agent = agent(&backend);
        fs::write(&after, "").expect("a fresh folder");
        let mut truth = Truth::default();
        for program in &mut older {
            assert!(program.wait(machine::patience()).success(), "{}", program.stderr());
            truth.add(&program.stdout());
        }
        assert_eq!(truth.count(), all.len() * 2 * 5);
        if matches!(&*backend, "fentry" | "kprobes") {
            // The servers were inside their first receive when the agent came, whose entry was not seen. Where it was a
            // peek, nothing is missed.
            for ((_, kind), exchanges) in &mut truth.exchanges {
                exchanges.retain(|(path, ..)| {
                    *kind == Kind::Client || !path.ends_with("/0") || path.contains("peek")
                });
            }
        }
        wait_for(&agent, truth.count());
        let finished = agent.finish();
        finished.accounts.assert_nothing_lost();
        assert_same(&backend, &truth, &finished);
    }
}

#[test]
fn connections_that_fail_are_counted_and_make_no_span() {
    let Some(_turn) = machine::ready(&["cc"]) else { return };
    let ways = Compiled::new("ways", &["ways.c", "uring.c"]);
    for backend in machine::backends() {
        println!("--- {backend}");
        let agent = agent(&backend);
        // Then one that succeeds, by whose span all that was before has been looked at.
        let said = Program::run("ways", &mut ways.command(&["refused", "write-read"])).success("ways").stdout;
        let (refused, rest) = said.split_once('\n').expect("a line");
        assert_eq!(refused, "refused 4");
        let mut truth = Truth::default();
        truth.add(rest);
        wait_for(&agent, truth.count());
        let finished = agent.finish();
        finished.accounts.assert_nothing_lost();
        // Others on the machine may fail, too.
        let failed = finished.accounts.seen["failed connects"];
        assert!(failed >= 4, "{backend}: {failed}");
        assert_same(&backend, &truth, &finished);
    }
}

/// If they do not come, what the agent says at its end tells more than that they did not.
fn wait_for(agent: &Agent, count: usize) {
    let deadline = Instant::now() + machine::patience();
    while agent.spans().iter().filter(|span| is_ours(span)).count() < count && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
}

/// Every exchange was found once at each end, and no other.
fn assert_same(backend: &str, truth: &Truth, finished: &Finished) {
    let mut seen: BTreeMap<(String, Kind), Vec<Seen>> = BTreeMap::new();
    for span in finished.select(is_ours) {
        let peer = |name: &str| span.get(name).to_owned();
        let facts =
            (span.path().to_owned(), span.status(), peer("network.peer.address"), peer("network.peer.port"));
        seen.entry((way_of(span).to_owned(), span.kind)).or_default().push(facts);
        // Statuses from 200 on are no errors; nor is any end of a connection here.
        assert!(!span.is_error, "{backend}: {span}");
    }
    let mut wrong = Vec::new();
    for (key, expected) in &truth.exchanges {
        let mut found = seen.remove(key).unwrap_or_default();
        found.sort();
        if &found != expected {
            wrong.push(format!("{key:?}: {found:?} is not {expected:?}"));
        }
    }
    wrong.extend(seen.into_iter().map(|(key, found)| format!("{key:?}: {found:?} is too much")));
    assert!(wrong.is_empty(), "{backend}: {wrong:#?}");
}
