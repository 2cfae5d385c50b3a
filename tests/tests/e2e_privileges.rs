//! Least privilege: full capture as an ordinary user with a few capabilities, what is said when one is missing, and
//! that root keeps no more than these.

use std::{collections::BTreeSet, fs, path::Path};

use spantap_tests::{
    agent::{self, Agent},
    client::fetch,
    machine,
    nginx::Nginx,
    otlp::Kind,
    program::Program,
};

/// What docs/privileges.md names for full capture on this kernel.
fn enough() -> Vec<&'static str> {
    let mut all = vec!["bpf", "perfmon", "sys_ptrace", "dac_read_search", "checkpoint_restore"];
    all.extend((!machine::has_probe_links()).then_some("sys_admin"));
    all
}
const PROGRAMS: &[&str] = &["nginx", "curl", "openssl", "setpriv"];
const LOCATIONS: &str = "location /ok/ { return 200 'hello\\n'; }";

fn start(binary: &Path, capabilities: &[&str]) -> Agent {
    Agent::start_with(|command| *command = agent::with_capabilities(binary, capabilities, command))
}

/// Asks for a path over HTTP and over HTTPS; what nginx served of them is what the agent has to see.
fn ask(nginx: &Nginx) {
    assert_eq!(fetch(&[&nginx.url("/ok/plain")]).0, 200);
    assert_eq!(fetch(&[&nginx.tls_url("/ok/tls")]).0, 200);
}

#[test]
fn a_few_capabilities_are_enough() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let (_folder, binary) = agent::copy_for_all();
    let nginx = Nginx::start(LOCATIONS);
    let mut agent = start(&binary, &enough());
    agent.wait_for_tls();
    ask(&nginx);
    for (service, kind) in [("nginx", Kind::Server), ("curl", Kind::Client)] {
        for path in ["/ok/plain", "/ok/tls"] {
            agent.wait_for(1, |span| span.is(service, kind) && span.path() == path && span.status() == 200);
        }
    }
    let finished = agent.finish();
    assert!(!finished.stderr.contains("WARN"), "{}", finished.stderr);
    finished.accounts.assert_nothing_lost();
}

#[test]
fn a_missing_capability_is_named_with_what_it_costs() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let (_folder, binary) = agent::copy_for_all();
    let nginx = Nginx::start(LOCATIONS);
    for (dropped, name) in [("sys_ptrace", "CAP_SYS_PTRACE"), ("dac_read_search", "CAP_DAC_READ_SEARCH")] {
        let rest: Vec<&str> = enough().into_iter().filter(|one| *one != dropped).collect();
        let mut agent = start(&binary, &rest);
        agent.wait_for_tls();
        ask(&nginx);
        agent.wait_for(1, |span| span.kind == Kind::Server && span.path() == "/ok/tls");
        let finished = agent.finish();
        let warned: Vec<_> = finished.stderr.lines().filter(|line| line.contains("is missing: ")).collect();
        assert!(matches!(&warned[..], [one] if one.contains(name)), "{}", finished.stderr);
    }
    // Before there were links CAP_SYS_ADMIN was for probes, on kernels that want it for them; without it the rest is seen.
    let rest: Vec<&str> =
        enough().into_iter().filter(|one| !["sys_admin", "checkpoint_restore"].contains(one)).collect();
    let mut agent = start(&binary, &rest);
    let warns = agent.stderr().contains("CAP_SYS_ADMIN is missing: what goes through TLS cannot be seen");
    if !warns {
        agent.wait_for_tls();
    }
    ask(&nginx);
    agent.wait_for(1, |span| span.kind == Kind::Server && span.path() == "/ok/plain");
    if !warns {
        agent.wait_for(1, |span| span.kind == Kind::Server && span.path() == "/ok/tls");
    }
    let finished = agent.finish();
    let sees_tls = !finished.select(|span| span.kind == Kind::Server && span.path() == "/ok/tls").is_empty();
    assert!(warns != sees_tls, "{}", finished.stderr);
    assert!(finished.stderr.contains("CAP_CHECKPOINT_RESTORE is missing: "), "{}", finished.stderr);
}

#[test]
fn without_the_necessary_ones_it_ends_at_once() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let (_folder, binary) = agent::copy_for_all();
    for (dropped, name) in [("bpf", "CAP_BPF"), ("perfmon", "CAP_PERFMON")] {
        // CAP_SYS_ADMIN would stand in for either.
        let rest: Vec<&str> =
            enough().into_iter().filter(|one| ![dropped, "sys_admin"].contains(one)).collect();
        let mut command = agent::with_capabilities(&binary, &rest, &agent::command(&["run"]));
        let ended = Program::run("spantap", &mut command);
        assert_eq!(ended.code(), Some(1), "{ended:?}");
        assert!(ended.stderr.contains(&format!("programs: {name} missing")), "{}", ended.stderr);
    }
}

#[test]
fn root_gives_up_the_rest_in_every_thread() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let mut agent = Agent::start();
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.program().tgid())).expect("it runs");
    let mut threads = 0;
    let mut seen = BTreeSet::new();
    for task in tasks {
        let status = fs::read_to_string(task.expect("an entry").path().join("status")).expect("it runs");
        let wanted = ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:", "NoNewPrivs:"];
        seen.extend(
            status.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name))).map(str::to_owned),
        );
        threads += 1;
    }
    // CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_PERFMON, CAP_BPF, CAP_CHECKPOINT_RESTORE.
    let mut kept: u64 = [2, 19, 38, 39, 40].iter().fold(0, |set, number| set | 1 << number);
    if !machine::has_probe_links() {
        kept |= 1 << 21; // CAP_SYS_ADMIN
    }
    let expected = [
        "CapAmb:\t0000000000000000".to_owned(),
        format!("CapEff:\t{kept:016x}"),
        "CapInh:\t0000000000000000".to_owned(),
        format!("CapPrm:\t{kept:016x}"),
        "NoNewPrivs:\t1".to_owned(),
    ];
    assert!(threads >= 3, "{threads} threads");
    assert_eq!(seen, BTreeSet::from(expected));
    let _ = agent.finish();
}
