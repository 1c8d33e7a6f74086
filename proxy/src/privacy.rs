//! What must not be stored, as it is configured. `core::privacy` carries it out.

mod suppress_file;

pub use suppress_file::{SuppressFile, SuppressFileError};

use crate::dialect::Paths;
use crate::listeners::ListenerSettings;
use sluice_core::privacy::{
    Action, AddressRule, FieldPath, FieldPathError, HashKey, KEYS_MAX, PARAMETER_BYTES_MAX,
    ParameterAction, Privacy, Rules, RulesError, SignalPolicy, SuppressCell,
};
use sluice_core::server_fields::{ServerField, ServerFields};
use sluice_sinks::settings::{Given, Problem, Reader, Secret, file, list, switch, texts, word};
use sluice_sinks::{keyword_enum, settings};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

/// Fields in each of the lists.
pub const FIELDS_MAX: usize = 256;

/// Parameters in each of the lists.
pub const PARAMETERS_MAX: usize = 256;

/// Characters that a cut text may keep.
pub const TRUNCATE_MAX: u32 = 65_536;

const FIELDS: &str =
    "paths such as user.email, where a dot in a name is written \\. and arrays need no brackets";
const CUTS: &str = "a path, `=`, and 1 to 65536 characters to keep, for instance ua=64";
const PARAMETERS: &str = "a name of 1 to 256 bytes as it reads when decoded, or * for every other";
const KEYS: &str = "an id of 1 to 16 of a-z, 0-9, - and _, a colon, and a key of 16 to 1024 bytes";

settings! {
    /// What must not be stored. Decided before an event is queued, spooled or logged.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PrivacySettings from (reader) {
        /// Fields that are dropped, name and value.
        drop: Vec<FieldPath> = Vec::new(), list("fields", FIELDS_MAX, FIELDS);
        /// Fields whose value becomes `***`, whatever its type.
        mask: Vec<FieldPath> = Vec::new(), list("fields", FIELDS_MAX, FIELDS);
        /// Fields of which the first characters are kept: texts, and numbers as they are written.
        truncate: Vec<Cut> = Vec::new(), list("fields", FIELDS_MAX, CUTS);
        /// Fields whose texts, numbers and booleans become their keyed hash.
        hash: Vec<FieldPath> = Vec::new(), list("fields", FIELDS_MAX, FIELDS);
        /// Fields that hold URLs, whose parameters have the rules below.
        url_fields: Vec<FieldPath> = Vec::new(), list("fields", FIELDS_MAX, FIELDS);
        /// Query parameters, of requests and of URLs in `url_fields`, that are dropped.
        drop_parameters: Vec<String> = Vec::new(),
            texts("parameters", PARAMETERS_MAX, PARAMETERS, is_parameter);
        /// Query parameters whose value becomes `***`.
        mask_parameters: Vec<String> = Vec::new(),
            texts("parameters", PARAMETERS_MAX, PARAMETERS, is_parameter);
        /// Query parameters whose value becomes its keyed hash.
        hash_parameters: Vec<String> = Vec::new(),
            texts("parameters", PARAMETERS_MAX, PARAMETERS, is_parameter);
        /// Keys of hashes, each with an id. The first one hashes; ids in the suppress list may have been hashed with
        /// any. Printed without the keys.
        hash_keys: Vec<KeySetting> = Vec::new(), list("keys", KEYS_MAX, KEYS);
        /// What is stored of client addresses: all, the /24 or /48 network, a keyed hash that changes every day, or
        /// nothing.
        addresses: Addresses = Addresses::Keep, word::<Addresses>();
        /// The same for `paths.collect`.
        collect_addresses: Addresses = addresses, word::<Addresses>().default_is("`addresses`");
        /// The same for `paths.events` and `paths.pixel`.
        events_addresses: Addresses = addresses, word::<Addresses>().default_is("`addresses`");
        /// What follows from the header `Sec-GPC: 1`, besides a field `gpc`: nothing, the fields of `strip` are
        /// dropped, or the event is not stored and answered 200.
        gpc: SignalSetting = SignalSetting::Tag, word::<SignalSetting>();
        /// The same for `DNT: 1` and the field `dnt`.
        dnt: SignalSetting = SignalSetting::Tag, word::<SignalSetting>();
        /// The same for `SP-Anonymous` and the field `sp_anonymous`.
        sp_anonymous: SignalSetting = SignalSetting::Tag, word::<SignalSetting>();
        /// Fields that are dropped where a signal asks for `strip`; `ip` and `ua` are those that the server adds, too.
        strip: Vec<FieldPath> = server_fields(),
            list("fields", FIELDS_MAX, FIELDS).default_is("`[\"ip\", \"ua\"]`");
        /// Fields with ids: an event with one that is in `suppress_file` is not stored, and answered 200.
        suppress_fields: Vec<FieldPath> = Vec::new(), list("fields", FIELDS_MAX, FIELDS);
        /// A file of keyed hashes, one a line, of at most 1,000,000 ids. Taken again when it was replaced.
        suppress_file: Option<PathBuf> = None, file();
        /// Whether bodies of `paths.collect`, which are stored unread, may go past rules for fields.
        collect_unread: bool = false, switch();
    }
}

/// The server's fields that say who a client is.
fn server_fields() -> Vec<FieldPath> {
    let paths = ["ip", "ua"].into_iter();
    paths.filter_map(|path| path.parse().ok()).collect()
}

fn is_parameter(name: &str) -> bool {
    (1..=PARAMETER_BYTES_MAX).contains(&name.len())
}

keyword_enum! {
    /// What is stored of client addresses.
    Addresses, "one of keep, truncate, hash, none" {
        /// All of it.
        Keep = "keep",
        /// The network.
        Truncate = "truncate",
        /// A keyed hash that changes every day.
        Hash = "hash",
        /// Nothing.
        Nothing = "none",
    }
}

impl Addresses {
    /// The rule that it stands for.
    #[must_use]
    pub fn rule(self) -> AddressRule {
        match self {
            Addresses::Keep => AddressRule::Keep,
            Addresses::Truncate => AddressRule::Truncate,
            Addresses::Hash => AddressRule::Hash,
            Addresses::Nothing => AddressRule::Drop,
        }
    }
}

keyword_enum! {
    /// What follows from a signal.
    SignalSetting, "one of tag, strip, drop" {
        /// A field says so.
        Tag = "tag",
        /// And fields are dropped.
        Strip = "strip",
        /// The event is not stored.
        Drop = "drop",
    }
}

impl SignalSetting {
    fn policy(self) -> SignalPolicy {
        match self {
            SignalSetting::Tag => SignalPolicy::Tag,
            SignalSetting::Strip => SignalPolicy::Strip,
            SignalSetting::Drop => SignalPolicy::Drop,
        }
    }
}

/// A field, and how much of it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    field: FieldPath,
    chars: u32,
}

/// A text that is no [`Cut`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// There is no number of characters.
    #[error("`{0}`: expected {CUTS}")]
    Form(String),
    /// Too few or too many.
    #[error("`{text}`: {actual} characters, allowed is 1 to {TRUNCATE_MAX}")]
    Chars {
        /// What was written.
        text: String,
        /// The number.
        actual: u64,
    },
    /// The path is none.
    #[error(transparent)]
    Path(#[from] FieldPathError),
}

impl FromStr for Cut {
    type Err = CutError;

    fn from_str(text: &str) -> Result<Cut, CutError> {
        let form = || CutError::Form(text.to_owned());
        let (path, chars) = text.rsplit_once('=').ok_or_else(form)?;
        let actual: u64 = chars.trim().parse().map_err(|_| form())?;
        let chars = u32::try_from(actual).unwrap_or(0);
        if !(1..=TRUNCATE_MAX).contains(&chars) {
            let text = text.to_owned();
            return Err(CutError::Chars { text, actual });
        }
        Ok(Cut {
            field: path.trim().parse()?,
            chars,
        })
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.field, self.chars)
    }
}

/// A key of hashes. Shown without the key.
#[derive(Clone, Debug)]
pub struct KeySetting(HashKey);

/// Two are the same if they are shown alike: what a key is nobody is told.
impl PartialEq for KeySetting {
    fn eq(&self, other: &KeySetting) -> bool {
        self.0.id() == other.0.id()
    }
}

impl Eq for KeySetting {}

/// A text that is no key. Does not show it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is no id before it.
    #[error("expected {KEYS}")]
    Form,
    /// It was copied from a printed configuration.
    #[error("the key `{0}` is the mask that is printed in the place of a key")]
    Mask(String),
    /// It cannot be used.
    #[error(transparent)]
    Key(#[from] sluice_core::privacy::HashKeyError),
}

impl FromStr for KeySetting {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<KeySetting, KeyError> {
        let (id, key) = text.split_once(':').ok_or(KeyError::Form)?;
        if key == Secret::MASK {
            return Err(KeyError::Mask(id.chars().take(16).collect()));
        }
        Ok(KeySetting(HashKey::new(id, key.as_bytes())?))
    }
}

impl fmt::Display for KeySetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0.id(), Secret::MASK)
    }
}

impl PrivacySettings {
    /// Rules between settings.
    pub fn check(&self, reader: &mut Reader, paths: &Paths, listeners: &mut [ListenerSettings]) {
        for (at, key) in self.hash_keys.iter().enumerate() {
            if self.hash_keys[..at].contains(key) {
                reader.problems.push(Problem::RefusedText {
                    key: reader.path("hash_keys"),
                    why: format!("there are two keys `{}`", key.0.id()),
                });
            }
        }
        match (self.suppress_fields.is_empty(), &self.suppress_file) {
            (true, Some(_)) => reader.missing("suppress_fields", "`suppress_file` lists their ids"),
            (false, None) => {
                reader.missing("suppress_file", "`suppress_fields` are looked up there")
            }
            _ => {}
        }
        if !self.url_fields.is_empty() && self.parameters().next().is_none() {
            let why = "`url_fields` name URLs, and no parameter of them has a rule";
            reader.missing("drop_parameters", why);
        }
        let hashes = listeners
            .iter()
            .any(|listener| listener.addresses == Some(AddressRule::Hash));
        if hashes && self.hash_keys.is_empty() {
            reader.missing("hash_keys", "`addresses` of a listener is hash");
        }
        for rules in [
            self.rules(self.collect_addresses),
            self.rules(self.events_addresses),
        ] {
            let problem = match Privacy::new(&rules) {
                Ok(_) => continue,
                Err(RulesError::NoKey) => Problem::Missing {
                    key: reader.path("hash_keys"),
                    why: "something has to be hashed".into(),
                },
                Err(error) => Problem::RefusedText {
                    key: "privacy".to_owned(),
                    why: error.to_string(),
                },
            };
            if !reader.problems.contains(&problem) {
                reader.problems.push(problem);
            }
        }
        self.check_collect(reader, paths);
        let logged = self.logged_addresses(listeners);
        for listener in listeners {
            listener.logged_addresses = logged;
        }
    }

    /// Bodies of the envelope endpoint are opaque: no rule for a field holds there.
    fn check_collect(&self, reader: &mut Reader, paths: &Paths) {
        let Some(collect) = paths.collect.as_ref().filter(|_| !self.collect_unread) else {
            return;
        };
        let strips = [self.gpc, self.dnt, self.sp_anonymous].contains(&SignalSetting::Strip);
        let stripped: Vec<_> = self
            .strip
            .iter()
            .filter(|path| strips && !server_fields().contains(path))
            .collect();
        for (key, fields) in [
            ("drop", self.drop.len()),
            ("mask", self.mask.len()),
            ("truncate", self.truncate.len()),
            ("hash", self.hash.len()),
            ("url_fields", self.url_fields.len()),
            ("strip", stripped.len()),
            ("suppress_fields", self.suppress_fields.len()),
        ] {
            if fields > 0 {
                let given = Given::new(reader.path(key), format!("{fields} fields"));
                reader.contradiction(
                    given,
                    "empty, or `privacy.collect_unread` true, beside",
                    Given::new("paths.collect", collect.as_str()),
                    "bodies sent there are stored as they are, unread; `off` closes that endpoint",
                );
            }
        }
    }

    fn parameters(&self) -> impl Iterator<Item = (String, ParameterAction)> {
        let lists = [
            (&self.drop_parameters, ParameterAction::Drop),
            (&self.mask_parameters, ParameterAction::Mask),
            (&self.hash_parameters, ParameterAction::Hash),
        ];
        lists.into_iter().flat_map(|(names, action)| {
            let names = names.iter();
            names.map(move |name| (name.clone(), action))
        })
    }

    /// The rules of an endpoint.
    fn rules(&self, addresses: Addresses) -> Rules {
        let lists = [
            (&self.drop, Action::Drop),
            (&self.mask, Action::Mask),
            (&self.hash, Action::Hash),
            (&self.url_fields, Action::Url),
        ];
        let fields = lists.into_iter().flat_map(|(paths, action)| {
            let paths = paths.iter();
            paths.map(move |path| (path.clone(), action))
        });
        let cuts = self.truncate.iter();
        let cuts = cuts.map(|cut| (cut.field.clone(), Action::Truncate(cut.chars)));
        Rules {
            fields: fields.chain(cuts).collect(),
            strip: self.strip.clone(),
            parameters: self.parameters().collect(),
            keys: self.keys(),
            addresses: addresses.rule(),
            address_fields: Vec::new(),
            listeners_differ: false,
            on_gpc: self.gpc.policy(),
            on_dnt: self.dnt.policy(),
            on_sp_anonymous: self.sp_anonymous.policy(),
            suppress: self.suppress_fields.clone(),
            list: Arc::default(),
        }
    }

    fn keys(&self) -> Vec<HashKey> {
        self.hash_keys.iter().map(|key| key.0.clone()).collect()
    }

    /// What logs may show of addresses: no more than any of the rules allows.
    #[must_use]
    pub fn logged_addresses(&self, listeners: &[ListenerSettings]) -> AddressRule {
        let own = [self.collect_addresses, self.events_addresses].map(Addresses::rule);
        let listeners = listeners.iter().filter_map(|listener| listener.addresses);
        own.into_iter().chain(listeners).max().unwrap_or_default()
    }

    /// The compiled rules of an endpoint, into whose events these fields are written; `None` where everything may be stored.
    ///
    /// # Errors
    /// None that [`PrivacySettings::check`] has not reported.
    pub fn compile(
        &self,
        endpoint: Addresses,
        listeners: &[ListenerSettings],
        suppressed: &Arc<SuppressCell>,
        fields: &ServerFields,
    ) -> Result<Option<Arc<Privacy>>, RulesError> {
        let rules = Rules {
            listeners_differ: listeners.iter().any(|own| own.addresses.is_some()),
            list: Arc::clone(suppressed),
            address_fields: (fields.name(ServerField::Address).into_iter())
                .map(str::to_owned)
                .collect(),
            ..self.rules(endpoint)
        };
        match has_rules(&rules) {
            true => Privacy::new(&rules).map(|privacy| Some(Arc::new(privacy))),
            false => Ok(None),
        }
    }

    /// Whether anything must not be stored.
    #[must_use]
    pub fn has_rules(&self, listeners: &[ListenerSettings]) -> bool {
        let endpoints = [self.collect_addresses, self.events_addresses];
        listeners.iter().any(|own| own.addresses.is_some())
            || endpoints.into_iter().any(|own| has_rules(&self.rules(own)))
    }

    /// The list of suppressed ids, read for the first time; `None` where there is none.
    ///
    /// # Errors
    /// It cannot be read, or not be used.
    pub fn load_suppressed(&self) -> Result<Option<SuppressFile>, SuppressFileError> {
        let file = self.suppress_file.as_deref();
        file.map(|file| SuppressFile::load(file, self.keys()))
            .transpose()
    }
}

fn has_rules(rules: &Rules) -> bool {
    let signals = [rules.on_gpc, rules.on_dnt, rules.on_sp_anonymous];
    !rules.fields.is_empty()
        || !rules.parameters.is_empty()
        || !rules.suppress.is_empty()
        || rules.addresses != AddressRule::Keep
        || rules.listeners_differ
        || signals != [SignalPolicy::Tag; 3]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_shown_nor_taken_back_masked() {
        let key: KeySetting = "k1:a secret of enough bytes".parse().unwrap();
        assert_eq!(key.to_string(), "k1:***");
        assert!(!format!("{key:?}").contains("secret"));
        let refused = |text: &str| text.parse::<KeySetting>().unwrap_err().to_string();
        assert!(refused("k1:***").contains("the mask that is printed"));
        for text in [
            "a secret of enough bytes",
            "K1:a secret of enough bytes",
            "k1:secret",
        ] {
            assert!(!refused(text).contains("secret"), "{text}");
        }
    }

    #[test]
    fn a_cut_keeps_one_to_65536_characters() {
        for text in ["ua=64", "a.b=1", "a\\=b=65536"] {
            assert_eq!(
                text.parse::<Cut>().unwrap().to_string(),
                text.replace("\\=", "=")
            );
        }
        let refused = |text: &str| text.parse::<Cut>().unwrap_err().to_string();
        assert_eq!(
            refused("ua=0"),
            "`ua=0`: 0 characters, allowed is 1 to 65536"
        );
        let over = "`ua=65537`: 65537 characters, allowed is 1 to 65536";
        assert_eq!(refused("ua=65537"), over);
        for text in ["ua", "ua=", "ua=x", "ua=-1"] {
            assert!(
                refused(text).contains("a path, `=`, and 1 to 65536"),
                "{text}"
            );
        }
        assert!(refused("=1").contains("a name has 0 bytes"));
    }
}
