//! How events become records: alone, or joined by newlines.
//! Sizes only; makes no bytes.

use super::money::{Usd, grouped};
use super::sinks::SinkPlan;
use super::{Input, PackingRow, PlanError, Sink, narrow};

/// Events per record that the comparison shows when none were asked for.
const COMPARED: u64 = 100;

/// One way of making records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packing {
    /// Events in a record, all levels together.
    pub(super) events_per_record: u64,
    /// Bytes of a record as the service counts them: data and, in Kinesis, its key.
    pub(super) record_bytes: u64,
    /// Bytes of these that are the record's own key.
    pub(super) key_bytes: u64,
    label: String,
}

/// Bytes of a record that a sink takes: 1 MiB with its key is the default of a Kinesis stream
/// and of a Kafka topic, and what SQS takes in a batch; Firehose 1,000 KiB. Files have no records.
fn record_bytes_max(sink: Sink) -> u64 {
    match sink {
        Sink::Firehose => 1_000 << 10,
        Sink::S3 | Sink::File => u64::MAX,
        _ => 1 << 20,
    }
}

/// Bytes of `events` joined by newlines. Where the service puts nothing between records, each
/// event ends with one of its own.
fn payload(input: &Input, events: u64) -> u64 {
    let newlines = match input.sink {
        Sink::Firehose | Sink::S3 | Sink::File => events,
        _ => events - 1,
    };
    events * input.event_bytes + newlines
}

fn key_bytes(input: &Input) -> u64 {
    match input.sink.is_kinesis() {
        true => input.key_bytes,
        false => 0,
    }
}

impl Packing {
    /// `micro_batch` events per record.
    fn new(input: &Input, micro_batch: u64) -> Packing {
        let key = key_bytes(input);
        Packing {
            events_per_record: micro_batch,
            record_bytes: payload(input, micro_batch) + key,
            key_bytes: key,
            label: match micro_batch {
                1 => "one event per record".to_owned(),
                events => format!("{} per record", grouped(events.into())),
            },
        }
    }

    /// The one that was asked for.
    pub(super) fn asked(input: &Input) -> Result<Packing, PlanError> {
        let limit = record_bytes_max(input.sink);
        let actual = payload(input, input.micro_batch) + key_bytes(input);
        if actual > limit {
            return Err(PlanError::Record {
                events: input.micro_batch,
                actual,
                limit,
                sink: input.sink.label(),
            });
        }
        Ok(Packing::new(input, input.micro_batch))
    }

    /// Records per second at the peak.
    pub(super) fn records_per_second(&self, input: &Input) -> u64 {
        input.events_per_second().div_ceil(self.events_per_record)
    }

    /// Bytes per second at the peak, as the service counts them.
    pub(super) fn bytes_per_second(&self, input: &Input) -> u64 {
        let bytes = u128::from(input.events_per_second()) * u128::from(self.record_bytes);
        narrow(bytes.div_ceil(self.events_per_record.into()))
    }

    /// Records of the month.
    pub(super) fn records_in_month(&self, input: &Input) -> u128 {
        input
            .events_in_month()
            .div_ceil(self.events_per_record.into())
    }

    /// The rate that full records need on each host.
    pub(super) fn fill_note(&self, input: &Input, hosts: u64) -> String {
        let events = u128::from(self.events_per_record) * u128::from(hosts) * 1_000;
        let ms = events.div_ceil(u128::from(input.events_per_second()));
        format!(
            "a record of {} events fills in {} ms on each of {} hosts at the peak; with a shorter \
             linger records go out smaller and cost more",
            grouped(self.events_per_record.into()),
            grouped(ms),
            grouped(hosts.into())
        )
    }
}

/// The cost of each way of packing, one event per record first. Empty where the output has no choice.
pub(super) fn compare(
    input: &Input,
    asked: &Packing,
    cost: impl Fn(&Packing) -> Result<SinkPlan, PlanError>,
) -> Result<Vec<PackingRow>, PlanError> {
    if !input.sink.packs() {
        return Ok(Vec::new());
    }
    let limit = record_bytes_max(input.sink);
    // Each with a newline: one too few at most.
    let most = limit.saturating_sub(key_bytes(input)) / (input.event_bytes + 1);
    let events = match input.micro_batch {
        1 => COMPARED.min(most),
        asked => asked,
    };
    let mut ways = vec![Packing::new(input, 1)];
    if events > 1 {
        ways.push(Packing::new(input, events));
    }
    if !ways.contains(asked) {
        ways.push(asked.clone());
    }
    let mut rows: Vec<PackingRow> = Vec::with_capacity(ways.len());
    let mut plain = None;
    for way in ways {
        let sink = cost(&way)?;
        let usd: Usd = sink.bill.iter().map(|line| line.usd).sum();
        let plain = *plain.get_or_insert(usd);
        rows.push(PackingRow {
            chosen: way == *asked,
            events_per_record: way.events_per_record,
            records_per_second: way.records_per_second(input),
            calls_per_second: sink.calls_per_second,
            capacity_of: sink.capacity_of,
            capacity: sink.capacity,
            usd,
            saved_usd: (plain.nanos() as f64 - usd.nanos() as f64) / 1e9,
            packing: way.label,
        });
    }
    Ok(rows)
}
