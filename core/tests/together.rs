//! Rules and privacy in one plan: rules see what privacy has left, whichever way either finds its fields.

#![allow(
    clippy::unwrap_used,
    reason = "in tests a panic is the report, helpers included"
)]

mod support;

use proptest::prelude::*;
use sluice_core::ack::OutputId;
use sluice_core::partition::PartitionRule;
use sluice_core::plan::{Mode, Plan};
use sluice_core::prepared::Prepared;
use sluice_core::privacy::{Action, Privacy, Rules as PrivacyRules};
use sluice_core::route::condition::{Condition, Literal, Test};
use sluice_core::route::rules::{OutputDefaults, RuleSettings, Rules, Source};
use sluice_core::server_fields::{Clash, ServerFields};
use std::sync::Arc;
use support::request;

const PATHS: [&str; 8] = ["a", "b", "a.b", "b.a", "c.a", "c.b", "a.b.c", "key"];

fn path() -> impl Strategy<Value = &'static str> {
    prop::sample::select(PATHS.to_vec())
}

/// Two rules: each sends what has a field, or a text in it, to an output of its own.
fn rules(paths: &[&str], is_text: bool) -> Rules {
    let of_path = |(output, path): (u16, &&str)| RuleSettings {
        when: Some(Condition::Is(
            Source::Field(path.parse().unwrap()),
            match is_text {
                true => Test::one_of([Literal::Text("***".to_owned())]),
                false => Test::Present(true),
            },
        )),
        outputs: vec![(OutputId(output), None)],
        key: Some(format!("field:{path},key").parse().unwrap()),
        key_salt: Vec::new(),
        topic: None,
        schema: None,
        priority: sluice_core::priority::Priority::default(),
        sample: None,
    };
    let output = OutputDefaults {
        keyed: false,
        by_topic: false,
    };
    let settings = (0..).zip(paths).map(of_path).collect();
    Rules::new(settings, None, true, vec![output; paths.len()]).unwrap()
}

fn event() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "1",
        "\"***\"",
        "\"x\\\"}\"",
        "null",
        "[{\"a\":1}]",
        "{}",
    ]);
    let name = prop::sample::select(vec!["a", "b", "c", "key", "z", "\\u0061", " a"]);
    let object = move |value: BoxedStrategy<String>| {
        prop::collection::vec((name.clone(), value), 0..5).prop_map(|members| {
            let members = members
                .iter()
                .map(|(name, value)| format!("\"{name}\" : {value}"));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        })
    };
    let top = object.clone();
    let value = leaf
        .prop_map(str::to_owned)
        .prop_recursive(3, 20, 5, move |inner| {
            prop_oneof![inner.clone(), object.clone()(inner.boxed())]
        });
    top(value.boxed())
}

proptest! {
    #[test]
    fn rules_decide_on_what_privacy_leaves(
        fields in prop::collection::vec((path(), 0..3_usize), 0..4),
        wanted in prop::collection::vec(path(), 1..4),
        is_text in any::<bool>(),
        events in prop::collection::vec(event(), 1..4),
    ) {
        let actions = [Action::Drop, Action::Mask, Action::Truncate(1)];
        let fields = fields.iter().map(|(path, action)| (path.parse().unwrap(), actions[*action]));
        let settings = PrivacyRules {
            fields: fields.collect(),
            ..PrivacyRules::default()
        };
        // Two rules for one value.
        let Ok(privacy) = Privacy::new(&settings) else {
            return Ok(());
        };
        let nothing = |_| None;
        let bare = Plan {
            server_fields: Arc::new(ServerFields::new(nothing, Clash::Server).unwrap()),
            ..Plan::new(Mode::Event, PartitionRule::Field("key".into()))
        };
        let privacy = Some(Arc::new(privacy));
        let rules = Some(Arc::new(rules(&wanted, is_text)));
        let run = |plan: &Plan, body: &str| {
            let mut out = Prepared::default();
            plan.run(&request(), body, 1 << 20, &mut out).unwrap();
            out
        };
        let both = Plan { privacy: privacy.clone(), rules: rules.clone(), ..bare.clone() };
        let at_once = run(&both, &format!("[{}]", events.join(",")));
        for (event, record) in events.iter().zip(&at_once.records) {
            let left = run(&Plan { privacy: privacy.clone(), ..bare.clone() }, event);
            let left = std::str::from_utf8(&left.records[0].payload).unwrap();
            let then = run(&Plan { rules: rules.clone(), ..bare.clone() }, left);
            prop_assert_eq!(std::str::from_utf8(&record.payload).unwrap(), left, "{}", event);
            prop_assert_eq!(&record.routing, &then.records[0].routing, "{}", event);
            prop_assert_eq!(&record.key, &then.records[0].key, "{}", event);
        }
    }
}
