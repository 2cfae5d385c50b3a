//! Python's own HTTP server: HTTP/1.0, where the end of the connection is the end of the response.

use spantap_tests::{
    agent::Agent,
    client::{curl, fetch},
    machine,
    otlp::Kind,
    program::folder,
    python,
};

#[test]
fn close_delimited_responses_are_whole() {
    let Some(_turn) = machine::ready(&["python3", "curl"]) else { return };
    let files = folder();
    std::fs::write(files.path().join("page.txt"), vec![b'x'; 70_000]).expect("a fresh folder");
    std::fs::create_dir(files.path().join("list")).expect("a fresh folder");
    let server = python::http_server(files.path());
    let agent = Agent::start();
    let port = server.port;
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    assert_eq!(fetch(&[&url("/page.txt")]), (200, 70_000));
    assert_eq!(fetch(&["--http1.0", &url("/page.txt?old")]), (200, 70_000));
    // A listing, a redirect to it, what is not there, and what the server does not know how to do.
    assert_eq!(fetch(&[&url("/list/")]).0, 200);
    assert_eq!(fetch(&[&url("/list")]).0, 301);
    assert_eq!(fetch(&[&url("/missing")]).0, 404);
    let posted =
        curl(&["--data", "x=1", "--output", "/dev/null", "--write-out", "%{http_code}", &url("/form")]);
    assert_eq!(posted.stdout, "501");
    let head = curl(&["--head", &url("/page.txt?head")]).success("curl");
    assert!(head.stdout.starts_with("HTTP/1.0 200"), "{}", head.stdout);

    // Called after its module, `http.server`.
    let service = "http".to_owned();
    agent.wait_for(7, |span| span.is(&service, Kind::Server) && span.is_at(port));
    agent.wait_for(7, |span| span.is("curl", Kind::Client) && span.is_at(port));
    let finished = agent.finish();
    finished.accounts.assert_nothing_lost();
    for (service, kind) in [(service.as_str(), Kind::Server), ("curl", Kind::Client)] {
        let spans = finished.select(|span| span.is(service, kind) && span.is_at(port));
        let mut seen: Vec<(&str, &str, u16, bool)> = spans
            .iter()
            .map(|span| (span.get("http.request.method"), span.path(), span.status(), span.is_error))
            .collect();
        let client = kind == Kind::Client;
        let mut expected = [
            ("GET", "/page.txt", 200, false),
            ("GET", "/page.txt", 200, false),
            ("GET", "/list/", 200, false),
            ("GET", "/list", 301, false),
            ("GET", "/missing", 404, client),
            ("POST", "/form", 501, true),
            ("HEAD", "/page.txt", 200, false),
        ];
        // Of processes that ran one after the other, order is not promised.
        seen.sort_unstable();
        expected.sort_unstable();
        assert_eq!(seen, expected, "{service}");
        for span in spans {
            let executable = span.resource.get("process.executable.name").map_or("", String::as_str);
            let expected = if kind == Kind::Server { "python3" } else { "curl" };
            assert!(executable.starts_with(expected), "{span}: {executable}");
            assert_eq!(span.get("network.peer.address"), "127.0.0.1", "{span}");
        }
    }
}
