//! Which output gets a record: the one that it is meant for, a member of a group, or one that stands in for it.

use super::Intake;
use super::group::Group;
use super::output::Asked;
use super::request_table::Moved;
use crate::ack::{Outcome, OutputId, Settlement, Ticket, WriterId};
use crate::cause::Cause;
use crate::planted::{self, Bug};
use crate::prepared::PreparedRecord;
use crate::priority::Priority;
use crate::record::Record;
use crate::route::{DeliveryClass, OutputSet, Route};
use crate::time::Mono;
use std::mem;

/// Where a record goes, for one of the outputs that it was routed to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    /// The output that it is meant for: of a group, one of its members.
    pub(super) meant_for: OutputId,
    /// The output that gets it.
    pub(super) at: OutputId,
    /// What it is promised.
    pub(super) class: DeliveryClass,
}

/// A record that an output is given.
#[derive(Debug)]
pub(super) struct Given<'r> {
    pub(super) record: &'r mut PreparedRecord,
    /// Nobody needs the record after this.
    pub(super) is_last: bool,
    pub(super) meant_for: OutputId,
    pub(super) at: OutputId,
    /// How long it may be tried; `None` for as long as the output tries what no client waits for.
    pub(super) until: Option<Mono>,
    pub(super) ticket: Ticket,
}

impl Intake {
    /// Decides who stands in for whom, and which members of groups are next, for one request of these bytes.
    pub(super) fn choose(&mut self, bytes: u64, priority: Priority, now: Mono) {
        if !self.keeps_records && self.groups.is_empty() {
            return;
        }
        for at in 0..self.outputs.len() {
            let stand_in = self.stand_in(at, bytes, priority, now);
            if let Some(output) = self.outputs.get_mut(at) {
                output.stand_in = stand_in;
            }
        }
        for group in &mut self.groups {
            group.choose(&self.outputs, bytes, priority, now);
        }
    }

    /// The output that gets the records of one whose circuit is open: its fallback, or, if that one's is open too, the
    /// next in line.
    fn stand_in(&self, at: usize, bytes: u64, priority: Priority, now: Mono) -> Option<OutputId> {
        let mut output = self.outputs.get(at)?;
        // The configuration has no cycles.
        while output.is_avoided(now) && !planted::is(Bug::FallbackUnused) {
            let next = output.rule.fallback?;
            output = self.outputs.get(usize::from(next.0))?;
            if output.can_stand_in(bytes, priority, now) {
                return Some(next);
            }
        }
        None
    }

    /// The places of a record. `entries` are the outputs, and behind them the groups.
    pub(super) fn places<'r>(
        &'r self,
        record: &'r PreparedRecord,
    ) -> impl Iterator<Item = Placed> + 'r {
        let entries = self.entries(record).iter();
        entries.filter_map(|entry| self.place(record, entry))
    }

    /// The same, for one record after the other: `places` has those of the last, and they are common if any record of
    /// the request goes there that has no routing of its own.
    pub(super) fn find_places(
        &self,
        record: &PreparedRecord,
        places: &mut Vec<Placed>,
        are_common: &mut bool,
    ) {
        // A group chooses by the record's key.
        let is_common = record.routing.is_none() && self.groups.is_empty();
        if !(is_common && *are_common) {
            places.clear();
            places.extend(self.places(record));
        }
        *are_common = is_common;
    }

    fn place(&self, record: &PreparedRecord, entry: OutputId) -> Option<Placed> {
        let routing = record.routing.as_deref();
        let route = routing.and_then(|routing| routing.route(entry));
        let meant_for = match self.group(entry) {
            Some(group) => {
                let key = route.map_or(record.key.as_ref(), |route| route.key.as_ref());
                group.member(key.map(|key| &key[..]))
            }
            None => entry,
        };
        let output = self.outputs.get(usize::from(meant_for.0))?;
        Some(Placed {
            meant_for,
            at: output.stand_in.unwrap_or(meant_for),
            class: route
                .and_then(|route| route.class)
                .unwrap_or(output.rule.class),
        })
    }

    fn group(&self, entry: OutputId) -> Option<&Group> {
        let at = usize::from(entry.0).checked_sub(self.outputs.len())?;
        self.groups.get(at)
    }

    /// The outputs and groups that a record goes to.
    fn entries(&self, record: &PreparedRecord) -> OutputSet {
        let routing = record.routing.as_deref();
        let own = routing.map_or(self.default_outputs, |routing| routing.outputs);
        let outputs = (0..).map(OutputId).take(self.outputs.len());
        match planted::is(Bug::RoutingIgnored) {
            true => outputs.fold(own, OutputSet::with),
            false => own,
        }
    }

    fn goes_to(&self, record: &PreparedRecord, entry: OutputId) -> bool {
        self.entries(record).contains(entry)
    }

    /// Adds up what a request asks of each output. A record that has two reasons to go to one output goes there once.
    pub(super) fn ask<'r>(&mut self, records: impl Iterator<Item = &'r PreparedRecord>) {
        for output in &mut self.outputs {
            output.asked = Asked::default();
        }
        let mut outputs = mem::take(&mut self.scratch);
        outputs.clear();
        let mut are_common = false;
        for record in records {
            self.find_places(record, &mut outputs, &mut are_common);
            let bytes = super::size(record);
            let mut counted = OutputSet::NONE;
            for Placed { at, class, .. } in &outputs {
                let Some(output) = self.outputs.get_mut(usize::from(at.0)) else {
                    continue;
                };
                if !counted.contains(*at) {
                    output.asked.bytes += bytes;
                }
                counted = counted.with(*at);
                output.asked.is_awaited |= class.is_awaited();
            }
        }
        self.scratch = outputs;
    }
}
impl Intake {
    /// The output that a refused record goes to next, if there is one: the fallback or another member of the group, if
    /// the circuit of the one that refused it is open; else back to the spool of the one that it was meant for.
    pub(super) fn next_place(&self, settlement: &Settlement, now: Mono) -> Option<OutputId> {
        let Outcome::Refused(cause) = settlement.outcome else {
            return None;
        };
        if !may_be_taken_elsewhere(cause) || planted::is(Bug::RefusalStays) {
            return None;
        }
        let record = self.requests.kept(settlement)?;
        let priority = self.requests.priority(settlement.request)?;
        let takes = |id: OutputId| {
            let output = self.outputs.get(usize::from(id.0));
            !settlement.tried.contains(id)
                && !self.goes_to(record, id)
                && output.is_some_and(|it| it.can_stand_in(settlement.bytes.into(), priority, now))
        };
        let from = self.outputs.get(usize::from(settlement.output.0))?;
        if from.is_failing() {
            let other = || {
                let groups = (self.outputs.len()..).zip(&self.groups);
                let mut groups = groups.filter(|(entry, group)| {
                    let entry = u16::try_from(*entry).map(OutputId);
                    group.has(settlement.output)
                        && entry.is_ok_and(|entry| self.goes_to(record, entry))
                });
                groups.find_map(|(_, group)| group.other(&self.outputs, takes))
            };
            let next = from.rule.fallback.filter(|id| takes(*id)).or_else(other);
            if next.is_some() {
                return next;
            }
        }
        let meant_for = settlement.meant_for;
        let spools = self
            .outputs
            .get(usize::from(meant_for.0))
            .is_some_and(|output| output.rule.spools);
        (spools && !settlement.tried.contains(meant_for)).then_some(meant_for)
    }

    /// Gives a refused record to another output. The request waits for that one now.
    pub(super) fn move_on(
        &mut self,
        settlement: &Settlement,
        to: OutputId,
        now: Mono,
        submit: &mut impl FnMut(WriterId, Record),
    ) {
        let Some(Moved {
            mut record,
            ticket,
            deadline,
            settled,
        }) = self.requests.move_on(settlement, to)
        else {
            return;
        };
        if let Some(from) = self.outputs.get_mut(usize::from(settlement.output.0)) {
            from.settle(settlement, settled, now);
            from.tally.diverted += u64::from(settlement.output == settlement.meant_for);
        }
        if let Some(output) = self.outputs.get_mut(usize::from(to.0)) {
            output.choose_writer(now);
            output.accepted(settlement.bytes);
        }
        let meant_for = settlement.meant_for;
        let given = Given {
            record: &mut record,
            is_last: true,
            meant_for,
            at: to,
            until: deadline.map(|deadline| self.until(meant_for, to, deadline, now)),
            ticket,
        };
        self.submit(given, now, submit);
    }

    /// Submits a record to the output that gets it. The last one gets what the record has; those before get a reference
    /// to the same bytes, which costs locked instructions here and in the writer.
    pub(super) fn submit(
        &self,
        given: Given<'_>,
        now: Mono,
        submit: &mut impl FnMut(WriterId, Record),
    ) {
        // An output that does not exist is given nothing.
        let Some(output) = self.outputs.get(usize::from(given.at.0)) else {
            return;
        };
        let (rule, record) = (&output.rule, given.record);
        let (at, meant_for) = (given.at, given.meant_for);
        let (topic, key) = match self.route(record, meant_for) {
            // What a rule decided holds there; a stand-in may not have the topic.
            Some(route) => (
                (route.topic.clone()).filter(|_| at == meant_for || rule.by_topic),
                route.key.clone(),
            ),
            None => {
                let (topic, key) = match given.is_last {
                    true => (record.topic.take(), record.key.take()),
                    false => (record.topic.clone(), record.key.clone()),
                };
                (topic.filter(|_| rule.by_topic), key.filter(|_| rule.keyed))
            }
        };
        let record = Record {
            key,
            topic,
            payload: match given.is_last {
                true => mem::take(&mut record.payload),
                false => record.payload.clone(),
            },
            deadline: given.until.unwrap_or(now + rule.retry_for),
            ticket: given.ticket,
        };
        let writer = WriterId {
            output: at,
            number: output.writer(),
        };
        submit(writer, record);
    }

    /// The event's own route to an output, or to the group that chose it.
    fn route<'r>(&self, record: &'r PreparedRecord, output: OutputId) -> Option<&'r Route> {
        let routing = record.routing.as_deref()?;
        routing.route(output).or_else(|| {
            let at = self.groups.iter().position(|group| group.has(output))?;
            let entry = u16::try_from(self.outputs.len() + at).ok()?;
            routing.route(OutputId(entry))
        })
    }
}

/// Whether a record refused for this cause may be taken by another output.
fn may_be_taken_elsewhere(cause: Cause) -> bool {
    match cause {
        Cause::Throttled
        | Cause::Unavailable
        | Cause::Unknown
        | Cause::Denied
        | Cause::NotFound
        | Cause::NoSpace
        | Cause::Expired => true,
        // The record's own fault; a writer that is gone, or the end of the process.
        Cause::Invalid | Cause::TooLarge | Cause::Lost | Cause::Shutdown => false,
    }
}
