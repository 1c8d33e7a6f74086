//! What a queue does to us, and what the clients hear of it; and how events lie in its messages.

use crate::support::audit::{Stored, count_answered, ids_answered};
use crate::support::event::ids_of_record;
use crate::support::load::{Load, burst};
use crate::support::proxy::Proxy;
use crate::support::wait_until;
use sluice_loadtest::service::{self, Faults, Key, Reject, RejectCode, Signatures};
use sluice_loadtest::sqs::{Emulator, Options};
use std::time::Duration;
use tempfile::tempdir;

const EVENTS: &str = "/v1/events";
const ENVELOPES: &str = "/collect";
/// Time for retries that a test waits for.
const PATIENT: &str = "retry_base_ms = 5\nretry_cap_ms = 20\n[ack]\ndeadline_ms = 8000\n[drain]\ndeadline_ms = 10000\n";
/// Waits of up to a minute: hardly any retry fits before the ack deadline.
const IMPATIENT: &str = "retry_base_ms = 60000\nretry_cap_ms = 60000\n";

/// A queue that takes only calls that are signed with the key that the tests have.
fn queue(faults: Faults) -> Emulator {
    let key = Key {
        id: "test".to_owned(),
        secret: "test".to_owned(),
    };
    let service = service::Options {
        faults,
        signatures: Signatures::Verified(key),
        ..service::Options::default()
    };
    Emulator::start(Options {
        service,
        ..Options::default()
    })
    .unwrap()
}

/// An output called `main` that writes to it; further keys may follow.
fn output(queue: &Emulator) -> String {
    format!(
        "[outputs.main]\ntype = \"sqs\"\nqueue_url = \"{}/000000000000/clicks\"\nlinger_ms = 20\n",
        queue.url()
    )
}

fn stored(queue: &Emulator) -> Stored {
    assert_eq!(queue.stats().not_retained, 0);
    let messages = queue.stored_messages();
    let events = messages
        .iter()
        .flat_map(|message| message.split(|byte| *byte == b'\n'));
    Stored::of(events.flat_map(ids_of_record))
}

#[test]
fn sqs_messages_hold_whole_events_within_their_bound() {
    let queue = queue(Faults::default());
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &(output(&queue) + "message_bytes_max = 2000\n"));
    let mut sent = burst(proxy.address, EVENTS, 8, 30);
    sent.extend(burst(proxy.address, ENVELOPES, 4, 10));
    assert_eq!(count_answered(&sent, 200), sent.len());
    proxy.settled_metrics("main");
    let stored = stored(&queue);
    assert_eq!(stored.ids(), ids_answered(&sent, 200));
    assert_eq!(stored.duplicates(), 0);
    let messages = queue.stored_messages();
    assert!(messages.len() < stored.0.len() / 2, "{}", messages.len());
    assert!(messages.iter().all(|message| message.len() <= 2_000));
    proxy.end_cleanly();
}

#[test]
fn without_packing_each_event_is_a_sqs_message() {
    let queue = queue(Faults::default());
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &(output(&queue) + "message_bytes_max = 0\n"));
    let sent = burst(proxy.address, EVENTS, 4, 9);
    assert_eq!(count_answered(&sent, 200), sent.len());
    let events: usize = sent.iter().map(|sent| sent.ids.len()).sum();
    assert_eq!(stored(&queue).ids(), ids_answered(&sent, 200));
    assert_eq!(queue.stored_messages().len(), events);
    proxy.end_cleanly();
}

#[test]
fn failed_sqs_messages_are_sent_again_alone() {
    for (code, cause) in [
        (
            RejectCode::ProvisionedThroughputExceededException,
            "throttled",
        ),
        (RejectCode::InternalFailure, "unavailable"),
    ] {
        let queue = queue(Faults {
            reject: Some(Reject { k: 1, n: 4, code }),
            ..Faults::default()
        });
        let dir = tempdir().unwrap();
        let packed = output(&queue) + "message_bytes_max = 600\n" + PATIENT;
        let proxy = Proxy::start(dir.path(), &packed);
        let sent = burst(proxy.address, EVENTS, 16, 15);
        assert_eq!(count_answered(&sent, 200), sent.len());
        let metrics = proxy.settled_metrics("main");
        let stored = stored(&queue);
        assert_eq!(stored.ids(), ids_answered(&sent, 200));
        assert_eq!(stored.duplicates(), 0, "what was stored was not sent again");
        let stats = queue.stats();
        assert!(stats.rejected > 0, "{stats:?}");
        let series = format!("sluice_output_retries_total{{output=\"main\",cause=\"{cause}\"}}");
        assert!(
            metrics.get(&series) >= stats.rejected,
            "each event of a message is tried again"
        );
        proxy.end_cleanly();
    }
}

#[test]
fn failed_sqs_messages_are_503_for_their_requests() {
    let queue = queue(Faults {
        reject: Some(Reject {
            k: 1,
            n: 5,
            code: RejectCode::default(),
        }),
        ..Faults::default()
    });
    let dir = tempdir().unwrap();
    let packed = output(&queue) + "message_bytes_max = 600\n" + IMPATIENT;
    let proxy = Proxy::start(dir.path(), &packed);
    let sent = burst(proxy.address, EVENTS, 8, 12);
    proxy.settled_metrics("main");
    stored(&queue).assert_exact(&sent);
    let refused = count_answered(&sent, 503);
    assert!(refused > 0 && count_answered(&sent, 200) > 0, "{refused}");
    assert_eq!(refused + count_answered(&sent, 200), sent.len());
    proxy.end_cleanly();
}

#[test]
fn unreadable_sqs_answers_make_copies_but_no_false_200() {
    let queue = queue(Faults {
        short_answer: 0.2,
        garbage_answer: 0.2,
        reset_after: 0.2,
        ..Faults::default()
    });
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &(output(&queue) + PATIENT));
    let sent = burst(proxy.address, EVENTS, 12, 10);
    let metrics = proxy.settled_metrics("main");
    let stored = stored(&queue);
    stored.assert_truthful(&sent);
    assert!(count_answered(&sent, 200) > 0);
    assert!(stored.duplicates() <= metrics.unknown_retries("main"));
    proxy.end_cleanly();
}

#[test]
fn sigterm_loses_and_duplicates_no_event_of_a_queue() {
    let queue = queue(Faults::default());
    let dir = tempdir().unwrap();
    let mut proxy = Proxy::start(dir.path(), &output(&queue));
    let load = Load::start(proxy.address, EVENTS, 16);
    wait_until("the load is on", || load.answered() > 200);
    proxy.terminate();
    let status = proxy.wait(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{:#?}", proxy.log());
    let sent = load.join();
    let stored = stored(&queue);
    stored.assert_truthful(&sent);
    assert_eq!(stored.duplicates(), 0);
}
