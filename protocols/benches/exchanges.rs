//! What does an exchange cost in the parsers? `cargo bench -p spantap-protocols`, or `cargo xtask bench protocols`,
//! which shows the same tables: cells are separated by tabs, `#` begins a heading, a list of columns, or a note.

#[path = "../tests/support/mod.rs"]
#[allow(dead_code, reason = "shared: each takes what it needs")]
mod support;

use std::{hint::black_box, process::Command, time::Instant};

use support::{
    Connection, Conversation,
    conversations::{large, small},
    counting::{Counting, taken},
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Nanoseconds that one measurement takes, about.
const MEASUREMENT_NS: f64 = 10e6;

/// Measurements of each conversation, unless `--runs` says otherwise.
const RUNS: usize = 20;

/// Exchanges between the two counts of instructions.
const COUNTED: usize = 2048;

/// Exchanges a second on one core that each protocol is to reach.
const TARGETS: &[(&str, f64)] = &[("HTTP/1 GET", 400e3), ("Redis", 1e6), ("PostgreSQL", 300e3)];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    if let (Some(name), Some(count)) = (after("--count"), after("--exchanges")) {
        return read(&name, count.parse().expect("a number of exchanges"));
    }
    let runs = after("--runs").map_or(RUNS, |runs| runs.parse().expect("a number of runs"));
    times(runs.max(1));
    allocations();
    idle();
}

fn times(runs: usize) {
    let mut conversations = small();
    let mut ns = vec![Vec::new(); conversations.len()];
    // All of them in each run: the machine changes its speed, and that hits all alike.
    for _ in 0..runs {
        for (conversation, ns) in conversations.iter_mut().zip(&mut ns) {
            let rough = measure(conversation, 4096 / conversation.exchanges);
            ns.push(measure(conversation, (MEASUREMENT_NS / rough) as usize / conversation.exchanges + 1));
        }
    }
    println!("# Exchanges through the parsers, one core, {runs} runs");
    println!("# conversation\tbytes\tbest ns\tmedian ns\tbest/s\ttarget/s\tMB/s\tinstructions\tallocations");
    for (conversation, ns) in conversations.iter_mut().zip(&mut ns) {
        ns.sort_by(f64::total_cmp);
        let (best, median) = (ns[0], ns[ns.len() / 2]);
        let bytes = conversation.bytes() as f64 / conversation.exchanges as f64;
        let allocations = allocated(conversation) as f64;
        let target = TARGETS.iter().find(|(start, _)| conversation.name.starts_with(start));
        println!(
            "{}\t{bytes:.0}\t{best:.0}\t{median:.0}\t{:.0}\t{}\t{:.0}\t{}\t{:.2}",
            conversation.name,
            1e9 / best,
            target.map_or("-".to_owned(), |(_, target)| format!("{target:.0}")),
            bytes * 1e3 / best,
            instructions(conversation).map_or("-".to_owned(), |count| format!("{count:.0}")),
            allocations / conversation.exchanges as f64,
        );
    }
    println!("#- bytes, instructions and allocations are of one exchange, both directions");
    println!(
        "#- instructions as valgrind counts them, between two runs of different length; - without valgrind"
    );
}

/// Nanoseconds an exchange, over so many rounds.
fn measure(conversation: &mut Conversation, rounds: usize) -> f64 {
    let mut connection = Connection::open(conversation);
    let begun = Instant::now();
    for _ in 0..rounds.max(1) {
        connection.round(conversation);
    }
    let ns = begun.elapsed().as_nanos() as f64;
    ns / black_box(connection.exchanges) as f64
}

/// Instructions an exchange.
fn instructions(conversation: &Conversation) -> Option<f64> {
    let count = |exchanges: usize| {
        let output = Command::new("valgrind")
            .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
            .arg(std::env::current_exe().ok()?)
            .args(["--count", conversation.name, "--exchanges", &exchanges.to_string()])
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        // `==1== I   refs:      12,345`
        let line = text.lines().find(|line| line.contains("I   refs:"))?;
        line.rsplit(' ').next()?.replace(',', "").parse::<f64>().ok()
    };
    Some((count(2 * COUNTED)? - count(COUNTED)?) / COUNTED as f64)
}

/// For the counts: so many exchanges of one conversation.
fn read(name: &str, exchanges: usize) {
    let mut all = small();
    let conversation = all.iter_mut().find(|conversation| conversation.name == name).expect("a conversation");
    let mut connection = Connection::open(conversation);
    while connection.exchanges < exchanges {
        connection.round(conversation);
    }
    black_box(&connection);
}

/// Allocations of one round, once the connection is warm.
fn allocated(conversation: &mut Conversation) -> u64 {
    let mut connection = Connection::open(conversation);
    for _ in 0..4 {
        connection.round(conversation);
    }
    let before = taken().allocations;
    connection.round(conversation);
    taken().allocations - before
}

fn allocations() {
    println!("# Allocations of an exchange with 64 KiB of data in calls of 4 KiB");
    println!("# conversation\tcalls\tallocations");
    for mut conversation in large() {
        let found = allocated(&mut conversation);
        println!("{}\t{}\t{found}", conversation.name, conversation.round.len());
    }
    println!("#- as many as without the data: a segment that begins and ends no exchange takes nothing");
}

fn idle() {
    println!("# Memory of an idle connection's parser, after exchanges");
    println!("# conversation\tbytes\ttarget");
    for mut conversation in small().into_iter().chain(large()) {
        let before = taken().live;
        let mut connection = Connection::open(&conversation);
        let outside = connection.outside() as i64;
        for _ in 0..4 {
            connection.round(&mut conversation);
        }
        println!("{}\t{}\t2048", conversation.name, taken().live - before - outside);
    }
    println!(
        "#- what the parser has on the heap, itself included; retained bytes are the connection table's"
    );
}
