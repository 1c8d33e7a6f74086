//! What TLS and HTTP/2 cost the server beside plain HTTP/1: CPU time per request on kept connections, and per
//! connection. The clients are foreign: nghttp2's h2load, and OpenSSL's s_time for handshakes.

use crate::hostile::server::{Doors, Server};
use crate::record::{Origin, median};
use crate::running::Places;
use serde::Serialize;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

/// One event, as a server's SDK sends it.
const EVENT_BYTES: usize = 1_024;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How often each row is run, all in turn.
    pub rounds: u64,
    /// How long each time, seconds.
    pub seconds: u64,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Record {
    origin: Origin,
    rounds: u64,
    seconds: u64,
    rows: Vec<Figure>,
}

/// A client's way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Events by h2load, on kept connections.
    Kept {
        is_tls: bool,
        is_http2: bool,
        connections: u32,
        streams: u32,
    },
    /// A connection for each request: by s_time with TLS, whose sessions are new or resumed, by h2load without.
    Plain,
    Handshake {
        is_resumed: bool,
    },
}

struct Row {
    name: &'static str,
    about: &'static str,
    way: Way,
    /// The row that it is compared with.
    beside: &'static str,
}

const fn kept(is_tls: bool, is_http2: bool) -> Way {
    let streams = if is_http2 { 10 } else { 1 };
    Way::Kept {
        is_tls,
        is_http2,
        connections: 64,
        streams,
    }
}

const ROWS: [Row; 7] = [
    Row {
        name: "http1",
        about: "HTTP/1.1, 64 kept connections",
        way: kept(false, false),
        beside: "http1",
    },
    Row {
        name: "http1-tls",
        about: "the same over TLS 1.3",
        way: kept(true, false),
        beside: "http1",
    },
    Row {
        name: "http2",
        about: "HTTP/2 with prior knowledge, 64 connections of 10 streams",
        way: kept(false, true),
        beside: "http1",
    },
    Row {
        name: "http2-tls",
        about: "the same over TLS 1.3",
        way: kept(true, true),
        beside: "http1-tls",
    },
    Row {
        name: "connection",
        about: "a connection for each event",
        way: Way::Plain,
        beside: "connection",
    },
    Row {
        name: "handshake-full",
        about: "a connection with a full TLS 1.3 handshake (ECDSA P-256), and a GET",
        way: Way::Handshake { is_resumed: false },
        beside: "connection",
    },
    Row {
        name: "handshake-resumed",
        about: "the same with a resumed session",
        way: Way::Handshake { is_resumed: true },
        beside: "connection",
    },
];

/// One row's figures: medians of its rounds.
#[derive(Clone, Debug, Serialize)]
struct Figure {
    name: &'static str,
    about: &'static str,
    requests: u64,
    per_second: f64,
    cpu_us: f64,
    lowest_us: f64,
    highest_us: f64,
    beside: &'static str,
    ratio: f64,
}

struct Sample {
    requests: u64,
    seconds: f64,
    cpu_us: f64,
}

/// Starts a server with one worker, and measures every row.
///
/// # Errors
/// When a client is missing or fails, or its count is not the server's.
pub fn run(plan: &Plan, places: &Places, tell: impl Fn(&str)) -> Result<Record, String> {
    let origin = Origin::here();
    let (server, doors) = Server::start_with_doors(places)?;
    let body = places.scratch.join("event.json");
    let event = format!("{{\"a\":\"{}\"}}", "x".repeat(EVENT_BYTES - 8));
    fs::write(&body, event).map_err(|error| format!("{}: {error}", body.display()))?;
    let mut samples: Vec<Vec<Sample>> = ROWS.iter().map(|_| Vec::new()).collect();
    for round in 0..=plan.rounds {
        for (row, samples) in ROWS.iter().zip(&mut samples) {
            let sample = sample(row, &server, &doors, &body, plan.seconds)
                .map_err(|why| format!("{}: {why}", row.name))?;
            // The first fills caches and pools.
            if round > 0 {
                tell(&format!(
                    "round {round}: {} {:.2} us",
                    row.name, sample.cpu_us
                ));
                samples.push(sample);
            }
        }
    }
    let middle = |name: &str| {
        let of = ROWS.iter().position(|row| row.name == name).unwrap_or(0);
        median(samples[of].iter().map(|sample| sample.cpu_us))
    };
    let figures = ROWS.iter().zip(&samples).map(|(row, samples)| {
        let cpu = || samples.iter().map(|sample| sample.cpu_us);
        Figure {
            name: row.name,
            about: row.about,
            requests: samples.iter().map(|sample| sample.requests).sum(),
            per_second: median(
                samples
                    .iter()
                    .map(|sample| sample.requests as f64 / sample.seconds),
            ),
            cpu_us: median(cpu()),
            lowest_us: cpu().fold(f64::INFINITY, f64::min),
            highest_us: cpu().fold(0.0, f64::max),
            beside: row.beside,
            ratio: middle(row.name) / middle(row.beside),
        }
    });
    Ok(Record {
        origin,
        rounds: plan.rounds,
        seconds: plan.seconds,
        rows: figures.collect(),
    })
}

fn sample(
    row: &Row,
    server: &Server,
    doors: &Doors,
    body: &Path,
    seconds: u64,
) -> Result<Sample, String> {
    let before = server.counted()?;
    let handshakes_before = server.handshakes()?;
    let cpu_before = server.cpu()?;
    let begun = std::time::Instant::now();
    let told = match row.way {
        Way::Kept {
            is_tls,
            is_http2,
            connections,
            streams,
        } => {
            let (scheme, port) = match (is_tls, is_http2) {
                (true, _) => ("https", doors.tls),
                (false, true) => ("http", doors.http2),
                (false, false) => ("http", server.port()),
            };
            let mut arguments = vec![
                format!("--clients={connections}"),
                format!("--max-concurrent-streams={streams}"),
                format!("--duration={seconds}"),
            ];
            if !is_http2 {
                arguments.push("--h1".to_owned());
            }
            h2load(&arguments, body, &format!("{scheme}://127.0.0.1:{port}"))?
        }
        Way::Plain => {
            let mut done = 0;
            while begun.elapsed().as_secs() < seconds {
                let arguments = ["--h1", "--clients=1000", "--requests=1000"].map(str::to_owned);
                done += h2load(
                    &arguments,
                    body,
                    &format!("http://127.0.0.1:{}", server.port()),
                )?;
            }
            done
        }
        Way::Handshake { is_resumed } => s_time(doors.tls, is_resumed, seconds)?,
    };
    let seconds = begun.elapsed().as_secs_f64();
    let counted = server.settled(|counted| counted.since(before).responses >= told)?;
    let cpu = server.cpu()?.since(cpu_before);
    let requests = counted.since(before).responses;
    // A client that stops at a time leaves requests under way.
    if requests < told || requests > told + told / 50 + 1_000 {
        return Err(format!(
            "the client counted {told} answers, the server {requests}"
        ));
    }
    if let Way::Handshake { is_resumed } = row.way {
        let (full, resumed) = server.handshakes()?;
        let (full, resumed) = (full - handshakes_before.0, resumed - handshakes_before.1);
        // The first of a run that resumes is full.
        if is_resumed && full > 1 || !is_resumed && resumed > 0 {
            return Err(format!("{full} full handshakes and {resumed} resumed ones"));
        }
    }
    if requests == 0 {
        return Err("nothing was answered".to_owned());
    }
    Ok(Sample {
        requests,
        seconds,
        cpu_us: cpu.all as f64 / 1e3 / requests as f64,
    })
}

/// Runs h2load with one thread and gives the number of answers, all of 200.
fn h2load(arguments: &[String], body: &Path, server: &str) -> Result<u64, String> {
    let text = text_of(
        Command::new("h2load")
            .arg("--threads=1")
            .args(arguments)
            .arg(format!("--data={}", body.display()))
            .arg("--header=content-type: application/json")
            .arg(format!("{server}/v1/events")),
    )?;
    let count = |name: &str| number_before(&text, name).ok_or(format!("h2load said:\n{text}"));
    let (good, redirected) = (count(" 2xx,")?, count(" 3xx,")?);
    match redirected + count(" 4xx,")? + count(" 5xx")? {
        0 => Ok(good),
        bad => Err(format!("{bad} answers were not 200")),
    }
}

/// Runs OpenSSL's s_time and gives the number of connections.
fn s_time(port: u16, is_resumed: bool, seconds: u64) -> Result<u64, String> {
    let text = text_of(Command::new("openssl").args([
        "s_time",
        "-connect",
        &format!("127.0.0.1:{port}"),
        "-www",
        "/health",
        if is_resumed { "-reuse" } else { "-new" },
        "-time",
        &seconds.to_string(),
    ]))?;
    number_before(&text, " connections in ").ok_or(format!("s_time said:\n{text}"))
}

fn text_of(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program}: {}\n{text}{errors}", output.status))
}

/// The last number right before these words.
fn number_before(text: &str, words: &str) -> Option<u64> {
    let (before, _) = text.rsplit_once(words)?;
    let digits = before.rfind(|letter: char| !letter.is_ascii_digit());
    before[digits.map_or(0, |at| at + 1)..].parse().ok()
}

impl Record {
    /// The figures as a table.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let Origin {
            cpu,
            cores,
            kernel,
            commit,
            command,
            date,
            load_before,
        } = &self.origin;
        let mut text = format!(
            "# What TLS and HTTP/2 cost\n\nCommit {commit}, {date}, {cpu}, {cores} cores, Linux {kernel}, load before \
             {load_before}: `{command}`\n\n\
             CPU time of the server's threads per request, medians of {} rounds of {} s, in brackets the lowest and \
             the highest. One worker, the null output, events of {EVENT_BYTES} bytes; h2load sends them, and OpenSSL's s_time \
             shakes hands. The server's count of answers is the client's.\n\n\
             | row | what it is | requests/s | CPU us | ratio | to |\n| --- | --- | ---: | ---: | ---: | --- |\n",
            self.rounds, self.seconds
        );
        for row in &self.rows {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| `{}` | {} | {:.0} | {:.2} ({:.2}-{:.2}) | {:.2} | `{}` |",
                row.name,
                row.about,
                row.per_second,
                row.cpu_us,
                row.lowest_us,
                row.highest_us,
                row.ratio,
                row.beside
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_the_words_of_both_clients() {
        let text = "finished in 2.00s\nstatus codes: 412 2xx, 0 3xx, 1 4xx, 23 5xx\n";
        assert_eq!(number_before(text, " 2xx,"), Some(412));
        assert_eq!(number_before(text, " 5xx"), Some(23));
        let text = "1 connections in 0.1s\n\n7 connections in 3 real seconds, 0 bytes read";
        assert_eq!(number_before(text, " connections in "), Some(7));
        assert_eq!(number_before("none", " connections in "), None);
    }

    #[test]
    fn every_row_is_compared_with_one_that_there_is() {
        for row in &ROWS {
            assert!(ROWS.iter().any(|other| other.name == row.beside));
        }
    }
}
