//! What dear requests cost the server, beside a plain event of 1 KiB: CPU time per request and per byte sent, and
//! what is left for an honest client meanwhile.
//!
//! A request is dear that keeps the server busy for longer than its bytes account for. Each kind states how it is
//! answered and counted; no figure is given for one that is not. CPU time is the kernel's account of each of the
//! server's threads, so that other programs on the machine disturb it little.

mod floods;
mod kinds;
mod measure;
mod pack;
pub(crate) mod server;
mod victim;
mod wire;

use crate::record::{Origin, median};
use crate::running::Places;
use floods::FloodFigure;
use kinds::{Kind, Settings, all, plain, plain_alone};
use measure::{Sample, sample};
use serde::Serialize;
use server::Server;
use std::fmt::Write;
use std::thread;
use std::time::Duration;
use victim::Outcome;

/// CPU time per byte sent, as a multiple of the plain event's, at most.
const RATIO_MAX: f64 = 20.0;

/// CPU time of one request, at most.
const CPU_US_MAX: f64 = 10_000.0;

/// CPU time that one request takes from the thread that serves all connections, at most.
const WORKER_US_MAX: f64 = 1_000.0;

/// What the victim keeps of its rate, at least.
const KEPT_MIN: f64 = 0.9;

/// Bytes that the worker reads at once, at most.
const READ_BYTES: usize = 64 << 10;

/// How long each kind is sent in a round, and the plain event before it.
const SAMPLE_TIME: Duration = Duration::from_millis(120);

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Only kinds whose name contains this.
    pub only: String,
    /// How often each kind is sent for its CPU time.
    pub rounds: u64,
    /// How long a victim is watched beside each kind; none without.
    pub victim_time: Duration,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Record {
    origin: Origin,
    rounds: u64,
    /// With what the victim gets when it is alone.
    plain: Figure,
    plain_alone: Figure,
    kinds: Vec<Figure>,
    floods: Vec<FloodFigure>,
}

/// One kind's figures: medians of its rounds.
#[derive(Clone, Debug, Default, Serialize)]
struct Figure {
    name: &'static str,
    about: &'static str,
    /// The settings' name.
    settings: &'static str,
    /// Bytes of one request, without headers of segments.
    bytes: f64,
    /// Requests in one send.
    pipelined: usize,
    status: u16,
    own_connection: bool,
    in_pieces: bool,
    requests: u64,
    cpu_us: f64,
    worker_us: f64,
    ns_per_byte: f64,
    offloaded: f64,
    /// CPU time per byte by that of the plain event on a kept connection.
    ratio: f64,
    /// The same by that of the plain event on a connection of its own.
    ratio_alone: f64,
    /// CPU time of the plain event that it is compared with.
    plain_cpu_us: f64,
    kept: Option<f64>,
    victim_p99_ms: Option<f64>,
    victim_max_ms: Option<f64>,
    /// Why there are no figures.
    error: Option<String>,
}

/// Starts the servers and measures every kind.
///
/// # Errors
/// When a server does not start, or does not answer the plain event.
pub fn run(plan: &Plan, places: &Places, tell: impl Fn(&str)) -> Result<Record, String> {
    let origin = Origin::here();
    let encoding = |error: std::io::Error| format!("bodies: {error}");
    let mut kinds = all().map_err(encoding)?;
    kinds.retain(|kind| kind.name.contains(&plan.only));
    let is_wanted = |flood: &floods::Flood| flood.name.contains(&plan.only);
    if kinds.is_empty() && !floods::all().iter().any(is_wanted) {
        return Err(format!("no kind's name contains {:?}", plan.only));
    }
    let servers = Servers {
        default: Server::start(Settings::Default, places)?,
        lists: Server::start(Settings::Lists, places)?,
    };
    let (plain, alone) = (plain(), plain_alone());
    let on_default = &servers.default;
    // Its first requests fill caches and pools.
    sample(on_default, &plain, SAMPLE_TIME)?;
    let mut rows: Vec<(Kind, Vec<Sample>, Option<String>)> = kinds
        .into_iter()
        .map(|kind| (kind, Vec::new(), None))
        .collect();
    let (mut plain_samples, mut alone_samples) = (Vec::new(), Vec::new());
    for round in 1..=plan.rounds {
        for (kind, samples, error) in &mut rows {
            if error.is_some() {
                continue;
            }
            let honest = sample(on_default, &plain, SAMPLE_TIME / 2)?;
            match sample(servers.of(kind), kind, SAMPLE_TIME) {
                Ok(sample) => samples.push(sample),
                Err(why) => {
                    tell(&format!("no figure: {why}"));
                    *error = Some(why);
                    // What the server still counts of it must not be counted for the next one.
                    thread::sleep(SAMPLE_TIME);
                }
            }
            plain_samples.push(honest);
        }
        alone_samples.push(sample(on_default, &alone, SAMPLE_TIME)?);
        tell(&format!("round {round} of {}", plan.rounds));
    }
    let plain_figure = Figure::of(&plain, &plain_samples);
    let plain_ns_per_byte = plain_figure.ns_per_byte;
    let alone_figure = Figure::of(&alone, &alone_samples);
    let victim_alone = match plan.victim_time {
        Duration::ZERO => None,
        time => Some(victim::alone(on_default, time)?),
    };
    let mut figures = Vec::new();
    for (kind, samples, error) in rows {
        let mut figure = Figure {
            error,
            ..Figure::of(&kind, &samples)
        };
        figure.ratio = figure.ns_per_byte / plain_ns_per_byte;
        figure.plain_cpu_us = if kind.own_connection {
            alone_figure.cpu_us
        } else {
            plain_figure.cpu_us
        };
        figure.ratio_alone = figure.ns_per_byte / alone_figure.ns_per_byte;
        if figure.error.is_none() && !plan.victim_time.is_zero() {
            match servers.beside(&kind, plan.victim_time) {
                Ok(outcome) => figure.take(outcome),
                Err(why) => {
                    tell(&format!("no figure: {why}"));
                    figure.error = Some(why);
                }
            }
        }
        figures.push(figure);
    }
    let floods = match plan.victim_time {
        Duration::ZERO => Vec::new(),
        time => floods::run(&plan.only, time, places, &tell)?,
    };
    Ok(Record {
        floods,
        origin,
        rounds: plan.rounds,
        plain: Figure {
            kept: victim_alone.map(|outcome| outcome.kept),
            victim_p99_ms: victim_alone.map(|outcome| outcome.p99_ms),
            victim_max_ms: victim_alone.map(|outcome| outcome.max_ms),
            ratio: 1.0,
            ..plain_figure
        },
        plain_alone: Figure {
            ratio_alone: 1.0,
            ratio: alone_figure.ns_per_byte / plain_ns_per_byte,
            ..alone_figure
        },
        kinds: figures,
    })
}

struct Servers {
    default: Server,
    lists: Server,
}

impl Servers {
    fn of(&self, kind: &Kind) -> &Server {
        match kind.settings {
            Settings::Default => &self.default,
            Settings::Lists => &self.lists,
        }
    }

    fn beside(&self, kind: &Kind, time: Duration) -> Result<Outcome, String> {
        victim::beside(self.of(kind), kind, time)
    }
}

impl Figure {
    fn of(kind: &Kind, samples: &[Sample]) -> Figure {
        let middle = |value: fn(&Sample) -> f64| median(samples.iter().map(value));
        Figure {
            name: kind.name,
            about: kind.about,
            settings: kind.settings.name(),
            bytes: kind.bytes.len() as f64 / kind.requests as f64,
            pipelined: kind.requests,
            status: kind.status,
            own_connection: kind.own_connection,
            // The worker reads a long body piece by piece, and another thread prepares it.
            in_pieces: kind.in_pieces || kind.bytes.len() / kind.requests > READ_BYTES,
            requests: samples.iter().map(|sample| sample.requests).sum(),
            cpu_us: middle(|sample| sample.cpu_us),
            worker_us: middle(|sample| sample.worker_us),
            ns_per_byte: middle(|sample| sample.ns_per_byte),
            offloaded: middle(|sample| sample.offloaded),
            ..Figure::default()
        }
    }

    fn take(&mut self, outcome: Outcome) {
        self.kept = Some(outcome.kept);
        self.victim_p99_ms = Some(outcome.p99_ms);
        self.victim_max_ms = Some(outcome.max_ms);
    }

    /// The ratio that is held against the limit. A connection has its price with any server, which a request on a
    /// kept one does not pay: a kind that brings its own is compared with a plain event that does.
    fn fair_ratio(&self) -> f64 {
        if self.own_connection {
            self.ratio_alone
        } else {
            self.ratio
        }
    }

    /// Every limit that it breaks.
    fn offences(&self) -> Vec<String> {
        if let Some(error) = &self.error {
            return vec![error.clone()];
        }
        let mut offences = Vec::new();
        let mut over = |is_over: bool, what: String| {
            if is_over {
                offences.push(format!("{}: {what}", self.name));
            }
        };
        let ratio = self.fair_ratio();
        // However short it is, a request that costs no more than a plain event is not dear.
        over(
            ratio > RATIO_MAX && self.cpu_us > self.plain_cpu_us,
            format!("{ratio:.1} times the plain event per byte, at most {RATIO_MAX}"),
        );
        over(
            self.cpu_us > CPU_US_MAX,
            format!("{:.0} us, at most {CPU_US_MAX}", self.cpu_us),
        );
        over(
            self.worker_us > WORKER_US_MAX && !self.in_pieces,
            format!(
                "{:.0} us on the worker, at most {WORKER_US_MAX}",
                self.worker_us
            ),
        );
        if let Some(kept) = self.kept {
            over(
                kept < KEPT_MIN,
                format!(
                    "the victim kept {:.0} %, at least {:.0}",
                    100.0 * kept,
                    100.0 * KEPT_MIN
                ),
            );
        }
        offences
    }

    fn row(&self) -> String {
        let victim = match (self.kept, self.victim_p99_ms, self.victim_max_ms) {
            (Some(kept), Some(p99), Some(max)) => {
                format!("{:.0} % | {p99:.1} | {max:.1}", 100.0 * kept)
            }
            _ => "| |".to_owned(),
        };
        let ratio = if self.own_connection {
            format!("{:.1} ({:.1})", self.ratio_alone, self.ratio)
        } else {
            format!("{:.1}", self.ratio)
        };
        let away = match self.offloaded {
            0.0 => String::new(),
            part => format!("{:.0} %", 100.0 * part),
        };
        format!(
            "| `{}` | {} | {:.0} | {} | {:.1} | {:.1} | {away} | {:.1} | {ratio} | {victim} |",
            self.name,
            self.about,
            self.bytes,
            self.status,
            self.cpu_us,
            self.worker_us,
            self.ns_per_byte,
        )
    }
}

impl Record {
    /// Every limit that a kind breaks, and every kind without figures.
    #[must_use]
    pub fn offences(&self) -> Vec<String> {
        let floods = self.floods.iter();
        let kinds = self.kinds.iter().flat_map(Figure::offences);
        kinds
            .chain(floods.flat_map(|flood| flood.offences(KEPT_MIN)))
            .collect()
    }

    /// The figures as a table, the dearest per byte first.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut text = String::new();
        let Origin {
            cpu,
            cores,
            kernel,
            commit,
            command,
            date,
            load_before,
        } = &self.origin;
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "# What dear requests cost\n\nCommit {commit}, {date}, {cpu}, {cores} cores, Linux {kernel}, load before \
             {load_before}: `{command}`\n\n\
             CPU time of the server's threads (user and system), medians of {} rounds, {} connections in a closed loop. \
             Bytes are those on the wire: requests, and 52 for the headers of each TCP segment, also of the segments that open \
             and close a connection. Ratios are per byte to the plain event, which is sent before every other kind; of \
             kinds that bring a connection each, to a plain event that does so too (in brackets: to one on a kept \
             connection). \"Worker\" is \
             the part spent on the thread that serves connections. The victim sends {:.0} plain events per second by 16 connections beside \
             four senders; in the line of the plain event it is alone.\n\n",
            self.rounds,
            measure::CONNECTIONS,
            victim::RATE,
        );
        let offences = self.offences();
        let _ = writeln!(
            text,
            "Limits: {RATIO_MAX} times the plain event per byte, unless a request costs less than it, {} ms in all, {} ms on the worker, {:.0} % of the \
             victim's rate. {} kinds and {} floods, {} over a limit.\n",
            CPU_US_MAX / 1e3,
            WORKER_US_MAX / 1e3,
            100.0 * KEPT_MIN,
            self.kinds.len(),
            self.floods.len(),
            offences.len()
        );
        for offence in &offences {
            let _ = writeln!(text, "- {offence}");
        }
        if !offences.is_empty() {
            text.push('\n');
        }
        text.push_str(
            "| kind | what it is | bytes | status | CPU us | worker us | on another thread | ns/byte | ratio | victim | its p99 ms | its max ms |\n\
             | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        );
        let mut kinds: Vec<&Figure> = self.kinds.iter().collect();
        kinds.sort_by(|left, right| right.fair_ratio().total_cmp(&left.fair_ratio()));
        for figure in [&self.plain, &self.plain_alone].into_iter().chain(kinds) {
            let _ = writeln!(text, "{}", figure.row());
        }
        if self.floods.is_empty() {
            return text;
        }
        let _ = write!(
            text,
            "\n## Floods of connections\n\nFour senders each, to a server with one worker and a listener for TLS and for \
             HTTP/2 beside the victim's; each flood meets a server of its own. At most {} MiB of memory.\n\n\
             | flood | what it is | connections | ended by the server | MiB sent | worker busy | memory MiB | victim | its p99 ms | its max ms |\n\
             | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
            floods::MEMORY_MAX >> 20
        );
        for flood in &self.floods {
            let _ = writeln!(text, "{}", flood.row());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn figure() -> Figure {
        Figure {
            name: "odd",
            ratio: 20.0,
            cpu_us: 10_000.0,
            worker_us: 1_000.0,
            kept: Some(0.9),
            ..Figure::default()
        }
    }

    #[test]
    fn only_what_is_over_a_limit_is_an_offence() {
        assert!(figure().offences().is_empty());
        let short = Figure {
            ratio: 30.0,
            cpu_us: 9.0,
            plain_cpu_us: 10.0,
            ..figure()
        };
        assert!(short.offences().is_empty());
        for (odd, word) in [
            (
                Figure {
                    ratio: 20.1,
                    ..figure()
                },
                "20.1 times",
            ),
            (
                Figure {
                    cpu_us: 10_001.0,
                    ..figure()
                },
                "10001 us",
            ),
            (
                Figure {
                    worker_us: 1_001.0,
                    ..figure()
                },
                "on the worker",
            ),
            (
                Figure {
                    kept: Some(0.89),
                    ..figure()
                },
                "kept 89 %",
            ),
            (
                Figure {
                    error: Some("no answer".to_owned()),
                    ..figure()
                },
                "no answer",
            ),
        ] {
            let offences = odd.offences();
            assert!(
                offences.len() == 1 && offences[0].contains(word),
                "{offences:?}"
            );
        }
    }

    #[test]
    fn a_kind_with_its_own_connection_is_compared_with_its_like() {
        let figure = Figure {
            own_connection: true,
            ratio: 50.0,
            ratio_alone: 3.0,
            ..figure()
        };
        assert!(figure.offences().is_empty());
        assert!(figure.row().contains("| 3.0 (50.0) |"), "{}", figure.row());
    }

    #[test]
    fn there_are_sixty_kinds_and_each_has_its_own_name() {
        let kinds = all().unwrap();
        let names: BTreeSet<&str> = kinds.iter().map(|kind| kind.name).collect();
        assert!(kinds.len() >= 60, "{}", kinds.len());
        assert_eq!(names.len(), kinds.len());
        assert_eq!(plain().bytes.len() - 1_024, 59);
    }
}
