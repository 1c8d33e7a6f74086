//! What a rule asks of an event: tests of its fields and of its request, joined by and, or and not.

use crate::json::unescape;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// Tests in one rule, and conditions that join them.
pub const CONDITIONS_MAX: usize = 64;

/// Conditions inside each other.
pub const DEPTH_MAX: usize = 8;

/// Values that `one_of` may list.
pub const ONE_OF_MAX: usize = 1_000;

/// Bytes of a text that values are compared with.
pub const TEXT_BYTES_MAX: usize = 1_024;

/// A condition on values that are found by `S`.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition<S> {
    /// All of these hold; with none of them, it holds.
    All(Vec<Condition<S>>),
    /// One of these holds.
    Any(Vec<Condition<S>>),
    /// This does not hold.
    Not(Box<Condition<S>>),
    /// The value passes the test.
    Is(S, Test),
}

impl<S> Condition<S> {
    /// The same condition on values that are found in another way.
    ///
    /// # Errors
    /// The first of `found`.
    pub fn try_map<T, E>(
        &self,
        found: &mut impl FnMut(&S) -> Result<T, E>,
    ) -> Result<Condition<T>, E> {
        let mut each = |list: &[Condition<S>]| -> Result<Vec<Condition<T>>, E> {
            list.iter().map(|one| one.try_map(found)).collect()
        };
        Ok(match self {
            Condition::All(list) => Condition::All(each(list)?),
            Condition::Any(list) => Condition::Any(each(list)?),
            Condition::Not(one) => Condition::Not(Box::new(one.try_map(found)?)),
            Condition::Is(source, test) => Condition::Is(found(source)?, test.clone()),
        })
    }

    /// Whether it holds for these values.
    pub(crate) fn holds<'v>(&self, value: &impl Fn(&S) -> Value<'v>) -> bool {
        match self {
            Condition::All(list) => list.iter().all(|one| one.holds(value)),
            Condition::Any(list) => list.iter().any(|one| one.holds(value)),
            Condition::Not(one) => !one.holds(value),
            Condition::Is(source, test) => test.passes(&value(source)),
        }
    }
}

/// A value that a test looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value<'v> {
    /// There is none.
    Absent,
    /// A value of JSON, as it stands in an event that the scanner accepted.
    Json(&'v [u8]),
    /// A text of the request.
    Text(Cow<'v, [u8]>),
}

impl<'v> Value<'v> {
    /// Its characters, if it is a string: of JSON, unescaped.
    fn text(&self) -> Option<Cow<'_, [u8]>> {
        match self {
            Value::Absent => None,
            Value::Text(text) => Some(Cow::Borrowed(text)),
            Value::Json(json) => {
                let inside = json.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
                if !inside.contains(&b'\\') {
                    return Some(Cow::Borrowed(inside));
                }
                let inside = std::str::from_utf8(inside).ok()?;
                let text: String = unescape::chars(inside).collect();
                Some(Cow::Owned(text.into_bytes()))
            }
        }
    }

    /// The number that it is, or that its text is.
    fn number(&self) -> Option<Number> {
        match self {
            Value::Absent => None,
            Value::Json(bytes) => Number::read(bytes),
            Value::Text(bytes) => Number::read(bytes),
        }
    }

    fn switch(&self) -> Option<bool> {
        let bytes: &[u8] = match self {
            Value::Absent => return None,
            Value::Json(bytes) => bytes,
            Value::Text(bytes) => bytes,
        };
        match bytes {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }
}

/// A number: whole ones of 64 bits are compared exactly, others as floating-point numbers.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// A whole one.
    Whole(i64),
    /// Any other.
    Float(f64),
}

impl Number {
    /// Reads a number as JSON writes it.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Number> {
        // Rust's own parser takes `inf`, `nan` and a sign in front, too.
        let (b'-' | b'0'..=b'9') = text.first()? else {
            return None;
        };
        let text = std::str::from_utf8(text).ok()?;
        match text.parse() {
            Ok(whole) => Some(Number::Whole(whole)),
            Err(_) => text.parse().ok().map(Number::Float),
        }
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "the documented way to compare a whole number with a float"
    )]
    fn float(self) -> f64 {
        match self {
            Number::Whole(whole) => whole as f64,
            Number::Float(float) => float,
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        self.partial_cmp(other) == Some(Ordering::Equal)
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Number) -> Option<Ordering> {
        match (self, other) {
            (Number::Whole(here), Number::Whole(there)) => Some(here.cmp(there)),
            _ => self.float().partial_cmp(&other.float()),
        }
    }
}

/// How a number compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Greater.
    Above,
    /// Greater or equal.
    AtLeast,
    /// Less.
    Below,
    /// Less or equal.
    AtMost,
}

/// A value that a configuration names.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// A text.
    Text(String),
    /// A number.
    Number(Number),
    /// `true` or `false`.
    Switch(bool),
}

/// What a value has to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// There, and not null; or not.
    Present(bool),
    /// One of these texts, numbers or switches.
    OneOf {
        /// Texts, by their characters.
        texts: BTreeSet<Vec<u8>>,
        /// Others.
        others: Vec<Literal>,
    },
    /// A text that begins so.
    Prefix(Vec<u8>),
    /// A number that compares so.
    Compare(Comparison, Number),
}

impl Test {
    /// Whether the value is one of these.
    pub fn one_of(literals: impl IntoIterator<Item = Literal>) -> Test {
        let (mut texts, mut others) = (BTreeSet::new(), Vec::new());
        for literal in literals {
            match literal {
                Literal::Text(text) => {
                    texts.insert(text.into_bytes());
                }
                other => others.push(other),
            }
        }
        Test::OneOf { texts, others }
    }

    pub(crate) fn passes(&self, value: &Value<'_>) -> bool {
        match self {
            Test::Present(wanted) => {
                let is_present = !matches!(value, Value::Absent | Value::Json(b"null"));
                is_present == *wanted
            }
            Test::OneOf { texts, others } => {
                let is_text = || value.text().is_some_and(|text| texts.contains(&*text));
                (!texts.is_empty() && is_text())
                    || others.iter().any(|literal| match literal {
                        Literal::Text(_) => false,
                        Literal::Number(number) => value.number().as_ref() == Some(number),
                        Literal::Switch(switch) => value.switch() == Some(*switch),
                    })
            }
            Test::Prefix(prefix) => value.text().is_some_and(|text| text.starts_with(prefix)),
            Test::Compare(comparison, than) => {
                let Some(order) = value.number().and_then(|number| number.partial_cmp(than)) else {
                    return false;
                };
                match comparison {
                    Comparison::Above => order.is_gt(),
                    Comparison::AtLeast => order.is_ge(),
                    Comparison::Below => order.is_lt(),
                    Comparison::AtMost => order.is_le(),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Literal {
        Literal::Text(text.to_owned())
    }

    fn number(number: &str) -> Number {
        Number::read(number.as_bytes()).unwrap()
    }

    fn json(json: &str) -> Value<'_> {
        Value::Json(json.as_bytes())
    }

    fn of_request(text: &str) -> Value<'_> {
        Value::Text(Cow::Borrowed(text.as_bytes()))
    }

    #[test]
    fn texts_are_compared_by_their_characters() {
        let test = Test::one_of([text("buy"), text("é\n")]);
        for passing in [
            json(r#""buy""#),
            json(r#""b\u0075y""#),
            json(r#""\u00e9\n""#),
            of_request("buy"),
        ] {
            assert!(test.passes(&passing), "{passing:?}");
        }
        for failing in [
            json(r#""Buy""#),
            json("\"\""),
            json("1"),
            json("null"),
            json("[\"buy\"]"),
            Value::Absent,
        ] {
            assert!(!test.passes(&failing), "{failing:?}");
        }
        let test = Test::Prefix(b"b\"".to_vec());
        assert!(test.passes(&json(r#""b\"uy""#)) && test.passes(&of_request("b\"")));
        assert!(!test.passes(&json(r#""b""#)) && !test.passes(&Value::Absent));
    }

    #[test]
    fn numbers_are_compared_by_value_not_by_spelling() {
        let is = |value: &str, than: &str, comparison| {
            Test::Compare(comparison, number(than)).passes(&json(value))
        };
        use Comparison::{Above, AtLeast, AtMost, Below};
        assert!(is("1e2", "100", AtLeast) && is("1e2", "100", AtMost) && !is("1e2", "100", Above));
        assert!(is("9223372036854775807", "9223372036854775806", Above));
        assert!(is("-0.5", "0", Below) && !is("\"5\"", "1", Above) && !is("null", "1", Below));
        let equal = Test::one_of([Literal::Number(number("100"))]);
        assert!(equal.passes(&json("100.0")) && equal.passes(&of_request("100")));
        for no_number in ["inf", "nan", "+1", ".5", "", " 1", "1x"] {
            assert!(Number::read(no_number.as_bytes()).is_none(), "{no_number}");
        }
    }

    #[test]
    fn null_is_as_good_as_absent() {
        let present = Test::Present(true);
        for (value, expected) in [
            (json("0"), true),
            (json("false"), true),
            (json("\"\""), true),
            (of_request(""), true),
            (json("null"), false),
            (Value::Absent, false),
        ] {
            assert_eq!(present.passes(&value), expected, "{value:?}");
            assert_eq!(Test::Present(false).passes(&value), !expected, "{value:?}");
        }
    }

    #[test]
    fn conditions_join_by_and_or_and_not() {
        let is = |name: &'static str| Condition::Is(name, Test::Present(true));
        let value = |name: &&str| match *name {
            "there" => Value::Json(b"true"),
            _ => Value::Absent,
        };
        let not = |one| Condition::Not(Box::new(one));
        for (condition, expected) in [
            (Condition::All(vec![]), true),
            (Condition::Any(vec![]), false),
            (Condition::All(vec![is("there"), is("no")]), false),
            (Condition::Any(vec![is("no"), is("there")]), true),
            (not(Condition::All(vec![is("there"), not(is("no"))])), false),
        ] {
            assert_eq!(condition.holds(&value), expected, "{condition:?}");
        }
        let switch = Test::one_of([Literal::Switch(true)]);
        assert!(switch.passes(&json("true")) && !switch.passes(&json("1")));
    }
}
