//! Routing as the operator configures it: rules in their order, and what they need to be applied by
//! [`sluice_core::route::rules`].
//!
//! ```text
//!  [routing]     what happens to events that no rule matches
//!  [[routes]]    one rule: when, outputs, key, topic, sample, priority
//!  [[tests]]     an event, and where it has to go: `trial`
//! ```

mod names;
mod priorities;
pub mod trial;
pub mod when;

pub use priorities::RoutePriority;

use crate::config::OUTPUTS_MAX;
use crate::config::groups::{self, Group};
use crate::schemas;
use sluice_core::ack::OutputId;
use sluice_core::partition::PartitionRule;
use sluice_core::priority::Shares;
use sluice_core::route::DeliveryClass;
use sluice_core::route::condition::{Condition, Test};
use sluice_core::route::key::KeyRule;
use sluice_core::route::path::FieldPath;
use sluice_core::route::rules::{
    OutputDefaults, RULES_MAX, RuleSettings, Rules, RulesError, Source, TopicSettings, UNMATCHED,
};
use sluice_core::route::sample::{Sample, WHOLE};
use sluice_core::topic::{Template, Topics, is_name};
use sluice_sinks::output::{AckMode, Listed, Output};
use sluice_sinks::settings::{
    Given, Problem, Reader, Secret, checked, is_word, list, number, secret, switch, text, texts,
    word,
};
use sluice_sinks::{keyword_enum, settings};
use std::sync::Arc;
use when::When;

/// The section of what all rules have in common.
pub const SECTION: &str = "routing";

/// The name of the array of rules.
pub const ROUTES: &str = "routes";

/// Names of topics that one rule may list.
pub const TOPIC_NAMES_MAX: usize = 1_000;

const ROUTE_NAME: &str = "a name of 1 to 32 of a-z, 0-9, _ and -, other than `unmatched`";

settings! {
    /// What all rules have in common.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct RoutingSettings from (reader) {
        /// Which rule decides: the `first` that matches, or `all` that do; of these the first that names an output decides about its key and topic there.
        matching as "match": Matching = Matching::First, word::<Matching>();
        /// Outputs of events that no rule matches. An empty list throws them away, and counts them.
        unmatched: Vec<String> = Vec::new(), list("outputs", OUTPUTS_MAX, "names of outputs").default_is("every output");
        /// What `hmac:` keys are keyed with. Changing it moves every user to another place in the stream.
        key_salt: Option<Secret> = None, secret();
        /// The schema of events that no rule matches.
        schema: Option<String> = None, text("a schema's name", |name| !name.is_empty()).default_is("none");
        /// Whether bodies of `paths.collect`, which are stored unread, may go past schemas.
        collect_unchecked: bool = false, switch();
        /// Where a rule has a `priority`: the part of an output's queue, of `limits.in_flight_bytes_max` and of a spool that requests of priority `low` may find filled. Over it they are answered 503, and the spool keeps no record of them.
        low_percent: u32 = priorities::low_percent(reader.given("routing.mid_percent")), number("percent", 1, 100).default_is("50, at most `mid_percent`");
        /// The same for priority `mid`, which events have that no rule says more about, and for bodies that have not been read.
        mid_percent: u32 = low_percent.max(80), number("percent", 1, 100).default_is("80, at least `low_percent`");
    }
}

keyword_enum! {
    /// Which rules decide where an event goes.
    Matching, "one of first, all" {
        /// The first that matches.
        First = "first",
        /// All that match.
        All = "all",
    }
}

settings! {
    /// One rule.
    #[derive(Clone, Debug, PartialEq)]
    pub struct RouteSettings from (reader) {
        /// Its name in metrics and tests.
        name: String = String::new(), text(ROUTE_NAME, is_route_name).needed("metrics and tests name a rule");
        /// Which events it matches; without it, all.
        when: Option<When> = None, checked(when::EXPECTED).default_is("every event");
        /// Where they go. A name alone promises what the output's `ack` says, `name:enqueued` does not wait for this output. An empty list throws events away, and counts them.
        outputs: Vec<String> = Vec::new(), list("outputs", OUTPUTS_MAX, "an output's name, or a name and `:enqueued`").default_is("none: it has to be set");
        /// Their partition key at these outputs. An event without it gets a random one.
        key: Option<String> = None, checked(KeyRule::EXPECTED).default_is("that of each output");
        /// Their Kafka topic, or which of the streams, queues, prefixes or directories that their outputs list: a name, of which `{field}` parts are fields' paths. An event whose name cannot be made, is not allowed, not listed or one too many goes to the output's own place, and is counted.
        topic: Option<String> = None, checked("text and up to 3 fields in braces; for Kafka beginning with text").default_is("that of each output");
        /// The only Kafka topics that `topic` may make; without any, every name is allowed.
        topic_names: Vec<String> = Vec::new(), texts("topics", TOPIC_NAMES_MAX, "a topic's name", is_name).default_is("every name");
        /// Different Kafka topics that `topic` may make at a time.
        topics_max: usize = 100, number("topics", 1, 10_000).default_is("100");
        /// A field by whose value a sample is taken: all events with one value are kept, or none. Events without it are kept.
        sample_by: Option<String> = None, checked("a field's path").default_is("no sample");
        /// Their schema. Of several rules that match, the first that has one decides.
        schema: Option<String> = None, text("a schema's name", |name| !name.is_empty()).default_is("none");
        /// How many of 1000 values are kept; the share is written into the event as `sample_rate`.
        sample_keep_per_mille: usize = WHOLE as usize, number("of 1000 values", 1, WHOLE as u64).default_is("1000, which is all");
        /// Which events are shed first where there is not room for all. A request has the priority of its highest event.
        priority: RoutePriority = RoutePriority::Mid, word::<RoutePriority>().default_is("mid");
    }
}

fn is_route_name(name: &str) -> bool {
    is_word(name, 32, "_-")
        && name != UNMATCHED
        && !name.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// A rule, and what its texts mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// As it is written.
    pub settings: RouteSettings,
    key: Option<KeyRule>,
    topic: Option<(Template, Vec<FieldPath>)>,
    sample_by: Option<FieldPath>,
    has_priority: bool,
}

/// What a rule can name: an output, or a group of outputs. The ids of groups follow those of outputs.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// Its name.
    pub name: &'a str,
    /// The word for its type.
    pub type_name: &'a str,
    /// What its records are promised; `None` where the members of a group differ.
    pub ack: Option<AckMode>,
    /// Whether a record can name its topic there.
    pub takes_topics: bool,
    /// The name of its own place, where it lists further ones.
    pub own_name: Option<String>,
    /// Whose list it is in.
    pub listed: Option<&'a Listed>,
    /// What it does with an event that has no route of its own there.
    pub defaults: OutputDefaults,
}

/// All that rules can name, in the order of their ids.
#[must_use]
pub fn places_of<'a>(outputs: &'a [Output], groups: &'a [Group]) -> Vec<Place<'a>> {
    let of_output = |output: &'a Output| Place {
        name: &output.name,
        type_name: output.type_name,
        ack: Some(output.timing.ack),
        takes_topics: output.sink.takes_topics(),
        own_name: output.sink.names().map(|names| names.own),
        listed: output.listed.as_ref(),
        defaults: OutputDefaults {
            keyed: output.partition_key != PartitionRule::Random,
            by_topic: output.sink.topics().is_some(),
        },
    };
    let of_group = |group: &'a Group| {
        let members = outputs.iter().filter(|output| group.has(&output.name));
        let members: Vec<Place<'_>> = members.map(of_output).collect();
        let any = |is: fn(&Place<'_>) -> bool| members.iter().any(is);
        let ack = members.first().and_then(|first| first.ack);
        Place {
            name: &group.name,
            type_name: groups::TYPE,
            ack: ack.filter(|ack| members.iter().all(|member| member.ack == Some(*ack))),
            takes_topics: any(|member| member.takes_topics),
            own_name: None,
            listed: None,
            defaults: OutputDefaults {
                keyed: any(|member| member.defaults.keyed),
                by_topic: any(|member| member.defaults.by_topic),
            },
        }
    };
    let outputs = outputs.iter().map(of_output);
    outputs.chain(groups.iter().map(of_group)).collect()
}

/// All of routing.
#[derive(Clone, Debug, PartialEq)]
pub struct Routing {
    /// What all rules have in common.
    pub settings: RoutingSettings,
    /// In their order.
    pub routes: Vec<Route>,
    is_unmatched_written: bool,
}

impl Route {
    /// Reads the rule of this number.
    fn read(reader: &mut Reader, at: usize, places: &[Place<'_>]) -> Route {
        reader.enter(format!("{ROUTES}.{at}"));
        let settings = RouteSettings::read(reader);
        if !reader.is_written("outputs") {
            reader.missing(
                "outputs",
                "a rule says where events go, `[]` throws them away",
            );
        }
        let has_topic = settings.topic.is_some();
        let topic_keys = ["topic_names", "topics_max"];
        reader.only_if(has_topic, &topic_keys, "topic", "not set");
        let has_sample = settings.sample_by.is_some();
        let sample_keys = ["sample_keep_per_mille"];
        reader.only_if(has_sample, &sample_keys, "sample_by", "not set");
        let has_priority = reader.is_written("priority");
        if !has_priority {
            reader.leave_out("priority");
        }
        let topic = settings.topic.as_deref();
        let entries = settings.outputs.iter();
        let mut named = entries.filter_map(|entry| target(entry, places));
        // Names of outputs that do not exist are reported later.
        let is_of_kafka = named.any(|(output, _)| places[output].takes_topics);
        if let Some(topic) = topic
            && !is_of_kafka
        {
            let topic_keys = ["topic_names", "topics_max"];
            reader.only_if(
                false,
                &topic_keys,
                "topic",
                &format!("{topic}, and no output is of type kafka"),
            );
        }
        Route {
            has_priority,
            key: parsed(reader, "key", settings.key.as_deref()),
            sample_by: parsed(reader, "sample_by", settings.sample_by.as_deref()),
            topic: topic.and_then(|text| {
                let template: Template = match is_of_kafka {
                    true => parsed(reader, "topic", Some(text))?,
                    // The outputs list the names.
                    false => understood(reader, "topic", Template::of_listed(text))?,
                };
                let fields = template.fields().map(str::to_owned);
                let fields: Vec<String> = fields.collect();
                let fields = fields
                    .iter()
                    .map(|name| parsed(reader, "topic", Some(name.as_str())));
                Some((template, fields.collect::<Option<Vec<FieldPath>>>()?))
            }),
            settings,
        }
    }
}

/// What a text means; one that means nothing is reported with its line.
fn parsed<T: std::str::FromStr>(reader: &mut Reader, key: &str, text: Option<&str>) -> Option<T>
where
    T::Err: std::fmt::Display,
{
    understood(reader, key, text?.parse())
}

fn understood<T>(
    reader: &mut Reader,
    key: &str,
    parsed: Result<T, impl std::fmt::Display>,
) -> Option<T> {
    match parsed {
        Ok(value) => Some(value),
        Err(error) => {
            reader.unreadable(key, &error.to_string());
            None
        }
    }
}

impl Routing {
    /// Reads the rules. `places` are all that there are, `listeners` the names of all listeners.
    pub fn read(reader: &mut Reader, places: &[Place<'_>], listeners: &[&str]) -> Routing {
        reader.enter(SECTION);
        let settings = RoutingSettings::read(reader);
        let is_unmatched_written = reader.is_written("unmatched");
        if !is_unmatched_written {
            reader.leave_out("unmatched");
        }
        let count = reader.count(ROUTES);
        if count > RULES_MAX {
            reader.problems.push(Problem::OutOfRange {
                key: ROUTES.to_owned(),
                value: count as u64,
                unit: "rules",
                min: 0,
                max: RULES_MAX as u64,
            });
        }
        let routing = Routing {
            routes: (0..count.min(RULES_MAX))
                .map(|at| Route::read(reader, at, places))
                .collect(),
            settings,
            is_unmatched_written,
        };
        routing.check(reader, places, listeners);
        routing
    }

    /// Rules between settings.
    fn check(&self, reader: &mut Reader, places: &[Place<'_>], listeners: &[&str]) {
        reader.enter(SECTION);
        check_outputs(reader, "unmatched", &self.settings.unmatched, places);
        let has_priorities = self.routes.iter().any(|route| route.has_priority);
        self.settings.check_shares(reader, has_priorities);
        let salt = self.settings.key_salt.is_some();
        for (at, route) in self.routes.iter().enumerate() {
            reader.enter(format!("{ROUTES}.{at}"));
            let settings = &route.settings;
            check_outputs(reader, "outputs", &settings.outputs, places);
            let name = &settings.name;
            let mut before = self.routes[..at].iter();
            if let Some(other) = before.position(|other| other.settings.name == *name) {
                reader.contradiction(
                    Given::new(reader.path("name"), name),
                    "other than",
                    Given::new(format!("{ROUTES}.{other}.name"), name),
                    "metrics and tests tell rules by their names",
                );
            }
            if matches!(route.key, Some(KeyRule::Hmac(_))) && !salt {
                reader.missing("routing.key_salt", "a rule has an `hmac:` key");
            }
            if route.sample_by.is_some() && self.settings.matching == Matching::All {
                reader.contradiction(
                    Given::new(
                        reader.path("sample_by"),
                        settings.sample_by.clone().unwrap_or_default(),
                    ),
                    "left out with",
                    Given::new("routing.match", self.settings.matching.word()),
                    "an event has one sample rate, and several rules may match it",
                );
            }
            // An output whose list could not be read is reported already.
            if let Some(topic) = &settings.topic
                && reader.problems.is_empty()
            {
                let named = settings
                    .outputs
                    .iter()
                    .filter_map(|entry| target(entry, places));
                let takes_names =
                    |place: &Place<'_>| place.takes_topics || place.own_name.is_some();
                if !named
                    .clone()
                    .any(|(output, _)| takes_names(&places[output]))
                {
                    let types: Vec<_> = named.map(|(output, _)| places[output].type_name).collect();
                    reader.contradiction(
                        Given::new(reader.path("topic"), topic),
                        "left out with",
                        Given::new(
                            reader.path("outputs"),
                            format!("of type {}", types.join(", ")),
                        ),
                        "only outputs of type kafka have topics, and others a list of names",
                    );
                }
            }
            if let Some(When { condition, .. }) = &settings.when {
                check_listeners(reader, condition, listeners);
            }
        }
        names::check(reader, &self.routes, places);
        // Counts of fields, over all rules.
        if let Err(error) = self.rules(places) {
            reader.problems.push(Problem::RefusedText {
                key: ROUTES.to_owned(),
                why: error.to_string(),
            });
        }
    }

    /// The names of schemas, each with the section that names it.
    pub fn schema_names(&self) -> impl Iterator<Item = (String, &str)> {
        let unmatched = self.settings.schema.as_deref();
        let unmatched = unmatched.map(|name| (SECTION.to_owned(), name));
        let rules = self.routes.iter().enumerate().filter_map(|(at, route)| {
            let name = route.settings.schema.as_deref()?;
            Some((format!("{ROUTES}.{at}"), name))
        });
        unmatched.into_iter().chain(rules)
    }

    /// The schemas that events can have, in the order of their ids.
    #[must_use]
    pub fn schemas(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.schema_names().map(|(_, name)| name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Whether every event simply goes to every output.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.routes.is_empty() && !self.is_unmatched_written
    }

    /// Whether it says where events go that no rule matches.
    #[must_use]
    pub fn names_unmatched(&self) -> bool {
        self.is_unmatched_written
    }

    /// Whether a rule, or `unmatched`, names this output.
    #[must_use]
    pub fn names_output(&self, name: &str) -> bool {
        let entries = self.routes.iter().flat_map(|route| &route.settings.outputs);
        let mut entries = entries.chain(&self.settings.unmatched);
        entries.any(|entry| entry.split(':').next() == Some(name))
    }

    /// What each priority may fill.
    #[must_use]
    pub fn shares(&self) -> Shares {
        self.settings.shares(&self.routes)
    }

    /// The names of the rules in metrics, the unmatched events last; empty where routing is off.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        if self.is_off() {
            return Vec::new();
        }
        let names = self.routes.iter().map(|route| route.settings.name.clone());
        names.chain([UNMATCHED.to_owned()]).collect()
    }

    /// The rules, ready to be applied; `None` where routing is off.
    ///
    /// # Errors
    /// They read too much; every loaded configuration has been checked for that.
    pub fn rules(&self, places: &[Place<'_>]) -> Result<Option<Rules>, RulesError> {
        if self.is_off() {
            return Ok(None);
        }
        let salt = self.settings.key_salt.as_ref();
        let salt = salt.map_or(&[][..], |salt| salt.0.as_bytes());
        let schemas = self.schemas();
        let rule = |route: &Route| {
            let settings = &route.settings;
            let entries = settings.outputs.iter();
            let targets = entries.filter_map(|entry| target(entry, places));
            RuleSettings {
                when: settings.when.as_ref().map(|when| when.condition.clone()),
                outputs: targets
                    .map(|(output, is_enqueued)| {
                        (id(output), is_enqueued.then_some(DeliveryClass::BestEffort))
                    })
                    .collect(),
                key: route.key.clone(),
                key_salt: salt.to_vec(),
                topic: route
                    .topic
                    .as_ref()
                    .map(|(template, fields)| TopicSettings {
                        topics: Arc::new(Topics::new(template.clone(), settings.topics_max)),
                        fields: fields.clone(),
                        allowed: settings.topic_names.iter().cloned().collect(),
                    }),
                sample: route.sample_by.clone().map(|field| {
                    let keep = u32::try_from(settings.sample_keep_per_mille);
                    let keep_per_mille = keep.unwrap_or(WHOLE);
                    (Sample { keep_per_mille }, field)
                }),
                schema: settings
                    .schema
                    .as_deref()
                    .and_then(|name| schemas::id(&schemas, name)),
                priority: settings.priority.into(),
            }
        };
        let unmatched = self.is_unmatched_written.then(|| {
            let entries = self.settings.unmatched.iter();
            let named = entries.filter_map(|entry| Some(id(target(entry, places)?.0)));
            named.collect()
        });
        let defaults = places.iter().map(|place| place.defaults);
        Rules::new(
            self.routes.iter().map(rule).collect(),
            unmatched,
            self.settings.matching == Matching::All,
            defaults.collect(),
        )
        .map(|rules| Some(rules.with_names(names::of(places))))
    }
}

fn id(output: usize) -> OutputId {
    // At most 64 outputs.
    OutputId(u16::try_from(output).unwrap_or(u16::MAX))
}

/// Which output an entry of a list names, and whether it says `enqueued`.
fn target(entry: &str, places: &[Place<'_>]) -> Option<(usize, bool)> {
    let (name, ack) = entry.split_once(':').unwrap_or((entry, ""));
    let at = places.iter().position(|place| place.name == name)?;
    Some((at, ack == AckMode::Enqueued.word()))
}

fn check_outputs(reader: &mut Reader, key: &str, entries: &[String], places: &[Place<'_>]) {
    for (at, entry) in entries.iter().enumerate() {
        let (name, ack) = match entry.split_once(':') {
            Some((name, ack)) => (name, Some(ack)),
            None => (entry.as_str(), None),
        };
        let written = places.iter().filter(|place| place.listed.is_none());
        let Some(place) = written.clone().find(|place| place.name == name) else {
            let names: Vec<_> = written.map(|place| place.name).collect();
            let names = names.join(", ");
            reader.unreadable(key, &format!("there is no output `{name}`, only {names}"));
            continue;
        };
        let before = entries[..at].iter();
        let mut before = before.map(|entry| entry.split(':').next().unwrap_or_default());
        if before.any(|other| other == name) {
            reader.unreadable(key, &format!("it names `{name}` twice"));
        }
        let own = place.ack.map(AckMode::word);
        match ack {
            None => {}
            Some(_) if key == "unmatched" => {
                reader.unreadable(key, &format!("`{entry}`: only a name stands here"));
            }
            Some(ack) if ack == AckMode::Enqueued.word() || Some(ack) == own => {}
            Some(ack) => reader.contradiction(
                Given::new(reader.path(key), format!("{name}:{ack}")),
                "enqueued, or the same as",
                Given::new(
                    format!("outputs.{name}.ack"),
                    own.unwrap_or("that of each member"),
                ),
                "a rule can promise less than its output, not more",
            ),
        }
    }
}

fn check_listeners(reader: &mut Reader, condition: &Condition<Source>, listeners: &[&str]) {
    match condition {
        Condition::All(list) | Condition::Any(list) => {
            list.iter()
                .for_each(|one| check_listeners(reader, one, listeners));
        }
        Condition::Not(one) => check_listeners(reader, one, listeners),
        Condition::Is(Source::Listener, Test::OneOf { texts, .. }) => {
            for text in texts {
                let name = String::from_utf8_lossy(text);
                if !listeners.contains(&&*name) {
                    let known = listeners.join(", ");
                    reader.unreadable(
                        "when",
                        &format!("there is no listener `{name}`, only {known}"),
                    );
                }
            }
        }
        Condition::Is(..) => {}
    }
}
