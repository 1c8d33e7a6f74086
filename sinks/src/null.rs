//! A sink that discards every record and confirms it, for measuring the rest of the path. Never a default:
//! with it, an answer of 200 means nothing.

use crate::sink::{CheckError, Sink, SinkFuture, SinkLimits};
use sluice_core::record::{Record, RecordResult};

/// Confirms every record immediately and discards it.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullSink;

impl Sink for NullSink {
    /// Far above any request, so that measurements meet only our own limits.
    fn limits(&self) -> SinkLimits {
        SinkLimits {
            batch_records_max: 10_000,
            batch_bytes_max: 64 * 1024 * 1024,
            record_bytes_max: 64 * 1024 * 1024,
        }
    }

    fn write<'a>(&'a self, records: &'a [Record]) -> SinkFuture<'a, Vec<RecordResult>> {
        let results = vec![RecordResult::Delivered; records.len()];
        Box::pin(std::future::ready(results))
    }

    fn check(&self) -> SinkFuture<'_, Result<String, CheckError>> {
        Box::pin(std::future::ready(Ok(
            "keeps nothing: every event is confirmed and forgotten".to_owned(),
        )))
    }
}
