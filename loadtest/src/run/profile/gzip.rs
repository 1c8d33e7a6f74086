//! A gzip stream that is compressed once and then changed in place. Compressing each request anew
//! costs 30 to 300 us; writing its ids over costs a few.
//!
//! It works since DEFLATE's fixed code gives every digit 8 bits, whatever digit it is. So the
//! encoder here uses that code alone, lets repetitions reach over places that change only where
//! the same value stands in both, and remembers where the digits of the others are. What is left
//! per request is to write those bits and the checksum. RFC 1951 has the code, RFC 1952 the frame.

use super::template::{Moment, Slot, Text};
use flate2::Crc;

/// Identification, method DEFLATE, no flags, no time, fastest method, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 0xff];
const TRAILER: usize = 8;

/// How far back and how long a repetition may be. One of 3 bytes is rarely shorter than the bytes.
const WINDOW: usize = 32 << 10;
const MATCH_MIN: usize = 4;
const MATCH_MAX: usize = 258;

/// Earlier places with the same four bytes that are tried.
const TRIES_MAX: usize = 16;

/// Bits of the hash of four symbols.
const HASH_BITS: u32 = 15;

/// First length, or distance, of each code; the next one's is out of reach.
const LENGTHS: [u16; 29] = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131,
    163, 195, 227, 258,
];
const LENGTH_BITS: [u32; 29] = [
    0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0,
];
const DISTANCES: [u16; 30] = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537,
    2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577,
];

/// The fixed code of bytes below 144, as its bits go out: the first one lowest.
const CODES: [u8; 144] = {
    let mut codes = [0; 144];
    let mut byte = 0;
    while byte < 144 {
        codes[byte] = (0x30 + byte as u8).reverse_bits();
        byte += 1;
    }
    codes
};

/// Digits that went into the stream as they are.
#[derive(Clone, Copy, Debug)]
struct Run {
    text_at: usize,
    length: usize,
    /// Where the first one's code begins, in bits of the stream.
    bit: usize,
}

/// Compressed text that can be changed in place.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    text: Vec<u8>,
    slots: Vec<Slot>,
    stream: Vec<u8>,
    runs: Vec<Run>,
}

impl Packed {
    /// Compresses ASCII text.
    pub(super) fn new(text: Text) -> Packed {
        let (stream, runs) = compress(&symbols(&text));
        let mut packed = Packed {
            text: text.text.into_bytes(),
            slots: text.slots,
            stream,
            runs,
        };
        packed.seal();
        packed
    }

    /// Writes a moment's values into text and stream.
    pub(super) fn fill(&mut self, moment: &Moment) {
        moment.fill(&mut self.text, 0, &self.slots);
        for run in &self.runs {
            let digits = &self.text[run.text_at..run.text_at + run.length];
            put_codes(&mut self.stream[run.bit / 8..], run.bit % 8, digits);
        }
        self.seal();
    }

    /// The gzip stream, always equally long.
    pub(super) fn stream(&self) -> &[u8] {
        &self.stream
    }

    /// Bytes that it holds in memory for its text and stream.
    pub(super) fn held(&self) -> usize {
        self.text.len() + self.stream.len()
    }

    fn seal(&mut self) {
        let mut crc = Crc::new();
        crc.update(&self.text);
        let at = self.stream.len() - TRAILER;
        self.stream[at..at + 4].copy_from_slice(&crc.sum().to_le_bytes());
        self.stream[at + 4..].copy_from_slice(&crc.amount().to_le_bytes());
    }
}

/// Writes the codes of digits over those that are there, from a bit of the first byte on.
fn put_codes(stream: &mut [u8], shift: usize, digits: &[u8]) {
    let below = (1u8 << shift) - 1;
    let mut carry = stream[0] & below;
    for (byte, digit) in stream.iter_mut().zip(digits) {
        let code = u16::from(CODES[usize::from(*digit)]) << shift;
        *byte = carry | code as u8;
        carry = (code >> 8) as u8;
    }
    // With a shift of zero nothing reaches into the next byte, which keeps all its bits.
    let next = &mut stream[digits.len()];
    *next = *next & !below | carry;
}

/// The text as symbols that are equal only where the text will always be: a byte stands for itself,
/// a byte of a place that changes for its value and its position in it.
fn symbols(text: &Text) -> Vec<u32> {
    let mut symbols: Vec<u32> = text.text.bytes().map(u32::from).collect();
    let mut values = Vec::new();
    for slot in &text.slots {
        let known = values.iter().position(|value| *value == slot.value);
        let number = known.unwrap_or_else(|| {
            values.push(slot.value);
            values.len() - 1
        });
        let first = 256 + number as u32 * 16;
        for (symbol, changing) in symbols[slot.at..slot.at + slot.value.width()]
            .iter_mut()
            .zip(first..)
        {
            *symbol = changing;
        }
    }
    symbols
}

/// A stream of bits, the first one lowest in its byte.
struct Bits {
    bytes: Vec<u8>,
    pending: u64,
    count: u32,
}

impl Bits {
    fn put(&mut self, bits: u32, count: u32) {
        self.pending |= u64::from(bits) << self.count;
        self.count += count;
        while self.count >= 8 {
            self.bytes.push(self.pending as u8);
            self.pending >>= 8;
            self.count -= 8;
        }
    }

    /// Codes go out with their highest bit first.
    fn put_code(&mut self, code: u32, count: u32) {
        self.put(code.reverse_bits() >> (32 - count), count);
    }

    fn position(&self) -> usize {
        self.bytes.len() * 8 + self.count as usize
    }
}

/// Compresses with the fixed code. Returns the stream with room for its trailer, and where the
/// digits of changing places are.
fn compress(symbols: &[u32]) -> (Vec<u8>, Vec<Run>) {
    let mut bits = Bits {
        bytes: HEADER.to_vec(),
        pending: 0,
        count: 0,
    };
    let mut runs: Vec<Run> = Vec::new();
    // The only block is the last one, and has the fixed code.
    bits.put(0b011, 3);
    let mut newest = vec![usize::MAX; 1 << HASH_BITS];
    let mut older = vec![usize::MAX; symbols.len()];
    let mut at = 0;
    while at < symbols.len() {
        let (length, distance) = longest(symbols, at, &newest, &older);
        let taken = if length >= MATCH_MIN {
            put_match(&mut bits, length, distance);
            length
        } else {
            let bit = bits.position();
            // Changing places hold digits; any digit has a code as long as this one's.
            let byte = match symbols[at] {
                changing if changing >= 256 => {
                    match runs.last_mut() {
                        Some(run) if run.bit + run.length * 8 == bit => run.length += 1,
                        _ => runs.push(Run {
                            text_at: at,
                            length: 1,
                            bit,
                        }),
                    }
                    u32::from(b'0')
                }
                byte => byte,
            };
            match byte {
                0..144 => bits.put_code(0x30 + byte, 8),
                _ => bits.put_code(0x190 + byte - 144, 9),
            }
            1
        };
        for (position, older) in (at..).zip(&mut older[at..at + taken]) {
            if let Some(hash) = hash(symbols, position) {
                *older = newest[hash];
                newest[hash] = position;
            }
        }
        at += taken;
    }
    // The code of the end, and whole bytes.
    bits.put_code(0, 7);
    bits.put(0, 7);
    bits.bytes.extend([0; TRAILER]);
    (bits.bytes, runs)
}

fn hash(symbols: &[u32], at: usize) -> Option<usize> {
    let four = symbols.get(at..at + MATCH_MIN)?;
    let mixed = four.iter().fold(0u32, |hash, symbol| {
        (hash ^ symbol).wrapping_mul(0x9e37_79b1).rotate_left(7)
    });
    Some((mixed >> (32 - HASH_BITS)) as usize)
}

/// The longest repetition at a place: its length and distance.
fn longest(symbols: &[u32], at: usize, newest: &[usize], older: &[usize]) -> (usize, usize) {
    let mut best = (0, 0);
    let Some(hash) = hash(symbols, at) else {
        return best;
    };
    let here = &symbols[at..symbols.len().min(at + MATCH_MAX)];
    let mut candidate = newest[hash];
    for _ in 0..TRIES_MAX {
        if candidate == usize::MAX || at - candidate > WINDOW || best.0 == here.len() {
            break;
        }
        let same = here
            .iter()
            .zip(&symbols[candidate..])
            .take_while(|(a, b)| a == b)
            .count();
        if same > best.0 {
            best = (same, at - candidate);
        }
        candidate = older[candidate];
    }
    best
}

fn put_match(bits: &mut Bits, length: usize, distance: usize) {
    let code = LENGTHS.partition_point(|first| usize::from(*first) <= length) - 1;
    match code as u32 {
        // Codes 257 to 279 have 7 bits, from zero on; 280 and more have 8, from 0xc0 on.
        short @ 0..23 => bits.put_code(short + 1, 7),
        long => bits.put_code(0xc0 + long - 23, 8),
    }
    let rest = length - usize::from(LENGTHS[code]);
    bits.put(rest as u32, LENGTH_BITS[code]);
    let code = DISTANCES.partition_point(|first| usize::from(*first) <= distance) - 1;
    bits.put_code(code as u32, 5);
    let rest = distance - usize::from(DISTANCES[code]);
    bits.put(rest as u32, (code as u32 / 2).saturating_sub(1));
}

#[cfg(test)]
mod tests {
    use super::super::template::Value;
    use super::*;
    use fastrand::Rng;
    use flate2::read::GzDecoder;
    use std::io::Read;

    /// Inflated by flate2, which also checks checksum and length.
    fn inflate(stream: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        GzDecoder::new(stream).read_to_end(&mut text).unwrap();
        text
    }

    fn moment(rng: &mut Rng) -> Moment {
        Moment {
            first: rng.u64(..1 << 40),
            now_ms: rng.u64(1_600_000_000_000..1_800_000_000_000),
            user: rng.u64(..1_000_000_000),
            bundle: rng.u64(..1_000),
        }
    }

    /// Text with all kinds of places at random distances, some of them repeated.
    fn text(rng: &mut Rng, parts: u32) -> Text {
        let mut text = Text::default();
        for index in 0..parts {
            for _ in 0..rng.u32(..40) {
                match rng.u32(..10) {
                    0 => text.push(&rng.alphanumeric().to_string()),
                    1..4 => text.push("{\"timestamp\":"),
                    _ => text.push("the same words "),
                }
            }
            let back_ms = rng.u32(..3);
            match rng.u32(..6) {
                0 => text.slot(Value::Seq(index)),
                1 => text.slot(Value::TimeMs { back_ms }),
                2 => text.slot(Value::SessionStart),
                3 => text.slot(Value::SessionAge { back_ms }),
                4 => text.slot(Value::Bundle),
                _ => text.slot(Value::User),
            }
        }
        text
    }

    #[test]
    fn a_stream_changed_in_place_inflates_to_the_changed_text() {
        for seed in 0..200 {
            let mut rng = Rng::with_seed(seed);
            let parts = rng.u32(1..60);
            let text = text(&mut rng, parts);
            let mut packed = Packed::new(text.clone());
            assert_eq!(
                inflate(packed.stream()),
                text.text.as_bytes(),
                "seed {seed}"
            );
            for _ in 0..5 {
                let moment = moment(&mut rng);
                packed.fill(&moment);
                let mut expected = text.text.clone().into_bytes();
                moment.fill(&mut expected, 0, &text.slots);
                assert_eq!(inflate(packed.stream()), expected, "seed {seed}");
            }
        }
    }

    #[test]
    fn gzip_handles_every_byte_and_repetition_length() {
        for length in 0..600 {
            let mut text = Text::default();
            text.push("a<\u{e9}>");
            text.push(&"x".repeat(length));
            let packed = Packed::new(text.clone());
            assert_eq!(inflate(packed.stream()), text.text.as_bytes(), "{length}");
        }
        let mut rng = Rng::with_seed(1);
        // Every distance up to and over the window's.
        for gap in [
            1, 5, 100, 1_000, 5_000, 20_000, 32_760, 32_768, 32_780, 40_000,
        ] {
            let mut text = Text::default();
            let words: String = (0..50).map(|_| rng.alphanumeric()).collect();
            text.push(&words);
            let noise: String = (0..gap).map(|_| rng.alphanumeric()).collect();
            text.push(&noise);
            text.push(&words);
            let packed = Packed::new(text.clone());
            assert_eq!(inflate(packed.stream()), text.text.as_bytes(), "{gap}");
        }
    }

    #[test]
    fn repetitions_are_found() {
        let mut text = Text::default();
        for index in 0..50 {
            text.push("{\"event_type\":\"_page_view\",\"event_id\":\"lt-00000001-");
            text.slot(Value::Seq(index));
            text.push("\",\"unique_id\":\"u-");
            text.slot(Value::User);
            text.push("\"},");
        }
        let packed = Packed::new(text.clone());
        // An id is 12 bytes, and some for the repetition around it.
        assert!(
            packed.stream().len() < 50 * 20 + 100,
            "{}",
            packed.stream().len()
        );
    }
}
