//! Which rate to try next: exponential growth until one fails, bisection down to a relative
//! precision, then confirmation, stepping down when that fails. Pure: its caller reports how each
//! probe ended, and knows no clock and no target.

/// Most probes of one search. Growth and bisection need less than half of it; what is left is for
/// steps down from rates that were not met again.
pub const PROBES_MAX: usize = 120;

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The objective was met.
    Met,
    /// It was missed, by the target.
    Missed,
    /// It was missed, and the generator was the bottleneck: says nothing about the target.
    Unclear,
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Next {
    /// Try this rate.
    Probe {
        rate: f64,
        /// Whether it was met before and is to be met again.
        confirmation: bool,
    },
    /// This rate is the highest that was met, and confirmed; `None` when no rate was.
    Done(Option<f64>),
}

/// Bounds of a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bounds {
    /// First rate to try.
    pub(super) from: f64,
    /// Highest rate to try.
    pub(super) to: f64,
    /// Lowest rate to try when the first one fails.
    pub(super) least: f64,
    /// Relative precision of the answer, above 0.
    pub(super) precision: f64,
    /// How often the answer has to be met again.
    pub(super) confirmations: u32,
}

/// A search under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    bounds: Bounds,
    /// The highest rate that was met and not doubted since.
    met: Option<f64>,
    /// The lowest rate that failed.
    failed: Option<f64>,
    /// How often `met` was met again.
    confirmed: u32,
    confirming: bool,
    probes: usize,
}

impl Search {
    pub(super) fn new(bounds: Bounds) -> Search {
        Search {
            bounds,
            met: None,
            failed: None,
            confirmed: 0,
            confirming: false,
            probes: 0,
        }
    }

    /// The highest rate that was met, confirmed or not.
    pub(super) fn met(&self) -> Option<f64> {
        self.met
    }

    /// The rate to try now, or the end.
    pub(super) fn next(&self) -> Next {
        let Bounds {
            from,
            to,
            least,
            precision,
            confirmations,
        } = self.bounds;
        let probe = |rate| Next::Probe {
            rate,
            confirmation: false,
        };
        if self.confirming {
            return match self.met {
                Some(_) if self.probes >= PROBES_MAX => Next::Done(None),
                Some(rate) if self.confirmed < confirmations => Next::Probe {
                    rate,
                    confirmation: true,
                },
                met => Next::Done(met),
            };
        }
        match (self.met, self.failed) {
            (None, None) => probe(from),
            (Some(met), None) => probe((met * 2.0).min(to)),
            (None, Some(failed)) => probe((failed / 2.0).max(least)),
            (Some(met), Some(failed)) => {
                let middle = met + (failed - met) / 2.0;
                // Rates are asked for in whole requests per second, where there are enough.
                let whole = middle.round();
                let step = (met * precision / 2.0).max(f64::MIN_POSITIVE);
                probe(if step >= 1.0 { whole } else { middle })
            }
        }
    }

    /// The result of one probe.
    pub(super) fn observe(&mut self, rate: f64, outcome: Outcome) {
        let met = outcome == Outcome::Met;
        self.probes += 1;
        if self.confirming {
            if met {
                self.confirmed += 1;
                return;
            }
            // A rate that was met once and not again is too high: a step down, which has to be met from
            // the first probe on.
            self.failed = Some(rate);
            self.confirmed = 0;
            let lower = rate * (1.0 - self.bounds.precision);
            self.met = (lower >= self.bounds.least).then_some(lower);
            return;
        }
        if met {
            self.met = Some(rate);
        } else {
            self.failed = Some(rate);
        }
        self.confirming = match (self.met, self.failed) {
            (Some(met), None) => met >= self.bounds.to,
            (Some(met), Some(failed)) => failed - met <= met * self.bounds.precision,
            (None, Some(failed)) => failed <= self.bounds.least,
            (None, None) => false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        from: 100.0,
        to: 1_000_000.0,
        least: 1.0,
        precision: 0.05,
        confirmations: 2,
    };

    /// Searches against a target that answers as told; the answer, and all probes.
    fn search(
        bounds: Bounds,
        mut target: impl FnMut(f64, bool) -> Outcome,
    ) -> (Option<f64>, Vec<(f64, bool)>) {
        let mut search = Search::new(bounds);
        let mut probes = Vec::new();
        loop {
            match search.next() {
                Next::Done(answer) => return (answer, probes),
                Next::Probe { rate, confirmation } => {
                    assert!(probes.len() < 200, "{probes:?}");
                    probes.push((rate, confirmation));
                    search.observe(rate, target(rate, confirmation));
                }
            }
        }
    }

    fn up_to(limit: f64) -> impl Fn(f64, bool) -> Outcome {
        move |rate, _| match rate <= limit {
            true => Outcome::Met,
            false => Outcome::Missed,
        }
    }

    #[test]
    fn the_limit_is_found_within_the_precision_wherever_it_is() {
        for limit in [1.0, 1.3, 7.0, 99.0, 100.0, 101.0, 4_321.0, 999_999.0] {
            let (answer, probes) = search(BOUNDS, up_to(limit));
            let answer = answer.unwrap();
            assert!(answer <= limit, "{answer} > {limit}");
            assert!(answer >= limit * 0.95, "{answer} < {limit}: {probes:?}");
            let confirmations: Vec<f64> = probes.iter().filter(|p| p.1).map(|p| p.0).collect();
            assert_eq!(confirmations, [answer, answer]);
            assert!(probes.len() < 25, "{probes:?}");
        }
    }

    #[test]
    fn an_unlimited_target_gets_the_highest_rate_at_most() {
        let (answer, probes) = search(BOUNDS, up_to(f64::INFINITY));
        assert_eq!(answer, Some(1_000_000.0));
        assert!(probes.iter().all(|(rate, _)| *rate <= 1_000_000.0));
    }

    #[test]
    fn a_target_that_meets_nothing_has_no_limit() {
        let (answer, probes) = search(BOUNDS, up_to(0.0));
        assert_eq!(answer, None);
        assert_eq!(probes.last(), Some(&(1.0, false)));
    }

    #[test]
    fn an_unconfirmed_rate_is_stepped_down() {
        let (answer, probes) = search(BOUNDS, |rate, confirmation| {
            up_to(if confirmation { 800.0 } else { 1_000.0 })(rate, confirmation)
        });
        let answer = answer.unwrap();
        assert!(answer <= 800.0 && answer > 800.0 * 0.95, "{answer}");
        let last: Vec<f64> = probes.iter().rev().take(2).map(|p| p.0).collect();
        assert_eq!(last, [answer, answer]);
    }

    #[test]
    fn a_rate_never_confirmed_ends_without_result() {
        let precise = Bounds {
            precision: 0.2,
            ..BOUNDS
        };
        let (answer, _) = search(precise, |rate, confirmation| match confirmation {
            true => Outcome::Unclear,
            false => up_to(500.0)(rate, false),
        });
        assert_eq!(answer, None);
    }

    #[test]
    fn a_search_has_an_end_however_small_its_steps_are() {
        let precise = Bounds {
            precision: 0.001,
            ..BOUNDS
        };
        let (answer, probes) = search(precise, |rate, confirmation| match confirmation {
            true => Outcome::Missed,
            false => up_to(70_000.0)(rate, false),
        });
        assert_eq!((answer, probes.len()), (None, PROBES_MAX));
    }

    #[test]
    fn without_confirmations_the_first_answer_counts() {
        let quick = Bounds {
            confirmations: 0,
            ..BOUNDS
        };
        let (answer, probes) = search(quick, up_to(250.0));
        assert!(answer.unwrap() <= 250.0);
        assert!(probes.iter().all(|(_, confirmation)| !confirmation));
    }
}
