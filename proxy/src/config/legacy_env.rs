//! The environment variables of the replaced tier's two containers, read as settings, so that a task definition
//! need not change. They have a lower precedence than `SLUICE_*` variables. A variable without a counterpart is
//! noted in the log; one that would lose events if it were ignored is refused. Reads no environment itself.

use super::error::ConfigError;
use sluice_sinks::settings::{Origin, Tree, Value};
use std::ffi::OsString;

/// The value by which the replaced tier means that a variable is not set.
const NOT_SET: &str = "__NOT_SET__";

/// The output for its stream.
const KINESIS: &str = "kinesis";

/// The output for its topic.
const KAFKA: &str = "kafka";

/// The output for its bucket.
const S3: &str = "s3";

/// Its default prefix of keys.
const S3_PREFIX: &str = "s3-data";

/// The balancer of the replaced tier keeps idle connections for 180 s. A server that closes first answers
/// some requests with a reset, which the balancer makes a 502.
const IDLE_MS: i64 = 185_000;

/// The settings from variables of the replaced tier.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    /// Its settings.
    pub(super) tree: Tree,
    /// One sentence for each variable, for the log.
    pub(super) notes: Vec<String>,
}

enum Meaning {
    /// The setting at this path has this value.
    Is(String, Value),
    /// How its streams and topics are acknowledged.
    Ack(&'static str),
    /// No setting, for this reason.
    Nothing(&'static str),
    /// It cannot be ignored, for this reason.
    Refused(String),
}

impl Replaced {
    /// Checks that the replaced tier's variables, if there are any, name an output: a misspelt one must not send
    /// events to the default output, a directory of this host.
    pub(super) fn require_output(&self, names_output: bool) -> Result<(), ConfigError> {
        // DEV_MODE is a variable of many programs: alone it does not mean that tier.
        let mut theirs = self
            .notes
            .iter()
            .filter(|note| !note.starts_with("DEV_MODE "));
        let Some(note) = theirs.next().filter(|_| !names_output) else {
            return Ok(());
        };
        Err(ConfigError::Variable {
            name: note.split(' ').next().unwrap_or_default().to_owned(),
            message:
                "it is a variable of the replaced tier, but none of them names an output: set \
                      AWS_KINESIS_STREAM_NAME, AWS_MSK_BROKERS and AWS_MSK_TOPIC, AWS_S3_BUCKET or \
                      SLUICE_OUTPUTS__<NAME>__TYPE"
                    .to_owned(),
        })
    }
}

/// Reads them. None if a `SLUICE_*` variable names an output: then the environment is not that tier's.
pub(super) fn read(variables: &[(OsString, OsString)]) -> Result<Replaced, ConfigError> {
    let texts = variables
        .iter()
        .filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)));
    let mut found: Vec<(&str, &str)> = texts
        .filter(|(_, value)| !value.is_empty() && *value != NOT_SET)
        .collect();
    let mut replaced = Replaced::default();
    // A variable that only adds a key, for instance a staging directory, names no output.
    let names_output = |name: &str| {
        let key = name.strip_prefix("SLUICE_OUTPUTS__");
        key.is_some_and(|key| key.ends_with("__TYPE"))
    };
    if found.iter().any(|(name, _)| names_output(name)) {
        return Ok(replaced);
    }
    // The environment has no order; notes and errors should.
    found.sort_unstable();
    let mut ack = None;
    for (name, value) in found {
        match meaning(name, value) {
            None => {}
            Some(Meaning::Is(path, setting)) => {
                replaced
                    .notes
                    .push(format!("{name} is read as {path} = {setting:?}"));
                replaced
                    .tree
                    .set(path, setting, Origin::Variable(name.to_owned()));
            }
            Some(Meaning::Ack(word)) => {
                ack = Some(word);
                replaced.notes.push(format!(
                    "{name} is read as ack = \"{word}\" of streams and topics"
                ));
            }
            Some(Meaning::Nothing(why)) => {
                replaced.notes.push(format!("{name} has no effect: {why}"));
            }
            Some(Meaning::Refused(message)) => {
                return Err(ConfigError::Variable {
                    name: name.to_owned(),
                    message,
                });
            }
        }
    }
    let tree = &mut replaced.tree;
    let has = |output: &str, key: &str| tree.get(&format!("outputs.{output}.{key}")).is_some();
    let (has_brokers, has_topic) = (has(KAFKA, "brokers"), has(KAFKA, "topic"));
    for (here, there, name, other) in [
        (has_brokers, has_topic, "AWS_MSK_BROKERS", "AWS_MSK_TOPIC"),
        (has_topic, has_brokers, "AWS_MSK_TOPIC", "AWS_MSK_BROKERS"),
    ] {
        if here && !there {
            return Err(ConfigError::Variable {
                name: name.to_owned(),
                message: format!("it names a Kafka destination only together with {other}"),
            });
        }
    }
    let has_stream = has(KINESIS, "stream");
    let (has_bucket, has_prefix) = (has(S3, "bucket"), has(S3, "prefix"));
    let mut set = |output: &str, key: &str, value: &str| {
        let path = format!("outputs.{output}.{key}");
        tree.set(path, Value::Text(value.to_owned()), Origin::Default);
    };
    if has_bucket && !has_prefix {
        set(S3, "prefix", S3_PREFIX);
    }
    let is_legacy = has_stream || has_topic || has_bucket;
    for (output, is_there) in [(KINESIS, has_stream), (KAFKA, has_topic), (S3, has_bucket)] {
        if is_there {
            // Its type has the name of the output.
            set(output, "type", output);
            // Its S3 sink never acknowledged; Sluice's does once the record is on disk.
            if let Some(ack) = ack.filter(|_| output != S3) {
                set(output, "ack", ack);
            }
        }
    }
    if is_legacy {
        // Its readers expect envelopes only, and its path may be one of these.
        for path in ["paths.events", "paths.pixel"] {
            tree.set(path, Value::Text("off".to_owned()), Origin::Default);
        }
        tree.set("limits.idle_ms", Value::Integer(IDLE_MS), Origin::Default);
        replaced.notes.push(format!(
            "variables of the replaced tier: limits.idle_ms = {IDLE_MS}, above the 180 s of its balancer"
        ));
        replaced.notes.push(
            "paths.events and paths.pixel are off, as the replaced tier has no such endpoints"
                .to_owned(),
        );
    }
    if !has_bucket {
        // Its images set them with or without a bucket.
        tree.remove_output(S3);
    }
    Ok(replaced)
}

fn meaning(name: &str, value: &str) -> Option<Meaning> {
    let text = || Value::Text(value.to_owned());
    let number = |key| match value.parse::<u32>() {
        Ok(number) => Meaning::Is(format!("outputs.{S3}.{key}"), Value::Integer(number.into())),
        Err(_) => Meaning::Refused(format!("expected a whole number, not `{value}`")),
    };
    Some(match name {
        "SERVER_ENDPOINT_PATH" => Meaning::Is("paths.collect".to_owned(), text()),
        // That tier, too, reserves this path for the health check.
        "PING_ENDPOINT_PATH" if value == "/health" => {
            Meaning::Nothing("/health is the health check; the clock stays at paths.ping")
        }
        "PING_ENDPOINT_PATH" => Meaning::Is("paths.ping".to_owned(), text()),
        "SERVER_CORS_ORIGIN" => match origins(value) {
            Ok(origins) => Meaning::Is("cors.origins".to_owned(), Value::Text(origins)),
            Err(message) => Meaning::Refused(message),
        },
        "AWS_KINESIS_STREAM_NAME" => Meaning::Is(format!("outputs.{KINESIS}.stream"), text()),
        "STREAM_ACK_ENABLE" => match value.to_ascii_lowercase().as_str() {
            "true" => Meaning::Ack("delivered"),
            "false" => Meaning::Ack("enqueued"),
            _ => Meaning::Refused(format!("expected true or false, not `{value}`")),
        },
        "NGINX_WORKER_CONNECTIONS" => {
            Meaning::Nothing("connections are bounded by listen.connections_max")
        }
        "WORKER_THREADS_NUM" => Meaning::Nothing("there is one worker per core"),
        "VECTOR_REQUIRE_HEALTHY" => {
            Meaning::Nothing("a destination that is away is waited for; see /ready")
        }
        "DEV_MODE" if value == "Yes" => {
            Meaning::Is("client_address.fake_ip".to_owned(), Value::Switch(true))
        }
        "DEV_MODE" => Meaning::Nothing("it is Yes that makes fakeIp an ip"),
        "AWS_MSK_BROKERS" => Meaning::Is(format!("outputs.{KAFKA}.brokers"), text()),
        "AWS_MSK_TOPIC" => Meaning::Is(format!("outputs.{KAFKA}.topic"), text()),
        "AWS_S3_BUCKET" => Meaning::Is(format!("outputs.{S3}.bucket"), text()),
        "AWS_S3_PREFIX" => Meaning::Is(format!("outputs.{S3}.prefix"), text()),
        "S3_BATCH_MAX_BYTES" => number("object_bytes_max"),
        "S3_BATCH_TIMEOUT_SECS" => number("object_age_s"),
        _ => return None,
    })
}

/// Its control plane joins a list of origins into one regular expression: `|` between them, `\.` for a dot,
/// `.*` for a star. This undoes that, and refuses any other expression.
fn origins(expression: &str) -> Result<String, String> {
    let mut origins = Vec::new();
    for alternative in expression.split(['|', ',']) {
        let alternative = alternative.trim();
        let anchored = alternative.strip_prefix('^').unwrap_or(alternative);
        let bare = anchored.strip_suffix('$').unwrap_or(anchored);
        let plain = bare
            .replace("\\.", "\u{0}")
            .replace(".*", "*")
            .replace('\u{0}', ".");
        if plain.contains(['\\', '(', ')', '{', '}', '+', '?', '^', '$']) {
            return Err(format!(
                "`{alternative}` is a regular expression of its own; \
                 write the origins in SLUICE_CORS__ORIGINS instead"
            ));
        }
        if !plain.is_empty() {
            origins.push(plain);
        }
    }
    Ok(origins.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(variables: &[(&str, &str)]) -> Result<Replaced, ConfigError> {
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)))
            .collect();
        read(&variables)
    }

    /// Settings as a file would have them.
    fn lines(tree: &Tree) -> Vec<String> {
        let values = tree.values.iter();
        values
            .map(|(path, written)| format!("{path} = {:?}", written.value))
            .collect()
    }

    #[test]
    fn the_environment_of_both_containers_is_read_and_noted() {
        let found = read_all(&[
            ("SERVER_ENDPOINT_PATH", "/in/collect"),
            ("PING_ENDPOINT_PATH", "/in/ping"),
            (
                "SERVER_CORS_ORIGIN",
                r"https://.*\.example\.com|http://localhost:8080",
            ),
            ("NGINX_WORKER_CONNECTIONS", "1024"),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_MSK_BROKERS", "__NOT_SET__"),
            ("AWS_S3_BUCKET", ""),
            ("AWS_S3_PREFIX", "s3-data"),
            ("AWS_KINESIS_STREAM_NAME", "clicks"),
            ("STREAM_ACK_ENABLE", "true"),
            ("WORKER_THREADS_NUM", "6"),
            ("DEV_MODE", "No"),
        ])
        .unwrap();
        let expected = [
            "cors.origins = \"https://*.example.com,http://localhost:8080\"",
            "limits.idle_ms = 185000",
            "outputs.kinesis.ack = \"delivered\"",
            "outputs.kinesis.stream = \"clicks\"",
            "outputs.kinesis.type = \"kinesis\"",
            "paths.collect = \"/in/collect\"",
            "paths.events = \"off\"",
            "paths.ping = \"/in/ping\"",
            "paths.pixel = \"off\"",
        ];
        assert_eq!(lines(&found.tree), expected);
        assert_eq!(found.notes.len(), 11, "{:?}", found.notes);
    }

    #[test]
    fn what_cannot_be_understood_is_refused_not_passed_over() {
        for (name, value) in [
            ("AWS_MSK_BROKERS", "b-1:9092"),
            ("AWS_MSK_TOPIC", "clicks"),
            ("S3_BATCH_MAX_BYTES", "30 MB"),
            ("S3_BATCH_TIMEOUT_SECS", "-1"),
            ("STREAM_ACK_ENABLE", "yes"),
            ("SERVER_CORS_ORIGIN", "https://(a|b)\\.example\\.com"),
            ("SERVER_CORS_ORIGIN", "https://a\\d.example"),
        ] {
            match read_all(&[(name, value)]) {
                Err(ConfigError::Variable { name: named, .. }) => assert_eq!(named, name),
                other => panic!("{name}={value}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_stream_and_a_topic_at_once_become_two_outputs_acknowledged_alike() {
        let found = read_all(&[
            ("AWS_MSK_BROKERS", "b-1:9092,b-2:9092"),
            ("AWS_MSK_TOPIC", "clicks"),
            ("AWS_KINESIS_STREAM_NAME", "stream"),
            ("STREAM_ACK_ENABLE", "FALSE"),
        ])
        .unwrap();
        let expected = [
            "limits.idle_ms = 185000",
            "outputs.kafka.ack = \"enqueued\"",
            "outputs.kafka.brokers = \"b-1:9092,b-2:9092\"",
            "outputs.kafka.topic = \"clicks\"",
            "outputs.kafka.type = \"kafka\"",
            "outputs.kinesis.ack = \"enqueued\"",
            "outputs.kinesis.stream = \"stream\"",
            "outputs.kinesis.type = \"kinesis\"",
            "paths.events = \"off\"",
            "paths.pixel = \"off\"",
        ];
        assert_eq!(lines(&found.tree), expected);
        assert_eq!(found.notes.len(), 6, "{:?}", found.notes);
    }

    #[test]
    fn a_bucket_becomes_an_output_of_its_own_acknowledged_by_our_rules() {
        let found = read_all(&[
            ("AWS_S3_BUCKET", "events"),
            ("S3_BATCH_MAX_BYTES", "50000000"),
            ("S3_BATCH_TIMEOUT_SECS", "60"),
            ("STREAM_ACK_ENABLE", "false"),
            ("SLUICE_OUTPUTS__S3__STAGING_DIR", "/data"),
        ])
        .unwrap();
        let expected = [
            "limits.idle_ms = 185000",
            "outputs.s3.bucket = \"events\"",
            "outputs.s3.object_age_s = 60",
            "outputs.s3.object_bytes_max = 50000000",
            "outputs.s3.prefix = \"s3-data\"",
            "outputs.s3.type = \"s3\"",
            "paths.events = \"off\"",
            "paths.pixel = \"off\"",
        ];
        assert_eq!(lines(&found.tree), expected);
        let found = read_all(&[
            ("AWS_S3_BUCKET", "events"),
            ("AWS_S3_PREFIX", "clickstream/p/data/buffer/"),
        ])
        .unwrap();
        let prefix = found.tree.get("outputs.s3.prefix").unwrap();
        assert_eq!(prefix.value.text(), Some("clickstream/p/data/buffer/"));
    }

    #[test]
    fn settings_of_a_bucket_without_a_bucket_make_no_output() {
        let found = read_all(&[
            ("AWS_S3_BUCKET", "__NOT_SET__"),
            ("AWS_S3_PREFIX", "s3-data"),
            ("S3_BATCH_MAX_BYTES", "30000000"),
            ("AWS_KINESIS_STREAM_NAME", "clicks"),
        ])
        .unwrap();
        let outputs: Vec<&String> = found.tree.outputs.iter().collect();
        assert_eq!(outputs, ["kinesis"]);
    }

    #[test]
    fn nothing_is_read_where_our_own_variables_name_an_output() {
        let found = read_all(&[
            ("SLUICE_OUTPUTS__MAIN__TYPE", "file"),
            ("AWS_S3_BUCKET", "of another program"),
            ("SERVER_ENDPOINT_PATH", "/in"),
        ])
        .unwrap();
        assert!(found.tree.values.is_empty() && found.notes.is_empty());
    }

    #[test]
    fn variables_without_an_output_are_refused() {
        let found = read_all(&[("SERVER_ENDPOINT_PATH", "/in")]).unwrap();
        assert!(found.require_output(true).is_ok());
        match found.require_output(false) {
            Err(ConfigError::Variable { name, .. }) => assert_eq!(name, "SERVER_ENDPOINT_PATH"),
            other => panic!("{other:?}"),
        }
        let found = read_all(&[("HOME", "/root")]).unwrap();
        assert!(found.require_output(false).is_ok());
    }

    #[test]
    fn acknowledgement_without_a_stream_makes_no_output() {
        let found = read_all(&[("STREAM_ACK_ENABLE", "true")]).unwrap();
        assert!(found.tree.values.is_empty(), "{:?}", found.tree);
    }

    #[test]
    fn every_origin_and_none_are_both_said_as_the_replaced_tier_says_them() {
        for (expression, expected) in [
            (".*", "*"),
            ("*", "*"),
            (r"^https://a\.example$", "https://a.example"),
            ("http://localhost", "http://localhost"),
            ("|", ""),
        ] {
            assert_eq!(origins(expression).as_deref(), Ok(expected), "{expression}");
        }
    }
}
