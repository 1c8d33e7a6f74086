//! Sizes a fleet and its services from a load, and adds up the month's bill.
//! Pure: numbers in, numbers out; every division that a service rounds is rounded here as it does.
//! Measures nothing: how many requests a host takes is given.

mod front;
mod money;
mod network;
mod packing;
mod prices;
mod sinks;
mod table;

pub use money::{PRICE_MAX, Ratio, Usd};
pub use network::ServicePath;
pub use prices::{PriceOrigin, Prices};

use network::Traffic;
use packing::Packing;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Largest rate of requests per second that is planned.
pub const REQUESTS_PER_SECOND_MAX: u64 = 1_000_000_000;

/// Largest rate of events per second that is planned.
pub const EVENTS_PER_SECOND_MAX: u64 = 1_000_000_000;

/// Largest event in bytes: the largest Kinesis record.
pub const EVENT_BYTES_MAX: u64 = 10 << 20;

/// Bytes up to which events share a record of the Firehose output, newlines included: its default.
const PACK_BYTES: u64 = 5 << 10;

/// Hours that one bill may span: a leap year.
pub const HOURS_MAX: u64 = 366 * 24;

/// Where events go.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Sink {
    /// Kinesis Data Streams, provisioned shards.
    Kinesis,
    /// Kinesis Data Streams, on-demand standard.
    KinesisOnDemand,
    /// Kinesis Data Streams, on-demand advantage: an account-wide commitment.
    KinesisOnDemandAdvantage,
    /// Amazon Data Firehose, direct PUT.
    Firehose,
    /// Amazon SQS, standard queue.
    Sqs,
    /// Amazon MSK with Express brokers.
    Kafka,
    /// Amazon S3, one object per host and flush.
    S3,
    /// Files on the hosts themselves.
    File,
}

impl Sink {
    /// All of them.
    pub const ALL: [Sink; 8] = [
        Sink::Kinesis,
        Sink::KinesisOnDemand,
        Sink::KinesisOnDemandAdvantage,
        Sink::Firehose,
        Sink::Sqs,
        Sink::Kafka,
        Sink::S3,
        Sink::File,
    ];

    /// Its name on the command line and in files.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Sink::Kinesis => "kinesis",
            Sink::KinesisOnDemand => "kinesis-on-demand",
            Sink::KinesisOnDemandAdvantage => "kinesis-on-demand-advantage",
            Sink::Firehose => "firehose",
            Sink::Sqs => "sqs",
            Sink::Kafka => "kafka",
            Sink::S3 => "s3",
            Sink::File => "file",
        }
    }

    /// Whether several events can share a record.
    fn packs(self) -> bool {
        matches!(self, Sink::Firehose | Sink::Sqs)
    }

    /// Events of so many bytes that its output packs into a record by itself: Firehose bills records in
    /// steps of 5 KiB, so the output fills one.
    #[must_use]
    pub fn packed_by_default(self, event_bytes: u64) -> u64 {
        match self {
            Sink::Firehose => (PACK_BYTES / event_bytes.saturating_add(1)).max(1),
            _ => 1,
        }
    }

    fn is_kinesis(self) -> bool {
        matches!(
            self,
            Sink::Kinesis | Sink::KinesisOnDemand | Sink::KinesisOnDemandAdvantage
        )
    }
}

/// A load to plan for. Rates are those of the peak.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Input {
    /// What to call it.
    pub name: String,
    /// Requests per second at the peak.
    pub requests_per_second: u64,
    /// Events in each request.
    pub events_per_request: u64,
    /// Bytes of an event as it is stored.
    pub event_bytes: u64,
    /// Where events go.
    pub sink: Sink,
    /// Events in each record, joined by newlines; more than 1 for Firehose and SQS only.
    pub micro_batch: u64,
    /// Bytes of a partition key, which Kinesis counts as part of the record.
    pub key_bytes: u64,
    /// Share of the capacity of hosts, shards, delivery streams and brokers that stays free at
    /// the peak, in percent.
    pub head_room_percent: u64,
    /// Requests per second that one host was measured to take.
    pub host_requests_per_second: u64,
    /// Price of a host-hour, in place of the table's.
    pub host_price: Option<Usd>,
    /// Hosts at least, for the sake of those that fail.
    pub hosts_min: u64,
    /// Hours of the bill.
    pub hours: u64,
    /// How many times the average the peak is.
    pub peak_to_average: Ratio,
    /// Requests that a client sends on one connection.
    pub requests_per_connection: u64,
    /// How long a connection stays open, in seconds.
    pub connection_seconds: u64,
    /// Bytes of a request's head, of its answer and of TLS, beside the events.
    pub head_bytes: u64,
    /// Whether the load balancer ends TLS.
    pub tls_listener: bool,
    /// How often everything is read from the sink.
    pub consumers: u64,
    /// How long Kafka keeps data, in hours.
    pub retention_hours: u64,
    /// Bytes before gzip at which an S3 object is closed, as `object_bytes_max` of the S3 output.
    pub object_bytes: u64,
    /// Age at which an S3 object is closed, in seconds, as `object_age_s` of the S3 output.
    pub flush_seconds: u64,
    /// How hosts reach the service.
    pub service_path: ServicePath,
    /// Zones with hosts, endpoints or NAT gateways.
    pub zones: u64,
    /// Whether the load balancer spreads requests over all zones.
    pub cross_zone: bool,
    /// Whether clients come through Global Accelerator.
    pub accelerator: bool,
    /// Bytes of an answer with its head and TLS, which go out to the internet.
    pub answer_bytes: u64,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// An option is outside its range.
    #[error("{option} must be between {min} and {max}, not {actual}")]
    Range {
        /// The option.
        option: &'static str,
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
        /// The value given.
        actual: u64,
    },
    /// An option cannot be read.
    #[error("{option}: {message}")]
    Value {
        /// The option.
        option: &'static str,
        /// The reason.
        message: String,
    },
    /// An option that has no default is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Requests and events per request give too much.
    #[error(
        "{actual} events per second (requests times events) are over the limit of \
         {EVENTS_PER_SECOND_MAX}"
    )]
    Events {
        /// Events per second.
        actual: u64,
    },
    /// What shall be one record is larger than the sink takes.
    #[error(
        "a record of {events} events is {actual} bytes with its key, over the {limit} bytes that \
         {sink} takes"
    )]
    Record {
        /// Events in it.
        events: u64,
        /// Its size.
        actual: u64,
        /// What the sink takes.
        limit: u64,
        /// The sink.
        sink: &'static str,
    },
    /// Packing is asked for a sink whose output has none.
    #[error(
        "micro-batch is for firehose and sqs; the {0} output writes each event by itself. Events that \
         clients pack are one event of their size"
    )]
    Packing(&'static str),
    /// The price table is no price table.
    #[error("prices ({file}): {message}")]
    Prices {
        /// The file.
        file: String,
        /// The reason.
        message: String,
    },
    /// A file cannot be read or understood.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        message: String,
    },
    /// What a file asks for cannot be planned.
    #[error("{}: {source}", path.display())]
    Scenario {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: Box<PlanError>,
    },
    /// There are too many files.
    #[error("at most {limit} scenarios, not {actual}")]
    Scenarios {
        /// The limit.
        limit: usize,
        /// The number given.
        actual: usize,
    },
    /// Prices and amounts within their limits multiply to more than 10^29 USD.
    #[error("the bill is too large to be counted")]
    TooLarge,
}

/// Something to be provided for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Need {
    /// What.
    pub what: &'static str,
    /// How many.
    pub count: u64,
    /// The reason for the count.
    pub because: String,
}

/// A line of the bill.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BillLine {
    /// What is paid for.
    pub what: &'static str,
    /// How many units in the month.
    pub quantity: f64,
    /// What is counted.
    pub unit: String,
    /// The price of a unit, in USD.
    pub price: String,
    /// Where that price comes from.
    pub origin: String,
    /// What the line costs.
    pub usd: Usd,
    /// Whether the table calls the price verified.
    pub verified: bool,
}

/// The cost of one way of packing events into records.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PackingRow {
    /// The way.
    pub packing: String,
    /// Whether it is the one that was asked for.
    pub chosen: bool,
    /// Events in a record.
    pub events_per_record: u64,
    /// Records per second at the peak.
    pub records_per_second: u64,
    /// Calls per second at the peak, if every call is full.
    pub calls_per_second: u64,
    /// What is provided: shards, streams, queues.
    pub capacity_of: &'static str,
    /// How many.
    pub capacity: u64,
    /// The sink's part of the bill.
    pub usd: Usd,
    /// Less than one event per record costs; negative if it is more.
    pub saved_usd: f64,
}

/// The capacity and cost of a load.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// What was asked.
    pub input: Input,
    /// Where the prices come from.
    pub prices: PriceOrigin,
    /// What has to be provided.
    pub needs: Vec<Need>,
    /// The month's bill.
    pub bill: Vec<BillLine>,
    /// Its sum.
    pub total: Usd,
    /// Savings by packing, where the sink bills by record.
    pub packing: Vec<PackingRow>,
    /// Assumptions and warnings.
    pub notes: Vec<String>,
}

impl Plan {
    /// How many of something are needed.
    #[must_use]
    pub fn need(&self, what: &str) -> Option<u64> {
        let need = self.needs.iter().find(|need| need.what == what)?;
        Some(need.count)
    }
}

impl Input {
    /// Refuses values outside their range, and combinations that do not exist.
    ///
    /// # Errors
    /// Names the option, its limits and the value.
    pub fn check(&self) -> Result<(), PlanError> {
        for (option, actual, min, max) in [
            (
                "requests-per-second",
                self.requests_per_second,
                1,
                REQUESTS_PER_SECOND_MAX,
            ),
            ("events-per-request", self.events_per_request, 1, 100_000),
            ("event-bytes", self.event_bytes, 1, EVENT_BYTES_MAX),
            ("micro-batch", self.micro_batch, 1, 100_000),
            ("key-bytes", self.key_bytes, 0, 1_024),
            ("head-room", self.head_room_percent, 0, 90),
            (
                "host-requests-per-second",
                self.host_requests_per_second,
                1,
                REQUESTS_PER_SECOND_MAX,
            ),
            ("hosts-min", self.hosts_min, 1, 10_000),
            ("hours", self.hours, 1, HOURS_MAX),
            (
                "requests-per-connection",
                self.requests_per_connection,
                1,
                1_000_000_000,
            ),
            ("connection-seconds", self.connection_seconds, 1, 86_400),
            ("head-bytes", self.head_bytes, 0, 1 << 20),
            ("consumers", self.consumers, 0, 100),
            ("retention-hours", self.retention_hours, 0, 366 * 24),
            ("object-bytes", self.object_bytes, 1_000_000, 50_000_000),
            ("zones", self.zones, 1, 10),
            ("answer-bytes", self.answer_bytes, 0, 1 << 20),
            ("flush-seconds", self.flush_seconds, 1, 86_400),
        ] {
            if !(min..=max).contains(&actual) {
                return Err(PlanError::Range {
                    option,
                    min,
                    max,
                    actual,
                });
            }
        }
        if self.events_per_second() > EVENTS_PER_SECOND_MAX {
            return Err(PlanError::Events {
                actual: self.events_per_second(),
            });
        }
        if self.micro_batch > 1 && !self.sink.packs() {
            return Err(PlanError::Packing(self.sink.label()));
        }
        Ok(())
    }

    fn events_per_second(&self) -> u64 {
        self.requests_per_second
            .saturating_mul(self.events_per_request)
    }

    /// Requests of the month, at the average rate.
    fn requests_in_month(&self) -> u128 {
        let at_peak = u128::from(self.requests_per_second) * u128::from(self.hours) * 3_600;
        (at_peak * 1_000).div_ceil(u128::from(self.peak_to_average.thousandths()))
    }

    fn events_in_month(&self) -> u128 {
        self.requests_in_month() * u128::from(self.events_per_request)
    }

    /// How many of something that takes `each` are needed for `amount`, so that the head-room
    /// stays free.
    fn provided(&self, amount: u64, each: u64) -> u64 {
        let usable = u128::from(each) * u128::from(100 - self.head_room_percent);
        narrow((u128::from(amount) * 100).div_ceil(usable.max(1)))
    }
}

/// Numbers here are far below 2^64 by the limits of [`Input::check`].
fn narrow(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// A parser's complaint in one line: its last line says what is wrong, the first where.
fn one_line(error: &toml::de::Error) -> String {
    let whole = error.to_string();
    let place = whole.lines().next().unwrap_or_default();
    let message = error.message().replace('\n', " ");
    match place.strip_prefix("TOML parse error at ") {
        Some(place) => format!("{place}: {message}"),
        None => message,
    }
}

/// Reads a small TOML file.
///
/// # Errors
/// When it cannot be read, has more than 1 MiB, or is not what is expected; in one line.
pub fn read_toml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, PlanError> {
    toml::from_str(&prices::read_text(path)?).map_err(|error| PlanError::File {
        path: path.to_owned(),
        message: one_line(&error),
    })
}

/// Plans for a load.
///
/// # Errors
/// When the input is out of range, or what shall be one record is larger than the sink takes.
pub fn plan(input: &Input, prices: &Prices, prices_file: &str) -> Result<Plan, PlanError> {
    input.check()?;
    let prices = prices.clone().with_host(input.host_price);
    let packing = Packing::asked(input)?;
    let front = front::front(input, &prices)?;
    let sink = sinks::sink(input, &prices, &packing, front.hosts)?;
    let mut notes = front.notes;
    notes.extend(sink.notes);
    if packing.events_per_record > 1 {
        notes.push(packing.fill_note(input, front.hosts));
    }
    let rows = packing::compare(input, &packing, |packing| {
        sinks::sink(input, &prices, packing, front.hosts)
    })?;
    let traffic = Traffic {
        requests: front.bytes,
        sent: sink.sent,
        destination: sink.destination,
    };
    let network = network::network(input, &prices, &traffic)?;
    notes.extend(network.notes);
    let needs = [front.needs, sink.needs, network.needs].concat();
    let bill = [front.bill, sink.bill, network.bill].concat();
    let guessed: Vec<&str> = bill
        .iter()
        .filter(|line| !line.verified)
        .map(|line| line.what)
        .collect();
    if !guessed.is_empty() {
        notes.push(format!(
            "prices that nobody verified: {}",
            guessed.join(", ")
        ));
    }
    if bill
        .iter()
        .any(|line| line.origin.starts_with("third-party"))
    {
        notes.push(
            "prices are third-party and dated, none from an AWS account: --explain names each source"
                .to_owned(),
        );
    }
    Ok(Plan {
        prices: PriceOrigin {
            file: prices_file.to_owned(),
            date: prices.date.clone(),
            region: prices.region.clone(),
        },
        total: bill.iter().map(|line| line.usd).sum(),
        needs,
        bill,
        packing: rows,
        notes,
        input: input.clone(),
    })
}
