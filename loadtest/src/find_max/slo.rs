//! An objective in words, `p99<50ms,errors<0.1%`, and whether a run meets it.

use crate::run::{Latency, Report};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Most conditions of one objective.
pub const CONDITIONS_MAX: usize = 16;

/// Longest time that a condition may name: an hour, where latencies end too.
const TIME_US_MAX: f64 = 3_600_000_000.0;

/// The quantity that a condition limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Measure {
    /// Median of the latency from the intended start.
    P50,
    /// 90th percentile of the same.
    P90,
    /// 99th percentile of the same.
    P99,
    /// 99.9th percentile of the same.
    P99_9,
    /// 99.99th percentile of the same.
    P99_99,
    /// The largest of the same.
    Max,
    /// Share of the requests due that failed: answered without success, never answered, or never sent.
    Errors,
}

impl Measure {
    const ALL: [Measure; 7] = [
        Measure::P50,
        Measure::P90,
        Measure::P99,
        Measure::P99_9,
        Measure::P99_99,
        Measure::Max,
        Measure::Errors,
    ];

    /// Its name in objectives and reports.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Measure::P50 => "p50",
            Measure::P90 => "p90",
            Measure::P99 => "p99",
            Measure::P99_9 => "p99.9",
            Measure::P99_99 => "p99.99",
            Measure::Max => "max",
            Measure::Errors => "errors",
        }
    }

    /// The share of requests that may take longer than this percentile; `None` for errors.
    fn above(self) -> Option<f64> {
        match self {
            Measure::P50 => Some(0.5),
            Measure::P90 => Some(0.1),
            Measure::P99 => Some(0.01),
            Measure::P99_9 => Some(0.001),
            Measure::P99_99 => Some(0.000_1),
            Measure::Max => Some(0.0),
            Measure::Errors => None,
        }
    }

    /// Its value in a run: microseconds, or for errors a share of 1. `None` for a latency that so
    /// many requests would have to meet that some of them were never answered: however late the
    /// generator gave up, or early on a reset, the answer took longer than any limit.
    #[must_use]
    pub fn of(self, report: &Report) -> Option<f64> {
        if let Some(above) = self.above() {
            let never = report.never_answered() as f64;
            if never > above * report.due() as f64 {
                return None;
            }
        }
        let latency: Latency = report
            .latency_from_intended_start
            .unwrap_or(report.latency_from_start);
        Some(match self {
            Measure::P50 => latency.p50_us,
            Measure::P90 => latency.p90_us,
            Measure::P99 => latency.p99_us,
            Measure::P99_9 => latency.p99_9_us,
            Measure::P99_99 => latency.p99_99_us,
            Measure::Max => latency.max_us,
            Measure::Errors => report.error_share(),
        })
    }
}

/// One condition: a measure below a limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// The quantity.
    pub measure: Measure,
    /// Its limit: microseconds, or for errors a share of 1.
    pub below: f64,
}

/// All conditions have to hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slo {
    /// At least one.
    pub conditions: Vec<Condition>,
}

/// Why a text is no objective.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SloError {
    /// A part has no `<`.
    #[error("{0:?}: expected a measure, `<` and a limit, as in p99<50ms")]
    Form(String),
    /// The part before the `<` is no measure.
    #[error("{part:?}: {name:?} is none of p50, p90, p99, p99.9, p99.99, max, errors")]
    Measure {
        /// The whole part.
        part: String,
        /// The measured value.
        name: String,
    },
    /// The part after the `<` of a latency is no time.
    #[error("{part:?}: expected a time above 0 up to an hour in us, ms or s, not {limit:?}")]
    Time {
        /// The whole part.
        part: String,
        /// Its text.
        limit: String,
    },
    /// The part after the `<` of errors is no share.
    #[error("{part:?}: expected a share above 0% up to 100%, not {limit:?}")]
    Share {
        /// The whole part.
        part: String,
        /// Its text.
        limit: String,
    },
    /// There are too many parts.
    #[error("an objective has at most {CONDITIONS_MAX} conditions, not {0}")]
    TooLong(usize),
}

impl FromStr for Slo {
    type Err = SloError;

    fn from_str(text: &str) -> Result<Slo, SloError> {
        let count = text.split(',').count();
        if count > CONDITIONS_MAX {
            return Err(SloError::TooLong(count));
        }
        let conditions = text.split(',').map(|part| condition(part.trim()));
        Ok(Slo {
            conditions: conditions.collect::<Result<_, _>>()?,
        })
    }
}

fn condition(part: &str) -> Result<Condition, SloError> {
    let Some((name, limit)) = part.split_once('<') else {
        return Err(SloError::Form(part.to_owned()));
    };
    let (name, limit) = (name.trim(), limit.trim());
    let Some(measure) = Measure::ALL.into_iter().find(|one| one.label() == name) else {
        return Err(SloError::Measure {
            part: part.to_owned(),
            name: name.to_owned(),
        });
    };
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let below = if measure == Measure::Errors {
        limit
            .strip_suffix('%')
            .and_then(number)
            .map(|percent| percent / 100.0)
            .filter(|share| *share > 0.0 && *share <= 1.0)
            .ok_or_else(|| SloError::Share {
                part: part.to_owned(),
                limit: limit.to_owned(),
            })
    } else {
        [("us", 1.0), ("ms", 1e3), ("s", 1e6)]
            .into_iter()
            .find_map(|(unit, us)| Some(number(limit.strip_suffix(unit)?)? * us))
            .filter(|us| *us > 0.0 && *us <= TIME_US_MAX)
            .ok_or_else(|| SloError::Time {
                part: part.to_owned(),
                limit: limit.to_owned(),
            })
    }?;
    Ok(Condition { measure, below })
}

impl Slo {
    /// The conditions that a run does not meet. One in which nothing was answered meets none.
    #[must_use]
    pub fn missed(&self, report: &Report) -> Vec<Condition> {
        let holds = |condition: &Condition| {
            let value = condition.measure.of(report);
            report.answered > 0 && value.is_some_and(|value| value < condition.below)
        };
        let conditions = self.conditions.iter().copied();
        conditions.filter(|condition| !holds(condition)).collect()
    }
}

/// A value of a measure with its unit.
pub(super) struct Value(pub(super) Measure, pub(super) f64);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Two digits behind the point, and none that are zero.
        let short = |number: f64| (number * 100.0).round() / 100.0;
        match (self.0, self.1) {
            // Small shares matter: an objective may be 0.001 %.
            (Measure::Errors, share) => write!(f, "{}%", (share * 1e6).round() / 1e4),
            (_, us) if us < 1e3 => write!(f, "{}us", short(us)),
            (_, us) if us < 1e6 => write!(f, "{}ms", short(us / 1e3)),
            (_, us) => write!(f, "{}s", short(us / 1e6)),
        }
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Condition { measure, below }) in self.conditions.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{}<{}", measure.label(), Value(*measure, *below))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_objective_is_read_and_written_the_same() {
        for text in [
            "p99<50ms,errors<0.1%",
            "p50<750us",
            "p90<1.5s,p99.9<2s,p99.99<3s,max<10s",
            "errors<100%",
            "errors<0.001%",
        ] {
            assert_eq!(text.parse::<Slo>().unwrap().to_string(), text);
        }
        let spaced: Slo = " p99 < 50 ms , errors < 1 % ".parse().unwrap();
        assert_eq!(spaced.to_string(), "p99<50ms,errors<1%");
        assert!((spaced.conditions[0].below - 50_000.0).abs() < 1e-9);
        assert!((spaced.conditions[1].below - 0.01).abs() < 1e-12);
    }

    #[test]
    fn a_wrong_part_is_named() {
        let error = |text: &str| text.parse::<Slo>().unwrap_err().to_string();
        for (text, part) in [
            ("", "\"\": expected a measure"),
            ("p99<5ms,", "\"\": expected a measure"),
            ("p99<5ms,p99", "\"p99\": expected a measure"),
            ("p98<5ms", "\"p98\" is none of"),
            ("p99<5", "us, ms or s, not \"5\""),
            ("p99<5m", "us, ms or s, not \"5m\""),
            ("p99<-5ms", "not \"-5ms\""),
            ("p99<0us", "not \"0us\""),
            ("p99<nanms", "not \"nanms\""),
            ("max<3601s", "not \"3601s\""),
            ("errors<1", "not \"1\""),
            ("errors<0%", "not \"0%\""),
            ("errors<101%", "not \"101%\""),
            ("errors<5ms", "not \"5ms\""),
        ] {
            let error = error(text);
            assert!(error.contains(part), "{text}: {error}");
        }
        let long = vec!["p99<1s"; 17].join(",");
        assert_eq!(
            error(&long),
            "an objective has at most 16 conditions, not 17"
        );
    }
}
