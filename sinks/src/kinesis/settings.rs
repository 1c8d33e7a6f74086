//! Settings of `type = "kinesis"`.

use super::{BATCH_BYTES_CEILING, BATCH_RECORDS_CEILING, KinesisSink};
use crate::aws::{AwsClient, AwsSettings, BATCH_BYTES_MIN, is_region, is_stream};
use crate::names::{NAMES_MAX, Names, beside, last_part};
use crate::output::{
    Delivery, Output, OutputContext, OutputType, Partitioning, Patience, SinkConfig, Timing, Usual,
};
use crate::settings::{Reader, bytes, number, seconds, switch, text, texts, word};
use crate::sink::{CheckError, Sink, SinkFuture};
use sluice_core::time::Wall;
use std::sync::Arc;
use std::time::Duration;

/// A Kinesis data stream.
pub const TYPE: OutputType = OutputType {
    name: "kinesis",
    sentence: "A Kinesis data stream.",
    example: "stream = \"clicks\"\n",
    settings: &[
        KinesisSettings::SETTINGS,
        AwsSettings::SETTINGS,
        Partitioning::SETTINGS,
        Timing::SETTINGS,
        Delivery::SETTINGS,
    ],
    read,
};

crate::settings! {
    /// Which stream, how to reach it, and how much to put in one call.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct KinesisSettings from (reader, record_bytes: usize, patience: &Patience) {
        /// The stream's name, or its ARN.
        stream: String = String::new(),
            text("1 to 128 letters, digits or any of _.-, or the stream's ARN", is_stream_or_arn)
                .needed("a kinesis output needs the name of its stream");
        /// Further streams of its account and region, between which a rule's `topic` chooses.
        streams: Vec<String> = Vec::new(),
            texts("streams", NAMES_MAX, "1 to 128 letters, digits or any of _.-", |name| is_stream(name, 128))
                .default_is("none");
        /// How often the stream's record limit and distribution strategy are read again, give or take a tenth. The account's limit is 20 descriptions a second.
        describe_interval as "describe_interval_s": Duration = Duration::from_secs(60), seconds(1, 3_600);
        /// Records in one PutRecords, which takes 500.
        batch_records_max: usize = BATCH_RECORDS_CEILING,
            number("records", 1, BATCH_RECORDS_CEILING as u64);
        /// Bytes in one PutRecords, partition keys included, which takes 10 MiB; at least the record of a largest request.
        batch_bytes_max: usize = record_bytes.max(5 << 20),
            bytes(BATCH_BYTES_MIN, BATCH_BYTES_CEILING as u64);
        /// Records whose shard throttles go to other shards, with the key they have: a hot key then hurts nobody, and its records are out of order.
        spread_hot_keys: bool = false, switch();
        /// The client that makes the calls that write: Sluice's own, which costs less, or the AWS SDK's, in a program that is built with `--features aws-sdk`.
        client: AwsClient = AwsClient::Sluice, word::<AwsClient>();
    }
    and {
        /// Region, endpoint and time-outs.
        aws: AwsSettings = AwsSettings::in_time(reader, patience);
    }
}

impl KinesisSettings {
    /// The defaults, for a stream by its name or ARN.
    #[must_use]
    pub fn new(stream: impl Into<String>) -> KinesisSettings {
        KinesisSettings {
            stream: stream.into(),
            ..KinesisSettings::read(&mut Reader::default(), 0, &Patience::unbounded())
        }
    }
}

fn read(reader: &mut Reader, context: &OutputContext) -> Output {
    Output::lingering(
        reader,
        &TYPE,
        &Usual::SERVICE,
        context,
        |reader, patience| KinesisSettings::read(reader, context.record_bytes.size(), patience),
    )
}

impl SinkConfig for KinesisSettings {
    fn start(&self, _: fn() -> Wall) -> SinkFuture<'_, Result<Arc<dyn Sink>, CheckError>> {
        Box::pin(async { Ok(Arc::new(KinesisSink::start(self.clone()).await?) as Arc<dyn Sink>) })
    }

    fn names(&self) -> Option<Names> {
        let own = last_part(&self.stream);
        Names::of(("streams", "stream"), own, &self.streams, |name| {
            KinesisSettings {
                stream: beside(&self.stream, name),
                streams: Vec::new(),
                ..self.clone()
            }
        })
    }
}

/// A name, or an ARN, for instance `arn:aws:kinesis:eu-west-1:123456789012:stream/clicks`.
fn is_stream_or_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        ["arn", partition, "kinesis", region, account, resource] => {
            let stream = resource.strip_prefix("stream/");
            is_region(partition)
                && is_region(region)
                && account.len() == 12
                && account.bytes().all(|byte| byte.is_ascii_digit())
                && stream.is_some_and(|name| is_stream(name, 128))
        }
        _ => is_stream(text, 128),
    }
}
