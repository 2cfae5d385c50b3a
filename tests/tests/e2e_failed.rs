//! Connections that are refused, and servers that reset, hang up or never answer: an error span where it is known what was
//! asked, and none where it is not.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener},
    process::Command,
    sync::mpsc,
    thread,
    time::Duration,
};

use spantap_tests::{
    agent::{Agent, Finished},
    client::{Socket, curl, fetch},
    config::ConfigFile,
    machine,
    nginx::Nginx,
    otlp::{Kind, Span},
    postgres::Postgres,
    program::{Program, folder, free_port, listens},
};

/// Client spans of what was asked of the server at `port`.
fn asked(finished: &Finished, service: &str, port: u16) -> Vec<Span> {
    finished.select(|span| span.is(service, Kind::Client) && span.is_at(port)).into_iter().cloned().collect()
}

fn assert_refused(span: &Span, name: &str, port: u16) {
    assert_eq!((span.name.as_str(), span.get("error.type")), (name, "connection_refused"), "{span}");
    assert!(span.is_error && span.parent.is_empty(), "{span}");
    assert_eq!(span.get("server.address"), "127.0.0.1", "{span}");
    assert_eq!(span.get("server.port"), port.to_string(), "{span}");
    assert!(span.end_unix_ns >= span.start_unix_ns, "{span}");
}

#[test]
fn who_is_refused_where_it_spoke_before_makes_an_error() {
    let Some(_turn) = machine::ready(&["nginx", "curl", "openssl", "redis-server", "redis-cli"]) else {
        return;
    };
    let agent = Agent::start();
    let (nobody, unknown) = (free_port(), format!("http://127.0.0.1:{}/", free_port()));
    let refused = |url: &str| assert_eq!(curl(&["--output", "/dev/null", url]).code(), Some(7), "{url}");

    let nginx = Nginx::start("location /ok/ { return 200 'hello\n'; }");
    let (port, url) = (nginx.port, nginx.url("/ok/1"));
    assert_eq!(fetch(&[&url]), (200, 6));
    agent.wait_for(1, |span| span.is("curl", Kind::Client) && span.is_at(port));
    drop(nginx);
    refused(&url);
    refused(&unknown);

    let place = folder();
    let redis_port = free_port();
    let redis = redis_port.to_string();
    let cli = |words: &[&str]| {
        Program::run(
            "redis-cli",
            Command::new("redis-cli").args(["-h", "127.0.0.1", "-p", &redis]).args(words),
        )
    };
    let serve = || {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &redis]).current_dir(place.path());
        let mut program = Program::start("redis-server", &mut command);
        program.wait_ready("listened", |_| listens(redis_port));
        program
    };
    // Nobody has spoken there yet: what comes later explains it.
    assert_ne!(cli(&["PING"]).code(), Some(0));
    let server = serve();
    let _ = cli(&["SET", "a", "1"]).success("redis-cli");
    agent.wait_for(3, |span| span.is("redis-cli", Kind::Client) && span.is_at(redis_port));
    drop(server);
    assert_ne!(cli(&["PING"]).code(), Some(0));
    // Another program that only knocks is no client of Redis.
    let knock = format!("telnet://127.0.0.1:{redis}");
    refused(&knock);
    refused(&format!("http://127.0.0.1:{nobody}/"));
    agent.wait_for(5, |span| span.is("redis-cli", Kind::Client) && span.is_at(redis_port));
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();

    let spans = asked(&finished, "curl", port);
    let [answered, failed] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(answered.status(), 200, "{answered}");
    assert_refused(failed, "HTTP", port);
    assert_eq!(failed.get("http.request.method"), "_OTHER", "{failed}");
    let spans = asked(&finished, "redis-cli", redis_port);
    let failed: Vec<_> = spans.iter().filter(|span| !span.get("error.type").is_empty()).collect();
    // It tries twice, once when it starts and once with the command.
    assert_eq!((failed.len(), spans.len() - failed.len()), (4, 1), "{spans:?}");
    for span in failed {
        assert_refused(span, "redis", redis_port);
        assert_eq!(span.get("db.system.name"), "redis", "{span}");
    }
    for port in [nobody, redis_port] {
        assert_eq!(asked(&finished, "curl", port).len(), 0, "nobody knows what curl would have said");
    }
    // Metrics count them too.
    let counted = |metric: &str, service: &str| {
        let of = finished.points.iter().filter(|point| point.metric == metric && point.service == service);
        of.filter(|point| {
            point.attributes.get("error.type").is_some_and(|error| error == "connection_refused")
        })
        .map(|point| point.count)
        .sum::<u64>()
    };
    assert_eq!(counted("http.client.request.duration", "curl"), 1);
    assert_eq!(counted("db.client.operation.duration", "redis-cli"), 4);
    assert!(finished.accounts.left_out["failed connects unknown"] >= 3);
    assert!(finished.accounts.seen["failed connects"] >= 6);
}

#[test]
fn psql_that_finds_its_server_gone_makes_an_error() {
    let Some(_turn) = machine::ready(&["psql", "pgbench", "setpriv"]) else { return };
    let postgres = match Postgres::start() {
        Ok(postgres) => postgres,
        Err(skip) => return machine::skipped(&skip),
    };
    let port = postgres.port;
    let agent = Agent::start();
    let mut psql = postgres.client("psql");
    psql.args(["-X", "-d", "shop", "-c", "SELECT 1"]);
    let _ = Program::run("psql", &mut psql).success("psql");
    agent.wait_for(1, |span| span.is("psql", Kind::Client) && span.is_at(port));
    postgres.stop();
    assert_eq!(Program::run("psql", &mut psql).code(), Some(2));
    agent.wait_for(2, |span| span.is("psql", Kind::Client) && span.is_at(port));
    let finished = agent.finish();
    let spans = asked(&finished, "psql", port);
    let [answered, failed] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((answered.name.as_str(), answered.is_error), ("SELECT", false), "{answered}");
    assert_refused(failed, "postgresql", port);
    assert_eq!(failed.get("db.system.name"), "postgresql", "{failed}");
}

#[test]
fn a_server_that_resets_or_hangs_up_makes_errors() {
    let Some(_turn) = machine::ready(&["curl"]) else { return };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let agent = Agent::start();
    let server = thread::spawn(move || {
        for is_read in [true, false] {
            let (mut stream, _) = listener.accept().expect("curl comes");
            let mut byte = [0];
            // A close with unread bytes is a reset (RFC 2525, 2.17); without, it is an orderly end.
            let mut head = [0; 4096];
            let _ = if is_read { stream.read(&mut head) } else { stream.read(&mut byte) };
        }
    });
    for path in ["closed", "reset"] {
        let ended = curl(&["--output", "/dev/null", &format!("http://127.0.0.1:{port}/{path}")]);
        assert!([Some(52), Some(56)].contains(&ended.code()), "{path}: {:?}", ended.code());
    }
    server.join().expect("the server has served");
    agent.wait_for(2, |span| span.is("curl", Kind::Client) && span.is_at(port));
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    let spans = asked(&finished, "curl", port);
    for path in ["/closed", "/reset"] {
        let found: Vec<_> = spans.iter().filter(|span| span.path() == path).collect();
        let [span] = found[..] else { panic!("{path}: {found:?}") };
        assert_eq!((span.status(), span.get("error.type")), (0, "connection_closed"), "{span}");
        assert!(span.is_error, "{span}");
    }
}

#[test]
fn a_server_that_does_not_answer_in_time_makes_an_error_once() {
    let Some(_turn) = machine::ready(&["curl"]) else { return };
    let config = ConfigFile::new("file_format: \"1.1\"\ndistribution: {spantap: {exchange_timeout: 1s}}\n");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let agent = Agent::start_with(|command| {
        command.args(["--config", config.name()]);
    });
    let (answer, told) = mpsc::channel();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the client comes");
        let mut head = [0; 4096];
        for _ in 0..3 {
            let _ = stream.read(&mut head).expect("a request");
            told.recv().expect("the test goes on");
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").expect("the client is there");
        }
        // Not closed before the client is gone.
        let _ = stream.read(&mut head);
    });
    let mut socket = Socket::connect(port);
    let request = socket.request("GET", "/late");
    socket.send(request.as_bytes());
    let is_asked = |span: &Span, path: &str| span.path() == path && span.is_at(port);
    agent.wait_for(2, |span| is_asked(span, "/late"));
    answer.send(()).expect("the server waits");
    assert_eq!(socket.response(), (200, 2));
    for path in ["/soon", "/then"] {
        // A connection that is joined in its middle is understood again after a pause between two requests.
        thread::sleep(Duration::from_millis(300));
        let request = socket.request("GET", path);
        socket.send(request.as_bytes());
        answer.send(()).expect("the server waits");
        assert_eq!(socket.response(), (200, 2));
    }
    drop(socket);
    server.join().expect("the server has served");
    agent.wait_for(2, |span| is_asked(span, "/then"));
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    // The late answer is nobody's, so that a client's next request is not trusted with one.
    let soon = finished.select(|span| is_asked(span, "/soon"));
    assert!(soon.len() <= 2 && soon.iter().all(|span| span.status() == 200 && !span.is_error), "{soon:?}");
    for (path, status, error) in [("/late", 0, "timeout"), ("/then", 200, "")] {
        let spans = finished.select(|span| is_asked(span, path));
        let mut kinds: Vec<Kind> = spans.iter().map(|span| span.kind).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, [Kind::Server, Kind::Client], "{path}: {spans:?}");
        for span in spans {
            assert_eq!((span.status(), span.get("error.type"), span.is_error), (status, error, status == 0));
            assert_eq!(span.milliseconds() >= 1000.0, status == 0, "{span}");
        }
    }
}
