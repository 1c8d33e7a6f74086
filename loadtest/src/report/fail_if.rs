//! `report compare --fail-if`: turns a comparison into a verdict for scripts.
//! A condition holds only for a difference that the noise rule calls better or worse; its threshold
//! comes on top of that rule and never replaces it.

use super::compare::{Comparison, Difference, Judgement, Metric};
use super::input::ReportError;
use std::fmt;
use std::str::FromStr;

/// Largest threshold in percent.
const PERCENT_MAX: f64 = 100_000.0;

/// A condition under which a comparison fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FailIf {
    /// Any figure is worse, beyond the noise.
    Worse,
    /// A figure differs from the base by more than a share, beyond the noise.
    Differs {
        /// The figure.
        metric: Metric,
        /// Which way.
        way: Way,
        /// Percent of the base; of the share of failed requests, percentage points.
        percent: f64,
    },
}

/// Which way a figure moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Above the base.
    Above,
    /// Below the base.
    Below,
}

/// Figures as conditions name them.
const NAMES: [(&str, Metric); 6] = [
    ("answered", Metric::AnsweredPerSecond),
    ("cpu", Metric::CpuUsPerRequest),
    ("p50", Metric::P50Us),
    ("p99", Metric::P99Us),
    ("p99.9", Metric::P999Us),
    ("failed", Metric::ErrorShare),
];

impl FromStr for FailIf {
    type Err = String;

    fn from_str(text: &str) -> Result<FailIf, String> {
        if text == "worse" {
            return Ok(FailIf::Worse);
        }
        let parse = || {
            let at = text.find(['<', '>'])?;
            let (name, rest) = text.split_at(at);
            let (_, metric) = NAMES.into_iter().find(|(known, _)| *known == name.trim())?;
            let way = match rest.starts_with('>') {
                true => Way::Above,
                false => Way::Below,
            };
            let percent = rest.get(1..)?.trim().strip_suffix('%')?.trim();
            let percent: f64 = percent.parse().ok()?;
            (0.0..=PERCENT_MAX)
                .contains(&percent)
                .then_some(FailIf::Differs {
                    metric,
                    way,
                    percent,
                })
        };
        parse().ok_or_else(|| {
            let names: Vec<_> = NAMES.into_iter().map(|(name, _)| name).collect();
            format!(
                "expected `worse`, or a figure, < or >, and a percentage up to {PERCENT_MAX} % such \
                 as p99>5%; figures are {}",
                names.join(", ")
            )
        })
    }
}

impl fmt::Display for FailIf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FailIf::Worse => f.write_str("worse"),
            FailIf::Differs {
                metric,
                way,
                percent,
            } => {
                let name = NAMES.into_iter().find(|(_, known)| known == metric);
                let name = name.map_or_else(|| metric.label(), |(name, _)| name);
                let way = match way {
                    Way::Above => '>',
                    Way::Below => '<',
                };
                write!(f, "{name}{way}{percent}%")
            }
        }
    }
}

impl FailIf {
    /// Describes each difference that meets the condition.
    ///
    /// # Errors
    /// When the comparison cannot tell: a variant has a single run, so its noise is unknown, or no
    /// run measured the figure.
    pub fn failures(&self, comparison: &Comparison) -> Result<Vec<String>, ReportError> {
        let undecided = |reason: String| ReportError::Undecided {
            condition: self.to_string(),
            reason,
        };
        let mut of: Vec<&Difference> = comparison.differences.iter().collect();
        if let FailIf::Differs { metric, .. } = self {
            of.retain(|difference| difference.metric == *metric);
            // A variant without the figure would pass unseen.
            let variants = comparison.variants.iter();
            if let Some(without) = variants.clone().find(|v| v.spread(*metric).is_none()) {
                let reason = format!("no run of {} measured {}", without.name, metric.label());
                return Err(undecided(reason));
            }
        }
        let unknown = |d: &&&Difference| d.judgement == Judgement::NoiseUnknown;
        if let Some(unknown) = of.iter().find(unknown) {
            return Err(undecided(format!(
                "{} or the base has a single run, so the noise is unknown; give each at least 2",
                unknown.variant
            )));
        }
        let met = of.into_iter().filter(|difference| self.is_met(difference));
        let told = met.map(|difference| {
            format!(
                "{}: {} {}, beyond the noise ({self})",
                difference.variant,
                difference.metric.label(),
                difference.text()
            )
        });
        Ok(told.collect())
    }

    fn is_met(&self, difference: &Difference) -> bool {
        let beyond = matches!(difference.judgement, Judgement::Better | Judgement::Worse);
        match self {
            FailIf::Worse => difference.judgement == Judgement::Worse,
            FailIf::Differs { way, percent, .. } => {
                let change = match (difference.metric, difference.ratio) {
                    (Metric::ErrorShare, _) => difference.difference,
                    (_, Some(ratio)) => ratio - 1.0,
                    // From nothing to something is more than any share of nothing.
                    (_, None) => f64::INFINITY.copysign(difference.difference),
                };
                let share = percent / 100.0;
                beyond
                    && match way {
                        Way::Above => change > share,
                        Way::Below => change < -share,
                    }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_read_as_it_is_written() {
        for text in ["worse", "p99>5%", "p99.9>0.5%", "answered<3%", "failed>0%"] {
            let read: FailIf = text.parse().unwrap();
            assert_eq!(read.to_string(), text);
        }
        assert_eq!("p50 > 5 %".parse(), "p50>5%".parse::<FailIf>());
        for text in [
            "", "p99", "p98>5%", "p99>5", "p99>-1%", "p99>nan%", "p99>1e9%", "better", ">5%",
        ] {
            let error = text.parse::<FailIf>().unwrap_err();
            assert!(error.contains("answered, cpu, p50"), "{text}: {error}");
        }
    }
}
