//! How long an emulator takes to answer: fixed, evenly spread, log-normal, and pauses of the
//! whole service. Samples from a seed and a given clock; waits for nothing.

use fastrand::Rng;
use std::time::Duration;

/// The 99th percentile of the standard normal distribution.
const Z_99: f64 = 2.326_347_874_040_841;

/// No answer is delayed longer, however unlikely the draw.
pub const DELAY_MAX: Duration = Duration::from_secs(3_600);

/// When responses are sent; the parts add up. The default is immediately.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latency {
    /// Delay of each answer.
    pub fixed: Duration,
    /// Up to this much more, evenly spread.
    pub jitter: Duration,
    /// A delay with a long tail.
    pub log_normal: Option<LogNormal>,
    /// Times in which the whole service stands still.
    pub pauses: Option<Pauses>,
}

/// A log-normal distribution: half of the delays are below the median, and the tail is longer
/// than that of a normal distribution, as latencies of services are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogNormal {
    /// The median.
    pub median: Duration,
    /// The standard deviation of the delay's natural logarithm, 0 to 10.
    pub sigma: f64,
}

impl LogNormal {
    /// The distribution with this median and 99th percentile, which is not below the median.
    #[must_use]
    pub fn from_p99(median: Duration, p99: Duration) -> LogNormal {
        let ratio = p99.as_secs_f64() / median.as_secs_f64();
        LogNormal {
            median,
            sigma: ratio.ln() / Z_99,
        }
    }
}

/// Every `every` the service pauses for `length`; responses due then are sent afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pauses {
    /// From the begin of a pause to that of the next; the first begins this long after the start.
    pub every: Duration,
    /// How long one takes; shorter than `every`.
    pub length: Duration,
}

impl Pauses {
    /// `at`, or the end of the pause that it falls into.
    fn resume(self, at: Duration) -> Duration {
        let every = self.every.as_nanos();
        if every == 0 || at < self.every {
            return at;
        }
        let into = at.as_nanos() % every;
        let left = self.length.as_nanos().saturating_sub(into);
        at.saturating_add(Duration::from_nanos(
            u64::try_from(left).unwrap_or(u64::MAX),
        ))
    }
}

/// Why latencies cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LatencyError {
    /// A time is too long.
    #[error("{name} must be at most 3600 s, not {actual:?}")]
    TooLong {
        /// Which one.
        name: &'static str,
        /// The value given.
        actual: Duration,
    },
    /// A log-normal distribution cannot be.
    #[error(
        "a log-normal latency needs a median over 0 and a p99 from the median on \
         (sigma 0 to 10), not median {median:?}, sigma {sigma}"
    )]
    LogNormal {
        /// Its median.
        median: Duration,
        /// Its sigma.
        sigma: f64,
    },
    /// The service would pause forever.
    #[error("a pause of {length:?} must be shorter than the {every:?} from one to the next")]
    Pauses {
        /// From one to the next.
        every: Duration,
        /// How long one takes.
        length: Duration,
    },
}

impl Latency {
    /// Refuses impossible values.
    ///
    /// # Errors
    /// Names the value and its bound.
    pub fn check(&self) -> Result<(), LatencyError> {
        for (name, actual) in [("latency", self.fixed), ("latency jitter", self.jitter)] {
            if actual > DELAY_MAX {
                return Err(LatencyError::TooLong { name, actual });
            }
        }
        if let Some(LogNormal { median, sigma }) = self.log_normal
            && (median.is_zero() || median > DELAY_MAX || !(0.0..=10.0).contains(&sigma))
        {
            return Err(LatencyError::LogNormal { median, sigma });
        }
        match self.pauses {
            Some(Pauses { every, length }) if length >= every => {
                Err(LatencyError::Pauses { every, length })
            }
            _ => Ok(()),
        }
    }
}

/// Draws one delay after the other.
#[derive(Debug)]
pub(super) struct Sampler {
    latency: Latency,
    rng: Rng,
}

impl Sampler {
    pub(super) fn new(latency: Latency, seed: u64) -> Sampler {
        let rng = Rng::with_seed(seed);
        Sampler { latency, rng }
    }

    /// How long after `now`, counted from the start, the call that came then is answered.
    pub(super) fn sample(&mut self, now: Duration) -> Duration {
        let Latency {
            fixed,
            jitter,
            log_normal,
            pauses,
        } = self.latency;
        let mut delay = fixed;
        if !jitter.is_zero() {
            delay += jitter.mul_f64(self.rng.f64());
        }
        if let Some(LogNormal { median, sigma }) = log_normal {
            let seconds = median.as_secs_f64() * (sigma * self.normal()).exp();
            let tail = Duration::try_from_secs_f64(seconds).unwrap_or(DELAY_MAX);
            delay = delay.saturating_add(tail);
        }
        delay = delay.min(DELAY_MAX);
        match pauses {
            Some(pauses) => pauses.resume(pauses.resume(now) + delay) - now,
            None => delay,
        }
    }

    /// A standard normal variate (Box-Muller).
    fn normal(&mut self) -> f64 {
        // Never 0, because its logarithm is infinite.
        let radius = (-2.0 * (1.0 - self.rng.f64()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.rng.f64()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn draws(latency: Latency, seed: u64, count: usize) -> Vec<Duration> {
        latency.check().unwrap();
        let mut sampler = Sampler::new(latency, seed);
        (0..count).map(|_| sampler.sample(Duration::ZERO)).collect()
    }

    #[test]
    fn latency_defaults_to_none_and_fixed_is_constant() {
        assert_eq!(draws(Latency::default(), 1, 3), [Duration::ZERO; 3]);
        let fixed = Latency {
            fixed: 7 * MS,
            ..Latency::default()
        };
        assert_eq!(draws(fixed, 1, 3), [7 * MS; 3]);
    }

    #[test]
    fn jitter_is_spread_evenly_over_its_range() {
        let jittered = Latency {
            fixed: 10 * MS,
            jitter: 10 * MS,
            ..Latency::default()
        };
        let drawn = draws(jittered, 1, 10_000);
        let below = |limit: Duration| drawn.iter().filter(|delay| **delay < limit).count();
        assert_eq!((below(10 * MS), below(20 * MS)), (0, 10_000));
        assert!((4_800..5_200).contains(&below(15 * MS)));
        assert!((900..1_100).contains(&below(11 * MS)));
    }

    #[test]
    fn log_normal_meets_its_median_and_its_p99() {
        let tailed = Latency {
            log_normal: Some(LogNormal::from_p99(10 * MS, 80 * MS)),
            ..Latency::default()
        };
        let drawn = draws(tailed, 1, 100_000);
        let below = |limit: Duration| drawn.iter().filter(|delay| **delay < limit).count();
        assert!(
            (49_500..50_500).contains(&below(10 * MS)),
            "{}",
            below(10 * MS)
        );
        assert!(
            (98_850..99_150).contains(&below(80 * MS)),
            "{}",
            below(80 * MS)
        );
    }

    #[test]
    fn the_same_seed_draws_the_same_delays() {
        let tailed = Latency {
            jitter: MS,
            log_normal: Some(LogNormal {
                median: MS,
                sigma: 1.0,
            }),
            ..Latency::default()
        };
        assert_eq!(draws(tailed, 5, 100), draws(tailed, 5, 100));
        assert_ne!(draws(tailed, 5, 100), draws(tailed, 6, 100));
    }

    #[test]
    fn what_is_due_in_a_pause_comes_at_its_end() {
        let paused = Latency {
            fixed: 5 * MS,
            pauses: Some(Pauses {
                every: 100 * MS,
                length: 20 * MS,
            }),
            ..Latency::default()
        };
        let mut sampler = Sampler::new(paused, 1);
        for (now, due) in [
            // The first pause begins after `every`.
            (0, 5),
            (94, 99),
            // Due in the pause of 100 to 120.
            (95, 120),
            (99, 120),
            // Come in the pause: work begins after it.
            (100, 125),
            (119, 125),
            (120, 125),
            (195, 220),
        ] {
            let delay = sampler.sample(now * MS);
            assert_eq!(now * MS + delay, due * MS, "came at {now} ms");
        }
    }

    #[test]
    fn latencies_that_cannot_be_are_refused() {
        let long = DELAY_MAX + MS;
        let impossible = [
            Latency {
                fixed: long,
                ..Latency::default()
            },
            Latency {
                jitter: long,
                ..Latency::default()
            },
            Latency {
                log_normal: Some(LogNormal::from_p99(2 * MS, MS)),
                ..Latency::default()
            },
            Latency {
                log_normal: Some(LogNormal::from_p99(Duration::ZERO, MS)),
                ..Latency::default()
            },
            Latency {
                pauses: Some(Pauses {
                    every: MS,
                    length: MS,
                }),
                ..Latency::default()
            },
        ];
        for latency in impossible {
            assert!(latency.check().is_err(), "{latency:?}");
        }
        // The tail of the widest distribution is cut, not overflowed.
        let widest = Latency {
            log_normal: Some(LogNormal {
                median: DELAY_MAX,
                sigma: 10.0,
            }),
            ..Latency::default()
        };
        assert!(
            draws(widest, 1, 1_000)
                .iter()
                .all(|delay| *delay <= DELAY_MAX)
        );
    }
}
