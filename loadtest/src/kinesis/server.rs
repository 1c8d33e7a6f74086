//! The streams as a service: operations, their handlers and counters.
//! Every rule of the service is elsewhere; so is the server.

use super::api::{self, ApiError};
use super::call::decode;
use super::cbor;
use super::cost::CostMeter;
use super::stream::{Aggregation, AnswerShape, Stream, StreamConfig};
use super::streams::{Found, Streams};
use super::{EmulatorError, FaultsError, NotRetained, Options, StoredRecord};
use crate::event_id::{EventId, IdScanner};
use crate::service::{self, Call, CommonError, FaultScript, Frame, Refusal, Reply, Service};
use hyper::http::request::Parts;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

/// Bytes of an HTTP body: the largest call in base64, and its JSON around 500 records.
const HTTP_BODY_MAX: usize = 16 << 20;

const TARGET_PREFIX: &str = "Kinesis_20131202.";

/// Counters since the start. Also the JSON of `GET /_stats`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Connections accepted.
    pub connections: u64,
    /// Calls by operation; those of unknown operations under `unknown`.
    pub calls: BTreeMap<String, u64>,
    /// Calls answered with an error, by its code.
    pub errors: BTreeMap<String, u64>,
    /// Call faults carried out, by their name.
    pub faults: BTreeMap<String, u64>,
    /// Records in PutRecords calls that passed the whole-call checks.
    pub records: u64,
    /// Records stored.
    pub stored: u64,
    /// Bytes stored, data and keys.
    pub stored_bytes: u64,
    /// Records refused by shard limits.
    pub throttled: u64,
    /// Records refused by the fault `reject`.
    pub rejected: u64,
    /// Records answered as stored and not stored, by the fault `drop_acked`.
    pub dropped_acked: u64,
    /// Ids of stored events (counted only with a ledger).
    pub ledger_ids: u64,
    /// Records in memory.
    pub retained: u64,
    /// Bytes that they take.
    pub retained_bytes: u64,
    /// Stored records that are not in memory any more, or never were (`--discard`).
    pub not_retained: u64,
    /// Stored records that are containers of the Kinesis Producer Library.
    pub kpl_containers: u64,
    /// Stored records that begin like such a container and do not decode. Their events are in no
    /// ledger, and not among the stored ids.
    pub kpl_damaged: u64,
    /// User records in stored containers.
    pub kpl_user_records: u64,
    /// Those of them whose hash is outside the shard that they are stored in: the Kinesis Client
    /// Library drops them on reading. They are in no ledger, and not among the stored ids.
    pub kpl_dropped_by_readers: u64,
    /// Shards that take records now.
    pub open_shards: u64,
    /// Billing counters of the stream; of the oldest when there are several.
    pub cost: CostMeter,
    /// Records stored, by shard, closed ones included; of several streams the oldest first.
    pub shard_stored: Vec<u64>,
    /// Records refused by shard limits, by shard.
    pub shard_throttled: Vec<u64>,
}

/// State shared by all calls.
pub(super) struct Own {
    streams: Streams,
    stats: Stats,
    aggregation: Aggregation,
    /// When the clock was last read for counters.
    seen: Duration,
}

/// The streams as a service.
pub(super) struct Kinesis {
    scanner: IdScanner,
    region: String,
}

type State = service::State<Own>;
type Shared = service::Shared<Kinesis>;

impl Service for Kinesis {
    const NAME: &'static str = "kinesis";
    const BODY_BYTES_MAX: usize = HTTP_BODY_MAX;
    const CONTENT_TYPE: &'static str = "application/x-amz-json-1.1";
    const FAULTS_UNKNOWN: &'static [&'static str] = &[];
    type Own = Own;
    type Stats = Stats;

    fn operation(&self, head: &Parts) -> &'static str {
        operation(head)
    }

    fn call(&self, call: Call<'_>, shared: &Shared) -> Result<Reply, Refusal> {
        let shape = AnswerShape {
            short: call.short,
            failed_count_zero: call.failed_count_zero,
        };
        let region = call.region().unwrap_or(&self.region);
        if !cbor::is_spoken(call.head) {
            let answer = apply(shared, call.operation, region, &call.body, shape)?;
            return Ok(Reply::new(200, answer));
        }
        let body = cbor::to_json(&call.body)?;
        let answer = apply(shared, call.operation, region, &body, shape)?;
        let answer = Reply::new(200, cbor::from_json(&answer));
        Ok(answer.with("content-type", cbor::CONTENT_TYPE))
    }

    fn refuse(&self, refusal: &Refusal, head: &Parts) -> Reply {
        let mut reply = refusal.json();
        if cbor::is_spoken(head) {
            reply.body = cbor::from_json(&reply.body).into();
            reply = reply.with("content-type", cbor::CONTENT_TYPE);
        }
        reply
    }

    fn common_error(&self, error: CommonError, operation: &str) -> Refusal {
        let throttled = ApiError::call_throttled().into();
        error.json(Self::NAME, operation, throttled)
    }

    fn tick(&self, own: &mut Own, now: Duration) {
        own.streams.settle(now);
        own.seen = now;
    }

    fn stats(&self, state: &State) -> Stats {
        stats(state)
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Refusal {
        Refusal::new(error.status, error.code, error.message)
    }
}

/// A running emulator on its own thread; it ends when dropped.
pub struct Emulator {
    frame: Frame<Kinesis>,
}

impl std::fmt::Debug for Emulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Emulator")
            .field("addr", &self.frame.addr())
            .finish_non_exhaustive()
    }
}

impl Emulator {
    /// Listens and serves; when this returns, the emulator takes calls.
    ///
    /// # Errors
    /// When an option is out of range or contradicts another, the address is taken, or the
    /// ledger cannot be made.
    pub fn start(options: Options) -> Result<Emulator, EmulatorError> {
        super::check(&options)?;
        let frame = options.frame();
        let config = StreamConfig {
            name: options.stream,
            shards: options.shards,
            mode: options.mode,
            distribution: options.distribution,
            record_bytes_max: options.record_bytes_max,
            shard_limits: options.shard_limits,
            update: options.update,
            on_demand_period: options.on_demand_period,
            retain_bytes_max: options.retain_bytes_max,
            ids: options.ledger.is_some(),
        };
        let own = Own {
            streams: Streams::new(config, SystemTime::now()),
            stats: Stats::default(),
            aggregation: Aggregation::default(),
            seen: Duration::ZERO,
        };
        let kinesis = Kinesis {
            scanner: IdScanner::default(),
            region: options.region,
        };
        let frame = Frame::start(frame, kinesis, own)?;
        Ok(Emulator { frame })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.frame.addr()
    }

    /// Its endpoint URL, as `AWS_ENDPOINT_URL_KINESIS` takes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// Where it listens with TLS, and its certificate in PEM; `None` without a TLS port.
    #[must_use]
    pub fn tls(&self) -> Option<(SocketAddr, &str)> {
        self.frame.tls()
    }

    /// Replaces the faults from the next call on, and restarts their choices and their clock.
    ///
    /// # Errors
    /// When they are impossible; the old ones then stay.
    pub fn set_faults(&self, faults: impl Into<FaultScript>) -> Result<(), FaultsError> {
        self.frame.set_faults(faults.into().window)
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.frame.shared().stats()
    }

    /// All records in memory, shard by shard, oldest first; of several streams the oldest first.
    #[must_use]
    pub fn stored_records(&self) -> Vec<StoredRecord> {
        let state = self.frame.shared().lock();
        let streams = state.own.streams.all();
        streams.flat_map(|stream| stream.records()).collect()
    }

    /// The records of one stream in memory; none if it does not exist.
    #[must_use]
    pub fn stored_in(&self, stream: &str) -> Vec<StoredRecord> {
        let state = self.frame.shared().lock();
        let mut streams = state.own.streams.all();
        let found = streams.find(|known| known.config().name == stream);
        found.map_or_else(Vec::new, Stream::records)
    }

    /// The ids of all events stored, once per stored copy, in no particular order. Of containers
    /// of the Kinesis Producer Library, those that its readers get.
    ///
    /// # Errors
    /// When stored records are not in memory any more.
    pub fn stored_ids(&self) -> Result<Vec<EventId>, NotRetained> {
        let shared = self.frame.shared();
        let state = shared.lock();
        let missing = stats(&state).not_retained;
        if missing > 0 {
            return Err(NotRetained { missing });
        }
        let streams = state.own.streams.all();
        let ids = streams.flat_map(|stream| stream.delivered_ids(&shared.service.scanner));
        Ok(ids.collect())
    }

    /// Returns when the emulator ended by itself, as it does when its ledger cannot be written,
    /// or when `stop` says so; then ends it.
    ///
    /// # Errors
    /// Why it ended by itself.
    pub fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), EmulatorError> {
        Ok(self.frame.run_until(stop)?)
    }

    /// Ends it: connections are closed, the ledger is written out, the port is free again.
    ///
    /// # Errors
    /// When the ledger could not be written.
    pub fn stop(self) -> Result<(), EmulatorError> {
        Ok(self.frame.stop()?)
    }
}

/// The operation that a call names; `unknown` for those that are not emulated.
fn operation(head: &Parts) -> &'static str {
    let target = head
        .headers
        .get("x-amz-target")
        .and_then(|target| target.to_str().ok());
    let named = target.and_then(|target| target.strip_prefix(TARGET_PREFIX));
    api::operation(named.unwrap_or_default())
}

fn apply(
    shared: &Shared,
    operation: &str,
    region: &str,
    body: &[u8],
    shape: AnswerShape,
) -> Result<Vec<u8>, ApiError> {
    if matches!(operation, "PutRecords" | "PutRecord") {
        return put(shared, operation == "PutRecord", body, shape);
    }
    let mut state = shared.lock();
    // Read under the lock, so that time does not go back between calls.
    let now = shared.now();
    api::operate(operation, &mut state.own.streams, now, region, body)
}

/// PutRecords, or with `single` PutRecord.
fn put(
    shared: &Shared,
    single: bool,
    body: &[u8],
    shape: AnswerShape,
) -> Result<Vec<u8>, ApiError> {
    let config_of = |name: Option<&str>, arn: Option<&str>| {
        let mut state = shared.lock();
        let now = shared.now();
        state.own.streams.config(now, name, arn)
    };
    let scanner = &shared.service.scanner;
    let call = decode(&config_of, scanner, body, single, &mut Vec::new())?;
    let mut state = shared.lock();
    let State {
        own:
            Own {
                streams,
                stats,
                aggregation,
                ..
            },
        faults,
        ledger,
        calls,
        ..
    } = &mut *state;
    let Some(Found { stream, now }) = streams.get_mut(shared.now(), &call.stream) else {
        // Deleted since the call was read.
        return Err(ApiError::no_stream(&call.stream));
    };
    let outcome = stream.put(call, faults, shape, now, |id| {
        if let Some(ledger) = ledger {
            ledger.push_id(id);
            calls.ledger_ids += 1;
        }
    });
    stats.records += outcome.stored + outcome.throttled + outcome.rejected + outcome.dropped_acked;
    stats.stored += outcome.stored;
    stats.throttled += outcome.throttled;
    stats.rejected += outcome.rejected;
    stats.dropped_acked += outcome.dropped_acked;
    aggregation.add(outcome.aggregation);
    match outcome.error {
        Some(error) => Err(error),
        None => Ok(outcome.answer),
    }
}

fn stats(state: &State) -> Stats {
    let Own {
        streams,
        stats,
        aggregation,
        seen,
    } = &state.own;
    let open: u32 = streams
        .all()
        .map(|stream| stream.shards().open_count())
        .sum();
    let shards: Vec<_> = streams
        .all()
        .flat_map(|stream| stream.shards().all())
        .collect();
    let cost = streams
        .oldest(*seen)
        .map(|(stream, seen)| stream.cost(seen));
    let retained: u64 = shards.iter().map(|shard| shard.retained() as u64).sum();
    let calls = state.calls.clone();
    Stats {
        connections: calls.connections,
        calls: calls.calls,
        errors: calls.errors,
        faults: calls.faults,
        ledger_ids: calls.ledger_ids,
        stored_bytes: shards.iter().map(|shard| shard.stored_bytes).sum(),
        retained,
        retained_bytes: shards.iter().map(|shard| shard.retained_bytes as u64).sum(),
        not_retained: stats.stored - retained,
        kpl_containers: aggregation.containers,
        kpl_damaged: aggregation.damaged,
        kpl_user_records: aggregation.user_records,
        kpl_dropped_by_readers: aggregation.dropped_by_readers,
        open_shards: open.into(),
        cost: cost.unwrap_or_default(),
        shard_stored: shards.iter().map(|shard| shard.stored).collect(),
        shard_throttled: shards.iter().map(|shard| shard.throttled).collect(),
        ..stats.clone()
    }
}
