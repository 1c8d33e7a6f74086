//! Tries rules without a server: `sluice route --explain`, and the `[[tests]]` of a configuration.

use super::RoutePriority;
use super::when::ENDPOINTS;
use crate::app;
use crate::config::Config;
use crate::routing::places_of;
use crate::schemas::SchemaSet;
use sluice_core::ack::OutputId;
use sluice_core::json::scan::Wanted;
use sluice_core::json::split::{self, SplitLimits};
use sluice_core::letter::Reason;
use sluice_core::plan::{Mode, Plan};
use sluice_core::prepared::Prepared;
use sluice_core::priority::{Priority, Shares};
use sluice_core::reject::Reject;
use sluice_core::request::{Door, RequestContext, RequestId};
use sluice_core::schema::CheckResult;
use sluice_core::stats::EndpointLabel;
use sluice_core::time::Wall;
use sluice_sinks::output::AckMode;
use sluice_sinks::settings;
use sluice_sinks::settings::{Problem, Reader, checked, list, text, texts, word};
use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr};

/// The name of the array of tests.
pub const TESTS: &str = "tests";

/// Tests in one configuration.
pub const TESTS_MAX: usize = 1_000;

/// Bytes of a test's event.
pub const EVENT_BYTES_MAX: usize = 65_536;

settings! {
    /// One test: an event, and what has to become of it. What is not written is not tested.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct TestSettings from (reader) {
        /// What a failure calls it.
        name: String = String::new(), text("1 to 100 bytes", |name| (1..=100).contains(&name.len())).needed("a failure names the test");
        /// The event, or the body of a request to the endpoint `collect`.
        event: String = String::new(), text("up to 65536 bytes", |event| event.len() <= EVENT_BYTES_MAX).needed("a test needs an event");
        /// The endpoint that it comes to.
        endpoint: String = "events".to_owned(), text("one of collect, events, pixel", is_endpoint);
        /// The listener that it comes to.
        listener: String = "listen".to_owned(), text("a listener's name", |name| !name.is_empty());
        /// The host that the request names.
        host: Option<String> = None, text("a host", |host| !host.is_empty()).default_is("none");
        /// The query of the request, without `?`.
        query: Option<String> = None, text("a query", |query| query.len() <= 4_096).default_is("none");
        /// The rules that take it, or `unmatched`.
        rules: Vec<String> = Vec::new(), list("rules", super::RULES_MAX, "names of rules").default_is("not tested");
        /// The outputs it goes to; `[]` for none.
        outputs: Vec<String> = Vec::new(), list("outputs", crate::config::OUTPUTS_MAX, "names of outputs").default_is("not tested");
        /// Its key at each of its outputs; `off` for none.
        key: Option<String> = None, checked("a text").or_off().default_is("not tested");
        /// Its topic at each of its Kafka outputs, or the name in the list of each that has one; `off` for the output's own.
        topic: Option<String> = None, checked("a text").or_off().default_is("not tested");
        /// Why it becomes a dead letter; `off` for no letter.
        dead_letter: Option<String> = None, text("one of unreadable, too_deep, too_large, schema", |label| label.parse::<Reason>().is_ok()).or_off().default_is("`off`");
        /// What its schema says: `kept`, or the rule that the event breaks, for instance `required`; `off` for no schema.
        schema: Option<String> = None, checked("kept, or a rule").or_off().default_is("not tested");
        /// Its priority.
        priority: Option<RoutePriority> = None, word::<RoutePriority>().default_is("not tested");
        /// Texts that its record has, or its letter.
        record_has: Vec<String> = Vec::new(), texts("texts", 32, "a text", |_| true).default_is("not tested");
    }
}

fn is_endpoint(name: &str) -> bool {
    ENDPOINTS.iter().any(|endpoint| endpoint.label() == name)
}

/// A test, and which of its expectations are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// As it is written.
    pub settings: TestSettings,
    tests_rules: bool,
    tests_outputs: bool,
    tests_key: bool,
    tests_topic: bool,
    tests_schema: bool,
}

impl Test {
    /// Reads all tests.
    pub fn read_all(reader: &mut Reader) -> Vec<Test> {
        let count = reader.count(TESTS);
        if count > TESTS_MAX {
            reader.problems.push(Problem::OutOfRange {
                key: TESTS.to_owned(),
                value: count as u64,
                unit: "tests",
                min: 0,
                max: TESTS_MAX as u64,
            });
        }
        let tests = 0..count.min(TESTS_MAX);
        tests.map(|at| Test::read(reader, at)).collect()
    }

    fn read(reader: &mut Reader, at: usize) -> Test {
        reader.enter(format!("{TESTS}.{at}"));
        let settings = TestSettings::read(reader);
        let expectations = [
            "rules",
            "outputs",
            "key",
            "topic",
            "schema",
            "priority",
            "record_has",
            "dead_letter",
        ];
        let written = expectations.map(|key| reader.is_written(key));
        if !written.contains(&true) {
            reader.missing("outputs", "a test says what has to become of its event");
        }
        // What is not tested is not printed either.
        for (key, _) in expectations
            .iter()
            .zip(written)
            .filter(|(_, is_written)| !is_written)
        {
            reader.leave_out(key);
        }
        let [
            tests_rules,
            tests_outputs,
            tests_key,
            tests_topic,
            tests_schema,
            ..,
        ] = written;
        Test {
            settings,
            tests_rules,
            tests_outputs,
            tests_key,
            tests_topic,
            tests_schema,
        }
    }

    /// What is not as it should be; empty for a test that passes.
    ///
    /// # Errors
    /// See [`run`].
    pub fn failures(&self, config: &Config) -> Result<Vec<String>, TrialError> {
        let expected = &self.settings;
        let found = match run(config, &Event::of(expected)) {
            Err(TrialError::Refused(Reject::Schema { violation, .. }))
                if expected.schema == Some(violation.rule.to_string()) =>
            {
                // A rejected event has no outcome to compare.
                let others = self.tests_rules
                    || self.tests_outputs
                    || self.tests_key
                    || self.tests_topic
                    || !expected.record_has.is_empty();
                let refused = "the event is rejected, only `schema` can be tested".to_owned();
                return Ok(others.then_some(refused).into_iter().collect());
            }
            found => found?,
        };
        let letter = found.letter.as_ref();
        if expected.dead_letter.is_none()
            && let Some(reject) = letter.and_then(|letter| letter.refused.clone())
        {
            return Err(reject.into());
        }
        let mut failures = Vec::new();
        let mut compare = |what: &str, found: String, expected: String| {
            if found != expected {
                failures.push(format!("{what} {found}, expected {expected}"));
            }
        };
        let reason = letter.map_or("none", |letter| letter.reason.label());
        let expected_reason = expected.dead_letter.as_deref().unwrap_or("none");
        compare(
            "dead letter is",
            reason.to_owned(),
            expected_reason.to_owned(),
        );
        if self.tests_rules {
            compare("rules are", names(&found.rules), names(&expected.rules));
        }
        if self.tests_outputs {
            let outputs: Vec<_> = found
                .places
                .iter()
                .map(|place| place.output.clone())
                .collect();
            compare(
                "outputs are",
                names(&sorted(&outputs)),
                names(&sorted(&expected.outputs)),
            );
        }
        if self.tests_schema {
            let schema = found.schema.as_ref().map(|(_, result)| result.as_str());
            compare(
                "schema is",
                or_none(schema),
                or_none(expected.schema.as_deref()),
            );
        }
        if let Some(priority) = expected.priority {
            let found = found.priority.map(Priority::label);
            compare(
                "priority is",
                or_none(found),
                or_none(Some(priority.word())),
            );
        }
        for place in &found.places {
            if self.tests_key {
                let what = format!("key at {} is", place.output);
                compare(
                    &what,
                    or_none(place.key.as_deref()),
                    or_none(expected.key.as_deref()),
                );
            }
            if self.tests_topic && place.takes_topics {
                let what = format!("topic at {} is", place.output);
                compare(
                    &what,
                    or_none(place.topic.as_deref()),
                    or_none(expected.topic.as_deref()),
                );
            }
        }
        for text in &expected.record_has {
            if !found.record.contains(text.as_str()) {
                failures.push(format!("the record has no `{text}`: {}", found.record));
            }
        }
        Ok(failures)
    }
}

fn sorted(names: &[String]) -> Vec<String> {
    let mut names = names.to_vec();
    names.sort_unstable();
    names
}

fn names(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}

fn or_none(text: Option<&str>) -> String {
    text.map_or_else(|| "none".to_owned(), |text| format!("{text:?}"))
}

/// An event as it would come in.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The event, or the body of a request to the endpoint `collect`.
    pub bytes: &'a [u8],
    /// The endpoint's name.
    pub endpoint: &'a str,
    /// The listener's name.
    pub listener: &'a str,
    /// The host that the request names.
    pub host: Option<&'a str>,
    /// The query of the request, without `?`.
    pub query: Option<&'a str>,
}

impl<'a> Event<'a> {
    fn of(test: &'a TestSettings) -> Event<'a> {
        Event {
            bytes: test.event.as_bytes(),
            endpoint: &test.endpoint,
            listener: &test.listener,
            host: test.host.as_deref(),
            query: test.query.as_deref(),
        }
    }

    fn is_envelope(&self) -> bool {
        self.endpoint == EndpointLabel::Collect.label()
    }

    /// This event, or each of those in this body of several.
    ///
    /// # Errors
    /// The body is none.
    pub fn each(&self, config: &Config) -> Result<Vec<Event<'a>>, TrialError> {
        if self.is_envelope() {
            return Ok(vec![*self]);
        }
        let limits = SplitLimits {
            depth_max: config.ingest.json_depth_max,
            events_max: config.ingest.events_max,
        };
        let mut events = Vec::new();
        split::split(self.bytes, limits, &Wanted::default(), &mut events)?;
        let alone = |event: Result<split::Event, split::Refused>| {
            let span = event.map_or_else(|refused| refused.span, |event| event.span);
            let bytes = span.of(self.bytes);
            Event { bytes, ..*self }
        };
        Ok(events.into_iter().map(alone).collect())
    }
}

/// Why an event cannot be tried.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// A client would get an error for it.
    #[error("the event is refused: {0}")]
    Refused(#[from] Reject),
    /// The rules cannot be made.
    #[error(transparent)]
    Settings(Box<app::AppError>),
    /// Privacy does not store it.
    #[error("privacy withholds the event: it is not stored")]
    Withheld,
    /// Several events where one is tried.
    #[error("{0} events, one is tried at a time")]
    Several(usize),
}

/// What becomes of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The rules that took it, or `unmatched`; empty where routing is off.
    pub rules: Vec<String>,
    /// Its schema, and what that says: `kept`, `unchecked` or the rule that it breaks.
    pub schema: Option<(String, String)>,
    /// A sample left it out.
    pub is_sampled_away: bool,
    /// The priority of its rule, where rules have one and it goes somewhere.
    pub priority: Option<Priority>,
    /// Nobody sends its request again, so that it counts as of the next priority.
    pub is_unrepeatable: bool,
    /// Where it goes.
    pub places: Vec<Goal>,
    /// What it becomes; empty where it goes nowhere.
    pub record: String,
    /// The letter that is kept of it, or in its place.
    pub letter: Option<Letter>,
}

/// A letter about an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Why.
    pub reason: Reason,
    /// What its client is told; `None` where that is that it was taken.
    pub refused: Option<Reject>,
}

/// One output that an event goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goal {
    /// Its name.
    pub output: String,
    /// Its type.
    pub type_name: String,
    /// What a 200 waits for there.
    pub ack: &'static str,
    /// The partition key; `None` is chosen by chance.
    pub key: Option<String>,
    /// The topic, or the name in the list of the output; `None` is the output's own.
    pub topic: Option<String>,
    /// The word for that.
    pub term: &'static str,
    /// Whether it has topics, or a list.
    pub takes_topics: bool,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Letter { reason, refused }) = &self.letter {
            match refused {
                Some(reject) => writeln!(f, "refused: {reject}")?,
                None => writeln!(f, "taken, but not stored as an event")?,
            }
            writeln!(f, "dead letter: {reason}")?;
            for place in &self.places {
                writeln!(f, "to {} ({})", place.output, place.type_name)?;
            }
            return writeln!(f, "letter: {}", self.record);
        }
        let rules = match self.rules.as_slice() {
            [] => "none, every event goes to every output".to_owned(),
            rules => rules.join(", "),
        };
        writeln!(f, "rule: {rules}")?;
        if let Some((name, result)) = &self.schema {
            match result.as_str() {
                "kept" | "unchecked" => writeln!(f, "schema: {name}, {result}")?,
                rule => writeln!(f, "schema: {name}, breaks {rule}")?,
            }
        }
        match (self.places.is_empty(), self.is_sampled_away) {
            (true, true) => writeln!(f, "goes nowhere: its sample leaves it out")?,
            (true, false) => writeln!(f, "goes nowhere")?,
            _ => {}
        }
        if let Some(priority) = self.priority {
            write!(f, "priority: {}", priority.label())?;
            if self.is_unrepeatable {
                let raised = priority.raised().label();
                write!(f, ", counts as {raised}: nobody sends the request again")?;
            }
            f.write_char('\n')?;
        }
        for place in &self.places {
            write!(
                f,
                "to {} ({}), ack {}",
                place.output, place.type_name, place.ack
            )?;
            match &place.key {
                Some(key) => write!(f, ", key {key:?}")?,
                None => f.write_str(", random key")?,
            }
            if let Some(topic) = &place.topic {
                write!(f, ", {} {topic}", place.term)?;
            }
            f.write_char('\n')?;
        }
        if !self.record.is_empty() {
            writeln!(f, "record: {}", self.record)?;
        }
        Ok(())
    }
}

/// Applies a configuration's rules to one event. Time, address and request id of the record are made up.
///
/// # Errors
/// The event would be refused; there is more than one.
pub fn run(config: &Config, event: &Event<'_>) -> Result<Outcome, TrialError> {
    let settings = SchemaSet::load(&config.schemas, &config.routing)
        .map_err(Into::into)
        .and_then(|schemas| app::ingest_settings(config, None, &schemas))
        .map_err(|error| TrialError::Settings(Box::new(error)))?;
    let is_envelope = event.is_envelope();
    let plan: &Plan = match event.endpoint {
        "collect" => &settings.collect,
        "pixel" => &settings.pixel,
        _ => &settings.events,
    };
    debug_assert_eq!(is_envelope, plan.mode == Mode::Envelope);
    let path = match event.endpoint {
        "collect" => config.paths.collect.as_deref().unwrap_or_default(),
        "pixel" => config.paths.pixel.as_deref().unwrap_or_default(),
        _ => config.paths.events.as_deref().unwrap_or_default(),
    };
    let uri = match event.query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let request = RequestContext {
        method: if event.endpoint == "pixel" {
            "GET"
        } else {
            "POST"
        },
        uri: &uri,
        path,
        query: event.query,
        user_agent: None,
        forwarded_for: None,
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        id: RequestId(0),
        received_at: Wall::default(),
        door: Door {
            endpoint: event.endpoint,
            listener: event.listener,
            host: event.host.map(str::as_bytes),
        },
        privacy: Default::default(),
    };
    let mut prepared = Prepared::default();
    let refused = plan
        .run(&request, event.bytes, usize::MAX, &mut prepared)
        .err();
    let refused = refused.or_else(|| Some(prepared.rejected.pop()?.1));
    let letter = prepared.letter_tally.reason().map(|reason| Letter {
        reason,
        refused: refused.clone(),
    });
    if let Some(reject) = refused.filter(|_| letter.is_none()) {
        return Err(reject.into());
    }
    let letters = prepared.letters.drain(..).map(|letter| letter.record);
    prepared.records.extend(letters);
    if !prepared.withheld.is_empty() {
        return Err(TrialError::Withheld);
    }
    let [record] = &prepared.records[..] else {
        return Err(TrialError::Several(prepared.records.len()));
    };
    let routing = record.routing.as_deref();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let ids = (0..).map(OutputId);
    let all = places_of(&config.outputs, &config.groups);
    let intake = &settings.intake;
    let of_outputs = intake.outputs.iter().map(|rule| rule.is_default);
    let are_default = of_outputs.chain(intake.groups.iter().map(|rule| rule.is_default));
    let places = ids
        .zip(&all)
        .zip(are_default)
        .filter_map(|((id, place), is_default)| {
            if !routing.map_or(is_default, |routing| routing.outputs.contains(id)) {
                return None;
            }
            let (key, topic, class) = match routing.and_then(|routing| routing.route(id)) {
                Some(route) => (route.key.as_ref(), route.topic.as_ref(), route.class),
                None => (
                    record.key.as_ref().filter(|_| place.defaults.keyed),
                    record.topic.as_ref().filter(|_| place.defaults.by_topic),
                    None,
                ),
            };
            let listed = place.listed;
            let topic = topic.map(|topic| topic.as_str().to_owned());
            Some(Goal {
                output: listed.map_or(place.name, |listed| &listed.by).to_owned(),
                type_name: place.type_name.to_owned(),
                ack: match class {
                    Some(class) if !class.is_awaited() => AckMode::Enqueued.word(),
                    _ => place.ack.map_or("that of each member", AckMode::word),
                },
                key: key.map(|key| text(key)),
                topic: listed.map(|listed| listed.name.clone()).or(topic),
                term: listed.map_or("topic", |listed| listed.term),
                takes_topics: place.takes_topics || place.own_name.is_some() || listed.is_some(),
            })
        });
    let has_priorities = settings.intake.shares != Shares::WHOLE;
    let goes_nowhere = record.payload.is_empty();
    let tallies = prepared.rule_tallies();
    let matched = config.routing.names().into_iter().zip(tallies);
    let schemas = config.routing.schemas();
    let schema = prepared.schema_outcomes().first().map(|outcome| {
        let name = schemas.get(usize::from(outcome.schema.0));
        let result = match outcome.result {
            CheckResult::Kept => "kept".to_owned(),
            CheckResult::Unchecked => "unchecked".to_owned(),
            CheckResult::Broken(rule) => rule.to_string(),
        };
        (
            name.map_or_else(String::new, |name| (*name).to_owned()),
            result,
        )
    });
    Ok(Outcome {
        schema,
        rules: matched
            .filter(|(_, tally)| tally.events > 0)
            .map(|(name, _)| name)
            .collect(),
        is_sampled_away: tallies.iter().any(|tally| tally.sampled_away > 0),
        priority: (has_priorities && !goes_nowhere).then_some(prepared.priority),
        is_unrepeatable: event.endpoint == EndpointLabel::Pixel.label(),
        places: places.collect(),
        letter,
        record: text(&record.payload),
    })
}
