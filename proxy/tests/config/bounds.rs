//! Numbers and the bounds of each.

use super::{KINESIS, kafka, load};
use sluice_proxy::config::{BOUNDS, Bound, ConfigError, Problem, SECTIONS, Scope, SinkType};
use sluice_sinks::settings::{Kind, Setting};

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
        Scope::Output => output(SinkType::Null, ""),
        Scope::OutputOf(sink) => output(sink, ""),
        Scope::EnqueuedOutput => output(SinkType::Null, "ack = 'enqueued'\n"),
    }
}

/// A number that is bounded, and a file that sets it.
struct Bounded {
    key: String,
    unit: &'static str,
    min: u64,
    max: u64,
    text: Box<dyn Fn(u64) -> String>,
}

fn of_output(bound: &'static Bound) -> Bounded {
    Bounded {
        key: with_key(bound, 0).0,
        unit: bound.unit,
        min: bound.min,
        max: bound.max,
        text: Box::new(|value| with_key(bound, value).1),
    }
}

fn of_section(section: &str, setting: &Setting) -> Option<Bounded> {
    let Kind::Number { unit, min, max } = setting.form.kind else {
        return None;
    };
    let path = setting.path(section);
    let (section, key) = path.split_once('.').unwrap();
    let (section, key) = (section.to_owned(), key.to_owned());
    Some(Bounded {
        key: path.clone(),
        unit,
        min,
        max,
        text: Box::new(move |value| format!("[{section}]\n{key} = {value}\n")),
    })
}

fn all() -> Vec<Bounded> {
    let sections = SECTIONS.iter().flat_map(|section| {
        let settings = section.groups.iter().flat_map(|group| group.iter());
        settings.filter_map(|setting| of_section(section.name, setting))
    });
    sections.chain(BOUNDS.iter().map(of_output)).collect()
}

/// Whether a number is refused as out of its bounds; the words of the refusal are checked on the way.
fn out_of_range(bound: &Bounded, given: u64) -> bool {
    let found = match load(&(bound.text)(given)) {
        Ok(_) => return false,
        Err(ConfigError::Invalid(problems)) => problems.into_iter().find(
            |problem| matches!(problem, Problem::OutOfRange { key, .. } if *key == bound.key),
        ),
        Err(other) => panic!("{other}"),
    };
    let Some(problem) = found else { return false };
    let shown = problem.to_string();
    for part in [
        bound.key.clone(),
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
    for bound in all() {
        let (key, min, max) = (&bound.key, bound.min, bound.max);
        assert!(min < max, "{key}");
        assert!(!out_of_range(&bound, min), "{key} at min");
        assert!(!out_of_range(&bound, max), "{key} at max");
        assert!(out_of_range(&bound, max + 1), "{key} over max");
        if let Some(under) = min.checked_sub(1) {
            assert!(out_of_range(&bound, under), "{key} under min");
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
    let bounds = all();
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
                    bounds
                        .iter()
                        .any(|bound| bound.key.ends_with(&format!(".{key}"))),
                    "{section}.{key} has no bound"
                );
            }
        }
    }
    assert!(numbers > 40, "{numbers}");
}

#[test]
fn times_of_outputs_are_bounded_by_what_their_sinks_accept() {
    let most = |key: &str| {
        let bound = BOUNDS.iter().find(|bound| bound.key == key);
        bound.map(|bound| u128::from(bound.max)).unwrap()
    };
    let described = sluice_sinks::kinesis::DESCRIBE_INTERVALS.end().as_secs();
    assert_eq!(most("describe_interval_s"), u128::from(described));
    let delivery = sluice_sinks::kafka::DELIVERY_TIMEOUT_MAX.as_millis();
    assert_eq!(most("delivery_timeout_ms"), delivery);
}
