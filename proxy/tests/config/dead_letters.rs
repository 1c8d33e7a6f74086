//! Dead letters: which output may be theirs, what it has to do with events, and what a trial says of them.

use super::{load, load_all, problem};
use sluice_core::ack::OutputId;
use sluice_proxy::check::try_out;
use sluice_proxy::config::{Config, Flags};
use sluice_proxy::routing::trial::{Event, TrialError, run};

const OUTPUTS: &str = "outputs.a = { type = 'null' }\noutputs.b = { type = 'null', fallback = 'c' }\n\
    outputs.c = { type = 'null' }\noutputs.d = { type = 'null' }\n\
    outputs.g = { type = 'group', of = ['c', 'd'] }\n";

fn loaded(settings: &str) -> Config {
    load(&format!("{OUTPUTS}{settings}")).unwrap_or_else(|error| panic!("{settings}: {error}"))
}

fn refused(settings: &str) -> String {
    let error = load(&format!("{OUTPUTS}{settings}")).err();
    let error = error.map(|error| error.to_string());
    error.unwrap_or_else(|| panic!("loads: {settings}"))
}

fn event<'a>(bytes: &'a str, endpoint: &'a str) -> Event<'a> {
    Event {
        bytes: bytes.as_bytes(),
        endpoint,
        listener: "listen",
        host: None,
        query: None,
    }
}

#[test]
fn the_output_of_dead_letters_exists_and_is_not_the_only_one() {
    let message = refused("[dead_letters]\noutput = 'x'\n");
    assert!(
        message.contains("there is no output `x`, only a, b, c, d, g"),
        "{message}"
    );
    let message = refused("[dead_letters]\noutput = 'b'\nrefused = ['schema']\n");
    assert!(
        message.contains("such letters stand for events that were taken"),
        "{message}"
    );
    let message = refused("[dead_letters]\nrefused = ['too_deep']\n");
    assert!(
        message.contains("`dead_letters.refused` is set"),
        "{message}"
    );
    let alone = "outputs.a = { type = 'null' }\n[dead_letters]\noutput = 'a'\n";
    let message = problem(alone);
    assert!(
        message.contains("it gets no events, and no other output would"),
        "{message}"
    );
    // Rules that say where every event goes may well name it.
    load(&format!("{alone}[routing]\nunmatched = ['a']\n")).unwrap();
}

#[test]
fn the_output_of_dead_letters_gets_no_events_unless_named() {
    let goes_to = |settings: &str| {
        let config = loaded(settings);
        let outcome = run(&config, &event("{}", "events")).unwrap();
        let places = outcome.places.into_iter();
        places.map(|place| place.output).collect::<Vec<_>>()
    };
    assert_eq!(goes_to(""), ["a", "b", "g"]);
    assert_eq!(goes_to("[dead_letters]\noutput = 'b'\n"), ["a", "g"]);
    assert_eq!(goes_to("[dead_letters]\noutput = 'g'\n"), ["a", "b"]);
    let named = "[dead_letters]\noutput = 'b'\n[[routes]]\nname = 'r'\noutputs = ['b']\n";
    assert_eq!(goes_to(named), ["b"]);
}

#[test]
fn events_need_not_fit_the_output_of_dead_letters() {
    let limiting = |settings: &str| {
        let config = loaded(settings);
        let (outputs, groups) = (&config.outputs, &config.groups);
        let limiting = config
            .dead_letters
            .limiting(outputs, groups, &config.routing);
        let ids = |set: sluice_core::route::OutputSet| {
            let ids = (0..4).filter(|at| set.contains(OutputId(*at)));
            ids.map(|at| char::from(b'a' + at as u8))
                .collect::<String>()
        };
        (ids(limiting.events), ids(limiting.letters))
    };
    let pair = |events: &str, letters: &str| (events.to_owned(), letters.to_owned());
    assert_eq!(limiting(""), pair("abcd", ""));
    // Its fallback takes its letters, and is in the group.
    assert_eq!(
        limiting("[dead_letters]\noutput = 'b'\n"),
        pair("acd", "bc")
    );
    // A member that stands in for another output takes that one's events.
    assert_eq!(
        limiting("[dead_letters]\noutput = 'g'\n"),
        pair("abc", "cd")
    );
    let named = "[dead_letters]\noutput = 'b'\n[[routes]]\nname = 'r'\noutputs = ['b:enqueued']\n";
    assert_eq!(limiting(named), pair("abcd", "bc"));
}

#[test]
fn a_trial_says_what_is_refused_and_where_its_letter_goes() {
    let config = loaded("[limits]\njson_depth_max = 1\n[dead_letters]\noutput = 'b'\n");
    let outcome = run(&config, &event("{\"a\":{}}", "events")).unwrap();
    let text = outcome.to_string();
    let begins = "refused: nested deeper than the limit of 1 levels at byte 5\n\
        dead letter: too_deep\nto b (null)\nletter: {\"reason\":\"too_deep\",";
    assert!(text.starts_with(begins), "{text}");
    let body = run(&config, &event("{", "events")).unwrap();
    assert!(
        body.to_string().contains("dead letter: unreadable"),
        "{body}"
    );
    // A body of several events: each is tried for itself.
    let all = event("{\"a\":1}\n{\"a\":{}}\n{\n", "events");
    assert_eq!(all.each(&config).unwrap().len(), 3);
    let without = loaded("[limits]\njson_depth_max = 1\n");
    let error = run(&without, &event("{\"a\":{}}", "events")).unwrap_err();
    assert!(matches!(error, TrialError::Refused(_)));
}

#[test]
fn a_test_can_expect_a_dead_letter() {
    let report = |test: &str| {
        let settings = format!(
            "{OUTPUTS}[limits]\njson_depth_max = 1\n[dead_letters]\noutput = 'b'\nrefused = ['too_deep']\n\
             [listen]\naddress = '127.0.0.1:0'\n[admin]\naddress = 'off'\n\
             [[tests]]\nname = 't'\n{test}"
        );
        let config = load_all(&settings, &[], &Flags::default()).unwrap();
        try_out(&config, true).unwrap().lines
    };
    let deep = "event = '{\"a\":{}}'\n";
    let lines = report(&format!(
        "{deep}dead_letter = 'too_deep'\noutputs = ['b']\nrecord_has = ['\"index\":0']\n"
    ));
    assert!(lines.contains("test t ok"), "{lines}");
    assert!(
        lines.contains("dead letters to b, about refused events that are too_deep"),
        "{lines}"
    );
    let lines = report(&format!("{deep}outputs = ['b']\n"));
    assert!(
        lines.contains("test t FAILED: the event is refused"),
        "{lines}"
    );
    let lines = report(&format!("{deep}dead_letter = 'unreadable'\n"));
    assert!(
        lines.contains("dead letter is too_deep, expected unreadable"),
        "{lines}"
    );
    let lines = report("event = '{}'\ndead_letter = 'too_deep'\n");
    assert!(
        lines.contains("dead letter is none, expected too_deep"),
        "{lines}"
    );
    let lines = report("event = '{}'\ndead_letter = 'off'\n");
    assert!(lines.contains("test t ok"), "{lines}");
}
