//! Answers that few servers give, and traffic that is not HTTP at all.

use std::{process::Command, thread, time::Duration};

use spantap_tests::{
    agent::Agent,
    client::{Socket, curl},
    config::ConfigFile,
    machine::{self, Skip},
    nginx::Nginx,
    otlp::Kind,
    program::{Program, folder, free_port, listens},
    python,
};

#[test]
fn odd_answers_are_understood() {
    let Some(_turn) = machine::ready(&["python3", "curl"]) else { return };
    let server = python::serve("odd_server.py", &[], |command| {
        command.env("OTEL_SERVICE_NAME", "odd");
    });
    let port = server.port;
    let agent = Agent::start();
    let url = |path: &str| format!("http://127.0.0.1:{port}/{path}");
    // One connection, on which a body that is not there must not be waited for.
    let urls = ["204", "304", "early", "plain/1"].map(url);
    let kept: Vec<&str> = urls.iter().flat_map(|url| ["--output", "/dev/null", url]).collect();
    let _ = curl(&kept).success("curl");
    for path in ["socket", "truncated", "silent"] {
        // How curl likes them is its own affair.
        let _ = curl(&["--output", "/dev/null", "--max-time", "2", &url(path)]);
    }
    let _ = curl(&["--output", "/dev/null", &format!("http://[::1]:{port}/plain/v6")]).success("curl");
    // As to a proxy, and with what must not be shown.
    let _ = curl(&["--proxy", &url(""), "http://shop.example/plain/proxied"]).success("curl");
    let secret = url("plain/secret?sig=hidden&a=b");
    let _ = curl(&["--user", "user:hidden", "--header", "Host: shop.example", &secret]).success("curl");
    agent.wait_for(10, |span| span.is("odd", Kind::Server));
    let finished = agent.finish();
    let one = |path: &str, kind| {
        let spans = finished.select(|span| span.path() == path && span.kind == kind);
        assert_eq!(spans.len(), 1, "{kind:?} spans of {path}");
        spans[0]
    };
    for (path, status, error) in [
        ("/204", 204, ""),
        ("/304", 304, ""),
        ("/early", 200, ""),
        ("/plain/1", 200, ""),
        ("/socket", 101, ""),
        ("/truncated", 200, "response_truncated"),
        ("/silent", 0, "connection_closed"),
        ("/plain/v6", 200, ""),
        ("/plain/proxied", 200, ""),
        ("/plain/secret", 200, ""),
    ] {
        for kind in [Kind::Server, Kind::Client] {
            let span = one(path, kind);
            assert_eq!((span.status(), span.get("error.type")), (status, error), "{span}");
            assert_eq!(span.is_error, !error.is_empty(), "{span}");
            let address = if path.ends_with("v6") { "::1" } else { "127.0.0.1" };
            assert_eq!(span.get("network.peer.address"), address, "{span}");
            let everything = format!("{span:?}");
            assert!(!everything.contains("hidden"), "{everything}");
        }
    }
    for path in ["/plain/proxied", "/plain/secret"] {
        for kind in [Kind::Server, Kind::Client] {
            let span = one(path, kind);
            assert_eq!(span.get("server.address"), "shop.example", "{span}");
        }
    }
    assert_eq!(finished.select(|span| span.is("odd", Kind::Server)).len(), 10, "a frame is no request");
}

#[test]
fn a_body_that_was_declined_is_not_waited_for() {
    let Some(_turn) = machine::ready(&["python3"]) else { return };
    let server = python::serve("odd_server.py", &[], |command| {
        command.env("OTEL_SERVICE_NAME", "odd");
    });
    let agent = Agent::start();
    let mut socket = Socket::connect(server.port);
    for n in 0..3 {
        let expecting = format!(
            "PUT /declined/{n} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 100000\r\n\r\n"
        );
        socket.send(expecting.as_bytes());
        assert_eq!(socket.response(), (417, 2));
        assert_eq!(socket.get(&format!("/plain/{n}")), (200, 2));
    }
    let own_port = socket.own_port().to_string();
    drop(socket);
    agent.wait_for(6, |span| span.is("odd", Kind::Server));
    let finished = agent.finish();
    for kind in [Kind::Server, Kind::Client] {
        let spans = finished.select(|span| {
            let port = if kind == Kind::Server { own_port.clone() } else { server.port.to_string() };
            span.kind == kind && span.get("network.peer.port") == port
        });
        let seen: Vec<_> = spans.iter().map(|span| (span.path().to_owned(), span.status())).collect();
        let turn = |n| [(format!("/declined/{n}"), 417), (format!("/plain/{n}"), 200)];
        assert_eq!(seen, (0..3).flat_map(turn).collect::<Vec<_>>(), "{kind:?}");
    }
}

#[test]
fn what_nginx_refuses_and_what_is_longer_than_a_copy_agrees_with_its_log() {
    let Some(_turn) = machine::ready(&["nginx", "openssl"]) else { return };
    let nginx = Nginx::start("location /ok/ { return 200 'hello\\n'; }");
    let agent = Agent::start();
    let long = "y".repeat(6_000);
    let fields = "Host: a\r\nConnection: keep-alive\r\n\r\n";
    let whole = |line: &str| format!("{line}\r\n{fields}");
    // Those of the first kind are recognised on a new connection, the others only where requests came before.
    let anywhere = [
        whole("GET /ok/a b HTTP/1.1"),
        whole("GET /ok/\u{1}\u{1b}[2J HTTP/1.1"),
        whole("get /ok/lower HTTP/1.1"),
        whole(&format!("GET /ok/{long} HTTP/1.1")),
        format!("GET /ok/head HTTP/1.1\r\nX-Long: {long}\r\n{fields}"),
    ];
    let later = [whole("GET /ok/ HTTP/3.7"), whole("\u{1}\u{2}\u{3}")];
    for (first, odd) in
        anywhere.iter().map(|odd| (false, odd)).chain(anywhere.iter().chain(&later).map(|odd| (true, odd)))
    {
        let mut socket = Socket::connect(nginx.port);
        if first {
            socket.send(whole("GET /ok/before HTTP/1.1").as_bytes());
            assert_eq!(socket.response().0, 200);
        }
        socket.send(odd.as_bytes());
        let _ = socket.response();
    }
    nginx.wait_for_log(2 * anywhere.len() + 2 * later.len() + anywhere.len());
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    let log = nginx.stop();
    println!("{log:#?}\n{:#?}", finished.accounts);
    let mut expected: Vec<_> = log.iter().map(|line| (line.client_port.to_string(), line.status)).collect();
    let spans = finished.select(|span| span.is("nginx", Kind::Server));
    let mut seen: Vec<_> =
        spans.iter().map(|span| (span.get("network.peer.port").to_owned(), span.status())).collect();
    expected.sort();
    seen.sort();
    assert_eq!(seen, expected);
    let with = |name: &str, value: &str| spans.iter().filter(|span| span.get(name) == value).count();
    assert_eq!(with("http.request.method_original", "get"), 2);
    assert_eq!((with("url.path", "/ok/a%20b"), with("url.path", "/ok/%01%1B[2J")), (2, 2));
    assert_eq!(with("spantap.url.truncated", "path"), 2);
    let routes = spans.iter().filter(|span| span.path().len() > 500).map(|span| span.get("http.route"));
    assert_eq!(routes.collect::<Vec<_>>(), ["/**"; 2]);
    for span in &finished.spans {
        assert!(!span.attributes.values().any(|value| value.contains(char::is_control)), "{span}");
    }
}

#[test]
fn other_protocols_make_no_spans() {
    let Some(_turn) = machine::ready(&[]) else { return };
    for program in ["redis-server", "redis-benchmark"] {
        if machine::find_program(program).is_none() {
            return machine::skipped(&Skip::NoProgram(program.to_owned()));
        }
    }
    let (port, folder) = (free_port().to_string(), folder());
    let mut command = Command::new("redis-server");
    command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    let mut server = Program::start("redis-server", command.current_dir(folder.path()));
    server.wait_ready("listened", |_| listens(port.parse().expect("a port")));
    let config = ConfigFile::new(
        "file_format: \"1.1\"\ndistribution: {spantap: {protocols: {redis: {enabled: false}}}}\n",
    );
    let agent = Agent::start_with(|command| {
        command.args(["--config", config.name()]);
    });
    // Values that look like requests, among a hundred thousand commands.
    let mut command = Command::new("redis-benchmark");
    command.args(["-p", &port, "-n", "20000", "-q", "-t", "ping_inline,get,set,lrange_100"]);
    let _ = Program::run("redis-benchmark", &mut command).success("redis-benchmark");
    for value in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"] {
        let mut command = Command::new("redis-cli");
        let _ =
            Program::run("redis-cli", command.args(["-p", &port, "set", "key", value])).success("redis-cli");
    }
    thread::sleep(Duration::from_millis(300));
    let finished = agent.finish();
    println!("{:#?}", finished.accounts);
    let found = finished
        .select(|span| span.service.starts_with("redis") || span.is_at(port.parse().expect("a port")));
    assert!(found.is_empty(), "{found:?}");
    assert!(finished.accounts.seen["unknown bytes"] > 1_000_000, "they were seen and left alone");
}
