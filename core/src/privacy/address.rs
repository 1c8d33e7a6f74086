//! What is stored of addresses.

use super::hash::HashKey;
use crate::request::{address_text, write_address};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What is stored of a client's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressRule {
    /// All of it.
    #[default]
    Keep,
    /// Its network: the first 24 bits of an IPv4 address, 48 of an IPv6 address.
    Truncate,
    /// A keyed hash that changes every day (UTC).
    Hash,
    /// Nothing.
    Drop,
}

/// Treats a list of addresses separated by commas, and appends what is left of it. `None`, with nothing appended,
/// where it may not be stored: by the rule, or because an entry is no address.
pub(super) fn write_list(
    list: &[u8],
    rule: AddressRule,
    key: Option<&HashKey>,
    out: &mut Vec<u8>,
) -> Option<()> {
    let start = out.len();
    for (at, entry) in list.split(|byte| *byte == b',').enumerate() {
        if at != 0 {
            out.extend_from_slice(b", ");
        }
        let written = read(entry).and_then(|address| write(address, rule, key, out));
        if written.is_none() {
            out.truncate(start);
            return None;
        }
    }
    Some(())
}

fn write(
    address: IpAddr,
    rule: AddressRule,
    key: Option<&HashKey>,
    out: &mut Vec<u8>,
) -> Option<()> {
    match rule {
        AddressRule::Keep => write_address(address, out),
        AddressRule::Truncate => write_address(network(address), out),
        AddressRule::Hash => key?.write(&address_text(address), out),
        AddressRule::Drop => return None,
    }
    Some(())
}

/// An address as logs may show it.
#[derive(Clone, Copy, Debug)]
pub struct Shown(pub IpAddr, pub AddressRule);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shown(address, rule) = self;
        match rule {
            AddressRule::Keep => address.fmt(f),
            AddressRule::Truncate => network(*address).fmt(f),
            AddressRule::Hash | AddressRule::Drop => f.write_str("withheld"),
        }
    }
}

/// The network of an address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, 0))
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
    }
}

/// An address, which some balancers write with a port and IPv6 then in brackets.
fn read(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry.trim_ascii()).ok()?;
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse::<IpAddr>();
    let address = address.or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    Some(address.ok()?.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn treated(list: &str, rule: AddressRule) -> Option<String> {
        let key = HashKey::new("k1", &[7; 32]).unwrap();
        let mut out = b"before ".to_vec();
        let written = write_list(list.as_bytes(), rule, Some(&key), &mut out);
        let text = String::from_utf8(out).unwrap();
        let text = text.strip_prefix("before ").unwrap().to_owned();
        assert!(written.is_some() || text.is_empty());
        written.map(|()| text)
    }

    #[test]
    fn a_truncated_address_is_its_24_or_48_bit_network() {
        for (list, expected) in [
            ("203.0.113.9", "203.0.113.0"),
            ("203.0.113.9:4711", "203.0.113.0"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
            ("[2001:db8:1:2::7]:4711", "2001:db8:1::"),
            ("[2001:db8:1:2::7]", "2001:db8:1::"),
            ("::ffff:203.0.113.9", "203.0.113.0"),
            ("::1", "::"),
            (" 203.0.113.9 ,10.1.2.3", "203.0.113.0, 10.1.2.0"),
        ] {
            let found = treated(list, AddressRule::Truncate);
            assert_eq!(found.as_deref(), Some(expected), "{list}");
        }
    }

    #[test]
    fn one_address_has_one_hash_however_it_is_written() {
        let hash = |text| treated(text, AddressRule::Hash).unwrap();
        let plain = hash("203.0.113.9");
        assert_eq!(plain.len(), "k1:".len() + 64);
        assert_eq!(hash("::ffff:203.0.113.9"), plain);
        assert_eq!(hash("203.0.113.9:4711"), plain);
        assert_eq!(
            hash("203.0.113.9, 203.0.113.9"),
            format!("{plain}, {plain}")
        );
        assert_ne!(hash("203.0.113.8"), plain);
        assert_eq!(hash("2001:DB8::1"), hash("2001:db8:0:0::1"));
    }

    #[test]
    fn what_is_no_address_is_not_stored() {
        for list in ["", "x", "203.0.113.9, x", "203.0.113.256", "203.0.113.9,"] {
            for rule in [AddressRule::Truncate, AddressRule::Hash, AddressRule::Drop] {
                assert_eq!(treated(list, rule), None, "{list} {rule:?}");
            }
        }
        assert_eq!(treated("203.0.113.9", AddressRule::Drop), None);
    }
}
