//! What services are called that say nothing of themselves: by what their interpreter executes, and by their systemd unit.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use spantap_tests::{
    agent::Agent,
    client::fetch,
    machine,
    otlp::{Kind, Span},
    program::{Program, folder, free_port, listens},
};

const PYTHON: &str = "import http.server, sys\n\
    http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()\n";
const NODE: &str = "require('http').createServer((_, answer) => answer.end('ok'))\
    .listen(Number(process.argv[2]), '127.0.0.1');\n";

/// A program that serves HTTP at the port that is its last argument.
fn serve(
    program: &str,
    arguments: &[&str],
    work: &Path,
    change: impl FnOnce(&mut Command),
) -> (Program, u16) {
    let port = free_port();
    let mut command = Command::new(program);
    command.args(arguments).arg(port.to_string()).current_dir(work);
    command.env_remove("OTEL_SERVICE_NAME").env_remove("OTEL_RESOURCE_ATTRIBUTES");
    change(&mut command);
    let mut server = Program::start(program, &mut command);
    server.wait_ready("listened", |_| listens(port));
    (server, port)
}

fn ask(port: u16) {
    assert_eq!(fetch(&[&format!("http://127.0.0.1:{port}/")]).0, 200);
}

fn resource<'a>(span: &'a Span, name: &str) -> &'a str {
    span.resource.get(name).map_or("", String::as_str)
}

#[test]
fn what_an_interpreter_executes_is_the_service() {
    let Some(_turn) = machine::ready(&["python3", "node", "curl"]) else { return };
    let files = folder();
    let checkout = files.path().join("checkout");
    fs::create_dir(&checkout).expect("a fresh folder");
    let write = |path: PathBuf, text: &str| fs::write(path, text).expect("a fresh folder");
    write(checkout.join("app.py"), PYTHON);
    write(checkout.join("main.py"), PYTHON);
    write(checkout.join("index.js"), NODE);
    write(checkout.join("package.json"), r#"{"name": "@acme/storefront"}"#);
    let mut servers = Vec::new();
    for (program, script, name, language) in [
        ("python3", "app.py", "app", "python"),
        ("python3", "main.py", "checkout", "python"),
        ("node", "index.js", "storefront", "nodejs"),
    ] {
        // One is older than the agent, one is started under its eyes.
        servers.push((serve(program, &[script], &checkout, |_| ()), name, language));
    }
    let agent = Agent::start();
    servers.push((serve("python3", &["-u", "./app.py"], &checkout, |_| ()), "app", "python"));
    for ((_, port), ..) in &servers {
        ask(*port);
    }
    agent.wait_for(servers.len(), |span| span.kind == Kind::Server);
    let finished = agent.finish();
    for ((_, port), name, language) in &servers {
        let spans = finished.select(|span| span.kind == Kind::Server && span.is_at(*port));
        assert_eq!(spans.len(), 1, "{name}");
        assert_eq!(
            (spans[0].service.as_str(), resource(spans[0], "telemetry.sdk.language")),
            (*name, *language)
        );
        assert!(resource(spans[0], "process.executable.name").starts_with(&language[..4]), "{name}");
    }
}

/// systemd tells its main process's number to all that descend from it. What merely descends keeps its own name.
#[test]
fn the_unit_of_a_main_process_is_the_service() {
    let Some(_turn) = machine::ready(&["python3", "curl"]) else { return };
    let root = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
    let Some(root) = root.into_iter().find(|root| root.join("cgroup.procs").exists()) else {
        println!("skipped: no control groups of version 2 are mounted");
        return;
    };
    let group = root.join("spantap-test.slice/storefront.service");
    if let Err(error) = fs::create_dir_all(&group) {
        println!("skipped: control groups cannot be made: {error}");
        return;
    }
    let files = folder();
    fs::write(files.path().join("app.py"), PYTHON).expect("a fresh folder");
    let inside = |command: &str| format!("echo $$ > {}/cgroup.procs; {command}", group.display());
    let agent = Agent::start();
    let main = inside("SYSTEMD_EXEC_PID=$$ exec python3 app.py \"$0\"");
    let other = inside("SYSTEMD_EXEC_PID=$$ python3 app.py \"$0\"; true");
    let servers = [(main, "storefront"), (other, "app")]
        .map(|(script, name)| (serve("sh", &["-c", &script], files.path(), |_| ()), name));
    for ((_, port), _) in &servers {
        ask(*port);
    }
    agent.wait_for(2, |span| span.kind == Kind::Server);
    let finished = agent.finish();
    let seen = servers.each_ref().map(|((_, port), name)| {
        let spans = finished.select(|span| span.kind == Kind::Server && span.is_at(*port));
        (spans.iter().map(|span| span.service.clone()).collect::<Vec<_>>(), *name)
    });
    for pid in fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines() {
        let pid = pid.parse().expect("the number of a process");
        // SAFETY: a signal to a process that was started here.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
    drop(servers);
    for folder in [group.as_path(), group.parent().expect("the slice")] {
        while fs::remove_dir(folder).is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY)) {
            std::thread::yield_now();
        }
    }
    for (services, name) in seen {
        assert_eq!(services, [name]);
    }
}
