//! Settings of `type = "sqs"`.

use super::{BATCH_BYTES_CEILING, BATCH_RECORDS_CEILING, MESSAGES_CEILING, PACK_BYTES, SqsSink};
use crate::aws::{AwsSettings, BATCH_BYTES_MIN, is_region};
use crate::names::{NAMES_MAX, Names, beside, last_part};
use crate::output::{
    Delivery, Output, OutputContext, OutputType, Partitioning, Patience, SinkConfig, Timing, Usual,
};
use crate::settings::{Given, Number, Reader, bytes, is_word, number, text, texts};
use crate::sink::{CheckError, Sink, SinkFuture};
use sluice_core::time::Wall;
use std::sync::Arc;

/// An SQS queue.
pub const TYPE: OutputType = OutputType {
    name: "sqs",
    sentence: "An SQS queue, standard or FIFO.",
    example: "queue_url = \"https://sqs.eu-west-1.amazonaws.com/123456789012/clicks\"\n",
    settings: &[
        SqsSettings::SETTINGS,
        AwsSettings::SETTINGS,
        Partitioning::SETTINGS,
        Timing::SETTINGS,
        Delivery::SETTINGS,
    ],
    read,
};

/// What the name of a FIFO queue ends with.
const FIFO: &str = ".fifo";
/// Characters of a queue's name, as the service documents it.
const NAME_CHARS_MAX: usize = 80;
/// Bytes of a queue's URL.
const URL_BYTES_MAX: usize = 2_048;

crate::settings! {
    /// Which queue, how to reach it, and how much to put in one message and one call.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct SqsSettings from (reader, patience: &Patience) {
        /// The queue's URL. A name that ends with `.fifo` is a FIFO queue's: `partition_key` names the group, and each attempt at a message has the same deduplication id.
        queue_url: String = String::new(),
            text("http:// or https://, a host, a path and a queue's name, at most 2048 bytes", is_queue_url)
                .needed("an sqs output needs the URL of its queue");
        /// Further queues, between which a rule's `topic` chooses: names that stand for the last part of `queue_url`. Either all are FIFO queues or none.
        queues: Vec<String> = Vec::new(),
            texts("queues", NAMES_MAX, "a queue's name: 1 to 80 letters, digits or any of _-, the end `.fifo` included", is_queue)
                .default_is("none");
        /// Bytes up to which events share a message, one per line; 0: each has its own. A larger event goes alone, up to the queue's own limit.
        message_bytes_max: usize = if queue_url.ends_with(FIFO) { 0 } else { PACK_BYTES },
            bytes(0, BATCH_BYTES_CEILING as u64).default_is("`262144`; `0` for FIFO queues");
        /// Events in one write, which makes a call for every ten messages.
        batch_records_max: usize = if message_bytes_max == 0 { MESSAGES_CEILING } else { 500 },
            number("records", 1, BATCH_RECORDS_CEILING as u64).default_is("`500`; `10` where each event has its own message");
        /// Bytes of events in one write; a call takes 1 MiB.
        batch_bytes_max: usize = BATCH_BYTES_CEILING,
            bytes(BATCH_BYTES_MIN, BATCH_BYTES_CEILING as u64);
    }
    and {
        /// Region, endpoint and time-outs.
        aws: AwsSettings = AwsSettings::in_time(reader, patience);
    }
}

impl SqsSettings {
    /// The defaults, for a queue by its URL.
    #[must_use]
    pub fn new(queue_url: impl Into<String>) -> SqsSettings {
        let queue_url = queue_url.into();
        let defaults = SqsSettings::read(&mut Reader::default(), &Patience::unbounded());
        match queue_url.ends_with(FIFO) {
            true => SqsSettings {
                queue_url,
                message_bytes_max: 0,
                batch_records_max: MESSAGES_CEILING,
                ..defaults
            },
            false => SqsSettings {
                queue_url,
                ..defaults
            },
        }
    }

    pub(super) fn is_fifo(&self) -> bool {
        self.queue_url.ends_with(FIFO)
    }

    pub(super) fn queue_name(&self) -> &str {
        last_part(&self.queue_url)
    }

    /// Scheme and host: where the queue is called if nothing else is said.
    pub(super) fn origin_of_url(&self) -> &str {
        let url = &self.queue_url;
        let host = url.find("://").map_or(0, |at| at + "://".len());
        let path = url[host..].find('/').map_or(url.len(), |at| host + at);
        &url[..path]
    }

    /// The region that hosts of the service name.
    pub(super) fn region_of_url(&self) -> Option<String> {
        let (_, host) = self.origin_of_url().split_once("://")?;
        let (region, domain) = host.strip_prefix("sqs.")?.split_once('.')?;
        (domain.starts_with("amazonaws.com") && is_region(region)).then(|| region.to_owned())
    }
}

fn read(reader: &mut Reader, context: &OutputContext) -> Output {
    // A larger event is answered 413: it needs no room in batches.
    let record_bytes = context.record_bytes.value.min(BATCH_BYTES_CEILING as u64);
    let context = OutputContext {
        record_bytes: Number {
            value: record_bytes,
            ..context.record_bytes.clone()
        },
        ..context.clone()
    };
    let usual = Usual::SERVICE;
    Output::lingering(reader, &TYPE, &usual, &context, |reader, patience| {
        let settings = SqsSettings::read(reader, patience);
        let batch = reader.number("batch_bytes_max");
        let message = reader.number("message_bytes_max");
        reader.at_most(&message, &batch, "no message would ever be packed so full");
        let is_other = |name: &&String| name.ends_with(FIFO) != settings.is_fifo();
        if let Some(name) = settings.queues.iter().find(is_other) {
            let queues = Given::new(reader.path("queues"), name.as_str());
            let own = Given::new(reader.path("queue_url"), settings.queue_url.as_str());
            let why = "FIFO queues have other defaults than standard ones";
            reader.contradiction(queues, "of the same kind as", own, why);
        }
        settings
    })
}

impl SinkConfig for SqsSettings {
    fn start(&self, _: fn() -> Wall) -> SinkFuture<'_, Result<Arc<dyn Sink>, CheckError>> {
        Box::pin(async { Ok(Arc::new(SqsSink::start(self.clone()).await?) as Arc<dyn Sink>) })
    }

    fn names(&self) -> Option<Names> {
        let own = self.queue_name();
        Names::of(("queues", "queue"), own, &self.queues, |name| SqsSettings {
            queue_url: beside(&self.queue_url, name),
            queues: Vec::new(),
            ..self.clone()
        })
    }
}

fn is_queue_url(url: &str) -> bool {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    let Some((host, (_, name))) =
        rest.and_then(|rest| Some((rest.split_once('/')?.0, rest.rsplit_once('/')?)))
    else {
        return false;
    };
    url.len() <= URL_BYTES_MAX
        && url.bytes().all(|byte| byte.is_ascii_graphic())
        && !url.contains(['?', '#', '@'])
        && !host.is_empty()
        && is_queue(name)
}

fn is_queue(name: &str) -> bool {
    let bare = name.strip_suffix(FIFO).unwrap_or(name);
    name.len() <= NAME_CHARS_MAX && is_word(bare, NAME_CHARS_MAX, "_-")
}
