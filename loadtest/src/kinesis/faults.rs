//! What the emulator does wrong on purpose, and the seeded choice of when.
//! Decides only; `server` and `put` carry it out.

use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// Faults of the emulator. The default is none.
///
/// As JSON (`POST /_faults`) a missing member has its default and an unknown one is an error.
/// Shares are of calls, from 0 to 1; each call draws once, so that it meets at most one of them,
/// and their sum must not exceed 1. The same seed and order of calls give the same faults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Seeds every choice below. Setting faults starts the choices anew.
    pub seed: u64,
    /// Operations whose calls draw a fault; empty means all.
    pub operations: Vec<String>,
    /// After this many faulty calls the shares below have no effect any more.
    pub calls_max: Option<u64>,
    /// Share of calls answered 500 InternalFailure, nothing stored.
    pub internal_error: f64,
    /// Share of whole calls answered 400 ProvisionedThroughputExceededException, nothing stored.
    pub throttle_call: f64,
    /// Share of calls answered 400 AccessDeniedException, nothing stored.
    pub access_denied: f64,
    /// Share of calls never answered, nothing stored; the connection stays open.
    pub hang: f64,
    /// Share of calls whose connection is reset before the body is read, nothing stored.
    pub reset_before: f64,
    /// Share of calls whose connection is reset after the records were stored: the ambiguous one.
    pub reset_after: f64,
    /// Share of calls whose records are stored at once and whose answer comes `slow_ms` later.
    pub slow: f64,
    /// Delay of a slow answer, in milliseconds.
    pub slow_ms: u64,
    /// Share of calls whose records are stored and whose answer lacks the last entry.
    pub short_answer: f64,
    /// Share of calls whose records are stored and whose answer is 200 with a body that is no JSON.
    pub garbage_answer: f64,
    /// Records that are refused one by one inside an answer of 200, not stored.
    pub reject: Option<Reject>,
    /// Answers say `FailedRecordCount` 0 whatever their entries say.
    pub failed_count_zero: bool,
    /// Records that are answered as stored and are not: what an audit has to find.
    pub drop_acked: Option<Portion>,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            seed: 1,
            operations: vec!["PutRecords".to_owned()],
            calls_max: None,
            internal_error: 0.0,
            throttle_call: 0.0,
            access_denied: 0.0,
            hang: 0.0,
            reset_before: 0.0,
            reset_after: 0.0,
            slow: 0.0,
            slow_ms: 1_000,
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
    /// The entry's `ErrorCode`.
    #[serde(default)]
    pub code: RejectCode,
}

/// The codes that an entry of a PutRecords answer can carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum RejectCode {
    /// The shard is over its limits.
    #[default]
    #[value(name = "throttled")]
    ProvisionedThroughputExceededException,
    /// The service failed on this record.
    #[value(name = "internal")]
    InternalFailure,
}

impl RejectCode {
    /// The code as the service writes it.
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
        /// What it was set to.
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
}

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallFault {
    InternalError,
    ThrottleCall,
    AccessDenied,
    Hang,
    ResetBefore,
    ResetAfter,
    Slow,
    ShortAnswer,
    GarbageAnswer,
}

impl Faults {
    /// The call faults with their shares, in the order in which a draw passes them.
    fn shares(&self) -> [(CallFault, &'static str, f64); 9] {
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
            (CallFault::Slow, "slow", self.slow),
            (CallFault::ShortAnswer, "short_answer", self.short_answer),
            (
                CallFault::GarbageAnswer,
                "garbage_answer",
                self.garbage_answer,
            ),
        ]
    }

    /// Refuses shares outside 0 to 1, sums over 1 and portions that are none.
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

/// Faults in force, with the state of their choices.
#[derive(Debug)]
pub(super) struct FaultPlan {
    faults: Faults,
    calls: Rng,
    calls_left: u64,
    reject: Option<(Picker, RejectCode)>,
    drop_acked: Option<Picker>,
}

impl FaultPlan {
    /// Starts the choices of `faults` from their seed.
    pub(super) fn new(faults: Faults) -> Result<FaultPlan, FaultsError> {
        faults.check()?;
        let seed = faults.seed;
        Ok(FaultPlan {
            calls: Rng::with_seed(seed),
            calls_left: faults.calls_max.unwrap_or(u64::MAX),
            reject: faults.reject.map(|Reject { k, n, code }| {
                (Picker::new(Portion { k, n }, seed.wrapping_add(1)), code)
            }),
            drop_acked: faults
                .drop_acked
                .map(|portion| Picker::new(portion, seed.wrapping_add(2))),
            faults,
        })
    }

    pub(super) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Draws for one call of `operation`.
    pub(super) fn call(&mut self, operation: &str) -> Option<CallFault> {
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

    /// Whether the next record is refused, and with which code.
    pub(super) fn reject(&mut self) -> Option<RejectCode> {
        let (picker, code) = self.reject.as_mut()?;
        picker.pick().then_some(*code)
    }

    /// Whether the next record that will be answered as stored is dropped.
    pub(super) fn drop_acked(&mut self) -> bool {
        self.drop_acked.as_mut().is_some_and(Picker::pick)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(faults: Faults) -> FaultPlan {
        FaultPlan::new(faults).unwrap()
    }

    #[test]
    fn exactly_k_of_every_n_records_are_rejected_and_the_seed_says_which() {
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
    fn a_share_of_one_meets_every_call_of_the_named_operations_only() {
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
}
