//! Letters: what is kept of events that cannot be stored as they should be, and what is not.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "in tests a panic is the report, helpers included"
)]

mod support;

use proptest::prelude::*;
use serde_json::{Value, json};
use sluice_core::ack::OutputId;
use sluice_core::inflate::Codings;
use sluice_core::letter::{About, Contents, Desk, LetterTally, Letters, PreparedLetter, Reason};
use sluice_core::partition::PartitionRule;
use sluice_core::plan::{Mode, Plan};
use sluice_core::prepared::{Prepared, RecordLimits};
use sluice_core::privacy::{
    Action, HashKey, Privacy, RequestPrivacy, Rules, SignalPolicy, Signals,
};
use sluice_core::reject::Reject;
use sluice_core::request::RequestContext;
use sluice_core::route::{DeliveryClass, OutputSet};
use sluice_core::sent::SentBody;
use std::sync::Arc;
use support::request;

const OUTPUT: OutputId = OutputId(3);

fn letters() -> Letters {
    Letters {
        output: OUTPUT,
        refused: Reason::OF_REFUSED.to_vec(),
        routes: Vec::new(),
    }
}

fn plan() -> Plan {
    Plan {
        letters: Some(Arc::new(letters())),
        ..Plan::new(Mode::Event, PartitionRule::Random)
    }
}

fn run(plan: &Plan, body: impl AsRef<[u8]>) -> (Prepared, Result<(), Reject>) {
    let mut out = Prepared::default();
    let result = plan.run(&request(), body.as_ref(), 1 << 20, &mut out);
    (out, result)
}

fn parsed(letter: &PreparedLetter) -> Value {
    let line = &letter.record.payload;
    assert!(!line.contains(&b'\n'));
    serde_json::from_slice(line).unwrap()
}

fn only(out: &Prepared) -> Value {
    let [letter] = &out.letters[..] else {
        panic!("{} letters", out.letters.len());
    };
    parsed(letter)
}

#[test]
fn a_refused_event_has_a_letter_and_its_neighbours_none() {
    let (out, result) = run(&plan(), "{\"a\":1}\n{\"b\":\"x\\y\"}\n{\"c\":3}\n");
    assert_eq!(
        (result, out.records.len(), out.rejected.len()),
        (Ok(()), 2, 1)
    );
    assert_eq!(
        only(&out),
        json!({
            "reason": "unreadable", "code": "not_json",
            "message": "not JSON: expected an escape character at byte 16",
            "rid": "0000000000000000000000000000002a", "index": 1, "endpoint": "events",
            "listener": "listen", "time": 1_719_469_185_547_u64, "bytes": 11, "event": "{\"b\":\"x\\y\"}"
        })
    );
    let letter = &out.letters[0];
    assert!(!letter.is_taken);
    let routing = letter.record.routing.as_deref().unwrap();
    assert_eq!(routing.outputs, OutputSet::NONE.with(OUTPUT));
    let class = routing.route(OUTPUT).unwrap().class;
    assert_eq!(class, Some(DeliveryClass::BestEffort));
    assert_eq!(out.letter_tally.written, [1, 0, 0, 0]);
}

#[test]
fn each_refusal_has_its_reason() {
    let plan = Plan {
        depth_max: 2,
        ..plan()
    };
    for (body, index, reason, event) in [
        ("[{}, 7]", Some(1), "unreadable", "7"),
        (
            "[{}, {\"a\":{\"b\":{}}}]",
            Some(1),
            "too_deep",
            "{\"a\":{\"b\":{}}}",
        ),
        ("[{}, {]", None, "unreadable", "[{}, {]"),
        ("7", None, "unreadable", "7"),
    ] {
        let letter = only(&run(&plan, body).0);
        assert_eq!(letter["reason"], reason, "{body}");
        assert_eq!(letter["index"], json!(index), "{body}");
        assert_eq!(letter["event"], event, "{body}");
    }
    assert!(run(&plan, "[]").0.letters.is_empty());
}

#[test]
fn only_the_reasons_that_are_asked_for_have_letters() {
    let letters = Letters {
        refused: vec![Reason::TooDeep],
        ..letters()
    };
    let plan = Plan {
        letters: Some(Arc::new(letters)),
        ..plan()
    };
    let (out, _) = run(&plan, "{}\n7\n");
    assert_eq!((out.letters.len(), out.rejected.len()), (0, 1));
    assert_eq!(out.letter_tally, LetterTally::default());
}

#[test]
fn a_too_large_event_is_kept_as_its_record_would_be() {
    let limits = RecordLimits {
        records: 150,
        letters: 10_000,
    };
    let event = format!("{{\"a\":\"{}\"}}", "é".repeat(60));
    let mut out = Prepared::default();
    let body = format!("[{{}},{event}]");
    plan()
        .run(&request(), body.as_bytes(), limits, &mut out)
        .unwrap();
    let letter = only(&out);
    assert_eq!(
        (&letter["reason"], &letter["cut"]),
        (&json!("too_large"), &Value::Null)
    );
    let kept: Value = serde_json::from_str(letter["event"].as_str().unwrap()).unwrap();
    assert_eq!(kept["rid"], "0000000000000000000000000000002a");
    assert_eq!(kept["ip"], "192.0.2.7");
    assert_eq!(kept["a"], "é".repeat(60));
}

#[test]
fn a_letter_over_its_limit_is_cut_and_says_what_it_was() {
    for (event, key) in [
        (
            format!("{{\"a\":\"{}", "é\u{1}".repeat(2_000)).into_bytes(),
            "event",
        ),
        (
            [b"{\xff".as_slice(), &[b'x'; 5_000]].concat(),
            "event_base64",
        ),
    ] {
        let limits = RecordLimits {
            records: 1 << 20,
            letters: 1_000,
        };
        let mut out = Prepared::default();
        plan()
            .run(&request(), &event, limits, &mut out)
            .unwrap_err();
        let line = &out.letters[0].record.payload;
        assert!((850..=1_000).contains(&line.len()), "{}", line.len());
        let letter = only(&out);
        assert_eq!(letter["cut"], true);
        assert_eq!(letter["bytes"], event.len());
        let hash = <sha2::Sha256 as sha2::Digest>::digest(&event);
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(letter["sha256"], hash);
        let kept = letter[key].as_str().unwrap();
        if key == "event" {
            assert!(event.starts_with(kept.as_bytes()));
        } else {
            assert!(kept.starts_with("e/94"));
        }
    }
}

#[test]
fn a_letter_without_room_for_its_event_is_lost_and_counted() {
    let limits = RecordLimits {
        records: 1 << 20,
        letters: 250,
    };
    let mut out = Prepared::default();
    plan()
        .run(&request(), b"{}\n7\n", limits, &mut out)
        .unwrap();
    assert_eq!((out.letters.len(), out.letter_tally.lost), (0, 1));
}

#[test]
fn letters_of_refused_events_are_bounded_by_the_request() {
    let body = "7\n".repeat(1_000) + "{}\n{}\n";
    let (out, result) = run(&plan(), body);
    assert_eq!(
        (result, out.rejected.len()),
        (
            Err(Reject::TooManyEvents {
                limit: 501,
                actual: 502
            }),
            0
        )
    );
    assert_eq!(out.letters.len(), 1);
    let body = "{}\n".to_owned() + &"70000000\n".repeat(900);
    let (out, _) = run(&plan(), body);
    let bytes: usize = out
        .letters
        .iter()
        .map(|letter| letter.record.payload.len())
        .sum();
    assert!((60_000..=65_536).contains(&bytes), "{bytes}");
    assert_eq!(out.letters.len() as u64 + out.letter_tally.lost, 900);
}

#[test]
fn a_body_that_cannot_be_unpacked_is_kept_as_sent() {
    let mut out = Prepared::default();
    let mut codings = Codings::default();
    codings.read(b"gzip").unwrap();
    let body = b"\x1f\x8b no gzip";
    let sent = SentBody {
        codings: &codings,
        ..SentBody::from(body)
    };
    plan().run(&request(), sent, 1 << 20, &mut out).unwrap_err();
    let letter = only(&out);
    assert_eq!(letter["code"], "content_coding_broken");
    assert_eq!(letter["event_base64"], "H4sgbm8gZ3ppcA==");
}

fn private(rules: &Rules) -> Plan {
    Plan {
        privacy: Some(Arc::new(Privacy::new(rules).unwrap())),
        depth_max: 2,
        ..plan()
    }
}

#[test]
fn what_privacy_cannot_read_is_not_in_a_letter() {
    let rules = Rules {
        fields: vec![("email".parse().unwrap(), Action::Mask)],
        ..Rules::default()
    };
    for body in [
        "{}\n{\"email\":\"ann@example.com\"\n",
        "{\"email\":\"ann@example.com\"",
        "[\"ann@example.com\",{}]",
        "[{\"email\":{\"a\":{\"b\":\"ann@example.com\"}}},{}]",
    ] {
        let letter = only(&run(&private(&rules), body).0);
        assert_eq!(letter["withheld"], "privacy", "{body}");
        assert!(letter["bytes"].as_u64().unwrap() > 16);
        assert!(!letter.to_string().contains("ann@"), "{letter}");
        assert_eq!(letter.get("sha256"), None);
    }
}

#[test]
fn a_too_large_event_is_kept_as_privacy_left_it() {
    let rules = Rules {
        fields: vec![("email".parse().unwrap(), Action::Mask)],
        ..Rules::default()
    };
    let limits = RecordLimits {
        records: 100,
        letters: 10_000,
    };
    let mut out = Prepared::default();
    let body = br#"[{"em\u0061il":"ann@example.com","b":"0123456789"}]"#;
    private(&rules)
        .run(&request(), body, limits, &mut out)
        .unwrap();
    let event = only(&out)["event"].as_str().unwrap().to_owned();
    assert!(
        event.starts_with(r#"{"em\u0061il":"***","b":"0123456789""#),
        "{event}"
    );
}

#[test]
fn a_request_whose_events_are_not_stored_has_no_letters() {
    let rules = Rules {
        on_gpc: SignalPolicy::Drop,
        keys: vec![HashKey::new("k", b"0123456789abcdef").unwrap()],
        ..Rules::default()
    };
    let signals = Signals {
        gpc: true,
        ..Signals::default()
    };
    let request = RequestContext {
        privacy: RequestPrivacy {
            signals,
            addresses: None,
        },
        ..request()
    };
    let mut out = Prepared::default();
    for body in ["{}\n7\n", "7", "{"] {
        let _ = private(&rules).run(&request, body, 1 << 20, &mut out);
        assert!(out.letters.is_empty(), "{body}");
    }
}

#[test]
fn an_envelope_that_is_refused_has_a_letter() {
    let plan = Plan {
        mode: Mode::Envelope,
        ..plan()
    };
    let limits = RecordLimits {
        records: 100,
        letters: 10_000,
    };
    let mut out = Prepared::default();
    plan.run(&request(), b"opaque", limits, &mut out)
        .unwrap_err();
    let letter = only(&out);
    assert_eq!(
        (&letter["code"], &letter["event"]),
        (&json!("record_too_large"), &json!("opaque"))
    );
}

#[test]
fn a_letter_of_a_taken_event_is_whole_or_the_event_is_refused() {
    let request = request();
    let letters = Letters {
        routes: vec!["orders".into(), "unmatched".into()],
        ..letters()
    };
    let about = About {
        reason: Reason::Schema,
        code: "required",
        message: "`id` is missing",
        schema: Some("order"),
        index: Some(5),
        rule: Some(0),
    };
    let (mut out, mut tally) = (Vec::new(), LetterTally::default());
    let mut desk = Desk::new(&letters, &request, 400, 10, &mut out, &mut tally);
    desk.taken(&about, b"{\"a\":1}").unwrap();
    let long = [b'x'; 300];
    let refused = desk.taken(&about, &long).unwrap_err();
    assert!(matches!(
        refused,
        Reject::RecordTooLarge {
            limit: 400,
            actual: 401..
        }
    ));
    let [letter] = &out[..] else {
        panic!("{} letters", out.len());
    };
    assert!(letter.is_taken && letter.record.index == 5);
    let routing = letter.record.routing.as_deref().unwrap();
    let class = routing.route(OUTPUT).unwrap().class;
    assert_eq!(class, Some(DeliveryClass::Required));
    let letter = parsed(letter);
    assert_eq!(
        (&letter["schema"], &letter["code"], &letter["route"]),
        (&json!("order"), &json!("required"), &json!("orders"))
    );
    assert_eq!(tally.written, [0, 0, 0, 1]);
    let contents = Contents::Bytes(b"7");
    let reject = Reject::NotAnObject { at: 0 };
    Desk::new(&letters, &request, 400, 10, &mut out, &mut tally)
        .refused(&reject, None, None, contents);
    assert_eq!(out.len(), 2);
}

proptest! {
    #[test]
    fn whatever_is_refused_has_one_letter_within_its_limit(
        lines in proptest::collection::vec("[\\[\\]{}\":,a-z0-9\u{1}é\\\\ ]{0,80}", 1..6),
        tail in proptest::collection::vec(any::<u8>(), 0..400),
        limit in 0_usize..900,
    ) {
        let body = [lines.join("\n").as_bytes(), b"\n{}\n", &tail].concat();
        let mut out = Prepared::default();
        let limits = RecordLimits {
            records: 300,
            letters: limit,
        };
        let refused = match plan().run(&request(), &body, limits, &mut out) {
            Ok(()) => out.rejected.len() as u64,
            Err(reject) => u64::from(Reason::of(&reject).is_some()),
        };
        prop_assert_eq!(out.letters.len() as u64 + out.letter_tally.lost, refused);
        for letter in &out.letters {
            prop_assert!(letter.record.payload.len() <= limit);
            let kept = parsed(letter);
            let is_whole = kept.get("cut").is_none();
            if is_whole && let (Some(index), Some(event)) = (kept["index"].as_u64(), kept["event"].as_str()) {
                prop_assert!(kept["reason"] == "too_large" || event.len() as u64 == kept["bytes"]);
                prop_assert!(index < u64::from(out.received));
            }
        }
    }
}
