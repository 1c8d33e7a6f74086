//! The staging directory: what a kill, a full or a failing disk leaves there, and what becomes of it.

use super::*;

#[tokio::test]
async fn leftover_segments_keep_their_keys() {
    let mut bench = Bench::new().await;
    bench.kill().await;
    let staging = bench.staging();
    let (before, later) = (START - 500, START + 90_000);
    segment_file(
        &staging,
        &format!("{later}-{UUID_A}.keyed"),
        b"sent before\n",
    );
    segment_file(&staging, &format!("{later}-{UUID_B}.closed"), b"full\n");
    segment_file(
        &staging,
        &format!("{before}-{UUID_C}.open"),
        b"one\ntwo\nhalf a l",
    );
    segment_file(&staging, &format!("{before}-{UUID_B}.open"), b"half a line");
    segment_file(&staging, "notes.txt", b"not ours\n");
    bench.start().await;
    until("all is stored", || bench.bucket.objects().len() == 3).await;
    let seen: Vec<_> = bench
        .bucket
        .seen()
        .iter()
        .map(|seen| (seen.key().split_off(38), seen.text()))
        .collect();
    assert_eq!(
        seen,
        [
            (format!("{later}-{UUID_A}.log.gz"), "sent before".to_owned()),
            (format!("{START}-{UUID_C}.log.gz"), "one\ntwo".to_owned()),
            (format!("{START}-{UUID_B}.log.gz"), "full".to_owned()),
        ]
    );
    until("only unknown files are left", || {
        bench.segments("")
            == [
                format!("{before}-{UUID_B}.open.torn"),
                format!("{before}-{UUID_C}.open.torn"),
                "notes.txt".to_owned(),
            ]
    })
    .await;
    let torn = fs::read(staging.join(format!("{before}-{UUID_C}.open.torn"))).unwrap();
    assert_eq!(torn, b"half a l");
}

#[tokio::test]
async fn an_object_stored_before_a_kill_is_not_repeated() {
    let mut bench = Bench::new().await;
    bench
        .bucket
        .next([Answer::StoresAndSays(500, "InternalError"), Answer::Hangs]);
    bench.write("one").await;
    let stop = Box::pin(sleep(Duration::from_millis(300)));
    assert_eq!(bench.sink().finish(stop).await, 4, "bytes that stay");
    bench.kill().await;
    assert_eq!(bench.segments(".keyed").len(), 1);
    bench.bucket.forget_plans();
    bench.start().await;
    until("the segment is gone", || bench.segments("").is_empty()).await;
    assert_eq!(bench.bucket.objects().len(), 1);
    assert_eq!(bench.bucket.last_status(), 412);
}

#[tokio::test]
async fn segments_not_uploaded_stay_for_the_next_start() {
    let mut bench = Bench::new().await;
    bench.bucket.next((0..10_000).map(|_| Answer::Resets));
    bench.write("one").await;
    let stop = Box::pin(sleep(Duration::from_millis(50)));
    assert_eq!(bench.sink().finish(stop).await, 4);
    bench.kill().await;
    bench.bucket.forget_plans();
    bench.start().await;
    assert_eq!(bench.finish().await, 0);
    assert_eq!(bench.bucket.texts(), ["one"]);
}

#[tokio::test]
async fn a_full_stage_is_no_space_until_something_was_uploaded() {
    let change = |settings: &mut S3Settings| {
        settings.object_bytes_max = 1_000_000;
        settings.staging_bytes_max = 1_000_000;
    };
    let mut bench = Bench::with(change, fixed).await;
    bench
        .bucket
        .next((0..100_000).map(|_| Answer::Says(500, "InternalError")));
    let line = "x".repeat(399_999);
    assert_eq!(bench.write(&line).await, DELIVERED);
    assert_eq!(bench.write(&line).await, DELIVERED);
    assert_eq!(
        bench.write(&line).await,
        RecordResult::Retry(Cause::NoSpace)
    );
    assert_eq!(bench.write("a short one fits").await, DELIVERED);
    assert_eq!(
        bench.write(&line).await,
        RecordResult::Retry(Cause::NoSpace)
    );
    bench.bucket.forget_plans();
    assert_eq!(bench.finish().await, 0);
    bench.start().await;
    assert_eq!(bench.write(&line).await, DELIVERED);
}

#[tokio::test]
async fn a_staging_directory_belongs_to_one_process() {
    let bench = Bench::new().await;
    assert_eq!(bench.write("one").await, DELIVERED);
    for file in bench.segments("") {
        fs::remove_file(bench.staging().join(file)).unwrap();
    }
    match bench.try_start().await {
        Err(error) => assert!(error.reason.contains("another process"), "{error}"),
        Ok(_) => panic!("two sinks in one directory"),
    }
}

#[tokio::test]
async fn the_parent_of_an_existing_staging_directory_is_synced() {
    let mut bench = Bench::new().await;
    bench.finish().await;
    assert!(bench.staging().is_dir());
    bench.disk.0.calls.lock().unwrap().clear();
    bench.start().await;
    let parent = bench.dir.path().file_name().unwrap().to_string_lossy();
    let synced = format!("sync_dir {parent}");
    assert!(bench.disk.0.calls.lock().unwrap().contains(&synced));
}

#[tokio::test]
async fn segments_are_not_readable_by_others() {
    let bench = Bench::new().await;
    assert_eq!(bench.write("one").await, DELIVERED);
    for segment in bench.segments("") {
        let file = fs::metadata(bench.staging().join(segment)).unwrap();
        assert_eq!(file.permissions().mode() & 0o137, 0);
    }
}

/// Segments of an earlier process that no call of this one can handle.
#[tokio::test]
async fn a_segment_that_cannot_be_handled_stops_no_other() {
    let mut bench = Bench::new().await;
    bench.kill().await;
    let staging = bench.staging();
    // A directory, which can neither be cut nor read, in each state; and one that is removed under way.
    for (name, ending) in [(UUID_A, "keyed"), (UUID_B, "closed"), (UUID_C, "open")] {
        fs::create_dir(staging.join(format!("7-{name}.{ending}"))).unwrap();
    }
    bench.start().await;
    let stats = bench.stats();
    until("the bad ones were tried", || {
        stats.failures[Cause::Unavailable as usize].get() > 3
    })
    .await;
    // One of them may be on its next try.
    until("all are blocked", || stats.segments_blocked.get() == 3).await;
    assert_eq!(bench.write("good").await, DELIVERED);
    let kept = bench.finish().await;
    assert_eq!(bench.bucket.texts(), ["good"]);
    assert!(kept > 0, "they are in the exit code");
}

#[tokio::test]
async fn a_removed_segment_stops_no_other() {
    let mut bench = Bench::new().await;
    bench
        .bucket
        .next((0..100_000).map(|_| Answer::Says(503, "SlowDown")));
    bench.kill().await;
    segment_file(&bench.staging(), &format!("7-{UUID_A}.closed"), b"first\n");
    let second = format!("8-{UUID_B}.closed");
    segment_file(&bench.staging(), &second, b"second\n");
    bench.start().await;
    until("the first is under way", || bench.bucket.seen().len() > 1).await;
    fs::remove_file(bench.staging().join(second)).unwrap();
    bench.bucket.forget_plans();
    assert_eq!(bench.write("good").await, DELIVERED);
    assert_eq!(bench.finish().await, 7, "its bytes are in the exit code");
    assert_eq!(bench.bucket.texts(), ["first", "good"]);
}

#[tokio::test]
async fn a_rename_that_took_effect_is_no_failure() {
    let mut bench = Bench::new().await;
    bench.kill().await;
    segment_file(&bench.staging(), &format!("7-{UUID_A}.closed"), b"one\n");
    bench
        .disk
        .0
        .faults
        .lock()
        .unwrap()
        .push(Fault::RenameTakesEffect);
    bench.start().await;
    assert_eq!(bench.finish().await, 0);
    assert_eq!(bench.bucket.texts(), ["one"]);
}

#[tokio::test]
async fn whole_lines_go_although_the_torn_tail_stays() {
    let mut bench = Bench::new().await;
    bench.kill().await;
    let name = format!("7-{UUID_A}.open");
    segment_file(&bench.staging(), &name, b"one\nhalf a l");
    // Where the tail would go, something else is in the way.
    fs::create_dir(bench.staging().join(format!("{name}.torn"))).unwrap();
    bench.start().await;
    assert_eq!(bench.finish().await, 0);
    assert_eq!(bench.bucket.texts(), ["one"]);
}

#[tokio::test]
async fn a_failed_fsync_closes_the_segment() {
    for (cut_fails, expected) in [(false, Cause::Unavailable), (true, Cause::Unknown)] {
        let mut bench = Bench::new().await;
        assert_eq!(bench.write("one").await, DELIVERED);
        let mut faults = vec![Fault::Sync(io::ErrorKind::Other)];
        faults.extend(cut_fails.then_some(Fault::Cut));
        *bench.disk.0.faults.lock().unwrap() = faults;
        assert_eq!(
            bench.write("doubt").await,
            RecordResult::Retry(expected),
            "{cut_fails}"
        );
        assert_eq!(bench.write("two").await, DELIVERED);
        assert_eq!(bench.finish().await, 0);
        assert_eq!(bench.bucket.texts(), ["one", "two"]);
    }
}

#[tokio::test]
async fn a_keyed_segment_ends_with_its_last_confirmed_line() {
    let mut bench = Bench::new().await;
    bench
        .bucket
        .next((0..100_000).map(|_| Answer::Says(500, "InternalError")));
    assert_eq!(bench.write("one").await, DELIVERED);
    *bench.disk.0.faults.lock().unwrap() = vec![
        Fault::ShortWrite(3),
        Fault::Write(io::ErrorKind::Other),
        Fault::Cut,
    ];
    assert_eq!(
        bench.write("doubt").await,
        RecordResult::Retry(Cause::Unknown)
    );
    until("it was sent once", || bench.bucket.seen().len() > 1).await;
    bench.kill().await;
    assert_eq!(bench.segments(".keyed").len(), 1);
    bench.bucket.forget_plans();
    bench.start().await;
    assert_eq!(bench.finish().await, 0);
    assert_eq!(bench.bucket.texts(), ["one"]);
}

#[tokio::test]
async fn no_line_is_confirmed_before_its_segment_name_is_durable() {
    let mut bench = Bench::new().await;
    *bench.disk.0.faults.lock().unwrap() = vec![Fault::SyncDirAfter(0)];
    assert_eq!(
        bench.write("lost").await,
        RecordResult::Retry(Cause::Unavailable)
    );
    assert_eq!(bench.segments(""), [""; 0]);
    assert_eq!(bench.write("one").await, DELIVERED);
    bench.finish().await;
    assert_eq!(bench.bucket.texts(), ["one"]);
}

#[tokio::test]
async fn nothing_is_sent_before_its_key_is_durable() {
    let mut bench = Bench::new().await;
    bench.write("one").await;
    bench.disk.0.calls.lock().unwrap().clear();
    // The directory cannot be synced, again and again.
    *bench.disk.0.faults.lock().unwrap() = (0..10_000).map(|_| Fault::SyncDirAfter(0)).collect();
    let stop = Box::pin(sleep(Duration::from_millis(60)));
    assert_eq!(bench.sink().finish(stop).await, 4);
    assert_eq!(bench.bucket.seen().len(), 0);
    assert!(bench.stats().failures[Cause::Unavailable as usize].get() > 1);
    bench.kill().await;
    bench.disk.0.faults.lock().unwrap().clear();
    bench.start().await;
    bench.finish().await;
    assert_eq!(bench.bucket.texts(), ["one"]);
}
