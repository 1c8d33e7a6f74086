//! Client families: which one a path belongs to, and how each is answered.
//!
//! One client family, one file, one `match` over the verdict without a wildcard: clients differ in
//! which events they throw away.

pub mod aws;
pub mod generic;
pub mod pixel;

use crate::error_code::ErrorCode;
use crate::http::{Answer, ErrorBody};
use crate::verdict;
use sluice_core::intake::ShedReason;
use sluice_core::reject::Reject;
use sluice_core::stats::EndpointLabel;
use sluice_sinks::settings;
use sluice_sinks::settings::{Given, Reader, text};

const PATH: &str = "`/` and up to 255 letters, digits or any of $&@%-_.~/";

settings! {
    /// Which paths are served. No two are the same.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Paths from (reader) {
        /// Clickstream bodies: one record per request. A prefix: paths below it belong to it. `off` is no such endpoint.
        collect: Option<String> = Some("/collect".to_owned()), text(PATH, is_path).or_off();
        /// JSON events: one record per event. `off` is no such endpoint.
        events: Option<String> = Some("/v1/events".to_owned()), text(PATH, is_path).or_off();
        /// One event in the query string, answered with an image. `off` is no such endpoint.
        pixel: Option<String> = Some("/i".to_owned()), text(PATH, is_path).or_off();
        /// The server's clock, for clients.
        ping: String = "/ping".to_owned(), text(PATH, is_path);
        /// Whether a load balancer should send requests here.
        health: String = "/health".to_owned(), text(PATH, is_path);
    }
}

impl Paths {
    /// Rules between settings.
    pub fn check(&self, reader: &mut Reader) {
        let all: Vec<(&str, &String)> = [
            ("paths.collect", self.collect.as_ref()),
            ("paths.events", self.events.as_ref()),
            ("paths.pixel", self.pixel.as_ref()),
            ("paths.ping", Some(&self.ping)),
            ("paths.health", Some(&self.health)),
        ]
        .into_iter()
        .filter_map(|(key, path)| Some((key, path?)))
        .collect();
        for (at, (key, path)) in all.iter().enumerate() {
            for (other_key, other) in &all[..at] {
                if path == other {
                    reader.contradiction(
                        Given::new(*key, path.as_str()),
                        "other than",
                        Given::new(*other_key, other.as_str()),
                        "a request can only go to one of them",
                    );
                }
            }
        }
    }
}

fn is_path(path: &str) -> bool {
    path.len() <= 256
        && path.starts_with('/')
        && path
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"$&@%-_.~/".contains(&byte))
}

/// The endpoint of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Clickstream bodies, one record per request: [`aws`].
    Collect,
    /// JSON events, one record per event: [`generic`].
    Events,
    /// Events in a query string, for pages without scripts: [`pixel`].
    Pixel,
    /// The server's clock.
    Ping,
    /// Readiness, for load balancers.
    Health,
}

impl Endpoint {
    /// Its name in metrics.
    #[must_use]
    pub const fn label(self) -> EndpointLabel {
        match self {
            Endpoint::Collect => EndpointLabel::Collect,
            Endpoint::Events => EndpointLabel::Events,
            Endpoint::Pixel => EndpointLabel::Pixel,
            Endpoint::Ping => EndpointLabel::Ping,
            Endpoint::Health => EndpointLabel::Health,
        }
    }
}

/// The endpoint of a path. The replaced tier matches `/collect` as a bare prefix, so
/// `/collect/x` is in use; `/collectX` is not an endpoint here.
#[must_use]
pub fn endpoint(paths: &Paths, path: &str) -> Option<Endpoint> {
    let (events, pixel) = (paths.events.as_deref(), paths.pixel.as_deref());
    let collect = paths.collect.as_deref();
    match path {
        path if Some(path) == collect => Some(Endpoint::Collect),
        path if Some(path) == events => Some(Endpoint::Events),
        path if Some(path) == pixel => Some(Endpoint::Pixel),
        path if path == paths.ping => Some(Endpoint::Ping),
        path if path == paths.health => Some(Endpoint::Health),
        path if collect.is_some_and(|collect| is_below(path, collect)) => Some(Endpoint::Collect),
        _ => None,
    }
}

/// Whether `path` is a whole segment below `prefix`, which may end with a slash itself.
fn is_below(path: &str, prefix: &str) -> bool {
    let rest = path.strip_prefix(prefix);
    rest.is_some_and(|rest| prefix.ends_with('/') || rest.starts_with('/'))
}

/// The error code of a refusal.
pub(crate) fn code(reject: &Reject) -> ErrorCode {
    use crate::error_code as code;
    match reject {
        Reject::BodyTooLarge { .. } => code::BODY_TOO_LARGE,
        Reject::RecordTooLarge { .. } => code::RECORD_TOO_LARGE,
        Reject::InflatedTooLarge { .. } => code::INFLATED_TOO_LARGE,
        Reject::RecordsTooLarge { .. } => code::RECORDS_TOO_LARGE,
        Reject::Broken { .. } => code::CONTENT_CODING_BROKEN,
        Reject::CodingOverhead { .. } => code::CONTENT_CODING_OVERHEAD,
        Reject::TooManyCodings { .. } => code::TOO_MANY_CODINGS,
        Reject::NotJson { .. } => code::NOT_JSON,
        Reject::NotUtf8 { .. } => code::NOT_UTF8,
        Reject::TooDeep { .. } => code::TOO_DEEP,
        Reject::NotAnObject { .. } => code::NOT_AN_OBJECT,
        Reject::TooManyEvents { .. } => code::TOO_MANY_EVENTS,
        Reject::NoEvents => code::NO_EVENTS,
        Reject::Schema { .. } => code::SCHEMA_VIOLATED,
    }
}

/// The error body of a refusal of the whole request.
pub(crate) fn refusal(reject: &Reject) -> Answer {
    let code = code(reject);
    let problem = ErrorBody {
        limit: reject.limit().map(|limit| limit as u64),
        actual: reject.actual().map(|actual| actual as u64),
        offset: reject.offset().map(|offset| offset as u64),
        ..ErrorBody::new(code, reject.to_string())
    };
    Answer::from(&problem)
}

/// 503 with Retry-After: the response to trouble here or at the destination, in every dialect. On it SDKs keep
/// the events; on 4xx they drop them.
pub(crate) fn retry_later(reason: ShedReason, after_s: u32) -> Answer {
    let problem = ErrorBody::new(verdict::code(reason), verdict::message(reason));
    Answer {
        retry_after_s: Some(after_s),
        ..Answer::from(&problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_core::schema::Violation;

    #[test]
    fn collect_matches_whole_segments_and_the_rest_exactly() {
        let paths = paths();
        let table = [
            ("/collect", Some(Endpoint::Collect)),
            ("/collect/", Some(Endpoint::Collect)),
            ("/collect/web/2", Some(Endpoint::Collect)),
            ("/collectX", None),
            ("/Collect", None),
            ("/v1/events", Some(Endpoint::Events)),
            ("/v1/events/", None),
            ("/i", Some(Endpoint::Pixel)),
            ("/i/", None),
            ("/ping", Some(Endpoint::Ping)),
            ("/health", Some(Endpoint::Health)),
            ("/", None),
            ("", None),
        ];
        for (path, endpoint) in table {
            assert_eq!(super::endpoint(&paths, path), endpoint, "{path}");
        }
    }

    fn paths() -> Paths {
        Paths {
            collect: Some("/collect".into()),
            events: Some("/v1/events".into()),
            pixel: Some("/i".into()),
            ping: "/ping".into(),
            health: "/health".into(),
        }
    }

    #[test]
    fn every_refusal_has_its_label_as_error_code() {
        let at = 0;
        let limit = 1;
        for reject in [
            Reject::BodyTooLarge {
                limit,
                actual: None,
            },
            Reject::RecordTooLarge { limit, actual: 2 },
            Reject::InflatedTooLarge { limit },
            Reject::Broken { coding: "gzip" },
            Reject::NotJson { at, what: "x" },
            Reject::NotUtf8 { at },
            Reject::TooDeep { limit, at },
            Reject::NotAnObject { at },
            Reject::TooManyEvents { limit, actual: 2 },
            Reject::NoEvents,
            Reject::Schema {
                schema: "clicks".into(),
                violation: Violation::new("type", ""),
            },
        ] {
            assert_eq!(code(&reject).name, reject.label());
        }
    }

    #[test]
    fn collect_with_a_trailing_slash_is_a_prefix() {
        let paths = Paths {
            collect: Some("/in/".into()),
            ..paths()
        };
        for (path, expected) in [
            ("/in/", Some(Endpoint::Collect)),
            ("/in/web", Some(Endpoint::Collect)),
            ("/in", None),
            ("/inx", None),
            ("/ping", Some(Endpoint::Ping)),
        ] {
            assert_eq!(endpoint(&paths, path), expected, "{path}");
        }
    }

    #[test]
    fn an_endpoint_that_is_off_leads_nowhere() {
        let paths = Paths {
            collect: None,
            events: None,
            pixel: None,
            ..paths()
        };
        assert_eq!(endpoint(&paths, "/v1/events"), None);
        assert_eq!(endpoint(&paths, "/i"), None);
        assert_eq!(endpoint(&paths, "/collect"), None);
        assert_eq!(endpoint(&paths, "/collect/web"), None);
        assert_eq!(endpoint(&paths, "off"), None);
    }
}
