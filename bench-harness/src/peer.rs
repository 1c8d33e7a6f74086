//! A peer: a server that can be started, driven, counted and stopped. Sluice is one of them.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A peer has this long to accept connections.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// One row of `peers/`. In commands and variables `{bin}` stands for the folder of the binaries,
/// `{port}`, `{admin}` and `{aux}` for free ports, `{cores}` for the number of cores.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// What it is, for the table's legend.
    pub about: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// A server that it needs, which listens on `{aux}`.
    #[serde(default)]
    pub backend: Option<Vec<String>>,
    /// Whether it counts events at `{admin}/metrics` as Sluice does.
    #[serde(default)]
    pub counts: bool,
    /// Whether its backend counts stored records at `{aux}/_stats` as our Kinesis emulator does.
    #[serde(default)]
    pub backend_counts: bool,
}

/// Ports of a running peer.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// Where it takes requests.
    pub main: u16,
    /// Where it shows its counts.
    pub admin: u16,
    /// Where its backend listens.
    pub aux: u16,
}

/// A started peer; stopped when dropped.
#[derive(Debug)]
pub struct Running {
    /// Its row's name.
    pub name: String,
    /// Its row.
    pub peer: Peer,
    /// Where it listens.
    pub ports: Ports,
    process: Child,
    backend: Option<Child>,
}

impl Running {
    /// Starts the backend, then the peer, and waits until both accept connections.
    ///
    /// # Errors
    /// A program that does not start or does not listen in time, named.
    pub fn start(name: String, peer: Peer, bin: &Path) -> Result<Running, String> {
        let free = || free_port().map_err(|error| format!("no free port: {error}"));
        let ports = Ports {
            main: free()?,
            admin: free()?,
            aux: free()?,
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let fill = |text: &String| {
            text.replace("{bin}", &bin.display().to_string())
                .replace("{port}", &ports.main.to_string())
                .replace("{admin}", &ports.admin.to_string())
                .replace("{aux}", &ports.aux.to_string())
                .replace("{cores}", &cores.to_string())
        };
        let backend = match &peer.backend {
            None => None,
            Some(command) => {
                let command: Vec<_> = command.iter().map(fill).collect();
                Some(launch(&name, &command, &BTreeMap::new(), ports.aux)?)
            }
        };
        let command: Vec<_> = peer.command.iter().map(fill).collect();
        let env = peer
            .env
            .iter()
            .map(|(name, value)| (name.clone(), fill(value)))
            .collect();
        // Held by `Running` from here, so that a peer that fails takes its backend down with it.
        let process = match launch(&name, &command, &env, ports.main) {
            Ok(process) => process,
            Err(error) => {
                stop(backend);
                return Err(error);
            }
        };
        Ok(Running {
            name,
            peer,
            ports,
            process,
            backend,
        })
    }

    /// CPU time of the peer so far, user and system, all threads.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn cpu(&self) -> Result<Duration, String> {
        cpu_of(self.process.id()).map_err(|error| format!("{}: {error}", self.name))
    }

    /// Resident memory of the peer now, in bytes.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn resident_bytes(&self) -> Result<u64, String> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))
            .map_err(|error| format!("{}: {error}", self.name))?;
        let kib = status.lines().find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix(" kB")?
                .trim()
                .parse::<u64>()
                .ok()
        });
        kib.map(|kib| kib * 1_024)
            .ok_or_else(|| format!("{}: no VmRSS", self.name))
    }

    /// Events that the peer says it has delivered, where it counts.
    ///
    /// # Errors
    /// When the page cannot be had or lacks the count.
    pub fn delivered(&self) -> Result<Option<u64>, String> {
        if !self.peer.counts {
            return Ok(None);
        }
        let page =
            get(self.ports.admin, "/metrics").map_err(|error| format!("{}: {error}", self.name))?;
        let name = "sluice_output_delivered_records_total{";
        let count = page
            .lines()
            .find(|line| line.starts_with(name))
            .and_then(|line| line.rsplit(' ').next()?.parse().ok());
        count
            .map(Some)
            .ok_or_else(|| format!("{}: no {name}...}} in its metrics", self.name))
    }

    /// Records that the backend says it has stored, where it counts.
    ///
    /// # Errors
    /// When the page cannot be had or lacks the count.
    pub fn stored(&self) -> Result<Option<u64>, String> {
        if !self.peer.backend_counts {
            return Ok(None);
        }
        let page =
            get(self.ports.aux, "/_stats").map_err(|error| format!("{}: {error}", self.name))?;
        let body = page.split("\r\n\r\n").nth(1).unwrap_or_default();
        let stats: serde_json::Value =
            serde_json::from_str(body).map_err(|error| format!("{}: {error}", self.name))?;
        stats["stored"]
            .as_u64()
            .map(Some)
            .ok_or_else(|| format!("{}: no `stored`", self.name))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both may have ended by themselves.
        let _ = self.process.kill();
        let _ = self.process.wait();
        stop(self.backend.take());
    }
}

fn stop(process: Option<Child>) {
    if let Some(mut process) = process {
        let _ = process.kill();
        let _ = process.wait();
    }
}

fn launch(
    name: &str,
    command: &[String],
    env: &BTreeMap<String, String>,
    port: u16,
) -> Result<Child, String> {
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| format!("{name}: empty command"))?;
    let mut process = Command::new(program)
        .args(arguments)
        .envs(env)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{name}: {program}: {error}"))?;
    let give_up = Instant::now() + START_DEADLINE;
    loop {
        if TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).is_ok() {
            return Ok(process);
        }
        let ended = process.try_wait().is_ok_and(|status| status.is_some());
        if ended || Instant::now() > give_up {
            stop(Some(process));
            return Err(format!("{name}: {program} does not listen on port {port}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Fields 14 and 15 of `/proc/<pid>/stat` (proc(5)), in ticks of 10 ms.
fn cpu_of(process: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name, field 2, is in parentheses and may hold spaces.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => Ok(Duration::from_millis((user + system) * 10)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn get(port: u16, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    )?;
    let mut page = String::new();
    stream.take(1 << 20).read_to_string(&mut page)?;
    Ok(page)
}
