//! Rules of routing and their tests: what is read, what is refused with which words, and what they decide.

use super::{load, load_all, problem};
use sluice_proxy::check::try_out;
use sluice_proxy::config::Flags;
use sluice_proxy::routing::trial::{Event, Outcome, run};

const OUTPUTS: &str = "outputs.a = { type = 'null' }\noutputs.b = { type = 'null', ack = 'enqueued' }\n\
    outputs.k = { type = 'kafka', brokers = 'b-1:9092', topic = 'rest', partition_key = 'field:user' }\n\
    outputs.t = { type = 'kafka', brokers = 'b-1:9092', topic = 'by-{app}', topic_fallback = 'rest' }\n";

fn with(routes: &str) -> String {
    format!("{OUTPUTS}{routes}")
}

/// What is wrong with one value, after the path of the file.
fn unreadable(routes: &str) -> String {
    let text = with(routes);
    let error = load(&text).err().map(|error| error.to_string());
    let error = error.unwrap_or_else(|| panic!("loads: {routes}"));
    let (_, message) = error.split_once("sluice.toml:").unwrap_or(("", &error));
    message.to_owned()
}

fn outcome(routes: &str, event: &str) -> Outcome {
    let config = load(&with(routes)).unwrap_or_else(|error| panic!("{routes}: {error}"));
    let printed = config.to_string().replace("***", "Jefe");
    assert_eq!(load(&printed).unwrap(), config, "{config}");
    let event = Event {
        bytes: event.as_bytes(),
        endpoint: "events",
        listener: "listen",
        host: Some("A.example:80"),
        query: Some("app=shop"),
    };
    run(&config, &event).unwrap()
}

fn outputs(outcome: &Outcome) -> Vec<&str> {
    let places = outcome.places.iter();
    places.map(|place| place.output.as_str()).collect()
}

/// A rule with this condition; line 5 of the file is its head.
fn when(condition: &str) -> String {
    format!("[[routes]]\nname = 'r'\noutputs = ['a']\nwhen = {condition}\n")
}

#[test]
fn without_routes_every_event_goes_to_every_output() {
    let found = outcome("", r#"{"user":"u","app":"x"}"#);
    assert_eq!(found.rules, [""; 0]);
    assert_eq!(outputs(&found), ["a", "b", "k", "t"]);
    let keys: Vec<_> = found
        .places
        .iter()
        .map(|place| place.key.as_deref())
        .collect();
    assert_eq!(keys, [None, None, Some("u"), None]);
    let topics: Vec<_> = found
        .places
        .iter()
        .map(|place| place.topic.as_deref())
        .collect();
    assert_eq!(topics, [None, None, None, Some("by-x")]);
}

#[test]
fn conditions_are_read_as_they_are_written() {
    for (condition, matches) in [
        ("{ field = 'type', equals = 'buy' }", true),
        ("{ field = 'type', equals = 'view' }", false),
        ("{ field = 'type', one_of = ['x', 'buy', 3, true] }", true),
        ("{ field = 'n', one_of = ['x', 12] }", true),
        ("{ field = 'on', equals = true }", true),
        ("{ field = 'type', prefix = 'bu' }", true),
        ("{ field = 'user.id', present = true }", true),
        ("{ field = 'user.no', present = true }", false),
        ("{ field = 'n', at_least = 12, below = 12.5 }", true),
        ("{ field = 'n', above = 12 }", false),
        ("{ field = 'n', at_most = 11.9 }", false),
        ("{ query = 'app', equals = 'shop' }", true),
        (
            "{ request = 'endpoint', one_of = ['events', 'pixel'] }",
            true,
        ),
        ("{ request = 'host', equals = 'A.Example' }", true),
        ("{ request = 'listener', equals = 'listen' }", true),
        ("{ not = { request = 'host', prefix = 'A.' } }", false),
        (
            "{ all = [{ field = 'n', above = 1 }, { any = [{ field = 'no', present = true }, { field = 'n', below = 20 }] }] }",
            true,
        ),
    ] {
        let found = outcome(
            &when(condition),
            r#"{"type":"buy","user":{"id":1},"n":12,"on":true}"#,
        );
        let expected = if matches { "r" } else { "unmatched" };
        assert_eq!(found.rules, [expected], "{condition}");
    }
}

#[test]
fn wrong_conditions_are_refused_with_line_and_place() {
    let deep = |levels: usize| {
        format!(
            "{}{{ field = 'a', present = true }}{}",
            "{ not = ".repeat(levels),
            " }".repeat(levels)
        )
    };
    let many = |count: usize| {
        format!(
            "{{ any = [{}] }}",
            vec!["{ field = 'a', present = true }"; count].join(", ")
        )
    };
    let values = |count: usize| {
        format!(
            "{{ field = 'a', one_of = [{}] }}",
            vec!["1"; count].join(", ")
        )
    };
    let text = |bytes: usize| format!("{{ field = 'a', prefix = '{}' }}", "x".repeat(bytes));
    for fits in [deep(7), many(63), values(1_000), text(1_024)] {
        load(&with(&when(&fits))).unwrap();
    }
    for (condition, expected) in [
        ("3", "3 is not a condition"),
        (
            "{ feild = 'a', equals = 'x' }",
            "one of field, query or request is looked at, here are 0",
        ),
        (
            "{ field = 'a', query = 'b', equals = 'x' }",
            "one of field, query or request is looked at, here are 2",
        ),
        (
            "{ field = 'a', is = 'x' }",
            "unknown key `is`, a condition has field, query or request, equals,",
        ),
        ("{ field = 'a' }", "nothing is asked: one of equals,"),
        (
            "{ field = 'a b', present = true }",
            "`a b`: a name between dots",
        ),
        (
            "{ field = 'a', present = 1 }",
            "`present` is 1, expected true or false",
        ),
        (
            "{ field = 'a', above = 'x' }",
            "`above` is \"x\", expected a number",
        ),
        (
            "{ field = 'a', one_of = 'x' }",
            "`one_of` is \"x\", expected an array",
        ),
        (
            "{ request = 'path', equals = '/' }",
            "`request` is \"path\", expected endpoint, listener or host",
        ),
        (
            "{ request = 'endpoint', equals = 'ping' }",
            "`equals` is \"ping\", expected one of the endpoints",
        ),
        (
            "{ request = 'listener', equals = 'x' }",
            "there is no listener `x`, only listen",
        ),
        (
            "{ all = [], any = [] }",
            "`all` stands alone in its table, here are 2 keys",
        ),
        (
            "{ all = {} }",
            "`all` is a table, expected an array of conditions",
        ),
        (
            "{ all = [{ not = { any = [{ field = 'a' }] } }] }",
            "all[0].not.any[0]: nothing is asked",
        ),
        (&deep(8), "conditions lie 9 deep, at most 8 are allowed"),
        (
            &many(64),
            "65 conditions in one rule, at most 64 are allowed",
        ),
        (
            &values(1_001),
            "`one_of` has 1001 values, at most 1000 are allowed",
        ),
        (
            &text(1_025),
            "`prefix` has 1025 bytes, at most 1024 are allowed",
        ),
    ] {
        let message = unreadable(&when(condition));
        let begin = "8: `routes.0.when`: ";
        assert!(
            message.starts_with(begin) && message.contains(expected),
            "{condition}: {message}"
        );
    }
}

#[test]
fn wrong_rules_are_refused_with_line_and_value() {
    let rule = |keys: &str| format!("[[routes]]\nname = 'r'\n{keys}\n");
    for (keys, expected) in [
        (
            "outputs = ['x']",
            "7: `routes.0.outputs`: there is no output `x`, only a, b, k, t",
        ),
        (
            "outputs = ['a', 'b', 'a:enqueued']",
            "7: `routes.0.outputs`: it names `a` twice",
        ),
        (
            "outputs = ['a']\nkey = 'user'",
            "8: `routes.0.key`: `user` is not one of random, timestamp",
        ),
        (
            "outputs = ['a']\nkey = 'field:a,b,c,d,e'",
            "8: `routes.0.key`: 5 paths in a list, at most 4 are tried",
        ),
        (
            "outputs = ['k']\ntopic = '{a}'",
            "8: `routes.0.topic`: it has to begin with text",
        ),
        (
            "outputs = ['k']\ntopic = 'a-{b c}'",
            "8: `routes.0.topic`: `b c`: a name between dots",
        ),
        (
            "outputs = ['a']\nsample_by = ''",
            "8: `routes.0.sample_by`: a field's path has 0 bytes: 1 to 256",
        ),
        (
            "outputs = ['a']\ncolour = 1",
            "8: unknown key `colour` in [routes.0]",
        ),
    ] {
        let message = unreadable(&rule(keys));
        assert!(message.starts_with(expected), "{keys}: {message}");
    }
    for (keys, expected) in [
        (
            "",
            "`routes.0.outputs` is missing: a rule says where events go",
        ),
        (
            "outputs = ['b:delivered']",
            "`routes.0.outputs` is b:delivered, but must be enqueued, or the same as `outputs.b.ack`, which is enqueued",
        ),
        (
            "outputs = ['a', 'b']\ntopic = 'x-{y}'",
            "`routes.0.topic` is x-{y}, but must be left out with `routes.0.outputs`, which is of type null, null",
        ),
        (
            "outputs = ['a']\nkey = 'hmac:user'",
            "`routing.key_salt` is missing: a rule has an `hmac:` key",
        ),
        (
            "outputs = ['a']\ntopics_max = 5",
            "`routes.0.topics_max` is set, but `routes.0.topic` is not set",
        ),
        (
            "outputs = ['a']\nsample_keep_per_mille = 5",
            "`routes.0.sample_keep_per_mille` is set, but `routes.0.sample_by` is not set",
        ),
        (
            "outputs = ['a']\nsample_by = 'u'\nsample_keep_per_mille = 1001",
            "`routes.0.sample_keep_per_mille` is 1001 of 1000 values, allowed is 1 to 1000",
        ),
        (
            "outputs = ['a']\n[[routes]]\nname = 'r'\noutputs = []",
            "`routes.1.name` is r, but must be other than `routes.0.name`, which is r",
        ),
        (
            "outputs = ['a']\nsample_by = 'u'\n[routing]\nmatch = 'all'",
            "`routes.0.sample_by` is u, but must be left out with `routing.match`, which is all",
        ),
    ] {
        let message = problem(&with(&rule(keys)));
        assert!(message.starts_with(expected), "{keys}: {message}");
    }
    let named = |name: &str| {
        problem(&with(&format!(
            "[[routes]]\nname = '{name}'\noutputs = []\n"
        )))
    };
    for name in ["unmatched", "A", "", "a b"] {
        assert!(named(name).starts_with("`routes.0.name` is "), "{name}");
    }
    let rules: String = (0..65)
        .map(|at| format!("[[routes]]\nname = 'r{at}'\noutputs = []\n"))
        .collect();
    assert_eq!(
        problem(&with(&rules)),
        "`routes` is 65 rules, allowed is 0 to 64 rules"
    );
    let fields: Vec<String> = (0..62)
        .map(|at| format!("{{ field = 'f{at}', present = true }}"))
        .collect();
    let fields = when(&format!("{{ any = [{}] }}", fields.join(", ")));
    let fields = format!("{fields}key = 'field:k0,k1,k2'\n");
    assert_eq!(
        problem(&with(&fields)),
        "`routes`: the rules read more than 64 different fields: `f61` is one too many"
    );
    assert!(unreadable("routes = [1]\n").contains("routes"));
}

#[test]
fn a_rule_names_outputs_key_topic_and_promise() {
    let rule = "[routing]\nunmatched = ['b']\nkey_salt = 'Jefe'\n\
        [[routes]]\nname = 'first'\nwhen = { field = 'user', present = true }\noutputs = ['a:enqueued', 'k']\n\
        key = 'hmac:no,user'\ntopic = 'to-{kind.of}'\ntopic_names = ['to-x']\n\
        [[routes]]\nname = 'second'\nwhen = { field = 'kind', present = true }\noutputs = ['k', 't']\n";
    let event = r#"{"user":"what do ya want for nothing?","kind":{"of":"x"}}"#;
    let found = outcome(rule, event);
    assert_eq!(
        (found.rules.as_slice(), outputs(&found)),
        (&["first".to_owned()][..], vec!["a", "k"])
    );
    let [a, k] = &found.places[..] else {
        panic!("{found}")
    };
    assert_eq!((a.ack, k.ack), ("enqueued", "delivered"));
    assert_eq!(a.key.as_deref(), Some("5bdcc146bf60754e6a042426089575c7"));
    assert_eq!((&a.key, k.topic.as_deref()), (&k.key, Some("to-x")));
    let found = outcome(rule, r#"{"kind":1,"app":"y"}"#);
    assert_eq!(
        (found.rules.as_slice(), outputs(&found)),
        (&["second".to_owned()][..], vec!["k", "t"])
    );
    assert_eq!(found.places[1].topic.as_deref(), Some("by-y"));
    assert_eq!(outputs(&outcome(rule, "{}")), ["b"]);
    let all = rule.replace("key_salt", "match = 'all'\nkey_salt");
    let found = outcome(&all, event);
    assert_eq!(
        (found.rules.len(), outputs(&found)),
        (2, vec!["a", "k", "t"])
    );
    assert_eq!(
        (
            found.places[2].key.as_deref(),
            found.places[2].topic.as_deref()
        ),
        (None, None)
    );
}

#[test]
fn the_salt_of_keys_may_come_from_a_variable() {
    let rule = "[[routes]]\nname = 'r'\noutputs = ['a']\nkey = 'hmac:user'\n";
    let salt = [("SLUICE_ROUTING__KEY_SALT", "Jefe")];
    let config = load_all(&with(rule), &salt, &Flags::default()).unwrap();
    assert!(!config.to_string().contains("Jefe"), "{config}");
    let event = Event {
        bytes: br#"{"user":"what do ya want for nothing?"}"#,
        endpoint: "pixel",
        listener: "listen",
        host: None,
        query: None,
    };
    let found = run(&config, &event).unwrap();
    assert_eq!(
        found.places[0].key.as_deref(),
        Some("5bdcc146bf60754e6a042426089575c7")
    );
}

#[test]
fn unmatched_alone_narrows_where_all_events_go() {
    let found = outcome("[routing]\nunmatched = ['a']\n", "{}");
    assert_eq!(
        (found.rules.as_slice(), outputs(&found)),
        (&["unmatched".to_owned()][..], vec!["a"])
    );
    assert_eq!(
        outputs(&outcome("[routing]\nunmatched = []\n", "{}")),
        [""; 0]
    );
    let message = problem_of("[routing]\nunmatched = ['a:enqueued']\n");
    assert!(message.contains("only a name stands here"), "{message}");
}

fn problem_of(routes: &str) -> String {
    unreadable(routes)
}

#[test]
fn a_rule_may_name_a_group_or_its_members() {
    let groups = "outputs.g = { type = 'group', of = ['k', 't'] }\n\
        [[routes]]\nname = 'one'\nwhen = { field = 'one', present = true }\noutputs = ['k']\nkey = 'field:one'\n\
        [[routes]]\nname = 'all'\nwhen = { field = 'all', present = true }\noutputs = ['g:enqueued', 'a']\ntopic = 'x-{all}'\n";
    // A group's members get what a rule sends them, and nothing else.
    assert_eq!(outputs(&outcome(groups, "{}")), ["a", "b", "g"]);
    assert_eq!(outputs(&outcome(groups, r#"{"one":1}"#)), ["k"]);
    let found = outcome(groups, r#"{"all":"y","user":"u"}"#);
    assert_eq!(outputs(&found), ["a", "g"]);
    let group = &found.places[1];
    assert_eq!((group.ack, group.type_name.as_str()), ("enqueued", "group"));
    assert_eq!(
        (group.topic.as_deref(), group.key.as_deref()),
        (Some("x-y"), Some("u"))
    );
}

/// The lines that `sluice check` prints of a test with these keys.
fn checked(keys: &str) -> (String, bool) {
    let text = with(&format!(
        "[listen]\naddress = '127.0.0.1:0'\n[admin]\naddress = 'off'\n{}key = 'field:user'\n\
         sample_by = 'user'\n[[tests]]\nname = 'mine'\nevent = '{{\"type\":\"buy\",\"user\":\"u\"}}'\n{keys}",
        when("{ field = 'type', equals = 'buy' }")
    ));
    let config = load(&text).unwrap();
    assert_eq!(load(&config.to_string()).unwrap(), config, "{config}");
    let report = try_out(&config, true).unwrap();
    let lines = report
        .lines
        .lines()
        .filter(|line| line.starts_with("test "));
    (lines.collect::<Vec<_>>().join("\n"), report.usable)
}

#[test]
fn check_runs_the_tests_of_a_configuration() {
    let passing = "rules = ['r']\noutputs = ['a']\nkey = 'u'\nrecord_has = ['\"user\":\"u\"', '\"sample_rate\":1']\n";
    assert_eq!(checked(passing), ("test mine ok".to_owned(), true));
    for (keys, expected) in [
        ("rules = ['unmatched']", "rules are r, expected unmatched"),
        ("outputs = []", "outputs are a, expected none"),
        ("outputs = ['b', 'a']", "outputs are a, expected a, b"),
        ("key = 'off'", "key at a is \"u\", expected none"),
        (
            "record_has = ['nothing']",
            "the record has no `nothing`: {\"type\"",
        ),
        (
            "endpoint = 'collect'\nkey = 'u'\noutputs = ['a']",
            "outputs are a, b, k, t, expected a",
        ),
    ] {
        let (line, usable) = checked(keys);
        assert!(
            line.starts_with("test mine FAILED: ") && line.contains(expected),
            "{keys}: {line}"
        );
        assert!(!usable, "{keys}");
    }
    let refused = with("[[tests]]\nname = 'x'\nevent = '{'\noutputs = []\n");
    let report = try_out(&load(&refused).unwrap(), true).unwrap();
    assert!(
        report
            .lines
            .contains("test x FAILED: the event is refused: "),
        "{}",
        report.lines
    );
}

#[test]
fn wrong_tests_are_refused() {
    let test = |keys: &str| problem(&with(&format!("[[tests]]\nname = 't'\n{keys}\n")));
    for (keys, expected) in [
        (
            "event = '{}'",
            "`tests.0.outputs` is missing: a test says what has to become of its event",
        ),
        (
            "outputs = []",
            "`tests.0.event` is missing: a test needs an event",
        ),
        (
            "event = '{}'\noutputs = []\nendpoint = 'ping'",
            "`tests.0.endpoint` is \"ping\", expected one of collect, events, pixel",
        ),
    ] {
        assert_eq!(test(keys), expected);
    }
    let tests = "[[tests]]\nname = 't'\nevent = '{}'\noutputs = []\n".repeat(1_001);
    assert_eq!(
        problem(&with(&tests)),
        "`tests` is 1001 tests, allowed is 0 to 1000 tests"
    );
}
