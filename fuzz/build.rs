//! Links the fuzzer so that `src/steps.rs` hears of every edge, and not libFuzzer's own function of that name, which
//! does nothing any more.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-Wl,--wrap=__sanitizer_cov_trace_pc");
}
