//! `sluice`: arguments and configuration, then one of its commands. Exit code 0 when what was asked
//! holds, 1 when it does not, 2 for arguments or settings that cannot be.
#![forbid(unsafe_code)]

use clap::Parser;
use sluice_proxy::cli::{Cli, Command, Health, Settings};
use sluice_proxy::config::{Config, Log, LogFormat};
use sluice_proxy::{app, check};
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use tracing_subscriber::filter::LevelFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(settings) => with_config(&settings, run),
        Command::Check(settings) => with_config(&settings, check),
        Command::Health(health) => ask(&health),
    }
}

fn with_config(settings: &Settings, command: fn(&Config) -> ExitCode) -> ExitCode {
    match settings.load() {
        Ok(config) => command(&config),
        Err(error) => complain(&error, 2),
    }
}

fn run(config: &Config) -> ExitCode {
    log_to_stderr(&config.log);
    app::run(config).unwrap_or_else(|error| complain(&error, 1))
}

fn check(config: &Config) -> ExitCode {
    match check::try_destinations(config) {
        Ok(report) => {
            // When stdout is gone there is nobody left to tell; the exit code still says it.
            let _ = write!(io::stdout(), "{config}\n{}", report.lines);
            if report.usable {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => complain(&error, 1),
    }
}

fn ask(health: &Health) -> ExitCode {
    match health.target() {
        Err(error) => complain(&error, 2),
        Ok(target) => match target.ask() {
            Ok(200) => ExitCode::SUCCESS,
            Ok(status) => complain(&format!("{target} answers {status}"), 1),
            Err(error) => complain(&format!("{target}: {error}"), 1),
        },
    }
}

fn complain(what: &dyn Display, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "sluice: {what}");
    ExitCode::from(code)
}

fn log_to_stderr(log: &Log) {
    let subscriber = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_max_level(log.level.word().parse().unwrap_or(LevelFilter::INFO));
    match log.format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
}
