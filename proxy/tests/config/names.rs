//! Outputs that list streams, queues, prefixes or directories, between which a rule's `topic` chooses.

use super::{load, problem};
use sluice_proxy::check::try_out;
use sluice_proxy::routing::trial::{Event, Goal, run};
use std::path::Path;

const RULE: &str = "[[routes]]\nname = 'typed'\noutputs = ['c']\n";

/// An output `c` with these keys, and a rule for it with this topic.
fn with(output: &str, topic: &str) -> String {
    format!("outputs.c = {{ {output} }}\n{RULE}topic = '{topic}'\n")
}

fn kinesis(list: &str) -> String {
    with(
        &format!("type = 'kinesis', stream = 'clicks-other', streams = {list}"),
        "clicks-{type}",
    )
}

/// Where an event of this type goes.
fn goal(text: &str, kind: &str) -> Goal {
    let config = load(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(load(&config.to_string()).unwrap(), config, "{config}");
    let event = format!("{{\"type\":\"{kind}\"}}");
    let event = Event {
        bytes: event.as_bytes(),
        endpoint: "events",
        listener: "listen",
        host: None,
        query: None,
    };
    let mut found = run(&config, &event).unwrap().places;
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn each_listed_name_is_an_output_of_its_own() {
    let sqs = "type = 'sqs', queue_url = 'https://sqs.eu-west-1.amazonaws.com/1/other', queues = ['b-buy', 'b-view']";
    let s3 = "type = 's3', bucket = 'raw', prefix = 'other/', staging_dir = '/s', prefixes = ['b/type=buy/']";
    let file =
        "type = 'file', dir = 'other', dirs = ['b/buy', '/var/é/view'], spool = { dir = '/spool' }";
    let firehose = "type = 'firehose', stream = 'other', streams = ['b-buy']";
    for (output, topic, names, term, name) in [
        (
            sqs,
            "b-{type}",
            &["c.b-buy", "c.b-view"][..],
            "queue",
            "b-buy",
        ),
        (
            s3,
            "b/type={type}/",
            &["c.b.type=buy"],
            "prefix",
            "b/type=buy/",
        ),
        (
            file,
            "b/{type}",
            &["c.b.buy", "c.var...view"],
            "dir",
            "b/buy",
        ),
        (firehose, "{type}-buy", &["c.b-buy"], "stream", "b-buy"),
    ] {
        let text = with(output, topic);
        let config = load(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let outputs = config.outputs.iter().map(|output| &*output.name);
        assert_eq!(outputs.collect::<Vec<_>>(), [&["c"], names].concat());
        let found = goal(&text, if term == "stream" { "b" } else { "buy" });
        assert_eq!(
            (&*found.output, found.topic.as_deref(), found.term),
            ("c", Some(name), term)
        );
        for elsewhere in ["", "..", "../buy", "BUY", "buy\\u0000", "other"] {
            assert_eq!(goal(&text, elsewhere).topic, None, "{elsewhere}");
        }
    }
    let config = load(&with(s3, "{type}")).unwrap();
    let staging = |at: usize| config.outputs[at].sink.directory().unwrap().path;
    assert_eq!(staging(0), Path::new("/s"));
    assert_eq!(staging(1), Path::new("/s/b.type=buy"));
    let config = load(&with(file, "{type}")).unwrap();
    let dirs = |at: usize| {
        let output = &config.outputs[at];
        let spool = output.spool.as_ref().unwrap().dir.clone().unwrap();
        (output.sink.directory().unwrap().path.to_owned(), spool)
    };
    assert_eq!(dirs(0), ("other".into(), "/spool".into()));
    assert_eq!(dirs(1), ("b/buy".into(), "/spool/b.buy".into()));
}

#[test]
fn tests_and_check_show_the_listed_name() {
    let test = |name: &str, kind: &str, topic: &str| {
        format!(
            "[[tests]]\nname = '{name}'\nevent = '{{\"type\":\"{kind}\"}}'\noutputs = ['c']\ntopic = '{topic}'\n"
        )
    };
    let quiet = "[listen]\naddress = '127.0.0.1:0'\n[admin]\naddress = 'off'\n";
    let text = kinesis("['clicks-buy', 'clicks-view']")
        + quiet
        + &test("listed", "view", "clicks-view")
        + &test("not listed", "x", "off")
        + &test("wrong", "x", "clicks-view");
    let report = try_out(&load(&text).unwrap(), true).unwrap();
    for line in [
        "test listed ok",
        "test not listed ok",
        "test wrong FAILED: topic at c is none, expected \"clicks-view\"",
        "output c (kinesis) ok: not tried (--offline)",
        "output c.clicks-buy (kinesis, stream clicks-buy) ok: not tried (--offline)",
    ] {
        assert!(
            report.lines.lines().any(|found| found == line),
            "{line}: {}",
            report.lines
        );
    }
}

#[test]
fn events_without_a_rule_go_to_the_own_place_only() {
    let text =
        kinesis("['clicks-buy']").replace("topic", "when = { field = 'x', present = true }\ntopic");
    assert_eq!(goal(&text, "buy").topic, None);
}

#[test]
fn lists_keep_to_their_bounds() {
    let listed = |count: usize, bytes: usize| {
        let names = (0..count).map(|at| format!("'{at:0bytes$}'"));
        kinesis(&format!("[{}]", names.collect::<Vec<_>>().join(", ")))
    };
    assert_eq!(load(&listed(63, 128)).unwrap().outputs.len(), 64);
    let shown = problem(&listed(64, 9));
    assert!(
        shown.contains("is 64 streams, allowed is 0 to 63"),
        "{shown}"
    );
    let shown = problem(&format!("outputs.d.type = 'null'\n{}", listed(63, 9)));
    let expected = "`outputs` is 65 outputs, with the names that they list";
    assert!(shown.starts_with(expected), "{shown}");
    assert!(problem(&listed(1, 129)).contains("1 to 128 letters"));
    for (output, key) in [
        ("type = 's3', bucket = 'raw', prefixes", "prefixes"),
        ("type = 'file', dirs", "dirs"),
    ] {
        let name = |bytes| with(&format!("{output} = ['{}']", "x".repeat(bytes)), "{type}");
        load(&name(249)).unwrap();
        assert!(problem(&name(250)).contains(key));
        assert!(problem(&name(0)).contains(key));
    }
    let queue = |name: &str| {
        with(
            &format!("type = 'sqs', queue_url = 'https://sqs.example/1/q', queues = ['{name}']"),
            "{type}",
        )
    };
    load(&queue(&"x".repeat(80))).unwrap();
    assert!(problem(&queue(&"x".repeat(81))).contains("1 to 80"));
    assert!(problem(&queue("a.fifo")).contains("of the same kind as `outputs.c.queue_url`"));
}

#[test]
fn wrong_lists_are_refused_by_their_reason() {
    for (text, expected) in [
        (
            kinesis("['a', 'b', 'a']"),
            "`outputs.c.streams` is a, but must be unlike",
        ),
        (
            kinesis("['clicks-other']"),
            "`outputs.c.streams` is clicks-other, but must be unlike",
        ),
        (
            with("type = 'file', dirs = ['a/b', 'a.b']", "{x}"),
            "`outputs.c.dirs` is a.b, but must be unlike the output's own and all others, as is not `outputs.c.dirs`, which is a/b",
        ),
        (
            with("type = 'file', dirs = ['..']", "{x}"),
            "`outputs.c.dirs` is \"..\", expected a name with a letter or a digit",
        ),
        (
            format!("{}topics_max = 3\n", kinesis("['a']")),
            "`routes.0.topics_max` is set, but `routes.0.topic` is clicks-{type}, and no output is of type kafka",
        ),
        (
            kinesis("['a']").replace("topic = 'clicks-{type}'", ""),
            "`outputs.c.streams` is set, but `routes` is without a rule that names the output and has a `topic`",
        ),
        (
            kinesis("['a']").replace("outputs = ['c']", "outputs = ['g']")
                + "[outputs.d]\ntype = 'null'\n[outputs.g]\ntype = 'group'\nof = ['c', 'd']\n",
            "`outputs.g.of` is c, but must be an output without `outputs.c.streams`",
        ),
    ] {
        let shown = super::problems(&text);
        let shown: Vec<String> = shown.iter().map(ToString::to_string).collect();
        assert!(shown[0].starts_with(expected), "{text}: {shown:?}");
    }
    let text = kinesis("['clicks-buy']").replace("['c']", "['c.clicks-buy']");
    let shown = load(&text).unwrap_err().to_string();
    assert!(
        shown.contains("there is no output `c.clicks-buy`, only c"),
        "{shown}"
    );
    let kafka = "outputs.k = { type = 'kafka', brokers = 'b:1', topic = 't' }\n";
    let text = kafka.to_owned() + &kinesis("['a']").replace("['c']", "['c', 'k']");
    load(&text).unwrap();
    let shown = load(&text.replace("clicks-{", "clicks/{")).unwrap_err();
    assert!(
        shown.to_string().contains("`clicks/` has more than"),
        "{shown}"
    );
}
