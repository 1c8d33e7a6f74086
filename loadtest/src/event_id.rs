//! The id that every generated event carries: `lt-<run, 8 hex>-<sequence, 12 hex>`.
//! It has nothing that JSON escapes, so it is found by its bytes alone: in an event, in an
//! envelope around an escaped event, in a decoded Kinesis record. Where an SDK sent base64 of gzip,
//! and a collector stored it as it came, it is found inside.

use flate2::read::MultiGzDecoder;
use memchr::memmem;
use std::fmt;
use std::io::Read;

/// The id of one generated event. Unique as long as run numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId {
    /// Which run of the generator made it.
    pub run: u32,
    /// Its number in that run, below [`EventId::SEQ_END`].
    pub seq: u64,
}

const PREFIX: &[u8; 3] = b"lt-";
const DIGITS: &[u8; 16] = b"0123456789abcdef";

impl EventId {
    /// Length of an id in bytes.
    pub const LEN: usize = 24;

    /// The first sequence number that 12 hex digits cannot hold.
    pub const SEQ_END: u64 = 1 << 48;

    /// The id as text.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut text = [0; Self::LEN];
        text[..3].copy_from_slice(PREFIX);
        put_hex(&mut text[3..11], u64::from(self.run));
        text[11] = b'-';
        put_hex(&mut text[12..], self.seq);
        text
    }

    /// Reads an id from exactly its text; `None` for anything else, upper-case digits included.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<EventId> {
        if text.len() != Self::LEN || &text[..3] != PREFIX || text[11] != b'-' {
            return None;
        }
        Some(EventId {
            run: u32::try_from(hex(&text[3..11])?).ok()?,
            seq: hex(&text[12..])?,
        })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lt-{:08x}-{:012x}", self.run, self.seq)
    }
}

/// Reads a number from lower-case hex digits, at most 16 of them.
pub(crate) fn hex(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(value))
    })
}

/// Writes the low digits of a number over the whole of `out`, zeros in front.
pub(crate) fn put_hex(out: &mut [u8], mut number: u64) {
    for digit in out.iter_mut().rev() {
        *digit = DIGITS[(number & 15) as usize];
        number >>= 4;
    }
}

/// How base64 of gzip begins: the first three bytes of RFC 1952 are always the same.
const PACKED: &[u8; 4] = b"H4sI";

/// Bytes of one compressed body that are inflated: four times the largest one that the generator
/// makes.
pub const INFLATED_BYTES_MAX: usize = 64 << 20;

/// Finds ids in bytes. Made once and used for many texts.
#[derive(Clone, Debug)]
pub struct IdScanner {
    ids: memmem::Finder<'static>,
    packed: memmem::Finder<'static>,
}

impl Default for IdScanner {
    fn default() -> IdScanner {
        IdScanner {
            ids: memmem::Finder::new(PREFIX),
            packed: memmem::Finder::new(PACKED),
        }
    }
}

impl IdScanner {
    /// Calls `found` with each id in `text`, in order, repeated ones included; then with those in
    /// base64 of gzip, where a text is that or has it behind a quotation mark. Of such a body the
    /// first [`INFLATED_BYTES_MAX`] bytes count, and a damaged one has no ids.
    pub fn scan(&self, text: &[u8], mut found: impl FnMut(EventId)) {
        self.scan_plain(text, &mut found);
        for start in self.packed.find_iter(text) {
            if (start == 0 || text[start - 1] == b'"')
                && let Some(inflated) = unpack(&text[start..])
            {
                self.scan_plain(&inflated, &mut found);
            }
        }
    }

    fn scan_plain(&self, text: &[u8], found: &mut impl FnMut(EventId)) {
        let mut at = 0;
        while let Some(offset) = self.ids.find(&text[at..]) {
            let start = at + offset;
            match text
                .get(start..start + EventId::LEN)
                .and_then(EventId::parse)
            {
                Some(id) => {
                    found(id);
                    at = start + EventId::LEN;
                }
                None => at = start + PREFIX.len(),
            }
        }
    }

    /// All ids in `text`, in order.
    #[must_use]
    pub fn ids(&self, text: &[u8]) -> Vec<EventId> {
        let mut ids = Vec::new();
        self.scan(text, |id| ids.push(id));
        ids
    }
}

/// Inflates the base64 of gzip that a text begins with. Some writers of JSON put a backslash before
/// each slash of it.
fn unpack(text: &[u8]) -> Option<Vec<u8>> {
    let of_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=\\".contains(byte);
    let end = text.iter().position(|byte| !of_base64(byte));
    let mut base64 = text[..end.unwrap_or(text.len())].to_vec();
    base64.retain(|byte| *byte != b'\\');
    let gzip = base64_simd::STANDARD.decode_inplace(&mut base64).ok()?;
    let mut inflated = Vec::new();
    MultiGzDecoder::new(&*gzip)
        .take(INFLATED_BYTES_MAX as u64)
        .read_to_end(&mut inflated)
        .ok()?;
    Some(inflated)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: EventId = EventId {
        run: 0x00ab_cdef,
        seq: 0x0123_4567_89ab,
    };

    #[test]
    fn an_id_survives_writing_and_reading() {
        assert_eq!(&ID.to_bytes(), b"lt-00abcdef-0123456789ab");
        assert_eq!(EventId::parse(&ID.to_bytes()), Some(ID));
        assert_eq!(ID.to_string().as_bytes(), ID.to_bytes());
        let last = EventId {
            run: u32::MAX,
            seq: EventId::SEQ_END - 1,
        };
        assert_eq!(EventId::parse(&last.to_bytes()), Some(last));
    }

    #[test]
    fn what_is_not_exactly_an_id_is_none() {
        for text in [
            "lt-00abcdef-0123456789a",
            "lt-00abcdef-0123456789abc",
            "lt-00ABCDEF-0123456789ab",
            "lt-00abcdef_0123456789ab",
            "xt-00abcdef-0123456789ab",
            "lt-00abcdeg-0123456789ab",
        ] {
            assert_eq!(EventId::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn ids_are_found_in_events_and_inside_escaped_envelopes() {
        let text = format!(
            r#"{{"event_id":"{ID}","x":"lt-"}} {{"data":"[{{\"event_id\":\"{ID}\"}}]"}}lt-lt-{ID}lt-00"#
        );
        assert_eq!(IdScanner::default().ids(text.as_bytes()), [ID, ID, ID]);
    }

    fn pack(text: &[u8]) -> String {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, text).unwrap();
        base64_simd::STANDARD.encode_to_string(gzip.finish().unwrap())
    }

    #[test]
    fn ids_are_found_inside_compressed_bodies() {
        let scanner = IdScanner::default();
        let body =
            pack(format!("[{{\"event_id\":\"{ID}\"}},{{\"event_id\":\"{ID}\"}}]").as_bytes());
        assert_eq!(scanner.ids(body.as_bytes()), [ID, ID]);
        let records = format!("{{\"data\":\"{body}\",\"rid\":\"1\"}}\n{{\"data\":\"{body}\"}}\n");
        assert_eq!(scanner.ids(records.as_bytes()), [ID; 4]);
        // As some writers of JSON escape it. Some text has a slash in its base64.
        let slashed = (0..100)
            .map(|at| pack(format!("{at}{ID}").as_bytes()))
            .find(|body| body.contains('/'))
            .unwrap();
        let escaped = format!("{{\"data\":\"{}\"}}", slashed.replace('/', "\\/"));
        assert_eq!(scanner.ids(escaped.as_bytes()), [ID]);
    }

    #[test]
    fn damaged_and_cut_bodies_have_no_ids() {
        let scanner = IdScanner::default();
        let body = pack(ID.to_string().as_bytes());
        for cut in 0..body.len() {
            assert_eq!(scanner.ids(&body.as_bytes()[..cut]), [], "{cut}");
        }
        let other = body.replacen("H4sI", "H4sIAAAA", 1);
        assert_eq!(scanner.ids(other.as_bytes()), []);
        assert_eq!(scanner.ids(format!("x{body}").as_bytes()), []);
    }

    #[test]
    fn what_a_body_inflates_to_has_a_limit() {
        let mut text = vec![b' '; INFLATED_BYTES_MAX];
        text.extend(ID.to_bytes());
        assert_eq!(IdScanner::default().ids(pack(&text).as_bytes()), []);
        text.drain(..EventId::LEN);
        assert_eq!(IdScanner::default().ids(pack(&text).as_bytes()), [ID]);
    }
}
