//! All shards of the stream: which of them is open for a hash, how they split and merge, and the
//! memory that they share. Numbers of closed shards are never given again.
//! Knows no calls, no names and no clock.

use super::SHARDS_MAX;
use super::shard::{HashRanges, Retained, Shard};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Shards that a stream may have had in its life, closed ones included: they stay in memory.
pub(super) const SHARDS_EVER_MAX: usize = 100_000;

/// Boundaries of equal ranges that are nearer to each other than this count as the same one:
/// dividing 2^128 by different numbers rounds differently.
const BOUNDARY_SLACK: u128 = 1 << 32;

/// Why shards cannot be split or merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReshardError {
    /// There never was such a shard.
    Unknown(u32),
    /// It was split or merged before.
    Closed(u32),
    /// The new starting hash key leaves a child without hashes of its own.
    SplitPoint {
        shard: u32,
        above: u128,
        below: u128,
    },
    /// The two do not touch.
    NotAdjacent(u32, u32),
    /// More shards than a stream can have.
    TooMany { limit: usize },
}

/// An open shard in the order of hashes. Its range begins where the one before it ends.
#[derive(Clone, Copy, Debug)]
struct Open {
    end: u128,
    shard: u32,
}

/// The shards.
#[derive(Debug)]
pub(super) struct Shards {
    all: Vec<Shard>,
    /// By hash; the last one ends at 2^128 - 1.
    open: Vec<Open>,
    retained_bytes: usize,
    /// Where the search for a shard that keeps more than its share goes on.
    evict_next: usize,
}

impl Shards {
    /// `count` open shards of equal ranges; at least one.
    pub(super) fn new(count: u32) -> Shards {
        let ranges = HashRanges::new(count.max(1));
        let mut shards = Shards {
            all: Vec::new(),
            open: Vec::new(),
            retained_bytes: 0,
            evict_next: 0,
        };
        for at in 0..count.max(1) {
            let (start, end) = ranges.range(at);
            let shard = shards.add(Shard::new(start..=end, Duration::ZERO));
            shards.open.push(Open { end, shard });
        }
        shards
    }

    fn add(&mut self, shard: Shard) -> u32 {
        let id = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.all.push(shard);
        id
    }

    pub(super) fn get(&self, id: u32) -> Option<&Shard> {
        self.all.get(usize::try_from(id).ok()?)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Shard> {
        self.all.get_mut(usize::try_from(id).ok()?)
    }

    /// All shards by id, closed ones included.
    pub(super) fn all(&self) -> &[Shard] {
        &self.all
    }

    pub(super) fn open_count(&self) -> u32 {
        u32::try_from(self.open.len()).unwrap_or(u32::MAX)
    }

    /// The open shard of a hash.
    pub(super) fn of_hash(&self, hash: u128) -> u32 {
        self.open[self.place(hash)].shard
    }

    /// Some open shard; successive `turn`s take them in turn.
    pub(super) fn of_turn(&self, turn: u32) -> u32 {
        let place = turn % self.open_count().max(1);
        self.open[place as usize].shard
    }

    /// Where in `open` a hash belongs.
    fn place(&self, hash: u128) -> usize {
        self.open.partition_point(|open| open.end < hash)
    }

    /// Where in `open` a shard is, if it is open.
    fn place_of(&self, id: u32) -> Result<usize, ReshardError> {
        let shard = self.get(id).ok_or(ReshardError::Unknown(id))?;
        match shard.closed {
            None => Ok(self.place(*shard.range.start())),
            Some(_) => Err(ReshardError::Closed(id)),
        }
    }

    /// Whether a shard can be split so that the second child begins at `start`.
    ///
    /// The bounds are those of the service's own message: above one plus the shard's start, and
    /// below its end.
    pub(super) fn check_split(&self, id: u32, start: u128) -> Result<(), ReshardError> {
        let place = self.place_of(id)?;
        let range = self.range(place);
        let (above, below) = (range.start().saturating_add(1), *range.end());
        if start <= above || start >= below {
            return Err(ReshardError::SplitPoint {
                shard: id,
                above,
                below,
            });
        }
        self.check_room(1, 2)
    }

    /// Whether two shards are open and touch.
    pub(super) fn check_merge(&self, first: u32, second: u32) -> Result<(), ReshardError> {
        let (one, two) = (self.place_of(first)?, self.place_of(second)?);
        if one.abs_diff(two) != 1 {
            return Err(ReshardError::NotAdjacent(first, second));
        }
        self.check_room(0, 1)
    }

    /// Whether the stream can be given `count` shards of equal ranges.
    pub(super) fn check_resize(&self, count: u32) -> Result<(), ReshardError> {
        // At most one split per new boundary, and one merge per piece of an old shard.
        let made = 3 * (self.open.len() + count as usize);
        let more = (count as usize).saturating_sub(self.open.len());
        self.check_room(more, made)
    }

    fn check_room(&self, more_open: usize, more_ever: usize) -> Result<(), ReshardError> {
        for (wanted, limit) in [
            (self.open.len() + more_open, SHARDS_MAX as usize),
            (self.all.len() + more_ever, SHARDS_EVER_MAX),
        ] {
            if wanted > limit {
                return Err(ReshardError::TooMany { limit });
            }
        }
        Ok(())
    }

    fn range(&self, place: usize) -> RangeInclusive<u128> {
        let start = match place.checked_sub(1) {
            Some(before) => self.open[before].end.saturating_add(1),
            None => 0,
        };
        start..=self.open[place].end
    }

    /// Splits a shard, as [`Shards::check_split`] allows it.
    pub(super) fn split(
        &mut self,
        id: u32,
        start: u128,
        now: Duration,
    ) -> Result<(), ReshardError> {
        self.check_split(id, start)?;
        let place = self.place_of(id)?;
        self.split_at(place, start, now);
        Ok(())
    }

    /// `start` lies in the range at `place`, and is not its first hash.
    fn split_at(&mut self, place: usize, start: u128, now: Duration) {
        let parent = self.open[place].shard;
        let range = self.range(place);
        let parts = [*range.start()..=start - 1, start..=*range.end()];
        let children = parts.map(|range| {
            let end = *range.end();
            let shard = self.add(Shard::new(range, now).child_of(parent, None));
            Open { end, shard }
        });
        self.close(parent, &children.map(|child| child.shard), now);
        self.open.splice(place..=place, children);
    }

    /// Merges two shards that touch, as [`Shards::check_merge`] allows it.
    pub(super) fn merge(
        &mut self,
        first: u32,
        second: u32,
        now: Duration,
    ) -> Result<(), ReshardError> {
        self.check_merge(first, second)?;
        let place = self.place_of(first)?.min(self.place_of(second)?);
        self.merge_at(place, [first, second], now);
        Ok(())
    }

    /// `parents` are the shards at `place` and the one after it, in any order.
    fn merge_at(&mut self, place: usize, parents: [u32; 2], now: Duration) {
        let range = *self.range(place).start()..=*self.range(place + 1).end();
        let end = *range.end();
        let shard = self.add(Shard::new(range, now).child_of(parents[0], Some(parents[1])));
        for parent in parents {
            self.close(parent, &[shard], now);
        }
        self.open.splice(place..=place + 1, [Open { end, shard }]);
    }

    fn close(&mut self, id: u32, children: &[u32], now: Duration) {
        if let Some(shard) = self.get_mut(id) {
            shard.closed = Some(now);
            shard.children = children.to_vec();
        }
    }

    /// Gives the stream `count` shards of equal ranges, by splits at the new boundaries and then
    /// merges of the pieces between them. Pieces that live for this moment only keep the lineage
    /// of every shard to at most two parents, as the service does it.
    pub(super) fn resize(&mut self, count: u32, now: Duration) -> Result<(), ReshardError> {
        self.check_resize(count)?;
        let ranges = HashRanges::new(count.max(1));
        let mut starts = vec![0];
        for at in 1..count {
            let wanted = ranges.range(at).0;
            let place = self.place(wanted);
            let range = self.range(place);
            if wanted - range.start() <= BOUNDARY_SLACK {
                starts.push(*range.start());
            } else if range.end() - wanted < BOUNDARY_SLACK {
                starts.push(range.end().saturating_add(1));
            } else {
                self.split_at(place, wanted, now);
                starts.push(wanted);
            }
        }
        for (at, start) in starts.iter().enumerate() {
            let end = starts.get(at + 1).map_or(u128::MAX, |next| next - 1);
            while self.open[self.place(*start)].end < end {
                let place = self.place(*start);
                let parents = [self.open[place].shard, self.open[place + 1].shard];
                self.merge_at(place, parents, now);
            }
        }
        Ok(())
    }

    /// Keeps a record of a shard. While more than `bytes_max` are kept altogether, the oldest of
    /// this shard go if it has more than an equal share, else those of one that has.
    pub(super) fn retain(&mut self, id: u32, record: Retained, bytes_max: usize) {
        let Some(shard) = self.get_mut(id) else {
            return;
        };
        self.retained_bytes += shard.retain(record);
        let share = bytes_max / self.all.len();
        while self.retained_bytes > bytes_max {
            let own = self.get(id).map_or(0, |shard| shard.retained_bytes);
            let from = if own > share {
                id as usize
            } else {
                self.over_share(share)
            };
            let Some(freed) = self.all.get_mut(from).and_then(Shard::evict) else {
                return;
            };
            self.retained_bytes -= freed;
        }
    }

    /// The next shard that keeps more than `share`. When all of them together keep more than
    /// their shares there is one.
    fn over_share(&mut self, share: usize) -> usize {
        for _ in 0..self.all.len() {
            if self.all[self.evict_next].retained_bytes > share {
                break;
            }
            self.evict_next = (self.evict_next + 1) % self.all.len();
        }
        self.evict_next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const NOW: Duration = Duration::from_secs(7);

    /// The open shards cover every hash once, agree with their own ranges, and have the lineage
    /// that their parents say.
    fn check(shards: &Shards) {
        let mut next = Some(0u128);
        for open in &shards.open {
            let shard = shards.get(open.shard).unwrap();
            assert_eq!(Some(*shard.range.start()), next);
            assert_eq!(*shard.range.end(), open.end);
            assert_eq!(shard.closed, None);
            assert_eq!(shards.of_hash(*shard.range.start()), open.shard);
            assert_eq!(shards.of_hash(open.end), open.shard);
            next = open.end.checked_add(1);
        }
        assert_eq!(next, None);
        for (id, shard) in (0..).zip(shards.all()) {
            assert_eq!(shard.closed.is_some(), !shard.children.is_empty());
            for child in &shard.children {
                let child = shards.get(*child).unwrap();
                assert!(child.parent == Some(id) || child.adjacent_parent == Some(id));
                assert_eq!(Some(child.opened), shard.closed);
            }
        }
    }

    fn open_ids(shards: &Shards) -> Vec<u32> {
        shards.open.iter().map(|open| open.shard).collect()
    }

    #[test]
    fn a_split_gives_the_hashes_to_two_children() {
        let mut shards = Shards::new(2);
        let start = (1 << 127) + (1 << 126);
        shards.split(1, start, NOW).unwrap();
        check(&shards);
        assert_eq!(open_ids(&shards), [0, 2, 3]);
        assert_eq!(shards.of_hash(start - 1), 2);
        assert_eq!(shards.of_hash(start), 3);
        assert_eq!(shards.get(1).unwrap().closed, Some(NOW));
        assert_eq!(shards.get(1).unwrap().children, [2, 3]);
        assert_eq!(shards.split(1, start, NOW), Err(ReshardError::Closed(1)));
        assert_eq!(shards.split(9, start, NOW), Err(ReshardError::Unknown(9)));
    }

    #[test]
    fn a_split_point_lies_inside_the_shard() {
        let mut shards = Shards::new(2);
        let (start, end) = (1 << 127, u128::MAX);
        for point in [0, start - 1, start, start + 1, end] {
            let error = shards.split(1, point, NOW).unwrap_err();
            assert!(matches!(error, ReshardError::SplitPoint { shard: 1, .. }));
        }
        shards.split(1, start + 2, NOW).unwrap();
        shards.split(3, end - 1, NOW).unwrap();
        check(&shards);
    }

    #[test]
    fn a_merge_joins_adjacent_shards_only_in_either_order() {
        let mut shards = Shards::new(4);
        assert_eq!(
            shards.merge(0, 2, NOW),
            Err(ReshardError::NotAdjacent(0, 2))
        );
        assert_eq!(
            shards.merge(1, 1, NOW),
            Err(ReshardError::NotAdjacent(1, 1))
        );
        shards.merge(2, 1, NOW).unwrap();
        check(&shards);
        assert_eq!(open_ids(&shards), [0, 4, 3]);
        let child = shards.get(4).unwrap();
        assert_eq!((child.parent, child.adjacent_parent), (Some(2), Some(1)));
        assert_eq!(shards.merge(1, 0, NOW), Err(ReshardError::Closed(1)));
    }

    #[test]
    fn resizing_gives_equal_ranges_from_any_count_to_any_other() {
        for from in [1, 2, 3, 4, 5, 7, 10, 16] {
            for to in [1, 2, 3, 4, 5, 6, 8, 13, 32] {
                let mut shards = Shards::new(from);
                shards.resize(to, NOW).unwrap();
                check(&shards);
                assert_eq!(shards.open_count(), to, "{from} to {to}");
                let ideal = u128::MAX / u128::from(to);
                for open in &shards.open {
                    let range = &shards.get(open.shard).unwrap().range;
                    let size = range.end() - range.start();
                    assert!(size.abs_diff(ideal) < 1 << 40, "{from} to {to}: {size}");
                }
            }
        }
    }

    #[test]
    fn doubling_splits_each_shard_and_halving_merges_pairs() {
        for count in [1, 3, 4, 5, 100] {
            let mut shards = Shards::new(count);
            shards.resize(2 * count, NOW).unwrap();
            assert_eq!(shards.all().len(), 3 * count as usize);
            shards.resize(count, NOW).unwrap();
            assert_eq!(shards.all().len(), 4 * count as usize);
            check(&shards);
        }
    }

    #[test]
    fn a_skewed_stream_becomes_equal_again() {
        let mut shards = Shards::new(2);
        shards.split(0, 1_000, NOW).unwrap();
        shards.split(3, 1 << 90, NOW).unwrap();
        shards.resize(4, NOW).unwrap();
        check(&shards);
        assert_eq!(shards.open_count(), 4);
        assert_eq!(shards.of_hash(1 << 126), shards.of_hash((1 << 127) - 1));
    }

    #[test]
    fn every_hash_stays_in_one_open_shard() {
        for seed in 0..40 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut shards = Shards::new(random.u32(1..=8));
            for _ in 0..60 {
                let id = random.u32(0..shards.all().len() as u32);
                // What is refused must change nothing, which the check shows as well.
                let _ = match random.u32(0..8) {
                    0 => shards.resize(random.u32(1..=12), NOW),
                    1..=3 => {
                        let place = random.usize(0..shards.open.len());
                        let next = shards.open[(place + 1) % shards.open.len()].shard;
                        shards.merge(shards.open[place].shard, next, NOW)
                    }
                    _ => shards.split(id, random.u128(..), NOW),
                };
                check(&shards);
            }
        }
    }

    #[test]
    fn a_stream_has_no_more_shards_than_the_service_allows() {
        let mut shards = Shards::new(SHARDS_MAX);
        let full = Err(ReshardError::TooMany {
            limit: SHARDS_MAX as usize,
        });
        assert_eq!(shards.split(0, 1 << 100, NOW), full);
        assert_eq!(shards.resize(SHARDS_MAX + 1, NOW), full);
        let mut rounds = 0;
        let error = loop {
            let count = if rounds % 2 == 0 { 5_000 } else { 10_000 };
            match shards.resize(count, NOW) {
                Ok(()) => rounds += 1,
                Err(error) => break error,
            }
            assert!(rounds < 100);
        };
        let limit = SHARDS_EVER_MAX;
        assert_eq!(error, ReshardError::TooMany { limit });
        assert!(shards.all().len() <= limit);
    }

    fn keep(shards: &mut Shards, id: u32, bytes_max: usize) {
        let number = shards.get_mut(id).unwrap().next_number();
        let record = Retained {
            number,
            key: None,
            data: Bytes::from_static(&[0; 4]),
            arrival_ms: 0,
        };
        shards.retain(id, record, bytes_max);
    }

    #[test]
    fn retention_drops_from_shards_over_their_share() {
        let mut shards = Shards::new(2);
        let kept =
            |shards: &Shards| -> Vec<usize> { shards.all().iter().map(Shard::retained).collect() };
        for _ in 0..12 {
            keep(&mut shards, 0, 1_000);
        }
        assert_eq!(kept(&shards), [10, 0]);
        for _ in 0..3 {
            keep(&mut shards, 1, 1_000);
        }
        assert_eq!(kept(&shards), [7, 3]);
        for _ in 0..9 {
            keep(&mut shards, 1, 1_000);
        }
        assert_eq!(kept(&shards), [5, 5]);
        let evicted: u64 = shards.all().iter().map(|shard| shard.evicted).sum();
        assert_eq!(evicted, 14);
    }

    #[test]
    fn a_record_over_the_whole_retention_cap_is_not_kept() {
        let mut shards = Shards::new(3);
        keep(&mut shards, 1, 50);
        assert_eq!(shards.get(1).unwrap().retained(), 0);
        assert_eq!(shards.retained_bytes, 0);
    }
}
