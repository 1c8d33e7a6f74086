//! Conditions as a configuration writes them: tables within tables.

use sluice_core::route::condition::{
    CONDITIONS_MAX, Comparison, Condition, DEPTH_MAX, Literal, Number, ONE_OF_MAX, TEXT_BYTES_MAX,
    Test,
};
use sluice_core::route::path::PathError;
use sluice_core::route::rules::Source;
use sluice_core::stats::EndpointLabel;
use sluice_sinks::settings::{Fault, Form, SettingValue, Value};
use std::collections::BTreeMap;

/// How a condition is written, for errors and the reference page.
pub const EXPECTED: &str = "a condition: `{ field = \"type\", equals = \"buy\" }`, `{ all = [...] }`, `{ any = [...] }` or `{ not = {...} }`";

/// The endpoints that take events.
pub const ENDPOINTS: [EndpointLabel; 3] = [
    EndpointLabel::Collect,
    EndpointLabel::Events,
    EndpointLabel::Pixel,
];

const SOURCES: &str = "field, query or request";
const TESTS: &str = "equals, one_of, prefix, present, above, at_least, below, at_most";

/// A condition, and how it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct When {
    /// The condition.
    pub condition: Condition<Source>,
    written: Value,
}

/// Why there is no condition. `place` is where in it, empty for all of it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WhenError {
    /// Something else than a table.
    #[error("{place}{found} is not {EXPECTED}")]
    NoTable {
        /// Where.
        place: String,
        /// What stands there.
        found: String,
    },
    /// A key that conditions do not have.
    #[error("{place}unknown key `{key}`, a condition has {SOURCES}, {TESTS}, or all, any or not")]
    UnknownKey {
        /// Where.
        place: String,
        /// The key.
        key: String,
    },
    /// A condition that joins others, and something else.
    #[error("{place}`{key}` stands alone in its table, here are {actual} keys")]
    NotAlone {
        /// Where.
        place: String,
        /// The key.
        key: &'static str,
        /// Keys of the table.
        actual: usize,
    },
    /// What is looked at is not said, or twice.
    #[error("{place}one of {SOURCES} is looked at, here are {actual}")]
    Sources {
        /// Where.
        place: String,
        /// How many are named.
        actual: usize,
    },
    /// Nothing is asked.
    #[error("{place}nothing is asked: one of {TESTS}")]
    NoTest {
        /// Where.
        place: String,
    },
    /// A value of another type.
    #[error("{place}`{key}` is {found}, expected {expected}")]
    Type {
        /// Where.
        place: String,
        /// Its key.
        key: &'static str,
        /// The value.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A field that is none.
    #[error("{place}{error}")]
    Path {
        /// Where.
        place: String,
        /// Why.
        error: PathError,
    },
    /// Too many conditions in one rule.
    #[error("{actual} conditions in one rule, at most {limit} are allowed")]
    Conditions {
        /// [`CONDITIONS_MAX`].
        limit: usize,
        /// How many there are at least.
        actual: usize,
    },
    /// Too many conditions inside each other.
    #[error("{place}conditions lie {actual} deep, at most {limit} are allowed")]
    Depth {
        /// Where.
        place: String,
        /// [`DEPTH_MAX`].
        limit: usize,
        /// How deep this one lies.
        actual: usize,
    },
    /// A list of values that is too long.
    #[error("{place}`one_of` has {actual} values, at most {limit} are allowed")]
    OneOf {
        /// Where.
        place: String,
        /// [`ONE_OF_MAX`].
        limit: usize,
        /// Values in it.
        actual: usize,
    },
    /// A text that is too long.
    #[error("{place}`{key}` has {actual} bytes, at most {limit} are allowed")]
    Text {
        /// Where.
        place: String,
        /// Its key.
        key: &'static str,
        /// [`TEXT_BYTES_MAX`].
        limit: usize,
        /// Bytes of the text.
        actual: usize,
    },
}

impl SettingValue for When {
    fn read(_: &Form, value: &Value) -> Result<When, Vec<Fault>> {
        let mut reading = Reading { conditions: 0 };
        let condition = reading.condition(value, "", 1);
        let condition = condition.map_err(|error| vec![Fault::Unreadable(error.to_string())])?;
        Ok(When {
            condition,
            written: value.clone(),
        })
    }

    fn show(&self, _: &Form) -> Option<Value> {
        Some(self.written.clone())
    }
}

struct Reading {
    conditions: usize,
}

type Table = BTreeMap<String, Value>;

impl Reading {
    fn condition(
        &mut self,
        value: &Value,
        place: &str,
        depth: usize,
    ) -> Result<Condition<Source>, WhenError> {
        let at = || match place {
            "" => String::new(),
            place => format!("{place}: "),
        };
        self.conditions += 1;
        let (limit, actual) = (CONDITIONS_MAX, self.conditions);
        if actual > limit {
            return Err(WhenError::Conditions { limit, actual });
        }
        if depth > DEPTH_MAX {
            return Err(WhenError::Depth {
                place: at(),
                limit: DEPTH_MAX,
                actual: depth,
            });
        }
        let Value::Table(table) = value else {
            return Err(WhenError::NoTable {
                place: at(),
                found: format!("{value:?}"),
            });
        };
        for key in ["all", "any", "not"] {
            let Some(inside) = table.get(key) else {
                continue;
            };
            if table.len() > 1 {
                return Err(WhenError::NotAlone {
                    place: at(),
                    key,
                    actual: table.len(),
                });
            }
            let place = match place {
                "" => key.to_owned(),
                place => format!("{place}.{key}"),
            };
            if key == "not" {
                let one = self.condition(inside, &place, depth + 1)?;
                return Ok(Condition::Not(Box::new(one)));
            }
            let Value::List(list) = inside else {
                return Err(WhenError::Type {
                    place: at(),
                    key,
                    found: format!("{inside:?}"),
                    expected: "an array of conditions",
                });
            };
            let list: Result<Vec<_>, _> = list
                .iter()
                .enumerate()
                .map(|(n, one)| self.condition(one, &format!("{place}[{n}]"), depth + 1))
                .collect();
            return Ok(match key {
                "all" => Condition::All(list?),
                _ => Condition::Any(list?),
            });
        }
        tests(table, &at())
    }
}

/// All that a table asks of one value.
fn tests(table: &Table, place: &str) -> Result<Condition<Source>, WhenError> {
    let source = source(table, place)?;
    let mut asked = Vec::new();
    for (key, value) in table {
        let text = |key| text(value, key, place);
        let compare = |key, comparison| {
            let than = number(value).ok_or_else(|| WhenError::Type {
                place: place.to_owned(),
                key,
                found: format!("{value:?}"),
                expected: "a number",
            })?;
            Ok(Test::Compare(comparison, than))
        };
        let test = match key.as_str() {
            "field" | "query" | "request" => continue,
            "equals" => Test::one_of([literal(value, "equals", &source, place)?]),
            "one_of" => one_of(value, &source, place)?,
            "prefix" => Test::Prefix(lower_host(text("prefix")?, &source).into_bytes()),
            "present" => match value {
                Value::Switch(wanted) => Test::Present(*wanted),
                _ => {
                    return Err(WhenError::Type {
                        place: place.to_owned(),
                        key: "present",
                        found: format!("{value:?}"),
                        expected: "true or false",
                    });
                }
            },
            "above" => compare("above", Comparison::Above)?,
            "at_least" => compare("at_least", Comparison::AtLeast)?,
            "below" => compare("below", Comparison::Below)?,
            "at_most" => compare("at_most", Comparison::AtMost)?,
            _ => {
                return Err(WhenError::UnknownKey {
                    place: place.to_owned(),
                    key: key.clone(),
                });
            }
        };
        asked.push(Condition::Is(source.clone(), test));
    }
    match asked.len() {
        0 => Err(WhenError::NoTest {
            place: place.to_owned(),
        }),
        1 => Ok(asked.remove(0)),
        _ => Ok(Condition::All(asked)),
    }
}

fn source(table: &Table, place: &str) -> Result<Source, WhenError> {
    let named = ["field", "query", "request"];
    let named: Vec<_> = named
        .into_iter()
        .filter_map(|key| Some((key, table.get(key)?)))
        .collect();
    let [(key, value)] = named[..] else {
        return Err(WhenError::Sources {
            place: place.to_owned(),
            actual: named.len(),
        });
    };
    let name = text(value, key, place)?;
    match (key, name.as_str()) {
        ("field", name) => {
            let path = name.parse().map_err(|error| WhenError::Path {
                place: place.to_owned(),
                error,
            });
            path.map(Source::Field)
        }
        ("query", _) => Ok(Source::Query(name)),
        (_, "endpoint") => Ok(Source::Endpoint),
        (_, "listener") => Ok(Source::Listener),
        (_, "host") => Ok(Source::Host),
        _ => Err(WhenError::Type {
            place: place.to_owned(),
            key: "request",
            found: format!("{name:?}"),
            expected: "endpoint, listener or host",
        }),
    }
}

fn text(value: &Value, key: &'static str, place: &str) -> Result<String, WhenError> {
    let Value::Text(text) = value else {
        return Err(WhenError::Type {
            place: place.to_owned(),
            key,
            found: format!("{value:?}"),
            expected: "a text in quotes",
        });
    };
    if text.len() > TEXT_BYTES_MAX {
        return Err(WhenError::Text {
            place: place.to_owned(),
            key,
            limit: TEXT_BYTES_MAX,
            actual: text.len(),
        });
    }
    Ok(text.clone())
}

fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Integer(number) => Some(Number::Whole(*number)),
        Value::Fraction(text) => text.parse().ok().map(Number::Float),
        _ => None,
    }
}

fn one_of(value: &Value, source: &Source, place: &str) -> Result<Test, WhenError> {
    let Value::List(values) = value else {
        return Err(WhenError::Type {
            place: place.to_owned(),
            key: "one_of",
            found: format!("{value:?}"),
            expected: "an array of texts, numbers or switches",
        });
    };
    let (limit, actual) = (ONE_OF_MAX, values.len());
    if actual > limit {
        let place = place.to_owned();
        return Err(WhenError::OneOf {
            place,
            limit,
            actual,
        });
    }
    let values = values.iter();
    let literals: Result<Vec<_>, _> = values
        .map(|value| literal(value, "one_of", source, place))
        .collect();
    literals.map(Test::one_of)
}

fn literal(
    value: &Value,
    key: &'static str,
    source: &Source,
    place: &str,
) -> Result<Literal, WhenError> {
    if let Value::Switch(switch) = value {
        return Ok(Literal::Switch(*switch));
    }
    if let Some(number) = number(value) {
        return Ok(Literal::Number(number));
    }
    let text = text(value, key, place)?;
    if *source == Source::Endpoint && !ENDPOINTS.iter().any(|known| known.label() == text) {
        return Err(WhenError::Type {
            place: place.to_owned(),
            key,
            found: format!("{text:?}"),
            expected: "one of the endpoints collect, events and pixel",
        });
    }
    Ok(Literal::Text(lower_host(text, source)))
}

/// Hosts are compared in lower case.
fn lower_host(text: String, source: &Source) -> String {
    match source {
        Source::Host => text.to_ascii_lowercase(),
        _ => text,
    }
}
