//! Numbers and the bounds of each.

use super::{KINESIS, kafka, load};
use sluice_proxy::config::{ConfigError, Problem, SECTIONS};
use sluice_sinks::TYPES;
use sluice_sinks::output::OutputType;
use sluice_sinks::settings::{Kind, Setting};

/// A number that is bounded, and a file that sets it.
struct Bounded {
    key: String,
    unit: &'static str,
    min: u64,
    max: u64,
    text: Box<dyn Fn(u64) -> String>,
}

fn of_output(of: &OutputType, setting: &Setting) -> Option<Bounded> {
    let Kind::Number { unit, min, max } = setting.form.kind else {
        return None;
    };
    let (name, example, key) = (of.name, of.example, setting.key);
    Some(Bounded {
        key: format!("outputs.main.{key}"),
        unit,
        min,
        max,
        text: Box::new(move |value| {
            format!("[outputs.main]\ntype = '{name}'\n{example}{key} = {value}\n")
        }),
    })
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
    let outputs = TYPES.iter().flat_map(|of| {
        let settings = of.all_settings();
        settings.filter_map(|setting| of_output(of, setting))
    });
    sections.chain(outputs).collect()
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
fn numbers_are_accepted_at_their_bounds_and_refused_beyond() {
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
         [outputs.queue]\ntype = 'sqs'\nqueue_url = 'http://host/1/clicks'\n\
         [outputs.hook]\ntype = 'http'\nurl = 'http://host/'\n\
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
