//! The codings that a body names, and those that an endpoint takes.

use super::limits::CODINGS_CEILING;
use std::fmt;
use std::str::FromStr;

/// One content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `gzip`, `x-gzip`: members after each other are one body.
    Gzip,
    /// `deflate`: zlib, or raw deflate, which some clients send under this name.
    Deflate,
    /// `zstd`: frames after each other are one body.
    Zstd,
    /// `br`.
    Brotli,
    /// `snappy`: one raw block, as the replaced tier took it.
    Snappy,
}

/// The codings that an endpoint accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedCodings(u8);

impl AcceptedCodings {
    /// None but `identity`.
    pub const NONE: AcceptedCodings = AcceptedCodings(0);

    /// Every known coding.
    pub const ALL: AcceptedCodings = AcceptedCodings((1 << Coding::ALL.len()) - 1);

    /// Adds a coding.
    #[must_use]
    pub const fn with(self, coding: Coding) -> AcceptedCodings {
        AcceptedCodings(self.0 | 1 << coding as u8)
    }

    /// Whether this one is accepted.
    #[must_use]
    pub const fn contains(self, coding: Coding) -> bool {
        self.0 >> coding as u8 & 1 == 1
    }
}

impl From<&[Coding]> for AcceptedCodings {
    fn from(codings: &[Coding]) -> AcceptedCodings {
        let none = AcceptedCodings::NONE;
        codings.iter().fold(none, |set, coding| set.with(*coding))
    }
}

/// The codings of a body, in the order in which they were applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Codings(pub(super) Vec<Coding>);

/// A list of codings that an endpoint does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodingError {
    /// Not one of those known.
    #[error("a coding is none of gzip, deflate, zstd, br, snappy, identity")]
    Unknown,
    /// Known, but not accepted here.
    #[error("the coding {} is not accepted here", .0.name())]
    NotAccepted(Coding),
    /// More than allowed.
    #[error("{actual} codings are over the limit of {limit} codings in one body")]
    TooMany {
        /// Codings allowed.
        limit: usize,
        /// Codings named, at least.
        actual: usize,
    },
}

impl Codings {
    /// No coding.
    pub const NONE: &Codings = &Codings(Vec::new());

    /// Reads a value of Content-Encoding: `gzip`, or a list `deflate, gzip`. Several header lines are one
    /// list; call [`Codings::read`] for each in turn.
    ///
    /// # Errors
    /// [`CodingError::Unknown`], or [`CodingError::TooMany`] over [`CODINGS_CEILING`].
    pub fn read(&mut self, list: &[u8]) -> Result<(), CodingError> {
        for name in list.split(|byte| *byte == b',') {
            let name = name.trim_ascii();
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            if is("") || is("identity") {
                continue;
            }
            let known = Coding::ALL.into_iter().find(|coding| is(coding.name()));
            let coding = match known {
                Some(coding) => coding,
                None if is("x-gzip") => Coding::Gzip,
                None => return Err(CodingError::Unknown),
            };
            self.0.push(coding);
            self.check(CODINGS_CEILING, AcceptedCodings::ALL)?;
        }
        Ok(())
    }

    /// Whether an endpoint takes a body with these codings.
    ///
    /// # Errors
    /// [`CodingError::TooMany`], [`CodingError::NotAccepted`].
    pub fn check(&self, limit: usize, accepted: AcceptedCodings) -> Result<(), CodingError> {
        let actual = self.0.len();
        if actual > limit {
            return Err(CodingError::TooMany { limit, actual });
        }
        match self.0.iter().find(|coding| !accepted.contains(**coding)) {
            Some(coding) => Err(CodingError::NotAccepted(*coding)),
            None => Ok(()),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one that was applied first.
    #[must_use]
    pub fn first(&self) -> Option<Coding> {
        self.0.first().copied()
    }
}

/// By its name in headers, but for case and aliases.
impl FromStr for Coding {
    type Err = CodingError;

    fn from_str(name: &str) -> Result<Coding, CodingError> {
        let known = Coding::ALL.into_iter().find(|coding| coding.name() == name);
        known.ok_or(CodingError::Unknown)
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Coding {
    /// All of them, in the order of their numbers.
    pub const ALL: [Coding; 5] = [
        Coding::Gzip,
        Coding::Deflate,
        Coding::Zstd,
        Coding::Brotli,
        Coding::Snappy,
    ];

    /// Its name in headers, settings and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
            Coding::Zstd => "zstd",
            Coding::Brotli => "br",
            Coding::Snappy => "snappy",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::codings;
    use super::*;

    #[test]
    fn an_unknown_coding_and_too_many_are_refused() {
        let read = |list: &[u8]| Codings::default().read(list);
        assert_eq!(read(b"gzip, compress"), Err(CodingError::Unknown));
        assert_eq!(read(b"gzip;q=1"), Err(CodingError::Unknown));
        assert_eq!(read(b"\xff"), Err(CodingError::Unknown));
        assert_eq!(read(b"gzip,gzip,gzip"), Ok(()));
        let (limit, actual) = (CODINGS_CEILING, CODINGS_CEILING + 1);
        assert_eq!(
            read(b"gzip,gzip,gzip,gzip"),
            Err(CodingError::TooMany { limit, actual })
        );
    }

    #[test]
    fn an_endpoint_takes_the_codings_it_lists() {
        let accepted = AcceptedCodings::NONE.with(Coding::Gzip).with(Coding::Zstd);
        assert_eq!(codings("gzip").check(1, accepted), Ok(()));
        assert_eq!(codings("").check(0, AcceptedCodings::NONE), Ok(()));
        assert_eq!(
            codings("br").check(1, accepted),
            Err(CodingError::NotAccepted(Coding::Brotli))
        );
        let too_many = CodingError::TooMany {
            limit: 1,
            actual: 2,
        };
        assert_eq!(codings("gzip, gzip").check(1, accepted), Err(too_many));
        for coding in Coding::ALL {
            assert!(AcceptedCodings::ALL.contains(coding));
            assert!(!AcceptedCodings::NONE.contains(coding));
        }
    }
}
