//! `sluice`: arguments and configuration, then one of its commands. Exit code 0 on
//! success, 1 on failure, 2 for invalid arguments or settings.
#![forbid(unsafe_code)]

use clap::Parser;
use sluice_core::json::escape::quote_str_into;
use sluice_proxy::cli::{Check, Cli, Command, Health, Replay, Route, Run, Settings, SpoolCommand};
use sluice_proxy::config::Config;
use sluice_proxy::log_writer::{self, LogWriter};
use sluice_proxy::logging::{LogFormat, LogSettings};
use sluice_proxy::routing::trial::{self, Event};
use sluice_proxy::wiping::WipingAllocator;
use sluice_proxy::{app, check, process, replay, scheduling, spool_command};
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use tracing::{error, info, warn};
use tracing_subscriber::filter::LevelFilter;

#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(run) => with_config(&run.settings, |config| serve(config, &run)),
        Command::Check(check) => with_config(&check.settings, |config| try_out(config, &check)),
        Command::Spool(command) => {
            with_config(command.settings(), |config| look_at_spool(config, &command))
        }
        Command::Replay(command) => {
            with_config(&command.settings, |config| send_again(config, &command))
        }
        Command::Route(route) => with_config(&route.settings, |config| explain(config, &route)),
        Command::Health(health) => ask(&health),
    }
}

fn with_config(settings: &Settings, command: impl Fn(&Config) -> ExitCode) -> ExitCode {
    match settings.load() {
        Ok(config) => command(&config),
        // The settings that choose the log format are the ones that cannot be read.
        Err(error) => match std::env::var("SLUICE_LOG__FORMAT").as_deref() {
            Ok("json") => fail_in_json(&error, 2),
            _ => fail(&error, 2),
        },
    }
}

fn serve(config: &Config, run: &Run) -> ExitCode {
    // Before the first thread is started: threads inherit it.
    let scheduled = scheduling::apply(&config.process);
    if let Err(error) = log_writer::start() {
        return fail(&format!("cannot start the log's thread: {error}"), 1);
    }
    log_to_stderr(&config.log);
    log_panics();
    if !run.core_dumps {
        process::forbid_core_dumps();
    }
    info!(
        version = env!("CARGO_PKG_VERSION"),
        config = run.settings.source(),
        pid = std::process::id(),
        "starting"
    );
    if let Err(error) = scheduled {
        warn!(%error, "threads stay under the ordinary scheduling policy");
    }
    let code = app::run(config).unwrap_or_else(|error| {
        error!(%error, "cannot start");
        ExitCode::FAILURE
    });
    log_writer::flush();
    code
}

/// A panic is one line of the log, in the log's format; the process aborts after it.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        error!(
            panic = message.unwrap_or("without a message"),
            location = panic.location().map(ToString::to_string),
            thread = thread::current().name(),
            "panicked"
        );
        log_writer::flush();
    }));
}

fn try_out(config: &Config, check: &Check) -> ExitCode {
    match check::try_out(config, check.offline) {
        Ok(report) => {
            // With stdout closed, the exit code still tells the result.
            let _ = write!(io::stdout(), "{config}\n{}", report.lines);
            if report.usable {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => fail(&error, 1),
    }
}

/// Prints what becomes of each event of a file.
fn explain(config: &Config, route: &Route) -> ExitCode {
    let bytes = match read_events(&route.explain, config.limits.body_bytes_max) {
        Ok(bytes) => bytes,
        Err(error) => return fail(&format!("{}: {error}", route.explain.display()), 1),
    };
    let all = Event {
        bytes: &bytes,
        endpoint: &route.endpoint,
        listener: &route.listener,
        host: route.host.as_deref(),
        query: route.query.as_deref(),
    };
    let events = match all.each(config) {
        Ok(events) => events,
        Err(error) => return fail(&error, 1),
    };
    for (at, event) in events.iter().enumerate() {
        match trial::run(config, event) {
            Ok(outcome) => {
                let between = if at > 0 { "\n" } else { "" };
                let _ = write!(io::stdout(), "{between}{outcome}");
            }
            Err(error) => return fail(&format!("event {at}: {error}"), 1),
        }
    }
    ExitCode::SUCCESS
}

/// A file, or standard input for `-`, that is no larger than the body of a request.
fn read_events(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let input: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(io::stdin()),
        _ => Box::new(File::open(path)?),
    };
    let mut bytes = Vec::new();
    input.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(io::Error::other(format!(
            "it has over {bytes_max} bytes, the limit of a request's body"
        )));
    }
    Ok(bytes)
}

fn look_at_spool(config: &Config, command: &SpoolCommand) -> ExitCode {
    if let Err(error) = log_writer::start() {
        return fail(&format!("cannot start the log's thread: {error}"), 1);
    }
    log_to_stderr(&config.log);
    let code = spool_command::run(config, command).unwrap_or_else(|error| fail(&error, 1));
    log_writer::flush();
    code
}

fn send_again(config: &Config, command: &Replay) -> ExitCode {
    if let Err(error) = log_writer::start() {
        return fail(&format!("cannot start the log's thread: {error}"), 1);
    }
    log_to_stderr(&config.log);
    let code = replay::run(config, command).unwrap_or_else(|error| fail(&error, 1));
    log_writer::flush();
    code
}

fn ask(health: &Health) -> ExitCode {
    match health.target() {
        Err(error) => fail(&error, 2),
        Ok(target) => match target.ask() {
            Ok(200) => ExitCode::SUCCESS,
            Ok(status) => fail(&format!("{target} answers {status}"), 1),
            Err(error) => fail(&format!("{target}: {error}"), 1),
        },
    }
}

fn fail(what: &dyn Display, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "sluice: {what}");
    ExitCode::from(code)
}

/// As [`fail`], for logs of one JSON object a line.
fn fail_in_json(what: &dyn Display, code: u8) -> ExitCode {
    let mut line = b"{\"level\":\"ERROR\",\"message\":".to_vec();
    quote_str_into(&format!("sluice: {what}"), &mut line);
    line.extend_from_slice(b"}\n");
    let _ = io::stderr().write_all(&line);
    ExitCode::from(code)
}

fn log_to_stderr(log: &LogSettings) {
    let subscriber = tracing_subscriber::fmt()
        .with_writer(LogWriter)
        // By default such errors are printed to standard error, bypassing the queue.
        .log_internal_errors(false)
        .with_ansi(false)
        .with_max_level(log.level.word().parse().unwrap_or(LevelFilter::INFO));
    match log.format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
}
