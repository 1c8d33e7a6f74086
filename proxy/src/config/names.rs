//! Outputs that list streams, queues, prefixes or directories besides their own: each name becomes an output, with a
//! queue, a circuit, counters and directories of its own, that only rules with a `topic` send events to.

use super::OUTPUTS_MAX;
use super::groups::Group;
use super::known::OUTPUTS;
use sluice_sinks::names::{Names, label};
use sluice_sinks::output::{Listed, Output};
use sluice_sinks::settings::{Given, Problem, Reader};
use sluice_sinks::spool::SpoolSettings;

/// The outputs, and behind each those that were made for the names in its list.
pub(super) fn expand(reader: &mut Reader, outputs: Vec<Output>, groups: &[Group]) -> Vec<Output> {
    let mut all = Vec::new();
    let written = outputs.len() + groups.len();
    for output in outputs {
        let made = output
            .sink
            .names()
            .map(|names| of_names(reader, &output, names, groups));
        all.push(output);
        all.extend(made.into_iter().flatten());
    }
    let count = all.len() + groups.len();
    if written <= OUTPUTS_MAX && count > OUTPUTS_MAX {
        reader.problems.push(Problem::OutOfRange {
            key: OUTPUTS.to_owned(),
            value: count as u64,
            unit: "outputs, with the names that they list",
            min: 1,
            max: OUTPUTS_MAX as u64,
        });
    }
    all
}

fn of_names(reader: &mut Reader, output: &Output, names: Names, groups: &[Group]) -> Vec<Output> {
    let section = format!("{OUTPUTS}.{}", output.name);
    let key = format!("{section}.{}", names.key);
    if let Some(group) = groups.iter().find(|group| group.has(&output.name)) {
        reader.contradiction(
            Given::new(format!("{OUTPUTS}.{}.of", group.name), &*output.name),
            "an output without",
            Given::new(&*key, names.others.len().to_string()),
            "group and rule would both choose the place of a record",
        );
    }
    let mut known = vec![(label(&names.own), names.own)];
    let mut made = Vec::new();
    for (name, sink) in names.others {
        let label = label(&name);
        if label.is_empty() {
            reader.malformed(&key, &name, "a name with a letter or a digit");
            continue;
        }
        if let Some((_, other)) = known.iter().find(|(known, _)| *known == label) {
            reader.contradiction(
                Given::new(&*key, name),
                "unlike the output's own and all others, as is not",
                Given::new(&*key, &**other),
                "metrics and directories have a dot for all but letters, digits and any of _-=",
            );
            continue;
        }
        let spool = output.spool.clone().map(|spool| SpoolSettings {
            dir: spool.dir.map(|dir| dir.join(&label)),
            ..spool
        });
        made.push(Output {
            name: format!("{}.{label}", output.name),
            spool,
            sink,
            listed: Some(Listed {
                by: output.name.clone(),
                key: names.key,
                term: names.term,
                name: name.clone(),
            }),
            ..output.clone()
        });
        known.push((label, name));
    }
    made
}
