//! The page of several runs.

use super::chart::{self, Chart, Color, Series};
use super::compare::{Comparison, Judgement, Metric, Spread, Variant};
use super::html::{Mood, figure, finding, number, sheet};
use super::input::ReportError;
use super::plots;
use super::text;
use maud::{Markup, PreEscaped, html};

/// The page: one self-contained HTML file.
///
/// # Errors
/// When a plot cannot be drawn.
pub fn compare_page(comparison: &Comparison) -> Result<String, ReportError> {
    let (base, others) = match comparison.variants.split_first() {
        Some((base, others)) => (base.name.as_str(), others),
        None => ("nothing", &[][..]),
    };
    let others: Vec<_> = others.iter().map(|v| v.name.as_str()).collect();
    let title = format!("{} against {base}", others.join(", "));
    let body = html! {
        header {
            h1 { (title) }
            p { (of_what(comparison)) }
            ul.findings {
                @for variant in comparison.variants.iter().skip(1) {
                    (headline(comparison, variant))
                }
                @for doubt in &comparison.doubts { (finding(Mood::Doubtful, doubt)) }
            }
        }
        h2 { "Differences" }
        (table(comparison)?)
        p.quiet { (comparison.rule) (by_chance(comparison)) }
        h2 { "Over each other" }
        @if let Some(note) = &comparison.note { p.quiet { (note) } }
        @for chart in &charts(comparison) { (figure(chart)?) }
        h2 { "Runs" }
        (runs(comparison))
        footer.quiet {
            "sluice-loadtest " (env!("CARGO_PKG_VERSION"))
            ". The exact numbers are in the page's data elements, and in the JSON of the comparison."
        }
    };
    Ok(sheet(&title, &body).into_string())
}

fn of_what(comparison: &Comparison) -> String {
    let runs: usize = comparison.variants.iter().map(|v| v.files.len()).sum();
    let start = match comparison.latency_from_intended_start {
        true => "intended start",
        false => "real start, because a run was a closed loop",
    };
    let base = comparison.variants.first().map_or("", |v| v.name.as_str());
    format!(
        "{runs} runs of {} variants; the base is {base}. Latencies are from the {start}.",
        comparison.variants.len()
    )
}

/// The differences of a variant that mean something, or that none does.
fn headline(comparison: &Comparison, variant: &Variant) -> Markup {
    let of_variant = || {
        let all = comparison.differences.iter();
        all.filter(|difference| difference.variant == variant.name)
    };
    let list = |judgement: Judgement| {
        let such = of_variant().filter(|difference| difference.judgement == judgement);
        let texts: Vec<_> = such
            .map(|difference| format!("{} {}", difference.metric.label(), difference.text()))
            .collect();
        texts.join(", ")
    };
    let (better, worse) = (list(Judgement::Better), list(Judgement::Worse));
    let unknown = of_variant().any(|d| d.judgement == Judgement::NoiseUnknown);
    html! {
        @if !better.is_empty() {
            (finding(Mood::Good, &format!("{} is better, beyond the noise: {better}.", variant.name)))
        }
        @if !worse.is_empty() {
            (finding(Mood::Bad, &format!("{} is worse, beyond the noise: {worse}.", variant.name)))
        }
        @if unknown {
            (finding(Mood::Doubtful, &format!(
                "{}: noise unknown, since a variant has a single run. Repeat both to judge.", variant.name
            )))
        } @else if better.is_empty() && worse.is_empty() {
            (finding(Mood::Doubtful, &format!("{}: no difference beyond the noise.", variant.name)))
        }
    }
}

fn by_chance(comparison: &Comparison) -> String {
    let chances = comparison.differences.iter().filter_map(|d| d.chance);
    match chances.reduce(f64::max) {
        None => String::new(),
        Some(chance) => format!(
            " Repeats of equal things would lie apart by chance in up to {} of such comparisons, for each \
             figure; more repeats make that less.",
            text::percent(chance)
        ),
    }
}

fn swatch(index: usize) -> Markup {
    let color = Color::ALL.get(index).map(|color| color.css());
    html! { span.swatch style=(format!("background:{}", color.unwrap_or_default())) {} }
}

fn table(comparison: &Comparison) -> Result<Markup, ReportError> {
    Ok(html! {
        table.grid {
            thead {
                tr {
                    @for name in ["figure", "variant"] { th.text scope="col" { (name) } }
                    @for name in ["median", "range", "MAD"] { th scope="col" { (name) } }
                    th.text scope="col" { "repeats" }
                    th scope="col" { "difference" }
                    th.text scope="col" { "judgement" }
                }
            }
            tbody {
                @for metric in comparison.metrics() {
                    @for (index, variant) in comparison.variants.iter().enumerate() {
                        tr {
                            th scope="row" { @if index == 0 { (metric.label()) } }
                            td.text { (swatch(index)) (variant.name) }
                            @match variant.spread(metric) {
                                Some(spread) => (figures(comparison, variant, index, spread)?),
                                None => { td.text colspan="6" { "not measured" } }
                            }
                        }
                    }
                }
            }
        }
    })
}

/// The cells of one figure of one variant.
fn figures(
    comparison: &Comparison,
    variant: &Variant,
    index: usize,
    spread: &Spread,
) -> Result<Markup, ReportError> {
    let metric = spread.metric;
    let exact = |value: f64| number(value, &metric.text(value));
    let beyond = |judgement| matches!(judgement, Judgement::Better | Judgement::Worse);
    let color = Color::ALL.get(index).copied().unwrap_or(Color::BLACK);
    let all = || comparison.variants.iter().filter_map(|v| v.spread(metric));
    let min = all().map(|spread| spread.min).fold(spread.min, f64::min);
    let max = all().map(|spread| spread.max).fold(spread.max, f64::max);
    let strip = chart::strip(&spread.values, spread.median, (min, max), color)?;
    Ok(html! {
        td { (exact(spread.median)) }
        @if spread.values.len() == 1 {
            td { "one run" }
            td { "–" }
        } @else {
            td { (exact(spread.min)) " to " (exact(spread.max)) }
            td { (exact(spread.mad)) }
        }
        td.text { (PreEscaped(strip)) }
        @match comparison.difference(variant, metric) {
            Some(difference) => {
                td { (number(difference.difference, &difference.text())) }
                td.text.beyond[beyond(difference.judgement)] { (difference.judgement.label()) }
            }
            None if index == 0 => { td { "base" } td {} }
            None => { td { "–" } td.text { "the base did not measure it" } }
        }
    })
}

/// Lines of all repeats, each in its variant's colour; the legend names a variant once.
fn lines(
    comparison: &Comparison,
    line: impl Fn(&super::compare::Plotted, Option<String>, Color) -> Series,
) -> Vec<Series> {
    let mut series = Vec::new();
    for (variant, color) in comparison.variants.iter().zip(Color::ALL) {
        let mut name = Some(match variant.plots.len() {
            1 => variant.name.clone(),
            runs => format!("{} ({runs} runs)", variant.name),
        });
        for plotted in &variant.plots {
            series.push(line(plotted, name.take(), color));
        }
    }
    series
}

fn charts(comparison: &Comparison) -> Vec<Chart> {
    let time = &comparison.time;
    let has_points = |series: &[Series]| series.iter().any(|series| !series.points.is_empty());
    let mut charts = Vec::new();
    let answered = lines(comparison, |plotted, name, color| {
        time.line(name, color, 2, &plotted.stretches, |s| Some(s.answered))
    });
    if has_points(&answered) {
        charts.push(time.chart("Throughput", "answered/s", text::tick, answered));
        let p99 = lines(comparison, |plotted, name, color| {
            time.line(name, color, 2, &plotted.stretches, |s| {
                s.latency.map(|latency| latency.p99_us)
            })
        });
        charts.push(time.latencies("Latency over time, p99", "p99 (log scale)", p99));
    }
    let curves = lines(comparison, |plotted, name, color| {
        plots::curve_line(name, color, 2, &plotted.curve, plotted.answered)
    });
    if has_points(&curves) {
        let note = "Each step to the right is ten times rarer; a line ends at the slowest request.";
        charts.push(plots::percentile_chart(note.to_owned(), curves));
    }
    let cpu = lines(comparison, |plotted, name, color| {
        time.line_used(name, color, 2, &plotted.used, |used| used.cpu_cores)
    });
    if has_points(&cpu) {
        charts.push(time.chart("CPU of all watched processes", "cores", text::tick, cpu));
        let memory = lines(comparison, |plotted, name, color| {
            time.line_used(name, color, 2, &plotted.used, |used| {
                used.rss_bytes / f64::from(1 << 20)
            })
        });
        let title = "Memory of all watched processes";
        charts.push(time.chart(title, "resident (MiB)", text::tick, memory));
    }
    charts
}

fn runs(comparison: &Comparison) -> Markup {
    html! {
        table.grid {
            thead {
                tr {
                    th.text scope="col" { "variant" }
                    th.text scope="col" { "file" }
                    @for metric in Metric::ALL { th scope="col" { (metric.label()) } }
                }
            }
            tbody {
                @for (index, variant) in comparison.variants.iter().enumerate() {
                    @for (repeat, file) in variant.files.iter().enumerate() {
                        tr {
                            th scope="row" { (swatch(index)) (variant.name) }
                            td.text { (file.display()) }
                            @for metric in Metric::ALL { td { (of_run(variant, metric, repeat)) } }
                        }
                    }
                }
            }
        }
    }
}

/// A figure of one run; nothing when any run of the variant did not measure it.
fn of_run(variant: &Variant, metric: Metric, repeat: usize) -> Markup {
    let spread = variant
        .spreads
        .iter()
        .find(|spread| spread.metric == metric);
    let all = spread.filter(|spread| spread.values.len() == variant.files.len());
    match all.and_then(|spread| spread.values.get(repeat)) {
        Some(value) => number(*value, &metric.text(*value)),
        None => html! { "–" },
    }
}
