//! The `spantap` binary: parses the command line, says what went wrong in a line or two, and chooses the exit status:
//! 0 done, 1 cannot be done here, 2 wrong usage.

use std::{
    fs::File,
    io::{BufReader, IsTerminal},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use spantap::{
    app::{self, Agent, Naming, Outputs, Pace},
    cli::{CheckArgs, Cli, Command, ConfigCommand, Format, ReplayArgs, RunArgs},
    demo,
    export::Pressure,
};
use spantap_config::{Config, LoadContext, LogLevel, StdoutFormat};
use tracing_subscriber::{EnvFilter, fmt::time::SystemTime};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => run(&cli.run),
        Some(Command::Run(args)) => run(&args),
        Some(Command::Demo(args)) => {
            start_log(LogLevel::Warn);
            demo::run(&args)
        }
        Some(Command::Replay(args)) => replay(&args),
        Some(Command::Check(args)) => match check(&args) {
            Ok(true) => Ok(()),
            // What is wrong stands on the screen.
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
        Some(Command::Config { command: ConfigCommand::Check { file } }) => check_config(&file),
        Some(Command::Workload { part, port }) => demo::workload(part, port),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("{RED}error:{RED:#} {error:#}");
            ExitCode::FAILURE
        }
    }
}

const RED: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();
const DIM: anstyle::Style = anstyle::Style::new().dimmed();

/// Watches this host.
fn run(args: &RunArgs) -> Result<()> {
    let (mut config, warnings) = configuration(args.config.as_deref())?;
    start_log(config.log_level);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    if let Some(format) = args.format {
        print_as(&mut config, format);
    }
    let agent = Agent::start(&config)?;
    anstream::eprintln!("{DIM}{}{DIM:#}", agent.describe_outputs());
    let watched =
        if config.spantap.discovery.include.is_empty() { "every process" } else { "the selected processes" };
    anstream::eprintln!("{DIM}watching {watched} of this host; Ctrl-C ends{DIM:#}");
    let summary = agent.run(args.duration);
    if args.accounts {
        eprint!("{summary}");
    }
    Ok(())
}

/// Shows a capture file.
fn replay(args: &ReplayArgs) -> Result<()> {
    let mut config = match &args.config {
        Some(file) => load(file)?,
        None => Config::default(),
    };
    start_log(config.log_level);
    print_as(&mut config, args.format);
    // It would be over before anybody could ask, and the port may be that of a running agent.
    if !std::mem::take(&mut config.meter_provider.pull).is_empty() {
        tracing::warn!("a recording is replayed without an endpoint for Prometheus");
    }
    let file =
        File::open(&args.file).with_context(|| format!("{}: cannot read the file", args.file.display()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let outputs = Outputs::start(&config, runtime.handle(), Pressure::Wait)?;
    let reader = BufReader::with_capacity(1 << 20, file);
    let (summary, result) = app::replay(&config, &args.file, reader, Naming::Endpoints, outputs, Pace::Fast);
    if args.accounts {
        eprint!("{summary}");
    }
    result?;
    Ok(())
}

/// Says what works on this machine; true if everything does.
fn check(args: &CheckArgs) -> Result<bool> {
    let (config, _) = configuration(args.config.as_deref())?;
    start_log(LogLevel::Error);
    let check = app::Check::run(&config.spantap.capture);
    if args.json {
        println!("{}", check.to_json());
    } else {
        anstream::print!("{check}");
    }
    Ok(check.is_full_capture())
}

/// Checks a configuration file.
fn check_config(file: &Path) -> Result<()> {
    load(file)?;
    anstream::println!("{}: no problems", file.display());
    Ok(())
}

/// The configuration of a file, or of the environment, with what is worth a warning.
fn configuration(file: Option<&Path>) -> Result<(Config, Vec<String>)> {
    let environment = |name: &str| std::env::var(name).ok();
    let named = spantap_config::config_file(&environment);
    if let Some(file) = file.map(Path::to_path_buf).or(named) {
        return Ok((load(&file)?, Vec::new()));
    }
    let from = Config::from_environment(&environment)?;
    Ok((from.config, from.warnings))
}

fn load(file: &Path) -> Result<Config> {
    let names: Vec<&str> = spantap_protocols::ALL.iter().map(|protocol| protocol.name()).collect();
    let context = LoadContext { env: &|name| std::env::var(name).ok(), protocol_names: &names };
    match spantap_config::load(file, &context) {
        Ok(config) => Ok(config),
        Err(problems) => bail!("{problems}"),
    }
}

/// The command line decides what standard output carries.
fn print_as(config: &mut Config, format: Format) {
    use spantap_config::{BatchProcessor, Exporter, MetricReader};
    config.spantap.stdout.format = match format {
        Format::Pretty => StdoutFormat::Pretty,
        Format::OtlpJson => StdoutFormat::OtlpJson,
        Format::None => StdoutFormat::None,
    };
    let processors = &mut config.tracer_provider.processors;
    if !processors.iter().any(|processor| processor.exporter == Exporter::Console) {
        processors.push(BatchProcessor::new(Exporter::Console));
    }
    let readers = &mut config.meter_provider.readers;
    if !readers.iter().any(|reader| reader.exporter == Exporter::Console) {
        readers.push(MetricReader::new(Exporter::Console));
    }
}

/// Messages about spantap itself go to standard error; `RUST_LOG` overrides their level.
fn start_log(level: LogLevel) {
    let level = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(format!("warn,spantap={level}")));
    let terminal = std::io::stderr().is_terminal();
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if terminal {
        builder.with_ansi(colours).without_time().init();
    } else {
        builder.with_ansi(false).with_timer(SystemTime).init();
    }
}
