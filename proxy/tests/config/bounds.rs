//! Numbers and the bounds of each.

use super::{KINESIS, kafka, load};
use sluice_proxy::config::{BOUNDS, Bound, ConfigError, Problem, Scope, SinkType};

/// What an output of this type cannot do without.
pub(super) fn needs(sink: SinkType) -> &'static str {
    match sink {
        SinkType::File | SinkType::Null => "",
        SinkType::Firehose | SinkType::Kinesis => "stream = 'clicks'\n",
        SinkType::Kafka => kafka::TOPICS,
        SinkType::S3 => "bucket = 'clicks'\n",
    }
}

/// A file that sets one bounded key, with what that key needs around it.
fn with_key(bound: &Bound, value: u64) -> (String, String) {
    let set = format!("{} = {value}\n", bound.key);
    let output = |sink: SinkType, more: &str| {
        let stream = needs(sink);
        (
            format!("outputs.main.{}", bound.key),
            format!("[outputs.main]\ntype = '{sink}'\n{stream}{more}{set}"),
        )
    };
    match bound.scope {
        Scope::Section(section) => (
            format!("{section}.{}", bound.key),
            format!("[{section}]\n{set}"),
        ),
        Scope::Output => output(SinkType::Null, ""),
        Scope::OutputOf(sink) => output(sink, ""),
        Scope::EnqueuedOutput => output(SinkType::Null, "ack = 'enqueued'\n"),
    }
}

/// Whether a number is refused as out of its bounds; the refusal's words are checked on the way.
fn out_of_range(bound: &Bound, given: u64) -> bool {
    let (key, text) = with_key(bound, given);
    let found = match load(&text) {
        Ok(_) => return false,
        Err(ConfigError::Invalid(problems)) => problems.into_iter().find(
            |problem| matches!(problem, Problem::OutOfRange { key: named, .. } if *named == key),
        ),
        Err(other) => panic!("{other}"),
    };
    let Some(problem) = found else { return false };
    let shown = problem.to_string();
    for part in [
        key,
        given.to_string(),
        bound.min.to_string(),
        bound.max.to_string(),
        bound.unit.to_owned(),
    ] {
        assert!(shown.contains(&part), "{shown} lacks {part}");
    }
    true
}

#[test]
fn every_number_is_taken_at_its_bounds_and_refused_one_beyond() {
    for bound in BOUNDS {
        assert!(bound.min < bound.max, "{bound:?}");
        assert!(!out_of_range(bound, bound.min), "{bound:?} at min");
        assert!(!out_of_range(bound, bound.max), "{bound:?} at max");
        assert!(out_of_range(bound, bound.max + 1), "{bound:?} over max");
        if let Some(under) = bound.min.checked_sub(1) {
            assert!(out_of_range(bound, under), "{bound:?} under min");
        }
    }
}

#[test]
fn every_numeric_key_of_the_printed_form_has_a_bound() {
    let text = format!(
        "{KINESIS}ack = 'enqueued'\n[outputs.files]\ntype = 'file'\n[outputs.none]\ntype = 'null'\n\
         [outputs.bucket]\ntype = 's3'\nbucket = 'clicks'\n\
         [outputs.fire]\ntype = 'firehose'\nstream = 's'\n\
         [outputs.topic]\ntype = 'kafka'\n{}",
        kafka::TOPICS
    );
    let printed: toml::Table = load(&text).unwrap().to_toml().parse().unwrap();
    let mut numbers = 0;
    for (section, value) in &printed {
        let tables: Vec<&toml::Table> = match value.as_table() {
            Some(outputs) if section == "outputs" => {
                outputs.values().filter_map(toml::Value::as_table).collect()
            }
            Some(table) => vec![table],
            None => panic!("{section} is no section"),
        };
        for (key, value) in tables.into_iter().flatten() {
            if value.is_integer() {
                numbers += 1;
                assert!(
                    BOUNDS.iter().any(|bound| bound.key == key),
                    "{section}.{key} has no bound"
                );
            }
        }
    }
    assert!(numbers > 40, "{numbers}");
}
