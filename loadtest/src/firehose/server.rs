//! The delivery stream as a service: its quotas, its storage and its counters.

use super::api::{self, Put};
use super::{BILLED_UNIT, EmulatorError, Options, Quota};
use crate::event_id::IdScanner;
use crate::service::{
    self, Budget, Call, CallStats, CommonError, FaultPlan, Frame, Refusal, RejectCode, Reply,
    Retained, Service,
};
use bytes::Bytes;
use hyper::http::request::Parts;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const TARGET_PREFIX: &str = "Firehose_20150804.";

/// Counters since the start. Also the JSON of `GET /_stats`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Of all calls.
    #[serde(flatten)]
    pub common: CallStats,
    /// Records in calls that passed the whole-call checks.
    pub records: u64,
    /// Records stored.
    pub stored: u64,
    /// Bytes of data stored.
    pub stored_bytes: u64,
    /// Bytes that would be billed for them: each record up to a multiple of 5 KiB.
    pub billed_bytes: u64,
    /// Records refused by quotas, inside answers of 200.
    pub throttled: u64,
    /// Calls refused by the quota of calls.
    pub throttled_calls: u64,
    /// Records refused by the fault `reject`.
    pub rejected: u64,
    /// Records answered as stored and not stored, by the fault `drop_acked`.
    pub dropped_acked: u64,
    /// Records in memory.
    pub retained: u64,
    /// Bytes that they take.
    pub retained_bytes: u64,
    /// Stored records that are not in memory any more, or never were.
    pub not_retained: u64,
}

struct Budgets {
    records: Budget,
    calls: Budget,
    bytes: Budget,
}

impl Budgets {
    fn new(quota: Quota) -> Budgets {
        Budgets {
            records: Budget::new(quota.records_per_s),
            calls: Budget::new(quota.calls_per_s),
            bytes: Budget::new(quota.bytes_per_s),
        }
    }

    fn admit_call(&mut self, now: Duration) -> bool {
        let admitted = self.calls.has(now, 1);
        if admitted {
            self.calls.take(1);
        }
        admitted
    }

    fn admit_record(&mut self, now: Duration, bytes: u64) -> bool {
        let admitted = self.records.has(now, 1) & self.bytes.has(now, bytes);
        if admitted {
            self.records.take(1);
            self.bytes.take(bytes);
        }
        admitted
    }
}

/// State shared by all calls.
pub(super) struct Own {
    budgets: Option<Budgets>,
    retained: Retained,
    stats: Stats,
}

/// The outcome of a record.
enum Outcome {
    /// Its number, from 1.
    Taken(u64),
    Refused(RejectCode),
}

impl Own {
    fn put(&mut self, put: &Put, now: Duration, faults: &mut FaultPlan) -> (Outcome, bool) {
        let stats = &mut self.stats;
        stats.records += 1;
        let bytes = put.data.len() as u64;
        if let Some(code) = faults.reject() {
            stats.rejected += 1;
            return (Outcome::Refused(code), false);
        }
        let budgets = self.budgets.as_mut();
        if budgets.is_some_and(|budgets| !budgets.admit_record(now, bytes)) {
            stats.throttled += 1;
            return (Outcome::Refused(RejectCode::default()), false);
        }
        let dropped = faults.drop_acked();
        if dropped {
            stats.dropped_acked += 1;
        } else {
            stats.stored += 1;
            stats.stored_bytes += bytes;
            // An empty record is billed as a record, too.
            stats.billed_bytes += bytes.max(1).next_multiple_of(BILLED_UNIT);
            self.retained.push(&put.data);
        }
        (Outcome::Taken(stats.records), !dropped)
    }
}

fn error_of(code: RejectCode) -> (&'static str, &'static str) {
    match code {
        RejectCode::ProvisionedThroughputExceededException => {
            ("ServiceUnavailableException", "Slow down.")
        }
        RejectCode::InternalFailure => ("InternalFailure", "Internal Failure"),
    }
}

/// A record's id. No reader parses it, so any unique text works.
fn record_id(number: u64) -> String {
    format!("{number:032x}")
}

pub(super) struct Firehose {
    stream: String,
    scanner: Option<IdScanner>,
    created: SystemTime,
}

impl Firehose {
    fn put_record(&self, call: &Call<'_>, shared: &Shared) -> Result<Value, Refusal> {
        let put = api::put_record(&self.stream, self.scanner.as_ref(), &call.body)?;
        match self.store(&[put], shared)?.pop() {
            Some(Outcome::Taken(number)) => {
                Ok(json!({"RecordId": record_id(number), "Encrypted": false}))
            }
            Some(Outcome::Refused(RejectCode::InternalFailure)) => {
                Err(Refusal::new(500, "InternalFailure", "Internal Failure"))
            }
            Some(Outcome::Refused(_)) | None => Err(api::slow_down()),
        }
    }

    fn put_record_batch(&self, call: &Call<'_>, shared: &Shared) -> Result<Value, Refusal> {
        let puts = api::put_record_batch(&self.stream, self.scanner.as_ref(), &call.body)?;
        let outcomes = self.store(&puts, shared)?;
        let mut failed = 0;
        let mut entries: Vec<Value> = outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Outcome::Taken(number) => json!({"RecordId": record_id(number)}),
                Outcome::Refused(code) => {
                    failed += 1;
                    let (code, message) = error_of(code);
                    json!({"ErrorCode": code, "ErrorMessage": message})
                }
            })
            .collect();
        if call.short {
            entries.pop();
        }
        if call.failed_count_zero {
            failed = 0;
        }
        Ok(json!({
            "FailedPutCount": failed,
            "Encrypted": false,
            "RequestResponses": entries,
        }))
    }

    fn store(&self, puts: &[Put], shared: &Shared) -> Result<Vec<Outcome>, Refusal> {
        let mut state = shared.lock();
        // Read under the lock, so that time does not go back between calls.
        let now = shared.now();
        let budgets = state.own.budgets.as_mut();
        if budgets.is_some_and(|budgets| !budgets.admit_call(now)) {
            state.own.stats.throttled_calls += 1;
            return Err(api::slow_down());
        }
        let mut outcomes = Vec::with_capacity(puts.len());
        for put in puts {
            let service::State { own, faults, .. } = &mut *state;
            let (outcome, stored) = own.put(put, now, faults);
            if stored {
                state.note_stored(put.ids.iter().copied());
            }
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }
}

type State = service::State<Own>;
type Shared = service::Shared<Firehose>;

impl Service for Firehose {
    const NAME: &'static str = "firehose";
    /// The largest call in base64, and its JSON around 500 records.
    const BODY_BYTES_MAX: usize = 8 << 20;
    const CONTENT_TYPE: &'static str = "application/x-amz-json-1.1";
    const FAULTS_UNKNOWN: &'static [&'static str] = &[];
    type Own = Own;
    type Stats = Stats;

    fn operation(&self, head: &Parts) -> &'static str {
        let target = head.headers.get("x-amz-target");
        let target = target.and_then(|target| target.to_str().ok());
        match target.and_then(|target| target.strip_prefix(TARGET_PREFIX)) {
            Some("PutRecord") => "PutRecord",
            Some("PutRecordBatch") => "PutRecordBatch",
            Some("DescribeDeliveryStream") => "DescribeDeliveryStream",
            _ => "unknown",
        }
    }

    fn call(&self, call: Call<'_>, shared: &Shared) -> Result<Reply, Refusal> {
        let answer = match call.operation {
            "PutRecord" => self.put_record(&call, shared)?,
            "PutRecordBatch" => self.put_record_batch(&call, shared)?,
            "DescribeDeliveryStream" => {
                let created = self.created.duration_since(UNIX_EPOCH).unwrap_or_default();
                let region = call.region().unwrap_or(service::REGION);
                api::describe(&self.stream, created.as_secs_f64(), region, &call.body)?
            }
            _ => return Err(Refusal::unknown_operation()),
        };
        Ok(Reply::json(&answer))
    }

    fn common_error(&self, error: CommonError, operation: &str) -> Refusal {
        error.json(Self::NAME, operation, api::slow_down())
    }

    fn stats(&self, state: &State) -> Stats {
        let Own {
            retained, stats, ..
        } = &state.own;
        let count = retained.records().len() as u64;
        Stats {
            common: state.calls.clone(),
            retained: count,
            retained_bytes: retained.bytes() as u64,
            not_retained: stats.stored - count,
            ..stats.clone()
        }
    }
}

/// A running emulator; it ends when dropped.
pub struct Emulator {
    frame: Frame<Firehose>,
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
    /// When an option is out of range, the address is taken, or the ledger cannot be made.
    pub fn start(options: Options) -> Result<Emulator, EmulatorError> {
        let name = options.stream;
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if !(1..=64).contains(&name.len()) || !name.bytes().all(known) {
            return Err(EmulatorError::Name {
                what: "delivery stream",
                name,
                rule: "1 to 64 of a-z, A-Z, 0-9, '_', '.' and '-'",
            });
        }
        let firehose = Firehose {
            stream: name,
            scanner: options
                .service
                .ledger
                .as_ref()
                .map(|_| IdScanner::default()),
            created: SystemTime::now(),
        };
        let own = Own {
            budgets: options.quota.map(Budgets::new),
            retained: Retained::new(options.retain_bytes_max),
            stats: Stats::default(),
        };
        let frame = Frame::start(options.service, firehose, own)?;
        Ok(Emulator { frame })
    }

    /// The data of all records in memory, oldest first.
    #[must_use]
    pub fn stored_records(&self) -> Vec<Bytes> {
        let state = self.frame.shared().lock();
        state.own.retained.records().iter().cloned().collect()
    }

    service::emulator_methods!(Stats);
}
