//! The highest rate at which a target meets an objective, by runs of the generator in an open loop.
//! Decides nothing about rates itself (that is `search`) and measures nothing itself (that is `run`).

mod search;
mod slo;

pub use search::PROBES_MAX;
pub use slo::{CONDITIONS_MAX, Condition, Measure, Slo, SloError};

use crate::run::{self, HostInfo, Load, Progress, RATE_MAX, Report, RunError, in_range, run};
use search::{Bounds, Next, Outcome, Search};
use serde::{Deserialize, Serialize};
use slo::Value;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The format field of a result: tool and version of the format.
pub const FOUND_FORMAT: &str = "sluice-loadtest find-max v2";

/// Lowest rate that is tried, in requests per second.
pub const RATE_LEAST: f64 = 1.0;

/// How often a pause checks the stop flag.
const LOOK: Duration = Duration::from_millis(20);

/// Options of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct FindMaxOptions {
    /// Target, connections and bodies; load, duration and number of requests are those of a probe.
    pub run: run::Options,
    /// The objective.
    pub slo: Slo,
    /// First rate, at least [`RATE_LEAST`].
    pub from: f64,
    /// Highest rate, up to [`RATE_MAX`].
    pub to: f64,
    /// Length of a probe.
    pub probe: Duration,
    /// How often the answer has to be met again, 0 to 20.
    pub confirmations: u32,
    /// Relative precision of the answer, 0.001 to 0.5.
    pub precision: f64,
    /// Time after each probe for the target to settle, up to an hour.
    pub pause: Duration,
}

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The objective was met.
    Met,
    /// It was missed.
    Missed,
    /// It was missed, and the generator had too much to do: says nothing about the target.
    GeneratorTooSlow,
    /// It was missed, and the machine did not run the generator in time: says nothing about the target.
    MachineStarved,
}

/// One condition in one probe.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The condition.
    #[serde(flatten)]
    pub condition: Condition,
    /// The measured value: microseconds, or for errors a share of 1; absent when requests that were
    /// never answered, or never sent, are within the percentile.
    pub value: Option<f64>,
}

/// One run at one rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Requests per second.
    pub rate: f64,
    /// Whether this rate had been met before.
    pub confirmation: bool,
    /// How it ended.
    pub verdict: Verdict,
    /// Answers per second.
    pub answered_per_second: f64,
    /// Requests that were due and never sent, for want of a free connection.
    pub unsent: u64,
    /// Each condition of the objective.
    pub measured: Vec<Measured>,
    /// Whether the generator was the bottleneck.
    pub generator_is_bottleneck: bool,
    /// Whether the machine did not run the generator in time.
    pub generator_is_starved: bool,
}

/// Why there is no higher rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The target did not meet the objective at the next higher rate.
    Target,
    /// The generator was too slow at the next higher rate.
    Generator,
    /// The machine did not run the generator in time at the next higher rate.
    Machine,
    /// No higher rate was asked for.
    Range,
    /// The search was interrupted.
    Interrupt,
}

/// The result of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// [`FOUND_FORMAT`].
    pub format: String,
    /// Version of the tool.
    pub version: String,
    /// Its command line.
    pub command: Vec<String>,
    /// The machine that the generator ran on.
    pub machine: HostInfo,
    /// Where requests went.
    pub target: String,
    /// The objective.
    pub slo: String,
    /// Seconds of each probe.
    pub probe_seconds: f64,
    /// How often the answer had to be met again.
    pub confirmations: u32,
    /// The highest rate that met the objective, as often as asked, in requests per second.
    pub highest: Option<f64>,
    /// The highest rate that met it at least once, when there is none that was confirmed.
    pub unconfirmed: Option<f64>,
    /// Why there is no higher one.
    pub limit: Limit,
    /// Connections of each probe.
    pub connections: usize,
    /// Whether they were all in use at the next higher rate, so that more of them may do more.
    pub connections_exhausted: bool,
    /// All runs, in their order.
    pub probes: Vec<Probe>,
}

fn check(options: &FindMaxOptions) -> Result<(), RunError> {
    in_range("from", options.from, RATE_LEAST, RATE_MAX)?;
    in_range("to", options.to, options.from, RATE_MAX)?;
    in_range("confirm", options.confirmations, 0, 20)?;
    in_range("precision (percent)", options.precision * 100.0, 0.1, 50.0)?;
    let pause = options.pause.as_secs_f64();
    in_range("pause (seconds)", pause, 0.0, 3_600.0)
}

/// Searches until the answer is found, or `stop` is set. `probed` is told of each run when it has
/// ended, `progress` of each of its seconds.
///
/// # Errors
/// When an option is out of range, or a run cannot be made at all.
pub fn find_max(
    options: &FindMaxOptions,
    stop: &AtomicBool,
    mut probed: impl FnMut(&Probe),
    mut progress: impl FnMut(&Progress),
) -> Result<Found, RunError> {
    check(options)?;
    let mut search = Search::new(Bounds {
        from: options.from,
        to: options.to,
        least: RATE_LEAST.min(options.from),
        precision: options.precision,
        confirmations: options.confirmations,
    });
    let mut probes: Vec<Probe> = Vec::new();
    let highest = loop {
        let (rate, confirmation) = match search.next() {
            Next::Done(highest) => break highest,
            Next::Probe { rate, confirmation } => (rate, confirmation),
        };
        if !probes.is_empty() {
            pause(options.pause, stop);
        }
        if stop.load(Ordering::Relaxed) {
            break None;
        }
        let report = run(
            &run::Options {
                load: Load::Open { per_second: rate },
                duration: Some(options.probe),
                requests: None,
                // Event ids must not come twice.
                run: options.run.run.wrapping_add(probes.len() as u32),
                ..options.run.clone()
            },
            stop,
            &mut progress,
        )?;
        if report.interrupted {
            break None;
        }
        let probe = judge(&options.slo, rate, confirmation, &report);
        probed(&probe);
        search.observe(
            rate,
            match probe.verdict {
                Verdict::Met => Outcome::Met,
                Verdict::Missed => Outcome::Missed,
                Verdict::GeneratorTooSlow | Verdict::MachineStarved => Outcome::Unclear,
            },
        );
        probes.push(probe);
    };
    let met_once = |rate: &f64| {
        probes
            .iter()
            .any(|probe| probe.rate == *rate && probe.verdict == Verdict::Met)
    };
    Ok(Found {
        format: FOUND_FORMAT.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: std::env::args().collect(),
        machine: HostInfo::here(),
        target: options.run.target.url(),
        slo: options.slo.to_string(),
        probe_seconds: options.probe.as_secs_f64(),
        confirmations: options.confirmations,
        highest,
        unconfirmed: match highest {
            Some(_) => None,
            None => search.met().filter(met_once),
        },
        limit: if stop.load(Ordering::Relaxed) {
            Limit::Interrupt
        } else {
            limit(&probes, highest, options.to)
        },
        connections: options.run.connections,
        connections_exhausted: first_failed(&probes, highest).is_some_and(|probe| probe.unsent > 0),
        probes,
    })
}

fn pause(time: Duration, stop: &AtomicBool) {
    let begin = Instant::now();
    while begin.elapsed() < time && !stop.load(Ordering::Relaxed) {
        thread::sleep(LOOK.min(time.saturating_sub(begin.elapsed())));
    }
}

fn judge(slo: &Slo, rate: f64, confirmation: bool, report: &Report) -> Probe {
    let generator = &report.generator;
    let verdict = if slo.missed(report).is_empty() {
        // The generator's own delays are part of the latencies, so a met objective is met in spite of them.
        Verdict::Met
    } else if generator.is_bottleneck {
        Verdict::GeneratorTooSlow
    } else if generator.is_starved {
        Verdict::MachineStarved
    } else {
        Verdict::Missed
    };
    let measured = slo.conditions.iter().map(|condition| Measured {
        condition: *condition,
        value: condition.measure.of(report),
    });
    Probe {
        rate,
        confirmation,
        verdict,
        answered_per_second: report.answered_per_second,
        unsent: report.unsent,
        measured: measured.collect(),
        generator_is_bottleneck: generator.is_bottleneck,
        generator_is_starved: generator.is_starved,
    }
}

/// The lowest rate above the answer that was not met: it ended the search.
fn first_failed(probes: &[Probe], highest: Option<f64>) -> Option<&Probe> {
    probes
        .iter()
        .filter(|probe| probe.verdict != Verdict::Met && highest.is_none_or(|h| probe.rate > h))
        .min_by(|a, b| a.rate.total_cmp(&b.rate))
}

fn limit(probes: &[Probe], highest: Option<f64>, to: f64) -> Limit {
    if highest.is_some_and(|highest| highest >= to) {
        return Limit::Range;
    }
    match first_failed(probes, highest).map(|probe| probe.verdict) {
        Some(Verdict::GeneratorTooSlow) => Limit::Generator,
        Some(Verdict::MachineStarved) => Limit::Machine,
        _ => Limit::Target,
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.confirmation { "again" } else { "probe" };
        let verdict = match self.verdict {
            Verdict::Met => "met",
            Verdict::Missed => "missed",
            Verdict::GeneratorTooSlow => "generator too slow",
            Verdict::MachineStarved => "machine starved",
        };
        let rate = (self.rate * 100.0).round() / 100.0;
        write!(f, "{kind}  {rate:>10}/s  {verdict:<18}")?;
        for Measured { condition, value } in &self.measured {
            let Condition { measure, below } = *condition;
            let (label, limit) = (measure.label(), Value(measure, below));
            match *value {
                Some(value) => {
                    let sign = if value < below { '<' } else { '>' };
                    write!(f, "  {label} {} {sign} {limit}", Value(measure, value))?;
                }
                None => write!(f, "  {label} without an answer > {limit}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.highest, self.unconfirmed) {
            (Some(rate), _) => write!(
                f,
                "highest        {rate:.0} requests/s meet {}, confirmed {}x, {} s each",
                self.slo, self.confirmations, self.probe_seconds
            )?,
            (None, Some(rate)) => write!(
                f,
                "highest        none is confirmed to meet {}; {rate:.0} requests/s met it once",
                self.slo
            )?,
            (None, None) => write!(f, "highest        no rate meets {}", self.slo)?,
        }
        match self.limit {
            Limit::Target => Ok(()),
            Limit::Generator => write!(
                f,
                "\n               THE GENERATOR WAS THE BOTTLENECK above that: the target may do \
                 more; use more --threads or another machine"
            ),
            Limit::Machine => write!(
                f,
                "\n               THE MACHINE WAS STARVED above that: the target may do more; leave the \
                 machine alone, or use another"
            ),
            Limit::Range => write!(f, "\n               no more was asked for (--to)"),
            Limit::Interrupt => write!(f, "\n               the search was interrupted"),
        }?;
        if self.connections_exhausted {
            write!(
                f,
                "\n               above that requests waited for one of {} connections: more \
                 --connections may do more",
                self.connections
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{BodyMode, BodyOptions, ConnectOptions, OkStatuses, Target};
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// The report of one request that was answered 200.
    fn report() -> Report {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            // The first connection only tries whether there is anybody.
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                let mut bytes = [0; 4_096];
                if stream.read(&mut bytes).unwrap() > 0 {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                    stream.write_all(answer).unwrap();
                }
            }
        });
        let options = run::Options {
            target: Target::parse(&url).unwrap(),
            load: Load::Open { per_second: 10.0 },
            connections: 1,
            threads: 1,
            duration: None,
            requests: Some(1),
            timeout: Duration::from_secs(30),
            body: BodyOptions {
                mode: BodyMode::Event,
                batch: 1,
                event_bytes: 400,
                ..BodyOptions::default()
            },
            connect: ConnectOptions::default(),
            ok: OkStatuses::default(),
            acks: None,
            hdr_log: None,
            watch: vec![],
            run: 1,
        };
        let report = run(&options, &AtomicBool::new(false), |_| {}).unwrap();
        server.join().unwrap();
        assert_eq!(report.statuses.get(&200), Some(&1));
        report
    }

    #[test]
    fn requests_without_an_answer_are_above_every_limit() {
        let mut report = report();
        report.sent = 990;
        report.unsent = 10;
        report.answered = 990;
        report.ok = 990;
        let value = |measure: Measure, report: &Report| measure.of(report);
        assert!(value(Measure::P99, &report).is_some());
        assert_eq!(value(Measure::P99_9, &report), None);
        assert_eq!(value(Measure::Max, &report), None);
        report.answered = 989;
        assert_eq!(value(Measure::P99, &report), None);
        assert!(value(Measure::P90, &report).is_some());
        let slo: Slo = "p99<1h,p90<1h".replace("1h", "3600s").parse().unwrap();
        let probe = judge(&slo, 100.0, false, &report);
        let values = probe.measured.iter().map(|measured| measured.value);
        assert!(values.map(|value| value.is_none()).eq([true, false]));
    }

    #[test]
    fn only_missed_probes_blame_the_generator() {
        let mut report = report();
        report.sent = 1_000;
        report.answered = 1_000;
        report.ok = 980;
        let latency = report.latency_from_intended_start.as_mut().unwrap();
        latency.p99_us = 20_000.0;
        report.latency_from_start.p99_us = 10.0;
        let verdict = |slo: &str, report: &Report| {
            let probe = judge(&slo.parse().unwrap(), 100.0, false, report);
            assert_eq!(probe.measured.len(), slo.split(',').count());
            probe.verdict
        };
        report.generator.is_bottleneck = false;
        report.generator.is_starved = false;
        assert_eq!(verdict("p99<21ms", &report), Verdict::Met);
        assert_eq!(verdict("p99<20ms", &report), Verdict::Missed);
        assert_eq!(verdict("errors<2.1%", &report), Verdict::Met);
        assert_eq!(verdict("errors<2%", &report), Verdict::Missed);
        assert_eq!(verdict("p99<21ms,errors<2%", &report), Verdict::Missed);
        report.generator.is_bottleneck = true;
        assert_eq!(verdict("p99<21ms", &report), Verdict::Met);
        assert_eq!(verdict("p99<20ms", &report), Verdict::GeneratorTooSlow);
        report.generator.is_bottleneck = false;
        report.generator.is_starved = true;
        assert_eq!(verdict("errors<2%", &report), Verdict::MachineStarved);
        // Nothing answered has no latency, and still meets nothing.
        report.generator.is_starved = false;
        report.answered = 0;
        assert_eq!(verdict("p99<21ms", &report), Verdict::Missed);
    }

    #[test]
    fn the_limit_is_why_the_next_rate_failed() {
        let probe = |rate, verdict| Probe {
            rate,
            confirmation: false,
            verdict,
            answered_per_second: rate,
            unsent: 0,
            measured: vec![],
            generator_is_bottleneck: false,
            generator_is_starved: false,
        };
        let probes = [
            probe(100.0, Verdict::Met),
            probe(400.0, Verdict::GeneratorTooSlow),
            probe(200.0, Verdict::Missed),
        ];
        assert_eq!(limit(&probes, Some(100.0), 1e6), Limit::Target);
        assert_eq!(limit(&probes, Some(200.0), 1e6), Limit::Generator);
        assert_eq!(limit(&probes, Some(100.0), 100.0), Limit::Range);
        assert_eq!(limit(&probes, None, 1e6), Limit::Target);
    }
}
