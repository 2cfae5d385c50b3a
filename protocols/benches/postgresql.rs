//! `cargo bench -p spantap-protocols --features testing --bench postgresql`: exchanges a second through the parser, from
//! the recorded conversations, on one core.

use std::{fs, hint::black_box, path::Path, time::Instant};

use spantap_protocols::{OpenContext, Protocol, Segment, postgresql::Postgresql, testing::Fixture};

/// Conversations in one measurement.
const ROUNDS: usize = 20_000;

/// Measurements, of which the best and the median are shown.
const RUNS: usize = 7;

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/postgresql/fixtures");
    println!(
        "{:20} {:>9} {:>14} {:>14} {:>9}",
        "conversation", "exchanges", "best ns each", "median ns each", "1/s best"
    );
    for name in ["pgbench_simple", "pgbench_extended", "pgbench_prepared", "psycopg_pipeline", "psql"] {
        let text = fs::read_to_string(folder.join(format!("{name}.txt"))).expect("a fixture of this crate");
        let fixture = Fixture::parse(name, &text);
        let mut times = Vec::new();
        let mut found = 0;
        for _ in 0..RUNS {
            let begun = Instant::now();
            found = 0;
            for _ in 0..ROUNDS {
                found += converse(&fixture);
            }
            times.push(begun.elapsed().as_secs_f64() * 1e9 / found as f64);
        }
        times.sort_by(f64::total_cmp);
        let (best, median) = (times[0], times[RUNS / 2]);
        println!("{name:20} {:>9} {best:>14.0} {median:>14.0} {:>9.0}", found / ROUNDS, 1e9 / best);
    }
}

/// One connection from its start to its end, each call as one segment; returns how many exchanges it gave.
fn converse(fixture: &Fixture) -> usize {
    let context = OpenContext { role: fixture.role, from_start: true, answered: false, tls: false };
    let mut parser = Postgresql.open(context);
    let mut out = Vec::with_capacity(64);
    let mut found = 0;
    for chunk in &fixture.chunks {
        let mut rest = chunk.bytes.as_slice();
        while !rest.is_empty() {
            let (first_at, last_at) = (chunk.first_at, chunk.last_at);
            let segment = Segment { direction: chunk.direction, first_at, last_at, bytes: rest, cut: false };
            match parser.on_segment(segment, &mut out) {
                // No call of these ends inside of a message that is looked at.
                0 => panic!("{} stands still", fixture.name),
                taken => rest = &rest[taken..],
            }
        }
        found += out.len();
        out.clear();
    }
    black_box(&parser);
    found
}
