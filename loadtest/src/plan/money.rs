//! Dollars and decimal numbers without floating point, so that rounding is the bill's own.

use serde::{Serialize, Serializer};
use std::fmt;

/// An amount in dollars, exact to 10^-9.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Usd {
    nanos: u128,
}

/// Decimals of a price.
const USD_DECIMALS: u32 = 9;

/// Largest price that is read, in dollars: far beyond any, and far from overflow.
pub const PRICE_MAX: u64 = 100_000;

impl Usd {
    /// An amount in billionths of a dollar.
    #[must_use]
    pub fn from_nanos(nanos: u128) -> Usd {
        Usd { nanos }
    }

    /// The amount in billionths of a dollar.
    #[must_use]
    pub fn nanos(self) -> u128 {
        self.nanos
    }

    /// All its decimals, at least two.
    pub(super) fn exact(self) -> String {
        let scale = 10u128.pow(USD_DECIMALS);
        let text = format!("{}.{:09}", grouped(self.nanos / scale), self.nanos % scale);
        let short = text.trim_end_matches('0');
        let decimals = short.split('.').nth(1).map_or(0, str::len);
        format!("{short}{}", "0".repeat(2usize.saturating_sub(decimals)))
    }

    /// Reads a price such as `0.014`: at most [`PRICE_MAX`], up to 9 decimals.
    ///
    /// # Errors
    /// The expected form.
    pub fn parse(text: &str) -> Result<Usd, String> {
        let nanos = decimal(text, USD_DECIMALS)
            .ok_or_else(|| format!("`{text}` is no price such as 0.014, with up to 9 decimals"))?;
        if nanos > u128::from(PRICE_MAX) * 10u128.pow(USD_DECIMALS) {
            return Err(format!("a price of {text} USD is over {PRICE_MAX}"));
        }
        Ok(Usd { nanos })
    }
}

impl std::iter::Sum for Usd {
    fn sum<I: Iterator<Item = Usd>>(amounts: I) -> Usd {
        Usd::from_nanos(amounts.map(Usd::nanos).fold(0, u128::saturating_add))
    }
}

/// In dollars and cents, halves up, thousands apart.
impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cents = (self.nanos + 5_000_000) / 10_000_000;
        f.pad(&format!("{}.{:02}", grouped(cents / 100), cents % 100))
    }
}

/// As a number of dollars, to a millionth.
impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64((self.nanos / 1_000) as f64 / 1e6)
    }
}

/// A number with its thousands apart.
pub(super) fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Reads a plain decimal number with up to `decimals` decimals, as a count of the smallest unit.
/// No sign, no exponent, no `NaN`; below 10^15.
fn decimal(text: &str, decimals: u32) -> Option<u128> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str, longest: usize| {
        (1..=longest).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !digits(whole, 15) || !digits(rest, decimals as usize) {
        return None;
    }
    let scale = 10u128.pow(decimals);
    let fraction: u128 = rest.parse().ok()?;
    let fraction = fraction * 10u128.pow(decimals - rest.len() as u32);
    Some(whole.parse::<u128>().ok()? * scale + fraction)
}

/// A ratio of at least 1, exact to a thousandth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ratio {
    thousandths: u64,
}

impl Ratio {
    /// Largest ratio that is read.
    pub const MAX: u64 = 1_000;

    /// Reads a ratio such as `2.5`: 1 to [`Ratio::MAX`], up to 3 decimals.
    ///
    /// # Errors
    /// The expected form.
    pub fn parse(text: &str) -> Result<Ratio, String> {
        let thousandths = decimal(text, 3)
            .ok_or_else(|| format!("`{text}` is no number such as 2.5, with up to 3 decimals"))?;
        match u64::try_from(thousandths) {
            Ok(thousandths) if (1_000..=Ratio::MAX * 1_000).contains(&thousandths) => {
                Ok(Ratio { thousandths })
            }
            _ => Err(format!("must be between 1 and {}, not {text}", Ratio::MAX)),
        }
    }

    pub(super) fn thousandths(self) -> u64 {
        self.thousandths
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.thousandths / 1_000, self.thousandths % 1_000);
        let text = format!("{whole}.{rest:03}");
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl Serialize for Ratio {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.thousandths as f64 / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_exactly_and_shown_in_cents() {
        for (text, nanos, shown) in [
            ("0.014", 14_000_000, "0.01"),
            ("0.08925", 89_250_000, "0.09"),
            ("0.000000001", 1, "0.00"),
            ("0.005", 5_000_000, "0.01"),
            ("1234567.5", 0, ""),
            ("12345.5", 12_345_500_000_000, "12,345.50"),
        ] {
            match Usd::parse(text) {
                Ok(usd) => assert_eq!((usd.nanos(), usd.to_string().as_str()), (nanos, shown)),
                Err(error) => assert!(shown.is_empty() && error.contains("over"), "{error}"),
            }
        }
    }

    #[test]
    fn a_unit_price_is_shown_with_all_its_decimals() {
        for (text, shown) in [
            ("0.014", "0.014"),
            ("0.4", "0.40"),
            ("1", "1.00"),
            ("0.08925", "0.08925"),
        ] {
            assert_eq!(Usd::parse(text).unwrap().exact(), shown);
        }
    }

    #[test]
    fn what_is_no_plain_decimal_number_is_refused() {
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "NaN",
            "inf",
            "1e3",
            "1,5",
            "0.0000000001",
            " 1",
            "1_0",
            "99999999999999999999",
        ] {
            assert!(Usd::parse(text).is_err(), "{text}");
            assert!(Ratio::parse(text).is_err(), "{text}");
        }
        for text in ["0.999", "1000.001", "0", "1.0001"] {
            assert!(Ratio::parse(text).is_err(), "{text}");
        }
        assert_eq!(Ratio::parse("2.50").unwrap().to_string(), "2.5");
        assert_eq!(Ratio::parse("1000").unwrap().to_string(), "1000");
    }
}
