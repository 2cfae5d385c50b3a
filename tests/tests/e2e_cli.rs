//! The command line: what it says, when it gives up, and that it leaves nothing behind.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use spantap_tests::{
    agent::{self, Accounts, Agent, NOBODY},
    client::{curl, fetch},
    config::ConfigFile,
    machine,
    otlp::{self, Kind},
    program::{Program, folder, free_port, wait_until},
    python,
};

#[test]
fn wrong_usage_is_exit_code_2() {
    let Some(_turn) = machine::ready(&[]) else { return };
    for arguments in
        [&["--formt", "pretty"][..], &["--format", "prety"], &["--duration", "soon"], &["replay"], &["bogus"]]
    {
        let ended = agent::run(arguments);
        assert_eq!(ended.code(), Some(2), "{arguments:?}: {ended:?}");
        assert!(ended.stderr.starts_with("error: ") && ended.stdout.is_empty(), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn without_root_it_says_what_to_do() {
    let Some(_turn) = machine::ready(&[]) else { return };
    let (_folder, binary) = agent::copy_for_all();
    for arguments in [&[][..], &["run"], &["run", "--format", "otlp-json"]] {
        let mut command = std::process::Command::new(&binary);
        let ended = Program::run("spantap", command.args(arguments).uid(NOBODY).gid(NOBODY).current_dir("/"));
        assert_eq!(ended.code(), Some(1), "{ended:?}");
        let lines: Vec<&str> = ended.stderr.lines().collect();
        let [what, hint] = lines[..] else { panic!("{ended:?}") };
        assert!(what.starts_with("error: ") && what.contains("permission"), "{what}");
        assert!(hint.contains("sudo spantap"), "{hint}");
        assert!(ended.stdout.is_empty());
    }
}

#[test]
fn without_root_the_demo_is_a_recording() {
    let Some(_turn) = machine::ready(&[]) else { return };
    let (_folder, binary) = agent::copy_for_all();
    let mut command = std::process::Command::new(&binary);
    let ended = Program::run("spantap", command.arg("demo").uid(NOBODY).gid(NOBODY).current_dir("/"));
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    assert!(ended.stdout.contains("This host cannot be watched: no permission"), "{}", ended.stdout);
    assert!(ended.stdout.contains("RECORDING"), "{}", ended.stdout);
    assert!(ended.stdout.contains("← GET /products/{id}"), "{}", ended.stdout);
    assert!(ended.stderr.is_empty(), "{}", ended.stderr);
}

#[test]
fn a_typo_in_the_configuration_is_shown_with_its_place() {
    let Some(_turn) = machine::ready(&[]) else { return };
    let file = ConfigFile::new(
        "file_format: \"1.1\"\ndistribution:\n  spantap:\n    captur:\n      connections: 64\n",
    );
    for arguments in [&["config", "check", file.name()], &["run", "--config", file.name()]] {
        let ended = agent::run(arguments);
        assert_eq!(ended.code(), Some(1), "{ended:?}");
        let place = format!("{}:4:5: ", file.name());
        assert!(ended.stderr.contains(&place), "{}", ended.stderr);
        assert!(ended.stderr.contains("captur") && ended.stderr.contains("`capture`"), "{}", ended.stderr);
    }
    let good = ConfigFile::new(
        "file_format: \"1.1\"\ndistribution:\n  spantap:\n    capture:\n      connections: 64\n",
    );
    let ended = agent::run(&["config", "check", good.name()]);
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    assert!(ended.stdout.contains("no problems"), "{ended:?}");
    let missing = agent::run(&["config", "check", "/does/not/exist.yaml"]);
    assert_eq!(missing.code(), Some(1));
    // Every command says it in the same words, of every kind of file.
    let said = missing.stderr.clone();
    assert!(said.contains("/does/not/exist.yaml: cannot read the file: No such file"), "{said}");
    for arguments in [&["run", "--config", "/does/not/exist.yaml"][..], &["replay", "/does/not/exist.yaml"]] {
        assert_eq!(agent::run(arguments).stderr, said, "{arguments:?}");
    }
}

#[test]
fn a_configured_file_takes_spans_and_metrics() {
    let Some(_turn) = machine::ready(&["python3", "curl"]) else { return };
    let files = folder();
    let server = python::http_server(files.path());
    let lines = files.path().join("spans.jsonl");
    let exporter =
        format!("exporter: {{otlp_file/development: {{output_stream: \"file://{}\"}}}}", lines.display());
    let config = ConfigFile::new(&format!(
        "file_format: \"1.1\"\ntracer_provider:\n  processors:\n    - batch: {{{exporter}}}\n\
         meter_provider:\n  readers:\n    - periodic: {{{exporter}}}\n\
         distribution:\n  spantap:\n    resource:\n      attributes: [{{name: deployment.environment.name, value: test}}]\n\
         \x20   discovery: {{exclude: [{{executable: curl}}]}}\n"
    ));
    let mut program = Program::start("spantap", &mut agent::command(&["run", "--config", config.name()]));
    program.wait_ready("watched", |program| program.stderr().contains("watching every process"));
    assert_eq!(fetch(&[&format!("http://127.0.0.1:{}/", server.port)]).0, 200);
    program.signal(libc::SIGTERM);
    assert!(program.wait(Duration::from_secs(10)).success(), "{}", program.stderr());
    assert!(program.stdout().is_empty(), "{}", program.stdout());
    let text = fs::read_to_string(&lines).expect("the agent has made it");
    let spans: Vec<_> = otlp::spans(&text).into_iter().filter(|span| span.is_at(server.port)).collect();
    let [span] = &spans[..] else { panic!("the server's span, and none of curl: {spans:?}") };
    assert_eq!((span.kind, span.status()), (Kind::Server, 200));
    assert_eq!(span.resource.get("deployment.environment.name").map(String::as_str), Some("test"));
    assert!(otlp::points(&text).iter().any(|point| point.metric == "http.server.request.duration"));
}

#[test]
fn a_damaged_capture_file_is_shown_as_far_as_it_goes() {
    let Some(_turn) = machine::ready(&[]) else { return };
    let folder = folder();
    let whole = fs::read(recording()).expect("the demo's recording is there");
    let file = folder.path().join("capture.pcap");
    let replay = |bytes: &[u8]| {
        fs::write(&file, bytes).expect("a fresh folder");
        agent::run(&["replay", file.to_str().expect("our own name")])
    };
    let good = replay(&whole);
    assert_eq!(good.code(), Some(0), "{good:?}");
    let lines =
        |text: &str| text.lines().filter(|line| line.contains(" ← ") && line.contains("ms  127.")).count();
    let all = lines(&good.stdout);
    assert!(all > 20, "{}", good.stdout);
    assert!(!good.stdout.contains('\u{1b}'), "no colours in a pipe");

    let cut = replay(&whole[..whole.len() / 2]);
    assert_eq!(cut.code(), Some(1), "{cut:?}");
    assert!(lines(&cut.stdout) > 5 && lines(&cut.stdout) < all, "{}", cut.stdout);
    assert!(cut.stderr.starts_with("error: ") && cut.stderr.contains("capture.pcap"), "{}", cut.stderr);

    // The length of a record in the middle becomes an absurd one.
    let mut corrupt = whole.clone();
    let at = nth_record(&whole, 100);
    corrupt[at + 8..at + 16].fill(0xff);
    let corrupt = replay(&corrupt);
    assert_eq!(corrupt.code(), Some(1), "{corrupt:?}");
    assert!(lines(&corrupt.stdout) > 5 && lines(&corrupt.stdout) < all, "{}", corrupt.stdout);

    for nothing in [&b""[..], b"this is no capture file, but long enough to be one"] {
        let ended = replay(nothing);
        assert_eq!(ended.code(), Some(1), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
}

#[test]
fn the_demo_shows_its_first_span_within_two_seconds() {
    let Some(_turn) = machine::ready(&[]) else { return };
    let mut command = agent::command(&["demo", "--duration", "4s"]);
    let began = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let output = BufReader::new(child.stdout.take().expect("it is piped"));
    let (mut first, mut text) = (None, String::new());
    for line in output.lines() {
        let line = line.expect("UTF-8");
        if first.is_none() && line.contains(" shop ") {
            first = Some(began.elapsed());
        }
        text.push_str(&line);
        text.push('\n');
    }
    let ended = child.wait_with_output().expect("our own child");
    assert!(ended.status.success(), "{}\n{text}", String::from_utf8_lossy(&ended.stderr));
    let first = first.unwrap_or_else(|| panic!("no span:\n{text}"));
    println!("the first span came after {first:.2?}, the end after {:.2?}", began.elapsed());
    assert!(first < Duration::from_secs(2), "the first span came after {first:?}");
    for part in
        ["shop ", "shopper ", "← GET /report", "→ GET shop.example", " 500 ", "CALLS", "P95", "0 events lost"]
    {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    assert!(!text.contains("spantap  "), "it does not watch itself:\n{text}");
    assert!(!text.contains('\u{1b}'), "no colours in a pipe");
}

#[test]
fn signals_end_it_in_an_orderly_way() {
    let Some(_turn) = machine::ready(&["python3", "curl"]) else { return };
    let files = folder();
    let server = python::http_server(files.path());
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let mut agent = Agent::start();
        let url = format!("http://127.0.0.1:{}/last?{signal}", server.port);
        assert_eq!(fetch(&[&url]).0, 404);
        // What has just happened is flushed.
        agent.program().signal(signal);
        let status = agent.program().wait(Duration::from_secs(10));
        assert_eq!(status.code(), Some(0), "signal {signal}");
        let said = agent.stderr();
        assert!(said.contains("spans go to standard output (otlp-json); metrics go to"), "{said}");
        assert!(said.contains("stopping, detaching probes..."), "{said}");
        let libraries: Vec<_> = said.lines().filter(|line| line.contains("watching TLS")).collect();
        assert!(libraries.iter().all(|line| line.contains("pid=")), "{said}");
        let query = signal.to_string();
        let spans = agent.spans();
        let found = spans.iter().find(|span| span.kind == Kind::Server && span.get("url.query") == query);
        assert!(found.is_some(), "the last span of {signal} is missing");
    }
}

#[test]
fn a_killed_agent_leaves_nothing_attached() {
    let Some(_turn) = machine::ready(&["python3", "curl"]) else { return };
    let before = programs();
    let mut agent = Agent::start();
    let during = programs();
    agent.program().signal(libc::SIGKILL);
    agent.program().wait(Duration::from_secs(10));
    if let (Some(before), Some(during)) = (before, during) {
        assert!(during > before, "{before} programs before, {during} with the agent");
        spantap_tests::program::wait_until("the kernel's farewell", Duration::from_secs(10), || {
            programs().is_some_and(|after| after <= before)
        });
    }
    // And the next one finds everything as it was.
    let files = folder();
    let server = python::http_server(files.path());
    let agent = Agent::start();
    assert_eq!(fetch(&[&format!("http://127.0.0.1:{}/", server.port)]).0, 200);
    agent.wait_for(2, |span| span.is_at(server.port));
    let finished = agent.finish();
    assert_eq!(finished.select(|span| span.is_at(server.port)).len(), 2, "one of each side, none twice");
}

#[test]
fn nobody_waits_for_a_reader_who_does_not_read() {
    let Some(_turn) = machine::ready(&["python3", "curl"]) else { return };
    let files = folder();
    let server = python::http_server(files.path());
    let config =
        ConfigFile::new("file_format: \"1.1\"\ndistribution:\n  spantap:\n    shutdown_timeout: 300ms\n");
    let mut command = agent::command(&["run", "--format", "pretty", "--config", config.name(), "--accounts"]);
    let stderr = files.path().join("stderr");
    let said = || fs::read_to_string(&stderr).expect("it is there");
    let stderr_file = fs::File::create(&stderr).expect("a fresh folder");
    let mut child = command.stdout(Stdio::piped()).stderr(stderr_file).spawn().expect("it starts");
    wait_until("the agent", Duration::from_secs(20), || said().contains("watching every process"));
    // More lines than a pipe holds.
    let url = format!("http://127.0.0.1:{}/[1-1000]", server.port);
    let _ = curl(&["--output", "/dev/null", &url]).success("curl");
    // It still sees everything, and ends when it is told to.
    let pid = libc::pid_t::try_from(child.id()).expect("a pid");
    // SAFETY: a signal to our own child, which is not reaped yet.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    wait_until("its end", Duration::from_secs(20), || child.try_wait().expect("our own child").is_some());
    let (said, accounts) = (said(), Accounts::parse(&said()));
    assert!(accounts.seen["spans"] >= 2_000, "{accounts:?}");
    assert!(accounts.left_out["records dropped by standard output: unwritten at end"] > 0, "{accounts:?}");
    assert!(said.contains("records were not written to standard output: "), "{said}");
    accounts.assert_nothing_lost();
}

#[test]
fn what_a_dead_backend_has_missed_is_said_at_the_end() {
    let Some(_turn) = machine::ready(&[]) else { return };
    let (folder, port) = (folder(), free_port());
    let exporter = format!("exporter: {{otlp_http: {{endpoint: \"http://127.0.0.1:{port}/v1/traces\"}}}}");
    let config = ConfigFile::new(&format!(
        "file_format: \"1.1\"\ntracer_provider:\n  processors:\n    - batch: {{{exporter}}}\n\
         distribution:\n  spantap:\n    shutdown_timeout: 300ms\n"
    ));
    // The capture ends while requests are under way, and their connections are open.
    let whole = fs::read(recording()).expect("the demo's recording is there");
    let file = folder.path().join("capture.pcap");
    fs::write(&file, &whole[..nth_record(&whole, 100)]).expect("a fresh folder");
    let file = file.to_str().expect("our own name");
    let ended = agent::run(&["replay", file, "--config", config.name(), "--format", "none", "--accounts"]);
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    let accounts = Accounts::parse(&ended.stderr);
    let spans = accounts.seen["spans"];
    let closing =
        format!("{spans} of {spans} spans were not delivered to http://127.0.0.1:{port}/v1/traces: ");
    let lines: Vec<_> = ended.stderr.lines().filter(|line| line.contains(&closing)).collect();
    assert_eq!(lines.len(), 1, "{}", ended.stderr);
    assert!(lines[0].contains(" WARN "), "{}", lines[0]);
    assert!(accounts.left_out["exchanges open at end"] > 0, "{accounts:?}");
}

/// How many of the agent's programs the kernel holds; `None` if it does not tell.
fn programs() -> Option<usize> {
    let mut command = std::process::Command::new(machine::find_program("bpftool")?);
    let listed = Program::run("bpftool", command.args(["prog", "list"]));
    listed.status.success().then(|| {
        listed
            .stdout
            .lines()
            .filter(|line| line.contains("name ssl_io_enter") || line.contains("name tcp_destroy_sock"))
            .count()
    })
}

fn recording() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../collector/src/demo/recording.pcap")
}

/// Where the header of a record of a pcap file begins.
fn nth_record(pcap: &[u8], n: usize) -> usize {
    const FILE_HEADER: usize = 24;
    let mut at = FILE_HEADER;
    for _ in 0..n {
        let length: [u8; 4] = pcap[at + 8..at + 12].try_into().expect("four bytes");
        at += 16 + u32::from_le_bytes(length) as usize;
    }
    at
}
