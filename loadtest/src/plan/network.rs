//! The network: the way to the service, answers to clients, an accelerator, traffic between
//! zones. Services' own prices hold none of it.

use super::front::line;
use super::money::grouped;
use super::prices::Prices;
use super::{BillLine, Input, Need, PlanError};
use serde::{Deserialize, Serialize};

/// How hosts reach a service that is outside their network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServicePath {
    /// An interface endpoint in each zone; for S3 its gateway endpoint, which is free.
    VpcEndpoint,
    /// A NAT gateway in each zone.
    Nat,
    /// Public addresses on the hosts: no charge by the byte within the Region.
    Public,
}

/// Where a sink's bytes go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Destination {
    /// The host itself.
    #[default]
    Host,
    /// A service of the Region, with an interface endpoint.
    Service,
    /// S3, which has a gateway endpoint.
    S3,
    /// Brokers in the same network, in every zone.
    Brokers,
}

const GIB: u128 = 1 << 30;

/// Bytes that a month moves.
pub(super) struct Traffic {
    /// From clients, as the load balancer counts them.
    pub(super) requests: u128,
    /// To the sink, as they are sent.
    pub(super) sent: u128,
    pub(super) destination: Destination,
}

/// The network's part of a plan.
#[derive(Default)]
pub(super) struct Network {
    pub(super) needs: Vec<Need>,
    pub(super) bill: Vec<BillLine>,
    pub(super) notes: Vec<String>,
}

/// Plans the network.
pub(super) fn network(
    input: &Input,
    prices: &Prices,
    traffic: &Traffic,
) -> Result<Network, PlanError> {
    let mut plan = Network::default();
    let zone_hours = u128::from(input.zones) * u128::from(input.hours);
    match (traffic.destination, input.service_path) {
        (Destination::Service, ServicePath::VpcEndpoint) => {
            plan.need("VPC endpoints", input.zones, "one in each zone".to_owned());
            plan.bill.extend([
                line("VPC endpoints", &prices.endpoint_hour, zone_hours, 1)?,
                line("VPC endpoint use", &prices.endpoint_data, traffic.sent, GIB)?,
            ]);
        }
        (Destination::Service | Destination::S3, ServicePath::Nat) => {
            plan.need("NAT gateways", input.zones, "one in each zone".to_owned());
            plan.bill.extend([
                line("NAT gateways", &prices.nat_hour, zone_hours, 1)?,
                line("NAT use", &prices.nat_data, traffic.sent, GIB)?,
            ]);
        }
        (Destination::S3, ServicePath::VpcEndpoint) => plan
            .notes
            .push("S3 is reached by its gateway endpoint, which is free".to_owned()),
        (Destination::Host | Destination::Brokers, _) | (_, ServicePath::Public) => {}
    }
    if input.accelerator {
        let hours = u128::from(input.hours);
        plan.need("accelerators", 1, "as asked".to_owned());
        plan.bill.extend([
            line("accelerator", &prices.accelerator_hour, hours, 1)?,
            // Billed in the dominant direction, which for a collector is inwards.
            line(
                "accelerator use",
                &prices.accelerator_data,
                traffic.requests,
                GIB,
            )?,
        ]);
    }
    // Of evenly spread peers, all but those of the own zone.
    let across = |bytes: u128| bytes * u128::from(input.zones - 1) / u128::from(input.zones);
    let mut crossing = 0;
    if input.cross_zone {
        crossing += across(traffic.requests);
    }
    if traffic.destination == Destination::Brokers {
        crossing += across(traffic.sent);
    }
    if crossing > 0 {
        // Leaving one zone is paid, and entering the other.
        let quantity = crossing * 2;
        plan.bill
            .push(line("cross-zone", &prices.cross_zone_data, quantity, GIB)?);
    }
    let answers = input.requests_in_month() * u128::from(input.answer_bytes);
    plan.bill.push(line(
        "answers to clients",
        &prices.egress_data,
        answers,
        GIB,
    )?);
    plan.notes.push(format!(
        "answers of {} bytes leave the Region to the internet; requests come in free",
        grouped(input.answer_bytes.into())
    ));
    Ok(plan)
}

impl Network {
    fn need(&mut self, what: &'static str, count: u64, because: String) {
        self.needs.push(Need {
            what,
            count,
            because,
        });
    }
}
