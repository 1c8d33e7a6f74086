//! Cross-origin requests: which pages may read responses, and the headers that tell a browser so (Fetch
//! standard, section "CORS protocol"). Reads the `Origin` header only and refuses no request: a browser whose
//! page may not read a response has still sent its event, and other clients send no Origin.

use super::h1::decimal;
use sluice_sinks::settings;
use sluice_sinks::settings::{list, seconds};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Bytes of one origin, in a pattern or in a request: a host name has 253 (RFC 1035), scheme and port
/// beside it.
pub const ORIGIN_BYTES_MAX: usize = 300;

/// Request headers that SDKs send and that need permission; the list of the replaced tier.
const ALLOWED_HEADERS: &[u8] = b"Authorization,Cache-Control,Content-Encoding,Content-Type,DNT,\
    If-Modified-Since,Keep-Alive,User-Agent,X-CustomHeader,X-Requested-With";
const ALLOWED_METHODS: &[u8] = b"GET, POST, OPTIONS";
/// Response headers that a script may read.
const EXPOSED_HEADERS: &[u8] = b"Retry-After, X-Request-ID";

/// Patterns of origins at most: each is compared with the Origin of each request.
pub const ORIGINS_MAX: usize = 256;

settings! {
    /// Whose pages may read responses.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct CorsSettings from (reader) {
        /// Origins whose pages may read responses; nobody's when empty.
        origins: Vec<OriginPattern> = Vec::new(),
            list("origins", ORIGINS_MAX, "origins such as https://*.example.com, or *");
        /// How long a browser may remember the response to a preflight. Browsers cap it: Chromium at two
        /// hours, Firefox at a day.
        max_age as "max_age_s": Duration = Duration::from_secs(7_200), seconds(0, 86_400);
    }
}

/// Origins of one kind: `https://shop.example.com`, `https://*.example.com`, `*.example.com:*`, `*`.
///
/// A `*` stands for a whole label of the host; as the first label for one or more. Without a scheme
/// `http` and `https` are meant, without a port only the scheme's own, `:*` is any port. `*` alone is
/// every origin. Nothing matches the origin `null`, which any page can take on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern {
    text: String,
    scheme: Option<String>,
    /// `None` is every host.
    host: Option<Vec<String>>,
    port: Port,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    Any,
    /// `None` is the scheme's own.
    One(Option<u16>),
}

/// Why a text is no pattern of origins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginPatternError {
    /// It is too long.
    #[error("an origin has {ORIGIN_BYTES_MAX} bytes at most, not {0}")]
    Length(usize),
    /// It does not consist of scheme, host and port.
    #[error("`{0}` is no origin: expected [scheme://]host[:port], without path, user or spaces")]
    Form(String),
    /// A wildcard is only a part of a label.
    #[error("`{0}`: a * stands for a whole label, as in https://*.example.com")]
    PartOfLabel(String),
    /// A wildcard takes the place of the last label.
    #[error("`{0}`: the last label of a host cannot be *; every origin is `*` alone")]
    LastLabel(String),
}

/// An origin, or a pattern, in its three parts.
struct Parts<'a> {
    scheme: Option<&'a str>,
    host: &'a str,
    port: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Option<Parts<'a>> {
        let (scheme, authority) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if scheme.is_some_and(|scheme| scheme.is_empty() || !scheme.bytes().all(plain)) {
            return None;
        }
        let (host, port) = match authority.strip_prefix('[') {
            // An IPv6 address has colons of its own.
            Some(_) => {
                let end = authority.find(']')? + 1;
                let (host, rest) = authority.split_at(end);
                match rest.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if rest.is_empty() => (host, None),
                    None => return None,
                }
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        Some(Parts { scheme, host, port })
    }
}

fn is_ipv6(host: &str) -> bool {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
}

fn is_label(label: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    !label.is_empty() && label.bytes().all(plain)
}

fn port_of(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// The port that a browser leaves out.
fn own_port(scheme: &str) -> Option<u16> {
    match scheme {
        _ if scheme.eq_ignore_ascii_case("http") => Some(80),
        _ if scheme.eq_ignore_ascii_case("https") => Some(443),
        _ => None,
    }
}

impl FromStr for OriginPattern {
    type Err = OriginPatternError;

    fn from_str(text: &str) -> Result<OriginPattern, OriginPatternError> {
        if text.len() > ORIGIN_BYTES_MAX {
            return Err(OriginPatternError::Length(text.len()));
        }
        if text == "*" {
            return Ok(OriginPattern {
                text: text.to_owned(),
                scheme: None,
                host: None,
                port: Port::Any,
            });
        }
        let form = || OriginPatternError::Form(text.to_owned());
        let parts = Parts::of(text).ok_or_else(form)?;
        let port = match parts.port {
            None => Port::One(None),
            Some("*") => Port::Any,
            Some(port) => Port::One(Some(port_of(port).ok_or_else(form)?)),
        };
        let host = if is_ipv6(parts.host) {
            vec![parts.host.to_owned()]
        } else {
            let labels: Vec<String> = parts.host.split('.').map(str::to_owned).collect();
            for label in labels.iter().filter(|label| *label != "*") {
                if label.contains('*') {
                    return Err(OriginPatternError::PartOfLabel(text.to_owned()));
                }
                if !is_label(label) {
                    return Err(form());
                }
            }
            if labels.last().is_some_and(|label| label == "*") {
                return Err(OriginPatternError::LastLabel(text.to_owned()));
            }
            labels
        };
        Ok(OriginPattern {
            text: text.to_owned(),
            scheme: parts.scheme.map(str::to_owned),
            host: Some(host),
            port,
        })
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A valid origin of a request, taken apart once for all patterns.
struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    is_ipv6: bool,
    /// The port, also where it is the scheme's own and therefore not named.
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    /// `None` for `null`, and for what is no origin at all.
    fn of(text: &'a str) -> Option<Origin<'a>> {
        if text.len() > ORIGIN_BYTES_MAX {
            return None;
        }
        let Parts { scheme, host, port } = Parts::of(text)?;
        let scheme = scheme?;
        let port = match port {
            None => own_port(scheme),
            Some(port) => Some(port_of(port)?),
        };
        let is_ipv6 = is_ipv6(host);
        (is_ipv6 || host.split('.').all(is_label)).then_some(Origin {
            scheme,
            host,
            is_ipv6,
            port,
        })
    }
}

impl OriginPattern {
    /// Whether this is one of its origins. Case does not count, everything else does.
    fn fits(&self, origin: &Origin<'_>) -> bool {
        let scheme_fits = match &self.scheme {
            Some(expected) => origin.scheme.eq_ignore_ascii_case(expected),
            None => self.host.is_none() || own_port(origin.scheme).is_some(),
        };
        let port_fits = match self.port {
            Port::Any => true,
            Port::One(None) => origin.port == own_port(origin.scheme),
            Port::One(expected) => origin.port == expected,
        };
        scheme_fits && port_fits && self.fits_host(origin)
    }

    fn fits_host(&self, origin: &Origin<'_>) -> bool {
        let Some(expected) = &self.host else {
            return true;
        };
        if origin.is_ipv6 {
            return matches!(&expected[..], [one] if one.eq_ignore_ascii_case(origin.host));
        }
        let fits = |label: &str, expected: &String| {
            expected == "*" || label.eq_ignore_ascii_case(expected)
        };
        // From the end, since what a leading `*` takes is open.
        let mut labels = origin.host.split('.').rev();
        let mut left = expected.iter().rev();
        loop {
            match (labels.next(), left.next()) {
                (Some(label), Some(expected)) if fits(label, expected) => {
                    if left.len() == 0 && expected == "*" {
                        return true;
                    }
                }
                (None, None) => return true,
                _ => return false,
            }
        }
    }
}

/// Which pages may read responses. Without origins it is off, and responses have no CORS headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsPolicy {
    origins: Vec<OriginPattern>,
    max_age_s: u64,
}

/// The CORS headers of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// The request's origin, if its pages may: a copy, for the response may be made long after the request.
    origin: Option<Box<str>>,
    /// For a preflight: how many seconds the browser may remember the response.
    max_age_s: Option<u64>,
}

impl CorsPolicy {
    /// `max_age`: for how long a browser may remember the answer to a preflight, in whole seconds;
    /// browsers cap it (Chromium at two hours).
    #[must_use]
    pub fn new(origins: Vec<OriginPattern>, max_age: Duration) -> CorsPolicy {
        CorsPolicy {
            origins,
            max_age_s: max_age.as_secs(),
        }
    }

    /// The CORS headers of the response to a request; `None` when the policy is off. `origin` is the request's only
    /// Origin header: of two, neither can be trusted.
    #[must_use]
    pub fn evaluate(&self, origin: Option<&[u8]>, is_preflight: bool) -> Option<Cors> {
        if self.origins.is_empty() {
            return None;
        }
        let origin = origin.and_then(|origin| std::str::from_utf8(origin).ok());
        let origin = origin.filter(|origin| {
            let origin = Origin::of(origin);
            origin.is_some_and(|origin| self.origins.iter().any(|pattern| pattern.fits(&origin)))
        });
        Some(Cors {
            max_age_s: (is_preflight && origin.is_some()).then_some(self.max_age_s),
            origin: origin.map(Box::from),
        })
    }
}

impl Cors {
    /// Gives `add` the headers of the answer, names in lower case. `Vary` is there whatever the request's origin was:
    /// a cache must not give one page's permission to another.
    pub(super) fn headers(&self, add: &mut impl FnMut(&'static str, &[u8])) {
        add("vary", b"Origin");
        let Some(origin) = &self.origin else {
            return;
        };
        add("access-control-allow-origin", origin.as_bytes());
        add("access-control-allow-credentials", b"true");
        match self.max_age_s {
            Some(max_age_s) => {
                add("access-control-allow-methods", ALLOWED_METHODS);
                add("access-control-allow-headers", ALLOWED_HEADERS);
                add("access-control-max-age", decimal(max_age_s, &mut [0; 20]));
            }
            None => add("access-control-expose-headers", EXPOSED_HEADERS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn pattern(text: &str) -> OriginPattern {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn origin_patterns_match_no_lookalikes() {
        for (text, yes, no) in [
            (
                "https://example.com",
                &[
                    "https://example.com",
                    "https://EXAMPLE.com",
                    "HTTPS://example.com",
                    "https://example.com:443",
                ][..],
                &[
                    "https://example.com.evil.org",
                    "https://evilexample.com",
                    "https://example.com@evil.org",
                    "https://user@example.com",
                    "https://user:1@example.com",
                    "https://www.example.com",
                    "http://example.com",
                    "https://example.com:8443",
                    "https://example.com:",
                    "https://example.com:443:443",
                    "https://example.com/",
                    "https://example.com#",
                    "https://example.com?",
                    "https://example.com\\.evil.org",
                    "https://example.com.",
                    "https://.example.com",
                    "https://example.com evil.org",
                    "https://exampleXcom",
                    "example.com",
                    "null",
                    "",
                    "://example.com",
                    "https://",
                ][..],
            ),
            (
                "https://*.example.com",
                &[
                    "https://a.example.com",
                    "https://a.b.example.com",
                    "https://A.Example.Com",
                ],
                &[
                    "https://example.com",
                    "https://.example.com",
                    "https://a..example.com",
                    "https://aexample.com",
                    "https://a.example.com.evil.org",
                    "https://evil.org?.example.com",
                    "https://evil.org/.example.com",
                    "https://evil.org:1@a.example.com",
                    "https://%2e.example.com",
                    "http://a.example.com",
                ],
            ),
            (
                "https://shop.*.example.com",
                &["https://shop.de.example.com"],
                &[
                    "https://shop.example.com",
                    "https://shop.a.b.example.com",
                    "https://x.shop.de.example.com",
                ],
            ),
            (
                "example.com",
                &[
                    "https://example.com",
                    "http://example.com",
                    "http://example.com:80",
                ],
                &[
                    "ftp://example.com",
                    "https://example.com:80",
                    "capacitor://example.com",
                ],
            ),
            (
                "localhost:*",
                &[
                    "http://localhost",
                    "http://localhost:3000",
                    "https://localhost:65535",
                ],
                &[
                    "http://localhost:65536",
                    "http://localhost:*",
                    "http://localhost.evil.org:3000",
                ],
            ),
            (
                "http://127.0.0.1:8080",
                &["http://127.0.0.1:8080"],
                &["http://127.0.0.1", "http://127.0.0.18080"],
            ),
            (
                "http://[::1]:8080",
                &["http://[::1]:8080"],
                &["http://[::1]", "http://[::2]:8080", "http://[::1]8080"],
            ),
            (
                "capacitor://localhost",
                &["capacitor://localhost"],
                &["http://localhost", "capacitor://localhost:1"],
            ),
            (
                "*",
                &[
                    "https://example.com",
                    "http://localhost:1",
                    "http://[::1]",
                    "capacitor://localhost",
                ],
                &[
                    "null",
                    "",
                    "https://a b",
                    "https://user@example.com",
                    "https://a/",
                ],
            ),
        ] {
            let matches =
                |origin| Origin::of(origin).is_some_and(|origin| pattern(text).fits(&origin));
            for origin in yes {
                assert!(matches(origin), "{text} should match {origin}");
            }
            for origin in no {
                assert!(!matches(origin), "{text} must not match {origin}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_the_reason() {
        let refused = |text: &str| text.parse::<OriginPattern>().unwrap_err();
        for text in [
            "",
            "https://",
            "https://a/",
            "https://a b",
            "https://u@a",
            "a:x",
            "a:65536",
            "a..b",
            ".a",
            "://a",
            "https://a:1:2",
            "[::1",
            "[::g]",
            "ex\u{e4}mple.com",
        ] {
            assert_eq!(
                refused(text),
                OriginPatternError::Form(text.to_owned()),
                "{text}"
            );
        }
        for text in [
            "https://app-*.example.com",
            "https://**.example.com",
            "a*.b",
        ] {
            assert_eq!(
                refused(text),
                OriginPatternError::PartOfLabel(text.to_owned())
            );
        }
        for text in ["https://*", "https://example.*", "*:*"] {
            assert_eq!(
                refused(text),
                OriginPatternError::LastLabel(text.to_owned())
            );
        }
        let long = "a".repeat(ORIGIN_BYTES_MAX + 1);
        assert_eq!(
            refused(&long),
            OriginPatternError::Length(ORIGIN_BYTES_MAX + 1)
        );
        assert!(Origin::of(&format!("https://{long}")).is_none());
    }

    fn written(
        origins: &[&str],
        sent: Option<&str>,
        is_preflight: bool,
    ) -> Option<HashMap<&'static str, String>> {
        let origins = origins.iter().map(|text| pattern(text)).collect();
        let policy = CorsPolicy::new(origins, Duration::from_secs(7_200));
        let cors = policy.evaluate(sent.map(str::as_bytes), is_preflight)?;
        let mut headers = HashMap::new();
        cors.headers(&mut |name, value| {
            let value = String::from_utf8(value.to_vec()).unwrap();
            assert!(headers.insert(name, value).is_none());
        });
        Some(headers)
    }

    #[test]
    fn without_origins_there_is_no_word_of_it() {
        assert_eq!(written(&[], Some("https://a.example"), true), None);
    }

    #[test]
    fn an_origin_that_may_is_echoed_with_credentials() {
        let headers = written(&["https://a.example"], Some("https://a.example"), false).unwrap();
        assert_eq!(headers["access-control-allow-origin"], "https://a.example");
        assert_eq!(headers["access-control-allow-credentials"], "true");
        assert_eq!(headers["vary"], "Origin");
        assert!(!headers.contains_key("access-control-max-age"));

        let headers = written(&["*"], Some("https://a.example"), true).unwrap();
        assert_eq!(headers["access-control-allow-origin"], "https://a.example");
        assert_eq!(headers["access-control-max-age"], "7200");
        assert_eq!(
            headers["access-control-allow-methods"],
            "GET, POST, OPTIONS"
        );
        let allowed = &headers["access-control-allow-headers"];
        for name in ["Content-Type", "User-Agent", "X-Requested-With"] {
            assert!(allowed.split(',').any(|allowed| allowed == name), "{name}");
        }
    }

    #[test]
    fn a_denied_or_missing_origin_gets_vary_alone() {
        for sent in [
            Some("https://b.example"),
            Some("https://a.example, https://a.example"),
            Some("null"),
            None,
        ] {
            let headers = written(&["https://a.example"], sent, true).unwrap();
            assert_eq!(headers.len(), 1, "{sent:?}: {headers:?}");
            assert_eq!(headers["vary"], "Origin");
        }
    }
}
