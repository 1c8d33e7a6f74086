//! The names that rules make of events: a topic for Kafka, or the output that has the name in another one's list.

use super::{Rules, Slot, key_text};
use crate::ack::OutputId;
use crate::route::condition::Value;
use crate::topic::{self, Topic, Topics};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The names that an output lists, its own one too, each with the output that has it.
pub type NamedOutputs = BTreeMap<String, OutputId>;

#[derive(Debug)]
pub(super) struct TopicOf {
    pub(super) topics: Arc<Topics>,
    pub(super) fields: Vec<usize>,
    pub(super) allowed: BTreeSet<String>,
    /// Its place among the rules with a topic.
    pub(super) at: usize,
    /// Not all outputs of the rule list the names themselves.
    pub(super) is_needed: bool,
}

#[derive(Debug, Default)]
pub(super) struct TopicScratch {
    pub(super) name: String,
    /// By rule with a topic.
    pub(super) of: Vec<topic::Scratch>,
}

impl Rules {
    /// The same rules where these outputs list names. Events that a rule sends to one of them go to the output with the
    /// name that the rule's template makes of the event, and to the listing output itself if there is none.
    #[must_use]
    pub fn with_names(mut self, named: Vec<(OutputId, NamedOutputs)>) -> Rules {
        for rule in &mut self.rules {
            let lists = |output: &OutputId| named.iter().any(|(lists, _)| lists == output);
            if let Some(topic) = &mut rule.topic {
                topic.is_needed = !rule.outputs.iter().all(|(output, _)| lists(output));
            }
        }
        Rules { named, ..self }
    }

    pub(super) fn names_of(&self, output: OutputId) -> Option<&NamedOutputs> {
        let mut named = self.named.iter();
        named.find_map(|(lists, names)| (*lists == output).then_some(names))
    }
}

impl TopicOf {
    pub(super) fn make<'n, 'v>(
        &self,
        name: &'n mut String,
        value: &impl Fn(Slot) -> Value<'v>,
    ) -> Option<&'n str> {
        self.topics.template().make(name, |at| {
            let value = value(Slot::Field(*self.fields.get(at)?));
            key_text(&value).map(|text| Cow::Owned(text.into_owned()))
        })
    }

    pub(super) fn of(&self, scratches: &mut Vec<topic::Scratch>, name: &str) -> Option<Topic> {
        if !self.allowed.is_empty() && !self.allowed.contains(name) {
            return None;
        }
        if scratches.len() <= self.at {
            scratches.resize_with(self.at + 1, topic::Scratch::default);
        }
        let scratch = scratches.get_mut(self.at)?;
        self.topics.recall(scratch, name)
    }
}
