//! Reads all outputs and checks the rules between them. Knows no type of output: each reads its own settings.

use super::OUTPUTS_MAX;
use super::groups::{self, Group};
use super::known::OUTPUTS;
use super::names;
use sluice_core::partition::PartitionRule;
use sluice_sinks::TYPES;
use sluice_sinks::output::{Output, OutputContext, OutputType, TYPE_SETTING, is_name};
use sluice_sinks::settings::{Given, Problem, Reader};
use sluice_sinks::spool::SpoolSettings;
use std::path::{Component, Path};

/// Reads every output and group that was written. `context` is that of all outputs, without a name.
pub(super) fn read(reader: &mut Reader, context: &OutputContext) -> (Vec<Output>, Vec<Group>) {
    let names = reader.outputs();
    if names.len() > OUTPUTS_MAX {
        reader.problems.push(Problem::OutOfRange {
            key: OUTPUTS.to_owned(),
            value: names.len() as u64,
            unit: "outputs",
            min: 1,
            max: OUTPUTS_MAX as u64,
        });
    }
    let (mut outputs, mut groups) = (Vec::new(), Vec::new());
    for name in names {
        let context = OutputContext {
            name,
            ..context.clone()
        };
        match output(reader, &context) {
            Some(Found::Output(output)) => outputs.push(*output),
            Some(Found::Group(group)) => groups.push(group),
            None => {}
        }
    }
    // What could not be read is reported already, and so would be everything that names it.
    if reader.problems.is_empty() && reader.misfit.is_none() {
        groups::check(reader, &outputs, &groups);
    }
    let outputs = names::expand(reader, outputs, &groups);
    directories(reader, &outputs);
    partition_keys(reader, &outputs);
    topics(reader, &outputs);
    (outputs, groups)
}

/// What a section of the outputs is.
enum Found {
    Output(Box<Output>),
    Group(Group),
}

/// `None` where not even a type is known.
fn output(reader: &mut Reader, context: &OutputContext) -> Option<Found> {
    let name = &context.name;
    if !is_name(name) {
        reader.problems.push(Problem::Malformed {
            key: OUTPUTS.to_owned(),
            value: name.clone(),
            expected: "a name of 1 to 32 of a-z, 0-9, _ and -",
        });
        return None;
    }
    let section = format!("{OUTPUTS}.{name}");
    let spool = SpoolSettings::of_output(reader, &section);
    reader.enter(section);
    let written: String = reader.take(&TYPE_SETTING, String::new());
    if written == groups::TYPE {
        let own: Vec<&str> = Group::own_keys().collect();
        let others = TYPES.iter().flat_map(OutputType::all_settings);
        let mut others: Vec<&str> = others
            .map(|setting| setting.key)
            .filter(|key| !own.contains(key))
            .collect();
        others.sort_unstable();
        others.dedup();
        reader.only_if(false, &others, TYPE_SETTING.key, groups::TYPE);
        if let Some(spool) = &spool {
            let dir = spool.dir.as_deref().unwrap_or(Path::new(""));
            reader.contradiction(
                Given::new(path_of(name, "spool.dir"), format!("{dir:?}")),
                "in a section of a member, not of",
                Given::new(reader.path(TYPE_SETTING.key), groups::TYPE),
                "each member has its own spool",
            );
        }
        return Some(Found::Group(Group::read(reader, name.clone())));
    }
    let types = TYPES.iter().map(|known| known.name);
    let types: Vec<&str> = types.chain([groups::TYPE]).collect();
    let types = types.join(", ");
    let Some(found) = TYPES.iter().find(|known| known.name == written) else {
        if reader.is_written(TYPE_SETTING.key) {
            let why = format!("`{written}` is not one of {types}, the types of this build");
            reader.unreadable(TYPE_SETTING.key, &why);
        } else {
            reader.missing(TYPE_SETTING.key, format!("one of {types}"));
        }
        return None;
    };
    for key in foreign_keys(found) {
        reader.only_if(false, &[key], TYPE_SETTING.key, found.name);
    }
    let context = OutputContext {
        spool,
        ..context.clone()
    };
    Some(Found::Output(Box::new((found.read)(reader, &context))))
}

/// The keys that only other types know.
fn foreign_keys(own: &OutputType) -> Vec<&'static str> {
    let mut keys: Vec<&str> = TYPES
        .iter()
        .flat_map(OutputType::all_settings)
        .map(|setting| setting.key)
        .chain(Group::own_keys())
        .filter(|key| !own.has(key))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn path(output: &Output, key: &str) -> String {
    match &output.listed {
        // The settings that two could share, `dir`, come from the list.
        Some(listed) => path_of(&listed.by, listed.key),
        None => path_of(&output.name, key),
    }
}

fn path_of(name: &str, key: &str) -> String {
    format!("{OUTPUTS}.{name}.{key}")
}

/// No two outputs write to one directory.
fn directories(reader: &mut Reader, outputs: &[Output]) {
    let used: Vec<(String, &Path)> = outputs
        .iter()
        .flat_map(|output| {
            let directory = output.sink.directory();
            let own = directory.map(|of| (path(output, of.key), of.path));
            let spool = output.spool.as_ref().and_then(|spool| spool.dir.as_deref());
            let spool = spool.map(|dir| (path(output, "spool.dir"), dir));
            own.into_iter().chain(spool)
        })
        .collect();
    for (at, (key, dir)) in used.iter().enumerate() {
        for (other_key, other) in &used[..at] {
            if plain(dir).eq(plain(other)) {
                reader.contradiction(
                    Given::new(key, format!("{dir:?}")),
                    "other than",
                    Given::new(other_key, format!("{other:?}")),
                    "each would repair what the other is writing",
                );
            }
        }
    }
}

/// Records carry one key, computed once per event, for all outputs that want one.
fn partition_keys(reader: &mut Reader, outputs: &[Output]) {
    let mut keyed = outputs
        .iter()
        .filter(|output| output.partition_key != PartitionRule::Random);
    let Some(first) = keyed.next() else {
        return;
    };
    let key = |output: &Output| {
        let key = path(output, "partition_key");
        Given::new(key, output.partition_key.to_string())
    };
    if let Some(other) = keyed.find(|output| output.partition_key != first.partition_key) {
        reader.contradiction(
            key(first),
            "random, or the same as",
            key(other),
            "an event has one partition key",
        );
    }
}

/// A record names one topic, made once, for all outputs that want one.
fn topics(reader: &mut Reader, outputs: &[Output]) {
    let mut ruled = outputs
        .iter()
        .filter_map(|output| Some((output, output.sink.topics()?)));
    let Some((first, rule)) = ruled.next() else {
        return;
    };
    for (output, other) in ruled {
        for (key, here, there) in [
            (
                "topic",
                other.template.to_string(),
                rule.template.to_string(),
            ),
            (
                "topics_max",
                format!("{} topics", other.topics_max),
                format!("{} topics", rule.topics_max),
            ),
        ] {
            if here != there {
                reader.contradiction(
                    Given::new(path(output, key), here),
                    "the same as",
                    Given::new(path(first, key), there),
                    "a record names one topic, for all outputs",
                );
            }
        }
    }
}

/// The path without `.` parts, so that `./a` and `a` are the same.
fn plain(path: &Path) -> impl Iterator<Item = Component<'_>> {
    path.components().filter(|part| *part != Component::CurDir)
}
