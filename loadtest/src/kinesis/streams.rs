//! The account: the stream that the emulator began with, and those that calls create and delete.
//! Finds the stream that a call names; streams themselves are in `stream`.

use super::api::{self, ApiError, request};
use super::read::iterator_stream;
use super::stream::{Distribution, Mode, Stream, StreamConfig};
use super::{RECORD_BYTES_MAX, RECORD_KIB_MIN, SHARDS_MAX, is_stream_name};
use serde::Deserialize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Streams of the account, also the service's default for on-demand ones.
pub const STREAMS_MAX: usize = 50;

/// Shards of an on-demand stream at its creation (service default).
const ON_DEMAND_SHARDS: u32 = 4;

/// A stream, and when it was created on the emulator's clock.
#[derive(Debug)]
struct Owned {
    created: Duration,
    stream: Stream,
}

/// All streams, oldest first.
#[derive(Debug)]
pub(super) struct Streams {
    all: Vec<Owned>,
    /// Settings that created streams take over from the first one.
    template: StreamConfig,
    started: SystemTime,
}

/// A stream that a call means, with the time since its creation.
pub(super) struct Found<'a> {
    pub(super) stream: &'a mut Stream,
    pub(super) now: Duration,
}

/// Members that name a call's stream, in any operation.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Names {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    shard_iterator: Option<String>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CreateRequest {
    stream_name: String,
    shard_count: Option<u32>,
    stream_mode_details: Option<api::ModeDetails>,
    #[serde(rename = "MaxRecordSizeInKiB")]
    max_record_size_in_kib: Option<usize>,
}

impl Streams {
    /// An account with one stream.
    pub(super) fn new(config: StreamConfig, started: SystemTime) -> Streams {
        Streams {
            template: config.clone(),
            all: vec![Owned {
                created: Duration::ZERO,
                stream: Stream::new(config, started),
            }],
            started,
        }
    }

    /// All of them, oldest first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Stream> + Clone {
        self.all.iter().map(|owned| &owned.stream)
    }

    /// The oldest with the time since its creation; the one that the emulator began with, unless it
    /// was deleted.
    pub(super) fn oldest(&self, now: Duration) -> Option<(&Stream, Duration)> {
        let owned = self.all.first()?;
        Some((&owned.stream, now.saturating_sub(owned.created)))
    }

    /// Applies changes that are due by `now`.
    pub(super) fn settle(&mut self, now: Duration) {
        for owned in &mut self.all {
            owned.stream.settle(now.saturating_sub(owned.created));
        }
        self.all.retain(|owned| !owned.stream.is_deleted());
    }

    /// The settings of the stream that a call writes to.
    ///
    /// # Errors
    /// When there is no such stream, or it is not there yet or any more.
    pub(super) fn config(
        &mut self,
        now: Duration,
        name: Option<&str>,
        arn: Option<&str>,
    ) -> Result<Arc<StreamConfig>, ApiError> {
        self.settle(now);
        let name = api::stream_name(name, arn)?;
        let stream = self.all().find(|stream| stream.config().name == name);
        match stream.filter(|stream| stream.takes_records()) {
            Some(stream) => Ok(Arc::clone(stream.config())),
            None => Err(ApiError::no_stream(name)),
        }
    }

    /// A stream by its name.
    pub(super) fn get_mut(&mut self, now: Duration, name: &str) -> Option<Found<'_>> {
        let mut all = self.all.iter_mut();
        let owned = all.find(|owned| owned.stream.config().name == name)?;
        Some(Found {
            now: now.saturating_sub(owned.created),
            stream: &mut owned.stream,
        })
    }

    /// The stream that a call means. For a call that names none which exists it is the oldest, whose
    /// checks then say what is wrong with the call, in the order in which the service says it.
    ///
    /// # Errors
    /// When there is no stream at all.
    pub(super) fn of_call(&mut self, now: Duration, body: &[u8]) -> Result<Found<'_>, ApiError> {
        let names: Names = serde_json::from_slice(body).unwrap_or_default();
        let arn = names.stream_arn.as_deref();
        let token = names.next_token.as_deref();
        let name = api::stream_name(names.stream_name.as_deref(), arn).ok();
        let name = name
            .or_else(|| iterator_stream(names.shard_iterator.as_deref()?))
            .or_else(|| Some(token?.split_once(':')?.0))
            .unwrap_or_default();
        let at = self
            .all
            .iter()
            .position(|owned| owned.stream.config().name == name);
        match self.all.get_mut(at.unwrap_or(0)) {
            Some(owned) => Ok(Found {
                now: now.saturating_sub(owned.created),
                stream: &mut owned.stream,
            }),
            None => Err(ApiError::no_stream(name)),
        }
    }

    /// CreateStream: the stream is CREATING for as long as changes take.
    pub(super) fn create(&mut self, now: Duration, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let asked: CreateRequest = request(body)?;
        let name = asked.stream_name;
        if !is_stream_name(&name) {
            return Err(ApiError::validation(&format!(
                "Value '{name:.200}' at 'streamName' failed to satisfy constraint: Member must \
                 satisfy regular expression pattern: [a-zA-Z0-9_.-]+ and have length less than or \
                 equal to 128"
            )));
        }
        let mode = match &asked.stream_mode_details {
            Some(details) => details.mode()?,
            None => Mode::Provisioned,
        };
        let shards = match (mode, asked.shard_count) {
            (Mode::OnDemand, None) => ON_DEMAND_SHARDS,
            (Mode::OnDemand, Some(_)) => {
                let message = "ShardCount must not be provided for on-demand capacity mode.";
                return Err(ApiError::argument(message));
            }
            (Mode::Provisioned, Some(count)) if (1..=SHARDS_MAX).contains(&count) => count,
            (Mode::Provisioned, count) => {
                let count = count.map_or("null".to_owned(), |count| count.to_string());
                return Err(ApiError::validation(&format!(
                    "Value '{count}' at 'shardCount' must be between 1 and {SHARDS_MAX}"
                )));
            }
        };
        let record_bytes_max = match asked.max_record_size_in_kib {
            None => 1 << 20,
            Some(kib) if (RECORD_KIB_MIN..=RECORD_BYTES_MAX / 1024).contains(&kib) => kib * 1024,
            Some(kib) => {
                let kib_max = RECORD_BYTES_MAX / 1024;
                return Err(ApiError::validation(&format!(
                    "Value '{kib}' at 'maxRecordSizeInKiB' must be between {RECORD_KIB_MIN} and \
                     {kib_max}"
                )));
            }
        };
        if self.all().any(|stream| stream.config().name == name) {
            let message = format!(
                "Stream {name} under account {} already exists.",
                api::ACCOUNT
            );
            return Err(ApiError::client("ResourceInUseException", message));
        }
        if self.all.len() >= STREAMS_MAX {
            let message = format!("This account has {STREAMS_MAX} streams, and can have no more.");
            return Err(ApiError::limit_exceeded(message));
        }
        let config = StreamConfig {
            name,
            shards,
            mode,
            distribution: Distribution::default(),
            record_bytes_max,
            ..self.template.clone()
        };
        self.all.push(Owned {
            created: now,
            stream: Stream::creating(config, self.started + now),
        });
        self.settle(now);
        Ok(Vec::new())
    }

    /// DeleteStream: the stream is DELETING for as long as changes take, then it is gone.
    pub(super) fn delete(&mut self, now: Duration, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let asked: api::StreamName = request(body)?;
        let found = self.of_call(now, body)?;
        asked.check(found.stream.config())?;
        found.stream.delete(found.now);
        self.settle(now);
        Ok(Vec::new())
    }
}
