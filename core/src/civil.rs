//! Wall time as records write it: proleptic Gregorian, UTC. No clock and no time zones.

use crate::time::Wall;

/// The last second of the last four-digit year: 9999-12-31T23:59:59Z. HTTP dates, signatures and object
/// names cannot say a later one.
pub const LAST_SECOND: u64 = 253_402_300_799;

/// A point in time as UTC calendar fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// 1970 to 9999.
    pub year: u32,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 59; unix time knows no leap seconds.
    pub second: u32,
}

impl Civil {
    /// Converts whole seconds since 1970-01-01T00:00:00Z. Times after the year 9999 are clamped to that
    /// year's last second, because a wrong clock must not widen fixed-width fields.
    #[must_use]
    pub fn from_unix(secs: u64) -> Civil {
        let secs = secs.min(LAST_SECOND);
        let (days, of_day) = (secs / 86_400, secs % 86_400);
        // Years are counted from March of year 0, so that the leap day is the last of its year and
        // a month's length depends on its number alone; 719,468 days lie between then and 1970.
        let days = days + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let months_since_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * months_since_march + 2) / 5 + 1;
        let (month, new_year) = if months_since_march < 10 {
            (months_since_march + 3, 0)
        } else {
            (months_since_march - 9, 1)
        };
        // Every value below is under 10,000 by construction, so no cast cuts anything off.
        Civil {
            year: (era * 400 + year_of_era + new_year) as u32,
            month: month as u32,
            day: day as u32,
            hour: (of_day / 3_600) as u32,
            minute: (of_day / 60 % 60) as u32,
            second: (of_day % 60) as u32,
        }
    }
}

/// A short text without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    text: [u8; 32],
    len: usize,
}

impl Stamp {
    /// The text, plain ASCII.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }

    fn push(&mut self, bytes: &[u8]) {
        self.text[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn digits(&mut self, value: u32, width: usize) {
        let mut rest = value;
        for place in self.text[self.len..self.len + width].iter_mut().rev() {
            *place = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        self.len += width;
    }

    /// `2024-06-27T06:19:45`.
    fn seconds(secs: u64) -> Stamp {
        let civil = Civil::from_unix(secs);
        let mut stamp = Stamp {
            text: [0; 32],
            len: 0,
        };
        stamp.digits(civil.year, 4);
        stamp.push(b"-");
        stamp.digits(civil.month, 2);
        stamp.push(b"-");
        stamp.digits(civil.day, 2);
        stamp.push(b"T");
        stamp.digits(civil.hour, 2);
        stamp.push(b":");
        stamp.digits(civil.minute, 2);
        stamp.push(b":");
        stamp.digits(civil.second, 2);
        stamp
    }
}

/// `2024-06-27T06:19:45+00:00`: nginx's `$time_iso8601` on a server that keeps UTC.
#[must_use]
pub fn iso8601(at: Wall) -> Stamp {
    let mut stamp = Stamp::seconds(at.secs);
    stamp.push(b"+00:00");
    stamp
}

/// `2024-06-27T06:19:45.547102438Z`: RFC 3339 with 0, 3, 6 or 9 fractional digits, the fewest that are
/// exact (chrono's `AutoSi`, which Vector writes).
#[must_use]
pub fn rfc3339(at: Wall) -> Stamp {
    let mut stamp = Stamp::seconds(at.secs);
    let nanos = at.nanos.min(999_999_999);
    if nanos != 0 {
        stamp.push(b".");
        if nanos.is_multiple_of(1_000_000) {
            stamp.digits(nanos / 1_000_000, 3);
        } else if nanos.is_multiple_of(1_000) {
            stamp.digits(nanos / 1_000, 6);
        } else {
            stamp.digits(nanos, 9);
        }
    }
    stamp.push(b"Z");
    stamp
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(stamp: Stamp) -> String {
        String::from_utf8(stamp.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_fraction_has_0_3_6_or_9_digits() {
        let at = |nanos| {
            text(rfc3339(Wall {
                secs: 1_719_469_185,
                nanos,
            }))
        };
        assert_eq!(at(0), "2024-06-27T06:19:45Z");
        assert_eq!(at(547_000_000), "2024-06-27T06:19:45.547Z");
        assert_eq!(at(547_102_000), "2024-06-27T06:19:45.547102Z");
        assert_eq!(at(547_102_438), "2024-06-27T06:19:45.547102438Z");
        assert_eq!(at(1), "2024-06-27T06:19:45.000000001Z");
    }

    #[test]
    fn the_calendar_turns_where_it_should() {
        let at = |secs| text(iso8601(Wall { secs, nanos: 5 }));
        assert_eq!(at(0), "1970-01-01T00:00:00+00:00");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59+00:00");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00+00:00");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00+00:00");
        assert_eq!(at(LAST_SECOND), "9999-12-31T23:59:59+00:00");
        assert_eq!(at(u64::MAX), "9999-12-31T23:59:59+00:00");
    }

    proptest! {
        // jiff ends a few hours before the year 9999 does.
        #[test]
        fn the_calendar_agrees_with_jiff(secs in 0..253_402_207_200_u64, nanos in 0..1_000_000_000_u32) {
            let theirs = jiff::Timestamp::new(secs as i64, nanos as i32).unwrap();
            let seconds = theirs.strftime("%Y-%m-%dT%H:%M:%S").to_string();
            let at = Wall { secs, nanos };
            prop_assert_eq!(text(iso8601(at)), format!("{seconds}+00:00"));
            let ours = text(rfc3339(at));
            prop_assert!(ours.starts_with(&seconds));
            prop_assert_eq!(ours.parse::<jiff::Timestamp>().unwrap(), theirs);
        }
    }
}
