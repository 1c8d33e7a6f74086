//! Which sections and keys there are, and which of them a misspelt one may mean.

use super::groups::Group;
use super::{LISTENER_GROUPS, SCHEMA_GROUPS, SECTIONS, Section};
use crate::listeners;
use crate::routing::trial::{TESTS, TestSettings};
use crate::routing::{ROUTES, RouteSettings};
use crate::schemas;
use sluice_sinks::TYPES;
use sluice_sinks::output::{OutputType, TYPE_SETTING};
use sluice_sinks::spool::{SECTION as SPOOL, SpoolSettings};
use std::fmt;

/// The section of the outputs' sections.
pub(super) const OUTPUTS: &str = "outputs";

/// The section of the listeners' sections.
pub(super) const LISTENERS: &str = listeners::SECTION;

/// The section of the schemas' sections.
pub(super) const SCHEMAS: &str = schemas::SECTION;

/// Sections of sections.
pub(super) const NAMED: [&str; 3] = [OUTPUTS, LISTENERS, SCHEMAS];

/// Arrays of tables, whose sections are called `name.n`.
pub(super) const ARRAYS: [&str; 2] = [ROUTES, TESTS];

/// A similarity from which a name is suggested for another.
const SIMILAR: f64 = 0.8;

/// Names that are shown where none is similar, at most.
const SHOWN_MAX: usize = 20;

/// A section or key that does not exist.
#[derive(Debug)]
pub(super) struct Unknown {
    what: String,
    nearest: Vec<&'static str>,
    known: Vec<&'static str>,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            names.join(", ")
        };
        write!(f, "unknown {}", self.what)?;
        if !self.nearest.is_empty() {
            write!(f, ", did you mean {}?", quoted(&self.nearest))
        } else if self.known.len() <= SHOWN_MAX {
            write!(f, ", expected one of {}", quoted(&self.known))
        } else {
            Ok(())
        }
    }
}

pub(super) fn is_section(name: &str) -> bool {
    SECTIONS.iter().any(|section| section.name == name)
}

/// Whether a section is that of an output's spool, `outputs.<name>.spool`.
pub(super) fn is_spool(section: &str) -> bool {
    let parent = section
        .strip_suffix(SPOOL)
        .and_then(|rest| rest.strip_suffix('.'));
    parent.is_some_and(|parent| parent.split_once('.').is_some_and(|(of, _)| of == OUTPUTS))
}

/// The keys of a section, `outputs.<name>`, `listeners.<name>` and `schemas.<name>` included.
fn keys(section: &str) -> Vec<&'static str> {
    if is_spool(section) {
        return SpoolSettings::SETTINGS
            .iter()
            .map(|setting| setting.key)
            .collect();
    }
    if section.starts_with("outputs.") {
        let settings = TYPES.iter().flat_map(OutputType::all_settings);
        let mut keys: Vec<&str> = settings.map(|setting| setting.key).collect();
        keys.push(TYPE_SETTING.key);
        keys.extend(Group::own_keys());
        keys.sort_unstable();
        keys.dedup();
        return keys;
    }
    let in_array = |array: &str| {
        section
            .strip_prefix(array)
            .is_some_and(|rest| rest.starts_with('.'))
    };
    for (array, settings) in [
        (ROUTES, RouteSettings::SETTINGS),
        (TESTS, TestSettings::SETTINGS),
    ] {
        if section == array || in_array(array) {
            return settings.iter().map(|setting| setting.key).collect();
        }
    }
    if section.starts_with("listeners.") {
        let settings = LISTENER_GROUPS.iter().flat_map(|group| group.iter());
        return settings.map(|setting| setting.key).collect();
    }
    if section.starts_with("schemas.") {
        let settings = SCHEMA_GROUPS.iter().flat_map(|group| group.iter());
        return settings.map(|setting| setting.key).collect();
    }
    let paths = SECTIONS.iter().flat_map(Section::settings);
    paths
        .filter_map(|(named, setting)| match setting.key.rsplit_once('.') {
            Some((own, key)) => (own == section).then_some(key),
            None => (named == section).then_some(setting.key),
        })
        .collect()
}

pub(super) fn has_key(section: &str, key: &str) -> bool {
    keys(section).contains(&key)
}

pub(super) fn unknown_section(name: &str) -> Unknown {
    let names = SECTIONS.iter().map(|section| section.name);
    unknown(
        format!("section `{name}`"),
        name,
        names.chain(NAMED).chain(ARRAYS).collect(),
    )
}

pub(super) fn unknown_key(section: &str, key: &str) -> Unknown {
    unknown(format!("key `{key}` in [{section}]"), key, keys(section))
}

fn unknown(what: String, name: &str, known: Vec<&'static str>) -> Unknown {
    let similarity = |known: &str| strsim::jaro_winkler(name, known);
    let mut nearest: Vec<&str> = known
        .iter()
        .copied()
        .filter(|known| similarity(known) >= SIMILAR)
        .collect();
    nearest.sort_by(|a, b| similarity(b).total_cmp(&similarity(a)));
    nearest.truncate(3);
    Unknown {
        what,
        nearest,
        known,
    }
}
