//! Every target on its seeds, its corpus, and a fixed number of mutations of both.
//!
//! `FUZZ_CASES` in the environment is another number of mutations for each target.

use std::{fs, path::Path};

use spantap_fuzz::{TARGETS, Target};
use spantap_protocols::{ALL, testing::Noise};

/// Mutations that each target is run on: seconds in a debug build.
const CASES: u64 = 3_000;

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("readable")).collect()
}

/// Changes `input` in a few places, with what stands elsewhere in it or in `others`.
fn mutate(input: &[u8], others: &[Vec<u8>], noise: &mut Noise) -> Vec<u8> {
    let mut input = input.to_vec();
    for _ in 0..=noise.below(6) {
        let at = noise.below(input.len() as u64 + 1) as usize;
        let end = (at + 1 + noise.below(24) as usize).min(input.len());
        let here = at.min(input.len().saturating_sub(1));
        match (noise.below(8), input.is_empty()) {
            (0, _) | (_, true) => input.insert(at.min(input.len()), noise.number() as u8),
            (1, _) => input[here] ^= 1 << noise.below(8),
            (2, _) => input[here] = [0, 1, 0x7f, 0x80, 0xff, b'\r', b'\n', b' '][noise.below(8) as usize],
            (3, _) => input.truncate(at),
            (4, _) => drop(input.drain(at..end)),
            (5, _) => {
                let again = input[at..end].to_vec();
                input.splice(at..at, again);
            }
            (6, _) => input[here] = input[here].wrapping_add(noise.below(9) as u8).wrapping_sub(4),
            _ => {
                let other = &others[noise.below(others.len() as u64) as usize];
                let from = noise.below(other.len() as u64 + 1) as usize;
                let until = (from + noise.below(200) as usize).min(other.len());
                input.splice(at..end.max(at), other[from..until].iter().copied());
            }
        }
    }
    input
}

#[test]
fn nothing_breaks_on_seeds_corpus_and_mutations() {
    let cases = std::env::var("FUZZ_CASES").map_or(CASES, |cases| cases.parse().expect("a number"));
    for target in TARGETS {
        let mut inputs = (target.seeds)();
        inputs.extend(corpus(target));
        assert!(!inputs.is_empty(), "{} has no seeds", target.name);
        let mut bytes: u64 = inputs.iter().map(|input| run(target, input)).sum();
        let mut noise = Noise::new(1);
        for _ in 0..cases {
            let input = &inputs[noise.below(inputs.len() as u64) as usize];
            bytes += run(target, &mutate(input, &inputs, &mut noise));
        }
        println!("{}: {} inputs, {cases} mutations, {bytes} bytes fed", target.name, inputs.len());
        assert!(bytes > 0, "{} was fed nothing", target.name);
    }
}

/// Runs one input, and says which it was if it fails.
fn run(target: &Target, input: &[u8]) -> u64 {
    let outcome = std::panic::catch_unwind(|| (target.run)(input));
    outcome.unwrap_or_else(|_| panic!("{} fails on {:?}", target.name, input.escape_ascii().to_string()))
}

#[test]
fn every_protocol_has_a_target() {
    for protocol in ALL {
        assert!(TARGETS.iter().any(|target| target.name == protocol.name()), "{} has none", protocol.name());
    }
}
