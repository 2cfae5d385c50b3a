//! How soon a span is there: below a second after its request has ended, below two seconds after the agent's start.

use std::{
    fs,
    time::{Duration, Instant, SystemTime},
};

use spantap_tests::{
    agent::{self, Agent},
    client::Socket,
    machine,
    nginx::Nginx,
    program::{Program, wait_until},
};

const LOCATIONS: &str = "location /ok/ { return 200 'hello\n'; }";
const PROGRAMS: &[&str] = &["nginx", "openssl"];

#[test]
fn spans_come_within_a_second() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let nginx = Nginx::start(LOCATIONS);
    let agent = Agent::start();
    let file = agent.stdout_file();
    let mut socket = Socket::connect(nginx.port);
    let mut delays = Vec::new();
    for n in 0..30 {
        // At different distances from the agent's ticks, after a silence and without one.
        std::thread::sleep(Duration::from_millis(n * 7));
        let path = format!("/ok/timed-{n}.");
        assert_eq!(socket.get(&path), (200, 6));
        let ended = Instant::now();
        wait_until("the span", Duration::from_secs(5), || {
            fs::read_to_string(&file).is_ok_and(|text| text.contains(&path))
        });
        delays.push(ended.elapsed());
    }
    delays.sort_unstable();
    let (median, worst) = (delays[delays.len() / 2], delays[delays.len() - 1]);
    println!("from the end of a request to its span: median {median:.0?}, worst {worst:.0?}");
    assert!(worst < Duration::from_secs(1), "{worst:?}");
    // What the spans say themselves agrees with this clock.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_nanos();
    let last = agent.spans().iter().map(|span| span.end_unix_ns).max().expect("there are spans");
    let age = Duration::from_nanos(u64::try_from(now).expect("before 2554").saturating_sub(last));
    assert!(age < Duration::from_secs(2) && u128::from(last) <= now, "the last span ended {age:?} ago");
}

#[test]
fn the_first_span_comes_within_two_seconds() {
    let Some(_turn) = machine::ready(PROGRAMS) else { return };
    let nginx = Nginx::start(LOCATIONS);
    let mut socket = Socket::connect(nginx.port);
    let began = Instant::now();
    let program = Program::start("spantap", &mut agent::command(&["--duration", "30s"]));
    // Traffic flows all the time: the first span is of whatever was asked right after it could watch.
    let mut asked = 0;
    wait_until("the first span", Duration::from_secs(10), || {
        asked += 1;
        assert_eq!(socket.get(&format!("/ok/first-{asked}")), (200, 6));
        program.stdout().contains("/ok/first-")
    });
    let took = began.elapsed();
    println!("from the agent's start to its first span: {took:.2?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}
