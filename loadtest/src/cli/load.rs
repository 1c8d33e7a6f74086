//! When requests start, on the command line: the rate over time, and how long it goes on.

use super::seconds;
use crate::run::{Load, Trace};
use clap::Args;
use std::fs::File;
use std::io::Read;
use std::str::FromStr;
use std::time::Duration;

/// The default rate of an open loop, requests per second: low enough for any server, and high enough for a
/// p99 of every second.
pub const RATE_DEFAULT: f64 = 1_000.0;

/// The largest file of rates, bytes.
pub const TRACE_BYTES_MAX: u64 = 32 << 20;

/// When requests start, and for how long.
#[derive(Clone, Debug, Args)]
pub struct LoadArgs {
    /// The rate over time.
    #[command(flatten)]
    pub shape: ShapeArgs,
    /// How long to start requests, in seconds; 10 unless --requests is given or the --trace ends with a rate
    /// of 0.
    #[arg(long, value_name = "SECONDS")]
    pub duration: Option<f64>,
    /// Send at most this many requests.
    #[arg(long, value_name = "N")]
    pub requests: Option<u64>,
}

/// The rate over time: at most one of these.
#[derive(Clone, Debug, Args)]
#[group(multiple = false)]
pub struct ShapeArgs {
    /// Requests per second, constant; 1000 when none of the following is given.
    #[arg(long, value_name = "N")]
    pub rate: Option<f64>,
    /// A rate that goes evenly from FROM to TO over the duration.
    #[arg(long, value_name = "FROM:TO", value_parser = ramp)]
    pub ramp: Option<Load>,
    /// STEPS constant rates from FROM to TO, each for an equal part of the duration: --step 100:1000:10.
    #[arg(long, value_name = "FROM:TO:STEPS", value_parser = step)]
    pub step: Option<Load>,
    /// A constant rate of BASE, multiplied by FACTOR for SECONDS from second AT on: --burst 500:10:20:5.
    #[arg(long, value_name = "BASE:FACTOR:AT:SECONDS", value_parser = burst)]
    pub burst: Option<Load>,
    /// Rates from a file with lines of `SECONDS RATE`: the rate from that second of the run until the next
    /// line. Seconds must grow from line to line; `#` begins a comment. A last line with rate 0 ends the run.
    #[arg(long, value_name = "FILE", value_parser = trace)]
    pub trace: Option<Load>,
    /// A closed loop: each connection sends its next request once the last one was answered.
    #[arg(long)]
    pub closed: bool,
}

impl LoadArgs {
    /// When requests start.
    #[must_use]
    pub fn load(&self) -> Load {
        let shape = &self.shape;
        if shape.closed {
            return Load::Closed;
        }
        let shaped = [&shape.ramp, &shape.step, &shape.burst, &shape.trace];
        let shaped = shaped.into_iter().find_map(Option::as_ref);
        shaped.cloned().unwrap_or(Load::Open {
            per_second: shape.rate.unwrap_or(RATE_DEFAULT),
        })
    }

    /// How long requests are started; `None` when their number or a trace ends the run.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        match (self.duration, self.requests, &self.shape.trace) {
            (Some(duration), _, _) => Some(seconds(duration)),
            (None, None, None) => Some(Duration::from_secs(10)),
            (None, _, _) => None,
        }
    }
}

/// Numbers with a colon between them.
fn numbers<const N: usize>(text: &str, form: &str) -> Result<[f64; N], String> {
    let parsed: Result<Vec<f64>, _> = text.split(':').map(f64::from_str).collect();
    let numbers = parsed.ok().and_then(|numbers| numbers.try_into().ok());
    numbers.ok_or_else(|| format!("expected {form} in numbers"))
}

fn ramp(text: &str) -> Result<Load, String> {
    let [from, to] = numbers(text, "FROM:TO")?;
    Ok(Load::Ramp { from, to })
}

fn step(text: &str) -> Result<Load, String> {
    let [from, to, steps] = numbers(text, "FROM:TO:STEPS")?;
    // Anything but a whole number becomes one out of range, which is refused with the range.
    let steps = if steps.fract() == 0.0 {
        steps as u32
    } else {
        0
    };
    Ok(Load::Step { from, to, steps })
}

fn burst(text: &str) -> Result<Load, String> {
    let [base, factor, at, seconds] = numbers(text, "BASE:FACTOR:AT:SECONDS")?;
    Ok(Load::Burst {
        base,
        factor,
        at,
        seconds,
    })
}

fn trace(path: &str) -> Result<Load, String> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(TRACE_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(|error| format!("{path}: {error}"))?;
    if text.len() as u64 > TRACE_BYTES_MAX {
        return Err(format!(
            "{path}: a file of rates has at most {TRACE_BYTES_MAX} bytes, and this one has more"
        ));
    }
    let trace = Trace::parse(&text).map_err(|error| format!("{path}: {error}"))?;
    Ok(Load::Trace(trace))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        load: LoadArgs,
    }

    fn load(words: &str) -> Result<LoadArgs, String> {
        let words = ["x"].into_iter().chain(words.split_ascii_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        Ok(line.load)
    }

    #[test]
    fn load_shapes_are_parsed_and_open_loop_is_default() {
        for (words, label) in [
            ("", "constant 1000"),
            ("--rate 0.5", "constant 0.5"),
            ("--ramp 1:2.5", "ramp 1:2.5"),
            ("--step 1:2:3", "step 1:2:3"),
            ("--burst 1:10:3:4", "burst 1:10:3:4"),
            ("--closed", "closed"),
        ] {
            assert_eq!(load(words).unwrap().load().label(), label);
        }
    }

    #[test]
    fn wrong_forms_and_two_shapes_at_once_are_refused() {
        for (words, part) in [
            ("--ramp 1", "expected FROM:TO"),
            ("--ramp 1:2:3", "expected FROM:TO"),
            ("--ramp 1:x", "expected FROM:TO"),
            ("--step 1:2", "expected FROM:TO:STEPS"),
            ("--burst 1:2:3", "expected BASE:FACTOR:AT:SECONDS"),
            ("--trace /nonexistent/rates", "/nonexistent/rates"),
            ("--trace /dev/zero", "at most 33554432 bytes"),
            ("--rate 1 --closed", "cannot be used with"),
            ("--ramp 1:2 --rate 1", "cannot be used with"),
        ] {
            let error = load(words).unwrap_err();
            assert!(error.contains(part), "{words}: {error}");
        }
    }

    #[test]
    fn a_run_lasts_ten_seconds_unless_something_else_ends_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "0 5\n3 0\n").unwrap();
        let trace = format!("--trace {}", file.path().display());
        for (words, expected) in [
            ("", Some(10)),
            ("--requests 5", None),
            ("--requests 5 --duration 3", Some(3)),
            (&*trace, None),
        ] {
            let duration = load(words).unwrap().duration();
            assert_eq!(duration, expected.map(Duration::from_secs), "{words}");
        }
    }
}
