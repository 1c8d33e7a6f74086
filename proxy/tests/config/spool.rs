//! Settings of `[outputs.<name>.spool]`.

use super::*;
use sluice_sinks::spool::SpoolSettings;

const SPOOLED: &str = "[outputs.main]\ntype = 'null'\n[outputs.main.spool]\ndir = '/var/spool/a'\n";

fn spool(config: &Config) -> SpoolSettings {
    config.outputs[0].spool.clone().unwrap()
}

#[test]
fn without_a_directory_there_is_no_spool() {
    let config = load("[outputs.main]\ntype = 'null'\n").unwrap();
    assert_eq!(config.outputs[0].spool, None);
    assert!(!config.to_toml().contains("spool"));
    for key in [
        "bytes_max = 1000000",
        "after_ms = 500",
        "fsync = false",
        "replay_percent = 10",
        "replay_records_per_s = 100",
    ] {
        let shown = problem(&format!(
            "[outputs.main]\ntype = 'null'\n[outputs.main.spool]\n{key}\n"
        ));
        assert!(shown.contains("outputs.main.spool.dir"), "{shown}");
    }
}

#[test]
fn a_spool_has_its_defaults_and_prints_them() {
    let config = load(SPOOLED).unwrap();
    let read = spool(&config);
    assert_eq!(read.dir, Some("/var/spool/a".into()));
    assert_eq!((read.bytes_max, read.fsync), (4 << 30, true));
    assert_eq!(read.after, Duration::from_secs(1));
    assert_eq!(
        (read.replay_percent, read.replay_records_per_s),
        (Some(25), None)
    );
    let printed = config.to_toml();
    assert!(
        printed.contains("[outputs.main.spool]\ndir = "),
        "{printed}"
    );
    assert_eq!(load(&printed).unwrap(), config);
}

#[test]
fn variables_reach_the_spool_of_an_output() {
    let variables = [
        ("SLUICE_OUTPUTS__A__B__TYPE", "null"),
        ("SLUICE_OUTPUTS__A__B__SPOOL__DIR", "/var/spool/b"),
        ("SLUICE_OUTPUTS__A__B__SPOOL__AFTER_MS", "700"),
    ];
    let config = load_all("", &variables, &Flags::default()).unwrap();
    assert_eq!(names(&config.outputs), ["a__b"]);
    assert_eq!(spool(&config).after, Duration::from_millis(700));
}

#[test]
fn a_spool_waits_less_than_the_client() {
    let shown = problem(&format!("{SPOOLED}after_ms = 4000\n"));
    for part in ["outputs.main.spool.after_ms", "4000 ms", "ack.deadline_ms"] {
        assert!(shown.contains(part), "{shown}");
    }
    assert!(load(&format!("{SPOOLED}after_ms = 3999\n")).is_ok());
}

#[test]
fn durable_needs_a_disk() {
    let durable = |text: &str| text.replace("'null'\n", "'null'\nack = 'durable'\n");
    let config = load(&durable(SPOOLED)).unwrap();
    assert_eq!(config.outputs[0].timing.ack, AckMode::Durable);
    let shown = problem(&durable("[outputs.main]\ntype = 'null'\n"));
    assert!(shown.contains("those with a spool"), "{shown}");
}

#[test]
fn contradicting_spools_are_refused() {
    for (text, expected) in [
        (
            format!("{SPOOLED}[outputs.other]\ntype = 'file'\ndir = '/var/spool/a'\n"),
            "outputs.other.dir",
        ),
        (
            format!(
                "{SPOOLED}[outputs.other]\ntype = 'null'\n[outputs.other.spool]\ndir = '/var/spool/a'\n"
            ),
            "outputs.other.spool.dir",
        ),
        (
            SPOOLED.replace("type = 'null'", "type = 's3'\nbucket = 'clicks'"),
            "`staging_dir` keeps these records already",
        ),
        (format!("{SPOOLED}bytes_max = 1\n"), "65536 to"),
        (format!("{SPOOLED}after_ms = 9\n"), "10 to 60000"),
    ] {
        let shown = problem(&text);
        assert!(shown.contains(expected), "{shown}");
    }
}

#[test]
fn an_unknown_key_of_a_spool_names_its_neighbours() {
    let error = load(&format!("{SPOOLED}byte_max = 1\n")).unwrap_err();
    let shown = error.to_string();
    assert!(
        shown.contains("key `byte_max` in [outputs.main.spool], did you mean `bytes_max`"),
        "{shown}"
    );
}
