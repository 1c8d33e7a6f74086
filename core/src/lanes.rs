//! Lanes: parts of a destination that have limits of their own, as the shards of a stream have. Pure.
//!
//! A lane that throttles is paced: its records wait for their turn here, as many as go out in a quarter of a second,
//! and more are refused at once. Every other lane goes on as if nothing had happened.
//!
//! ```text
//!            a result throttles          rate = what was delivered lately, less a twentieth
//!   free ---------------------> paced    + 2 % with every quarter of a second that brings no throttling
//!     ^                           |      - a twentieth with every one that does
//!     +---------------------------+
//!       no throttling for 10 s, and nothing waits
//! ```

use crate::time::Mono;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

/// Identifies a lane of a destination, for instance by the number of its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub u32);

/// A rate is adapted this often.
const INTERVAL: Duration = Duration::from_millis(250);

/// What is left of a rate when the lane throttles nevertheless, in percent.
const DECREASE_PERCENT: u64 = 95;

/// What is added to a rate after an interval without throttling, in percent of what it was last cut to.
const INCREASE_PERCENT: u64 = 2;

/// A lane is never paced below this many bytes per second, so that a lane that took nothing is tried again.
const RATE_MIN: u64 = 8 << 10;

/// A lane may catch up on what it could have sent in this time.
const BURST: Duration = Duration::from_millis(100);

/// What goes out in this time may wait: clients that share connections among users are held up by those that wait.
const WAIT_MAX: Duration = Duration::from_millis(250);

/// A lane without throttling for this long is free again.
const FREE_AFTER: Duration = Duration::from_secs(10);

/// Lanes whose deliveries are counted ahead of any throttling, at most: a stream has up to 10,000 shards.
const FREE_MAX: usize = 16_384;

/// What waits in a lane.
#[derive(Debug)]
struct Waiting<Q> {
    item: Q,
    bytes: usize,
    deadline: Mono,
}

/// What a lane took in the present interval.
#[derive(Clone, Copy, Debug)]
struct Interval {
    began: Mono,
    delivered: u64,
}

/// A lane that throttles, or did lately.
#[derive(Debug)]
struct Lane<Q> {
    /// Bytes per second.
    rate: u64,
    /// The rate after the last cut.
    cut_to: u64,
    /// Nothing was delivered before the last cut, so that the rate is a guess: it doubles until the lane throttles.
    is_guess: bool,
    throttled_at: Mono,
    /// Bytes that may go now. The last record of a burst may be larger, and the next waits the longer.
    tokens: i64,
    refilled_at: Mono,
    interval: Interval,
    /// Records that were throttled in the interval.
    throttled: u64,
    waiting: VecDeque<Waiting<Q>>,
    waiting_bytes: usize,
    /// Records refused because too many waited, ever since the lane was last free.
    shed: u64,
}

/// What becomes of a record that arrives.
#[derive(Debug, PartialEq, Eq)]
pub enum Routed<Q> {
    /// It goes on.
    Go(Q),
    /// It waits here.
    Waits,
    /// Too many wait already.
    Full(Q),
}

/// How a paced lane fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PacedLane {
    /// Which.
    pub lane: LaneId,
    /// Bytes per second that go to it.
    pub rate: u64,
    /// Bytes that wait for it.
    pub waiting_bytes: usize,
    /// Records refused because too many waited, ever since the lane was last free.
    pub shed: u64,
}

/// The lanes of one writer.
#[derive(Debug)]
pub struct Lanes<Q> {
    free: HashMap<LaneId, Interval>,
    paced: BTreeMap<LaneId, Lane<Q>>,
    held: usize,
}

impl<Q> Default for Lanes<Q> {
    fn default() -> Self {
        Lanes {
            free: HashMap::new(),
            paced: BTreeMap::new(),
            held: 0,
        }
    }
}

impl<Q> Lanes<Q> {
    /// Records that wait here.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// The lanes that are paced now, in the order of their numbers.
    pub fn paced(&self) -> impl Iterator<Item = PacedLane> {
        self.paced.iter().map(|(lane, state)| PacedLane {
            lane: *lane,
            rate: state.rate,
            waiting_bytes: state.waiting_bytes,
            shed: state.shed,
        })
    }

    /// Takes in a record that arrives.
    pub fn arrive(
        &mut self,
        lane: LaneId,
        item: Q,
        bytes: usize,
        deadline: Mono,
        now: Mono,
    ) -> Routed<Q> {
        let Some(state) = self.paced.get_mut(&lane) else {
            return Routed::Go(item);
        };
        if state.waiting.is_empty() && state.take(bytes, now) {
            return Routed::Go(item);
        }
        let room = usize::try_from(in_time(state.rate, WAIT_MAX)).unwrap_or(usize::MAX);
        // One may wait however large it is.
        if !state.waiting.is_empty() && state.waiting_bytes + bytes > room {
            state.shed += 1;
            return Routed::Full(item);
        }
        state.waiting_bytes += bytes;
        state.waiting.push_back(Waiting {
            item,
            bytes,
            deadline,
        });
        self.held += 1;
        Routed::Waits
    }

    /// Takes in a record that was tried before: it goes on, or waits before all others.
    pub fn return_to(
        &mut self,
        lane: LaneId,
        item: Q,
        bytes: usize,
        deadline: Mono,
        now: Mono,
    ) -> Option<Q> {
        let Some(state) = self.paced.get_mut(&lane) else {
            return Some(item);
        };
        if state.take(bytes, now) {
            return Some(item);
        }
        state.waiting_bytes += bytes;
        state.waiting.push_front(Waiting {
            item,
            bytes,
            deadline,
        });
        self.held += 1;
        None
    }

    /// The destination confirmed a record.
    pub fn delivered(&mut self, lane: LaneId, bytes: usize, now: Mono) {
        if let Some(state) = self.paced.get_mut(&lane) {
            state.interval.delivered += bytes as u64;
            state.adapt(now);
            return;
        }
        if self.free.len() >= FREE_MAX {
            // Those that are in use come back with their next record.
            self.free.clear();
        }
        let fresh = Interval {
            began: now,
            delivered: 0,
        };
        let interval = self.free.entry(lane).or_insert(fresh);
        if now.since(interval.began) >= INTERVAL {
            *interval = fresh;
        }
        interval.delivered += bytes as u64;
    }

    /// The destination throttled a record.
    pub fn throttled(&mut self, lane: LaneId, now: Mono) {
        let state = self.paced.entry(lane).or_insert_with(|| {
            let fresh = Interval {
                began: now,
                delivered: 0,
            };
            let known = self.free.remove(&lane);
            // An interval that ended long ago says nothing of what the lane takes now.
            let recent = known.filter(|interval| now.since(interval.began) < INTERVAL * 2);
            // At once: the rest of the interval would be throttled as well.
            Lane::paced(recent.unwrap_or(fresh), now)
        });
        state.throttled += 1;
        state.throttled_at = now;
        state.adapt(now);
    }

    /// Takes out what may go now, and what has waited for too long, by the calls of `go` and `expire`.
    pub fn release(&mut self, now: Mono, mut go: impl FnMut(Q), mut expire: impl FnMut(Q)) {
        let held = &mut self.held;
        self.paced.retain(|_, state| {
            state.adapt(now);
            while let Some(first) = state.waiting.front() {
                let is_expired = first.deadline <= now;
                if !is_expired && !state.take(first.bytes, now) {
                    break;
                }
                if let Some(waiting) = state.waiting.pop_front() {
                    state.waiting_bytes -= waiting.bytes;
                    *held -= 1;
                    if is_expired {
                        expire(waiting.item);
                    } else {
                        go(waiting.item);
                    }
                }
            }
            !state.is_free(now)
        });
    }

    /// Takes out everything.
    pub fn take_all(&mut self) -> Vec<Q> {
        self.held = 0;
        let lanes = std::mem::take(&mut self.paced).into_values();
        lanes
            .flat_map(|state| state.waiting.into_iter().map(|waiting| waiting.item))
            .collect()
    }

    /// When [`Lanes::release`] has something to do; [`Mono::NEVER`] if nothing waits.
    #[must_use]
    pub fn wake_at(&self) -> Mono {
        if self.held == 0 {
            return Mono::NEVER;
        }
        let lanes = self.paced.values();
        lanes.map(Lane::wake_at).min().unwrap_or(Mono::NEVER)
    }
}

impl<Q> Lane<Q> {
    /// A lane that has just throttled for the first time.
    fn paced(interval: Interval, now: Mono) -> Lane<Q> {
        let mut lane = Lane {
            rate: u64::MAX,
            cut_to: 0,
            is_guess: true,
            throttled_at: now,
            tokens: 0,
            refilled_at: now,
            interval,
            throttled: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            shed: 0,
        };
        lane.cut(RATE_MIN, now);
        lane
    }

    /// Takes a record's bytes off what may go; `false` when nothing may.
    fn take(&mut self, bytes: usize, now: Mono) -> bool {
        let earned = in_time(self.rate, now.since(self.refilled_at));
        if earned > 0 {
            let most = i64::try_from(in_time(self.rate, BURST).max(1)).unwrap_or(i64::MAX);
            let earned = i64::try_from(earned).unwrap_or(i64::MAX);
            self.tokens = self.tokens.saturating_add(earned).min(most);
            self.refilled_at = now;
        }
        let may_go = self.tokens > 0;
        if may_go {
            self.tokens = self
                .tokens
                .saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        may_go
    }

    /// Ends the interval when it is over.
    fn adapt(&mut self, now: Mono) {
        if now.since(self.interval.began) < INTERVAL {
            return;
        }
        if self.throttled > 0 {
            // What is throttled now was sent before: an interval can end with nothing delivered yet.
            self.cut(self.rate / 2, now);
        } else {
            let more = match self.is_guess {
                true => self.rate,
                false => (self.cut_to * INCREASE_PERCENT / 100).max(1),
            };
            self.rate = self.rate.saturating_add(more);
        }
        self.interval = Interval {
            began: now,
            delivered: 0,
        };
        self.throttled = 0;
    }

    /// Cuts the rate to a little less than what the lane took in this interval, but not below `least`.
    fn cut(&mut self, least: u64, now: Mono) {
        let lasted = now.since(self.interval.began).max(INTERVAL / 4);
        let taken = u128::from(self.interval.delivered) * 1_000_000 / lasted.as_micros();
        let taken = u64::try_from(taken).unwrap_or(u64::MAX);
        let rate = (taken / 100 * DECREASE_PERCENT).max(least).max(RATE_MIN);
        self.rate = rate.min(self.rate);
        self.cut_to = self.rate;
        self.is_guess &= self.interval.delivered == 0;
    }

    fn wake_at(&self) -> Mono {
        let Some(first) = self.waiting.front() else {
            return Mono::NEVER;
        };
        let lacking = u64::try_from(1 - self.tokens).unwrap_or(0);
        let micros = (u128::from(lacking) * 1_000_000).div_ceil(u128::from(self.rate.max(1)));
        let ready = self.refilled_at
            + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX).max(1));
        ready.min(first.deadline)
    }

    fn is_free(&self, now: Mono) -> bool {
        self.waiting.is_empty() && now.since(self.throttled_at) >= FREE_AFTER
    }
}

/// Bytes that a rate gives in a time.
fn in_time(rate: u64, time: Duration) -> u64 {
    let bytes = u128::from(rate) * time.as_micros() / 1_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOT: LaneId = LaneId(7);
    const COOL: LaneId = LaneId(8);
    const START: Mono = Mono(1_000_000);

    fn at_ms(ms: u64) -> Mono {
        START + Duration::from_millis(ms)
    }

    /// A lane that took 100 KB in 250 ms and then throttled: 400 KB/s, less a twentieth.
    fn paced() -> Lanes<u32> {
        let mut lanes = Lanes::default();
        lanes.delivered(HOT, 0, at_ms(0));
        lanes.delivered(HOT, 100_000, at_ms(249));
        lanes.throttled(HOT, at_ms(249));
        lanes
    }

    fn rate(lanes: &Lanes<u32>) -> u64 {
        lanes.paced().next().map_or(0, |lane| lane.rate)
    }

    fn release(lanes: &mut Lanes<u32>, now: Mono) -> (Vec<u32>, Vec<u32>) {
        let (mut go, mut expired) = (Vec::new(), Vec::new());
        lanes.release(now, |item| go.push(item), |item| expired.push(item));
        (go, expired)
    }

    #[test]
    fn a_lane_is_free_until_it_throttles() {
        let mut lanes = Lanes::default();
        for number in 0..1_000 {
            let routed = lanes.arrive(HOT, number, 1 << 20, Mono::NEVER, START);
            assert_eq!(routed, Routed::Go(number));
        }
        assert_eq!((lanes.held(), lanes.wake_at()), (0, Mono::NEVER));
        assert_eq!(lanes.paced().count(), 0);
    }

    #[test]
    fn throttling_paces_its_own_lane_only() {
        let mut lanes = paced();
        assert!(
            (370_000..=382_000).contains(&rate(&lanes)),
            "{}",
            rate(&lanes)
        );
        let now = at_ms(249);
        assert_eq!(lanes.arrive(HOT, 1, 1_000, Mono::NEVER, now), Routed::Waits);
        assert_eq!(
            lanes.arrive(COOL, 2, 1_000, Mono::NEVER, now),
            Routed::Go(2)
        );
        assert_eq!(lanes.held(), 1);
    }

    #[test]
    fn waiting_records_go_in_order_at_the_rate() {
        let mut lanes = paced();
        for number in 0..90 {
            let routed = lanes.arrive(HOT, number, 1_000, Mono::NEVER, at_ms(249));
            assert_eq!(routed, Routed::Waits);
        }
        let mut gone = Vec::new();
        let mut now = at_ms(249);
        // A fifth of a second, by its own timer: some 76 KB.
        while now < at_ms(449) {
            now = lanes.wake_at();
            gone.extend(release(&mut lanes, now).0);
        }
        assert!((72..=80).contains(&gone.len()), "{}", gone.len());
        assert!(gone.iter().copied().eq(0..gone.len() as u32));
    }

    #[test]
    fn a_quarter_second_of_records_waits_and_more_is_refused() {
        let mut lanes = paced();
        let room = usize::try_from(rate(&lanes) / 4).unwrap();
        let now = at_ms(249);
        assert_eq!(lanes.arrive(HOT, 1, room, Mono::NEVER, now), Routed::Waits);
        assert_eq!(lanes.arrive(HOT, 2, 1, Mono::NEVER, now), Routed::Full(2));
        assert_eq!(lanes.paced().next().unwrap().shed, 1);
        // One that was accepted before is not refused.
        assert_eq!(lanes.return_to(HOT, 3, 1, Mono::NEVER, now), None);
        assert_eq!(lanes.wake_at(), lanes.wake_at().max(now));
        let later = at_ms(260);
        assert_eq!(release(&mut lanes, later).0[0], 3);
    }

    #[test]
    fn a_rate_falls_with_throttling_and_grows_without() {
        let mut lanes = paced();
        let first = rate(&lanes);
        // 150 KB in half a second.
        lanes.delivered(HOT, 50_000, at_ms(500));
        let second = rate(&lanes);
        assert!(
            (second * 10).abs_diff(first * 10 * 300 / 401) < first / 5,
            "{first} {second}"
        );
        for interval in 1..=10 {
            release(&mut lanes, at_ms(500 + 250 * interval));
        }
        let grown = second + 10 * (second / 50);
        assert!(
            rate(&lanes).abs_diff(grown) < 50,
            "{} {grown}",
            rate(&lanes)
        );
    }

    #[test]
    fn a_lane_that_took_nothing_is_tried_again() {
        let mut lanes = Lanes::default();
        for ms in 0..5_000 {
            lanes.throttled(HOT, at_ms(ms));
        }
        assert_eq!(rate(&lanes), RATE_MIN);
        let now = at_ms(5_000);
        assert_eq!(
            lanes.arrive(HOT, 0, 60_000, Mono::NEVER, now),
            Routed::Go(0)
        );
        assert_eq!(
            lanes.arrive(HOT, 1, 60_000, Mono::NEVER, now),
            Routed::Waits
        );
        let wake = lanes.wake_at();
        assert_eq!(release(&mut lanes, wake).0, [1]);
    }

    #[test]
    fn a_lane_of_which_nothing_is_known_is_found_out_in_seconds() {
        let mut lanes = Lanes::default();
        // Long before, and of no use.
        lanes.delivered(HOT, 10, at_ms(0));
        lanes.throttled(HOT, at_ms(60_000));
        assert_eq!(rate(&lanes), RATE_MIN);
        for interval in 1..=8 {
            release(&mut lanes, at_ms(60_000 + 250 * interval));
        }
        // The first interval throttled.
        assert_eq!(rate(&lanes), RATE_MIN << 7);
    }

    #[test]
    fn without_throttling_a_lane_is_free_again() {
        let mut lanes = paced();
        release(&mut lanes, at_ms(248) + FREE_AFTER);
        assert_eq!(lanes.paced().count(), 1);
        release(&mut lanes, at_ms(249) + FREE_AFTER);
        assert_eq!(lanes.paced().count(), 0);
    }

    #[test]
    fn a_record_that_waits_past_its_deadline_is_given_back() {
        let mut lanes = paced();
        let now = at_ms(249);
        lanes.throttled(HOT, now);
        assert_eq!(lanes.arrive(HOT, 1, 1_000, at_ms(250), now), Routed::Waits);
        assert_eq!(lanes.wake_at(), lanes.wake_at().min(at_ms(250)));
        assert_eq!(release(&mut lanes, at_ms(250)), (vec![], vec![1]));
        assert_eq!(lanes.held(), 0);
    }

    #[test]
    fn everything_that_waits_can_be_taken_out() {
        let mut lanes = paced();
        for number in 0..5 {
            lanes.arrive(HOT, number, 1_000, Mono::NEVER, at_ms(249));
        }
        assert_eq!(lanes.take_all(), [0, 1, 2, 3, 4]);
        assert_eq!((lanes.held(), lanes.paced().count()), (0, 0));
    }

    /// Proxies that share a shard of 1 MB/s which counts by the second, each with the same offer in records of 1 KB.
    /// Gives what was delivered and what was throttled, in records per second.
    fn shared_shard(proxies: usize, offer_each: usize) -> (usize, usize) {
        let mut all: Vec<Lanes<u32>> = (0..proxies).map(|_| Lanes::default()).collect();
        let mut returning: Vec<(Mono, usize)> = Vec::new();
        let (mut delivered, mut throttled, mut taken) = (0, 0, 0);
        let seconds = 60;
        for ms in 0..seconds * 1_000 {
            let now = at_ms(ms);
            if ms % 1_000 == 0 {
                taken = 0;
            }
            for (number, lanes) in all.iter_mut().enumerate() {
                let mut goes = 0;
                let due =
                    |offer: usize| offer * (ms as usize + 1) / 1_000 - offer * ms as usize / 1_000;
                for _ in 0..due(offer_each) {
                    let deadline = now + Duration::from_secs(4);
                    goes +=
                        usize::from(lanes.arrive(HOT, 0, 1_000, deadline, now) == Routed::Go(0));
                }
                lanes.release(now, |_| goes += 1, |_| {});
                let back = returning
                    .iter()
                    .filter(|(at, of)| *at <= now && *of == number)
                    .count();
                returning.retain(|(at, of)| *at > now || *of != number);
                for _ in 0..back {
                    let deadline = now + Duration::from_secs(4);
                    goes += usize::from(lanes.return_to(HOT, 0, 1_000, deadline, now).is_some());
                }
                for _ in 0..goes {
                    if taken < 1_000 {
                        taken += 1;
                        delivered += 1;
                        lanes.delivered(HOT, 1_000, now);
                    } else {
                        throttled += 1;
                        lanes.throttled(HOT, now);
                        returning.push((now + Duration::from_millis(100), number));
                    }
                }
            }
        }
        let seconds = seconds as usize;
        (delivered / seconds, throttled / seconds)
    }

    #[test]
    fn four_proxies_at_95_percent_are_hardly_throttled() {
        let (delivered, throttled) = shared_shard(4, 237);
        assert!(delivered >= 920, "{delivered}");
        assert!(throttled * 100 < delivered, "{throttled}");
    }

    #[test]
    fn four_proxies_over_capacity_use_most_of_it() {
        let (delivered, throttled) = shared_shard(4, 500);
        assert!(delivered >= 880, "{delivered}");
        assert!(throttled * 25 < delivered, "{throttled}");
    }
}
