//! The writer around machine 2, on its real thread, with sinks that do as they are told.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to fail")]

use bytes::Bytes;
use sluice_core::ack::{
    AckBatch, AckQueue, Outcome, OutputId, RequestKey, Settlement, Ticket, WriterId,
};
use sluice_core::cause::Cause;
use sluice_core::circuit::{CircuitSettings, CircuitState};
use sluice_core::delivery::DeliverySettings;
use sluice_core::queue::{Sender, queue};
use sluice_core::record::{Record, RecordResult};
use sluice_core::retry::RetryPolicy;
use sluice_core::stats::WriterStats;
use sluice_core::time::Mono;
use sluice_sinks::sink::{CheckError, Sink, SinkFuture, SinkLimits};
use sluice_sinks::writer::{StartError, WriterHandle, WriterSettings, spawn};
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::Waker;
use std::time::{Duration, Instant};

/// Answers each call by its number, or never.
struct Scripted<F> {
    calls: AtomicUsize,
    answer: F,
}

impl<F> Sink for Scripted<F>
where
    F: Fn(usize, usize) -> Option<Vec<RecordResult>> + Send + Sync + 'static,
{
    fn limits(&self) -> SinkLimits {
        SinkLimits {
            batch_records_max: 10,
            batch_bytes_max: 1_000,
            record_bytes_max: 1_000,
        }
    }

    fn write<'a>(&'a self, records: &'a [Record]) -> SinkFuture<'a, Vec<RecordResult>> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            match (self.answer)(call, records.len()) {
                Some(results) => results,
                None => std::future::pending().await,
            }
        })
    }

    fn check(&self) -> SinkFuture<'_, Result<String, CheckError>> {
        Box::pin(async { Ok("scripted".to_owned()) })
    }
}

const WRITER: WriterId = WriterId {
    output: OutputId(0),
    number: 3,
};
/// Short, so that a test sees the circuit open; longer than it takes any of the other tests to settle.
const CIRCUIT: CircuitSettings = CircuitSettings {
    open_after: Duration::from_secs(1),
    failures_max: None,
    ack_deadline: Duration::from_secs(60),
};

fn now() -> Mono {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    Mono(u64::try_from(ORIGIN.elapsed().as_micros()).unwrap())
}

struct Bench {
    queue: Option<Sender<Vec<Record>>>,
    writer: WriterHandle,
    port: &'static AckQueue,
    stats: Arc<WriterStats>,
}

fn bench<F>(answer: F) -> Bench
where
    F: Fn(usize, usize) -> Option<Vec<RecordResult>> + Send + Sync + 'static,
{
    lingering_bench(Duration::ZERO, answer)
}

fn lingering_bench<F>(linger: Duration, answer: F) -> Bench
where
    F: Fn(usize, usize) -> Option<Vec<RecordResult>> + Send + Sync + 'static,
{
    let (sender, receiver) = queue(16);
    let stats = Arc::new(WriterStats::default());
    let settings = WriterSettings {
        output: "test".into(),
        id: WRITER,
        delivery: DeliverySettings {
            linger,
            in_flight_max: 2,
            retry: RetryPolicy {
                base: Duration::from_millis(1),
                cap: Duration::from_millis(2),
            },
            circuit: Some(CIRCUIT),
            spool: None,
            has_fallback: false,
        },
        clock: Arc::new(now),
        trouble: Arc::new(|_| ()),
        spool: None,
        stats: Arc::clone(&stats),
    };
    let start = || async move {
        let sink: Arc<dyn Sink> = Arc::new(Scripted {
            calls: AtomicUsize::new(0),
            answer,
        });
        Ok::<_, Infallible>(sink)
    };
    let (writer, _sink) = spawn(settings, receiver, start).unwrap();
    Bench {
        queue: Some(sender),
        writer,
        port: AckQueue::leak(),
        stats,
    }
}

impl Bench {
    fn submit(&self, count: u32) {
        let records = (0..count)
            .map(|slot| Record {
                key: None,
                topic: None,
                payload: Bytes::from_static(b"event"),
                deadline: now() + Duration::from_secs(60),
                ticket: Ticket::new(
                    self.port,
                    RequestKey {
                        slot,
                        generation: 0,
                    },
                    OutputId(0),
                    5,
                ),
            })
            .collect();
        self.queue.as_ref().unwrap().try_send(records).unwrap();
    }

    /// The next batch that the core gets.
    fn ack_batch(&self) -> AckBatch {
        let give_up = Instant::now() + Duration::from_secs(20);
        loop {
            assert!(Instant::now() < give_up, "no acks came");
            match self.port.poll_recv(Waker::noop()) {
                Some(batch) => return batch,
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Collects settlements until `count` are there.
    fn settlements(&self, count: usize) -> Vec<Settlement> {
        let mut settled = Vec::new();
        let give_up = Instant::now() + Duration::from_secs(20);
        while settled.len() < count {
            assert!(
                Instant::now() < give_up,
                "{} of {count} settlements came",
                settled.len()
            );
            match self.port.poll_recv(Waker::noop()) {
                Some(batch) => settled.extend(batch.settlements),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        settled.sort_by_key(|settlement| settlement.request.slot);
        settled
    }
}

fn outcomes(settlements: &[Settlement]) -> Vec<Outcome> {
    settlements
        .iter()
        .map(|settlement| settlement.outcome)
        .collect()
}

#[test]
fn every_record_gets_its_result_from_the_sink() {
    let bench = bench(|_, _| {
        Some(vec![
            RecordResult::Delivered,
            RecordResult::Refused(Cause::TooLarge),
            RecordResult::Retry(Cause::Denied),
        ])
    });
    bench.submit(3);
    assert_eq!(
        outcomes(&bench.settlements(3)),
        [
            Outcome::Delivered,
            Outcome::Refused(Cause::TooLarge),
            Outcome::Refused(Cause::Denied)
        ]
    );
}

#[test]
fn a_throttled_record_is_sent_again_until_it_is_delivered() {
    let bench = bench(|call, records| {
        let result = if call < 3 {
            RecordResult::Retry(Cause::Throttled)
        } else {
            RecordResult::Delivered
        };
        Some(vec![result; records])
    });
    bench.submit(2);
    assert_eq!(outcomes(&bench.settlements(2)), [Outcome::Delivered; 2]);
    assert!(bench.stats.retries[Cause::Throttled as usize].get() >= 2);
}

#[test]
fn submissions_arriving_during_linger_share_the_call() {
    let bench = lingering_bench(Duration::from_secs(1), |_, records| {
        Some(vec![RecordResult::Delivered; records])
    });
    for _ in 0..5 {
        bench.submit(1);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(outcomes(&bench.settlements(5)), [Outcome::Delivered; 5]);
    assert_eq!(bench.stats.calls.get(), 1);
}

#[test]
fn a_writer_with_a_closed_queue_settles_and_ends() {
    let mut bench = bench(|_, records| Some(vec![RecordResult::Delivered; records]));
    bench.submit(7);
    bench.queue = None;
    let settled = bench.settlements(7);
    assert_eq!(outcomes(&settled), [Outcome::Delivered; 7]);
    let summary = bench.writer.thread.join().unwrap();
    assert_eq!((summary.tally.delivered, summary.left_behind), (7, 0));
}

#[test]
fn a_stopped_writer_gives_up_waiting_records() {
    // Two calls hang for ever with ten records each; the rest waits.
    let bench = bench(|_, _| None);
    bench.submit(25);
    while bench.stats.calls_in_flight.get() < 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    bench.writer.stop.send(true).unwrap();
    let settled = bench.settlements(5);
    assert_eq!(outcomes(&settled), [Outcome::Refused(Cause::Shutdown); 5]);
}

#[test]
fn the_state_of_the_circuit_arrives_with_the_acks() {
    // Fails until the circuit opens, and is heard by a core whose records were all settled before.
    let bench = bench(|call, records| {
        let result = match call {
            0 => RecordResult::Delivered,
            _ => RecordResult::Retry(Cause::Unavailable),
        };
        Some(vec![result; records])
    });
    bench.submit(1);
    let first = bench.ack_batch();
    let state = first.writer.unwrap();
    assert_eq!(
        (state.writer, state.circuit),
        (WRITER, CircuitState::Closed)
    );
    assert_eq!(first.settlements.len(), 1);
    bench.submit(1);
    let last = bench.ack_batch();
    assert!(last.writer.unwrap().circuit.is_failing());
    // The record's client waits, so it was given up with the call that opened the circuit.
    let refused = Outcome::Refused(Cause::Unavailable);
    assert_eq!(outcomes(&last.settlements), [refused]);
    assert_eq!(bench.stats.circuit_opened.get(), 1);
    assert_eq!(bench.stats.circuit(), CircuitState::Open);
}

#[test]
fn a_hanging_call_tells_its_core_of_the_open_circuit() {
    let bench = bench(|_, _| None);
    bench.submit(1);
    let batch = bench.ack_batch();
    assert_eq!(batch.settlements, []);
    assert_eq!(batch.writer.unwrap().circuit, CircuitState::HalfOpen);
}

#[test]
fn a_failed_sink_start_names_the_output() {
    let (_sender, receiver) = queue(1);
    let settings = WriterSettings {
        output: "clicks".into(),
        id: WRITER,
        delivery: DeliverySettings {
            linger: Duration::ZERO,
            in_flight_max: 1,
            retry: RetryPolicy {
                base: Duration::ZERO,
                cap: Duration::ZERO,
            },
            circuit: None,
            spool: None,
            has_fallback: false,
        },
        clock: Arc::new(now),
        trouble: Arc::new(|_| ()),
        spool: None,
        stats: Arc::default(),
    };
    let start = || async { Err::<Arc<dyn Sink>, _>("no such stream") };
    match spawn(settings, receiver, start) {
        Err(error @ StartError::Sink { .. }) => {
            assert_eq!(error.to_string(), "output clicks: no such stream");
        }
        other => panic!("{:?}", other.map(|_| ())),
    }
}
