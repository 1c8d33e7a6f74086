//! Which topic a record goes to, where a value in it decides: `clicks-{appId}`.
//!
//! Clients choose the values. So a name is taken as it comes or not at all, which keeps two values out of
//! one topic; it begins with text that no client chose; and a process knows a bounded number of names.
//! Every other record goes to the output's fallback, which this module does not know.

use crate::time::Mono;
use std::borrow::{Borrow, Cow};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// The longest name of a topic, in bytes; Kafka's limit.
pub const NAME_BYTES_MAX: usize = 249;

/// Fields that one template may name.
pub const FIELDS_MAX: usize = 3;

/// The longest name of a field, in bytes.
pub const FIELD_BYTES_MAX: usize = 256;

/// Whether Kafka takes this name: 1 to [`NAME_BYTES_MAX`] letters, digits or any of `._-`, and neither `.`
/// nor `..`.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len()) && is_part(text) && text != "." && text != ".."
}

fn is_part(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Text and the names of fields, `clicks-{appId}`: what [`Topics`] makes names by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(String),
}

/// A text that is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace without its partner, or one within another.
    #[error("its braces do not match")]
    Braces,
    /// Text between the fields that no topic's name can have.
    #[error("`{0}` has more than letters, digits and any of ._-")]
    Text(String),
    /// The first thing in it is a field: clients could name any topic of the cluster.
    #[error("it has to begin with text, or clients could name any topic of the cluster")]
    NoPrefix,
    /// The text alone is longer than a name may be.
    #[error("its text alone has {actual} bytes, a name has at most {limit}")]
    TooLong {
        /// [`NAME_BYTES_MAX`] less one byte for each field.
        limit: usize,
        /// Bytes of text.
        actual: usize,
    },
    /// A field without a name, or with too long a one.
    #[error("a field's name has {actual} bytes: 1 to {limit}")]
    Field {
        /// [`FIELD_BYTES_MAX`].
        limit: usize,
        /// Bytes of the name.
        actual: usize,
    },
    /// No field, or too many.
    #[error("it names {actual} fields: 1 to {limit}")]
    Fields {
        /// [`FIELDS_MAX`].
        limit: usize,
        /// Fields in it.
        actual: usize,
    },
}

impl Template {
    /// The fields in it, in order: of an event its top-level ones, of an envelope its request's query
    /// parameters.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Field(name) => Some(name.as_str()),
        })
    }

    /// The text that all its names begin with; not empty.
    #[must_use]
    pub fn prefix(&self) -> &str {
        match self.0.first() {
            Some(Part::Text(text)) => text,
            _ => "",
        }
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Template, TemplateError> {
        let template = Template::parse(text, is_part)?;
        match template.prefix().is_empty() {
            true => Err(TemplateError::NoPrefix),
            false => Ok(template),
        }
    }
}

impl Template {
    /// A template of names that a list allows: any text, and a field may come first.
    ///
    /// # Errors
    /// The text is no template.
    pub fn of_listed(text: &str) -> Result<Template, TemplateError> {
        Template::parse(text, |_| true)
    }

    fn parse(text: &str, is_text: fn(&str) -> bool) -> Result<Template, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (before, inside) = rest.split_once('{').unwrap_or((rest, ""));
            if before.contains('}') {
                return Err(TemplateError::Braces);
            }
            if !is_text(before) {
                return Err(TemplateError::Text(before.to_owned()));
            }
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            if before.len() == rest.len() {
                break;
            }
            let (name, after) = inside.split_once('}').ok_or(TemplateError::Braces)?;
            if name.contains('{') {
                return Err(TemplateError::Braces);
            }
            if !(1..=FIELD_BYTES_MAX).contains(&name.len()) {
                return Err(TemplateError::Field {
                    limit: FIELD_BYTES_MAX,
                    actual: name.len(),
                });
            }
            parts.push(Part::Field(name.to_owned()));
            rest = after;
        }
        let template = Template(parts);
        let actual = template.fields().count();
        if !(1..=FIELDS_MAX).contains(&actual) {
            let limit = FIELDS_MAX;
            return Err(TemplateError::Fields { limit, actual });
        }
        let limit = NAME_BYTES_MAX - actual;
        let actual = template.0.iter().map(Part::text_bytes).sum();
        if actual > limit {
            return Err(TemplateError::TooLong { limit, actual });
        }
        Ok(template)
    }

    /// Makes the name of a record whose n-th field of the template has the text `value(n)`. `None` where a value is
    /// missing.
    pub(crate) fn make<'n, 'v>(
        &self,
        name: &'n mut String,
        mut value: impl FnMut(usize) -> Option<Cow<'v, str>>,
    ) -> Option<&'n str> {
        name.clear();
        let mut slots = 0..;
        for part in &self.0 {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Field(_) => name.push_str(&value(slots.next()?)?),
            }
        }
        Some(name)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Field(name) => write!(f, "{{{name}}}"),
        })
    }
}

impl Part {
    fn text_bytes(&self) -> usize {
        match self {
            Part::Text(text) => text.len(),
            Part::Field(_) => 0,
        }
    }
}

/// The name of a topic that some record named. Records of all cores share it; it goes with the last of
/// them once it has lost its place in [`Topics`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Topic(Arc<Name>);

/// Compared by its text alone.
#[derive(Debug)]
struct Name {
    text: Box<str>,
    /// A record was delivered to it.
    is_delivered: AtomicBool,
    /// When it took its place, and when a record last named it; by the clock of its [`Topics`].
    since_s: u64,
    used_s: AtomicU64,
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.text == other.text
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Name) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl Topic {
    /// A topic that a record named in an earlier process. It takes no place in [`Topics`]. `None` where it is no
    /// name that Kafka takes.
    #[must_use]
    pub fn restored(name: &str) -> Option<Topic> {
        is_name(name).then(|| {
            Topic(Arc::new(Name {
                text: name.into(),
                is_delivered: AtomicBool::new(true),
                since_s: 0,
                used_s: AtomicU64::new(0),
            }))
        })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// A record was delivered to it, so it is no invention of a client's: it keeps its place while it
    /// is used.
    pub fn delivered(&self) {
        // Mostly it is known already, and a load leaves the cache line shared.
        if !self.0.is_delivered.load(Ordering::Relaxed) {
            self.0.is_delivered.store(true, Ordering::Relaxed);
        }
    }

    fn used(&self, now_s: u64) {
        if self.0.used_s.load(Ordering::Relaxed) != now_s {
            self.0.used_s.store(now_s, Ordering::Relaxed);
        }
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

/// A name without a delivery loses its place to another one after this time, longer than any ack
/// deadline. It bounds how fast clients can make a producer meet new names.
const TRIAL_S: u64 = 10;

/// A name with a delivery loses its place to another one after this time without a record.
const UNUSED_S: u64 = 3_600;

/// A template, and the names that records have made of it lately.
///
/// Clients choose the names, and a few invented ones must not keep real ones out. So a place is on
/// trial until a record is delivered, and is given away when it is needed.
#[derive(Debug)]
pub struct Topics {
    template: Template,
    names_max: usize,
    names: RwLock<BTreeSet<Topic>>,
    /// Seconds of the monotonic clock, as of the last tick.
    now_s: AtomicU64,
    /// How many names have lost their place: cores then forget what they remember.
    given_away: AtomicU64,
}

impl Topics {
    /// At most `names_max` different names hold a place at once.
    #[must_use]
    pub fn new(template: Template, names_max: usize) -> Topics {
        Topics {
            template,
            names_max,
            names: RwLock::default(),
            now_s: AtomicU64::new(0),
            given_away: AtomicU64::new(0),
        }
    }

    /// What names are made by.
    #[must_use]
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// Tells the time. Call it at least once a second.
    pub fn tick(&self, now: Mono) {
        let now_s = now.0 / 1_000_000;
        if self.now_s.load(Ordering::Relaxed) != now_s {
            self.now_s.store(now_s, Ordering::Relaxed);
        }
    }

    /// The topic of a record whose n-th field of the template has the text `value(n)`. `None` where a value is
    /// missing, where the name is none that Kafka takes, and where there is no room for another one.
    pub(crate) fn choose<'v>(
        self: &Arc<Topics>,
        scratch: &mut Scratch,
        value: impl FnMut(usize) -> Option<Cow<'v, str>>,
    ) -> Option<Topic> {
        let mut name = std::mem::take(&mut scratch.name);
        let made = self.template.make(&mut name, value);
        let topic = made.and_then(|made| self.recall(scratch, made));
        scratch.name = name;
        topic
    }

    /// The topic of this name, as [`Topics::named`], asking the other cores only for a name that is new to this one.
    pub(crate) fn recall(self: &Arc<Topics>, scratch: &mut Scratch, name: &str) -> Option<Topic> {
        let of = scratch.of.get_or_insert_with(|| Arc::clone(self));
        let given_away = self.given_away.load(Ordering::Acquire);
        if !Arc::ptr_eq(of, self) || scratch.given_away != given_away {
            *scratch = Scratch {
                of: Some(Arc::clone(self)),
                given_away,
                name: std::mem::take(&mut scratch.name),
                known: BTreeSet::new(),
            };
        }
        if let Some(known) = scratch.known.get(name) {
            known.used(self.now_s.load(Ordering::Relaxed));
            return Some(known.clone());
        }
        let topic = self.named(name)?;
        scratch.known.insert(topic.clone());
        Some(topic)
    }

    /// The topic of this name. `None` where it is no name that Kafka takes, and where there is no room for
    /// another one.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<Topic> {
        if !is_name(name) {
            return None;
        }
        let now_s = self.now_s.load(Ordering::Relaxed);
        // No holder panics; if one did, a set of names is as good as before.
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = names.get(name) {
            found.used(now_s);
            return Some(found.clone());
        }
        let has_room = names.len() < self.names_max || replaceable(&names, now_s).is_some();
        drop(names);
        if !has_room {
            return None;
        }
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        // Another core may have been here meanwhile.
        if let Some(found) = names.get(name) {
            return Some(found.clone());
        }
        if names.len() >= self.names_max {
            let replaced = replaceable(&names, now_s)?;
            names.remove(&replaced);
            self.given_away.fetch_add(1, Ordering::Release);
        }
        let topic = Topic(Arc::new(Name {
            text: name.into(),
            is_delivered: AtomicBool::new(false),
            since_s: now_s,
            used_s: AtomicU64::new(now_s),
        }));
        names.insert(topic.clone());
        Some(topic)
    }
}

/// The name to replace with another one: the oldest whose trial is over without a delivery, else the
/// one that is unused for longest.
fn replaceable(names: &BTreeSet<Topic>, now_s: u64) -> Option<Topic> {
    let on_trial = |topic: &&Topic| !topic.0.is_delivered.load(Ordering::Relaxed);
    let failed = names
        .iter()
        .filter(|topic| on_trial(topic) && now_s.saturating_sub(topic.0.since_s) >= TRIAL_S)
        .min_by_key(|topic| topic.0.since_s);
    let last_use = |topic: &&Topic| topic.0.used_s.load(Ordering::Relaxed);
    let unused = || {
        let unused = names
            .iter()
            .filter(|topic| now_s.saturating_sub(last_use(topic)) >= UNUSED_S);
        unused.min_by_key(last_use)
    };
    failed.or_else(unused).cloned()
}

/// Two that make the same names; what they have made so far does not count.
impl PartialEq for Topics {
    fn eq(&self, other: &Topics) -> bool {
        self.template == other.template && self.names_max == other.names_max
    }
}

impl Eq for Topics {}

/// What one core keeps, so that it asks the others only for a name that is new to it.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The owner of the names, and what its `given_away` was.
    of: Option<Arc<Topics>>,
    given_away: u64,
    name: String,
    known: BTreeSet<Topic>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(template: &str, names_max: usize) -> Arc<Topics> {
        Arc::new(Topics::new(template.parse().unwrap(), names_max))
    }

    fn choose(topics: &Arc<Topics>, values: &[&str]) -> Option<&'static str> {
        let value = |at: usize| values.get(at).map(|text| Cow::Borrowed(*text));
        let topic = topics.choose(&mut Scratch::default(), value);
        topic.map(|topic| &*topic.as_str().to_owned().leak())
    }

    #[test]
    fn a_topic_template_round_trips() {
        for text in ["clicks-{appId}", "a.{x}_{y}-{z}", "a{x}", "a{événement}b"] {
            let template: Template = text.parse().unwrap();
            assert_eq!(template.to_string(), text);
        }
        let template: Template = "a.{x}_{y}-{z}".parse().unwrap();
        assert_eq!(template.fields().collect::<Vec<_>>(), ["x", "y", "z"]);
        assert_eq!(template.prefix(), "a.");
    }

    #[test]
    fn what_is_no_template_is_refused_by_its_reason() {
        let refused = |text: &str| text.parse::<Template>().unwrap_err().to_string();
        for (text, expected) in [
            ("", "it names 0 fields: 1 to 3"),
            ("clicks", "it names 0 fields: 1 to 3"),
            ("a{b}{c}{d}{e}", "it names 4 fields: 1 to 3"),
            ("a{b", "do not match"),
            ("a}b{c}", "do not match"),
            ("a{b}}", "do not match"),
            ("a{{b}}", "do not match"),
            ("a{}", "a field's name has 0 bytes: 1 to 256"),
            ("a b{c}", "`a b` has more than letters"),
            ("ab{c}/", "`/` has more than letters"),
            ("{appId}", "begin with text"),
            ("{a}-clicks", "begin with text"),
        ] {
            assert!(
                refused(text).contains(expected),
                "{text}: {}",
                refused(text)
            );
        }
        let long = |bytes| format!("{}{{x}}", "a".repeat(bytes));
        assert!(long(248).parse::<Template>().is_ok());
        assert!(refused(&long(249)).contains("249 bytes, a name has at most 248"));
        let field = |bytes| format!("a{{{}}}", "x".repeat(bytes));
        assert!(field(256).parse::<Template>().is_ok());
        assert!(refused(&field(257)).contains("257 bytes: 1 to 256"));
    }

    #[test]
    fn a_template_of_listed_names_has_any_text() {
        for text in ["clicks/type={x}/", "{x}.fifo", "/var/é {a}"] {
            assert_eq!(Template::of_listed(text).unwrap().to_string(), text);
        }
        for text in ["clicks", "a{b", &format!("{}{{x}}", "a".repeat(249))] {
            assert!(Template::of_listed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn topic_names_use_values_unchanged_or_fail() {
        let topics = topics("clicks-{a}.{b}", 100);
        assert_eq!(choose(&topics, &["shop", "v_1"]), Some("clicks-shop.v_1"));
        assert_eq!(choose(&topics, &["", "x"]), Some("clicks-.x"));
        for none in [
            &["shop"][..],
            &[],
            &["sh op", "x"],
            &["a/b", "x"],
            &["é", "x"],
            &["a\0", "x"],
        ] {
            assert_eq!(choose(&topics, none), None, "{none:?}");
        }
    }

    #[test]
    fn a_name_that_kafka_does_not_take_is_none() {
        let dots = topics(".{a}", 100);
        assert_eq!(choose(&dots, &["."]), None);
        assert_eq!(choose(&dots, &[".."]), Some("..."));
        let short = topics("a{x}", 100);
        assert_eq!(choose(&short, &[&"b".repeat(249)]), None);
        assert!(choose(&short, &[&"b".repeat(248)]).is_some());
    }

    #[test]
    fn topic_names_over_the_bound_are_none() {
        let topics = topics("t{x}", 3);
        for name in ["1", "2", "3"] {
            assert!(choose(&topics, &[name]).is_some(), "{name}");
        }
        for name in ["4", "5"] {
            assert_eq!(choose(&topics, &[name]), None);
        }
        assert_eq!(choose(&topics, &["2"]), Some("t2"));
    }

    #[test]
    fn cores_share_topic_names_and_their_bound() {
        let topics = topics("t{x}", 50);
        let cores: Vec<Vec<Option<Topic>>> = std::thread::scope(|scope| {
            let core = || {
                let mut scratch = Scratch::default();
                let one = |number: u32| {
                    let text = number.to_string();
                    topics.choose(&mut scratch, |_| Some(Cow::Borrowed(text.as_str())))
                };
                (0..100).map(one).collect()
            };
            let handles: Vec<_> = (0..4).map(|_| scope.spawn(core)).collect();
            handles
                .into_iter()
                .map(|handle| handle.join().unwrap())
                .collect()
        });
        let all: BTreeSet<Topic> = cores.iter().flatten().flatten().cloned().collect();
        assert_eq!(all.len(), 50);
        // One name has one allocation, shared by all cores.
        let places: BTreeSet<*const u8> = cores
            .iter()
            .flatten()
            .flatten()
            .map(|topic| topic.as_str().as_ptr())
            .collect();
        assert_eq!(places.len(), 50);
    }

    #[test]
    fn memory_of_other_topics_does_not_widen_the_bound() {
        let (first, second) = (topics("t{x}", 1), topics("t{x}", 0));
        let mut scratch = Scratch::default();
        let mut choose =
            |topics: &Arc<Topics>| topics.choose(&mut scratch, |_| Some(Cow::Borrowed("1")));
        assert!(choose(&first).is_some());
        assert_eq!(choose(&second), None);
        assert!(choose(&first).is_some());
    }

    fn at(topics: &Topics, secs: u64) {
        topics.tick(Mono(secs * 1_000_000));
    }

    #[test]
    fn invented_topic_names_give_way_after_their_trial() {
        let topics = topics("t-{x}", 2);
        for junk in ["t-a", "t-b"] {
            assert!(topics.named(junk).is_some());
        }
        assert_eq!(topics.named("t-real"), None);
        at(&topics, TRIAL_S);
        // Being named again does not prolong a trial.
        assert!(topics.named("t-a").is_some());
        let real = topics.named("t-real").unwrap();
        real.delivered();
        at(&topics, 3 * TRIAL_S);
        for junk in ["t-c", "t-d", "t-e"] {
            let _ = topics.named(junk);
            assert_eq!(topics.named("t-real"), Some(real.clone()), "{junk}");
        }
    }

    #[test]
    fn a_delivered_topic_is_replaced_after_an_unused_hour() {
        let topics = topics("t-{x}", 1);
        let first = topics.named("t-a").unwrap();
        first.delivered();
        at(&topics, UNUSED_S - 1);
        assert_eq!(topics.named("t-b"), None);
        assert_eq!(topics.named("t-a"), Some(first));
        at(&topics, 2 * UNUSED_S - 2);
        assert_eq!(topics.named("t-b"), None);
        at(&topics, 2 * UNUSED_S - 1);
        assert!(topics.named("t-b").is_some());
    }

    #[test]
    fn a_core_forgets_a_name_that_lost_its_place() {
        let topics = topics("t-{x}", 1);
        let mut scratch = Scratch::default();
        let mut choose = |value: &'static str| {
            let topic = topics.choose(&mut scratch, |_| Some(Cow::Borrowed(value)));
            topic.map(|topic| topic.as_str().to_owned())
        };
        assert_eq!(choose("a").as_deref(), Some("t-a"));
        at(&topics, TRIAL_S);
        assert_eq!(choose("b").as_deref(), Some("t-b"));
        assert_eq!(choose("a"), None, "the only place is taken");
    }
}
