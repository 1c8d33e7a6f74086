//! Outputs that stand in for each other, and outputs that share records.

use super::*;
use sluice_core::ack::OutputId;
use sluice_core::intake::Spread;
use sluice_proxy::config::groups::is_default;

/// Outputs of type `null`, each with these keys.
fn nulls(outputs: &[(&str, &str)]) -> String {
    let section =
        |(name, keys): &(&str, &str)| format!("[outputs.{name}]\ntype = 'null'\n{keys}\n");
    outputs.iter().map(section).collect()
}

fn defaults(config: &Config) -> Vec<&str> {
    let outputs = config.outputs.iter();
    let defaults = outputs.filter(|output| is_default(output, &config.outputs, &config.groups));
    defaults.map(|output| &*output.name).collect()
}

#[test]
fn an_output_that_is_only_a_fallback_is_no_default() {
    let config = load(&nulls(&[
        ("a", "fallback = 'b'"),
        ("b", ""),
        ("c", "fallback = 'b'"),
    ]));
    let config = config.unwrap();
    assert_eq!(defaults(&config), ["a", "c"]);
    assert_eq!(shown(&config, "a", "fallback"), Some("b".into()));
    assert_eq!(shown(&config, "b", "fallback"), None);
    assert_eq!(load(&config.to_toml()).unwrap(), config);
}

#[test]
fn a_circuit_with_a_fallback_opens_sooner() {
    let config = load(&nulls(&[("a", "fallback = 'b'"), ("b", "")])).unwrap();
    let after = |name| shown(&config, name, "circuit_open_after_ms").unwrap();
    assert_eq!((after("a"), after("b")), (1_000.into(), 4_000.into()));
    let shown = problem(&nulls(&[
        ("a", "fallback = 'b'\ncircuit_open_after_ms = 'off'"),
        ("b", ""),
    ]));
    for part in [
        "outputs.a.fallback",
        "outputs.a.circuit_open_after_ms",
        "off",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
}

#[test]
fn fallbacks_that_lead_in_a_circle_are_refused_with_their_names() {
    let two = nulls(&[("a", "fallback = 'b'"), ("b", "fallback = 'a'")]);
    let three = nulls(&[
        ("a", "fallback = 'b'"),
        ("b", "fallback = 'c'"),
        ("c", "fallback = 'a'"),
    ]);
    for (text, last) in [(two, "outputs.b.fallback"), (three, "outputs.c.fallback")] {
        let problems = problems(&text);
        let shown = problems[0].to_string();
        for part in ["outputs.a.fallback", last, "is a"] {
            assert!(shown.contains(part), "{shown}");
        }
    }
    let shown = problem(&nulls(&[("a", "fallback = 'a'")]));
    assert!(shown.contains("outputs.a.fallback"), "{shown}");
    // A circle that others lead to is reported by those in it.
    let shown = problems(&nulls(&[
        ("a", "fallback = 'b'"),
        ("b", "fallback = 'c'"),
        ("c", "fallback = 'b'"),
    ]));
    assert_eq!(shown.len(), 2, "{shown:?}");
    // A chain has an end.
    load(&nulls(&[
        ("a", "fallback = 'b'"),
        ("b", "fallback = 'c'"),
        ("c", ""),
    ]))
    .unwrap();
}

#[test]
fn a_fallback_is_another_output_that_is_there() {
    for name in ["nobody", "g"] {
        let text = nulls(&[("a", &format!("fallback = '{name}'")), ("b", "")]);
        let shown = problem(&format!(
            "{text}[outputs.g]\ntype = 'group'\nof = ['a', 'b']\n"
        ));
        for part in ["outputs.a.fallback", name, "the name of an output"] {
            assert!(shown.contains(part), "{shown}");
        }
    }
    let shown = problem(&nulls(&[("a", "fallback = 'B?'")]));
    assert!(shown.contains("outputs.a.fallback"), "{shown}");
}

#[test]
fn a_group_takes_the_place_of_its_members() {
    let members = nulls(&[("a", ""), ("b", ""), ("z", "")]);
    let text =
        format!("{members}[outputs.clicks]\ntype = 'group'\nof = ['b', 'a']\nspread = 'hash'\n");
    let config = load(&text).unwrap();
    assert_eq!(names(&config.outputs), ["a", "b", "z"]);
    assert_eq!(defaults(&config), ["z"]);
    let rule = config.groups[0].rule(&config.outputs);
    let members: Vec<OutputId> = rule.members.iter().map(|(id, _)| *id).collect();
    assert_eq!(members, [OutputId(1), OutputId(0)]);
    assert_eq!((rule.spread, rule.is_default), (Spread::Hash, true));
    let printed = config.to_toml();
    assert!(
        printed.contains("[outputs.clicks]\ntype = \"group\"\nof = "),
        "{printed}"
    );
    assert_eq!(load(&printed).unwrap(), config);
}

#[test]
fn a_group_spreads_by_load_unless_it_says_otherwise() {
    let members = nulls(&[("a", ""), ("b", "")]);
    let text = format!("{members}[outputs.g]\ntype = 'group'\nof = 'a, b'\n");
    let config = load(&text).unwrap();
    assert_eq!(
        config.groups[0].rule(&config.outputs).spread,
        Spread::LeastLoaded
    );
    assert!(config.groups[0].covers("a") && !config.groups[0].covers("g"));
}

#[test]
fn wrong_members_of_a_group_are_refused() {
    let members = nulls(&[("a", ""), ("b", ""), ("c", "")]);
    for (of, part) in [
        ("['a', 'x']", "the name of an output"),
        ("['a', 'g']", "the name of an output"),
        ("['a', 'b', 'a']", "each output once"),
        ("['a']", "1 outputs, allowed is 2 to 63"),
        ("[]", "a group needs the outputs"),
    ] {
        let shown = problem(&format!(
            "{members}[outputs.g]\ntype = 'group'\nof = {of}\n"
        ));
        assert!(
            shown.contains("outputs.g.of") && shown.contains(part),
            "{shown}"
        );
    }
    let many: Vec<String> = (0..64).map(|at| format!("'o{at}'")).collect();
    let shown = problem(&format!(
        "{members}[outputs.g]\ntype = 'group'\nof = [{}]\n",
        many.join(", ")
    ));
    assert!(
        shown.contains("is 64 outputs, allowed is 0 to 63"),
        "{shown}"
    );
    let twice = "[outputs.g]\ntype = 'group'\nof = ['a', 'b']\n[outputs.h]\ntype = 'group'\nof = ['b', 'c']\n";
    let shown = problem(&format!("{members}{twice}"));
    for part in ["outputs.g.of", "outputs.h.of", "is b"] {
        assert!(shown.contains(part), "{shown}");
    }
}

#[test]
fn a_group_has_no_settings_of_an_output_nor_a_spool() {
    let members = nulls(&[("a", ""), ("b", "")]);
    for (keys, part) in [
        ("linger_ms = 5\n", "outputs.g.linger_ms"),
        ("fallback = 'a'\n", "outputs.g.fallback"),
        (
            "[outputs.g.spool]\ndir = '/var/spool/g'\n",
            "outputs.g.spool.dir",
        ),
    ] {
        let shown = problem(&format!(
            "{members}[outputs.g]\ntype = 'group'\nof = ['a', 'b']\n{keys}"
        ));
        assert!(shown.contains(part) && shown.contains("group"), "{shown}");
    }
    let shown = problem(&nulls(&[("a", "spread = 'hash'")]));
    assert!(shown.contains("outputs.a.spread"), "{shown}");
}

#[test]
fn outputs_and_groups_together_keep_to_the_limit() {
    let names: Vec<String> = (0..OUTPUTS_MAX - 1).map(|at| format!("o{at}")).collect();
    let outputs: Vec<_> = names.iter().map(|name| (&**name, "")).collect();
    let group = "[outputs.g]\ntype = 'group'\nof = ['o0', 'o1']\n";
    load(&format!("{}{group}", nulls(&outputs))).unwrap();
    let shown = problem(&format!(
        "{}{group}[outputs.one]\ntype = 'null'\n",
        nulls(&outputs)
    ));
    assert!(shown.contains("65 outputs"), "{shown}");
}
