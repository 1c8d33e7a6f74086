//! Names of segments and objects.
//!
//! ```text
//! <dir>/<unix seconds>-<uuid>.open          may still grow
//!                            .closed        complete; the seconds are those of its creation
//!                            .keyed         being uploaded; the seconds are those of its key
//!                            .open.torn     the torn tail left by a crash
//!
//! <prefix>year=2026/month=11/day=20/hour=07/<unix seconds>-<uuid>.log.gz
//! ```

use sluice_core::time::Wall;
use std::fmt;
use uuid::Uuid;

/// A segment's name, and in its last state the object's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    secs: u64,
    uuid: Uuid,
}

impl Name {
    /// Creates a unique name.
    pub(super) fn new(now: Wall) -> Name {
        Name {
            secs: now.secs,
            uuid: Uuid::new_v4(),
        }
    }

    /// The same name with other seconds.
    pub(super) fn at(self, now: Wall) -> Name {
        Name {
            secs: now.secs,
            ..self
        }
    }

    /// Its Unix time in seconds.
    pub(super) fn secs(self) -> u64 {
        self.secs
    }

    fn parse(text: &str) -> Option<Name> {
        let (secs, uuid) = text.split_once('-')?;
        let name = Name {
            secs: secs.parse().ok()?,
            uuid: Uuid::try_parse(uuid).ok()?,
        };
        (name.to_string() == text).then_some(name)
    }

    /// The object's key; `None` when the clock reads a year beyond 9999.
    pub(super) fn key(self, prefix: &str) -> Option<String> {
        let at = jiff::Timestamp::from_second(i64::try_from(self.secs).ok()?).ok()?;
        let utc = jiff::tz::Offset::UTC.to_datetime(at);
        Some(format!(
            "{prefix}year={:04}/month={:02}/day={:02}/hour={:02}/{self}.log.gz",
            utc.year(),
            utc.month(),
            utc.day(),
            utc.hour()
        ))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.secs, self.uuid)
    }
}

/// A segment's state, as encoded in its file extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Growing, or interrupted by a crash or disk error: its tail must be checked before the upload.
    Open,
    /// Complete and intact.
    Closed,
    /// Intact, and possibly already uploaded under this name.
    Keyed,
}

impl State {
    const ALL: [State; 3] = [State::Open, State::Closed, State::Keyed];

    const fn ending(self) -> &'static str {
        match self {
            State::Open => ".open",
            State::Closed => ".closed",
            State::Keyed => ".keyed",
        }
    }
}

/// The file of a segment.
pub(super) fn file_name(name: Name, state: State) -> String {
    format!("{name}{}", state.ending())
}

/// Parses a file name; `None` if it is not a segment's.
pub(super) fn parse_file_name(text: &str) -> Option<(Name, State)> {
    State::ALL.into_iter().find_map(|state| {
        let name = text.strip_suffix(state.ending())?;
        Some((Name::parse(name)?, state))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wall(secs: u64) -> Wall {
        Wall { secs, nanos: 7 }
    }

    #[test]
    fn a_key_has_a_utc_hour_and_uuid_v4() {
        let name = Name::new(wall(1_795_158_000));
        let key = name.key("raw/").unwrap();
        let uuid = key
            .strip_prefix("raw/year=2026/month=11/day=20/hour=07/1795158000-")
            .and_then(|rest| rest.strip_suffix(".log.gz"))
            .unwrap();
        assert_eq!(Uuid::try_parse(uuid).unwrap().get_version_num(), 4);
        assert_eq!(uuid.len(), 36);
        assert_ne!(name, Name::new(wall(1_795_158_000)));
    }

    #[test]
    fn key_hours_days_and_years_turn_on_time() {
        let hour = |secs| {
            let key = Name::new(wall(secs)).key("").unwrap();
            key.split('/').take(4).collect::<Vec<_>>().join("/")
        };
        assert_eq!(hour(1_798_761_599), "year=2026/month=12/day=31/hour=23");
        assert_eq!(hour(1_798_761_600), "year=2027/month=01/day=01/hour=00");
        assert_eq!(hour(1_709_164_799), "year=2024/month=02/day=28/hour=23");
        assert_eq!(hour(1_709_164_800), "year=2024/month=02/day=29/hour=00");
        assert_eq!(Name::new(wall(u64::MAX)).key(""), None);
    }

    #[test]
    fn a_file_name_reads_back_and_nothing_else_does() {
        let name = Name::new(wall(7));
        for state in State::ALL {
            assert_eq!(
                parse_file_name(&file_name(name, state)),
                Some((name, state))
            );
        }
        let upper = name.to_string().to_uppercase();
        for unknown in [
            ".lock",
            "7-.open",
            "7-x.closed",
            &format!("{name}"),
            &format!("{upper}.open"),
            &format!("{name}.open.torn"),
            &format!("+{name}.open"),
        ] {
            assert_eq!(parse_file_name(unknown), None, "{unknown}");
        }
    }
}
