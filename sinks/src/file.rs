//! Newline-delimited JSON in files, one directory per UTC hour: the destination that needs nothing.
//!
//! A record is confirmed when its line and the names that lead to it are synced to disk. One write and
//! one sync serve a whole batch. A line is always in a file that ends in `.ndjson`, from the first
//! event on; a reader that wants finished files only skips those that `<dir>/.open` names.

mod layout;
mod log;
mod recover;
mod settings;
#[cfg(test)]
mod tests;

pub use settings::{FileSettings, TYPE};

use crate::disk::lines::{LineJoiner, Lines, results};
use crate::disk::lock;
use crate::disk::store::{self, Store};
use crate::sink::{CheckError, Sink, SinkFuture, SinkLimits};
use log::Log;
use sluice_core::cause::Cause;
use sluice_core::record::{Record, RecordResult};
use sluice_core::time::Wall;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How often the sink looks whether its file is due to be finished while nothing is written.
const TICK: Duration = Duration::from_secs(1);

/// Writes records as lines of files. Keys are not stored.
pub struct FileSink {
    settings: FileSettings,
    store: Arc<dyn Store>,
    log: Arc<Mutex<Log>>,
    joiner: LineJoiner,
}

impl FileSink {
    /// Creates and locks the directory, puts in order what a crash left, and starts the timer that
    /// finishes old files on the current tokio runtime. `clock` reads the time that names files.
    ///
    /// Does disk I/O on the calling thread.
    ///
    /// # Errors
    /// A setting is out of its range, the directory cannot be created, someone else writes to it, or
    /// there is no tokio runtime.
    pub fn start(settings: FileSettings, clock: fn() -> Wall) -> Result<FileSink, CheckError> {
        FileSink::start_on(Arc::new(store::Os), settings, clock)
    }

    fn start_on(
        store: Arc<dyn Store>,
        settings: FileSettings,
        clock: fn() -> Wall,
    ) -> Result<FileSink, CheckError> {
        let dir = &settings.dir;
        let fail = |reason: String| CheckError {
            destination: destination(dir),
            reason,
        };
        if let Some(problem) = settings.out_of_bounds() {
            return Err(fail(problem.to_string()));
        }
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|error| fail(format!("the sink needs a tokio runtime: {error}")))?;
        store::create_root_durably(&*store, dir)
            .map_err(|error| fail(format!("cannot create it: {error}")))?;
        let lock = lock(dir).map_err(fail)?;
        recover::recover(dir);
        let log = Log::new(Arc::clone(&store), settings.clone(), clock, lock);
        let log = Arc::new(Mutex::new(log));
        let timer_log = Arc::downgrade(&log);
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(TICK).await;
                // The sink is gone, and with it the need for a timer.
                let Some(log) = timer_log.upgrade() else {
                    return;
                };
                let mut log = log.lock_owned().await;
                if log.is_due_now() {
                    // Fails only when the runtime ends, which drops the log and so finishes the file.
                    let _ = tokio::task::spawn_blocking(move || log.finish()).await;
                }
            }
        });
        Ok(FileSink {
            settings,
            store,
            log,
            joiner: LineJoiner::default(),
        })
    }

    /// The result for a batch of lines after trying to write it.
    async fn append(&self, lines: Lines) -> RecordResult {
        let limit = self.settings.write_timeout;
        let Ok(mut log) = timeout(limit, Arc::clone(&self.log).lock_owned()).await else {
            // An earlier call still hangs in the disk; nothing of this batch was touched.
            return RecordResult::Retry(Cause::Unavailable);
        };
        let write = tokio::task::spawn_blocking(move || log.append(&lines));
        match timeout(limit, write).await {
            Ok(Ok(Ok(()))) => RecordResult::Delivered,
            Ok(Ok(Err(cause))) => RecordResult::Retry(cause),
            // Out of time, or the runtime ends: the lines may be on their way.
            Ok(Err(_)) | Err(_) => RecordResult::Retry(Cause::Unknown),
        }
    }
}

impl Sink for FileSink {
    fn limits(&self) -> SinkLimits {
        SinkLimits {
            batch_records_max: self.settings.batch_records_max,
            batch_bytes_max: self.settings.batch_bytes_max,
            record_bytes_max: self.settings.batch_bytes_max,
        }
    }

    fn write<'a>(&'a self, records: &'a [Record]) -> SinkFuture<'a, Vec<RecordResult>> {
        Box::pin(async move {
            let (lines, are_lines) = self.joiner.join(records);
            let result = match lines.is_empty() {
                true => None,
                false => Some(self.append(lines).await),
            };
            results(&are_lines, result)
        })
    }

    fn check(&self) -> SinkFuture<'_, Result<String, CheckError>> {
        let store = Arc::clone(&self.store);
        let dir = self.settings.dir.clone();
        Box::pin(async move {
            let fail = |reason: String| CheckError {
                destination: destination(&self.settings.dir),
                reason,
            };
            let start = Instant::now();
            let probe = tokio::task::spawn_blocking(move || store::probe(&*store, &dir));
            match timeout(self.settings.write_timeout, probe).await {
                Ok(Ok(Ok(()))) => Ok(format!(
                    "{}: a file was created, synced and removed in {:.1} ms",
                    destination(&self.settings.dir),
                    start.elapsed().as_secs_f64() * 1000.0
                )),
                Ok(Ok(Err(error))) => Err(fail(format!("cannot write to it: {error}"))),
                Ok(Err(error)) => Err(fail(format!("the check broke off: {error}"))),
                Err(_) => Err(fail(format!(
                    "no answer from the disk within {:?}",
                    self.settings.write_timeout
                ))),
            }
        })
    }
}

fn destination(dir: &Path) -> String {
    format!("directory {}", dir.display())
}
