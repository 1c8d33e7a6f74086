//! Seconds and samples as points of a plot: rates in place of counts, and no more points than a
//! plot has room for.

use crate::run::{ProcessSample, Second};

/// Points that a line has at most; more would be less than two pixels wide.
pub(super) const POINTS_MAX: usize = 600;

/// A last piece shorter than this, in seconds, is part of the one before: a rate over so short a
/// time means nothing.
const LAST_PIECE_MIN: f64 = 0.5;

/// A stretch of a run: rates are means over it, everything else is the largest in it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Stretch {
    /// Its middle, in seconds since the start.
    pub(super) middle: f64,
    /// Its length in seconds.
    pub(super) seconds: f64,
    /// Per second, from here on.
    pub(super) intended: Option<f64>,
    pub(super) answered: f64,
    pub(super) ok: f64,
    pub(super) other: f64,
    pub(super) client_errors: f64,
    pub(super) server_errors: f64,
    pub(super) unanswered: f64,
    /// Largest, in microseconds; absent where nothing was answered.
    pub(super) latency: Option<Latencies>,
    pub(super) slip_p99_us: Option<f64>,
    pub(super) in_flight: f64,
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Latencies {
    pub(super) p50_us: f64,
    pub(super) p90_us: f64,
    pub(super) p99_us: f64,
    pub(super) p99_9_us: f64,
    pub(super) max_us: f64,
    /// From the real start, where that is another one.
    pub(super) p99_from_start_us: Option<f64>,
}

/// How many seconds one point stands for.
pub(super) fn seconds_per_point(seconds: usize) -> usize {
    seconds.div_ceil(POINTS_MAX).max(1)
}

/// Pieces of equal length, where the last may be longer by less than half a second.
fn pieces<T>(all: &[T], at: impl Fn(&T) -> f64) -> Vec<&[T]> {
    let size = seconds_per_point(all.len());
    let mut pieces: Vec<&[T]> = all.chunks(size).collect();
    if let [.., before, last] = pieces.as_slice()
        && let (Some(start), Some(end)) = (before.last(), last.last())
        && at(end) - at(start) < LAST_PIECE_MIN
    {
        let joined = &all[all.len() - before.len() - last.len()..];
        pieces.truncate(pieces.len() - 2);
        pieces.push(joined);
    }
    pieces
}

/// The run in at most [`POINTS_MAX`] stretches.
pub(super) fn stretches(series: &[Second]) -> Vec<Stretch> {
    let mut start = 0.0;
    let mut stretches = Vec::new();
    for piece in pieces(series, |second| second.at) {
        let end = piece.last().map_or(start, |second| second.at);
        stretches.push(stretch(piece, start, end));
        start = end;
    }
    stretches
}

/// Answers of a second; as a sum that has no end.
fn answered(second: &Second) -> f64 {
    let Second {
        ok,
        other,
        client_errors,
        server_errors,
        ..
    } = second;
    [ok, other, client_errors, server_errors]
        .iter()
        .map(|count| **count as f64)
        .sum()
}

fn stretch(piece: &[Second], start: f64, end: f64) -> Stretch {
    let seconds = end - start;
    let rate = |count: fn(&Second) -> f64| piece.iter().map(count).sum::<f64>() / seconds;
    let with_answers = || piece.iter().filter(|second| answered(second) > 0.0);
    let largest = |value: fn(&Second) -> f64| with_answers().map(value).fold(0.0, f64::max);
    Stretch {
        middle: start + seconds / 2.0,
        seconds,
        intended: piece
            .iter()
            .all(|second| second.intended.is_some())
            .then(|| rate(|second| second.intended.unwrap_or(0) as f64)),
        answered: rate(answered),
        ok: rate(|second| second.ok as f64),
        other: rate(|second| second.other as f64),
        client_errors: rate(|second| second.client_errors as f64),
        server_errors: rate(|second| second.server_errors as f64),
        unanswered: rate(|second| second.unanswered as f64),
        latency: with_answers().next().map(|_| Latencies {
            p50_us: largest(|second| second.p50_us),
            p90_us: largest(|second| second.p90_us),
            p99_us: largest(|second| second.p99_us),
            p99_9_us: largest(|second| second.p99_9_us),
            max_us: largest(|second| second.max_us),
            p99_from_start_us: with_answers()
                .filter_map(|second| second.p99_from_start_us)
                .reduce(f64::max),
        }),
        slip_p99_us: piece
            .iter()
            .filter_map(|second| second.slip_p99_us)
            .reduce(f64::max),
        in_flight: piece
            .iter()
            .map(|second| second.in_flight as f64)
            .fold(0.0, f64::max),
    }
}

/// A point of what a process used: cores as a mean, memory as the largest.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Used {
    /// The middle of its stretch, in seconds since the start.
    pub(super) middle: f64,
    pub(super) cpu_cores: f64,
    pub(super) rss_bytes: f64,
}

/// For how long a sample speaks: since the one before; the first for a second at most.
pub(super) fn spans(samples: &[ProcessSample]) -> impl Iterator<Item = (f64, &ProcessSample)> {
    let mut last = samples
        .first()
        .map_or(0.0, |first| (first.at - 1.0).max(0.0));
    samples.iter().map(move |sample| {
        let span = sample.at - last;
        last = sample.at;
        (span, sample)
    })
}

/// CPU seconds of all samples.
pub(super) fn cpu_seconds(samples: &[ProcessSample]) -> f64 {
    spans(samples)
        .map(|(span, sample)| span * sample.cpu_cores)
        .sum()
}

/// CPU and memory of a process in at most [`POINTS_MAX`] points.
pub(super) fn used(samples: &[ProcessSample]) -> Vec<Used> {
    let with_span: Vec<_> = spans(samples).collect();
    pieces(&with_span, |(_, sample)| sample.at)
        .into_iter()
        .map(|piece| {
            let seconds: f64 = piece.iter().map(|(span, _)| span).sum();
            let end = piece.last().map_or(0.0, |(_, sample)| sample.at);
            let cpu: f64 = piece
                .iter()
                .map(|(span, sample)| span * sample.cpu_cores)
                .sum();
            Used {
                middle: end - seconds / 2.0,
                cpu_cores: cpu / seconds,
                rss_bytes: piece
                    .iter()
                    .map(|(_, sample)| sample.rss_bytes as f64)
                    .fold(0.0, f64::max),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(at: f64, ok: u64, p99_us: f64) -> Second {
        Second {
            at,
            ok,
            p99_us,
            intended: Some(ok),
            ..Second::default()
        }
    }

    #[test]
    fn a_short_run_has_a_point_per_second() {
        let points = stretches(&[second(1.0, 10, 5.0), second(2.0, 30, 7.0)]);
        assert_eq!(points.len(), 2);
        assert_eq!((points[1].middle, points[1].ok), (1.5, 30.0));
        assert_eq!(points[1].latency.unwrap().p99_us, 7.0);
    }

    #[test]
    fn a_long_run_keeps_its_sum_and_its_largest_latency() {
        let series: Vec<_> = (1..=5_000)
            .map(|at| second(f64::from(at), 100, if at == 4_321 { 9e6 } else { 1e3 }))
            .collect();
        let points = stretches(&series);
        assert!(points.len() <= POINTS_MAX);
        let sum: f64 = points.iter().map(|point| point.ok * point.seconds).sum();
        assert!((sum - 500_000.0).abs() < 1e-3);
        let largest = points.iter().filter_map(|point| point.latency);
        assert_eq!(largest.map(|l| l.p99_us).fold(0.0, f64::max), 9e6);
    }

    #[test]
    fn a_partial_last_second_has_no_rate() {
        let points = stretches(&[
            second(1.0, 100, 1.0),
            second(2.0, 100, 1.0),
            second(2.01, 9, 1.0),
        ]);
        assert_eq!(points.len(), 2);
        assert!((points[1].ok - 109.0 / 1.01).abs() < 1e-9);
        let alone = stretches(&[second(0.25, 25, 1.0)]);
        assert_eq!(alone[0].ok, 100.0);
    }

    #[test]
    fn a_second_without_answers_has_no_latency() {
        let silent = Second {
            at: 1.0,
            unanswered: 3,
            ..Second::default()
        };
        let points = stretches(&[silent]);
        assert_eq!(points[0].latency, None);
        assert_eq!(points[0].intended, None);
        assert_eq!(points[0].unanswered, 3.0);
    }

    #[test]
    fn cpu_time_is_the_area_under_the_samples() {
        let sample = |at, cpu_cores| ProcessSample {
            at,
            cpu_cores,
            rss_bytes: 1,
        };
        let samples = [sample(1.0, 0.5), sample(2.0, 1.0), sample(2.5, 2.0)];
        assert!((cpu_seconds(&samples) - 2.5).abs() < 1e-9);
        // Watched from the tenth second on.
        assert!((cpu_seconds(&[sample(11.0, 1.0)]) - 1.0).abs() < 1e-9);
        assert_eq!(cpu_seconds(&[]), 0.0);
        assert_eq!(used(&samples).len(), 3);
    }
}
