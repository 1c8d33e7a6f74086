//! The command line of `plan`, its scenario files, and how both become inputs.

use crate::plan::{Input, PlanError, Prices, Ratio, ServicePath, Sink, Usd, read_toml};
use clap::Args;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Scenarios of one call.
const SCENARIOS_MAX: usize = 100;

/// Arguments of `plan`; described at [`super::Command`].
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Scenario in TOML; more than one for several plans. Cannot be combined with options of the load.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pub scenario: Vec<PathBuf>,
    /// The load.
    #[command(flatten)]
    pub load: ScenarioArgs,
    /// Price table to use instead of the built-in one; `--print-prices` shows the format.
    #[arg(long, value_name = "FILE")]
    pub prices: Option<PathBuf>,
    /// Print the built-in price table and exit.
    #[arg(long, exclusive = true)]
    pub print_prices: bool,
    /// Also print the price, unit and source of each line.
    #[arg(long)]
    pub explain: bool,
    /// Write the plans as JSON to this file; `-` is stdout, and the text then goes to stderr.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// A load, by options or by the keys of a scenario file.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(deny_unknown_fields)]
#[command(next_help_heading = "Load")]
#[group(id = "load", multiple = true, conflicts_with = "scenario")]
pub struct ScenarioArgs {
    /// Name of the plan.
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,
    /// Requests per second at the peak.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub requests_per_second: Option<u64>,
    /// Requests per second that one host takes, as measured. No default: it depends on your host, and every
    /// other number depends on it.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub host_requests_per_second: Option<u64>,
    /// Where events go.
    #[arg(long, value_enum)]
    pub sink: Option<Sink>,
    /// Events in each request [default: 1].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub events_per_request: Option<u64>,
    /// Bytes of an event as it is stored [default: 1024].
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub event_bytes: Option<u64>,
    /// Events joined into each record, for firehose and sqs [default: for firehose as many as its
    /// output packs into 5 KiB, else 1].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub micro_batch: Option<u64>,
    /// Bytes of a partition key, which Kinesis counts [default: 16, as Sluice's random keys].
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub key_bytes: Option<u64>,
    /// Percentage of the capacity of hosts, shards, delivery streams and brokers that stays free at the peak
    /// [default: 30].
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true)]
    pub head_room: Option<u64>,
    /// Price of a host-hour in USD, instead of the table's.
    #[arg(long, value_name = "USD", allow_hyphen_values = true)]
    pub host_price: Option<String>,
    /// Minimum number of hosts [default: 2].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub hosts_min: Option<u64>,
    /// Hours to bill [default: 730, a month].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub hours: Option<u64>,
    /// Ratio of the peak rate to the average, for what is billed by use [default: 1].
    #[arg(long, value_name = "RATIO", allow_hyphen_values = true)]
    pub peak_to_average: Option<String>,
    /// Requests that a client sends on one connection [default: 10].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub requests_per_connection: Option<u64>,
    /// Seconds that a connection stays open [default: 60].
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub connection_seconds: Option<u64>,
    /// Bytes of the heads of a request and its answer, which the load balancer counts [default: 1000].
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub head_bytes: Option<u64>,
    /// The load balancer terminates TLS.
    #[arg(long)]
    #[serde(default)]
    pub tls_listener: bool,
    /// Number of consumers that each read everything from the sink [default: 1].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub consumers: Option<u64>,
    /// Hours that Kafka keeps data [default: 24].
    #[arg(long, value_name = "HOURS", allow_negative_numbers = true)]
    pub retention_hours: Option<u64>,
    /// Bytes before gzip at which an S3 object is closed: object_bytes_max of the S3 output [default:
    /// 30000000].
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub object_bytes: Option<u64>,
    /// Seconds after which an S3 object is closed [default: 300].
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub flush_seconds: Option<u64>,
    /// How hosts reach Kinesis, Firehose, SQS or S3 [default: vpc-endpoint].
    #[arg(long, value_enum)]
    pub service_path: Option<ServicePath>,
    /// Zones with hosts, endpoints and NAT gateways [default: 3].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub zones: Option<u64>,
    /// The load balancer spreads requests over all zones, which is billed by the byte.
    #[arg(long)]
    #[serde(default)]
    pub cross_zone: bool,
    /// Clients come through Global Accelerator.
    #[arg(long)]
    #[serde(default)]
    pub accelerator: bool,
    /// Bytes of an answer sent to the internet, its head and TLS included [default: 250].
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub answer_bytes: Option<u64>,
}

impl PlanArgs {
    /// The inputs to plan for, checked.
    ///
    /// # Errors
    /// When a file cannot be read or understood, or a value is missing or out of range.
    pub fn inputs(&self) -> Result<Vec<Input>, PlanError> {
        if self.scenario.len() > SCENARIOS_MAX {
            return Err(PlanError::Scenarios {
                limit: SCENARIOS_MAX,
                actual: self.scenario.len(),
            });
        }
        if self.scenario.is_empty() {
            return Ok(vec![self.load.input("plan")?]);
        }
        let read = |path: &PathBuf| {
            let load: ScenarioArgs = read_toml(path)?;
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            load.input(&stem).map_err(|source| PlanError::Scenario {
                path: path.clone(),
                source: Box::new(source),
            })
        };
        self.scenario.iter().map(read).collect()
    }

    /// The price table, and the name of its file.
    ///
    /// # Errors
    /// When the file cannot be read or is no price table.
    pub fn price_table(&self) -> Result<(Prices, String), PlanError> {
        match &self.prices {
            Some(path) => Ok((Prices::read(path)?, name(path))),
            None => Ok((Prices::built_in()?, "built in".to_owned())),
        }
    }
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

impl ScenarioArgs {
    fn input(&self, name: &str) -> Result<Input, PlanError> {
        let value = |option| move |message| PlanError::Value { option, message };
        let host_price = self.host_price.as_deref().map(Usd::parse).transpose();
        let peak_to_average = self.peak_to_average.as_deref().unwrap_or("1");
        // In the order in which they are documented, so that the first one missing is named.
        let requests_per_second = self
            .requests_per_second
            .ok_or(PlanError::Missing("requests-per-second"))?;
        let sink = self.sink.ok_or(PlanError::Missing("sink"))?;
        let event_bytes = self.event_bytes.unwrap_or(1_024);
        let input = Input {
            name: self.name.clone().unwrap_or_else(|| name.to_owned()),
            requests_per_second,
            events_per_request: self.events_per_request.unwrap_or(1),
            event_bytes,
            sink,
            micro_batch: self
                .micro_batch
                .unwrap_or_else(|| sink.packed_by_default(event_bytes)),
            key_bytes: self.key_bytes.unwrap_or(16),
            head_room_percent: self.head_room.unwrap_or(30),
            host_requests_per_second: self
                .host_requests_per_second
                .ok_or(PlanError::Missing("host-requests-per-second"))?,
            host_price: host_price.map_err(value("host-price"))?,
            hosts_min: self.hosts_min.unwrap_or(2),
            hours: self.hours.unwrap_or(730),
            peak_to_average: Ratio::parse(peak_to_average).map_err(value("peak-to-average"))?,
            requests_per_connection: self.requests_per_connection.unwrap_or(10),
            connection_seconds: self.connection_seconds.unwrap_or(60),
            head_bytes: self.head_bytes.unwrap_or(1_000),
            tls_listener: self.tls_listener,
            consumers: self.consumers.unwrap_or(1),
            retention_hours: self.retention_hours.unwrap_or(24),
            object_bytes: self.object_bytes.unwrap_or(30_000_000),
            flush_seconds: self.flush_seconds.unwrap_or(300),
            service_path: self.service_path.unwrap_or(ServicePath::VpcEndpoint),
            zones: self.zones.unwrap_or(3),
            cross_zone: self.cross_zone,
            accelerator: self.accelerator,
            answer_bytes: self.answer_bytes.unwrap_or(250),
        };
        input.check()?;
        Ok(input)
    }
}
