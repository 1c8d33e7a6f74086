//! Privacy through the pipeline: against a walk over a value tree, and byte by byte.

// Helpers of tests stand outside of test functions here; they may panic like those.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use hmac::{Hmac, KeyInit, Mac};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use sha2::Sha256;
use sluice_core::partition::PartitionRule;
use sluice_core::plan::{Mode, Plan};
use sluice_core::prepared::Prepared;
use sluice_core::privacy::{
    Action, AddressRule, HASHED_FREE, HashKey, MASK, ParameterAction, Privacy, RequestPrivacy,
    Rules, RulesError, SignalPolicy, Signals, SuppressList, Withheld,
};
use sluice_core::request::{RequestContext, RequestId};
use sluice_core::server_fields::{Clash, ServerFields};
use sluice_core::time::Wall;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

const KEY: &[u8] = b"a key of thirty-two bytes or so.";

fn hash(text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY).unwrap();
    mac.update(text.as_bytes());
    let mut out = "k1:".to_owned();
    for byte in mac.finalize().into_bytes() {
        write!(out, "{byte:02x}").unwrap();
    }
    out
}

fn keys() -> Vec<HashKey> {
    vec![HashKey::new("k1", KEY).unwrap()]
}

fn fields(rules: &[(&str, Action)]) -> Rules {
    let rules = rules.iter();
    Rules {
        fields: rules
            .map(|(path, action)| (path.parse().unwrap(), *action))
            .collect(),
        keys: keys(),
        ..Rules::default()
    }
}

fn parameters(rules: &[(&str, ParameterAction)]) -> Rules {
    let rules = rules.iter();
    Rules {
        fields: vec![("url".parse().unwrap(), Action::Url)],
        parameters: rules
            .map(|(name, action)| ((*name).to_owned(), *action))
            .collect(),
        keys: keys(),
        ..Rules::default()
    }
}

fn request() -> RequestContext<'static> {
    RequestContext {
        peer: IpAddr::from([203, 0, 113, 77]),
        id: RequestId(7),
        received_at: Wall {
            secs: 1_795_305_600,
            ..Wall::default()
        },
        ..support::request()
    }
}

fn plan(mode: Mode, rules: &Rules) -> Plan {
    // A client's own address field is kept, and treated.
    let mut fields = ServerFields::default();
    fields.clash = Clash::Client;
    Plan {
        privacy: Some(Arc::new(Privacy::new(rules).unwrap())),
        server_fields: Arc::new(fields),
        depth_max: 200,
        ..Plan::new(mode, PartitionRule::Random)
    }
}

fn run(plan: &Plan, request: &RequestContext<'_>, body: &str) -> Prepared {
    let mut out = Prepared::default();
    plan.run(request, body, 1 << 20, &mut out).unwrap();
    out
}

fn records(out: &Prepared) -> Vec<String> {
    let records = out.records.iter();
    records
        .map(|record| String::from_utf8(record.payload.to_vec()).unwrap())
        .collect()
}

/// The client's part of the one record.
fn treated(rules: &Rules, event: &str) -> String {
    let out = run(&plan(Mode::Event, rules), &request(), event);
    let [record] = &records(&out)[..] else {
        panic!("{out:?}");
    };
    let at = record.rfind("\"ingest_time\":").unwrap();
    let client = record[..at].strip_suffix(',').unwrap_or(&record[..at]);
    // Not read by serde_json, which refuses halves of surrogate pairs and numbers out of its range.
    sluice_core::json::scan::check(record.as_bytes()).unwrap();
    format!("{client}}}")
}

#[test]
fn untouched_bytes_stay_as_they_were_sent() {
    let rules = fields(&[
        ("gone", Action::Drop),
        ("secret", Action::Mask),
        ("user.email", Action::Hash),
    ]);
    for (event, expected) in [
        (
            r#"{ "a" : 1e999 , "gone":{"x":[1]} ,  "b":"\ud83d", "secret" : 17 }"#.to_owned(),
            r#"{ "a" : 1e999,"b":"\ud83d", "secret" : "***" }"#.to_owned(),
        ),
        (r#"{"gone":1}"#.to_owned(), "{}".to_owned()),
        (r#"{"gone":1,"gone":2}"#.to_owned(), "{}".to_owned()),
        (
            r#"{"gone":1, "a":2,"gone":3,"b":4,"gone":5 }"#.to_owned(),
            r#"{"a":2,"b":4}"#.to_owned(),
        ),
        (
            r#"{"user": { "email" :"a@b.c", "id":  1 } }"#.to_owned(),
            format!(
                r#"{{"user": {{ "email" :"{}", "id":  1 }} }}"#,
                hash("a@b.c")
            ),
        ),
        (
            r#"{"user":{"gone":1},"other":{"secret":1}}"#.to_owned(),
            r#"{"user":{"gone":1},"other":{"secret":1}}"#.to_owned(),
        ),
    ] {
        assert_eq!(treated(&rules, &event), expected, "{event}");
    }
}

#[test]
fn an_escaped_or_repeated_key_is_treated_alike() {
    let rules = fields(&[("email", Action::Mask), ("u.t", Action::Drop)]);
    let event = r#"{"em\u0061il":"1","email":"2","\u0065mail":["3",{"x":"4"}],"u":{"\u0074":"5","t":"6"},"u":{"t":7}}"#;
    let expected = r#"{"em\u0061il":"***","email":"***","\u0065mail":"***","u":{},"u":{}}"#;
    assert_eq!(treated(&rules, event), expected);
}

#[test]
fn values_of_every_type_are_treated() {
    let values = [
        (r#""abcdef""#, r#""***""#, r#""abc""#, Some("abcdef")),
        (r#""ab""#, r#""***""#, r#""ab""#, Some("ab")),
        (r#""""#, r#""***""#, r#""""#, None),
        ("12345", r#""***""#, r#""123""#, Some("12345")),
        ("-1", r#""***""#, "-1", Some("-1")),
        ("true", r#""***""#, "true", Some("true")),
        ("null", "null", "null", None),
        (r#"{"x":"abcdef"}"#, r#""***""#, r#""***""#, None),
        (
            r#""\u00e9\ud83d\ude00xyz""#,
            r#""***""#,
            r#""\u00e9\ud83d\ude00x""#,
            Some("é😀xyz"),
        ),
        (r#""a\"b\\c""#, r#""***""#, r#""a\"b""#, Some("a\"b\\c")),
        (r#""é😀xyz""#, r#""***""#, r#""é😀x""#, Some("é😀xyz")),
    ];
    for (value, masked, cut, text) in values {
        let event = format!(r#"{{"v":{value}}}"#);
        let expected = |value: &str| format!(r#"{{"v":{value}}}"#);
        let by = |action| treated(&fields(&[("v", action)]), &event);
        assert_eq!(by(Action::Mask), expected(masked));
        assert_eq!(by(Action::Truncate(3)), expected(cut));
        let hashed = match (text, value.as_bytes()[0]) {
            (Some(text), _) => format!("\"{}\"", hash(text)),
            (None, b'{') => "\"***\"".to_owned(),
            (None, _) => value.to_owned(),
        };
        assert_eq!(by(Action::Hash), expected(&hashed));
        assert_eq!(by(Action::Drop), "{}");
    }
}

#[test]
fn a_path_reaches_into_every_element_of_arrays() {
    let rules = fields(&[("items.card", Action::Mask), ("ids", Action::Truncate(1))]);
    let event = r#"{"items":[{"card":1,"n":2},[{"card":[3]}],4,[]],"ids":["ab",["cd",12],null]}"#;
    let expected =
        r#"{"items":[{"card":"***","n":2},[{"card":"***"}],4,[]],"ids":["a",["c","1"],null]}"#;
    assert_eq!(treated(&rules, event), expected);
}

#[test]
fn url_parameters_are_treated_in_fields_and_in_the_request() {
    let rules = parameters(&[
        ("token", ParameterAction::Drop),
        ("email", ParameterAction::Hash),
        ("q", ParameterAction::Mask),
    ]);
    for (url, expected) in [
        (
            r#""https://x/?a=1&%74oken=s&email=a%40b.c#q=1""#,
            format!(r#""https://x/?a=1&email={}#q=***""#, hash("a@b.c")),
        ),
        (
            r#""https:\/\/x\/?a=1\u0026token=s""#,
            r#""https://x/?a=1""#.to_owned(),
        ),
        (
            r#"["/?token=1","/?b=1",17]"#,
            r#"["/","/?b=1",17]"#.to_owned(),
        ),
        (
            r#""https:\/\/x\/?a=1""#,
            r#""https:\/\/x\/?a=1""#.to_owned(),
        ),
    ] {
        let event = format!(r#"{{"url":{url},"other":{url}}}"#);
        let expected = format!(r#"{{"url":{expected},"other":{url}}}"#);
        assert_eq!(treated(&rules, &event), expected);
    }
    let request = RequestContext {
        uri: "/collect?appId=shop&to%6ben=s&q=x",
        path: "/collect",
        query: Some("appId=shop&to%6ben=s&q=x"),
        ..request()
    };
    let out = run(&plan(Mode::Envelope, &rules), &request, "body");
    let record: Value = serde_json::from_str(&records(&out)[0]).unwrap();
    assert_eq!(record["uri"], "/collect?appId=shop&q=***");
    assert_eq!(record["appId"], "shop");
    assert_eq!((out.privacy.dropped, out.privacy.masked), (1, 1));
    let privacy = Privacy::new(&rules).unwrap();
    let (query, tally) = privacy.query(&request, "token=1&a=2");
    assert_eq!((&*query, tally.dropped), ("a=2", 1));
    assert_eq!(privacy.query(&request, "a=2").0, "a=2");
}

#[test]
fn keys_and_topics_see_what_privacy_left() {
    let mut rules = fields(&[("user", Action::Hash), ("gone", Action::Drop)]);
    let of = |field: &str, body| {
        let plan = Plan {
            partition: PartitionRule::Field(field.to_owned()),
            ..plan(Mode::Event, &rules)
        };
        let out = run(&plan, &request(), body);
        let keys = out.records.iter().map(|record| record.key.clone());
        keys.map(|key| key.map(|key| String::from_utf8(key.to_vec()).unwrap()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        of(
            "user",
            r#"[{"a":"long enough","user":"u1"},{"gone":1,"user":"u2"},{"user":3}]"#
        ),
        [Some(hash("u1")), Some(hash("u2")), Some(hash("3"))]
    );
    assert_eq!(of("gone", r#"{"gone":"x"}"#), [None]);
    assert_eq!(
        of("b", r#"{"gone":1,"user":"u","b":"kept"}"#),
        [Some("kept".to_owned())]
    );
    rules = Rules {
        addresses: AddressRule::Truncate,
        ..Rules::default()
    };
    let plan = Plan {
        partition: PartitionRule::Field("ip".to_owned()),
        ..plan(Mode::Event, &rules)
    };
    let out = run(&plan, &request(), r#"{"ip":"198.51.100.7"}"#);
    assert_eq!(out.records[0].key.as_deref(), Some(&b"198.51.100.0"[..]));
    let plan = Plan {
        partition: PartitionRule::Field("fakeIp".to_owned()),
        fake_ip: true,
        mode: Mode::Envelope,
        ..plan
    };
    let request = RequestContext {
        uri: "/collect?fakeIp=198.51.100.7",
        query: Some("fakeIp=198.51.100.7"),
        path: "/collect",
        ..request()
    };
    let out = run(&plan, &request, "x");
    assert_eq!(out.records[0].key.as_deref(), Some(&b"198.51.100.0"[..]));
    assert!(!records(&out)[0].contains("100.7"));
}

#[test]
fn addresses_are_treated_in_both_modes_and_by_the_listener_first() {
    let forwarded = RequestContext {
        forwarded_for: Some(b"198.51.100.7, 10.1.2.3"),
        ..request()
    };
    let ip = |rules: &Rules, mode, request: &RequestContext<'_>, body: &str| {
        let out = run(&plan(mode, rules), request, body);
        let record: Value = serde_json::from_str(&records(&out)[0]).unwrap();
        record.get("ip").cloned()
    };
    let rule = |addresses| Rules {
        addresses,
        keys: keys(),
        ..Rules::default()
    };
    for mode in [Mode::Event, Mode::Envelope] {
        let of =
            |addresses, request: &RequestContext<'_>| ip(&rule(addresses), mode, request, "{}");
        assert_eq!(
            of(AddressRule::Keep, &request()),
            Some(json!("203.0.113.77"))
        );
        assert_eq!(
            of(AddressRule::Truncate, &request()),
            Some(json!("203.0.113.0"))
        );
        let cut = Some(json!("198.51.100.0, 10.1.2.0"));
        assert_eq!(of(AddressRule::Truncate, &forwarded), cut);
        let none = (mode == Mode::Envelope).then_some(Value::Null);
        assert_eq!(of(AddressRule::Drop, &forwarded), none);
        let hashed = of(AddressRule::Hash, &request()).unwrap();
        assert!(hashed.as_str().unwrap().starts_with("k1:"), "{hashed}");
        assert_eq!(of(AddressRule::Hash, &request()), Some(hashed.clone()));
        let tomorrow = RequestContext {
            received_at: Wall {
                secs: request().received_at.secs + 86_400,
                ..Wall::default()
            },
            ..request()
        };
        assert_ne!(of(AddressRule::Hash, &tomorrow), Some(hashed));

        let listener = RequestContext {
            privacy: RequestPrivacy {
                addresses: Some(AddressRule::Drop),
                ..RequestPrivacy::default()
            },
            ..request()
        };
        let rules = Rules {
            listeners_differ: true,
            ..rule(AddressRule::Keep)
        };
        assert_eq!(ip(&rules, mode, &listener, "{}"), none);
        assert_eq!(
            ip(&rules, mode, &request(), "{}"),
            Some(json!("203.0.113.77"))
        );
    }
    // A client's own field is an address as well.
    for (sent, expected) in [
        (r#""198.51.100.7""#, json!("198.51.100.0")),
        (r#"["198.51.100.7","x"]"#, json!(["198.51.100.0", MASK])),
        (r#"{"v4":"198.51.100.7"}"#, json!(MASK)),
        ("3325256711", json!(MASK)),
    ] {
        let body = format!(r#"{{"\u0069p":{sent}}}"#);
        let found = ip(&rule(AddressRule::Truncate), Mode::Event, &request(), &body);
        assert_eq!(found, Some(expected), "{sent}");
        // Dropped, and the server's own is dropped too.
        let found = ip(&rule(AddressRule::Drop), Mode::Event, &request(), &body);
        assert_eq!(found, None, "{sent}");
    }
}

#[test]
fn rules_for_ip_and_ua_hold_for_the_servers_fields_too() {
    let request = RequestContext {
        user_agent: Some(b"Mozilla/5.0 \"x\" (secret)"),
        ..request()
    };
    let record = |rules: &Rules, mode| -> Value {
        let out = run(&plan(mode, rules), &request, "{}");
        serde_json::from_str(&records(&out)[0]).unwrap()
    };
    for mode in [Mode::Event, Mode::Envelope] {
        let cut = record(&fields(&[("ua", Action::Truncate(14))]), mode);
        assert_eq!(cut["ua"], "Mozilla/5.0 \"x");
        let gone = record(&fields(&[("ua", Action::Drop), ("ip", Action::Drop)]), mode);
        assert_eq!((&gone["ua"], &gone["ip"]), (&Value::Null, &Value::Null));
        assert_eq!(gone.get("ip").is_some(), mode == Mode::Envelope);
        let hashed = record(&fields(&[("ip", Action::Hash)]), mode);
        assert_eq!(hashed["ip"], hash("203.0.113.77"));
    }
}

#[test]
fn signals_are_fields_and_follow_their_policies() {
    let says = |gpc, dnt, sp_anonymous| RequestContext {
        user_agent: Some(b"agent"),
        privacy: RequestPrivacy {
            signals: Signals {
                gpc,
                dnt,
                sp_anonymous,
            },
            addresses: None,
        },
        ..request()
    };
    let value = |plan: &Plan, request: &RequestContext<'_>, body| -> Value {
        serde_json::from_str(&records(&run(plan, request, body))[0]).unwrap()
    };
    let plain = Plan::new(Mode::Event, PartitionRule::Random);
    let all = value(&plain, &says(true, Some(true), true), r#"{"dnt":"own"}"#);
    assert_eq!(
        (&all["gpc"], &all["dnt"], &all["sp_anonymous"]),
        (&json!(true), &json!(true), &json!(true))
    );
    let none = value(&plain, &says(false, Some(false), false), "{}");
    assert_eq!((none.get("gpc"), &none["dnt"]), (None, &json!(false)));

    let rules = Rules {
        strip: ["ip", "ua", "user"]
            .map(|path| path.parse().unwrap())
            .to_vec(),
        on_gpc: SignalPolicy::Strip,
        on_dnt: SignalPolicy::Drop,
        ..fields(&[("user.email", Action::Mask)])
    };
    let plan = plan(Mode::Event, &rules);
    let body = r#"{"user":{"email":"x","id":1},"page":"/"}"#;
    let stripped = value(&plan, &says(true, None, true), body);
    for gone in ["ip", "ua", "user"] {
        assert_eq!(stripped.get(gone), None, "{gone}");
    }
    assert_eq!(
        (&stripped["page"], &stripped["gpc"]),
        (&json!("/"), &json!(true))
    );
    let kept = value(&plan, &says(false, Some(false), true), body);
    assert_eq!(kept["user"], json!({"email": MASK, "id": 1}));
    assert_eq!(kept["ua"], "agent");

    let out = run(&plan, &says(true, Some(true), false), r#"[{},1,{"a":1}]"#);
    assert_eq!((out.received, &out.withheld[..]), (3, &[0, 2][..]));
    assert_eq!((out.records.len(), out.rejected.len()), (0, 1));
    assert_eq!(out.privacy.withheld[Withheld::Dnt as usize], 2);
    let envelope = Plan {
        mode: Mode::Envelope,
        ..plan
    };
    let out = run(&envelope, &says(false, Some(true), false), "x");
    assert_eq!((out.received, &out.withheld[..]), (1, &[0][..]));
}

#[test]
fn events_of_suppressed_ids_are_withheld_alone() {
    let rules = Rules {
        suppress: ["user.id", "device"]
            .map(|path| path.parse().unwrap())
            .to_vec(),
        ..fields(&[("user", Action::Mask)])
    };
    let plan = plan(Mode::Event, &rules);
    let body = r#"[{"user":{"id":"u1"}},{"user":{"id":"u2"}},{"device":["x",7]},{"user":{"i\u0064":"\u00751"}},{"user":[{"id":"u1"}]},{"device":""}]"#;
    assert_eq!(run(&plan, &request(), body).records.len(), 6);
    let list = format!("{}\n{}\n", hash("u1"), hash("7"));
    rules
        .list
        .set(SuppressList::parse(list.as_bytes(), &keys()).unwrap());
    let out = run(&plan, &request(), body);
    assert_eq!(out.withheld, [0, 2, 3, 4]);
    let kept: Vec<u32> = out.records.iter().map(|record| record.index).collect();
    assert_eq!(kept, [1, 5]);
    assert_eq!(out.privacy.withheld[Withheld::Suppressed as usize], 4);
}

#[test]
fn an_event_with_more_ids_than_are_looked_up_is_withheld() {
    let rules = Rules {
        suppress: vec!["a".parse().unwrap()],
        keys: keys(),
        ..Rules::default()
    };
    let plan = plan(Mode::Event, &rules);
    let list = SuppressList::parse(hash("u").as_bytes(), &keys()).unwrap();
    rules.list.set(list);
    // 6 bytes around the array, 2 for each id: (6 + 2 n) / 4 + 256 may be looked up.
    for (ids, withheld) in [(515, 0), (516, 1)] {
        let event = format!(r#"{{"a":[{}]}}"#, vec!["1"; ids].join(","));
        let out = run(&plan, &request(), &event);
        assert_eq!(out.withheld.len(), withheld, "{ids}");
    }
    // However many there are, ids in fields of their own are looked up.
    let fields = vec![r#"{"a":1}"#; 1_000].join("\n");
    assert_eq!(run(&plan, &request(), &fields).withheld.len(), 0);
}

#[test]
fn a_listener_that_keeps_addresses_changes_no_parameter() {
    let rules = Rules {
        addresses: AddressRule::Truncate,
        ..Rules::default()
    };
    let plan = plan(Mode::Envelope, &rules);
    let uri = |addresses, query: &'static str| {
        let uri = format!("/collect?{query}");
        let request = RequestContext {
            uri: &uri,
            path: "/collect",
            query: Some(query),
            privacy: RequestPrivacy {
                addresses,
                ..RequestPrivacy::default()
            },
            ..request()
        };
        let record: Value = serde_json::from_str(&records(&run(&plan, &request, ""))[0]).unwrap();
        record["uri"].as_str().unwrap().to_owned()
    };
    let query = "a=1&fakeIp=198.51.100.7%3A99,x";
    assert_eq!(
        uri(Some(AddressRule::Keep), query),
        format!("/collect?{query}")
    );
    assert_eq!(uri(None, query), "/collect?a=1");
    let two = "fakeIp=198.51.100.7,203.0.113.9";
    assert_eq!(uri(None, two), "/collect?fakeIp=198.51.100.0,+203.0.113.0");
}

#[test]
fn values_over_the_hashes_of_a_request_are_masked() {
    let rules = fields(&[("a", Action::Hash)]);
    let event = format!(r#"{{"a":[{}]}}"#, vec!["1"; HASHED_FREE + 44].join(","));
    let out = run(&plan(Mode::Event, &rules), &request(), &event);
    let record: Value = serde_json::from_str(&records(&out)[0]).unwrap();
    let values = record["a"].as_array().unwrap();
    assert!(
        values[..HASHED_FREE]
            .iter()
            .all(|value| *value == hash("1"))
    );
    assert!(values[HASHED_FREE..].iter().all(|value| value == MASK));
    assert_eq!((out.privacy.hashed, out.privacy.masked), (256, 44));
    // A longer body may have more.
    let events = vec![format!(r#"{{"a":"u","b":"{}"}}"#, "x".repeat(20)); 300].join("\n");
    let out = run(&plan(Mode::Event, &rules), &request(), &events);
    assert_eq!((out.privacy.hashed, out.privacy.masked), (300, 0));
}

#[test]
fn rules_that_contradict_or_lack_a_key_are_refused() {
    let refused = |rules: &Rules| Privacy::new(rules).map(|_| ()).unwrap_err().to_string();
    assert_eq!(
        refused(&fields(&[("a", Action::Drop), ("a.b", Action::Mask)])),
        "`a.b` lies in `a`, which has a rule of its own"
    );
    let twice = [("a", ParameterAction::Drop), ("a", ParameterAction::Mask)];
    assert_eq!(
        refused(&parameters(&twice)),
        "the parameter `a` has two rules"
    );
    for rules in [
        fields(&[("a", Action::Hash)]),
        parameters(&[("a", ParameterAction::Hash)]),
        Rules {
            addresses: AddressRule::Hash,
            ..Rules::default()
        },
        Rules {
            suppress: vec!["a".parse().unwrap()],
            ..Rules::default()
        },
    ] {
        let rules = Rules {
            keys: Vec::new(),
            ..rules
        };
        assert_eq!(Privacy::new(&rules).unwrap_err(), RulesError::NoKey);
    }
}

/// What an event becomes, by a walk over its value tree. `None` if the member goes.
fn expected(value: &Value, path: &[&str], rules: &[(&str, Action)]) -> Option<Value> {
    let here = path.join(".");
    let action = rules.iter().find(|(path, _)| *path == here);
    if let Some((_, action)) = action.filter(|_| !path.is_empty()) {
        if *action == Action::Drop {
            return None;
        }
        return Some(match value {
            Value::Array(values) if *action != Action::Mask => {
                let treated = values.iter().map(|value| expected(value, path, rules));
                treated.collect::<Option<_>>()?
            }
            value => leaf(value, *action),
        });
    }
    Some(match value {
        Value::Object(members) => {
            let mut left = Map::new();
            for (name, value) in members {
                let path = [path, &[name.as_str()]].concat();
                if let Some(value) = expected(value, &path, rules) {
                    left.insert(name.clone(), value);
                }
            }
            Value::Object(left)
        }
        Value::Array(values) => values
            .iter()
            .map(|value| expected(value, path, rules))
            .collect::<Option<_>>()?,
        other => other.clone(),
    })
}

fn leaf(value: &Value, action: Action) -> Value {
    match (action, value) {
        (_, Value::Null) => Value::Null,
        (Action::Truncate(chars), Value::String(text)) => {
            text.chars().take(chars as usize).collect::<String>().into()
        }
        (Action::Truncate(chars), Value::Number(number)) => {
            let text = number.to_string();
            match text.len() > chars as usize {
                true => text[..chars as usize].into(),
                false => value.clone(),
            }
        }
        (Action::Truncate(_), Value::Bool(_)) => value.clone(),
        (Action::Hash, Value::String(text)) if text.is_empty() => value.clone(),
        (Action::Hash, Value::String(text)) => hash(text).into(),
        (Action::Hash, Value::Number(number)) => hash(&number.to_string()).into(),
        (Action::Hash, Value::Bool(is)) => hash(&is.to_string()).into(),
        _ => MASK.into(),
    }
}

/// Writes a value with whitespace and escapes that `choices` decides on.
fn write_json(value: &Value, choices: &mut impl FnMut() -> u8, out: &mut String) {
    match value {
        Value::Object(members) => {
            out.push('{');
            for (at, (name, value)) in members.iter().enumerate() {
                if at != 0 {
                    out.push(',');
                }
                let spaces = [" ", "\t", "  ", "", "", "", "", ""];
                out.push_str(spaces[usize::from(choices() % 8)]);
                write_text(name, choices(), out);
                out.push(':');
                write_json(value, choices, out);
            }
            out.push('}');
        }
        Value::Array(values) => {
            out.push('[');
            for (at, value) in values.iter().enumerate() {
                if at != 0 {
                    out.push_str(" ,");
                }
                write_json(value, choices, out);
            }
            out.push(']');
        }
        Value::String(text) => write_text(text, choices(), out),
        other => write!(out, "{other}").unwrap(),
    }
}

fn write_text(text: &str, choice: u8, out: &mut String) {
    if !choice.is_multiple_of(4) {
        *out += &serde_json::to_string(text).unwrap();
        return;
    }
    out.push('"');
    for unit in text.encode_utf16() {
        write!(out, "\\u{unit:04x}").unwrap();
    }
    out.push('"');
}

const NAMES: [&str; 5] = ["a", "b", "é", "user", "long name of more"];

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-c\"\\\\é😀\n]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let members =
            prop::collection::vec((prop::sample::select(&NAMES[..]), inner.clone()), 0..5);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            members.prop_map(|members| {
                let members = members.into_iter();
                members
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect::<Map<_, _>>()
                    .into()
            }),
        ]
    })
}

proptest! {
    #[test]
    fn events_become_what_a_value_walk_makes_of_them(
        members in prop::collection::vec((prop::sample::select(&NAMES[..]), any_value()), 0..6),
        rules in prop::collection::vec((
            prop::collection::vec(prop::sample::select(&NAMES[..]), 1..4),
            prop::sample::select(&[Action::Drop, Action::Mask, Action::Hash, Action::Truncate(2)][..]),
        ), 0..6),
        seed in any::<u64>(),
    ) {
        let paths: Vec<(String, Action)> = rules.into_iter().map(|(path, action)| (path.join("."), action)).collect();
        let mut taken: Vec<(&str, Action)> = Vec::new();
        for (path, action) in &paths {
            let more = [&taken[..], &[(path.as_str(), *action)]].concat();
            if Privacy::new(&fields(&more)).is_ok() {
                taken = more;
            }
        }
        let members = members.into_iter().map(|(name, value)| (name.to_owned(), value));
        let event = Value::Object(members.collect());
        let mut random = fastrand::Rng::with_seed(seed);
        let mut text = String::new();
        write_json(&event, &mut || random.u8(..), &mut text);

        let left = treated(&fields(&taken), &text);
        let found: Value = serde_json::from_str(&left).unwrap();
        prop_assert_eq!(&found, &expected(&event, &[], &taken).unwrap(), "{} {:?}", text, taken);
        if found == event {
            prop_assert_eq!(left, text);
        }
    }

    #[test]
    fn any_bytes_become_records_that_are_json(
        mut bytes in prop::collection::vec(prop::sample::select(&b"{}[]\":,\\u0061ab\xc3\xa9 1e.tnk\n"[..]), 0..80),
        at in any::<prop::sample::Index>(),
    ) {
        let rules = Rules {
            addresses: AddressRule::Truncate,
            suppress: vec!["b".parse().unwrap()],
            ..fields(&[("a", Action::Drop), ("t", Action::Hash), ("u.a", Action::Truncate(1)), ("k", Action::Url)])
        };
        let plan = plan(Mode::Event, &rules);
        let event = br#"{"a":[1],"t":"x\u0061","u":[{"a":"\ud83d\ude00b"}],"\u006b":"/?a=1","b":{}}"#;
        // Pieces of an event with pieces of nonsense within.
        let cut = at.index(event.len());
        let mixed = [&event[..cut], &bytes, &event[cut..]].concat();
        bytes.extend_from_slice(event);
        for body in [&bytes, &mixed] {
            let mut out = Prepared::default();
            if plan.run(&request(), body.as_slice(), 1 << 20, &mut out).is_ok() {
                for record in &out.records {
                    prop_assert_eq!(sluice_core::json::scan::check(&record.payload), Ok(()));
                }
            }
        }
    }
}
