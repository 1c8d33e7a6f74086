//! The fields that the server writes into events: which, under which names, and what becomes of a client's own.
//!
//! Names are compared as readers of JSON do, after unescaping: `"\u0069p"` is `ip`.

use crate::json::scan::{Found, MARKS_MAX, Wanted};
use crate::route::rules::SAMPLE_RATE;

/// Bytes of a field's name.
pub const NAME_BYTES_MAX: usize = 64;

/// Signs in a name, besides letters and digits: none that JSON escapes, or that paths of fields part names by.
const NAME_SIGNS: &str = "_-$@:";

/// Whether a field can be called so.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || NAME_SIGNS.as_bytes().contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_plain)
}

/// A field that the server may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerField {
    /// When the request came, in Unix milliseconds.
    IngestTime,
    /// The request's id.
    RequestId,
    /// The client's address.
    Address,
    /// The client's User-Agent, if it names one.
    UserAgent,
    /// Whether the client asks for global privacy control, if it does.
    Gpc,
    /// Whether the client minds being tracked, if it says.
    Dnt,
    /// Whether the client wants to be anonymous, if it does.
    SpAnonymous,
    /// The event's place in its body, from 0.
    Index,
}

impl ServerField {
    /// All of them, in the order in which they are written.
    pub const ALL: [ServerField; 8] = [
        ServerField::IngestTime,
        ServerField::RequestId,
        ServerField::Address,
        ServerField::UserAgent,
        ServerField::Gpc,
        ServerField::Dnt,
        ServerField::SpAnonymous,
        ServerField::Index,
    ];

    /// Its name where no other one is chosen.
    #[must_use]
    pub const fn usual_name(self) -> &'static str {
        match self {
            ServerField::IngestTime => "ingest_time",
            ServerField::RequestId => "rid",
            ServerField::Address => "ip",
            ServerField::UserAgent => "ua",
            ServerField::Gpc => "gpc",
            ServerField::Dnt => "dnt",
            ServerField::SpAnonymous => "sp_anonymous",
            ServerField::Index => "index",
        }
    }
}

/// Whose field stays where a client sends one of a name that the server writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clash {
    /// The server's. The client's goes, also from events into which the server has nothing to write.
    #[default]
    Server,
    /// The client's.
    Client,
}

const _: () = assert!(ServerField::ALL.len() <= MARKS_MAX);

/// How many events had a field of the client's of a name that the server writes; by [`ServerField::ALL`].
pub type Clashes = [u64; ServerField::ALL.len()];

/// Names that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Too short, too long, or of other signs.
    #[error(
        "`{name}` has {actual} bytes: a name has 1 to {limit} of A-Z, a-z, 0-9 and {NAME_SIGNS}"
    )]
    Form {
        /// The name.
        name: String,
        /// [`NAME_BYTES_MAX`].
        limit: usize,
        /// Its bytes.
        actual: usize,
    },
    /// Two fields of one name.
    #[error("two fields are called `{0}`")]
    Twice(String),
    /// The name of a field that rules write.
    #[error("`{SAMPLE_RATE}` is the name of the field that samples write")]
    SampleRate,
}

/// What the server writes into each event of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFields {
    /// In the order of [`ServerField::ALL`].
    named: Vec<(ServerField, Box<str>)>,
    /// Whose field stays.
    pub clash: Clash,
}

/// All but the index, under their usual names, and no client can forge them.
impl Default for ServerFields {
    fn default() -> ServerFields {
        let usual = ServerField::ALL.into_iter();
        let usual = usual.filter(|field| *field != ServerField::Index);
        ServerFields {
            named: usual
                .map(|field| (field, field.usual_name().into()))
                .collect(),
            clash: Clash::Server,
        }
    }
}

impl ServerFields {
    /// The fields that `name_of` gives a name.
    ///
    /// # Errors
    /// See [`NameError`].
    pub fn new(
        name_of: impl Fn(ServerField) -> Option<String>,
        clash: Clash,
    ) -> Result<ServerFields, NameError> {
        let mut named: Vec<(ServerField, Box<str>)> = Vec::new();
        for field in ServerField::ALL {
            let Some(name) = name_of(field) else {
                continue;
            };
            if !is_name(&name) {
                let (limit, actual) = (NAME_BYTES_MAX, name.len());
                return Err(NameError::Form {
                    name,
                    limit,
                    actual,
                });
            }
            if name == SAMPLE_RATE {
                return Err(NameError::SampleRate);
            }
            if named.iter().any(|(_, known)| **known == *name) {
                return Err(NameError::Twice(name));
            }
            named.push((field, name.into()));
        }
        Ok(ServerFields { named, clash })
    }

    /// The name of a field that is written.
    #[must_use]
    pub fn name(&self, field: ServerField) -> Option<&str> {
        let mut named = self.iter();
        named.find_map(|(known, name)| (known == field).then_some(name))
    }

    /// The fields that are written, and their names.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (ServerField, &str)> + Clone {
        self.named.iter().map(|(field, name)| (*field, &**name))
    }

    /// Has the scan look for the names, before any others.
    pub(crate) fn want<'n>(&'n self, wanted: &mut Wanted<'n>) {
        for (_, name) in self.iter() {
            match self.clash {
                // It goes: its value is of no interest.
                Clash::Server => wanted.mark(name.as_bytes()),
                Clash::Client => wanted.add(name.as_bytes()),
            };
        }
    }

    /// Which of the fields a client sent: bit n for the n-th.
    pub(crate) fn sent_in(&self, found: &Found) -> u32 {
        match self.clash {
            Clash::Server => u32::from(found.marks()),
            Clash::Client => u32::from(found.among((1 << self.named.len()) - 1)),
        }
    }

    /// Counts an event in which the client wrote these fields, by [`ServerFields::sent_in`].
    pub(crate) fn count(&self, sent: u32, clashes: &mut Clashes) {
        for (at, (field, _)) in self.iter().enumerate() {
            clashes[field as usize] += u64::from(sent >> at & 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(field: ServerField, name: &str) -> Result<ServerFields, NameError> {
        let name_of = |other: ServerField| match other == field {
            true => Some(name.to_owned()),
            false => Some(other.usual_name().to_owned()),
        };
        ServerFields::new(name_of, Clash::Server)
    }

    #[test]
    fn field_names_have_bounds_that_the_error_names() {
        for name in ["@timestamp", "$ip", "a:b-c_D9", &"a".repeat(64)] {
            let fields = named(ServerField::Address, name).unwrap();
            assert_eq!(fields.name(ServerField::Address), Some(name));
        }
        for name in ["", "a.b", "a\"", "é", "a b", "[0]", &"a".repeat(65)] {
            let refused = named(ServerField::Address, name).unwrap_err().to_string();
            let bytes = format!("`{name}` has {} bytes: a name has 1 to 64 of", name.len());
            assert!(refused.starts_with(&bytes), "{refused}");
        }
    }

    #[test]
    fn two_server_fields_never_share_a_name() {
        let twice = named(ServerField::Address, "rid");
        assert_eq!(twice, Err(NameError::Twice("rid".to_owned())));
        let twice = named(ServerField::RequestId, "ip");
        assert_eq!(twice, Err(NameError::Twice("ip".to_owned())));
        let rate = named(ServerField::Address, "sample_rate");
        assert_eq!(rate, Err(NameError::SampleRate));
    }
}
