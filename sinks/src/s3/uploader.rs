//! Uploads segments one at a time, oldest first, on its own thread: packing and hashing an object takes longer
//! than an acknowledgement may wait.
//!
//! A segment's key is fixed durably before the first attempt and kept for all retries, so a repeat of a stored
//! object stores nothing. A segment is removed only after the store has confirmed its object.

use super::S3Settings;
use super::bucket::Bucket;
use super::name::{Name, State, file_name};
use super::pack::{Packed, pack_file};
use super::row::{Row, Segment};
use super::stage::put_in_order;
use crate::aws::CallFailure;
use crate::disk::Failure;
use crate::disk::store::Store;
use crate::runtime;
use aws_credential_types::provider::SharedCredentialsProvider;
use sluice_core::cause::Cause;
use sluice_core::time::Wall;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, sleep_until};
use tracing::{info, warn};

/// The same failure is logged at most this often.
const WARN_INTERVAL: Duration = Duration::from_secs(30);
/// The longest wait between two attempts during shutdown.
const FINISHING_CAP: Duration = Duration::from_millis(500);

/// A command to the uploader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Upload segments as they are queued.
    Running,
    /// Upload the queued segments, then end.
    Finishing,
    /// End.
    Stopped,
}

/// A running uploader. Dropping it stops and joins its thread.
pub(super) struct Uploader {
    phase: watch::Sender<Phase>,
    ended: watch::Receiver<bool>,
    thread: Option<JoinHandle<()>>,
}

/// Settings of the uploader.
pub(super) struct Context {
    pub(super) settings: S3Settings,
    /// `None`: as everywhere.
    pub(super) credentials: Option<SharedCredentialsProvider>,
    pub(super) dir: PathBuf,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: fn() -> Wall,
    pub(super) row: Arc<Row>,
}

impl Uploader {
    /// Starts the thread and returns once region and credentials have been resolved.
    pub(super) fn start(mut context: Context) -> Result<Uploader, String> {
        let (phase, mut phases) = watch::channel(Phase::Running);
        let (end, ended) = watch::channel(false);
        let (report, reported) = mpsc::channel();
        let thread = Builder::new()
            .name("s3-upload".to_owned())
            .spawn(move || {
                let runtime = match runtime::current_thread() {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        // The receiver waits for this one message and is still there.
                        let _ = report.send(Err(error.to_string()));
                        return;
                    }
                };
                runtime.block_on(async move {
                    match Bucket::open(&context.settings, context.credentials.take()).await {
                        Ok(bucket) => {
                            let _ = report.send(Ok(()));
                            let mut work = Work {
                                context,
                                bucket,
                                last_warning: None,
                            };
                            work.run(&mut phases).await;
                        }
                        Err(reason) => {
                            let _ = report.send(Err(reason));
                        }
                    }
                });
                // If this fails, nobody is waiting.
                let _ = end.send(true);
            })
            .map_err(|error| format!("cannot start its thread: {error}"))?;
        match reported.recv() {
            Ok(Ok(())) => Ok(Uploader {
                phase,
                ended,
                thread: Some(thread),
            }),
            Ok(Err(reason)) => Err(reason),
            Err(_) => Err("its thread ended at start".to_owned()),
        }
    }

    /// Uploads the queued segments until none are left or `stop` completes.
    pub(super) async fn finish(&self, stop: impl Future<Output = ()>) {
        self.phase.send_replace(Phase::Finishing);
        let mut ended = self.ended.clone();
        // An error means that the thread has ended.
        tokio::select! {
            _ = ended.wait_for(|ended| *ended) => return,
            () = stop => {}
        }
        self.phase.send_replace(Phase::Stopped);
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Stopped);
        if let Some(thread) = self.thread.take() {
            // Its panic was already reported.
            let _ = thread.join();
        }
    }
}

/// A blocked segment is tried this often during shutdown, if there is time: the first of them may be its first try at all.
const LAST_TRIES: u32 = 2;

struct Work {
    context: Context,
    bucket: Bucket,
    last_warning: Option<(Cause, Instant)>,
}

/// Progress of a segment over its upload attempts.
#[derive(Default)]
struct Progress {
    /// The file name with its key is durable.
    is_key_durable: bool,
    packed: Option<Packed>,
}

/// The result for one segment.
enum End {
    Uploaded,
    /// It cannot be handled itself: upload others first.
    Blocked(Segment),
    Stopped(Segment),
}

/// Why an attempt failed.
enum Failed {
    /// The segment cannot be read or renamed, or the store rejects it: others may fare better.
    Segment(CallFailure),
    /// The store cannot be used, or the directory cannot: others would fail as well.
    Common(CallFailure),
}

impl Work {
    async fn run(&mut self, phases: &mut watch::Receiver<Phase>) {
        let row = Arc::clone(&self.context.row);
        loop {
            // Read before the queue, so that segments added before the shutdown are seen.
            let phase = *phases.borrow_and_update();
            if phase != Phase::Running {
                row.unblock(LAST_TRIES);
            }
            let Some(segment) = row.take(Instant::now()) else {
                match phase {
                    Phase::Running => {}
                    // Segments that are still blocked stay for the next start.
                    Phase::Finishing | Phase::Stopped => return,
                }
                let due = row.next_due().map(tokio::time::Instant::from_std);
                let blocked = async {
                    match due {
                        Some(due) => sleep_until(due).await,
                        None => pending().await,
                    }
                };
                tokio::select! {
                    () = row.joined.notified() => {}
                    () = blocked => {}
                    changed = phases.changed() => if changed.is_err() { return },
                }
                continue;
            };
            match self.carry(segment, phases).await {
                End::Uploaded => row.done(),
                End::Blocked(segment) => row.put_back(segment),
                End::Stopped(segment) => {
                    row.put_back(segment);
                    return;
                }
            }
        }
    }

    /// Retries until it is stored, blocked, or time is up.
    async fn carry(&mut self, mut segment: Segment, phases: &mut watch::Receiver<Phase>) -> End {
        let mut progress = Progress::default();
        segment.blocked_until = None;
        if *phases.borrow() != Phase::Running {
            segment.last_tries += 1;
        }
        loop {
            if *phases.borrow_and_update() == Phase::Stopped {
                return End::Stopped(segment);
            }
            let ended = tokio::select! {
                ended = self.attempt(&mut segment, &mut progress) => ended,
                () = stopped(phases.clone()) => return End::Stopped(segment),
            };
            let stats = Arc::clone(self.context.row.stats());
            match ended {
                Ok(bytes) => {
                    stats.attempted(None);
                    stats.objects.increment();
                    stats.object_bytes.add(bytes);
                    if self.last_warning.take().is_some() {
                        info!(
                            bucket = self.context.settings.bucket,
                            "objects are stored again"
                        );
                    }
                    return End::Uploaded;
                }
                Err(failed) => {
                    let (Failed::Segment(failure) | Failed::Common(failure)) = &failed;
                    stats.attempted(Some(failure.cause));
                    segment.attempts += 1;
                    self.warn_of(segment, failure);
                    let wait = self.back_off(segment.attempts, *phases.borrow());
                    if let Failed::Segment(_) = failed {
                        segment.blocked_until = Some(Instant::now() + wait);
                        return End::Blocked(segment);
                    }
                    tokio::select! {
                        () = sleep(wait) => {}
                        // During shutdown there is no time to wait.
                        _ = phases.changed() => {}
                    }
                }
            }
        }
    }

    /// One attempt; its progress is kept in `segment` and `progress`. Returns the bytes stored.
    async fn attempt(&self, segment: &mut Segment, progress: &mut Progress) -> Result<u64, Failed> {
        let Context {
            settings,
            dir,
            store,
            clock,
            ..
        } = &self.context;
        if segment.is_unchecked {
            let (path, state) = (
                dir.join(file_name(segment.name, segment.state)),
                segment.state,
            );
            let check = move || {
                put_in_order(&path, state).map_err(|error| Failure::new("put in order", error))
            };
            segment.bytes = on_disk(check).await.map_err(Failed::Segment)?;
            segment.is_unchecked = false;
            self.context.row.measured(segment.bytes);
        }
        if segment.state != State::Keyed {
            let (store, dir, unkeyed) = (Arc::clone(store), dir.clone(), *segment);
            let name = unkeyed.name.at((clock)());
            let keyed = on_disk(move || give_key(&*store, &dir, unkeyed, name)).await;
            *segment = keyed.map_err(Failed::Segment)?;
        }
        if !progress.is_key_durable {
            let (store, dir) = (Arc::clone(store), dir.clone());
            let sync = move || store.sync_dir(&dir);
            on_disk(move || sync().map_err(|error| Failure::new("fix the key of", error)))
                .await
                .map_err(Failed::Common)?;
            progress.is_key_durable = true;
        }
        let key = segment.name.key(&settings.prefix).ok_or_else(|| {
            let text = "the clock reads a year beyond 9999: no key can be made".to_owned();
            Failed::Common(failure(Cause::Unavailable, text))
        })?;
        let path = dir.join(file_name(segment.name, State::Keyed));
        let packed = match &mut progress.packed {
            Some(packed) => packed,
            packed => {
                let (path, bytes) = (path.clone(), segment.bytes);
                let read =
                    move || pack_file(&path, bytes).map_err(|error| Failure::new("pack", error));
                packed.insert(on_disk(read).await.map_err(Failed::Segment)?)
            }
        };
        let put = self.bucket.put(&key, packed, segment.may_be_stored).await;
        put.map_err(|failure| {
            segment.may_be_stored |= super::may_be_stored(&failure);
            match failure.cause {
                Cause::Invalid | Cause::TooLarge => Failed::Segment(failure),
                _ => Failed::Common(failure),
            }
        })?;
        let store = Arc::clone(store);
        let removed = on_disk(move || {
            store
                .remove_file(&path)
                .map_err(|error| Failure::new("remove", error))
        });
        if let Err(failure) = removed.await {
            // The next start finds the object stored and removes the segment then.
            warn!(
                key,
                error = failure.text,
                "an uploaded segment stays on disk"
            );
        }
        Ok(packed.body.len() as u64)
    }

    /// Full jitter over exponentially growing waits.
    fn back_off(&self, attempt: u32, phase: Phase) -> Duration {
        let S3Settings {
            retry_base,
            retry_cap,
            ..
        } = self.context.settings;
        let cap = match phase {
            Phase::Running => retry_cap,
            Phase::Finishing | Phase::Stopped => retry_cap.min(FINISHING_CAP),
        };
        super::back_off(retry_base, cap, attempt)
    }

    fn warn_of(&mut self, segment: Segment, failure: &CallFailure) {
        let is_repeat = self
            .last_warning
            .is_some_and(|(cause, at)| cause == failure.cause && at.elapsed() < WARN_INTERVAL);
        if is_repeat {
            return;
        }
        self.last_warning = Some((failure.cause, Instant::now()));
        warn!(
            bucket = self.context.settings.bucket,
            segment = %segment.name,
            attempts = segment.attempts,
            cause = failure.cause.label(),
            error = failure.text,
            "cannot store an object: its segment stays on disk and is tried again"
        );
    }
}

/// Cuts a segment after its last confirmed line and renames it to the name with its key.
fn give_key(
    store: &dyn Store,
    dir: &Path,
    segment: Segment,
    name: Name,
) -> Result<Segment, Failure> {
    let from = dir.join(file_name(segment.name, segment.state));
    if segment.state == State::Open {
        let cut = store.open_file(&from).and_then(|mut file| {
            file.cut(segment.bytes)?;
            file.sync()
        });
        cut.map_err(|error| Failure::new("put in order", error))?;
    }
    let keyed = Segment {
        name,
        state: State::Keyed,
        ..segment
    };
    let to = dir.join(file_name(name, State::Keyed));
    match store.rename(&from, &to) {
        Ok(()) => Ok(keyed),
        // A disk may report the failure of what took effect.
        Err(_) if to.exists() && !from.exists() => Ok(keyed),
        Err(error) => Err(Failure::new("give its key to", error)),
    }
}

/// Runs a disk call where blocking is allowed.
async fn on_disk<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, CallFailure> {
    match spawn_blocking(call).await {
        Ok(result) => result.map_err(
            |Failure {
                 cause,
                 doing,
                 error,
             }| { failure(cause, format!("cannot {doing} a segment: {error}")) },
        ),
        Err(error) => Err(failure(Cause::Unavailable, error.to_string())),
    }
}

fn failure(cause: Cause, text: String) -> CallFailure {
    CallFailure {
        cause,
        is_auth_error: false,
        text,
    }
}

async fn stopped(mut phases: watch::Receiver<Phase>) {
    // An error means that the sink is gone.
    let _ = phases.wait_for(|phase| *phase == Phase::Stopped).await;
}
