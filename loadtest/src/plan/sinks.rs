//! The sinks: limits, capacity and bill of each.
//! Limits are those of the services' guides, as of 2026-11.

use super::front::line;
use super::money::grouped;
use super::network::Destination;
use super::packing::Packing;
use super::prices::{Price, Prices};
use super::{BillLine, Input, Need, PlanError, Sink, narrow};

/// A shard takes 1 MB/s, read here as 10^6 bytes: guide and producers disagree whether it is
/// 2^20, and the smaller is safe.
const SHARD_BYTES_PER_SECOND: u64 = 1_000_000;
const SHARD_RECORDS_PER_SECOND: u64 = 1_000;
const SHARDS_PER_STREAM: u64 = 10_000;

const PUT_RECORDS: Call = Call {
    records: 500,
    bytes: 10 << 20,
};

/// A PUT unit of provisioned streams, and the step to which on-demand streams round each record up.
const PUT_UNIT_BYTES: u64 = 25 << 10;
const ON_DEMAND_STEP_BYTES: u64 = 1 << 10;

/// Capacity of an on-demand stream at its creation, and its maximum, in bytes per second: 10 GB/s
/// in the three largest Regions, 200 MB/s elsewhere.
const ON_DEMAND_START: u64 = 4_000_000;
const ON_DEMAND_LARGE: u64 = 10_000_000_000;
const ON_DEMAND_SMALL: u64 = 200_000_000;

/// On-demand advantage bills at least this much in and out per account, in bytes per second.
const ADVANTAGE_MINIMUM: u64 = 25 << 20;

const PUT_RECORD_BATCH: Call = Call {
    records: 500,
    bytes: 4 << 20,
};

/// Firehose rounds each record up to a multiple of this.
const FIREHOSE_STEP_BYTES: u64 = 5 << 10;
const FIREHOSE_STREAMS_PER_REGION: u64 = 5_000;

/// Events that Firehose takes apart again in one record (dynamic partitioning).
const FIREHOSE_DEAGGREGATED_MAX: u64 = 500;

/// Default quotas of a delivery stream, per second.
struct FirehoseQuota {
    records: u64,
    calls: u64,
    bytes: u64,
}

const FIREHOSE_LARGE: FirehoseQuota = FirehoseQuota {
    records: 500_000,
    calls: 2_000,
    bytes: 5 << 20,
};

const FIREHOSE_SMALL: FirehoseQuota = FirehoseQuota {
    records: 100_000,
    calls: 1_000,
    bytes: 1 << 20,
};

/// Regions with the larger quotas.
const LARGE_REGIONS: [&str; 3] = ["us-east-1", "us-west-2", "eu-west-1"];

const SQS_BATCH_MESSAGES: u64 = 10;
const SQS_BATCH_BYTES: u64 = 1 << 20;

/// SQS bills a call as a request per started 64 KiB.
const SQS_REQUEST_BYTES: u64 = 64 << 10;

/// Sustained ingress of an express.m7g.large broker, in bytes per second (MSK guide: 15.6 MBps).
const BROKER_BYTES_PER_SECOND: u64 = 15_600_000;

/// One broker in each zone at least, and as many in each.
const BROKER_ZONES: u64 = 3;

/// Hours of a month in prices per GiB-month.
const MONTH_HOURS: u128 = 730;

/// Bytes that a call's JSON has around a record and its key.
const RECORD_JSON_BYTES: u128 = 32;

const GIB: u128 = 1 << 30;

/// Limits of one call.
struct Call {
    records: u64,
    bytes: u64,
}

impl Call {
    /// Calls per second, each as full as records of this size allow.
    fn per_second(&self, input: &Input, packing: &Packing) -> u64 {
        let full = (self.bytes / packing.record_bytes).clamp(1, self.records);
        packing.records_per_second(input).div_ceil(full)
    }
}

/// A sink's part of a plan.
#[derive(Default)]
pub(super) struct SinkPlan {
    pub(super) needs: Vec<Need>,
    pub(super) bill: Vec<BillLine>,
    pub(super) notes: Vec<String>,
    pub(super) calls_per_second: u64,
    pub(super) capacity_of: &'static str,
    pub(super) capacity: u64,
    /// Bytes of the month as they are sent.
    pub(super) sent: u128,
    pub(super) destination: Destination,
}

impl SinkPlan {
    fn need(&mut self, what: &'static str, count: u64, because: String) {
        self.needs.push(Need {
            what,
            count,
            because,
        });
    }

    /// The provisioned resource, and the comparison of packings.
    fn provide(&mut self, what: &'static str, count: u64, because: String) {
        (self.capacity_of, self.capacity) = (what, count);
        self.need(what, count, because);
    }

    fn calls(&mut self, what: &'static str, call: &Call, input: &Input, packing: &Packing) {
        self.calls_per_second = call.per_second(input, packing);
        let because = format!(
            "if full: {} records or {} MiB",
            call.records,
            call.bytes >> 20
        );
        self.need(what, self.calls_per_second, because);
    }

    fn pay(
        &mut self,
        what: &'static str,
        price: &Price,
        quantity: u128,
        scale: u128,
    ) -> Result<(), PlanError> {
        self.bill.push(line(what, price, quantity, scale)?);
        Ok(())
    }
}

/// Plans the sink for records of one packing.
pub(super) fn sink(
    input: &Input,
    prices: &Prices,
    packing: &Packing,
    hosts: u64,
) -> Result<SinkPlan, PlanError> {
    let mut plan = SinkPlan::default();
    let bytes = packing.bytes_per_second(input);
    if !matches!(input.sink, Sink::S3 | Sink::File) {
        let because = format!(
            "{} events of {} bytes in a record of {}",
            grouped(packing.events_per_record.into()),
            grouped(input.event_bytes.into()),
            grouped(packing.record_bytes.into())
        );
        plan.need(
            "records per second",
            packing.records_per_second(input),
            because,
        );
    }
    plan.need("bytes per second", bytes, "at the peak".to_owned());
    let data = packing.records_in_month(input) * u128::from(packing.record_bytes);
    (plan.destination, plan.sent) = match input.sink {
        Sink::Kinesis | Sink::KinesisOnDemand | Sink::KinesisOnDemandAdvantage | Sink::Firehose => {
            // Four bytes for three in base64, and the JSON around each record.
            let around = packing.records_in_month(input) * RECORD_JSON_BYTES;
            (Destination::Service, (data * 4).div_ceil(3) + around)
        }
        Sink::Sqs => (Destination::Service, data),
        Sink::S3 => (Destination::S3, data),
        Sink::Kafka => (Destination::Brokers, data),
        Sink::File => (Destination::Host, data),
    };
    match input.sink {
        Sink::Kinesis => provisioned(input, prices, packing, &mut plan)?,
        Sink::KinesisOnDemand | Sink::KinesisOnDemandAdvantage => {
            on_demand(input, prices, packing, &mut plan)?;
        }
        Sink::Firehose => firehose(input, prices, packing, &mut plan)?,
        Sink::Sqs => sqs(input, prices, packing, &mut plan)?,
        Sink::Kafka => kafka(input, prices, packing, &mut plan)?,
        Sink::S3 => s3(input, prices, packing, hosts, &mut plan)?,
        Sink::File => {
            plan.need(
                "bytes per second and host",
                bytes.div_ceil(hosts),
                "to the host's own disk".to_owned(),
            );
            plan.notes
                .push("disks, and what takes the files away, are not in the bill".to_owned());
        }
    }
    Ok(plan)
}

fn provisioned(
    input: &Input,
    prices: &Prices,
    packing: &Packing,
    plan: &mut SinkPlan,
) -> Result<(), PlanError> {
    plan.calls("PutRecords calls per second", &PUT_RECORDS, input, packing);
    let by_bytes = input.provided(packing.bytes_per_second(input), SHARD_BYTES_PER_SECOND);
    let by_records = input.provided(packing.records_per_second(input), SHARD_RECORDS_PER_SECOND);
    let shards = by_bytes.max(by_records);
    let because = format!(
        "{} by bytes, {} by records, {} % head-room",
        grouped(by_bytes.into()),
        grouped(by_records.into()),
        input.head_room_percent
    );
    plan.provide("shards", shards, because);
    if shards > SHARDS_PER_STREAM {
        plan.notes.push(format!(
            "{} shards are over the {} of one stream: several streams are needed",
            grouped(shards.into()),
            grouped(SHARDS_PER_STREAM.into())
        ));
    }
    let shard_hours = u128::from(shards) * u128::from(input.hours);
    plan.pay("shards", &prices.kinesis_shard_hour, shard_hours, 1)?;
    let units = packing.record_bytes.div_ceil(PUT_UNIT_BYTES);
    let units = packing.records_in_month(input) * u128::from(units);
    plan.pay("PUT units", &prices.kinesis_put_unit, units, 1)
}

fn on_demand(
    input: &Input,
    prices: &Prices,
    packing: &Packing,
    plan: &mut SinkPlan,
) -> Result<(), PlanError> {
    plan.calls("PutRecords calls per second", &PUT_RECORDS, input, packing);
    let bytes = packing.bytes_per_second(input);
    let most = match LARGE_REGIONS.contains(&prices.region.as_str()) {
        true => ON_DEMAND_LARGE,
        false => ON_DEMAND_SMALL,
    };
    let streams = bytes.div_ceil(most);
    let because = format!("up to {} MB/s each", grouped((most / 1_000_000).into()));
    plan.provide("streams", streams, because);
    if bytes > ON_DEMAND_START * streams {
        plan.notes.push(
            "a new on-demand stream takes 4 MB/s and grows to twice its former peak: warm it up \
             before the first peak"
                .to_owned(),
        );
    }
    plan.notes.push(
        "each shard of an on-demand stream still takes 1 MB/s and 1,000 records/s: a hot key \
         throttles"
            .to_owned(),
    );
    let data = packing.record_bytes - packing.key_bytes;
    let steps = |bytes: u64| bytes.div_ceil(ON_DEMAND_STEP_BYTES);
    if steps(packing.record_bytes) > steps(data) {
        plan.notes.push(
            "the partition key, counted as part of the record, lifts it over a full KiB: \
             --key-bytes 0 plans without"
                .to_owned(),
        );
    }
    let records = packing.records_in_month(input);
    let data_in = records * u128::from(packing.record_bytes.next_multiple_of(ON_DEMAND_STEP_BYTES));
    let data_out = records * u128::from(packing.record_bytes) * u128::from(input.consumers);
    if input.sink == Sink::KinesisOnDemand {
        let hours = u128::from(streams) * u128::from(input.hours);
        plan.pay("streams", &prices.kinesis_stream_hour, hours, 1)?;
        plan.pay("data in", &prices.kinesis_on_demand_in, data_in, GIB)?;
        return plan.pay("data out", &prices.kinesis_on_demand_out, data_out, GIB);
    }
    let least = u128::from(ADVANTAGE_MINIMUM) * 3_600 * u128::from(input.hours);
    if data_in < least || data_out < least {
        plan.notes.push(
            "on-demand advantage bills at least 25 MiB/s in and as much out, for the whole \
             account"
                .to_owned(),
        );
    }
    plan.pay(
        "data in",
        &prices.kinesis_advantage_in,
        data_in.max(least),
        GIB,
    )?;
    plan.pay(
        "data out",
        &prices.kinesis_advantage_out,
        data_out.max(least),
        GIB,
    )
}

fn firehose(
    input: &Input,
    prices: &Prices,
    packing: &Packing,
    plan: &mut SinkPlan,
) -> Result<(), PlanError> {
    plan.calls(
        "PutRecordBatch calls per second",
        &PUT_RECORD_BATCH,
        input,
        packing,
    );
    let quota = match LARGE_REGIONS.contains(&prices.region.as_str()) {
        true => FIREHOSE_LARGE,
        false => FIREHOSE_SMALL,
    };
    let by_bytes = input.provided(packing.bytes_per_second(input), quota.bytes);
    let by_records = input.provided(packing.records_per_second(input), quota.records);
    let by_calls = input.provided(plan.calls_per_second, quota.calls);
    let streams = by_bytes.max(by_records).max(by_calls);
    let because = format!(
        "default quotas: {} by bytes, {} by records, {} by calls; they can be raised",
        grouped(by_bytes.into()),
        grouped(by_records.into()),
        grouped(by_calls.into())
    );
    plan.provide("delivery streams", streams, because);
    if streams > FIREHOSE_STREAMS_PER_REGION {
        plan.notes.push(format!(
            "{} delivery streams are over the quota of {} per Region: have theirs raised",
            grouped(streams.into()),
            grouped(FIREHOSE_STREAMS_PER_REGION.into())
        ));
    }
    if packing.events_per_record > FIREHOSE_DEAGGREGATED_MAX {
        plan.notes.push(format!(
            "dynamic partitioning takes at most {FIREHOSE_DEAGGREGATED_MAX} events of a record \
             apart"
        ));
    }
    let billed = packing.record_bytes.next_multiple_of(FIREHOSE_STEP_BYTES);
    let data = packing.records_in_month(input) * u128::from(billed);
    plan.pay("data in", &prices.firehose_in, data, GIB)
}

fn sqs(
    input: &Input,
    prices: &Prices,
    packing: &Packing,
    plan: &mut SinkPlan,
) -> Result<(), PlanError> {
    let call = Call {
        records: SQS_BATCH_MESSAGES,
        bytes: SQS_BATCH_BYTES,
    };
    plan.calls("SendMessageBatch calls per second", &call, input, packing);
    plan.notes
        .push("Sluice has no SQS output: this is what one would need".to_owned());
    plan.provide(
        "queues",
        1,
        "standard queues have no limit of calls".to_owned(),
    );
    let full = (SQS_BATCH_BYTES / packing.record_bytes).clamp(1, SQS_BATCH_MESSAGES);
    let requests = (full * packing.record_bytes).div_ceil(SQS_REQUEST_BYTES);
    let batches = packing.records_in_month(input).div_ceil(full.into());
    let billed = batches * u128::from(requests);
    let consumers = u128::from(input.consumers);
    plan.pay("sends", &prices.sqs_request, billed, 1)?;
    plan.pay("receives", &prices.sqs_request, billed * consumers, 1)?;
    plan.pay("deletes", &prices.sqs_request, batches * consumers, 1)
}

fn kafka(
    input: &Input,
    prices: &Prices,
    packing: &Packing,
    plan: &mut SinkPlan,
) -> Result<(), PlanError> {
    let by_bytes = input.provided(packing.bytes_per_second(input), BROKER_BYTES_PER_SECOND);
    let brokers = by_bytes.next_multiple_of(BROKER_ZONES).max(BROKER_ZONES);
    let because = format!("express.m7g.large, 15.6 MB/s each, in {BROKER_ZONES} zones");
    plan.provide("brokers", brokers, because);
    plan.notes
        .push("bytes are counted before Kafka's own batches and compression".to_owned());
    let hours = u128::from(input.hours);
    let broker_hours = u128::from(brokers) * hours;
    plan.pay("brokers", &prices.kafka_broker_hour, broker_hours, 1)?;
    let data = packing.records_in_month(input) * u128::from(packing.record_bytes);
    plan.pay("data in", &prices.kafka_in, data, GIB)?;
    // The average amount stored, over the hours of the bill.
    let kept = data * u128::from(input.retention_hours);
    plan.pay("storage", &prices.kafka_storage, kept, GIB * MONTH_HOURS)
}

fn s3(
    input: &Input,
    prices: &Prices,
    packing: &Packing,
    hosts: u64,
    plan: &mut SinkPlan,
) -> Result<(), PlanError> {
    let data = packing.records_in_month(input) * u128::from(packing.record_bytes);
    let by_size = data.div_ceil(input.object_bytes.into());
    let seconds = u128::from(input.hours) * 3_600;
    let by_age = seconds.div_ceil(input.flush_seconds.into()) * u128::from(hosts);
    let objects = by_size.max(by_age);
    let because = format!(
        "{} by size, {} by age on {} hosts",
        grouped(by_size),
        grouped(by_age),
        grouped(hosts.into())
    );
    plan.provide("objects in the month", narrow(objects), because);
    let mean = narrow(data / objects.max(1));
    let because = format!(
        "on average before gzip; closed at {} bytes or after {} s",
        grouped(input.object_bytes.into()),
        input.flush_seconds
    );
    plan.need("bytes per object", mean, because);
    plan.notes.push(
        "storing and reading objects is not in the bill; bytes to S3 count before gzip".to_owned(),
    );
    plan.pay("PUT requests", &prices.s3_put, objects, 1)
}
