//! Which shard a record goes to, and which shards throttle now.
//!
//! A shard takes the records whose hash is in its range; the hash is the MD5 of the partition key, as a number of 128
//! bits, unless the record brings one of its own (`ExplicitHashKey`).

use md5::{Digest as _, Md5};
use serde::Deserialize;
use sluice_core::lanes::LaneId;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Shards of a stream, at most: what the service documents as the highest number.
pub(super) const SHARDS_MAX: usize = 10_000;

/// Looks at the shards, one every few seconds, at which most have to be hot before more are wanted.
const LOOKS: u32 = 6;

/// A shard that throttled is avoided for this long by records that may go anywhere.
const HOT_FOR: Duration = Duration::from_secs(1);

/// The hash of a partition key.
pub(super) fn hash_of(key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(key.as_bytes()).into())
}

/// The shard with this id, which ends with its number.
pub(super) fn lane_of(id: &str) -> Option<LaneId> {
    Some(LaneId(id.rsplit('-').next()?.parse().ok()?))
}

/// A shard as ListShards has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Shard {
    shard_id: String,
    hash_key_range: HashKeyRange,
    sequence_number_range: SequenceNumberRange,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HashKeyRange {
    starting_hash_key: String,
    ending_hash_key: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SequenceNumberRange {
    /// Of a closed shard.
    ending_sequence_number: Option<String>,
}

/// Why a list of shards is of no use.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MapError {
    /// An answer without what the service promises.
    #[error("shard {id:?} has no number, or no range of hashes")]
    Unreadable {
        /// As the answer has it.
        id: String,
    },
    /// There is nothing to write to.
    #[error("no shard is open")]
    Empty,
    /// More than the service lets a stream have.
    #[error("{actual} shards, of which a stream has at most {SHARDS_MAX}")]
    TooMany {
        /// How many were listed.
        actual: usize,
    },
}

/// An open shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OpenShard {
    first: u128,
    last: u128,
    number: u32,
}

/// The open shards of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ShardMap {
    /// By the end of their ranges.
    shards: Vec<OpenShard>,
}

impl ShardMap {
    /// Of the shards that ListShards gave. Closed ones, which have an end, are left out.
    pub(super) fn of(listed: &[Shard]) -> Result<ShardMap, MapError> {
        if listed.len() > SHARDS_MAX {
            return Err(MapError::TooMany {
                actual: listed.len(),
            });
        }
        let mut shards = Vec::with_capacity(listed.len());
        for shard in listed {
            let is_closed = shard.sequence_number_range.ending_sequence_number.is_some();
            if is_closed {
                continue;
            }
            let range = &shard.hash_key_range;
            let bound = |text: &str| text.parse::<u128>().ok();
            let read = || {
                Some(OpenShard {
                    first: bound(&range.starting_hash_key)?,
                    last: bound(&range.ending_hash_key)?,
                    number: lane_of(&shard.shard_id)?.0,
                })
            };
            shards.push(read().ok_or_else(|| MapError::Unreadable {
                id: shard.shard_id.clone(),
            })?);
        }
        shards.sort_by_key(|shard| shard.last);
        match shards.is_empty() {
            true => Err(MapError::Empty),
            false => Ok(ShardMap { shards }),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.shards.len()
    }

    /// The shard of a hash; `None` while the map is not known, or has a hole there.
    pub(super) fn shard_of(&self, hash: u128) -> Option<LaneId> {
        let shard = self.shards.get(self.place_of(hash)?)?;
        Some(LaneId(shard.number))
    }

    /// Its place among the shards.
    pub(super) fn place_of(&self, hash: u128) -> Option<usize> {
        let at = self.shards.partition_point(|shard| shard.last < hash);
        self.shards.get(at).filter(|shard| shard.first <= hash)?;
        Some(at)
    }

    pub(super) fn has(&self, shard: LaneId) -> bool {
        self.shards.iter().any(|known| known.number == shard.0)
    }

    /// A hash in one of the shards that are not hot, each as likely as its share of them; `None` where all are.
    fn hash_outside(&self, hot: &BTreeMap<LaneId, Instant>, random: u128) -> Option<u128> {
        let cool = || {
            let shards = self.shards.iter();
            shards.filter(|shard| !hot.contains_key(&LaneId(shard.number)))
        };
        // Less than 2^128, or nothing is hot.
        let width = |shard: &OpenShard| shard.last - shard.first;
        let all = cool().map(width).fold(0_u128, u128::saturating_add);
        if all == 0 {
            return None;
        }
        // The part of `all` that `random` is of 2^128, by the upper halves of both.
        let mut at = (random >> 64) * (all >> 64);
        for shard in cool() {
            match at.checked_sub(width(shard)) {
                Some(rest) => at = rest,
                None => return Some(shard.first + at),
            }
        }
        None
    }
}

/// What calls and the timer share.
#[derive(Debug, Default)]
pub(super) struct Shards {
    map: Mutex<Arc<ShardMap>>,
    hot: Mutex<BTreeMap<LaneId, Instant>>,
    /// Looks in a row at which at least half of the shards were hot.
    hot_looks: AtomicU32,
    wanted: AtomicU64,
}

/// What a look at the shards shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    /// The shards suffice, as far as can be seen yet.
    None,
    /// Few shards throttle, the others have room: more of them would not help.
    HotKeys {
        /// Those that throttle.
        hot: usize,
    },
    /// The stream is too small for what comes.
    Shards {
        /// To be set with UpdateShardCount.
        wanted: u64,
    },
}

impl Shards {
    pub(super) fn map(&self) -> Arc<ShardMap> {
        Arc::clone(&lock(&self.map))
    }

    /// Takes a new list; whether it differs from the last.
    pub(super) fn replace(&self, map: ShardMap) -> bool {
        let mut known = lock(&self.map);
        let is_changed = **known != map;
        if is_changed {
            *known = Arc::new(map);
        }
        is_changed
    }

    /// The shard of this hash throttled.
    pub(super) fn throttled(&self, hash: u128, now: Instant) {
        if let Some(shard) = self.map().shard_of(hash) {
            lock(&self.hot).insert(shard, now + HOT_FOR);
        }
    }

    /// How many shards the stream should have; 0 while those that it has will do.
    pub(super) fn wanted(&self) -> u64 {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Looks whether the stream is too small, or keys are hot. To be called every few seconds.
    pub(super) fn look(&self, now: Instant) -> Advice {
        self.has_hot(now);
        let (hot, open) = (lock(&self.hot).len(), self.map().len());
        if open == 0 || 2 * hot < open {
            self.hot_looks.store(0, Ordering::Relaxed);
            self.wanted.store(0, Ordering::Relaxed);
            return match hot {
                0 => Advice::None,
                hot => Advice::HotKeys { hot },
            };
        }
        let looks = self.hot_looks.load(Ordering::Relaxed).saturating_add(1);
        self.hot_looks.store(looks, Ordering::Relaxed);
        if looks < LOOKS {
            return Advice::None;
        }
        // The service doubles at most, and is fastest with multiples of a quarter.
        let quarters = if hot == open { 8 } else { 6 };
        let wanted = (open as u64 * quarters).div_ceil(4);
        self.wanted.store(wanted, Ordering::Relaxed);
        Advice::Shards { wanted }
    }

    /// Whether any shard throttled lately. Forgets those that did not.
    pub(super) fn has_hot(&self, now: Instant) -> bool {
        let mut hot = lock(&self.hot);
        hot.retain(|_, until| *until > now);
        !hot.is_empty()
    }

    /// Whether the shard of this hash throttled lately.
    pub(super) fn is_hot(&self, hash: u128) -> bool {
        let shard = self.map().shard_of(hash);
        shard.is_some_and(|shard| lock(&self.hot).contains_key(&shard))
    }

    /// A hash of a shard that did not throttle lately, for a record that may go anywhere.
    pub(super) fn cool_hash(&self, random: u128) -> Option<u128> {
        self.map().hash_outside(&lock(&self.hot), random)
    }
}

/// What is kept is whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn shard(number: u32, first: u128, last: u128, is_closed: bool) -> Shard {
        Shard {
            shard_id: format!("shardId-{number:012}"),
            hash_key_range: HashKeyRange {
                starting_hash_key: first.to_string(),
                ending_hash_key: last.to_string(),
            },
            sequence_number_range: SequenceNumberRange {
                ending_sequence_number: is_closed.then(|| "2".to_owned()),
            },
        }
    }

    const QUARTER: u128 = 1 << 126;

    /// Four shards, the first of which was split in two.
    fn split() -> Vec<Shard> {
        vec![
            shard(3, 3 * QUARTER, u128::MAX, false),
            shard(0, 0, QUARTER - 1, true),
            shard(4, 0, QUARTER / 2 - 1, false),
            shard(5, QUARTER / 2, QUARTER - 1, false),
            shard(1, QUARTER, 2 * QUARTER - 1, false),
            shard(2, 2 * QUARTER, 3 * QUARTER - 1, false),
        ]
    }

    #[test]
    fn hashes_go_to_the_open_shard_of_their_range() {
        let map = ShardMap::of(&split()).unwrap();
        assert_eq!(map.len(), 5);
        let cases = [
            (0, 4),
            (QUARTER / 2 - 1, 4),
            (QUARTER / 2, 5),
            (QUARTER - 1, 5),
            (QUARTER, 1),
            (3 * QUARTER - 1, 2),
            (3 * QUARTER, 3),
            (u128::MAX, 3),
        ];
        for (hash, number) in cases {
            assert_eq!(map.shard_of(hash), Some(LaneId(number)), "{hash}");
        }
        let hole = [split()[0].clone(), split()[4].clone()];
        assert_eq!(ShardMap::of(&hole).unwrap().shard_of(0), None);
        assert_eq!(ShardMap::default().shard_of(0), None);
    }

    #[test]
    fn the_hash_of_a_key_is_its_md5() {
        // RFC 1321, appendix A.5.
        let expected = 0x9001_5098_3cd2_4fb0_d696_3f7d_28e1_7f72;
        assert_eq!(hash_of("abc"), expected);
    }

    #[test]
    fn a_list_that_cannot_be_read_is_an_error() {
        assert_eq!(ShardMap::of(&[]), Err(MapError::Empty));
        assert_eq!(ShardMap::of(&split()[1..2]), Err(MapError::Empty));
        let odd = Shard {
            shard_id: "shard".to_owned(),
            ..Shard::default()
        };
        let unreadable = MapError::Unreadable {
            id: "shard".to_owned(),
        };
        assert_eq!(ShardMap::of(&[odd]), Err(unreadable));
        let many = vec![shard(1, 0, 1, false); SHARDS_MAX + 1];
        let actual = SHARDS_MAX + 1;
        assert_eq!(ShardMap::of(&many), Err(MapError::TooMany { actual }));
    }

    #[test]
    fn more_shards_are_wanted_when_most_throttle_for_long() {
        let shards = Shards::default();
        assert_eq!(shards.look(Instant::now()), Advice::None);
        shards.replace(ShardMap::of(&split()).unwrap());
        let now = Instant::now();
        shards.throttled(0, now);
        assert_eq!(shards.look(now), Advice::HotKeys { hot: 1 });
        let all = [0, QUARTER / 2, QUARTER, 2 * QUARTER, 3 * QUARTER];
        for (hashes, wanted) in [(&all[..3], 8), (&all[..], 10)] {
            for hash in hashes {
                shards.throttled(*hash, now);
            }
            while shards.look(now) == Advice::None {
                assert!(shards.hot_looks.load(Ordering::Relaxed) < LOOKS);
            }
            assert_eq!(shards.look(now), Advice::Shards { wanted });
            assert_eq!(shards.wanted(), wanted);
        }
        assert_eq!(shards.look(now + HOT_FOR), Advice::None);
        assert_eq!(shards.wanted(), 0);
    }

    #[test]
    fn records_that_may_go_anywhere_avoid_hot_shards_evenly() {
        let shards = Shards::default();
        assert!(shards.replace(ShardMap::of(&split()).unwrap()));
        assert!(!shards.replace(ShardMap::of(&split()).unwrap()));
        let now = Instant::now();
        shards.throttled(2 * QUARTER, now);
        shards.throttled(0, now);
        assert!(shards.has_hot(now));
        assert!(shards.is_hot(2 * QUARTER + 5) && !shards.is_hot(QUARTER));
        let map = shards.map();
        let mut found: BTreeMap<LaneId, u32> = BTreeMap::new();
        for _ in 0..50_000 {
            let hash = shards.cool_hash(fastrand::u128(..)).unwrap();
            *found.entry(map.shard_of(hash).unwrap()).or_default() += 1;
        }
        // Shard 5 is half as wide as the others that are left.
        let share = |number| found[&LaneId(number)];
        assert_eq!(found.len(), 3);
        assert!((9_000..=11_000).contains(&share(5)), "{found:?}");
        assert!((19_000..=21_000).contains(&share(1)), "{found:?}");
        assert!((19_000..=21_000).contains(&share(3)), "{found:?}");

        assert!(!shards.has_hot(now + HOT_FOR));
        assert!(!shards.is_hot(2 * QUARTER));
        for hash in [0, QUARTER / 2, QUARTER, 2 * QUARTER, 3 * QUARTER] {
            shards.throttled(hash, now);
        }
        assert_eq!(shards.cool_hash(7), None);
    }
}
