//! The same counts by run, by profile, and by the time at which requests were started.
//! Compares nothing itself: the event table does.

use super::event_table::{Counts, EventTable};
use super::{AuditError, AuditReport};
use crate::event_id::EventId;
use crate::ledger::{self, AckLine, RunStart};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::Path;

/// Windows with events, counted per profile, that one audit reports.
pub const WINDOWS_MAX: usize = 100_000;

/// Runs that one audit keeps apart.
const RUNS_MAX: usize = 10_000;

/// Counts of one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCounts {
    /// Its number in event ids, 8 hex digits.
    pub run: String,
    /// Its profile, if its file has it.
    pub profile: Option<String>,
    /// When it began, in seconds since the Unix epoch, if its file has it.
    pub start: Option<u64>,
    /// The counts.
    #[serde(flatten)]
    pub counts: Counts,
}

/// Counts of all runs of one profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileCounts {
    /// The profile.
    pub profile: String,
    /// The counts.
    #[serde(flatten)]
    pub counts: Counts,
}

/// Counts of the requests that were started in one window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowCounts {
    /// Its beginning, in seconds since the earliest start of a run.
    pub from_s: u64,
    /// Its beginning, in seconds since the Unix epoch.
    pub from: u64,
    /// The profile.
    pub profile: String,
    /// The counts.
    #[serde(flatten)]
    pub counts: Counts,
}

/// The runs that files of answers introduce.
#[derive(Debug, Default)]
pub(super) struct Runs(BTreeMap<u32, RunStart>);

impl Runs {
    /// Records a run that a file introduces.
    pub(super) fn begin(&mut self, path: &Path, run: RunStart) -> Result<(), AuditError> {
        if self.0.len() == RUNS_MAX && !self.0.contains_key(&run.run) {
            return Err(AuditError::Runs { limit: RUNS_MAX });
        }
        match self.0.get(&run.run) {
            Some(known) if *known != run => Err(AuditError::RunTwice {
                path: path.to_owned(),
                run: run.run,
            }),
            _ => {
                self.0.insert(run.run, run);
                Ok(())
            }
        }
    }

    /// Counts by run, in the order of their start.
    pub(super) fn counts(&self, events: &EventTable) -> Vec<RunCounts> {
        let mut counts: BTreeMap<u32, Counts> = BTreeMap::new();
        events.each(|id, known| counts.entry(id.run).or_default().add(known));
        let mut runs: Vec<RunCounts> = counts
            .into_iter()
            .map(|(run, counts)| {
                let known = self.0.get(&run);
                RunCounts {
                    run: format!("{run:08x}"),
                    profile: known.map(|known| known.profile.clone()),
                    start: known.map(|known| known.start),
                    counts,
                }
            })
            .collect();
        runs.sort_by_key(|run| run.start.unwrap_or(u64::MAX));
        runs
    }
}

/// Counts by profile, from those by run.
pub(super) fn profiles(runs: &[RunCounts]) -> Vec<ProfileCounts> {
    let mut profiles: BTreeMap<&str, Counts> = BTreeMap::new();
    for run in runs {
        if let Some(profile) = &run.profile {
            profiles.entry(profile).or_default().join(&run.counts);
        }
    }
    let counts = |(profile, counts): (&str, Counts)| ProfileCounts {
        profile: profile.to_owned(),
        counts,
    };
    profiles.into_iter().map(counts).collect()
}

/// Counts by window and profile: reads the answers once more, and takes each of their events out of
/// the table.
pub(super) fn windows(
    acks: &[impl AsRef<Path>],
    events: &mut EventTable,
    runs: &Runs,
    window_s: NonZeroU32,
) -> Result<Vec<WindowCounts>, AuditError> {
    let earliest = runs.0.values().map(|run| run.start).min().unwrap_or(0);
    let length = u64::from(window_s.get());
    let mut windows: BTreeMap<(u64, &str), Counts> = BTreeMap::new();
    for path in acks {
        ledger::read_ack_lines(path.as_ref(), |line| {
            let AckLine::Ack(ack) = line else {
                return;
            };
            let Some(run) = runs.0.get(&ack.run) else {
                return;
            };
            let at = run.start - earliest + u64::from(ack.second.unwrap_or(0));
            let key = (at / length, run.profile.as_str());
            if windows.len() > WINDOWS_MAX && !windows.contains_key(&key) {
                return;
            }
            let counts = windows.entry(key).or_default();
            for seq in (ack.first..).take(ack.count as usize) {
                counts.add(events.take(EventId { run: ack.run, seq }));
            }
        })?;
    }
    if windows.len() > WINDOWS_MAX {
        return Err(AuditError::Windows {
            limit: WINDOWS_MAX,
            window_s: window_s.get(),
        });
    }
    let window = |((number, profile), counts): ((u64, &str), Counts)| WindowCounts {
        from_s: number * length,
        from: earliest + number * length,
        profile: profile.to_owned(),
        counts,
    };
    Ok(windows.into_iter().map(window).collect())
}

impl AuditReport {
    /// Tables by run, and by window if there are any.
    pub(super) fn write_tables(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = "         sent        acked       lost refused+stored  duplicated";
        let row = |f: &mut fmt::Formatter<'_>, counts: &Counts| {
            writeln!(
                f,
                " {:>12} {:>12} {:>10} {:>14} {:>11}",
                counts.sent, counts.acked, counts.lost, counts.refused_stored, counts.duplicated
            )
        };
        writeln!(f, "{:<24}{columns}", "run and profile")?;
        for run in &self.runs {
            let profile = run.profile.as_deref().unwrap_or("(not told)");
            write!(f, "{:<8} {profile:<15}", run.run)?;
            row(f, &run.counts)?;
        }
        if let Some(window_s) = self.window_s {
            writeln!(f, "{:<24}{columns}", "started within")?;
            for window in &self.windows {
                let end = window.from_s + u64::from(window_s);
                let span = format!("{}-{end} s", window.from_s);
                write!(f, "{span:<13} {:<10}", window.profile)?;
                row(f, &window.counts)?;
            }
        }
        Ok(())
    }
}
