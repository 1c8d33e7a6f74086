//! The front: hosts and load balancers.

use super::money::grouped;
use super::prices::{Price, Prices};
use super::{BillLine, Input, Need, PlanError, narrow};

/// Targets per Network Load Balancer: in each zone, or in all zones together with cross-zone load balancing
/// (NLB guide, quotas).
const TARGETS_PER_NLB: u64 = 500;

/// Network Load Balancers per Region (NLB guide, quotas; AWS raises it on request).
const NLBS_PER_REGION: u64 = 50;

/// The capacity of one NLCU (price page of Elastic Load Balancing). The dimension used most is billed.
struct Unit {
    new_per_second: u64,
    active: u64,
    bytes_per_hour: u64,
}

const TCP: Unit = Unit {
    new_per_second: 800,
    active: 100_000,
    bytes_per_hour: 1 << 30,
};

const TLS: Unit = Unit {
    new_per_second: 50,
    active: 3_000,
    bytes_per_hour: 1 << 30,
};

/// NLCU-hours are counted in millionths.
const UNIT_FRACTIONS: u128 = 1_000_000;

/// The plan of hosts and load balancers.
pub(super) struct Front {
    pub(super) hosts: u64,
    /// Bytes of all requests of the month.
    pub(super) bytes: u128,
    pub(super) needs: Vec<Need>,
    pub(super) bill: Vec<BillLine>,
    pub(super) notes: Vec<String>,
}

/// A line of the bill for `quantity / scale` units.
pub(super) fn line(
    what: &'static str,
    price: &Price,
    quantity: u128,
    scale: u128,
) -> Result<BillLine, PlanError> {
    Ok(BillLine {
        what,
        quantity: quantity as f64 / scale as f64,
        unit: price.unit.clone(),
        price: price.text(),
        origin: price.origin(),
        usd: price.amount(quantity, scale)?,
        verified: price.verified,
    })
}

/// NLCU-hours for these connections and bytes, in millionths, and the dimension that decides them.
fn unit_hours(unit: &Unit, connections: u128, seconds: u64, bytes: u128) -> (u128, &'static str) {
    let seconds = u128::from(seconds);
    [
        (
            (connections * UNIT_FRACTIONS).div_ceil(u128::from(unit.new_per_second) * 3_600),
            "new connections",
        ),
        (
            (connections * seconds * UNIT_FRACTIONS).div_ceil(u128::from(unit.active) * 3_600),
            "active connections",
        ),
        (
            (bytes * UNIT_FRACTIONS).div_ceil(unit.bytes_per_hour.into()),
            "bytes",
        ),
    ]
    .into_iter()
    .max_by_key(|(hours, _)| *hours)
    .unwrap_or_default()
}

/// Plans hosts and load balancers.
pub(super) fn front(input: &Input, prices: &Prices) -> Result<Front, PlanError> {
    let by_rate = input.provided(input.requests_per_second, input.host_requests_per_second);
    let hosts = by_rate.max(input.hosts_min);
    let nlbs = hosts.div_ceil(TARGETS_PER_NLB);
    let unit = match input.tls_listener {
        true => TLS,
        false => TCP,
    };
    let request_bytes = input.events_per_request * input.event_bytes + input.head_bytes;
    let per_connection = u128::from(input.requests_per_connection);
    let used = |requests: u128| {
        unit_hours(
            &unit,
            requests.div_ceil(per_connection),
            input.connection_seconds,
            requests * u128::from(request_bytes),
        )
    };
    // An hour at the peak.
    let (peak, because) = used(u128::from(input.requests_per_second) * 3_600);
    let (month, _) = used(input.requests_in_month());
    let hours = u128::from(input.hours);
    let mut notes = Vec::new();
    if nlbs > NLBS_PER_REGION {
        notes.push(format!(
            "{nlbs} load balancers exceed the quota of {NLBS_PER_REGION} per Region, which AWS \
             raises on request; larger hosts need fewer"
        ));
    }
    Ok(Front {
        hosts,
        bytes: input.requests_in_month() * u128::from(request_bytes),
        needs: vec![
            Need {
                what: "hosts",
                count: hosts,
                because: match by_rate < input.hosts_min {
                    true => format!("the minimum asked for; the rate needs {by_rate}"),
                    false => format!(
                        "{} requests/s each, as measured; {} % head-room",
                        grouped(input.host_requests_per_second.into()),
                        input.head_room_percent
                    ),
                },
            },
            Need {
                what: "load balancers",
                count: nlbs,
                because: format!("up to {TARGETS_PER_NLB} targets each"),
            },
            Need {
                what: "NLCU at the peak",
                count: narrow(peak.div_ceil(UNIT_FRACTIONS)),
                because: format!("by {because}"),
            },
        ],
        bill: vec![
            line("hosts", &prices.host_hour, u128::from(hosts) * hours, 1)?,
            line(
                "load balancers",
                &prices.nlb_hour,
                u128::from(nlbs) * hours,
                1,
            )?,
            line(
                "load balancer use",
                &prices.nlb_unit_hour,
                month,
                UNIT_FRACTIONS,
            )?,
        ],
        notes,
    })
}
