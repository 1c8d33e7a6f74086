//! The end of the process: nothing is accepted any more, and the outputs settle what they have.

use super::RunningOutput;
use crate::config::Config;
use crate::runtime::clock::Clock;
use crate::runtime::drain::Drain;
use crate::worker::Workers;
use sluice_core::time::Mono;
use sluice_sinks::spool::Spool;
use sluice_sinks::writer::Summary;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

/// How long a writer has to report after the drain deadline.
const WRITER_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the disk of a spool has for its last calls.
const SPOOL_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Drains; true if nothing was left behind.
pub(super) fn shut_down(
    config: &Config,
    clock: Clock,
    drain: &Drain,
    workers: Workers,
    outputs: Vec<RunningOutput>,
) -> bool {
    let deadline = clock.now() + config.drain.deadline;
    info!(
        grace_ms = config.drain.grace.as_millis() as u64,
        "asked to end: health says 503, requests are still served"
    );
    drain.refuse();
    thread::sleep(config.drain.grace);

    info!("nothing is accepted any more, requests in progress are answered");
    drain.drain(clock.now() + config.ack.deadline + Duration::from_secs(1));
    let mut clean = true;
    if let Err(panicked) = workers.join() {
        error!(%panicked, "a core did not end as it should");
        clean = false;
    }
    info!("all cores have ended, outputs are flushed");
    for output in outputs {
        clean &= end_output(output, clock, deadline);
    }
    clean
}

/// Waits for the writers of an output and logs their counts.
fn end_output(output: RunningOutput, clock: Clock, deadline: Mono) -> bool {
    // The cores have dropped their senders. Dropping these closes the queues, so the writers drain.
    drop(output.queues);
    let mut total = Summary::default();
    let mut clean = true;
    for (handle, stats) in output.handles.into_iter().zip(&output.stats) {
        while !handle.thread.is_finished() && clock.now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        if !handle.thread.is_finished() {
            warn!(
                output = output.name,
                "the time to drain is over, what waits is given up"
            );
            // An error means that the writer has ended meanwhile.
            let _ = handle.stop.send(true);
            let give_up = clock.now() + WRITER_SHUTDOWN_TIMEOUT;
            while !handle.thread.is_finished() && clock.now() < give_up {
                thread::sleep(Duration::from_millis(5));
            }
        }
        if !handle.thread.is_finished() {
            error!(
                output = output.name,
                records = stats.held.get(),
                "a call of the sink does not end, its records' fate is unknown"
            );
            clean = false;
            continue;
        }
        match handle.thread.join() {
            Ok(summary) => {
                total.tally.received += summary.tally.received;
                total.tally.delivered += summary.tally.delivered;
                total.tally.spooled += summary.tally.spooled;
                total.tally.refused += summary.tally.refused;
                total.left_behind += summary.left_behind;
                total.kept_bytes += summary.kept_bytes;
            }
            Err(_) => {
                error!(output = output.name, "a writer panicked");
                clean = false;
            }
        }
    }
    let Summary {
        tally,
        left_behind,
        kept_bytes,
    } = total;
    info!(
        output = output.name,
        received = tally.received,
        delivered = tally.delivered,
        spooled = tally.spooled,
        refused = tally.refused,
        left_behind,
        kept_bytes,
        "output flushed"
    );
    if kept_bytes > 0 {
        warn!(
            output = output.name,
            kept_bytes,
            "confirmed events stay on the disk of this host: the next start uploads them"
        );
    }
    let spooled = output
        .spool
        .is_none_or(|spool| end_spool(&output.name, spool));
    clean && left_behind == 0 && kept_bytes == 0 && spooled
}

/// Waits for the thread of a spool, whose writers have ended. True if nothing is left on its disk.
fn end_spool(output: &str, spool: Spool) -> bool {
    let stats = Arc::clone(spool.stats());
    let thread = spool.close();
    let give_up = Instant::now() + SPOOL_SHUTDOWN_TIMEOUT;
    while !thread.is_finished() && Instant::now() < give_up {
        thread::sleep(Duration::from_millis(5));
    }
    if !thread.is_finished() {
        error!(output, "a call of the spool's disk does not end");
        return false;
    }
    if thread.join().is_err() {
        error!(output, "the spool's thread panicked");
        return false;
    }
    let (waiting_bytes, lost_bytes) = (stats.waiting_bytes.get(), stats.lost_bytes.get());
    if waiting_bytes > 0 {
        warn!(
            output,
            records = stats.waiting_records.get(),
            waiting_bytes,
            "confirmed events stay in the spool on the disk of this host: the next start delivers them"
        );
    }
    if lost_bytes > 0 {
        warn!(
            output,
            lost_bytes,
            "the spool holds confirmed events that are damaged or that the destination refused: see `sluice spool list`"
        );
    }
    waiting_bytes == 0 && lost_bytes == 0
}
