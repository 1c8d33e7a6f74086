//! Faults that an emulator injects, and the seeded choice of when.
//! Decides only; the frame and the services carry it out. Time is an argument.

use fastrand::Rng;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Windows that one fault script may have.
pub const WINDOWS_MAX: usize = 1_000;

/// Operations that store something, of all services: those that faults are for by default.
pub const WRITES: [&str; 8] = [
    "PutRecords",
    "PutRecord",
    "PutRecordBatch",
    "SendMessage",
    "SendMessageBatch",
    "PutObject",
    "UploadPart",
    "CompleteMultipartUpload",
];

/// Faults of an emulator. The default is none.
///
/// As JSON (`POST /_faults`) and as a `[[window]]` of a fault script a missing member has its
/// default and an unknown one is an error. Shares are of calls, from 0 to 1; each call draws
/// once, so that it meets at most one of them, and their sum must not exceed 1. The same seed and
/// order of calls give the same faults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Seeds every choice below. Setting faults restarts the choices.
    pub seed: u64,
    /// Seconds from setting the faults (for those of the command line: from the start) until they
    /// are in force.
    pub from_s: f64,
    /// Seconds that they are in force then; without it until others are set.
    pub for_s: Option<f64>,
    /// The endpoint is gone: nobody listens, and open connections are reset. Needs `for_s`, since
    /// nobody could tell it to come back.
    pub gone: bool,
    /// Operations whose calls draw a fault; empty means all, the default is [`WRITES`].
    pub operations: Vec<String>,
    /// After this many faulty calls the shares below have no effect any more.
    pub calls_max: Option<u64>,
    /// Share of calls answered as the service does when it fails (5xx), nothing stored.
    pub internal_error: f64,
    /// Share of whole calls answered as the service does when it throttles, nothing stored.
    pub throttle_call: f64,
    /// Share of calls answered as the service does without permission, nothing stored.
    pub access_denied: f64,
    /// Share of calls answered as the service does when credentials have expired, nothing stored.
    pub expired_token: f64,
    /// Share of calls never answered, nothing stored; the connection stays open.
    pub hang: f64,
    /// Share of calls whose connection is reset before the body is read, nothing stored.
    pub reset_before: f64,
    /// Share of calls whose connection is reset after the records were stored: the ambiguous one.
    pub reset_after: f64,
    /// Share of calls whose records are stored and that are answered as the service does when it fails
    /// (5xx): an error that was none.
    pub error_after: f64,
    /// Share of calls whose records are stored at once and whose answer comes `slow_ms` later.
    pub slow: f64,
    /// Delay of a slow answer, in milliseconds.
    pub slow_ms: u64,
    /// Share of calls that are carried out and have their response body trickled.
    pub trickle: f64,
    /// Bytes per second of such a body, at least 1.
    pub trickle_bytes_per_s: u32,
    /// Share of calls whose records are stored and whose answer lacks the last entry.
    pub short_answer: f64,
    /// Share of calls whose records are stored and whose answer is 200 with a body that is not the
    /// service's.
    pub garbage_answer: f64,
    /// Records that are refused one by one inside an answer of 200, not stored.
    pub reject: Option<Reject>,
    /// Answers count 0 failures whatever their entries say.
    pub failed_count_zero: bool,
    /// Records that are answered as stored and are not: what an audit has to find.
    pub drop_acked: Option<Portion>,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            seed: 1,
            from_s: 0.0,
            for_s: None,
            gone: false,
            operations: WRITES.map(str::to_owned).to_vec(),
            calls_max: None,
            internal_error: 0.0,
            throttle_call: 0.0,
            access_denied: 0.0,
            expired_token: 0.0,
            hang: 0.0,
            reset_before: 0.0,
            reset_after: 0.0,
            error_after: 0.0,
            slow: 0.0,
            slow_ms: 1_000,
            trickle: 0.0,
            trickle_bytes_per_s: 100,
            short_answer: 0.0,
            garbage_answer: 0.0,
            reject: None,
            failed_count_zero: false,
            drop_acked: None,
        }
    }
}

/// Exactly `k` of every `n` successive records; which of them is chosen by the seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Portion {
    /// How many of `n`.
    pub k: u64,
    /// Out of how many, at least 1.
    pub n: u64,
}

/// Records to refuse, and what their entries say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reject {
    /// How many of `n`.
    pub k: u64,
    /// Out of how many, at least 1.
    pub n: u64,
    /// The entry's error code.
    #[serde(default)]
    pub code: RejectCode,
}

/// Why an entry of an answer is refused. Named as Kinesis says it; each service has its own word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum RejectCode {
    /// Over a limit.
    #[default]
    #[value(name = "throttled")]
    ProvisionedThroughputExceededException,
    /// The service failed on this record.
    #[value(name = "internal")]
    InternalFailure,
}

impl RejectCode {
    /// The code as Kinesis writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RejectCode::ProvisionedThroughputExceededException => {
                "ProvisionedThroughputExceededException"
            }
            RejectCode::InternalFailure => "InternalFailure",
        }
    }
}

/// Why faults cannot be set.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FaultsError {
    /// A share is not between 0 and 1.
    #[error("fault {name} is a share of calls between 0 and 1, not {value}")]
    Share {
        /// The member.
        name: &'static str,
        /// The value given.
        value: f64,
    },
    /// The shares together exceed 1.
    #[error("the shares of call faults sum up to {sum}, more than 1")]
    Sum {
        /// Their sum.
        sum: f64,
    },
    /// A portion is not k of n.
    #[error("fault {name} is k of n with k <= n and n >= 1, not {k} of {n}")]
    Portion {
        /// The member.
        name: &'static str,
        /// Its k.
        k: u64,
        /// Its n.
        n: u64,
    },
    /// A window has no place on the clock.
    #[error("fault {name} is a number of seconds from {min} to 1e9, not {value}")]
    Window {
        /// The member.
        name: &'static str,
        /// Smallest value.
        min: f64,
        /// The value given.
        value: f64,
    },
    /// An endpoint would be gone for good.
    #[error("fault gone needs for_s: an endpoint that is gone cannot be told to come back")]
    GoneForGood,
    /// An answer would never end.
    #[error("fault trickle_bytes_per_s must be at least 1")]
    TrickleRate,
    /// The service has nothing that this fault could change.
    #[error("fault {name} means nothing to {service}")]
    Unknown {
        /// The member.
        name: &'static str,
        /// The service.
        service: &'static str,
    },
    /// A script is too long.
    #[error("a fault script has at most {WINDOWS_MAX} windows, not {actual}")]
    Windows {
        /// How many it has.
        actual: usize,
    },
}

/// The fault of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallFault {
    InternalError,
    ThrottleCall,
    AccessDenied,
    Hang,
    ResetBefore,
    ResetAfter,
    ErrorAfter,
    Slow,
    ShortAnswer,
    GarbageAnswer,
    ExpiredToken,
    Trickle,
}

/// Seconds that a window may begin after, or last for: longer than any run, and exact as f64.
const WINDOW_SECONDS_MAX: f64 = 1e9;

impl Faults {
    /// The call faults with their shares, in the order in which a draw passes them.
    fn shares(&self) -> [(CallFault, &'static str, f64); 12] {
        [
            (
                CallFault::InternalError,
                "internal_error",
                self.internal_error,
            ),
            (CallFault::ThrottleCall, "throttle_call", self.throttle_call),
            (CallFault::AccessDenied, "access_denied", self.access_denied),
            (CallFault::Hang, "hang", self.hang),
            (CallFault::ResetBefore, "reset_before", self.reset_before),
            (CallFault::ResetAfter, "reset_after", self.reset_after),
            (CallFault::ErrorAfter, "error_after", self.error_after),
            (CallFault::Slow, "slow", self.slow),
            (CallFault::ShortAnswer, "short_answer", self.short_answer),
            (
                CallFault::GarbageAnswer,
                "garbage_answer",
                self.garbage_answer,
            ),
            (CallFault::ExpiredToken, "expired_token", self.expired_token),
            (CallFault::Trickle, "trickle", self.trickle),
        ]
    }

    /// The members among these three that ask for something: those that not every service knows.
    pub(super) fn entry_faults(&self) -> impl Iterator<Item = &'static str> {
        let asked = [
            ("short_answer", self.short_answer > 0.0),
            ("reject", self.reject.is_some()),
            ("failed_count_zero", self.failed_count_zero),
        ];
        let asked = asked.into_iter().filter(|(_, asked)| *asked);
        asked.map(|(name, _)| name)
    }

    /// From when until when they are in force, since they were set.
    fn window(&self) -> (Duration, Duration) {
        let seconds = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let from = seconds(self.from_s);
        let length = self.for_s.map_or(Duration::MAX, seconds);
        (from, from.saturating_add(length))
    }

    /// Refuses shares outside 0 to 1, sums over 1, portions that are none and windows without a
    /// place on the clock.
    ///
    /// # Errors
    /// Names the member and its value.
    pub fn check(&self) -> Result<(), FaultsError> {
        let mut sum = 0.0;
        for (_, name, value) in self.shares() {
            if !(0.0..=1.0).contains(&value) {
                return Err(FaultsError::Share { name, value });
            }
            sum += value;
        }
        // Shares such as 0.1 are not exact in binary.
        if sum > 1.0 + 1e-9 {
            return Err(FaultsError::Sum { sum });
        }
        let reject = self.reject.map(|Reject { k, n, .. }| Portion { k, n });
        for (name, portion) in [("reject", reject), ("drop_acked", self.drop_acked)] {
            match portion {
                Some(Portion { k, n }) if k > n || n == 0 => {
                    return Err(FaultsError::Portion { name, k, n });
                }
                _ => {}
            }
        }
        let from = [("from_s", 0.0, self.from_s)];
        // Too short to matter below a millisecond.
        let length = self.for_s.map(|for_s| ("for_s", 0.001, for_s));
        for (name, min, value) in from.into_iter().chain(length) {
            if !(min..=WINDOW_SECONDS_MAX).contains(&value) {
                return Err(FaultsError::Window { name, min, value });
            }
        }
        if self.gone && self.for_s.is_none() {
            return Err(FaultsError::GoneForGood);
        }
        if self.trickle_bytes_per_s == 0 {
            return Err(FaultsError::TrickleRate);
        }
        Ok(())
    }
}

/// Chooses exactly k of every n: each element with the chance that keeps the block exact.
#[derive(Debug)]
struct Picker {
    portion: Portion,
    seen: u64,
    chosen: u64,
    rng: Rng,
}

impl Picker {
    fn new(portion: Portion, seed: u64) -> Picker {
        Picker {
            portion,
            seen: 0,
            chosen: 0,
            rng: Rng::with_seed(seed),
        }
    }

    fn pick(&mut self) -> bool {
        let Portion { k, n } = self.portion;
        let picked = self.rng.u64(0..n - self.seen) < k - self.chosen;
        self.seen += 1;
        self.chosen += u64::from(picked);
        if self.seen == n {
            (self.seen, self.chosen) = (0, 0);
        }
        picked
    }
}

/// One window of a plan, with the state of its choices.
#[derive(Debug)]
struct Armed {
    faults: Faults,
    from: Duration,
    until: Duration,
    calls: Rng,
    calls_left: u64,
    reject: Option<(Picker, RejectCode)>,
    drop_acked: Option<Picker>,
}

impl Armed {
    fn new(faults: Faults) -> Armed {
        let seed = faults.seed;
        let (from, until) = faults.window();
        Armed {
            from,
            until,
            calls: Rng::with_seed(seed),
            calls_left: faults.calls_max.unwrap_or(u64::MAX),
            reject: faults.reject.map(|Reject { k, n, code }| {
                (Picker::new(Portion { k, n }, seed.wrapping_add(1)), code)
            }),
            drop_acked: faults
                .drop_acked
                .map(|portion| Picker::new(portion, seed.wrapping_add(2))),
            faults,
        }
    }

    fn call(&mut self, operation: &str) -> Option<CallFault> {
        let operations = &self.faults.operations;
        if self.calls_left == 0
            || !(operations.is_empty() || operations.iter().any(|name| name == operation))
        {
            return None;
        }
        let mut draw = self.calls.f64();
        for (fault, _, share) in self.faults.shares() {
            // Rounding must not let a share of 1 miss.
            if draw < share || share == 1.0 {
                self.calls_left -= 1;
                return Some(fault);
            }
            draw -= share;
        }
        None
    }
}

/// Windows of faults with the state of their choices. Where windows overlap, the first counts.
#[derive(Debug)]
pub(crate) struct FaultPlan {
    windows: Vec<Armed>,
    /// When the plan was set, on the clock of the emulator.
    set_at: Duration,
    /// The window in force, by its index.
    current: Option<usize>,
}

impl FaultPlan {
    /// Checks `windows`, and starts their choices from their seeds at `now`.
    pub(crate) fn new(windows: Vec<Faults>, now: Duration) -> Result<FaultPlan, FaultsError> {
        if windows.len() > WINDOWS_MAX {
            let actual = windows.len();
            return Err(FaultsError::Windows { actual });
        }
        for faults in &windows {
            faults.check()?;
        }
        let mut plan = FaultPlan {
            windows: windows.into_iter().map(Armed::new).collect(),
            set_at: now,
            current: None,
        };
        plan.advance(now);
        Ok(plan)
    }

    /// Moves on to `now`: what is drawn from here on is drawn by the window in force then.
    pub(super) fn advance(&mut self, now: Duration) {
        let at = now.saturating_sub(self.set_at);
        let in_force = |window: &Armed| (window.from..window.until).contains(&at);
        self.current = self.windows.iter().position(in_force);
    }

    /// The next moment after `now` at which a window begins or ends.
    pub(super) fn next_change(&self, now: Duration) -> Option<Duration> {
        let edges = self.windows.iter().flat_map(|own| [own.from, own.until]);
        let edges = edges.filter_map(|edge| self.set_at.checked_add(edge));
        edges.filter(|edge| *edge > now).min()
    }

    /// All windows, in force or not.
    pub(super) fn windows(&self) -> impl ExactSizeIterator<Item = &Faults> {
        self.windows.iter().map(|window| &window.faults)
    }

    /// The faults in force.
    pub(super) fn faults(&self) -> Option<&Faults> {
        Some(&self.windows.get(self.current?)?.faults)
    }

    /// Draws for one call of `operation`.
    pub(super) fn call(&mut self, operation: &str) -> Option<CallFault> {
        self.windows.get_mut(self.current?)?.call(operation)
    }

    /// Whether the next record is refused, and with which code.
    pub(crate) fn reject(&mut self) -> Option<RejectCode> {
        let (picker, code) = self.windows.get_mut(self.current?)?.reject.as_mut()?;
        picker.pick().then_some(*code)
    }

    /// Whether the next record that will be answered as stored is dropped.
    pub(crate) fn drop_acked(&mut self) -> bool {
        let window = self
            .current
            .and_then(|current| self.windows.get_mut(current));
        let picker = window.and_then(|window| window.drop_acked.as_mut());
        picker.is_some_and(Picker::pick)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(faults: Faults) -> FaultPlan {
        FaultPlan::new(vec![faults], Duration::ZERO).unwrap()
    }

    #[test]
    fn exactly_k_of_n_records_are_rejected_by_seed() {
        let faults = |seed| Faults {
            seed,
            reject: Some(Reject {
                k: 3,
                n: 10,
                code: RejectCode::InternalFailure,
            }),
            ..Faults::default()
        };
        let draw = |seed| {
            let mut plan = plan(faults(seed));
            (0..1_000)
                .map(|_| plan.reject().is_some())
                .collect::<Vec<_>>()
        };
        let rejected = draw(7);
        for block in rejected.chunks(10) {
            assert_eq!(block.iter().filter(|rejected| **rejected).count(), 3);
        }
        assert_eq!(rejected, draw(7));
        assert_ne!(rejected, draw(8));
    }

    #[test]
    fn all_of_n_and_none_of_n_are_portions() {
        let mut all = Picker::new(Portion { k: 4, n: 4 }, 1);
        assert!((0..100).all(|_| all.pick()));
        let mut none = Picker::new(Portion { k: 0, n: 4 }, 1);
        assert!(!(0..100).any(|_| none.pick()));
    }

    #[test]
    fn call_faults_come_in_their_shares_from_the_seed() {
        let faults = Faults {
            hang: 0.25,
            slow: 0.5,
            ..Faults::default()
        };
        let draw = |faults: &Faults| {
            let mut plan = plan(faults.clone());
            (0..4_000)
                .map(|_| plan.call("PutRecords"))
                .collect::<Vec<_>>()
        };
        let calls = draw(&faults);
        let count = |wanted| calls.iter().filter(|call| **call == wanted).count();
        assert!((900..1_100).contains(&count(Some(CallFault::Hang))));
        assert!((1_850..2_150).contains(&count(Some(CallFault::Slow))));
        assert_eq!(
            count(Some(CallFault::Hang)) + count(Some(CallFault::Slow)) + count(None),
            4_000
        );
        assert_eq!(calls, draw(&faults));
    }

    #[test]
    fn a_share_of_one_faults_every_named_operation() {
        let mut plan = plan(Faults {
            reset_after: 1.0,
            ..Faults::default()
        });
        for _ in 0..100 {
            assert_eq!(plan.call("PutRecords"), Some(CallFault::ResetAfter));
            assert_eq!(plan.call("ListShards"), None);
        }
    }

    #[test]
    fn faults_end_after_calls_max_faulty_calls() {
        let mut plan = plan(Faults {
            operations: vec![],
            calls_max: Some(2),
            internal_error: 1.0,
            ..Faults::default()
        });
        assert!(plan.call("ListShards").is_some());
        assert!(plan.call("PutRecords").is_some());
        assert_eq!(plan.call("PutRecords"), None);
    }

    #[test]
    fn impossible_faults_are_refused_with_the_member_and_its_value() {
        let error = |faults: Faults| faults.check().unwrap_err().to_string();
        assert_eq!(
            error(Faults {
                hang: 1.5,
                ..Faults::default()
            }),
            "fault hang is a share of calls between 0 and 1, not 1.5"
        );
        assert!(
            Faults {
                slow: f64::NAN,
                ..Faults::default()
            }
            .check()
            .is_err()
        );
        assert_eq!(
            error(Faults {
                hang: 0.75,
                slow: 0.5,
                ..Faults::default()
            }),
            "the shares of call faults sum up to 1.25, more than 1"
        );
        for (k, n) in [(2, 1), (0, 0)] {
            assert_eq!(
                error(Faults {
                    drop_acked: Some(Portion { k, n }),
                    ..Faults::default()
                }),
                format!("fault drop_acked is k of n with k <= n and n >= 1, not {k} of {n}")
            );
        }
    }

    #[test]
    fn json_needs_only_what_differs_and_refuses_unknown_members() {
        let faults: Faults =
            serde_json::from_str(r#"{"reject":{"k":1,"n":10},"hang":0.5}"#).unwrap();
        assert_eq!(faults.hang, 0.5);
        assert_eq!(
            faults.reject.unwrap().code,
            RejectCode::ProvisionedThroughputExceededException
        );
        assert!(serde_json::from_str::<Faults>(r#"{"hangs":0.5}"#).is_err());
    }

    fn window(seed: u64, from_s: f64, for_s: Option<f64>) -> Faults {
        Faults {
            seed,
            from_s,
            for_s,
            internal_error: 1.0,
            ..Faults::default()
        }
    }

    fn seed_at(plan: &mut FaultPlan, seconds: f64) -> Option<u64> {
        plan.advance(Duration::from_secs_f64(seconds));
        plan.faults().map(|faults| faults.seed)
    }

    #[test]
    fn fault_windows_include_their_begin_and_exclude_their_end() {
        let mut plan = plan(window(7, 2.0, Some(3.0)));
        for (seconds, expected) in [
            (0.0, None),
            (1.999, None),
            (2.0, Some(7)),
            (4.999, Some(7)),
            (5.0, None),
            (1e6, None),
        ] {
            assert_eq!(seed_at(&mut plan, seconds), expected, "at {seconds}");
            assert_eq!(plan.call("PutRecords").is_some(), expected.is_some());
        }
    }

    #[test]
    fn where_windows_overlap_the_first_counts() {
        let windows = vec![
            window(1, 5.0, Some(5.0)),
            window(2, 3.0, Some(10.0)),
            window(3, 0.0, None),
        ];
        let mut plan = FaultPlan::new(windows, Duration::ZERO).unwrap();
        for (seconds, expected) in [(0.0, 3), (3.0, 2), (5.0, 1), (9.9, 1), (10.0, 2), (13.0, 3)] {
            assert_eq!(seed_at(&mut plan, seconds), Some(expected), "at {seconds}");
        }
    }

    #[test]
    fn fault_windows_count_from_when_they_were_set() {
        let set = Duration::from_secs(100);
        let mut plan = FaultPlan::new(vec![window(1, 2.0, Some(3.0))], set).unwrap();
        assert_eq!(seed_at(&mut plan, 101.0), None);
        assert_eq!(seed_at(&mut plan, 102.0), Some(1));
        let next = |seconds| plan.next_change(Duration::from_secs(seconds));
        assert_eq!(next(100), Some(Duration::from_secs(102)));
        assert_eq!(next(102), Some(Duration::from_secs(105)));
        assert_eq!(next(105), None);
        let endless = FaultPlan::new(vec![window(1, 0.0, None)], set).unwrap();
        assert_eq!(endless.next_change(set), None);
    }

    #[test]
    fn each_window_draws_from_its_own_seed_whatever_went_before() {
        let draw = |warm_up: usize| {
            let half = |seed, from_s| Faults {
                internal_error: 0.5,
                ..window(seed, from_s, Some(1.0))
            };
            let windows = vec![half(1, 0.0), half(2, 1.0)];
            let mut plan = FaultPlan::new(windows, Duration::ZERO).unwrap();
            for _ in 0..warm_up {
                plan.call("PutRecords");
            }
            plan.advance(Duration::from_secs(1));
            (0..50)
                .map(|_| plan.call("PutRecords").is_some())
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(0), draw(17));
    }

    #[test]
    fn windows_without_a_place_on_the_clock_are_refused() {
        let error = |faults: Faults| faults.check().unwrap_err().to_string();
        assert_eq!(
            error(window(1, -1.0, None)),
            "fault from_s is a number of seconds from 0 to 1e9, not -1"
        );
        for for_s in [0.0, f64::NAN, f64::INFINITY, 2e9] {
            assert!(error(window(1, 0.0, Some(for_s))).contains("fault for_s"));
        }
        let gone = Faults {
            gone: true,
            ..Faults::default()
        };
        assert!(error(gone.clone()).contains("gone needs for_s"));
        let back = Faults {
            for_s: Some(1.0),
            ..gone
        };
        assert_eq!(back.check(), Ok(()));
        let dry = Faults {
            trickle_bytes_per_s: 0,
            ..Faults::default()
        };
        assert!(error(dry).contains("at least 1"));
        let many = vec![Faults::default(); WINDOWS_MAX + 1];
        let error = FaultPlan::new(many, Duration::ZERO).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a fault script has at most 1000 windows, not 1001"
        );
    }
}
