//! One `sluice run` as a child process. It dies with its owner.

use super::client::{Client, Reply, get, post};
use super::metrics::Metrics;
use super::wait_until;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use toml::{Table, Value as TomlValue};

/// Default settings of the tests: short deadlines.
const QUICK: &str = r#"
[listen]
workers = 2
pin = false
[ack]
deadline_ms = 700
[drain]
grace_ms = 100
deadline_ms = 4000
[admin]
address = "127.0.0.1:0"
[log]
format = "json"
"#;

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
    child: Child,
    log: Arc<Mutex<Vec<Value>>>,
    reader: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts it with `settings` laid over short deadlines. Its configuration file goes to `dir`.
    pub(crate) fn start(dir: &Path, settings: &str) -> Proxy {
        Proxy::start_with(dir, settings, &[])
    }

    /// The same with more variables, or other values of those that all have.
    pub(crate) fn start_with(dir: &Path, settings: &str, variables: &[(&str, &str)]) -> Proxy {
        Proxy::start_under(dir, settings, variables, "")
    }

    /// The same from a shell that has run these commands, for instance `ulimit`.
    pub(crate) fn start_under(
        dir: &Path,
        settings: &str,
        variables: &[(&str, &str)],
        shell: &str,
    ) -> Proxy {
        let mut table: Table = QUICK.parse().unwrap();
        merge(&mut table, settings.parse().unwrap());
        let file = dir.join("sluice.toml");
        fs::write(&file, table.to_string()).unwrap();
        let mut child = Command::new("/bin/sh")
            .args(["-c", &format!("{shell}\nexec \"$0\" \"$@\"")])
            .arg(env!("CARGO_BIN_EXE_sluice"))
            .args(["run", "--listen", "127.0.0.1:0", "--config"])
            .arg(&file)
            .current_dir(dir)
            .env_clear()
            .env("HOME", dir)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let reader = {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                for line in lines.map_while(Result::ok) {
                    // Lines that are no JSON come from a panic or the command line.
                    let entry = serde_json::from_str(&line)
                        .unwrap_or_else(|_| serde_json::json!({ "message": line }));
                    log.lock().unwrap().push(entry);
                }
            })
        };
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut proxy = Proxy {
            address: nowhere,
            admin: nowhere,
            child,
            log,
            reader: Some(reader),
        };
        wait_until("the proxy accepts requests", || {
            let gone = proxy.child.try_wait().unwrap();
            assert!(gone.is_none(), "{gone:?}: {:?}", proxy.log());
            !proxy.said("accepting requests").is_empty()
        });
        let address = |message| proxy.said(message)[0]["address"].as_str().unwrap().parse();
        let (accepting, admin) = (address("accepting requests"), address("metrics and probes"));
        (proxy.address, proxy.admin) = (accepting.unwrap(), admin.unwrap());
        proxy
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// One request on a connection of its own.
    pub(crate) fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Reply {
        self.connect().ask(post(path, body))
    }

    /// Where metrics and probes are served.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let reply = Client::connect(self.admin).ask(get("/metrics"));
        assert_eq!(reply.status, 200);
        Metrics::parse(std::str::from_utf8(&reply.body).unwrap())
    }

    /// The metrics once nothing is under way any more. The counters of an output lag behind those of the
    /// requests by a tick of each core: they are there when both name the same number.
    pub(crate) fn settled_metrics(&self, output: &str) -> Metrics {
        wait_until("no record is pending", || {
            let metrics = self.metrics();
            let accepted = metrics.records("accepted_records_total", output);
            accepted == metrics.get("sluice_events_accepted_total")
                && metrics.records("pending_records", output) == 0
                && metrics.records("held_records", output) == 0
                && metrics.get("sluice_in_flight_bytes") == 0
        });
        self.metrics()
    }

    pub(crate) fn is_ready(&self) -> bool {
        Client::connect(self.admin).ask(get("/ready")).status == 200
    }

    /// What `/ready` says.
    pub(crate) fn ready_json(&self) -> Value {
        Client::connect(self.admin).ask(get("/ready")).json()
    }

    /// Its whole log so far.
    pub(crate) fn log(&self) -> Vec<Value> {
        self.log.lock().unwrap().clone()
    }

    /// Lines of its log with this message.
    pub(crate) fn said(&self, message: &str) -> Vec<Value> {
        let mut log = self.log();
        log.retain(|entry| entry["message"] == message);
        log
    }

    /// Memory that it holds, KiB.
    pub(crate) fn rss_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse().unwrap()
    }

    /// The scheduling policy of each thread, as the kernel counts them (0 ordinary, 3 batch).
    pub(crate) fn policies(&self) -> Vec<u32> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let policy = |stat: String| {
            // The 41st field of proc_pid_stat(5), counted from behind the name, which may hold spaces.
            let (_, fields) = stat.rsplit_once(") ").unwrap();
            fields.split(' ').nth(41 - 3).unwrap().parse().unwrap()
        };
        threads
            .map(|thread| policy(fs::read_to_string(thread.unwrap().path().join("stat")).unwrap()))
            .collect()
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and its end.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end and the end of its log; one that does not end within `patience` fails.
    pub(crate) fn wait(&mut self, patience: Duration) -> ExitStatus {
        let give_up = Instant::now() + patience;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < give_up,
                "still running after {patience:?}: {:#?}",
                self.log()
            );
            thread::sleep(Duration::from_millis(10));
        };
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status
    }

    /// SIGTERM, and a clean end.
    pub(crate) fn end_cleanly(mut self) -> Vec<Value> {
        self.terminate();
        let status = self.wait(Duration::from_secs(10));
        assert_eq!(status.code(), Some(0), "{:#?}", self.log());
        self.log()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            for entry in self.log() {
                println!("sluice: {entry}");
            }
        }
    }
}

/// Lays one table over another.
fn merge(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(TomlValue::Table(under)), TomlValue::Table(over)) => merge(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

/// An output of type `kinesis` called `main` that writes to this endpoint; further keys may follow.
pub(crate) fn to_kinesis(endpoint: &str) -> String {
    format!(
        "[outputs.main]\ntype = \"kinesis\"\nstream = \"clicks\"\nendpoint_url = \"{endpoint}\"\n"
    )
}

/// An output of type `file` called `main`; further keys may follow.
pub(crate) fn to_files(dir: &Path) -> String {
    format!("[outputs.main]\ntype = \"file\"\ndir = {dir:?}\n")
}
