//! Parameters of URLs: those of a request, and those of URLs that events quote.
//!
//! A URL is not taken apart by the standard's rules, for its readers do not agree on them: every name behind `?`, `#`,
//! `&` or `;` is compared, and the value of a name that is listed ends at the next `&`, or where the fragment begins.

use crate::request::decoded;
use memchr::memchr2;
use std::borrow::Cow;

/// Bytes of a parameter's name.
pub const PARAMETER_BYTES_MAX: usize = 256;

/// Stands for every name.
pub const EVERY_PARAMETER: &str = "*";

/// What is done with a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterAction {
    /// Name and value go.
    Drop,
    /// The value becomes [`MASK`](super::MASK).
    Mask,
    /// The value becomes its keyed hash.
    Hash,
    /// The value is an address.
    Address,
}

/// The parameters that are not stored as they were sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Parameters {
    rules: Vec<(Box<str>, ParameterAction)>,
    every: Option<ParameterAction>,
}

impl Parameters {
    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.every.is_none()
    }

    /// Adds a name, unless it is there already: false then.
    pub(super) fn add(&mut self, name: &str, action: ParameterAction) -> bool {
        if name == EVERY_PARAMETER {
            return self.every.replace(action).is_none();
        }
        if self.rules.iter().any(|(known, _)| **known == *name) {
            return false;
        }
        self.rules.push((name.into(), action));
        true
    }

    fn action(&self, name: &[u8]) -> Option<ParameterAction> {
        let name = decoded(name);
        let mut rules = self.rules.iter();
        let rule = rules.find(|(known, _)| known.as_bytes() == &*name);
        rule.map(|(_, action)| *action).or(self.every)
    }

    /// Appends the URL with its parameters treated: `write` appends the new value for a decoded one, or says that it
    /// is dropped. Values stay for which `keeps` holds. False, with nothing appended, where no name is listed.
    pub(super) fn treat(
        &self,
        url: &[u8],
        out: &mut Vec<u8>,
        keeps: impl Fn(ParameterAction) -> bool,
        mut write: impl FnMut(ParameterAction, &[u8], &mut Vec<u8>) -> bool,
    ) -> bool {
        let Some(mut at) = memchr2(b'?', b'#', url) else {
            return false;
        };
        let begin = out.len();
        out.extend_from_slice(&url[..at]);
        let (mut is_fragment, mut is_changed) = (false, false);
        // The `?` or `#` of a parameter that was dropped: the next one of its part takes it over.
        let mut opening = None;
        while at < url.len() {
            is_fragment |= url[at] == b'#';
            let separator = match (opening, url[at]) {
                (Some(opening), b'&' | b';') => opening,
                (_, own) => own,
            };
            let start = at + 1;
            let name_end = find(url, start, |byte| byte == b'=' || is_separator(byte));
            let name = &url[start..name_end];
            let pair_at = out.len();
            out.push(separator);
            let action = self.action(name);
            let is_kept = match action.filter(|action| !name.is_empty() && !keeps(*action)) {
                None => {
                    at = find(url, name_end, is_separator);
                    out.extend_from_slice(&url[start..at]);
                    true
                }
                Some(action) => {
                    is_changed = true;
                    at = find(url, name_end, |byte| {
                        byte == b'&' || (byte == b'#' && !is_fragment)
                    });
                    let value = url.get(name_end + 1..at).unwrap_or_default();
                    out.extend_from_slice(name);
                    out.push(b'=');
                    write(action, &text_of(value), out)
                }
            };
            opening = None;
            if !is_kept {
                out.truncate(pair_at);
                opening = matches!(separator, b'?' | b'#').then_some(separator);
            }
        }
        if !is_changed {
            out.truncate(begin);
        }
        is_changed
    }
}

/// A value as text.
fn text_of(value: &[u8]) -> Vec<u8> {
    let value = decoded(value);
    match String::from_utf8_lossy(&value) {
        Cow::Borrowed(_) => value.into_owned(),
        Cow::Owned(text) => text.into_bytes(),
    }
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'?' | b'#' | b'&' | b';')
}

/// The first byte from `at` on for which `is` holds, else the end.
fn find(text: &[u8], at: usize, is: impl Fn(u8) -> bool) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    rest.iter()
        .position(|byte| is(*byte))
        .map_or(text.len(), |len| at + len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn treated(url: &str, names: &[(&str, ParameterAction)]) -> Option<String> {
        let mut parameters = Parameters::default();
        for (name, action) in names {
            assert!(parameters.add(name, *action));
        }
        let mut out = Vec::new();
        let keeps = |_| false;
        let changed = parameters.treat(url.as_bytes(), &mut out, keeps, |action, value, out| {
            match action {
                ParameterAction::Drop => return false,
                ParameterAction::Mask => out.extend_from_slice(b"***"),
                _ => {
                    out.push(b'<');
                    out.extend_from_slice(value);
                    out.push(b'>');
                }
            }
            true
        });
        assert!(changed || out.is_empty());
        changed.then(|| String::from_utf8(out).unwrap())
    }

    fn dropped(url: &str) -> Option<String> {
        treated(url, &[("t", ParameterAction::Drop)])
    }

    #[test]
    fn a_dropped_parameter_leaves_a_valid_url() {
        for (url, expected) in [
            ("/p?t=1", "/p"),
            ("/p?t", "/p"),
            ("/p?t=1&a=2", "/p?a=2"),
            ("/p?a=2&t=1", "/p?a=2"),
            ("/p?a=2&t=1&b=3", "/p?a=2&b=3"),
            ("/p?t=1&t=2&a=3", "/p?a=3"),
            ("/p?t=1#top", "/p#top"),
            ("/p?a=2&t=1#top", "/p?a=2#top"),
            ("/p#t=1&b=2", "/p#b=2"),
            ("/p?t=1#t=2", "/p"),
            ("/p?t=1#t=2&a", "/p#a"),
            ("/p#/route?t=1&a=2", "/p#/route?a=2"),
            ("/p?a=1;t=2;b=3&c=4", "/p?a=1&c=4"),
            ("/p?t=a?b&c=4", "/p?c=4"),
            ("/p?t=1&&a=2", "/p?&a=2"),
            ("?t=1", ""),
        ] {
            assert_eq!(dropped(url).as_deref(), Some(expected), "{url}");
        }
    }

    #[test]
    fn a_url_without_a_listed_name_is_not_touched() {
        for url in [
            "",
            "/p",
            "/p?",
            "/p?tt=1",
            "/p?a=t",
            "/p?a=1&=t",
            "t=1",
            "/p#",
            "/t=1",
        ] {
            assert_eq!(dropped(url), None, "{url}");
        }
    }

    #[test]
    fn names_are_compared_percent_decoded() {
        let mask = |url| treated(url, &[("my key", ParameterAction::Mask)]);
        for url in ["/?my%20key=1", "/?my+key=1", "/?%6dy%20%6B%65y=1"] {
            assert!(mask(url).unwrap().ends_with("=***"), "{url}");
        }
        assert_eq!(mask("/?my%2520key=1"), None);
        assert_eq!(mask("/?My+key=1"), None);
    }

    #[test]
    fn a_value_is_treated_percent_decoded() {
        let url = treated("/?t=a%40b+c%ff&u=x", &[("t", ParameterAction::Hash)]);
        assert_eq!(url.as_deref(), Some("/?t=<a@b c\u{fffd}>&u=x"));
    }

    #[test]
    fn a_star_stands_for_every_other_name() {
        let rules = [
            ("*", ParameterAction::Drop),
            ("page", ParameterAction::Mask),
        ];
        let url = treated("/?a=1&page=2&b=3#c", &rules);
        assert_eq!(url.as_deref(), Some("/?page=***"));
        assert_eq!(treated("/plain", &rules), None);
    }
}
