//! The binary of `cargo xtask fuzz`: libFuzzer drives the target that `SPANTAP_FUZZ_TARGET` names.
#![no_main]

use std::{env, fs, path::PathBuf, sync::LazyLock};

use spantap_fuzz::{TARGETS, Target, steps};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = env::var("SPANTAP_FUZZ_TARGET").unwrap_or_default();
    let named = TARGETS.iter().find(|target| target.name == name);
    named.unwrap_or_else(|| panic!("SPANTAP_FUZZ_TARGET names no target: {name:?}"))
});

libfuzzer_sys::fuzz_target!(init: write_seeds(), |data: &[u8]| {
    let before = steps::taken();
    let bytes = (TARGET.run)(data);
    let taken = steps::taken() - before;
    let most = TARGET.steps(bytes);
    assert!(taken > 0, "steps are not counted");
    assert!(taken <= most, "{taken} steps for {bytes} bytes, {most} are allowed");
});

/// Before libFuzzer reads its corpora: one of them is made of recordings.
fn write_seeds() {
    let Some(folder) = env::var_os("SPANTAP_FUZZ_SEEDS").map(PathBuf::from) else { return };
    for (n, seed) in (TARGET.seeds)().iter().enumerate() {
        fs::write(folder.join(n.to_string()), seed).expect("the folder of seeds can be written");
    }
}
