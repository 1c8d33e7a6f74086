//! `sluice-bench`: whole processes side by side (`peers`), micro-benchmarks against stored baselines
//! (`micro`), and what dear requests cost (`hostile`). Exit code 0 when all that was asked for was measured, 1 when not, 2 for bad
//! arguments.
#![forbid(unsafe_code)]

use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use sluice_bench::micro::{self, Baseline};
use sluice_bench::peer::Peer;
use sluice_bench::record::{Cell, FLOOR, Origin, PeerNote, Record};
use sluice_bench::running::{Places, Running, Started};
use sluice_bench::workload::{Workload, rows};
use sluice_bench::{doors, figures, hostile, measure};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{fs, io};

/// Is it fast, and against whom: whole processes side by side, and micro-benchmarks.
#[derive(Debug, Parser)]
#[command(name = "sluice-bench", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Peers(PeersArgs),
    Micro(MicroArgs),
    Figures(FiguresArgs),
    Hostile(HostileArgs),
    Doors(DoorsArgs),
}

/// Drive every workload against every peer in turn; CPU per request, counts checked.
///
/// A peer whose program is not here is skipped with a line that says so; one whose counts are wrong
/// gets no figure, and the exit code is 1.
#[derive(Debug, Args)]
struct PeersArgs {
    /// Folder of the release binaries: sluice, sluice-loadtest, limit-responder.
    #[arg(long, default_value = "target/release")]
    bin: PathBuf,
    /// Folder of the peer rows.
    #[arg(long, default_value = "bench-harness/peers")]
    peers: PathBuf,
    /// Folder of the workload rows.
    #[arg(long, default_value = "bench-harness/workloads")]
    workloads: PathBuf,
    /// Folder that rows install their programs into.
    #[arg(long, default_value = "target/peers")]
    tools: PathBuf,
    /// Run the install command of rows whose programs are missing.
    #[arg(long)]
    install: bool,
    /// Only workloads whose name contains this; an error when none does.
    #[arg(long, default_value = "")]
    only: String,
    /// Only peers whose name contains this, and the floor; repeat for more. An error when none does.
    #[arg(long = "peer", value_name = "TEXT")]
    only_peers: Vec<String>,
    /// Times that every workload meets every peer.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    rounds: u64,
    /// Seconds per meeting.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Write <OUT>.json with every sample and <OUT>.md with the table.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Run the micro-benchmarks by `cargo bench`; store what came of it, or compare it with what was stored.
#[derive(Debug, Args)]
struct MicroArgs {
    /// Store it under this name.
    #[arg(long, value_name = "NAME")]
    save: Option<String>,
    /// Print ratios to what is stored under this name.
    #[arg(long, value_name = "NAME")]
    compare: Option<String>,
    /// Times that every benchmark is run; the range between runs is the noise.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    runs: u32,
    /// Folder of stored baselines.
    #[arg(long, default_value = "bench-harness/record/micro")]
    folder: PathBuf,
    /// For criterion: part of a benchmark's name, or options such as --measurement-time 1.
    #[arg(last = true)]
    criterion: Vec<String>,
}

/// Draw the pictures and tables of the documentation from the published record.
#[derive(Debug, Args)]
struct FiguresArgs {
    /// Publish the record of this name in bench-harness/record first.
    #[arg(long, value_name = "NAME")]
    publish: Option<String>,
    /// The checkout.
    #[arg(long, default_value = ".")]
    root: PathBuf,
}

/// Send every kind of dear request: CPU per request and per byte beside a plain event, counts checked, and what an
/// honest client keeps of its rate meanwhile.
///
/// Exit code 1 when a kind is over a limit or its counts are wrong.
#[derive(Debug, Args)]
struct HostileArgs {
    /// Folder of the release binaries: sluice.
    #[arg(long, default_value = "target/release")]
    bin: PathBuf,
    /// Folder of the servers' rows.
    #[arg(long, default_value = "bench-harness/hostile")]
    rows: PathBuf,
    /// Only kinds whose name contains this; an error when none does.
    #[arg(long, default_value = "")]
    only: String,
    /// Times that every kind is sent for its CPU time.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,
    /// Milliseconds that a victim is watched beside each kind; 0 leaves it out.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    victim_ms: u64,
    /// Write <OUT>.json with all figures and <OUT>.md with the table.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// What TLS and HTTP/2 cost beside plain HTTP/1, and a handshake beside a connection, by foreign clients.
///
/// Needs h2load (nghttp2) and openssl. Exit code 1 when one is missing, or counts differ from the server's.
#[derive(Debug, Args)]
struct DoorsArgs {
    /// Folder of the release binaries: sluice.
    #[arg(long, default_value = "target/release")]
    bin: PathBuf,
    /// Folder of the servers' rows.
    #[arg(long, default_value = "bench-harness/hostile")]
    rows: PathBuf,
    /// Times that every row is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,
    /// How long each time, seconds.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Write <OUT>.json with all figures and <OUT>.md with the table.
    #[arg(long)]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Peers(arguments) => peers(&arguments),
        Command::Micro(arguments) => micro(&arguments),
        Command::Figures(arguments) => figures(&arguments),
        Command::Hostile(arguments) => hostile(&arguments),
        Command::Doors(arguments) => doors(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tell(&error);
            ExitCode::FAILURE
        }
    }
}

fn tell(text: &str) {
    // When stderr is gone, there is nowhere left to report it.
    let _ = writeln!(io::stderr(), "sluice-bench: {text}");
}

fn print(text: &str) -> Result<(), String> {
    write!(io::stdout(), "{text}").map_err(|error| format!("stdout: {error}"))
}

/// A folder that is gone when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch, String> {
        let path = std::env::temp_dir().join(format!("sluice-bench-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Leftovers stay in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether every figure could be given.
fn peers(arguments: &PeersArgs) -> Result<bool, String> {
    let origin = Origin::here();
    let mut workloads: Vec<Workload> = rows::<Workload>(&arguments.workloads)?
        .into_iter()
        .map(|(name, workload)| Workload { name, ..workload })
        .collect();
    let names = workloads.iter().map(|workload| workload.name.as_str());
    known("workload", &arguments.only, names)?;
    workloads.retain(|workload| workload.name.contains(&arguments.only));
    // Before the rounds: a folder that cannot be made would cost all of them.
    if let Some(folder) = arguments.out.as_deref().and_then(Path::parent) {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let scratch = Scratch::new()?;
    let (running, notes) = start(arguments, &scratch)?;

    let generator = arguments.bin.join("sluice-loadtest");
    let mut cells: Vec<(&Workload, &Running, Cell)> = Vec::new();
    for workload in &workloads {
        for peer in &running {
            if let Some(why) = peer.peer.declines(workload) {
                tell(&format!(
                    "{} does not meet {}: {why}",
                    workload.name, peer.name
                ));
                continue;
            }
            let cell = Cell {
                workload: workload.name.clone(),
                peer: peer.name.clone(),
                samples: Vec::new(),
                error: None,
            };
            cells.push((workload, peer, cell));
        }
    }
    for round in 1..=arguments.rounds {
        for (workload, peer, cell) in &mut cells {
            if cell.error.is_some() {
                continue;
            }
            let outcome = measure::run(
                peer,
                workload,
                arguments.seconds,
                &generator,
                &arguments.workloads,
                &scratch.0,
            );
            tell(&match &outcome {
                Ok(sample) => format!(
                    "round {round}: {} {}: {:.0}/s, {:.2} us",
                    cell.workload, cell.peer, sample.requests_per_second, sample.cpu_us_per_request
                ),
                Err(error) => format!("round {round}: no figure: {error}"),
            });
            cell.take(outcome);
        }
    }
    let mut cells: Vec<Cell> = cells.into_iter().map(|(_, _, cell)| cell).collect();
    for peer in running {
        let of = peer.name.clone();
        let own = cells.iter_mut().filter(|cell| cell.peer == of);
        let own: Vec<&mut Cell> = own.collect();
        // The number of records that a cell without figures stored is unknown.
        if own.iter().any(|cell| cell.error.is_some()) {
            continue;
        }
        let samples = own.iter().flat_map(|cell| &cell.samples);
        let events = samples.map(|sample| sample.events).sum();
        if let Err(error) = peer.end(events) {
            tell(&format!("no figures: {error}"));
            for cell in own {
                cell.take(Err(error.clone()));
            }
        }
    }
    let whole = cells.iter().all(|cell| cell.error.is_none());
    let record = Record {
        origin,
        workloads,
        peers: notes,
        seconds: arguments.seconds,
        rounds: arguments.rounds,
        cells,
    };
    let table = record.to_markdown();
    print(&table)?;
    if let Some(out) = &arguments.out {
        store(out, &record, &table)?;
    }
    Ok(whole)
}

/// Writes a record beside its table.
fn store(out: &Path, record: &impl Serialize, table: &str) -> Result<(), String> {
    let json = serde_json::to_string_pretty(record).map_err(|error| error.to_string())? + "\n";
    for (ending, text) in [("json", json.as_str()), ("md", table)] {
        let path = out.with_extension(ending);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// Whether every kind stays within the limits.
fn hostile(arguments: &HostileArgs) -> Result<bool, String> {
    let scratch = Scratch::new()?;
    let places = Places {
        bin: arguments.bin.clone(),
        rows: arguments.rows.clone(),
        tools: scratch.0.clone(),
        scratch: scratch.0.clone(),
    };
    let plan = hostile::Plan {
        only: arguments.only.clone(),
        rounds: arguments.rounds,
        victim_time: Duration::from_millis(arguments.victim_ms),
    };
    let record = hostile::run(&plan, &places, tell)?;
    let table = record.to_markdown();
    print(&table)?;
    if let Some(out) = &arguments.out {
        store(out, &record, &table)?;
    }
    let offences = record.offences();
    for offence in &offences {
        tell(offence);
    }
    Ok(offences.is_empty())
}

/// Whether there are figures of every row.
fn doors(arguments: &DoorsArgs) -> Result<bool, String> {
    let scratch = Scratch::new()?;
    let places = Places {
        bin: arguments.bin.clone(),
        rows: arguments.rows.clone(),
        tools: scratch.0.clone(),
        scratch: scratch.0.clone(),
    };
    let plan = doors::Plan {
        rounds: arguments.rounds,
        seconds: arguments.seconds,
    };
    let record = doors::run(&plan, &places, tell)?;
    let table = record.to_markdown();
    print(&table)?;
    if let Some(out) = &arguments.out {
        store(out, &record, &table)?;
    }
    Ok(true)
}

/// Refuses a part of a name that is in none of the names, since a typo would otherwise measure less
/// than was asked for and still succeed.
fn known<'a>(
    what: &str,
    part: &str,
    names: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), String> {
    if names.clone().any(|name| name.contains(part)) {
        return Ok(());
    }
    let names: Vec<&str> = names.collect();
    let names = match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    };
    Err(format!(
        "no {what}'s name contains {part:?}; there are {names}"
    ))
}

/// Writes every file of the documentation that has figures.
fn figures(arguments: &FiguresArgs) -> Result<bool, String> {
    let write = |path: &Path, text: &str| {
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    if let Some(name) = &arguments.publish {
        write(
            &arguments.root.join(figures::PUBLISHED),
            &format!("{name}\n"),
        )?;
    }
    for (path, text) in figures::documents(&arguments.root).map_err(|error| error.to_string())? {
        write(&path, &text)?;
        print(&format!("{}\n", path.display()))?;
    }
    Ok(true)
}

/// Starts the selected rows, and notes the result of each.
fn start(
    arguments: &PeersArgs,
    scratch: &Scratch,
) -> Result<(Vec<Running>, Vec<PeerNote>), String> {
    let places = Places {
        bin: arguments.bin.clone(),
        rows: arguments.peers.clone(),
        tools: arguments.tools.clone(),
        scratch: scratch.0.clone(),
    };
    let only = &arguments.only_peers;
    let wanted = |name: &str| {
        name == FLOOR || only.is_empty() || only.iter().any(|part| name.contains(part))
    };
    let (mut running, mut notes) = (Vec::new(), Vec::new());
    let peers = rows::<Peer>(&arguments.peers)?;
    for part in only {
        known("peer", part, peers.iter().map(|(name, _)| name.as_str()))?;
    }
    for (name, peer) in peers {
        if !wanted(&name) {
            continue;
        }
        let about = peer.about.clone();
        let started = Running::start(&name, peer, &places, arguments.install)?;
        let (version, skipped) = match started {
            Started::Running(peer) => {
                let version = peer.version.clone();
                running.push(*peer);
                (version, None)
            }
            Started::Skipped(why) => {
                tell(&format!("{name} is skipped: {why}"));
                (String::new(), Some(why))
            }
        };
        notes.push(PeerNote {
            name,
            about,
            version,
            skipped,
        });
    }
    if running.is_empty() {
        return Err("no peer is left to measure".to_owned());
    }
    Ok((running, notes))
}

fn micro(arguments: &MicroArgs) -> Result<bool, String> {
    let file = |name: &String| micro::file(&arguments.folder, name);
    let save = arguments.save.as_ref().map(file).transpose()?;
    let old = arguments.compare.as_ref().map(file).transpose()?;
    // A baseline that cannot be read is better known before the minutes that follow.
    if let Some(name) = &arguments.compare {
        micro::stored(&arguments.folder, name)?;
    }
    let old = old.map(|path| Baseline::read(&path)).transpose()?;
    let scratch = Scratch::new()?;
    let new = micro::measure(arguments.runs, &arguments.criterion, &scratch.0)?;
    print(&match &old {
        Some(old) => new.compared_with(old),
        None => new.to_markdown(),
    })?;
    if let Some(path) = save {
        new.write(&path)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
