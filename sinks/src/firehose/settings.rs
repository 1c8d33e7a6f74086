//! Settings of `type = "firehose"`.

use super::{
    BATCH_BYTES_CEILING, BATCH_RECORDS_CEILING, BILLED_STEP, FirehoseSink, RECORD_BYTES_CEILING,
};
use crate::aws::{AwsClient, AwsSettings, BATCH_BYTES_MIN, is_stream};
use crate::names::{NAMES_MAX, Names};
use crate::output::{
    Delivery, Output, OutputContext, OutputType, Patience, SinkConfig, Timing, Usual,
};
use crate::settings::{Reader, bytes, number, text, texts, word};
use crate::sink::{CheckError, Sink, SinkFuture};
use sluice_core::time::Wall;
use std::sync::Arc;
use std::time::Duration;

/// A Firehose delivery stream that takes direct puts.
pub const TYPE: OutputType = OutputType {
    name: "firehose",
    sentence: "A Firehose delivery stream that takes direct puts.",
    example: "stream = \"clicks\"\n",
    settings: &[
        FirehoseSettings::SETTINGS,
        AwsSettings::SETTINGS,
        Timing::SETTINGS,
        Delivery::SETTINGS,
    ],
    read,
};

/// Time to fill records: each is billed up to 5 KiB however little is in it.
const USUAL: Usual = Usual {
    linger: Duration::from_millis(100),
    ..Usual::SERVICE
};

crate::settings! {
    /// Which stream, how to reach it, how much to put in one call, and how much in one record.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct FirehoseSettings from (reader, record_bytes: usize, patience: &Patience) {
        /// The delivery stream's name.
        stream: String = String::new(),
            text("1 to 64 letters, digits or any of _.-", |text| is_stream(text, 64))
                .needed("a firehose output needs the name of its delivery stream");
        /// Further delivery streams of its account and region, between which a rule's `topic` chooses.
        streams: Vec<String> = Vec::new(),
            texts("streams", NAMES_MAX, "1 to 64 letters, digits or any of _.-", |name| is_stream(name, 64))
                .default_is("none");
        /// Events in one PutRecordBatch, which takes 500 records.
        batch_records_max: usize = BATCH_RECORDS_CEILING,
            number("records", 1, BATCH_RECORDS_CEILING as u64);
        /// Bytes in one PutRecordBatch, newlines included, which takes 4 MiB; at least the record of a largest request.
        batch_bytes_max: usize = record_bytes.max(BATCH_BYTES_CEILING),
            bytes(BATCH_BYTES_MIN, BATCH_BYTES_CEILING as u64);
        /// Bytes up to which events share a record, newlines included; 0: each has its own. Records are billed in increments of 5 KiB.
        pack_bytes_max: usize = batch_bytes_max.min(BILLED_STEP),
            bytes(0, RECORD_BYTES_CEILING as u64);
        /// The client that makes the calls that write: Sluice's own, which costs less, or the AWS SDK's, in a program that is built with `--features aws-sdk`.
        client: AwsClient = AwsClient::Sluice, word::<AwsClient>();
    }
    and {
        /// Region, endpoint and time-outs.
        aws: AwsSettings = AwsSettings::in_time(reader, patience);
    }
}

impl FirehoseSettings {
    /// The defaults, for a stream by its name.
    #[must_use]
    pub fn new(stream: impl Into<String>) -> FirehoseSettings {
        FirehoseSettings {
            stream: stream.into(),
            ..FirehoseSettings::read(&mut Reader::default(), 0, &Patience::unbounded())
        }
    }
}

fn read(reader: &mut Reader, context: &OutputContext) -> Output {
    Output::lingering(reader, &TYPE, &USUAL, context, |reader, patience| {
        let settings = FirehoseSettings::read(reader, context.record_bytes.size(), patience);
        let batch = reader.number("batch_bytes_max");
        let pack = reader.number("pack_bytes_max");
        reader.at_most(&pack, &batch, "no record would ever be packed so full");
        settings
    })
}

impl SinkConfig for FirehoseSettings {
    fn start(&self, _: fn() -> Wall) -> SinkFuture<'_, Result<Arc<dyn Sink>, CheckError>> {
        Box::pin(async { Ok(Arc::new(FirehoseSink::start(self.clone()).await?) as Arc<dyn Sink>) })
    }

    fn names(&self) -> Option<Names> {
        let terms = ("streams", "stream");
        Names::of(terms, &self.stream, &self.streams, |name| {
            FirehoseSettings {
                stream: name.to_owned(),
                streams: Vec::new(),
                ..self.clone()
            }
        })
    }
}
