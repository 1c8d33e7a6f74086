//! A peer's processes, from its row: started, queried, ended. A peer whose program is not installed is
//! skipped, which is reported and recorded.

use crate::counter::{self, Counter, Counts};
use crate::disk::Folder;
use crate::input;
use crate::peer::{Peer, StopSignal, fill};
use crate::process;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Installing may build from source.
const INSTALL_DEADLINE: Duration = Duration::from_secs(1_200);

/// A command for a version, for a count or to stop has this long.
const COMMAND_DEADLINE: Duration = Duration::from_secs(20);

/// How often a starting peer is polled.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Lines of a server's output that are shown when it does not start.
const LAST_LINES: usize = 5;

/// The last line of a ledger whose writer has ended cleanly (`sluice-loadtest`'s ledgers).
const LEDGER_END: &[u8] = b"\nend\n";

/// Folders.
#[derive(Clone, Debug)]
pub struct Places {
    /// Release binaries.
    pub bin: PathBuf,
    /// Peer rows and the files beside them.
    pub rows: PathBuf,
    /// Programs that rows installed.
    pub tools: PathBuf,
    /// Folders of running peers are made in here.
    pub scratch: PathBuf,
}

/// Result of starting a row.
#[derive(Debug)]
pub enum Started {
    /// It runs.
    Running(Box<Running>),
    /// It is not available here, and why.
    Skipped(String),
}

/// A started peer; stopped when dropped.
#[derive(Debug)]
pub struct Running {
    /// Its row's name.
    pub name: String,
    /// Its row.
    pub peer: Peer,
    /// Port that takes requests.
    pub port: u16,
    /// Output of its version commands.
    pub version: String,
    words: Vec<(String, String)>,
    process: Server,
    // Dropped after the peer, which may need it to the end.
    backend: Option<Server>,
    // Dropped after both, which write there.
    _disk: Option<Folder>,
}

impl Running {
    /// Finds the row's programs, installs them if that is wanted and needed, starts the backend
    /// and the peer, and waits until both are up.
    ///
    /// # Errors
    /// A program that is installed and does not start, with its last lines of output.
    pub fn start(
        name: &str,
        peer: Peer,
        places: &Places,
        install: bool,
    ) -> Result<Started, String> {
        let at = |error: &dyn std::fmt::Display| format!("{name}: {error}");
        let dir = places.scratch.join(name);
        fs::create_dir_all(&dir).map_err(|error| at(&error))?;
        let mut words = words(places, &dir).map_err(|error| at(&error))?;
        let programs = match programs(name, &peer, &words, install) {
            Ok(programs) => programs,
            Err(why) => return Ok(Started::Skipped(why)),
        };
        for (program, found) in programs {
            words.push((program, found.display().to_string()));
        }
        let disk = if peer.names("{disk}") {
            let folder = format!("disk-{}-{name}", std::process::id());
            let path = std::path::absolute(places.tools.join(folder));
            let path = path.map_err(|error| at(&error))?;
            match Folder::create(&path) {
                Ok(folder) => {
                    words.push(("disk".to_owned(), path.display().to_string()));
                    Some(folder)
                }
                Err(why) => return Ok(Started::Skipped(why)),
            }
        } else {
            None
        };
        for file in &peer.files {
            let (from, to) = (places.rows.join(file), dir.join(base_name(file)));
            let text = input::read(&from, input::SMALL_BYTES_MAX).map_err(|error| at(&error))?;
            fs::write(&to, fill(&text, &words))
                .map_err(|error| at(&format!("{}: {error}", to.display())))?;
        }
        let port = |word: &str| -> Result<u16, String> {
            let port = fill(word, &words);
            port.parse()
                .map_err(|_| at(&format!("{port:?} is no port")))
        };
        let (main, aux) = (port("{port}")?, port("{aux}")?);
        let backend = if peer.backend.is_empty() {
            None
        } else {
            let command = filled(&peer.backend, &words);
            let mut server = Server::spawn(&command, &BTreeMap::new(), &dir.join("backend.log"))
                .map_err(|error| at(&error))?;
            server
                .await_up(Duration::from_secs(peer.ready.seconds), || accepts(aux))
                .map_err(|error| at(&error))?;
            if peer.drained.is_some() {
                let patience = Duration::from_secs(peer.stop.seconds);
                server.stop = Some((StopSignal::Term, Vec::new(), patience));
            }
            Some(server)
        };
        let env = peer
            .env
            .iter()
            .map(|(name, value)| (name.clone(), fill(value, &words)))
            .collect();
        let mut process = Server::spawn(&filled(&peer.run, &words), &env, &dir.join("output.log"))
            .map_err(|error| at(&error))?;
        process.stop = Some((
            peer.stop.signal,
            filled(&peer.stop.command, &words),
            Duration::from_secs(peer.stop.seconds),
        ));
        let ready = peer.ready.clone();
        let ready_port = port(&ready.port)?;
        process
            .await_up(Duration::from_secs(ready.seconds), || {
                accepts(main)
                    && ready.path.as_ref().is_none_or(|path| {
                        counter::ask(ready_port, path)
                            .is_ok_and(|(status, _)| status == ready.status)
                    })
            })
            .map_err(|error| at(&error))?;
        let mut versions: Vec<String> = peer
            .version
            .iter()
            .map(|command| version(&filled(command, &words)))
            .collect();
        versions.extend(disk.iter().map(|disk| format!("files on {}", disk.on)));
        Ok(Started::Running(Box::new(Running {
            name: name.to_owned(),
            port: main,
            version: versions.join(", "),
            words,
            process,
            backend,
            _disk: disk,
            peer,
        })))
    }

    /// Ends the peer and then its backend, and compares what the backend holds with the `events` that the
    /// peer accepted, where its row says how.
    ///
    /// # Errors
    /// The expected and the actual count.
    pub fn end(self, events: u64) -> Result<(), String> {
        let Running {
            name,
            peer,
            words,
            process,
            backend,
            _disk: disk,
            ..
        } = self;
        drop(process);
        drop(backend);
        let found = match &peer.drained {
            None => Ok(events),
            Some(drained) => {
                let path = fill(&drained.ledger, &words);
                stored_events(Path::new(&path)).map_err(|error| format!("{name}: {path}: {error}"))
            }
        };
        drop(disk);
        match found? {
            found if found == events => Ok(()),
            found => Err(format!(
                "{name}: {events} events were accepted, its backend holds {found} in the end"
            )),
        }
    }

    /// The id of its first process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.child.id()
    }

    /// Port and path of the page of its metrics, where it shows them on `{admin}`.
    #[must_use]
    pub fn metrics(&self) -> Option<(u16, &'static str)> {
        Some((fill("{admin}", &self.words).parse().ok()?, "/metrics"))
    }

    /// CPU time so far of the peer and all it started, user and system; not of its backend.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn cpu(&self) -> Result<Duration, String> {
        process::cpu(self.process.child.id()).map_err(|error| format!("{}: {error}", self.name))
    }

    /// Memory now of the peer and all it started, in bytes.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn memory(&self) -> Result<u64, String> {
        process::memory(self.process.child.id()).map_err(|error| format!("{}: {error}", self.name))
    }

    /// All its counters now, in the order of its row; `None` for one that does not show yet.
    ///
    /// # Errors
    /// When a page cannot be had, a command fails, or either shows no number.
    pub fn counts(&self) -> Result<Vec<(Counts, Option<u64>)>, String> {
        self.peer
            .counters
            .iter()
            .map(|counter| {
                let count = if counter.command.is_empty() {
                    counter.read(&fill(&counter.page, &self.words))
                } else {
                    said(&filled(&counter.command, &self.words))
                        .and_then(|(text, _)| Counter::printed(&text))
                        .map(Some)
                };
                Ok((
                    counter.counts,
                    count.map_err(|error| format!("{}: {error}", self.name))?,
                ))
            })
            .collect()
    }
}

fn words(places: &Places, dir: &Path) -> io::Result<Vec<(String, String)>> {
    // Servers may change their working directory.
    let path = |path: &Path| Ok::<_, io::Error>(std::path::absolute(path)?.display().to_string());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut words = vec![
        ("bin".to_owned(), path(&places.bin)?),
        ("rows".to_owned(), path(&places.rows)?),
        ("tools".to_owned(), path(&places.tools)?),
        ("dir".to_owned(), path(dir)?),
        ("cores".to_owned(), cores.to_string()),
    ];
    // Held open together, so that no two are the same.
    let mut listeners = Vec::new();
    for word in ["port", "admin", "aux", "stats"] {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        words.push((word.to_owned(), listener.local_addr()?.port().to_string()));
        listeners.push(listener);
    }
    Ok(words)
}

fn filled(command: &[String], words: &[(String, String)]) -> Vec<String> {
    command.iter().map(|word| fill(word, words)).collect()
}

fn base_name(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}

/// Finds the row's programs, after installing them if that is wanted. An error is the reason to skip.
fn programs(
    name: &str,
    peer: &Peer,
    words: &[(String, String)],
    install: bool,
) -> Result<BTreeMap<String, PathBuf>, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let find = || peer.find_programs(|text| fill(text, words), &path);
    match find() {
        Err(missing) if peer.install.is_empty() => Err(missing),
        Err(missing) if !install => {
            Err(format!("{missing}; --install would run its row's install"))
        }
        Err(_) => {
            let command = filled(&peer.install, words);
            // When stderr is gone, there is nowhere left to report it.
            let _ = writeln!(io::stderr(), "sluice-bench: {name}: installing");
            run_install(&command).map_err(|error| format!("not installed: {error}"))?;
            find()
        }
        found => found,
    }
}

fn run_install(command: &[String]) -> Result<(), String> {
    let (program, arguments) = command.split_first().ok_or("empty command")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        // Our stdout is for the table.
        .stdout(io::stderr())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    match process::wait(&mut child, INSTALL_DEADLINE) {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => Err(format!("{program}: {status}")),
        Ok(None) => {
            process::end(&mut child, |_| {}, Duration::ZERO);
            Err(format!("{program}: not done after {INSTALL_DEADLINE:?}"))
        }
        Err(error) => Err(format!("{program}: {error}")),
    }
}

/// The first line that a command prints, on stdout or, as nginx does, on stderr.
fn version(command: &[String]) -> String {
    let line = said(command).ok().and_then(|(out, error)| {
        let text = out + "\n" + &error;
        let mut lines = text.lines().map(str::trim);
        lines.find(|line| !line.is_empty()).map(str::to_owned)
    });
    line.unwrap_or_else(|| "version unknown".to_owned())
}

/// Output of a command on stdout and on stderr, the first 4 KiB of each, which fit into a pipe.
fn said(command: &[String]) -> Result<(String, String), String> {
    let (program, arguments) = command.split_first().ok_or("empty command")?;
    let bad = |error: io::Error| format!("{program}: {error}");
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(bad)?;
    let status = process::wait(&mut child, COMMAND_DEADLINE).map_err(bad)?;
    if status.is_none() {
        process::end(&mut child, |_| {}, Duration::ZERO);
        return Err(format!("{program}: not done after {COMMAND_DEADLINE:?}"));
    }
    let mut texts = [String::new(), String::new()];
    let [out, error] = &mut texts;
    if let (Some(stdout), Some(stderr)) = (child.stdout, child.stderr) {
        stdout.take(4_096).read_to_string(out).map_err(bad)?;
        stderr.take(4_096).read_to_string(error).map_err(bad)?;
    }
    let [out, error] = texts;
    match status {
        Some(status) if !status.success() => {
            Err(format!("{program}: {status}: {}", (out + &error).trim()))
        }
        _ => Ok((out, error)),
    }
}

fn accepts(port: u16) -> bool {
    TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).is_ok()
}

/// The events in a ledger of stored ids, which has an id a line between the line that names its kind and the end
/// mark. An error without the mark: its writer did not end cleanly, so that the count means nothing.
fn stored_events(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let end = LEDGER_END.len() as i64;
    let mut last = Vec::new();
    file.seek(SeekFrom::End(0))?;
    if file.stream_position()? >= end as u64 {
        file.seek(SeekFrom::End(-end))?;
        file.read_to_end(&mut last)?;
    }
    if last != LEDGER_END {
        return Err(io::Error::other("it has no end mark"));
    }
    file.rewind()?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut lines = 0_u64;
    loop {
        let piece = reader.fill_buf()?;
        if piece.is_empty() {
            return Ok(lines.saturating_sub(2));
        }
        lines += memchr::memchr_iter(b'\n', piece).count() as u64;
        let length = piece.len();
        reader.consume(length);
    }
}

/// A process that runs until it is stopped; stopped when dropped.
#[derive(Debug)]
struct Server {
    child: Child,
    program: String,
    log: PathBuf,
    /// Signal, command instead, time limit; killed immediately without one.
    stop: Option<(StopSignal, Vec<String>, Duration)>,
}

impl Server {
    fn spawn(
        command: &[String],
        env: &BTreeMap<String, String>,
        log: &Path,
    ) -> Result<Server, String> {
        let (program, arguments) = command.split_first().ok_or("empty command")?;
        let bad = |error: io::Error| format!("{program}: {error}");
        let output = File::create(log).map_err(bad)?;
        let child = Command::new(program)
            .args(arguments)
            .envs(env)
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(bad)?)
            .stderr(output)
            .spawn()
            .map_err(bad)?;
        Ok(Server {
            child,
            program: program.clone(),
            log: log.to_path_buf(),
            stop: None,
        })
    }

    fn await_up(&mut self, patience: Duration, is_up: impl Fn() -> bool) -> Result<(), String> {
        let give_up = Instant::now() + patience;
        while !is_up() {
            let ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            if ended || Instant::now() > give_up {
                let what = if ended {
                    "ended at its start"
                } else {
                    "is not ready in time"
                };
                let output = fs::read(&self.log).unwrap_or_default();
                let output = String::from_utf8_lossy(&output);
                let lines: Vec<&str> = output.lines().collect();
                let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
                return Err(format!("{} {what}\n{}", self.program, last.join("\n")));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some((signal, command, patience)) = &self.stop else {
            process::end(&mut self.child, |_| {}, Duration::ZERO);
            return;
        };
        let ask = |id| match command.split_first() {
            Some((program, arguments)) => {
                let child = Command::new(program)
                    .args(arguments)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn();
                // One that does not work shows by the kill that follows.
                if let Ok(mut child) = child {
                    let _ = process::wait(&mut child, COMMAND_DEADLINE);
                    process::end(&mut child, |_| {}, Duration::ZERO);
                }
            }
            None => process::signal(
                id,
                match signal {
                    StopSignal::Term => Signal::TERM,
                    StopSignal::Int => Signal::INT,
                    StopSignal::Quit => Signal::QUIT,
                    StopSignal::Kill => Signal::KILL,
                },
            ),
        };
        process::end(&mut self.child, ask, *patience);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(dir: &Path) -> Places {
        Places {
            bin: dir.to_path_buf(),
            rows: dir.to_path_buf(),
            tools: dir.to_path_buf(),
            scratch: dir.join("scratch"),
        }
    }

    fn start(row: &str, install: bool) -> Result<Started, String> {
        let dir = tempfile::tempdir().unwrap();
        let peer = toml::from_str(row).unwrap();
        Running::start("odd", peer, &places(dir.path()), install)
    }

    #[test]
    fn a_ledger_counts_ids_and_needs_its_end_mark() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let count = |text: &str| {
            fs::write(file.path(), text).unwrap();
            stored_events(file.path()).map_err(|error| error.to_string())
        };
        assert_eq!(count("kind\nend\n"), Ok(0));
        assert_eq!(count("kind\n1\n2\n3\nend\n"), Ok(3));
        for broken in ["", "end", "kind\n1\n2\n", "kind\n1\n2\nend"] {
            assert_eq!(
                count(broken),
                Err("it has no end mark".to_owned()),
                "{broken:?}"
            );
        }
    }

    const MISSING: &str = "about = 'x'\nrun = ['{odd}']\nprograms = { odd = ['{tools}/odd'] }\n";

    #[test]
    fn a_missing_program_is_skipped_by_name() {
        let Ok(Started::Skipped(why)) = start(MISSING, true) else {
            panic!("not skipped");
        };
        assert!(why.starts_with("no program odd ("), "{why}");
    }

    #[test]
    fn installs_run_on_request_and_failures_skip() {
        let row = format!("install = ['sh', '-c', 'exit 3']\n{MISSING}");
        let Ok(Started::Skipped(why)) = start(&row, false) else {
            panic!("not skipped");
        };
        assert!(why.contains("--install would run"), "{why}");
        let Ok(Started::Skipped(why)) = start(&row, true) else {
            panic!("not skipped");
        };
        assert!(why.contains("not installed: sh: exit status: 3"), "{why}");
    }

    #[test]
    fn a_failing_start_shows_its_output() {
        let script = "printf \"#!/bin/sh\\necho no such option >&2; exit 1\\n\" > {tools}/odd; chmod +x {tools}/odd";
        let row = format!("install = ['sh', '-c', '''{script}''']\n{MISSING}");
        let error = start(&row, true).unwrap_err();
        assert!(
            error.contains("ended at its start") && error.contains("no such option"),
            "{error}"
        );
    }

    #[test]
    fn a_failing_command_has_no_value_and_shows_output() {
        let sh = |script: &str| said(&["sh", "-c", script].map(str::to_owned));
        assert_eq!(sh("echo 7"), Ok(("7\n".to_owned(), String::new())));
        let error = sh("echo 7; echo no broker >&2; exit 3").unwrap_err();
        assert!(
            error.contains("exit status: 3") && error.contains("no broker"),
            "{error}"
        );
        assert!(said(&["/nonexistent".to_owned()]).is_err());
    }

    #[test]
    fn the_version_is_the_first_line_of_either_output() {
        let sh = |script: &str| version(&["sh", "-c", script].map(str::to_owned));
        assert_eq!(sh("echo; echo ' odd 1.2 '; echo more"), "odd 1.2");
        assert_eq!(sh("echo odd 1.2 >&2"), "odd 1.2");
        assert_eq!(sh("true"), "version unknown");
        assert_eq!(version(&["/nonexistent".to_owned()]), "version unknown");
    }
}
