//! The file sink as a user of the directory sees it.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml does not reach here

use sluice_core::ack::{AckQueue, OutputId, RequestKey, Ticket};
use sluice_core::cause::Cause;
use sluice_core::record::{Record, RecordResult};
use sluice_core::time::{Mono, Wall};
use sluice_sinks::file::{FileSettings, FileSink};
use sluice_sinks::null::NullSink;
use sluice_sinks::sink::Sink;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// 2026-11-20T07:00:00Z
const START: u64 = 1_795_158_000;

fn fixed() -> Wall {
    Wall {
        secs: START,
        nanos: 0,
    }
}

/// A clock of one test, moved by hand.
macro_rules! clock {
    ($secs:ident, $clock:ident) => {
        static $secs: AtomicU64 = AtomicU64::new(START);
        fn $clock() -> Wall {
            Wall {
                secs: $secs.load(Ordering::SeqCst),
                nanos: 999_999_999,
            }
        }
    };
}

fn record(line: impl Into<Vec<u8>>) -> Record {
    let request = RequestKey {
        slot: 0,
        generation: 0,
    };
    Record {
        key: Some("not stored".into()),
        topic: None,
        payload: line.into().into(),
        deadline: Mono::NEVER,
        ticket: Ticket::new(AckQueue::leak(), request, OutputId(0), 1),
    }
}

async fn write(sink: &FileSink, line: &str) {
    assert_eq!(
        sink.write(&[record(line)]).await,
        [RecordResult::Delivered],
        "{line}"
    );
}

/// Every file below `dir` that is not hidden, by its path from there.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, dir: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with('.') {
                continue;
            }
            if path.is_dir() {
                walk(root, &path, files);
            } else {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().into();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(dir, dir, &mut found);
    found
}

fn contents(dir: &Path) -> Vec<String> {
    let mut contents: Vec<_> = files(dir)
        .into_iter()
        .filter(|(name, _)| name.ends_with(".ndjson"))
        .map(|(_, bytes)| String::from_utf8(bytes).unwrap())
        .collect();
    contents.sort();
    contents
}

/// Names of data files that may still grow, without ending.
fn growing(dir: &Path) -> Vec<String> {
    fs::read_dir(dir.join(".open")).map_or_else(
        |_| Vec::new(),
        |entries| {
            entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        },
    )
}

/// A directory as a killed process leaves it: one file that was growing.
fn killed_with(dir: &Path, content: &[u8]) -> PathBuf {
    let name = format!("{START}-00000000000000ab");
    let hour = dir.join("year=2026/month=11/day=20/hour=07");
    fs::create_dir_all(&hour).unwrap();
    fs::create_dir_all(dir.join(".open")).unwrap();
    fs::write(dir.join(".open").join(&name), "").unwrap();
    let path = hour.join(name + ".ndjson");
    fs::write(&path, content).unwrap();
    path
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

#[tokio::test]
async fn every_confirmed_record_is_one_ndjson_line() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("a/b");
    let sink = FileSink::start(FileSettings::new(&dir), fixed).unwrap();
    assert!(files(&dir).is_empty(), "no file before the first record");
    let mut expected = String::new();
    for batch in 0..20 {
        let lines: Vec<_> = (0..50)
            .map(|n| format!(r#"{{"batch":{batch},"n":{n},"text":"\n é"}}"#))
            .collect();
        let records: Vec<_> = lines.iter().map(|line| record(line.as_str())).collect();
        assert_eq!(sink.write(&records).await, [RecordResult::Delivered; 50]);
        for line in lines {
            expected += &line;
            expected.push('\n');
        }
        assert_eq!(contents(&dir), [expected.as_str()]);
    }
    let names: Vec<_> = files(&dir).into_keys().collect();
    assert_eq!(names.len(), 1);
    let hour = format!("year=2026/month=11/day=20/hour=07/{START}-");
    assert!(names[0].starts_with(&hour), "{names:?}");
}

#[tokio::test]
async fn a_file_is_finished_before_it_would_pass_its_size() {
    let temp = tempfile::tempdir().unwrap();
    let settings = FileSettings {
        file_bytes_max: 10,
        ..FileSettings::new(temp.path())
    };
    let sink = FileSink::start(settings, fixed).unwrap();
    for line in ["1234", "5678", "90", "a batch of its own size", "x"] {
        write(&sink, line).await;
        assert_eq!(growing(temp.path()).len(), 1);
    }
    assert_eq!(
        contents(temp.path()),
        ["1234\n5678\n", "90\n", "a batch of its own size\n", "x\n"]
    );
}

#[tokio::test]
async fn a_file_is_finished_when_it_is_old() {
    clock!(SECS, clock);
    let temp = tempfile::tempdir().unwrap();
    let sink = FileSink::start(FileSettings::new(temp.path()), clock).unwrap();
    write(&sink, "0").await;
    SECS.fetch_add(299, Ordering::SeqCst);
    write(&sink, "299").await;
    SECS.fetch_add(1, Ordering::SeqCst);
    write(&sink, "300").await;
    assert_eq!(contents(temp.path()), ["0\n299\n", "300\n"]);
}

#[tokio::test]
async fn records_lie_under_their_hour_despite_clock_steps() {
    clock!(SECS, clock);
    let temp = tempfile::tempdir().unwrap();
    let settings = FileSettings {
        file_age_max: Duration::from_secs(86_400),
        ..FileSettings::new(temp.path())
    };
    let sink = FileSink::start(settings, clock).unwrap();
    for (secs, line) in [
        (START, "at seven"),
        (START + 3_599, "still seven"),
        (START + 3_600, "eight"),
        (START + 17 * 3_600, "next day"),
        (START - 1, "six"),
    ] {
        SECS.store(secs, Ordering::SeqCst);
        write(&sink, line).await;
    }
    let by_hour: Vec<_> = files(temp.path())
        .into_iter()
        .map(|(name, content)| {
            let hour = name.rsplit_once('/').unwrap().0.to_owned();
            (hour, String::from_utf8(content).unwrap())
        })
        .collect();
    let day = "year=2026/month=11/day=20";
    assert_eq!(
        by_hour,
        [
            (format!("{day}/hour=06"), "six\n".to_owned()),
            (
                format!("{day}/hour=07"),
                "at seven\nstill seven\n".to_owned()
            ),
            (format!("{day}/hour=08"), "eight\n".to_owned()),
            (
                "year=2026/month=11/day=21/hour=00".to_owned(),
                "next day\n".to_owned()
            ),
        ]
    );
}

#[tokio::test]
async fn an_old_file_is_finished_without_another_write() {
    clock!(SECS, clock);
    let temp = tempfile::tempdir().unwrap();
    let sink = FileSink::start(FileSettings::new(temp.path()), clock).unwrap();
    write(&sink, "alone").await;
    assert_eq!(growing(temp.path()).len(), 1);
    SECS.fetch_add(300, Ordering::SeqCst);
    for _ in 0..600 {
        if growing(temp.path()).is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(growing(temp.path()), [""; 0]);
    assert_eq!(contents(temp.path()), ["alone\n"]);
}

#[tokio::test]
async fn only_the_growing_file_has_a_marker() {
    let temp = tempfile::tempdir().unwrap();
    let settings = FileSettings {
        file_bytes_max: 4,
        ..FileSettings::new(temp.path())
    };
    let sink = FileSink::start(settings, fixed).unwrap();
    write(&sink, "finished").await;
    write(&sink, "growing").await;
    let marked = growing(temp.path());
    assert_eq!(marked.len(), 1);
    let content = files(temp.path())
        .into_iter()
        .find(|(name, _)| name.ends_with(&format!("/{}.ndjson", marked[0])))
        .unwrap()
        .1;
    assert_eq!(content, b"growing\n");
    drop(sink);
    assert_eq!(growing(temp.path()), [""; 0]);
}

#[tokio::test]
async fn a_payload_that_is_not_one_line_is_refused_alone() {
    let temp = tempfile::tempdir().unwrap();
    let sink = FileSink::start(FileSettings::new(temp.path()), fixed).unwrap();
    let results = sink
        .write(&[
            record("good"),
            record("two\nlines"),
            record("ends in a newline\n"),
            record("\0"),
            record(""),
            record("good too"),
        ])
        .await;
    let invalid = RecordResult::Refused(Cause::Invalid);
    let delivered = RecordResult::Delivered;
    assert_eq!(
        results,
        [delivered, invalid, invalid, invalid, invalid, delivered]
    );
    assert_eq!(contents(temp.path()), ["good\ngood too\n"]);
    assert_eq!(sink.write(&[record("\n")]).await, [invalid]);
    assert_eq!(sink.write(&[]).await, []);
}

#[tokio::test]
async fn a_second_writer_is_locked_out() {
    let temp = tempfile::tempdir().unwrap();
    let first = FileSink::start(FileSettings::new(temp.path()), fixed).unwrap();
    write(&first, "one").await;
    let error = FileSink::start(FileSettings::new(temp.path()), fixed)
        .err()
        .unwrap();
    assert!(
        error
            .reason
            .contains("another process or output writes here"),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains(&temp.path().display().to_string()),
        "{error}"
    );
    assert_eq!(
        growing(temp.path()).len(),
        1,
        "the first one's marker was left alone"
    );
    drop(first);
    let second = FileSink::start(FileSettings::new(temp.path()), fixed).unwrap();
    write(&second, "two").await;
    assert_eq!(contents(temp.path()), ["one\n", "two\n"]);
}

#[tokio::test]
async fn a_restart_appends_nothing_to_an_old_file() {
    let temp = tempfile::tempdir().unwrap();
    let old = killed_with(temp.path(), b"one\ntwo\n");
    let sink = FileSink::start(FileSettings::new(temp.path()), fixed).unwrap();
    assert_eq!(growing(temp.path()), [""; 0]);
    write(&sink, "three").await;
    assert_eq!(fs::read(&old).unwrap(), b"one\ntwo\n");
    assert_eq!(contents(temp.path()), ["one\ntwo\n", "three\n"]);
}

#[tokio::test]
async fn a_torn_tail_is_moved_aside_at_start() {
    // A NUL stands for a block that the file system had not written when power was lost.
    let chunk = vec![b'x'; 300 * 1024];
    let long = [b"one\n", chunk.as_slice()].concat();
    let cases: [(&[u8], &[u8], &[u8]); 6] = [
        (b"one\ntw", b"one\n", b"tw"),
        (b"one\n\0\0\0", b"one\n", b"\0\0\0"),
        (b"one\nt\0o\nthree\n", b"one\n", b"t\0o\nthree\n"),
        (b"one\ntwo\n{", b"one\ntwo\n", b"{"),
        (&long, b"one\n", &chunk),
        (b"no line at all", b"", b"no line at all"),
    ];
    for (left, kept, torn) in cases {
        let temp = tempfile::tempdir().unwrap();
        let path = killed_with(temp.path(), left);
        drop(FileSink::start(FileSettings::new(temp.path()), fixed).unwrap());
        if kept.is_empty() {
            assert!(!path.exists());
        } else {
            assert_eq!(fs::read(&path).unwrap(), kept);
        }
        assert_eq!(fs::read(with_suffix(&path, ".torn")).unwrap(), torn);
        assert_eq!(growing(temp.path()), [""; 0]);
    }
}

#[tokio::test]
async fn an_intact_file_has_no_torn_tail() {
    let temp = tempfile::tempdir().unwrap();
    let line = vec![b'y'; 256 * 1024 - 1];
    let content = [line.as_slice(), b"\n", &line, b"\n", &line, b"y\n"].concat();
    let path = killed_with(temp.path(), &content);
    drop(FileSink::start(FileSettings::new(temp.path()), fixed).unwrap());
    assert!(fs::read(&path).unwrap() == content);
    assert_eq!(files(temp.path()).len(), 1);
}

#[tokio::test]
async fn only_marked_files_are_recovered_at_start() {
    let temp = tempfile::tempdir().unwrap();
    let marked = killed_with(temp.path(), b"one\n");
    let unmarked = marked.with_file_name("1795158001-00000000000000ab.ndjson");
    fs::write(&unmarked, "no newline").unwrap();
    let foreign = temp.path().join(".open/notes.txt");
    fs::write(&foreign, "").unwrap();
    // A marker whose file was never created, or was moved away.
    fs::write(temp.path().join(".open/1-0000000000000001"), "").unwrap();
    drop(FileSink::start(FileSettings::new(temp.path()), fixed).unwrap());
    assert_eq!(fs::read(&unmarked).unwrap(), b"no newline");
    assert_eq!(growing(temp.path()), ["notes.txt"]);
}

#[tokio::test]
async fn a_removed_growing_file_is_replaced() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("data");
    let sink = FileSink::start(FileSettings::new(&dir), fixed).unwrap();
    write(&sink, "removed").await;
    fs::remove_dir_all(&dir).unwrap();
    write(&sink, "found").await;
    assert_eq!(contents(&dir), ["found\n"]);
}

#[tokio::test]
async fn check_says_what_was_tried_and_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let sink = FileSink::start(FileSettings::new(temp.path()), fixed).unwrap();
    let found = sink.check().await.unwrap();
    assert!(found.contains("created, synced and removed"), "{found}");
    let left: Vec<_> = fs::read_dir(temp.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    drop(temp);
    let error = sink.check().await.unwrap_err();
    assert!(error.reason.starts_with("cannot write to it"), "{error}");
}

#[tokio::test]
async fn a_directory_that_cannot_be_created_is_a_start_error() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("file"), "").unwrap();
    let settings = FileSettings::new(temp.path().join("file/data"));
    let error = FileSink::start(settings, fixed).err().unwrap();
    assert!(error.reason.starts_with("cannot create it"), "{error}");
}

#[tokio::test]
async fn settings_out_of_range_are_start_errors() {
    let temp = tempfile::tempdir().unwrap();
    let good = || FileSettings::new(temp.path());
    let no_records = FileSettings {
        batch_records_max: 0,
        ..good()
    };
    let no_bytes = FileSettings {
        batch_bytes_max: 0,
        ..good()
    };
    let no_age = FileSettings {
        file_age_max: Duration::from_millis(999),
        ..good()
    };
    for (settings, reason) in [
        (
            no_records,
            "`batch_records_max` is 0 records, allowed is 1 to 100000 records",
        ),
        (
            no_bytes,
            "`batch_bytes_max` is 0 bytes, allowed is 1 to 268435456 bytes",
        ),
        (no_age, "`rotate_s` is 0 s, allowed is 1 to 604800 s"),
    ] {
        let error = FileSink::start(settings, fixed).err().unwrap();
        assert_eq!(error.reason, reason);
    }
}

#[test]
fn a_start_without_a_runtime_is_an_error() {
    let temp = tempfile::tempdir().unwrap();
    let error = FileSink::start(FileSettings::new(temp.path()), fixed)
        .err()
        .unwrap();
    assert!(error.reason.contains("tokio runtime"), "{error}");
}

/// A file system of 256 KiB, unmounted at the end. Only root can have one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<SmallDisk> {
        let temp = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
            .arg(temp.path())
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(SmallDisk(temp))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        assert!(unmounted.unwrap().success());
    }
}

#[tokio::test]
async fn a_really_full_disk_is_no_space_until_freed() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: no permission to mount a tmpfs");
        return;
    };
    let dir = disk.0.path();
    let sink = FileSink::start(FileSettings::new(dir), fixed).unwrap();
    let ballast = dir.join("ballast");
    fs::write(&ballast, vec![0; 128 * 1024]).unwrap();
    let mut confirmed = String::new();
    let mut write_20k = async |letter: char| {
        let line = letter.to_string().repeat(20_000);
        let result = sink.write(&[record(line.as_str())]).await[0];
        if result == RecordResult::Delivered {
            confirmed = format!("{confirmed}{line}\n");
        }
        (result, contents(dir) == [confirmed.as_str()])
    };
    let mut results = Vec::new();
    for letter in 'a'..='j' {
        let (result, intact) = write_20k(letter).await;
        assert!(intact, "after {letter}");
        results.push(result);
    }
    assert_eq!(results[0], RecordResult::Delivered);
    assert_eq!(results[9], RecordResult::Retry(Cause::NoSpace));
    fs::remove_file(&ballast).unwrap();
    assert_eq!(write_20k('k').await, (RecordResult::Delivered, true));
    drop(sink);
}

#[tokio::test]
async fn the_null_sink_confirms_each_record_and_stores_none() {
    assert_eq!(
        NullSink::default()
            .write(&[record("a"), record("b\n")])
            .await,
        [RecordResult::Delivered; 2]
    );
    assert!(NullSink::default().limits().batch_records_max >= 500);
    assert!(
        NullSink::default()
            .check()
            .await
            .unwrap()
            .contains("keeps nothing")
    );
}
