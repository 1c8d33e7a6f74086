//! `sluice`: arguments, configuration, then one of its commands.
#![forbid(unsafe_code)]

use sluice_proxy::app;
use sluice_proxy::config::{Config, Flags, Machine};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let file = std::env::args().nth(1).map(std::path::PathBuf::from);
    let config = Config::load(
        file.as_deref(),
        std::env::vars_os(),
        &Flags::default(),
        Machine::detect(),
    );
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, "bad configuration");
            return ExitCode::FAILURE;
        }
    };
    match app::run(&config) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            ExitCode::FAILURE
        }
    }
}
