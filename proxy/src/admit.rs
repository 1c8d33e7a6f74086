//! Admission by host and application, as by a load balancer's rules. Checks a request's head and returns the
//! refusal; does not send it.

use crate::error_code;
use crate::http::{ErrorBody, Head};
use sluice_core::request::host_name;
use sluice_sinks::settings;
use sluice_sinks::settings::{list, texts};
use std::collections::HashSet;

/// Applications at most.
pub const APP_IDS_MAX: usize = 10_000;

/// Hosts at most.
pub const HOSTS_MAX: usize = 1_000;

settings! {
    /// Who may send events. Empty lists admit everybody.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct AdmitSettings from (reader) {
        /// Values of the query parameter `appId` that may send events.
        app_ids: Vec<String> = Vec::new(), list("applications", APP_IDS_MAX, "values of appId");
        /// Hosts, without port, that requests may name.
        hosts: Vec<String> = Vec::new(),
            texts("hosts", HOSTS_MAX, "a host name or address without port", is_host);
    }
}

/// Whether a Host header can hold the text in front of its port.
pub(crate) fn is_host(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    (1..=255).contains(&text.len()) && text.bytes().all(is_plain)
}

/// The hosts and applications that may send. Empty lists admit everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admit {
    app_ids: HashSet<Vec<u8>>,
    /// In lower case.
    hosts: HashSet<Vec<u8>>,
}

impl Admit {
    /// `app_ids` are compared with the query parameter `appId` byte by byte, `hosts` with Host without
    /// its port, ignoring case. An empty list admits everybody.
    #[must_use]
    pub fn new(app_ids: &[String], hosts: &[String]) -> Admit {
        let lower = |host: &String| host.to_ascii_lowercase().into_bytes();
        Admit {
            app_ids: app_ids.iter().map(|id| id.clone().into_bytes()).collect(),
            hosts: hosts.iter().map(lower).collect(),
        }
    }

    /// The refusal of a request whose Host is not listed.
    #[must_use]
    pub fn refuse_host(&self, head: &Head<'_>) -> Option<ErrorBody> {
        if self.hosts.is_empty() {
            return None;
        }
        let host = host_name(head.host().unwrap_or_default());
        (!self.hosts.contains(&*host))
            .then(|| ErrorBody::new(error_code::HOST_UNKNOWN, "this host is not served here"))
    }

    /// The refusal of a request whose application is not listed.
    #[must_use]
    pub fn refuse_app(&self, app_id: Option<&[u8]>) -> Option<ErrorBody> {
        if self.app_ids.is_empty() || app_id.is_some_and(|id| self.app_ids.contains(id)) {
            return None;
        }
        Some(ErrorBody::new(
            error_code::APP_UNKNOWN,
            "appId is none of those that may send here",
        ))
    }

    /// Whether there is a list of applications.
    #[must_use]
    pub fn asks_for_app(&self) -> bool {
        !self.app_ids.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_ids_match_exactly_and_an_empty_list_admits_all() {
        let refused = |ids: &[&str], id: Option<&[u8]>| {
            let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
            Admit::new(&ids, &[])
                .refuse_app(id)
                .map(|problem| problem.code)
        };
        assert_eq!(refused(&[], None), None);
        assert_eq!(refused(&["shop", "app"], Some(b"app")), None);
        for id in [
            None,
            Some(&b""[..]),
            Some(b"App"),
            Some(b"shop,app"),
            Some(b"app "),
        ] {
            assert_eq!(refused(&["shop", "app"], id), Some("app_unknown"), "{id:?}");
        }
    }
}
