//! Resolves written settings: defaults, bounds, contradictions. Pure; knows no file, no variable and no line.
//! Defaults adapt to written values; only written values can contradict each other.

use super::error::ConfigError;
use super::{Config, Flags, outputs};
use crate::admin::AdminSettings;
use crate::admit::AdmitSettings;
use crate::dead_letters::{self, DeadLetterSettings};
use crate::dialect::Paths;
use crate::drain::DrainSettings;
use crate::host_info::HostInfo;
use crate::http::{ClientAddressSettings, CorsSettings, HttpLimits};
use crate::ingest::{AckSettings, IngestLimits};
use crate::listeners::{self, ListenerSettings};
use crate::logging::LogSettings;
use crate::privacy::PrivacySettings;
use crate::routing::trial::Test;
use crate::routing::{Routing, places_of};
use crate::scheduling::ProcessSettings;
use crate::schemas::{self, NamedSchema};
use crate::server_fields::{self, ServerFieldSettings};
use crate::worker::ListenSettings;
use sluice_sinks::output::OutputContext;
use sluice_sinks::settings::{Given, Misfit, Origin, Problem, Reader, Tree, Value};

/// The output that is there when none is configured: a file output.
const DEFAULT_OUTPUT: &str = "files";

/// Lays the command line over what file and environment said.
pub(super) fn apply_flags(tree: &mut Tree, flags: &Flags) -> Result<(), ConfigError> {
    let mut flag = |path: &str, flag, value: Option<String>| {
        if let Some(value) = value {
            tree.set(path, Value::Untyped(value), Origin::Flag(flag));
        }
    };
    let listen = flags.listen.map(|address| address.to_string());
    flag("listen.address", "--listen", listen);
    let driver = flags.driver.map(|driver| driver.to_string());
    flag("listen.driver", "--driver", driver);
    let workers = flags.workers.map(|workers| workers.to_string());
    flag("listen.workers", "--workers", workers);

    let Some(dir) = &flags.data_dir else {
        return Ok(());
    };
    let Some(text) = dir.to_str() else {
        return Err(ConfigError::Flag {
            flag: "--data-dir",
            message: format!("{dir:?} is not UTF-8"),
        });
    };
    default_output(tree);
    let is_file = |name: &&String| {
        let written = tree.get(&format!("outputs.{name}.type"));
        written.is_some_and(|written| written.value.text() == Some("file"))
    };
    let files: Vec<String> = tree.outputs.iter().filter(is_file).cloned().collect();
    let [file] = &files[..] else {
        return Err(ConfigError::Invalid(vec![Problem::Contradiction {
            left: Given::new("--data-dir", format!("{dir:?}")),
            must: "given together with exactly one of",
            right: Given::new("outputs of type file", files.len().to_string()),
            why: "it would not be clear whose directory it is",
        }]));
    };
    let path = format!("outputs.{file}.dir");
    tree.set(
        path,
        Value::Untyped(text.to_owned()),
        Origin::Flag("--data-dir"),
    );
    Ok(())
}

/// A file output where none is configured.
fn default_output(tree: &mut Tree) {
    if tree.outputs.is_empty() {
        let path = format!("outputs.{DEFAULT_OUTPUT}.type");
        tree.set(path, Value::Text("file".to_owned()), Origin::Default);
    }
}

/// Everything present, or everything that is wrong.
pub(super) fn resolve(mut tree: Tree, machine: HostInfo) -> Result<Config, Wrong> {
    default_output(&mut tree);
    let mut reader = Reader::new(tree);
    let reader = &mut reader;
    reader.enter("listen");
    let mut listen = ListenSettings::read(reader);
    listen.count_workers(reader, machine.cores);
    reader.enter("limits");
    let limits = HttpLimits::read(reader);
    limits.check(reader);
    let ingest = IngestLimits::read(reader, &limits, machine.memory_bytes);
    let record_bytes = ingest.check(reader, machine.memory_bytes);
    reader.enter("paths");
    let paths = Paths::read(reader);
    paths.check(reader);
    reader.enter("cors");
    let cors = CorsSettings::read(reader);
    reader.enter("client_address");
    let client_address = ClientAddressSettings::read(reader);
    let trusted = &client_address.trusted;
    let mut listeners = vec![ListenerSettings::first(reader, &listen, trusted)];
    listeners.extend(ListenerSettings::others(reader, trusted));
    reader.enter("privacy");
    let problems = reader.problems.len();
    let privacy = PrivacySettings::read(reader);
    // A value that is refused was replaced by its default, which may contradict what was written.
    if reader.problems.len() == problems {
        privacy.check(reader, &paths, &mut listeners);
    }
    reader.enter(server_fields::SECTION);
    let server_fields = ServerFieldSettings::read(reader);
    server_fields.check(reader);
    reader.enter("admit");
    let admit = AdmitSettings::read(reader);
    reader.enter("ack");
    let ack = AckSettings::read(reader);
    let ack_deadline = ack.check(reader);
    reader.enter("drain");
    let drain = DrainSettings::read(reader, ack.deadline);
    drain.check(reader, &ack_deadline);
    reader.enter("admin");
    let admin = AdminSettings::read(reader);
    listen.check_admin(reader, admin.address);
    listeners::check_addresses(reader, &listeners, admin.address);
    reader.enter("log");
    let log = LogSettings::read(reader);
    reader.enter("process");
    let process = ProcessSettings::read(reader);

    let context = OutputContext {
        name: String::new(),
        ack_deadline,
        record_bytes,
        workers: listen.workers as u64,
        spool: None,
    };
    let (outputs, groups) = outputs::read(reader, &context);
    let names: Vec<&str> = listeners.iter().map(|one| one.name.as_str()).collect();
    let places = places_of(&outputs, &groups);
    let routing = Routing::read(reader, &places, &names);
    reader.enter(dead_letters::SECTION);
    let dead_letters = DeadLetterSettings::read(reader);
    dead_letters.check(reader, &places, (&outputs, &groups), &routing);
    let schemas = NamedSchema::read_all(reader);
    schemas::check(reader, &schemas, &routing, &paths, &dead_letters);
    let tests = Test::read_all(reader);
    if let Some(misfit) = reader.misfit.take() {
        return Err(Wrong::Misfit(misfit));
    }
    if !reader.problems.is_empty() {
        return Err(Wrong::Problems(std::mem::take(&mut reader.problems)));
    }
    Ok(Config {
        listen,
        listeners,
        limits,
        ingest,
        paths,
        cors,
        client_address,
        privacy,
        server_fields,
        admit,
        ack,
        drain,
        admin,
        log,
        process,
        outputs,
        groups,
        routing,
        dead_letters,
        schemas,
        tests,
        notes: Vec::new(),
        in_force: std::mem::take(&mut reader.in_force),
    })
}

/// Why there is no configuration.
pub(super) enum Wrong {
    /// A value cannot be read.
    Misfit(Misfit),
    /// Values make no sense.
    Problems(Vec<Problem>),
}
