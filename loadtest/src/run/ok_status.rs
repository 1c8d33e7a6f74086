//! The statuses that a target is expected to answer with.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Statuses of one list.
const STATUSES_MAX: usize = 16;

/// A list has statuses of success and redirection only: what audits count as refused or failed
/// cannot be expected.
const STATUSES: RangeInclusive<u16> = 200..=399;

/// Statuses that are a success, in ascending order: at least one; 200 alone by default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u16>", into = "Vec<u16>")]
pub struct OkStatuses(Vec<u16>);

/// Why a list is none of statuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OkStatusesError {
    /// Too many, or none.
    #[error("1 to {STATUSES_MAX} statuses are possible, not {0}")]
    Count(usize),
    /// A part of the text is no number.
    #[error("{0:?}: expected statuses with commas between them, as in 200,202,204")]
    Number(String),
    /// A number is out of range.
    #[error("a status must be between {} and {}, not {actual}", STATUSES.start(), STATUSES.end())]
    Range {
        /// The number.
        actual: u16,
    },
}

impl OkStatuses {
    /// Whether an answer with this status is a success.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        self.0.contains(&status)
    }
}

impl Default for OkStatuses {
    fn default() -> OkStatuses {
        OkStatuses(vec![200])
    }
}

impl TryFrom<Vec<u16>> for OkStatuses {
    type Error = OkStatusesError;

    fn try_from(mut statuses: Vec<u16>) -> Result<OkStatuses, OkStatusesError> {
        if !(1..=STATUSES_MAX).contains(&statuses.len()) {
            return Err(OkStatusesError::Count(statuses.len()));
        }
        if let Some(&actual) = statuses.iter().find(|one| !STATUSES.contains(*one)) {
            return Err(OkStatusesError::Range { actual });
        }
        statuses.sort_unstable();
        statuses.dedup();
        Ok(OkStatuses(statuses))
    }
}

impl From<OkStatuses> for Vec<u16> {
    fn from(statuses: OkStatuses) -> Vec<u16> {
        statuses.0
    }
}

impl FromStr for OkStatuses {
    type Err = OkStatusesError;

    fn from_str(text: &str) -> Result<OkStatuses, OkStatusesError> {
        let count = text.split(',').count();
        if count > STATUSES_MAX {
            return Err(OkStatusesError::Count(count));
        }
        let statuses = text.split(',').map(|part| {
            let number = part.trim().parse::<u16>();
            number.map_err(|_| OkStatusesError::Number(part.to_owned()))
        });
        statuses.collect::<Result<Vec<u16>, _>>()?.try_into()
    }
}

/// As in a sentence: `200, 202 or 204`.
impl fmt::Display for OkStatuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, status) in self.0.iter().enumerate() {
            let separator = match at {
                0 => "",
                at if at + 1 == self.0.len() => " or ",
                _ => ", ",
            };
            write!(f, "{separator}{status}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ok_statuses_are_parsed_sorted_and_displayed() {
        for (text, told) in [
            ("200", "200"),
            ("204,200", "200 or 204"),
            ("204, 202,200,204", "200, 202 or 204"),
        ] {
            let statuses: OkStatuses = text.parse().unwrap();
            assert_eq!(statuses.to_string(), told);
            let json = serde_json::to_string(&statuses).unwrap();
            assert_eq!(serde_json::from_str::<OkStatuses>(&json).unwrap(), statuses);
        }
        assert!(OkStatuses::default().contains(200));
        assert!(!OkStatuses::default().contains(204));
    }

    #[test]
    fn a_wrong_list_is_refused_with_what_is_wrong() {
        let error = |text: &str| text.parse::<OkStatuses>().unwrap_err().to_string();
        assert!(error("").contains("\"\": expected statuses"));
        assert!(error("200,,204").contains("expected statuses"));
        assert!(error("2xx").contains("\"2xx\": expected statuses"));
        assert!(error("70000").contains("expected statuses"));
        assert_eq!(
            error("200,404"),
            "a status must be between 200 and 399, not 404"
        );
        assert!(error("101").contains("not 101"));
        let long = vec!["200"; 17].join(",");
        assert_eq!(error(&long), "1 to 16 statuses are possible, not 17");
        assert!(serde_json::from_str::<OkStatuses>("[]").is_err());
        assert!(serde_json::from_str::<OkStatuses>("[503]").is_err());
    }
}
