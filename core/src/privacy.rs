//! What must not be stored: decided before a record exists, so that nothing behind it can queue, spool or log it.
//!
//! ```text
//! request   query parameters, client address, signals (Sec-GPC, DNT, SP-Anonymous)
//! event     ids on the suppress list -> withheld | fields dropped, masked, cut, hashed; parameters of URLs in fields
//! ```
//! Values are replaced in the event's own text; every other byte stays as it was sent. Envelope mode knows no events:
//! there the request's part is all.

mod address;
mod hash;
mod parameters;
mod path;
mod redact;
mod suppress;

pub use address::{AddressRule, Shown};
pub use hash::{HashKey, HashKeyError, KEY_BYTES_MAX, KEY_BYTES_MIN, KEY_ID_BYTES_MAX, KEYS_MAX};
pub use parameters::{EVERY_PARAMETER, PARAMETER_BYTES_MAX, ParameterAction};
pub use path::{FieldPath, FieldPathError, NAME_BYTES_MAX, Overlap, PATH_NAMES_MAX};
pub use suppress::{SUPPRESS_BYTES_MAX, SUPPRESSED_MAX, SuppressCell, SuppressError, SuppressList};

use crate::civil;
use crate::json::escape::quote_into;
use crate::json::scan::Wanted;
use crate::json::split::Event;
use crate::request::RequestContext;
use crate::server_fields::ServerField;
use parameters::Parameters;
use path::Tree;
use redact::{Heads, Values};
use std::borrow::Cow;
use std::sync::Arc;

/// Stands in the place of a masked value.
pub const MASK: &str = "***";

/// Values of any request that are hashed; more need [`HASHED_BYTES`] each. Further ones are masked.
pub const HASHED_FREE: usize = 256;

/// Bytes of an unpacked body for each value that is hashed, beyond [`HASHED_FREE`]: no honest field with an id is
/// shorter, and a hash is dear for its length.
pub const HASHED_BYTES: usize = 16;

/// Ids of any request that are looked up in the suppress list; more need [`LOOKUP_BYTES`] each. An event with further
/// ones is withheld.
pub const LOOKUPS_FREE: usize = 256;

/// Bytes of an unpacked body for each id that is looked up, beyond [`LOOKUPS_FREE`]: fewer than any field takes with
/// its name, so that only long arrays of ids come to the bound.
pub const LOOKUP_BYTES: usize = 4;

/// The field that holds a client's address, in events and in records.
const ADDRESS_FIELD: &str = ServerField::Address.usual_name();

/// The query parameter that stands in for a client's address.
const ADDRESS_PARAMETER: &str = "fakeIp";

/// What is done with the value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The field goes, name and value.
    Drop,
    /// The value becomes [`MASK`], whatever its type.
    Mask,
    /// A text or number keeps at most this many characters.
    Truncate(u32),
    /// A text, number or boolean becomes its keyed hash.
    Hash,
    /// A text is a URL, whose parameters have rules.
    Url,
    /// A text holds addresses, which the rule for addresses decides on.
    Address,
}

/// What a client says about its privacy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// `Sec-GPC: 1`.
    pub gpc: bool,
    /// `DNT: 1` or `DNT: 0`.
    pub dnt: Option<bool>,
    /// `SP-Anonymous`, with any value.
    pub sp_anonymous: bool,
}

/// What of a request matters here, besides its address and query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestPrivacy {
    /// What the client says.
    pub signals: Signals,
    /// The rule of the listener, which goes before that of the endpoint.
    pub addresses: Option<AddressRule>,
}

/// What follows from a signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignalPolicy {
    /// A field in the event says so.
    #[default]
    Tag,
    /// And the fields of [`Rules::strip`] are dropped.
    Strip,
    /// The event is withheld.
    Drop,
}

/// Why an event is not stored, though its client is answered as if it were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// `Sec-GPC`, and its policy is [`SignalPolicy::Drop`].
    Gpc,
    /// `DNT`, likewise.
    Dnt,
    /// `SP-Anonymous`, likewise.
    SpAnonymous,
    /// One of its ids is on the suppress list.
    Suppressed,
}

impl Withheld {
    /// All of them.
    pub const ALL: [Withheld; 4] = [
        Withheld::Gpc,
        Withheld::Dnt,
        Withheld::SpAnonymous,
        Withheld::Suppressed,
    ];
}

/// What was done with the values of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Fields and parameters dropped.
    pub dropped: u64,
    /// Values masked.
    pub masked: u64,
    /// Values cut.
    pub truncated: u64,
    /// Values hashed.
    pub hashed: u64,
    /// Addresses cut, hashed or dropped.
    pub addresses: u64,
    /// Events withheld, indexed as [`Withheld::ALL`].
    pub withheld: [u64; Withheld::ALL.len()],
}

/// The rules of one endpoint.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Fields, each with one rule.
    pub fields: Vec<(FieldPath, Action)>,
    /// Fields that are dropped as well where a signal's policy is [`SignalPolicy::Strip`].
    pub strip: Vec<FieldPath>,
    /// Query parameters, of requests and of URLs in fields.
    pub parameters: Vec<(String, ParameterAction)>,
    /// Keys, of which the first one hashes, and all are tried on the suppress list.
    pub keys: Vec<HashKey>,
    /// What is stored of addresses, where the listener has no rule of its own.
    pub addresses: AddressRule,
    /// Fields that hold a client's address, besides `ip`.
    pub address_fields: Vec<String>,
    /// Whether some listener may have another rule for addresses.
    pub listeners_differ: bool,
    /// What follows from `Sec-GPC: 1`.
    pub on_gpc: SignalPolicy,
    /// What follows from `DNT: 1`.
    pub on_dnt: SignalPolicy,
    /// What follows from `SP-Anonymous`.
    pub on_sp_anonymous: SignalPolicy,
    /// Fields whose ids are looked up.
    pub suppress: Vec<FieldPath>,
    /// The list they are looked up in.
    pub list: Arc<SuppressCell>,
}

/// Rules that contradict each other, or lack something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// Two rules for one value.
    #[error(transparent)]
    Overlap(#[from] Overlap),
    /// Two rules for one parameter.
    #[error("the parameter `{0}` has two rules")]
    Parameter(String),
    /// There is no key to hash with.
    #[error("there is no key to hash with")]
    NoKey,
}

/// Rules, compiled.
#[derive(Clone, Debug)]
pub struct Privacy {
    fields: Tree,
    /// The same, and what is stripped.
    stripped: Tree,
    ids: Tree,
    parameters: Parameters,
    keys: Vec<HashKey>,
    addresses: AddressRule,
    policies: [SignalPolicy; 3],
    list: Arc<SuppressCell>,
}

impl Privacy {
    /// Compiles rules.
    ///
    /// # Errors
    /// See [`RulesError`].
    pub fn new(rules: &Rules) -> Result<Privacy, RulesError> {
        let mut fields = Tree::new();
        for (path, action) in &rules.fields {
            fields.add(path, *action)?;
        }
        let touches_addresses = rules.addresses != AddressRule::Keep || rules.listeners_differ;
        let address_fields = rules.address_fields.iter().map(|name| &**name);
        let address_fields = std::iter::once(ADDRESS_FIELD).chain(address_fields);
        for name in address_fields.filter(|_| touches_addresses) {
            if fields.top_level(name).is_none()
                && let Ok(path) = name.parse()
            {
                // A rule for a part of it stands for itself.
                let _ = fields.add(&path, Action::Address);
            }
        }
        let mut stripped = fields.clone();
        for path in &rules.strip {
            stripped.replace(path, Action::Drop);
        }
        let mut ids = Tree::new();
        for path in &rules.suppress {
            ids.add(path, Action::Hash)?;
        }
        let mut parameters = Parameters::default();
        for (name, action) in &rules.parameters {
            if !parameters.add(name, *action) {
                return Err(RulesError::Parameter(name.clone()));
            }
        }
        if touches_addresses {
            // Where it has a rule already, that one is stricter.
            parameters.add(ADDRESS_PARAMETER, ParameterAction::Address);
        }
        let hashes = rules
            .fields
            .iter()
            .any(|(_, action)| *action == Action::Hash)
            || rules
                .parameters
                .iter()
                .any(|(_, action)| *action == ParameterAction::Hash)
            || rules.addresses == AddressRule::Hash
            || !rules.suppress.is_empty();
        if hashes && rules.keys.is_empty() {
            return Err(RulesError::NoKey);
        }
        Ok(Privacy {
            fields,
            stripped,
            ids,
            parameters,
            keys: rules.keys.clone(),
            addresses: rules.addresses,
            policies: [rules.on_gpc, rules.on_dnt, rules.on_sp_anonymous],
            list: Arc::clone(&rules.list),
        })
    }

    /// How this request is treated, whose body has this many bytes once unpacked.
    #[must_use]
    pub fn begin(&self, request: &RequestContext<'_>, body_bytes: usize) -> Treatment<'_> {
        let Signals {
            gpc,
            dnt,
            sp_anonymous,
        } = request.privacy.signals;
        let sent = [gpc, dnt == Some(true), sp_anonymous];
        let says = |policy| {
            let mut policies = self.policies.iter().zip(sent);
            policies.position(|(known, is_sent)| is_sent && *known == policy)
        };
        let withheld = says(SignalPolicy::Drop).and_then(|at| Withheld::ALL.get(at).copied());
        let is_stripped = says(SignalPolicy::Strip).is_some();
        let addresses = request.privacy.addresses.unwrap_or(self.addresses);
        let key = self.keys.first();
        let address_key = key
            .filter(|_| addresses == AddressRule::Hash)
            .and_then(|key| {
                let date = civil::rfc3339(request.received_at);
                key.of_day(date.as_bytes().get(..10)?)
            });
        Treatment {
            tree: if is_stripped {
                &self.stripped
            } else {
                &self.fields
            },
            heads: None,
            ids: &self.ids,
            keys: &self.keys,
            list: (!self.ids.is_empty()).then(|| self.list.get()),
            lookups_left: LOOKUPS_FREE + body_bytes / LOOKUP_BYTES,
            withheld,
            values: Values {
                parameters: &self.parameters,
                key,
                addresses,
                address_key,
                hashes_left: HASHED_FREE.max(body_bytes / HASHED_BYTES),
                tally: Tally::default(),
            },
        }
    }

    /// The query of a request, for an event that is made of it, and what was done with it.
    #[must_use]
    pub fn query<'q>(&self, request: &RequestContext<'_>, query: &'q str) -> (Cow<'q, str>, Tally) {
        let uri = format!("?{query}");
        let mut treatment = self.begin(request, query.len());
        let query = match treatment.uri(&uri) {
            Cow::Borrowed(_) => Cow::Borrowed(query),
            Cow::Owned(uri) => Cow::Owned(uri.trim_start_matches('?').to_owned()),
        };
        (query, treatment.tally())
    }
}

/// How one request is treated.
#[derive(Debug)]
pub struct Treatment<'p> {
    tree: &'p Tree,
    /// Where the scan finds the event's own members that have rules or parts with rules, if it looks for all of them.
    heads: Option<Heads>,
    ids: &'p Tree,
    keys: &'p [HashKey],
    list: Option<Arc<SuppressList>>,
    /// Ids that may still be looked up.
    lookups_left: usize,
    withheld: Option<Withheld>,
    values: Values<'p>,
}

impl<'p> Treatment<'p> {
    /// Has the scan look for the members that matter here, so that others are not walked again. To be asked last:
    /// it matters what others look for.
    pub(crate) fn want(&mut self, wanted: &mut Wanted<'p>) {
        self.heads = Heads::want(self.tree, wanted);
    }

    /// What was done so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.values.tally
    }

    /// Why all events of the request are withheld, if they are. Counts `events`.
    pub(crate) fn withholds(&mut self, events: u64) -> bool {
        let Some(reason) = self.withheld else {
            return false;
        };
        self.values.tally.withheld[reason as usize] += events;
        true
    }

    /// The target of the request, with its parameters treated.
    pub(crate) fn uri<'u>(&mut self, uri: &'u str) -> Cow<'u, str> {
        if self.values.parameters.is_empty() {
            return Cow::Borrowed(uri);
        }
        let mut treated = Vec::new();
        if !self.values.url(uri.as_bytes(), &mut treated) {
            return Cow::Borrowed(uri);
        }
        Cow::Owned(String::from_utf8_lossy(&treated).into_owned())
    }

    /// A field that the server adds under this name, from its text to what may be stored of it. Rules for its usual
    /// name hold whatever it is called.
    pub(crate) fn server_field<'t>(
        &mut self,
        field: ServerField,
        name: &str,
        mut text: Cow<'t, [u8]>,
    ) -> Option<Cow<'t, [u8]>> {
        let usual = field.usual_name();
        let renamed = self.tree.top_level(name).filter(|_| name != usual);
        let actions = [self.tree.top_level(usual), renamed];
        if actions.contains(&Some(Action::Drop)) {
            self.values.tally.dropped += 1;
            return None;
        }
        // The address has its own rule in any case: others come on top of it.
        if field == ServerField::Address && self.values.addresses != AddressRule::Keep {
            let mut left = Vec::with_capacity(text.len());
            if !self.values.address(&text, &mut left) {
                return None;
            }
            text = Cow::Owned(left);
        }
        let actions = actions.into_iter().flatten();
        for action in actions.filter(|action| *action != Action::Address) {
            let (mut json, mut treated) = (Vec::new(), Vec::new());
            quote_into(&text, &mut json);
            if self.values.write(action, &json, &mut treated) {
                text = Cow::Owned(redact::text_of(&treated).into_owned());
            }
        }
        Some(text)
    }

    /// Appends an event with its values treated, and gives what it is now. `None` if it is withheld.
    pub(crate) fn event(
        &mut self,
        body: &[u8],
        event: &Event,
        wanted: &Wanted<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Event> {
        let raw = event.span.of(body);
        if let Some(list) = self.list.as_ref().filter(|list| !list.is_empty()) {
            let (keys, left) = (self.keys, &mut self.lookups_left);
            // Whose ids cannot all be looked up may be on the list.
            let mut is_listed = |id: &[u8]| match left.checked_sub(1) {
                Some(rest) => {
                    *left = rest;
                    list.has(id, keys)
                }
                None => true,
            };
            if redact::any(self.ids, raw, &mut is_listed) {
                self.values.tally.withheld[Withheld::Suppressed as usize] += 1;
                return None;
            }
        }
        let (tree, values) = (self.tree, &mut self.values);
        Some(match &self.heads {
            Some(heads) if !heads.are_in(event) => redact::copied(body, event, out),
            Some(heads) => redact::by_heads(heads, wanted, tree, values, body, event, out),
            None => redact::redact(tree, values, body, event, out),
        })
    }
}
