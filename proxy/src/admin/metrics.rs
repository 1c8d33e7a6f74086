//! The metrics page: reads the counters, and writes them in the Prometheus text format 0.0.4 or as
//! OpenMetrics 1.0 (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! Written by hand: the values already live in plain per-core blocks, so a client library would only
//! be a second set of counters. `table` declares the metrics, once each.

mod process;
mod table;

use super::health::Readiness;
use crate::net::tls::Tls;
use crate::privacy::SuppressFile;
use crate::schemas::SchemaSet;
use sluice_core::cause::Cause;
use sluice_core::schema::SchemaStats;
use sluice_core::stats::{
    BillingStats, Counter, Histogram, OutputStats, RuleStats, SpoolStats, StagingStats,
    WorkerStats, WriterStats,
};
use sluice_core::time::{Mono, Wall};
use std::fmt::{self, Display, Write};
use std::sync::Arc;
use std::time::Duration;
pub use table::FAMILIES;

/// Sources of the values. Read for each page, summed over workers and writers.
pub struct Sources {
    /// One block per listener core.
    pub workers: Vec<Arc<WorkerStats>>,
    /// In configuration order, as in [`WorkerStats::outputs`].
    pub outputs: Vec<OutputSource>,
    /// The rules of routing, in configuration order, as in [`WorkerStats::rules`].
    pub rules: Vec<String>,
    /// Limits, to compare usage with.
    pub limits: LimitGauges,
    /// TLS of the listeners that have it, by their names.
    pub tls: Vec<(String, Arc<Tls>)>,
    /// The list of suppressed ids, where there is one.
    pub suppressed: Option<Arc<SuppressFile>>,
    /// The schemas, as in [`WorkerStats::schemas`].
    pub schemas: Arc<SchemaSet>,
    /// Whether traffic should come here.
    pub readiness: Arc<Readiness>,
    /// When the process started.
    pub started: Wall,
    /// The monotonic clock.
    pub now: Box<dyn Fn() -> Mono + Send + Sync>,
    /// The wall clock.
    pub wall: fn() -> Wall,
}

/// Configured limits, as gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitGauges {
    /// Bytes of bodies and records in memory at the same time.
    pub in_flight_bytes_max: u64,
    /// Connections open at the same time, after the cut to the descriptor limit.
    pub connections_max: u64,
    /// Connections open at the same time from one address; 0 for no limit.
    pub connections_per_address_max: u64,
    /// Bytes of a request body.
    pub body_bytes_max: u64,
    /// From the end of a body to its answer.
    pub ack_deadline: Duration,
}

/// One output's counters.
pub struct OutputSource {
    /// Its name in the configuration.
    pub name: String,
    /// Bytes that may be pending at it.
    pub queue_bytes_max: u64,
    /// One block per writer.
    pub writers: Vec<Arc<WriterStats>>,
    /// One block per writer, where the destination bills in fixed increments; else none.
    pub bills: Vec<Arc<BillingStats>>,
    /// Of an output that makes objects of records.
    pub stage: Option<Arc<StagingStats>>,
    /// Of an output with a spool.
    pub spool: Option<Arc<SpoolStats>>,
}

/// One metric: its declaration, from which both the page and the reference come.
pub struct Family {
    /// As it stands on the page; a counter's ends in `_total`.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// Of its values.
    pub unit: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
    /// The alarms that use it.
    pub alarms: &'static [&'static str],
    samples: Samples,
}

/// A metric's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Moves both ways.
    Gauge,
    /// Observations in buckets.
    Histogram,
}

impl Kind {
    /// Its name in both formats.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

type Read<T> = fn(&T) -> u64;

/// Where the samples of a family come from.
enum Samples {
    /// One number.
    One(fn(&Sources) -> u64),
    /// One number that may be unknown.
    Known(fn(&Sources) -> Option<u64>),
    /// Summed over workers.
    Worker(Read<WorkerStats>),
    /// Summed over workers, one sample for each value of the only label.
    WorkerBy(&'static [(&'static str, Read<WorkerStats>)]),
    /// Per output, summed over workers.
    Output(Read<OutputStats>),
    /// Per rule of routing, summed over workers.
    Rule(Read<RuleStats>),
    /// Per schema, summed over workers.
    Schema(Read<SchemaStats>),
    /// Per output, summed over its writers.
    Writer(Read<WriterStats>),
    /// Per output and cause, summed over its writers.
    WriterByCause(fn(&WriterStats) -> &[Counter; Cause::ALL.len()]),
    /// Per output whose destination bills in fixed increments.
    Bill(Read<BillingStats>),
    /// Per output that makes objects of records.
    Stage(Read<StagingStats>),
    /// Per output with a spool.
    Spool(Read<SpoolStats>),
    /// Anything else.
    Custom(fn(&mut Page, &Sources)),
}

/// How the page is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    #[default]
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The format that an Accept header asks for: OpenMetrics where it is named and plain text is not
    /// preferred to it.
    #[must_use]
    pub fn negotiate(accept: &str) -> Format {
        let quality = |wanted: &str| {
            let ranges = accept.split(',').filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let matches = parts.next()?.eq_ignore_ascii_case(wanted);
                let quality = parts.find_map(|part| part.strip_prefix("q="));
                matches.then(|| quality.map_or(1.0, |text| text.parse().unwrap_or(0.0)))
            });
            ranges.fold(0.0, f64::max)
        };
        let open = quality("application/openmetrics-text");
        if open > 0.0 && open >= quality("text/plain") {
            Format::OpenMetrics
        } else {
            Format::Text
        }
    }

    /// The Content-Type of a page.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The page.
#[must_use]
pub fn render(sources: &Sources, format: Format) -> String {
    let mut page = Page {
        format,
        ..Page::default()
    };
    for family in FAMILIES {
        page.family(family);
        family.samples.write(&mut page, sources);
        page.end_family();
    }
    if format == Format::OpenMetrics {
        page.text.push_str("# EOF\n");
    }
    page.text
}

impl Samples {
    fn write(&self, page: &mut Page, sources: &Sources) {
        let workers = &sources.workers;
        match self {
            Samples::One(read) => page.sample("", &[], read(sources)),
            Samples::Known(read) => {
                if let Some(value) = read(sources) {
                    page.sample("", &[], value);
                }
            }
            Samples::Worker(read) => page.sample("", &[], sum(workers, read)),
            Samples::WorkerBy(values) => {
                for (value, read) in *values {
                    page.sample_by(value, sum(workers, read));
                }
            }
            Samples::Output(read) => {
                for (at, output) in sources.outputs.iter().enumerate() {
                    let total = sum(workers, |worker| worker.outputs.get(at).map_or(0, read));
                    page.sample("", &[("output", &output.name)], total);
                }
            }
            Samples::Rule(read) => {
                for (at, rule) in sources.rules.iter().enumerate() {
                    let total = sum(workers, |worker| worker.rules.get(at).map_or(0, read));
                    page.sample_by(rule, total);
                }
            }
            Samples::Schema(read) => {
                for (at, loaded) in sources.schemas.loaded().iter().enumerate() {
                    let total = sum(workers, |worker| worker.schemas.get(at).map_or(0, read));
                    page.sample_by(&loaded.named.name, total);
                }
            }
            Samples::Writer(read) => {
                for output in &sources.outputs {
                    let labels = [("output", output.name.as_str())];
                    page.sample("", &labels, sum(&output.writers, read));
                }
            }
            Samples::WriterByCause(read) => {
                for output in &sources.outputs {
                    for (at, cause) in Cause::ALL.iter().enumerate() {
                        let labels = [("output", &*output.name), ("cause", cause.label())];
                        let total = sum(&output.writers, |writer| read(writer)[at].get());
                        page.sample("", &labels, total);
                    }
                }
            }
            Samples::Bill(read) => {
                for output in sources.outputs.iter().filter(|one| !one.bills.is_empty()) {
                    let labels = [("output", output.name.as_str())];
                    page.sample("", &labels, sum(&output.bills, read));
                }
            }
            Samples::Stage(read) => {
                for (output, stage) in staged(sources) {
                    page.sample("", &[("output", output)], read(stage));
                }
            }
            Samples::Spool(read) => {
                for (output, spool) in spooled(sources) {
                    page.sample("", &[("output", output)], read(spool));
                }
            }
            Samples::Custom(write) => write(page, sources),
        }
    }
}

/// Outputs with a spool.
fn spooled(sources: &Sources) -> impl Iterator<Item = (&str, &SpoolStats)> {
    let outputs = sources.outputs.iter();
    outputs.filter_map(|output| Some((&*output.name, output.spool.as_deref()?)))
}

/// Outputs that make objects of records, and may keep them on a local disk until then.
fn staged(sources: &Sources) -> impl Iterator<Item = (&str, &StagingStats)> {
    let outputs = sources.outputs.iter();
    outputs.filter_map(|output| Some((&*output.name, output.stage.as_deref()?)))
}

/// One value, summed over blocks.
fn sum<T>(blocks: &[Arc<T>], read: impl Fn(&T) -> u64) -> u64 {
    blocks
        .iter()
        .fold(0, |total: u64, block| total.wrapping_add(read(block)))
}

/// Histograms of the same bounds, summed. Each bucket is read once, so that the last cumulative
/// bucket and the count on the page agree even while others count on.
struct Summed<const N: usize> {
    bounds: &'static [u64; N],
    counts: [u64; N],
    over: u64,
    sum: u64,
}

impl<const N: usize> Summed<N> {
    fn of<'a>(
        bounds: &'static [u64; N],
        blocks: impl Iterator<Item = &'a Histogram<N>>,
    ) -> Summed<N> {
        let mut summed = Summed {
            bounds,
            counts: [0; N],
            over: 0,
            sum: 0,
        };
        for block in blocks {
            for (total, count) in summed.counts.iter_mut().zip(block.counts()) {
                *total += count;
            }
            summed.over += block.over();
            summed.sum = summed.sum.wrapping_add(block.sum());
        }
        summed
    }
}

/// Microseconds, written as seconds without a detour through binary fractions.
struct Micros(u64);

impl Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.0 / 1_000_000, self.0 % 1_000_000);
        if micros == 0 {
            return write!(f, "{seconds}");
        }
        let fraction = format!("{micros:06}");
        write!(f, "{seconds}.{}", fraction.trim_end_matches('0'))
    }
}

/// The text being written. Writing to a String cannot fail, hence the ignored results.
#[derive(Default)]
struct Page {
    text: String,
    format: Format,
    /// Of the family begun last.
    name: &'static str,
    /// Its only label, where it has one.
    label: &'static str,
    /// Where its samples begin, and its lines.
    samples_at: usize,
    family_at: usize,
}

impl Page {
    /// Begins a family; its samples follow.
    fn family(&mut self, family: &Family) {
        self.family_at = self.text.len();
        // OpenMetrics names a counter without the suffix of its samples.
        let name = match self.format {
            Format::OpenMetrics => family.name.strip_suffix("_total").unwrap_or(family.name),
            Format::Text => family.name,
        };
        let (help, kind) = (family.help, family.kind.label());
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        self.name = family.name;
        self.label = family.labels.first().copied().unwrap_or_default();
        self.samples_at = self.text.len();
    }

    /// Removes a family without samples from the page.
    fn end_family(&mut self) {
        if self.text.len() == self.samples_at {
            self.text.truncate(self.family_at);
        }
    }

    /// One line of a family with one label, which has this value.
    fn sample_by(&mut self, value: &str, count: u64) {
        self.sample("", &[(self.label, value)], count);
    }

    /// One line of the family begun last; `suffix` is `_bucket`, `_sum`, `_count` or empty.
    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        for (at, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}=\"", if at == 0 { '{' } else { ',' });
            for c in text.chars() {
                match c {
                    '\\' | '"' => self.text.extend(['\\', c]),
                    '\n' => self.text.push_str("\\n"),
                    c => self.text.push(c),
                }
            }
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    /// The lines of one histogram; `unit` converts bounds and the sum.
    fn histogram<const N: usize, U: Display>(
        &mut self,
        labels: &[(&str, &str)],
        summed: &Summed<N>,
        unit: impl Fn(u64) -> U,
    ) {
        let mut below = 0;
        for (bound, count) in summed.bounds.iter().zip(summed.counts) {
            below += count;
            let mut le = unit(*bound).to_string();
            // OpenMetrics wants bounds to be written as floating-point numbers.
            if self.format == Format::OpenMetrics && !le.contains('.') {
                le.push_str(".0");
            }
            self.sample("_bucket", &[labels, &[("le", &le)]].concat(), below);
        }
        below += summed.over;
        self.sample("_bucket", &[labels, &[("le", "+Inf")]].concat(), below);
        self.sample("_sum", labels, unit(summed.sum));
        self.sample("_count", labels, below);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_have_one_name_in_logs_and_metrics() {
        use super::table::DRIVERS;
        use crate::runtime::driver::DriverKind;
        for kind in [
            DriverKind::UringDeferred,
            DriverKind::Uring,
            DriverKind::Epoll,
        ] {
            let label = usize::try_from(kind.number()).map(|number| DRIVERS[number]);
            assert_eq!(label, Ok(kind.label()));
        }
    }

    #[test]
    fn microseconds_are_written_as_exact_seconds() {
        for (micros, text) in [
            (0, "0"),
            (1, "0.000001"),
            (250, "0.00025"),
            (1_000_000, "1"),
            (1_500_000, "1.5"),
            (u64::MAX, "18446744073709.551615"),
        ] {
            assert_eq!(Micros(micros).to_string(), text);
        }
    }

    #[test]
    fn label_values_are_escaped() {
        let mut page = Page {
            name: "m",
            ..Page::default()
        };
        page.sample("", &[("l", "a\"b\\c\nd"), ("k", "{},=")], 1);
        assert_eq!(page.text, "m{l=\"a\\\"b\\\\c\\nd\",k=\"{},=\"} 1\n");
    }

    #[test]
    fn openmetrics_is_chosen_only_where_accept_prefers_it() {
        const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0;q=0.5,\
            application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, expected) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/plain", Format::Text),
            (PROMETHEUS, Format::OpenMetrics),
            ("Application/OpenMetrics-Text", Format::OpenMetrics),
            (
                "text/plain, application/openmetrics-text",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text; q=0", Format::Text),
            (
                "text/plain, application/openmetrics-text;q=0.5",
                Format::Text,
            ),
        ] {
            assert_eq!(Format::negotiate(accept), expected, "{accept}");
        }
    }
}
