//! Validates one JSON value, and finds its end and its top-level fields.
//!
//! One pass, strict RFC 8259, no recursion, no allocation below 65 levels. UTF-8 is checked beforehand,
//! once per body. Numbers are not parsed and only keys are unescaped, so out-of-range numbers and lone
//! surrogates (`"\ud83d"`, which browsers send when a script cuts an emoji in two) are accepted: the
//! grammar allows them, and the bytes are forwarded unchanged.

use super::simd;
use super::unescape;

/// How many fields one scan can look up.
pub const WANTED_MAX: usize = 12;

/// How many fields one scan can look for besides, only to say whether they are there.
pub const MARKS_MAX: usize = 8;

const NAMES_MAX: usize = MARKS_MAX + WANTED_MAX;

/// A JSON syntax error and its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Offset of the first invalid byte.
    pub at: usize,
    /// What was expected or is wrong.
    pub what: &'static str,
}

/// A part of a body: bytes `start..end`. 32 bits, because a scan keeps thousands of them; larger bodies
/// are rejected beforehand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The bytes of the span; empty if it does not lie within `body`.
    #[must_use]
    pub fn of(self, body: &[u8]) -> &[u8] {
        body.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// The fields to look for: an object's own, and members of the objects that are their values.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'n> {
    /// Marks first, then the fields whose values are wanted.
    names: [&'n [u8]; NAMES_MAX],
    /// The slot of the field that a name is inside of, plus one; 0 for the object's own.
    outers: [u8; NAMES_MAX],
    /// Bit n is set if there are names inside of the field in slot n.
    with_inner: u16,
    marks: usize,
    count: usize,
    /// Which names may be a key, by bit, by [`bucket`]: none for most keys, so that they are compared with nothing.
    buckets: [u32; BUCKETS],
}

const BUCKETS: usize = 64;

const _: () = assert!(NAMES_MAX <= u32::BITS as usize && WANTED_MAX <= 16);

/// Where names are that may be a key of this length and first byte.
#[inline(always)]
fn bucket(first: u8, length: usize) -> usize {
    (usize::from(first) ^ (length << 2)) % BUCKETS
}

fn bucket_of(name: &[u8]) -> usize {
    // An empty key is looked up by its closing quote.
    bucket(name.first().copied().unwrap_or(b'"'), name.len())
}

impl Default for Wanted<'_> {
    fn default() -> Self {
        Wanted {
            names: [&[]; NAMES_MAX],
            outers: [0; NAMES_MAX],
            with_inner: 0,
            marks: 0,
            count: 0,
            buckets: [0; BUCKETS],
        }
    }
}

impl<'n> Wanted<'n> {
    /// Adds a name and returns its slot; an existing name keeps its slot. `None` when
    /// [`WANTED_MAX`] names are taken.
    pub fn add(&mut self, name: &'n [u8]) -> Option<usize> {
        self.add_to(0, name)
    }

    /// Adds a member of the object that is the value of the field in the slot `outer`.
    pub(crate) fn add_inside(&mut self, outer: usize, name: &'n [u8]) -> Option<usize> {
        let slot = self.add_to(outer as u8 + 1, name)?;
        self.with_inner |= 1 << outer;
        Some(slot)
    }

    fn add_to(&mut self, outer: u8, name: &'n [u8]) -> Option<usize> {
        let mut numbers = self.buckets[bucket_of(name)] >> MARKS_MAX << MARKS_MAX;
        while numbers != 0 {
            let number = numbers.trailing_zeros() as usize;
            if self.names[number] == name && self.outers[number] == outer {
                return Some(number - MARKS_MAX);
            }
            numbers &= numbers - 1;
        }
        let slot = self.count;
        self.put(name, MARKS_MAX + slot)?;
        self.outers[MARKS_MAX + slot] = outer;
        self.count += 1;
        Some(slot)
    }

    /// The slot of the field that the one in this slot is inside of.
    pub(crate) fn outer(&self, slot: usize) -> Option<usize> {
        let outer = self.outers.get(MARKS_MAX + slot)?;
        usize::from(*outer).checked_sub(1)
    }

    /// Adds a name of which [`Found::marks`] tells whether it is there, by the bit that is returned. Its value is not
    /// found, even if it is wanted. `None` when [`MARKS_MAX`] names are taken.
    pub(crate) fn mark(&mut self, name: &'n [u8]) -> Option<usize> {
        let mark = self.marks;
        if mark == MARKS_MAX {
            return None;
        }
        self.put(name, mark)?;
        self.marks += 1;
        Some(mark)
    }

    fn put(&mut self, name: &'n [u8], at: usize) -> Option<()> {
        *self.names.get_mut(at)? = name;
        self.buckets[bucket_of(name)] |= 1 << at;
        Some(())
    }

    /// Number of names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are no names.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The number of a key without escapes: `body[start..end]`, with a quote behind it.
    #[inline(always)]
    fn number(&self, outer: u8, body: &[u8], start: usize, end: usize) -> Option<usize> {
        let mut numbers = self.buckets[bucket(byte(body, start), end - start)];
        // The least first: marks go before wanted values.
        while numbers != 0 {
            let number = numbers.trailing_zeros() as usize;
            if self.names[number] == &body[start..end] && self.outers[number] == outer {
                return Some(number);
            }
            numbers &= numbers - 1;
        }
        None
    }

    /// The number of a key with escapes, as it stands between its quotes.
    #[cold]
    fn number_of_escaped(&self, outer: u8, key: &[u8]) -> Option<usize> {
        let values = MARKS_MAX..MARKS_MAX + self.count;
        let mut numbers = (0..self.marks).chain(values);
        numbers.find(|at| self.outers[*at] == outer && unescape::equals(key, self.names[*at]))
    }
}

/// Positions of the wanted fields' values, by slot. The last duplicate key wins, as in most readers
/// (JavaScript, Jackson, Python).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    spans: [Span; WANTED_MAX],
    /// Bit n is set if slot n has a value.
    slots: u16,
    /// Bit n is set if the n-th mark is there.
    marks: u8,
    /// A wanted key came twice, or with escapes: fields inside of others may be missing, or of another one.
    is_irregular: bool,
    /// The slots in the order in which their values end, four bits each, the last one lowest; of use only in a regular
    /// object.
    order: u64,
}

impl Found {
    /// The value in this slot; strings with their quotes.
    #[must_use]
    pub fn get(&self, slot: usize) -> Option<Span> {
        // No value ends at byte 0, so an empty span means "absent".
        self.spans.get(slot).copied().filter(|span| span.end != 0)
    }

    /// Which of these slots have a value, by bit.
    pub(crate) fn among(&self, slots: u16) -> u16 {
        self.slots & slots
    }

    /// Which marks are there, by bit.
    pub(crate) fn marks(&self) -> u8 {
        self.marks
    }

    /// Whether each wanted key came once, and without escapes, so that all fields inside of others are known too.
    pub(crate) fn is_regular(&self) -> bool {
        !self.is_irregular
    }

    /// What becomes of the object moves values in ways that are not followed.
    pub(crate) fn make_irregular(&mut self) {
        self.is_irregular = true;
    }

    /// All values of a regular object with their slots, in the order in which they end.
    pub(crate) fn in_order(&self) -> Option<impl Iterator<Item = (usize, Span)>> {
        if self.is_irregular {
            return None;
        }
        let places = (0..self.slots.count_ones()).rev();
        let slots = places.map(|place| (self.order >> (4 * place) & 15) as usize);
        Some(slots.map(|slot| (slot, self.spans[slot])))
    }

    /// The slot and start of the first value that starts there or behind.
    pub(crate) fn next(&self, start: u32) -> Option<(usize, u32)> {
        let spans = self.spans.iter().map(|span| (span.start, span.end));
        let behind = spans
            .enumerate()
            .filter(|(_, span)| span.0 >= start && span.1 != 0);
        let first = behind.min_by_key(|(_, span)| span.0);
        first.map(|(slot, span)| (slot, span.0))
    }

    /// Moves every value.
    pub(crate) fn update(&mut self, place: impl Fn(Span) -> Span) {
        for span in self.spans.iter_mut().filter(|span| span.end != 0) {
            *span = place(*span);
        }
    }

    #[inline(always)]
    pub(crate) fn set(&mut self, slot: usize, value: Span) {
        let Some(span) = self.spans.get_mut(slot) else {
            return;
        };
        *span = value;
        self.is_irregular |= self.slots >> slot & 1 == 1;
        self.slots |= 1 << slot;
        self.order = self.order << 4 | slot as u64;
    }
}

/// One valid JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// One past its last byte.
    pub end: usize,
    /// Its kind.
    pub kind: Kind,
    /// The first bracket or brace beyond the allowed depth.
    pub too_deep_at: Option<usize>,
    /// Whether CR or LF stand between its tokens.
    pub line_breaks: bool,
}

/// Kind of a JSON value, as far as events need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `{}`.
    EmptyObject,
    /// An object with members.
    Object,
    /// Anything else.
    Other,
}

/// Whether `document` is one valid JSON value with nothing but whitespace around it, at any depth.
///
/// # Errors
/// The first [`Fault`], or [`Fault`] at the first byte that is not UTF-8.
pub fn check(document: &[u8]) -> Result<(), Fault> {
    if let Err(error) = simdutf8::compat::from_utf8(document) {
        return Err(Fault {
            at: error.valid_up_to(),
            what: "expected UTF-8",
        });
    }
    let start = skip_space(document, 0);
    let value = value(
        document,
        start,
        usize::MAX,
        &Wanted::default(),
        &mut Found::default(),
    )?;
    let end = skip_space(document, value.end);
    if end != document.len() {
        return Err(fault(end, TRAILING));
    }
    Ok(())
}

/// The fault for data after a value that should be the whole document.
pub(super) const TRAILING: &str = "expected nothing more";

#[cold]
fn fault(at: usize, what: &'static str) -> Fault {
    Fault { at, what }
}

/// The byte at `at`; past the end 0, which no grammar rule accepts.
#[inline(always)]
pub(crate) fn byte(body: &[u8], at: usize) -> u8 {
    if at < body.len() { body[at] } else { 0 }
}

/// The offset of the first non-whitespace byte from `at` on.
#[inline(always)]
#[must_use]
pub(crate) fn skip_space(body: &[u8], mut at: usize) -> usize {
    while matches!(byte(body, at), b' ' | b'\n' | b'\r' | b'\t') {
        at += 1;
    }
    at
}

/// The open containers, one bit each, 1 for an object. The innermost 64 are in `bits`; the outer ones
/// are spilled, so that hostile depth costs one bit per level and ordinary depth nothing.
#[derive(Default)]
struct Nest {
    bits: u64,
    depth: usize,
    parked: Vec<u64>,
}

impl Nest {
    #[inline(always)]
    fn push(&mut self, object: bool) {
        if self.depth != 0 && self.depth.is_multiple_of(64) {
            self.parked.push(self.bits);
        }
        self.bits = self.bits << 1 | u64::from(object);
        self.depth += 1;
    }

    #[inline(always)]
    fn pop(&mut self) {
        self.depth -= 1;
        self.bits >>= 1;
        if self.depth != 0 && self.depth.is_multiple_of(64) {
            self.bits = self.parked.pop().unwrap_or_default();
        }
    }

    #[inline(always)]
    fn in_object(&self) -> bool {
        self.bits & 1 == 1
    }
}

/// Scans the value that starts at `start` (no whitespace before it) and notes the wanted fields of
/// it in `found`, if it is an object. Depth is counted from the value's own brace as level 1; a value that
/// is too deep is scanned to its end all the same, so that the next one can be found.
///
/// # Errors
/// The first place where the bytes stop being a JSON value.
pub fn value(
    body: &[u8],
    start: usize,
    depth_max: usize,
    wanted: &Wanted<'_>,
    found: &mut Found,
) -> Result<Value, Fault> {
    let mut scan = Scan {
        body,
        at: start,
        nest: Nest::default(),
        line_breaks: false,
        field: (0, 0),
        inner: (0, 0),
        ends_at: 0,
        inner_of: 0,
        is_irregular: false,
        marks: 0,
    };
    let mut too_deep_at = None;
    let mut kind = Kind::Other;
    loop {
        // A value begins here.
        match byte(body, scan.at) {
            b'"' => scan.at = string(body, scan.at)?.0,
            opening @ (b'{' | b'[') => {
                let object = opening == b'{';
                scan.nest.push(object);
                if scan.nest.depth > depth_max && too_deep_at.is_none() {
                    too_deep_at = Some(scan.at);
                }
                scan.at += 1;
                scan.space();
                let empty = byte(body, scan.at) == if object { b'}' } else { b']' };
                if scan.nest.depth == 1 && object {
                    kind = if empty {
                        Kind::EmptyObject
                    } else {
                        Kind::Object
                    };
                }
                if !empty {
                    if object {
                        scan.key(wanted)?;
                    }
                    continue;
                }
                scan.at += 1;
                scan.nest.pop();
            }
            b'-' | b'0'..=b'9' => scan.at = number(body, scan.at)?,
            b't' => scan.literal(b"true")?,
            b'f' => scan.literal(b"false")?,
            b'n' => scan.literal(b"null")?,
            _ => return Err(fault(scan.at, "expected a value")),
        }
        // A value ended here, and perhaps the containers around it end too.
        loop {
            if scan.nest.depth <= scan.ends_at {
                let (slot, start) = match scan.nest.depth {
                    0 => {
                        found.is_irregular |= scan.is_irregular;
                        found.marks |= scan.marks;
                        return Ok(Value {
                            end: scan.at,
                            kind,
                            too_deep_at,
                            line_breaks: scan.line_breaks,
                        });
                    }
                    1 => {
                        scan.inner_of = 0;
                        scan.field
                    }
                    _ => scan.inner,
                };
                scan.ends_at -= 1;
                // 32 bits suffice: `split` refuses longer bodies.
                let (start, end) = (start as u32, scan.at as u32);
                found.set(slot, Span { start, end });
            }
            scan.space();
            match byte(body, scan.at) {
                b',' => {
                    scan.at += 1;
                    scan.space();
                    if scan.nest.in_object() {
                        scan.key(wanted)?;
                    }
                    break;
                }
                b'}' if scan.nest.in_object() => {}
                b']' if !scan.nest.in_object() => {}
                _ if scan.nest.in_object() => return Err(fault(scan.at, "expected `,` or `}`")),
                _ => return Err(fault(scan.at, "expected `,` or `]`")),
            }
            scan.at += 1;
            scan.nest.pop();
        }
    }
}

struct Scan<'a> {
    body: &'a [u8],
    at: usize,
    nest: Nest,
    line_breaks: bool,
    /// The wanted field whose value is being scanned: its slot and the value's first byte.
    field: (usize, usize),
    /// The same for a wanted field inside of it.
    inner: (usize, usize),
    /// How many of these two there are, which is the depth at which the value of the last one ends.
    ends_at: usize,
    /// The slot of `field`, plus one, if there are wanted fields inside of it; else 0.
    inner_of: u8,
    /// A wanted key had escapes.
    is_irregular: bool,
    marks: u8,
}

impl Scan<'_> {
    #[inline(always)]
    fn space(&mut self) {
        while let b @ (b' ' | b'\n' | b'\r' | b'\t') = byte(self.body, self.at) {
            self.line_breaks |= b == b'\n' || b == b'\r';
            self.at += 1;
        }
    }

    /// A key, its colon, and the whitespace up to the value.
    #[inline(always)]
    fn key(&mut self, wanted: &Wanted<'_>) -> Result<(), Fault> {
        if byte(self.body, self.at) != b'"' {
            return Err(fault(self.at, "expected a key"));
        }
        let start = self.at + 1;
        let (end, escaped) = string(self.body, self.at)?;
        self.at = end;
        self.space();
        if byte(self.body, self.at) != b':' {
            return Err(fault(self.at, "expected `:`"));
        }
        self.at += 1;
        self.space();
        let outer = match self.nest.depth {
            1 => 0,
            2 if self.inner_of != 0 => self.inner_of,
            _ => return Ok(()),
        };
        let number = match escaped {
            false => wanted.number(outer, self.body, start, end - 1),
            true => wanted.number_of_escaped(outer, &self.body[start..end - 1]),
        };
        match number {
            None => {}
            Some(mark) if mark < MARKS_MAX => self.marks |= 1 << mark,
            Some(number) => {
                self.is_irregular |= escaped;
                let slot = number - MARKS_MAX;
                if outer == 0 {
                    self.field = (slot, self.at);
                    self.ends_at = 1;
                    if wanted.with_inner >> slot & 1 == 1 {
                        self.inner_of = slot as u8 + 1;
                    }
                } else {
                    self.inner = (slot, self.at);
                    self.ends_at = 2;
                }
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn literal(&mut self, word: &[u8]) -> Result<(), Fault> {
        if !self.body[self.at..].starts_with(word) {
            return Err(fault(self.at, "expected a value"));
        }
        self.at += word.len();
        Ok(())
    }
}

/// Scans the string whose opening quote is at `start`; gives the offset after its closing quote, and
/// whether it holds a backslash.
#[inline(always)]
fn string(body: &[u8], start: usize) -> Result<(usize, bool), Fault> {
    let at = simd::find_special(body, start + 1);
    if byte(body, at) == b'"' {
        return Ok((at + 1, false));
    }
    string_with_escapes(body, at).map(|end| (end, true))
}

/// The rest of a string from its first backslash (or fault) on.
fn string_with_escapes(body: &[u8], mut at: usize) -> Result<usize, Fault> {
    loop {
        match body.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => match byte(body, at + 1) {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at += 2,
                b'u' => {
                    let digits = (at + 2..at + 6)
                        .take_while(|digit| byte(body, *digit).is_ascii_hexdigit())
                        .count();
                    if digits != 4 {
                        return Err(fault(at + 2 + digits, "expected four hex digits"));
                    }
                    at += 6;
                }
                _ => return Err(fault(at + 1, "expected an escape character")),
            },
            Some(_) => {
                return Err(fault(
                    at,
                    "a control character has to be escaped in a string",
                ));
            }
            None => return Err(fault(at, "the string does not end")),
        }
        at = simd::find_special(body, at);
    }
}

/// Scans the number that starts at `start` with `-` or a digit.
#[inline(always)]
fn number(body: &[u8], start: usize) -> Result<usize, Fault> {
    let mut at = start + usize::from(body[start] == b'-');
    match byte(body, at) {
        b'0' => at += 1,
        b'1'..=b'9' => at = digits(body, at),
        _ => return Err(fault(at, "expected a digit")),
    }
    if byte(body, at) == b'.' {
        at = some_digits(body, at + 1)?;
    }
    if matches!(byte(body, at), b'e' | b'E') {
        at += 1;
        if matches!(byte(body, at), b'+' | b'-') {
            at += 1;
        }
        at = some_digits(body, at)?;
    }
    Ok(at)
}

#[inline(always)]
fn digits(body: &[u8], mut at: usize) -> usize {
    while byte(body, at).is_ascii_digit() {
        at += 1;
    }
    at
}

#[inline(always)]
fn some_digits(body: &[u8], at: usize) -> Result<usize, Fault> {
    let end = digits(body, at);
    if end == at {
        return Err(fault(at, "expected a digit"));
    }
    Ok(end)
}
