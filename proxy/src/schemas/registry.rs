//! Schemas of registries: fetched in the background, with the last good copy on disk. A registry that cannot be
//! reached changes nothing.

use super::document::{DOCUMENT_BYTES_MAX, Document, DocumentError};
use sluice_sinks::aws::AwsSettings;
use sluice_sinks::registry::{FetchError, Place};
use sluice_sinks::settings::{
    Given, MINUTE_MS, Reader, SECOND_MS, Secret, dir, is_word, ms, secret, text, word,
};
use sluice_sinks::{keyword_enum, settings};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

settings! {
    /// A schema of a registry.
    #[derive(Clone, Debug, PartialEq)]
    pub struct RegistrySettings from (reader) {
        /// The kind of registry that the schema is fetched from.
        registry: Option<RegistryKind> = None, word::<RegistryKind>().default_is("none");
        /// Its address. Of Iglu, what stands before `/schemas`.
        url: Option<String> = None, text("http:// or https:// and a host, at most 2048 bytes", is_url).default_is("none: confluent and iglu need it");
        /// The schema: Confluent's subject, `registry/schema` of Glue, `vendor/name/jsonschema/1-0-0` of Iglu.
        subject: Option<String> = None, text("1 to 512 bytes", |name| (1..=512).contains(&name.len())).default_is("none: a registry needs it");
        /// The version at Confluent's and Glue's: a number, or `latest`, which is asked for again and again.
        version: String = "latest".to_owned(), text("latest, or 1 to 100000", |version| version == "latest" || number(version).is_some()).default_is("`latest`");
        /// Who asks Confluent's registry.
        user: Option<String> = None, text("1 to 256 bytes", |user| (1..=256).contains(&user.len())).default_is("none");
        /// The user's password.
        password: Option<Secret> = None, secret();
        /// The key of an Iglu server.
        api_key: Option<Secret> = None, secret();
        /// Where the last good copy is kept, so that a start needs no registry.
        cache_dir: Option<PathBuf> = None, dir().default_is("none: a registry needs it");
        /// How often the registry is asked.
        refresh as "refresh_ms": Duration = Duration::from_secs(300), ms(5 * SECOND_MS, 24 * 60 * MINUTE_MS).default_is("300000");
    }
    and {
        /// How to reach AWS.
        aws: AwsSettings = AwsSettings::read(reader, Duration::from_secs(10));
    }
}

keyword_enum! {
    /// A kind of registry.
    RegistryKind, "one of confluent, glue, iglu" {
        /// Confluent's, and others with its interface.
        Confluent = "confluent",
        /// AWS Glue's.
        Glue = "glue",
        /// Snowplow's Iglu.
        Iglu = "iglu",
    }
}

fn is_url(url: &str) -> bool {
    let host = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    url.len() <= 2_048
        && url.bytes().all(|byte| byte.is_ascii_graphic())
        && !url.contains(['?', '#'])
        && host.is_some_and(|host| !host.is_empty() && !host.starts_with('/'))
}

fn number(version: &str) -> Option<u32> {
    let number = version.parse().ok()?;
    (1..=100_000).contains(&number).then_some(number)
}

/// Keys that say something about a registry, besides those of AWS.
const KEYS: [&str; 8] = [
    "url",
    "subject",
    "version",
    "user",
    "password",
    "api_key",
    "cache_dir",
    "refresh_ms",
];
const AWS_KEYS: [&str; 4] = [
    "region",
    "endpoint_url",
    "attempt_timeout_ms",
    "connect_timeout_ms",
];

impl RegistrySettings {
    pub(super) fn check(&self, reader: &mut Reader) {
        let Some(kind) = self.registry else {
            for keys in [&KEYS[..], &AWS_KEYS] {
                reader.only_if(false, keys, "registry", "not set");
            }
            return;
        };
        self.aws.check(reader);
        let word = kind.word();
        let of = |kinds: &[RegistryKind]| kinds.contains(&kind);
        let by_http = of(&[RegistryKind::Confluent, RegistryKind::Iglu]);
        reader.only_if(by_http, &["url"], "registry", word);
        reader.only_if(!by_http, &["region", "endpoint_url"], "registry", word);
        reader.only_if(
            kind == RegistryKind::Confluent,
            &["user", "password"],
            "registry",
            word,
        );
        reader.only_if(kind == RegistryKind::Iglu, &["api_key"], "registry", word);
        reader.only_if(kind != RegistryKind::Iglu, &["version"], "registry", word);
        if by_http && self.url.is_none() {
            reader.missing("url", "a registry has an address");
        }
        if self.cache_dir.is_none() {
            reader.missing(
                "cache_dir",
                "the last good copy of a registry's schema is kept there",
            );
        }
        if self.user.is_some() != self.password.is_some() {
            reader.missing(
                if self.user.is_some() {
                    "password"
                } else {
                    "user"
                },
                "they go together",
            );
        }
        match &self.subject {
            None => reader.missing("subject", "it names the schema in the registry"),
            Some(subject) if kind == RegistryKind::Glue && subject.split_once('/').is_none() => {
                reader.malformed("subject", subject, "registry/schema");
            }
            Some(subject) if kind == RegistryKind::Iglu && !is_iglu(subject) => {
                reader.malformed("subject", subject, "vendor/name/jsonschema/1-0-0");
            }
            Some(_) => {}
        }
        if let (Some(user), Some(url)) = (&self.user, &self.url)
            && url.starts_with("http://")
        {
            reader.contradiction(
                Given::new(reader.path("user"), user),
                "left out beside",
                Given::new(reader.path("url"), url),
                "the password would cross the network unencrypted",
            );
        }
    }

    /// Where the schema is; `None` without a registry.
    pub(super) fn place(&self) -> Option<Place> {
        let url = || self.url.clone().unwrap_or_default();
        let subject = self.subject.clone().unwrap_or_default();
        let version = number(&self.version);
        Some(match self.registry? {
            RegistryKind::Confluent => Place::Confluent {
                url: url(),
                subject,
                version,
                login: self.user.clone().zip(self.password.clone()),
            },
            RegistryKind::Glue => {
                let (registry, schema) = subject.split_once('/').unwrap_or(("", &subject));
                Place::Glue {
                    registry: registry.to_owned(),
                    schema: schema.to_owned(),
                    version,
                }
            }
            RegistryKind::Iglu => Place::Iglu {
                url: url(),
                path: subject,
                api_key: self.api_key.clone(),
            },
        })
    }
}

fn is_iglu(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let is_part = |part: &&str| is_word(part, 128, "._-") && !part.starts_with('.');
    matches!(parts[..], [_, _, "jsonschema", _]) && parts.iter().all(is_part)
}

/// A schema of a registry, and its copy on disk.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) place: Place,
    pub(super) aws: AwsSettings,
    /// The copy.
    pub(super) copy: PathBuf,
    pub(super) refresh: Duration,
}

/// A schema of a registry that is not there, or cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("{}: {source}", path.display())]
    Copy { path: PathBuf, source: io::Error },
}

impl Source {
    pub(super) fn of(name: &str, settings: &RegistrySettings) -> Option<Source> {
        Some(Source {
            place: settings.place()?,
            aws: settings.aws.clone(),
            copy: settings.cache_dir.clone()?.join(format!("{name}.json")),
            refresh: settings.refresh,
        })
    }

    fn wrong(&self, source: io::Error) -> SourceError {
        let path = self.copy.clone();
        SourceError::Copy { path, source }
    }

    /// The last good copy; `None` if there was never one.
    pub(super) fn kept(&self) -> Result<Option<Vec<u8>>, SourceError> {
        let file = match File::open(&self.copy) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.wrong(error)),
        };
        let mut bytes = Vec::new();
        file.take(DOCUMENT_BYTES_MAX as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| self.wrong(error))?;
        Ok(Some(bytes))
    }

    /// Keeps a good copy, whole or not at all.
    pub(super) fn keep(&self, bytes: &[u8]) -> Result<(), SourceError> {
        let new = self.copy.with_extension("new");
        let write = || {
            fs::create_dir_all(self.copy.parent().unwrap_or(&self.copy))?;
            let mut file = File::create(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, &self.copy)
        };
        write().map_err(|error| self.wrong(error))
    }

    pub(super) fn document(&self, bytes: &[u8]) -> Result<Document, DocumentError> {
        Document::alone(&self.copy.display().to_string(), bytes)
    }

    pub(super) async fn fetch(&self) -> Result<Vec<u8>, SourceError> {
        Ok(self.place.fetch(&self.aws).await?)
    }
}
