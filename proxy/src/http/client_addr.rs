//! Whose address a record gets: what proxies in front said (`X-Forwarded-For`), if they are ours, else
//! who is at the other end of the connection. Judges addresses and headers; knows no record.

use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The networks that no address of the internet is in (RFC 1918, 6598, 4193, loopback, link-local):
/// where load balancers and other proxies of one's own are.
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

/// Networks under one name: `10.1.0.0/16`, one address, or the word `private`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    text: String,
    nets: Vec<IpNet>,
}

/// A text is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no network: expected 10.1.0.0/16, an address, or the word private")]
pub struct NetworkError(String);

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Network, NetworkError> {
        let parsed = |text: &str| -> Option<IpNet> {
            text.parse()
                .ok()
                .or_else(|| text.parse().ok().map(|address: IpAddr| address.into()))
        };
        let nets: Option<Vec<IpNet>> = match text {
            "private" => PRIVATE.into_iter().map(parsed).collect(),
            _ => parsed(text).map(|net| vec![net]),
        };
        Ok(Network {
            nets: nets.ok_or_else(|| NetworkError(text.to_owned()))?,
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Which proxies are believed, and how much of what they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPolicy {
    trusted: Vec<IpNet>,
    hops: usize,
}

impl AddressPolicy {
    /// `trusted`: whose header is believed. `hops`: how many proxies of one's own append to it, so that
    /// only so many addresses at its end are known to be true; 0 takes all of it.
    #[must_use]
    pub fn new(trusted: &[Network], hops: usize) -> AddressPolicy {
        AddressPolicy {
            trusted: trusted
                .iter()
                .flat_map(|network| network.nets.iter().copied())
                .collect(),
            hops,
        }
    }

    /// The chain of addresses that a trusted peer handed on, the client first; `None` when the peer is
    /// not trusted, or handed on none. Several header lines are one list (RFC 9110, 5.3).
    #[must_use]
    pub fn chain<'a>(&self, peer: IpAddr, headers: &'a HeaderMap) -> Option<Cow<'a, [u8]>> {
        let mut lines = headers.get_all(&X_FORWARDED_FOR).iter();
        let first = lines.next()?;
        let peer = peer.to_canonical();
        if !self.trusted.iter().any(|network| network.contains(&peer)) {
            return None;
        }
        let whole = lines
            .map(HeaderValue::as_bytes)
            .fold(Cow::Borrowed(first.as_bytes()), |list, line| {
                Cow::Owned([&list, line].join(b", ".as_slice()))
            });
        Some(match (self.hops, whole) {
            (0, whole) => whole,
            (hops, Cow::Borrowed(whole)) => Cow::Borrowed(last(whole, hops)),
            (hops, Cow::Owned(whole)) => Cow::Owned(last(&whole, hops).to_vec()),
        })
    }
}

/// The last `count` entries of a list.
fn last(list: &[u8], count: usize) -> &[u8] {
    let mut commas = list
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, byte)| **byte == b',');
    match commas.nth(count - 1) {
        Some((at, _)) => list[at + 1..].trim_ascii_start(),
        None => list,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(trusted: &[&str], hops: usize, peer: &str, lines: &[&str]) -> Option<String> {
        let trusted: Vec<Network> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&X_FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
        }
        AddressPolicy::new(&trusted, hops)
            .chain(peer.parse().unwrap(), &headers)
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
    fn of_a_chain_the_hops_at_its_end_are_taken_and_without_hops_all_of_it() {
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
}
