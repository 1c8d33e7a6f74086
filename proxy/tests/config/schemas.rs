//! Schemas: what is read, what is refused with which words, and what they say of events.

use super::{load, problem};
use sluice_proxy::check::try_out;
use sluice_proxy::config::Config;
use sluice_proxy::routing::trial::{Event, TrialError, run};
use std::fs;
use tempfile::tempdir;

const OUTPUT: &str = "outputs.a = { type = 'null' }\npaths.collect = 'off'\n";

/// All events have the schema `s` with these settings.
fn with(settings: &str) -> String {
    format!("{OUTPUT}routing.schema = 's'\n[schemas.s]\n{settings}\n")
}

fn tried(config: &Config, event: &str) -> Result<String, TrialError> {
    let event = Event {
        bytes: event.as_bytes(),
        endpoint: "events",
        listener: "listen",
        host: None,
        query: None,
    };
    run(config, &event).map(|outcome| outcome.to_string())
}

#[test]
fn a_schema_is_read_and_printed_as_it_is_written() {
    let settings = "mode = 'reject'\nrequired = ['user.id']\ntypes = ['user.id=string|integer']\n\
        lengths = ['user.id=1..64']\none_of = ['currency=EUR|USD']";
    let config = load(&with(settings)).unwrap();
    assert_eq!(load(&config.to_string()).unwrap(), config, "{config}");
    assert!(config.to_string().contains("[schemas.s]"), "{config}");
    let kept = tried(&config, r#"{"user":{"id":7},"currency":"EUR"}"#).unwrap();
    assert!(kept.contains("\nschema: s, kept\n"), "{kept}");
    for (event, expected) in [
        (
            r#"{"user":1}"#,
            "`/user` breaks `type`: expected array or object",
        ),
        ("{}", "`` breaks `required`: `user` is missing"),
        (r#"{"user":{"id":""}}"#, "`/user/id` breaks `minLength`"),
        (
            r#"{"user":{"id":1},"currency":"?"}"#,
            "`/currency` breaks `enum`",
        ),
    ] {
        let error = tried(&config, event).unwrap_err().to_string();
        assert!(error.contains(expected), "{event}: {error}");
    }
}

#[test]
fn a_tag_is_shown_by_explain_and_in_the_record() {
    let config = load(&with("required = ['id']")).unwrap();
    let shown = tried(&config, r#"{"a":1}"#).unwrap();
    assert!(shown.contains("\nschema: s, breaks required\n"), "{shown}");
    assert!(
        shown.contains(r#""schema_error":{"schema":"s","rule":"required","#),
        "{shown}"
    );
}

#[test]
fn rules_give_events_their_schemas() {
    let route = |name: &str, extra: &str| {
        format!(
            "[[routes]]\nname = '{name}'\nwhen = {{ field = '{name}', present = true }}\noutputs = ['a']\n{extra}\n"
        )
    };
    let text = format!(
        "{OUTPUT}routing.schema = 'rest'\nschemas.rest.required = ['r']\nschemas.one.required = ['o']\n{}{}{}",
        route("a", "schema = 'one'"),
        route("b", ""),
        "[[routes]]\nname = 'c'\nwhen = { field = 'c', present = true }\noutputs = []\nschema = 'one'\n",
    );
    let config = load(&text).unwrap();
    let schema = |event: &str| {
        let shown = tried(&config, event).unwrap_or_else(|error| panic!("{event}: {error}"));
        let line = shown.lines().find(|line| line.starts_with("schema: "));
        line.map(str::to_owned)
    };
    let is = |line: &str| Some(format!("schema: {line}"));
    assert_eq!(schema(r#"{"a":1,"o":1}"#), is("one, kept"));
    assert_eq!(schema(r#"{"a":1,"b":1}"#), is("one, breaks required"));
    assert_eq!(schema(r#"{"b":1}"#), None);
    assert_eq!(schema(r#"{"r":1}"#), is("rest, kept"));
    // Thrown away unread.
    assert_eq!(schema(r#"{"c":1}"#), None);
}

#[test]
fn tests_of_a_configuration_ask_for_the_schema() {
    let checked = |mode: &str, event: &str, expected: &str| {
        let test = format!("[[tests]]\nname = 't'\nevent = '{event}'\n{expected}\n");
        let settings = format!("required = ['id']\nmode = '{mode}'\n{test}");
        let report = try_out(&load(&with(&settings)).unwrap(), true).unwrap();
        let line = report
            .lines
            .lines()
            .find(|line| line.starts_with("test t "));
        line.unwrap_or_else(|| panic!("{}", report.lines))
            .to_owned()
    };
    for mode in ["tag", "reject"] {
        assert_eq!(checked(mode, r#"{"id":1}"#, "schema = 'kept'"), "test t ok");
        assert_eq!(checked(mode, "{}", "schema = 'required'"), "test t ok");
        let wrong = checked(mode, r#"{"id":1}"#, "schema = 'required'");
        assert_eq!(
            wrong,
            "test t FAILED: schema is \"kept\", expected \"required\""
        );
    }
    let wrong = checked("reject", "{}", "schema = 'required'\noutputs = []");
    assert!(
        wrong.contains("rejected, only `schema` can be tested"),
        "{wrong}"
    );
    assert!(checked("reject", "{}", "outputs = []").contains("FAILED: the event is refused"));
}

#[test]
fn wrong_schemas_are_refused() {
    for (settings, expected) in [
        ("", "`schemas.s.file` is missing"),
        (
            "file = 'a'\nrequired = ['b']",
            "a schema is a file, a registry's, or what is demanded of fields",
        ),
        ("required = ['b']\nurl = 'http://a'", "`schemas.s.url` "),
        ("required = ['b']\ndir = 'd'", "`schemas.s.dir` "),
        (
            "types = ['a=string', 'a.b=string', 'a=object']\nrequired = ['a.b']",
            "exclude each other",
        ),
        ("lengths = ['a=1..2', 'a=1..3']", "`a` is listed twice"),
        (
            "event_bytes_max = 10\nfile = 'x'",
            "10 bytes, allowed is 1024 to 1048576",
        ),
        ("base_uri = 'x'\nfile = 'x'", "a URI that ends with /"),
    ] {
        let message = problem(&with(settings));
        assert!(message.contains(expected), "{settings}: {message}");
    }
    let registry = "cache_dir = 'c'\nregistry = ";
    for (settings, expected) in [
        ("'confluent'\nsubject = 's'", "`schemas.s.url` is missing"),
        (
            "'confluent'\nurl = 'http://a'",
            "`schemas.s.subject` is missing",
        ),
        ("'glue'\nsubject = 's'", "registry/schema"),
        (
            "'iglu'\nurl = 'http://a'\nsubject = 'a/../jsonschema/1-0-0'",
            "vendor/name/jsonschema/1-0-0",
        ),
        (
            "'iglu'\nurl = 'http://a'\nsubject = 'a/b/jsonschema/1-0-0'\nversion = '2'",
            "`schemas.s.version` ",
        ),
        (
            "'confluent'\nurl = 'http://a'\nsubject = 's'\nuser = 'u'\npassword = 'p'",
            "unencrypted",
        ),
        (
            "'confluent'\nurl = 'http://a'\nsubject = 's'\nfile = 'f'",
            "left out beside",
        ),
    ] {
        let message = problem(&with(&format!("{registry}{settings}")));
        assert!(message.contains(expected), "{settings}: {message}");
    }
    let no_copy = with("registry = 'confluent'\nurl = 'http://a'\nsubject = 's'");
    assert!(problem(&no_copy).contains("`schemas.s.cache_dir` is missing"));
    let letters = problem(&with("required = ['a']\nmode = 'dead_letter'"));
    assert!(
        letters.contains("`dead_letters.output` is missing"),
        "{letters}"
    );
    let many: Vec<String> = (0..257).map(|at| format!("'f{at}'")).collect();
    let message = problem(&with(&format!("required = [{}]", many.join(","))));
    assert!(message.contains("256 fields"), "{message}");
    let types: Vec<String> = (0..200).map(|at| format!("'f{at}=string'")).collect();
    let lengths: Vec<String> = (0..57).map(|at| format!("'f{at}=1..2'")).collect();
    let both = format!(
        "types = [{}]\nlengths = [{}]",
        types.join(","),
        lengths.join(",")
    );
    let message = problem(&with(&both));
    assert!(message.contains("257 demands"), "{message}");
    let error = load(&with("types = ['a=text']")).unwrap_err().to_string();
    assert!(error.contains("user.id=string|integer"), "{error}");
    let unnamed = format!("{OUTPUT}schemas.s.required = ['a']\n");
    assert!(problem(&unnamed).contains("no `schema` of `[[routes]]` or `[routing]` names it"));
    let error = load(&format!("{OUTPUT}routing.schema = 's'\n"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("there is no schema `s`, and none is configured"),
        "{error}"
    );
    let collect = with("required = ['a']").replace("paths.collect = 'off'\n", "");
    assert!(problem(&collect).contains("routing.collect_unchecked"));
    let unchecked = collect.replace(
        "routing.schema",
        "routing.collect_unchecked = true\nrouting.schema",
    );
    assert!(load(&unchecked).is_ok());
    let mut names = String::new();
    for at in 0..65 {
        names += &format!("schemas.s{at}.required = ['a']\n");
    }
    let problems = super::problems(&format!("{OUTPUT}{names}"));
    assert!(
        problems[0]
            .to_string()
            .contains("65 schemas, allowed is 0 to 64"),
        "{problems:?}"
    );
}

#[test]
fn check_tries_the_files_of_schemas() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("order.json");
    let checked = |text: &str| {
        fs::write(&file, text).unwrap();
        let config = load(&with(&format!("file = {file:?}"))).unwrap();
        try_out(&config, true).unwrap()
    };
    let report = checked(r#"{"required":["id"]}"#);
    assert!(
        report.usable && report.lines.contains("schema s ok: "),
        "{}",
        report.lines
    );
    for (text, expected) in [
        ("{", "order.json: EOF"),
        (r#"{"type":"text"}"#, "schemas.s: "),
    ] {
        let report = checked(text);
        assert!(
            !report.usable && report.lines.contains(expected),
            "{}",
            report.lines
        );
    }
    #[cfg(not(feature = "json-schema"))]
    {
        let report = checked(r#"{"properties":{"a":{"pattern":"^a"}}}"#);
        let expected = "schemas.s: #/properties/a: `pattern` is not built in; a program built with `--features json-schema`";
        assert!(
            !report.usable && report.lines.contains(expected),
            "{}",
            report.lines
        );
    }
}

#[cfg(feature = "json-schema")]
#[test]
fn all_of_json_schema_is_checked_within_its_directory() {
    let dir = tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write(
        "order.json",
        r#"{"properties":{"id":{"$ref":"id.json"},"list":{"uniqueItems":true}}}"#,
    );
    write("id.json", r#"{"pattern":"^o-[0-9]+$"}"#);
    let file = dir.path().join("order.json");
    let load_it =
        |more: &str| load(&with(&format!("mode = 'reject'\nfile = {file:?}\n{more}"))).unwrap();
    let config = load_it(&format!("dir = {:?}", dir.path()));
    assert!(tried(&config, r#"{"id":"o-1","list":[1,2]}"#).is_ok());
    for (event, expected) in [
        (
            r#"{"id":"x"}"#,
            r#"`/id` breaks `pattern`: value does not match "^o-[0-9]+$""#,
        ),
        (r#"{"list":[1,1.0]}"#, "`/list` breaks `uniqueItems`: "),
        (
            r#"{"list":[1e999]}"#,
            "`/list` breaks `unreadable`: number out of range",
        ),
    ] {
        let error = tried(&config, event).unwrap_err().to_string();
        assert!(error.contains(expected), "{event}: {error}");
    }
    // What no keyword speaks of is not read.
    assert!(tried(&config, r#"{"other":1e999}"#).is_ok());
    let big = format!(r#"{{"list":["{}"]}}"#, "x".repeat(65_536));
    let error = tried(&config, &big).unwrap_err().to_string();
    assert!(
        error.contains("breaks `size`: 65540 bytes, at most 65536 are checked"),
        "{error}"
    );
    // Elsewhere there is nothing to refer to.
    let alone = load_it("");
    let report = try_out(&alone, true).unwrap();
    assert!(
        !report.usable && report.lines.contains("id.json"),
        "{}",
        report.lines
    );
    for pattern in [r"(?=a)b", r"(a)\\1", r"(a{1000}){1000}"] {
        write("order.json", &format!(r#"{{"pattern":"{pattern}"}}"#));
        let report = try_out(&alone, true).unwrap();
        assert!(!report.usable, "{pattern}: {}", report.lines);
    }
}
