//! Groups: one name for several outputs, each of which gets a share of the records.

use super::output::Output;
use crate::ack::OutputId;
use crate::planted::{self, Bug};
use crate::priority::Priority;
use crate::time::Mono;
use md5::{Digest as _, Md5};

/// How a group chooses the output for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// By the record's key: all records with one key go to one output, whatever its state, so that their order holds.
    /// A record without a key goes to the least loaded.
    Hash,
    /// To the output with the fewest bytes pending for what it may have, of those whose circuit is closed.
    LeastLoaded,
}

/// A core's rules for one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRule {
    /// Its outputs, each with a number that does not change when others come or go; at least one.
    pub members: Vec<(OutputId, u64)>,
    /// How they share the records.
    pub spread: Spread,
    /// Whether events whose routing names no outputs go there.
    pub is_default: bool,
}

/// The number of a member by its name, for [`GroupRule::members`].
#[must_use]
pub fn member_number(name: &str) -> u64 {
    hash(name.as_bytes())
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) rule: GroupRule,
    /// The member for records of the request that is being admitted, unless their key decides.
    chosen: OutputId,
    /// Where the search begins, so that members that are equally loaded take turns.
    first: usize,
    /// Where the next one begins, if the group gets the request.
    next: usize,
}

impl Group {
    pub(crate) fn new(rule: GroupRule) -> Group {
        let first = rule.members.first();
        Group {
            // The configuration refuses a group without members.
            chosen: first.map_or(OutputId(0), |(id, _)| *id),
            first: 0,
            next: 0,
            rule,
        }
    }

    /// Whether another member can take the records of this one.
    pub(crate) fn has_others(&self, output: OutputId) -> bool {
        self.rule.spread == Spread::LeastLoaded && self.rule.members.len() > 1 && self.has(output)
    }

    pub(crate) fn has(&self, output: OutputId) -> bool {
        self.rule.members.iter().any(|(id, _)| *id == output)
    }

    /// Chooses the member for a request of these bytes.
    pub(crate) fn choose(&mut self, outputs: &[Output], bytes: u64, priority: Priority, now: Mono) {
        let count = self.rule.members.len().max(1);
        let in_turn = (0..count).map(|step| (self.first + step) % count);
        let places = in_turn.filter_map(|at| Some((at, self.rule.members.get(at)?.0)));
        let best = places.min_by_key(|(_, id)| {
            let Some(output) = outputs.get(usize::from(id.0)) else {
                return (u8::MAX, 0);
            };
            let is_avoided = output.is_avoided(now) && output.stand_in.is_none();
            let has_room = output.has_capacity_for(bytes, priority);
            let rank = match (output.is_failing(), is_avoided) {
                // One that fails gets a request now and then: how else would it be known to work?
                (true, false) if output.stand_in.is_none() => 0,
                (true, true) if planted::is(Bug::GroupKeepsFailing) => 1,
                (true, true) if output.rule.spools && has_room => 2,
                (true, true) => 4,
                _ if has_room || output.stand_in.is_some() => 1,
                _ => 3,
            };
            (rank, output.load())
        });
        if let Some((at, id)) = best {
            self.chosen = id;
            self.next = (at + 1) % count;
        }
    }

    /// The request went to the group.
    pub(crate) fn took_turn(&mut self) {
        self.first = self.next;
    }

    /// The member for a record with this key.
    pub(crate) fn member(&self, key: Option<&[u8]>) -> OutputId {
        let key =
            key.filter(|_| self.rule.spread == Spread::Hash && !planted::is(Bug::GroupForgetsKeys));
        let Some(key) = key else {
            return self.chosen;
        };
        // Rendezvous hashing: a member that goes, or comes, moves the keys of its own share only.
        let key = hash(key);
        let weight = |number: u64| scatter(key ^ scatter(number));
        let members = self.rule.members.iter();
        let best = members.max_by_key(|(_, number)| weight(*number));
        best.map_or(self.chosen, |(id, _)| *id)
    }

    /// Another member for a record that one of them has refused.
    pub(crate) fn other(
        &self,
        outputs: &[Output],
        takes: impl Fn(OutputId) -> bool,
    ) -> Option<OutputId> {
        let members = self.rule.members.iter().map(|(id, _)| *id);
        let others = members.filter(|id| self.rule.spread == Spread::LeastLoaded && takes(*id));
        others.min_by_key(|id| {
            outputs
                .get(usize::from(id.0))
                .map_or(u64::MAX, Output::load)
        })
    }
}

/// The same in every process and every version, so that a fleet agrees on the member for a key. MD5, because Kinesis
/// has that for its shards, of which the first bytes decide: these are the last.
fn hash(bytes: &[u8]) -> u64 {
    let digest: [u8; 16] = Md5::digest(bytes).into();
    digest[8..]
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Spreads near numbers far apart (the finaliser of SplitMix64, Steele et al. 2014).
fn scatter(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(names: &[&str]) -> Group {
        let members = (0..)
            .map(OutputId)
            .zip(names.iter().map(|name| member_number(name)));
        Group::new(GroupRule {
            members: members.collect(),
            spread: Spread::Hash,
            is_default: true,
        })
    }

    #[test]
    fn keys_spread_evenly_over_a_group() {
        let group = group(&["a", "b", "c", "d"]);
        let mut counts = [0; 4];
        for user in 0..40_000 {
            let member = group.member(Some(format!("u-{user}").as_bytes()));
            counts[usize::from(member.0)] += 1;
        }
        assert!(
            counts.iter().all(|count| (9_500..10_500).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn a_new_member_moves_only_the_keys_it_gets() {
        let (before, after) = (group(&["a", "b", "c"]), group(&["a", "b", "c", "d"]));
        let keys = (0..4_000).map(|user| format!("u-{user}"));
        let members = keys.map(|key| {
            (
                before.member(Some(key.as_bytes())),
                after.member(Some(key.as_bytes())),
            )
        });
        let moved: Vec<_> = members.filter(|(before, after)| before != after).collect();
        assert!(moved.iter().all(|(_, after)| *after == OutputId(3)));
        assert!((850..1_150).contains(&moved.len()), "{}", moved.len());
    }

    #[test]
    fn the_member_for_a_key_is_the_same_in_every_version() {
        let group = group(&["clicks-a", "clicks-b", "clicks-c"]);
        let members: Vec<u16> = ["u-1", "u-2", "u-3", "u-4", "u-5", "u-6"]
            .iter()
            .map(|key| group.member(Some(key.as_bytes())).0)
            .collect();
        assert_eq!(members, [2, 1, 0, 2, 2, 0]);
    }
}
