//! Runs the `sh` blocks of one page, in order, as a reader would: one directory, one machine.
//!
//! Pages name real ports (8088, 9090, 4567). A page therefore runs in a network namespace of its own where the
//! kernel allows one; elsewhere on the host's network, one page at a time, and a taken port fails the page.

use super::blocks::{Block, Page};
use super::{programs, workspace};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A page that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// What stands for `cargo`. Pages build with `--release`; the test has built the same programs already, so these
/// exact commands are answered and all others fail.
const CARGO: &str = r#"#!/usr/bin/env bash
case "$*" in
  "run --release --bin sluice -- run") exec target/release/sluice run ;;
  "build --workspace --release --bins") ;;
  *) echo "cargo $*: no page may say this before the test knows it" >&2; exit 97 ;;
esac
"#;

/// Parts of the workspace that commands name by relative paths.
const PARTS: [&str; 3] = ["bench-harness", "docs", "examples"];

/// Runs a page; how many blocks ran, or what went wrong.
pub(crate) fn run(page: &Page) -> Result<usize, String> {
    let runs = |block: &&Block| {
        let elsewhere = ["needs", "test"].map(|name| block.attribute(name));
        block.language == "sh" && elsewhere == [None, None]
    };
    let count = page.blocks.iter().filter(runs).count();
    if count == 0 {
        return Ok(0);
    }
    let session = Session::new();
    let mut script = String::from("ip link set lo up 2>/dev/null\n");
    let mut last = None;
    for (number, block) in page.blocks.iter().enumerate() {
        if let Some(name) = block.attribute("file") {
            fs::write(session.blocks().join(name), &block.text).unwrap();
            script += &format!("cp \"$BLOCKS/{name}\" {name}\n");
        } else if block.has("output") {
            let above = last.ok_or_else(|| format!("{}: no command above", block.place))?;
            fs::write(
                session.blocks().join(format!("{above}.expected")),
                &block.text,
            )
            .unwrap();
        } else if runs(&block) {
            last = Some(number);
            fs::write(session.blocks().join(format!("{number}.sh")), &block.text).unwrap();
            script += &match block.attribute("server") {
                Some(port) => format!("server {number} {port}\n"),
                None => format!("command {number}\n"),
            };
        }
    }
    fs::write(
        session.blocks().join("page.sh"),
        format!("{DRIVER}{script}"),
    )
    .unwrap();
    session.drive().map_err(|number| match number {
        None => format!("{}: not done after {PATIENCE:?}", page.name),
        Some(number) => session.report(number, &page.blocks[number]),
    })?;
    for (number, block) in page.blocks.iter().enumerate() {
        let read = |ending| fs::read_to_string(session.blocks().join(format!("{number}.{ending}")));
        if let (Ok(expected), Ok(printed)) = (read("expected"), read("out"))
            && !matches(&expected, &printed)
        {
            return Err(format!(
                "{}: the page promises\n{expected}\nand the command printed\n{printed}",
                block.place
            ));
        }
    }
    Ok(count)
}

/// Functions of the script that carries a page out. It ends with 0, or writes the number of the failed block.
const DRIVER: &str = r#"
command() {
  bash -euo pipefail "$BLOCKS/$1.sh" >"$BLOCKS/$1.out" 2>"$BLOCKS/$1.err" </dev/null && return
  echo "$1" >"$BLOCKS/failed"; exit 1
}
accepts() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
server() {
  if accepts "$2"; then echo "port $2 is taken" >"$BLOCKS/$1.err"; echo "$1" >"$BLOCKS/failed"; exit 1; fi
  bash -euo pipefail "$BLOCKS/$1.sh" >"$BLOCKS/$1.out" 2>"$BLOCKS/$1.err" </dev/null &
  for _ in {1..400}; do
    accepts "$2" && return
    kill -0 $! 2>/dev/null || break
    sleep 0.05
  done
  echo "$1" >"$BLOCKS/failed"; exit 1
}
"#;

/// A directory that looks like a built checkout, and a place for what the blocks print.
struct Session {
    dir: TempDir,
}

impl Session {
    fn new() -> Session {
        let session = Session {
            dir: tempfile::tempdir().unwrap(),
        };
        let root = session.dir.path();
        for part in ["blocks", "bin", "home", "work/target"] {
            fs::create_dir_all(root.join(part)).unwrap();
        }
        symlink(programs(), root.join("work/target/release")).unwrap();
        for part in PARTS {
            symlink(workspace().join(part), root.join("work").join(part)).unwrap();
        }
        let cargo = root.join("bin/cargo");
        fs::write(&cargo, CARGO).unwrap();
        fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
        session
    }

    fn blocks(&self) -> std::path::PathBuf {
        self.dir.path().join("blocks")
    }

    /// Runs the script. The number of the block that failed, or none where time ran out.
    fn drive(&self) -> Result<(), Option<usize>> {
        let root = self.dir.path();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut child = isolated(&root.join("blocks/page.sh"))
            .current_dir(root.join("work"))
            .env_clear()
            .env("BLOCKS", self.blocks())
            .env("HOME", root.join("home"))
            .env(
                "PATH",
                format!(
                    "{}:{}:{path}",
                    root.join("bin").display(),
                    programs().display()
                ),
            )
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(root.join("blocks/page.err")).unwrap())
            .process_group(0)
            .spawn()
            .unwrap();
        let ended = wait(&mut child);
        // Servers of the page are in the same group; those in a namespace ended with it.
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        let _ = child.wait();
        match ended {
            Some(true) => Ok(()),
            Some(false) => Err(fs::read_to_string(self.blocks().join("failed"))
                .ok()
                .and_then(|number| number.trim().parse().ok())),
            None => Err(None),
        }
    }

    fn report(&self, number: usize, block: &Block) -> String {
        let read = |ending| {
            fs::read_to_string(self.blocks().join(format!("{number}.{ending}"))).unwrap_or_default()
        };
        format!(
            "{}: this fails:\n{}\nstdout: {}\nstderr: {}",
            block.place,
            block.text,
            read("out"),
            read("err")
        )
    }
}

/// The status of a child that ends in time.
fn wait(child: &mut Child) -> Option<bool> {
    let give_up = Instant::now() + PATIENCE;
    while Instant::now() < give_up {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.success());
        }
        thread::sleep(Duration::from_millis(10));
    }
    None
}

/// The script in namespaces of its own where the kernel allows that.
fn isolated(script: &Path) -> Command {
    let up = ["ip", "link", "set", "lo", "up"];
    let mut command = match unshared(&["--net", "--pid", "--fork", "--kill-child"], &up) {
        Some(mut command) => {
            command.arg("bash");
            command
        }
        None => Command::new("bash"),
    };
    command.arg(script);
    command
}

/// `unshare` with these namespaces, with or without root, if the kernel allows them and `probe` works in them.
pub(crate) fn unshared(namespaces: &[&str], probe: &[&str]) -> Option<Command> {
    let as_user: [&[&str]; 2] = [&[], &["--user", "--map-root-user"]];
    as_user.into_iter().find_map(|user| {
        let unshare = || {
            let mut command = Command::new("unshare");
            command.args(user).args(namespaces);
            command
        };
        let allowed = unshare().args(probe).stderr(Stdio::null()).status();
        allowed.is_ok_and(|status| status.success()).then(unshare)
    })
}

/// Whether a text is the expected one, in which `…` stands for anything within a line, and a line that is only
/// `…` for any lines.
fn matches(expected: &str, printed: &str) -> bool {
    fn lines(expected: &[&str], printed: &[&str]) -> bool {
        match expected {
            [] => printed.is_empty(),
            ["…", rest @ ..] => (0..=printed.len()).any(|skip| lines(rest, &printed[skip..])),
            [line, rest @ ..] => printed
                .split_first()
                .is_some_and(|(first, after)| in_line(line, first) && lines(rest, after)),
        }
    }
    fn in_line(expected: &str, printed: &str) -> bool {
        let Some((before, after)) = expected.split_once('…') else {
            return expected.trim_end() == printed.trim_end();
        };
        printed.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len())
                .filter(|at| rest.is_char_boundary(*at))
                .any(|at| in_line(after, &rest[at..]))
        })
    }
    let expected: Vec<&str> = expected.lines().collect();
    let printed: Vec<&str> = printed.lines().collect();
    lines(&expected, &printed)
}

#[test]
fn expected_output_allows_gaps_only_where_they_are_marked() {
    assert!(matches("a…c\n…\nz\n", "abbc\nx\ny\nz\n"));
    assert!(matches("…\nz\n", "z\n"));
    assert!(!matches("a…c\nz\n", "abbd\nz\n"));
    assert!(!matches("a\n", "a\nb\n"));
}

#[test]
fn a_failing_command_fails_its_page() {
    let page = super::blocks::parse("a.md", "```sh\ntrue\n```\n\n```sh\nfalse\ntrue\n```\n");
    let error = run(&page).unwrap_err();
    assert!(error.starts_with("a.md:5: this fails:"), "{error}");
}

#[test]
fn a_wrong_promise_of_output_fails_its_page() {
    let page = super::blocks::parse("a.md", "```sh\necho a\n```\n\n```text,output\nb\n```\n");
    assert!(run(&page).unwrap_err().contains("the page promises"));
}

#[test]
fn a_server_runs_until_its_page_ends() {
    let page = super::blocks::parse(
        "a.md",
        "```sh,server=8088\ncargo run --release --bin sluice -- run\n```\n\n```sh\nsluice health\n```\n",
    );
    assert_eq!(run(&page), Ok(2));
}
