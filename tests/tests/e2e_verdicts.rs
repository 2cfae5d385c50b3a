//! What user space does not want is not copied, and what it wants again is.

use spantap_tests::{
    agent::Agent, client::curl, machine, nginx::Nginx, otlp::Kind, program::Program, python,
};

#[test]
fn unknown_talk_is_left_alone_and_http_after_it_is_found() {
    let Some(_turn) = machine::ready(&["python3"]) else { return };
    let agent = Agent::start();
    let mut command = python::script("unknown_protocol.py", &["20000"]);
    command.env("OTEL_SERVICE_NAME", "babble");
    let ended = Program::run("unknown_protocol", &mut command).success("the program");
    let bytes: u64 = ended.stdout.trim().parse().unwrap();
    agent.wait_for(10, |span| span.is("babble", Kind::Server));
    let finished = agent.finish();
    for kind in [Kind::Server, Kind::Client] {
        let mut paths: Vec<_> = finished
            .select(|span| span.is("babble", kind))
            .iter()
            .map(|span| span.path().to_owned())
            .collect();
        paths.sort();
        assert_eq!(paths, (0..10).map(|n| format!("/late/{n}")).collect::<Vec<_>>(), "{kind:?}");
    }
    // Two ends send and receive each byte; the first silence comes after a hundred calls.
    let unwanted = finished.accounts.left_out["kernel: unwanted bytes"];
    assert!(unwanted > 4 * bytes * 8 / 10, "{unwanted} of {} bytes were left out", 4 * bytes);
    finished.accounts.assert_nothing_lost();
}

#[test]
fn long_bodies_are_not_copied() {
    const SIZE: usize = 64 << 20;
    let Some(_turn) = machine::ready(&["nginx", "curl"]) else { return };
    // Without sendfile every byte comes from nginx's memory, where it could be copied from.
    let nginx = Nginx::start("location / { sendfile off; try_files /body =404; }");
    nginx.file("body", &vec![b'x'; SIZE]);
    let agent = Agent::start();
    // Slow enough that a reader which is kept from its processor for a while still has a say in most of it.
    for path in ["/1", "/2"] {
        let limit = ["--limit-rate", "32M", "--output", "/dev/null"];
        let _ = curl(&[&limit[..], &[nginx.url(path).as_str()]].concat()).success("curl");
    }
    for kind in [Kind::Server, Kind::Client] {
        agent.wait_for(2, |span| span.kind == kind);
    }
    let finished = agent.finish();
    for kind in [Kind::Server, Kind::Client] {
        let spans = finished.select(|span| span.kind == kind);
        assert_eq!(spans.len(), 2);
        for span in spans {
            assert_eq!(span.status(), 200, "{span}");
        }
    }
    let copied = finished.accounts.seen["parsed bytes"];
    assert!(copied < SIZE as u64 / 10, "{copied} bytes were copied of four times {SIZE}");
    finished.accounts.assert_nothing_lost();
}
