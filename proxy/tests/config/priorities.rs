//! Priorities of rules, and what each may fill.

use super::{load, problem};
use sluice_core::priority::Shares;
use sluice_proxy::config::Config;
use sluice_proxy::routing::trial::{Event, run};

const NOISE: &str = "outputs.a = { type = 'null' }\n\
    [[routes]]\nname = 'noise'\nwhen = { field = 'type', equals = 'move' }\noutputs = ['a']\n";
const ORDERS: &str = "[[routes]]\nname = 'orders'\nwhen = { field = 'type', equals = 'buy' }\noutputs = ['a']\npriority = 'high'\n";
const BOTS: &str = "[[routes]]\nname = 'bots'\nwhen = { field = 'type', equals = 'bot' }\noutputs = []\npriority = 'high'\n";

/// It loads to the same once it was printed.
fn loaded(text: &str) -> Config {
    let config = load(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(load(&config.to_string()).unwrap(), config, "{config}");
    config
}

fn with(keys: &str, routing: &str) -> String {
    format!("{NOISE}{keys}\n{ORDERS}{BOTS}[routing]\n{routing}")
}

fn shares(low_percent: u8, mid_percent: u8) -> Shares {
    Shares {
        low_percent,
        mid_percent,
    }
}

#[test]
fn shares_are_whole_unless_a_rule_has_a_priority() {
    assert_eq!(
        loaded("outputs.a = { type = 'null' }").routing.shares(),
        Shares::WHOLE
    );
    let plain = loaded(NOISE);
    assert_eq!(plain.routing.shares(), Shares::WHOLE);
    let printed = plain.to_string();
    assert!(!printed.contains("_percent"), "{printed}");
    assert!(!printed.contains("priority"), "{printed}");
    // Written as it would be by default, it counts.
    let written = loaded(&format!("{NOISE}priority = 'mid'\n"));
    assert_eq!(written.routing.shares(), shares(50, 80));
}

#[test]
fn defaults_of_shares_adapt_to_each_other() {
    for (routing, expected) in [
        ("", shares(50, 80)),
        ("low_percent = 90", shares(90, 90)),
        ("mid_percent = 30", shares(30, 30)),
        ("low_percent = 1\nmid_percent = 100", shares(1, 100)),
        ("low_percent = 70\nmid_percent = 70", shares(70, 70)),
    ] {
        let config = loaded(&with("priority = 'low'", routing));
        assert_eq!(config.routing.shares(), expected, "{routing}");
    }
}

#[test]
fn wrong_priorities_are_refused() {
    for (keys, routing, expected) in [
        (
            "priority = 'low'",
            "low_percent = 0",
            "`routing.low_percent` is 0 percent, allowed is 1 to 100",
        ),
        (
            "priority = 'low'",
            "mid_percent = 101",
            "`routing.mid_percent` is 101 percent, allowed is 1 to 100",
        ),
        (
            "priority = 'low'",
            "low_percent = 81\nmid_percent = 80",
            "`routing.low_percent` is 81 percent, but must be at most `routing.mid_percent`, which is 80 percent",
        ),
    ] {
        let message = problem(&with(keys, routing));
        assert!(message.starts_with(expected), "{message}");
    }
    let error = load(&with("priority = 'urgent'", "")).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("sluice.toml:6: `routes.0.priority`: `urgent` is not one of low, mid, high"),
        "{error}"
    );
    let unused = format!("{NOISE}[routing]\nlow_percent = 40\n");
    assert_eq!(
        problem(&unused),
        "`routing.low_percent` is set, but `routes.priority` is not written: it means nothing then"
    );
}

#[test]
fn explain_says_the_priority_that_counts() {
    let config = loaded(&with("priority = 'low'", ""));
    for (event, endpoint, expected) in [
        (r#"{"type":"move"}"#, "events", "priority: low\n"),
        (r#"{"type":"view"}"#, "events", "priority: mid\n"),
        (r#"{"type":"buy"}"#, "events", "priority: high\n"),
        (
            r#"{"type":"move"}"#,
            "pixel",
            "priority: low, counts as mid: nobody sends the request again\n",
        ),
        (r#"{"type":"bot"}"#, "events", ""),
    ] {
        let text = run(&config, &tried(event, endpoint)).unwrap().to_string();
        match expected {
            "" => assert!(!text.contains("priority"), "{text}"),
            expected => assert!(text.contains(&format!("\n{expected}to a")), "{text}"),
        }
    }
    let plain = run(&loaded(NOISE), &tried(r#"{"type":"move"}"#, "events")).unwrap();
    assert_eq!(plain.priority, None);
}

fn tried<'a>(event: &'a str, endpoint: &'a str) -> Event<'a> {
    Event {
        bytes: event.as_bytes(),
        endpoint,
        listener: "listen",
        host: None,
        query: None,
    }
}

#[test]
fn tests_of_a_configuration_know_priorities() {
    let test = "[[tests]]\nname = 't'\nevent = '{\"type\":\"move\"}'\n";
    let failures = |expected: &str| {
        let text = with("priority = 'low'", "") + test + expected;
        let config = loaded(&text);
        config.tests[0].failures(&config).unwrap()
    };
    assert_eq!(failures("priority = 'low'\n"), [""; 0]);
    assert_eq!(
        failures("priority = 'high'\n"),
        ["priority is \"low\", expected \"high\""]
    );
    // What is not tested passes.
    assert_eq!(failures("outputs = ['a']\n"), [""; 0]);
}
