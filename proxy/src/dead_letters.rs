//! Dead letters as they are configured: where letters go about events that cannot be stored as they should be.
//! `core::letter` writes them.

use crate::config::OUTPUTS_MAX;
use crate::config::groups::{self, Group, is_default};
use crate::routing::{Place, Routing};
use sluice_core::ack::OutputId;
use sluice_core::letter::{Letters, Reason};
use sluice_core::prepared::RecordLimits;
use sluice_core::route::OutputSet;
use sluice_sinks::output::{Output, is_name};
use sluice_sinks::settings;
use sluice_sinks::settings::{Given, Reader, list, text};
use sluice_sinks::sink::Sink;
use std::sync::Arc;

/// Its section.
pub const SECTION: &str = "dead_letters";

settings! {
    /// Where letters go about events that cannot be stored as they should be.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DeadLetterSettings from (reader) {
        /// The output, or the group, that gets them. It gets no events, unless a rule names it.
        output: Option<String> = None, text("the name of an output", is_name).default_is("none: no letters are kept");
        /// For which reasons a refused event has a letter: `unreadable`, `too_deep`, `too_large`.
        refused: Vec<Reason> = Reason::OF_REFUSED.to_vec(), list("reasons", Reason::OF_REFUSED.len(), "unreadable, too_deep, too_large");
    }
}

impl DeadLetterSettings {
    /// Whether this output, or group, is the one.
    #[must_use]
    pub fn go_to(&self, name: &str) -> bool {
        self.output.as_deref() == Some(name)
    }

    /// Rules between settings.
    pub fn check(
        &self,
        reader: &mut Reader,
        places: &[Place<'_>],
        (outputs, groups): (&[Output], &[Group]),
        routing: &Routing,
    ) {
        reader.enter(SECTION);
        if self.refused.contains(&Reason::Schema) {
            let why = "`schema`: such letters stand for events that were taken";
            reader.unreadable("refused", why);
        }
        let Some(name) = self.output.as_deref() else {
            reader.only_if(false, &["refused"], "output", "not set");
            return;
        };
        if !places.iter().any(|place| place.name == name) {
            let written = places.iter().filter(|place| place.listed.is_none());
            let names: Vec<_> = written.map(|place| place.name).collect();
            let names = names.join(", ");
            reader.unreadable(
                "output",
                &format!("there is no output `{name}`, only {names}"),
            );
            return;
        }
        let mut others = outputs
            .iter()
            .filter(|output| is_default(output, outputs, groups))
            .map(|output| &output.name)
            .chain(groups.iter().map(|group| &group.name));
        if !routing.names_unmatched() && !others.any(|other| other != name) {
            reader.contradiction(
                Given::new(reader.path("output"), name),
                "other than",
                Given::new("the only output for events", name),
                "it gets no events, and no other output would",
            );
        }
    }

    /// What the pipeline needs to know; `None` where no letters are kept.
    #[must_use]
    pub fn letters(&self, places: &[Place<'_>], routing: &Routing) -> Option<Letters> {
        let at = places.iter().position(|place| self.go_to(place.name))?;
        Some(Letters {
            output: OutputId(u16::try_from(at).ok()?),
            refused: self.refused.clone(),
            routes: routing.names(),
        })
    }

    /// Outputs whose limit bounds events, and those whose limit bounds letters.
    #[must_use]
    pub fn limiting(&self, outputs: &[Output], groups: &[Group], routing: &Routing) -> Limiting {
        let group = groups.iter().find(|group| self.go_to(&group.name));
        let gets_letters = |output: &Output| match group {
            Some(group) => group.has(&output.name),
            None => self.go_to(&output.name),
        };
        let stands_in = |name: &str| {
            let mut firsts = outputs.iter();
            firsts.any(|first| first.delivery.fallback.as_deref() == Some(name))
        };
        let mut limiting = Limiting {
            events: OutputSet::NONE,
            letters: OutputSet::NONE,
        };
        for output in outputs {
            let Some(id) = groups::id(outputs, &output.name) else {
                continue;
            };
            let is_named = routing.names_output(&output.name)
                || group.is_some_and(|group| routing.names_output(&group.name));
            if !gets_letters(output) || is_named || stands_in(&output.name) {
                limiting.events = limiting.events.with(id);
            }
            if !gets_letters(output) {
                continue;
            }
            let mut next = Some(output);
            // The configuration has no circles of fallbacks.
            for _ in 0..OUTPUTS_MAX {
                let Some(output) = next else {
                    break;
                };
                if let Some(id) = groups::id(outputs, &output.name) {
                    limiting.letters = limiting.letters.with(id);
                }
                let fallback = output.delivery.fallback.as_ref();
                next = fallback.and_then(|name| outputs.iter().find(|one| one.name == *name));
            }
        }
        limiting
    }
}

/// Which outputs bound what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limiting {
    /// Events have to fit each of these.
    pub events: OutputSet,
    /// Letters have to fit each of these.
    pub letters: OutputSet,
}

impl Limiting {
    /// The limits as they are now, of these sinks in configuration order.
    pub(crate) fn now(&self, sinks: &[Arc<dyn Sink>]) -> RecordLimits {
        let limit = |among: OutputSet| {
            let sinks = (0..).map(OutputId).zip(sinks);
            let sinks = sinks.filter(|(id, _)| among.contains(*id));
            let limits = sinks.map(|(_, sink)| sink.limits().record_bytes_max);
            limits.min().unwrap_or(0)
        };
        RecordLimits {
            records: limit(self.events),
            letters: limit(self.letters),
        }
    }
}
