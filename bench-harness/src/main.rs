//! `sluice-bench`: drives every workload against every peer, in turn, and writes down what came of it.
#![forbid(unsafe_code)]

use clap::Parser;
use sluice_bench::measure;
use sluice_bench::peer::{Peer, Running};
use sluice_bench::record::{Cell, Origin, Record};
use sluice_bench::workload::{Workload, rows};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::{fs, io};

/// Compares whole processes: CPU per request and requests per second, interleaved, counts checked
#[derive(Debug, Parser)]
#[command(name = "sluice-bench", version)]
struct Arguments {
    /// Folder of the release binaries: sluice, sluice-loadtest, limit-responder
    #[arg(long, default_value = "target/release")]
    bin: PathBuf,
    /// Folder of the peer rows
    #[arg(long, default_value = "bench-harness/peers")]
    peers: PathBuf,
    /// Folder of the workload rows
    #[arg(long, default_value = "bench-harness/workloads")]
    workloads: PathBuf,
    /// Only workloads whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Times that every workload meets every peer
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    rounds: u64,
    /// Seconds per meeting
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Write <OUT>.json with every sample and <OUT>.md with the table
    #[arg(long)]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    match compare(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // When stderr is gone there is nobody left to tell.
            let _ = writeln!(io::stderr(), "sluice-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(arguments: &Arguments) -> Result<(), String> {
    let origin = Origin::here();
    let workloads: Vec<Workload> = rows(&arguments.workloads)?
        .into_iter()
        .map(|(name, workload)| Workload { name, ..workload })
        .filter(|workload| workload.name.contains(&arguments.only))
        .collect();
    let peers = rows::<Peer>(&arguments.peers)?
        .into_iter()
        .map(|(name, peer)| Running::start(name, peer, &arguments.bin))
        .collect::<Result<Vec<_>, _>>()?;
    let scratch = std::env::temp_dir().join(format!("sluice-bench-{}", std::process::id()));
    fs::create_dir_all(&scratch).map_err(|error| format!("{}: {error}", scratch.display()))?;

    let mut cells: Vec<Cell> = workloads
        .iter()
        .flat_map(|workload| {
            peers.iter().map(|peer| Cell {
                workload: workload.name.clone(),
                peer: peer.name.clone(),
                samples: Vec::new(),
            })
        })
        .collect();
    for round in 1..=arguments.rounds {
        for (at, cell) in cells.iter_mut().enumerate() {
            let (workload, peer) = (&workloads[at / peers.len()], &peers[at % peers.len()]);
            let sample = measure::run(peer, workload, arguments.seconds, &arguments.bin, &scratch)?;
            let _ = writeln!(
                io::stderr(),
                "round {round}: {} {}: {:.0}/s, {:.2} us",
                cell.workload,
                cell.peer,
                sample.requests_per_second,
                sample.cpu_us_per_request
            );
            cell.samples.push(sample);
        }
    }
    // Only the report of the last run is in it.
    let _ = fs::remove_dir_all(&scratch);
    let peers = peers
        .iter()
        .map(|peer| (peer.name.clone(), peer.peer.about.clone()))
        .collect();
    let record = Record {
        origin,
        workloads,
        peers,
        seconds: arguments.seconds,
        cells,
    };
    let table = record.to_markdown();
    let _ = write!(io::stdout(), "{table}");
    if let Some(out) = &arguments.out {
        let json = serde_json::to_string_pretty(&record).map_err(|error| error.to_string())?;
        for (ending, text) in [("json", json), ("md", table)] {
            let path = out.with_extension(ending);
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(())
}
