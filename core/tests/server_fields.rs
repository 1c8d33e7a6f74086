//! What the server writes into events, and what becomes of a client's fields of these names: against a list of members
//! that serde_json reads.

#![allow(
    clippy::unwrap_used,
    reason = "in tests a panic is the report, helpers included"
)]

mod support;

use proptest::prelude::*;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use sluice_core::partition::PartitionRule;
use sluice_core::plan::{Mode, Plan};
use sluice_core::prepared::Prepared;
use sluice_core::privacy::{
    Action, AddressRule, Privacy, RequestPrivacy, Rules, SignalPolicy, Signals,
};
use sluice_core::request::RequestContext;
use sluice_core::server_fields::{Clash, Clashes, ServerField, ServerFields};
use std::fmt;
use std::sync::Arc;

fn request() -> RequestContext<'static> {
    RequestContext {
        user_agent: Some(b"curl/8"),
        privacy: RequestPrivacy {
            signals: Signals {
                gpc: true,
                dnt: Some(false),
                sp_anonymous: false,
            },
            addresses: None,
        },
        ..support::request()
    }
}

/// The fields of the request above in their order, by their usual names; `sp_anonymous` is not said.
const WRITTEN: [(&str, &str); 7] = [
    ("ingest_time", "1719469185547"),
    ("rid", "\"0000000000000000000000000000002a\""),
    ("ip", "\"192.0.2.7\""),
    ("ua", "\"curl/8\""),
    ("gpc", "true"),
    ("dnt", "false"),
    ("index", "0"),
];

/// All of them, with a prefix.
fn fields(prefix: &str, clash: Clash) -> ServerFields {
    let name = |field: ServerField| Some(format!("{prefix}{}", field.usual_name()));
    ServerFields::new(name, clash).unwrap()
}

/// The address and the user agent alone, under other names.
fn renamed(clash: Clash) -> ServerFields {
    let name = |field| match field {
        ServerField::Address => Some("client_ip".to_owned()),
        ServerField::UserAgent => Some("agent".to_owned()),
        _ => None,
    };
    ServerFields::new(name, clash).unwrap()
}

fn plan(server_fields: ServerFields) -> Plan {
    Plan {
        server_fields: Arc::new(server_fields),
        ..Plan::new(Mode::Event, PartitionRule::Random)
    }
}

fn private(plan: Plan, rules: &Rules) -> Plan {
    Plan {
        privacy: Some(Arc::new(Privacy::new(rules).unwrap())),
        ..plan
    }
}

fn rules(fields: &[(&str, Action)], addresses: AddressRule) -> Rules {
    let fields = fields.iter();
    Rules {
        fields: fields
            .map(|(path, action)| (path.parse().unwrap(), *action))
            .collect(),
        addresses,
        address_fields: vec!["client_ip".to_owned()],
        ..Rules::default()
    }
}

fn run(plan: &Plan, body: &str) -> Prepared {
    let mut out = Prepared::default();
    plan.run(&request(), body, 1 << 20, &mut out).unwrap();
    out
}

fn record(plan: &Plan, body: &str) -> String {
    let out = run(plan, body);
    String::from_utf8(out.records[0].payload.to_vec()).unwrap()
}

/// The members of an object in their order, duplicates and all.
#[derive(Clone, Debug, PartialEq)]
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Members, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(All)
    }
}

fn members(json: &str) -> Vec<(String, Value)> {
    serde_json::from_str::<Members>(json).unwrap().0
}

/// What an event becomes, and which of its fields clash.
fn naive(sent: &str, index: usize, prefix: &str, clash: Clash) -> (Vec<(String, Value)>, Clashes) {
    let mut event = members(sent);
    let mut clashes = Clashes::default();
    let is_sent =
        |event: &[(String, Value)], name: &str| event.iter().any(|(sent, _)| sent == name);
    for field in ServerField::ALL {
        let name = format!("{prefix}{}", field.usual_name());
        clashes[field as usize] += u64::from(is_sent(&event, &name));
        if clash == Clash::Server {
            event.retain(|(sent, _)| *sent != name);
        }
    }
    for (name, value) in WRITTEN {
        let value = match name {
            "index" => Value::from(index),
            _ => serde_json::from_str(value).unwrap(),
        };
        let name = format!("{prefix}{name}");
        if !is_sent(&event, &name) {
            event.push((name, value));
        }
    }
    (event, clashes)
}

#[test]
fn a_client_cannot_forge_any_server_field() {
    let plan = plan(fields("", Clash::Server));
    for name in ServerField::ALL.map(ServerField::usual_name) {
        let escaped: String = name
            .chars()
            .map(|c| format!("\\u{:04x}", c as u32))
            .collect();
        let half = format!("\\u{:04X}{}", name.as_bytes()[0], &name[1..]);
        for key in [name, &escaped, &half] {
            for (body, left) in [
                (format!(r#"{{"{key}":"x","a":1}}"#), r#"{"a":1,"#),
                (
                    format!(r#"{{"a":1,"{key}" : {{"b":"}}"}} }}"#),
                    r#"{"a":1,"#,
                ),
                (format!(r#"{{"{name}":1,"a":1,"{key}":[2]}}"#), r#"{"a":1,"#),
                (format!(r#"{{"{key}":null}}"#), "{"),
            ] {
                let record = record(&plan, &body);
                let (expected, _) = naive("{}", 0, "", Clash::Server);
                let written = record.strip_prefix(left).unwrap();
                assert_eq!(members(&format!("{{{written}")), expected, "{body}");
            }
        }
    }
}

#[test]
fn without_a_clash_no_byte_of_an_event_changes() {
    let sent = r#"{ "a" : 1.0e0,"x":{"rid":1},"y":[{"ip":2}], "IP":"ua","ip ":0,"rid\u0000":0"#;
    for clash in [Clash::Server, Clash::Client] {
        let record = record(&plan(fields("", clash)), &format!("{sent}}}"));
        assert!(
            record.starts_with(&format!("{sent},\"ingest_time\"")),
            "{record}"
        );
    }
}

#[test]
fn a_clients_field_stays_where_the_client_wins() {
    let plan = plan(fields("", Clash::Client));
    for sent in [
        r#"{"ip":"mine""#,
        r#"{"\u0069p": {"x":[]},"other":1"#,
        r#"{"index":7,"sp_anonymous":0,"ua":null"#,
    ] {
        let record = record(&plan, &format!("{sent}}}"));
        assert!(record.starts_with(sent), "{record}");
        let (expected, _) = naive(&format!("{sent}}}"), 0, "", Clash::Client);
        assert_eq!(members(&record), expected);
    }
}

#[test]
fn each_event_has_its_own_index_in_the_body() {
    let fields = |field| (field == ServerField::Index).then(|| "n".to_owned());
    let plan = plan(ServerFields::new(fields, Clash::Server).unwrap());
    let out = run(&plan, r#"[{},{"a":1},7,{"n":0}]"#);
    let records: Vec<_> = out
        .records
        .iter()
        .map(|record| &record.payload[..])
        .collect();
    assert_eq!(
        records,
        [&br#"{"n":0}"#[..], br#"{"a":1,"n":1}"#, br#"{"n":3}"#]
    );
}

#[test]
fn keys_and_topics_never_come_from_a_forged_field() {
    let body = r#"[{"ip":"::2","a":1},{}]"#;
    for (clash, expected) in [(Clash::Server, None), (Clash::Client, Some(&b"::2"[..]))] {
        let plan = Plan {
            partition: PartitionRule::Field("ip".into()),
            ..plan(fields("", clash))
        };
        let out = run(&plan, body);
        assert_eq!(out.records[0].key.as_deref(), expected);
        assert_eq!(
            out.records[1].key, None,
            "only what a client sent makes a key"
        );
    }
}

#[test]
fn privacy_rules_for_ip_and_ua_hold_under_other_names() {
    let treated = |fields: &[(&str, Action)], addresses, event: &str| {
        let rules = rules(fields, addresses);
        record(&private(plan(renamed(Clash::Server)), &rules), event)
    };
    let keep = AddressRule::Keep;
    for (record, expected) in [
        (
            treated(&[], AddressRule::Truncate, "{}"),
            r#"{"client_ip":"192.0.2.0","agent":"curl/8"}"#,
        ),
        (
            treated(&[], AddressRule::Drop, "{}"),
            r#"{"agent":"curl/8"}"#,
        ),
        (
            treated(&[("ip", Action::Drop)], keep, "{}"),
            r#"{"agent":"curl/8"}"#,
        ),
        (
            treated(&[("client_ip", Action::Drop)], keep, "{}"),
            r#"{"agent":"curl/8"}"#,
        ),
        (
            treated(&[("ip", Action::Mask)], AddressRule::Truncate, "{}"),
            r#"{"client_ip":"***","agent":"curl/8"}"#,
        ),
        (
            treated(
                &[("ua", Action::Truncate(2)), ("ip", Action::Truncate(5))],
                keep,
                "{}",
            ),
            r#"{"client_ip":"192.0","agent":"cu"}"#,
        ),
        (
            treated(
                &[("ua", Action::Truncate(4)), ("agent", Action::Mask)],
                keep,
                "{}",
            ),
            r#"{"client_ip":"192.0.2.7","agent":"***"}"#,
        ),
        // What the client wrote there goes before privacy sees it, and `ip` is any client's field.
        (
            treated(
                &[],
                AddressRule::Truncate,
                r#"{"client_ip":"203.0.113.9","ip":"203.0.113.9"}"#,
            ),
            r#"{"ip":"203.0.113.0","client_ip":"192.0.2.0","agent":"curl/8"}"#,
        ),
    ] {
        assert_eq!(record, expected);
    }
    let rules = Rules {
        strip: vec!["ip".parse().unwrap(), "ua".parse().unwrap()],
        on_gpc: SignalPolicy::Strip,
        ..Rules::default()
    };
    let stripped = record(&private(plan(renamed(Clash::Server)), &rules), r#"{"a":1}"#);
    assert_eq!(stripped, r#"{"a":1}"#);
}

#[test]
fn a_clients_own_address_field_is_treated_as_an_address() {
    for (addresses, expected) in [
        (
            AddressRule::Truncate,
            r#"{"client_ip":"203.0.113.0","ip":"198.51.100.0","agent":"curl/8"}"#,
        ),
        (AddressRule::Drop, r#"{"agent":"curl/8"}"#),
    ] {
        let plan = private(plan(renamed(Clash::Client)), &rules(&[], addresses));
        let sent = r#"{"client_ip":"203.0.113.9","ip":"198.51.100.9"}"#;
        assert_eq!(record(&plan, sent), expected);
        let alone = record(&plan, r#"{"client_ip":"203.0.113.9"}"#);
        assert!(!alone.contains("203.0.113.9"), "{alone}");
    }
}

/// The text of an object, with names of the server's in several spellings, some of them twice.
fn event() -> impl Strategy<Value = String> {
    let value = prop::sample::select(vec![
        "1",
        "-0.5",
        "null",
        "\"x\\\"}\"",
        "[1,{\"ip\":2}]",
        "{\"rid\":{}}",
        "{ }",
        "true",
    ]);
    let name = prop::sample::select(vec![
        "a",
        "b",
        "",
        "ip",
        "\\u0069p",
        "i\\u0070",
        "IP",
        "rid",
        "ua",
        "u\\u0061",
        "gpc",
        "dnt",
        "index",
        "sp_anonymous",
        "ingest_time",
        "ingest\\u005ftime",
        "s_ip",
        "s\\u005frid",
        "s_index",
        "s_gpc",
        "key",
    ]);
    let space = prop::sample::select(vec!["", " ", "\t "]);
    let member = (name, space.clone(), value, space).prop_map(|(name, before, value, after)| {
        format!("{before}\"{name}\"{after}:{before}{value}{after}")
    });
    prop::collection::vec(member, 0..8).prop_map(|members| format!("{{{}}}", members.join(",")))
}

proptest! {
    #[test]
    fn events_become_what_a_list_of_members_becomes(
        events in prop::collection::vec(event(), 1..5),
        is_prefixed in any::<bool>(),
        client_wins in any::<bool>(),
        is_private in any::<bool>(),
    ) {
        let prefix = if is_prefixed { "s_" } else { "" };
        let clash = if client_wins { Clash::Client } else { Clash::Server };
        let mut plan = Plan {
            partition: PartitionRule::Field("key".into()),
            ..plan(fields(prefix, clash))
        };
        if is_private {
            // Walks every event, and finds nothing to do.
            plan = private(plan, &rules(&[("none.such", Action::Mask)], AddressRule::Keep));
        }
        let out = run(&plan, &format!("[{}]", events.join(",")));
        prop_assert_eq!(out.records.len(), events.len());
        let mut all = Clashes::default();
        for (index, (sent, record)) in events.iter().zip(&out.records).enumerate() {
            let (expected, clashes) = naive(sent, index, prefix, clash);
            let found = members(std::str::from_utf8(&record.payload).unwrap());
            prop_assert_eq!(&found, &expected, "{}", sent);
            for (all, one) in all.iter_mut().zip(clashes) {
                *all += one;
            }
            let key = expected.iter().rfind(|(name, _)| name == "key").map(|(_, value)| value);
            let text = match key {
                Some(Value::String(text)) => Some(text.clone()),
                Some(Value::Number(number)) => Some(number.to_string()),
                _ => None,
            };
            prop_assert_eq!(record.key.as_deref(), text.as_deref().map(str::as_bytes));
        }
        prop_assert_eq!(out.clashes, all);
    }
}
