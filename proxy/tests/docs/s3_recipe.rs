//! The script of `docs/s3.md` that empties a staging directory without Sluice: what it removes is in the bucket.

use super::blocks::pages;
use super::session::unshared;
use flate2::read::GzDecoder;
use sluice_loadtest::s3::{Emulator, Options};
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::{TempDir, tempdir};

/// Stands for the AWS command line, which tests do not install: the one call of the script, by curl.
const AWS: &str = r#"#!/usr/bin/env bash
set -euo pipefail
[ "$1 $2" = "s3api put-object" ] || exit 97
shift 2
while (($#)); do
  case "$1" in
    --bucket) bucket=$2 ;;
    --key) key=$2 ;;
    --body) body=$2 ;;
    --if-none-match) headers+=(-H "If-None-Match: $2") ;;
    --content-md5) headers+=(-H "Content-MD5: $2") ;;
    --content-encoding) headers+=(-H "Content-Encoding: $2") ;;
    --content-type) headers+=(-H "Content-Type: $2") ;;
    *) exit 97 ;;
  esac
  shift 2
done
curl -sS --fail-with-body -X PUT "${headers[@]}" --data-binary "@$body" "$ENDPOINT/$bucket/$key"
"#;

/// The directory as the page has it, and how the test names its own instead.
const STAGING: [&str; 2] = ["cd /var/lib/sluice/staging\n", "cd \"$STAGING\"\n"];

fn script() -> String {
    let pages = pages();
    let blocks = pages.iter().flat_map(|page| &page.blocks);
    let scripts: Vec<&str> = blocks
        .filter(|block| block.attribute("test") == Some("s3_recipe"))
        .map(|block| block.text.as_str())
        .collect();
    let [script] = scripts.as_slice() else {
        panic!("{} scripts", scripts.len())
    };
    assert_eq!(script.matches(STAGING[0]).count(), 1);
    script.replace(STAGING[0], STAGING[1])
}

/// Lines that gzip cannot make much shorter, so that a small file system cannot hold their object.
fn lines(of: &str) -> Vec<String> {
    (0..600)
        .map(|number| {
            let noise: String = (0..12)
                .map(|_| format!("{:016x}", fastrand::u64(..)))
                .collect();
            format!("{{\"event_id\":\"{of}-{number}\",\"noise\":\"{noise}\"}}")
        })
        .collect()
}

struct Staging {
    dir: TempDir,
    lines: Vec<String>,
}

impl Staging {
    /// A segment of each kind; the growing one ends in the begin of a line that was never answered.
    fn new() -> Staging {
        let dir = tempdir().unwrap();
        let mut all = Vec::new();
        for (seconds, ending, tail) in [
            (1_800_000_000, "keyed", ""),
            (1_800_000_300, "closed", ""),
            (1_800_000_600, "open", "{\"event_id\":\"half"),
        ] {
            let lines = lines(ending);
            let name = format!("{seconds}-00000000-0000-4000-8000-000000000000.{ending}");
            let text = lines.join("\n") + "\n" + tail;
            fs::create_dir_all(dir.path().join("staging")).unwrap();
            fs::write(dir.path().join("staging").join(name), text).unwrap();
            all.extend(lines);
        }
        all.sort();
        let aws = dir.path().join("aws");
        fs::write(&aws, AWS).unwrap();
        fs::set_permissions(&aws, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.path().join("recipe.sh"), script()).unwrap();
        fs::create_dir(dir.path().join("tmp")).unwrap();
        Staging { dir, lines: all }
    }

    /// Whether the script ended with 0. `prelude` runs before it, in namespaces of its own where it needs them.
    fn empty(&self, mut command: Command, prelude: &str, endpoint: &str) -> bool {
        let path = std::env::var("PATH").unwrap_or_default();
        let ended = command
            .args(["-c", &format!("{prelude}exec bash \"$0\"")])
            .arg(self.dir.path().join("recipe.sh"))
            .env("PATH", format!("{}:{path}", self.dir.path().display()))
            .env("TMPDIR", self.dir.path().join("tmp"))
            .env("STAGING", self.dir.path().join("staging"))
            .env("ENDPOINT", endpoint)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        ended.status.success()
    }

    fn segments(&self) -> usize {
        fs::read_dir(self.dir.path().join("staging"))
            .unwrap()
            .count()
    }

    fn stored(emulator: &Emulator) -> Vec<String> {
        let mut stored = Vec::new();
        for (bucket, key) in emulator.keys() {
            let object = emulator.object(&bucket, &key).unwrap().unwrap();
            let mut text = String::new();
            GzDecoder::new(&*object).read_to_string(&mut text).unwrap();
            assert!(
                !text.ends_with('\n'),
                "{key}: a newline after the last line"
            );
            stored.extend(text.lines().map(str::to_owned));
        }
        stored.sort();
        stored
    }
}

fn emulator() -> Emulator {
    Emulator::start(Options {
        buckets: vec!["clicks-raw".to_owned()],
        ..Options::default()
    })
    .unwrap()
}

#[test]
fn the_script_uploads_every_whole_line_and_empties_the_directory() {
    let (staging, emulator) = (Staging::new(), emulator());
    assert!(staging.empty(Command::new("bash"), "", &emulator.url()));
    assert_eq!(staging.segments(), 0);
    assert_eq!(Staging::stored(&emulator), staging.lines);
    let (_, key) = emulator.keys().into_iter().next().unwrap();
    assert_eq!(
        key,
        "clickstream/shop/data/buffer/year=2027/month=01/day=15/hour=08/1800000000-00000000-0000-4000-8000-000000000000.log.gz"
    );
}

/// The earlier form of the script lost segments here: it uploaded what had fitted, and removed the segment.
#[test]
fn a_full_temporary_directory_costs_no_segment() {
    let (staging, emulator) = (Staging::new(), emulator());
    let mount = "mount -t tmpfs -o size=64k none \"$TMPDIR\" || exit 96; ";
    let ended = match unshared(&["--mount"], &["true"]) {
        Some(command) => {
            let mut command = command;
            command.arg("bash");
            staging.empty(command, mount, &emulator.url())
        }
        // Without mounts: no file may grow beyond 64 KiB, which ends writers as a full disk does.
        None => staging.empty(Command::new("bash"), "ulimit -f 64; ", &emulator.url()),
    };
    assert!(!ended, "the script must say that it did not finish");
    assert_eq!(staging.segments(), 3);
    assert_eq!(Staging::stored(&emulator), Vec::<String>::new());
    assert!(staging.empty(Command::new("bash"), "", &emulator.url()));
    assert_eq!(Staging::stored(&emulator), staging.lines);
}

#[test]
fn an_upload_that_fails_keeps_its_segment() {
    let staging = Staging::new();
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    assert!(!staging.empty(Command::new("bash"), "", &nobody));
    assert_eq!(staging.segments(), 3);
}

#[test]
fn an_object_that_is_already_there_keeps_its_segment() {
    let (staging, emulator) = (Staging::new(), emulator());
    assert!(staging.empty(Command::new("bash"), "", &emulator.url()));
    let again = Path::new("staging/1800000000-00000000-0000-4000-8000-000000000000.keyed");
    fs::write(staging.dir.path().join(again), "{\"event_id\":\"other\"}\n").unwrap();
    assert!(!staging.empty(Command::new("bash"), "", &emulator.url()));
    assert_eq!(staging.segments(), 1);
    assert_eq!(Staging::stored(&emulator), staging.lines);
}
