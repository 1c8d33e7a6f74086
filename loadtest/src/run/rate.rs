//! Rates over time: a constant, a ramp, steps, a burst, a recorded trace, all as pieces on which the
//! rate is linear. The integral of the rate is the number of requests that are due, and a request is
//! meant to start where the integral passes its number. Pure arithmetic; knows no threads and no clock.

use super::{RATE_MAX, RunError, in_range};
use std::sync::Arc;
use std::time::Duration;

/// Most steps of a staircase.
pub const STEPS_MAX: u32 = 10_000;

/// Most points of a trace: eleven days of seconds.
pub const TRACE_POINTS_MAX: usize = 1_000_000;

/// Latest second of a trace: the longest run, 30 days.
const TRACE_SECONDS_MAX: f64 = 30.0 * 86_400.0;

/// When requests start.
#[derive(Clone, Debug, PartialEq)]
pub enum Load {
    /// At a constant rate, whether or not earlier ones were answered.
    Open {
        /// Requests per second.
        per_second: f64,
    },
    /// At a rate that changes evenly over the run's duration.
    Ramp {
        /// Requests per second at its start.
        from: f64,
        /// Requests per second at its end.
        to: f64,
    },
    /// At constant rates one after the other, each for the same part of the run's duration.
    Step {
        /// Requests per second in the first part.
        from: f64,
        /// Requests per second in the last part.
        to: f64,
        /// How many parts, 2 to [`STEPS_MAX`].
        steps: u32,
    },
    /// At a constant rate but for a while, in which it is a multiple.
    Burst {
        /// Requests per second before and after.
        base: f64,
        /// How many times that.
        factor: f64,
        /// Seconds from the run's start to the burst.
        at: f64,
        /// How many seconds it lasts.
        seconds: f64,
    },
    /// At rates from a file.
    Trace(Trace),
    /// On each connection, when the one before was answered.
    Closed,
}

/// Rates from a file: each holds from its second until that of the next one; the last one holds until
/// the run's end.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Seconds since the run's start, growing, and requests per second.
    points: Arc<[(f64, f64)]>,
}

/// Why a text is no trace of rates.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TraceError {
    /// A line is not two numbers in their ranges.
    #[error(
        "line {line}: expected `SECONDS RATE` with seconds up to 2592000 and requests per second up to \
         {RATE_MAX}, not {text:?}"
    )]
    Line {
        /// Its number, from 1.
        line: usize,
        /// The line, cut.
        text: String,
    },
    /// A line's second is not after the one before.
    #[error("line {line}: second {second} does not come after {before}")]
    Order {
        /// Its number, from 1.
        line: usize,
        /// The second that it names.
        second: f64,
        /// The one before.
        before: f64,
    },
    /// There are too many lines.
    #[error("line {line}: a trace has at most {TRACE_POINTS_MAX} rates")]
    TooLong {
        /// The first line too many, from 1.
        line: usize,
    },
    /// No line has a rate above 0.
    #[error("no rate above 0")]
    Empty,
}

impl Trace {
    /// Reads lines of `SECONDS RATE`, apart by blanks or a comma; empty lines and those that begin
    /// with `#` are passed over.
    ///
    /// # Errors
    /// Names the first invalid line and the expected form.
    pub fn parse(text: &str) -> Result<Trace, TraceError> {
        let mut points: Vec<(f64, f64)> = Vec::new();
        for (line, content) in (1..).zip(text.lines()) {
            let content = content.trim();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            if points.len() == TRACE_POINTS_MAX {
                return Err(TraceError::TooLong { line });
            }
            let (second, rate) = point(content).ok_or_else(|| TraceError::Line {
                line,
                text: content.chars().take(40).collect(),
            })?;
            if let Some((before, _)) = points.last()
                && *before >= second
            {
                return Err(TraceError::Order {
                    line,
                    second,
                    before: *before,
                });
            }
            points.push((second, rate));
        }
        if !points.iter().any(|(_, rate)| *rate > 0.0) {
            return Err(TraceError::Empty);
        }
        Ok(Trace {
            points: points.into(),
        })
    }

    /// When it is over: the second of its last line, if that has rate 0. Otherwise the last rate holds
    /// for as long as the run does.
    #[must_use]
    pub fn end(&self) -> Option<Duration> {
        match self.points.last() {
            Some((second, 0.0)) => Duration::try_from_secs_f64(*second).ok(),
            _ => None,
        }
    }
}

fn point(line: &str) -> Option<(f64, f64)> {
    let mut words = line
        .split(|c: char| c.is_ascii_whitespace() || c == ',')
        .filter(|word| !word.is_empty())
        .map(|word| word.parse::<f64>().ok());
    let (second, rate) = (words.next()??, words.next()??);
    let fits = (0.0..=TRACE_SECONDS_MAX).contains(&second) && (0.0..=RATE_MAX).contains(&rate);
    (fits && words.next().is_none()).then_some((second, rate))
}

impl Load {
    /// When it is over by itself, which only a trace can be.
    #[must_use]
    pub fn end(&self) -> Option<Duration> {
        match self {
            Load::Trace(trace) => trace.end(),
            _ => None,
        }
    }

    /// Its name in reports, with its numbers as they are given on the command line.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Load::Open { per_second } => format!("constant {per_second}"),
            Load::Ramp { from, to } => format!("ramp {from}:{to}"),
            Load::Step { from, to, steps } => format!("step {from}:{to}:{steps}"),
            Load::Burst {
                base,
                factor,
                at,
                seconds,
            } => format!("burst {base}:{factor}:{at}:{seconds}"),
            Load::Trace(trace) => format!("trace of {} rates", trace.points.len()),
            Load::Closed => "closed".to_owned(),
        }
    }

    /// The rate over time, `None` in a closed loop.
    ///
    /// # Errors
    /// When a number is out of its range, or the shape needs a duration and has none, or has no
    /// place in it.
    pub(super) fn curve(&self, duration: Option<Duration>) -> Result<Option<RateCurve>, RunError> {
        let whole = |shape| match duration {
            Some(duration) => Ok(duration.as_secs_f64()),
            None => Err(RunError::NeedsDuration { shape }),
        };
        let mut curve = RateCurve::default();
        match self {
            Load::Closed => return Ok(None),
            Load::Open { per_second } => {
                in_range("rate", *per_second, 0.001, RATE_MAX)?;
                curve.push(f64::INFINITY, *per_second, *per_second);
            }
            Load::Ramp { from, to } => {
                in_range("ramp's first rate", *from, 0.0, RATE_MAX)?;
                in_range("ramp's last rate", *to, 0.0, RATE_MAX)?;
                in_range("ramp's higher rate", from.max(*to), 0.001, RATE_MAX)?;
                curve.push(whole("ramp")?, *from, *to);
            }
            Load::Step { from, to, steps } => {
                in_range("step's first rate", *from, 0.0, RATE_MAX)?;
                in_range("step's last rate", *to, 0.0, RATE_MAX)?;
                in_range("step's higher rate", from.max(*to), 0.001, RATE_MAX)?;
                in_range("step's number of steps", *steps, 2, STEPS_MAX)?;
                let part = whole("step")? / f64::from(*steps);
                for step in 0..*steps {
                    let share = f64::from(step) / f64::from(steps - 1);
                    let rate = from + (to - from) * share;
                    curve.push(part, rate, rate);
                }
            }
            Load::Burst {
                base,
                factor,
                at,
                seconds,
            } => {
                in_range("burst's base rate", *base, 0.001, RATE_MAX)?;
                in_range("burst's factor", *factor, 0.0, RATE_MAX / base)?;
                in_range("burst's length (seconds)", *seconds, 0.001, 86_400.0)?;
                let latest = duration.map_or(TRACE_SECONDS_MAX, |duration| {
                    (duration.as_secs_f64() - 0.001).max(0.0)
                });
                in_range("burst's begin (seconds, within the run)", *at, 0.0, latest)?;
                curve.push(*at, *base, *base);
                curve.push(*seconds, base * factor, base * factor);
                curve.push(f64::INFINITY, *base, *base);
            }
            Load::Trace(trace) => {
                if trace.end().is_none() {
                    whole("trace whose last rate is not 0")?;
                }
                let first = trace.points.first().map_or(0.0, |(second, _)| *second);
                curve.push(first, 0.0, 0.0);
                for pair in trace.points.windows(2) {
                    if let [(from, rate), (to, _)] = pair {
                        curve.push(to - from, *rate, *rate);
                    }
                }
                let last = trace.points.last().map_or(0.0, |(_, rate)| *rate);
                curve.push(f64::INFINITY, last, last);
            }
        }
        Ok(Some(curve))
    }
}

/// A part of a curve on which the rate is linear.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// Nanoseconds from the run's start to its own.
    start: f64,
    seconds: f64,
    /// Requests per second at its start, and by how much they grow in each second.
    rate: f64,
    growth: f64,
    /// Requests due before it.
    before: f64,
}

impl Piece {
    /// Requests due in its first `seconds`.
    fn due(&self, seconds: f64) -> f64 {
        // Infinitely long pieces do not grow; zero times infinity would be no number.
        if self.rate == 0.0 && self.growth == 0.0 {
            return 0.0;
        }
        self.rate * seconds + self.growth * seconds * seconds / 2.0
    }
}

/// The rate over the time of a run, in pieces that follow each other.
#[derive(Clone, Debug, Default)]
pub(super) struct RateCurve {
    pieces: Vec<Piece>,
}

impl RateCurve {
    /// Appends a piece whose rate goes from one to the other evenly. Pieces without a length are
    /// left out.
    fn push(&mut self, seconds: f64, from: f64, to: f64) {
        if seconds <= 0.0 {
            return;
        }
        let (start, before) = self.pieces.last().map_or((0.0, 0.0), |last| {
            (
                last.start + last.seconds * 1e9,
                last.before + last.due(last.seconds),
            )
        });
        let growth = if from == to {
            0.0
        } else {
            (to - from) / seconds
        };
        self.pieces.push(Piece {
            start,
            seconds,
            rate: from,
            growth,
            before,
        });
    }

    /// When request number `n` (from 0, of all threads) is meant to start, in nanoseconds since the
    /// run's start: where the number of requests due begins to be more than `n`. `u64::MAX` when
    /// that never comes.
    pub(super) fn intended(&self, n: u64) -> u64 {
        // Exact up to 2^53, which is a hundred days at the largest rate.
        let n = n as f64;
        // The same number precedes a pause and what follows; the last piece is where it grows.
        let after = self.pieces.partition_point(|piece| piece.before <= n);
        let Some(piece) = self.pieces.get(after.wrapping_sub(1)) else {
            return u64::MAX;
        };
        let rest = n - piece.before;
        if piece.growth == 0.0 {
            // Division by a rate of 0 is infinite, or no number for rest 0.
            if piece.rate == 0.0 {
                return u64::MAX;
            }
            return to_nanos(piece.start + rest * 1e9 / piece.rate);
        }
        // rest = rate x + growth x^2 / 2, solved so that a small growth loses no digits.
        let root = piece.rate * piece.rate + 2.0 * piece.growth * rest;
        if root < 0.0 || rest > piece.due(piece.seconds) {
            return u64::MAX;
        }
        let sum = piece.rate + root.sqrt();
        let wait = if rest == 0.0 { 0.0 } else { 2.0 * rest / sum };
        to_nanos(piece.start + wait * 1e9)
    }

    /// Requests per second on average over the first `seconds`; of a constant rate that rate.
    pub(super) fn mean(&self, seconds: f64) -> f64 {
        if let [
            Piece {
                rate, growth: 0.0, ..
            },
        ] = *self.pieces.as_slice()
        {
            return rate;
        }
        if seconds <= 0.0 {
            return 0.0;
        }
        let due: f64 = self
            .pieces
            .iter()
            .map(|piece| {
                let within = (seconds - piece.start / 1e9).clamp(0.0, piece.seconds);
                piece.due(within)
            })
            .sum();
        due / seconds
    }
}

/// Saturates: an infinite time is never reached.
fn to_nanos(nanos: f64) -> u64 {
    nanos as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(load: &Load, seconds: f64) -> RateCurve {
        let duration = Some(Duration::from_secs_f64(seconds));
        load.curve(duration).unwrap().unwrap()
    }

    type Rate = fn(f64) -> f64;

    fn shapes() -> Vec<(Load, Rate)> {
        vec![
            (Load::Open { per_second: 700.0 }, |_| 700.0),
            (
                Load::Ramp {
                    from: 0.0,
                    to: 900.0,
                },
                |t| 90.0 * t,
            ),
            (
                Load::Ramp {
                    from: 900.0,
                    to: 0.0,
                },
                |t| 900.0 - 90.0 * t,
            ),
            (
                Load::Ramp {
                    from: 500.0,
                    to: 500.001,
                },
                |t| 500.0 + 0.000_1 * t,
            ),
            (
                Load::Step {
                    from: 100.0,
                    to: 400.0,
                    steps: 4,
                },
                |t| 100.0 + 100.0 * (t / 2.5).floor().min(3.0),
            ),
            (
                Load::Burst {
                    base: 50.0,
                    factor: 10.0,
                    at: 3.0,
                    seconds: 2.0,
                },
                |t| {
                    if (3.0..5.0).contains(&t) { 500.0 } else { 50.0 }
                },
            ),
            (
                Load::Trace(Trace::parse("1 200\n2.5 0\n# a pause\n4,300\n\n9 0\n").unwrap()),
                |t| match t {
                    1.0..2.5 => 200.0,
                    4.0..9.0 => 300.0,
                    _ => 0.0,
                },
            ),
        ]
    }

    /// The obvious way: add up the rate in small parts of a second, and write down when the sum passes
    /// each whole number.
    fn starts_by_addition(rate: Rate, seconds: f64) -> Vec<f64> {
        let parts_per_second = 20_000.0;
        let (mut due, mut starts) = (0.0, Vec::new());
        let parts = (seconds * parts_per_second) as u64;
        for part in 0..parts {
            let time = part as f64 / parts_per_second;
            due += rate(time + 0.5 / parts_per_second) / parts_per_second;
            // Sums of many parts are not exact.
            while due > starts.len() as f64 + 1e-6 {
                starts.push(time);
            }
        }
        starts
    }

    #[test]
    fn requests_start_where_the_rate_integral_passes_their_number() {
        for (load, rate) in shapes() {
            let curve = curve(&load, 10.0);
            let expected = starts_by_addition(rate, 10.0);
            assert!(expected.len() > 400, "{load:?}");
            for (n, start) in expected.iter().enumerate() {
                let intended = curve.intended(n as u64) as f64 / 1e9;
                assert!(
                    (intended - start).abs() < 2e-4,
                    "{load:?}: request {n} at {intended} instead of {start}"
                );
            }
            let next = curve.intended(expected.len() as u64);
            assert!(next as f64 >= 9.999e9, "{load:?}: one more at {next}");
            let mean = expected.len() as f64 / 10.0;
            assert!((curve.mean(10.0) - mean).abs() < 0.11, "{load:?}");
        }
    }

    #[test]
    fn trace_starts_are_monotonic_and_end_with_it() {
        for (load, _) in shapes() {
            let curve = curve(&load, 10.0);
            let starts: Vec<u64> = (0..20_000).map(|n| curve.intended(n)).collect();
            assert!(starts.is_sorted(), "{load:?}");
        }
        let trace = Load::Trace(Trace::parse("0 10\n1 0").unwrap());
        let curve = trace.curve(None).unwrap().unwrap();
        assert_eq!(curve.intended(9), 900_000_000);
        assert_eq!(curve.intended(10), u64::MAX);
    }

    #[test]
    fn a_constant_rate_stays_exact_for_a_month() {
        let curve = curve(&Load::Open { per_second: 1e8 }, 1.0);
        let month = 30 * 86_400 * 1_000_000_000u64;
        assert_eq!(curve.intended(month / 10), month);
        assert_eq!(curve.intended(month / 10 + 1), month + 10);
    }

    #[test]
    fn an_invalid_trace_line_is_reported_by_number() {
        let error = |text: &str| Trace::parse(text).unwrap_err().to_string();
        for bad in [
            "x 1", "1", "1 2 3", "-1 2", "1 -2", "1 nan", "inf 1", "1 1e9",
        ] {
            let error = error(&format!("# rates\n0 1\n{bad}"));
            assert!(error.starts_with("line 3: expected"), "{bad}: {error}");
            assert!(error.contains(bad), "{error}");
        }
        assert_eq!(
            error("0 1\n5 1\n\n5 2"),
            "line 4: second 5 does not come after 5"
        );
        assert_eq!(error(""), "no rate above 0");
        assert_eq!(error("0 0\n5 0"), "no rate above 0");
        let long: String = (0..=TRACE_POINTS_MAX).map(|n| format!("{n} 1\n")).collect();
        assert_eq!(
            error(&long),
            "line 1000001: a trace has at most 1000000 rates"
        );
    }

    #[test]
    fn shapes_that_fit_no_run_are_refused_with_their_numbers() {
        let error = |load: Load, seconds: Option<f64>| {
            let duration = seconds.map(Duration::from_secs_f64);
            load.curve(duration).unwrap_err().to_string()
        };
        let ramp = |from, to| Load::Ramp { from, to };
        let step = |steps| Load::Step {
            from: 1.0,
            to: 2.0,
            steps,
        };
        let burst = |factor, at, seconds| Load::Burst {
            base: 10.0,
            factor,
            at,
            seconds,
        };
        assert_eq!(error(ramp(1.0, 2.0), None), "a ramp needs a duration");
        assert_eq!(error(step(2), None), "a step needs a duration");
        assert!(error(ramp(0.0, 0.0), Some(1.0)).contains("higher rate must be"));
        assert!(error(ramp(-1.0, 1.0), Some(1.0)).contains("not -1"));
        assert!(error(step(1), Some(1.0)).contains("between 2 and 10000, not 1"));
        assert!(error(burst(f64::NAN, 1.0, 1.0), Some(9.0)).contains("factor must be"));
        assert!(error(burst(1e8, 1.0, 1.0), Some(9.0)).contains("factor must be"));
        assert!(error(burst(2.0, 9.0, 1.0), Some(9.0)).contains("begin"));
        assert!(error(burst(2.0, 1.0, 0.0), Some(9.0)).contains("length"));
        let trace = Load::Trace(Trace::parse("0 1\n5 2").unwrap());
        assert!(error(trace, None).contains("last rate is not 0"));
    }
}
