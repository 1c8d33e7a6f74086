//! The configuration: settings from every source, resolved and checked.
//!
//! ```text
//!  file      the TOML file          ┐
//!  env       SLUICE_* variables     ├─ Tree ── resolve ── Config ── printed form
//!  legacy_env  of the replaced tier │            └─ each section's own settings, outputs
//!  flags     the command line       ┘
//! ```
//!
//! Flags win over variables, these over the file, the file over the defaults. A setting is declared beside
//! the code that it configures; [`SECTIONS`] lists the declarations, and each type of output brings its own.
//! Nothing here opens a socket or a data file.

mod env;
mod error;
mod file;
pub mod groups;
mod known;
mod legacy_env;
mod names;
mod outputs;
mod resolve;

pub use error::ConfigError;
pub use sluice_sinks::settings::{Given, Problem};

use crate::admin::AdminSettings;
use crate::admit::AdmitSettings;
use crate::dead_letters::{self, DeadLetterSettings};
use crate::dialect::Paths;
use crate::drain::DrainSettings;
use crate::host_info::HostInfo;
use crate::http::{ClientAddressSettings, CorsSettings, HttpLimits};
use crate::ingest::{AckSettings, IngestLimits};
use crate::listeners::{self, ListenerSettings, NamedSettings, PeerSettings};
use crate::logging::LogSettings;
use crate::net::tls::TlsSettings;
use crate::privacy::PrivacySettings;
use crate::routing::trial::{TESTS, Test};
use crate::routing::{self, ROUTES, Routing, RoutingSettings};
use crate::runtime::driver::Driver;
use crate::scheduling::ProcessSettings;
use crate::worker::ListenSettings;
use groups::Group;
use resolve::Wrong;
use sluice_sinks::output::Output;
use sluice_sinks::settings::{InForce, Misfit, Origin, Secret, Setting, Value};
use sluice_sinks::spool::SECTION as SPOOL;
use std::ffi::OsString;
use std::fmt::{self, Write};
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A configuration file may have this many bytes.
pub const FILE_BYTES_MAX: u64 = 1_048_576;

/// This many outputs at most.
pub const OUTPUTS_MAX: usize = sluice_core::route::OUTPUTS_MAX;

/// A section of the file.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub sentence: &'static str,
    /// Its settings, and those of other sections that belong to the same code.
    pub groups: &'static [&'static [Setting]],
}

impl Section {
    /// The settings, each with the name of this section.
    fn settings(&self) -> impl Iterator<Item = (&'static str, &'static Setting)> {
        let name = self.name;
        self.groups
            .iter()
            .flat_map(|group| group.iter())
            .map(move |setting| (name, setting))
    }
}

const fn section(
    name: &'static str,
    sentence: &'static str,
    groups: &'static [&'static [Setting]],
) -> Section {
    Section {
        name,
        sentence,
        groups,
    }
}

/// All sections but those of outputs and of further listeners.
pub const SECTIONS: &[Section] = &[
    section(
        "listen",
        "Where and how requests come in.",
        &[
            ListenSettings::SETTINGS,
            PeerSettings::SETTINGS,
            TlsSettings::SETTINGS,
        ],
    ),
    section(
        "limits",
        "What a client may send, and how long it may take.",
        &[HttpLimits::SETTINGS, IngestLimits::SETTINGS],
    ),
    section("paths", "Which paths are served.", &[Paths::SETTINGS]),
    section(
        "cors",
        "Whose pages may read responses.",
        &[CorsSettings::SETTINGS],
    ),
    section(
        "client_address",
        "Whom to believe about a client's address.",
        &[ClientAddressSettings::SETTINGS],
    ),
    section(
        "privacy",
        "What must not be stored.",
        &[PrivacySettings::SETTINGS],
    ),
    section("admit", "Who may send events.", &[AdmitSettings::SETTINGS]),
    section(
        "ack",
        "When a client is answered.",
        &[AckSettings::SETTINGS],
    ),
    section("drain", "How the process ends.", &[DrainSettings::SETTINGS]),
    section(
        "admin",
        "The port for metrics and probes.",
        &[AdminSettings::SETTINGS],
    ),
    section("log", "Logging.", &[LogSettings::SETTINGS]),
    section(
        routing::SECTION,
        "Where events go that no rule of `[[routes]]` takes, and how rules are applied.",
        &[RoutingSettings::SETTINGS],
    ),
    section(
        dead_letters::SECTION,
        "Where letters go about events that cannot be stored as they should be ([dead letters](../dead-letters.md)).",
        &[DeadLetterSettings::SETTINGS],
    ),
    section(
        "process",
        "The process as the kernel sees it.",
        &[ProcessSettings::SETTINGS],
    ),
];

/// The settings of `[listeners.<name>]`.
pub const LISTENER_GROUPS: &[&[Setting]] = &[
    NamedSettings::SETTINGS,
    PeerSettings::SETTINGS,
    TlsSettings::SETTINGS,
];

/// The whole configuration, every value present.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where and how requests come in.
    pub listen: ListenSettings,
    /// All listeners: first the one of `listen`, then the others in the order of their names; at most
    /// [`LISTENERS_MAX`](listeners::LISTENERS_MAX).
    pub listeners: Vec<ListenerSettings>,
    /// What a client may send, and how long it may take.
    pub limits: HttpLimits,
    /// Limits of bodies and events.
    pub ingest: IngestLimits,
    /// Which paths are served.
    pub paths: Paths,
    /// Whose pages may read answers.
    pub cors: CorsSettings,
    /// Whom to believe about a client's address.
    pub client_address: ClientAddressSettings,
    /// What must not be stored.
    pub privacy: PrivacySettings,
    /// Who may send events.
    pub admit: AdmitSettings,
    /// When a client is answered.
    pub ack: AckSettings,
    /// How the process ends.
    pub drain: DrainSettings,
    /// The port for metrics and probes.
    pub admin: AdminSettings,
    /// Logging.
    pub log: LogSettings,
    /// The process as the kernel sees it.
    pub process: ProcessSettings,
    /// Where records go, in the order of their names, each with those that it lists; between 1 and [`OUTPUTS_MAX`].
    pub outputs: Vec<Output>,
    /// Outputs that share records under one name; no more than [`OUTPUTS_MAX`] with the outputs.
    pub groups: Vec<Group>,
    /// Which of them each record goes to.
    pub routing: Routing,
    /// Where letters go about events that cannot be stored as they should be.
    pub dead_letters: DeadLetterSettings,
    /// Events, and what has to become of them.
    pub tests: Vec<Test>,
    /// What the log should say once of how the configuration came about; no setting.
    pub notes: Vec<String>,
    /// Every value in force, for printing.
    in_force: Vec<InForce>,
}

/// What the command line may decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--listen`: `listen.address`.
    pub listen: Option<SocketAddr>,
    /// `--driver`: `listen.driver`.
    pub driver: Option<Driver>,
    /// `--workers`: `listen.workers`.
    pub workers: Option<u64>,
    /// `--data-dir`: `dir` of the one file output.
    pub data_dir: Option<PathBuf>,
}

/// Two configurations are the same if the same values are in force.
impl PartialEq for Config {
    fn eq(&self, other: &Config) -> bool {
        self.in_force == other.in_force
    }
}

impl Eq for Config {}

impl Config {
    /// Reads the file if one is named, lays the variables that begin with `SLUICE_` and then the flags
    /// over it, and resolves what came of it on this machine. Without a file, and where no variable of ours
    /// names an output, the variables of the replaced tier lie under ours.
    ///
    /// # Errors
    /// A file that cannot be read, is over [`FILE_BYTES_MAX`] or has an unknown or ill-typed key (with
    /// its line); a variable that names no key or has an ill-typed value; numbers out of their bounds;
    /// settings that contradict each other.
    pub fn load(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        flags: &Flags,
        machine: HostInfo,
    ) -> Result<Config, ConfigError> {
        let variables: Vec<(OsString, OsString)> = variables.into_iter().collect();
        let (mut tree, legacy) = match file {
            Some(path) => (file::parse(path, &read(path)?)?, None),
            None => {
                let legacy = legacy_env::read(&variables)?;
                (legacy.tree.clone(), Some(legacy))
            }
        };
        env::overlay(&mut tree, variables)?;
        resolve::apply_flags(&mut tree, flags)?;
        let mut notes = Vec::new();
        if let Some(legacy) = legacy {
            legacy.require_output(!tree.outputs.is_empty())?;
            notes = legacy.notes;
        }
        let config = resolve::resolve(tree, machine).map_err(|wrong| match wrong {
            Wrong::Problems(problems) => ConfigError::Invalid(problems),
            Wrong::Misfit(misfit) => unreadable_value(file, misfit),
        })?;
        Ok(Config { notes, ..config })
    }

    /// The resolved form as a configuration file; it loads to the same configuration again, once
    /// [`Secret`]s, which it masks, are put back.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let sections = SECTIONS.iter().map(|section| section.name.to_owned());
        let listeners = self.listeners.iter().map(|listener| &listener.name);
        let listeners = listeners
            .filter(|name| *name != listeners::FIRST)
            .map(|name| format!("{}.{name}", known::LISTENERS));
        let written = |output: &&Output| output.listed.is_none();
        let outputs = self.outputs.iter().filter(written);
        let outputs = outputs.flat_map(|output| {
            let section = format!("{}.{}", known::OUTPUTS, output.name);
            let spool = output.spool.as_ref().map(|_| format!("{section}.{SPOOL}"));
            std::iter::once(section).chain(spool)
        });
        let groups = self.groups.iter();
        let groups = groups.map(|group| format!("{}.{}", known::OUTPUTS, group.name));
        let arrays = [
            (ROUTES, self.routing.routes.len()),
            (TESTS, self.tests.len()),
        ];
        let arrays = arrays
            .into_iter()
            .flat_map(|(name, count)| (0..count).map(move |at| format!("{name}.{at}")));
        let named = sections.chain(listeners).chain(outputs).chain(groups);
        for section in named.chain(arrays) {
            let between = if text.is_empty() { "" } else { "\n" };
            // Writing to a String cannot fail.
            let _ = match section.split_once('.') {
                Some((array, _)) if known::ARRAYS.contains(&array) => {
                    writeln!(text, "{between}[[{array}]]")
                }
                _ => writeln!(text, "{between}[{section}]"),
            };
            for known in &self.in_force {
                if known.section == section
                    && let Some(value) = &known.value
                {
                    let _ = writeln!(text, "{} = {}", known.key, toml(value));
                }
            }
        }
        text
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_toml())
    }
}

/// A value in TOML; a secret is masked.
fn toml(value: &Value) -> toml::Value {
    match value {
        Value::Text(text) | Value::Untyped(text) => text.as_str().into(),
        Value::Integer(number) => (*number).into(),
        Value::Switch(is_on) => (*is_on).into(),
        Value::List(values) => toml::Value::Array(values.iter().map(toml).collect()),
        Value::Hidden(_) => Secret::MASK.into(),
        // The file's parser has read it as a number.
        Value::Fraction(number) => number.parse().unwrap_or(f64::NAN).into(),
        Value::Table(table) => toml::Value::Table(
            table
                .iter()
                .map(|(key, value)| (key.clone(), toml(value)))
                .collect(),
        ),
        Value::Other(name) => (*name).into(),
    }
}

/// The error for a value that its setting cannot read, by where it was written.
fn unreadable_value(file: Option<&Path>, misfit: Misfit) -> ConfigError {
    let Misfit { origin, message } = misfit;
    match origin {
        Origin::Line(line) => ConfigError::Syntax {
            file: file.unwrap_or(Path::new("")).to_path_buf(),
            line,
            message,
        },
        Origin::Variable(name) => ConfigError::Variable { name, message },
        Origin::Flag(flag) => ConfigError::Flag { flag, message },
        Origin::Default => ConfigError::Flag {
            flag: "default",
            message,
        },
    }
}

/// The text of a configuration file.
fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |reason: String| ConfigError::Unreadable {
        file: path.to_path_buf(),
        reason,
    };
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| unreadable(error.to_string()))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable(format!(
            "it has over {FILE_BYTES_MAX} bytes, the limit"
        )));
    }
    Ok(text)
}
