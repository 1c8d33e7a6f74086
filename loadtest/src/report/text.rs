//! Numbers as people read them. The exact ones are in the JSON and in the page's `data` elements.

/// Microseconds in the unit that reads best, with three digits.
pub(super) fn time(us: f64) -> String {
    let (value, unit) = match us {
        us if us > 0.0 && us < 1.0 => (us * 1_000.0, "ns"),
        us if us < 1_000.0 => (us, "µs"),
        us if us < 1_000_000.0 => (us / 1_000.0, "ms"),
        us => (us / 1_000_000.0, "s"),
    };
    format!("{} {unit}", short(value))
}

/// Bytes in binary units, with three digits.
pub(super) fn bytes(bytes: f64) -> String {
    let mut value = bytes;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1_024.0 {
            break;
        }
        value /= 1_024.0;
        unit = next;
    }
    format!("{} {unit}", short(value))
}

/// Three digits, or all that stand before the point.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 0.001 => format!("{value:.1e}"),
        size if size < 0.1 => format!("{value:.4}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => grouped(value),
    }
}

/// A whole number in groups of three.
pub(super) fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    if value < 0.0 && digits != "0" {
        text.push('-');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share of 1 in percent: never 0 when it is not, never 100 when something is missing.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent.abs() {
        0.0 => "0 %".to_owned(),
        // Two digits that say something, however small: readers of a page do not read exponents.
        size if size < 0.001 => {
            let places = (1.0 - size.log10().floor()).clamp(3.0, 17.0) as usize;
            format!("{percent:.places$} %")
        }
        size if size < 0.1 => format!("{percent:.3} %"),
        size if size < 10.0 => format!("{percent:.2} %"),
        size if size < 99.0 => format!("{percent:.1} %"),
        size if size < 100.0 => format!("{percent:.4} %"),
        _ => format!("{} %", grouped(percent)),
    }
}

/// A change against a base, with its sign.
pub(super) fn change(ratio: f64) -> String {
    let percent = (ratio - 1.0) * 100.0;
    match percent.abs() {
        size if size < 0.05 => "±0 %".to_owned(),
        size if size < 100.0 => format!("{percent:+.1} %"),
        _ if percent > 0.0 => format!("+{} %", grouped(percent)),
        _ => format!("{} %", grouped(percent)),
    }
}

/// A tick's number, with no more digits than it needs.
pub(super) fn tick(value: f64) -> String {
    if value.abs() >= 1_000.0 {
        return grouped(value);
    }
    // Ticks are multiples of round numbers: further digits are rounding errors.
    let text = format!("{value:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    text.to_owned()
}

/// A tick's microseconds.
pub(super) fn tick_time(us: f64) -> String {
    match us {
        us if us < 999.5 => format!("{} µs", tick(us)),
        us if us < 999_500.0 => format!("{} ms", tick(us / 1_000.0)),
        us => format!("{} s", tick(us / 1_000_000.0)),
    }
}

/// A tick of the percentile axis: 1 / (1 - quantile).
pub(super) fn tick_percentile(one_in: f64) -> String {
    let decimals = (one_in.log10().round() - 2.0).max(0.0) as usize;
    format!("{:.decimals$} %", 100.0 - 100.0 / one_in)
}

/// Seconds as a length of time.
pub(super) fn duration(seconds: f64) -> String {
    if seconds < 120.0 {
        return format!("{} s", short(seconds));
    }
    let minutes = (seconds / 60.0).floor();
    if minutes < 120.0 {
        return format!("{minutes:.0} min {:.0} s", seconds - minutes * 60.0);
    }
    let hours = (minutes / 60.0).floor();
    format!("{hours:.0} h {:.0} min", minutes - hours * 60.0)
}

/// A moment in UTC to the second; `None` when it is not known.
pub(super) fn date(unix_ms: u64) -> Option<String> {
    if unix_ms == 0 {
        return None;
    }
    let moment = jiff::Timestamp::from_millisecond(i64::try_from(unix_ms).ok()?).ok()?;
    let to_second = moment.round(jiff::Unit::Second).ok()?;
    Some(to_second.to_string().replace('T', " ").replace('Z', " UTC"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_change_their_unit_where_they_read_better() {
        assert_eq!(time(0.0), "0 µs");
        assert_eq!(time(0.012), "12.0 ns");
        assert_eq!(time(94.25), "94.2 µs");
        assert_eq!(time(999.4), "999 µs");
        assert_eq!(time(1_500.0), "1.50 ms");
        assert_eq!(time(2_345_678.0), "2.35 s");
        assert_eq!(duration(59.5), "59.5 s");
        assert_eq!(duration(150.0), "2 min 30 s");
        assert_eq!(duration(10_000.0), "2 h 46 min");
    }

    #[test]
    fn numbers_stand_in_groups_of_three() {
        assert_eq!(grouped(0.0), "0");
        assert_eq!(grouped(999.0), "999");
        assert_eq!(grouped(1_000.0), "1,000");
        assert_eq!(grouped(-1_234_567.2), "-1,234,567");
        assert_eq!(bytes(1_536.0), "1.50 KiB");
        assert_eq!(bytes(3.0 * 1024.0 * 1024.0 * 1024.0), "3.00 GiB");
    }

    #[test]
    fn a_share_is_never_rounded_to_nothing_or_to_all() {
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(percent(0.000_000_1), "0.000010 %");
        assert_eq!(percent(1.0 / 120_000.0), "0.00083 %");
        assert_eq!(percent(0.000_5), "0.050 %");
        assert_eq!(percent(0.999_99), "99.9990 %");
        assert_eq!(percent(1.0), "100 %");
        assert_eq!(change(1.25), "+25.0 %");
        assert_eq!(change(0.5), "-50.0 %");
        assert_eq!(change(3.0), "+200 %");
    }

    #[test]
    fn ticks_have_the_digits_that_they_need() {
        assert_eq!(tick(0.0), "0");
        assert_eq!(tick(0.1 + 0.2), "0.3");
        assert_eq!(tick(20_000.0), "20,000");
        assert_eq!(tick_time(500.0), "500 µs");
        assert_eq!(tick_time(1_000.000_000_1), "1 ms");
        assert_eq!(tick_time(2e6), "2 s");
        let percentiles = [2.0, 10.0, 100.0, 1e4].map(tick_percentile);
        assert_eq!(percentiles, ["50 %", "90 %", "99 %", "99.99 %"]);
    }

    #[test]
    fn timestamps_are_utc_seconds_or_unknown() {
        assert_eq!(
            date(1_700_000_000_123).as_deref(),
            Some("2023-11-14 22:13:20 UTC")
        );
        assert_eq!(date(0), None);
        assert_eq!(date(u64::MAX), None);
    }
}
