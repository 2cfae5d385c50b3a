//! What goes wrong on a busy host: processes that are gone at once, and a ring buffer that is too small.

use std::{
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use spantap_tests::{
    agent::Agent, client::Socket, config::ConfigFile, machine, nginx::Nginx, otlp::Kind, wrk::Wrk,
};

const LOCATIONS: &str = r"
    location /ok/ { return 200 'hello\n'; }
    location /missing/ { return 404; }
    location /failed/ { return 500; }
";
const PROGRAMS: &[&str] = &["nginx", "wrk", "curl", "openssl"];

#[test]
fn processes_that_die_while_they_are_attached_harm_nobody() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let nginx = Nginx::start(LOCATIONS);
    let mut agent = Agent::start();
    agent.wait_for_tls();
    let began = Instant::now();
    // Many at a time; some are killed right after their start.
    for round in 0..30 {
        let mut children: Vec<_> = (0..10)
            .map(|n| {
                let mut command = Command::new("curl");
                command.args(["--disable", "--silent", "--insecure", "--output", "/dev/null"]);
                command.arg(nginx.tls_url(&format!("/ok/{round}-{n}")));
                command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("curl starts")
            })
            .collect();
        for (n, child) in children.iter_mut().enumerate() {
            if n % 5 == 4 {
                let _ = child.kill();
            }
            let _ = child.wait();
        }
    }
    println!("300 processes in {:.1?}", began.elapsed());
    let served = nginx.log_lines();
    assert!(served >= 240, "{served}");
    let port = nginx.tls_port;
    let log = nginx.stop();
    let finished = agent.finish();
    println!("{:#?}", finished.accounts);
    finished.accounts.assert_nothing_lost();
    let spans = finished.select(|span| span.is("nginx", Kind::Server) && span.is_at(port));
    let mut seen: Vec<&str> = spans.iter().filter(|span| !span.is_error).map(|span| span.path()).collect();
    let mut logged: Vec<&str> =
        log.iter().filter(|line| line.status == 200).map(|line| line.uri.as_str()).collect();
    seen.sort_unstable();
    logged.sort_unstable();
    assert_eq!(seen, logged);
    assert!(!finished.stderr.contains("WARN"), "{}", finished.stderr);
    let clients = finished.select(|span| span.is("curl", Kind::Client) && span.is_at(port));
    assert!(clients.len() >= 240 && clients.len() <= log.len(), "{} spans of curl", clients.len());
}

#[test]
fn a_full_ring_buffer_is_counted_and_makes_no_wrong_span() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let nginx = Nginx::start(LOCATIONS);
    // The smallest ring there is, while the reader is kept from reading.
    let config = ConfigFile::new(SMALL_RING);
    let mut agent = Agent::start_with(|command| {
        command.args(["--config", config.name()]);
    });
    for round in 0..4 {
        let prefixes = ["ok", "missing", "failed"].map(|name| format!("/{name}/{round}-"));
        agent.program().signal(libc::SIGSTOP);
        let lines = nginx.log_lines();
        let wrk =
            Wrk::start_at_full_speed(&nginx.url(""), 2, 2_000, &prefixes.each_ref().map(String::as_str));
        // It is stopped while the ring fills, and wakes up in the middle of the traffic.
        nginx.wait_for_log(lines + 1_500);
        agent.program().signal(libc::SIGCONT);
        nginx.wait_for_log(lines + 4_000);
        let _ = wrk.finish();
    }
    let port = nginx.port;
    let log = nginx.stop();
    assert_eq!(log.len(), 16_000);
    spantap_tests::program::wait_until("the agent's reading", Duration::from_secs(5), || {
        !agent.spans().is_empty()
    });
    let finished = agent.finish();
    println!("{:#?}", finished.accounts);
    let lost = finished.accounts.left_out.get("kernel: ring full").copied().unwrap_or(0);
    assert!(lost > 0, "the ring was never full");
    let mut total = 0;
    for (service, kind) in [("nginx", Kind::Server), ("wrk", Kind::Client)] {
        let spans = finished.select(|span| span.is(service, kind) && span.is_at(port));
        println!("{} spans of {service} for {} requests, {lost} records lost", spans.len(), log.len());
        assert!(!spans.is_empty() && spans.len() <= log.len(), "{} spans of {service}", spans.len());
        for span in &spans {
            let expected = match span.path().split('/').nth(1) {
                Some("ok") => 200,
                Some("missing") => 404,
                Some("failed") => 500,
                other => panic!("{span}: {other:?} was never asked for"),
            };
            // Of a lost response nothing may be said but that it is not known.
            let unknown = span.status() == 0 && span.is_error;
            assert!(span.status() == expected || unknown, "{span} is a wrong pair");
            assert!(span.milliseconds() < 60_000.0, "{span}");
        }
        total += spans.iter().filter(|span| span.status() != 0).count();
        let mut paths: Vec<&str> = spans.iter().map(|span| span.path()).collect();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), spans.len(), "each path was asked for once");
    }
    assert!(total > 0);
}

/// What was lost on a connection must not cost what comes after it on the same one.
#[test]
fn kept_connections_recover_from_a_full_ring() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let nginx = Nginx::start(LOCATIONS);
    let config = ConfigFile::new(SMALL_RING);
    let mut agent = Agent::start_with(|command| {
        command.args(["--config", config.name()]);
    });
    let mut sockets: Vec<Socket> = (0..4).map(|_| Socket::connect(nginx.port)).collect();
    for round in 0..3 {
        for socket in &mut sockets {
            assert_eq!(socket.get("/ok/before").0, 200);
        }
        agent.program().signal(libc::SIGSTOP);
        // Another number on each, so that the rings end in the middle of different things.
        for (n, socket) in sockets.iter_mut().enumerate() {
            for _ in 0..400 + 7 * n {
                assert_eq!(socket.get("/missing/lost").0, 404);
            }
        }
        agent.program().signal(libc::SIGCONT);
        thread::sleep(Duration::from_millis(500));
        for (n, socket) in sockets.iter_mut().enumerate() {
            for i in 0..50 {
                assert_eq!(socket.get(&format!("/ok/after-{round}-{n}-{i}")).0, 200);
            }
        }
    }
    let port = nginx.port;
    let finished = agent.finish();
    println!("{:#?}", finished.accounts);
    assert!(finished.accounts.left_out.contains_key("kernel: ring full"), "the ring was never full");
    for kind in [Kind::Server, Kind::Client] {
        let spans = finished.select(|span| span.kind == kind && span.is_at(port));
        let after = spans.iter().filter(|span| span.path().starts_with("/ok/after-") && span.status() == 200);
        let after = after.count();
        println!("{kind:?}: {after} of 600 after the losses");
        // The first of each connection may be taken for the rest of what was lost.
        assert!(after >= 600 - 3 * 4, "{kind:?}: {after} of 600");
        for span in spans {
            let expected = if span.path().starts_with("/ok/") { 200 } else { 404 };
            assert!(span.status() == expected || (span.status() == 0 && span.is_error), "{span}");
        }
    }
}

const SMALL_RING: &str =
    "file_format: \"1.1\"\ndistribution:\n  spantap:\n    capture:\n      ring_buffer: 64KiB\n";
