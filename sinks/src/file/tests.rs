//! The file sink on a disk that fails on command.

use super::*;
use crate::disk::faulty::{Fault, Faulty};
use sluice_core::ack::{AckQueue, OutputId, RequestKey, Ticket};
use sluice_core::time::Mono;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::mpsc;

const START: u64 = 1_795_158_000;

fn clock() -> Wall {
    Wall {
        secs: START,
        nanos: 0,
    }
}

struct Bench {
    dir: tempfile::TempDir,
    disk: Faulty,
    sink: FileSink,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let disk = Faulty::default();
        let settings = FileSettings {
            write_timeout: Duration::from_secs(30),
            ..FileSettings::new(dir.path().join("data"))
        };
        let sink = FileSink::start_on(Arc::new(disk.clone()), settings, clock).unwrap();
        Bench { dir, disk, sink }
    }

    fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        *self.disk.0.faults.lock().unwrap() = faults.into_iter().collect();
    }

    async fn write(&self, line: &str) -> RecordResult {
        self.sink.write(&[record(line)]).await[0]
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Data files by path, and what they hold.
    fn files(&self) -> BTreeMap<PathBuf, String> {
        let mut files = BTreeMap::new();
        let hour = self.data().join("year=2026/month=11/day=20/hour=07");
        for entry in fs::read_dir(hour).into_iter().flatten() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            files.insert(path, text);
        }
        files
    }

    /// What a reader of `*.ndjson` sees, in no order between files.
    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<_> = self
            .files()
            .into_iter()
            .filter(|(path, _)| path.to_string_lossy().ends_with(".ndjson"))
            .flat_map(|(_, text)| {
                text.split_inclusive('\n')
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .collect();
        lines.sort();
        lines
    }

    fn markers(&self) -> usize {
        fs::read_dir(self.data().join(".open")).map_or(0, Iterator::count)
    }

    fn restart(&mut self) {
        let settings = self.sink.settings.clone();
        let path = self.dir.path().join("elsewhere");
        // The old sink has to go before its directory's lock can be taken again.
        self.sink = FileSink::start(FileSettings::new(path), clock).unwrap();
        self.sink = FileSink::start_on(Arc::new(self.disk.clone()), settings, clock).unwrap();
    }
}

fn record(line: &str) -> Record {
    let request = RequestKey {
        slot: 0,
        generation: 0,
    };
    Record {
        key: None,
        topic: None,
        payload: line.to_owned().into(),
        deadline: Mono::NEVER,
        ticket: Ticket::new(AckQueue::leak(), request, OutputId(0), 1),
    }
}

#[tokio::test]
async fn the_parent_of_an_existing_directory_is_synced_at_start() {
    let mut bench = Bench::new();
    bench.disk.0.calls.lock().unwrap().clear();
    bench.restart();
    let parent = bench.dir.path().file_name().unwrap().to_string_lossy();
    let synced = format!("sync_dir {parent}");
    assert!(bench.disk.0.calls.lock().unwrap().contains(&synced));
}

#[tokio::test]
async fn record_files_are_not_readable_by_others() {
    let bench = Bench::new();
    assert_eq!(bench.write("one").await, RecordResult::Delivered);
    let files = bench.files();
    assert_eq!(files.len(), 1);
    for path in files.into_keys() {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o137, 0);
    }
}

#[tokio::test]
async fn a_full_disk_keeps_confirmed_lines_intact() {
    let bench = Bench::new();
    assert_eq!(bench.write("one").await, RecordResult::Delivered);
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
        bench.next([Fault::ShortWrite(2), Fault::Write(kind)]);
        assert_eq!(
            bench.write("lost").await,
            RecordResult::Retry(Cause::NoSpace)
        );
        assert_eq!(bench.lines(), ["one\n"]);
    }
    assert_eq!(bench.write("two").await, RecordResult::Delivered);
    assert_eq!(bench.lines(), ["one\n", "two\n"]);
    assert_eq!(
        bench.files().len(),
        1,
        "a file cut back to its synced bytes goes on"
    );
}

#[tokio::test]
async fn a_short_write_is_completed_before_the_sync() {
    let bench = Bench::new();
    bench.next([
        Fault::ShortWrite(1),
        Fault::Write(io::ErrorKind::Interrupted),
        Fault::ShortWrite(2),
    ]);
    assert_eq!(bench.write("abcdef").await, RecordResult::Delivered);
    assert_eq!(bench.lines(), ["abcdef\n"]);
    let calls = bench.disk.0.calls.lock().unwrap();
    let kinds: Vec<_> = calls
        .iter()
        .filter_map(|call| call.split(' ').next())
        .collect();
    assert!(
        kinds.ends_with(&["write", "write", "write", "write", "sync"]),
        "{kinds:?}"
    );
}

#[tokio::test]
async fn a_write_of_zero_bytes_is_an_error() {
    let bench = Bench::new();
    bench.next([Fault::ShortWrite(0)]);
    assert_eq!(
        bench.write("x").await,
        RecordResult::Retry(Cause::Unavailable)
    );
    assert_eq!(bench.lines(), [""; 0]);
}

#[tokio::test]
async fn missing_permission_is_denied() {
    let bench = Bench::new();
    bench.next([Fault::Write(io::ErrorKind::ReadOnlyFilesystem)]);
    assert_eq!(bench.write("x").await, RecordResult::Retry(Cause::Denied));
}

#[tokio::test]
async fn a_file_takes_no_line_after_a_failed_fsync() {
    let bench = Bench::new();
    assert_eq!(bench.write("one").await, RecordResult::Delivered);
    bench.next([Fault::Sync(io::ErrorKind::Other)]);
    assert_eq!(
        bench.write("lost").await,
        RecordResult::Retry(Cause::Unavailable)
    );
    assert_eq!(bench.lines(), ["one\n"]);
    assert_eq!(
        bench.markers(),
        0,
        "the file was put in order and is finished"
    );
    assert_eq!(bench.write("two").await, RecordResult::Delivered);
    assert_eq!(bench.lines(), ["one\n", "two\n"]);
    assert_eq!(bench.files().len(), 2);
}

#[tokio::test]
async fn a_disk_full_at_fsync_is_no_space() {
    let bench = Bench::new();
    bench.next([Fault::Sync(io::ErrorKind::StorageFull)]);
    assert_eq!(
        bench.write("lost").await,
        RecordResult::Retry(Cause::NoSpace)
    );
    assert_eq!(bench.lines(), [""; 0]);
}

#[tokio::test]
async fn unsyncable_lines_are_unknown_and_their_file_stays_marked() {
    let mut bench = Bench::new();
    assert_eq!(bench.write("one").await, RecordResult::Delivered);
    bench.next([Fault::Sync(io::ErrorKind::Other), Fault::Cut]);
    assert_eq!(
        bench.write("doubt").await,
        RecordResult::Retry(Cause::Unknown)
    );
    assert_eq!(bench.markers(), 1);
    assert_eq!(bench.write("two").await, RecordResult::Delivered);
    assert_eq!(bench.lines(), ["doubt\n", "one\n", "two\n"]);
    assert_eq!(bench.files().len(), 2);
    bench.restart();
    assert_eq!(bench.markers(), 0);
    assert_eq!(bench.lines(), ["doubt\n", "one\n", "two\n"]);
}

#[tokio::test]
async fn a_torn_tail_is_set_aside_at_the_next_start() {
    let mut bench = Bench::new();
    assert_eq!(bench.write("one").await, RecordResult::Delivered);
    bench.next([
        Fault::ShortWrite(2),
        Fault::Write(io::ErrorKind::Other),
        Fault::Cut,
    ]);
    assert_eq!(
        bench.write("torn").await,
        RecordResult::Retry(Cause::Unknown)
    );
    assert_eq!(bench.write("two").await, RecordResult::Delivered);
    assert_eq!(bench.lines(), ["one\n", "to", "two\n"]);
    bench.restart();
    assert_eq!(bench.lines(), ["one\n", "two\n"]);
    let files = bench.files();
    let torn: Vec<_> = files
        .iter()
        .filter(|(path, _)| path.to_string_lossy().ends_with(".ndjson.torn"))
        .collect();
    assert_eq!(torn.len(), 1);
    assert_eq!(torn[0].1, "to");
}

#[tokio::test]
async fn files_without_confirmed_lines_are_removed() {
    let bench = Bench::new();
    for _ in 0..10 {
        bench.next([Fault::Sync(io::ErrorKind::Other), Fault::Cut]);
        assert_eq!(
            bench.write("lost").await,
            RecordResult::Retry(Cause::Unavailable)
        );
    }
    assert_eq!(bench.files().len(), 0);
    assert_eq!(bench.markers(), 0);
    bench.next([
        Fault::Sync(io::ErrorKind::Other),
        Fault::Cut,
        Fault::RemoveFile,
    ]);
    assert_eq!(
        bench.write("doubt").await,
        RecordResult::Retry(Cause::Unknown)
    );
    assert_eq!(bench.markers(), 1);
}

#[tokio::test]
async fn no_line_is_confirmed_before_its_file_name_is_durable() {
    let bench = Bench::new();
    fs::create_dir(bench.data().join(".open")).unwrap();
    // Six directories lie above the file: the marker's, hour, day, month, year, the sink's own.
    for healthy in 0..6 {
        bench.next([Fault::SyncDirAfter(healthy)]);
        let result = bench.write("lost").await;
        assert_eq!(result, RecordResult::Retry(Cause::Unavailable), "{healthy}");
        assert!(bench.disk.0.faults.lock().unwrap().is_empty());
        assert_eq!(bench.files().len(), 0);
        assert_eq!(bench.markers(), 0);
    }
    assert_eq!(bench.write("one").await, RecordResult::Delivered);
}

#[tokio::test]
async fn names_are_synced_before_the_first_confirmation() {
    let bench = Bench::new();
    bench.disk.0.calls.lock().unwrap().clear();
    assert_eq!(bench.write("one").await, RecordResult::Delivered);
    let calls = std::mem::take(&mut *bench.disk.0.calls.lock().unwrap());
    let name = bench.files().into_keys().next().unwrap();
    let name = name.file_name().unwrap().to_string_lossy().into_owned();
    let marker = name.strip_suffix(".ndjson").unwrap();
    let expected = [
        "sync_dir data".to_owned(),
        format!("create {marker}"),
        "sync_dir .open".to_owned(),
        format!("create {name}"),
        "sync_dir hour=07".to_owned(),
        "sync_dir day=20".to_owned(),
        "sync_dir month=11".to_owned(),
        "sync_dir year=2026".to_owned(),
        "sync_dir data".to_owned(),
        format!("write {name}"),
        format!("sync {name}"),
    ];
    assert_eq!(calls, expected);
    let batch: Vec<_> = (0..500).map(|n| record(&n.to_string())).collect();
    assert_eq!(
        bench.sink.write(&batch).await,
        [RecordResult::Delivered; 500]
    );
    let calls = bench.disk.0.calls.lock().unwrap();
    assert_eq!(*calls, [format!("write {name}"), format!("sync {name}")]);
}

#[tokio::test]
async fn a_hanging_disk_is_unknown_then_unavailable() {
    let mut bench = Bench::new();
    bench.sink.settings.write_timeout = Duration::from_millis(20);
    let (end, hang) = mpsc::channel();
    bench.next([Fault::SyncHangs(hang)]);
    assert_eq!(
        bench.write("hangs").await,
        RecordResult::Retry(Cause::Unknown)
    );
    assert_eq!(
        bench.write("behind").await,
        RecordResult::Retry(Cause::Unavailable)
    );
    drop(end);
    bench.sink.settings.write_timeout = Duration::from_secs(30);
    assert_eq!(bench.write("after").await, RecordResult::Delivered);
    assert_eq!(bench.lines(), ["after\n", "hangs\n"]);
}
