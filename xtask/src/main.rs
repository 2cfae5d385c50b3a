//! `cargo xtask`: everything a contributor or CI runs. Each subcommand is a folder or file of its own.

mod bench;
mod command;
mod ebpf;
mod fuzz;
mod packages;
mod step;
mod test;
mod toolchain;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What a contributor or CI runs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run all checks and tests, after installing the Debian packages that they need.
    Test(test::Options),
    /// Build the eBPF object anew, or check that the prebuilt one is what the sources make.
    Ebpf(ebpf::Options),
    /// Run a command on another kernel, in a virtual machine.
    Vm(vm::Options),
    /// Look for inputs that break what reads bytes of others.
    Fuzz(fuzz::Options),
    /// Run a benchmark.
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Test(options) => test::run(&options),
        Task::Ebpf(options) => ebpf::run(&options),
        Task::Vm(options) => vm::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Bench(options) => bench::run(&options),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
