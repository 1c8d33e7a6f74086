//! The scanner against third-party parsers: what it takes and refuses, serde_json and simd-json take and
//! refuse, but for differences that are named here.
//!
//! - The oracle is serde_json reading into `IgnoredAny` (UTF-8 checked before), which checks the grammar
//!   alone. Reading values it would also refuse numbers beyond a double and lone surrogates; we keep
//!   both, as bytes that the grammar allows.
//! - simd-json refuses those too, integers beyond 64 bits, and depths beyond its own limit. What it
//!   takes, we take.

#![allow(
    clippy::unwrap_used,
    reason = "in tests a panic is the report, helpers included"
)]

use proptest::prelude::*;
use serde::de::IgnoredAny;
use sluice_core::json::scan::{self, Fault, Found, Kind, Wanted};
use sluice_core::partition::PartitionRule;
use sluice_core::plan::{Mode, Plan};
use sluice_core::prepared::Prepared;
use sluice_core::request::{Door, RequestContext, RequestId};
use sluice_core::time::Wall;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

/// The files of one half of the corpus, by name.
fn corpus(half: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(half);
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    assert!(files.len() > 40, "the corpus is there");
    files
}

/// The accept corpus but for the documents that only repeat themselves: what is done to each byte of
/// a document costs its length squared.
fn short_documents() -> impl Iterator<Item = Vec<u8>> {
    let documents = corpus("accept").into_iter().map(|(_, document)| document);
    documents.filter(|document| document.len() < 1_500)
}

fn oracle_accepts(document: &[u8]) -> bool {
    std::str::from_utf8(document).is_ok() && serde_json::from_slice::<IgnoredAny>(document).is_ok()
}

fn simd_json_accepts(document: &[u8]) -> bool {
    simd_json::to_tape(&mut document.to_vec()).is_ok()
}

/// Whether we and the oracles agree about a document.
fn check(document: &[u8]) -> Result<(), Fault> {
    let ours = scan::check(document);
    let text = String::from_utf8_lossy(document);
    assert_eq!(
        ours.is_ok(),
        oracle_accepts(document),
        "{ours:?} for {text:?}"
    );
    if simd_json_accepts(document) {
        assert_eq!(ours, Ok(()), "simd-json takes {text:?}");
    }
    if let Err(fault) = ours {
        assert!(fault.at <= document.len(), "{fault:?} for {text:?}");
    }
    ours
}

#[test]
fn the_accept_corpus_is_accepted() {
    // Too deep for it, beyond a double, beyond 64 bits, or no character: simd-json reads values, we
    // do not.
    let simd_json_refuses = [
        "nested_2000",
        "number_beyond_u64",
        "number_of_400_digits",
        "number_out_of_double_range",
        "string_high_surrogate_before_escape",
        "string_lone_high_surrogate",
        "string_lone_low_surrogate",
        "string_two_high_surrogates",
    ];
    for (name, document) in corpus("accept") {
        assert_eq!(check(&document), Ok(()), "{name}");
        assert_eq!(
            simd_json_accepts(&document),
            !simd_json_refuses.contains(&name.as_str()),
            "{name}"
        );
    }
}

#[test]
fn the_refuse_corpus_is_refused() {
    for (name, document) in corpus("refuse") {
        assert!(check(&document).is_err(), "{name}");
        // Wherever it stands it is no JSON; an array of it is refused as well.
        let element = [b"[[],", &document[..], b"]"].concat();
        assert_eq!(
            scan::check(&element).is_ok(),
            oracle_accepts(&element),
            "{name}"
        );
    }
}

#[test]
fn verdicts_do_not_depend_on_where_vectors_begin() {
    for half in ["accept", "refuse"] {
        for (name, document) in corpus(half) {
            for shift in 0..65 {
                let shifted = [&vec![b' '; shift], &document[..]].concat();
                let expected = scan::check(&document).map_err(|fault| Fault {
                    at: fault.at + shift,
                    ..fault
                });
                assert_eq!(scan::check(&shifted), expected, "{name} shifted by {shift}");
            }
        }
    }
}

#[test]
fn depth_costs_no_stack() {
    for depth in [65, 2_000, 100_000] {
        let open = "[".repeat(depth);
        let document = format!("{open}{}", "]".repeat(depth));
        assert_eq!(scan::check(document.as_bytes()), Ok(()));
        assert_eq!(scan::check(open.as_bytes()).unwrap_err().at, depth);
        let wrong = format!("{open}1{}}}", "]".repeat(depth - 1));
        assert_eq!(scan::check(wrong.as_bytes()).unwrap_err().at, 2 * depth);
    }
}

#[test]
fn truncated_documents_agree_with_the_oracle() {
    for document in short_documents() {
        for end in 0..document.len() {
            // A cut number is often a number; all else is refused.
            let _ = check(&document[..end]);
            let _ = check(&document[end..]);
        }
    }
}

#[test]
fn documents_with_flipped_bytes_agree_with_the_oracle() {
    for mut document in short_documents() {
        for at in 0..document.len() {
            let before = document[at];
            let bits = (0..8).map(|bit| before ^ 1 << bit);
            for byte in bits.chain(*b"\"\\{}[],: \n0\x00\x1f\x80\xff") {
                document[at] = byte;
                let _ = check(&document);
            }
            document[at] = before;
        }
    }
}

#[test]
fn a_fault_names_the_first_byte_that_cannot_be_there() {
    let fault = |document: &str| {
        let fault = scan::check(document.as_bytes()).unwrap_err();
        (fault.at, fault.what)
    };
    assert_eq!(fault(""), (0, "expected a value"));
    assert_eq!(fault("{} {}"), (3, "expected nothing more"));
    assert_eq!(fault("{1:2}"), (1, "expected a key"));
    assert_eq!(fault("{\"a\",2}"), (4, "expected `:`"));
    assert_eq!(fault("[1 2]"), (3, "expected `,` or `]`"));
    assert_eq!(fault("{\"a\":1]"), (6, "expected `,` or `}`"));
    assert_eq!(fault("[nul]"), (1, "expected a value"));
    assert_eq!(fault("[-x]"), (2, "expected a digit"));
    assert_eq!(fault("1.e"), (2, "expected a digit"));
    assert_eq!(fault("\"a"), (2, "the string does not end"));
    assert_eq!(fault("\"\\x\""), (2, "expected an escape character"));
    assert_eq!(fault("\"\\u12x4\""), (5, "expected four hex digits"));
    let control = "a control character has to be escaped in a string";
    assert_eq!(fault("\"a\nb\""), (2, control));
}

#[test]
fn wanted_fields_are_top_level_and_the_last_wins() {
    let document = br#"{"x":{"b":0},"a" : [1, {"b":1}] ,"b":"one","c":-1.5e3,"\u0062":"two"}"#;
    let mut wanted = Wanted::default();
    let slots: Vec<_> = ["a", "b", "c", "d", "b"]
        .iter()
        .map(|name| wanted.add(name.as_bytes()).unwrap())
        .collect();
    assert_eq!(slots, [0, 1, 2, 3, 1]);
    let mut found = Found::default();
    let value = scan::value(document, 0, 64, &wanted, &mut found).unwrap();
    assert_eq!((value.end, value.kind), (document.len(), Kind::Object));
    let text = |slot| {
        found
            .get(slot)
            .map(|span| std::str::from_utf8(span.of(document)).unwrap())
    };
    assert_eq!(text(0), Some(r#"[1, {"b":1}]"#));
    assert_eq!(text(1), Some(r#""two""#));
    assert_eq!(text(2), Some("-1.5e3"));
    assert_eq!(text(3), None);
}

#[test]
fn more_names_than_there_are_slots_are_not_taken() {
    let names: Vec<String> = (0..=scan::WANTED_MAX).map(|n| format!("name{n}")).collect();
    let mut wanted = Wanted::default();
    for (slot, name) in names.iter().enumerate() {
        let expected = (slot < scan::WANTED_MAX).then_some(slot);
        assert_eq!(wanted.add(name.as_bytes()), expected);
    }
}

/// Runs a body through event mode and checks what has to hold for any bytes.
fn run_anything(body: &[u8], out: &mut Prepared) {
    let request = RequestContext {
        method: "POST",
        uri: "/",
        path: "/",
        query: None,
        user_agent: Some(b"a"),
        forwarded_for: None,
        peer: IpAddr::from([192, 0, 2, 7]),
        id: RequestId(1),
        received_at: Wall::default(),
        door: Door::default(),
        privacy: Default::default(),
    };
    let plan = Plan::new(Mode::Event, PartitionRule::Field("event_id".into()));
    let result = plan.run(&request, body, 1_500, out);
    assert_eq!(
        out.received as usize,
        out.records.len() + out.rejected.len()
    );
    assert_eq!(result.is_ok(), out.received > 0);
    for record in &out.records {
        let text = String::from_utf8_lossy(&record.payload);
        assert!(oracle_accepts(&record.payload), "{text}");
        assert!(
            text.starts_with('{') && !text.contains(['\n', '\r']),
            "{text}"
        );
    }
}

#[test]
fn damaged_bodies_give_only_valid_records() {
    let mut out = Prepared::default();
    let bodies: [&[u8]; 3] = [
        b"[{\"event_id\":\"a\\u0062\",\"ip\":null},\r\n {}, 3,\n{\"x\":[{\"y\":\"z\"}]}]",
        b"{\"event_id\":\"a\"}\n{\"x\":1.5e3}\r\n\n{\"b\":{\"c\":\"\xc3\xa9\"}}\n",
        b"{\n\"event_id\" : \"a\" ,\n\"rid\":\"1\"\n}\n",
    ];
    for body in bodies {
        for end in 0..=body.len() {
            run_anything(&body[..end], &mut out);
            run_anything(&body[end..], &mut out);
        }
        let mut body = body.to_vec();
        for at in 0..body.len() {
            let before = body[at];
            for byte in 0..=255 {
                body[at] = byte;
                run_anything(&body, &mut out);
            }
            body[at] = before;
        }
    }
}

#[test]
fn corpus_documents_in_any_form_give_only_valid_records() {
    let mut out = Prepared::default();
    for half in ["accept", "refuse"] {
        for (_, document) in corpus(half) {
            run_anything(&document, &mut out);
            run_anything(&[b"{\"a\":", &document[..], b"}"].concat(), &mut out);
            run_anything(&[b"[{},", &document[..], b",{}]"].concat(), &mut out);
            run_anything(&[b"{}\n", &document[..], b"\n{}"].concat(), &mut out);
            // Lines around do not suffer, unless the document opens an array form of its own.
            if !document.contains(&b'\n') {
                assert!(out.records.iter().any(|record| record.index == 0));
            }
        }
    }
}

/// Text that is JSON, or nearly.
fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        8 => prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\"k\":", "1", "-0.5e+3", "true", "null", " ", "\n",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        2 => any::<String>().prop_map(|text| serde_json::to_vec(&text).unwrap()),
        1 => prop::collection::vec(any::<u8>(), 1..3),
        1 => prop::sample::select(vec!["\\", "\\u", "\\u12aB", "\\n", "0", ".", "e", "-"])
            .prop_map(|text| text.as_bytes().to_vec()),
    ];
    prop::collection::vec(token, 0..30).prop_map(|tokens| tokens.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn nearly_json_is_judged_as_the_oracle_judges_it(document in nearly_json()) {
        let _ = check(&document);
        let _ = check(&[b"[", &document[..], b"]"].concat());
        let _ = check(&[b"{\"a\":", &document[..], b"}"].concat());
    }

    #[test]
    fn bodies_of_nearly_json_give_only_valid_records(
        lines in prop::collection::vec(nearly_json(), 0..4),
        glue in prop::sample::select(vec!["\n", "\r\n", ","]),
    ) {
        let body = lines.join(glue.as_bytes());
        let mut out = Prepared::default();
        run_anything(&body, &mut out);
        run_anything(&[b"[", &body[..], b"]"].concat(), &mut out);
    }

    #[test]
    fn strings_of_any_length_end_where_the_oracle_says(
        text in "[a-z\"\\\\\u{1}\u{1f}é😀]{0,150}",
        cut in 0..150_usize,
    ) {
        let quoted = serde_json::to_vec(&text).unwrap();
        prop_assert_eq!(check(&quoted), Ok(()));
        let _ = check(&quoted[..cut.min(quoted.len())]);
        // Raw text between quotes: mostly broken, in many ways.
        let _ = check(format!("\"{text}\"").as_bytes());
    }
}
