//! S3 and compatible stores: one gzip object of lines per PutObject, under `year=/month=/day=/hour=` of the
//! upload.
//!
//! ```text
//!  staged:  write -> stage (append, fsync, confirm) -> queue of closed segments -> uploader -> bucket
//!  direct:  write -> bucket; each batch of the writer is an object
//! ```
//!
//! A segment's object key is fixed once, so a repeated upload stores nothing twice. An object is read back by
//! [`objects`] only, for a command.

mod address;
mod answer;
mod bucket;
mod name;
pub mod objects;
mod pack;
mod row;
mod settings;
mod stage;
#[cfg(test)]
mod tests;
mod uploader;

pub use settings::{Keeping, S3Settings, StorageClass, TYPE};

use crate::aws::CallFailure;
use crate::disk::lines::{LineJoiner, Lines, is_line, results};
use crate::disk::lock;
use crate::disk::store::{self, Store};
use crate::sink::{CheckError, Sink, SinkFuture, SinkLimits};
use aws_credential_types::provider::SharedCredentialsProvider;
use bucket::Bucket;
use bytes::Bytes;
use name::Name;
use row::Row;
use sluice_core::cause::Cause;
use sluice_core::record::{Record, RecordResult};
use sluice_core::stats::StagingStats;
use sluice_core::time::Wall;
use stage::{Stage, StageLimits};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};
use uploader::{Context, Uploader};

/// Bytes of a key that the service takes, less those that follow the prefix.
pub const PREFIX_BYTES_MAX: usize = 1_024 - 128;
/// Records in an object that is gathered in memory: its bytes are the limit, no event is this small.
const OBJECT_RECORDS_MAX: usize = 10_000_000;
/// The longest wait between two looks at the growing segment's age.
const TICK: Duration = Duration::from_secs(1);

impl S3Settings {
    fn validate(&self) -> Result<(), String> {
        if let Some(problem) = self.out_of_bounds() {
            return Err(problem.to_string());
        }
        if self.staging_bytes_max < self.object_bytes_max {
            return Err(format!(
                "the staging directory takes {} bytes: at least object_bytes_max, {}",
                self.staging_bytes_max, self.object_bytes_max
            ));
        }
        Ok(())
    }

    fn destination(&self) -> String {
        format!("s3 bucket {}", self.bucket)
    }
}

/// Writes records into one bucket. Keys of records are not stored.
pub struct S3Sink {
    settings: S3Settings,
    way: Way,
}

enum Way {
    Staged(Staged),
    Direct(Direct),
}

struct Direct {
    bucket: Box<Bucket>,
    clock: fn() -> Wall,
    give_up_after: Duration,
    stats: Arc<StagingStats>,
}

struct Staged {
    stage: Arc<Mutex<Stage>>,
    row: Arc<Row>,
    uploader: Uploader,
    joiner: LineJoiner,
    write_timeout: Duration,
}

impl S3Sink {
    /// Finds region and credentials, at most 5 s each, and starts without credentials as well. With a staging
    /// directory: creates and locks it, puts in order what an earlier process left, and starts the thread that
    /// uploads. `clock` reads the time that keys carry.
    ///
    /// Does disk I/O on the calling thread; timers and connections live on the current tokio runtime.
    ///
    /// # Errors
    /// A setting is out of its range, no region can be found, the directory cannot be created or read, someone
    /// else writes to it, or there is no thread to be had.
    pub async fn start(settings: S3Settings, clock: fn() -> Wall) -> Result<S3Sink, CheckError> {
        if let Err(reason) = settings.validate() {
            return Err(CheckError {
                destination: settings.destination(),
                reason,
            });
        }
        S3Sink::start_on(Arc::new(store::Os), settings, clock, None).await
    }

    async fn start_on(
        store: Arc<dyn Store>,
        settings: S3Settings,
        clock: fn() -> Wall,
        credentials: Option<SharedCredentialsProvider>,
    ) -> Result<S3Sink, CheckError> {
        let fail = |reason: String| CheckError {
            destination: settings.destination(),
            reason,
        };
        let way = match settings.keeping {
            Keeping::Memory { give_up_after, .. } => Way::Direct(Direct {
                bucket: Box::new(Bucket::open(&settings, credentials).await.map_err(fail)?),
                clock,
                give_up_after,
                stats: Arc::default(),
            }),
            Keeping::Staged => {
                Way::Staged(Staged::start(store, &settings, clock, credentials).map_err(fail)?)
            }
        };
        Ok(S3Sink { settings, way })
    }

    /// Tries whether the bucket is there, and whether files can be made durable in the staging directory;
    /// starts nothing, stores nothing, and disturbs no process that runs.
    ///
    /// # Errors
    /// The unusable setting, and why.
    pub async fn try_out(settings: &S3Settings) -> Result<String, CheckError> {
        let fail = |reason: String| CheckError {
            destination: settings.destination(),
            reason,
        };
        settings.validate().map_err(fail)?;
        let bucket = Bucket::open(settings, None).await.map_err(fail)?;
        let region = bucket
            .head()
            .await
            .map_err(|CallFailure { cause, text, .. }| {
                fail(format!(
                    "{text} ({}); to be asked takes s3:ListBucket, to be written to s3:PutObject",
                    cause.label()
                ))
            })?;
        let found = format!(
            "{}: it is there, region {region}; whether s3:PutObject is allowed shows with the first object",
            settings.destination()
        );
        if settings.keeping != Keeping::Staged {
            return Ok(found);
        }
        let dir = settings.staging_dir.clone();
        let probe = spawn_blocking(move || {
            store::create_dir_durably(&store::Os, &dir)?;
            store::probe(&store::Os, &dir)
        });
        let dir = settings.staging_dir.display();
        let start = Instant::now();
        match timeout(settings.write_timeout, probe).await {
            Ok(Ok(Ok(()))) => Ok(format!(
                "{found}; directory {dir}: a file was created, synced and removed in {:.1} ms",
                start.elapsed().as_secs_f64() * 1000.0
            )),
            Ok(Ok(Err(error))) => Err(fail(format!(
                "directory {dir}: cannot write to it: {error}"
            ))),
            Ok(Err(error)) => Err(fail(format!(
                "directory {dir}: the check broke off: {error}"
            ))),
            Err(_) => Err(fail(format!(
                "directory {dir}: no answer from the disk within {:?}",
                settings.write_timeout
            ))),
        }
    }
}

impl Staged {
    fn start(
        store: Arc<dyn Store>,
        settings: &S3Settings,
        clock: fn() -> Wall,
        credentials: Option<SharedCredentialsProvider>,
    ) -> Result<Staged, String> {
        let (dir, bytes_max) = (&settings.staging_dir, settings.staging_bytes_max);
        let shown = dir.display();
        store::create_root_durably(&*store, dir)
            .map_err(|error| format!("cannot create the directory {shown}: {error}"))?;
        let lock = lock(dir)?;
        let left = stage::leftovers(dir)
            .map_err(|error| format!("cannot read the directory {shown}: {error}"))?;
        if !left.is_empty() {
            let bytes: u64 = left.iter().map(|segment| segment.bytes).sum();
            info!(dir = %shown, segments = left.len(), bytes, "segments of an earlier process are uploaded first");
        }
        let row = Arc::new(Row::new(left, bytes_max, Arc::default(), lock));
        let limits = StageLimits {
            segment_bytes_max: settings.object_bytes_max,
            segment_age_max: settings.object_age_max,
            staged_bytes_max: bytes_max,
        };
        let uploader = Uploader::start(Context {
            settings: settings.clone(),
            credentials,
            dir: dir.clone(),
            store: Arc::clone(&store),
            clock,
            row: Arc::clone(&row),
        })?;
        let stage = Stage::new(store, dir.clone(), limits, clock, Arc::clone(&row));
        let stage = Arc::new(Mutex::new(stage));
        let timed = Arc::downgrade(&stage);
        // A quarter of the age: an object is at most this much older than configured.
        let tick = TICK.min(settings.object_age_max / 4);
        tokio::spawn(async move {
            loop {
                sleep(tick).await;
                // The sink is gone; the timer is no longer needed.
                let Some(stage) = timed.upgrade() else {
                    return;
                };
                let mut stage = stage.lock_owned().await;
                if stage.is_due() {
                    // Fails only when the runtime ends; the next start finds the segment then.
                    let _ = spawn_blocking(move || stage.finish()).await;
                }
            }
        });
        Ok(Staged {
            stage,
            row,
            uploader,
            joiner: LineJoiner::default(),
            write_timeout: settings.write_timeout,
        })
    }

    /// The result for a batch of lines after trying to stage it.
    async fn append(&self, lines: Lines) -> RecordResult {
        let limit = self.write_timeout;
        let Ok(mut stage) = timeout(limit, Arc::clone(&self.stage).lock_owned()).await else {
            // An earlier disk call still hangs; this batch was not touched.
            return RecordResult::Retry(Cause::Unavailable);
        };
        let write = spawn_blocking(move || stage.append(&lines));
        match timeout(limit, write).await {
            Ok(Ok(Ok(()))) => RecordResult::Delivered,
            Ok(Ok(Err(cause))) => RecordResult::Retry(cause),
            // Timed out, or the runtime ends: the lines may still be written.
            Ok(Err(_)) | Err(_) => RecordResult::Retry(Cause::Unknown),
        }
    }

    async fn finish(&self, stop: SinkFuture<'_, ()>) -> u64 {
        // A disk that hangs keeps the stage; its segment is found at the next start.
        if let Ok(mut stage) =
            timeout(self.write_timeout, Arc::clone(&self.stage).lock_owned()).await
        {
            let _ = spawn_blocking(move || stage.finish()).await;
        }
        self.uploader.finish(stop).await;
        self.row.bytes()
    }
}

impl Sink for S3Sink {
    fn limits(&self) -> SinkLimits {
        let (records, bytes) = match self.settings.keeping {
            Keeping::Staged => (
                self.settings.batch_records_max,
                self.settings.batch_bytes_max,
            ),
            Keeping::Memory {
                write_bytes_max, ..
            } => (OBJECT_RECORDS_MAX, write_bytes_max),
        };
        SinkLimits {
            batch_records_max: records,
            batch_bytes_max: bytes,
            record_bytes_max: bytes,
        }
    }

    fn write<'a>(&'a self, records: &'a [Record]) -> SinkFuture<'a, Vec<RecordResult>> {
        Box::pin(async move {
            match &self.way {
                Way::Staged(staged) => {
                    let (lines, are_lines) = staged.joiner.join(records);
                    let result = match lines.is_empty() {
                        true => None,
                        false => Some(staged.append(lines).await),
                    };
                    results(&are_lines, result)
                }
                Way::Direct(direct) => {
                    let are_lines: Vec<_> = records
                        .iter()
                        .map(|record| is_line(&record.payload))
                        .collect();
                    let lines = records.iter().zip(&are_lines);
                    let lines: Vec<_> = lines
                        .filter(|(_, is_line)| **is_line)
                        .map(|(record, _)| record.payload.clone())
                        .collect();
                    let result = match lines.is_empty() {
                        true => None,
                        false => Some(self.put(direct, lines).await),
                    };
                    results(&are_lines, result)
                }
            }
        })
    }

    fn check(&self) -> SinkFuture<'_, Result<String, CheckError>> {
        Box::pin(S3Sink::try_out(&self.settings))
    }

    fn finish<'a>(&'a self, stop: SinkFuture<'a, ()>) -> SinkFuture<'a, u64> {
        match &self.way {
            Way::Staged(staged) => Box::pin(staged.finish(stop)),
            Way::Direct(_) => Box::pin(std::future::ready(0)),
        }
    }

    fn staging_stats(&self) -> Option<Arc<StagingStats>> {
        Some(Arc::clone(match &self.way {
            Way::Staged(staged) => staged.row.stats(),
            Way::Direct(direct) => &direct.stats,
        }))
    }
}

impl S3Sink {
    /// Stores lines as one object, with the same key and bytes on every attempt.
    async fn put(&self, direct: &Direct, lines: Vec<Bytes>) -> RecordResult {
        let Direct {
            bucket,
            clock,
            give_up_after,
            stats,
        } = direct;
        let Ok(Ok(packed)) = spawn_blocking(move || pack::pack_lines(&lines)).await else {
            return RecordResult::Retry(Cause::Unavailable);
        };
        let Some(key) = Name::new(clock()).key(&self.settings.prefix) else {
            return RecordResult::Retry(Cause::Unavailable);
        };
        let begun = Instant::now();
        let mut attempts = 0;
        let mut may_have_stored = false;
        loop {
            let answer = bucket.put(&key, &packed, may_have_stored).await;
            stats.attempted(answer.as_ref().err().map(|failure| failure.cause));
            let failure = match answer {
                Ok(()) => {
                    stats.objects.increment();
                    stats.object_bytes.add(packed.body.len() as u64);
                    return RecordResult::Delivered;
                }
                Err(failure) => failure,
            };
            may_have_stored |= may_be_stored(&failure);
            attempts += 1;
            let wait = back_off(self.settings.retry_base, self.settings.retry_cap, attempts);
            let gives_up = begun.elapsed() + wait >= *give_up_after;
            if attempts == 1 || gives_up {
                warn!(
                    bucket = self.settings.bucket,
                    key,
                    attempts,
                    gives_up,
                    cause = failure.cause.label(),
                    error = failure.text,
                    "cannot store an object"
                );
            }
            if gives_up {
                return RecordResult::Refused(failure.cause);
            }
            sleep(wait).await;
        }
    }
}

/// Whether a call that failed so may have stored its object.
fn may_be_stored(failure: &CallFailure) -> bool {
    matches!(failure.cause, Cause::Unknown | Cause::Unavailable)
}

/// A random wait up to `base * 2^(attempts - 1)`, at most `cap`.
fn back_off(base: Duration, cap: Duration, attempts: u32) -> Duration {
    let longest = base.saturating_mul(1 << attempts.saturating_sub(1).min(20));
    longest.min(cap).mul_f64(fastrand::f64())
}
