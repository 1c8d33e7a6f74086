//! Whatever a body holds: nothing panics, every event is accounted for, every record is one JSON
//! object on one line, what is refused leaves a letter of the same kind, and an envelope gives the body back.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde::de::IgnoredAny;
use sluice_core::ack::OutputId;
use sluice_core::letter::{Letters, Reason};
use sluice_core::partition::PartitionRule;
use sluice_core::plan::{Mode, Plan};
use sluice_core::prepared::Prepared;
use sluice_core::priority::Priority;
use sluice_core::request::{Door, RequestContext, RequestId};
use sluice_core::route::condition::{Condition, Test};
use sluice_core::route::rules::{RuleSettings, Rules, Source};
use sluice_core::route::sample::Sample;
use sluice_core::time::Wall;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Rules that read fields at several depths, and keep a sample of one.
fn rules() -> Rules {
    let path = |path: &str| path.parse().unwrap();
    let present = Condition::Is(Source::Field(path("a.b")), Test::Present(true));
    let rule = RuleSettings {
        when: Some(present),
        outputs: vec![(OutputId(0), None)],
        key: Some("field:id,a.b.c".parse().unwrap()),
        key_salt: Vec::new(),
        topic: None,
        sample: Some((
            Sample {
                keep_per_mille: 500,
            },
            path("a.b"),
        )),
        schema: None,
        priority: Priority::Low,
    };
    Rules::new(vec![rule], None, false, Vec::new()).unwrap()
}

/// What the server writes: serde refuses an event in which a client wrote one of them, too.
#[derive(Deserialize)]
struct Written {
    ingest_time: u64,
    #[serde(rename = "rid")]
    _rid: String,
    ip: String,
    #[serde(rename = "ua")]
    _ua: Option<String>,
}

fuzz_target!(|body: &[u8]| {
    let request = RequestContext {
        method: "POST",
        uri: "/e?id=1",
        path: "/e",
        query: Some("id=1"),
        user_agent: Some(body.get(..16).unwrap_or_default()),
        forwarded_for: None,
        peer: IpAddr::from([192, 0, 2, 7]),
        id: RequestId(1),
        received_at: Wall::default(),
        door: Door::default(),
        privacy: Default::default(),
    };
    let mut out = Prepared::default();

    let plan = Plan::new(Mode::Event, PartitionRule::Field("id".into()));
    let result = plan.run(&request, body, 4_096, &mut out);
    assert_eq!(
        out.received as usize,
        out.records.len() + out.rejected.len()
    );
    assert_eq!(result.is_ok(), out.received > 0);
    for record in &out.records {
        assert!(record.payload.len() <= 4_096);
        assert!(record.payload.starts_with(b"{") && record.payload.ends_with(b"}"));
        assert!(!record.payload.contains(&b'\n') && !record.payload.contains(&b'\r'));
        assert!(std::str::from_utf8(&record.payload).is_ok());
        assert!(serde_json::from_slice::<IgnoredAny>(&record.payload).is_ok());
        match serde_json::from_slice::<Written>(&record.payload) {
            Ok(written) => assert_eq!((written.ingest_time, written.ip.as_str()), (0, "192.0.2.7")),
            // Halves of surrogate pairs in keys, which it does not read.
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("surrogate") || error.contains("hex escape"), "{error}");
            }
        }
        if let Some(key) = &record.key {
            let chars = std::str::from_utf8(key).unwrap().chars().count();
            assert!((1..=256).contains(&chars));
        }
    }

    let by_rule = Plan {
        rules: Some(Arc::new(rules())),
        ..Plan::new(Mode::Event, PartitionRule::Random)
    };
    if by_rule.run(&request, body, 4_096, &mut out).is_ok() {
        let matched: u64 = out.rule_tallies().iter().map(|tally| tally.events).sum();
        assert!(matched >= out.records.len() as u64);
        for record in &out.records {
            let is_kept = record
                .routing
                .as_ref()
                .is_none_or(|to| !to.outputs.is_empty());
            assert_eq!(is_kept, !record.payload.is_empty());
            assert!(!is_kept || serde_json::from_slice::<IgnoredAny>(&record.payload).is_ok());
        }
    }

    let lettered = Plan {
        letters: Some(Arc::new(Letters {
            output: OutputId(0),
            refused: Reason::OF_REFUSED.to_vec(),
            routes: Vec::new(),
        })),
        depth_max: 2,
        ..Plan::new(Mode::Event, PartitionRule::Random)
    };
    let refused = match lettered.run(&request, body, 600, &mut out) {
        Ok(()) => out.rejected.len() as u64,
        Err(reject) => u64::from(Reason::of(&reject).is_some()),
    };
    assert_eq!(out.letters.len() as u64 + out.letter_tally.lost, refused);
    for letter in &out.letters {
        let line = &letter.record.payload;
        assert!(line.len() <= 600 && !line.contains(&b'\n'));
        assert!(serde_json::from_slice::<IgnoredAny>(line).is_ok());
    }

    let plan = Plan::new(Mode::Envelope, PartitionRule::Field("id".into()));
    plan.run(&request, body, usize::MAX, &mut out).unwrap();
    let fields: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&out.records[0].payload).unwrap();
    assert_eq!(fields.len(), 17);
    assert_eq!(fields["data"], *String::from_utf8_lossy(body));
});
