//! Processes that have just begun: are they watched in time, and is nothing told of those that are not to be?

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use spantap_tests::{
    agent::{Agent, Finished},
    config::ConfigFile,
    machine,
    nginx::Nginx,
    otlp::{Kind, Span},
    program::{Program, folder, wait_until},
};
use tempfile::TempDir;

const LOCATIONS: &str = "location /ok/ { return 200 'hello\\n'; }";
const PROGRAMS: &[&str] = &["nginx", "curl", "openssl"];
const RUNS: usize = 40;

/// A copy of a file that nobody has used: another inode. It goes with the folder.
fn fresh(file: &Path, name: &str) -> (TempDir, PathBuf) {
    let folder = folder();
    let copy = folder.path().join(name);
    fs::copy(file, &copy).expect("a fresh folder");
    (folder, copy)
}

/// The OpenSSL that curl maps.
fn libssl() -> PathBuf {
    let curl = machine::find_program("curl").expect("machine::ready has found it");
    let listed = Program::run("ldd", Command::new("ldd").arg(curl)).success("ldd");
    let line =
        listed.stdout.lines().find(|line| line.contains("libssl.so")).expect("curl is built with OpenSSL");
    PathBuf::from(line.split_whitespace().nth(2).expect("`libssl.so.3 => /path (address)`"))
}

/// A command that runs a curl, quietly.
fn curl(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    command.args(["--disable", "--silent", "--show-error", "--insecure", "--output", "/dev/null"]);
    command
}

fn of_clients(finished: &Finished, service: &str, nginx: &Nginx) -> Vec<Span> {
    let ports = [nginx.port, nginx.tls_port];
    let at_nginx = |span: &Span| ports.iter().any(|port| span.is_at(*port));
    finished.select(|span| span.is(service, Kind::Client) && at_nginx(span)).into_iter().cloned().collect()
}

fn left_out(finished: &Finished, reason: &str) -> usize {
    finished.accounts.left_out.get(reason).map_or(0, |count| usize::try_from(*count).expect("few"))
}

/// The library is mapped when the process begins, and used when the agent has said that it watches it: however long that
/// takes, nothing of the process is missed then.
#[test]
fn a_library_that_nobody_has_used_is_watched_while_its_first_process_runs() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let nginx = Nginx::start(LOCATIONS);
    let mut agent = Agent::start();
    agent.wait_for_tls();
    let mut folders = Vec::new();
    for n in 0..8 {
        let (folder, library) = fresh(&libssl(), "libssl.so.3");
        let mut command = curl(Path::new("curl"));
        // It reads its options from us, so that it begins without a request.
        command.args(["--config", "-"]).env("LD_LIBRARY_PATH", folder.path()).stdin(Stdio::piped());
        let mut client = command.spawn().expect("curl starts");
        let watched = format!("library=\"{}\"", library.display());
        wait_until("a watched library", machine::patience(), || agent.stderr().contains(&watched));
        let mut options = client.stdin.take().expect("a pipe");
        writeln!(options, "url = \"{}\"", nginx.tls_url(&format!("/ok/{n}"))).expect("curl reads");
        drop(options);
        assert!(client.wait().expect("our own child").success());
        folders.push(folder);
    }
    agent.wait_for(8, |span| span.is("curl", Kind::Client) && span.is_at(nginx.tls_port));
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    let mut paths: Vec<String> =
        of_clients(&finished, "curl", &nginx).iter().map(|span| span.path().to_owned()).collect();
    paths.sort();
    assert_eq!(paths, (0..8).map(|n| format!("/ok/{n}")).collect::<Vec<_>>());
    for line in finished.stderr.lines().filter(|line| line.contains("libssl.so.3\"") && line.contains("e2e-"))
    {
        println!("{}", line.rsplit("spantap-e2e-").next().unwrap_or(line));
    }
}

/// Nobody waits for the agent: each process asks at once and ends, some 15 ms after it has begun. Whether it is in time
/// depends on the machine; that each library is found or counted, and nothing wrong is told, does not.
#[test]
fn each_of_many_libraries_with_one_short_lived_process_is_found_or_counted() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let nginx = Nginx::start(LOCATIONS);
    let mut agent = Agent::start();
    agent.wait_for_tls();
    let library = libssl();
    let mut folders = Vec::new();
    for n in 0..RUNS {
        let (folder, _) = fresh(&library, "libssl.so.3");
        let mut command = curl(Path::new("curl"));
        command.env("LD_LIBRARY_PATH", folder.path()).arg(nginx.tls_url(&format!("/ok/{n:02}")));
        let _ = Program::run("curl", &mut command).success("curl");
        folders.push(folder);
    }
    let prefix = "library=\"/tmp/spantap-e2e-";
    let watched = |stderr: &str| stderr.lines().filter(|line| line.contains(prefix)).count();
    agent.wait_for(RUNS, |span| span.is("nginx", Kind::Server) && span.is_at(nginx.tls_port));
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    let gone = left_out(&finished, "TLS libraries gone before they could be watched");
    let spans = of_clients(&finished, "curl", &nginx);
    let unread = left_out(&finished, "processes gone before their libraries could be read");
    println!(
        "{} of {RUNS} requests seen, {gone} libraries and {unread} processes gone too soon",
        spans.len()
    );
    // Other processes of the machine may have been gone, too.
    let known = watched(&finished.stderr) + gone;
    assert!(known <= RUNS && known + unread >= RUNS, "{:?}\n{}", finished.accounts, finished.stderr);
    assert!(spans.len() <= watched(&finished.stderr), "{spans:?}");
    let mut paths: Vec<&str> = spans.iter().map(Span::path).collect();
    paths.sort_unstable();
    paths.dedup();
    assert_eq!(paths.len(), spans.len(), "none is told twice");
    for span in &spans {
        assert!(span.status() == 200 && span.get("url.full").starts_with("https://"), "{span}");
    }
}

/// Runs a copy of curl `RUNS` times, which asks for one thing and ends, under rules that name `%PATH%`.
fn short_lived(rules: &str) -> (Finished, Vec<Span>) {
    let (_folder, client) = fresh(&machine::find_program("curl").expect("it is there"), "asker");
    let rules = rules.replace("%PATH%", &client.display().to_string());
    let config = ConfigFile::new(&format!(
        "file_format: \"1.1\"\ndistribution: {{spantap: {{discovery: {rules}}}}}\n"
    ));
    let nginx = Nginx::start(LOCATIONS);
    let agent = Agent::start_with(|command| {
        command.args(["--config", config.name()]);
    });
    for n in 0..RUNS {
        let mut command = curl(&client);
        let _ = Program::run("asker", command.arg(nginx.url(&format!("/ok/{n:02}")))).success("curl");
    }
    // The last event of all is that of a process which all rules leave in.
    let _ = Program::run("curl", curl(Path::new("curl")).arg(nginx.url("/ok/last"))).success("curl");
    agent.wait_for(1, |span| span.is("nginx", Kind::Server) && span.path() == "/ok/last");
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    let spans = of_clients(&finished, "asker", &nginx);
    (finished, spans)
}

const UNDECIDED: &str = "exchanges of processes that the rules could not be applied to";

#[test]
fn a_process_that_is_excluded_is_never_told_however_short_it_lives() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    for rules in ["{exclude: [{executable: %PATH%}]}", "{exclude: [{executable: asker}]}"] {
        let (_, spans) = short_lived(rules);
        assert!(spans.is_empty(), "{rules}: {spans:?}");
    }
}

#[test]
fn a_process_that_is_included_is_told_from_its_first_byte_on() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    // By its name nothing needs to be read of the process itself; by its path it must still be there.
    for (rules, undecided) in [
        ("{include: [{executable: asker}, {executable: nginx}]}", 0..=0),
        ("{include: [{executable: %PATH%}, {executable: nginx}]}", 0..=RUNS),
    ] {
        let (finished, spans) = short_lived(rules);
        let unknown = left_out(&finished, UNDECIDED);
        println!("{rules}: {} seen, {unknown} undecided", spans.len());
        assert!(undecided.contains(&unknown), "{rules}: {:?}", finished.accounts);
        assert_eq!(spans.len() + unknown, RUNS, "{rules}: {:?}", finished.accounts);
    }
}
