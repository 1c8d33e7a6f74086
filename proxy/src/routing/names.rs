//! Outputs that list streams, queues, prefixes or directories: which names a rule's `topic` finds there.

use super::{Place, ROUTES, Route, id, target};
use sluice_core::ack::OutputId;
use sluice_core::route::rules::NamedOutputs;
use sluice_sinks::settings::{Problem, Reader};

/// The outputs that list names, each with the outputs that have them.
pub(super) fn of(places: &[Place<'_>]) -> Vec<(OutputId, NamedOutputs)> {
    let numbered = || (0..).map(id).zip(places);
    let names = |own: OutputId, of: &Place<'_>| {
        let others = numbered().filter_map(|(at, place)| {
            let listed = place.listed.filter(|listed| listed.by == of.name)?;
            Some((listed.name.clone(), at))
        });
        let own = of.own_name.clone().map(|name| (name, own));
        others.chain(own).collect()
    };
    let lists = numbered().filter(|(_, place)| place.own_name.is_some());
    lists.map(|(at, place)| (at, names(at, place))).collect()
}

/// A list of names is of use to a rule with a topic only.
pub(super) fn check(reader: &mut Reader, routes: &[Route], places: &[Place<'_>]) {
    let by_topic = routes.iter().filter(|route| route.settings.topic.is_some());
    let entries = by_topic.flat_map(|route| &route.settings.outputs);
    let used: Vec<usize> = entries
        .filter_map(|entry| Some(target(entry, places)?.0))
        .collect();
    let lists = |at: usize| places.get(at).filter(|place| place.own_name.is_some());
    for place in (0..places.len())
        .filter(|at| !used.contains(at))
        .filter_map(lists)
    {
        let mut listed = places.iter().filter_map(|other| other.listed);
        if let Some(listed) = listed.find(|listed| listed.by == place.name) {
            reader.problems.push(Problem::Misplaced {
                key: format!("outputs.{}.{}", listed.by, listed.key),
                because: ROUTES.to_owned(),
                value: "without a rule that names the output and has a `topic`".to_owned(),
            });
        }
    }
}
