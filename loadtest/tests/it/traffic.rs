//! Profiles and files through the whole generator, and what an audit finds of them.

use crate::responder::{Responder, ok, status};
use sluice_loadtest::audit::{Source, audit};
use sluice_loadtest::event_id::EventId;
use sluice_loadtest::kinesis;
use sluice_loadtest::ledger::{Ack, read_acks};
use sluice_loadtest::run::{
    BodyError, BodyOptions, BodySource, ConnectOptions, FileOptions, Load, OkStatuses, Options,
    Profile, Report, RunError, Target, run,
};
use std::collections::HashSet;
use std::io::Write;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const ALL: [Profile; 6] = [
    Profile::Web,
    Profile::Mobile,
    Profile::Single,
    Profile::Flat,
    Profile::Batch,
    Profile::Firehose,
];

fn options(server: &Responder, requests: u64, source: BodySource) -> Options {
    Options {
        target: Target::parse(&server.url()).unwrap(),
        load: Load::Closed,
        connections: 3,
        connect: ConnectOptions::default(),
        threads: 2,
        duration: None,
        requests: Some(requests),
        timeout: Duration::from_secs(30),
        body: BodyOptions {
            source,
            ..BodyOptions::default()
        },
        ok: OkStatuses::default(),
        acks: None,
        hdr_log: None,
        watch: vec![],
        run: 0xabcd,
    }
}

fn go(options: &Options) -> Report {
    run(options, &AtomicBool::new(false), |_| {}).unwrap()
}

fn acks_of(options: &mut Options) -> (Report, Vec<Ack>, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    options.acks = Some(file.path().to_owned());
    let report = go(options);
    let mut acks = Vec::new();
    assert!(!read_acks(file.path(), |ack| acks.push(ack)).unwrap());
    (report, acks, file)
}

#[test]
fn every_profile_sends_each_event_once() {
    for profile in ALL {
        let server = Responder::start(|request| {
            let preflight = request.head.starts_with("OPTIONS ");
            status(if preflight { 204 } else { 200 })
        });
        let mut options = options(&server, 80, BodySource::Profile(profile));
        let (report, acks, _file) = acks_of(&mut options);
        assert!(report.all_ok(), "{profile:?}: {report}");
        assert_eq!(report.load.mode, profile.label());
        let is_web = profile == Profile::Web;
        assert_eq!(report.preflights > 0, is_web, "{profile:?}");
        assert_eq!(acks.len() as u64, 80 - report.preflights);
        let promised: HashSet<EventId> = acks
            .iter()
            .flat_map(|ack| {
                (ack.first..)
                    .take(ack.count as usize)
                    .map(|seq| (ack.run, seq))
            })
            .map(|(run, seq)| EventId { run, seq })
            .collect();
        let received = server.received();
        assert_eq!(
            promised.len(),
            received.len(),
            "{profile:?}: no event twice"
        );
        assert_eq!(promised, received.into_iter().collect());
        assert_eq!(report.events_ok, promised.len() as u64);
    }
}

#[test]
fn a_preflight_that_is_refused_is_not_ok() {
    let server = Responder::start(|request| {
        let preflight = request.head.starts_with("OPTIONS ");
        status(if preflight { 403 } else { 200 })
    });
    let report = go(&options(&server, 80, BodySource::Profile(Profile::Web)));
    assert!(!report.all_ok());
    assert_eq!(report.ok + report.preflights, 80);
    assert_eq!(report.statuses[&403], report.preflights);
}

#[test]
fn an_audit_finds_events_in_stored_bodies_that_are_compressed() {
    for profile in [Profile::Mobile, Profile::Batch] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("part.ndjson");
        let file = Arc::new(Mutex::new(std::fs::File::create(&path).unwrap()));
        // Loses its fifth request, and says it has it.
        let server = Responder::start(move |request| {
            if request.number != 4 {
                let body = String::from_utf8(request.body.clone()).unwrap();
                let record = serde_json::json!({"data": body, "method": "POST", "rid": "1"});
                writeln!(file.lock().unwrap(), "{record}").unwrap();
            }
            ok("")
        });
        let mut options = options(&server, 20, BodySource::Profile(profile));
        let (report, acks, file) = acks_of(&mut options);
        let stored = Source::Dir {
            path: dir.path().to_owned(),
            suffixes: vec![".ndjson".to_owned()],
        };
        let found = audit(&[file.path()], &stored).unwrap();
        assert_eq!(found.acked, report.events_ok);
        let lost = acks.iter().filter(|ack| {
            let example = EventId {
                run: ack.run,
                seq: ack.first,
            };
            found.lost_examples.contains(&example.to_string())
        });
        let lost: Vec<u32> = lost.map(|ack| ack.count).collect();
        assert_eq!(lost.len(), 1, "{profile:?}: one request");
        assert_eq!(found.lost, u64::from(lost[0]));
        assert_eq!((found.duplicated, found.foreign_copies), (0, 0));
    }
}

#[test]
fn ids_of_compressed_bodies_are_in_the_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = dir.path().join("ledger");
    let emulator = Arc::new(crate::kinesis_rules::patient(kinesis::Options {
        ledger: Some(ledger.clone()),
        ..kinesis::Options::default()
    }));
    let behind = Arc::clone(&emulator);
    let server = Responder::start(move |request| {
        let body = String::from_utf8(request.body.clone()).unwrap();
        let record = serde_json::json!({"data": body}).to_string();
        let key = request.number.to_string();
        let record = crate::kinesis_rules::record(record.as_bytes(), &key);
        let (code, _) = crate::kinesis_rules::put(&behind, &[record]);
        status(code)
    });
    let mut options = options(&server, 10, BodySource::Profile(Profile::Mobile));
    let (report, _, acks) = acks_of(&mut options);
    assert!(report.all_ok());
    drop(server);
    drop(emulator);
    let found = audit(&[acks.path()], &Source::Ledger(ledger)).unwrap();
    assert_eq!((found.acked, found.lost), (report.events_ok, 0));
    assert!(found.acked >= 500);
}

#[test]
fn body_files_are_sent_verbatim_without_audit() {
    let dir = tempfile::tempdir().unwrap();
    let bodies: [&[u8]; 2] = [b"a=1&b=2", b"\x00\xff binary"];
    let paths = [dir.path().join("a"), dir.path().join("b")];
    for (path, body) in paths.iter().zip(bodies) {
        std::fs::write(path, body).unwrap();
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let server = Responder::start(move |request| {
        let right = request.head.starts_with("PUT /in?k=1 HTTP/1.1\r\n")
            && request.head.contains("\r\nContent-Type: text/x-form\r\n");
        log.lock().unwrap().push(request.body.clone());
        status(if right { 200 } else { 400 })
    });
    let files = FileOptions {
        paths: paths.to_vec(),
        method: "PUT".to_owned(),
        content_type: "text/x-form".to_owned(),
    };
    let mut options = options(&server, 10, BodySource::Files(files));
    options.target = Target::parse(&format!("{}/in?k=1", server.url())).unwrap();
    options.threads = 1;
    let report = go(&options);
    assert!(report.all_ok(), "{report}");
    assert_eq!((report.events_ok, report.load.mode.as_str()), (0, "files"));
    let seen = seen.lock().unwrap();
    for body in bodies {
        assert_eq!(seen.iter().filter(|sent| *sent == body).count(), 5);
    }
    options.acks = Some(dir.path().join("acks"));
    let error = run(&options, &AtomicBool::new(false), |_| {}).unwrap_err();
    assert!(matches!(error, RunError::Body(BodyError::NoIds)), "{error}");
    assert!(!dir.path().join("acks").exists());
}
