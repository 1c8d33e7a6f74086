//! `sluice spool`: looks at spools, waits for them, and delivers what lies in one. Exit code 0 when nothing is wrong
//! or left, 1 when something is.

use crate::cli::{SpoolCommand, SpoolPlace};
use crate::config::Config;
use crate::runtime::clock::{self, Clock};
use indicatif::{ProgressBar, ProgressStyle};
use sluice_core::ack::{OutputId, WriterId};
use sluice_core::circuit::{CircuitSettings, FAILURES_MAX};
use sluice_core::delivery::DeliverySettings;
use sluice_core::priority::Shares;
use sluice_core::queue;
use sluice_core::retry::RetryPolicy;
use sluice_sinks::output::Output;
use sluice_sinks::spool::{self, Report, Spool, SpoolError, SpoolSettings, Verified};
use sluice_sinks::writer::{self, StartError, WriterSpool};
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// How often a spool is looked at by commands that wait.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A destination that hangs for this long is tried with one call at a time.
const CIRCUIT_OPEN_AFTER: Duration = Duration::from_secs(4);

/// A command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum SpoolCommandError {
    /// No output has this name.
    #[error("no output is called {name:?}: there are {known}")]
    NoOutput {
        /// The name.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// There is no directory to look at.
    #[error(
        "no output has a spool: set `dir` in [outputs.<name>.spool], or name a directory with --from"
    )]
    NoSpool,
    /// The directory cannot be read, or nothing can be printed.
    #[error("{dir}: {source}")]
    Directory {
        /// The directory.
        dir: String,
        /// The system's error.
        source: io::Error,
    },
    /// The spool cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The destination cannot be used.
    #[error(transparent)]
    Writer(#[from] StartError),
}

/// Carries out a command.
///
/// # Errors
/// Names that do not exist, directories that cannot be used, a destination whose settings cannot be.
pub fn run(config: &Config, command: &SpoolCommand) -> Result<ExitCode, SpoolCommandError> {
    let is_good = match command {
        SpoolCommand::List(place) => {
            look(config, place)?;
            true
        }
        SpoolCommand::Verify(place) => {
            let reports = look(config, place)?;
            reports.iter().all(|report| report.lost_bytes == 0)
        }
        SpoolCommand::Export(place) => export(config, place)?,
        SpoolCommand::Wait { place, timeout_s } => wait(config, place, limit(*timeout_s))?,
        SpoolCommand::Replay {
            to,
            from,
            timeout_s,
            ..
        } => replay(output(config, to)?, from.as_deref(), limit(*timeout_s))?,
    };
    Ok(match is_good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn limit(timeout_s: Option<u64>) -> Option<Duration> {
    timeout_s.map(Duration::from_secs)
}

fn output<'a>(config: &'a Config, name: &str) -> Result<&'a Output, SpoolCommandError> {
    let mut outputs = config.outputs.iter();
    outputs.find(|output| output.name == name).ok_or_else(|| {
        let known: Vec<&str> = config.outputs.iter().map(|output| &*output.name).collect();
        SpoolCommandError::NoOutput {
            name: name.to_owned(),
            known: known.join(", "),
        }
    })
}

/// The directories that are meant.
fn directories(config: &Config, place: &SpoolPlace) -> Result<Vec<PathBuf>, SpoolCommandError> {
    if let Some(from) = &place.from {
        return Ok(vec![from.clone()]);
    }
    let outputs = match &place.output {
        Some(name) => vec![output(config, name)?],
        None => config.outputs.iter().collect(),
    };
    let spools = outputs.iter().filter_map(|output| output.spool.as_ref());
    let found: Vec<PathBuf> = spools.filter_map(|spool| spool.dir.clone()).collect();
    match found.is_empty() {
        true => Err(SpoolCommandError::NoSpool),
        false => Ok(found),
    }
}

fn in_directory(dir: &Path) -> impl Fn(io::Error) -> SpoolCommandError {
    move |source| SpoolCommandError::Directory {
        dir: dir.display().to_string(),
        source,
    }
}

/// Prints what each file holds, and the sums of each directory.
fn look(config: &Config, place: &SpoolPlace) -> Result<Vec<Report>, SpoolCommandError> {
    let mut reports = Vec::new();
    for dir in directories(config, place)? {
        let mut text = String::new();
        let report = spool::verify(&dir, |file| {
            text.push_str(&line(file));
        })
        .map_err(in_directory(&dir))?;
        let Report {
            segments,
            records,
            bytes,
            lost_bytes,
            torn_bytes,
        } = report;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{}: {records} records in {segments} segments of {bytes} bytes wait; \
             {lost_bytes} bytes are damaged or refused, {torn_bytes} unfinished",
            dir.display()
        );
        // With stdout closed, the exit code still tells the result.
        let _ = io::stdout().write_all(text.as_bytes());
        reports.push(report);
    }
    Ok(reports)
}

fn line(file: &Verified) -> String {
    let mut line = format!("{} {} {} bytes", file.file.display(), file.what, file.bytes);
    let mut add = |text: String| line.push_str(&text);
    if file.records > 0 {
        add(format!(", {} records", file.records));
    }
    if let Some(oldest) = file.oldest_secs {
        let age = clock::wall().secs.saturating_sub(oldest);
        add(format!(", oldest {age} s old"));
    }
    if file.bad_bytes > 0 {
        add(format!(", {} bytes damaged", file.bad_bytes));
    }
    if file.torn_bytes > 0 {
        add(format!(", {} bytes unfinished", file.torn_bytes));
    }
    if let Some(error) = &file.error {
        add(format!(", cannot be read: {error}"));
    }
    line.push('\n');
    line
}

fn export(config: &Config, place: &SpoolPlace) -> Result<bool, SpoolCommandError> {
    let mut is_whole = true;
    let mut out = io::BufWriter::new(io::stdout().lock());
    for dir in directories(config, place)? {
        let report = spool::export(&dir, &mut out).map_err(in_directory(&dir))?;
        out.flush().map_err(in_directory(&dir))?;
        is_whole &= report.lost_bytes == 0;
    }
    Ok(is_whole)
}

/// Waits until no segment is left: a process that runs delivers them.
fn wait(
    config: &Config,
    place: &SpoolPlace,
    limit: Option<Duration>,
) -> Result<bool, SpoolCommandError> {
    let dirs = directories(config, place)?;
    let started = Instant::now();
    loop {
        let mut waits = false;
        for dir in &dirs {
            waits |= match spool::holds_records(dir) {
                Ok(waits) => waits,
                // Nothing was ever spooled here.
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(in_directory(dir)(error)),
            };
        }
        if !waits {
            return Ok(true);
        }
        if limit.is_some_and(|limit| started.elapsed() >= limit) {
            return Ok(false);
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Delivers what lies in a directory to an output, with the writer that a proxy has.
fn replay(
    output: &Output,
    from: Option<&Path>,
    limit: Option<Duration>,
) -> Result<bool, SpoolCommandError> {
    let own = output.spool.clone();
    let settings = match (own, from) {
        (own, Some(from)) => SpoolSettings {
            dir: Some(from.to_owned()),
            ..own.unwrap_or_default()
        },
        (Some(own), None) => own,
        (None, None) => return Err(SpoolCommandError::NoSpool),
    };
    let spool = Spool::start(&output.name, &settings, Shares::WHOLE, clock::wall)?;
    let stats = Arc::clone(spool.stats());
    let clock = Clock::start();
    // No record comes but from disk.
    let (sender, receiver) = queue::queue(1);
    drop(sender);
    let writer = writer::WriterSettings {
        output: output.name.clone(),
        id: WriterId {
            output: OutputId(0),
            number: 0,
        },
        delivery: DeliverySettings {
            linger: output.timing.linger,
            in_flight_max: output.delivery.in_flight_max,
            retry: RetryPolicy {
                base: output.delivery.retry_base,
                cap: output.delivery.retry_cap,
            },
            circuit: Some(CircuitSettings {
                open_after: CIRCUIT_OPEN_AFTER,
                failures_max: Some(FAILURES_MAX),
                ack_deadline: Duration::ZERO,
            }),
            spool: None,
            has_fallback: false,
        },
        clock: Arc::new(move || clock.now()),
        stats: Arc::default(),
        trouble: Arc::new(|_| ()),
        spool: Some(WriterSpool {
            client: spool.client(true),
            wall: clock::wall,
            settings,
        }),
    };
    let sink = Arc::clone(&output.sink);
    let start = move || async move { sink.start(clock::wall).await };
    let (handle, _sink) = writer::spawn(writer, receiver, start)?;
    let progress = progress(stats.waiting_bytes.get());
    let started = Instant::now();
    while !handle.thread.is_finished() {
        thread::sleep(LOOK_EVERY);
        let total = progress.length().unwrap_or(0);
        progress.set_position(total.saturating_sub(stats.waiting_bytes.get()));
        if limit.is_some_and(|limit| started.elapsed() >= limit) {
            // An error means that the writer has ended meanwhile.
            let _ = handle.stop.send(true);
        }
    }
    let has_panicked = handle.thread.join().is_err() | spool.close().join().is_err();
    progress.finish_and_clear();
    let (left, refused) = (stats.waiting_bytes.get(), stats.refused_records.get());
    // With stdout closed, the exit code still tells the result.
    let _ = writeln!(
        io::stdout(),
        "{} records delivered, {refused} refused and put aside, {left} bytes left",
        stats.replayed_records.get()
    );
    Ok(!has_panicked && left == 0 && refused == 0)
}

/// A bar on a terminal; elsewhere nothing.
pub(crate) fn progress(bytes: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(bytes);
    let template = "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
