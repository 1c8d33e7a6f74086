//! The price table: a dated file that says of each price where it was read.
//! Multiplies; knows no service.

use super::PlanError;
use super::money::{Usd, grouped};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes of a file of prices or of a scenario.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 20;

/// Tiers of one price.
const TIERS_MAX: usize = 16;

/// All prices that a plan may need.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// When the table was made.
    pub date: String,
    /// Which AWS region it is of. Firehose quotas follow it too.
    pub region: String,
    pub(super) host_hour: Price,
    pub(super) nlb_hour: Price,
    pub(super) nlb_unit_hour: Price,
    pub(super) kinesis_shard_hour: Price,
    pub(super) kinesis_put_unit: Price,
    pub(super) kinesis_stream_hour: Price,
    pub(super) kinesis_on_demand_in: Price,
    pub(super) kinesis_on_demand_out: Price,
    pub(super) kinesis_advantage_in: Price,
    pub(super) kinesis_advantage_out: Price,
    pub(super) firehose_in: Price,
    pub(super) sqs_request: Price,
    pub(super) kafka_broker_hour: Price,
    pub(super) kafka_in: Price,
    pub(super) kafka_storage: Price,
    pub(super) s3_put: Price,
    pub(super) endpoint_hour: Price,
    pub(super) endpoint_data: Price,
    pub(super) nat_hour: Price,
    pub(super) nat_data: Price,
    pub(super) accelerator_hour: Price,
    pub(super) accelerator_data: Price,
    pub(super) cross_zone_data: Price,
    pub(super) egress_data: Price,
}

/// One price.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Price {
    usd: Option<String>,
    #[serde(default)]
    tiers: Vec<RawTier>,
    #[serde(default = "one")]
    per: u64,
    pub(super) unit: String,
    region: String,
    date: String,
    source: String,
    pub(super) verified: bool,
    #[serde(default)]
    first_hand: bool,
    #[serde(skip)]
    resolved: Vec<Tier>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTier {
    up_to: Option<u64>,
    usd: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tier {
    /// Units at which it ends, from the first of the month; the last one is open.
    up_to: Option<u64>,
    usd: Usd,
}

fn one() -> u64 {
    1
}

/// Where the prices of a plan come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PriceOrigin {
    /// The file, or `built in`.
    pub file: String,
    /// When the table was made.
    pub date: String,
    /// Which AWS region it is of.
    pub region: String,
}

impl Prices {
    /// The table in the program as text: the form of one's own.
    pub const BUILT_IN: &str = include_str!("prices.toml");

    /// The table in the program.
    ///
    /// # Errors
    /// None, as a test makes sure.
    pub fn built_in() -> Result<Prices, PlanError> {
        Prices::parse(Prices::BUILT_IN, "built in")
    }

    /// Reads a table from a file, of at most 1 MiB.
    ///
    /// # Errors
    /// When it cannot be read, is too large, is no TOML, has unknown or missing keys, or a price
    /// has another unit than its key stands for.
    pub fn read(path: &Path) -> Result<Prices, PlanError> {
        Prices::parse(&read_text(path)?, &path.display().to_string())
    }

    fn parse(text: &str, name: &str) -> Result<Prices, PlanError> {
        let bad = |message: String| PlanError::Prices {
            file: name.to_owned(),
            message,
        };
        let mut prices: Prices =
            toml::from_str(text).map_err(|error| bad(super::one_line(&error)))?;
        for (key, unit, price) in prices.all() {
            price
                .resolve(unit)
                .map_err(|message| bad(format!("{key}: {message}")))?;
        }
        Ok(prices)
    }

    /// Each price with its key and the unit that the arithmetic counts.
    fn all(&mut self) -> [(&'static str, &'static str, &mut Price); 24] {
        [
            ("host_hour", "host-hour", &mut self.host_hour),
            ("nlb_hour", "load balancer-hour", &mut self.nlb_hour),
            ("nlb_unit_hour", "NLCU-hour", &mut self.nlb_unit_hour),
            (
                "kinesis_shard_hour",
                "shard-hour",
                &mut self.kinesis_shard_hour,
            ),
            (
                "kinesis_put_unit",
                "PUT unit of 25 KiB",
                &mut self.kinesis_put_unit,
            ),
            (
                "kinesis_stream_hour",
                "stream-hour",
                &mut self.kinesis_stream_hour,
            ),
            (
                "kinesis_on_demand_in",
                "GiB",
                &mut self.kinesis_on_demand_in,
            ),
            (
                "kinesis_on_demand_out",
                "GiB",
                &mut self.kinesis_on_demand_out,
            ),
            (
                "kinesis_advantage_in",
                "GiB",
                &mut self.kinesis_advantage_in,
            ),
            (
                "kinesis_advantage_out",
                "GiB",
                &mut self.kinesis_advantage_out,
            ),
            ("firehose_in", "GiB", &mut self.firehose_in),
            ("sqs_request", "request of 64 KiB", &mut self.sqs_request),
            (
                "kafka_broker_hour",
                "broker-hour",
                &mut self.kafka_broker_hour,
            ),
            ("kafka_in", "GiB", &mut self.kafka_in),
            ("kafka_storage", "GiB-month", &mut self.kafka_storage),
            ("s3_put", "PUT request", &mut self.s3_put),
            ("endpoint_hour", "endpoint-hour", &mut self.endpoint_hour),
            ("endpoint_data", "GiB", &mut self.endpoint_data),
            ("nat_hour", "NAT-hour", &mut self.nat_hour),
            ("nat_data", "GiB", &mut self.nat_data),
            (
                "accelerator_hour",
                "accelerator-hour",
                &mut self.accelerator_hour,
            ),
            ("accelerator_data", "GiB", &mut self.accelerator_data),
            ("cross_zone_data", "GiB", &mut self.cross_zone_data),
            ("egress_data", "GiB", &mut self.egress_data),
        ]
    }

    /// Puts the price of a host in place of the table's.
    pub(super) fn with_host(mut self, usd: Option<Usd>) -> Prices {
        if let Some(usd) = usd {
            self.host_hour.resolved = vec![Tier { up_to: None, usd }];
            self.host_hour.verified = true;
            self.host_hour.first_hand = true;
            self.host_hour.per = 1;
            "given as host-price".clone_into(&mut self.host_hour.source);
        }
        self
    }
}

impl Price {
    fn resolve(&mut self, unit: &str) -> Result<(), String> {
        if self.unit != unit {
            return Err(format!("unit must be `{unit}`, not `{}`", self.unit));
        }
        if self.per == 0 {
            return Err("per must be at least 1, not 0".to_owned());
        }
        for (name, text) in [
            ("region", &self.region),
            ("date", &self.date),
            ("source", &self.source),
        ] {
            if text.trim().is_empty() {
                return Err(format!("{name} must not be empty"));
            }
        }
        self.resolved = match (&self.usd, self.tiers.as_slice()) {
            (Some(usd), []) => vec![Tier {
                up_to: None,
                usd: Usd::parse(usd)?,
            }],
            (None, tiers @ [_, ..]) if tiers.len() <= TIERS_MAX => tiers
                .iter()
                .map(|tier| {
                    Ok(Tier {
                        up_to: tier.up_to,
                        usd: Usd::parse(&tier.usd)?,
                    })
                })
                .collect::<Result<_, String>>()?,
            (None, [_, ..]) => {
                let actual = self.tiers.len();
                return Err(format!("at most {TIERS_MAX} tiers, not {actual}"));
            }
            _ => return Err("needs either usd or tiers".to_owned()),
        };
        let mut last = Some(0);
        for (at, tier) in self.resolved.iter().enumerate() {
            let open = at + 1 == self.resolved.len();
            if tier.up_to.is_none() != open || (!open && tier.up_to <= last) {
                return Err("up_to must grow from tier to tier, and the last has none".to_owned());
            }
            last = tier.up_to;
        }
        Ok(())
    }

    /// The price of a unit, or of `per` units, tier by tier.
    pub(super) fn text(&self) -> String {
        let exact = |usd: Usd| usd.exact();
        let text = match self.resolved.as_slice() {
            [only] => exact(only.usd),
            tiers => {
                let tier = |tier: &Tier| match tier.up_to {
                    Some(end) => format!("{} up to {}", exact(tier.usd), grouped(end.into())),
                    None => format!("then {}", exact(tier.usd)),
                };
                tiers.iter().map(tier).collect::<Vec<_>>().join(", ")
            }
        };
        match self.per {
            1 => text,
            per => format!("{text} per {}", grouped(per.into())),
        }
    }

    /// Where the price comes from, and how much that says.
    pub(super) fn origin(&self) -> String {
        let trust = match (self.first_hand, self.verified) {
            (true, _) => "first hand",
            (false, true) => "third-party",
            (false, false) => "unverified",
        };
        let (region, date, source) = (&self.region, &self.date, &self.source);
        format!("{trust}, {region}, {date}: {source}")
    }

    /// The monthly cost of `quantity / scale` units, rounded up to 10^-9 USD.
    pub(super) fn amount(&self, quantity: u128, scale: u128) -> Result<Usd, PlanError> {
        let mut left = quantity;
        let mut start = 0;
        let mut sum: u128 = 0;
        for tier in &self.resolved {
            let room = match tier.up_to {
                Some(end) => u128::from(end - start) * scale,
                None => u128::MAX,
            };
            let part = left.min(room);
            sum = part
                .checked_mul(tier.usd.nanos())
                .and_then(|cost| sum.checked_add(cost))
                .ok_or(PlanError::TooLarge)?;
            left -= part;
            start = tier.up_to.unwrap_or(start);
        }
        Ok(Usd::from_nanos(sum.div_ceil(u128::from(self.per) * scale)))
    }
}

/// The text of a small file.
pub(super) fn read_text(path: &Path) -> Result<String, PlanError> {
    let bad = |message: String| PlanError::File {
        path: path.to_owned(),
        message,
    };
    let file = File::open(path).map_err(|error| bad(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| bad(error.to_string()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(bad(format!("more than {FILE_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| bad("not UTF-8".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(from: &str, to: &str) -> Result<Prices, PlanError> {
        assert!(Prices::BUILT_IN.contains(from), "{from}");
        Prices::parse(&Prices::BUILT_IN.replacen(from, to, 1), "test")
    }

    #[test]
    fn the_table_in_the_program_is_whole() {
        let mut prices = Prices::built_in().unwrap();
        assert_eq!(
            prices.all().len(),
            Prices::BUILT_IN.matches("\nverified = ").count()
        );
    }

    #[test]
    fn an_ambiguous_price_table_is_refused_by_key() {
        for (from, to, part) in [
            ("[s3_put]", "[s3_puts]", "s3_puts"),
            (
                "usd = \"0.0225\"",
                "usd = \"-1\"",
                "nlb_hour: `-1` is no price",
            ),
            ("usd = \"0.0225\"", "usd = 0.0225", "expected a string"),
            ("usd = \"0.0225\"", "usd = \"NaN\"", "no price"),
            ("usd = \"0.0225\"", "usd = \"100001\"", "over 100000"),
            ("usd = \"0.0225\"\n", "", "nlb_hour: needs either"),
            (
                "usd = \"0.0225\"\n",
                "usd = \"1\"\ncolour = 1\n",
                "unknown field `colour`",
            ),
            (
                "unit = \"NLCU-hour\"",
                "unit = \"hour\"",
                "must be `NLCU-hour`, not `hour`",
            ),
            ("per = 1000\n", "per = 0\n", "s3_put: per must be"),
            ("up_to = 512000", "up_to = 0", "must grow"),
            ("up_to = 2048000", "up_to = 512000", "must grow"),
            ("up_to = 2048000, ", "", "must grow"),
            (
                "source = \"S3 Standard, from memory\"",
                "source = \" \"",
                "source must not be empty",
            ),
            ("date = \"2026-11-21\"\n", "", "missing field `date`"),
        ] {
            let error = changed(from, to).unwrap_err().to_string();
            assert!(error.contains(part), "{to}: {error}");
            assert!(!error.contains('\n'), "one line: {error}");
        }
    }

    #[test]
    fn price_tiers_add_up_and_round_up_once() {
        let prices = Prices::built_in().unwrap();
        let price = &prices.firehose_in;
        let usd = |gib: u128| price.amount(gib << 30, 1 << 30).unwrap().nanos() / 1_000_000;
        assert_eq!(usd(512_000), 512_000 * 29);
        assert_eq!(usd(512_001), 512_000 * 29 + 25);
        assert_eq!(usd(2_048_001), 512_000 * 29 + 1_536_000 * 25 + 20);
        assert_eq!(price.amount(1, 1 << 30).unwrap(), Usd::from_nanos(1));
        assert_eq!(price.amount(0, 1 << 30).unwrap(), Usd::default());
        assert!(matches!(
            price.amount(u128::MAX, 1),
            Err(PlanError::TooLarge)
        ));
    }
}
