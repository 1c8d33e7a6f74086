//! How events become records: alone, joined by newlines, in a KPL aggregate.
//! Sizes only; makes no bytes.

use super::money::{Usd, grouped};
use super::sinks::SinkPlan;
use super::{Input, PackingRow, PlanError, Sink, narrow};

/// Largest KPL aggregate in bytes: the library's default, AggregationMaxSize.
const AGGREGATE_BYTES_MAX: u64 = 51_200;

/// Magic number and MD5 of a KPL aggregate.
const AGGREGATE_FRAME_BYTES: u64 = 20;

/// The aggregate's own partition key, `a`.
const AGGREGATE_KEY_BYTES: u64 = 1;

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

/// Bytes of a number as protobuf writes it.
fn varint(number: u64) -> u64 {
    u64::from((64 - number.leading_zeros()).max(1)).div_ceil(7)
}

/// Bytes of a KPL aggregate of records of so many bytes, each with a key of its own.
fn aggregate_bytes(records: u64, data: u64, key: u64) -> u64 {
    let table_entry = 1 + varint(key) + key;
    // The index of the last one, which is never shorter than the others.
    let record = 1 + varint(records - 1) + 1 + varint(data) + data;
    let message = 1 + varint(record) + record;
    AGGREGATE_FRAME_BYTES + AGGREGATE_KEY_BYTES + records * (table_entry + message)
}

impl Packing {
    /// `micro_batch` events per record, and if asked as many of these per aggregate as fit.
    fn new(input: &Input, micro_batch: u64, aggregate: bool) -> Packing {
        let data = payload(input, micro_batch);
        let key = key_bytes(input);
        let alone = Packing {
            events_per_record: micro_batch,
            record_bytes: data + key,
            key_bytes: key,
            label: match micro_batch {
                1 => "one event per record".to_owned(),
                events => format!("{} per record", grouped(events.into())),
            },
        };
        if !aggregate {
            return alone;
        }
        let mut records = 1;
        while aggregate_bytes(records + 1, data, key) <= AGGREGATE_BYTES_MAX {
            records += 1;
        }
        // The library sends a single record bare.
        let (record_bytes, key_bytes) = match records {
            1 => (alone.record_bytes, key),
            _ => (aggregate_bytes(records, data, key), AGGREGATE_KEY_BYTES),
        };
        Packing {
            events_per_record: micro_batch * records,
            record_bytes,
            key_bytes,
            label: format!("{}, aggregated", alone.label),
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
        Ok(Packing::new(input, input.micro_batch, input.aggregate))
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

    /// What full records ask of each host.
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

/// What ways of packing come to, one event per record first. None where records do not matter.
pub(super) fn compare(
    input: &Input,
    asked: &Packing,
    cost: impl Fn(&Packing) -> Result<SinkPlan, PlanError>,
) -> Result<Vec<PackingRow>, PlanError> {
    if matches!(input.sink, Sink::Kafka | Sink::S3 | Sink::File) {
        return Ok(Vec::new());
    }
    let limit = record_bytes_max(input.sink);
    // Each with a newline: one too few at most.
    let most = limit.saturating_sub(key_bytes(input)) / (input.event_bytes + 1);
    let events = match input.micro_batch {
        1 => COMPARED.min(most),
        asked => asked,
    };
    let mut ways = vec![Packing::new(input, 1, false)];
    if events > 1 {
        ways.push(Packing::new(input, events, false));
    }
    if input.sink.is_kinesis() {
        ways.push(Packing::new(input, 1, true));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn put_varint(out: &mut Vec<u8>, mut number: u64) {
        while number > 127 {
            out.push(number as u8 | 128);
            number >>= 7;
        }
        out.push(number as u8);
    }

    /// The aggregate itself, written as the format says: a table of keys, then the records.
    fn encode(records: u64, data: usize, key: usize) -> Vec<u8> {
        let mut message = Vec::new();
        for _ in 0..records {
            message.push(1 << 3 | 2);
            put_varint(&mut message, key as u64);
            message.resize(message.len() + key, b'k');
        }
        for index in 0..records {
            let mut record = vec![1 << 3];
            put_varint(&mut record, index);
            record.push(3 << 3 | 2);
            put_varint(&mut record, data as u64);
            record.resize(record.len() + data, b'd');
            message.push(3 << 3 | 2);
            put_varint(&mut message, record.len() as u64);
            message.extend(record);
        }
        [&[0xf3, 0x89, 0x9a, 0xc2], message.as_slice(), &[0; 16]].concat()
    }

    #[test]
    fn an_aggregate_is_never_larger_than_planned_and_as_large_with_short_indices() {
        for records in [2, 3, 100, 128, 129, 400] {
            for data in [0, 1, 100, 127, 128, 16_384] {
                for key in [1, 16, 128] {
                    let real = encode(records, data, key).len() as u64 + AGGREGATE_KEY_BYTES;
                    let planned = aggregate_bytes(records, data as u64, key as u64);
                    let slack = if records > 128 { 2 * 128 } else { 0 };
                    assert!(
                        (real..=real + slack).contains(&planned),
                        "{records} {data} {key}"
                    );
                }
            }
        }
    }
}
