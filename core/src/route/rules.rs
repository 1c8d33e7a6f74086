//! The rules that route events: the first that matches, or all that do, decide where an event goes.
//!
//! ```text
//!  settings --Rules::new--> conditions on slots, one list of wanted fields
//!  scan: top-level fields --Reading--> all wanted fields, by slot --Rules::choose--> Choice --finish--> Routing
//! ```
//!
//! What no rule asks for is not read, and a plan without rules has none of this. Draws no lots and reads no clock: a
//! sample depends on the event alone.

mod reading;
mod topics;

pub(crate) use reading::Reading;
pub use topics::NamedOutputs;
use topics::{TopicOf, TopicScratch};

use super::condition::{Condition, Value};
use super::key::{Hasher, KeyRule};
use super::path::FieldPath;
use super::sample::Sample;
use super::{DeliveryClass, OutputSet, Route, Routing};
use crate::ack::OutputId;
use crate::civil;
use crate::json::scan::Span;
use crate::json::walk::Members;
use crate::partition::{KEY_CHARS_MAX, key_of_value, truncated};
use crate::priority::Priority;
use crate::request::RequestContext;
use crate::schema::SchemaId;
use crate::time::Mono;
use crate::topic::{Topic, Topics};
use bytes::Bytes;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Rules in one configuration.
pub const RULES_MAX: usize = 64;

/// Different fields that all rules together may read.
pub const FIELDS_MAX: usize = 64;

/// Different query parameters that all rules together may read.
pub const QUERIES_MAX: usize = 16;

/// The name under which events that no rule matched are counted.
pub const UNMATCHED: &str = "unmatched";

/// The field into which the rate of a sample is written.
pub const SAMPLE_RATE: &str = "sample_rate";

/// Where a test finds its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A field of the event, in envelope mode a key of the envelope.
    Field(FieldPath),
    /// A query parameter.
    Query(String),
    /// The endpoint's name.
    Endpoint,
    /// The listener's name.
    Listener,
    /// The host that the request names, in lower case and without port.
    Host,
}

/// A rule as it is configured.
#[derive(Clone, Debug)]
pub struct RuleSettings {
    /// Which events it matches; `None` for all.
    pub when: Option<Condition<Source>>,
    /// Where they go, and with what promise if not the output's own. Without any, they go nowhere.
    pub outputs: Vec<(OutputId, Option<DeliveryClass>)>,
    /// Their key, if not the output's own.
    pub key: Option<KeyRule>,
    /// What [`KeyRule::Hmac`] is keyed with.
    pub key_salt: Vec<u8>,
    /// Their topic, if not the output's own.
    pub topic: Option<TopicSettings>,
    /// Which of them are kept, by which field; an event without it is kept.
    pub sample: Option<(Sample, FieldPath)>,
    /// What they have to look like.
    pub schema: Option<SchemaId>,
    /// Which of them are shed first.
    pub priority: Priority,
}

/// How a rule names topics.
#[derive(Clone, Debug)]
pub struct TopicSettings {
    /// The template, and how many names it may make.
    pub topics: Arc<Topics>,
    /// The fields of the template, in its order.
    pub fields: Vec<FieldPath>,
    /// The only names that are allowed; none for any.
    pub allowed: BTreeSet<String>,
}

/// What an output does with an event that has no route of its own there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputDefaults {
    /// Its records have the event's own key.
    pub keyed: bool,
    /// Its records go to the topic that the event names.
    pub by_topic: bool,
}

/// More than the rules together may ask for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// Rules.
    #[error("there are {actual} rules, at most {limit} are allowed")]
    Rules {
        /// [`RULES_MAX`].
        limit: usize,
        /// Rules given.
        actual: usize,
    },
    /// Fields.
    #[error("the rules read more than {limit} different fields: `{over}` is one too many")]
    Fields {
        /// [`FIELDS_MAX`].
        limit: usize,
        /// The first one over the limit.
        over: String,
    },
    /// Query parameters.
    #[error(
        "the rules read more than {limit} different query parameters: `{over}` is one too many"
    )]
    Queries {
        /// [`QUERIES_MAX`].
        limit: usize,
        /// The first one over the limit.
        over: String,
    },
}

/// The rules, ready to be applied.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    /// For events that no rule matches; `None` treats them as in a plan without rules.
    unmatched: Option<Rule>,
    /// Every rule that matches counts, not only the first one.
    all_matches: bool,
    fields: Vec<FieldPath>,
    members: Members,
    queries: Vec<String>,
    /// Where [`SAMPLE_RATE`] is found, if there are samples.
    rate_field: Option<usize>,
    defaults: Vec<OutputDefaults>,
    named: Vec<(OutputId, NamedOutputs)>,
}

#[derive(Debug)]
struct Rule {
    when: Option<Condition<Slot>>,
    outputs: Vec<(OutputId, Option<DeliveryClass>)>,
    key: Option<Key>,
    topic: Option<TopicOf>,
    sample: Option<(Sample, usize)>,
    schema: Option<SchemaId>,
    priority: Priority,
}

/// Where a value was put before the rules are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Field(usize),
    Query(usize),
    Endpoint,
    Listener,
    Host,
}

#[derive(Debug)]
enum Key {
    Random,
    Timestamp,
    Field(Vec<usize>),
    Hmac(Vec<usize>, Hasher),
}

/// What one rule did to the events of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleTally {
    /// It matched.
    pub events: u64,
    /// Of these, left out of its sample.
    pub sampled_away: u64,
    /// Of these, without a topic of their own, or at an output that lists names without one of these: no value, no
    /// name, not allowed, or no room for another name.
    pub without_topic: u64,
}

/// What rules keep from one request to the next, and what they did in the last one.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// By rule, the unmatched last; empty without rules.
    pub(crate) tallies: Vec<RuleTally>,
    /// The highest of the events so far that go somewhere.
    pub(crate) priority: Option<Priority>,
    spans: Vec<Span>,
    topics: TopicScratch,
}

/// How an event goes on.
#[derive(Debug)]
pub(crate) struct Choice {
    /// The first rule that matched, by its number among all, of which the unmatched events are the last.
    pub(crate) rule: Option<usize>,
    /// `None` for an event that goes where all go without rules.
    routing: Option<Box<Routing>>,
    /// Outputs that a rule has named, whose place another one with a name that they list may have taken.
    named: OutputSet,
    /// Outputs whose route takes over the event's own key, or topic.
    own_key: OutputSet,
    own_topic: OutputSet,
    /// The share of events that its sample keeps.
    pub(crate) sample: Option<Sample>,
    /// The client has written such a share itself.
    pub(crate) has_rate: bool,
    /// What it has to look like, if a rule took it.
    pub(crate) schema: Option<Option<SchemaId>>,
    /// Bytes of the longest key of its routes.
    pub(crate) key_bytes: usize,
}

impl Choice {
    /// Whether it goes nowhere: its rule has no outputs, or its sample leaves it out.
    pub(crate) fn goes_nowhere(&self) -> bool {
        let routing = self.routing.as_ref();
        routing.is_some_and(|routing| routing.outputs.is_empty())
    }

    /// The routing, now that the event's own key and topic are known.
    pub(crate) fn finish(self, key: Option<&Bytes>, topic: Option<&Topic>) -> Option<Box<Routing>> {
        let mut routing = self.routing?;
        for (output, route) in &mut routing.routes {
            if self.own_key.contains(*output) {
                route.key = key.cloned();
            }
            if self.own_topic.contains(*output) {
                route.topic = topic.cloned();
            }
        }
        Some(routing)
    }
}

/// Gives each thing that rules ask for a slot.
#[derive(Default)]
struct Slots {
    fields: Vec<FieldPath>,
    members: Members,
    queries: Vec<String>,
}

impl Slots {
    fn field(&mut self, path: &FieldPath) -> Result<usize, RulesError> {
        let next = self.fields.len();
        let slot = self.members.add(path.names(), next).unwrap_or(next);
        if slot == next {
            if next == FIELDS_MAX {
                let (limit, over) = (FIELDS_MAX, path.to_string());
                return Err(RulesError::Fields { limit, over });
            }
            self.fields.push(path.clone());
        }
        Ok(slot)
    }

    fn fields(&mut self, paths: &[FieldPath]) -> Result<Vec<usize>, RulesError> {
        paths.iter().map(|path| self.field(path)).collect()
    }

    fn slot(&mut self, source: &Source) -> Result<Slot, RulesError> {
        Ok(match source {
            Source::Field(path) => Slot::Field(self.field(path)?),
            Source::Endpoint => Slot::Endpoint,
            Source::Listener => Slot::Listener,
            Source::Host => Slot::Host,
            Source::Query(name) => {
                if let Some(slot) = self.queries.iter().position(|known| known == name) {
                    return Ok(Slot::Query(slot));
                }
                if self.queries.len() == QUERIES_MAX {
                    let (limit, over) = (QUERIES_MAX, name.clone());
                    return Err(RulesError::Queries { limit, over });
                }
                self.queries.push(name.clone());
                Slot::Query(self.queries.len() - 1)
            }
        })
    }

    fn rule(&mut self, settings: RuleSettings, topics: &mut usize) -> Result<Rule, RulesError> {
        let key = match &settings.key {
            None => None,
            Some(KeyRule::Random) => Some(Key::Random),
            Some(KeyRule::Timestamp) => Some(Key::Timestamp),
            Some(rule @ KeyRule::Field(_)) => Some(Key::Field(self.fields(rule.fields())?)),
            Some(rule @ KeyRule::Hmac(_)) => Some(Key::Hmac(
                self.fields(rule.fields())?,
                Hasher::new(&settings.key_salt),
            )),
        };
        let topic = match settings.topic {
            None => None,
            Some(topic) => {
                let at = *topics;
                *topics += 1;
                Some(TopicOf {
                    fields: self.fields(&topic.fields)?,
                    topics: topic.topics,
                    allowed: topic.allowed,
                    at,
                    is_needed: true,
                })
            }
        };
        let sample = match settings.sample {
            None => None,
            Some((sample, field)) => Some((sample, self.field(&field)?)),
        };
        let when = settings.when.as_ref();
        Ok(Rule {
            when: when
                .map(|when| when.try_map(&mut |source| self.slot(source)))
                .transpose()?,
            outputs: settings.outputs,
            key,
            topic,
            sample,
            schema: settings.schema,
            priority: settings.priority,
        })
    }
}

impl Rules {
    /// Rules in their order, and the outputs of events that none of them matches; `None` leaves those as they are
    /// without rules. `defaults` are those of all
    /// outputs.
    ///
    /// # Errors
    /// There are too many, or they read too much.
    pub fn new(
        rules: Vec<RuleSettings>,
        unmatched: Option<Vec<OutputId>>,
        all_matches: bool,
        defaults: Vec<OutputDefaults>,
    ) -> Result<Rules, RulesError> {
        if rules.len() > RULES_MAX {
            let (limit, actual) = (RULES_MAX, rules.len());
            return Err(RulesError::Rules { limit, actual });
        }
        let mut slots = Slots::default();
        let mut topics = 0;
        let rate_field = match rules.iter().any(|rule| rule.sample.is_some()) {
            true => Some(slots.field(&FieldPath::of_name(SAMPLE_RATE))?),
            false => None,
        };
        let rules: Result<Vec<Rule>, RulesError> = rules
            .into_iter()
            .map(|rule| slots.rule(rule, &mut topics))
            .collect();
        Ok(Rules {
            rules: rules?,
            rate_field,
            unmatched: unmatched.map(|outputs| Rule {
                when: None,
                outputs: outputs.into_iter().map(|output| (output, None)).collect(),
                key: None,
                topic: None,
                sample: None,
                schema: None,
                priority: Priority::default(),
            }),
            all_matches,
            fields: slots.fields,
            members: slots.members,
            queries: slots.queries,
            defaults,
            named: Vec::new(),
        })
    }

    /// Tells the time; see [`Topics::tick`].
    pub fn tick(&self, now: Mono) {
        let topics = self.rules.iter().filter_map(|rule| rule.topic.as_ref());
        topics.for_each(|topic| topic.topics.tick(now));
    }

    /// Prepares the reading of one request.
    pub(crate) fn reading<'r>(&'r self, request: &'r RequestContext<'_>) -> Reading<'r> {
        let query = |name: &String| {
            let [value] = request.parameters([name]);
            value.map(Cow::into_owned)
        };
        Reading {
            rules: self,
            request,
            queries: self.queries.iter().map(query).collect(),
            heads: None,
            all: None,
        }
    }

    /// What happens to an event with these values.
    fn choose<'v>(
        &self,
        request: &RequestContext<'_>,
        scratch: &mut Scratch,
        value: &impl Fn(Slot) -> Value<'v>,
    ) -> Choice {
        let Scratch {
            tallies, topics, ..
        } = scratch;
        tallies.resize(self.rules.len() + 1, RuleTally::default());
        let mut choice = Choice {
            rule: None,
            routing: None,
            named: OutputSet::NONE,
            own_key: OutputSet::NONE,
            own_topic: OutputSet::NONE,
            sample: None,
            has_rate: false,
            schema: None,
            key_bytes: 0,
        };
        // The highest of the rules that match.
        let mut priority = None;
        for (at, (rule, tally)) in self.rules.iter().zip(tallies.iter_mut()).enumerate() {
            let matches = |when: &Condition<Slot>| when.holds(&|slot: &Slot| value(*slot));
            if !rule.when.as_ref().is_none_or(matches) {
                continue;
            }
            choice.rule.get_or_insert(at);
            // Of several rules with a schema, the first decides.
            choice.schema = Some(choice.schema.flatten().or(rule.schema));
            priority = priority.max(Some(rule.priority));
            self.apply(rule, tally, request, topics, value, &mut choice);
            if !self.all_matches {
                break;
            }
        }
        if choice.rule.is_none()
            && let Some(tally) = tallies.last_mut()
        {
            choice.rule = Some(self.rules.len());
            match &self.unmatched {
                Some(rule) => self.apply(rule, tally, request, topics, value, &mut choice),
                None => tally.events += 1,
            }
        }
        if !choice.goes_nowhere() {
            scratch.priority = scratch.priority.max(Some(priority.unwrap_or_default()));
        }
        choice.has_rate = choice.sample.is_some()
            && (self.rate_field).is_some_and(|field| value(Slot::Field(field)) != Value::Absent);
        choice
    }

    fn apply<'v>(
        &self,
        rule: &Rule,
        tally: &mut RuleTally,
        request: &RequestContext<'_>,
        topics: &mut TopicScratch,
        value: &impl Fn(Slot) -> Value<'v>,
        choice: &mut Choice,
    ) {
        tally.events += 1;
        let routing = choice.routing.get_or_insert_with(|| {
            Box::new(Routing {
                outputs: OutputSet::NONE,
                routes: Vec::new(),
            })
        });
        if let Some((sample, field)) = rule.sample
            && let Some(text) = key_text(&value(Slot::Field(field)))
        {
            if !sample.keeps(text.as_bytes()) {
                tally.sampled_away += 1;
                return;
            }
            choice.sample = Some(sample);
        }
        let mut key = rule.key.as_ref().and_then(|key| key.of(request, value));
        if let Some(key) = &key {
            choice.key_bytes = choice.key_bytes.max(key.len());
        }
        let TopicScratch { name, of } = topics;
        let name = rule.topic.as_ref().map(|topic| topic.make(name, value));
        let topic = rule.topic.as_ref().filter(|topic| topic.is_needed);
        let topic = topic.map(|topic| topic.of(of, name.flatten()?));
        let mut is_without = name == Some(None) || topic == Some(None);
        let last = rule.outputs.len().saturating_sub(1);
        for (at, (output, class)) in rule.outputs.iter().enumerate() {
            // Of several rules that name an output, the first decides.
            if choice.named.contains(*output) {
                continue;
            }
            choice.named = choice.named.with(*output);
            let (mut output, mut topic) = (output, topic.as_ref());
            if let (Some(name), Some(names)) = (name, self.names_of(*output)) {
                let found = name.and_then(|name| names.get(name));
                is_without |= found.is_none();
                (output, topic) = (found.unwrap_or(output), None);
            }
            routing.outputs = routing.outputs.with(*output);
            if rule.key.is_none() && topic.is_none() && class.is_none() {
                continue;
            }
            let defaults = self.defaults.get(usize::from(output.0));
            if rule.key.is_none() && defaults.is_some_and(|output| output.keyed) {
                choice.own_key = choice.own_key.with(*output);
            }
            if topic.is_none() && defaults.is_some_and(|output| output.by_topic) {
                choice.own_topic = choice.own_topic.with(*output);
            }
            let route = Route {
                // Another reference would cost an allocation.
                key: if at == last { key.take() } else { key.clone() },
                topic: topic.cloned().flatten(),
                class: *class,
            };
            routing.routes.push((*output, route));
        }
        tally.without_topic += u64::from(is_without);
    }
}

/// The text by which a value makes keys and samples: a string's characters, or a number as written.
fn key_text<'v>(value: &'v Value<'_>) -> Option<Cow<'v, str>> {
    match value {
        Value::Absent => None,
        Value::Json(json) => key_of_value(json),
        Value::Text(text) => {
            let text = match String::from_utf8_lossy(text) {
                Cow::Borrowed(text) => Cow::Borrowed(truncated(text)),
                Cow::Owned(text) => Cow::Owned(text.chars().take(KEY_CHARS_MAX).collect()),
            };
            (!text.is_empty()).then_some(text)
        }
    }
}

impl Key {
    fn of<'v>(
        &self,
        request: &RequestContext<'_>,
        value: &impl Fn(Slot) -> Value<'v>,
    ) -> Option<Bytes> {
        let first = |fields: &[usize], make: &dyn Fn(&str) -> Bytes| {
            let mut fields = fields.iter();
            fields.find_map(|field| key_text(&value(Slot::Field(*field))).map(|text| make(&text)))
        };
        match self {
            Key::Random => None,
            Key::Timestamp => {
                let stamp = civil::rfc3339(request.received_at);
                Some(Bytes::copy_from_slice(stamp.as_bytes()))
            }
            Key::Field(fields) => first(fields, &|text| Bytes::copy_from_slice(text.as_bytes())),
            Key::Hmac(fields, hasher) => first(fields, &|text| {
                Bytes::copy_from_slice(&hasher.key(text.as_bytes()))
            }),
        }
    }
}
