//! Every metric: its name, its meaning and where its value comes from. Prometheus text format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>), written by hand: the values already
//! live in plain per-core blocks, so a client library would only be a second set of counters.

use sluice_core::cause::Cause;
use sluice_core::stats::{
    BATCH_BYTES, BATCH_RECORDS, BillingStats, Counter, Histogram, LATENCY_MICROS, OutputStats,
    StagingStats, WorkerStats, WriterStats,
};
use sluice_core::time::{Mono, Wall};
use std::fmt::{self, Display, Write};
use std::sync::Arc;

/// Where the values are. Read anew for each page, summed over workers and writers.
pub struct Sources {
    /// One block per listener core.
    pub workers: Vec<Arc<WorkerStats>>,
    /// The outputs, in configuration order as in [`WorkerStats::outputs`].
    pub outputs: Vec<OutputSource>,
    /// What `limits.in_flight_bytes_max` came to, bytes.
    pub in_flight_bytes_max: u64,
    /// The clock that [`WriterStats::last_delivery_micros`] is read from.
    pub now: Box<dyn Fn() -> Mono + Send + Sync>,
    /// The clock that [`StagingStats::oldest_unix_secs`] is read from.
    pub wall: fn() -> Wall,
}

/// One output and its writers.
pub struct OutputSource {
    /// Its name in the configuration.
    pub name: String,
    /// One block per writer.
    pub writers: Vec<Arc<WriterStats>>,
    /// One block per writer, where the destination bills in steps; else none.
    pub bills: Vec<Arc<BillingStats>>,
    /// Of an output that makes objects of records.
    pub stage: Option<Arc<StagingStats>>,
}

/// The `driver` label, by the values that [`WorkerStats::driver`] may have.
const DRIVERS: [&str; 4] = ["unknown", "io_uring", "io_uring_plain", "epoll"];

/// Answers that have a series from the start, so that a rate over the first of them is not missed.
const STATUSES: [u16; 11] = [200, 204, 400, 404, 405, 408, 411, 413, 415, 431, 503];

/// The page.
#[must_use]
pub fn render(sources: &Sources) -> String {
    let mut page = Page::default();
    process(&mut page, sources);
    connections(&mut page, &sources.workers);
    requests(&mut page, &sources.workers);
    outputs(&mut page, sources);
    writers(&mut page, sources);
    bills(&mut page, sources);
    stages(&mut page, sources);
    page.text
}

fn process(page: &mut Page, sources: &Sources) {
    page.family(
        "sluice_build_info",
        "gauge",
        "Always 1; the labels say what runs.",
    );
    page.sample("", &[("version", env!("CARGO_PKG_VERSION"))], 1);

    page.family(
        "sluice_driver_workers",
        "gauge",
        "Workers by the I/O driver they run on.",
    );
    let mut running = [0_u64; DRIVERS.len()];
    for worker in &sources.workers {
        let code = usize::try_from(worker.driver.get()).unwrap_or(usize::MAX);
        running[if code < DRIVERS.len() { code } else { 0 }] += 1;
    }
    for (driver, workers) in DRIVERS.iter().zip(running) {
        page.sample("", &[("driver", driver)], workers);
    }
    page.gauge(
        "sluice_in_flight_bytes",
        "Bytes of bodies and records held now.",
        sum(&sources.workers, |worker| worker.budget_bytes.get()),
    );
    page.gauge(
        "sluice_in_flight_limit_bytes",
        "The bytes held at which new requests are answered 503.",
        sources.in_flight_bytes_max,
    );
}

fn connections(page: &mut Page, workers: &[Arc<WorkerStats>]) {
    page.gauge(
        "sluice_connections_open",
        "Client connections open now.",
        sum(workers, |worker| worker.connections_open.get()),
    );
    page.counter(
        "sluice_connections_accepted_total",
        "Client connections accepted.",
        sum(workers, |worker| worker.connections_accepted.get()),
    );
    page.family(
        "sluice_connections_capped_total",
        "counter",
        "Client connections closed because a cap was reached: of the process, or of their address.",
    );
    page.sample(
        "",
        &[("cap", "process")],
        sum(workers, |worker| worker.connections_capped.get()),
    );
    page.sample(
        "",
        &[("cap", "address")],
        sum(workers, |worker| worker.connections_capped_by_address.get()),
    );
    page.counter(
        "sluice_proxy_headers_refused_total",
        "Connections closed because they did not begin with the PROXY protocol header that is required.",
        sum(workers, |worker| worker.proxy_headers_refused.get()),
    );
    page.counter(
        "sluice_accept_errors_total",
        "Errors of accept, mostly descriptors used up.",
        sum(workers, |worker| worker.accept_errors.get()),
    );
}

fn requests(page: &mut Page, workers: &[Arc<WorkerStats>]) {
    page.family(
        "sluice_responses_total",
        "counter",
        "Answers by HTTP status.",
    );
    for status in 100..600_u16 {
        let count = sum(workers, |worker| {
            let counter = worker.responses.get(usize::from(status - 100));
            counter.map_or(0, Counter::get)
        });
        if count > 0 || STATUSES.contains(&status) {
            page.sample("", &[("status", &status.to_string())], count);
        }
    }
    page.counter(
        "sluice_requests_broken_off_total",
        "Requests that broke off before an answer could be sent.",
        sum(workers, |worker| worker.broken_off.get()),
    );
    page.family(
        "sluice_forwarded_for_ignored_total",
        "counter",
        "Requests whose X-Forwarded-For was ignored: from a peer that is not trusted, or not an address.",
    );
    page.sample(
        "",
        &[("reason", "untrusted_peer")],
        sum(workers, |worker| worker.forwarded_for_untrusted.get()),
    );
    page.sample(
        "",
        &[("reason", "not_an_address")],
        sum(workers, |worker| worker.forwarded_for_invalid.get()),
    );
    page.counter(
        "sluice_events_received_total",
        "Events (requests on the envelope endpoint) that arrived in readable bodies.",
        sum(workers, |worker| worker.events_received.get()),
    );
    page.counter(
        "sluice_events_accepted_total",
        "Events handed to every output.",
        sum(workers, |worker| worker.events_accepted.get()),
    );
    page.counter(
        "sluice_events_rejected_total",
        "Events refused to the client.",
        sum(workers, |worker| worker.events_rejected.get()),
    );
    page.counter(
        "sluice_events_shed_total",
        "Good events of requests answered 503 for want of room; handed to no output.",
        sum(workers, |worker| worker.events_shed.get()),
    );
    page.counter(
        "sluice_events_without_topic_total",
        "Good events whose values named no topic of a template, or one too many: for its fallback.",
        sum(workers, |worker| worker.events_without_topic.get()),
    );
    page.family(
        "sluice_shed_total",
        "counter",
        "Requests answered 503 for want of room: in the byte budget, or in an output's queue.",
    );
    page.sample(
        "",
        &[("reason", "budget")],
        sum(workers, |worker| worker.shed_budget.get()),
    );
    page.sample(
        "",
        &[("reason", "queue")],
        sum(workers, |worker| worker.shed_queue.get()),
    );
    page.counter(
        "sluice_ack_deadline_passed_total",
        "Requests answered 503 because the ack deadline passed.",
        sum(workers, |worker| worker.deadline_passed.get()),
    );
    page.family(
        "sluice_ack_latency_seconds",
        "histogram",
        "From the end of a body to the last required settlement.",
    );
    let latency = Summed::of(
        &LATENCY_MICROS,
        workers.iter().map(|worker| &worker.ack_latency_micros),
    );
    page.histogram(&[], &latency, Micros);
}

fn outputs(page: &mut Page, sources: &Sources) {
    /// The blocks of one output on all cores, summed.
    fn total(sources: &Sources, at: usize, read: impl Fn(&OutputStats) -> u64) -> u64 {
        sum(&sources.workers, |worker| {
            worker.outputs.get(at).map_or(0, &read)
        })
    }
    type Read = fn(&OutputStats) -> u64;
    let families: [(&str, &str, &str, Read); 6] = [
        (
            "sluice_output_accepted_records_total",
            "counter",
            "Records handed to the output.",
            |output| output.accepted.get(),
        ),
        (
            "sluice_output_delivered_records_total",
            "counter",
            "Records that the destination confirmed.",
            |output| output.delivered.get(),
        ),
        (
            "sluice_output_delivered_late_records_total",
            "counter",
            "Records confirmed after their client had been answered 503.",
            |output| output.delivered_late.get(),
        ),
        (
            "sluice_output_pending_records",
            "gauge",
            "Records whose word is still out.",
            |output| output.pending.get(),
        ),
        (
            "sluice_output_pending_bytes",
            "gauge",
            "Bytes of records whose word is still out.",
            |output| output.pending_bytes.get(),
        ),
        (
            "sluice_output_room_bytes",
            "gauge",
            "Bytes that may be pending; below its bound while the destination throttles.",
            |output| output.capacity_bytes.get(),
        ),
    ];
    for (name, kind, help, read) in families {
        page.family(name, kind, help);
        for (at, output) in sources.outputs.iter().enumerate() {
            page.sample("", &[("output", &output.name)], total(sources, at, read));
        }
    }
    page.family(
        "sluice_output_refused_records_total",
        "counter",
        "Records that the destination did not confirm, by cause.",
    );
    for (at, output) in sources.outputs.iter().enumerate() {
        for (index, cause) in Cause::ALL.iter().enumerate() {
            page.sample(
                "",
                &[("output", &output.name), ("cause", cause.label())],
                total(sources, at, |output| output.refused[index].get()),
            );
        }
    }
}

fn writers(page: &mut Page, sources: &Sources) {
    type Read = fn(&WriterStats) -> u64;
    let families: [(&str, &str, &str, Read); 3] = [
        (
            "sluice_output_calls_total",
            "counter",
            "Calls of the destination that ended.",
            |writer| writer.calls.get(),
        ),
        (
            "sluice_output_calls_in_flight",
            "gauge",
            "Calls of the destination running now.",
            |writer| writer.calls_in_flight.get(),
        ),
        (
            "sluice_output_held_records",
            "gauge",
            "Records in the hands of the writers.",
            |writer| writer.held.get(),
        ),
    ];
    for (name, kind, help, read) in families {
        page.family(name, kind, help);
        for output in &sources.outputs {
            page.sample("", &[("output", &output.name)], sum(&output.writers, read));
        }
    }
    page.family(
        "sluice_output_retries_total",
        "counter",
        "Results of single records that asked for another try, by cause.",
    );
    for output in &sources.outputs {
        for (index, cause) in Cause::ALL.iter().enumerate() {
            page.sample(
                "",
                &[("output", &output.name), ("cause", cause.label())],
                sum(&output.writers, |writer| writer.retries[index].get()),
            );
        }
    }
    page.family(
        "sluice_output_since_delivery_seconds",
        "gauge",
        "Time since a call last delivered anything; no sample before the first.",
    );
    let now = (sources.now)();
    for output in &sources.outputs {
        let latest = output
            .writers
            .iter()
            .map(|writer| writer.last_delivery_micros.get())
            .max()
            .filter(|micros| *micros > 0);
        if let Some(latest) = latest {
            let age = Micros(now.0.saturating_sub(latest));
            page.sample("", &[("output", &output.name)], age);
        }
    }
    page.family(
        "sluice_output_batch_records",
        "histogram",
        "Records per call.",
    );
    for output in &sources.outputs {
        let blocks = output.writers.iter().map(|writer| &writer.batch_records);
        let summed = Summed::of(&BATCH_RECORDS, blocks);
        page.histogram(&[("output", &output.name)], &summed, |records| records);
    }
    page.family("sluice_output_batch_bytes", "histogram", "Bytes per call.");
    for output in &sources.outputs {
        let blocks = output.writers.iter().map(|writer| &writer.batch_bytes);
        let summed = Summed::of(&BATCH_BYTES, blocks);
        page.histogram(&[("output", &output.name)], &summed, |bytes| bytes);
    }
    page.family(
        "sluice_output_call_seconds",
        "histogram",
        "How long calls took.",
    );
    for output in &sources.outputs {
        let blocks = output.writers.iter().map(|writer| &writer.call_micros);
        let summed = Summed::of(&LATENCY_MICROS, blocks);
        page.histogram(&[("output", &output.name)], &summed, Micros);
    }
}

/// Only of outputs whose destination bills in steps: billed by confirmed is what they cost beyond their bytes.
fn bills(page: &mut Page, sources: &Sources) {
    type Read = fn(&BillingStats) -> u64;
    let families: [(&str, &str, Read); 2] = [
        (
            "sluice_output_confirmed_bytes_total",
            "Bytes that the destination confirmed, as they were sent.",
            |bill| bill.confirmed_bytes.get(),
        ),
        (
            "sluice_output_billed_bytes_total",
            "Bytes that the destination bills for them, each record in whole steps.",
            |bill| bill.billed_bytes.get(),
        ),
    ];
    for (name, help, read) in families {
        page.family(name, "counter", help);
        for output in &sources.outputs {
            if !output.bills.is_empty() {
                page.sample("", &[("output", &output.name)], sum(&output.bills, read));
            }
        }
    }
}

/// Outputs that make objects of records, and may keep them on a local disk until then; nothing on others.
fn stages(page: &mut Page, sources: &Sources) {
    type Read = fn(&StagingStats) -> u64;
    let families: [(&str, &str, &str, Read); 5] = [
        (
            "sluice_output_staged_bytes",
            "gauge",
            "Bytes that are confirmed and only on the local disk.",
            |stage| stage.staged_bytes.get(),
        ),
        (
            "sluice_output_staged_limit_bytes",
            "gauge",
            "The staged bytes at which requests are answered 503.",
            |stage| stage.staged_bytes_max.get(),
        ),
        (
            "sluice_output_segments_waiting",
            "gauge",
            "Segments on the local disk that are finished and not uploaded.",
            |stage| stage.segments_waiting.get(),
        ),
        (
            "sluice_output_objects_total",
            "counter",
            "Objects that the destination confirmed.",
            |stage| stage.objects.get(),
        ),
        (
            "sluice_output_object_bytes_total",
            "counter",
            "Bytes of those objects as they were sent.",
            |stage| stage.object_bytes.get(),
        ),
    ];
    let staged = || {
        let outputs = sources.outputs.iter();
        outputs.filter_map(|output| Some((&*output.name, output.stage.as_deref()?)))
    };
    if staged().next().is_none() {
        return;
    }
    for (name, kind, help, read) in families {
        page.family(name, kind, help);
        for (output, stage) in staged() {
            page.sample("", &[("output", output)], read(stage));
        }
    }
    page.family(
        "sluice_output_oldest_segment_age_seconds",
        "gauge",
        "Time since the oldest segment that is not uploaded was begun; 0 when there is none.",
    );
    let now = (sources.wall)().secs;
    for (output, stage) in staged() {
        let age = match stage.oldest_unix_secs.get() {
            0 => 0,
            oldest => now.saturating_sub(oldest),
        };
        page.sample("", &[("output", output)], age);
    }
    page.family(
        "sluice_output_upload_failures_total",
        "counter",
        "Attempts to upload a segment that failed, by cause.",
    );
    for (output, stage) in staged() {
        for (cause, failures) in Cause::ALL.iter().zip(&stage.failures) {
            page.sample(
                "",
                &[("output", output), ("cause", cause.label())],
                failures.get(),
            );
        }
    }
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
    /// Of the family begun last.
    name: String,
}

impl Page {
    /// Begins a family; its samples follow.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        self.name.clear();
        self.name.push_str(name);
    }

    /// A family of one counter without labels.
    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample("", &[], value);
    }

    /// A family of one gauge without labels.
    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help);
        self.sample("", &[], value);
    }

    /// One line of the family begun last; `suffix` is `_bucket`, `_sum`, `_count` or empty.
    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(&self.name);
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

    /// The lines of one histogram; `unit` turns a bound or the sum into what is shown.
    fn histogram<const N: usize, U: Display>(
        &mut self,
        labels: &[(&str, &str)],
        summed: &Summed<N>,
        unit: impl Fn(u64) -> U,
    ) {
        let mut below = 0;
        for (bound, count) in summed.bounds.iter().zip(summed.counts) {
            below += count;
            let le = unit(*bound).to_string();
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
        let mut page = Page::default();
        page.family("m", "gauge", "h");
        page.sample("", &[("l", "a\"b\\c\nd"), ("k", "{},=")], 1);
        assert_eq!(
            page.text,
            "# HELP m h\n# TYPE m gauge\nm{l=\"a\\\"b\\\\c\\nd\",k=\"{},=\"} 1\n"
        );
    }
}
