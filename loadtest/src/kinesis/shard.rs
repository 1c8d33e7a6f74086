//! One shard: its hash range, limits, lineage, sequence numbers and retained records.
//! Time comes in as an argument; nothing here waits, reads a clock or locks.

use bytes::Bytes;
use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Records per second that a shard takes (service quota).
pub const SHARD_RECORDS_PER_SECOND: u32 = 1_000;

/// Bytes per second that a shard takes, partition keys included (service quota).
pub const SHARD_BYTES_PER_SECOND: u32 = 1 << 20;

/// GetRecords calls per second that a shard answers (service quota).
pub const SHARD_READS_PER_SECOND: u32 = 5;

/// Bytes per second that a shard gives to readers (service quota).
pub const SHARD_READ_BYTES_PER_SECOND: u32 = 2 << 20;

/// Memory per retained record beside its data and key, counted against the retention cap.
const RECORD_OVERHEAD: usize = 96;

/// Where each of `count` shards begins and ends in the 128-bit hash space.
#[derive(Clone, Copy, Debug)]
pub(super) struct HashRanges {
    count: u32,
    size: u128,
}

impl HashRanges {
    /// Splits the space evenly; the last shard takes the remainder. `count` is at least 1.
    pub(super) fn new(count: u32) -> HashRanges {
        let divisor = u128::from(count.max(1));
        // 2^128 / count, written so that 2^128 itself is not needed.
        let exact = u128::MAX % divisor == divisor - 1;
        let size = (u128::MAX / divisor).saturating_add(u128::from(exact));
        HashRanges { count, size }
    }

    /// First and last hash of a shard.
    pub(super) fn range(self, shard: u32) -> (u128, u128) {
        let start = self.size * u128::from(shard);
        if shard + 1 >= self.count {
            (start, u128::MAX)
        } else {
            (start, start + (self.size - 1))
        }
    }
}

/// A budget that refills continuously to one second's worth. Kept in billionths, so that a
/// refill over nanoseconds is exact.
#[derive(Debug)]
struct Level {
    left: i64,
    per_second: i64,
}

const BILLION: i64 = 1_000_000_000;

/// Longer pauses refill no more than this one: it covers the debt of the largest record.
const REFILL_MAX: Duration = Duration::from_secs(60);

impl Level {
    fn full(per_second: u32) -> Level {
        let per_second = i64::from(per_second);
        Level {
            left: per_second * BILLION,
            per_second,
        }
    }

    fn refill(&mut self, elapsed: Duration) {
        // At most 60e9 ns times 2^20: far inside i64.
        let nanos = i64::try_from(elapsed.min(REFILL_MAX).as_nanos()).unwrap_or(0);
        self.left = (self.left + nanos * self.per_second).min(self.per_second * BILLION);
    }

    /// A cost over one second's worth passes when the level is full, and leaves a debt: large
    /// records drain the shard, and it then throttles small ones for a while.
    fn has(&self, cost: i64) -> bool {
        self.left >= cost.min(self.per_second) * BILLION
    }

    fn take(&mut self, cost: i64) {
        self.left -= cost * BILLION;
    }
}

/// The write limits of one shard.
#[derive(Debug)]
pub(super) struct WriteLimits {
    records: Level,
    bytes: Level,
    at: Duration,
}

impl Default for WriteLimits {
    fn default() -> WriteLimits {
        WriteLimits {
            records: Level::full(SHARD_RECORDS_PER_SECOND),
            bytes: Level::full(SHARD_BYTES_PER_SECOND),
            at: Duration::ZERO,
        }
    }
}

impl WriteLimits {
    /// Takes one record of `bytes` (data and key) at `now`, or says that the shard is throttled,
    /// in which case nothing is taken. `now` never goes back.
    pub(super) fn admit(&mut self, now: Duration, bytes: u32) -> bool {
        let elapsed = now.saturating_sub(self.at);
        self.at = now.max(self.at);
        self.records.refill(elapsed);
        self.bytes.refill(elapsed);
        let bytes = i64::from(bytes);
        let admitted = self.records.has(1) && self.bytes.has(bytes);
        if admitted {
            self.records.take(1);
            self.bytes.take(bytes);
        }
        admitted
    }
}

/// The read limits of one shard.
#[derive(Debug)]
pub(super) struct ReadLimits {
    calls: Level,
    bytes: Level,
    at: Duration,
}

impl Default for ReadLimits {
    fn default() -> ReadLimits {
        ReadLimits {
            calls: Level::full(SHARD_READS_PER_SECOND),
            bytes: Level::full(SHARD_READ_BYTES_PER_SECOND),
            at: Duration::ZERO,
        }
    }
}

impl ReadLimits {
    /// Takes one call at `now`, or says that the reader is throttled, in which case nothing is
    /// taken. `now` never goes back.
    pub(super) fn admit(&mut self, now: Duration) -> bool {
        let elapsed = now.saturating_sub(self.at);
        self.at = now.max(self.at);
        self.calls.refill(elapsed);
        self.bytes.refill(elapsed);
        let admitted = self.calls.has(1) && self.bytes.has(0);
        if admitted {
            self.calls.take(1);
        }
        admitted
    }

    /// Takes the bytes of an answer. They may be more than a second's worth, as a full answer of
    /// 10 MiB is; the next calls then wait until the debt is paid, as the service has it.
    pub(super) fn took(&mut self, bytes: usize) {
        self.bytes
            .take(i64::try_from(bytes).unwrap_or(i64::MAX / BILLION / 2));
    }
}

/// A record as a shard retains it.
#[derive(Clone, Debug)]
pub(super) struct Retained {
    pub(super) number: u64,
    pub(super) key: Option<Box<str>>,
    pub(super) data: Bytes,
    /// Milliseconds since the Unix epoch.
    pub(super) arrival_ms: u64,
}

impl Retained {
    fn cost(&self) -> usize {
        self.data.len() + self.key.as_ref().map_or(0, |key| key.len()) + RECORD_OVERHEAD
    }
}

/// One shard. Times are since the stream's creation.
#[derive(Debug)]
pub(super) struct Shard {
    /// First and last hash that belong to it.
    pub(super) range: RangeInclusive<u128>,
    /// The shard that was split, or the first of the two that were merged.
    pub(super) parent: Option<u32>,
    /// The second of the two that were merged.
    pub(super) adjacent_parent: Option<u32>,
    pub(super) opened: Duration,
    /// Since when it takes no records any more.
    pub(super) closed: Option<Duration>,
    /// The shards that took over its hashes.
    pub(super) children: Vec<u32>,
    pub(super) limits: WriteLimits,
    pub(super) reads: ReadLimits,
    /// Sequence numbers given so far; the next one is this plus 1.
    numbers: u64,
    records: VecDeque<Retained>,
    pub(super) retained_bytes: usize,
    pub(super) stored: u64,
    pub(super) stored_bytes: u64,
    pub(super) throttled: u64,
    pub(super) evicted: u64,
}

impl Shard {
    /// An open and empty shard.
    pub(super) fn new(range: RangeInclusive<u128>, opened: Duration) -> Shard {
        Shard {
            range,
            parent: None,
            adjacent_parent: None,
            opened,
            closed: None,
            children: Vec::new(),
            limits: WriteLimits::default(),
            reads: ReadLimits::default(),
            numbers: 0,
            records: VecDeque::new(),
            retained_bytes: 0,
            stored: 0,
            stored_bytes: 0,
            throttled: 0,
            evicted: 0,
        }
    }

    /// The same as the child of a split shard, or of two merged ones.
    pub(super) fn child_of(mut self, parent: u32, adjacent_parent: Option<u32>) -> Shard {
        self.parent = Some(parent);
        self.adjacent_parent = adjacent_parent;
        self
    }

    /// Whether it took records at `time`.
    pub(super) fn was_open(&self, time: Duration) -> bool {
        self.opened <= time && self.closed.is_none_or(|closed| closed > time)
    }

    /// The number for the next accepted record: increasing, never reused.
    pub(super) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// The number of the last accepted record; 0 before the first.
    pub(super) fn last_number(&self) -> u64 {
        self.numbers
    }

    /// The number that the next accepted record will get.
    pub(super) fn upcoming(&self) -> u64 {
        self.numbers + 1
    }

    /// Keeps a record, and returns its memory.
    pub(super) fn retain(&mut self, record: Retained) -> usize {
        let cost = record.cost();
        self.retained_bytes += cost;
        self.records.push_back(record);
        cost
    }

    /// Drops the oldest record, and returns its memory; `None` when there is none.
    pub(super) fn evict(&mut self) -> Option<usize> {
        let cost = self.records.pop_front()?.cost();
        self.retained_bytes -= cost;
        self.evicted += 1;
        Some(cost)
    }

    /// Retained records, oldest first.
    pub(super) fn records(&self) -> impl Iterator<Item = &Retained> {
        self.records.iter()
    }

    pub(super) fn retained(&self) -> usize {
        self.records.len()
    }

    /// Retained records with a number of at least `from`, in order.
    pub(super) fn records_from(&self, from: u64) -> impl Iterator<Item = &Retained> {
        let start = self.records.partition_point(|record| record.number < from);
        self.records.range(start..)
    }
}

/// A sequence number as the service writes it: 56 decimal digits, growing within a shard.
pub(super) fn push_sequence_number(out: &mut Vec<u8>, shard: u32, number: u64) {
    let mut digits = *b"49600000000000000000000000000000000000000000000000000000";
    put_decimal(&mut digits[26..36], u64::from(shard));
    put_decimal(&mut digits[36..], number);
    out.extend_from_slice(&digits);
}

/// [`push_sequence_number`] as text.
pub(super) fn sequence_number(shard: u32, number: u64) -> String {
    let mut text = Vec::new();
    push_sequence_number(&mut text, shard, number);
    String::from_utf8(text).unwrap_or_default()
}

/// The number within its shard of a sequence number that this emulator gave.
pub(super) fn parse_sequence_number(text: &str, shard: u32) -> Option<u64> {
    let number = text.get(36..)?.parse().ok()?;
    let mut expected = Vec::with_capacity(56);
    push_sequence_number(&mut expected, shard, number);
    (expected == text.as_bytes()).then_some(number)
}

/// A shard's id as the service writes it.
pub(super) fn push_shard_id(out: &mut Vec<u8>, shard: u32) {
    let mut id = *b"shardId-000000000000";
    put_decimal(&mut id[8..], u64::from(shard));
    out.extend_from_slice(&id);
}

/// [`push_shard_id`] as text.
pub(super) fn shard_id(shard: u32) -> String {
    let mut id = Vec::new();
    push_shard_id(&mut id, shard);
    String::from_utf8(id).unwrap_or_default()
}

/// The index in a shard's id.
pub(super) fn parse_shard_id(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("shardId-")?;
    let plain = digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

fn put_decimal(out: &mut [u8], mut number: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_the_hash_space_without_gap_or_overlap() {
        for count in [1, 2, 3, 4, 5, 7, 100, 10_000] {
            let ranges = HashRanges::new(count);
            let mut next = Some(0);
            for shard in 0..count {
                let (start, end) = ranges.range(shard);
                assert_eq!(Some(start), next, "{count} shards");
                next = end.checked_add(1);
            }
            assert_eq!(next, None);
        }
        assert_eq!(HashRanges::new(4).range(1).0, 1 << 126);
    }

    #[test]
    fn a_shard_throttles_record_1001_of_a_second() {
        let mut limits = WriteLimits::default();
        for _ in 0..SHARD_RECORDS_PER_SECOND {
            assert!(limits.admit(Duration::ZERO, 1));
        }
        assert!(!limits.admit(Duration::ZERO, 1));
        assert!(!limits.admit(Duration::from_nanos(999_999), 1));
        assert!(limits.admit(Duration::from_millis(1), 1));
        assert!(!limits.admit(Duration::from_millis(1), 1));
    }

    #[test]
    fn a_shard_throttles_over_one_mebibyte_a_second() {
        let mut limits = WriteLimits::default();
        assert!(limits.admit(Duration::ZERO, SHARD_BYTES_PER_SECOND));
        assert!(!limits.admit(Duration::ZERO, 1));

        let mut limits = WriteLimits::default();
        assert!(limits.admit(Duration::ZERO, 1));
        assert!(!limits.admit(Duration::ZERO, SHARD_BYTES_PER_SECOND));
        assert!(limits.admit(Duration::ZERO, SHARD_BYTES_PER_SECOND - 1));
    }

    #[test]
    fn a_throttled_record_takes_nothing_from_the_shard() {
        let mut limits = WriteLimits::default();
        assert!(limits.admit(Duration::ZERO, SHARD_BYTES_PER_SECOND - 10));
        for _ in 0..5_000 {
            assert!(!limits.admit(Duration::ZERO, 11));
        }
        assert!(limits.admit(Duration::ZERO, 10));
    }

    #[test]
    fn a_pause_never_saves_up_more_than_one_second() {
        let mut limits = WriteLimits::default();
        let later = Duration::from_secs(1 << 40);
        for _ in 0..SHARD_RECORDS_PER_SECOND {
            assert!(limits.admit(later, 1));
        }
        assert!(!limits.admit(later, 1));
    }

    #[test]
    fn a_large_record_needs_an_idle_shard() {
        let large = 10 * SHARD_BYTES_PER_SECOND;
        let mut limits = WriteLimits::default();
        assert!(limits.admit(Duration::ZERO, large));
        assert!(!limits.admit(Duration::from_secs(9), 1));
        assert!(limits.admit(Duration::from_secs(9) + Duration::from_micros(1), 1));
        assert!(!limits.admit(Duration::from_secs(10), large));
        assert!(limits.admit(Duration::from_secs(11), large));
    }

    #[test]
    fn sequence_numbers_grow_and_can_be_read_back() {
        let text = |shard, number| {
            let mut out = Vec::new();
            push_sequence_number(&mut out, shard, number);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(3, 1).len(), 56);
        assert!(text(3, 9) < text(3, 10));
        assert_eq!(parse_sequence_number(&text(3, 77), 3), Some(77));
        assert_eq!(parse_sequence_number(&text(3, 77), 2), None);
        assert_eq!(parse_sequence_number("77", 3), None);
        let mut id = Vec::new();
        push_shard_id(&mut id, 12);
        assert_eq!(id, b"shardId-000000000012");
        assert_eq!(parse_shard_id("shardId-000000000012"), Some(12));
        assert_eq!(parse_shard_id("shardId-+00000000012"), None);
    }

    #[test]
    fn a_shard_throttles_the_sixth_read_of_a_second() {
        let mut reads = ReadLimits::default();
        for _ in 0..SHARD_READS_PER_SECOND {
            assert!(reads.admit(Duration::ZERO));
        }
        assert!(!reads.admit(Duration::ZERO));
        assert!(!reads.admit(Duration::from_millis(199)));
        assert!(reads.admit(Duration::from_millis(200)));
    }

    #[test]
    fn a_10_mib_read_blocks_readers_for_four_seconds() {
        let mut reads = ReadLimits::default();
        assert!(reads.admit(Duration::ZERO));
        reads.took(10 << 20);
        assert!(!reads.admit(Duration::from_millis(3_999)));
        assert!(reads.admit(Duration::from_secs(4)));
    }

    #[test]
    fn records_are_read_from_any_sequence_number() {
        let mut shard = Shard::new(0..=u128::MAX, Duration::ZERO);
        let mut costs = 0;
        for _ in 0..10 {
            let number = shard.next_number();
            costs += shard.retain(Retained {
                number,
                key: None,
                data: Bytes::from_static(&[0; 4]),
                arrival_ms: 0,
            });
        }
        assert_eq!((costs, shard.retained_bytes), (1_000, 1_000));
        for _ in 0..7 {
            assert_eq!(shard.evict(), Some(100));
        }
        let kept: Vec<u64> = shard.records().map(|record| record.number).collect();
        assert_eq!(kept, [8, 9, 10]);
        assert_eq!((shard.evicted, shard.retained_bytes), (7, 300));
        assert_eq!(shard.records_from(9).count(), 2);
        assert_eq!(shard.records_from(1).count(), 3);
        assert_eq!(shard.records_from(11).count(), 0);
    }
}
