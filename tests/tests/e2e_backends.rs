//! Do both socket backends see the same?

use std::time::Duration;

use spantap_tests::{
    agent::Agent, config::ConfigFile, machine, nginx::Nginx, otlp::Kind, program::Program, wrk::Wrk,
};

const LOCATIONS: &str = r"
    location /ok/ { return 200 'hello\n'; }
    location /gone/ { return 404; }
";

#[test]
fn both_backends_see_the_same_requests() {
    let Some(_turn) = machine::ready(&["nginx", "wrk", "curl", "openssl"]) else { return };
    let mut seen = Vec::new();
    for backend in ["auto", "syscalls"] {
        let config = ConfigFile::new(&format!(
            "file_format: \"1.1\"\ndistribution:\n  spantap:\n    capture:\n      backend: {backend}\n"
        ));
        let nginx = Nginx::start(LOCATIONS);
        nginx.file("page.html", &[b'x'; 20_000]);
        let agent = Agent::start_with(|command| {
            command.args(["--config", config.name()]);
        });
        let wrk = Wrk::start(&nginx.url(""), 2, 500, &["/ok/", "/gone/"]);
        nginx.wait_for_log(1_000);
        println!("{}", wrk.finish());
        for _ in 0..5 {
            let mut curl = std::process::Command::new("curl");
            curl.args([
                "--silent",
                "--output",
                "/dev/null",
                &nginx.url("/page.html"),
                &nginx.url("/ok/curl"),
            ]);
            assert!(Program::run("curl", &mut curl).status.success());
        }
        nginx.wait_for_log(1_010);
        std::thread::sleep(Duration::from_millis(300));
        let port = nginx.port;
        drop(nginx);
        let finished = agent.finish();
        finished.accounts.assert_nothing_lost();
        let mut spans: Vec<_> = finished
            .select(|span| span.is_at(port))
            .into_iter()
            .map(|span| {
                (
                    span.kind == Kind::Server,
                    span.path().to_owned(),
                    span.get("http.response.status_code").to_owned(),
                )
            })
            .collect();
        spans.sort();
        assert_eq!(spans.iter().filter(|(server, ..)| *server).count(), 1_010, "{backend}");
        assert_eq!(spans.len(), 2_020, "{backend}");
        seen.push(spans);
    }
    assert!(seen[0] == seen[1], "the backends disagree");
}
