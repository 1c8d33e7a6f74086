//! A sink that discards every record and confirms it, for measuring the rest of the path. Never a default:
//! with it, an answer of 200 means nothing.

mod settings;

pub use settings::{NullSettings, TYPE};

use crate::sink::{CheckError, Sink, SinkFuture, SinkLimits};
use sluice_core::record::{Record, RecordResult};

/// Confirms every record immediately and discards it.
#[derive(Clone, Debug, Default)]
pub struct NullSink {
    settings: NullSettings,
}

impl NullSink {
    /// A sink with these limits.
    #[must_use]
    pub fn new(settings: NullSettings) -> NullSink {
        NullSink { settings }
    }
}

impl Sink for NullSink {
    fn limits(&self) -> SinkLimits {
        SinkLimits {
            batch_records_max: self.settings.batch_records_max,
            batch_bytes_max: self.settings.batch_bytes_max,
            record_bytes_max: self.settings.batch_bytes_max,
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
