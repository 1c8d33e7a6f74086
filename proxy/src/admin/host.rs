//! Which names the admin port answers to.
//!
//! A page on the internet can make a browser request any address under the page's own name (DNS
//! rebinding), and then read the answer. Host carries that name, so names that anybody can register
//! are refused unless the operator lists them.

use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::{Request, StatusCode, Version};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Last labels that no public name has (RFC 6761, RFC 6762, RFC 8375 and ICANN's `internal`).
const PRIVATE_SUFFIXES: [&str; 4] = [".localhost", ".local", ".internal", ".home.arpa"];

/// Accepted names, in addition to addresses and private names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPolicy {
    names: Vec<String>,
}

/// Why a Host is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostRefusal {
    /// None, more than one, or no host at all.
    Malformed,
    /// A public name that is not listed.
    Unknown,
}

impl HostRefusal {
    pub(super) fn status(self) -> StatusCode {
        match self {
            HostRefusal::Malformed => StatusCode::BAD_REQUEST,
            HostRefusal::Unknown => StatusCode::MISDIRECTED_REQUEST,
        }
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            HostRefusal::Malformed => "exactly one valid Host is required\n",
            HostRefusal::Unknown => "this Host is not in admin.hosts\n",
        }
    }
}

impl HostPolicy {
    /// `names` are compared without regard to case, without a port.
    #[must_use]
    pub fn new(names: &[String]) -> HostPolicy {
        HostPolicy {
            names: names.iter().map(|name| name.to_ascii_lowercase()).collect(),
        }
    }

    pub(super) fn check(&self, request: &Request<Incoming>) -> Result<(), HostRefusal> {
        let mut lines = request.headers().get_all(HOST).iter();
        match (lines.next(), lines.next()) {
            (Some(host), None) => self.check_host(host.to_str().unwrap_or_default()),
            // HTTP/1.0 has no Host; browsers do not speak it.
            (None, None) if request.version() == Version::HTTP_10 => Ok(()),
            _ => Err(HostRefusal::Malformed),
        }
    }

    fn check_host(&self, host: &str) -> Result<(), HostRefusal> {
        if let Some(rest) = host.strip_prefix('[') {
            let valid = rest.split_once(']').is_some_and(|(address, port)| {
                address.parse::<Ipv6Addr>().is_ok() && is_port(port)
            });
            return valid.then_some(()).ok_or(HostRefusal::Malformed);
        }
        let at = host.find(':').unwrap_or(host.len());
        let (name, port) = host.split_at(at);
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_name) || !is_port(port) {
            return Err(HostRefusal::Malformed);
        }
        let is_private = !name.contains('.')
            || name.parse::<Ipv4Addr>().is_ok()
            || PRIVATE_SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
        if is_private || self.names.contains(&name) {
            return Ok(());
        }
        Err(HostRefusal::Unknown)
    }
}

/// Nothing, or a colon and digits.
fn is_port(text: &str) -> bool {
    text.strip_prefix(':').map_or(text.is_empty(), |digits| {
        digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_private_names_pass_and_public_names_need_listing() {
        let policy = HostPolicy::new(&["Metrics.Example.com".to_owned()]);
        let unknown = Err(HostRefusal::Unknown);
        let malformed = Err(HostRefusal::Malformed);
        for (host, expected) in [
            ("127.0.0.1:9090", Ok(())),
            ("10.1.2.3", Ok(())),
            ("[::1]:9090", Ok(())),
            ("localhost", Ok(())),
            ("sluice:9090", Ok(())),
            ("ip-10-0-0-1.eu-west-1.compute.internal", Ok(())),
            ("sluice.events.svc.cluster.local:9090", Ok(())),
            ("metrics.example.com:9090", Ok(())),
            ("METRICS.example.com.", Ok(())),
            ("evil.example", unknown),
            ("evil.example:9090", unknown),
            ("127.0.0.1.evil.example", unknown),
            ("xlocalhost.example", unknown),
            ("", malformed),
            (":9090", malformed),
            ("[::1", malformed),
            ("[evil.example]", malformed),
            ("a b", malformed),
            ("user@localhost", malformed),
            ("localhost:port", malformed),
        ] {
            assert_eq!(policy.check_host(host), expected, "{host}");
        }
    }
}
