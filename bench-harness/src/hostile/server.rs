//! The server under attack: started by a row such as those of `peers/`, asked for its counters and its CPU time.

use super::kinds::Settings;
use crate::counter;
use crate::peer::Peer;
use crate::process;
use crate::running::{Places, Running, Started};
use crate::workload::rows;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use std::fmt::Write;
use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// What the server has counted may lag behind its answers by this long.
const SETTLING: Duration = Duration::from_secs(2);

/// How often it is asked again meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A started server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server(Running);

/// Ports of the listeners that a server has beside its first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doors {
    /// TLS, with HTTP/2 by ALPN.
    pub(crate) tls: u16,
    /// HTTP/2 with prior knowledge.
    pub(crate) http2: u16,
}

/// Its CPU time so far, by kind of thread, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cpu {
    /// All threads but the one that shows counters.
    pub(crate) all: u64,
    /// Threads that serve connections: what they work on holds up all others.
    pub(crate) workers: u64,
}

impl Cpu {
    pub(crate) fn since(self, before: Cpu) -> Cpu {
        Cpu {
            all: self.all.saturating_sub(before.all),
            workers: self.workers.saturating_sub(before.workers),
        }
    }
}

/// Its counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) delivered: u64,
    pub(crate) rejected: u64,
    pub(crate) responses: u64,
    pub(crate) offloaded: u64,
}

impl Counted {
    pub(crate) fn since(self, before: Counted) -> Counted {
        Counted {
            delivered: self.delivered.saturating_sub(before.delivered),
            rejected: self.rejected.saturating_sub(before.rejected),
            responses: self.responses.saturating_sub(before.responses),
            offloaded: self.offloaded.saturating_sub(before.offloaded),
        }
    }
}

impl Server {
    /// Starts the row `<settings>.toml` of `places.rows`.
    ///
    /// # Errors
    /// A row that cannot be read, or a server that does not start.
    pub(crate) fn start(settings: Settings, places: &Places) -> Result<Server, String> {
        let name = settings.name();
        if settings == Settings::Lists {
            write(places, name, &[("lists.toml", lists())])?;
        }
        Server::of_row(name, places)
    }

    /// Starts the row `doors.toml`, which has listeners for TLS and for HTTP/2.
    ///
    /// # Errors
    /// See [`Server::start`].
    pub(crate) fn start_with_doors(places: &Places) -> Result<(Server, Doors), String> {
        let free = || -> Result<u16, String> {
            let bound = TcpListener::bind(("127.0.0.1", 0)).and_then(|bound| bound.local_addr());
            bound
                .map(|address| address.port())
                .map_err(|error| format!("a free port: {error}"))
        };
        let doors = Doors {
            tls: free()?,
            http2: free()?,
        };
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()])
                .map_err(|error| format!("a certificate: {error}"))?;
        let dir = places.scratch.join("doors");
        let settings = format!(
            "[listeners.tls]\naddress = \"127.0.0.1:{}\"\ntls_certificate_files = [\"{dir}/cert.pem\"]\n\
             tls_key_files = [\"{dir}/key.pem\"]\n[listeners.http2]\naddress = \"127.0.0.1:{}\"\n\
             http2 = \"prior_knowledge\"\n",
            doors.tls,
            doors.http2,
            dir = dir.display()
        );
        let files = [
            ("doors.toml", settings),
            ("cert.pem", cert.pem()),
            ("key.pem", signing_key.serialize_pem()),
        ];
        write(places, "doors", &files)?;
        Ok((Server::of_row("doors", places)?, doors))
    }

    fn of_row(name: &str, places: &Places) -> Result<Server, String> {
        let (_, peer) = rows::<Peer>(&places.rows)?
            .into_iter()
            .find(|(row, _)| row == name)
            .ok_or_else(|| format!("{}: no {name}.toml", places.rows.display()))?;
        match Running::start(name, peer, places, false)? {
            Started::Running(running) => Ok(Server(*running)),
            Started::Skipped(why) => Err(format!("{name}: {why}")),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.port
    }

    /// # Errors
    /// When the process is gone.
    pub(crate) fn cpu(&self) -> Result<Cpu, String> {
        let threads = process::threads(self.0.id()).map_err(|error| format!("CPU: {error}"))?;
        let sum = |wanted: fn(&str) -> bool| {
            let threads = threads.iter().filter(|(name, _)| wanted(name));
            threads.map(|(_, nanos)| nanos).sum()
        };
        Ok(Cpu {
            // Its counters are read between the looks at its CPU time.
            all: sum(|name| name != "admin"),
            workers: sum(|name| name.starts_with("worker-")),
        })
    }

    /// # Errors
    /// When the process is gone.
    pub(crate) fn memory(&self) -> Result<u64, String> {
        self.0.memory()
    }

    /// # Errors
    /// When the page cannot be had.
    pub(crate) fn counted(&self) -> Result<Counted, String> {
        let (port, path) = self.0.metrics().ok_or("no admin port")?;
        let page = counter::get(port, path).map_err(|error| format!("{path}: {error}"))?;
        let counts = |name: &str| Ok::<_, String>(counter::prometheus(&page, name)?.unwrap_or(0));
        Ok(Counted {
            delivered: counts("sluice_output_delivered_records_total")?,
            rejected: counts("sluice_events_rejected_total")?,
            responses: counts("sluice_responses_total")?,
            offloaded: counts("sluice_bodies_offloaded_total")?,
        })
    }

    /// TLS handshakes so far: full ones, and those that resumed a session.
    ///
    /// # Errors
    /// See [`Server::counted`].
    pub(crate) fn handshakes(&self) -> Result<(u64, u64), String> {
        let (port, path) = self.0.metrics().ok_or("no admin port")?;
        let page = counter::get(port, path).map_err(|error| format!("{path}: {error}"))?;
        let counts = |result: &str| {
            let name = format!("sluice_tls_handshakes_total{{result=\"{result}\"}}");
            Ok::<_, String>(counter::prometheus(&page, &name)?.unwrap_or(0))
        };
        Ok((counts("full")?, counts("resumed")?))
    }

    /// Its counters once they are as expected, or as they are when that takes too long.
    ///
    /// # Errors
    /// See [`Server::counted`].
    pub(crate) fn settled(&self, is_settled: impl Fn(&Counted) -> bool) -> Result<Counted, String> {
        let give_up = Instant::now() + SETTLING;
        loop {
            let counted = self.counted()?;
            if is_settled(&counted) || Instant::now() > give_up {
                return Ok(counted);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// Writes files to where the row's `{dir}` is.
fn write(places: &Places, row: &str, files: &[(&str, String)]) -> Result<(), String> {
    let dir = places.scratch.join(row);
    let mut written = fs::create_dir_all(&dir);
    for (name, text) in files {
        written = written.and_then(|()| fs::write(dir.join(name), text));
    }
    written.map_err(|error| format!("{}: {error}", dir.display()))
}

/// The configuration with long lists.
fn lists() -> String {
    let list = |texts: &mut dyn Iterator<Item = String>| {
        let texts: Vec<String> = texts.map(|text| format!("\"{text}\"")).collect();
        texts.join(", ")
    };
    let origins = list(&mut (0..256).map(|number| format!("https://*.shop-{number}.example.com")));
    let apps = list(&mut (0..10_000).map(|number| format!("app-{number}")));
    let networks = (0..255).map(|number| format!("10.{number}.0.0/16"));
    let networks = list(&mut networks.chain(["127.0.0.0/8".to_owned()]));
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "[limits]\ncodings_max = 3\n[cors]\norigins = [{origins}]\n[admit]\napp_ids = [{apps}]\n\
         [client_address]\ntrusted = [{networks}]\n"
    );
    text
}
