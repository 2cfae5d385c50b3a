//! TLS libraries wherever they are: of another family, bundled, linked in, in another root, deleted, or there for
//! milliseconds only.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use spantap_tests::{
    agent::{Agent, Finished},
    client::fetch,
    config::ConfigFile,
    machine,
    nginx::{self, Nginx},
    otlp::Kind,
    program::{Program, folder, free_port, listens, wait_until},
    python,
};

const LOCATIONS: &str = "client_max_body_size 100m;\nlocation /ok/ { return 200 'hello\\n'; }";

const PATIENCE: Duration = Duration::from_secs(20);

/// Asserts that a client's spans are the requests that nginx has logged, each with the right peer.
fn assert_requests(finished: &Finished, client: &str, nginx: &Nginx, paths: &[&str]) {
    let port = nginx.tls_port.to_string();
    for (service, kind) in [(client, Kind::Client), ("nginx", Kind::Server)] {
        let spans = finished.select(|span| span.is(service, kind) && paths.contains(&span.path()));
        let mut seen: Vec<&str> = spans.iter().map(|span| span.path()).collect();
        let mut expected = paths.to_vec();
        seen.sort_unstable();
        expected.sort_unstable();
        assert_eq!(seen, expected, "{service}");
        for span in spans {
            assert_eq!(span.status(), 200, "{span}");
            let peer = span.get("network.peer.port");
            let logged = nginx
                .log()
                .iter()
                .any(|line| line.uri == span.path() && line.client_port.to_string() == peer);
            assert!(if kind == Kind::Client { peer == port } else { logged }, "{span}");
            match kind {
                Kind::Client => assert!(span.get("url.full").starts_with("https://"), "{span}"),
                _ => assert_eq!(span.get("url.scheme"), "https", "{span}"),
            }
        }
    }
}

/// An agent that watches the libraries of the host.
fn agent() -> Agent {
    let mut agent = Agent::start();
    agent.wait_for_tls();
    agent
}

fn wait_watched(agent: &Agent, what: &str) {
    wait_until(&format!("{what} is watched"), PATIENCE, || {
        agent.stderr().lines().any(|line| line.contains("watching TLS") && line.contains(what))
    });
}

/// Runs a client that asks for `/ok/first` until the agent has seen it do so. Its first process shows the library, and
/// on a busy machine may be gone before its maps are read.
fn until_seen(agent: &Agent, service: &str, mut run: impl FnMut()) {
    let deadline = Instant::now() + PATIENCE;
    let seen =
        || agent.spans().iter().any(|span| span.is(service, Kind::Client) && span.path() == "/ok/first");
    for runs in 1.. {
        run();
        let next = Instant::now() + Duration::from_millis(300);
        while Instant::now() < next {
            if seen() {
                println!("{service} was seen by run {runs}");
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        assert!(Instant::now() < deadline, "{service} is not seen after {runs} runs");
    }
}

/// wget reads and writes by GnuTLS, and each is a new process.
#[test]
fn clients_on_gnutls_are_seen() {
    let Some(_turn) = machine::ready(&["nginx", "wget", "openssl"]) else { return };
    let nginx = Nginx::start(LOCATIONS);
    let agent = agent();
    let paths = ["/ok/w1", "/ok/w2", "/ok/w3"];
    for path in paths {
        let mut wget = Command::new("wget");
        wget.args(["--quiet", "--no-check-certificate", "--output-document", "/dev/null", "--no-hsts"]);
        let _ = Program::run("wget", wget.arg(nginx.tls_url(path))).success("wget");
    }
    agent.wait_for(3, |span| span.is("wget", Kind::Client));
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    assert_requests(&finished, "wget", &nginx, &paths);
}

/// gnutls-serv answers every request with a page about the session.
#[test]
fn servers_on_gnutls_are_seen() {
    let Some(_turn) = machine::ready(&["gnutls-serv", "curl", "openssl"]) else { return };
    let files = folder();
    nginx::certificate(files.path());
    let agent = agent();
    let port = free_port();
    let mut command = Command::new("gnutls-serv");
    command.args(["--http", "--disable-client-cert", "--quiet", "--port", &port.to_string()]);
    command.args(["--x509keyfile", "key.pem", "--x509certfile", "cert.pem"]).current_dir(files.path());
    let mut server = Program::start("gnutls-serv", &mut command);
    server.wait_ready("listened", |_| listens(port));
    for n in 0..3 {
        assert_eq!(fetch(&[&format!("https://127.0.0.1:{port}/g{n}")]).0, 200);
    }
    agent.wait_for(3, |span| span.is("gnutls-serv", Kind::Server));
    let finished = agent.finish();
    let spans = finished.select(|span| span.is("gnutls-serv", Kind::Server));
    let mut paths: Vec<&str> = spans.iter().map(|span| span.path()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/g0", "/g1", "/g2"]);
    for span in spans {
        assert_eq!((span.status(), span.get("network.peer.address")), (200, "127.0.0.1"), "{span}");
        assert!(span.is_at(port), "{span}");
    }
}

/// A wheel that brings an OpenSSL of its own, under another name, newer than the host's.
#[test]
fn the_library_of_a_wheel_is_found() {
    let Some(_turn) = machine::ready(&["nginx", "python3", "openssl"]) else { return };
    let target = machine::agent_binary().and_then(|binary| Some(binary.parent()?.parent()?.to_owned()));
    let venv = match python::install(&target.expect("a target folder"), "pycurl==7.49.0") {
        Ok(venv) => venv,
        Err(skip) => return machine::skipped(&skip),
    };
    let nginx = Nginx::start(LOCATIONS);
    let agent = agent();
    let run = |paths: &[&str]| {
        let mut command = Command::new(venv.join("bin/python"));
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/pycurl_client.py"));
        command.args(paths.iter().map(|path| nginx.tls_url(path))).env("OTEL_SERVICE_NAME", "pycurl");
        let ended = Program::run("pycurl", &mut command).success("pycurl");
        assert_eq!(ended.stdout.lines().filter(|line| *line == "200").count(), paths.len());
    };
    until_seen(&agent, "pycurl", || run(&["/ok/first"]));
    assert!(agent.stderr().contains("/libssl-"), "the wheel's own library is watched");
    run(&["/ok/p1", "/ok/p2", "/ok/p3"]);
    agent.wait_for(3, |span| span.is("pycurl", Kind::Client) && span.path() != "/ok/first");
    let finished = agent.finish();
    assert_requests(&finished, "pycurl", &nginx, &["/ok/p1", "/ok/p2", "/ok/p3"]);
}

/// The HTTP libraries that most Python programs use, which use OpenSSL in two ways.
#[test]
fn every_request_of_pythons_http_libraries_is_seen() {
    let Some(_turn) = machine::ready(&["nginx", "python3", "openssl"]) else { return };
    let target = machine::agent_binary().and_then(|binary| Some(binary.parent()?.parent()?.to_owned()));
    let packages = "requests==2.34.2 httpx==0.28.1 aiohttp==3.14.5";
    let venv = match python::install(&target.expect("a target folder"), packages) {
        Ok(venv) => venv,
        Err(skip) => return machine::skipped(&skip),
    };
    let nginx = Nginx::start(LOCATIONS);
    let agent = agent();
    let mut command = Command::new(venv.join("bin/python"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/http_clients.py"));
    command.arg(nginx.tls_url("")).env("OTEL_SERVICE_NAME", "http-clients");
    let _ = Program::run("http-clients", &mut command).success("http-clients");
    agent.wait_for(75, |span| span.is("http-clients", Kind::Client));
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    let log = nginx.log();
    let paths: Vec<&str> = log.iter().map(|line| line.uri.as_str()).collect();
    assert_eq!(paths.len(), 75);
    assert_requests(&finished, "http-clients", &nginx, &paths);
}

/// OpenSSL linked into a program; its one session is used for connection after connection.
#[test]
fn a_library_that_is_linked_in_is_found() {
    let Some(_turn) = machine::ready(&["nginx", "cc", "openssl"]) else { return };
    if !["x86_64", "aarch64"]
        .iter()
        .any(|arch| Path::new(&format!("/usr/lib/{arch}-linux-gnu/libssl.a")).exists())
    {
        return machine::skipped(&machine::Skip::NoProgram("libssl.a (libssl-dev)".to_owned()));
    }
    let files = folder();
    let program = files.path().join("static-client");
    let mut compile = Command::new("cc");
    compile
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/static_client.c"))
        .arg("-o")
        .arg(&program);
    compile.args(["-Wl,-Bstatic", "-lssl", "-lcrypto", "-Wl,-Bdynamic", "-ldl", "-lpthread"]);
    let _ = Program::run("cc", &mut compile).success("cc");
    let nginx = Nginx::start(LOCATIONS);
    let agent = agent();
    let port = nginx.tls_port.to_string();
    let run = |paths: &[&str]| {
        let ended = Program::run("static-client", Command::new(&program).arg(&port).args(paths));
        let ended = ended.success("static-client");
        assert_eq!(ended.stdout.lines().count(), paths.len(), "{}", ended.stdout);
    };
    until_seen(&agent, "static-client", || run(&["/ok/first"]));
    let paths = ["/ok/s1", "/ok/s2", "/ok/s3"];
    run(&paths);
    agent.wait_for(3, |span| span.is("static-client", Kind::Client) && span.path() != "/ok/first");
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    assert_requests(&finished, "static-client", &nginx, &paths);
}

/// Copies curl and its libraries below `root`, and returns where curl is there.
fn curl_below(root: &Path) -> PathBuf {
    let curl = machine::find_program("curl").expect("machine::ready has found it");
    let copy = |file: &Path| {
        let to = root.join(file.strip_prefix("/").expect("an absolute path"));
        fs::create_dir_all(to.parent().expect("it has a folder")).expect("a fresh folder");
        fs::copy(file, to).expect("it can be copied");
    };
    copy(&curl);
    let listed = Program::run("ldd", Command::new("ldd").arg(&curl)).success("ldd");
    listed
        .stdout
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .for_each(|file| copy(Path::new(file)));
    curl
}

const CURL: [&str; 3] = ["--disable", "--silent", "--insecure"];

/// A container's view, by hand: another root with copies of a program and its libraries.
#[test]
fn libraries_below_another_root_are_found() {
    let Some(_turn) = machine::ready(&["nginx", "curl", "chroot", "ldd", "unshare", "openssl"]) else {
        return;
    };
    let files = folder();
    let curl = curl_below(files.path());
    let nginx = Nginx::start(LOCATIONS);
    let agent = agent();
    let run = |paths: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "chroot"]).arg(files.path()).arg(&curl).args(CURL);
        command.args(paths.iter().map(|path| nginx.tls_url(path))).env("OTEL_SERVICE_NAME", "curl-inside");
        let _ = Program::run("curl", &mut command).success("curl below another root");
    };
    until_seen(&agent, "curl-inside", || run(&["/ok/first"]));
    let paths = ["/ok/r1", "/ok/r2", "/ok/r3"];
    run(&paths);
    agent.wait_for(3, |span| span.is("curl-inside", Kind::Client) && span.path() != "/ok/first");
    let finished = agent.finish();
    assert_requests(&finished, "curl-inside", &nginx, &paths);
}

/// Two containers of one image: one file below, two names above, and perhaps two sets of probes.
#[test]
fn containers_that_share_a_layer_are_counted_once() {
    let Some(_turn) = machine::ready(&["nginx", "curl", "chroot", "ldd", "unshare", "mount", "openssl"])
    else {
        return;
    };
    let files = folder();
    let lower = files.path().join("image");
    fs::create_dir(&lower).expect("a fresh folder");
    let curl = curl_below(&lower);
    let container = |name: &str, service: &str, paths: &[&str], nginx: &Nginx| {
        let base = files.path().join(name);
        for part in ["upper", "work", "root"] {
            fs::create_dir_all(base.join(part)).expect("a folder of ours");
        }
        let script = format!(
            "mount -t overlay overlay -o lowerdir={},upperdir={base}/upper,workdir={base}/work {base}/root && exec chroot {base}/root \"$@\"",
            lower.display(),
            base = base.display(),
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script, "sh"]).arg(&curl).args(CURL);
        command.args(paths.iter().map(|path| nginx.tls_url(path))).env("OTEL_SERVICE_NAME", service);
        Program::run("curl", &mut command)
    };
    let nginx = Nginx::start(LOCATIONS);
    let agent = agent();
    let first = container("one", "curl-one", &["/ok/first"], &nginx);
    if first.stderr.contains("mount:") {
        return machine::skipped(&machine::Skip::NoProgram("an overlay file system".to_owned()));
    }
    for name in ["one", "two"] {
        let service = format!("curl-{name}");
        until_seen(&agent, &service, || {
            let _ = container(name, &service, &["/ok/first"], &nginx).success("curl in a container");
        });
    }
    for (name, paths) in [("one", ["/ok/a1", "/ok/a2"]), ("two", ["/ok/b1", "/ok/b2"])] {
        let _ = container(name, "curl-inside", &paths, &nginx).success("curl");
    }
    agent.wait_for(4, |span| span.is("curl-inside", Kind::Client));
    let finished = agent.finish();
    assert_requests(&finished, "curl-inside", &nginx, &["/ok/a1", "/ok/a2", "/ok/b1", "/ok/b2"]);
}

/// A server whose library was deleted since it started, as an upgrade does it.
#[test]
fn a_library_that_is_deleted_is_found() {
    let Some(_turn) = machine::ready(&["python3", "curl", "openssl"]) else { return };
    let files = folder();
    nginx::certificate(files.path());
    let mut listed = Command::new("python3");
    listed.args([
        "-c",
        "import _ssl; print(next(l.split()[-1] for l in open('/proc/self/maps') if 'libssl' in l))",
    ]);
    let library = PathBuf::from(Program::run("python3", &mut listed).success("python3").stdout.trim());
    let copy = files.path().join(library.file_name().expect("a file"));
    fs::copy(&library, &copy).expect("it can be copied");
    let server = python::serve("asyncio_server.py", &["cert.pem", "key.pem"], |command| {
        command.current_dir(files.path()).env("OTEL_SERVICE_NAME", "outlived");
        command.env("LD_LIBRARY_PATH", files.path());
    });
    fs::remove_file(&copy).expect("it is there");
    let maps = fs::read_to_string(format!("/proc/{}/maps", server.program.tgid())).expect("it runs");
    assert!(maps.lines().any(|line| line.contains("libssl") && line.ends_with("(deleted)")), "{maps}");
    let agent = agent();
    wait_watched(&agent, copy.to_str().expect("our own names are UTF-8"));
    for n in 0..3 {
        assert_eq!(fetch(&[&format!("https://127.0.0.1:{}/d{n}", server.port)]).0, 202);
    }
    agent.wait_for(3, |span| span.is("outlived", Kind::Server));
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    let spans = finished.select(|span| span.is("outlived", Kind::Server));
    assert_eq!(spans.len(), 3);
    assert!(spans.iter().all(|span| span.is_at(server.port) && !span.get("network.peer.port").is_empty()));
}

/// An SSL_write that could not write all is repeated with the same bytes: they are reported once. Both placements of
/// probes see the same.
#[test]
fn repeated_writes_count_once_wherever_the_probes_are() {
    let Some(_turn) = machine::ready(&["nginx", "python3", "openssl"]) else { return };
    for placement in ["cheapest", "symbol"] {
        let nginx = Nginx::start(LOCATIONS);
        let config = ConfigFile::new(&format!(
            "file_format: \"1.1\"\ndistribution:\n  spantap:\n    capture:\n      tls:\n        placement: {placement}\n"
        ));
        let mut agent = Agent::start_with(|command| {
            command.args(["--config", config.name()]);
        });
        agent.wait_for_tls();
        let size = 20_000_000;
        let arguments = [nginx.tls_port.to_string(), size.to_string()];
        let mut script = python::script("partial_writes.py", &arguments.each_ref().map(String::as_str));
        let ended = Program::run("writer", script.env("OTEL_SERVICE_NAME", "writer")).success("writer");
        let repeated = ended.stdout.trim().strip_prefix("200 200 ").expect("the script says so");
        assert_ne!(repeated, "0", "the writes must be partial for this to say anything");
        agent.wait_for(2, |span| span.is("writer", Kind::Client));
        let finished = agent.finish();
        // With a byte too many or too few the second request would not be found where the first one's body ends.
        let spans = finished.select(|span| span.is("writer", Kind::Client));
        let mut seen: Vec<(&str, u16)> = spans.iter().map(|span| (span.path(), span.status())).collect();
        seen.sort_unstable();
        assert_eq!(seen, [("/ok/after", 200), ("/ok/large", 200)], "{placement}");
        assert!(spans.iter().all(|span| span.is_at(nginx.tls_port)), "{placement}");
    }
}

/// A request that comes with the first flight of a resumed session (RFC 8446 section 2.3): SSL_write_early_data on one
/// side, SSL_read_early_data on the other.
#[test]
fn early_data_is_seen() {
    let Some(_turn) = machine::ready(&["nginx", "openssl"]) else { return };
    let nginx = Nginx::start(&format!("ssl_protocols TLSv1.3;\nssl_early_data on;\n{LOCATIONS}"));
    let files = folder();
    let request = |name: &str| {
        let text = format!("GET /ok/{name} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        fs::write(files.path().join(name), text).expect("a fresh folder");
    };
    request("first");
    request("early");
    let agent = agent();
    let run = |what: &str| {
        let connect = format!("openssl s_client -quiet -connect 127.0.0.1:{}", nginx.tls_port);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {connect} {what}")]).current_dir(files.path());
        Program::run("openssl s_client", &mut command)
    };
    let ended = run("-sess_out session < first");
    assert!(ended.stdout.contains("200 OK"), "{}{}", ended.stdout, ended.stderr);
    let ended = run("-sess_in session -early_data early < /dev/null");
    assert!(ended.stdout.contains("200 OK"), "{}{}", ended.stdout, ended.stderr);
    agent.wait_for(2, |span| span.is("openssl", Kind::Client));
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    assert_requests(&finished, "openssl", &nginx, &["/ok/first", "/ok/early"]);
}

/// Processes that ask for one thing and are gone, from the very first one on: the host's libraries are watched before
/// anybody maps them.
#[test]
fn each_of_many_short_lived_processes_is_seen() {
    let Some(_turn) = machine::ready(&["nginx", "curl", "openssl"]) else { return };
    let agent = agent();
    let nginx = Nginx::start(LOCATIONS);
    let paths: Vec<String> = (0..40).map(|n| format!("/ok/s{n:02}")).collect();
    for path in &paths {
        assert_eq!(fetch(&[&nginx.tls_url(path)]), (200, 6));
    }
    agent.wait_for(40, |span| span.is("curl", Kind::Client));
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    assert_requests(&finished, "curl", &nginx, &paths.iter().map(String::as_str).collect::<Vec<_>>());
}
