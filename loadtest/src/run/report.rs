//! The report of a run, as text and as JSON.

use super::collect::Collected;
use super::hdr_log::base64;
use super::lateness::{BUSY_MAX, Lateness, STARVED_MAX};
use super::machine::Taken;
use super::series::{HostInfo, Second, WatchedProcess};
use super::tally::{Failure, Tally};
use super::{BodySource, OkStatuses, Options};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The format field of a report: tool and version of the format.
///
/// In v3 requests that were never answered, or never sent, are among the latencies.
pub const REPORT_FORMAT: &str = "sluice-loadtest run v3";

/// The report of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_FORMAT`].
    pub format: String,
    /// Version of the generator.
    pub version: String,
    /// Its command line.
    pub command: Vec<String>,
    /// The machine that the generator ran on.
    pub machine: HostInfo,
    /// When the run started, in milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    /// The number in the ids of this run's events, as 8 hex digits.
    pub run: String,
    /// Where requests went.
    pub target: String,
    /// The requested load.
    pub load: LoadReport,
    /// From the start to the last answer, in seconds.
    pub seconds: f64,
    /// Whether it was interrupted, or gave up on a dead target.
    pub interrupted: bool,
    /// Requests sent.
    pub sent: u64,
    /// Requests answered, whatever the status.
    pub answered: u64,
    /// Requests that were due and never sent, for want of a free connection.
    pub unsent: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Answers as they should be: with a status of success, or 204 to a CORS preflight.
    pub ok: u64,
    /// Answers to CORS preflights, which carry no event.
    pub preflights: u64,
    /// Requests sent and not answered, by failure.
    pub unanswered: BTreeMap<String, u64>,
    /// Connections that could not be opened or kept, by failure.
    pub connect_failures: BTreeMap<String, u64>,
    /// Connections opened.
    pub connects: u64,
    /// Connections that the server closed in an orderly way.
    pub closed_by_server: u64,
    /// Answers per second.
    pub answered_per_second: f64,
    /// Events answered with success and not refused in the answer.
    pub events_ok: u64,
    /// The same per second.
    pub events_ok_per_second: f64,
    /// Events refused in answers of success.
    pub events_refused: u64,
    /// Bytes of requests, heads included.
    pub bytes_out: u64,
    /// Bytes of answers, heads included.
    pub bytes_in: u64,
    /// From the intended start to the last byte of the answer; absent in a closed loop, which intends
    /// nothing. A request that was never answered counts with the time until it was given up, one that
    /// was never sent with the time until the run's end.
    pub latency_from_intended_start: Option<Latency>,
    /// From the real start to the last byte of the answer, or until the request was given up. Requests
    /// that were never sent have no real start.
    pub latency_from_start: Latency,
    /// From the moment when a request was due and a connection was free, to its start; absent
    /// in a closed loop.
    pub schedule_slip: Option<Latency>,
    /// How long it took to connect TCP, for each connection that was opened. Part of a request's
    /// latency where the connection was opened for it, as with `requests_per_connection`.
    #[serde(default)]
    pub tcp_connect: Latency,
    /// The same of the TLS handshake after it; absent without TLS.
    #[serde(default)]
    pub tls_handshake: Option<Latency>,
    /// The generator's own CPU use.
    pub generator: Generator,
    /// Second by second, up to [`super::SERIES_SECONDS_MAX`] of them.
    pub series: Vec<Second>,
    /// Latencies from the intended start in the compressed V2 form of HdrHistogram, base64, in
    /// nanoseconds; absent in a closed loop.
    pub histogram_from_intended_start: Option<String>,
    /// The same from the real start.
    pub histogram_from_start: String,
    /// Processes that were watched.
    pub watched: Vec<WatchedProcess>,
}

/// The requested load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// Requests per second, of a rate that changes the mean; absent in a closed loop.
    pub rate: Option<f64>,
    /// The rate over time as the command line has it, for instance `ramp 100:1000`, or `closed`.
    #[serde(default)]
    pub schedule: String,
    /// Connections.
    pub connections: usize,
    /// Threads.
    pub threads: usize,
    /// `envelope` or `event`, the name of a profile, or `files`.
    pub mode: String,
    /// Events in each request; 0 where they differ.
    pub batch: u32,
    /// Bytes of each event; 0 where they differ.
    pub event_bytes: usize,
    /// Statuses that are a success.
    #[serde(default)]
    pub ok: OkStatuses,
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// Mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: f64,
    /// 90th percentile.
    pub p90_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p99_9_us: f64,
    /// 99.99th percentile.
    pub p99_99_us: f64,
    /// Largest.
    pub max_us: f64,
}

/// The generator's own CPU use, and whether it was the bottleneck.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// CPU microseconds per request sent, system time included.
    pub cpu_us_per_request: f64,
    /// Share of the run in which the busiest thread did not wait for events.
    pub busy_share_max: f64,
    /// Share of the run that the busiest thread was on a CPU.
    #[serde(default)]
    pub cpu_share_max: f64,
    /// Whole seconds in which it was late (p99 of the slip over 5 ms), or had no time left, because it
    /// had too much to do.
    #[serde(default)]
    pub late_seconds: u64,
    /// Whole seconds in which it was late because the machine did not run it: its timer rang and no CPU
    /// was given to it, or it was taken off its CPU.
    #[serde(default)]
    pub starved_seconds: u64,
    /// Seconds that its threads waited in a run queue.
    pub cpu_wait_seconds: f64,
    /// Share of the machine's CPU time that a hypervisor gave to others during the run.
    #[serde(default)]
    pub stolen_share: f64,
    /// Seconds in which a CPU quota stopped processes of its control group.
    #[serde(default)]
    pub throttled_seconds: f64,
    /// Whether the figures show the generator's limits rather than the target's.
    pub is_bottleneck: bool,
    /// Whether the machine gave it so little CPU, or so late, that latencies show it.
    pub is_starved: bool,
}

/// Series, samples and machine counters, as measured.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) collected: Collected,
    pub(super) watched: Vec<WatchedProcess>,
    pub(super) taken: Taken,
    pub(super) started_unix_ms: u64,
}

fn latency(histogram: &Histogram<u64>) -> Latency {
    let us = |nanos: u64| nanos as f64 / 1_000.0;
    let at = |quantile| us(histogram.value_at_quantile(quantile));
    if histogram.is_empty() {
        return Latency::default();
    }
    Latency {
        count: histogram.len(),
        mean_us: histogram.mean() / 1_000.0,
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        p99_9_us: at(0.999),
        p99_99_us: at(0.9999),
        max_us: us(histogram.max()),
    }
}

fn labels(failures: &BTreeMap<Failure, u64>) -> BTreeMap<String, u64> {
    failures
        .iter()
        .map(|(failure, count)| (failure.label().to_owned(), *count))
        .collect()
}

impl Report {
    /// `rate` is the mean, `None` in a closed loop.
    pub(super) fn new(
        options: &Options,
        rate: Option<f64>,
        tally: &Tally,
        measured: Measured,
        interrupted: bool,
    ) -> Report {
        let open_loop = rate.is_some();
        let Collected {
            times,
            series,
            whole_seconds,
            late_by_generator,
            late_by_machine,
        } = measured.collected;
        let seconds = tally.last_answer as f64 / 1e9;
        let per_second = |count: u64| {
            if seconds > 0.0 {
                count as f64 / seconds
            } else {
                0.0
            }
        };
        let exact = options.body.source == BodySource::Exact;
        let slip = open_loop.then(|| latency(&times.slip));
        let busy_share_max = tally.busy_max;
        let was_late = |lateness: Lateness| lateness.is_of_run(whole_seconds, tally.sent);
        let statuses = tally.statuses.iter().zip(0u16..);
        Report {
            format: REPORT_FORMAT.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: std::env::args().collect(),
            machine: HostInfo::here(),
            started_unix_ms: measured.started_unix_ms,
            run: format!("{:08x}", options.run),
            target: options.target.url(),
            load: LoadReport {
                rate,
                schedule: options.load.label(),
                connections: options.connections,
                threads: options.threads,
                mode: options.body.label().to_owned(),
                batch: if exact { options.body.batch } else { 0 },
                event_bytes: if exact { options.body.event_bytes } else { 0 },
                ok: options.ok.clone(),
            },
            seconds,
            interrupted,
            sent: tally.sent,
            answered: tally.answered,
            unsent: tally.unsent,
            statuses: statuses
                .filter(|(count, _)| **count > 0)
                .map(|(count, status)| (status, *count))
                .collect(),
            ok: tally.ok,
            preflights: tally.preflights,
            unanswered: labels(&tally.unanswered),
            connect_failures: labels(&tally.connect_failures),
            connects: tally.connects,
            closed_by_server: tally.closed_by_server,
            answered_per_second: per_second(tally.answered),
            events_ok: tally.events_ok,
            events_ok_per_second: per_second(tally.events_ok),
            events_refused: tally.events_refused,
            bytes_out: tally.bytes_out,
            bytes_in: tally.bytes_in,
            latency_from_intended_start: open_loop.then(|| latency(&times.intended)),
            latency_from_start: latency(&times.actual),
            schedule_slip: slip,
            tcp_connect: latency(&tally.connect_times),
            tls_handshake: options.target.tls.then(|| latency(&tally.handshake_times)),
            generator: Generator {
                cpu_us_per_request: match tally.sent {
                    0 => 0.0,
                    sent => tally.cpu as f64 / 1_000.0 / sent as f64,
                },
                busy_share_max,
                cpu_share_max: tally.cpu_max,
                late_seconds: late_by_generator.seconds,
                starved_seconds: late_by_machine.seconds,
                cpu_wait_seconds: tally.cpu_wait as f64 / 1e9,
                stolen_share: measured.taken.stolen_share(),
                throttled_seconds: measured.taken.throttled_seconds(),
                is_bottleneck: was_late(late_by_generator) || tally.cpu_max > BUSY_MAX,
                is_starved: was_late(late_by_machine) || tally.starved_max > STARVED_MAX,
            },
            series,
            histogram_from_intended_start: open_loop.then(|| base64(&times.intended)),
            histogram_from_start: base64(&times.actual),
            watched: measured.watched,
        }
    }

    /// Requests that were due: sent, or never sent for want of a free connection.
    #[must_use]
    pub fn due(&self) -> u64 {
        self.sent.saturating_add(self.unsent)
    }

    /// Requests that were never answered: lost on the way, given up, or never sent.
    #[must_use]
    pub fn never_answered(&self) -> u64 {
        self.due().saturating_sub(self.answered)
    }

    /// Share of the requests due that failed, 0 to 1: answered with another status than asked for,
    /// never answered, or never sent.
    #[must_use]
    pub fn error_share(&self) -> f64 {
        match self.due() {
            0 => 0.0,
            due => due.saturating_sub(self.ok) as f64 / due as f64,
        }
    }

    /// Whether every request that was due was sent and answered with success, or 204 to a preflight,
    /// with no event refused.
    #[must_use]
    pub fn all_ok(&self) -> bool {
        self.ok == self.due() && self.events_refused == 0
    }
}

/// Microseconds in the unit that reads best.
fn time(us: f64) -> String {
    if us < 1_000.0 {
        format!("{us:.1} us")
    } else if us < 1_000_000.0 {
        format!("{:.2} ms", us / 1_000.0)
    } else {
        format!("{:.2} s", us / 1_000_000.0)
    }
}

fn counts<K: fmt::Display>(counts: &BTreeMap<K, u64>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    let words: Vec<String> = counts
        .iter()
        .map(|(name, count)| format!("{name}: {count}"))
        .collect();
    words.join(", ")
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "p50 {}  p90 {}  p99 {}  p99.9 {}  p99.99 {}  max {}",
            time(self.p50_us),
            time(self.p90_us),
            time(self.p99_us),
            time(self.p99_9_us),
            time(self.p99_99_us),
            time(self.max_us)
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let load = &self.load;
        write!(
            f,
            "target         {}, {} connections, {} threads, ",
            self.target, load.connections, load.threads
        )?;
        match load.rate {
            Some(_) => writeln!(f, "open loop, {} requests/s", load.schedule)?,
            None => writeln!(f, "closed loop")?,
        }
        match load.batch {
            0 => writeln!(f, "bodies         {}, run {}", load.mode, self.run)?,
            batch => writeln!(
                f,
                "events         {batch} x {} bytes per request, mode {}, run {}",
                load.event_bytes, load.mode, self.run
            )?,
        }
        let interrupted = if self.interrupted {
            " (ended early)"
        } else {
            ""
        };
        let unsent = match self.unsent {
            0 => String::new(),
            unsent => format!(", {unsent} due and never sent"),
        };
        writeln!(
            f,
            "requests       {} sent, {} answered{unsent} in {:.2} s{interrupted}",
            self.sent, self.answered, self.seconds
        )?;
        if self.error_share() > 0.0 {
            writeln!(
                f,
                "failed         {} of {} due, {:.3} %",
                self.due().saturating_sub(self.ok),
                self.due(),
                self.error_share() * 100.0
            )?;
        }
        writeln!(
            f,
            "per second     {:.0} requests, {:.0} events answered {}",
            self.answered_per_second, self.events_ok_per_second, load.ok
        )?;
        writeln!(f, "status         {}", counts(&self.statuses))?;
        if self.preflights > 0 {
            writeln!(f, "preflights     {} answered", self.preflights)?;
        }
        writeln!(f, "unanswered     {}", counts(&self.unanswered))?;
        writeln!(
            f,
            "connections    {} opened, {} closed by the server, failures: {}",
            self.connects,
            self.closed_by_server,
            counts(&self.connect_failures)
        )?;
        writeln!(f, "tcp connect    {}", self.tcp_connect)?;
        if let Some(handshake) = &self.tls_handshake {
            writeln!(f, "tls handshake  {handshake}")?;
        }
        if self.events_refused > 0 {
            writeln!(
                f,
                "refused        {} events in answers of {}",
                self.events_refused, load.ok
            )?;
        }
        writeln!(f, "latency (us to s; from the real start)")?;
        writeln!(f, "               {}", self.latency_from_start)?;
        if let Some(latency) = &self.latency_from_intended_start {
            writeln!(f, "latency from the intended start")?;
            writeln!(f, "               {latency}")?;
        }
        if let Some(slip) = &self.schedule_slip {
            writeln!(
                f,
                "schedule       slip p50 {}  p99 {}  max {}, {} requests due and never sent",
                time(slip.p50_us),
                time(slip.p99_us),
                time(slip.max_us),
                self.unsent
            )?;
        }
        let generator = &self.generator;
        write!(
            f,
            "generator      {:.2} us CPU per request, busy {:.0} %, waited {:.2} s for a CPU",
            generator.cpu_us_per_request,
            generator.cpu_share_max * 100.0,
            generator.cpu_wait_seconds
        )?;
        if generator.is_bottleneck {
            write!(
                f,
                "\n               THE GENERATOR WAS THE BOTTLENECK: figures show its limits, not \
                 the target's; use more --threads or a lower rate"
            )?;
        }
        if generator.late_seconds > 0 {
            write!(
                f,
                "\n               it had too much to do in {} of {:.0} seconds",
                generator.late_seconds,
                self.seconds.ceil()
            )?;
        }
        if generator.is_starved {
            write!(
                f,
                "\n               THE MACHINE WAS STARVED: the generator had work and no CPU, and \
                 latencies contain that wait; leave the machine alone, or use another"
            )?;
        }
        if generator.starved_seconds > 0 {
            write!(
                f,
                "\n               it was not run in time in {} of {:.0} seconds; {:.1} % of the \
                 machine was stolen, a quota stopped it for {:.2} s",
                generator.starved_seconds,
                self.seconds.ceil(),
                generator.stolen_share * 100.0,
                generator.throttled_seconds
            )?;
        }
        if self.unsent > 0 && !generator.is_bottleneck && !generator.is_starved {
            write!(
                f,
                "\n               the target answered too slowly for the rate on {} connections",
                load.connections
            )?;
        }
        Ok(())
    }
}
