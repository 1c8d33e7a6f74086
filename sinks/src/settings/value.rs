//! Values as they were written, and how the types of settings read them.

use super::{Form, Kind};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A value as it was written, or as it is printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// `true` or `false`.
    Switch(bool),
    /// An array.
    List(Vec<Value>),
    /// The text of a variable: which type it stands for, only its setting knows.
    Untyped(String),
    /// A text that is never shown.
    Hidden(String),
    /// A number with a fraction, as it was written.
    Fraction(String),
    /// A table, for settings that have a form of their own.
    Table(BTreeMap<String, Value>),
    /// A type that no setting has.
    Other(&'static str),
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) | Value::Untyped(text) => fmt::Debug::fmt(text, f),
            Value::Integer(number) => number.fmt(f),
            Value::Switch(is_on) => is_on.fmt(f),
            Value::List(values) => f.debug_list().entries(values).finish(),
            Value::Hidden(_) => f.write_str(Secret::MASK),
            Value::Fraction(_) => f.write_str("a number with a fraction"),
            Value::Table(_) => f.write_str("a table"),
            Value::Other(name) => f.write_str(name),
        }
    }
}

impl Value {
    /// The text, if it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) | Value::Untyped(text) | Value::Hidden(text) => Some(text),
            _ => None,
        }
    }

    fn wrong_type(&self, expected: &str) -> Vec<Fault> {
        vec![Fault::Unreadable(format!("{self:?} is not {expected}"))]
    }

    /// The value of a type that is written as text.
    ///
    /// # Errors
    /// It is no text, or the type refuses it.
    pub fn parse<T: FromStr>(value: &Value, form: &Form) -> Result<T, Vec<Fault>> {
        let expected = match form.kind {
            Kind::Word { expected } => expected,
            _ => "a text in quotes",
        };
        let text = value.text().ok_or_else(|| value.wrong_type(expected))?;
        text.parse()
            .map_err(|_| vec![Fault::Unreadable(format!("`{text}` is not {expected}"))])
    }
}

/// What is wrong with one value; the reader adds the name of the setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It cannot be read at all: another type, or none of the words.
    Unreadable(String),
    /// A number, or the length of a list, is out of its bounds.
    OutOfRange(u64),
    /// A text has the wrong form.
    Malformed {
        /// The text.
        value: String,
        /// What it must look like.
        expected: &'static str,
    },
    /// Its type refuses a text.
    Refused(String),
}

/// A type that settings have.
pub trait SettingValue: Sized {
    /// Reads what was written.
    ///
    /// # Errors
    /// All that is wrong with it.
    fn read(form: &Form, value: &Value) -> Result<Self, Vec<Fault>>;

    /// As it is printed; `None` leaves the setting out.
    fn show(&self, form: &Form) -> Option<Value>;

    /// A default, moved into the bounds.
    #[must_use]
    fn within(self, _: &Form) -> Self {
        self
    }

    /// Whether it is a list without entries, which is as good as none where a setting is needed.
    fn is_empty_list(&self) -> bool {
        false
    }
}

/// Stands for no value where a setting has that.
const OFF: &str = "off";

fn whole(form: &Form, value: &Value) -> Result<u64, Vec<Fault>> {
    let given = match value {
        Value::Integer(number) => u64::try_from(*number).ok(),
        Value::Untyped(text) => text.parse().ok(),
        _ => None,
    };
    let given = given.ok_or_else(|| value.wrong_type("a whole number"))?;
    match form.kind {
        Kind::Number { min, max, .. } if !(min..=max).contains(&given) => {
            Err(vec![Fault::OutOfRange(given)])
        }
        _ => Ok(given),
    }
}

fn clamped(form: &Form, value: u64) -> u64 {
    match form.kind {
        Kind::Number { min, max, .. } => value.clamp(min, max),
        _ => value,
    }
}

fn shown(value: u64) -> Option<Value> {
    Some(Value::Integer(i64::try_from(value).unwrap_or(i64::MAX)))
}

macro_rules! numbers {
    ($($name:ty),*) => {$(
        impl SettingValue for $name {
            fn read(form: &Form, value: &Value) -> Result<$name, Vec<Fault>> {
                let value = whole(form, value)?;
                <$name>::try_from(value).map_err(|_| vec![Fault::OutOfRange(value)])
            }

            fn show(&self, _: &Form) -> Option<Value> {
                shown(u64::try_from(*self).unwrap_or(u64::MAX))
            }

            fn within(self, form: &Form) -> $name {
                let value = clamped(form, u64::try_from(self).unwrap_or(u64::MAX));
                <$name>::try_from(value).unwrap_or(self)
            }
        }
    )*};
}

numbers!(u32, u64, usize);

impl SettingValue for Duration {
    fn read(form: &Form, value: &Value) -> Result<Duration, Vec<Fault>> {
        whole(form, value).map(|value| duration(form, value))
    }

    fn show(&self, form: &Form) -> Option<Value> {
        shown(in_unit(form, *self))
    }

    fn within(self, form: &Form) -> Duration {
        duration(form, clamped(form, in_unit(form, self)))
    }
}

fn duration(form: &Form, value: u64) -> Duration {
    match form.kind {
        Kind::Number { unit: "s", .. } => Duration::from_secs(value),
        _ => Duration::from_millis(value),
    }
}

fn in_unit(form: &Form, duration: Duration) -> u64 {
    match form.kind {
        Kind::Number { unit: "s", .. } => duration.as_secs(),
        _ => u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
    }
}

impl SettingValue for bool {
    fn read(_: &Form, value: &Value) -> Result<bool, Vec<Fault>> {
        let given = match value {
            Value::Switch(is_on) => Some(*is_on),
            Value::Untyped(text) => text.parse().ok(),
            _ => None,
        };
        given.ok_or_else(|| value.wrong_type("true or false"))
    }

    fn show(&self, _: &Form) -> Option<Value> {
        Some(Value::Switch(*self))
    }
}

impl SettingValue for String {
    fn read(form: &Form, value: &Value) -> Result<String, Vec<Fault>> {
        let text = value
            .text()
            .ok_or_else(|| value.wrong_type("a text in quotes"))?;
        match form.kind {
            Kind::Text { expected, is_valid } if !is_valid(text) => Err(vec![Fault::Malformed {
                value: text.to_owned(),
                expected,
            }]),
            _ => Ok(text.to_owned()),
        }
    }

    fn show(&self, _: &Form) -> Option<Value> {
        Some(Value::Text(self.clone()))
    }
}

impl SettingValue for PathBuf {
    fn read(form: &Form, value: &Value) -> Result<PathBuf, Vec<Fault>> {
        String::read(form, value).map(PathBuf::from)
    }

    fn show(&self, _: &Form) -> Option<Value> {
        Some(Value::Text(self.to_string_lossy().into_owned()))
    }
}

impl<T: SettingValue> SettingValue for Option<T> {
    fn read(form: &Form, value: &Value) -> Result<Option<T>, Vec<Fault>> {
        if form.has_off && value.text() == Some(OFF) {
            return Ok(None);
        }
        T::read(form, value).map(Some)
    }

    fn show(&self, form: &Form) -> Option<Value> {
        match self {
            Some(value) => value.show(form),
            None => form.has_off.then(|| Value::Text(OFF.to_owned())),
        }
    }

    fn within(self, form: &Form) -> Option<T> {
        self.map(|value| value.within(form))
    }
}

/// An array in a file, or one text with commas, as in a variable.
impl<T> SettingValue for Vec<T>
where
    T: FromStr + fmt::Display,
    T::Err: fmt::Display,
{
    fn read(form: &Form, value: &Value) -> Result<Vec<T>, Vec<Fault>> {
        let wrong_type = || value.wrong_type("an array of texts, or one text with commas");
        let texts: Vec<&str> = match value {
            Value::Text(text) | Value::Untyped(text) => text
                .split(',')
                .map(str::trim)
                .filter(|text| !text.is_empty())
                .collect(),
            Value::List(values) => values
                .iter()
                .map(|value| value.text().ok_or_else(wrong_type))
                .collect::<Result<_, _>>()?,
            _ => return Err(wrong_type()),
        };
        let mut found = Vec::with_capacity(texts.len());
        let mut faults = Vec::new();
        let (max, expected, is_valid): (_, _, fn(&str) -> bool) = match form.kind {
            Kind::List {
                max,
                expected,
                is_valid,
                ..
            } => (max, expected, is_valid),
            _ => (usize::MAX, "", |_| true),
        };
        if texts.len() > max {
            faults.push(Fault::OutOfRange(texts.len() as u64));
        }
        for text in texts {
            match text.parse::<T>() {
                Err(error) => faults.push(Fault::Refused(error.to_string())),
                Ok(_) if !is_valid(text) => faults.push(Fault::Malformed {
                    value: text.to_owned(),
                    expected,
                }),
                Ok(value) => found.push(value),
            }
        }
        if faults.is_empty() {
            Ok(found)
        } else {
            Err(faults)
        }
    }

    fn is_empty_list(&self) -> bool {
        self.is_empty()
    }

    fn show(&self, _: &Form) -> Option<Value> {
        let texts = self.iter().map(|value| Value::Text(value.to_string()));
        Some(Value::List(texts.collect()))
    }
}

/// An enum of words; see [`keyword_enum!`](crate::keyword_enum).
pub trait Keyword: FromStr {
    /// The words, for an error and the reference page.
    const EXPECTED: &'static str;
}

/// A word that is none of those allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not {expected}")]
pub struct KeywordError {
    /// What was written.
    pub given: String,
    /// What may be written.
    pub expected: &'static str,
}

crate::setting_from_text!(SocketAddr);

/// A text that is neither printed nor logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl Secret {
    /// What is shown in its place.
    pub const MASK: &'static str = "***";
    /// Bytes of a name or a password.
    pub const BYTES_MAX: usize = 1_024;
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Secret::MASK)
    }
}

impl SettingValue for Secret {
    /// No error shows the value.
    fn read(_: &Form, value: &Value) -> Result<Secret, Vec<Fault>> {
        let Some(text) = value.text() else {
            return Err(vec![Fault::Unreadable(
                "a password is a text in quotes".to_owned(),
            )]);
        };
        let why = match text {
            Secret::MASK => "it is the mask that is printed in the place of a password".to_owned(),
            _ if !is_credential(text) => {
                format!("1 to {} bytes, none of them 0", Secret::BYTES_MAX)
            }
            _ => return Ok(Secret(text.to_owned())),
        };
        Err(vec![Fault::Refused(why)])
    }

    fn show(&self, _: &Form) -> Option<Value> {
        Some(Value::Hidden(self.0.clone()))
    }
}

/// Whether a text can be a user name or a password.
#[must_use]
pub fn is_credential(text: &str) -> bool {
    (1..=Secret::BYTES_MAX).contains(&text.len()) && !text.bytes().any(|byte| byte == 0)
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// On this line of the file, from 1.
    Line(usize),
    /// In this variable.
    Variable(String),
    /// On the command line.
    Flag(&'static str),
    /// Nowhere: it stands for what was not written.
    Default,
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The value.
    pub value: Value,
    /// Where.
    pub origin: Origin,
}

/// All that was written, by path: `listen.address`, `outputs.main.type`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// The values.
    pub values: BTreeMap<String, Written>,
    /// The names of outputs, also of those without a value.
    pub outputs: BTreeSet<String>,
    /// The names of listeners besides the first, also of those without a value.
    pub listeners: BTreeSet<String>,
    /// The names of schemas, also of those without a value.
    pub schemas: BTreeSet<String>,
    /// How many tables an array of tables has; the sections of the n-th are called `name.n`.
    pub counts: BTreeMap<String, usize>,
}

impl Tree {
    /// Writes a value, in the place of an earlier one.
    pub fn set(&mut self, path: impl Into<String>, value: Value, origin: Origin) {
        let path = path.into();
        for (prefix, names) in [
            ("outputs.", &mut self.outputs),
            ("listeners.", &mut self.listeners),
            ("schemas.", &mut self.schemas),
        ] {
            let named = path
                .strip_prefix(prefix)
                .and_then(|rest| rest.rsplit_once('.'));
            if let Some((name, _)) = named {
                // A spool's section lies in its output's.
                let name = name.strip_suffix(".spool").unwrap_or(name);
                names.insert(name.to_owned());
            }
        }
        self.values.insert(path, Written { value, origin });
    }

    /// Forgets an output.
    pub fn remove_output(&mut self, name: &str) {
        let section = format!("outputs.{name}.");
        self.values.retain(|path, _| !path.starts_with(&section));
        self.outputs.remove(name);
    }

    /// What was written there.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Written> {
        self.values.get(path)
    }
}
