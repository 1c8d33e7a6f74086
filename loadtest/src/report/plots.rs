//! Which plots there are, and on which axes: of one run, or of several laid over each other.

use super::chart::{Axis, Chart, Color, Series, Shape};
use super::curve::CurvePoint;
use super::text;
use super::timeline::{self, Latencies, Stretch, Used};
use crate::run::Report;

/// Height of a plot on the page, in pixels.
const HEIGHT: u32 = 280;
const HEIGHT_CURVE: u32 = 340;
const HEIGHT_SMALL: u32 = 200;

/// Lowest latency that a plot distinguishes, in microseconds.
const LATENCY_US_MIN: f64 = 1.0;

/// How a line summarises the values behind each point.
type Value<T> = fn(&T) -> f64;
type ValueIfAny<T> = fn(&T) -> Option<f64>;

/// The time axis that all plots of a page share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Time {
    end: f64,
    unit: f64,
    unit_name: &'static str,
}

impl Time {
    /// Long enough for all of these.
    pub(super) fn of<'a>(runs: impl IntoIterator<Item = &'a Report>) -> Time {
        let ends = runs.into_iter().flat_map(|run| {
            let seconds = run.series.last().map(|second| second.at);
            let samples = run
                .watched
                .iter()
                .filter_map(|process| process.samples.last());
            seconds.into_iter().chain(samples.map(|sample| sample.at))
        });
        let end = ends.fold(0.0, f64::max);
        let (unit, unit_name) = match end {
            end if end <= 600.0 => (1.0, "seconds"),
            end if end <= 21_600.0 => (60.0, "minutes"),
            _ => (3_600.0, "hours"),
        };
        Time {
            end,
            unit,
            unit_name,
        }
    }

    fn axis(&self) -> Axis {
        let label = format!("{} since the start", self.unit_name);
        Axis::to_end(&label, self.end / self.unit, text::tick)
    }

    fn points<T>(
        &self,
        all: &[T],
        at: impl Fn(&T) -> f64,
        value: impl Fn(&T) -> Option<f64>,
    ) -> Vec<(f64, Option<f64>)> {
        all.iter()
            .map(|one| (at(one) / self.unit, value(one)))
            .collect()
    }

    /// A line of a value over the stretches of a run.
    pub(super) fn line(
        &self,
        name: Option<String>,
        color: Color,
        width: u32,
        stretches: &[Stretch],
        value: impl Fn(&Stretch) -> Option<f64>,
    ) -> Series {
        Series {
            name,
            color,
            shape: Shape::Line(width),
            points: self.points(stretches, |stretch| stretch.middle, value),
        }
    }

    /// Steps of a value over the stretches of a run, each as wide as its stretch.
    fn steps(
        &self,
        stretches: &[Stretch],
        value: impl Fn(&Stretch) -> Option<f64>,
    ) -> Vec<(f64, Option<f64>)> {
        let ends = |stretch: &Stretch| {
            let half = stretch.seconds / 2.0;
            [stretch.middle - half, stretch.middle + half]
        };
        stretches
            .iter()
            .flat_map(|stretch| ends(stretch).map(|at| (at / self.unit, value(stretch))))
            .collect()
    }

    /// A line of one value per sample of a process.
    pub(super) fn line_used(
        &self,
        name: Option<String>,
        color: Color,
        width: u32,
        used: &[Used],
        value: impl Fn(&Used) -> f64,
    ) -> Series {
        Series {
            name,
            color,
            shape: Shape::Line(width),
            points: self.points(used, |used| used.middle, |used| Some(value(used))),
        }
    }

    /// The time that one point covers, when it is more than a second.
    pub(super) fn note<'a>(runs: impl IntoIterator<Item = &'a Report>) -> Option<String> {
        let seconds = runs.into_iter().map(|run| run.series.len()).max()?;
        match timeline::seconds_per_point(seconds) {
            1 => None,
            seconds => Some(format!(
                "Each point stands for up to {seconds} seconds: rates and CPU are means over them, \
                 latencies and memory the largest."
            )),
        }
    }

    /// A plot over time from 0 up.
    pub(super) fn chart(
        &self,
        title: &'static str,
        label: &str,
        format: fn(f64) -> String,
        series: Vec<Series>,
    ) -> Chart {
        Chart {
            title,
            note: String::new(),
            x: self.axis(),
            y: Axis::from_zero(label, largest(&series), format),
            series,
            height: HEIGHT,
        }
    }

    /// A plot of latencies over time.
    pub(super) fn latencies(&self, title: &'static str, label: &str, series: Vec<Series>) -> Chart {
        Chart {
            title,
            note: String::new(),
            x: self.axis(),
            y: latency_axis(label, &series),
            series,
            height: HEIGHT,
        }
    }
}

fn values(series: &[Series]) -> impl Iterator<Item = f64> {
    let points = series.iter().flat_map(|series| &series.points);
    points.filter_map(|(_, y)| *y)
}

fn largest(series: &[Series]) -> f64 {
    values(series).fold(0.0, f64::max)
}

fn latency_axis(label: &str, series: &[Series]) -> Axis {
    let min = values(series).fold(f64::INFINITY, f64::min);
    let max = largest(series).max(LATENCY_US_MIN);
    Axis::log(label, min.clamp(LATENCY_US_MIN, max), max, text::tick_time)
}

/// The percentile curve: each further nine has the same width on the x axis.
pub(super) fn percentile_chart(note: String, series: Vec<Series>) -> Chart {
    let points = series.iter().flat_map(|series| &series.points);
    let end = points.map(|(x, _)| *x).fold(10.0, f64::max);
    let nines = (1..).map(|nines| 10f64.powi(nines));
    let ticks = std::iter::once(2.0).chain(nines.take_while(|tick| *tick <= end));
    let x = Axis {
        label: "percentile".to_owned(),
        from: 1.0,
        to: end,
        ticks: ticks.collect(),
        is_log: true,
        format: text::tick_percentile,
    };
    Chart {
        title: "Latency by percentile",
        note,
        y: latency_axis("latency (log scale)", &series),
        x,
        series,
        height: HEIGHT_CURVE,
    }
}

/// A curve as a line, its maximum where one request in all of them is.
pub(super) fn curve_line(
    name: Option<String>,
    color: Color,
    width: u32,
    curve: &[CurvePoint],
    count: u64,
) -> Series {
    let end = (count as f64).max(1.0);
    Series {
        name,
        color,
        shape: Shape::Line(width),
        points: curve
            .iter()
            .map(|point| {
                let left = 1.0 - point.quantile;
                let x = if left > 0.0 {
                    (1.0 / left).min(end)
                } else {
                    end
                };
                (x, Some(point.us))
            })
            .collect(),
    }
}

/// Requests per second: meant, and answered.
pub(super) fn throughput(time: &Time, stretches: &[Stretch]) -> Chart {
    let mut series = Vec::new();
    if stretches.iter().any(|stretch| stretch.intended.is_some()) {
        series.push(Series {
            name: Some("intended by the schedule".to_owned()),
            color: Color::GREY,
            shape: Shape::Line(7),
            points: time.steps(stretches, |s| s.intended),
        });
    }
    let name = Some("answered".to_owned());
    series.push(time.line(name, Color::BLUE, 2, stretches, |s| Some(s.answered)));
    time.chart("Requests per second", "requests/s", text::tick, series)
}

/// Requests that ended in each second, by how.
pub(super) fn statuses(time: &Time, stretches: &[Stretch]) -> Chart {
    let classes: [(&str, Color, Value<Stretch>); 5] = [
        ("ok", Color::GREEN, |s| s.ok),
        ("other 2xx, 1xx, 3xx", Color::SKY, |s| s.other),
        ("4xx", Color::ORANGE, |s| s.client_errors),
        ("5xx", Color::RED, |s| s.server_errors),
        ("not answered", Color::BLACK, |s| s.unanswered),
    ];
    let series = classes
        .into_iter()
        .filter(|(_, _, value)| stretches.iter().any(|stretch| value(stretch) > 0.0))
        .map(|(name, color, value)| Series {
            name: Some(name.to_owned()),
            color,
            shape: Shape::Area,
            points: time.steps(stretches, |s| Some(value(s))),
        })
        .collect();
    let total = |s: &Stretch| s.answered + s.unanswered;
    let mut chart = time.chart("Answers by status class", "requests/s", text::tick, series);
    chart.y = Axis::from_zero(
        "requests/s",
        stretches.iter().map(total).fold(0.0, f64::max),
        text::tick,
    );
    chart
}

/// Percentiles of each second.
pub(super) fn latencies(time: &Time, stretches: &[Stretch]) -> Chart {
    let lines: [(&str, Color, ValueIfAny<Latencies>); 6] = [
        ("max", Color::GREY, |l| Some(l.max_us)),
        ("p99.9", Color::RED, |l| Some(l.p99_9_us)),
        ("p99", Color::ORANGE, |l| Some(l.p99_us)),
        ("p99 from the real start", Color::PURPLE, |l| {
            l.p99_from_start_us
        }),
        ("p90", Color::GREEN, |l| Some(l.p90_us)),
        ("p50", Color::BLUE, |l| Some(l.p50_us)),
    ];
    let series = lines
        .into_iter()
        .map(|(name, color, value)| {
            time.line(Some(name.to_owned()), color, 2, stretches, |stretch| {
                stretch.latency.as_ref().and_then(value)
            })
        })
        .filter(|series| series.points.iter().any(|(_, y)| y.is_some()));
    time.latencies("Latency over time", "latency (log scale)", series.collect())
}

/// How late the generator itself was.
pub(super) fn slip(time: &Time, stretches: &[Stretch]) -> Option<Chart> {
    stretches
        .iter()
        .find(|stretch| stretch.slip_p99_us.is_some())?;
    let line = time.line(None, Color::PURPLE, 2, stretches, |stretch| {
        stretch.slip_p99_us
    });
    Some(Chart {
        height: HEIGHT_SMALL,
        ..time.latencies(
            "Schedule slip of the generator, p99",
            "slip (log scale)",
            vec![line],
        )
    })
}

/// Requests that wait for their answer.
pub(super) fn in_flight(time: &Time, stretches: &[Stretch]) -> Chart {
    let line = time.line(None, Color::BLUE, 2, stretches, |stretch| {
        Some(stretch.in_flight)
    });
    Chart {
        height: HEIGHT_SMALL,
        ..time.chart("Requests in flight", "requests", text::tick, vec![line])
    }
}

/// CPU and memory of watched processes, of as many as there are colours for.
pub(super) fn processes(time: &Time, run: &Report) -> Option<[Chart; 2]> {
    let lines = || run.watched.iter().zip(Color::ALL);
    let used: Vec<_> = lines()
        .map(|(process, _)| timeline::used(&process.samples))
        .collect();
    if used.iter().all(Vec::is_empty) {
        return None;
    }
    let series = |value: Value<Used>| {
        lines()
            .zip(&used)
            .map(|((process, color), used)| {
                let name = format!("{} ({})", process.name, process.pid);
                time.line_used(Some(name), color, 2, used, value)
            })
            .collect()
    };
    Some([
        time.chart(
            "CPU of watched processes",
            "cores",
            text::tick,
            series(|u| u.cpu_cores),
        ),
        time.chart(
            "Memory of watched processes",
            "resident (MiB)",
            text::tick,
            series(|u| u.rss_bytes / f64::from(1 << 20)),
        ),
    ])
}
