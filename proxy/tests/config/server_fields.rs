//! What Sluice writes into events: names that contradict each other, and policies.

use super::{load, problem};

fn fields(settings: &str) -> String {
    format!("[server_fields]\n{settings}")
}

#[test]
fn names_of_server_fields_are_bounded_and_different() {
    let long = format!("address = '{}'\n", "a".repeat(65));
    for (settings, expected) in [
        (
            "address = 'a.b'\n",
            "expected 1 to 64 of A-Z, a-z, 0-9, _, -, $, @ and :",
        ),
        (&*long, "expected 1 to 64 of"),
        (
            "address = 'rid'\n",
            "`server_fields`: two fields are called `rid`",
        ),
        (
            "index = 'sample_rate'\n",
            "`sample_rate` is the name of the field that samples write",
        ),
        ("prefix = 's_'\n", "`server_fields.prefix`"),
        (
            "address = 'sluice_addressed_to_nobody_but_the_reader_of_this_very_text'\nclash = 'prefix'\n",
            "has 66 bytes: a name has 1 to 64 of",
        ),
    ] {
        let found = problem(&fields(settings));
        assert!(found.contains(expected), "{settings}: {found}");
    }
}

#[test]
fn the_pixel_follows_the_policy_of_events() {
    let config = load(&fields("clash = 'client'\n")).unwrap();
    assert_eq!(config.server_fields.pixel_clash, config.server_fields.clash);
    let printed = config.to_string();
    assert!(printed.contains("index = \"off\"\n"), "{printed}");
    assert_eq!(load(&printed).unwrap(), config);
}
