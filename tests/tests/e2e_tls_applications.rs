//! HTTP over TLS by applications that use OpenSSL and GnuTLS in ways of their own: as many spans as requests, at both ends,
//! with the right peers. `docs/applications.md` has the table that these tests print (`--nocapture`).

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use spantap_tests::{
    applications::{agent, assert_end, assert_logged, program},
    client::{curl, fetch},
    http2::{self, Nghttpd},
    machine::{self, Skip},
    nginx::{self, Nginx},
    otlp::{Kind, Span},
    program::{Ended, Program, folder, free_port, listens},
};

const LOCATIONS: &str = "location /ok { return 200 'hello\\n'; } location /missing { return 404; }";

/// OpenSSL's own client and `ab` give the library a socket BIO of their own making (`SSL_set_bio`).
#[test]
fn apachebench_is_seen_with_and_without_connections_kept() {
    let Some(_turn) = machine::ready(&["nginx", "ab", "openssl"]) else { return };
    let nginx = Nginx::start(LOCATIONS);
    let agent = agent();
    for (options, path) in
        [(&["-n", "200", "-c", "4"][..], "/ok/new"), (&["-k", "-n", "300", "-c", "3"], "/ok/kept")]
    {
        let mut ab = Command::new("ab");
        let ended = Program::run("ab", ab.arg("-q").args(options).arg(nginx.tls_url(path))).success("ab");
        assert!(
            ended.stdout.contains(&format!("Complete requests:      {}", options[options.len() - 3])),
            "{}",
            ended.stdout
        );
    }
    // It opens connections beyond the requests it needs; they end without one.
    nginx.wait_for_log(500);
    let port = nginx.tls_port;
    let log = nginx.stop();
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    assert_eq!(log.len(), 500, "what ab says is what nginx has logged");
    assert_logged(&finished, "ab", "nginx", port, &log);
}

/// A client of the libraries' own that sends what a file has and prints the answer.
fn piped(nginx: &Nginx, client: &str, folder: &Path, path: &str) -> Ended {
    let text = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    fs::write(folder.join("request"), text).expect("a fresh folder");
    let command = match client {
        "openssl" => format!("openssl s_client -quiet -connect 127.0.0.1:{}", nginx.tls_port),
        _ => format!("gnutls-cli --insecure --port {} 127.0.0.1", nginx.tls_port),
    };
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec {command} < request")]).current_dir(folder);
    Program::run(client, &mut shell)
}

#[test]
fn the_clients_of_both_libraries_are_seen() {
    let Some(_turn) = machine::ready(&["nginx", "openssl", "gnutls-cli"]) else { return };
    for client in ["openssl", "gnutls-cli"] {
        let (nginx, files) = (Nginx::start(LOCATIONS), folder());
        let agent = agent();
        for n in 0..20 {
            let path = format!("{}/{n}", if n % 5 == 0 { "/missing" } else { "/ok" });
            let ended = piped(&nginx, client, files.path(), &path);
            assert!(ended.stdout.contains("HTTP/1.1 "), "{}{}", ended.stdout, ended.stderr);
        }
        let port = nginx.tls_port;
        let log = nginx.stop();
        let finished = agent.finish();
        finished.accounts.assert_nothing_lost();
        assert_eq!(log.len(), 20);
        assert_logged(&finished, client, "nginx", port, &log);
    }
}

/// git gives GnuTLS functions of libcurl that move the bytes. A clone of loose objects is many requests.
#[test]
fn a_clone_by_git_is_seen_request_by_request() {
    let Some(_turn) = machine::ready(&["nginx", "git", "openssl"]) else { return };
    let nginx = Nginx::start("");
    let git = |arguments: &[&str], folder: &Path| {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "http.sslVerify=false"]);
        command
            .args(arguments)
            .current_dir(folder)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("HOME", folder)
            .env("OTEL_SERVICE_NAME", "git");
        for name in ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(name);
        }
        let _ = Program::run("git", &mut command).success(&format!("git {arguments:?}"));
    };
    let served = nginx.folder().join("www/shop");
    fs::create_dir(&served).expect("a fresh folder");
    git(&["init", "--quiet"], &served);
    for n in 0..10 {
        fs::write(served.join("file"), format!("{n}\n")).expect("a folder of ours");
        git(&["add", "file"], &served);
        git(&["commit", "--quiet", "-m", &n.to_string()], &served);
    }
    git(&["update-server-info"], &served);
    let (agent, files) = (agent(), folder());
    git(&["clone", "--quiet", &nginx.tls_url("/shop/.git"), "clone"], files.path());
    assert_eq!(fs::read_to_string(files.path().join("clone/file")).expect("it was cloned"), "9\n");
    let port = nginx.tls_port;
    let log = nginx.stop();
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    assert!(log.len() >= 30, "three objects a commit, and the refs: {}", log.len());
    assert_logged(&finished, "git", "nginx", port, &log);
}

/// A new process for each request, as fast as they come one after another.
#[test]
fn two_hundred_processes_of_curl_are_seen() {
    let Some(_turn) = machine::ready(&["nginx", "curl", "openssl"]) else { return };
    let nginx = Nginx::start(LOCATIONS);
    let agent = agent();
    let began = Instant::now();
    for n in 0..200 {
        let (path, status) = if n % 10 == 9 { ("/missing", 404) } else { ("/ok", 200) };
        assert_eq!(fetch(&[&nginx.tls_url(&format!("{path}/{n}"))]).0, status);
    }
    println!("each lived for {:.1} ms at most", began.elapsed().as_secs_f64() * 1e3 / 200.0);
    let port = nginx.tls_port;
    let log = nginx.stop();
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    assert_eq!(log.len(), 200);
    assert_logged(&finished, "curl", "nginx", port, &log);
}

/// Builds the client on native-tls, once; needs the registry the first time.
fn native_tls_client() -> Result<PathBuf, Skip> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("native-tls");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--locked", "--manifest-path"]).arg(program("native_tls/Cargo.toml"));
    let mut cargo = Program::start("cargo", cargo.arg("--target-dir").arg(&target));
    if !cargo.wait(Duration::from_secs(600)).success() {
        let why = cargo.stderr();
        let first = why.lines().find(|line| line.starts_with("error")).unwrap_or_default();
        return Err(Skip::NoPackage(format!("native-tls cannot be built: {first}")));
    }
    Ok(target.join("debug/native-tls-client"))
}

/// Rust's native-tls moves the bytes in Rust, and writes a head in pieces.
#[test]
fn a_client_on_native_tls_is_seen() {
    let Some(_turn) = machine::ready(&["nginx", "cargo", "pkg-config", "openssl"]) else { return };
    let client = match native_tls_client() {
        Ok(client) => client,
        Err(skip) => return machine::skipped(&skip),
    };
    let nginx = Nginx::start(LOCATIONS);
    let agent = agent();
    for n in 0..10 {
        let paths = (0..10).map(|i| format!("/ok/{n}-{i}"));
        let mut command = Command::new(&client);
        let ended = Program::run("native-tls", command.arg(nginx.tls_port.to_string()).args(paths));
        assert!(ended.stdout.ends_with(" 10\n"), "{}{}", ended.stdout, ended.stderr);
    }
    let port = nginx.tls_port;
    let log = nginx.stop();
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    assert_eq!(log.len(), 100);
    assert_logged(&finished, "native-tls-client", "nginx", port, &log);
}

/// HTTP/2 on both ends by nghttp2's programs. nghttpd has no log, but each client knows its port or its number.
#[test]
fn nghttpd_is_seen_with_three_clients() {
    let Some(_turn) = machine::ready(&["nghttpd", "nghttp", "h2load", "curl", "openssl"]) else { return };
    let files = folder();
    fs::write(files.path().join("small.txt"), [b'x'; 100]).expect("a fresh folder");
    let server = Nghttpd::start_tls(files.path());
    let (mut agent, _config) = http2::agent();
    agent.wait_for_tls();
    let url = |who: &str, n: usize| format!("https://127.0.0.1:{}/small.txt?{who}={n}", server.port);
    let urls = |who: &str, count: usize| (0..count).map(|n| url(who, n)).collect::<Vec<_>>();
    let _ = http2::load(&urls("h2load", 1_000), 50);
    let mut nghttp = Command::new("nghttp");
    let _ = Program::run("nghttp", nghttp.args(["--null-out", "--no-verify-peer"]).args(urls("nghttp", 20)))
        .success("nghttp");
    let mut curls = BTreeMap::new();
    for n in 0..10 {
        let said =
            curl(&["--http2", "--output", "/dev/null", "--write-out", "%{local_port}", &url("curl", n)]);
        curls.insert(n.to_string(), said.success("curl").stdout);
    }
    let clients = [("h2load", 1_000), ("nghttp", 20), ("curl", 10)];
    agent.wait_for(1_030, |span| span.is("nghttpd", Kind::Server));
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    let of = |service: &str, kind: Kind, who: &str| {
        finished.select(|span| {
            let query = span.get("url.query").to_owned() + span.get("url.full");
            span.is(service, kind) && span.is_at(server.port) && query.contains(&format!("{who}="))
        })
    };
    let mut ports = BTreeMap::new();
    for (who, made) in clients {
        let seen = of(who, Kind::Client, who);
        assert_end(&format!("{who} (Client)"), made, &seen, |_, peer| peer == server.port);
        // Those of one connection have one port, and no other client has it.
        let served = of("nghttpd", Kind::Server, who);
        let first = served.first().map_or(0, |span| span.get("network.peer.port").parse().unwrap_or(0));
        let is_right = |span: &Span, peer: u16| match who {
            "curl" => {
                let number = span.get("url.query").trim_start_matches("curl=");
                curls.get(number).is_some_and(|port| *port == peer.to_string())
            }
            _ => peer == first && peer != server.port,
        };
        assert_end(&format!("nghttpd (Server) with {who}"), made, &served, is_right);
        assert_eq!(ports.insert(first, who), None, "{ports:?}");
        for span in seen.iter().chain(&served) {
            assert_eq!((span.status(), span.get("network.protocol.version")), (200, "2"), "{span}");
        }
    }
}

const HAPROXY: &str = "
global
    log stdout format raw local0
defaults
    mode http
    log global
    timeout connect 5s
    timeout client 20s
    timeout server 20s
    log-format \"%cp %bp %ST %HP\"
frontend front
    bind 127.0.0.1:%PORT% ssl crt %FOLDER%/both.pem
    default_backend back
backend back
    server nginx 127.0.0.1:%NGINX% ssl verify none
";

/// A proxy is a server to one side and a client to the other; it reads and writes by a BIO of its own on both.
#[test]
fn haproxy_is_seen_on_both_of_its_sides() {
    let Some(_turn) = machine::ready(&["nginx", "haproxy", "curl", "openssl"]) else { return };
    let (nginx, files, port) = (Nginx::start(LOCATIONS), folder(), free_port());
    nginx::certificate(files.path());
    let pem = |name: &str| fs::read_to_string(files.path().join(name)).expect("it was made");
    fs::write(files.path().join("both.pem"), pem("cert.pem") + &pem("key.pem")).expect("a fresh folder");
    let text = HAPROXY
        .replace("%PORT%", &port.to_string())
        .replace("%FOLDER%", &files.path().display().to_string())
        .replace("%NGINX%", &nginx.tls_port.to_string());
    fs::write(files.path().join("haproxy.cfg"), text).expect("a fresh folder");
    let binary = machine::find_program("haproxy").expect("machine::ready has found it");
    let mut haproxy = Program::start(
        "haproxy",
        Command::new(binary).args(["-db", "-f", "haproxy.cfg"]).current_dir(files.path()),
    );
    haproxy.wait_ready("listened", |_| listens(port));
    let agent = agent();
    for n in 0..20 {
        let urls: Vec<String> = (0..5)
            .map(|i| format!("https://127.0.0.1:{port}{}/{n}-{i}", if i == 3 { "/missing" } else { "/ok" }))
            .collect();
        let arguments: Vec<&str> = urls.iter().flat_map(|url| ["--output", "/dev/null", url]).collect();
        let _ = curl(&arguments).success("curl");
    }
    nginx.wait_for_log(100);
    let tls_port = nginx.tls_port;
    let mut log = nginx.stop();
    haproxy.signal(libc::SIGTERM);
    haproxy.wait(Duration::from_secs(10));
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    assert_logged(&finished, "haproxy", "nginx", tls_port, &log);
    // Its own log has both of its ports of each request: the client's, and the one towards nginx.
    let said = haproxy.stdout();
    let told: BTreeMap<&str, [&str; 3]> = said
        .lines()
        .filter_map(|line| {
            let [client, own, status, path] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
            Some((path, [client, own, status]))
        })
        .collect();
    assert_eq!(told.len(), 100, "{said}");
    for line in &mut log {
        let [client, own, status] = told[line.uri.as_str()];
        assert_eq!((own, status), (&*line.client_port.to_string(), &*line.status.to_string()));
        line.client_port = client.parse().expect("a port");
    }
    assert_logged(&finished, "curl", "haproxy", port, &log);
}
