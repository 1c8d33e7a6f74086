//! How much may be pending at a destination that throttles: as much as it takes in the time that clients
//! can wait, and no more.
//!
//! A destination that is offered more than it takes stores as much as it can, but when everything waits
//! for as long as everything else, all of it is late: every client is told to send again what was stored,
//! and sends it again. So while the destination throttles and words come late, the room is what it took
//! lately per second, times the time that a word should take at most; who finds no room is told so at
//! once. Otherwise the room grows back to the configured bound. Pure; time is an argument.

use crate::time::Mono;
use std::time::Duration;

/// The room never shrinks below this many bytes, so that a destination that took nothing is tried again.
pub const ROOM_BYTES_MIN: u64 = 64 << 10;

/// Looks per target time: often enough to follow a destination, long enough to measure it.
const LOOKS: u32 = 2;

/// What one core may have pending at one output.
#[derive(Debug)]
pub struct Pace {
    /// Configured bound, bytes.
    most: u64,
    /// How long a word should take at most while the destination throttles.
    target: Duration,
    /// Bytes that may be pending now.
    room: u64,
    /// When the current look began.
    since: Mono,
    /// Bytes confirmed in it.
    delivered: u64,
    /// Whether a word in it took longer than the target, or said that there was no time left.
    late: bool,
    /// How often the destination had throttled when it began.
    throttled: u64,
    /// Bytes per second, smoothed over looks.
    rate: Option<u64>,
}

impl Pace {
    /// Room for `most` bytes until the destination throttles.
    #[must_use]
    pub fn new(most: u64, target: Duration) -> Pace {
        Pace {
            most,
            target,
            room: most,
            since: Mono::default(),
            delivered: 0,
            late: false,
            throttled: 0,
            rate: None,
        }
    }

    /// Bytes that may be pending now.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.room
    }

    /// `bytes` were confirmed, this long after they were accepted.
    pub fn delivered(&mut self, bytes: u64, took: Duration) {
        self.delivered += bytes;
        self.late |= took > self.target;
    }

    /// A record was given up because its time was over.
    pub fn given_up(&mut self) {
        self.late = true;
    }

    /// Time passed; `throttled` is how often the destination has throttled so far. To be called every few
    /// milliseconds.
    pub fn tick(&mut self, now: Mono, throttled: u64) {
        let passed = now.since(self.since);
        if passed < self.target / LOOKS {
            return;
        }
        // Below 2^64: bytes of a look are bounded by the budget, and a look is a second or so.
        let lately = u128::from(self.delivered) * 1_000_000 / passed.as_micros().max(1);
        let lately = u64::try_from(lately).unwrap_or(u64::MAX);
        let rate = match self.rate {
            None => lately,
            Some(before) => before / 2 + lately / 2,
        };
        self.rate = Some(rate);
        if self.late && throttled > self.throttled {
            let in_time = u128::from(rate) * self.target.as_micros() / 1_000_000;
            let in_time = u64::try_from(in_time).unwrap_or(u64::MAX);
            self.room = in_time.clamp(ROOM_BYTES_MIN.min(self.most), self.most);
        } else {
            self.room = (self.room + self.room / 4 + 1).min(self.most);
        }
        self.since = now;
        self.delivered = 0;
        self.late = false;
        self.throttled = throttled;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    const MOST: u64 = 100 << 20;
    const TARGET: Duration = Duration::from_secs(1);
    const LOOK: Duration = Duration::from_millis(500);

    /// One look of a pace: `bytes` confirmed after `took`, `throttled` so far.
    fn look(pace: &mut Pace, now: &mut Mono, bytes: u64, took: Duration, throttled: u64) {
        pace.delivered(bytes, took);
        *now = *now + LOOK;
        pace.tick(*now, throttled);
    }

    #[test]
    fn without_throttling_the_room_stays_however_late_words_come() {
        let (mut pace, mut now) = (Pace::new(MOST, TARGET), Mono::default());
        for _ in 0..100 {
            look(&mut pace, &mut now, 1_000, 3 * TARGET, 0);
            pace.given_up();
        }
        assert_eq!(pace.room(), MOST);
    }

    #[test]
    fn throttling_that_delays_nobody_changes_nothing() {
        let (mut pace, mut now) = (Pace::new(MOST, TARGET), Mono::default());
        for throttled in 1..100 {
            look(&mut pace, &mut now, 1_000_000, TARGET, throttled);
        }
        assert_eq!(pace.room(), MOST);
    }

    #[test]
    fn a_late_word_under_throttling_leaves_room_for_what_is_taken_in_the_target_time() {
        for late in [
            |pace: &mut Pace| pace.delivered(0, TARGET + Duration::from_micros(1)),
            Pace::given_up,
        ] {
            let (mut pace, mut now) = (Pace::new(MOST, TARGET), Mono::default());
            late(&mut pace);
            look(&mut pace, &mut now, 1_000_000, TARGET, 1);
            assert_eq!(pace.room(), 2_000_000);
        }
    }

    #[test]
    fn the_room_never_closes_and_grows_back_to_the_bound() {
        let (mut pace, mut now) = (Pace::new(MOST, TARGET), Mono::default());
        for throttled in 1..20 {
            pace.given_up();
            look(&mut pace, &mut now, 0, TARGET, throttled);
        }
        assert_eq!(pace.room(), ROOM_BYTES_MIN);
        let mut looks = 0;
        while pace.room() < MOST {
            let before = pace.room();
            look(&mut pace, &mut now, 0, Duration::ZERO, 19);
            assert!(pace.room() > before);
            looks += 1;
        }
        assert!(looks < 60, "{looks}");

        // A bound below the least room is the bound.
        let (mut pace, mut now) = (Pace::new(10, TARGET), Mono::default());
        pace.given_up();
        look(&mut pace, &mut now, 0, TARGET, 1);
        assert_eq!(pace.room(), 10);
    }

    #[test]
    fn between_looks_nothing_moves() {
        let mut pace = Pace::new(MOST, TARGET);
        pace.given_up();
        pace.tick(Mono(LOOK.as_micros() as u64 - 1), 1);
        assert_eq!(pace.room(), MOST);
        pace.tick(Mono::default() + LOOK, 1);
        assert_eq!(pace.room(), ROOM_BYTES_MIN);
    }

    /// A destination that takes `capacity` bytes per second from the head of a line, `offered` per second
    /// in front of the door, in portions of 10 ms. The share of what it stored that came within two target
    /// times.
    fn in_time(offered: usize, capacity: usize, paced: bool) -> f64 {
        let (mut pace, mut now) = (Pace::new(MOST, TARGET), Mono::default());
        let mut line: VecDeque<(Mono, u64)> = VecDeque::new();
        let (portion, mut pending, mut throttled, mut may) = (offered as u64 / 100, 0, 0, 0);
        let (mut good, mut stored) = (0, 0);
        for _ in 0..6_000 {
            now = now + Duration::from_millis(10);
            if pending + portion <= if paced { pace.room() } else { MOST } {
                pending += portion;
                line.push_back((now, portion));
            }
            may = (may + capacity as u64 / 100).min(capacity as u64);
            while let Some((since, bytes)) = line.pop_front() {
                let took = now.since(since);
                if took > 4 * TARGET {
                    pace.given_up();
                } else if may < bytes {
                    throttled += 1;
                    line.push_front((since, bytes));
                    break;
                } else {
                    may -= bytes;
                    stored += bytes;
                    good += u64::from(took <= 2 * TARGET) * bytes;
                    pace.delivered(bytes, took);
                }
                pending -= bytes;
            }
            pace.tick(now, throttled);
        }
        good as f64 / stored as f64
    }

    #[test]
    fn under_twice_the_load_that_a_destination_takes_words_come_in_time() {
        assert!(in_time(2_000_000, 1_000_000, false) < 0.2);
        assert!(in_time(2_000_000, 1_000_000, true) > 0.9);
        assert!(in_time(900_000, 1_000_000, true) > 0.999);
    }
}
