//! Contracts of events: which schema an event has to keep, and what becomes of one that does not.
//!
//! ```text
//!  rules --Choice::schema--> Schemas::verdict --Check::check--> kept | tagged | in a letter | rejected
//!                                                  └ shape, in here; other checks come from outside
//! ```
//!
//! An event is checked as privacy has left it, without the server's own fields. The first violation decides: the cost
//! of a bad event is bounded by that of a good one.

pub mod paths;
pub mod shape;
mod tally;

pub use tally::SchemaStats;

use crate::json::escape::quote_str_into;
use crate::json::walk;
use crate::reject::Reject;
use crate::route::rules::Choice;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Schemas in one configuration: as many as rules.
pub const SCHEMAS_MAX: usize = crate::route::rules::RULES_MAX;

/// The field into which a violation is written.
pub const SCHEMA_ERROR: &str = "schema_error";

/// Bytes of a violation's path and of its reason.
pub const TEXT_BYTES_MAX: usize = 256;

/// A schema, by its place in [`Schemas`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaId(pub u8);

/// What becomes of an event that breaks its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnViolation {
    /// It is stored, with the violation as its field [`SCHEMA_ERROR`].
    Tag,
    /// It is rejected.
    Reject,
    /// Its client is told that it was taken, and a letter about it is stored in its place.
    DeadLetter,
}

/// A rule that an event can break: the keyword of JSON Schema, or one of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule(u8);

impl Rule {
    /// Their names, by which violations are counted.
    pub const NAMES: [&'static str; 36] = [
        // Numbers of no standard, texts cut within a character: JSON, but not for every reader.
        "unreadable",
        // Over the bytes that a check takes.
        "size",
        // Any keyword that is not listed.
        "other",
        "$ref",
        "additionalProperties",
        "anyOf",
        "const",
        "contains",
        "contentEncoding",
        "contentMediaType",
        "dependentRequired",
        "dependentSchemas",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "falseSchema",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "multipleOf",
        "not",
        "oneOf",
        "pattern",
        "propertyNames",
        "required",
        "type",
        "unevaluatedItems",
        "unevaluatedProperties",
        "uniqueItems",
    ];

    /// The rule of this name; `other` for one that is not listed.
    #[must_use]
    pub fn named(name: &str) -> Rule {
        let at = Rule::NAMES.iter().position(|known| *known == name);
        Rule(at.and_then(|at| u8::try_from(at).ok()).unwrap_or(2))
    }

    /// Its place in [`Rule::NAMES`].
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Rule::NAMES.get(self.index()).unwrap_or(&"other"))
    }
}

/// How an event breaks a schema. Holds names of fields, and nothing of their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// Where, as a JSON Pointer; empty for the event itself.
    pub path: String,
    /// What the rule asks for.
    pub reason: String,
}

impl Violation {
    /// A violation by a value whose path its containers add.
    pub fn new(rule: &str, reason: impl Into<String>) -> Box<Violation> {
        Box::new(Violation {
            rule: Rule::named(rule),
            path: String::new(),
            reason: reason.into(),
        })
    }

    /// Itself as a sentence.
    #[must_use]
    pub fn message(&self) -> String {
        format!("`{}` breaks `{}`: {}", self.path, self.rule, self.reason)
    }

    /// Cuts its texts, parts of which a client may have written.
    fn bounded(mut self: Box<Self>) -> Box<Violation> {
        for text in [&mut self.path, &mut self.reason] {
            if text.len() > TEXT_BYTES_MAX {
                text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX - "…".len()));
                text.push('…');
            }
        }
        self
    }
}

/// Something that tells whether an event, or a value in one, keeps a contract.
pub trait Check: fmt::Debug + Send + Sync {
    /// The first violation that it finds.
    ///
    /// # Errors
    /// The event breaks the contract.
    fn check(&self, event: &[u8]) -> Result<(), Box<Violation>>;
}

/// A schema whose check may change while it is in use.
#[derive(Debug)]
pub struct Schema {
    name: Box<str>,
    on_violation: OnViolation,
    /// `None` until there is one: events pass, and are counted.
    check: RwLock<Option<Arc<dyn Check>>>,
    /// Of the check: changes with it, and no two schemas have the same.
    generation: AtomicU64,
}

/// Counts checks, of all schemas.
static GENERATIONS: AtomicU64 = AtomicU64::new(1);

impl Schema {
    /// A schema without a check.
    #[must_use]
    pub fn new(name: &str, on_violation: OnViolation) -> Schema {
        Schema {
            name: name.into(),
            on_violation,
            check: RwLock::default(),
            generation: AtomicU64::new(GENERATIONS.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Puts a check in force.
    pub fn set(&self, check: Arc<dyn Check>) {
        *self.check.write().unwrap_or_else(PoisonError::into_inner) = Some(check);
        let next = GENERATIONS.fetch_add(1, Ordering::Relaxed);
        self.generation.store(next, Ordering::Release);
    }

    /// Whether it has a check.
    #[must_use]
    pub fn is_in_force(&self) -> bool {
        let check = self.check.read().unwrap_or_else(PoisonError::into_inner);
        check.is_some()
    }
}

/// The schemas of a configuration.
#[derive(Debug, Default)]
pub struct Schemas {
    /// In the order of their ids.
    pub list: Vec<Arc<Schema>>,
    /// That of events which no rule takes.
    pub unmatched: Option<SchemaId>,
}

/// What the schemas keep from one request to the next, and what they did in the last one.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// By schema, a check and its generation: asking whether it has changed costs less than sharing it anew.
    checks: Vec<(u64, Option<Arc<dyn Check>>)>,
    pub(crate) outcomes: Vec<Outcome>,
}

/// What became of an event that has a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The schema.
    pub schema: SchemaId,
    /// Whether the event was checked.
    pub result: CheckResult,
}

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckResult {
    /// The event keeps the schema.
    Kept,
    /// It breaks this rule.
    Broken(Rule),
    /// The schema was not there yet.
    Unchecked,
}

/// How an event goes on.
#[derive(Debug)]
pub(crate) enum Verdict<'s> {
    /// As it is.
    Passes,
    /// Without a field [`SCHEMA_ERROR`] of the client's own, and with this one if there is one.
    Tagged(Option<(&'s str, Box<Violation>)>),
    /// As it is, in a letter.
    Dead(&'s str, Box<Violation>),
    /// To the client.
    Rejected(Reject),
}

impl Schemas {
    /// What becomes of `event`, for which rules made this choice.
    pub(crate) fn event<'s>(
        &'s self,
        choice: Option<&Choice>,
        event: &[u8],
        scratch: &mut Scratch,
    ) -> Verdict<'s> {
        let id = match choice {
            Some(choice) if choice.goes_nowhere() => None,
            Some(choice) => choice.schema.unwrap_or(self.unmatched),
            None => self.unmatched,
        };
        match id {
            Some(id) => self.verdict(id, event, scratch),
            None => Verdict::Passes,
        }
    }

    fn verdict<'s>(&'s self, id: SchemaId, event: &[u8], scratch: &mut Scratch) -> Verdict<'s> {
        let at = usize::from(id.0);
        let Some(schema) = self.list.get(at) else {
            return Verdict::Passes;
        };
        let Scratch { checks, outcomes } = scratch;
        if checks.len() <= at {
            checks.resize(self.list.len(), (0, None));
        }
        let Some((known, check)) = checks.get_mut(at) else {
            return Verdict::Passes;
        };
        let generation = schema.generation.load(Ordering::Acquire);
        if *known != generation {
            let new = schema.check.read().unwrap_or_else(PoisonError::into_inner);
            (*known, *check) = (generation, new.clone());
        }
        let found = match check {
            Some(check) => check.check(event).map_err(Violation::bounded),
            None => Ok(()),
        };
        let result = match (&found, check) {
            (Err(violation), _) => CheckResult::Broken(violation.rule),
            (Ok(()), Some(_)) => CheckResult::Kept,
            (Ok(()), None) => CheckResult::Unchecked,
        };
        outcomes.push(Outcome { schema: id, result });
        match (found, schema.on_violation) {
            (Ok(()), OnViolation::Reject | OnViolation::DeadLetter) => Verdict::Passes,
            (Ok(()), OnViolation::Tag) => Verdict::Tagged(None),
            (Err(violation), OnViolation::Tag) => Verdict::Tagged(Some((&schema.name, violation))),
            (Err(violation), OnViolation::DeadLetter) => Verdict::Dead(&schema.name, violation),
            (Err(violation), OnViolation::Reject) => Verdict::Rejected(Reject::Schema {
                schema: schema.name.clone(),
                violation,
            }),
        }
    }
}

/// Appends the object `raw` without a field [`SCHEMA_ERROR`], and with this one if there is one.
pub(crate) fn tag(raw: &[u8], error: Option<&(&str, Box<Violation>)>, out: &mut Vec<u8>) {
    let is_empty = walk::without(raw, [SCHEMA_ERROR].into_iter(), out);
    let Some((schema, violation)) = error else {
        return;
    };
    out.pop();
    if !is_empty {
        out.push(b',');
    }
    quote_str_into(SCHEMA_ERROR, out);
    let rule = violation.rule.to_string();
    let mut before: &[u8] = b":{";
    for (name, text) in [
        ("schema", *schema),
        ("rule", &rule),
        ("path", &violation.path),
        ("reason", &violation.reason),
    ] {
        out.extend_from_slice(before);
        before = b",";
        quote_str_into(name, out);
        out.push(b':');
        quote_str_into(text, out);
    }
    out.extend_from_slice(b"}}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_found_by_their_names() {
        for (at, name) in Rule::NAMES.iter().enumerate() {
            assert_eq!(Rule::named(name).index(), at);
            assert_eq!(Rule::named(name).to_string(), *name);
        }
        assert_eq!(Rule::named("new in 2030").to_string(), "other");
    }

    #[test]
    fn texts_of_a_violation_are_cut_between_characters() {
        let violation = Violation::new("type", "é".repeat(200)).bounded();
        assert_eq!(violation.reason.len(), 255);
        assert!(violation.reason.ends_with("é…"));
        let whole = Violation::new("type", "x".repeat(256)).bounded();
        assert_eq!(whole.reason, "x".repeat(256));
    }
}
