//! A plan as text.

use super::money::grouped;
use super::{BillLine, PackingRow, Plan};
use std::fmt;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let input = &self.input;
        writeln!(
            f,
            "{}: {} requests/s at the peak of {} x {} bytes to {}; {} hours, peak {} x average",
            input.name,
            grouped(input.requests_per_second.into()),
            grouped(input.events_per_request.into()),
            grouped(input.event_bytes.into()),
            input.sink.label(),
            input.hours,
            input.peak_to_average
        )?;
        writeln!(f, "\nneeded")?;
        for need in &self.needs {
            let count = grouped(need.count.into());
            writeln!(f, "  {:<34} {count:>16}  {}", need.what, need.because)?;
        }
        writeln!(
            f,
            "\nbill in USD (prices of {}, {}, {})",
            self.prices.region, self.prices.date, self.prices.file
        )?;
        for line in &self.bill {
            let mark = if line.verified { "" } else { " (?)" };
            let quantity = quantity(line);
            writeln!(
                f,
                "  {:<18} {quantity:>20} {:<20} at {:<16} {:>16}{mark}",
                line.what,
                line.unit,
                short(&line.price),
                line.usd
            )?;
        }
        write!(f, "  {:<80} {:>16}", "total", self.total)?;
        if !self.packing.is_empty() {
            write!(f, "\n\nwhat packing saves (the sink's part of the bill)")?;
            let of = self.packing.first().map_or("", |row| row.capacity_of);
            write!(
                f,
                "\n  {:<32} {:>13} {:>13} {:>9} {of:>16} {:>14} {:>14}",
                "", "events/record", "records/s", "calls/s", "USD", "saved"
            )?;
        }
        for row in &self.packing {
            write_row(f, row)?;
        }
        for (at, note) in self.notes.iter().enumerate() {
            let title = if at == 0 { "\n\nnotes" } else { "" };
            write!(f, "{title}\n  {note}")?;
        }
        Ok(())
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, row: &PackingRow) -> fmt::Result {
    let mark = if row.chosen { "*" } else { " " };
    write!(
        f,
        "\n{mark} {:<32} {:>13} {:>13} {:>9} {:>16} {:>14} {:>14.2}",
        row.packing,
        grouped(row.events_per_record.into()),
        grouped(row.records_per_second.into()),
        grouped(row.calls_per_second.into()),
        grouped(row.capacity.into()),
        row.usd,
        row.saved_usd
    )
}

/// The first of several tiers; --explain has them all.
fn short(price: &str) -> String {
    match price.split_once(" up to ") {
        Some((first, _)) => format!("{first} and less"),
        None => price.to_owned(),
    }
}

impl Plan {
    /// Each line of the bill with its price, unit and where that price comes from.
    #[must_use]
    pub fn explain(&self) -> String {
        let mut text = format!("{}: where each price comes from", self.input.name);
        for line in &self.bill {
            text.push_str(&format!(
                "\n  {}: {} {} at {} USD = {} USD\n    {}",
                line.what,
                quantity(line),
                line.unit,
                line.price,
                line.usd,
                line.origin
            ));
        }
        text
    }
}

/// Whole units where there are many, tenths where there are few.
fn quantity(line: &BillLine) -> String {
    match line.quantity < 1_000.0 && line.quantity.fract() > 0.0 {
        true => format!("{:.1}", line.quantity),
        // Quantities are far below 2^128, and not negative.
        false => grouped(line.quantity.ceil() as u128),
    }
}
