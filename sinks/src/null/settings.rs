//! Settings of `type = "null"`.

use super::NullSink;
use crate::output::{
    AckMode, Delivery, Output, OutputContext, OutputType, Partitioning, SinkConfig, Timing, Usual,
};
use crate::settings::{MIB, Reader, bytes, number};
use crate::sink::{CheckError, Sink, SinkFuture};
use sluice_core::time::Wall;
use std::sync::Arc;
use std::time::Duration;

/// Nowhere.
pub const TYPE: OutputType = OutputType {
    name: "null",
    sentence: "Nowhere, for measuring: every record is confirmed and discarded.",
    example: "",
    // It takes a partition key so that the cost of making one can be measured.
    settings: &[
        Timing::SETTINGS,
        NullSettings::SETTINGS,
        Partitioning::SETTINGS,
        Delivery::SETTINGS,
    ],
    read,
};

const USUAL: Usual = Usual {
    ack: AckMode::Delivered,
    linger: Duration::ZERO,
    in_flight_max: 4,
    ..Usual::SERVICE
};

crate::settings! {
    /// How much a [`NullSink`] takes in one call.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct NullSettings from (reader, record_bytes: usize) {
        /// Records in one call.
        batch_records_max: usize = 10_000, number("records", 1, 100_000);
        /// Bytes in one call, at least the record of a largest request.
        batch_bytes_max: usize = record_bytes.max(8 << 20), bytes(1, 256 * MIB);
    }
}

impl Default for NullSettings {
    fn default() -> NullSettings {
        NullSettings::read(&mut Reader::default(), 0)
    }
}

fn read(reader: &mut Reader, context: &OutputContext) -> Output {
    Output::lingering(reader, &TYPE, &USUAL, context, |reader, _| {
        NullSettings::read(reader, context.record_bytes.size())
    })
}

impl SinkConfig for NullSettings {
    fn start(&self, _: fn() -> Wall) -> SinkFuture<'_, Result<Arc<dyn Sink>, CheckError>> {
        Box::pin(async { Ok(Arc::new(NullSink::new(self.clone())) as Arc<dyn Sink>) })
    }

    fn is_local(&self) -> bool {
        true
    }

    fn keeps_records(&self) -> bool {
        false
    }
}
