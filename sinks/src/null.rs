//! The destination that keeps nothing and confirms everything: for measuring what comes before it.
//! Never a default: an answer of 200 means nothing here.

use crate::sink::{CheckError, Sink, SinkFuture, SinkLimits};
use sluice_core::record::{Record, RecordResult};

/// Confirms every record at once and forgets it.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullSink;

impl Sink for NullSink {
    /// Far above what any request may bring, so that measurements see our own limits only.
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
