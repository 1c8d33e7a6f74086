//! Several runs against each other: which differences are larger than what repeats of the same
//! thing differ by. Pure numbers; `compare_page` draws them.

use super::curve::CurvePoint;
use super::findings::{self, Findings};
use super::input::ReportError;
use super::plots::Time;
use super::text;
use super::timeline::{self, Stretch, Used};
use crate::run::{ProcessSample, Report, WatchedProcess};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The format field of the JSON: tool and version of the format.
pub const COMPARISON_FORMAT: &str = "sluice-loadtest compare v1";

/// Variants of one comparison: as many as there are distinct colours.
pub const VARIANTS_MAX: usize = 8;

/// Repeats of a variant.
pub const REPEATS_MAX: usize = 32;

/// How differences are judged, as the page says it.
pub(super) const RULE: &str = "Of each figure the median of a variant's repeats counts; its noise \
    is the range of the repeats, largest less smallest. A difference is beyond the noise when the \
    repeats of the two variants do not overlap and their medians are further apart than the larger \
    of the two ranges. Otherwise it is within the noise, as is any difference of less than 1 % of \
    the base: machines drift by that much. With a single run of either variant the noise is \
    unknown, and nothing is judged.";

/// A difference below this share of the base is always within the noise.
const DRIFT: f64 = 0.01;

/// A variant as it is named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariantFiles {
    /// Its name.
    pub name: String,
    /// Reports of its repeats.
    pub files: Vec<PathBuf>,
}

/// A figure that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Answers per second.
    AnsweredPerSecond,
    /// CPU microseconds of the watched processes per answer.
    CpuUsPerRequest,
    /// Median latency in microseconds.
    P50Us,
    /// 99th percentile in microseconds.
    P99Us,
    /// 99.9th percentile in microseconds.
    P999Us,
    /// Share of requests that failed, 0 to 1.
    ErrorShare,
}

impl Metric {
    /// All of them, in the order of tables.
    pub const ALL: [Metric; 6] = [
        Metric::AnsweredPerSecond,
        Metric::CpuUsPerRequest,
        Metric::P50Us,
        Metric::P99Us,
        Metric::P999Us,
        Metric::ErrorShare,
    ];

    /// Its name in tables.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Metric::AnsweredPerSecond => "answered/s",
            Metric::CpuUsPerRequest => "CPU per request",
            Metric::P50Us => "p50",
            Metric::P99Us => "p99",
            Metric::P999Us => "p99.9",
            Metric::ErrorShare => "failed",
        }
    }

    /// A value of it as people read it.
    pub(super) fn text(self, value: f64) -> String {
        match self {
            Metric::AnsweredPerSecond => text::short(value),
            Metric::ErrorShare => text::percent(value),
            Metric::CpuUsPerRequest | Metric::P50Us | Metric::P99Us | Metric::P999Us => {
                text::time(value)
            }
        }
    }

    fn of(self, findings: &Findings, from_intended: bool) -> Option<f64> {
        let run = &findings.run;
        let latency = match (&run.latency_from_intended_start, from_intended) {
            (Some(latency), true) => latency,
            _ => &run.latency_from_start,
        };
        match self {
            Metric::AnsweredPerSecond => Some(run.answered_per_second),
            Metric::CpuUsPerRequest => findings.cpu_us_per_request,
            Metric::P50Us => Some(latency.p50_us),
            Metric::P99Us => Some(latency.p99_us),
            Metric::P999Us => Some(latency.p99_9_us),
            Metric::ErrorShare => Some(findings.error_share),
        }
    }
}

/// Statistics of one figure over the repeats of a variant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The figure.
    pub metric: Metric,
    /// Of each repeat, in the order given; those that did not measure it are left out.
    pub values: Vec<f64>,
    /// Their median.
    pub median: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Median distance from the median.
    pub mad: f64,
}

/// Repeats of one thing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// The files of its repeats.
    pub files: Vec<PathBuf>,
    /// Of each figure that was measured.
    pub spreads: Vec<Spread>,
    #[serde(skip)]
    pub(super) plots: Vec<Plotted>,
}

/// The data of one repeat for the plots.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plotted {
    pub(super) stretches: Vec<Stretch>,
    /// All watched processes together.
    pub(super) used: Vec<Used>,
    pub(super) curve: Vec<CurvePoint>,
    pub(super) answered: u64,
}

/// Whether a difference means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// Better, by more than repeats differ.
    Better,
    /// Worse, by more than repeats differ.
    Worse,
    /// Repeats differ by as much.
    WithinNoise,
    /// A variant has a single run.
    NoiseUnknown,
}

impl Judgement {
    /// As tables say it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Judgement::Better => "better",
            Judgement::Worse => "worse",
            Judgement::WithinNoise => "within the noise",
            Judgement::NoiseUnknown => "noise unknown",
        }
    }
}

/// One figure of a variant against the base.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The variant.
    pub variant: String,
    /// The figure.
    pub metric: Metric,
    /// Its median less that of the base.
    pub difference: f64,
    /// Its median divided by that of the base; absent when that is 0.
    pub ratio: Option<f64>,
    /// The larger range of repeats, in the figure's unit; absent when a variant has a single run.
    pub noise: Option<f64>,
    /// How often repeats of equal things would lie apart by chance, at most: 2 n! m! / (n + m)!
    /// for n and m repeats.
    pub chance: Option<f64>,
    /// Whether it means something.
    pub judgement: Judgement,
}

impl Difference {
    /// The change as people read it.
    pub(super) fn text(&self) -> String {
        match (self.metric, self.ratio) {
            // A share of a share misleads; points do not.
            (Metric::ErrorShare, _) | (_, None) => {
                let sign = if self.difference < 0.0 { "-" } else { "+" };
                match self.metric {
                    Metric::ErrorShare if self.difference == 0.0 => "±0 points".to_owned(),
                    Metric::ErrorShare => {
                        let points = text::percent(self.difference.abs());
                        format!("{sign}{} points", points.trim_end_matches(" %"))
                    }
                    metric => format!("{sign}{}", metric.text(self.difference.abs())),
                }
            }
            (_, Some(ratio)) => text::change(ratio),
        }
    }
}

/// Several variants, the first of them the base.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// [`COMPARISON_FORMAT`].
    pub format: &'static str,
    /// How differences are judged.
    pub rule: &'static str,
    /// Whether latencies are from the intended start; else, because a run was a closed loop, from
    /// the real start.
    pub latency_from_intended_start: bool,
    /// Reasons not to compare these runs.
    pub doubts: Vec<String>,
    /// The variants, the base first.
    pub variants: Vec<Variant>,
    /// Each figure of each variant against the base.
    pub differences: Vec<Difference>,
    #[serde(skip)]
    pub(super) time: Time,
    #[serde(skip)]
    pub(super) note: Option<String>,
}

/// Reads and compares; files of variants with the same name are repeats of one.
///
/// # Errors
/// When there are too few or too many, or a file is no report of a run with answers.
pub fn compare(named: &[VariantFiles]) -> Result<Comparison, ReportError> {
    let grouped = group(named)?;
    let mut runs: Vec<Vec<Findings>> = Vec::with_capacity(grouped.len());
    for variant in &grouped {
        let files = variant.files.iter();
        let read = files.map(|file| findings::findings(file, None, None));
        runs.push(read.collect::<Result<_, _>>()?);
    }
    let all = || runs.iter().flatten().map(|findings| &findings.run);
    let from_intended = all().all(|run| run.latency_from_intended_start.is_some());
    let variants: Vec<Variant> = grouped
        .iter()
        .zip(&runs)
        .map(|(files, runs)| variant(files, runs, from_intended))
        .collect();
    let differences = match variants.split_first() {
        Some((base, others)) => others
            .iter()
            .flat_map(|other| differences(base, other))
            .collect(),
        None => Vec::new(),
    };
    Ok(Comparison {
        format: COMPARISON_FORMAT,
        rule: RULE,
        latency_from_intended_start: from_intended,
        doubts: doubts(&grouped, &runs),
        time: Time::of(all()),
        note: Time::note(all()),
        variants,
        differences,
    })
}

fn in_range(what: String, actual: usize, min: usize, max: usize) -> Result<(), ReportError> {
    if (min..=max).contains(&actual) {
        return Ok(());
    }
    Err(ReportError::Range {
        what,
        min,
        max,
        actual,
    })
}

fn group(named: &[VariantFiles]) -> Result<Vec<VariantFiles>, ReportError> {
    let mut grouped: Vec<VariantFiles> = Vec::new();
    for one in named {
        match grouped.iter_mut().find(|variant| variant.name == one.name) {
            Some(variant) => variant.files.extend(one.files.iter().cloned()),
            None => grouped.push(one.clone()),
        }
    }
    in_range(
        "variants to compare".to_owned(),
        grouped.len(),
        2,
        VARIANTS_MAX,
    )?;
    for variant in &grouped {
        let what = format!("repeats of {}", variant.name);
        in_range(what, variant.files.len(), 1, REPEATS_MAX)?;
    }
    Ok(grouped)
}

fn variant(files: &VariantFiles, runs: &[Findings], from_intended: bool) -> Variant {
    let spreads = Metric::ALL.into_iter().filter_map(|metric| {
        let values = runs.iter().filter_map(|run| metric.of(run, from_intended));
        spread(metric, values.collect())
    });
    Variant {
        name: files.name.clone(),
        files: files.files.clone(),
        spreads: spreads.collect(),
        plots: runs.iter().map(|run| plotted(run, from_intended)).collect(),
    }
}

fn plotted(findings: &Findings, from_intended: bool) -> Plotted {
    let run = &findings.run;
    Plotted {
        stretches: timeline::stretches(&run.series),
        used: timeline::used(&together(&run.watched)),
        curve: match from_intended {
            true => findings.curve_from_intended_start.clone(),
            false => findings.curve_from_start.clone(),
        },
        answered: run.answered,
    }
}

/// Usage of all processes in each second.
fn together(processes: &[WatchedProcess]) -> Vec<ProcessSample> {
    let mut seconds: BTreeMap<u64, ProcessSample> = BTreeMap::new();
    for sample in processes.iter().flat_map(|process| &process.samples) {
        let sum = seconds.entry(sample.at.round() as u64).or_default();
        sum.at = sum.at.max(sample.at);
        sum.cpu_cores += sample.cpu_cores;
        sum.rss_bytes = sum.rss_bytes.saturating_add(sample.rss_bytes);
    }
    seconds.into_values().collect()
}

fn median(sorted: &[f64]) -> f64 {
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(at(middle.saturating_sub(1)), at(middle))
    } else {
        at(middle)
    }
}

fn spread(metric: Metric, values: Vec<f64>) -> Option<Spread> {
    let mut sorted = values.clone();
    sorted.sort_by(f64::total_cmp);
    let (min, max) = (*sorted.first()?, *sorted.last()?);
    let median_of = median(&sorted);
    let mut distances: Vec<f64> = sorted
        .iter()
        .map(|value| (value - median_of).abs())
        .collect();
    distances.sort_by(f64::total_cmp);
    Some(Spread {
        metric,
        values,
        median: median_of,
        min,
        max,
        mad: median(&distances),
    })
}

fn differences(base: &Variant, other: &Variant) -> Vec<Difference> {
    base.spreads
        .iter()
        .filter_map(|base| Some((base, other.spread(base.metric)?)))
        .map(|(base, spread)| difference(&other.name, base, spread))
        .collect()
}

fn difference(variant: &str, base: &Spread, other: &Spread) -> Difference {
    let difference = other.median - base.median;
    let repeated = base.values.len() > 1 && other.values.len() > 1;
    let noise = repeated.then(|| (base.max - base.min).max(other.max - other.min));
    let apart = other.min > base.max || other.max < base.min;
    let more_is_better = base.metric == Metric::AnsweredPerSecond;
    Difference {
        variant: variant.to_owned(),
        metric: base.metric,
        difference,
        ratio: (base.median != 0.0).then(|| other.median / base.median),
        noise,
        chance: repeated.then(|| chance(base.values.len(), other.values.len())),
        judgement: match noise {
            None => Judgement::NoiseUnknown,
            Some(noise) if apart && difference.abs() > noise.max(DRIFT * base.median.abs()) => {
                match (difference > 0.0) == more_is_better {
                    true => Judgement::Better,
                    false => Judgement::Worse,
                }
            }
            Some(_) => Judgement::WithinNoise,
        },
    }
}

/// Of all ways to deal out n + m values, those in which one side has all the small ones.
fn chance(n: usize, m: usize) -> f64 {
    let ways: f64 = (1..=n).map(|k| (m + k) as f64 / k as f64).product();
    2.0 / ways
}

/// Differences between these runs that make their figures hard to compare.
fn doubts(files: &[VariantFiles], runs: &[Vec<Findings>]) -> Vec<String> {
    let mut doubts = Vec::new();
    for (variant, runs) in files.iter().zip(runs) {
        for (file, findings) in variant.files.iter().zip(runs) {
            let mut say = |what: &str| {
                doubts.push(format!("{}, {}: {what}", variant.name, file.display()));
            };
            if findings.verdict.generator_was_bottleneck {
                say("the generator was the bottleneck; the figures show its limits");
            }
            if findings.verdict.generator_was_starved {
                say("the generator had to wait for a CPU; latencies contain that wait");
            }
            if findings.verdict.interrupted {
                say("the run ended early");
            }
        }
    }
    let all = || runs.iter().flatten().map(|findings| &findings.run);
    let Some(first) = all().next() else {
        return doubts;
    };
    let members = |run: &Report| {
        let load = serde_json::to_value(&run.load).unwrap_or_default();
        load.as_object().cloned().unwrap_or_default()
    };
    let load = members(first);
    for (name, value) in &load {
        if all().any(|run| members(run).get(name) != Some(value)) {
            doubts.push(format!(
                "the runs were asked for different loads: {} differs",
                name.replace('_', " ")
            ));
        }
    }
    if all().any(|run| run.machine != first.machine) {
        doubts.push("the runs were made on different machines".to_owned());
    }
    doubts
}

/// A median, with the range when there is one.
fn spread_text(spread: &Spread) -> String {
    let text = |value| spread.metric.text(value);
    match spread.values.len() {
        1 => text(spread.median),
        _ => format!(
            "{} ({} to {})",
            text(spread.median),
            text(spread.min),
            text(spread.max)
        ),
    }
}

impl Comparison {
    /// The figures that any variant measured, in the order of tables.
    pub(super) fn metrics(&self) -> impl Iterator<Item = Metric> {
        let measured = |metric: &Metric| {
            let mut variants = self.variants.iter();
            variants.any(|variant| variant.spread(*metric).is_some())
        };
        Metric::ALL.into_iter().filter(measured)
    }

    /// A variant's figure against the base; absent for the base, and where either lacks it.
    pub(super) fn difference(&self, variant: &Variant, metric: Metric) -> Option<&Difference> {
        self.differences
            .iter()
            .find(|difference| difference.metric == metric && difference.variant == variant.name)
    }
}

impl Variant {
    /// Statistics of a figure over its repeats; absent when none measured it.
    #[must_use]
    pub fn spread(&self, metric: Metric) -> Option<&Spread> {
        self.spreads.iter().find(|spread| spread.metric == metric)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![
            [
                "figure",
                "variant",
                "median (range)",
                "against the base",
                "",
            ]
            .map(str::to_owned),
        ];
        for metric in self.metrics() {
            for variant in &self.variants {
                let Some(spread) = variant.spread(metric) else {
                    continue;
                };
                let difference = self.difference(variant, metric);
                lines.push([
                    metric.label().to_owned(),
                    format!("{} x{}", variant.name, spread.values.len()),
                    spread_text(spread),
                    difference.map_or_else(String::new, Difference::text),
                    difference
                        .map(|difference| difference.judgement.label().to_owned())
                        .unwrap_or_default(),
                ]);
            }
        }
        let mut widths = [0; 5];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for line in &lines {
            let cells = line.iter().zip(widths);
            let padded: Vec<_> = cells
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            writeln!(f, "{}", padded.join("  ").trim_end())?;
        }
        let latency = match self.latency_from_intended_start {
            true => "intended",
            false => "real",
        };
        write!(f, "latencies from the {latency} start")?;
        for doubt in &self.doubts {
            write!(f, "\ndoubt: {doubt}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(metric: Metric, base: &[f64], other: &[f64]) -> Judgement {
        let spread = |values: &[f64]| spread(metric, values.to_vec()).unwrap();
        difference("b", &spread(base), &spread(other)).judgement
    }

    #[test]
    fn a_difference_over_the_range_of_repeats_is_significant() {
        let base = [100.0, 102.0, 104.0];
        let more = [110.0, 111.0, 113.0];
        assert_eq!(
            judged(Metric::AnsweredPerSecond, &base, &more),
            Judgement::Better
        );
        assert_eq!(judged(Metric::P99Us, &base, &more), Judgement::Worse);
        assert_eq!(judged(Metric::P99Us, &more, &base), Judgement::Better);
    }

    #[test]
    fn a_difference_within_the_range_of_repeats_is_noise() {
        assert_eq!(
            judged(
                Metric::P50Us,
                &[100.0, 110.0, 120.0],
                &[105.0, 118.0, 125.0]
            ),
            Judgement::WithinNoise
        );
        // Apart, but by less than one variant's repeats differ among themselves.
        assert_eq!(
            judged(
                Metric::P50Us,
                &[100.0, 118.0, 120.0],
                &[121.0, 122.0, 123.0]
            ),
            Judgement::WithinNoise
        );
        // Far apart by the medians, and yet overlapping.
        assert_eq!(
            judged(
                Metric::P50Us,
                &[100.0, 101.0, 130.0],
                &[129.0, 140.0, 141.0]
            ),
            Judgement::WithinNoise
        );
        // As sure as can be, and too little to mean anything.
        assert_eq!(
            judged(
                Metric::AnsweredPerSecond,
                &[1_000.0, 1_000.1],
                &[995.0, 995.1]
            ),
            Judgement::WithinNoise
        );
        let none = [0.0, 0.0];
        assert_eq!(
            judged(Metric::ErrorShare, &none, &none),
            Judgement::WithinNoise
        );
    }

    #[test]
    fn a_single_run_has_an_unknown_noise() {
        assert_eq!(
            judged(Metric::P50Us, &[1.0], &[100.0, 101.0]),
            Judgement::NoiseUnknown
        );
        assert_eq!(
            judged(Metric::P50Us, &[1.0, 2.0], &[100.0]),
            Judgement::NoiseUnknown
        );
    }

    #[test]
    fn median_and_mad_are_those_of_the_textbook() {
        let odd = spread(Metric::P50Us, vec![9.0, 1.0, 2.0]).unwrap();
        assert_eq!(
            (odd.median, odd.mad, odd.min, odd.max),
            (2.0, 1.0, 1.0, 9.0)
        );
        let even = spread(Metric::P50Us, vec![4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!((even.median, even.mad), (2.5, 1.0));
        assert_eq!(spread(Metric::P50Us, Vec::new()), None);
    }

    #[test]
    fn the_chance_is_that_of_all_ways_to_deal() {
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(chance(1, 1), 1.0));
        assert!(near(chance(2, 2), 1.0 / 3.0));
        assert!(near(chance(3, 3), 0.1));
        assert!(near(chance(5, 5), 2.0 / 252.0));
        assert!(chance(REPEATS_MAX, REPEATS_MAX) > 0.0);
    }

    #[test]
    fn files_of_one_name_are_bounded_repeats() {
        let named = |name: &str, files: usize| VariantFiles {
            name: name.to_owned(),
            files: vec![PathBuf::from("x"); files],
        };
        let grouped = group(&[named("a", 1), named("b", 2), named("a", 3)]).unwrap();
        let sizes: Vec<_> = grouped.iter().map(|variant| variant.files.len()).collect();
        assert_eq!(sizes, [4, 2]);
        for (named, part) in [
            (vec![named("a", 5)], "between 2 and 8, not 1"),
            ((0..9).map(|n| named(&n.to_string(), 1)).collect(), "not 9"),
            (
                vec![named("a", 33), named("b", 1)],
                "repeats of a: between 1 and 32, not 33",
            ),
        ] {
            let error = group(&named).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
