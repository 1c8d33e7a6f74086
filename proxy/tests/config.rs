//! The configuration as an operator meets it: precedence, refusals with their words, bounds, and the
//! printed form that loads again.

// Helpers of tests stand outside of test functions here; they may panic like those.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "config/bounds.rs"]
mod bounds;
#[path = "config/dead_letters.rs"]
mod dead_letters;
#[path = "config/firehose.rs"]
mod firehose;
#[path = "config/front.rs"]
mod front;
#[path = "config/groups.rs"]
mod groups;
#[path = "config/http.rs"]
mod http;
#[path = "config/kafka.rs"]
mod kafka;
#[path = "config/kinesis.rs"]
mod kinesis;
#[path = "config/listeners.rs"]
mod listeners;
#[path = "config/names.rs"]
mod names;
#[path = "config/priorities.rs"]
mod priorities;
#[path = "config/privacy.rs"]
mod privacy;
#[path = "config/reference.rs"]
mod reference;
#[path = "config/routes.rs"]
mod routes;
#[path = "config/s3.rs"]
mod s3;
#[path = "config/schemas.rs"]
mod schemas;
#[path = "config/server_fields.rs"]
mod server_fields;
#[path = "config/spool.rs"]
mod spool;
#[path = "config/sqs.rs"]
mod sqs;

use proptest::prelude::*;
use sluice_core::partition::PartitionRule;
use sluice_proxy::config::{Config, ConfigError, FILE_BYTES_MAX, Flags, OUTPUTS_MAX, Problem};
use sluice_proxy::host_info::HostInfo;
use sluice_proxy::runtime::driver::Driver;
use sluice_proxy::scheduling::Scheduling;
use sluice_proxy::worker::Pinning;
use sluice_sinks::TYPES;
use sluice_sinks::output::{AckMode, Output};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MACHINE: HostInfo = HostInfo {
    cores: 4,
    memory_bytes: 4 << 30,
};

fn load_all(text: &str, variables: &[(&str, &str)], flags: &Flags) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sluice.toml");
    fs::write(&file, text).unwrap();
    let variables = variables
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Config::load(Some(&file), variables, flags, MACHINE)
}

fn load(text: &str) -> Result<Config, ConfigError> {
    load_all(text, &[], &Flags::default())
}

fn variable(name: &str, value: &str) -> Result<Config, ConfigError> {
    load_all("", &[(name, value)], &Flags::default())
}

fn problems(text: &str) -> Vec<Problem> {
    match load(text) {
        Err(ConfigError::Invalid(problems)) => problems,
        other => panic!("expected problems, got {other:?}"),
    }
}

/// The one message of the one problem.
fn problem(text: &str) -> String {
    let problems = problems(text);
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems[0].to_string()
}

/// A value of an output as it is printed; `None` where none is in force.
fn shown(config: &Config, output: &str, key: &str) -> Option<toml::Value> {
    let printed: toml::Table = config.to_toml().parse().unwrap();
    printed["outputs"][output].get(key).cloned()
}

/// A value of the output `main`, which has it.
fn main_output(config: &Config, key: &str) -> toml::Value {
    shown(config, "main", key).unwrap_or_else(|| panic!("no {key} in {config}"))
}

const KINESIS: &str = "[outputs.main]\ntype = 'kinesis'\nstream = 'clicks'\n";
const KAFKA: &str = "[outputs.main]\ntype = 'kafka'\nbrokers = 'b-1:9092, b-2'\ntopic = 'clicks'\n";

#[test]
fn without_a_file_it_listens_on_loopback_and_writes_files() {
    let config = Config::load(None, [], &Flags::default(), MACHINE).unwrap();
    assert_eq!(config.listen.address.to_string(), "127.0.0.1:8088");
    assert_eq!(config.listen.workers, 4);
    assert_eq!(config.listen.driver, Driver::Auto);
    assert_eq!(config.limits.connections_per_source_max, 512);
    assert_eq!(config.limits.body_bytes_max, 1_048_576);
    assert_eq!(config.ingest.in_flight_bytes_max, 1 << 30);
    assert_eq!(config.ack.deadline, Duration::from_secs(4));
    assert_eq!(config.admin.address.unwrap().to_string(), "127.0.0.1:9090");
    assert_eq!(config.process.scheduling, Scheduling::Batch);
    let [output] = &config.outputs[..] else {
        panic!("{:?}", config.outputs)
    };
    assert_eq!(output.name, "files");
    assert_eq!(
        (output.type_name, output.timing.ack),
        ("file", AckMode::Delivered)
    );
    assert_eq!(output.timing.linger, Duration::ZERO);
    assert_eq!(output.delivery.in_flight_max, 1);
    let shown = |key: &str| shown(&config, "files", key).unwrap();
    assert_eq!(shown("batch_records_max"), 10_000.into());
    assert_eq!(shown("dir"), "./sluice-data".into());
}

#[test]
fn a_configured_output_replaces_the_default_one() {
    let config = load(KINESIS).unwrap();
    assert_eq!(names(&config.outputs), ["main"]);
    for (key, value) in [
        ("batch_records_max", 500),
        ("batch_bytes_max", 5 << 20),
        ("linger_ms", 5),
        // Three quarters of what linger leaves of the ack deadline, being less than 3 s.
        ("attempt_timeout_ms", 2_996),
    ] {
        assert_eq!(main_output(&config, key), value.into(), "{key}");
    }
    assert_eq!(shown(&config, "main", "region"), None);
}

#[test]
fn in_flight_bytes_default_to_a_quarter_of_memory() {
    for (memory_bytes, expected) in [
        (1 << 30, 256 << 20),
        (100 << 20, 64 << 20),
        (32 << 20, 32 << 20),
    ] {
        let machine = HostInfo {
            memory_bytes,
            ..MACHINE
        };
        let config = Config::load(None, [], &Flags::default(), machine).unwrap();
        assert_eq!(config.ingest.in_flight_bytes_max, expected);
    }
}

#[test]
fn in_flight_bytes_make_room_for_large_bodies() {
    let machine = HostInfo {
        memory_bytes: 600 << 20,
        ..MACHINE
    };
    let variables = [
        ("SLUICE_OUTPUTS__MAIN__TYPE", "null"),
        ("SLUICE_LIMITS__BODY_BYTES_MAX", "67108864"),
    ]
    .map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let config = Config::load(None, variables, &Flags::default(), machine).unwrap();
    assert_eq!(config.ingest.in_flight_bytes_max, 512 << 20);
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let text = "[listen]\naddress = '127.0.0.1:1'\nworkers = 1\ndriver = 'uring'\n";
    let variables = [
        ("SLUICE_LISTEN__ADDRESS", "127.0.0.1:2"),
        ("SLUICE_LISTEN__WORKERS", "2"),
    ];
    let flags = Flags {
        listen: Some("127.0.0.1:3".parse().unwrap()),
        ..Flags::default()
    };
    let config = load_all(text, &variables, &flags).unwrap();
    assert_eq!(config.listen.address.port(), 3);
    assert_eq!(config.listen.workers, 2);
    assert_eq!(config.listen.driver, Driver::Uring);
    assert_eq!(config.listen.pin, Pinning::Auto);

    let flags = Flags {
        driver: Some(Driver::Epoll),
        workers: Some(3),
        ..Flags::default()
    };
    let config = load_all(text, &variables, &flags).unwrap();
    assert_eq!(config.listen.workers, 3);
    assert_eq!(config.listen.driver, Driver::Epoll);
}

#[test]
fn pinning_is_a_word_or_a_boolean() {
    let pin =
        |value: &str| load(&format!("[listen]\npin = {value}\n")).map(|config| config.listen.pin);
    assert_eq!(pin("'auto'").unwrap(), Pinning::Auto);
    assert_eq!(pin("true").unwrap(), Pinning::Always);
    assert_eq!(pin("false").unwrap(), Pinning::Never);
    let error = pin("'sometimes'").unwrap_err().to_string();
    assert!(
        error.contains("\"sometimes\" is not auto, true or false"),
        "{error}"
    );
}

#[test]
fn a_variable_merges_into_the_section_that_the_file_has() {
    let text = format!("{KINESIS}region = 'eu-west-1'\n");
    let variables = [("SLUICE_OUTPUTS__MAIN__STREAM", "other")];
    let config = load_all(&text, &variables, &Flags::default()).unwrap();
    assert_eq!(main_output(&config, "stream"), "other".into());
    assert_eq!(main_output(&config, "region"), "eu-west-1".into());
}

#[test]
fn variables_alone_configure_an_output() {
    let variables = [
        ("SLUICE_OUTPUTS__A_B__C__TYPE", "kinesis"),
        ("SLUICE_OUTPUTS__A_B__C__STREAM", "123"),
        ("SLUICE_OUTPUTS__A_B__C__LINGER_MS", "7"),
        ("SLUICE_LISTEN__PIN", "false"),
        ("SLUICE_PROCESS__SCHEDULING", "inherit"),
        ("SLUICE_ADMIN__ADDRESS", "off"),
    ];
    let config = load_all("", &variables, &Flags::default()).unwrap();
    assert_eq!(config.outputs[0].name, "a_b__c");
    assert_eq!(config.outputs[0].timing.linger, Duration::from_millis(7));
    assert_eq!(config.listen.pin, Pinning::Never);
    assert_eq!(config.process.scheduling, Scheduling::Inherit);
    assert_eq!(config.admin.address, None);
}

#[test]
fn a_variable_that_names_no_key_is_refused_by_name() {
    for name in [
        "SLUICE_LISTEN",
        "SLUICE_LISTEN_ADDRESS",
        "SLUICE_LISTEN__ADRESS",
        "SLUICE_LISTEN__ADDRESS__IP",
        "SLUICE_LISTENER__ADDRESS",
        "SLUICE_OUTPUTS__TYPE",
        "SLUICE_OUTPUTS__MAIN__SUBJECT",
        "SLUICE_LISTEN_PORT",
    ] {
        let error = variable(name, "1").unwrap_err();
        let ConfigError::UnknownVariable { name: named, .. } = &error else {
            panic!("{name}: {error}")
        };
        assert_eq!(named, name);
        assert!(error.to_string().contains(name));
    }
}

#[test]
fn ill_typed_variables_are_refused_by_name() {
    for (name, value) in [
        ("SLUICE_LISTEN__WORKERS", "two"),
        ("SLUICE_LISTEN__WORKERS", "-1"),
        ("SLUICE_LISTEN__WORKERS", "18446744073709551616"),
        ("SLUICE_LISTEN__PIN", "yes"),
        ("SLUICE_LISTEN__DRIVER", "kqueue"),
        ("SLUICE_LISTEN__ADDRESS", "localhost"),
    ] {
        let error = variable(name, value).unwrap_err();
        assert!(
            matches!(&error, ConfigError::Variable { name: named, .. } if named == name),
            "{error}"
        );
    }
}

#[test]
fn variables_of_others_and_of_kubernetes_are_ignored() {
    let variables = [
        ("SLUICE_CONFIG", "elsewhere.toml"),
        ("SLUICEGATE", "1"),
        ("SLUICE_SERVICE_HOST", "10.0.0.1"),
        ("SLUICE_SERVICE_PORT", "8088"),
        ("SLUICE_SERVICE_PORT_HTTP", "8088"),
        ("SLUICE_PORT", "tcp://10.0.0.1:8088"),
        ("SLUICE_PORT_8088_TCP", "tcp://10.0.0.1:8088"),
        ("SLUICE_PORT_8088_TCP_ADDR", "10.0.0.1"),
        ("SLUICE_ADMIN_PORT_9090_TCP_PROTO", "tcp"),
    ];
    load_all("", &variables, &Flags::default()).unwrap();
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf8_is_refused_by_name() {
    use std::os::unix::ffi::OsStringExt;
    let variable = (
        OsString::from("SLUICE_PATHS__PING"),
        OsString::from_vec(vec![b'/', 0xff]),
    );
    let error = Config::load(None, [variable], &Flags::default(), MACHINE).unwrap_err();
    assert!(error.to_string().contains("SLUICE_PATHS__PING"), "{error}");
}

#[test]
fn an_unknown_key_is_refused_with_file_line_and_key() {
    for (text, line, key) in [
        ("colour = 1\n", 1, "colour"),
        ("[listen]\n\nworker = 1\n", 3, "worker"),
        ("[listen]\n[lissten]\n", 2, "lissten"),
        (
            "[outputs.main]\ntype = 'null'\n# subject\nsubject = 'x'\n",
            4,
            "subject",
        ),
    ] {
        let error = load(text).unwrap_err();
        let ConfigError::Syntax { file, line: at, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(*at, line, "{error}");
        assert!(file.ends_with("sluice.toml"));
        let shown = error.to_string();
        assert!(
            shown.contains(&format!("sluice.toml:{line}:")) && shown.contains(key),
            "{shown}"
        );
    }
}

#[test]
fn an_unknown_name_is_answered_with_the_nearest_known_ones() {
    for (text, nearest) in [
        ("[listen]\nworker = 1\n", "`workers`"),
        ("[limit]\nevents_max = 1\n", "`limits`"),
        ("[outputs.main]\ntype = 'null'\nlinger = 1\n", "`linger_ms`"),
        ("[listen]\nzzz = 1\n", "expected one of `address`"),
    ] {
        let shown = load(text).unwrap_err().to_string();
        assert!(shown.contains(nearest), "{shown}");
    }
    let shown = variable("SLUICE_LISTEN__ADRESS", "1")
        .unwrap_err()
        .to_string();
    assert!(shown.contains("`address`"), "{shown}");
}

#[test]
fn broken_toml_and_wrong_types_are_refused_with_their_line() {
    for (text, line) in [
        ("[listen]\nworkers = \n", 2),
        ("[listen]\nworkers = 'two'\n", 2),
        ("[listen]\nworkers = -1\n", 2),
        ("[listen]\nworkers = 1\nworkers = 2\n", 3),
        ("[listen]\ndriver = 'kqueue'\n", 2),
        ("[listen]\naddress = '8088'\n", 2),
        ("[admin]\naddress = 'on'\n", 2),
        ("[outputs.main]\ntype = 'carrier-pigeon'\n", 2),
        (
            "[outputs.main]\ntype = 'null'\npartition_key = 'field:'\n",
            3,
        ),
    ] {
        let error = load(text).unwrap_err();
        assert!(
            matches!(error, ConfigError::Syntax { line: at, .. } if at == line),
            "{text}: {error}"
        );
    }
}

#[test]
fn missing_binary_and_oversized_files_are_refused() {
    let load = |path: &Path| Config::load(Some(path), [], &Flags::default(), MACHINE);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.toml");
    assert!(load(&path).unwrap_err().to_string().contains("none.toml"));

    fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(matches!(load(&path), Err(ConfigError::Unreadable { .. })));

    let most = usize::try_from(FILE_BYTES_MAX).unwrap();
    fs::write(&path, "#".repeat(most)).unwrap();
    load(&path).unwrap();
    fs::write(&path, "#".repeat(most + 1)).unwrap();
    let error = load(&path).unwrap_err().to_string();
    assert!(error.contains("1048576"), "{error}");
}

#[test]
fn all_problems_are_reported_at_once() {
    let text =
        "[listen]\nworkers = 5000\n[limits]\njson_depth_max = 0\n[outputs.x]\ntype = 'kinesis'\n";
    assert_eq!(problems(text).len(), 3);
}

#[test]
fn contradictions_show_both_settings_with_their_units() {
    let kinesis = |more: &str| format!("{KINESIS}{more}");
    let null = |more: &str| format!("[outputs.main]\ntype = 'null'\n{more}");
    for (text, parts) in [
        (
            kinesis("attempt_timeout_ms = 3995\n"),
            ["outputs.main.attempt_timeout_ms", "4000 ms", "ack.deadline_ms", "4000 ms"],
        ),
        (
            kinesis("ack = 'enqueued'\nretry_for_ms = 900\nattempt_timeout_ms = 1000\n"),
            ["outputs.main.attempt_timeout_ms", "1005 ms", "outputs.main.retry_for_ms", "900 ms"],
        ),
        (
            kinesis("attempt_timeout_ms = 500\nconnect_timeout_ms = 501\n"),
            ["connect_timeout_ms", "501 ms", "attempt_timeout_ms", "500 ms"],
        ),
        (
            "[outputs.main]\ntype = 'file'\nwriters = 2\n".to_owned(),
            ["outputs.main.writers", "2 writers", "outputs.main.type", "file"],
        ),
        (
            format!("{}[outputs.other]\ntype = 'null'\npartition_key = 'timestamp'\n", null("partition_key = 'field:user_id'\n")),
            ["outputs.main.partition_key", "field:user_id", "outputs.other.partition_key", "timestamp"],
        ),
        (
            format!("[listen]\nworkers = 10\n{}", null("queue_bytes_max = 10813439\n")),
            ["outputs.main.queue_bytes_max", "10813439 bytes", "10 * limits.body_bytes_max + limits.head_bytes_max", "10813440 bytes"],
        ),
        (
            null("linger_ms = 4000\n"),
            ["outputs.main.linger_ms", "4000 ms", "ack.deadline_ms", "4000 ms"],
        ),
        (
            null("retry_base_ms = 30\nretry_cap_ms = 29\n"),
            ["retry_base_ms", "30 ms", "retry_cap_ms", "29 ms"],
        ),
        (
            null("queue_bytes_max = 5000000\nbatch_bytes_max = 5000001\n"),
            ["queue_bytes_max", "5000000 bytes", "batch_bytes_max", "5000001 bytes"],
        ),
        (
            null("batch_bytes_max = 1081343\n"),
            ["batch_bytes_max", "1081343 bytes", "limits.body_bytes_max + limits.head_bytes_max", "1081344 bytes"],
        ),
        (
            "[limits]\nbody_bytes_max = 1000000\nin_flight_bytes_max = 7999999\n".to_owned(),
            ["limits.in_flight_bytes_max", "7999999 bytes", "8 * limits.body_bytes_max", "8000000 bytes"],
        ),
        (
            "[limits]\nin_flight_bytes_max = 4294967297\n".to_owned(),
            ["limits.in_flight_bytes_max", "4294967297 bytes", "memory limit", "4294967296 bytes"],
        ),
        (
            "[limits]\nhead_bytes_max = 8192\ntarget_bytes_max = 8192\n".to_owned(),
            ["limits.target_bytes_max", "8192 bytes", "limits.head_bytes_max", "8192 bytes"],
        ),
        (
            "[limits]\nidle_ms = 1001\nconnection_life_ms = 1000\n".to_owned(),
            ["limits.idle_ms", "1001 ms", "limits.connection_life_ms", "1000 ms"],
        ),
        (
            "[listen]\nconnections_max = 10\nconnections_per_address_max = 11\n".to_owned(),
            ["listen.connections_per_address_max", "11 connections", "listen.connections_max", "10 connections"],
        ),
        (
            "[ack]\nretry_after_min_s = 4\nretry_after_max_s = 3\n".to_owned(),
            ["ack.retry_after_min_s", "4 s", "ack.retry_after_max_s", "3 s"],
        ),
        (
            "[drain]\ngrace_ms = 1000\ndeadline_ms = 4999\n".to_owned(),
            ["drain.deadline_ms", "4999 ms", "drain.grace_ms + ack.deadline_ms", "5000 ms"],
        ),
        (
            "[limits]\nbody_deadline_ms = 11001\n[ack]\ndeadline_ms = 4000\n".to_owned(),
            ["15001 ms", "limits.body_deadline_ms + ack.deadline_ms", "15000 ms", "SDKs wait"],
        ),
        (
            "[paths]\nping = '/v1/events'\n".to_owned(),
            ["paths.ping", "/v1/events", "paths.events", "/v1/events"],
        ),
        (
            "[admin]\naddress = '0.0.0.0:8088'\n".to_owned(),
            ["admin.address", "0.0.0.0:8088", "listen.address", "127.0.0.1:8088"],
        ),
        (
            "[outputs.a]\ntype = 'file'\ndir = 'x/./y'\n[outputs.b]\ntype = 'file'\ndir = './x/y'\n".to_owned(),
            ["outputs.b.dir", "./x/y", "outputs.a.dir", "x/./y"],
        ),
    ] {
        let shown = problem(&text);
        for part in parts {
            assert!(shown.contains(part), "{shown} lacks {part}");
        }
    }
}

#[test]
fn what_just_does_not_contradict_is_taken() {
    for text in [
        format!("{KINESIS}attempt_timeout_ms = 3994\n"),
        format!("{KINESIS}partition_key = 'timestamp'\n[outputs.other]\ntype = 'null'\n"),
        "[listen]\nworkers = 10\n[outputs.main]\ntype = 'null'\nqueue_bytes_max = 10813440\n"
            .to_owned(),
        "[listen]\nworkers = 200\n[outputs.main]\ntype = 'null'\n".to_owned(),
        format!("{KINESIS}attempt_timeout_ms = 500\nconnect_timeout_ms = 500\n"),
        "[outputs.main]\ntype = 'null'\nlinger_ms = 3999\n".to_owned(),
        "[outputs.main]\ntype = 'null'\nbatch_bytes_max = 1081344\n".to_owned(),
        "[limits]\nbody_bytes_max = 1000000\nin_flight_bytes_max = 8000000\n".to_owned(),
        "[limits]\nin_flight_bytes_max = 4294967296\n".to_owned(),
        "[limits]\nhead_bytes_max = 8193\ntarget_bytes_max = 8192\n".to_owned(),
        "[limits]\nidle_ms = 1000\nconnection_life_ms = 1000\n".to_owned(),
        "[ack]\nretry_after_min_s = 4\nretry_after_max_s = 4\n".to_owned(),
        "[limits]\nbody_deadline_ms = 11000\n[ack]\ndeadline_ms = 4000\n".to_owned(),
        "[drain]\ngrace_ms = 1000\ndeadline_ms = 5000\n".to_owned(),
        "[listen]\naddress = '127.0.0.1:0'\n[admin]\naddress = '127.0.0.1:0'\n".to_owned(),
        "[listen]\naddress = '127.0.0.1:80'\n[admin]\naddress = '127.0.0.2:80'\n".to_owned(),
    ] {
        load(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[test]
fn a_default_gives_way_to_what_was_written() {
    for text in [
        format!("[ack]\ndeadline_ms = 500\n{KINESIS}"),
        format!("{KINESIS}linger_ms = 3500\n"),
        format!("[ack]\ndeadline_ms = 9999\n[drain]\ngrace_ms = 60000\n{KINESIS}"),
        format!("[limits]\nbody_bytes_max = 8000000\n{KINESIS}"),
        "[limits]\nhead_bytes_max = 8192\nconnection_life_ms = 1\n".to_owned(),
        "[listen]\nconnections_max = 5\n".to_owned(),
        "[ack]\nretry_after_min_s = 60\n".to_owned(),
        "[ack]\ndeadline_ms = 9999\n".to_owned(),
        "[limits]\nbody_deadline_ms = 14000\n[outputs.main]\ntype = 'null'\n".to_owned(),
        "[outputs.main]\ntype = 'null'\nretry_cap_ms = 2\n".to_owned(),
        "[outputs.main]\ntype = 'null'\nretry_base_ms = 2000\n".to_owned(),
        "[outputs.main]\ntype = 'null'\nbatch_bytes_max = 100000000\n".to_owned(),
    ] {
        load(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[test]
fn keys_of_another_type_or_ack_are_refused() {
    for (sink, key, value) in [
        ("file", "stream", "'x'"),
        ("file", "partition_key", "'random'"),
        ("null", "dir", "'x'"),
        ("null", "region", "'eu-west-1'"),
        ("null", "attempt_timeout_ms", "1"),
        ("null", "retry_for_ms", "1"),
        ("kinesis", "rotate_bytes", "1"),
        ("kinesis", "rotate_s", "1"),
        ("kinesis", "topic", "'x'"),
        ("kafka", "stream", "'x'"),
        ("kafka", "connect_timeout_ms", "1"),
        ("file", "sasl_password", "'x'"),
    ] {
        let of = TYPES.iter().find(|of| of.name == sink).unwrap();
        let shown = problem(&format!(
            "[outputs.main]\ntype = '{sink}'\n{}{key} = {value}\n",
            of.example
        ));
        assert!(shown.contains(&format!("`outputs.main.{key}`")), "{shown}");
        let because = if key == "retry_for_ms" {
            "delivered"
        } else {
            sink
        };
        assert!(shown.contains(because), "{shown}");
    }
}

#[test]
fn a_type_and_a_stream_must_be_given() {
    assert!(problem("[outputs.main]\nlinger_ms = 1\n").contains("`outputs.main.type` is missing"));
    assert!(
        problem("[outputs.main]\ntype = 'kinesis'\n").contains("`outputs.main.stream` is missing")
    );
}

#[test]
fn texts_of_the_wrong_form_are_refused() {
    let long = |len: usize| "x".repeat(len);
    for (text, accepted) in [
        (format!("[outputs.{}]\ntype = 'null'\n", long(32)), true),
        (format!("[outputs.{}]\ntype = 'null'\n", long(33)), false),
        ("[outputs.Main]\ntype = 'null'\n".to_owned(), false),
        ("[outputs.'a.b']\ntype = 'null'\n".to_owned(), false),
        ("[outputs.'']\ntype = 'null'\n".to_owned(), false),
        (format!("[paths]\nping = '/{}'\n", long(255)), true),
        (format!("[paths]\nping = '/{}'\n", long(256)), false),
        ("[paths]\nping = 'ping'\n".to_owned(), false),
        ("[paths]\nping = '/a?b'\n".to_owned(), false),
        ("[paths]\nping = '/a b'\n".to_owned(), false),
        ("[outputs.m]\ntype = 'file'\ndir = ''\n".to_owned(), false),
        (
            format!("[outputs.m]\ntype = 'kinesis'\nstream = '{}'\n", long(128)),
            true,
        ),
        (
            format!("[outputs.m]\ntype = 'kinesis'\nstream = '{}'\n", long(129)),
            false,
        ),
        (
            "[outputs.m]\ntype = 'kinesis'\nstream = 'a b'\n".to_owned(),
            false,
        ),
        (format!("{KINESIS}region = '{}'\n", long(32)), true),
        (format!("{KINESIS}region = '{}'\n", long(33)), false),
        (
            format!("{KINESIS}endpoint_url = 'http://{}'\n", long(2_041)),
            true,
        ),
        (
            format!("{KINESIS}endpoint_url = 'http://{}'\n", long(2_042)),
            false,
        ),
        (format!("{KINESIS}endpoint_url = 'localhost:4567'\n"), false),
        (format!("{KINESIS}endpoint_url = 'https://'\n"), false),
        (format!("{KINESIS}endpoint_url = 'https:///a'\n"), false),
        (KAFKA.replace("b-2", &format!("b:9092,{}", long(260))), true),
        (KAFKA.replace("b-2", &long(261)), false),
        (KAFKA.replace("b-2", "kafka://b"), false),
        (KAFKA.replace("b-2", ":9092"), false),
        (KAFKA.replace("clicks", &long(249)), true),
        (KAFKA.replace("clicks", &long(250)), false),
        (KAFKA.replace("clicks", ".."), false),
        (KAFKA.replace("clicks", "a/b"), false),
        (format!("{KAFKA}tls = true\nca_file = ''\n"), false),
        (
            format!("{KAFKA}sasl = 'msk-iam'\nregion = '{}'\n", long(33)),
            false,
        ),
    ] {
        match load(&text) {
            Ok(_) => assert!(accepted, "{text} was accepted"),
            Err(ConfigError::Invalid(problems)) => {
                assert!(!accepted, "{text}: {problems:?}");
                assert!(matches!(problems[..], [Problem::Malformed { .. }]));
            }
            Err(other) => panic!("{text}: {other}"),
        }
    }
}

#[test]
fn a_kinesis_stream_may_be_named_by_its_arn() {
    let named = |name: &str| load(&KINESIS.replace("clicks", name));
    let arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks";
    let config = named(arn).unwrap();
    assert_eq!(main_output(&config, "stream"), arn.into());
    for wrong in ["arn", "firehose", "stream/", "1234567890"] {
        let name = match wrong {
            "arn" => arn.replacen("arn:", "", 1),
            "firehose" => arn.replace("kinesis", wrong),
            other => arn.replace(other, ""),
        };
        assert!(named(&name).is_err(), "{name}");
    }
}

#[test]
fn a_partition_field_has_1_to_256_bytes() {
    let with = |len: usize| {
        load(&format!(
            "{KINESIS}partition_key = 'field:{}'\n",
            "f".repeat(len)
        ))
    };
    assert!(with(0).is_err());
    assert_eq!(
        with(1).unwrap().outputs[0].partition_key,
        PartitionRule::Field("f".to_owned())
    );
    assert!(with(256).is_ok());
    assert!(with(257).is_err());
}

#[test]
fn at_most_64_outputs() {
    let outputs = |count: usize| -> String {
        (0..count)
            .map(|at| format!("[outputs.o{at}]\ntype = 'null'\n"))
            .collect()
    };
    assert_eq!(load(&outputs(OUTPUTS_MAX)).unwrap().outputs.len(), 64);
    assert!(problem(&outputs(OUTPUTS_MAX + 1)).contains("65 outputs"));
}

#[test]
fn the_data_dir_flag_needs_exactly_one_file_output() {
    let flags = Flags {
        data_dir: Some(PathBuf::from("/d")),
        ..Flags::default()
    };
    let dir = |text: &str| -> Result<PathBuf, ConfigError> {
        let config = load_all(text, &[], &flags)?;
        let outputs = config.outputs.iter();
        let mut dirs = outputs.filter_map(|output| output.sink.directory());
        Ok(dirs.next_back().unwrap().path.to_path_buf())
    };
    assert_eq!(dir("").unwrap(), Path::new("/d"));
    let two = format!("{KINESIS}[outputs.files]\ntype = 'file'\ndir = '/e'\n");
    assert_eq!(dir(&two).unwrap(), Path::new("/d"));
    let none = dir(KINESIS).unwrap_err().to_string();
    assert!(none.contains("/d") && none.contains("which is 0"), "{none}");
    let many = "[outputs.a]\ntype = 'file'\n[outputs.b]\ntype = 'file'\ndir = '/e'\n";
    assert!(dir(many).unwrap_err().to_string().contains("which is 2"));
}

/// Outputs of every type, with every optional key present and absent.
fn output(at: usize) -> impl Strategy<Value = String> {
    (
        0..3_u8,
        prop::option::of(1..60_000_u64),
        0..3_000_u64,
        1..=500_u64,
        prop::option::of("[a-z0-9-]{1,32}"),
        "[^\\x00]{1,20}",
        prop_oneof![
            Just("random".to_owned()),
            Just("timestamp".to_owned()),
            "field:[a-z\"\\\\]{1,9}"
        ],
    )
        .prop_map(
            move |(sink, retry_for, linger, records, region, text, key)| {
                let quoted = |text: &str| toml::Value::from(text).to_string();
                // Outputs may differ only between random and one rule.
                let key = if at == 0 { key } else { "random".to_owned() };
                let mut lines = vec![
                    format!("[outputs.o{at}]"),
                    format!("linger_ms = {linger}"),
                    format!("batch_records_max = {records}"),
                ];
                if let Some(extra) = retry_for {
                    lines.push(format!(
                        "ack = 'enqueued'\nretry_for_ms = {}",
                        linger + 2 + extra
                    ));
                }
                lines.push(match sink {
                    0 => format!("type = 'file'\ndir = {}", quoted(&format!("{at}/{text}"))),
                    1 => format!("type = 'null'\npartition_key = {}", quoted(&key)),
                    _ => {
                        let region = region
                            .map_or_else(String::new, |region| format!("region = '{region}'\n"));
                        format!(
                            "type = 'kinesis'\nstream = 's{at}'\npartition_key = {}\n{region}",
                            quoted(&key)
                        )
                    }
                });
                lines.join("\n") + "\n"
            },
        )
}

fn names(outputs: &[Output]) -> Vec<&str> {
    outputs.iter().map(|output| output.name.as_str()).collect()
}

proptest! {
    #[test]
    fn the_printed_form_loads_to_the_same_configuration(
        outputs in (output(0), output(1), output(2)),
        workers in 0..64_u64,
        per_address in 0..2_000_u64,
        admin in prop::bool::ANY,
        depth in 1..=1_000_u64,
    ) {
        let text = format!(
            "[listen]\nworkers = {workers}\nconnections_per_address_max = {per_address}\n\
             [limits]\njson_depth_max = {depth}\n[admin]\naddress = '{}'\n{}{}{}",
            if admin { "[::1]:1" } else { "off" }, outputs.0, outputs.1, outputs.2,
        );
        let config = load(&text).unwrap_or_else(|error| panic!("{text}\n{error}"));
        prop_assert_eq!(names(&config.outputs), ["o0", "o1", "o2"]);
        let again = load(&config.to_string()).unwrap_or_else(|error| panic!("{config}\n{error}"));
        prop_assert_eq!(config, again);
    }
}
