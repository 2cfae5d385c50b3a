//! Applications over TLS of which spans cannot be made: of protocols that spantap does not know, and with libraries that
//! have no symbols. They work as ever, nothing is said of them that is not so, and the accounts tell of them.

use std::{collections::BTreeSet, fs, ops::RangeInclusive, path::Path, process::Command, thread};

use spantap_tests::{
    agent::Finished,
    applications::{agent, assert_end, program},
    client::fetch,
    machine,
    nginx::{self, Nginx},
    otlp::Kind,
    program::{Program, folder, free_port, listens},
    python,
};
use tempfile::TempDir;

const UNREAD: &str = "TLS connections whose plaintext is not seen";

/// A folder with a certificate, and a free port.
fn place() -> (TempDir, u16) {
    let files = folder();
    nginx::certificate(files.path());
    (files, free_port())
}

/// A server that listens.
fn serve(name: &str, port: u16, command: &mut Command) -> Program {
    let mut server = Program::start(name, command);
    server.wait_ready("listened", |_| listens(port));
    server
}

fn daemon(name: &str, files: &Path) -> Command {
    let mut command = Command::new(machine::find_program(name).expect("machine::ready has found it"));
    command.current_dir(files);
    command
}

/// Nothing is said of these services, and nothing was lost; so many ends of connections are opaque.
fn assert_silence(
    finished: &Finished,
    what: &str,
    made: usize,
    services: &[&str],
    opaque: RangeInclusive<u64>,
) {
    finished.accounts.assert_nothing_lost();
    let spans = finished.select(|span| services.contains(&span.service.as_str()));
    println!("| {what} | {made} made | {} seen | {:?} |", spans.len(), finished.accounts.left_out);
    assert_eq!(spans.len(), 0, "{what}: {}", spans[0]);
    let unread = finished.accounts.left_out.get(UNREAD).copied().unwrap_or(0);
    assert!(opaque.contains(&unread), "{what}: {opaque:?}, but {:#?}", finished.accounts);
}

#[test]
fn memcached_answers_as_ever() {
    let Some(_turn) = machine::ready(&["memcached", "python3", "openssl"]) else { return };
    let (files, port) = place();
    let mut memcached = daemon("memcached", files.path());
    memcached.args(["-Z", "-o", "ssl_chain_cert=cert.pem,ssl_key=key.pem", "-u", "root", "-l", "127.0.0.1"]);
    let _server = serve("memcached", port, memcached.args(["-p", &port.to_string()]));
    let agent = agent();
    let mut client = python::script("memcached_tls.py", &[&port.to_string(), "200"]);
    let ended = Program::run("client", client.env("OTEL_SERVICE_NAME", "cache-client")).success("client");
    assert_eq!(ended.stdout, "cmd_get 200 cmd_set 200\n", "what the server has counted");
    assert_silence(&agent.finish(), "memcached -Z, Python", 400, &["memcached", "cache-client"], 0..=0);
}

/// It begins in the clear, and turns to TLS on the same connection.
#[test]
fn mariadb_answers_as_ever() {
    let needed = ["mariadbd", "mariadb-install-db", "mariadb", "openssl"];
    let Some(_turn) = machine::ready(&needed) else { return };
    let (files, port) = place();
    let mut install = daemon("mariadb-install-db", files.path());
    install.args([
        "--no-defaults",
        "--user=root",
        "--skip-test-db",
        "--auth-root-authentication-method=normal",
    ]);
    let _ = Program::run("install", install.arg(format!("--datadir={}/data", files.path().display())))
        .success("mariadb-install-db");
    let mut mariadbd = daemon("mariadbd", files.path());
    mariadbd.args(["--no-defaults", "--user=root", "--bind-address=127.0.0.1", "--skip-name-resolve"]);
    for (option, file) in
        [("datadir", "data"), ("socket", "socket"), ("ssl-cert", "cert.pem"), ("ssl-key", "key.pem")]
    {
        mariadbd.arg(format!("--{option}={}/{file}", files.path().display()));
    }
    let _server = serve("mariadbd", port, mariadbd.arg(format!("--port={port}")));
    let ask = |sql: &str| {
        let mut client = Command::new("mariadb");
        client.args([
            "--no-defaults",
            "--ssl",
            "--host=127.0.0.1",
            "--user=root",
            "--batch",
            "--skip-column-names",
        ]);
        let ended = Program::run("mariadb", client.args([&format!("--port={port}"), "--execute", sql]));
        ended.success("mariadb").stdout
    };
    let agent = agent();
    for n in 0..20 {
        assert_eq!(ask(&format!("SELECT {n} + 1; SELECT {n} + 2")), format!("{}\n{}\n", n + 1, n + 2));
    }
    assert_eq!(ask("SHOW STATUS LIKE 'Ssl_version'"), "Ssl_version\tTLSv1.3\n");
    let asked = ask("SHOW GLOBAL STATUS LIKE 'Com_select'");
    // Each of its clients asks for the version's comment, unless told otherwise by --batch.
    assert_eq!(asked, "Com_select\t40\n");
    assert_silence(&agent.finish(), "mariadbd, mariadb", 40, &["mariadbd", "mariadb"], 0..=0);
}

#[test]
fn mosquitto_delivers_as_ever() {
    let Some(_turn) = machine::ready(&["mosquitto", "mosquitto_pub", "mosquitto_sub", "openssl"]) else {
        return;
    };
    let (files, port) = place();
    let text = format!(
        "listener {port} 127.0.0.1\ncertfile cert.pem\nkeyfile key.pem\nallow_anonymous true\nuser root\n"
    );
    fs::write(files.path().join("mosquitto.conf"), text).expect("a fresh folder");
    let mut mosquitto = daemon("mosquitto", files.path());
    let server = serve("mosquitto", port, mosquitto.args(["-v", "-c", "mosquitto.conf"]));
    let client = |name: &str, more: &[&str]| {
        let mut command = daemon(name, files.path());
        command.args([
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "--cafile",
            "cert.pem",
            "-q",
            "1",
            "-t",
            "shop",
        ]);
        command.args(more);
        command
    };
    let agent = agent();
    let mut subscriber = Program::start("mosquitto_sub", &mut client("mosquitto_sub", &["-C", "20"]));
    subscriber.wait_ready("subscribed", |_| server.stderr().contains("Sending SUBACK"));
    for n in 0..20 {
        let _ = Program::run("mosquitto_pub", &mut client("mosquitto_pub", &["-m", &n.to_string()]))
            .success("mosquitto_pub");
    }
    assert!(subscriber.wait(machine::patience()).success());
    let expected: String = (0..20).map(|n| format!("{n}\n")).collect();
    assert_eq!(subscriber.stdout(), expected);
    let services = ["mosquitto", "mosquitto_pub", "mosquitto_sub"];
    assert_silence(&agent.finish(), "mosquitto, _pub, _sub", 20, &services, 0..=0);
}

/// grpcio has BoringSSL linked in, and its symbols are gone.
#[test]
fn grpcio_over_tls_is_counted_as_opaque() {
    let Some(_turn) = machine::ready(&["python3", "openssl"]) else { return };
    let venv = match python::install(Path::new(env!("CARGO_TARGET_TMPDIR")), "grpcio==1.85.1") {
        Ok(venv) => venv,
        Err(skip) => return machine::skipped(&skip),
    };
    let (files, port) = place();
    let script = |service: &str| {
        let mut command = Command::new(venv.join("bin/python"));
        command.arg(program("grpc_tls.py")).args([service, &port.to_string()]);
        command.current_dir(files.path()).env("OTEL_SERVICE_NAME", format!("grpc-{service}"));
        command
    };
    let _server = serve("server", port, &mut script("server"));
    let agent = agent();
    let ended = Program::run("client", &mut script("client")).success("client");
    assert_eq!(ended.stdout, "20 calls\n");
    // One connection, whose two ends are on this machine.
    assert_silence(&agent.finish(), "grpcio", 20, &["grpc-server", "grpc-client"], 2..=2);
}

/// caddy is a program in Go without symbols. Its clients are seen, with their peers.
#[test]
fn a_server_in_go_is_counted_as_opaque_and_its_clients_are_seen() {
    let Some(_turn) = machine::ready(&["caddy", "curl", "openssl"]) else { return };
    let (files, port) = place();
    let text = format!(
        "{{\n admin off\n auto_https off\n}}\nhttps://127.0.0.1:{port} {{\n bind 127.0.0.1\n tls cert.pem key.pem\n respond \"hello\"\n}}\n"
    );
    fs::write(files.path().join("Caddyfile"), text).expect("a fresh folder");
    let mut caddy = daemon("caddy", files.path());
    caddy.args(["run", "--config", "Caddyfile", "--adapter", "caddyfile"]);
    let home = files.path().display().to_string();
    let _server = serve(
        "caddy",
        port,
        caddy.env("HOME", &home).env("XDG_DATA_HOME", &home).env("XDG_CONFIG_HOME", &home),
    );
    let agent = agent();
    thread::scope(|scope| {
        for n in 0..4 {
            scope.spawn(move || {
                for i in 0..5 {
                    assert_eq!(fetch(&[&format!("https://127.0.0.1:{port}/{n}-{i}")]), (200, 5));
                }
            });
        }
    });
    agent.wait_for(20, |span| span.is("curl", Kind::Client));
    let finished = agent.finish();
    let spans = finished.select(|span| span.is("curl", Kind::Client));
    assert_end("curl (Client) with caddy", 20, &spans, |_, peer| peer == port);
    assert_silence(&finished, "caddy", 20, &["caddy"], 20..=20);
}

/// Java's TLS is written in Java.
#[test]
fn a_server_in_java_is_counted_as_opaque_and_its_clients_are_seen() {
    let Some(_turn) = machine::ready(&["javac", "java", "curl", "openssl"]) else { return };
    let (files, port) = place();
    let mut export = Command::new("openssl");
    export.args(["pkcs12", "-export", "-in", "cert.pem", "-inkey", "key.pem", "-out", "both.p12"]);
    let _ = Program::run("openssl", export.args(["-passout", "pass:secret"]).current_dir(files.path()))
        .success("openssl pkcs12");
    let mut java = Command::new("java");
    java.arg(program("HttpsServer.java")).arg(port.to_string()).current_dir(files.path());
    let _server = serve("java", port, &mut java);
    let agent = agent();
    for n in 0..20 {
        assert_eq!(fetch(&[&format!("https://127.0.0.1:{port}/{n}")]), (200, 5));
    }
    agent.wait_for(20, |span| span.is("curl", Kind::Client));
    let finished = agent.finish();
    let spans = finished.select(|span| span.is("curl", Kind::Client));
    assert_end("curl (Client) with Java", 20, &spans, |_, peer| peer == port);
    assert_silence(&finished, "Java's HttpsServer", 20, &["java"], 20..=20);
}

/// uv has rustls linked in, and its symbols are gone. It is told of a package that is not there.
#[test]
fn a_client_on_rustls_is_counted_as_opaque_and_its_server_is_seen() {
    let Some(_turn) = machine::ready(&["nginx", "python3", "openssl"]) else { return };
    let venv = match python::install(Path::new(env!("CARGO_TARGET_TMPDIR")), "uv==0.13.9") {
        Ok(venv) => venv,
        Err(skip) => return machine::skipped(&skip),
    };
    let nginx = Nginx::start("");
    let agent = agent();
    let mut uv = Command::new(venv.join("bin/uv"));
    uv.args(["pip", "install", "--no-cache", "--allow-insecure-host", "127.0.0.1", "--python"])
        .arg(venv.join("bin/python"));
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        uv.env_remove(name);
    }
    uv.args(["--no-config", "--index-url", &nginx.tls_url("/simple"), "missing-1", "missing-2", "missing-3"]);
    let ended = Program::run("uv", &mut uv);
    assert!(!ended.status.success(), "there is no such package");
    let port = nginx.tls_port;
    let log = nginx.stop();
    assert!(!log.is_empty(), "{}", ended.stderr);
    let finished = agent.finish();
    let spans = finished.select(|span| span.is("nginx", Kind::Server));
    let logged: Vec<u16> = log.iter().map(|line| line.client_port).collect();
    assert_end("nginx (Server) with uv", log.len(), &spans, |_, peer| logged.contains(&peer) && peer != port);
    let connections = logged.iter().collect::<BTreeSet<_>>().len() as u64;
    // It may open connections that it does not use in the end.
    assert_silence(&finished, "uv", log.len(), &["uv"], connections..=log.len() as u64);
}
