//! Settings that only an S3 output has.

use super::{MACHINE, load, main_output, names, problem, problems, shown};
use sluice_proxy::config::{Config, Flags};
use sluice_sinks::output::AckMode;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

const S3: &str = "[outputs.main]\ntype = 's3'\nbucket = 'clicks'\n";

#[test]
fn s3_is_durable_by_default_and_unstaged_when_enqueued() {
    let config = load(S3).unwrap();
    let output = &config.outputs[0];
    assert_eq!(output.timing.ack, AckMode::Durable);
    let directory = output.sink.directory().unwrap();
    assert_eq!(directory.path, Path::new("./sluice-staging"));
    assert_eq!(directory.bytes_max, Some(4 << 30));
    for (key, value) in [
        ("linger_ms", 0),
        ("in_flight_max", 1),
        ("batch_bytes_max", 8 << 20),
        ("object_bytes_max", 30_000_000),
        ("object_age_s", 300),
    ] {
        assert_eq!(main_output(&config, key), value.into(), "{key}");
    }
    assert_eq!(main_output(&config, "storage_class"), "STANDARD".into());
    assert_eq!(main_output(&config, "prefix"), "".into());
    assert_eq!(shown(&config, "main", "path_style"), None);

    let config = load(&format!("{S3}ack = 'enqueued'\nobject_age_s = 60\n")).unwrap();
    let output = &config.outputs[0];
    assert!(output.sink.directory().is_none());
    // A batch is an object, and has ten minutes more to be stored.
    assert_eq!(output.timing.ack, AckMode::Enqueued);
    assert_eq!(output.timing.retry_for, Duration::from_secs(660));
    assert_eq!(output.timing.linger, Duration::from_secs(60));
    for key in ["linger_ms", "batch_bytes_max", "staging_dir"] {
        assert_eq!(shown(&config, "main", key), None, "{key}");
    }
    // On each of the four cores one object gathers while another is stored.
    assert_eq!(output.delivery.queue_bytes_max, 2 * 4 * 30_000_000);
}

#[test]
fn printed_s3_settings_load_again_staged_or_not() {
    for more in [
        "",
        "ack = 'enqueued'\n",
        "prefix = 'raw/'\nregion = 'eu-west-1'\nendpoint_url = 'http://127.0.0.1:9000'\n\
         path_style = false\nstorage_class = 'GLACIER_IR'\nkms_key_id = 'alias/a'\n\
         staging_dir = '/data'\nstaging_bytes_max = 50000000\nobject_bytes_max = 50000000\n\
         object_age_s = 3600\nattempt_timeout_ms = 600000\nconnect_timeout_ms = 60000\n",
    ] {
        let config = load(&format!("{S3}{more}")).unwrap();
        assert_eq!(load(&config.to_toml()).unwrap(), config, "{more}");
    }
}

#[test]
fn contradicting_s3_settings_are_refused() {
    let enqueued = "ack = 'enqueued'\n";
    for (more, expected) in [
        ("ack = 'delivered'\n", "an object takes minutes to fill"),
        ("retry_for_ms = 1000\n", "`outputs.main.ack` is durable"),
        ("writers = 2\n", "one writer fills an object"),
        ("partition_key = 'random'\n", "`outputs.main.type` is s3"),
        ("dir = 'a'\n", "`outputs.main.type` is s3"),
        ("stream = 'a'\n", "`outputs.main.type` is s3"),
        ("staging_bytes_max = 29999999\n", "30000000 bytes"),
        (
            "attempt_timeout_ms = 100\nconnect_timeout_ms = 101\n",
            "connecting is a part of the attempt",
        ),
    ] {
        let shown = problem(&format!("{S3}{more}"));
        assert!(shown.contains(expected), "{shown}");
    }
    for (more, expected) in [
        ("linger_ms = 5\n", "`outputs.main.ack` is enqueued"),
        (
            "batch_bytes_max = 5000000\n",
            "`outputs.main.ack` is enqueued",
        ),
        ("staging_dir = 'a'\n", "`outputs.main.ack` is enqueued"),
        ("object_age_s = 60\nretry_for_ms = 60000\n", "60000 ms"),
        ("object_age_s = 0\n", "1 to 3600"),
    ] {
        let shown = problem(&format!("{S3}{enqueued}{more}"));
        assert!(shown.contains(expected), "{shown}");
    }
    // Nothing that an object could be read from at once, for readers do not restore.
    assert!(load(&format!("{S3}storage_class = 'DEEP_ARCHIVE'\n")).is_err());
    let shown = problem("[outputs.main]\ntype = 'null'\nack = 'durable'\n");
    assert!(shown.contains("only outputs of type s3"), "{shown}");
    let shown = problem(&S3.replace("bucket = 'clicks'\n", ""));
    assert!(
        shown.contains("`outputs.main.bucket` is missing"),
        "{shown}"
    );
    for third_party in [
        "endpoint_url = 'http://a'\n",
        "attempt_timeout_ms = 5\n",
        "bucket = 'abc'\n",
    ] {
        let shown = problem(&format!("[outputs.main]\ntype = 'file'\n{third_party}"));
        assert!(shown.contains("`outputs.main.type` is file"), "{shown}");
    }
}

#[test]
fn invalid_bucket_names_and_prefixes_are_refused() {
    for (text, accepted) in [
        (S3.replace("clicks", "ab"), false),
        (S3.replace("clicks", "abc"), true),
        (S3.replace("clicks", "a/b"), false),
        (S3.replace("clicks", &"b".repeat(255)), true),
        (S3.replace("clicks", &"b".repeat(256)), false),
        (format!("{S3}prefix = '{}'\n", "p".repeat(896)), true),
        (format!("{S3}prefix = '{}'\n", "p".repeat(897)), false),
        (format!("{S3}prefix = 'a b'\n"), false),
        (format!("{S3}kms_key_id = ''\n"), false),
        (
            format!("{S3}kms_key_id = 'arn:aws:kms:eu-west-1:1:key/a-b'\n"),
            true,
        ),
        (format!("{S3}staging_dir = ''\n"), false),
        (format!("{S3}endpoint_url = 'localhost:9000'\n"), false),
    ] {
        assert_eq!(load(&text).is_ok(), accepted, "{text}");
        if !accepted {
            assert_eq!(problems(&text).len(), 1, "{text}");
        }
    }
}

#[test]
fn no_two_outputs_write_into_one_directory_whatever_their_types() {
    let files = "[outputs.files]\ntype = 'file'\ndir = './a'\n";
    let shown = problem(&format!("{S3}staging_dir = 'a'\n{files}"));
    for part in ["outputs.main.staging_dir", "outputs.files.dir"] {
        assert!(shown.contains(part), "{shown}");
    }
}

#[test]
fn legacy_object_sizes_may_be_below_the_largest_request() {
    let variables = [
        ("AWS_S3_BUCKET", "events"),
        ("S3_BATCH_MAX_BYTES", "1000000"),
        ("S3_BATCH_TIMEOUT_SECS", "30"),
        ("AWS_REGION", "eu-west-1"),
        ("SLUICE_OUTPUTS__S3__STAGING_DIR", "/data"),
    ];
    let variables = variables.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let config = Config::load(None, variables, &Flags::default(), MACHINE).unwrap();
    assert_eq!(names(&config.outputs), ["s3"]);
    for (key, value) in [
        ("ack", "durable".into()),
        ("object_bytes_max", 1_000_000.into()),
        ("prefix", "s3-data".into()),
        ("staging_dir", "/data".into()),
    ] {
        assert_eq!(shown(&config, "s3", key), Some(value), "{key}");
    }
}
