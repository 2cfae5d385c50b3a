//! `spantap check`: what it says of this machine, with and without what it needs, and that it leaves nothing behind.

use std::process::Command;

use serde_json::Value;
use spantap_tests::{
    agent::{self, NOBODY},
    machine,
    program::{Ended, Program},
};

/// The status and the words of a finding.
fn finding<'a>(check: &'a Value, section: &str, name: &str) -> (&'a str, &'a str) {
    let all = check["findings"].as_array().expect("an array");
    let found = all.iter().find(|one| one["section"] == section && one["name"] == name);
    let found = found.unwrap_or_else(|| panic!("no {section}/{name} in {check:#}"));
    (found["status"].as_str().expect("text"), found["found"].as_str().expect("text"))
}

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

/// Runs `spantap check` behind another program, such as setpriv(1).
fn check_behind(program: &str, arguments: &[&str]) -> Ended {
    let (_folder, binary) = agent::copy_for_all();
    let mut command = Command::new(program);
    command.args(arguments).arg(&binary).args(["check", "--json"]);
    Program::run("check", &mut command)
}

#[test]
fn root_sees_everything_and_nothing_is_left() {
    let Some(_turn) = machine::ready(&[]) else { return };
    let ended = agent::run(&["check", "--json"]);
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    let check = json(&ended);
    assert_eq!(check["full_capture"], true);
    let backend = check["backend"].as_str().expect("one is chosen");
    assert!(finding(&check, "backends", backend).1.contains("chosen"));
    for program in ["tcp_destroy_sock", "sched_process_exec", "ssl_io_enter", "sys_exit_typed"] {
        assert_eq!(finding(&check, "programs", program).0, "works");
    }
    // The kernel refuses what takes its verifier more than a million steps, and older ones need more of them. It says
    // how many since 5.16.
    let found = finding(&check, "programs", "sys_exit_typed").1;
    if let Some((_, rest)) = found.split_once('(') {
        let verified: u32 = rest.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
        assert!((1_000..250_000).contains(&verified), "{verified}");
    }
    let (status, found) = finding(&check, "tls", "uprobes");
    let way = if machine::has_probe_links() { "uprobe_multi links" } else { "perf events" };
    assert!(status == "works" && found.contains(way), "{found}");
    assert!(finding(&check, "memory", "maps").1.contains("MiB"));

    let ended = agent::run(&["check"]);
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    assert!(ended.stdout.contains("full capture works here"), "{}", ended.stdout);
    assert!(!ended.stdout.contains('\u{1b}'), "no colours in a pipe");
    assert!(ended.stderr.is_empty(), "{}", ended.stderr);
}

#[test]
fn without_rights_it_gives_reasons() {
    let Some(_turn) = machine::ready(&["setpriv", "unshare"]) else { return };
    let nobody = NOBODY.to_string();
    let user = ["--reuid", &nobody, "--regid", &nobody, "--clear-groups"];
    let ended = check_behind("setpriv", &user);
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    let check = json(&ended);
    assert_eq!((check["full_capture"].as_bool(), check["backend"].as_str()), (Some(false), None));
    for (name, status) in [
        ("CAP_BPF", "fails"),
        ("CAP_PERFMON", "fails"),
        ("CAP_SYS_PTRACE", "part_missing"),
        ("CAP_SYSLOG", "note"),
    ] {
        let (is, found) = finding(&check, "capabilities", name);
        assert!(is == status && found.contains("missing"), "{name}: {is}, {found}");
    }
    assert!(finding(&check, "backends", "syscalls").1.contains("CAP_BPF"));
    assert_eq!(finding(&check, "tls", "uprobes").0, "fails");

    // Root of a user namespace has every capability, and none that counts.
    let ended = check_behind("unshare", &["--user", "--map-root-user"]);
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    let check = json(&ended);
    assert_eq!(finding(&check, "capabilities", "user namespace").0, "fails");
    assert!(finding(&check, "backends", "syscalls").1.contains("user namespace"));
}

#[test]
fn one_capability_less_is_one_finding_more() {
    let Some(_turn) = machine::ready(&["setpriv"]) else { return };
    for (dropped, name) in [("sys_ptrace", "CAP_SYS_PTRACE"), ("dac_read_search", "CAP_DAC_READ_SEARCH")] {
        let list = format!("-{dropped}");
        let ended = check_behind("setpriv", &["--bounding-set", &list, "--inh-caps", &list]);
        assert_eq!(ended.code(), Some(1), "{ended:?}");
        let check = json(&ended);
        assert!(check["backend"].is_string(), "it runs all the same");
        let all = check["findings"].as_array().expect("an array");
        let bad: Vec<_> = all
            .iter()
            .filter(|one| ["part_missing", "fails"].contains(&one["status"].as_str().expect("text")))
            .map(|one| one["name"].as_str().expect("text"))
            .collect();
        assert_eq!(bad, [name]);
    }
}

#[test]
fn without_types_it_says_so() {
    let Some(_turn) = machine::ready(&["unshare", "mount"]) else { return };
    // An empty folder lies over the kernel's, in a mount namespace that ends with the check.
    let hide = "mount -t tmpfs none /sys/kernel/btf && exec \"$0\" \"$@\"";
    let ended = check_behind("unshare", &["--mount", "sh", "-c", hide]);
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    let check = json(&ended);
    assert_eq!(finding(&check, "machine", "types (BTF)").0, "fails");
    assert!(finding(&check, "backends", "sockets").1.contains("/sys/kernel/btf/vmlinux"));
}

#[test]
fn a_process_namespace_of_its_own_is_told() {
    let Some(_turn) = machine::ready(&["unshare"]) else { return };
    let ended = check_behind("unshare", &["--pid", "--fork", "--mount-proc"]);
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    let check = json(&ended);
    assert_eq!(finding(&check, "machine", "process numbers").0, "part_missing");
    assert!(check["backend"].is_string());
}
