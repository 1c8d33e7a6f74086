//! The priority that rules give to a request: that of its highest event.

// Helpers of tests stand outside of test functions here; they may panic like those.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use sluice_core::ack::OutputId;
use sluice_core::partition::PartitionRule;
use sluice_core::plan::{Mode, Plan};
use sluice_core::prepared::Prepared;
use sluice_core::priority::Priority;
use sluice_core::request::RequestContext;
use sluice_core::route::condition::{Condition, Literal, Test};
use sluice_core::route::rules::{OutputDefaults, RuleSettings, Rules, Source};
use sluice_core::route::sample::Sample;
use std::sync::Arc;

const DEFAULTS: OutputDefaults = OutputDefaults {
    keyed: false,
    by_topic: false,
};

/// A rule for events of this type.
fn rule(event_type: &str, priority: Priority) -> RuleSettings {
    let test = Test::one_of([Literal::Text(event_type.to_owned())]);
    RuleSettings {
        when: Some(Condition::Is(Source::Field("type".parse().unwrap()), test)),
        outputs: vec![(OutputId(0), None)],
        key: None,
        key_salt: Vec::new(),
        topic: None,
        schema: None,
        sample: None,
        priority,
    }
}

fn priority(mode: Mode, rules: Vec<RuleSettings>, all_match: bool, body: &str) -> Priority {
    let rules = Rules::new(rules, None, all_match, vec![DEFAULTS]).unwrap();
    let plan = Plan {
        rules: Some(Arc::new(rules)),
        ..Plan::new(mode, PartitionRule::Random)
    };
    let request = RequestContext {
        uri: "/collect?platform=Web",
        path: "/collect",
        query: Some("platform=Web"),
        ..support::request()
    };
    // An earlier request of high priority leaves nothing behind.
    let mut out = Prepared::default();
    out.priority = Priority::High;
    plan.run(&request, body.as_bytes(), 1 << 20, &mut out)
        .unwrap();
    out.priority
}

fn of_events(body: &str) -> Priority {
    let mut dropped = rule("bot", Priority::High);
    dropped.outputs.clear();
    let mut sampled = rule("rare", Priority::High);
    let sample = Sample { keep_per_mille: 1 };
    sampled.sample = Some((sample, "user".parse().unwrap()));
    let rules = vec![
        rule("move", Priority::Low),
        rule("buy", Priority::High),
        dropped,
        sampled,
    ];
    priority(Mode::Event, rules, false, body)
}

#[test]
fn a_request_has_the_priority_of_its_highest_event() {
    for (body, expected) in [
        (r#"[{"type":"move"},{"type":"move"}]"#, Priority::Low),
        (r#"[{"type":"move"},{"type":"view"}]"#, Priority::Mid),
        (
            r#"[{"type":"move"},{"type":"buy"},{"type":"move"}]"#,
            Priority::High,
        ),
        (r#"{"type":"view"}"#, Priority::Mid),
    ] {
        assert_eq!(of_events(body), expected, "{body}");
    }
}

#[test]
fn events_that_go_nowhere_raise_no_priority() {
    assert_eq!(of_events(r#"{"type":"bot"}"#), Priority::Mid);
    let body = r#"[{"type":"move"},{"type":"bot"},{"type":"rare","user":"u-1"}]"#;
    assert_eq!(of_events(body), Priority::Low);
}

#[test]
fn of_all_rules_that_match_the_highest_priority_counts() {
    let rules = |list: [Priority; 2]| list.map(|priority| rule("move", priority)).to_vec();
    let both = [Priority::High, Priority::Low];
    for (all_match, list, expected) in [
        (true, both, Priority::High),
        (true, [Priority::Low; 2], Priority::Low),
        (false, [Priority::Low, Priority::High], Priority::Low),
    ] {
        let found = priority(Mode::Event, rules(list), all_match, r#"{"type":"move"}"#);
        assert_eq!(found, expected, "{list:?}");
    }
}

#[test]
fn an_envelope_has_the_priority_of_its_rule() {
    let mut low = rule("", Priority::Low);
    low.when = Some(Condition::Is(
        Source::Query("platform".to_owned()),
        Test::Present(true),
    ));
    let found = priority(Mode::Envelope, vec![low], false, "opaque");
    assert_eq!(found, Priority::Low);
}
