//! What every destination looks like to the writer: one call, one result per record.
//! Mechanism only: a sink never batches, retries, routes or decides.

use sluice_core::cause::Cause;

use sluice_core::record::{Record, RecordResult};
use sluice_core::stats::{BillingStats, StagingStats};
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;

/// A boxed future: one allocation per call of a sink, which carries hundreds of records.
pub type SinkFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What one call may carry. Read before each batch, because a service may change it while we run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkLimits {
    /// Records per call.
    pub batch_records_max: usize,
    /// Bytes per call, keys included.
    pub batch_bytes_max: usize,
    /// Bytes of one record, key included; a larger one is refused to the client with 413.
    pub record_bytes_max: usize,
}

/// A destination cannot be used as configured.
#[derive(Debug, thiserror::Error)]
#[error("{destination}: {reason}")]
pub struct CheckError {
    /// What was tried, for instance `kinesis stream clicks`.
    pub destination: String,
    /// What came back.
    pub reason: String,
}

/// A destination.
pub trait Sink: Send + Sync + 'static {
    /// What one call may carry, now.
    fn limits(&self) -> SinkLimits;

    /// Tries to store the records, within the sink's own time-outs, and says for each, in order, what
    /// is known of it. Returns exactly `records.len()` results. Cancelling it (dropping the future)
    /// leaves the records' fate unknown.
    fn write<'a>(&'a self, records: &'a [Record]) -> SinkFuture<'a, Vec<RecordResult>>;

    /// Why calls end as [`Cause::Unknown`] just now, where the sink heard of a reason beside them: that a
    /// broker is away, for instance. Says what is wrong, and nothing of a record's fate.
    fn connection_error(&self) -> Option<Cause> {
        None
    }

    /// Tries whether the destination can be written to, without writing an event; the text says
    /// what was found.
    fn check(&self) -> SinkFuture<'_, Result<String, CheckError>>;

    /// Called once, after the last write: brings out what was confirmed and is not at its destination yet,
    /// until nothing is left or `stop` ends. Says how many bytes stay behind for the next start.
    fn finish<'a>(&'a self, stop: SinkFuture<'a, ()>) -> SinkFuture<'a, u64> {
        drop(stop);
        Box::pin(ready(0))
    }

    /// What a sink counts whose destination bills records in steps.
    fn billing_stats(&self) -> Option<Arc<BillingStats>> {
        None
    }

    /// What a sink counts that makes objects of records.
    fn staging_stats(&self) -> Option<Arc<StagingStats>> {
        None
    }
}
