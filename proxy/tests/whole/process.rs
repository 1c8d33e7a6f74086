//! The process around the data path: its signals, its log, its limits, its start.

use crate::support::client::{Client, get};
use crate::support::event::{body, new_ids};
use crate::support::proxy::{Proxy, to_files};
use crate::support::wait_until;
use rustix::process::Signal;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::tempdir;

const EVENTS: &str = "/v1/events";

/// A port that was free a moment ago.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn sluice(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.current_dir(dir).env_clear().stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A proxy on these ports that logs wherever `log` leads. Ends with its owner.
struct Quiet(Child);

impl Quiet {
    fn start(dir: &Path, address: SocketAddr, admin: SocketAddr, log: Stdio) -> Quiet {
        let child = sluice(dir)
            .args(["run", "--workers", "1", "--listen", &address.to_string()])
            .env("SLUICE_ADMIN__ADDRESS", admin.to_string())
            .env("SLUICE_DRAIN__GRACE_MS", "0")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        wait_until("the proxy listens", || {
            std::net::TcpStream::connect(address).is_ok()
                && std::net::TcpStream::connect(admin).is_ok()
        });
        Quiet(child)
    }

    fn end(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        let mut status = None;
        wait_until("it ends", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn dropped_lines(admin: SocketAddr) -> u64 {
    let page = Client::connect(admin).ask(get("/metrics"));
    let page = text(&page.body);
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix("sluice_log_lines_dropped_total "));
    line.unwrap().parse().unwrap()
}

fn serves(address: SocketAddr) -> bool {
    let request = crate::support::client::post(EVENTS, body(&new_ids(1)));
    Client::connect(address).ask(request).status == 200
}

#[test]
fn logs_on_a_full_disk_or_closed_pipe_are_dropped() {
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    for log in [full(), closed()] {
        let dir = tempdir().unwrap();
        let (address, admin) = (free_address(), free_address());
        let proxy = Quiet::start(dir.path(), address, admin, log);
        assert!(serves(address));
        wait_until("lines are counted", || dropped_lines(admin) > 0);
        assert_eq!(proxy.end(), Some(0));
    }
}

#[test]
fn a_log_pipe_nobody_reads_stops_no_request() {
    let dir = tempdir().unwrap();
    let (address, admin) = (free_address(), free_address());
    let (reader, mut writer) = std::io::pipe().unwrap();
    // Full before the first line: a write to it blocks forever.
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while std::io::Write::write(&mut writer, &[b'x'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    let proxy = Quiet::start(dir.path(), address, admin, Stdio::from(writer));
    for _ in 0..20 {
        assert!(serves(address));
    }
    assert_eq!(proxy.end(), Some(0));
    drop(reader);
}

#[test]
fn hangup_and_user_signals_leave_it_serving_and_quit_drains() {
    let dir = tempdir().unwrap();
    let settings = to_files(&dir.path().join("data"));
    let mut proxy = Proxy::start(dir.path(), &settings);
    for signal in [Signal::HUP, Signal::USR1, Signal::USR2] {
        proxy.signal(signal);
    }
    wait_until("the log says so", || {
        proxy.log().iter().any(|entry| {
            let message = entry["message"].as_str().unwrap_or_default();
            message.starts_with("SIGHUP")
        })
    });
    assert_eq!(proxy.post(EVENTS, body(&new_ids(1))).status, 200);
    proxy.signal(Signal::QUIT);
    assert_eq!(proxy.wait(Duration::from_secs(20)).code(), Some(0));
    assert_eq!(proxy.said("output flushed").len(), 1);
}

fn soft_limit(pid: u32) -> u64 {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = line.unwrap().split_whitespace().nth(3).unwrap();
    soft.parse().unwrap()
}

#[test]
fn the_descriptor_limit_is_raised_and_cuts_are_logged() {
    let dir = tempdir().unwrap();
    let settings = to_files(&dir.path().join("data")) + "[listen]\nconnections_max = 400\n";
    let proxy = Proxy::start_under(dir.path(), &settings, &[], "ulimit -Sn 256; ulimit -Hn 900");
    assert_eq!(soft_limit(proxy.pid()), 900);
    let cut = "connections_max is cut to half of the open files that the process may have";
    assert!(proxy.said(cut).is_empty());
    drop(proxy);
    let proxy = Proxy::start_under(dir.path(), &settings, &[], "ulimit -Sn 256; ulimit -Hn 600");
    let lines = proxy.said(cut);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["configured"], 400);
    assert_eq!(lines[0]["connections_max"], 300);
}

#[test]
fn start_says_version_settings_and_outputs() {
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &to_files(&dir.path().join("data")));
    let starting = &proxy.said("starting")[0];
    assert_eq!(starting["version"], env!("CARGO_PKG_VERSION"));
    let config = starting["config"].as_str().unwrap();
    assert!(config.ends_with("sluice.toml"), "{config}");
    let outputs = proxy.said("output in force");
    assert_eq!(outputs.len(), 1);
    assert_eq!(outputs[0]["type"], "file");
    assert_eq!(outputs[0]["ack"], "delivered");
}

/// Runs it until it ends by itself; one that does not is killed.
fn run_to_end(dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = sluice(dir);
    command.args(arguments).envs(variables.iter().copied());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let give_up = Instant::now() + Duration::from_secs(30);
    while child.try_wait().unwrap().is_none() && Instant::now() < give_up {
        thread::sleep(Duration::from_millis(10));
    }
    // An error means that it has ended.
    let _ = child.kill();
    child.wait_with_output().unwrap()
}

#[test]
fn fatal_errors_are_json_lines_where_the_log_is_json() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("not-a-directory"), "").unwrap();
    for (variables, code) in [
        ([("SLUICE_OUTPUTS__MAIN__DIR", "not-a-directory")], 1),
        ([("SLUICE_LIMITS__IDLE_MS", "never")], 2),
    ] {
        let mut all = vec![
            ("SLUICE_LOG__FORMAT", "json"),
            ("SLUICE_OUTPUTS__MAIN__TYPE", "file"),
            ("SLUICE_LISTEN__ADDRESS", "127.0.0.1:0"),
            ("SLUICE_ADMIN__ADDRESS", "off"),
        ];
        all.extend(variables);
        let ended = run_to_end(dir.path(), &["run"], &all);
        assert_eq!(ended.status.code(), Some(code), "{ended:?}");
        let lines = text(&ended.stderr);
        assert!(!lines.is_empty());
        for line in lines.lines() {
            let entry: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(entry["message"].is_string(), "{line}");
        }
        assert!(lines.lines().last().unwrap().contains("\"ERROR\""));
    }
}

#[test]
fn variables_of_the_replaced_tier_without_an_output_are_refused() {
    let dir = tempdir().unwrap();
    let ended = run_to_end(
        dir.path(),
        &["run", "--listen", "127.0.0.1:0"],
        &[
            ("SERVER_ENDPOINT_PATH", "/in"),
            ("AWS_KINESIS_STREAM", "misspelt"),
        ],
    );
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    assert!(text(&ended.stderr).contains("AWS_KINESIS_STREAM_NAME"));
    assert!(!dir.path().join("sluice-data").exists());
}

#[test]
fn two_processes_with_equal_settings_share_both_ports() {
    let (first_dir, second_dir) = (tempdir().unwrap(), tempdir().unwrap());
    let (address, admin) = (free_address(), free_address());
    let first = Quiet::start(first_dir.path(), address, admin, Stdio::null());
    let (reader, writer) = std::io::pipe().unwrap();
    let second = Quiet::start(second_dir.path(), address, admin, Stdio::from(writer));
    let mut lines = BufReader::new(reader).lines();
    let shared = lines.any(|line| line.unwrap().contains("the admin port is shared"));
    assert!(shared);
    thread::spawn(move || lines.for_each(drop));
    assert_eq!(first.end(), Some(0));
    assert!(serves(address));
    assert_eq!(second.end(), Some(0));
}

#[test]
fn a_file_size_limit_is_a_503() {
    let dir = tempdir().unwrap();
    let data = dir.path().join("data");
    // Blocks of 512 bytes in POSIX shells.
    let proxy = Proxy::start_under(dir.path(), &to_files(&data), &[], "ulimit -f 8");
    let mut statuses = Vec::new();
    for _ in 0..10 {
        let ids = new_ids(10);
        statuses.push(proxy.post(EVENTS, body(&ids)).status);
    }
    assert!(statuses.contains(&503), "{statuses:?}");
    assert!(proxy.is_ready());
    proxy.end_cleanly();
}

fn check(dir: &Path, variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut all = vec![("SLUICE_ADMIN__ADDRESS", "off")];
    all.extend(variables);
    let ended = run_to_end(dir, &["check", "--offline"], &all);
    (ended.status.code(), text(&ended.stdout))
}

#[test]
fn check_offline_warns_and_tries_no_destination() {
    let dir = tempdir().unwrap();
    let free = free_address().to_string();
    let (code, said) = check(
        dir.path(),
        &[
            ("SLUICE_LISTEN__ADDRESS", &free),
            ("SLUICE_OUTPUTS__MAIN__TYPE", "kinesis"),
            ("SLUICE_OUTPUTS__MAIN__STREAM", "clicks"),
            ("SLUICE_OUTPUTS__MAIN__ACK", "enqueued"),
            ("SLUICE_DRAIN__GRACE_MS", "1000"),
        ],
    );
    assert_eq!(code, Some(0), "{said}");
    for part in [
        "not tried (--offline)",
        "every output is `enqueued`",
        "note: docker stop kills after 10 s",
        "note: Kubernetes needs up to 5 s",
    ] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    let (code, said) = check(
        dir.path(),
        &[
            ("SLUICE_LISTEN__ADDRESS", &free),
            ("SLUICE_OUTPUTS__MAIN__TYPE", "null"),
        ],
    );
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("every output is `null`"), "{said}");
}

#[test]
fn check_warns_of_a_port_that_another_process_shares() {
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &to_files(&dir.path().join("data")));
    let shared = proxy.address.to_string();
    let (code, said) = check(
        dir.path(),
        &[
            ("SLUICE_LISTEN__ADDRESS", &shared),
            ("SLUICE_OUTPUTS__MAIN__TYPE", "null"),
        ],
    );
    assert_eq!(code, Some(0), "{said}");
    let warning = format!("warning: listen.address {shared} is in use by a process that shares it");
    assert!(said.contains(&warning), "{said}");
}

#[test]
fn check_reports_a_port_in_use() {
    let dir = tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, said) = check(
        dir.path(),
        &[
            ("SLUICE_LISTEN__ADDRESS", &address),
            ("SLUICE_OUTPUTS__MAIN__TYPE", "null"),
        ],
    );
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("listen.address {address} FAILED")));
}
