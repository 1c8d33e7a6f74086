//! The audit on ledgers made by hand, and on an emulator that lies about exactly k records.

use crate::command_line::{output, program};
use crate::kinesis_rules::{patient, put, record};
use crate::responder::{Responder, closed_port, status};
use serde_json::Value;
use sluice_loadtest::audit::{
    AuditError, AuditReport, Counts, ProfileCounts, RunCounts, Source, audit, wait_for_end,
};
use sluice_loadtest::event_id::EventId;
use sluice_loadtest::kinesis::{Emulator, Faults, Options, Portion, Reject, RejectCode};
use sluice_loadtest::ledger::{ACKS_HEADER, STORED_AT_END_HEADER, STORED_HEADER};
use sluice_loadtest::run::{self, BodyMode, BodyOptions, ConnectOptions, Load, OkStatuses, Target};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tempfile::TempDir;

/// The line of the run that made the ids here.
const RUN: &str = "run 00000001 1763000000 web";

fn id(seq: u64) -> EventId {
    EventId { run: 1, seq }
}

struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn acks(&self, lines: &[&str]) -> PathBuf {
        self.file(
            "acks",
            &format!("{ACKS_HEADER}\n{RUN}\n{}\nend\n", lines.join("\n")),
        )
    }

    fn stored(&self, seqs: impl IntoIterator<Item = u64>) -> Source {
        let lines: String = seqs
            .into_iter()
            .map(|seq| format!("{}\n", id(seq)))
            .collect();
        Source::Ledger(self.file("stored", &format!("{STORED_HEADER}\n{lines}end\n")))
    }

    fn data(&self) -> Source {
        Source::Dir {
            path: self.dir.path().join("data"),
            suffixes: vec![".ndjson".to_owned()],
        }
    }
}

fn judge(acks: &Path, stored: &Source) -> AuditReport {
    audit(&[acks], stored).unwrap()
}

#[test]
fn when_every_promise_was_kept_nothing_is_lost() {
    let bench = Bench::new();
    let acks = bench.acks(&[
        "00000001 000000000000 20 0 200",
        "00000001 000000000014 1 0 200",
    ]);
    let report = judge(&acks, &bench.stored(0..21));
    let counts = Counts {
        sent: 21,
        acked: 21,
        acked_stored: 21,
        ..Counts::default()
    };
    let expected = AuditReport {
        sent: 21,
        acked: 21,
        acked_stored: 21,
        stored_copies: 21,
        runs: vec![RunCounts {
            run: "00000001".to_owned(),
            profile: Some("web".to_owned()),
            start: Some(1_763_000_000),
            counts,
        }],
        profiles: vec![ProfileCounts {
            profile: "web".to_owned(),
            counts,
        }],
        ..AuditReport::default()
    };
    assert_eq!(report, expected);
    assert!(report.holds());
}

#[test]
fn k_missing_acked_events_are_k_lost() {
    let bench = Bench::new();
    // Across the border between two chunks of the bookkeeping.
    let acks = bench.acks(&["00000001 00000000ff00 1000 0 200"]);
    let all = 0xff00..0xff00 + 1_000u64;
    let missing = [0xff00, 0xff07, 0xffff, 0x1_0000, 0xff00 + 999];
    let report = judge(
        &acks,
        &bench.stored(all.filter(|seq| !missing.contains(seq))),
    );
    assert_eq!((report.acked, report.lost), (1_000, 5));
    assert_eq!(report.lost_examples, missing.map(|seq| id(seq).to_string()));
    assert!(!report.holds());
}

#[test]
fn copies_beyond_the_first_are_counted_and_no_loss() {
    let bench = Bench::new();
    let acks = bench.acks(&["00000001 000000000000 5 0 200"]);
    let twice = [0, 1, 1, 2, 2, 2, 3, 4];
    let report = judge(&acks, &bench.stored(twice));
    assert_eq!(
        (report.duplicated, report.extra_copies, report.stored_copies),
        (2, 3, 8)
    );
    assert_eq!(
        report.duplicated_examples,
        [id(1).to_string(), id(2).to_string()]
    );
    assert!(report.holds());
    let many = judge(
        &acks,
        &bench.stored([0, 1, 2, 3].into_iter().chain([4; 1_000])),
    );
    assert_eq!((many.duplicated, many.extra_copies), (1, 999));
}

#[test]
fn an_event_refused_for_good_must_not_be_stored() {
    let bench = Bench::new();
    let acks = bench.acks(&[
        "00000001 000000000000 3 0 413",
        "00000001 000000000003 3 0 200 0,2",
    ]);
    let kept = judge(&acks, &bench.stored([4]));
    assert_eq!(
        (kept.refused, kept.acked, kept.lost, kept.refused_stored),
        (5, 1, 0, 0)
    );
    assert!(kept.holds());
    let broken = judge(&acks, &bench.stored([1, 4, 5]));
    assert_eq!(broken.refused_stored, 2);
    assert_eq!(
        broken.refused_stored_examples,
        [id(1).to_string(), id(5).to_string()]
    );
    assert!(!broken.holds());
}

#[test]
fn events_answered_503_or_unanswered_may_be_stored() {
    let bench = Bench::new();
    let acks = bench.acks(&[
        "00000001 000000000000 4 0 503",
        "00000001 000000000004 4 0 - reset",
    ]);
    let report = judge(&acks, &bench.stored([0, 1, 4]));
    assert_eq!((report.failed, report.failed_stored), (4, 2));
    assert_eq!((report.unanswered, report.unanswered_stored), (4, 1));
    assert_eq!((report.lost, report.refused_stored), (0, 0));
    assert!(report.holds());
}

#[test]
fn stored_events_of_others_are_counted_apart() {
    let bench = Bench::new();
    let acks = bench.acks(&["00000001 000000000000 1 0 200"]);
    let other = EventId { run: 2, seq: 0 };
    let stored = format!("{STORED_HEADER}\n{}\n{}\n{other}\n", id(0), id(1));
    let report = judge(&acks, &Source::Ledger(bench.file("stored", &stored)));
    assert_eq!((report.stored_copies, report.foreign_copies), (1, 2));
    assert!(report.holds());
}

#[test]
fn files_without_an_end_mark_are_called_early() {
    let bench = Bench::new();
    let acks = bench.acks(&["00000001 000000000000 1 0 200"]);
    let ended = judge(&acks, &bench.stored([0]));
    assert_eq!((ended.open_acks, ended.open_ledgers), (0, 0));
    assert!(!ended.to_string().contains("EARLY"), "{ended}");
    let open = bench.file("open", &format!("{STORED_HEADER}\n{}\n", id(0)));
    let report = judge(&acks, &Source::Ledger(open));
    assert_eq!((report.open_ledgers, report.holds()), (1, true));
    let text = report.to_string();
    assert!(
        text.contains("EARLY              the ledger has no end mark"),
        "{text}"
    );
    let running = bench.file(
        "running",
        &format!("{ACKS_HEADER}\n{RUN}\n00000001 000000000000 1 0 200\n"),
    );
    let report = judge(&running, &bench.stored([0]));
    assert_eq!(report.open_acks, 1);
    let text = report.to_string();
    assert!(
        text.contains("EARLY              1 files of answers"),
        "{text}"
    );
}

#[test]
fn a_ledger_written_at_exit_needs_its_end_mark() {
    let bench = Bench::new();
    let acks = bench.acks(&["00000001 000000000000 1 0 200"]);
    let ledger = |ids: &str| {
        let text = format!("{STORED_AT_END_HEADER}\n{ids}");
        Source::Ledger(bench.file("stored", &text))
    };
    let error = audit(&[&acks], &ledger("")).unwrap_err();
    assert!(matches!(error, AuditError::Early { .. }), "{error}");
    assert!(error.to_string().contains("too early"), "{error}");
    assert!(judge(&acks, &ledger(&format!("{}\nend\n", id(0)))).holds());
    assert_eq!(judge(&acks, &ledger("end\n")).lost, 1);
}

#[test]
fn the_audit_waits_for_end_marks_or_a_timeout() {
    let bench = Bench::new();
    let acks = bench.acks(&["00000001 000000000000 1 0 200"]);
    let ended = bench.stored([0]);
    let day = Duration::from_secs(86_400);
    assert!(wait_for_end(&[&acks], &ended, day).unwrap());
    let path = bench.file("open", &format!("{STORED_HEADER}\n{}\n", id(0)));
    let open = Source::Ledger(path.clone());
    assert!(!wait_for_end(&[&acks], &open, Duration::from_millis(1)).unwrap());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait_for_end(&[&acks], &open, day));
        fs::write(&path, format!("{STORED_HEADER}\n{}\nend\n", id(0))).unwrap();
        assert!(waiting.join().unwrap().unwrap());
    });
    let missing = Source::Ledger("/nonexistent/ledger".into());
    assert!(wait_for_end(&[&acks], &missing, day).is_err());
}

#[test]
fn several_files_of_answers_are_one_audit() {
    let bench = Bench::new();
    let one = bench.file(
        "one",
        &format!("{ACKS_HEADER}\n{RUN}\n00000001 000000000000 1 0 200\n"),
    );
    let two = bench.file(
        "two",
        &format!("{ACKS_HEADER}\n{RUN}\n00000001 000000000001 1 0 200\n0000"),
    );
    let report = audit(&[one, two], &bench.stored([0])).unwrap();
    assert_eq!((report.acked, report.lost, report.cut_ledgers), (2, 1, 1));
}

#[test]
fn stored_files_are_searched_recursively_and_inside_envelopes() {
    let bench = Bench::new();
    let acks = bench.acks(&["00000001 000000000000 6 0 200"]);
    bench.file(
        "data/year=2026/hour=07/a.ndjson",
        &format!(
            "{{\"event_id\":\"{}\"}}\n{{\"event_id\":\"{}\"}}\n",
            id(0),
            id(1)
        ),
    );
    let long = "x".repeat(3 << 20);
    bench.file(
        "data/year=2026/hour=08/b.ndjson",
        &format!(
            "{{\"data\":\"[{{\\\"event_id\\\":\\\"{}\\\"}},{{\\\"event_id\\\":\\\"{}\\\"}}]\"}}\n\
             {{\"pad\":\"{long}\",\"event_id\":\"{}\"}}\n",
            id(2),
            id(3),
            id(4)
        ),
    );
    // Set aside after a crash, so not stored.
    bench.file("data/c.ndjson.torn", &format!("{}\n", id(5)));
    let report = judge(&acks, &bench.data());
    assert_eq!((report.acked_stored, report.lost), (5, 1));
    assert_eq!(report.lost_examples, [id(5).to_string()]);
}

#[test]
fn a_line_without_its_end_is_not_stored() {
    let bench = Bench::new();
    let acks = bench.acks(&["00000001 000000000000 2 0 200"]);
    bench.file(
        "data/a.ndjson",
        &format!("{}\n{{\"event_id\":\"{}\"}}", id(0), id(1)),
    );
    let report = judge(&acks, &bench.data());
    assert_eq!((report.lost, report.unfinished_files), (1, 1));
}

#[test]
fn what_cannot_be_compared_is_an_error() {
    let bench = Bench::new();
    let acks = bench.acks(&["00000001 000000000000 2 0 200"]);
    let stored = bench.stored([0]);
    let swapped = Source::Ledger(acks.clone());
    let error = audit(&[&acks], &swapped).unwrap_err();
    assert!(error.to_string().contains("is no ledger"), "{error}");
    let empty = bench.file("empty", &format!("{ACKS_HEADER}\n"));
    assert!(matches!(
        audit(&[&empty], &stored),
        Err(AuditError::NoAnswers)
    ));
    fs::create_dir(bench.dir.path().join("data")).unwrap();
    assert!(matches!(
        audit(&[&acks], &bench.data()),
        Err(AuditError::NoFiles { .. })
    ));
    let gone = bench.dir.path().join("gone");
    let error = audit(&[gone], &stored).unwrap_err();
    assert!(error.to_string().contains("gone"), "{error}");
}

/// A collector that is as honest as its stream: it answers 200 when the stream says that it has
/// the record, and 503 otherwise.
fn collector(emulator: &Arc<Emulator>) -> Responder {
    let emulator = Arc::clone(emulator);
    Responder::start(move |request| {
        let (code, answer) = put(
            &emulator,
            &[record(&request.body, &request.number.to_string())],
        );
        let stored = code == 200 && answer["Records"][0]["SequenceNumber"].is_string();
        status(if stored { 200 } else { 503 })
    })
}

fn load(server: &Responder, acks: &Path, requests: u64) -> run::Report {
    let options = run::Options {
        target: Target::parse(&server.url()).unwrap(),
        load: Load::Closed,
        connections: 4,
        threads: 1,
        duration: None,
        requests: Some(requests),
        timeout: Duration::from_secs(30),
        connect: ConnectOptions::default(),
        body: BodyOptions {
            mode: BodyMode::Envelope,
            batch: 3,
            event_bytes: 400,
            ..BodyOptions::default()
        },
        ok: OkStatuses::default(),
        acks: Some(acks.to_owned()),
        hdr_log: None,
        watch: vec![],
        run: 5,
    };
    run::run(&options, &AtomicBool::new(false), |_| {}).unwrap()
}

#[test]
fn dropped_acknowledged_records_are_exactly_the_lost_events() {
    let bench = Bench::new();
    let ledger = bench.dir.path().join("ledger");
    let emulator = Arc::new(patient(Options {
        ledger: Some(ledger.clone()),
        faults: Faults {
            drop_acked: Some(Portion { k: 1, n: 20 }),
            reject: Some(Reject {
                k: 1,
                n: 4,
                code: RejectCode::InternalFailure,
            }),
            ..Faults::default()
        },
        ..Options::default()
    }));
    let acks = bench.dir.path().join("acks");
    // 80 records: 20 are refused, and of the 60 others 3 dropped.
    let report = load(&collector(&emulator), &acks, 80);
    assert_eq!(report.statuses[&200], 60);
    let endpoint = Target::parse(&emulator.url()).unwrap();
    let by_stream = judge(
        &acks,
        &Source::Kinesis {
            endpoint,
            stream: "clicks".to_owned(),
        },
    );
    assert_eq!((by_stream.acked, by_stream.lost), (180, 9));
    assert_eq!((by_stream.failed, by_stream.failed_stored), (60, 0));
    assert_eq!(by_stream.duplicated, 0);
    let _ = Arc::into_inner(emulator).map(|emulator| emulator.stop().unwrap());
    assert_eq!(judge(&acks, &Source::Ledger(ledger)), by_stream);
}

#[test]
fn an_honest_emulator_yields_nothing_lost() {
    let bench = Bench::new();
    let emulator = Arc::new(patient(Options::default()));
    let acks = bench.dir.path().join("acks");
    load(&collector(&emulator), &acks, 50);
    let mut stored = emulator.stored_ids().unwrap();
    stored.sort_unstable();
    let lines: String = stored.iter().map(|id| format!("{id}\n")).collect();
    let ledger = bench.file("stored", &format!("{STORED_HEADER}\n{lines}"));
    let report = judge(&acks, &Source::Ledger(ledger));
    assert_eq!(
        (report.acked, report.acked_stored, report.lost),
        (150, 150, 0)
    );
    assert!(report.holds());
}

#[test]
fn a_stream_that_let_records_go_cannot_be_audited() {
    let bench = Bench::new();
    let acks = bench.acks(&["00000001 000000000000 2 0 200"]);
    let emulator = patient(Options {
        retain_bytes_max: Some(1_000),
        ..Options::default()
    });
    let records: Vec<Value> = (0..50).map(|_| record(&[b'x'; 500], "k")).collect();
    put(&emulator, &records);
    let source = |stream: &str, url: &str| Source::Kinesis {
        endpoint: Target::parse(url).unwrap(),
        stream: stream.to_owned(),
    };
    let error = audit(&[&acks], &source("clicks", &emulator.url())).unwrap_err();
    assert!(
        error.to_string().contains("not retained any more"),
        "{error}"
    );
    let honest = patient(Options::default());
    let error = audit(&[&acks], &source("other", &honest.url())).unwrap_err();
    assert!(
        error.to_string().contains("ResourceNotFoundException"),
        "{error}"
    );
    let closed = closed_port();
    let error = audit(&[&acks], &source("clicks", &format!("http://{closed}"))).unwrap_err();
    assert!(error.to_string().contains(&closed.to_string()), "{error}");
}

/// Lines of stored events.
fn lines(seqs: std::ops::Range<u64>) -> Vec<u8> {
    let line = |seq| format!("{{\"event_id\":\"{}\"}}\n", id(seq));
    seqs.flat_map(|seq| line(seq).into_bytes()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn gzip_and_zstd_files_are_unpacked_before_the_audit() {
    let bench = Bench::new();
    let acks = bench.acks(&["00000001 000000000000 64 0 200"]);
    let data = bench.dir.path().join("data");
    fs::create_dir_all(&data).unwrap();
    let members = [gzip(&lines(0..10)), gzip(&lines(10..30))].concat();
    fs::write(data.join("a.ndjson.gz"), members).unwrap();
    fs::write(data.join("b.gz"), lines(30..31)).unwrap();
    fs::write(
        data.join("c.ndjson.zst"),
        zstd::encode_all(&*lines(31..64), 0).unwrap(),
    )
    .unwrap();
    let source = Source::Dir {
        path: data.clone(),
        suffixes: vec![".gz".to_owned(), ".zst".to_owned()],
    };
    let report = judge(&acks, &source);
    assert_eq!(
        (report.acked, report.acked_stored, report.lost),
        (64, 64, 0)
    );

    // An upload that was cut off: finished lines that can be unpacked count, and the file is named.
    let whole = gzip(&lines(0..10));
    fs::write(data.join("a.ndjson.gz"), &whole[..whole.len() - 9]).unwrap();
    let report = judge(&acks, &source);
    assert_eq!(report.unfinished_files, 1);
    assert!(report.lost >= 20, "{report}");
    // Damage is an error, not a loss.
    let mut damaged = whole.clone();
    damaged[12] ^= 0xff;
    fs::write(data.join("a.ndjson.gz"), damaged).unwrap();
    let error = audit(&[&acks], &source).unwrap_err();
    assert!(error.to_string().contains("a.ndjson.gz"), "{error}");
}

#[test]
fn json_is_written_when_stdout_is_closed() {
    let bench = Bench::new();
    let acks = bench.acks(&["00000001 000000000000 5 0 200"]);
    let ledger = bench.file("stored", &format!("{STORED_HEADER}\n"));
    let json = bench.dir.path().join("report.json");
    let (acks, ledger) = (acks.to_str().unwrap(), ledger.to_str().unwrap());
    let args = ["audit", "--acks", acks, "--ledger", ledger, "--json"];
    // As with `| head -0`: the reader is gone before the first line.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = program(&[&args[..], &[json.to_str().unwrap()]].concat())
        .stdout(writer)
        .output()
        .unwrap();
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert_eq!((ended.status.code(), stderr.as_str()), (Some(1), ""));
    let report: AuditReport = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!(report.lost, 5);

    let (code, stdout, stderr) = output(&[&args[..], &["-"]].concat());
    assert_eq!(code, 1);
    assert_eq!(
        serde_json::from_str::<AuditReport>(&stdout).unwrap(),
        report
    );
    assert!(stderr.contains("LOST               5"), "{stderr}");
    assert!(!Path::new("-").exists());
}
