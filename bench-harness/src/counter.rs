//! Counters of a peer or its backend, read from a page that it serves on loopback, or from the output of
//! a command.
//!
//! The generator alone cannot detect a server that responds and loses the record; where a peer has counters,
//! they must agree before a figure is given.

use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Largest page that is read, in bytes.
const PAGE_BYTES_MAX: u64 = 4 << 20;

/// A page has this long to come.
const PATIENCE: Duration = Duration::from_secs(5);

/// One count of a row.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Counter {
    /// Its unit.
    pub counts: Counts,
    /// Where it is shown: a port and a path, `{admin}/metrics`.
    #[serde(default)]
    pub page: String,
    /// Name of the series whose sum it is, where the page is in the Prometheus text format; with
    /// labels behind it, `name{a="b"}`, only series that have these.
    #[serde(default)]
    pub prometheus: Option<String>,
    /// Its key, where the page is a JSON object.
    #[serde(default)]
    pub json: Option<String>,
    /// Instead of a page a command that prints the count and nothing else, within 20 s.
    #[serde(default)]
    pub command: Vec<String>,
}

/// The unit of a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Counts {
    /// Records handed to the destination: events, or whole requests of envelope workloads.
    Accepted,
    /// Events refused one by one.
    Rejected,
    /// Requests.
    Requests,
    /// Records accepted and not at the destination yet. A figure is taken once it is 0, because delivering
    /// them is part of the cost of the requests.
    Behind,
    /// Calls that make records durable. Not checked, but shown per second.
    Syncs,
}

impl Counter {
    /// Whether it names one source and one way to read it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let ways = [
            self.prometheus.is_some(),
            self.json.is_some(),
            !self.command.is_empty(),
        ];
        let ways = ways.into_iter().filter(|way| *way).count();
        ways == 1 && self.page.is_empty() != self.command.is_empty()
    }

    /// The count that the command of [`Counter::command`] printed.
    ///
    /// # Errors
    /// When it printed something else.
    pub fn printed(text: &str) -> Result<u64, String> {
        let text = text.trim();
        text.parse().map_err(|_| {
            format!(
                "no count, but {:?}",
                text.chars().take(200).collect::<String>()
            )
        })
    }

    /// The count now, or `None` where the page does not have it: some servers show a count only
    /// once it has counted something. `page` is the filled-in form of [`Counter::page`].
    ///
    /// # Errors
    /// When the page cannot be read, or its value is no number.
    pub fn read(&self, page: &str) -> Result<Option<u64>, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("{page}: {error}");
        let (port, path) = page.split_at(page.find('/').unwrap_or(page.len()));
        let port = port
            .parse()
            .map_err(|_| wrong(&"no port before the path"))?;
        let body = get(port, path).map_err(|error| wrong(&error))?;
        let count = match (&self.prometheus, &self.json) {
            (Some(name), None) => prometheus(&body, name),
            (None, Some(key)) => json(&body, key),
            _ => Err("name one of prometheus and json".to_owned()),
        };
        count.map_err(|error| wrong(&error))
    }
}

fn json(body: &str, key: &str) -> Result<Option<u64>, String> {
    let value: serde_json::Value = serde_json::from_str(body).map_err(|error| error.to_string())?;
    match value.get(key) {
        None => Ok(None),
        Some(number) => number
            .as_u64()
            .map(Some)
            .ok_or_else(|| format!("{key} is {number}, not a count")),
    }
}

/// Sums the series of a name: `name 5`, `name{a="b"} 5` and the same with a timestamp behind. `None` when there
/// are none.
///
/// # Errors
/// When a series has no number.
pub fn prometheus(body: &str, wanted: &str) -> Result<Option<u64>, String> {
    let (name, labels) = wanted.split_once('{').unwrap_or((wanted, ""));
    let labels: Vec<&str> = labels
        .trim_end_matches('}')
        .split(',')
        .filter(|label| !label.is_empty())
        .collect();
    let mut sum = None;
    for line in body.lines() {
        let Some(rest) = line.strip_prefix(name) else {
            continue;
        };
        let (has, value) = match rest.as_bytes().first() {
            Some(b'{') => rest.rsplit_once('}').unwrap_or((rest, "")),
            Some(b' ') => ("", rest),
            // A longer name.
            _ => continue,
        };
        if !labels.iter().all(|label| has.contains(label)) {
            continue;
        }
        let value = value
            .split_whitespace()
            .next()
            .and_then(|value| value.parse::<f64>().ok())
            .filter(|value| (0.0..9e15).contains(value))
            .ok_or_else(|| format!("no count in {line:?}"))?;
        sum = Some(sum.unwrap_or(0) + value as u64);
    }
    Ok(sum)
}

/// The body of a page of this machine.
///
/// # Errors
/// When it cannot be read in time or its status is not 200.
pub fn get(port: u16, path: &str) -> io::Result<String> {
    let (status, body) = ask(port, path)?;
    if status != 200 {
        let why = format!("status {status}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(body)
}

/// Status and body of a page of this machine. HTTP/1.0, which has no chunks.
///
/// # Errors
/// When it cannot be read in time or is no answer.
pub fn ask(port: u16, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // In one piece: `write!` sends several, and a server that answers the first may be gone by the next.
    let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut page = Vec::new();
    stream.take(PAGE_BYTES_MAX).read_to_end(&mut page)?;
    let page = String::from_utf8_lossy(&page);
    let (head, body) = page.split_once("\r\n\r\n").unwrap_or_default();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    match status {
        Some(status) => Ok((status, body.to_owned())),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "no HTTP answer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_exact_name() {
        let page = "# TYPE sent counter\nsent{to=\"a}b c\"} 5\nsent{to=\"d\"} 7 1719469182900\nsent_bytes 9\n";
        let find = |name: &str| prometheus(page, name);
        assert_eq!(find("sent"), Ok(Some(12)));
        assert_eq!(find("sent_bytes"), Ok(Some(9)));
        assert_eq!(find("received"), Ok(None));
        assert_eq!(find("sent{to=\"d\"}"), Ok(Some(7)));
        assert_eq!(find("sent{to=\"e\"}"), Ok(None));
        assert!(prometheus("sent many\n", "sent").is_err());
        assert!(prometheus("sent{to=\"d\n", "sent").is_err());
    }

    #[test]
    fn a_counter_needs_a_page_or_a_command() {
        let counter = |keys: &str| -> Counter {
            toml::from_str(&format!("counts = 'requests'\n{keys}\n")).unwrap()
        };
        for whole in [
            "page = '{admin}/'\njson = 'n'",
            "page = '{admin}/'\nprometheus = 'n'",
            "command = ['count']",
        ] {
            assert!(counter(whole).is_whole(), "{whole}");
        }
        for broken in [
            "",
            "json = 'n'",
            "page = '{admin}/'",
            "page = '{admin}/'\ncommand = ['count']",
            "page = '{admin}/'\njson = 'n'\nprometheus = 'n'",
            "page = '{admin}/'\njson = 'n'\ncommand = ['count']",
        ] {
            assert!(!counter(broken).is_whole(), "{broken}");
        }
    }

    #[test]
    fn command_counters_print_one_whole_number() {
        assert_eq!(Counter::printed(" 12\n"), Ok(12));
        for odd in ["", "12 13", "1e3", "-1", "no such topic"] {
            let error = Counter::printed(odd).unwrap_err();
            assert!(error.contains(odd), "{error}");
        }
    }

    #[test]
    fn json_counters_are_whole_numbers() {
        assert_eq!(json(r#"{"stored":3,"x":1}"#, "stored"), Ok(Some(3)));
        assert_eq!(json("{}", "stored"), Ok(None));
        assert!(json(r#"{"stored":-1}"#, "stored").is_err());
        assert!(json("stored 3", "stored").is_err());
    }
}
