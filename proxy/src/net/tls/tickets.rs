//! Session tickets: a client brings back its own session's state, encrypted for us, so that no host keeps it
//! (RFC 5077; TLS 1.3 sends them as pre-shared keys, RFC 8446, 4.6.1).
//!
//! All workers share the keys. Without a file they are random and known to this process only; with one, a
//! fleet shares them. A file's first key encrypts, all of them decrypt: a new key is first added below the old
//! ones on every host, then moved to the top.
//!
//! ```text
//! key name (16) | nonce (12) | AES-256-GCM-SIV of: seconds of issue (8), state | tag (16)
//! ```
//!
//! GCM-SIV, because nonces are random and a fleet's hosts do not know each other's: one that comes twice shows
//! no more than that two states are equal (RFC 8452).

use super::certificates::Contents;
use super::error::TlsError;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use rustls::server::ProducesTickets;
use sluice_core::time::Wall;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// Keys in a file at most. One that does not decrypt costs a comparison of names.
pub const KEYS_MAX: usize = 16;

/// Random bytes of a key in a file.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 32..=64;

/// How long a ticket is taken. A client's certificate is not checked again within it.
pub(super) const LIFETIME_S: u32 = 12 * 3_600;

/// Without a file: how long a key encrypts.
const ROTATE_EVERY_S: u64 = LIFETIME_S as u64 / 2;

/// Without a file: one that encrypts, and those that are younger than a ticket may be.
const RANDOM_KEYS: usize = 3;
const _: () = assert!((RANDOM_KEYS as u64 - 1) * ROTATE_EVERY_S >= LIFETIME_S as u64);

const NAME_BYTES: usize = 16;
const TIME_BYTES: usize = 8;

/// What the library puts into a ticket is far smaller; a client's certificates are the most of it.
const STATE_BYTES_MAX: usize = 64 * 1024;

struct Key {
    name: [u8; NAME_BYTES],
    key: RandomizedNonceKey,
}

/// A length for the key derivation.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Key {
    /// Name and key from the same random bytes, so that all hosts with them make the same.
    fn derive(random: &[u8]) -> Option<Key> {
        let secret = Salt::new(HKDF_SHA256, b"sluice session tickets").extract(random);
        let fill = |purpose: &[u8], bytes: &mut [u8]| {
            let info = [purpose];
            let output = secret.expand(&info, Length(bytes.len())).ok()?;
            output.fill(bytes).ok()
        };
        let mut name = [0; NAME_BYTES];
        fill(b"name", &mut name)?;
        let mut key = [0; 32];
        fill(b"key", &mut key)?;
        let key = RandomizedNonceKey::new(&AES_256_GCM_SIV, &key).ok()?;
        Some(Key { name, key })
    }

    fn random() -> Result<Key, TlsError> {
        let mut bytes = [0; 48];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| TlsError::NoRandom)?;
        Key::derive(&bytes).ok_or(TlsError::NoRandom)
    }

    fn aad(&self, context: &[u8]) -> Vec<u8> {
        [&self.name, context].concat()
    }

    fn encrypt(&self, context: &[u8], state: &[u8], now: Wall) -> Option<Vec<u8>> {
        if state.len() > STATE_BYTES_MAX {
            return None;
        }
        let mut sealed = [&now.secs.to_be_bytes(), state].concat();
        let aad = Aad::from(self.aad(context));
        let nonce = self.key.seal_in_place_append_tag(aad, &mut sealed).ok()?;
        Some([&self.name[..], nonce.as_ref(), &sealed].concat())
    }

    fn decrypt(&self, context: &[u8], nonce: &[u8], sealed: &[u8], now: Wall) -> Option<Vec<u8>> {
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let aad = Aad::from(self.aad(context));
        let mut opened = sealed.to_vec();
        let opened = self.key.open_in_place(nonce, aad, &mut opened).ok()?;
        let (issued, state) = opened.split_first_chunk::<TIME_BYTES>()?;
        let issued = u64::from_be_bytes(*issued);
        let is_fresh = now.secs.saturating_sub(issued) <= u64::from(LIFETIME_S);
        is_fresh.then(|| state.to_vec())
    }
}

/// The ticket keys of a listener, newest first.
pub(super) struct TicketKeys(RwLock<State>);

struct State {
    keys: Vec<Key>,
    /// When random keys rotate, in Unix seconds; `None` with a file.
    rotates: Option<u64>,
}

impl TicketKeys {
    /// Keys that nobody else knows.
    pub(super) fn random(now: Wall) -> Result<TicketKeys, TlsError> {
        let state = State {
            keys: vec![Key::random()?],
            rotates: Some(now.secs.saturating_add(ROTATE_EVERY_S)),
        };
        Ok(TicketKeys(RwLock::new(state)))
    }

    /// Those of a file.
    pub(super) fn of_file(contents: &Contents) -> Result<TicketKeys, TlsError> {
        let state = State {
            keys: parse(contents)?,
            rotates: None,
        };
        Ok(TicketKeys(RwLock::new(state)))
    }

    /// Takes a changed file's keys; a broken one changes nothing.
    pub(super) fn reload(&self, contents: &Contents) -> Result<(), TlsError> {
        let keys = parse(contents)?;
        self.0.write().unwrap_or_else(PoisonError::into_inner).keys = keys;
        Ok(())
    }

    /// Makes a new random key when it is time.
    pub(super) fn rotate(&self, now: Wall) -> Result<(), TlsError> {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if state.rotates.is_some_and(|at| now.secs >= at) {
            state.keys.insert(0, Key::random()?);
            state.keys.truncate(RANDOM_KEYS);
            state.rotates = Some(now.secs.saturating_add(ROTATE_EVERY_S));
        }
        Ok(())
    }

    fn encrypt(&self, context: &[u8], state: &[u8], now: Wall) -> Option<Vec<u8>> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.keys.first()?.encrypt(context, state, now)
    }

    fn decrypt(&self, context: &[u8], ticket: &[u8], now: Wall) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        if sealed.len() > TIME_BYTES + STATE_BYTES_MAX + AES_256_GCM_SIV.tag_len() {
            return None;
        }
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        // Names are sent in the clear: comparing them tells nothing.
        let key = keys.keys.iter().find(|key| key.name == *name)?;
        key.decrypt(context, nonce, sealed, now)
    }
}

/// The keys of a file: one a line, `#` begins a comment.
fn parse(contents: &Contents) -> Result<Vec<Key>, TlsError> {
    let mut keys = Vec::new();
    for (line, text) in (1..).zip(contents.bytes.split(|byte| *byte == b'\n')) {
        let text = text.trim_ascii();
        if text.is_empty() || text.starts_with(b"#") {
            continue;
        }
        let wrong = |reason: String| TlsError::TicketKey {
            file: contents.file.clone(),
            line,
            reason,
        };
        let random = base64_simd::STANDARD
            .decode_to_vec(text)
            .map_err(|_| wrong("it is not base64".to_owned()))?;
        if !KEY_BYTES.contains(&random.len()) {
            return Err(wrong(format!(
                "the key has {} bytes, allowed is {} to {}",
                random.len(),
                KEY_BYTES.start(),
                KEY_BYTES.end()
            )));
        }
        let key = Key::derive(&random);
        keys.push(key.ok_or_else(|| wrong("no key can be made of it".to_owned()))?);
    }
    match keys.len() {
        0 => Err(TlsError::Malformed {
            file: contents.file.clone(),
            reason: "it has no ticket key: 32 to 64 random bytes a line, in base64",
        }),
        actual if actual > KEYS_MAX => Err(TlsError::TooMany {
            file: contents.file.clone(),
            what: "ticket keys",
            limit: KEYS_MAX,
            actual,
        }),
        _ => Ok(keys),
    }
}

/// Makes and takes tickets for one way of checking clients.
pub(super) struct Tickets {
    keys: Arc<TicketKeys>,
    /// Names the way in which clients' certificates are checked. rustls resumes without asking for one again,
    /// so a ticket of a listener that asks for none must not open one that does.
    context: Vec<u8>,
    now: fn() -> Wall,
}

impl Tickets {
    pub(super) fn new(keys: Arc<TicketKeys>, context: Vec<u8>, now: fn() -> Wall) -> Tickets {
        Tickets { keys, context, now }
    }
}

/// No key, and nothing made of one.
impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_S
    }

    fn encrypt(&self, state: &[u8]) -> Option<Vec<u8>> {
        self.keys.encrypt(&self.context, state, (self.now)())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.keys.decrypt(&self.context, ticket, (self.now)())
    }
}

#[cfg(test)]
mod tests;
