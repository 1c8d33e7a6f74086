//! Where an event goes: which outputs, and at each one under which key, to which topic, and with what promise.
//!
//! [`rules`] decides it by the event's fields ([`path`]) and its request ([`condition`]).

pub mod condition;
pub mod key;
pub mod path;
pub mod rules;
pub mod sample;

use crate::ack::OutputId;
use crate::topic::Topic;
use bytes::Bytes;
use std::iter;

/// Outputs that a set can name; as many as a configuration may have.
pub const OUTPUTS_MAX: usize = u64::BITS as usize;

/// A set of outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputSet(u64);

impl OutputSet {
    /// Every output.
    pub const ALL: OutputSet = OutputSet(u64::MAX);
    /// No output.
    pub const NONE: OutputSet = OutputSet(0);

    /// This set and one output more; one beyond [`OUTPUTS_MAX`] is in no set.
    #[must_use]
    pub fn with(self, output: OutputId) -> OutputSet {
        let bit = 1_u64.checked_shl(u32::from(output.0)).unwrap_or(0);
        OutputSet(self.0 | bit)
    }

    /// Whether no output is in the set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the output is in the set.
    #[must_use]
    pub fn contains(self, output: OutputId) -> bool {
        u32::from(output.0) < u64::BITS && self.0 >> output.0 & 1 == 1
    }

    /// The outputs in the set, in their order.
    pub fn iter(self) -> impl Iterator<Item = OutputId> {
        let mut rest = self.0;
        iter::from_fn(move || {
            let lowest = u16::try_from(rest.trailing_zeros()).ok();
            let lowest = lowest.filter(|_| rest != 0)?;
            rest &= rest - 1;
            Some(OutputId(lowest))
        })
    }
}

/// What an event is promised at an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryClass {
    /// The answer waits until the destination confirms the record.
    Required,
    /// The answer waits until the record is synced to the local disk, from where it reaches the destination. At an
    /// output that keeps nothing on disk, as [`DeliveryClass::Required`].
    Durable,
    /// The answer does not wait: it is enough to hand the record to the output. Records lost after that
    /// are counted.
    BestEffort,
}

impl DeliveryClass {
    /// Whether answers wait for a record of this class.
    #[must_use]
    pub const fn is_awaited(self) -> bool {
        !matches!(self, DeliveryClass::BestEffort)
    }
}

/// How an event goes to one output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// The partition key.
    pub key: Option<Bytes>,
    /// The topic.
    pub topic: Option<Topic>,
    /// What the event is promised there; `None` for the default of the output.
    pub class: Option<DeliveryClass>,
}

/// An event's own outputs, for events that do not simply go to every output with one key and one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// The outputs it goes to.
    pub outputs: OutputSet,
    /// Outputs with a route of their own; at all others the event's key and topic apply.
    pub routes: Vec<(OutputId, Route)>,
}

impl Routing {
    /// The route to an output, where it has one of its own.
    #[must_use]
    pub fn route(&self, output: OutputId) -> Option<&Route> {
        let mut routes = self.routes.iter();
        routes.find_map(|(at, route)| (*at == output).then_some(route))
    }

    /// Bytes of the longest key.
    #[must_use]
    pub fn key_bytes(&self) -> usize {
        let keys = self
            .routes
            .iter()
            .filter_map(|(_, route)| route.key.as_ref());
        keys.map(Bytes::len).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_exactly_the_outputs_put_into_it() {
        let set = OutputSet::NONE.with(OutputId(0)).with(OutputId(63));
        let all = (0..100).map(OutputId);
        let held: Vec<u16> = all.filter(|at| set.contains(*at)).map(|at| at.0).collect();
        assert_eq!(held, [0, 63]);
        assert!(set.iter().map(|at| at.0).eq(held));
        assert_eq!(set.with(OutputId(64)), set);
        assert!(OutputSet::ALL.iter().map(|at| at.0).eq(0..64));
    }
}
