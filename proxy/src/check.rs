//! `sluice check`: tries what the configuration names before traffic does.

use crate::app::check_sink;
use crate::config::Config;
use std::fmt::Write;
use std::io;

/// What was found.
#[derive(Debug)]
pub struct Report {
    /// One line per output, good or bad, in configuration order.
    pub lines: String,
    /// Every destination can be used.
    pub usable: bool,
}

/// Tries every destination, without writing an event.
///
/// # Errors
/// When there is no runtime to be had.
pub fn try_destinations(config: &Config) -> io::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut report = Report {
        lines: String::new(),
        usable: true,
    };
    for output in &config.outputs {
        let found = runtime.block_on(check_sink(output));
        let word = match found {
            Ok(found) => format!("ok: {found}"),
            Err(error) => {
                report.usable = false;
                format!("FAILED: {error}")
            }
        };
        let kind = output.sink.sink_type();
        // Writing to a String cannot fail.
        let _ = writeln!(report.lines, "output {} ({kind}) {word}", output.name);
    }
    Ok(report)
}
