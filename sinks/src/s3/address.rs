//! Where a bucket is: its name in front of the host, or in the path where a certificate or an emulator's resolver
//! would not know that name. The rules are those of the SDK, whose own resolver is the test's oracle.

use crate::aws::endpoint::{Endpoint, dns_suffix};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Endings of names of buckets that are called in ways of their own: directory buckets and those on Outposts.
const OTHER_KINDS: [&str; 3] = ["--x-s3", "--xa-s3", "--op-s3"];

/// What decides where a bucket is.
pub(super) struct Place<'a> {
    pub(super) bucket: &'a str,
    pub(super) path_style: bool,
    pub(super) endpoint: Endpoint<'a>,
}

impl Place<'_> {
    /// The URL that the bucket's keys follow after a `/`.
    ///
    /// # Errors
    /// The settings contradict each other, or the bucket is of a kind that cannot be written to.
    pub(super) fn url(&self) -> Result<String, String> {
        let Place { bucket, .. } = *self;
        if OTHER_KINDS.iter().any(|ending| bucket.ends_with(ending)) {
            return Err(format!(
                "bucket {bucket:?}: directory buckets and buckets on Outposts are not supported"
            ));
        }
        match self.endpoint.given()? {
            Some(given) => self.at_endpoint(given.trim_end_matches('/')),
            None => self.in_region(),
        }
    }

    fn at_endpoint(&self, endpoint: &str) -> Result<String, String> {
        let Place { bucket, .. } = self;
        let (scheme, rest) = endpoint
            .split_once("://")
            .ok_or_else(|| format!("endpoint {endpoint:?}: it has no scheme"))?;
        let authority = rest.split('/').next().unwrap_or_default();
        // A certificate for `*.host` is not one for `a.b.host`.
        let is_name = is_host_name(bucket, scheme == "http");
        Ok(match self.path_style || is_address(authority) || !is_name {
            true => format!("{endpoint}/{bucket}"),
            false => format!("{scheme}://{bucket}.{rest}"),
        })
    }

    fn in_region(&self) -> Result<String, String> {
        let Place { bucket, .. } = self;
        let Endpoint {
            region,
            fips,
            dual_stack,
            ..
        } = self.endpoint;
        if fips && region.starts_with("cn-") {
            return Err(format!("region {region:?}: it has no FIPS endpoints"));
        }
        let suffix = dns_suffix(region);
        let service = match fips {
            true => "s3-fips",
            false => "s3",
        };
        let stack = match dual_stack {
            true => ".dualstack",
            false => "",
        };
        let host = format!("{service}{stack}.{region}.{suffix}");
        Ok(match self.path_style || !is_host_name(bucket, false) {
            true => format!("https://{host}/{bucket}"),
            false => format!("https://{bucket}.{host}"),
        })
    }
}

/// Whether a bucket's name can stand in front of a host; with `dots` it may be several labels.
fn is_host_name(bucket: &str, dots: bool) -> bool {
    let is_edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        (3..=63).contains(&bytes.len())
            && bytes.iter().all(|byte| is_edge(*byte) || *byte == b'-')
            && bytes.first().is_some_and(|byte| is_edge(*byte))
            && bytes.last().is_some_and(|byte| is_edge(*byte))
    };
    match dots {
        true => bucket.split('.').all(is_label),
        false => is_label(bucket),
    }
}

/// Whether a URL's authority is an address of IP, in front of which no name can stand.
fn is_address(authority: &str) -> bool {
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    if let Some(bracketed) = host.strip_prefix('[') {
        let address = bracketed.split(']').next().unwrap_or_default();
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let host = host.split(':').next().unwrap_or_default();
    host.parse::<Ipv4Addr>().is_ok()
}

/// A key as it stands in a URL, and in what is signed.
pub(super) fn encoded(key: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = String::with_capacity(key.len() + 16);
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                text.push(char::from(byte));
            }
            _ => {
                text.push('%');
                text.push(char::from(DIGITS[usize::from(byte >> 4)]));
                text.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::endpoint::REGIONS;
    use aws_sdk_s3::config::endpoint::{DefaultResolver, Params, ResolveEndpoint as _};

    const BUCKETS: [&str; 9] = [
        "clicks",
        "clicks-raw.example.com",
        "a.b",
        "Clicks",
        "under_score",
        "-ends-",
        "1.2.3.4",
        "clicks-1a2b3c4d5e6f7g8h9i-s3alias",
        "a123456789012345678901234567890123456789012345678901234567890123",
    ];
    const ENDPOINTS: [Option<&str>; 9] = [
        None,
        Some("http://127.0.0.1:9000"),
        Some("http://[::1]:9000"),
        Some("https://10.1.2.3"),
        Some("http://localhost:9000/"),
        Some("http://minio.example:9000"),
        Some("https://minio.example"),
        Some("https://minio.example/under/a/path/"),
        Some("https://bucket.vpce-1a2b3c4d-5e6f.s3.us-east-1.vpce.amazonaws.com"),
    ];

    fn is_at_address(endpoint: &str) -> bool {
        is_address(endpoint.split('/').nth(2).unwrap())
    }

    fn expected_at_address(place: &Place<'_>) -> Option<String> {
        let Endpoint {
            given,
            fips,
            dual_stack,
            ..
        } = place.endpoint;
        (!fips && !dual_stack).then(|| format!("{}/{}", given.unwrap(), place.bucket))
    }

    async fn by_the_sdk(place: &Place<'_>) -> Option<String> {
        let params = Params::builder()
            .bucket(place.bucket)
            .region(place.endpoint.region)
            .set_endpoint(place.endpoint.given.map(str::to_owned))
            .force_path_style(place.path_style)
            .use_fips(place.endpoint.fips)
            .use_dual_stack(place.endpoint.dual_stack)
            .build()
            .unwrap();
        let found = DefaultResolver::new().resolve_endpoint(&params).await;
        Some(found.ok()?.url().trim_end_matches('/').to_owned())
    }

    #[tokio::test]
    async fn a_bucket_is_where_the_sdk_finds_it() {
        let mut wrong = Vec::new();
        for endpoint in ENDPOINTS {
            for bucket in BUCKETS {
                for region in REGIONS {
                    for flags in 0..8 {
                        let place = Place {
                            bucket,
                            path_style: flags & 1 != 0,
                            endpoint: Endpoint {
                                region,
                                given: endpoint,
                                fips: flags & 2 != 0,
                                dual_stack: flags & 4 != 0,
                            },
                        };
                        let (ours, sdks) = (place.url(), by_the_sdk(&place).await);
                        // The SDK puts a name with dots in front of an address as well, where nobody finds it.
                        if bucket.contains('.') && endpoint.is_some_and(is_at_address) {
                            assert_eq!(ours.ok(), expected_at_address(&place));
                            continue;
                        }
                        if ours.as_ref().ok() != sdks.as_ref() {
                            wrong.push(format!(
                                "{endpoint:?} {bucket} {region} {flags}: {ours:?} {sdks:?}"
                            ));
                        }
                    }
                }
            }
        }
        assert_eq!(wrong, [""; 0]);
    }

    #[test]
    fn buckets_of_other_kinds_are_refused_by_name() {
        for bucket in ["clicks--use1-az4--x-s3", "a--xa-s3", "a--op-s3"] {
            let place = Place {
                bucket,
                path_style: false,
                endpoint: Endpoint {
                    region: "us-east-1",
                    given: None,
                    fips: false,
                    dual_stack: false,
                },
            };
            assert!(place.url().unwrap_err().contains(bucket));
        }
    }

    #[test]
    fn a_key_is_encoded_but_for_its_slashes() {
        assert_eq!(
            encoded("a/year=2026//~b.c_d-e%20+:\"?#"),
            "a/year%3D2026//~b.c_d-e%2520%2B%3A%22%3F%23"
        );
    }
}
