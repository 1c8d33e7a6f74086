//! Machine 2 under seeded schedules: a destination that delivers, throttles, refuses, forgets
//! results and calls batches invalid, in any order and at any time, against rules that have to hold
//! at every step. `SLUICE_SEEDS` sets how many schedules run, `SLUICE_SEED` names a single one.

use super::*;

/// What the imagined destination did with a record.
#[derive(Default)]
struct Fate {
    stored: u32,
    sent: u32,
    flying: bool,
    said_delivered: bool,
    at_disk: bool,
    on_disk: bool,
    unspoolable: bool,
    settled: Option<Outcome>,
    deadline: Mono,
}

fn draw_result(random: &mut fastrand::Rng, trouble: u32) -> RecordResult {
    if random.u32(0..100) >= trouble {
        return OK;
    }
    match random.u32(0..10) {
        0..5 => THROTTLED,
        5 => RecordResult::Retry(Cause::Unavailable),
        6 => RecordResult::Retry(Cause::Unknown),
        7 => RecordResult::Retry(Cause::Invalid),
        8 => RecordResult::Retry(Cause::Denied),
        _ => RecordResult::Refused(Cause::TooLarge),
    }
}

fn run_schedule(seed: u64, port: &'static AckQueue) {
    let mut random = fastrand::Rng::with_seed(seed);
    let bounds = limits(random.usize(1..20), random.usize(50..400));
    let mut rules = settings(random.u64(0..20), random.usize(1..5));
    rules.spool = random.bool().then(|| SpoolRule {
        after: Duration::from_millis(random.u64(1..2_000)),
        first: random.u32(0..4) == 0,
    });
    let disk_trouble = random.choice([0, 20, 100]).unwrap();
    let trouble = random.choice([0, 5, 50, 100]).unwrap();
    let mut driver = Driver::new(rules, bounds);
    let mut fates: HashMap<u64, Fate> = HashMap::new();
    let mut in_flight_calls: Vec<(Mono, CallId, Vec<Record>)> = Vec::new();
    let mut at_disk: Vec<(Mono, Vec<ToSpool>)> = Vec::new();
    let mut now = Mono(0);
    let mut arrivals_left = random.u32(1..15);
    let stop_at = random.bool().then(|| Mono(random.u64(0..3_000_000)));
    let (mut drained, mut stopped, mut cut_short) = (false, false, false);

    loop {
        // What comes next: an arrival, an answer, a timer, or the end.
        let answer_at = in_flight_calls
            .iter()
            .map(|flight| flight.0)
            .min()
            .unwrap_or(Mono::NEVER);
        let timer_at = driver.machine.wake_at();
        let input = if arrivals_left > 0 && random.u32(0..3) == 0 {
            arrivals_left -= 1;
            let deadline = now + Duration::from_millis(random.u64(1..4_000));
            let first = fates.len() as u64;
            let count = random.u64(1..12);
            let records = (first..first + count)
                .map(|number| record(port, number, random.usize(8..bounds.bytes_max), deadline))
                .collect();
            for number in first..first + count {
                fates.insert(
                    number,
                    Fate {
                        deadline,
                        ..Fate::default()
                    },
                );
            }
            Input::Records(records)
        } else if random.u32(0..20) == 0 {
            let succeeded = random.bool();
            driver.step(Input::ReplaySent, now, 0);
            Input::ReplayEnded { succeeded }
        } else if !at_disk.is_empty() && random.u32(0..3) == 0 {
            let (at, records) = at_disk.swap_remove(random.usize(0..at_disk.len()));
            now = now.max(at);
            let kept = random.u32(0..100) >= disk_trouble;
            for ToSpool { record, .. } in &records {
                let fate = fates.get_mut(&number(record)).unwrap();
                (fate.at_disk, fate.on_disk, fate.unspoolable) = (false, kept, !kept);
            }
            Input::Spooled { records, kept }
        } else if arrivals_left == 0 && !drained && random.bool() {
            drained = true;
            Input::Drain
        } else if !stopped && stop_at.is_some_and(|stop_at| stop_at <= now) {
            stopped = true;
            drained = true;
            Input::Stop
        } else if answer_at != Mono::NEVER && (answer_at <= timer_at || random.bool()) {
            now = now.max(answer_at);
            let at = in_flight_calls
                .iter()
                .position(|flight| flight.0 == answer_at)
                .unwrap();
            let (_, call, records) = in_flight_calls.swap_remove(at);
            let mut results = Vec::new();
            for record in &records {
                let result = draw_result(&mut random, trouble);
                let fate = fates.get_mut(&number(record)).unwrap();
                fate.flying = false;
                fate.said_delivered = result == OK;
                fate.stored += u32::from(result == OK);
                results.push(result);
            }
            if random.u32(0..20) == 0 {
                // The answer is cut short: stored, but nobody was told.
                cut_short = true;
                for record in records.iter().skip(results.len() / 2) {
                    fates.get_mut(&number(record)).unwrap().said_delivered = false;
                }
                results.truncate(results.len() / 2);
            }
            Input::Completed {
                call,
                records,
                results,
            }
        } else if timer_at != Mono::NEVER {
            now = now.max(timer_at);
            Input::Tick
        } else if arrivals_left == 0 && in_flight_calls.is_empty() && at_disk.is_empty() && drained
        {
            break;
        } else {
            now = now + Duration::from_micros(random.u64(1..10_000));
            Input::Tick
        };
        driver.step(input, now, random.u64(..));

        for (call, records) in driver.calls.drain(..) {
            assert!(
                !records.is_empty() && records.len() <= bounds.records_max,
                "batch by count"
            );
            let bytes: usize = records.iter().map(Record::size).sum();
            assert!(bytes <= bounds.bytes_max, "batch of {bytes} bytes");
            for record in &records {
                let fate = fates.get_mut(&number(record)).unwrap();
                assert!(!fate.flying, "in two calls at once");
                assert!(!fate.at_disk, "sent while the spool has it");
                assert!(fate.settled.is_none(), "sent after it was settled");
                assert!(!fate.said_delivered, "sent again after it was confirmed");
                assert!(now < fate.deadline, "sent after its deadline");
                fate.flying = true;
                fate.sent += 1;
            }
            in_flight_calls.push((
                now + Duration::from_micros(random.u64(0..500_000)),
                call,
                records,
            ));
        }
        assert!(
            in_flight_calls.len() <= rules.in_flight_max,
            "too many calls at once"
        );
        for records in driver.spool.drain(..) {
            assert!(rules.spool.is_some(), "spooled without a spool");
            for ToSpool {
                record, attempts, ..
            } in &records
            {
                let fate = fates.get_mut(&number(record)).unwrap();
                assert!(!fate.at_disk && !fate.flying, "in two places at once");
                assert!(!fate.unspoolable, "spooled again after the disk refused it");
                assert!(!fate.said_delivered, "spooled after it was confirmed");
                assert_eq!(*attempts, fate.sent, "attempts are not the truth");
                fate.at_disk = true;
            }
            at_disk.push((now + Duration::from_micros(random.u64(0..50_000)), records));
        }
        for (number, outcome) in driver.settled.drain(..) {
            let fate = fates.get_mut(&number).unwrap();
            assert!(fate.settled.is_none(), "settled twice");
            assert!(!fate.flying, "settled while a call carries it");
            assert!(!fate.at_disk, "settled while the spool has it");
            assert_eq!(
                outcome == Outcome::Delivered,
                fate.said_delivered,
                "not the truth"
            );
            assert_eq!(outcome == Outcome::Spooled, fate.on_disk, "not on disk");
            fate.settled = Some(outcome);
        }
        // Nothing that could go out is kept: a free call and a due record never meet.
        if in_flight_calls.len() < rules.in_flight_max {
            assert!(driver.machine.wake_at() > now, "something due was left");
        }
    }

    assert!(driver.machine.is_idle(), "records left behind");
    let tally = driver.machine.tally();
    assert_eq!(tally.received, fates.len() as u64);
    for (number, fate) in &fates {
        assert!(fate.settled.is_some(), "record {number} was never settled");
        if fate.settled == Some(Outcome::Delivered) {
            assert!(
                fate.stored > 0,
                "record {number} is acknowledged and not stored"
            );
        }
    }
    if trouble == 0 && !cut_short {
        assert!(
            fates.values().all(|fate| fate.sent <= 1),
            "repeated without a failure"
        );
    }
}

#[test]
fn no_schedule_loses_repeats_or_misreports_a_record() {
    let port = AckQueue::leak();
    if let Ok(seed) = std::env::var("SLUICE_SEED") {
        return run_schedule(seed.parse().unwrap(), port);
    }
    let seeds = std::env::var("SLUICE_SEEDS").map_or(20_000, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let run = catch_unwind(AssertUnwindSafe(|| run_schedule(seed, port)));
        assert!(run.is_ok(), "failed with SLUICE_SEED={seed}");
    }
}
