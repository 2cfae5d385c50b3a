//! The watched come to no harm: not when the agent comes and goes under load, not when it is killed, and not one byte
//! is changed.

use std::{fs, io::Read, time::Duration};

use spantap_tests::{
    agent::Agent,
    bpf::{self, Object},
    client::curl,
    machine,
    nginx::Nginx,
    program::wait_until,
    wrk::Wrk,
};

const LOCATIONS: &str = "location /ok/ { return 200 'hello\\n'; }";
const PROGRAMS: &[&str] = &["nginx", "wrk", "curl", "openssl"];

/// Load over HTTP and over HTTPS at the same time.
struct Load {
    nginx: Nginx,
    wrks: [Wrk; 2],
}

impl Load {
    fn start() -> Self {
        let nginx = Nginx::start(LOCATIONS);
        let wrks = [nginx.url(""), nginx.tls_url("")].map(|origin| Wrk::start_endless(&origin, 2, &["/ok/"]));
        let load = Self { nginx, wrks };
        load.goes_on();
        load
    }

    /// Waits until a thousand more requests were served.
    fn goes_on(&self) {
        self.nginx.wait_for_log(self.nginx.log_lines() + 1_000);
    }

    /// Every request was answered, and nginx has logged each.
    fn end(self) -> u64 {
        let answered: u64 = self
            .wrks
            .map(|wrk| {
                let report = wrk.stop();
                report.assert_no_error();
                report.requests
            })
            .iter()
            .sum();
        let log = self.nginx.stop();
        assert!(log.iter().all(|line| line.status == 200));
        assert_eq!(log.len() as u64, answered, "nginx's log is complete");
        answered
    }
}

#[test]
fn coming_and_going_under_load_costs_no_request() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let load = Load::start();
    let mut spans = 0;
    for _ in 0..10 {
        let mut agent = Agent::start();
        agent.wait_for_tls();
        load.goes_on();
        spans += agent.finish().spans.len();
    }
    let answered = load.end();
    println!("{answered} requests answered, {spans} spans by ten agents");
    assert!(spans > 10_000, "{spans} spans");
}

#[test]
fn killed_under_load_it_leaves_nothing_behind() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let load = Load::start();
    for _ in 0..3 {
        let mut agent = Agent::start();
        agent.wait_for_tls();
        load.goes_on();
        let held = bpf::held_by(agent.program().tgid());
        let count = |is: fn(&Object) -> bool| held.iter().filter(|object| is(object)).count();
        let programs = count(|object| matches!(object, Object::Program(_)));
        let maps = count(|object| matches!(object, Object::Map(_)));
        let links = count(|object| matches!(object, Object::Link(_)));
        println!("{programs} programs, {maps} maps, {links} links");
        assert!(programs >= 10 && maps >= 10 && links >= 10, "{held:?}");
        assert!(held.iter().all(|object| bpf::exists(*object)), "{held:?}");
        agent.program().signal(libc::SIGKILL);
        agent.program().wait(Duration::from_secs(20));
        wait_until("the kernel's farewell", Duration::from_secs(20), || {
            !held.iter().any(|object| bpf::exists(*object))
        });
        load.goes_on();
    }
    println!("{} requests answered", load.end());
}

#[test]
fn not_one_byte_is_changed() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    const BYTES: usize = 64 << 20;
    let mut bytes = vec![0; BYTES];
    let mut random = fs::File::open("/dev/urandom").expect("Linux");
    random.read_exact(&mut bytes).expect("it never ends");
    // Small calls, large ones, and sendfile.
    let nginx = Nginx::start("location /copied/ { sendfile off; output_buffers 1 3k; alias %BASE%/www/; }");
    nginx.file("random", &bytes);
    let mut agent = Agent::start();
    agent.wait_for_tls();
    let to = nginx.folder().join("received");
    let target = to.to_str().expect("our own name");
    let paths = ["/random", "/copied/random"];
    let urls: Vec<String> = paths.iter().flat_map(|path| [nginx.url(path), nginx.tls_url(path)]).collect();
    for url in &urls {
        let _ = curl(&["--output", target, url]).success("curl");
        let received = fs::read(&to).expect("curl has made it");
        assert!(received == bytes, "{url}: {} bytes of {BYTES}, or others", received.len());
    }
    agent.wait_for(2 * urls.len(), |span| span.is_at(nginx.port) || span.is_at(nginx.tls_port));
    let finished = agent.finish();
    println!("{:#?}", finished.accounts);
}
