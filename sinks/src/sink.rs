//! The interface between the writer and a destination: one call, one result per record.
//! Mechanism only: a sink never batches, retries, routes or decides.

use sluice_core::cause::Cause;
use sluice_core::lanes::LaneId;

use sluice_core::record::{Record, RecordResult};
use sluice_core::stats::{BillingStats, StagingStats};
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;

/// A boxed future: one allocation per call of a sink, which carries hundreds of records.
pub type SinkFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Limits of one call. Read before each batch, because a service may change them at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkLimits {
    /// Records per call.
    pub batch_records_max: usize,
    /// Bytes per call, keys included.
    pub batch_bytes_max: usize,
    /// Bytes of one record, key included; a larger one is answered 413.
    pub record_bytes_max: usize,
}

/// What a destination takes in a second, by its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Records.
    pub records_per_s: u64,
    /// Bytes, keys included.
    pub bytes_per_s: u64,
}

/// A destination cannot be used as configured.
#[derive(Debug, thiserror::Error)]
#[error("{destination}: {reason}")]
pub struct CheckError {
    /// The destination, for instance `kinesis stream clicks`.
    pub destination: String,
    /// The destination's reply.
    pub reason: String,
}

/// A destination.
pub trait Sink: Send + Sync + 'static {
    /// The current limits of one call.
    fn limits(&self) -> SinkLimits;

    /// Tries to store the records, within the sink's own time-outs. Returns exactly `records.len()`
    /// results, in order. Dropping the future leaves the records' results unknown.
    fn write<'a>(&'a self, records: &'a [Record]) -> SinkFuture<'a, Vec<RecordResult>>;

    /// The likely reason why calls currently end as [`Cause::Unknown`], for instance an unreachable
    /// broker. It explains the failure and says nothing about any record's result.
    fn connection_error(&self) -> Option<Cause> {
        None
    }

    /// Which part of the destination with limits of its own a record goes to, as far as is known: only records of a
    /// part that throttles wait or are refused.
    fn lane(&self, record: &Record) -> Option<LaneId> {
        let _ = record;
        None
    }

    /// How many lanes the destination should have, where those that it has throttle lastingly; else 0.
    fn lanes_wanted(&self) -> u64 {
        0
    }

    /// What the destination takes in a second, where it has limits that are known. Others may share them.
    fn quota(&self) -> Option<Quota> {
        None
    }

    /// Checks whether the destination can be written to, without writing an event. Returns a description
    /// of what was found.
    fn check(&self) -> SinkFuture<'_, Result<String, CheckError>>;

    /// Called once, after the last write: brings out what was confirmed and is not at its destination yet,
    /// until nothing is left or `stop` ends. Says how many bytes stay behind for the next start.
    fn finish<'a>(&'a self, stop: SinkFuture<'a, ()>) -> SinkFuture<'a, u64> {
        drop(stop);
        Box::pin(ready(0))
    }

    /// Billing counters, for destinations that bill in fixed increments.
    fn billing_stats(&self) -> Option<Arc<BillingStats>> {
        None
    }

    /// Staging counters, for sinks that collect records into objects.
    fn staging_stats(&self) -> Option<Arc<StagingStats>> {
        None
    }
}
