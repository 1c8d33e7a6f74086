//! Groups of outputs, `[outputs.<name>]` with `type = "group"`, and which output stands in for which.

use super::known::OUTPUTS;
use sluice_core::ack::OutputId;
use sluice_core::intake::{self, GroupRule, member_number};
use sluice_sinks::keyword_enum;
use sluice_sinks::output::{Output, is_name};
use sluice_sinks::settings::{Given, Problem, Reader, Setting, texts, word};

/// The word in `type`.
pub const TYPE: &str = "group";

/// What it is, for the reference page.
pub const SENTENCE: &str = "Several outputs under one name: each record goes to one of them, and each keeps its own \
    settings, queue and circuit. Its members get no other records, unless a route names them.";

/// What a group cannot do without, as lines of a file.
pub const EXAMPLE: &str = "of = [\"a\", \"b\"]\n";

/// Fewer are no group.
const MEMBERS_MIN: usize = 2;
const MEMBERS_MAX: usize = super::OUTPUTS_MAX - 1;

keyword_enum! {
    /// How a group chooses the output for a record.
    Spread, "one of hash, least_loaded" {
        /// By the record's key.
        Hash = "hash",
        /// The one with the fewest bytes pending.
        LeastLoaded = "least_loaded",
    }
}

sluice_sinks::settings! {
    /// The settings of a group.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct GroupSettings from (reader) {
        /// The outputs that share the records.
        of: Vec<String> = Vec::new(), texts("outputs", MEMBERS_MAX, "the name of an output", is_name)
            .needed("a group needs the outputs that share its records");
        /// How a record's output is chosen. `hash`: by its partition key, so that records with one key stay in order; the share of an output that fails is refused, or goes to its fallback or spool. A record without a key goes to the least loaded output. `least_loaded`: the output with the fewest bytes pending for what it may have; others take the share of one that fails.
        spread: Spread = Spread::LeastLoaded, word::<Spread>();
    }
}

/// A group as it was configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Members, and how they share.
    pub settings: GroupSettings,
}

impl Group {
    /// The settings that outputs of other types do not have.
    pub(super) fn own_keys() -> impl Iterator<Item = &'static str> {
        GroupSettings::SETTINGS
            .iter()
            .map(|setting: &Setting| setting.key)
    }

    /// Reads the group whose section the reader has entered.
    pub(super) fn read(reader: &mut Reader, name: String) -> Group {
        let settings = GroupSettings::read(reader);
        Group { name, settings }
    }

    /// Its rules, among these outputs.
    #[must_use]
    pub fn rule(&self, outputs: &[Output]) -> GroupRule {
        let members = self.settings.of.iter();
        GroupRule {
            members: members
                .filter_map(|name| Some((id(outputs, name)?, member_number(name))))
                .collect(),
            spread: match self.settings.spread {
                Spread::Hash => intake::Spread::Hash,
                Spread::LeastLoaded => intake::Spread::LeastLoaded,
            },
            is_default: true,
        }
    }

    /// Whether others take the share of a member that fails.
    #[must_use]
    pub fn covers(&self, output: &str) -> bool {
        self.settings.spread == Spread::LeastLoaded && self.has(output)
    }

    /// Whether an output is a member.
    #[must_use]
    pub fn has(&self, output: &str) -> bool {
        self.settings.of.iter().any(|name| name == output)
    }
}

/// The id of an output by its name.
#[must_use]
pub fn id(outputs: &[Output], name: &str) -> Option<OutputId> {
    let at = outputs.iter().position(|output| output.name == name)?;
    u16::try_from(at).ok().map(OutputId)
}

/// Whether events without a route go to an output: not to one that is only another's fallback, a member of a group, or
/// made for a name in a list.
#[must_use]
pub fn is_default(output: &Output, outputs: &[Output], groups: &[Group]) -> bool {
    let is_fallback = |other: &Output| other.delivery.fallback.as_ref() == Some(&output.name);
    output.listed.is_none()
        && !outputs.iter().any(is_fallback)
        && !groups.iter().any(|group| group.has(&output.name))
}

/// Checks the names in groups and fallbacks.
pub(super) fn check(reader: &mut Reader, outputs: &[Output], groups: &[Group]) {
    for (at, group) in groups.iter().enumerate() {
        members(reader, outputs, group);
        for other in &groups[..at] {
            if let Some(shared) = group.settings.of.iter().find(|name| other.has(name)) {
                reader.contradiction(
                    Given::new(path(&group.name, "of"), &**shared),
                    "in no other group than",
                    Given::new(path(&other.name, "of"), &**shared),
                    "a record would have two reasons to go there",
                );
            }
        }
    }
    for output in outputs {
        fallback(reader, outputs, output);
    }
}

fn members(reader: &mut Reader, outputs: &[Output], group: &Group) {
    let key = path(&group.name, "of");
    let of = &group.settings.of;
    for (at, name) in of.iter().enumerate() {
        let expected = match id(outputs, name) {
            None => "the name of an output that is configured, and is no group",
            Some(_) if of[..at].contains(name) => "each output once",
            Some(_) => continue,
        };
        reader.malformed(&key, name, expected);
    }
    if (1..MEMBERS_MIN).contains(&of.len()) {
        reader.problems.push(Problem::OutOfRange {
            key,
            value: of.len() as u64,
            unit: "outputs",
            min: MEMBERS_MIN as u64,
            max: MEMBERS_MAX as u64,
        });
    }
}

/// A fallback exists, and following it leads to an end.
fn fallback(reader: &mut Reader, outputs: &[Output], output: &Output) {
    let Some(name) = &output.delivery.fallback else {
        return;
    };
    let key = path(&output.name, "fallback");
    let next = |name: &str| {
        let next = outputs.iter().find(|other| other.name == name)?;
        next.delivery.fallback.as_deref()
    };
    if id(outputs, name).is_none() {
        let expected = "the name of an output that is configured, and is no group";
        return reader.malformed(&key, name, expected);
    }
    // Whoever comes back to this output does so within as many steps as there are outputs.
    let mut last = &*output.name;
    let mut at = Some(&**name);
    for _ in outputs {
        match at {
            Some(found) if found == output.name => {
                return reader.contradiction(
                    Given::new(key, &**name),
                    "other than one that leads back, as does",
                    Given::new(path(last, "fallback"), found),
                    "while both circuits are open nobody would take the record",
                );
            }
            Some(found) => (last, at) = (found, next(found)),
            None => return,
        }
    }
}

fn path(output: &str, key: &str) -> String {
    format!("{OUTPUTS}.{output}.{key}")
}
