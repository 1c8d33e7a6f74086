//! What became of the events of each client.

use super::client::Counts;
use super::profiles::Profile;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The format of the JSON.
pub(super) const FORMAT: &str = "sluice-loadtest patience v1";

/// The outcome of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Name and version of this format.
    pub format: String,
    /// Each client, in the order of the table.
    pub clients: Vec<ClientReport>,
}

/// The outcome of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientReport {
    /// Its name.
    pub client: String,
    /// The package that was measured.
    pub package: String,
    /// Its version.
    pub version: String,
    /// Its events.
    #[serde(flatten)]
    pub counts: Counts,
    /// Neither acknowledged nor given up at the end.
    pub held: u64,
    /// Tries by how they ended: a status, `refused`, `closed`, `timed-out`.
    pub tries: BTreeMap<String, u64>,
}

impl ClientReport {
    pub(super) fn of(
        profile: &Profile,
        counts: Counts,
        tries: BTreeMap<String, u64>,
    ) -> ClientReport {
        ClientReport {
            client: profile.name.to_owned(),
            package: profile.package.to_owned(),
            version: profile.version.to_owned(),
            counts,
            held: counts.held(),
            tries,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<18} {:>9} {:>9} {:>9} {:>9}  tries",
            "client", "produced", "acked", "given up", "held"
        )?;
        for (at, of) in self.clients.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            let counts = &of.counts;
            write!(
                f,
                "{:<18} {:>9} {:>9} {:>9} {:>9} ",
                of.client, counts.produced, counts.acked, counts.given_up, of.held
            )?;
            for (outcome, tries) in &of.tries {
                write!(f, " {outcome}:{tries}")?;
            }
        }
        Ok(())
    }
}
