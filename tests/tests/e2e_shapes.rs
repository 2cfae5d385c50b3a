//! Requests of every shape: pipelined, chunked, dribbled, huge, cut off, and on connections older than the agent.

use std::{
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use spantap_tests::{
    agent::{Agent, Finished},
    client::{Socket, curl, fetch},
    machine,
    nginx::Nginx,
    otlp::{Kind, Span},
    python,
};

const LOCATIONS: &str = r"
    location /ok/ { return 200 'hello\n'; }
    location /missing/ { return 404; }
    location /slowly/ { limit_rate 64k; try_files /big.bin =404; }
    location /drip/ { limit_rate 1k; try_files /page.html =404; }
";

const PROGRAMS: &[&str] = &["nginx", "curl", "openssl", "python3"];
const MIB: usize = 1 << 20;

#[test]
fn pipelined_requests_are_told_apart() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let nginx = Nginx::start(LOCATIONS);
    let agent = Agent::start();
    let mut socket = Socket::connect(nginx.port);
    // In one send; two of them, so that the second batch follows on a connection that is known.
    for batch in 0..2 {
        let path = |n: usize| format!("/{}/{batch}-{n}", if n.is_multiple_of(3) { "missing" } else { "ok" });
        let requests: String = (0..16).map(|n| socket.request("GET", &path(n))).collect();
        socket.send(requests.as_bytes());
        for n in 0..16 {
            assert_eq!(socket.response().0, if n % 3 == 0 { 404 } else { 200 });
        }
    }
    let own_port = socket.own_port().to_string();
    drop(socket);
    nginx.wait_for_log(32);
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    let spans = server_spans(&finished, nginx.port);
    let log = nginx.log();
    let expected: Vec<(&str, u16)> = log.iter().map(|line| (line.uri.as_str(), line.status)).collect();
    let seen: Vec<(&str, u16)> = spans.iter().map(|span| (span.path(), span.status())).collect();
    assert_eq!(seen, expected);
    assert!(spans.iter().all(|span| span.get("network.peer.port") == own_port));
    let clients = finished.select(|span| span.kind == Kind::Client && span.is_at(nginx.port));
    let seen: Vec<(&str, u16)> = clients.iter().map(|span| (span.path(), span.status())).collect();
    assert_eq!(seen, expected, "the client's own spans");
}

#[test]
fn chunked_responses_are_whole() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let server = python::serve("slow_server.py", &[], |command| {
        command.env("OTEL_SERVICE_NAME", "chunker");
    });
    let agent = Agent::start();
    let mut socket = Socket::connect(server.port);
    for count in [0, 1, 3, 500] {
        assert_eq!(socket.get(&format!("/chunks/{count}")).0, 200);
        assert_eq!(socket.get(&format!("/after/{count}")), (200, 6));
    }
    agent.wait_for(8, |span| span.is("chunker", Kind::Server));
    let finished = agent.finish();
    let spans = finished.select(|span| span.is("chunker", Kind::Server));
    let seen: Vec<(String, u16)> = spans.iter().map(|span| (span.path().to_owned(), span.status())).collect();
    let expected: Vec<(String, u16)> = [0, 1, 3, 500]
        .iter()
        .flat_map(|n| [(format!("/chunks/{n}"), 200), (format!("/after/{n}"), 200)])
        .collect();
    assert_eq!(seen, expected);
}

#[test]
fn ten_megabytes_go_up_after_100_continue() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let server = python::serve("slow_server.py", &[], |command| {
        command.env("OTEL_SERVICE_NAME", "taker");
    });
    // nginx buffers the body in a file and passes it on.
    let nginx = Nginx::start(&format!("location / {{ proxy_pass http://127.0.0.1:{}; }}", server.port));
    nginx.file("upload.bin", &vec![b'u'; 10 * MIB]);
    let file = format!("@{}", nginx.folder().join("www/upload.bin").display());
    let agent = Agent::start();
    for url in [format!("http://127.0.0.1:{}/direct", server.port), nginx.url("/through")] {
        let ended = curl(&["--header", "Expect: 100-continue", "--data-binary", &file, &url]).success("curl");
        assert_eq!(ended.stdout, format!("{}\n", 10 * MIB));
    }
    agent.wait_for(2, |span| span.is("taker", Kind::Server));
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    // The interim response is not the answer.
    let status = |service: &str, kind, path: &str| {
        let spans = finished.select(|span| span.is(service, kind) && span.path() == path);
        let seen: Vec<u16> = spans.iter().map(|span| span.status()).collect();
        assert_eq!(seen, [200], "{kind:?} spans of {service} for {path}");
        assert_eq!(spans[0].get("http.request.method"), "POST");
    };
    status("taker", Kind::Server, "/direct");
    status("curl", Kind::Client, "/direct");
    status("curl", Kind::Client, "/through");
    status("nginx", Kind::Server, "/through");
    status("nginx", Kind::Client, "/through");
    status("taker", Kind::Server, "/through");
}

#[test]
fn ten_megabytes_come_down_by_sendfile() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let nginx = Nginx::start(LOCATIONS);
    nginx.file("big.bin", &vec![b'd'; 10 * MIB]);
    let agent = Agent::start();
    // On one connection: whatever follows the unseen body must be found again.
    let (big, small) = (nginx.url("/big.bin?n=1"), nginx.url("/ok/after"));
    let urls = [&big, &small, &nginx.url("/big.bin?n=2"), &nginx.url("/missing/after")];
    let mut arguments = Vec::new();
    for url in urls {
        arguments.extend(["--output", "/dev/null", url.as_str()]);
    }
    arguments.extend(["--write-out", "%{http_code} %{size_download} %{num_connects}\n"]);
    let said = curl(&arguments).success("curl").stdout;
    let size = 10 * MIB;
    assert!(said.starts_with(&format!("200 {size} 1\n200 6 0\n200 {size} 0\n404 ")), "{said}");
    nginx.wait_for_log(4);
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    let expected = [("/big.bin", 200), ("/ok/after", 200), ("/big.bin", 200), ("/missing/after", 404)];
    let clients = finished.select(|span| span.is("curl", Kind::Client) && span.is_at(nginx.port));
    for spans in [server_spans(&finished, nginx.port), clients] {
        let seen: Vec<(&str, u16)> = spans.iter().map(|span| (span.path(), span.status())).collect();
        assert_eq!(seen, expected);
    }
    // They were in nobody's memory, so that they cannot be copied; but they are accounted for.
    let uncopied = finished.accounts.seen.get("uncopied bytes").copied().unwrap_or(0);
    assert!(uncopied >= 2 * size as u64, "sendfile's bytes are counted: {:#?}", finished.accounts);
}

#[test]
fn heads_and_dribbled_requests_are_paired() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let nginx = Nginx::start(LOCATIONS);
    nginx.file("page.html", &[b'x'; 5000]);
    let agent = Agent::start();
    let head = curl(&["--head", &nginx.url("/page.html"), "--next", "--insecure", &nginx.url("/ok/next")]);
    assert!(head.success("curl").stdout.contains("Content-Length: 5000"));
    let mut socket = Socket::connect(nginx.port);
    let request = socket.request("GET", "/ok/dribbled");
    let began = Instant::now();
    for byte in request.as_bytes() {
        socket.send(&[*byte]);
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(socket.response(), (200, 6));
    let took = began.elapsed().as_secs_f64() * 1e3;
    assert_eq!(socket.get("/missing/after").0, 404);
    drop(socket);
    nginx.wait_for_log(4);
    let log = nginx.log();
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    let spans = server_spans(&finished, nginx.port);
    let seen: Vec<(&str, &str, u16)> =
        spans.iter().map(|span| (span.get("http.request.method"), span.path(), span.status())).collect();
    let expected = [
        ("HEAD", "/page.html", 200),
        ("GET", "/ok/next", 200),
        ("GET", "/ok/dribbled", 200),
        ("GET", "/missing/after", 404),
    ];
    assert_eq!(seen, expected);
    // It began with its first byte.
    let dribbled = spans[2].milliseconds();
    let logged = log[2].milliseconds;
    println!("dribbled for {took:.1} ms; the span has {dribbled:.1} ms, nginx says {logged:.1} ms");
    assert!((dribbled - logged).abs() <= (logged / 10.0).max(1.0), "{dribbled} ms, nginx says {logged} ms");
}

#[test]
fn clients_that_leave_early_leave_no_wrong_span() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let nginx = Nginx::start(LOCATIONS);
    nginx.file("big.bin", &vec![b'd'; 4 * MIB]);
    nginx.file("page.html", &[b'x'; 20_000]);
    let agent = Agent::start();
    for n in 0..5 {
        // Gone in the middle of the response, with an orderly end and with a reset.
        for (name, reset) in [("closed", false), ("reset", true)] {
            let mut socket = Socket::connect(nginx.port);
            let request = socket.request("GET", &format!("/slowly/{name}-{n}"));
            socket.send(request.as_bytes());
            socket.skip(10_000);
            if reset { socket.reset() } else { drop(socket) }
        }
        // Gone before the request was complete.
        let mut socket = Socket::connect(nginx.port);
        let request = socket.request("GET", &format!("/ok/half-{n}"));
        socket.send(&request.as_bytes()[..30]);
        thread::sleep(Duration::from_millis(5));
        socket.reset();
        assert_eq!(fetch(&[&nginx.url(&format!("/ok/whole-{n}"))]), (200, 6));
    }
    // Nothing at all was said.
    drop(TcpStream::connect(("127.0.0.1", nginx.port)));
    agent.wait_for(15, |span| span.is("nginx", Kind::Server) && span.is_at(nginx.port));
    let finished = agent.finish();
    let spans = server_spans(&finished, nginx.port);
    for span in &spans {
        println!("{span}");
    }
    let of = |prefix: &str| spans.iter().filter(|span| span.path().starts_with(prefix)).collect::<Vec<_>>();
    assert_eq!(of("/ok/whole-").len(), 5);
    assert!(of("/ok/whole-").iter().all(|span| span.status() == 200 && !span.is_error));
    assert_eq!(of("/ok/half-").len(), 0, "half a request is none");
    for prefix in ["/slowly/closed-", "/slowly/reset-"] {
        assert_eq!(of(prefix).len(), 5, "{prefix}");
        assert!(
            of(prefix).iter().all(|span| span.status() == 200),
            "the status was sent before the client left"
        );
    }
    assert_eq!(spans.len(), 15);
}

#[test]
fn connections_older_than_the_agent_are_joined() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let nginx = Nginx::start(LOCATIONS);
    nginx.file("page.html", &vec![b'x'; 3000]);
    // Idle, with a history, and in the middle of a slow response.
    let mut fresh = Socket::connect(nginx.port);
    let mut used = Socket::connect(nginx.port);
    assert_eq!(used.get("/ok/before"), (200, 6));
    let mut busy = Socket::connect(nginx.port);
    let request = busy.request("GET", "/drip/during");
    busy.send(request.as_bytes());
    busy.skip(50);
    let agent = Agent::start();
    let peers: Vec<String> =
        [&fresh, &used, &busy].iter().map(|socket| socket.own_port().to_string()).collect();
    for n in 0..3 {
        assert_eq!(fresh.get(&format!("/ok/fresh-{n}")), (200, 6));
        assert_eq!(used.get(&format!("/missing/used-{n}")).0, 404);
    }
    // The rest of the response that was under way, then one that is seen whole.
    busy.skip_response(3000);
    assert_eq!(busy.get("/ok/busy-0"), (200, 6));
    assert_eq!(busy.get("/missing/busy-1").0, 404);
    agent.wait_for(8, |span| span.is("nginx", Kind::Server) && span.path().contains('-'));
    let finished = agent.finish();
    let of =
        |prefix: &str| finished.select(|span| span.is("nginx", Kind::Server) && span.path().contains(prefix));
    for (name, status, count, peer) in [
        ("fresh", 200, 3, &peers[0]),
        ("used", 404, 3, &peers[1]),
        ("busy-0", 200, 1, &peers[2]),
        ("busy-1", 404, 1, &peers[2]),
    ] {
        let spans = of(name);
        assert_eq!(spans.len(), count, "spans of {name}");
        for span in spans {
            assert_eq!(span.status(), status, "{span}");
            assert_eq!(span.get("network.peer.port"), peer, "{span}");
        }
    }
    assert_eq!(of("before").len(), 0);
    assert!(of("during").is_empty(), "its request was not seen");
    assert_eq!(server_spans(&finished, nginx.port).len(), 8);
}

/// A client that pipelines, on a connection of which the beginning was not seen: from its first pause on it is paired.
#[test]
fn pipelining_that_is_older_than_the_agent_is_joined_at_a_pause() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let nginx = Nginx::start(LOCATIONS);
    let mut socket = Socket::connect(nginx.port);
    let path = |batch: &str, n: usize| format!("/{}/{batch}-{n}", ["ok", "missing"][n % 2]);
    let mut run = |batch: &str| {
        let requests: String = (0..5).map(|n| socket.request("GET", &path(batch, n))).collect();
        socket.send(requests.as_bytes());
        for n in 0..5 {
            assert_eq!(socket.response().0, [200, 404][n % 2]);
        }
    };
    run("before");
    let agent = Agent::start();
    run("joined");
    // Many times longer than nginx took.
    thread::sleep(Duration::from_secs(2));
    run("paused");
    nginx.wait_for_log(15);
    let finished = agent.finish();
    for kind in [Kind::Server, Kind::Client] {
        let spans = finished.select(|span| span.kind == kind && span.is_at(nginx.port));
        for span in &spans {
            assert_eq!(span.status(), if span.path().starts_with("/ok/") { 200 } else { 404 }, "{span}");
        }
        let seen: Vec<_> =
            spans.iter().map(|span| span.path()).filter(|path| path.contains("paused")).collect();
        let expected: Vec<_> = (0..5).map(|n| path("paused", n)).collect();
        assert_eq!(seen, expected, "{kind:?}");
    }
}

/// nginx's spans in the order of their ends, as its log has them.
fn server_spans(finished: &Finished, port: u16) -> Vec<&Span> {
    let mut spans = finished.select(|span| span.is("nginx", Kind::Server) && span.is_at(port));
    spans.sort_by_key(|span| span.end_unix_ns);
    spans
}
