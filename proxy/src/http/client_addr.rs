//! The client address of a record: as trusted proxies gave it (`X-Forwarded-For`), else the peer of the
//! connection. Knows no records.

use ipnet::IpNet;
use sluice_sinks::settings;
use sluice_sinks::settings::{list, number, switch};
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Networks without public addresses (RFC 1918, 6598, 4193, loopback, link-local), where load balancers
/// and other proxies are.
const PRIVATE: [&str; 9] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "fc00::/7",
    "fe80::/10",
    "::1/128",
];

/// Trusted networks at most: each is compared with the peer of each request.
pub const NETWORKS_MAX: usize = 256;

settings! {
    /// Whom to believe about a client's address.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ClientAddressSettings from (reader) {
        /// Networks whose X-Forwarded-For is believed.
        trusted: Vec<Network> = vec![Network::private()],
            list("networks", NETWORKS_MAX, "networks such as 10.1.0.0/16, addresses, or private");
        /// How many addresses at the end of X-Forwarded-For are taken; 0 is all.
        hops: usize = 0, number("hops", 0, 32);
        /// Whether the query parameter `fakeIp` of `paths.collect` wins over all of it: for development, as
        /// anybody can send it.
        fake_ip: bool = false, switch();
    }
}

/// Networks under one name: `10.1.0.0/16`, one address, or the word `private`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    text: String,
    nets: Vec<IpNet>,
}

/// A text that is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no network: expected 10.1.0.0/16, an address, or the word private")]
pub struct NetworkError(String);

impl Network {
    /// All private networks.
    #[must_use]
    pub fn private() -> Network {
        Network {
            nets: PRIVATE.into_iter().filter_map(net).collect(),
            text: "private".to_owned(),
        }
    }
}

/// A network, or a single address.
fn net(text: &str) -> Option<IpNet> {
    text.parse()
        .ok()
        .or_else(|| text.parse().ok().map(|address: IpAddr| address.into()))
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Network, NetworkError> {
        if text == "private" {
            return Ok(Network::private());
        }
        let net = net(text).ok_or_else(|| NetworkError(text.to_owned()))?;
        Ok(Network {
            nets: vec![net],
            text: text.to_owned(),
        })
    }
}

impl Network {
    /// The networks under this name.
    pub fn nets(&self) -> impl Iterator<Item = IpNet> {
        self.nets.iter().copied()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// How much of the header is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPolicy {
    hops: usize,
}

impl AddressPolicy {
    /// `hops` is the number of trusted proxies that append to the header: only this many addresses at its end are
    /// known to be true; 0 takes all of it.
    #[must_use]
    pub fn new(hops: usize) -> AddressPolicy {
        AddressPolicy { hops }
    }

    /// The client's addresses from the lines of X-Forwarded-For. Several header lines are one list (RFC 9110, 5.3).
    ///
    /// The list is read from its end, where the nearest proxy wrote, up to the first entry that is not an
    /// address: its author is not trusted about the entries before it either. Of a peer that is not trusted, nothing is
    /// taken.
    #[must_use]
    pub fn forwarded<'a>(
        self,
        is_trusted: bool,
        mut lines: impl Iterator<Item = &'a [u8]>,
    ) -> Forwarded<'a> {
        let Some(first) = lines.next() else {
            return Forwarded::default();
        };
        if !is_trusted {
            return Forwarded {
                chain: None,
                ignored: Some(Ignored::UntrustedPeer),
            };
        }
        let whole = lines.fold(Cow::Borrowed(first), |list, line| {
            Cow::Owned([&list, line].join(b", ".as_slice()))
        });
        let count = match self.hops {
            0 => ADDRESSES_MAX,
            hops => hops.min(ADDRESSES_MAX),
        };
        let (from, invalid) = valid_tail(&whole, count);
        let tail = match whole {
            Cow::Borrowed(whole) => Cow::Borrowed(&whole[from..]),
            Cow::Owned(whole) => Cow::Owned(whole[from..].to_vec()),
        };
        Forwarded {
            chain: Some(tail).filter(|tail| !tail.is_empty()),
            ignored: invalid.then_some(Ignored::NotAnAddress),
        }
    }
}

/// Entries of X-Forwarded-For that are taken at most; no chain of proxies is longer.
const ADDRESSES_MAX: usize = 16;

/// The addresses from X-Forwarded-For.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded<'a> {
    /// Trusted addresses as they were sent, separated by commas, the client first; `None` if there are none.
    pub chain: Option<Cow<'a, [u8]>>,
    /// Why some or all of the header was ignored.
    pub ignored: Option<Ignored>,
}

/// Why X-Forwarded-For, or its beginning, was ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// The peer is not trusted.
    UntrustedPeer,
    /// An entry is not an address.
    NotAnAddress,
}

/// The start of the last `count` entries of a list, or of those after the last entry that is not an address,
/// and whether there is such an entry.
fn valid_tail(list: &[u8], count: usize) -> (usize, bool) {
    let mut from = list.len();
    let mut end = list.len();
    for _ in 0..count {
        let start = list[..end]
            .iter()
            .rposition(|byte| *byte == b',')
            .map_or(0, |comma| comma + 1);
        let entry = &list[start..end];
        if !is_address(entry.trim_ascii()) {
            return (from, true);
        }
        from = start + entry.len() - entry.trim_ascii_start().len();
        if start == 0 {
            break;
        }
        end = start - 1;
    }
    (from, false)
}

/// An IP address, which some balancers write with a port and IPv6 then in brackets.
fn is_address(entry: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(entry) else {
        return false;
    };
    text.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(trusted: &[&str], hops: usize, peer: &str, lines: &[&str]) -> Option<String> {
        let trusted: Vec<Network> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        let lines = lines.iter().map(|line| line.as_bytes());
        let peer: IpAddr = peer.parse().unwrap();
        let mut trusted = trusted.iter().flat_map(Network::nets);
        let is_trusted = trusted.any(|network| network.contains(&peer.to_canonical()));
        AddressPolicy::new(hops)
            .forwarded(is_trusted, lines)
            .chain
            .map(|chain| String::from_utf8(chain.into_owned()).unwrap())
    }

    #[test]
    fn only_a_trusted_peer_is_believed() {
        let sent = &["203.0.113.9"];
        for (trusted, peer, believed) in [
            (&["private"][..], "10.0.0.1", true),
            (&["private"], "::1", true),
            (&["private"], "fd00::1", true),
            // An IPv4 peer of a dual-stack socket is the same peer.
            (&["private"], "::ffff:172.16.0.1", true),
            (&["private"], "172.32.0.1", false),
            (&["private"], "198.51.100.7", false),
            (&["private"], "2001:db8::1", false),
            (&["198.51.100.0/24"], "198.51.100.7", true),
            (&["198.51.100.7"], "198.51.100.7", true),
            (&["198.51.100.7"], "198.51.100.8", false),
            (&["0.0.0.0/0"], "2001:db8::1", false),
            (&[], "127.0.0.1", false),
        ] {
            let expected = believed.then(|| "203.0.113.9".to_owned());
            assert_eq!(
                chain(trusted, 0, peer, sent),
                expected,
                "{trusted:?} {peer}"
            );
            assert_eq!(
                chain(trusted, 1, peer, sent),
                expected,
                "{trusted:?} {peer}"
            );
        }
        assert_eq!(chain(&["private"], 0, "10.0.0.1", &[]), None);
    }

    #[test]
    fn hops_select_the_end_of_the_forwarded_chain() {
        let sent = &["6.6.6.6, 203.0.113.9,10.0.0.2"];
        for (hops, expected) in [
            (0, "6.6.6.6, 203.0.113.9,10.0.0.2"),
            (1, "10.0.0.2"),
            (2, "203.0.113.9,10.0.0.2"),
            (3, "6.6.6.6, 203.0.113.9,10.0.0.2"),
            (9, "6.6.6.6, 203.0.113.9,10.0.0.2"),
        ] {
            let found = chain(&["private"], hops, "10.0.0.1", sent);
            assert_eq!(found.as_deref(), Some(expected), "{hops}");
        }
        // A client's own line does not hide the proxy's.
        let lines = &["6.6.6.6", "203.0.113.9"];
        let found = |hops| chain(&["private"], hops, "10.0.0.1", lines);
        assert_eq!(found(1).as_deref(), Some("203.0.113.9"));
        assert_eq!(found(0).as_deref(), Some("6.6.6.6, 203.0.113.9"));
    }

    #[test]
    fn what_is_no_network_is_refused_by_name() {
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0",
            "::1/129",
            "Private",
            "10.0.0.0/8 ",
        ] {
            let error = text.parse::<Network>().unwrap_err();
            assert_eq!(error, NetworkError(text.to_owned()));
        }
    }

    #[test]
    fn non_addresses_in_x_forwarded_for_are_not_stored() {
        let long = "x".repeat(6_000);
        let many = vec!["192.0.2.1"; 100].join(",");
        let bounded = vec!["192.0.2.1"; ADDRESSES_MAX].join(",");
        for (sent, expected, invalid) in [
            ("<script>", None, true),
            (long.as_str(), None, true),
            ("unknown", None, true),
            ("", None, true),
            ("203.0.113.9,", None, true),
            ("203.0.113.9.evil.example", None, true),
            ("203.0.113.9, <script>", None, true),
            ("<script>, 203.0.113.9", Some("203.0.113.9"), true),
            (
                "<b>,203.0.113.9, 10.0.0.2",
                Some("203.0.113.9, 10.0.0.2"),
                true,
            ),
            ("203.0.113.9:4711", Some("203.0.113.9:4711"), false),
            ("[2001:db8::7]:4711", Some("[2001:db8::7]:4711"), false),
            ("2001:db8::7", Some("2001:db8::7"), false),
            (
                " 203.0.113.9 ,10.0.0.2",
                Some("203.0.113.9 ,10.0.0.2"),
                false,
            ),
            (many.as_str(), Some(bounded.as_str()), false),
        ] {
            let found = AddressPolicy::new(0).forwarded(true, [sent.as_bytes()].into_iter());
            let chain = found
                .chain
                .as_deref()
                .map(|c| String::from_utf8_lossy(c).into_owned());
            assert_eq!(chain.as_deref(), expected, "{sent}");
            let expected = invalid.then_some(Ignored::NotAnAddress);
            assert_eq!(found.ignored, expected, "{sent}");
        }
    }
}
