//! The spool on a disk that fails on command.

use super::record::Entry;
use super::segments::{Limits, Place, Segments, list};
use super::thread::{Command, Reply};
use super::{Report, Spool, SpoolSettings, export, verify};
use crate::disk::faulty::{Fault, Faulty};
use bytes::Bytes;
use sluice_core::cause::Cause;
use sluice_core::priority::{Priority, Shares};
use sluice_core::stats::{Counter, SpoolStats};
use sluice_core::time::Wall;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc::unbounded_channel;

const SHARES: Shares = Shares {
    low_percent: 50,
    mid_percent: 80,
};

fn clock() -> Wall {
    Wall {
        secs: 1_800_000_000,
        nanos: 5,
    }
}

struct Bench {
    segments: Segments,
    stats: Arc<SpoolStats>,
    disk: Faulty,
}

fn bench(dir: &Path) -> Bench {
    limited(dir, 1 << 30)
}

fn limited(dir: &Path, bytes_max: u64) -> Bench {
    let (stats, disk) = (Arc::new(SpoolStats::default()), Faulty::default());
    let limits = Limits {
        bytes_max,
        shares: SHARES,
        syncs: true,
    };
    let segments = Segments::open(
        Arc::new(disk.clone()),
        dir.to_owned(),
        limits,
        clock,
        Arc::clone(&stats),
    );
    Bench {
        segments: segments.unwrap(),
        stats,
        disk,
    }
}

impl Bench {
    fn fail(&self, fault: Fault) {
        self.disk.0.faults.lock().unwrap().push(fault);
    }

    fn append(&mut self, payloads: &[&str]) -> Result<(), Cause> {
        let entries: Vec<Entry> = payloads.iter().map(|payload| entry(payload)).collect();
        self.segments
            .append(&entries)
            .map_err(|failure| failure.cause)
    }

    fn count_all(&mut self) {
        while self.segments.has_uncounted() {
            self.segments.count_one();
        }
    }

    /// All that can be read now.
    fn read(&mut self) -> Vec<(Place, Entry)> {
        let mut read = Vec::new();
        while self.segments.has_unread() {
            read.extend(self.segments.read());
        }
        read
    }

    fn settle(&mut self, read: &[(Place, Entry)]) {
        for (place, entry) in read {
            self.segments.settled(*place, entry.is_attempted);
        }
        self.segments.tidy(true);
    }
}

fn entry(payload: &str) -> Entry {
    Entry {
        key: Some(Bytes::from_static(b"u-1")),
        topic: None,
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        arrived_micros: 9_000_000,
        is_attempted: payload.contains("attempted"),
    }
}

fn payloads(read: &[(Place, Entry)]) -> Vec<&str> {
    read.iter()
        .map(|(_, entry)| std::str::from_utf8(&entry.payload).unwrap())
        .collect()
}

fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    files
        .filter(|path| path.to_string_lossy().ends_with(suffix))
        .collect()
}

fn segment(dir: &Path) -> PathBuf {
    let found = files(dir, ".spool");
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[test]
fn settled_segments_leave_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = bench(dir.path());
    bench.append(&["one", "two attempted"]).unwrap();
    bench.append(&["three"]).unwrap();
    let mode = fs::metadata(segment(dir.path())).unwrap().permissions();
    assert_eq!(mode.mode() & 0o137, 0);
    let read = bench.read();
    assert_eq!(payloads(&read), ["one", "two attempted", "three"]);
    assert_eq!(bench.stats.waiting_records.get(), 3);
    bench.settle(&read[..2]);
    assert_eq!(bench.stats.waiting_records.get(), 1);
    assert!(segment(dir.path()).exists());
    bench.settle(&read[2..]);
    assert_eq!(files(dir.path(), ""), [] as [PathBuf; 0]);
    let stats = &bench.stats;
    assert_eq!((stats.waiting_bytes.get(), stats.disk_bytes.get()), (0, 0));
    assert_eq!(stats.replayed_records.get(), 3);
    assert_eq!(stats.replayed_attempted_records.get(), 1);
}

#[test]
fn one_sync_serves_one_append() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = bench(dir.path());
    bench.append(&["one", "two", "three"]).unwrap();
    let calls = bench.disk.0.calls.lock().unwrap();
    let count = |kind: &str| calls.iter().filter(|call| call.starts_with(kind)).count();
    assert_eq!(
        (count("write "), count("sync "), count("sync_dir")),
        (1, 1, 1)
    );
}

#[test]
fn leftovers_of_another_process_are_adopted() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut first = bench(other.path());
    first.append(&["one", "two"]).unwrap();
    drop(first);
    let file = segment(other.path());
    fs::copy(&file, dir.path().join(file.file_name().unwrap())).unwrap();
    let mut bench = bench(dir.path());
    assert!(bench.stats.waiting_bytes.get() > 0);
    let read = bench.read();
    assert_eq!(payloads(&read), ["one", "two"]);
    bench.settle(&read);
    assert_eq!(files(dir.path(), ""), [] as [PathBuf; 0]);
}

#[test]
fn a_torn_tail_is_put_aside_and_whole_records_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = bench(dir.path());
    first.append(&["one", "two"]).unwrap();
    drop(first);
    let path = segment(dir.path());
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 2]).unwrap();
    let mut second = bench(dir.path());
    second.count_all();
    assert_eq!(second.stats.waiting_records.get(), 1);
    assert!(second.stats.put_aside_bytes.get() > 0);
    assert_eq!(second.stats.lost_bytes.get(), 0);
    assert_eq!(payloads(&second.read()), ["one"]);
    assert_eq!(files(dir.path(), ".torn").len(), 1);
    // The next start counts the same bytes, once.
    let aside = second.stats.put_aside_bytes.get();
    drop(second);
    let mut third = bench(dir.path());
    third.count_all();
    assert_eq!(third.stats.put_aside_bytes.get(), aside);
}

#[test]
fn a_flipped_bit_never_stops_its_neighbours() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = bench(dir.path());
    first.append(&["one", "two", "three"]).unwrap();
    drop(first);
    let path = segment(dir.path());
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(3).position(|three| three == b"two").unwrap();
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let mut bench = bench(dir.path());
    let read = bench.read();
    assert_eq!(payloads(&read), ["one", "three"]);
    let lost = entry("two").size() as u64;
    assert_eq!(bench.stats.lost_bytes.get(), lost);
    bench.settle(&read);
    // The damaged bytes outlive their segment.
    assert_eq!(files(dir.path(), ".spool"), [] as [PathBuf; 0]);
    let aside = files(dir.path(), ".bad");
    assert_eq!(fs::metadata(&aside[0]).unwrap().len(), lost);
    assert_eq!(bench.stats.waiting_bytes.get(), 0);
}

#[test]
fn a_damaged_head_costs_no_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = bench(dir.path());
    first.append(&["one"]).unwrap();
    drop(first);
    let path = segment(dir.path());
    let mut bytes = fs::read(&path).unwrap();
    bytes[3] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(payloads(&bench(dir.path()).read()), ["one"]);
}

#[test]
fn damage_that_cannot_be_put_aside_keeps_its_segment() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = bench(dir.path());
    first.append(&["one", "two"]).unwrap();
    drop(first);
    let path = segment(dir.path());
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(3).position(|three| three == b"one").unwrap();
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let mut bench = bench(dir.path());
    bench.fail(Fault::Write(io::ErrorKind::StorageFull));
    let read = bench.read();
    assert_eq!(payloads(&read), ["two"]);
    bench.settle(&read);
    assert!(path.exists());
}

#[test]
fn an_unreadable_segment_is_blocked_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = bench(dir.path());
    first.append(&["one"]).unwrap();
    drop(first);
    let bad = dir
        .path()
        .join("000000000007-000000000-0123456789abcdef.spool");
    fs::create_dir(&bad).unwrap();
    let mut bench = bench(dir.path());
    let read = bench.read();
    assert_eq!(payloads(&read), ["one"]);
    bench.settle(&read);
    assert!(bench.stats.waiting_bytes.get() > 0, "it counts as kept");
    assert!(bad.exists());
}

#[test]
fn after_a_failed_sync_the_segment_takes_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = bench(dir.path());
    bench.append(&["one"]).unwrap();
    bench.fail(Fault::Sync(io::ErrorKind::Other));
    assert_eq!(bench.append(&["lost"]), Err(Cause::Unavailable));
    bench.append(&["two"]).unwrap();
    assert_eq!(files(dir.path(), ".spool").len(), 2);
    assert_eq!(payloads(&bench.read()), ["one", "two"]);
}

#[test]
fn records_of_a_failed_append_are_not_replayed() {
    for fault in [
        Fault::Write(io::ErrorKind::StorageFull),
        Fault::ShortWrite(10),
        Fault::Sync(io::ErrorKind::Other),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut bench = bench(dir.path());
        if matches!(fault, Fault::ShortWrite(_)) {
            // What follows a short write fails, and so does the step back.
            bench.fail(Fault::ShortWrite(10));
            bench.fail(Fault::Write(io::ErrorKind::StorageFull));
            bench.fail(Fault::Cut);
        } else {
            bench.fail(fault);
        }
        assert!(bench.append(&["lost"]).is_err());
        bench.append(&["one"]).unwrap();
        assert_eq!(payloads(&bench.read()), ["one"]);
        assert_eq!(bench.stats.spooled_records.get(), 1);
    }
}

#[test]
fn over_its_limit_the_spool_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = limited(dir.path(), 200);
    bench.append(&["one"]).unwrap();
    let big = "x".repeat(200);
    let failure = bench.segments.append(&[entry(&big)]).unwrap_err();
    let used = bench.stats.disk_bytes.get();
    let incoming = entry(&big).size();
    assert_eq!(
        failure.error.to_string(),
        format!("the spool holds {used} bytes and {incoming} came, the limit is 200")
    );
    assert_eq!(failure.cause, Cause::NoSpace);
    bench.append(&["two"]).unwrap();
    assert_eq!(payloads(&bench.read()), ["one", "two"]);
}

#[test]
fn each_priority_fills_its_share_of_the_spool() {
    let dir = tempfile::tempdir().unwrap();
    let bench = limited(dir.path(), 1_000);
    for (priority, share, whom) in [
        (Priority::Low, 500, " for priority low"),
        (Priority::Mid, 800, " for priority mid"),
        (Priority::High, 1_000, ""),
    ] {
        assert!(bench.segments.require_room(share, priority).is_ok());
        let refused = bench.segments.require_room(share + 1, priority);
        assert_eq!(
            refused.unwrap_err().error.to_string(),
            format!(
                "the spool holds 0 bytes and {} came, the limit is {share}{whom}",
                share + 1
            )
        );
    }
}

/// Whether the spool keeps records of these priorities and sizes, which come at once.
fn keeps(spool: &Spool, appends: &[(Priority, usize)]) -> Vec<bool> {
    let (reply, mut replies) = unbounded_channel();
    for (number, (priority, bytes)) in (0..).zip(appends) {
        let append = Command::Append {
            number,
            entries: vec![entry(&"x".repeat(*bytes))],
            priority: *priority,
            reply: reply.clone(),
        };
        spool.commands.send(append).ok().unwrap();
    }
    let mut answer = |expected: u64| match replies.blocking_recv() {
        Some(Reply::Appended { number, kept }) if number == expected => kept,
        _ => panic!("not the answer to {expected}"),
    };
    (0..)
        .zip(appends)
        .map(|(number, _)| answer(number))
        .collect()
}

#[test]
fn the_spool_keeps_high_where_low_has_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let settings = SpoolSettings {
        dir: Some(dir.path().to_owned()),
        bytes_max: 4_000,
        ..SpoolSettings::default()
    };
    let spool = Spool::start("clicks", &settings, SHARES, clock).unwrap();
    let (low, mid, high) = (Priority::Low, Priority::Mid, Priority::High);
    assert_eq!(keeps(&spool, &[(low, 1_500), (low, 600)]), [true, false]);
    let all = [
        (low, 500),
        (mid, 1_000),
        (low, 10),
        (mid, 1_000),
        (high, 1_000),
    ];
    assert_eq!(keeps(&spool, &all), [false, true, false, false, true]);
    let unkept = &spool.stats().unkept_records;
    assert_eq!(unkept.each_ref().map(Counter::get), [3, 1, 0]);
    assert_eq!(spool.stats().spooled_records.get(), 3);
}

#[test]
fn a_full_segment_is_followed_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = bench(dir.path());
    let mebibyte = "x".repeat(1 << 20);
    for _ in 0..20 {
        bench.append(&[&mebibyte]).unwrap();
    }
    assert_eq!(files(dir.path(), ".spool").len(), 2);
    let read = bench.read();
    assert_eq!(read.len(), 20);
    bench.settle(&read);
    assert_eq!(files(dir.path(), ".spool").len(), 0);
}

#[test]
fn refused_records_are_put_aside_not_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = bench(dir.path());
    bench.append(&["one", "two"]).unwrap();
    let read = bench.read();
    bench.segments.refused(&read[1..]);
    bench.settle(&read[..1]);
    assert_eq!(files(dir.path(), ".spool").len(), 0);
    let refused = list(dir.path()).unwrap();
    let content = super::segments::content(&refused[0]).unwrap();
    assert_eq!(&content.entries[0].payload[..], b"two");
    assert_eq!(bench.stats.refused_records.get(), 1);
    assert!(bench.stats.lost_bytes.get() > 0);
}

#[test]
fn refused_records_without_room_keep_their_segment() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = bench(dir.path());
    bench.append(&["one"]).unwrap();
    let read = bench.read();
    bench.fail(Fault::Write(io::ErrorKind::StorageFull));
    bench.segments.refused(&read);
    bench.segments.tidy(true);
    assert!(segment(dir.path()).exists());
}

#[test]
fn a_segment_that_cannot_be_removed_is_not_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = bench(dir.path());
    bench.append(&["one"]).unwrap();
    let read = bench.read();
    bench.fail(Fault::RemoveFile);
    bench.settle(&read);
    assert!(segment(dir.path()).exists());
    assert!(!bench.segments.has_unread());
}

#[test]
fn verify_and_export_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = bench(dir.path());
    bench.append(&["one", "two", "three"]).unwrap();
    drop(bench);
    let path = segment(dir.path());
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(3).position(|three| three == b"two").unwrap();
    bytes[at] ^= 1;
    let whole = bytes.len();
    bytes.truncate(whole - 1);
    fs::write(&path, &bytes).unwrap();
    let mut seen = Vec::new();
    let report = verify(dir.path(), |of| seen.push(of.clone())).unwrap();
    let expected = Report {
        segments: 1,
        records: 1,
        bytes: bytes.len() as u64,
        lost_bytes: 0,
        torn_bytes: (entry("two").size() + entry("three").size()) as u64 - 1,
    };
    assert_eq!(report, expected);
    assert_eq!(seen[0].oldest_secs, Some(9));
    let mut lines = Vec::new();
    export(dir.path(), &mut lines).unwrap();
    assert_eq!(lines, b"one\n");
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(list(dir.path()).unwrap().len(), 1);
}
