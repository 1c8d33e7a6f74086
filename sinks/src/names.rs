//! Outputs with several places of one kind, streams, queues, prefixes or directories: the list of their names, from
//! which a rule's `topic` chooses for each event. Each place becomes an output of its own.

use crate::output::SinkConfig;
use sluice_core::route::OUTPUTS_MAX;
use sluice_core::topic::NAME_BYTES_MAX;
use std::sync::Arc;

/// Names that one output may list: all outputs together are bounded.
pub const NAMES_MAX: usize = OUTPUTS_MAX - 1;

/// The places of an output.
#[derive(Debug)]
pub struct Names {
    /// The setting that lists them.
    pub key: &'static str,
    /// The word for one of them.
    pub term: &'static str,
    /// The name of the output's own place.
    pub own: String,
    /// The further ones: their names, and the settings of their sinks.
    pub others: Vec<(String, Arc<dyn SinkConfig>)>,
}

impl Names {
    /// The names of a setting, each with the sink that `make` makes for it; `None` if it lists none.
    pub(crate) fn of<S: SinkConfig + 'static>(
        (key, term): (&'static str, &'static str),
        own: &str,
        list: &[String],
        make: impl Fn(&str) -> S,
    ) -> Option<Names> {
        let sink = |name: &String| (name.clone(), Arc::new(make(name)) as Arc<dyn SinkConfig>);
        (!list.is_empty()).then(|| Names {
            key,
            term,
            own: own.to_owned(),
            others: list.iter().map(sink).collect(),
        })
    }
}

/// Whether a list may have this name; longer ones no template makes.
pub(crate) fn is_listed(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
}

/// What stands for a name in metrics, and as the last part of directories: the same with dots for all but ASCII letters,
/// digits and any of `_-=`.
#[must_use]
pub fn label(name: &str) -> String {
    let is_kept = |c: char| c.is_ascii_alphanumeric() || "_-=".contains(c);
    let label: String = name
        .chars()
        .map(|c| if is_kept(c) { c } else { '.' })
        .collect();
    label.trim_matches('.').to_owned()
}

/// The last part of a path: of an ARN, a URL, or of a plain name all of it.
pub(crate) fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// The same path with another last part.
pub(crate) fn beside(path: &str, name: &str) -> String {
    let parent = path.len() - last_part(path).len();
    format!("{}{name}", &path[..parent])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_safe_as_one_part_of_a_path() {
        for (name, expected) in [
            ("clicks-a_1.fifo", "clicks-a_1.fifo"),
            ("clicks/type=buy/", "clicks.type=buy"),
            ("../../etc", "etc"),
            ("/var/é\"\n\0", "var"),
            ("..", ""),
        ] {
            assert_eq!(label(name), expected);
        }
    }

    #[test]
    fn a_listed_place_lies_beside_the_own_one() {
        for (path, expected) in [
            ("clicks", "b"),
            (
                "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks",
                "arn:aws:kinesis:eu-west-1:123456789012:stream/b",
            ),
            ("https://sqs.example/1/clicks", "https://sqs.example/1/b"),
        ] {
            assert_eq!(beside(path, "b"), expected);
        }
    }
}
