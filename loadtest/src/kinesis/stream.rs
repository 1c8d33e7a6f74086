//! A stream: its settings, its shards, and the effects of calls on them.
//! Changes that the service makes in the background are carried out by whichever call comes after
//! their time. Time is an argument; no sockets, no clock.

use super::api::{ACCOUNT, ApiError};
use super::call::{Call, Incoming, Packing};
use super::cost::{Billed, CostMeter};
use super::demand::Demand;
use super::shard::{Retained, Shard, push_sequence_number, push_shard_id, shard_id};
use super::shards::{ReshardError, Shards};
use super::{RejectCode, StoredRecord};
use crate::event_id::{EventId, IdScanner};
use crate::service::FaultPlan;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The service's memory for limits per day.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Calls of UpdateShardCount in 24 hours (service limit).
const RESIZES_PER_DAY: usize = 10;

/// Switches of the capacity mode in 24 hours (service limit).
const MODE_SWITCHES_PER_DAY: usize = 2;

/// How capacity is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// A number of shards that changes on request only.
    #[default]
    Provisioned,
    /// Capacity follows the load: shards double when the peak so far asks for it.
    OnDemand,
}

impl Mode {
    /// The mode as the service writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Provisioned => "PROVISIONED",
            Mode::OnDemand => "ON_DEMAND",
        }
    }
}

/// How the shard of a record is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Distribution {
    /// The MD5 hash of the partition key, or the explicit hash key.
    #[default]
    UserPartitionKey,
    /// The service; keys are ignored and may be absent. On-demand streams only.
    Auto,
}

/// A stream's settings. Calls share it by [`Arc`], and changes replace it.
#[derive(Clone, Debug)]
pub(super) struct StreamConfig {
    pub(super) name: String,
    /// Shards at the start.
    pub(super) shards: u32,
    pub(super) mode: Mode,
    pub(super) distribution: Distribution,
    pub(super) record_bytes_max: usize,
    pub(super) shard_limits: bool,
    /// How long the stream is UPDATING after a change was asked for.
    pub(super) update: Duration,
    /// The shortest time between two doublings of an on-demand stream.
    pub(super) on_demand_period: Duration,
    /// `None` keeps no record at all.
    pub(super) retain_bytes_max: Option<usize>,
    /// Whether ids of stored events are wanted.
    pub(super) ids: bool,
}

/// A change that takes its time: the stream is UPDATING until it is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Split {
        shard: u32,
        start: u128,
    },
    Merge {
        first: u32,
        second: u32,
    },
    Resize {
        count: u32,
    },
    Mode(Mode),
    RecordBytesMax(usize),
    /// The stream comes into being.
    Create,
    /// The stream ceases to be.
    Delete,
}

/// The outcome of a call's records.
#[derive(Debug, Default)]
pub(super) struct PutOutcome {
    /// The answer's body.
    pub(super) answer: Vec<u8>,
    /// Instead of the answer: why the only record of a PutRecord call was refused.
    pub(super) error: Option<ApiError>,
    pub(super) stored: u64,
    pub(super) throttled: u64,
    pub(super) rejected: u64,
    pub(super) dropped_acked: u64,
    pub(super) aggregation: Aggregation,
}

/// Containers of the Kinesis Producer Library among the stored records.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Aggregation {
    pub(super) containers: u64,
    pub(super) damaged: u64,
    pub(super) user_records: u64,
    pub(super) dropped_by_readers: u64,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AnswerShape {
    /// Leave the last entry out.
    pub(super) short: bool,
    /// Say `FailedRecordCount` 0.
    pub(super) failed_count_zero: bool,
}

/// State shared by calls: settings, shards and their records. Times are since its creation.
#[derive(Debug)]
pub(super) struct Stream {
    config: Arc<StreamConfig>,
    shards: Shards,
    created: SystemTime,
    /// The change under way, and when it takes effect.
    pending: Option<(Duration, Change)>,
    demand: Demand,
    billed: Billed,
    /// When UpdateShardCount and UpdateStreamMode were called within the last day.
    resizes: VecDeque<Duration>,
    mode_switches: VecDeque<Duration>,
    /// Where AUTO distribution goes on.
    auto_next: u32,
    deleted: bool,
}

impl Stream {
    pub(super) fn new(config: StreamConfig, created: SystemTime) -> Stream {
        Stream {
            shards: Shards::new(config.shards),
            created,
            pending: None,
            demand: Demand::new(config.on_demand_period),
            billed: Billed::default(),
            resizes: VecDeque::new(),
            mode_switches: VecDeque::new(),
            auto_next: 0,
            deleted: false,
            config: Arc::new(config),
        }
    }

    /// A stream that is CREATING first.
    pub(super) fn creating(config: StreamConfig, created: SystemTime) -> Stream {
        let mut stream = Stream::new(config, created);
        stream.pending = Some((stream.config.update, Change::Create));
        stream
    }

    /// Begins to delete the stream, even during another change.
    pub(super) fn delete(&mut self, now: Duration) {
        self.pending = Some((now + self.config.update, Change::Delete));
        self.settle(now);
    }

    /// Whether the stream is gone.
    pub(super) fn is_deleted(&self) -> bool {
        self.deleted
    }

    /// Whether records can be put: while it comes or goes the service does not find it.
    pub(super) fn takes_records(&self) -> bool {
        matches!(self.status(), "ACTIVE" | "UPDATING")
    }

    pub(super) fn config(&self) -> &Arc<StreamConfig> {
        &self.config
    }

    pub(super) fn shards(&self) -> &Shards {
        &self.shards
    }

    pub(super) fn shard_mut(&mut self, id: u32) -> Option<&mut Shard> {
        self.shards.get_mut(id)
    }

    pub(super) fn created(&self) -> SystemTime {
        self.created
    }

    /// The status as the service writes it.
    pub(super) fn status(&self) -> &'static str {
        match self.pending {
            None => "ACTIVE",
            Some((_, Change::Create)) => "CREATING",
            Some((_, Change::Delete)) => "DELETING",
            Some(_) => "UPDATING",
        }
    }

    /// Carries out the changes whose time has come, and lets an on-demand stream grow. Every call
    /// begins with it.
    pub(super) fn settle(&mut self, now: Duration) {
        if let Some((at, change)) = self.pending.take_if(|(at, _)| *at <= now) {
            self.carry_out(change, at);
        }
        let grows = self.config.mode == Mode::OnDemand && self.pending.is_none();
        if grows && let Some(count) = self.demand.growth(now, self.shards.open_count()) {
            self.pending = Some((now + self.config.update, Change::Resize { count }));
        }
    }

    /// Was checked when it was asked for, and nothing else changes shards while one is pending.
    /// Only the growth of an on-demand stream was not; one that cannot grow stays as it is.
    fn carry_out(&mut self, change: Change, at: Duration) {
        let _ = match change {
            Change::Split { shard, start } => self.shards.split(shard, start, at),
            Change::Merge { first, second } => self.shards.merge(first, second, at),
            Change::Resize { count } => self.shards.resize(count, at),
            Change::Mode(mode) => {
                Arc::make_mut(&mut self.config).mode = mode;
                Ok(())
            }
            Change::RecordBytesMax(bytes) => {
                Arc::make_mut(&mut self.config).record_bytes_max = bytes;
                Ok(())
            }
            Change::Create => Ok(()),
            Change::Delete => {
                self.deleted = true;
                Ok(())
            }
        };
    }

    /// Starts a change, as a call asks for it.
    ///
    /// # Errors
    /// The service's error when the change is not possible.
    pub(super) fn begin(&mut self, now: Duration, change: Change) -> Result<(), ApiError> {
        self.settle(now);
        self.check_active()?;
        let config = &self.config;
        let reshards = matches!(
            change,
            Change::Split { .. } | Change::Merge { .. } | Change::Resize { .. }
        );
        if reshards && config.mode == Mode::OnDemand {
            return Err(ApiError::client(
                "ValidationException",
                "Shards of a stream in on-demand capacity mode cannot be changed; this needs \
                 provisioned mode.",
            ));
        }
        let checked = match change {
            Change::Split { shard, start } => self.shards.check_split(shard, start),
            Change::Merge { first, second } => self.shards.check_merge(first, second),
            Change::Resize { count } => self.shards.check_resize(count),
            Change::Mode(_) | Change::RecordBytesMax(_) | Change::Create | Change::Delete => Ok(()),
        };
        checked.map_err(|error| reshard_error(&config.name, error))?;
        match change {
            Change::Resize { .. } => once_more(
                &mut self.resizes,
                now,
                RESIZES_PER_DAY,
                "UpdateShardCount calls",
            )?,
            Change::Mode(_) => once_more(
                &mut self.mode_switches,
                now,
                MODE_SWITCHES_PER_DAY,
                "switches of the capacity mode",
            )?,
            _ => {}
        }
        self.pending = Some((now + config.update, change));
        self.settle(now);
        Ok(())
    }

    /// Takes effect immediately, as the service documents.
    ///
    /// # Errors
    /// While a change is under way.
    pub(super) fn set_distribution(&mut self, distribution: Distribution) -> Result<(), ApiError> {
        self.check_active()?;
        Arc::make_mut(&mut self.config).distribution = distribution;
        Ok(())
    }

    fn check_active(&self) -> Result<(), ApiError> {
        match self.pending {
            None => Ok(()),
            Some(_) => Err(ApiError::in_use(&self.config.name, self.status())),
        }
    }

    /// Billing counters so far.
    pub(super) fn cost(&self, now: Duration) -> CostMeter {
        let shards = self.shards.all().iter();
        let open = shards.map(|shard| shard.closed.unwrap_or(now).saturating_sub(shard.opened));
        self.billed.meter(self.config.mode, now, open.sum())
    }

    /// Everything retained, shard by shard, oldest first.
    pub(super) fn records(&self) -> Vec<StoredRecord> {
        let shards = self.shards.all().iter().zip(0..);
        shards
            .flat_map(|(shard, id)| {
                shard.records().map(move |record| StoredRecord {
                    shard: id,
                    number: record.number,
                    key: record.key.as_deref().map(str::to_owned),
                    data: record.data.clone(),
                    hashes: shard.range.clone(),
                })
            })
            .collect()
    }

    /// The ids of all retained events, as readers that de-aggregate get them.
    pub(super) fn delivered_ids(&self, scanner: &IdScanner) -> Vec<EventId> {
        let mut ids = Vec::new();
        for shard in self.shards.all() {
            for record in shard.records() {
                super::aggregate::scan_delivered(scanner, &record.data, &shard.range, |id| {
                    ids.push(id);
                });
            }
        }
        ids
    }

    /// Stores the records of a call one by one, subject to faults and shard limits.
    /// `stored` gets the id of each stored event that readers will find.
    pub(super) fn put(
        &mut self,
        call: Call,
        faults: &mut FaultPlan,
        shape: AnswerShape,
        now: Duration,
        mut stored: impl FnMut(EventId),
    ) -> PutOutcome {
        self.settle(now);
        let arrival = (self.created + now).duration_since(SystemTime::UNIX_EPOCH);
        let arrival_ms = u64::try_from(arrival.unwrap_or_default().as_millis()).unwrap_or(0);
        let retain_max = self.config.retain_bytes_max.unwrap_or(0);
        let shard_limits = self.config.shard_limits;
        let mut outcome = PutOutcome::default();
        let answered = call.records.len() - usize::from(shape.short && !call.single);
        let mut entries = Vec::with_capacity(answered * 128 + 64);
        let mut bytes_taken = 0;
        for (at, mut record) in call.records.into_iter().enumerate() {
            let id = match record.hash {
                Some(hash) => self.shards.of_hash(hash),
                None => {
                    self.auto_next = self.auto_next.wrapping_add(1);
                    self.shards.of_turn(self.auto_next)
                }
            };
            let Some(shard) = self.shards.get_mut(id) else {
                continue;
            };
            let refused = if let Some(code) = faults.reject() {
                outcome.rejected += 1;
                Some(code)
            } else if shard_limits && !shard.limits.admit(now, record.bytes) {
                outcome.throttled += 1;
                shard.throttled += 1;
                Some(RejectCode::ProvisionedThroughputExceededException)
            } else {
                None
            };
            if let Some(code) = refused {
                if call.single {
                    outcome.error = Some(self.single_refused(code, id));
                } else if at < answered {
                    push_refused(&mut entries, at, code, &self.config.name, id);
                }
                continue;
            }
            let number = shard.next_number();
            if at < answered {
                entries.extend_from_slice(if at == 0 { b"{" } else { b",{" });
                entries.extend_from_slice(b"\"SequenceNumber\":\"");
                push_sequence_number(&mut entries, id, number);
                entries.extend_from_slice(b"\",\"ShardId\":\"");
                push_shard_id(&mut entries, id);
                entries.extend_from_slice(b"\"}");
            }
            self.billed.add(record.bytes);
            bytes_taken += u64::from(record.bytes);
            if faults.drop_acked() {
                outcome.dropped_acked += 1;
                continue;
            }
            outcome.stored += 1;
            shard.stored += 1;
            shard.stored_bytes += u64::from(record.bytes);
            call.ids[record.ids.clone()]
                .iter()
                .for_each(|id| stored(*id));
            if let Packing::Container(users) = &record.packing {
                for user in &call.users[users.clone()] {
                    if shard.range.contains(&user.hash) {
                        call.ids[user.ids.clone()].iter().for_each(|id| stored(*id));
                    } else {
                        outcome.aggregation.dropped_by_readers += 1;
                    }
                }
            }
            outcome.aggregation.count(&record);
            if let Some((key, data)) = record.kept.take() {
                let retained = Retained {
                    number,
                    key,
                    data,
                    arrival_ms,
                };
                self.shards.retain(id, retained, retain_max);
            }
        }
        let taken = outcome.stored + outcome.dropped_acked;
        self.demand.add(now, bytes_taken, taken);
        if call.single {
            outcome.answer = entries;
            return outcome;
        }
        let failed = outcome.rejected + outcome.throttled;
        let failed = if shape.failed_count_zero { 0 } else { failed };
        let answer = &mut outcome.answer;
        answer.reserve_exact(entries.len() + 64);
        answer.extend_from_slice(b"{\"FailedRecordCount\":");
        answer.extend_from_slice(itoa::Buffer::new().format(failed).as_bytes());
        answer.extend_from_slice(b",\"Records\":[");
        answer.extend_from_slice(&entries);
        answer.extend_from_slice(b"]}");
        outcome
    }

    fn single_refused(&self, code: RejectCode, shard: u32) -> ApiError {
        match code {
            RejectCode::InternalFailure => ApiError::internal(),
            RejectCode::ProvisionedThroughputExceededException => self.throttled(shard),
        }
    }

    /// A shard is over one of its limits.
    pub(super) fn throttled(&self, shard: u32) -> ApiError {
        let (id, name) = (shard_id(shard), &self.config.name);
        let message =
            format!("Rate exceeded for shard {id} in stream {name} under account {ACCOUNT}.");
        ApiError::client("ProvisionedThroughputExceededException", message)
    }
}

/// The entry of a refused record, with the service's messages.
fn push_refused(entries: &mut Vec<u8>, at: usize, code: RejectCode, stream: &str, shard: u32) {
    entries.extend_from_slice(if at == 0 { b"{" } else { b",{" });
    entries.extend_from_slice(b"\"ErrorCode\":\"");
    entries.extend_from_slice(code.as_str().as_bytes());
    entries.extend_from_slice(b"\",\"ErrorMessage\":\"");
    match code {
        RejectCode::ProvisionedThroughputExceededException => {
            entries.extend_from_slice(b"Rate exceeded for shard ");
            push_shard_id(entries, shard);
            // The name was checked to have nothing that JSON escapes.
            for part in [" in stream ", stream, " under account ", ACCOUNT, "."] {
                entries.extend_from_slice(part.as_bytes());
            }
        }
        RejectCode::InternalFailure => entries.extend_from_slice(b"Internal service failure."),
    }
    entries.extend_from_slice(b"\"}");
}

impl Aggregation {
    fn count(&mut self, record: &Incoming) {
        match &record.packing {
            Packing::Plain => {}
            Packing::Damaged => self.damaged += 1,
            Packing::Container(users) => {
                self.containers += 1;
                self.user_records += users.len() as u64;
            }
        }
    }

    pub(super) fn add(&mut self, other: Aggregation) {
        self.containers += other.containers;
        self.damaged += other.damaged;
        self.user_records += other.user_records;
        self.dropped_by_readers += other.dropped_by_readers;
    }
}

/// Counts one more use of a daily limit.
fn once_more(
    times: &mut VecDeque<Duration>,
    now: Duration,
    limit: usize,
    what: &str,
) -> Result<(), ApiError> {
    while times
        .front()
        .is_some_and(|at| now.saturating_sub(*at) >= DAY)
    {
        times.pop_front();
    }
    if times.len() >= limit {
        let message = format!("More than {limit} {what} within 24 hours.");
        return Err(ApiError::limit_exceeded(message));
    }
    times.push_back(now);
    Ok(())
}

fn reshard_error(stream: &str, error: ReshardError) -> ApiError {
    let place = format!("in stream {stream} under account {ACCOUNT}");
    match error {
        ReshardError::Unknown(shard) => ApiError::client(
            "ResourceNotFoundException",
            format!("Could not find shard {} {place}.", shard_id(shard)),
        ),
        ReshardError::Closed(shard) => ApiError::argument(format!(
            "Shard {} {place} was split or merged before, and cannot be again.",
            shard_id(shard)
        )),
        ReshardError::SplitPoint {
            shard,
            above,
            below,
        } => ApiError::argument(format!(
            "NewStartingHashKey of shard {} {place} must be above {above} and below {below}.",
            shard_id(shard)
        )),
        ReshardError::NotAdjacent(first, second) => ApiError::argument(format!(
            "Shards {} and {} {place} are not adjacent.",
            shard_id(first),
            shard_id(second)
        )),
        ReshardError::TooMany { limit } => ApiError::limit_exceeded(format!(
            "This would give the stream more than {limit} shards{}.",
            if limit == super::shards::SHARDS_EVER_MAX {
                ", closed ones included: more than this emulator keeps"
            } else {
                ""
            }
        )),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::kinesis::call::decode;

    const SECOND: Duration = Duration::from_secs(1);

    /// A stream of 4 shards with their limits, that is UPDATING for 10 s.
    pub(in crate::kinesis) fn stream(mode: Mode) -> Stream {
        let config = StreamConfig {
            name: "clicks".to_owned(),
            shards: 4,
            mode,
            distribution: Distribution::default(),
            record_bytes_max: 1 << 20,
            shard_limits: true,
            update: 10 * SECOND,
            on_demand_period: 15 * SECOND,
            retain_bytes_max: Some(64 << 20),
            ids: false,
        };
        Stream::new(config, SystemTime::UNIX_EPOCH)
    }

    /// Puts one record of `bytes` in each quarter of the hash space; returns how many were taken.
    pub(in crate::kinesis) fn put(stream: &mut Stream, now: Duration, bytes: usize) -> u64 {
        let data = base64_simd::STANDARD.encode_to_string(vec![b'x'; bytes - 1]);
        let records: Vec<_> = (0..4u128)
            .map(|quarter| {
                let hash = (quarter << 126).to_string();
                serde_json::json!({"Data": data, "PartitionKey": "k", "ExplicitHashKey": hash})
            })
            .collect();
        let body = serde_json::json!({"StreamName": "clicks", "Records": records}).to_string();
        let scanner = IdScanner::default();
        let config = Arc::clone(stream.config());
        let call = decode(
            &|_, _| Ok(Arc::clone(&config)),
            &scanner,
            body.as_bytes(),
            false,
            &mut Vec::new(),
        )
        .unwrap();
        let mut faults = FaultPlan::new(Vec::new(), Duration::ZERO).unwrap();
        let outcome = stream.put(call, &mut faults, AnswerShape::default(), now, |_| {});
        outcome.stored
    }

    fn open(stream: &mut Stream, now: Duration) -> u32 {
        stream.settle(now);
        stream.shards().open_count()
    }

    #[test]
    fn a_change_takes_effect_when_its_update_ends() {
        let mut stream = stream(Mode::Provisioned);
        let resize = Change::Resize { count: 8 };
        stream.begin(SECOND, resize).unwrap();
        let (before, at) = (Duration::from_millis(10_999), 11 * SECOND);
        assert_eq!(
            (open(&mut stream, before), stream.status()),
            (4, "UPDATING")
        );
        assert!(stream.begin(before, resize).is_err());
        assert_eq!((open(&mut stream, at), stream.status()), (8, "ACTIVE"));
        // Whenever it is noticed, it happened at its time.
        let mut late = self::stream(Mode::Provisioned);
        late.begin(SECOND, resize).unwrap();
        assert_eq!(open(&mut late, 500 * SECOND), 8);
        assert_eq!(late.shards().all()[0].closed, Some(at));
        assert_eq!(late.shards().all()[4].opened, at);
    }

    #[test]
    fn a_days_limit_is_of_any_24_hours() {
        let mut stream = stream(Mode::Provisioned);
        let mut resize = |at: Duration, count| stream.begin(at, Change::Resize { count });
        for turn in 0..10 {
            let count = if turn % 2 == 0 { 8 } else { 4 };
            resize(turn * 3_600 * SECOND, count).unwrap();
        }
        let error = resize(DAY - SECOND, 8).unwrap_err();
        assert_eq!(error.code, "LimitExceededException");
        resize(DAY, 8).unwrap();
        assert!(resize(DAY + 3_599 * SECOND, 4).is_err());
        resize(DAY + 3_600 * SECOND, 4).unwrap();
    }

    #[test]
    fn a_refused_change_is_not_counted_against_the_days_limit() {
        let mut stream = stream(Mode::Provisioned);
        for _ in 0..50 {
            let count = super::super::SHARDS_MAX + 1;
            assert!(stream.begin(SECOND, Change::Resize { count }).is_err());
        }
        stream.begin(SECOND, Change::Resize { count: 8 }).unwrap();
    }

    #[test]
    fn on_demand_capacity_becomes_twice_the_peak() {
        let mut stream = stream(Mode::OnDemand);
        let full = 1 << 20;
        assert_eq!(put(&mut stream, Duration::ZERO, full / 4 * 3), 4);
        // The growth is noticed at the end of the period, and takes the time of an update.
        assert_eq!(open(&mut stream, 14 * SECOND), 4);
        assert_eq!(
            (open(&mut stream, 15 * SECOND), stream.status()),
            (4, "UPDATING")
        );
        assert_eq!(
            (open(&mut stream, 25 * SECOND), stream.status()),
            (8, "ACTIVE")
        );
        // The hashes of each quarter's beginning lie in one shard still, with its own limit.
        assert_eq!(put(&mut stream, 26 * SECOND, full / 4 * 3), 4);
        assert_eq!(put(&mut stream, 26 * SECOND, full / 4 * 3), 0);
        // The peak was less than half of the capacity of 8 shards: they stay.
        assert_eq!(open(&mut stream, 5_000 * SECOND), 8);
    }

    #[test]
    fn shard_hours_end_with_the_shard() {
        let mut stream = stream(Mode::Provisioned);
        assert_eq!(stream.cost(90 * SECOND).shard_seconds, 360);
        let merge = Change::Merge {
            first: 0,
            second: 1,
        };
        stream.begin(90 * SECOND, merge).unwrap();
        stream.settle(200 * SECOND);
        let meter = stream.cost(200 * SECOND);
        assert_eq!(meter.shard_seconds, 4 * 100 + 3 * 100);
        assert_eq!(meter.per_hour.shard_seconds, 700 * 3_600 / 200);
        assert_eq!(meter.mode, "PROVISIONED");
    }
}
