//! Which processes are selected, by all that a rule can name.

use super::*;

fn selection(rules: &str) -> Selection {
    let yaml = format!("file_format: \"1.1\"\ndistribution: {{spantap: {{discovery: {rules}}}}}\n");
    let context = spantap_config::LoadContext { env: &|_| None, protocol_names: &[] };
    let config = spantap_config::parse(yaml.as_bytes(), "test.yaml".as_ref(), &context).unwrap();
    Selection::new(config.spantap.discovery)
}

/// Whether requests to port 80 and 8080, and requests of its own, are wanted of this very process.
fn wanted(rules: &str) -> (bool, bool, bool) {
    let own = Tgid(std::process::id());
    let mut selection = selection(rules);
    let mut wants = |role, port| matches!(selection.wants(own, b"", role, port), Wanted::Yes(_));
    let wanted =
        (wants(Role::Server, Some(80)), wants(Role::Server, Some(8080)), wants(Role::Client, Some(50_000)));
    let ignored = selection.take_changes().any(|change| change == Change::Ignore(own));
    assert!(!ignored || wanted == (false, false, false), "{rules}");
    wanted
}

#[test]
fn rules_include_and_exclude() {
    let (all, none) = ((true, true, true), (false, false, false));
    let own = std::process::id();
    for (rules, expected) in [
        ("{}", all),
        ("{include: [{executable: nothing-like-it}]}", none),
        ("{include: [{executable: nothing-like-it}, {executable: \"*spantap*\"}]}", all),
        ("{exclude: [{executable: nothing-like-it}]}", all),
        ("{include: [{executable: \"*\"}], exclude: [{executable: \"*spantap*\"}]}", none),
        (&format!("{{include: [{{pid: {own}}}]}}"), all),
        (&format!("{{include: [{{pid: {own}, executable: nothing-like-it}}]}}"), none),
        ("{include: [{command_line: \"*/spantap-*\"}]}", all),
        ("{include: [{cgroup: \"/*\"}]}", all),
        ("{include: [{container: \"*\", pid: 1}]}", none),
        ("{include: [{port: 80}]}", (true, false, false)),
        ("{include: [{port: 8000-8100}, {port: 80}]}", (true, true, false)),
        ("{exclude: [{port: 80}]}", (false, true, true)),
        ("{include: [{port: 1-9000}], exclude: [{port: 8080}]}", (true, false, false)),
    ] {
        assert_eq!(wanted(rules), expected, "{rules}");
    }
}

#[test]
fn a_decision_holds_until_the_process_runs_something_else() {
    let mut selection = selection("{exclude: [{executable: curl}]}");
    let gone = Tgid(u32::MAX);
    assert_eq!(selection.wants(gone, b"curl\0", Role::Client, None), Wanted::No);
    assert_eq!(selection.wants(gone, b"wget\0", Role::Client, None), Wanted::No);
    selection.decide(gone, b"wget\0");
    assert_ne!(selection.wants(gone, b"curl\0", Role::Client, None), Wanted::No);
    let changes: Vec<_> = selection.take_changes().collect();
    assert_eq!(changes, [Change::Ignore(gone), Change::Report(gone)], "each told once, in this order");
}

#[test]
fn a_process_can_be_ignored_later() {
    let mut selection = selection("{}");
    let gone = Tgid(u32::MAX);
    assert_eq!(selection.wants(gone, b"shop\0", Role::Server, None), Wanted::Yes(None));
    selection.ignore(gone);
    selection.ignore(gone);
    assert_ne!(selection.wants(gone, b"shop\0", Role::Server, None), Wanted::Yes(None));
    selection.decide(gone, b"shop\0");
    assert_eq!(selection.wants(gone, b"shop\0", Role::Server, None), Wanted::Yes(None));
    let changes: Vec<_> = selection.take_changes().collect();
    assert_eq!(changes, [Change::Ignore(gone), Change::Report(gone)], "each told once");
}

#[test]
fn whoever_gets_the_number_of_an_ignored_process_is_reported() {
    let mut selection = selection("{exclude: [{executable: curl}]}");
    let gone = Tgid(u32::MAX);
    selection.know(gone, Tgid(0), b"curl\0");
    selection.forget(gone);
    selection.know(gone, Tgid(0), b"wget\0");
    selection.forget(gone);
    let changes: Vec<_> = selection.take_changes().collect();
    assert_eq!(changes, [Change::Ignore(gone), Change::Report(gone)]);
}

#[test]
fn containers_fit_by_the_id_in_their_control_group() {
    let id = "4f0c9a1be7d24f86a3dd0b1f53a4ce0b7e7d3f2c9a8b1c0d5e6f708192a3b4c5";
    let facts = Facts {
        pid: 7,
        executable: String::new(),
        is_executable_known: true,
        is_gone: false,
        command_line: String::new(),
        control_groups: vec![
            "/user.slice".to_owned(),
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
        ],
    };
    for (glob, expected) in [(id, true), ("4f0c9a1be7d2*", true), ("*", true), ("5*", false)] {
        let rules = selection(&format!("{{include: [{{container: \"{glob}\"}}]}}")).rules;
        assert_eq!(facts.fit(&rules.include[0].rule), Some(expected), "{glob}");
    }
}

#[test]
fn of_a_process_that_is_gone_only_its_name_and_number_are_known() {
    let gone = u32::MAX;
    for (rules, comm, expected) in [
        ("{exclude: [{executable: curl}]}", "curl", Wanted::No),
        ("{exclude: [{executable: python3}]}", "script.py", Wanted::Undecided),
        ("{exclude: [{executable: /usr/bin/curl}]}", "curl", Wanted::Undecided),
        ("{exclude: [{executable: /usr/bin/curl}, {executable: curl}]}", "curl", Wanted::No),
        ("{exclude: [{executable: curl, command_line: \"*x*\"}]}", "curl", Wanted::Undecided),
        ("{exclude: [{pid: 1, command_line: \"*x*\"}]}", "curl", Wanted::Yes(None)),
        ("{exclude: [{command_line: \"*x*\"}]}", "curl", Wanted::Undecided),
        ("{include: [{command_line: \"*x*\"}]}", "curl", Wanted::Undecided),
        ("{include: [{command_line: \"*x*\"}, {executable: curl}]}", "curl", Wanted::Undecided),
        ("{include: [{executable: curl}, {command_line: \"*x*\"}]}", "curl", Wanted::Yes(Some(0))),
        ("{include: [{cgroup: \"*\"}]}", "curl", Wanted::Undecided),
        ("{include: [{container: \"*\"}, {pid: 1}]}", "curl", Wanted::Undecided),
        ("{include: [{pid: 1}]}", "curl", Wanted::No),
        ("{include: [{executable: a-name-that-is-long}]}", "a-name-that-is-", Wanted::Undecided),
    ] {
        let wanted = selection(rules).wants(Tgid(gone), comm.as_bytes(), Role::Client, None);
        assert_eq!(wanted, expected, "{rules} {comm}");
    }
}

#[test]
fn a_process_that_may_not_be_looked_at_is_judged_by_what_everybody_sees() {
    let facts = Facts {
        pid: 7,
        executable: "java".to_owned(),
        is_executable_known: false,
        is_gone: false,
        command_line: "java -jar shop.jar".to_owned(),
        control_groups: vec!["/shop.slice".to_owned()],
    };
    for (rule, expected) in [
        ("{command_line: \"*shop.jar\"}", Some(true)),
        ("{cgroup: /other.slice}", Some(false)),
        ("{executable: java}", Some(true)),
        ("{executable: /opt/java}", None),
        ("{executable: /opt/java, pid: 8}", Some(false)),
    ] {
        let rules = selection(&format!("{{exclude: [{rule}]}}")).rules;
        assert_eq!(facts.fit(&rules.exclude[0]), expected, "{rule}");
    }
}

#[test]
fn a_forked_child_that_is_gone_is_treated_as_its_parent_is() {
    let own = Tgid(std::process::id());
    let comm = procfs::comm(own).unwrap();
    let rules = "{include: [{command_line: \"*\"}]}";
    for (parent, name, expected) in [
        (own, comm.as_str(), Wanted::Yes(Some(0))),
        (own, "other", Wanted::Undecided),
        (Tgid(0), comm.as_str(), Wanted::Undecided),
    ] {
        let mut selection = selection(rules);
        selection.know(Tgid(u32::MAX), parent, name.as_bytes());
        let wanted = selection.wants(Tgid(u32::MAX), name.as_bytes(), Role::Client, None);
        assert_eq!(wanted, expected, "{parent:?} {name}");
    }
}

#[test]
fn the_first_rule_that_fits_says_what_is_different() {
    let own = std::process::id();
    let mut selection = selection(&format!(
        "{{include: [{{pid: 1, service_name: init}}, {{port: 80, service_name: web}},
          {{pid: {own}, service_name: shop, instrumented: all}}, {{executable: \"*\"}}], exclude: [{{port: 81}}]}}"
    ));
    let mut wants = |role, port| selection.wants(Tgid(own), b"", role, Some(port));
    assert_eq!(wants(Role::Server, 80), Wanted::Yes(Some(1)));
    assert_eq!(wants(Role::Server, 81), Wanted::No);
    assert_eq!(wants(Role::Server, 82), Wanted::Yes(Some(2)));
    assert_eq!(wants(Role::Client, 80), Wanted::Yes(Some(2)));
    let shop = selection.overrides(2).unwrap();
    assert_eq!(shop.service_name.as_deref(), Some("shop"));
    assert_eq!(shop.instrumented, Some(spantap_config::Instrumented::All));
}

#[test]
fn telemetry_backends_are_left_alone_unless_they_are_asked_for() {
    for (rules, expected) in [
        ("{}", Wanted::No),
        ("{include: [{executable: otelcol}]}", Wanted::No),
        ("{telemetry_backends: all}", Wanted::Yes(None)),
    ] {
        let wanted = selection(rules).wants(Tgid(u32::MAX), b"otelcol\0", Role::Client, None);
        assert_eq!(wanted, expected, "{rules}");
    }
}

#[test]
fn only_these_and_no_others() {
    let mut selection = selection("{exclude: [{pid: 7}]}");
    selection.only([Tgid(7)].into());
    assert_eq!(selection.wants(Tgid(7), b"", Role::Server, None), Wanted::Yes(None));
    assert_ne!(selection.wants(Tgid(8), b"", Role::Server, None), Wanted::Yes(None));
}
