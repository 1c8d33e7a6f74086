//! Schemas of events as they are configured: where each is from, and what becomes of events that break it.
//!
//! ```text
//!  [schemas.<name>]   demands (lists of texts) | a JSON Schema (`document`): file | `registry`
//!                      └ core's own check <--- `built_in` ---┘ └--- `full`: a feature of the build
//!  [[routes]] schema, routing.schema   which events have it
//! ```

mod built_in;
mod demands;
mod document;
#[cfg(feature = "json-schema")]
mod full;
mod registry;

pub use document::{DOCUMENT_BYTES_MAX, DOCUMENTS_MAX, DocumentError};

use crate::dead_letters::DeadLetterSettings;
use crate::dialect::Paths;
use crate::reloads::Reloads;
use crate::routing::{ROUTES, Routing};
use demands::{Demanded, LengthOf, TextsOf, TypeOf, Written};
use document::{Files, Stamps};
pub use registry::RegistrySettings;
use registry::{Source, SourceError};
use sluice_core::route::path::FieldPath;
use sluice_core::schema::paths::{DEMANDS_MAX, Demand, shape};
use sluice_core::schema::{Check, OnViolation, SCHEMAS_MAX, Schema, SchemaId, Schemas};
use sluice_sinks::settings::{Given, Problem, Reader, bytes, dir, file, is_word, list, text, word};
use sluice_sinks::{keyword_enum, settings};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

/// The section of the schemas' sections.
pub const SECTION: &str = "schemas";

/// The wait after a registry could not be asked.
const FETCH_AGAIN: Duration = Duration::from_secs(30);

/// How often it is looked whether a registry is to be asked.
const FETCH_TICK: Duration = Duration::from_millis(500);

/// What relative references are resolved against where nothing is configured.
pub(crate) const BASE_URI: &str = "schema:///";

settings! {
    /// One schema: a file, a registry's, or lists of what is demanded of fields.
    #[derive(Clone, Debug, PartialEq)]
    pub struct SchemaSettings from (reader) {
        /// What becomes of an event that breaks it: `tag` stores it with a field `schema_error`, `dead_letter` stores a letter in its place, `reject` gives it back to the client.
        mode: ModeSetting = ModeSetting::Tag, word::<ModeSetting>();
        /// A JSON Schema of at most 1 MiB. Taken again when it was replaced.
        file: Option<PathBuf> = None, file();
        /// A directory of up to 256 `.json` files that `file` may refer to; `$ref` reads nothing else.
        dir: Option<PathBuf> = None, dir();
        /// What references call `dir`.
        base_uri: String = BASE_URI.to_owned(), text("a URI that ends with /, at most 256 bytes", is_base_uri).default_is("`schema:///`");
        /// The largest event, or part of one, that is checked where keywords are not built in; a larger one breaks the schema.
        event_bytes_max: usize = 65_536, bytes(1_024, 1_048_576).default_is("65536");
        /// Fields that have to be there. Of an array on the way, in each of its objects.
        required: Vec<FieldPath> = Vec::new(), list("fields", DEMANDS_MAX, "paths such as user.id").default_is("`[]`");
        /// Types of fields that are there.
        types: Vec<Demanded<TypeOf>> = Vec::new(), list("fields", DEMANDS_MAX, TypeOf::EXPECTED);
        /// Characters of fields that are texts.
        lengths: Vec<Demanded<LengthOf>> = Vec::new(), list("fields", DEMANDS_MAX, LengthOf::EXPECTED);
        /// The only texts of fields that are there.
        one_of: Vec<Demanded<TextsOf>> = Vec::new(), list("fields", DEMANDS_MAX, TextsOf::EXPECTED);
    }
}

keyword_enum! {
    /// What becomes of an event that breaks its schema.
    ModeSetting, "one of tag, dead_letter, reject" {
        /// It is stored, and says so.
        Tag = "tag",
        /// A letter about it is stored.
        DeadLetter = "dead_letter",
        /// It is the client's again.
        Reject = "reject",
    }
}

fn is_base_uri(uri: &str) -> bool {
    let has_scheme = uri.split_once(':').is_some_and(|(scheme, _)| {
        is_word(scheme, 32, "+-.") && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
    });
    has_scheme
        && uri.ends_with('/')
        && uri.len() <= 256
        && !uri.contains('#')
        && uri.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A schema and its name.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedSchema {
    /// Its name.
    pub name: String,
    /// Where it is from.
    pub settings: SchemaSettings,
    /// The registry that it is fetched from, if it is.
    pub registry: RegistrySettings,
}

/// A schema that cannot be put in force.
#[derive(Debug, thiserror::Error)]
#[error("{SECTION}.{name}: {source}")]
pub struct SchemaError {
    name: String,
    source: DocumentError,
}

impl NamedSchema {
    /// Reads all schemas, in the order of their names.
    pub fn read_all(reader: &mut Reader) -> Vec<NamedSchema> {
        let names = reader.schemas();
        if names.len() > SCHEMAS_MAX {
            reader.problems.push(Problem::OutOfRange {
                key: SECTION.to_owned(),
                value: names.len() as u64,
                unit: "schemas",
                min: 0,
                max: SCHEMAS_MAX as u64,
            });
        }
        let mut all = Vec::with_capacity(names.len());
        for name in names {
            if !is_word(&name, 32, "_-") {
                reader.problems.push(Problem::Malformed {
                    key: SECTION.to_owned(),
                    value: name,
                    expected: "a name of 1 to 32 letters, digits, _ and -",
                });
                continue;
            }
            reader.enter(format!("{SECTION}.{name}"));
            let problems = reader.problems.len();
            let settings = SchemaSettings::read(reader);
            let registry = RegistrySettings::read(reader);
            let schema = NamedSchema {
                name,
                settings,
                registry,
            };
            // A value that is refused was replaced by its default, which may contradict what was written.
            if reader.problems.len() == problems && reader.misfit.is_none() {
                schema.check(reader);
            }
            all.push(schema);
        }
        all
    }

    fn check(&self, reader: &mut Reader) {
        let settings = &self.settings;
        let (has_file, registry) = (settings.file.is_some(), self.registry.registry);
        reader.only_if(has_file, &["dir", "base_uri"], "file", "not set");
        let has_document = has_file || registry.is_some();
        reader.only_if(has_document, &["event_bytes_max"], "file", "not set");
        self.registry.check(reader);
        let demands = self.demands();
        let document = match (&settings.file, registry) {
            (Some(file), None) => Some(("file", file.display().to_string())),
            (_, Some(registry)) => Some(("registry", registry.word().to_owned())),
            (None, None) => None,
        };
        let why = "a schema is a file, a registry's, or what is demanded of fields";
        match document {
            Some((key, value)) if has_file && registry.is_some() => reader.contradiction(
                Given::new(reader.path(key), value),
                "left out beside",
                Given::new(reader.path("file"), "a file"),
                why,
            ),
            Some((key, value)) if !demands.is_empty() => reader.contradiction(
                Given::new(reader.path(key), value),
                "left out beside",
                Given::new(
                    "required, types, lengths, one_of",
                    format!("{} demands", demands.len()),
                ),
                why,
            ),
            None if demands.is_empty() => reader.missing("file", why),
            _ => {}
        }
        if demands.len() > DEMANDS_MAX {
            reader.problems.push(Problem::OutOfRange {
                key: reader.path("required"),
                value: demands.len() as u64,
                unit: "demands, those of types, lengths and one_of included",
                min: 0,
                max: DEMANDS_MAX as u64,
            });
        }
        if let Err(error) = shape(&demands) {
            reader.problems.push(Problem::RefusedText {
                key: format!("{SECTION}.{}", self.name),
                why: error.to_string(),
            });
        }
    }

    fn demands(&self) -> Vec<(FieldPath, Demand)> {
        fn of<W>(list: &[Demanded<W>]) -> impl Iterator<Item = (FieldPath, Demand)> {
            let list = list.iter();
            list.map(|one| (one.path.clone(), one.demand.clone()))
        }
        let settings = &self.settings;
        let required = settings.required.iter();
        let required = required.map(|path| (path.clone(), Demand::Required));
        let demands = required
            .chain(of(&settings.types))
            .chain(of(&settings.lengths));
        demands.chain(of(&settings.one_of)).collect()
    }

    fn files(&self) -> Option<Files> {
        Some(Files {
            file: self.settings.file.clone()?,
            dir: self.settings.dir.clone(),
            base_uri: self.settings.base_uri.clone(),
        })
    }

    /// The check of what is configured here and in files.
    fn make(&self) -> Result<Arc<dyn Check>, DocumentError> {
        match self.files() {
            Some(files) => files.read()?.check(self.settings.event_bytes_max),
            None => match shape(&self.demands()) {
                Ok(node) => Ok(Arc::new(node)),
                Err(error) => Err(DocumentError::Refused(error.to_string())),
            },
        }
    }
}

/// Rules between schemas and those who name them.
pub fn check(
    reader: &mut Reader,
    schemas: &[NamedSchema],
    routing: &Routing,
    paths: &Paths,
    dead_letters: &DeadLetterSettings,
) {
    let named = routing.schemas();
    for (section, name) in routing.schema_names() {
        if !schemas.iter().any(|schema| schema.name == name) {
            let known: Vec<_> = schemas.iter().map(|schema| schema.name.as_str()).collect();
            reader.enter(section);
            let known = match known.join(", ") {
                known if known.is_empty() => "and none is configured".to_owned(),
                known => format!("only {known}"),
            };
            reader.unreadable("schema", &format!("there is no schema `{name}`, {known}"));
        }
    }
    let mut modes = schemas.iter().map(|schema| schema.settings.mode);
    if modes.any(|mode| mode == ModeSetting::DeadLetter) && dead_letters.output.is_none() {
        reader.missing(
            "dead_letters.output",
            "the `mode` of a schema is dead_letter",
        );
    }
    for schema in schemas {
        if !named.contains(&schema.name.as_str()) {
            reader.problems.push(Problem::RefusedText {
                key: format!("{SECTION}.{}", schema.name),
                why: format!("no `schema` of `[[{ROUTES}]]` or `[routing]` names it"),
            });
        }
    }
    if let (Some(name), Some(collect)) = (named.first(), &paths.collect)
        && !routing.settings.collect_unchecked
    {
        reader.contradiction(
            Given::new("schema", *name),
            "left out, or `routing.collect_unchecked` true, beside",
            Given::new("paths.collect", collect.as_str()),
            "bodies sent there are stored as they are, unread; `off` closes that endpoint",
        );
    }
}

/// A schema in force, and how it got there.
#[derive(Debug)]
pub struct Loaded {
    /// What is configured.
    pub named: NamedSchema,
    schema: Arc<Schema>,
    /// The files that were last looked at; `None` if there were none.
    seen: Mutex<Option<Stamps>>,
    reloads: Reloads,
    source: Option<Source>,
    /// The registry's document in force.
    fetched: Mutex<Option<Vec<u8>>>,
    fetches: AtomicU64,
    fetches_failed: AtomicU64,
}

impl Loaded {
    fn new(named: &NamedSchema) -> Result<Loaded, SchemaError> {
        let on_violation = match named.settings.mode {
            ModeSetting::Tag => OnViolation::Tag,
            ModeSetting::DeadLetter => OnViolation::DeadLetter,
            ModeSetting::Reject => OnViolation::Reject,
        };
        let new = Loaded {
            named: named.clone(),
            schema: Arc::new(Schema::new(&named.name, on_violation)),
            // Before they are read: a change meanwhile is noticed.
            seen: Mutex::new(named.files().and_then(|files| files.stamps().ok())),
            reloads: Reloads::default(),
            source: Source::of(&named.name, &named.registry),
            fetched: Mutex::default(),
            fetches: AtomicU64::new(0),
            fetches_failed: AtomicU64::new(0),
        };
        match &new.source {
            Some(source) => new.take_copy(source),
            None => new.schema.set(named.make().map_err(|source| SchemaError {
                name: named.name.clone(),
                source,
            })?),
        }
        Ok(new)
    }

    /// Puts a registry's copy in force, if there is one.
    fn take_copy(&self, source: &Source) {
        let name = &self.named.name;
        let taken = source.kept().and_then(|copy| match copy {
            Some(copy) => self.take(source, copy).map(|_| true),
            None => Ok(false),
        });
        match taken {
            Ok(true) => {}
            Ok(false) => warn!(
                schema = name,
                "there is no copy of the schema: events are stored unchecked until it is fetched"
            ),
            Err(reason) => {
                warn!(schema = name, %reason, "the copy of the schema is refused: events are stored unchecked until it is fetched")
            }
        }
    }

    /// Puts a registry's document in force, unless it is. Whether it was not.
    fn take(&self, source: &Source, document: Vec<u8>) -> Result<bool, SourceError> {
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        if fetched.as_ref() == Some(&document) {
            return Ok(false);
        }
        let check = source.document(&document)?;
        self.schema
            .set(check.check(self.named.settings.event_bytes_max)?);
        *fetched = Some(document);
        Ok(true)
    }

    /// Asks the registry. How long to wait before the next time.
    async fn refresh(&self, source: &Source) -> Duration {
        let name = &self.named.name;
        let result = source.fetch().await.and_then(|document| {
            match self.take(source, document.clone())? {
                true => source.keep(&document).map(|()| true),
                false => Ok(false),
            }
        });
        let wait = match result {
            Ok(is_new) => {
                self.fetches.fetch_add(1, Ordering::Relaxed);
                if is_new {
                    self.reloads.take();
                    info!(schema = name, "the registry's schema is in force");
                }
                source.refresh
            }
            Err(reason) => {
                self.fetches_failed.fetch_add(1, Ordering::Relaxed);
                let kept = match self.schema.is_in_force() {
                    true => "the last good copy stays in force",
                    false => "events are stored unchecked",
                };
                warn!(schema = name, %reason, "the registry has no usable schema: {kept}");
                source.refresh.min(FETCH_AGAIN)
            }
        };
        // So that the hosts of a fleet do not ask at once.
        wait.mul_f64(0.9 + 0.2 * fastrand::f64())
    }

    /// Fetches that brought a usable schema.
    #[must_use]
    pub fn fetches(&self) -> u64 {
        self.fetches.load(Ordering::Relaxed)
    }

    /// Fetches that did not.
    #[must_use]
    pub fn fetches_failed(&self) -> u64 {
        self.fetches_failed.load(Ordering::Relaxed)
    }

    /// Whether it is a registry's.
    #[must_use]
    pub fn is_fetched(&self) -> bool {
        self.source.is_some()
    }

    /// Changed schemas.
    #[must_use]
    pub fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    /// Where it is from.
    #[must_use]
    pub fn source(&self) -> String {
        match (&self.named.settings.file, self.named.registry.registry) {
            (Some(file), _) => file.display().to_string(),
            (None, Some(registry)) => {
                let subject = self.named.registry.subject.as_deref().unwrap_or_default();
                format!("{subject} of {registry}")
            }
            (None, None) => format!("{} demands", self.named.demands().len()),
        }
    }

    fn maintain(&self) {
        let Some(files) = self.named.files() else {
            return;
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let found = files.stamps().ok();
        if found == *seen {
            return;
        }
        *seen = found;
        let name = &self.named.name;
        match self.named.make() {
            Ok(check) => {
                self.schema.set(check);
                self.reloads.take();
                info!(schema = name, "the changed schema is in force");
            }
            Err(reason) => {
                self.reloads.refuse();
                warn!(schema = name, %reason, "the changed schema is refused, the old one stays in force");
            }
        }
    }
}

/// The schemas that events have, in the order of their ids.
#[derive(Debug, Default)]
pub struct SchemaSet {
    loaded: Vec<Loaded>,
    schemas: Arc<Schemas>,
}

impl SchemaSet {
    /// Puts all schemas in force that are named.
    ///
    /// # Errors
    /// One of them cannot be.
    pub fn load(all: &[NamedSchema], routing: &Routing) -> Result<SchemaSet, SchemaError> {
        let named = routing.schemas();
        let find = |name: &&str| all.iter().find(|schema| schema.name == **name);
        let loaded: Result<Vec<Loaded>, SchemaError> =
            named.iter().filter_map(find).map(Loaded::new).collect();
        let loaded = loaded?;
        Ok(SchemaSet {
            schemas: Arc::new(Schemas {
                list: loaded.iter().map(|one| Arc::clone(&one.schema)).collect(),
                unmatched: routing
                    .settings
                    .schema
                    .as_deref()
                    .and_then(|name| id(&named, name)),
            }),
            loaded,
        })
    }

    /// Those of core; `None` where no event has a schema.
    #[must_use]
    pub fn schemas(&self) -> Option<Arc<Schemas>> {
        (!self.loaded.is_empty()).then(|| Arc::clone(&self.schemas))
    }

    /// How each got there.
    #[must_use]
    pub fn loaded(&self) -> &[Loaded] {
        &self.loaded
    }

    /// Takes changed files, or keeps the old schemas. Call it every few seconds, from one thread that may wait for a
    /// disk.
    pub fn maintain(&self) {
        self.loaded.iter().for_each(Loaded::maintain);
    }

    /// Fetches the schemas of registries, again and again.
    pub async fn refresh(&self) {
        let sources = self.loaded.iter();
        let sources = sources.filter_map(|one| Some((one, one.source.as_ref()?)));
        let mut due: Vec<_> = sources.map(|of| (of, Instant::now())).collect();
        loop {
            for ((loaded, source), at) in &mut due {
                if *at <= Instant::now() {
                    *at = Instant::now() + loaded.refresh(source).await;
                }
            }
            sleep(FETCH_TICK).await;
        }
    }

    /// Asks each registry once, and keeps nothing: what came of it, by the schema's name.
    pub async fn try_out(&self) -> Vec<(&str, Result<(), String>)> {
        let mut found = Vec::new();
        for loaded in &self.loaded {
            if let Some(source) = &loaded.source {
                let fetched = source.fetch().await;
                let taken = fetched.and_then(|document| loaded.take(source, document));
                let taken = taken.map(|_| ()).map_err(|error| error.to_string());
                found.push((loaded.named.name.as_str(), taken));
            }
        }
        found
    }
}

/// The id of a schema among those named.
#[must_use]
pub fn id(named: &[&str], name: &str) -> Option<SchemaId> {
    let at = named.iter().position(|known| *known == name)?;
    u8::try_from(at).ok().map(SchemaId)
}
