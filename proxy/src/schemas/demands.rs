//! Contracts as lists of texts: `user.id=string`, `user.id=1..64`, `currency=EUR|USD`.

use sluice_core::route::path::{FieldPath, PathError};
use sluice_core::schema::paths::Demand;
use sluice_core::schema::shape::{Choices, Count, NAME_BYTES_MAX, Types};
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

/// The kinds of demands, and how each is written behind its `=`.
pub trait Written {
    /// What may be written.
    const EXPECTED: &'static str;

    /// What it means.
    fn parse(text: &str) -> Option<Demand>;
}

/// A field, and what is demanded of it.
pub struct Demanded<W> {
    text: String,
    /// The field.
    pub path: FieldPath,
    /// The demand.
    pub demand: Demand,
    written: PhantomData<fn() -> W>,
}

/// A text that demands nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DemandError {
    /// It is written in another way.
    #[error("`{text}`: expected {expected}")]
    Form {
        /// The text.
        text: String,
        /// What may be written.
        expected: &'static str,
    },
    /// Its path is none.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl<W: Written> FromStr for Demanded<W> {
    type Err = DemandError;

    fn from_str(text: &str) -> Result<Self, DemandError> {
        let form = || DemandError::Form {
            text: text.to_owned(),
            expected: W::EXPECTED,
        };
        let (path, demand) = text.rsplit_once('=').ok_or_else(form)?;
        Ok(Demanded {
            path: path.trim().parse()?,
            demand: W::parse(demand.trim()).ok_or_else(form)?,
            text: text.to_owned(),
            written: PhantomData,
        })
    }
}

impl<W> fmt::Display for Demanded<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<W> fmt::Debug for Demanded<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl<W> Clone for Demanded<W> {
    fn clone(&self) -> Self {
        Demanded {
            text: self.text.clone(),
            path: self.path.clone(),
            demand: self.demand.clone(),
            written: PhantomData,
        }
    }
}

impl<W> PartialEq for Demanded<W> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// Types of a field.
pub enum TypeOf {}

impl Written for TypeOf {
    const EXPECTED: &'static str =
        "a path, `=`, and types of JSON Schema, for instance user.id=string|integer";

    fn parse(text: &str) -> Option<Demand> {
        let mut types = text.split('|').map(|name| Types::named(name.trim()));
        let types = types.try_fold(Types::NONE, |all, one| Some(all | one?))?;
        Some(Demand::Types(types))
    }
}

/// How many characters a text has.
pub enum LengthOf {}

impl Written for LengthOf {
    const EXPECTED: &'static str = "a path, `=`, and how many characters, for instance user.id=1..64, where one end may be left out";

    fn parse(text: &str) -> Option<Demand> {
        let (min, max) = text.split_once("..")?;
        let end = |text: &str, default| match text.trim() {
            "" => Some(default),
            text => text.parse::<u64>().ok(),
        };
        let (min, max) = (end(min, 0)?, end(max, u64::MAX)?);
        let is_range = min <= max && (min, max) != (0, u64::MAX);
        is_range.then_some(Demand::Chars(Count { min, max }))
    }
}

/// The only texts of a field.
pub enum TextsOf {}

impl Written for TextsOf {
    const EXPECTED: &'static str =
        "a path, `=`, and texts of at most 256 bytes, for instance currency=EUR|USD";

    fn parse(text: &str) -> Option<Demand> {
        let mut choices = Choices::default();
        for text in text.split('|') {
            let is_text = (1..=NAME_BYTES_MAX).contains(&text.len());
            is_text.then(|| choices.text(text))?;
        }
        Some(Demand::OneOf(choices))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<W: Written>(text: &str) -> Result<Demand, String> {
        let read: Result<Demanded<W>, _> = text.parse();
        let read = read.map_err(|error| error.to_string())?;
        assert_eq!(read.to_string(), text);
        Ok(read.demand)
    }

    #[test]
    fn a_demand_reads_as_it_is_written() {
        let types = Demand::Types(Types::STRING | Types::NULL);
        assert_eq!(read::<TypeOf>("a.b=string|null"), Ok(types));
        let chars = |min, max| Ok(Demand::Chars(Count { min, max }));
        assert_eq!(read::<LengthOf>("a=1..64"), chars(1, 64));
        assert_eq!(read::<LengthOf>("a = ..64"), chars(0, 64));
        assert_eq!(read::<LengthOf>("a=3.."), chars(3, u64::MAX));
        assert!(read::<TextsOf>("a=EUR|USD").is_ok());
    }

    #[test]
    fn a_demand_of_another_form_is_refused_with_an_example() {
        for text in ["a", "a=text", "a=", "a=string|"] {
            let error = read::<TypeOf>(text).unwrap_err();
            assert!(error.contains("user.id=string|integer"), "{text}: {error}");
        }
        for text in ["a=5", "a=5..4", "a=..", "a=-1..2"] {
            let error = read::<LengthOf>(text).unwrap_err();
            assert!(error.contains("user.id=1..64"), "{text}: {error}");
        }
        let long = format!("a={}", "x".repeat(257));
        for text in ["a=", "a=x|", &long] {
            assert!(read::<TextsOf>(text).is_err(), "{text}");
        }
        assert!(read::<TypeOf>("a..b=string").is_err());
    }
}
