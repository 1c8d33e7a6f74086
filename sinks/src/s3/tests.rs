//! The S3 sink against a bucket that answers by script, on a disk that fails on command.

mod bucket;
mod oracle;
mod property;
mod staging;

use super::*;
use crate::aws::AwsSettings;
use crate::disk::faulty::{Fault, Faulty};
use aws_credential_types::Credentials;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use bucket::{Answer, Scripted, Seen};
use sluice_core::ack::{AckQueue, OutputId, RequestKey, Ticket};
use sluice_core::time::Mono;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;
use tempfile::TempDir;

const DELIVERED: RecordResult = RecordResult::Delivered;

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
    ($secs:ident, $clock:ident, $start:expr) => {
        static $secs: AtomicU64 = AtomicU64::new($start);
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

/// Quick to try again, slow to finish a segment.
fn settings(bucket: &Scripted, keeping: Keeping) -> S3Settings {
    S3Settings {
        prefix: "raw/".to_owned(),
        aws: AwsSettings {
            endpoint_url: Some(bucket.url()),
            region: Some("eu-west-1".to_owned()),
            ..AwsSettings::default()
        },
        retry_base: Duration::from_millis(1),
        retry_cap: Duration::from_millis(5),
        keeping,
        ..S3Settings::new("clicks")
    }
}

fn credentials() -> Option<SharedCredentialsProvider> {
    let credentials = Credentials::new("id", "secret", None, None, "test");
    Some(SharedCredentialsProvider::new(credentials))
}

/// A bucket, a directory, and the sink between them.
struct Bench {
    dir: TempDir,
    disk: Faulty,
    bucket: Scripted,
    settings: S3Settings,
    clock: fn() -> Wall,
    sink: Option<S3Sink>,
}

impl Bench {
    async fn new() -> Bench {
        Bench::with(|_| {}, fixed).await
    }

    async fn with(change: impl FnOnce(&mut S3Settings), clock: fn() -> Wall) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let bucket = Scripted::start();
        let mut settings = S3Settings {
            staging_dir: dir.path().join("staging"),
            write_timeout: Duration::from_secs(30),
            ..settings(&bucket, Keeping::Staged)
        };
        change(&mut settings);
        let mut bench = Bench {
            dir,
            disk: Faulty::default(),
            bucket,
            settings,
            clock,
            sink: None,
        };
        bench.start().await;
        bench
    }

    async fn start(&mut self) {
        self.sink = Some(self.try_start().await.unwrap());
    }

    async fn try_start(&self) -> Result<S3Sink, CheckError> {
        let disk = Arc::new(self.disk.clone());
        S3Sink::start_on(disk, self.settings.clone(), self.clock, credentials()).await
    }

    /// What SIGKILL leaves.
    async fn kill(&mut self) {
        let row = match self.sink.take().map(|sink| sink.way) {
            Some(Way::Staged(staged)) => Arc::downgrade(&staged.row),
            _ => return,
        };
        // A look at the growing segment's age may be under way, and ends by itself.
        until("nobody holds the directory", || row.strong_count() == 0).await;
    }

    fn sink(&self) -> &S3Sink {
        self.sink.as_ref().unwrap()
    }

    async fn write(&self, line: &str) -> RecordResult {
        self.sink().write(&[record(line)]).await[0]
    }

    /// Ends with all the time that it takes.
    async fn finish(&mut self) -> u64 {
        let left = self.sink().finish(Box::pin(std::future::pending())).await;
        self.kill().await;
        left
    }

    fn staging(&self) -> std::path::PathBuf {
        self.dir.path().join("staging")
    }

    /// Names of segments, by ending.
    fn segments(&self, ending: &str) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.staging())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(ending))
            .collect();
        names.sort();
        names
    }

    fn stats(&self) -> Arc<StagingStats> {
        self.sink().staging_stats().unwrap()
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..4_000 {
        if holds() {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain until {what}");
}

fn segment_file(dir: &Path, name: &str, content: &[u8]) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join(name), content).unwrap();
}

const UUID_A: &str = "0b7a3c52-5b07-4f0e-9c1c-3c9e7f4a1d01";
const UUID_B: &str = "1b7a3c52-5b07-4f0e-9c1c-3c9e7f4a1d02";
const UUID_C: &str = "2b7a3c52-5b07-4f0e-9c1c-3c9e7f4a1d03";

#[tokio::test]
async fn an_object_has_the_expected_key_headers_and_body() {
    let mut bench = Bench::new().await;
    let batch = [record("{\"a\":1}"), record("{\"b\":2}")];
    assert_eq!(bench.sink().write(&batch).await, [DELIVERED; 2]);
    assert_eq!(bench.write("{\"c\":3}").await, DELIVERED);
    assert_eq!(bench.finish().await, 0);
    let [seen] = &bench.bucket.seen()[..] else {
        panic!("one PutObject is one object");
    };
    let key = seen.key();
    assert!(
        key.starts_with("raw/year=2026/month=11/day=20/hour=07/1795158000-")
            && key.ends_with(".log.gz"),
        "{key}"
    );
    assert_eq!(seen.method, "PUT");
    assert_eq!(seen.header("content-type"), "text/x-log");
    assert_eq!(seen.header("content-encoding"), "gzip");
    assert_eq!(seen.header("if-none-match"), "*");
    assert_eq!(seen.header("content-md5"), bucket::md5(&seen.body));
    assert_eq!(
        seen.header("content-length"),
        seen.body.len().to_string(),
        "in one piece, without chunks that other stores may not know"
    );
    for absent in ["x-amz-storage-class", "x-amz-server-side-encryption"] {
        assert_eq!(seen.header(absent), "");
    }
    assert_eq!(seen.text(), "{\"a\":1}\n{\"b\":2}\n{\"c\":3}");
    assert_eq!(bench.segments(""), [""; 0]);
}

#[tokio::test]
async fn class_and_key_are_named_where_they_are_set() {
    let change = |settings: &mut S3Settings| {
        settings.storage_class = StorageClass::StandardIa;
        settings.kms_key_id = Some("alias/clicks".to_owned());
    };
    let mut bench = Bench::with(change, fixed).await;
    bench.write("{}").await;
    bench.finish().await;
    let seen = &bench.bucket.seen()[0];
    assert_eq!(seen.header("x-amz-storage-class"), "STANDARD_IA");
    assert_eq!(seen.header("x-amz-server-side-encryption"), "aws:kms");
    assert_eq!(
        seen.header("x-amz-server-side-encryption-aws-kms-key-id"),
        "alias/clicks"
    );
}

#[tokio::test]
async fn a_segment_is_finished_before_it_would_pass_its_size() {
    let change = |settings: &mut S3Settings| settings.object_bytes_max = 1_000_000;
    let mut bench = Bench::with(change, fixed).await;
    // With its newline each is 300,000 bytes: three to an object.
    for at in 0..7 {
        assert_eq!(
            bench.write(&at.to_string().repeat(299_999)).await,
            DELIVERED
        );
    }
    until("two objects are there", || {
        bench.bucket.objects().len() == 2
    })
    .await;
    let stats = bench.stats();
    until("their segments are gone", || {
        (stats.segments_waiting.get(), stats.staged_bytes.get()) == (0, 300_000)
    })
    .await;
    bench.finish().await;
    let lines: Vec<_> = bench
        .bucket
        .seen()
        .iter()
        .map(|seen| seen.text().lines().count())
        .collect();
    assert_eq!(lines, [3, 3, 1]);
}

#[tokio::test]
async fn a_segment_is_closed_by_age_without_another_write() {
    let change = |settings: &mut S3Settings| settings.object_age_max = Duration::from_millis(80);
    let bench = Bench::with(change, fixed).await;
    bench.write("one").await;
    bench.write("two").await;
    until("the object is there", || bench.bucket.objects().len() == 1).await;
    assert_eq!(bench.bucket.seen()[0].text(), "one\ntwo");
    until("its segment is gone", || bench.segments("").is_empty()).await;
}

#[tokio::test]
async fn a_retried_upload_has_the_same_key_and_bytes() {
    let mut bench = Bench::new().await;
    bench.bucket.next([
        Answer::Says(503, "SlowDown"),
        Answer::StoresAndSays(500, "InternalError"),
        Answer::Says(409, "ConditionalRequestConflict"),
    ]);
    bench.write("one").await;
    assert_eq!(bench.finish().await, 0);
    let seen = bench.bucket.seen();
    assert_eq!(seen.len(), 4);
    assert!(
        seen.iter()
            .all(|again| again.key() == seen[0].key() && again.body == seen[0].body)
    );
    assert_eq!(bench.bucket.objects().len(), 1);
    assert_eq!(bench.bucket.last_status(), 412);
    assert_eq!(bench.segments(""), [""; 0]);
}

#[tokio::test]
async fn a_200_with_an_error_or_without_etag_fails() {
    let mut bench = Bench::new().await;
    bench.bucket.next([
        Answer::Page("<Error><Code>InternalError</Code></Error>", true),
        Answer::Page("<html>welcome to the captive portal</html>", false),
        Answer::Resets,
    ]);
    bench.write("one").await;
    assert_eq!(bench.finish().await, 0);
    assert_eq!(bench.bucket.seen().len(), 4);
    assert_eq!(bench.bucket.objects().len(), 1);
}

#[tokio::test]
async fn a_skewed_clock_is_corrected_within_the_call() {
    let bucket = Scripted::start();
    let settings = settings(&bucket, Keeping::Staged);
    let ours = Bucket::open(&settings, credentials()).await.unwrap();
    let packed = pack::pack_lines(&[Bytes::from("{}")]).unwrap();
    let ahead = DateTime::from_secs(DateTime::from(SystemTime::now()).secs() + 7_200);
    let date = ahead.fmt(Format::HttpDate).unwrap();
    bucket.next([Answer::Dated(403, "RequestTimeTooSkewed", date)]);
    ours.put("key", &packed, false).await.unwrap();
    let [first, second] = &bucket.seen()[..] else {
        panic!("one call was made twice");
    };
    let hour = ahead.fmt(Format::DateTime).unwrap().replace(['-', ':'], "");
    assert!(!first.header("x-amz-date").starts_with(&hour[..11]));
    assert!(second.header("x-amz-date").starts_with(&hour[..11]));
    assert_eq!(bucket.objects().len(), 1);
}

#[tokio::test]
async fn upload_failures_are_counted_and_reported_until_success() {
    let bench = Bench::with(
        |settings| settings.object_age_max = Duration::from_millis(40),
        fixed,
    )
    .await;
    let mut answers = vec![
        Answer::Says(403, "AccessDenied"),
        Answer::Says(503, "SlowDown"),
    ];
    answers.extend((0..400).map(|_| Answer::Says(404, "NoSuchBucket")));
    bench.bucket.next(answers);
    let stats = bench.stats();
    assert_eq!(bench.write("one").await, DELIVERED);
    until("the bucket is missing", || {
        stats.trouble() == Some(Cause::NotFound)
    })
    .await;
    assert_eq!(bench.write("two").await, DELIVERED);
    until("it is there again", || stats.trouble().is_none()).await;
    until("all is stored", || stats.staged_bytes.get() == 0).await;
    let failures = |cause: Cause| stats.failures[cause as usize].get();
    assert_eq!(failures(Cause::Denied), 1);
    assert_eq!(failures(Cause::Throttled), 1);
    assert!(failures(Cause::NotFound) > 0);
    assert_eq!(stats.oldest_unix_secs.get(), 0);
    let sent: usize = bench.bucket.objects().values().map(Vec::len).sum();
    assert_eq!(stats.object_bytes.get(), sent as u64);
    assert_eq!(stats.objects.get(), bench.bucket.objects().len() as u64);
}

#[tokio::test]
async fn the_key_hour_is_that_of_the_first_attempt() {
    /// 2026-12-31T23:59:59Z
    const MIDNIGHT: u64 = 1_798_761_600;
    clock!(SECS, clock, MIDNIGHT - 1);
    let change = |settings: &mut S3Settings| settings.object_age_max = Duration::from_millis(40);
    let mut bench = Bench::with(change, clock).await;
    bench
        .bucket
        .next((0..100_000).map(|_| Answer::Says(500, "InternalError")));
    bench.write("old").await;
    until("it was tried", || bench.bucket.seen().len() > 2).await;
    // Begun before midnight, and tried only after it: by then the first one is stored.
    bench.write("new").await;
    until("it waits", || bench.stats().segments_waiting.get() == 2).await;
    SECS.store(MIDNIGHT, Ordering::SeqCst);
    bench.bucket.forget_plans();
    assert_eq!(bench.finish().await, 0);
    let objects = bench.bucket.objects();
    let hours: Vec<_> = objects.keys().map(|key| &key[..38]).collect();
    assert_eq!(
        hours,
        [
            "raw/year=2026/month=12/day=31/hour=23/",
            "raw/year=2027/month=01/day=01/hour=00/"
        ]
    );
}

#[tokio::test]
async fn a_refused_object_does_not_block_others() {
    let mut bench = Bench::with(
        |settings| settings.object_age_max = Duration::from_millis(40),
        fixed,
    )
    .await;
    bench
        .bucket
        .refuse("poison", Answer::Says(400, "EntityTooLarge"));
    bench.write("poison").await;
    until("it was refused", || bench.bucket.seen().len() > 2).await;
    bench.write("good").await;
    until("the other is stored", || bench.bucket.texts() == ["good"]).await;
    until("the refused one is tried again", || {
        bench.stats().trouble() == Some(Cause::Invalid)
    })
    .await;
    let stop = Box::pin(sleep(Duration::from_millis(50)));
    assert_eq!(bench.sink().finish(stop).await, 7);
    bench.kill().await;
    assert_eq!(bench.segments(".keyed").len(), 1);
}

#[tokio::test]
async fn only_the_stores_own_word_deletes_a_segment() {
    for answer in [
        // A page in front of the store, and a store that was never asked before.
        Answer::Says(412, "html"),
        Answer::Says(412, "PreconditionFailed"),
        // An ETag that is no MD5 of the body, and one of something that gives requests no id.
        Answer::Tagged("etag: \"0123456789abcdef0123456789abcdef\""),
        Answer::Tagged("etag: \"e\""),
    ] {
        let mut bench = Bench::new().await;
        bench.bucket.next([answer.clone()]);
        bench.write("one").await;
        assert_eq!(bench.finish().await, 0);
        assert_eq!(bench.bucket.texts(), ["one"], "{answer:?}");
    }
}

#[tokio::test]
async fn a_fresh_key_that_exists_is_never_believed() {
    let mut bench = Bench::new().await;
    let always = (0..100_000).map(|_| Answer::Says(412, "PreconditionFailed"));
    bench.bucket.next(always);
    bench.write("one").await;
    let stop = Box::pin(sleep(Duration::from_millis(50)));
    assert_eq!(bench.sink().finish(stop).await, 4);
    bench.kill().await;
    assert_eq!(bench.segments(".keyed").len(), 1);
}

#[tokio::test]
async fn an_etag_of_another_form_needs_a_sign_of_the_store() {
    for sign in [
        "etag: \"e\"\r\nx-amz-request-id: 4711",
        "etag: \"0123456789abcdef0123456789abcdef\"\r\nx-amz-server-side-encryption: aws:kms",
    ] {
        let mut bench = Bench::new().await;
        bench.bucket.next([Answer::Tagged(sign)]);
        bench.write("one").await;
        assert_eq!(bench.finish().await, 0, "{sign}");
        assert_eq!(bench.bucket.seen().len(), 1, "{sign}");
    }
}

#[tokio::test]
async fn payloads_that_are_no_line_are_refused_alone() {
    let mut bench = Bench::new().await;
    let batch = [record("one"), record(""), record("a\nb"), record("two")];
    let invalid = RecordResult::Refused(Cause::Invalid);
    assert_eq!(
        bench.sink().write(&batch).await,
        [DELIVERED, invalid, invalid, DELIVERED]
    );
    bench.finish().await;
    assert_eq!(bench.bucket.texts(), ["one\ntwo"]);
}

/// A sink without a directory.
async fn direct(bucket: &Scripted, give_up_after: Duration) -> S3Sink {
    let keeping = Keeping::Memory {
        give_up_after,
        write_bytes_max: 30_000_000,
    };
    let settings = settings(bucket, keeping);
    let disk = Arc::new(Faulty::default());
    S3Sink::start_on(disk, settings, fixed, credentials())
        .await
        .unwrap()
}

#[tokio::test]
async fn without_staging_each_write_is_an_object() {
    let bucket = Scripted::start();
    let sink = direct(&bucket, Duration::from_secs(60)).await;
    bucket.next([Answer::StoresAndSays(500, "InternalError")]);
    let results = sink.write(&[record("one"), record("two")]).await;
    assert_eq!(results, [DELIVERED; 2]);
    assert_eq!(bucket.texts(), ["one\ntwo"]);
    let keys: Vec<_> = bucket.seen().iter().map(Seen::key).collect();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0], keys[1], "a repeat has the same key");
    let stats = sink.staging_stats().unwrap();
    assert_eq!((stats.objects.get(), stats.staged_bytes.get()), (1, 0));
}

#[tokio::test]
async fn without_staging_late_records_are_refused() {
    let bucket = Scripted::start();
    let sink = direct(&bucket, Duration::from_millis(30)).await;
    bucket.next((0..100_000).map(|_| Answer::Says(404, "NoSuchBucket")));
    assert_eq!(
        sink.write(&[record("one")]).await,
        [RecordResult::Refused(Cause::NotFound)]
    );
    assert_eq!(
        sink.staging_stats().unwrap().trouble(),
        Some(Cause::NotFound)
    );
}

#[tokio::test]
async fn settings_out_of_their_range_are_refused_with_both_values() {
    let bucket = Scripted::start();
    type Change = fn(&mut S3Settings);
    let changes: [(Change, &str); 6] = [
        (|s| s.bucket.clear(), "`bucket` is \"\""),
        (|s| s.prefix = "x".repeat(897), "up to 896"),
        (|s| s.object_bytes_max = 999_999, "999999"),
        (|s| s.object_bytes_max = 50_000_001, "50000000"),
        (|s| s.batch_bytes_max = 0, "`batch_bytes_max` is 0"),
        (
            |s| s.staging_bytes_max = 1_000_000,
            "takes 1000000 bytes: at least object_bytes_max, 30000000",
        ),
    ];
    for (change, expected) in changes {
        let mut settings = settings(&bucket, Keeping::Staged);
        change(&mut settings);
        match S3Sink::start(settings, fixed).await {
            Err(error) => assert!(error.reason.contains(expected), "{error}"),
            Ok(_) => panic!("{expected} was taken"),
        }
    }
}
