//! The rule of all rules, over seeded lives of a sink: whatever bucket, disk and SIGKILL do, what was
//! confirmed is stored in the end, exactly once.

use super::*;
use std::collections::BTreeMap;

/// One life after another, each ending in SIGKILL or in order; then one without faults.
async fn live(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let change = |settings: &mut S3Settings| settings.object_age_max = Duration::from_millis(8);
    let mut bench = Bench::with(change, fixed).await;
    let (mut confirmed, mut written) = (Vec::new(), 0);
    for _ in 0..random.usize(1..5) {
        let answer = |random: &mut fastrand::Rng| match random.u8(0..6) {
            0 => Answer::Says(503, "SlowDown"),
            1 => Answer::StoresAndSays(500, "InternalError"),
            2 => Answer::Page("<Error/>", true),
            3 => Answer::Resets,
            4 => Answer::StoresAndResets,
            _ => Answer::Says(403, "ExpiredToken"),
        };
        let answers: Vec<_> = (0..random.usize(0..9))
            .map(|_| answer(&mut random))
            .collect();
        bench.bucket.next(answers);
        for _ in 0..random.usize(1..12) {
            if random.u8(0..6) == 0 {
                let fault = match random.u8(0..5) {
                    0 => Fault::Write(io::ErrorKind::StorageFull),
                    1 => Fault::ShortWrite(3),
                    2 => Fault::Sync(io::ErrorKind::Other),
                    3 => Fault::SyncDirAfter(0),
                    _ => Fault::Cut,
                };
                bench.disk.0.faults.lock().unwrap().push(fault);
            }
            let lines: Vec<_> = (0..random.usize(1..4))
                .map(|at| format!("line {}", written + at))
                .collect();
            written += lines.len();
            let batch: Vec<_> = lines.iter().map(|line| record(line.as_str())).collect();
            let results = bench.sink().write(&batch).await;
            let stored = lines.into_iter().zip(results);
            confirmed.extend(stored.filter_map(|(line, word)| (word == DELIVERED).then_some(line)));
            sleep(Duration::from_millis(random.u64(0..6))).await;
        }
        if random.bool() {
            let stop = Box::pin(sleep(Duration::from_millis(random.u64(0..30))));
            bench.sink().finish(stop).await;
        }
        bench.kill().await;
        // Each start that a failing disk prevents takes one of its faults away.
        bench.sink = loop {
            if let Ok(sink) = bench.try_start().await {
                break Some(sink);
            }
        };
    }
    bench.disk.0.faults.lock().unwrap().clear();
    bench.bucket.forget_plans();
    // Whatever a failing disk kept from being put in order is, at a start with a disk that works.
    bench.kill().await;
    bench.start().await;
    assert_eq!(bench.finish().await, 0);

    let mut stored: BTreeMap<String, u32> = BTreeMap::new();
    for text in bench.bucket.texts() {
        for line in text.lines() {
            *stored.entry(line.to_owned()).or_default() += 1;
        }
    }
    for line in &confirmed {
        assert_eq!(stored.get(line), Some(&1), "seed {seed}: {line}");
    }
    assert!(
        stored.values().all(|copies| *copies == 1),
        "seed {seed}: {stored:?}"
    );
}

#[tokio::test]
async fn confirmed_lines_are_stored_exactly_once() {
    for seed in 0..25 {
        live(seed).await;
    }
}
