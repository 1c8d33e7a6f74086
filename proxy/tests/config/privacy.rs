//! What must not be stored: rules that contradict each other, and secrets that are not shown.

use super::{load, problem, problems, variable};
use sluice_core::privacy::AddressRule;
use sluice_proxy::privacy::Addresses;

const KEY: &str = "hash_keys = ['k2:a key of enough bytes', 'k1:another key of bytes']\n";
const CLOSED: &str = "[paths]\ncollect = 'off'\n";

fn privacy(settings: &str) -> String {
    format!("{CLOSED}[privacy]\n{settings}")
}

#[test]
fn keys_of_hashes_are_printed_masked() {
    let config = load(&privacy(&format!("{KEY}hash = ['user.email', 'a\\.b']\n"))).unwrap();
    let printed = config.to_string();
    assert!(
        printed.contains(r#"hash_keys = ["k2:***", "k1:***"]"#),
        "{printed}"
    );
    assert!(
        printed.contains(r#"hash = ["user.email", 'a\.b']"#),
        "{printed}"
    );
    assert!(!format!("{config:?}{printed}").contains("enough bytes"));
    let again = problems(&printed);
    let said =
        "`privacy.hash_keys`: the key `k2` is the mask that is printed in the place of a key";
    assert_eq!(again[0].to_string(), said);
    let short = problem(&privacy("hash_keys = ['k1:secret']\n"));
    assert!(short.contains("`k1` has 6 bytes: 16 to 1024"), "{short}");
    assert!(!short.contains("secret"), "{short}");
    let config = variable("SLUICE_PRIVACY__HASH_KEYS", "k1:a key of enough bytes").unwrap();
    assert!(config.to_string().contains("k1:***"));
    let twice = KEY.replace("k2", "k1");
    assert_eq!(
        problem(&privacy(&twice)),
        "`privacy.hash_keys`: there are two keys `k1`"
    );
}

#[test]
fn rules_for_fields_and_the_envelope_endpoint_exclude_each_other() {
    for (settings, key) in [
        ("drop = ['a']\n", "drop"),
        ("mask = ['a']\n", "mask"),
        ("truncate = ['a=3']\n", "truncate"),
        (&*format!("{KEY}hash = ['a']\n"), "hash"),
        (
            "url_fields = ['a']\ndrop_parameters = ['t']\n",
            "url_fields",
        ),
        ("gpc = 'strip'\nstrip = ['ip', 'a']\n", "strip"),
        (
            &*format!("{KEY}suppress_fields = ['a']\nsuppress_file = 'x'\n"),
            "suppress_fields",
        ),
    ] {
        let text = format!("[privacy]\n{settings}");
        let said = problem(&text);
        let expected = format!("`privacy.{key}` is 1 fields, but must be empty");
        assert!(
            said.starts_with(&expected) && said.contains("`paths.collect`, which is /collect"),
            "{said}"
        );
        load(&format!("{text}collect_unread = true\n")).unwrap();
        load(&privacy(settings)).unwrap();
    }
    // These hold there as well.
    for settings in [
        "addresses = 'truncate'\n",
        "drop_parameters = ['t']\n",
        "dnt = 'drop'\n",
        "gpc = 'strip'\n",
    ] {
        load(&format!("[privacy]\n{settings}")).unwrap();
    }
}

#[test]
fn rules_that_cannot_both_hold_are_refused() {
    for (settings, said) in [
        (
            "drop = ['user']\nmask = ['user.email']\n",
            "`privacy`: `user.email` lies in `user`, which has a rule of its own",
        ),
        (
            "drop_parameters = ['t']\nmask_parameters = ['t']\n",
            "`privacy`: the parameter `t` has two rules",
        ),
        (
            "hash = ['a']\n",
            "`privacy.hash_keys` is missing: something has to be hashed",
        ),
        (
            "addresses = 'hash'\n",
            "`privacy.hash_keys` is missing: something has to be hashed",
        ),
        (
            "suppress_file = 'x'\n",
            "`privacy.suppress_fields` is missing: `suppress_file` lists their ids",
        ),
        (
            "url_fields = ['a']\n",
            "`privacy.drop_parameters` is missing: `url_fields` name URLs, and no parameter of them has a rule",
        ),
        (
            "mask = ['cards[].number']\n",
            "`privacy.mask`: `cards[].number`: arrays need no brackets, `items.price` reaches into every element; a bracket in a name is written `\\[`",
        ),
    ] {
        assert_eq!(problem(&privacy(settings)), said);
    }
    let said = problem("[listeners.a]\naddress = '127.0.0.1:81'\naddresses = 'hash'\n");
    assert_eq!(
        said,
        "`privacy.hash_keys` is missing: `addresses` of a listener is hash"
    );
}

#[test]
fn lists_over_their_bounds_are_refused_with_both_numbers() {
    for (key, unit) in [
        ("drop", "fields"),
        ("url_fields", "fields"),
        ("suppress_fields", "fields"),
        ("mask_parameters", "parameters"),
    ] {
        let names: Vec<String> = (0..257).map(|at| format!("'n{at}'")).collect();
        let said = problems(&privacy(&format!("{key} = [{}]\n", names.join(","))));
        let expected = format!("`privacy.{key}` is 257 {unit}, allowed is 0 to 256 {unit}");
        assert_eq!(said[0].to_string(), expected);
    }
}

#[test]
fn addresses_are_those_of_the_listener_then_of_the_endpoint() {
    let config = load(
        "[privacy]\naddresses = 'truncate'\nevents_addresses = 'none'\n\
         [listeners.a]\naddress = '127.0.0.1:81'\naddresses = 'keep'\n",
    )
    .unwrap();
    let own = &config.privacy;
    assert_eq!(
        (own.collect_addresses, own.events_addresses),
        (Addresses::Truncate, Addresses::Nothing)
    );
    let listeners: Vec<_> = config.listeners.iter().map(|one| one.addresses).collect();
    assert_eq!(listeners, [None, Some(AddressRule::Keep)]);
    // A log line belongs to no endpoint: it shows no more than the strictest rule allows.
    let logged = config.listeners.iter().map(|one| one.logged_addresses);
    assert!(logged.eq([AddressRule::Drop; 2]));
    assert_eq!(
        load("").unwrap().listeners[0].logged_addresses,
        AddressRule::Keep
    );
}
