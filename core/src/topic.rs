//! Which topic a record goes to, where a value in it decides: `clicks-{appId}`.
//!
//! Clients choose the values. So a name is taken as it comes or not at all, which keeps two values out of
//! one topic; it begins with text that no client chose; and a process knows so many names and no
//! more. Every other record goes to the output's fallback, which is no matter of this module.

use crate::json::scan::WANTED_MAX;
use std::borrow::{Borrow, Cow};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};

/// The longest name of a topic, in bytes; Kafka's limit.
pub const NAME_BYTES_MAX: usize = 249;

/// Fields that one template may name.
pub const FIELDS_MAX: usize = 3;

/// The longest name of a field, in bytes.
pub const FIELD_BYTES_MAX: usize = 256;

// An event is scanned for these, for the four that the server adds, and for the partition key, at once.
const _: () = assert!(4 + 1 + FIELDS_MAX <= WANTED_MAX);

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
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (before, inside) = rest.split_once('{').unwrap_or((rest, ""));
            if before.contains('}') {
                return Err(TemplateError::Braces);
            }
            if !is_part(before) {
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
        if template.prefix().is_empty() {
            return Err(TemplateError::NoPrefix);
        }
        let limit = NAME_BYTES_MAX - actual;
        let actual = template.0.iter().map(Part::text_bytes).sum();
        if actual > limit {
            return Err(TemplateError::TooLong { limit, actual });
        }
        Ok(template)
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

/// The name of a topic that some record named, 8 bytes. Names live as long as the process, so that cores and
/// writers share them without counting references; [`Topics`] bounds how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Topic(&'static Name);

/// Behind a reference of its own, because one to a `str` has 16 bytes, and every record has room for it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name(Box<str>);

impl Topic {
    fn leak(name: &str) -> Topic {
        Topic(Box::leak(Box::new(Name(name.into()))))
    }

    /// The name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        &self.0.0
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

/// A template, and the names that records have made of it in this process.
#[derive(Debug)]
pub struct Topics {
    template: Template,
    names_max: usize,
    names: RwLock<BTreeSet<Topic>>,
}

impl Topics {
    /// None yet. The first `names_max` different names are known from then on; there is no way back, for
    /// forgotten names would make room for others.
    #[must_use]
    pub fn new(template: Template, names_max: usize) -> Topics {
        Topics {
            template,
            names_max,
            names: RwLock::default(),
        }
    }

    /// What names are made by.
    #[must_use]
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// The topic of a record whose n-th field of the template has the text `value(n)`. `None` where a value is
    /// missing, where the name is none that Kafka takes, and where there is no room for another one.
    pub(crate) fn choose<'v>(
        self: &Arc<Topics>,
        scratch: &mut Scratch,
        mut value: impl FnMut(usize) -> Option<Cow<'v, str>>,
    ) -> Option<Topic> {
        let of = scratch.of.get_or_insert_with(|| Arc::clone(self));
        if !Arc::ptr_eq(of, self) {
            *scratch = Scratch {
                of: Some(Arc::clone(self)),
                ..Scratch::default()
            };
        }
        let name = &mut scratch.name;
        name.clear();
        let mut slots = 0..;
        for part in &self.template.0 {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Field(_) => name.push_str(&value(slots.next()?)?),
            }
        }
        if let Some(known) = scratch.known.get(name.as_str()) {
            return Some(*known);
        }
        let topic = self.named(name)?;
        scratch.known.insert(topic);
        Some(topic)
    }

    /// The topic of this name. `None` where it is no name that Kafka takes, and where there is no room for
    /// another one.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<Topic> {
        if !is_name(name) {
            return None;
        }
        // No holder panics; if one did, a set of names is as good as before.
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let found = names.get(name).copied();
        if found.is_some() || names.len() >= self.names_max {
            return found;
        }
        drop(names);
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        // Another core may have been here meanwhile.
        let found = names.get(name).copied();
        if found.is_some() || names.len() >= self.names_max {
            return found;
        }
        let topic = Topic::leak(name);
        names.insert(topic);
        Some(topic)
    }
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
    /// Whose names they are.
    of: Option<Arc<Topics>>,
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
        topic.map(Topic::as_str)
    }

    #[test]
    fn a_template_is_text_and_fields_and_is_written_as_it_was_read() {
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
    fn a_name_is_made_of_the_values_as_they_are_or_not_at_all() {
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
    fn names_beyond_the_bound_are_none_and_known_ones_stay_for_every_core() {
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
    fn cores_together_stay_within_the_bound_and_have_the_same_names() {
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
        let all: BTreeSet<Topic> = cores.iter().flatten().flatten().copied().collect();
        assert_eq!(all.len(), 50);
        // One name is one place in memory, whoever came first.
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
}
