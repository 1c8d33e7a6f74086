//! `sluice-loadtest`: arguments, then one of its tools. Exit code 0 when what was asked holds,
//! 1 when it does not, 2 for bad arguments.

#![forbid(unsafe_code)]

use clap::Parser;
use sluice_loadtest::cli::{Cli, Command, KinesisArgs};
use sluice_loadtest::kinesis::Emulator;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Kinesis(args) => kinesis(args),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            // When stderr is gone there is nobody left to tell.
            let _ = writeln!(io::stderr(), "sluice-loadtest: {error}");
            ExitCode::FAILURE
        }
    }
}

fn kinesis(args: KinesisArgs) -> Result<ExitCode, Box<dyn Error>> {
    let emulator = Emulator::start(args.options())?;
    writeln!(io::stdout(), "listening on {}", emulator.addr())?;
    io::stdout().flush()?;
    emulator.run_until(stop_signal())?;
    Ok(ExitCode::SUCCESS)
}

/// Completes on SIGINT or SIGTERM; when signals cannot be had, never.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
