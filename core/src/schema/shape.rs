//! What a JSON value has to look like, checked in one walk over bytes that the scanner has accepted.
//!
//! Parses nothing that no rule asks for, and allocates only to say what is wrong. Of members with one name, each is
//! checked.

use super::{Check, Violation};
use crate::json::scan::{byte, skip_space};
use crate::json::step::{string_end, value_end};
use crate::json::unescape;
use std::ops::BitOr;
use std::sync::Arc;

/// Bytes of a member's name, and of a text that an enumeration lists.
pub const NAME_BYTES_MAX: usize = 256;

/// Members that one object may have to have.
pub const REQUIRED_MAX: usize = u64::BITS as usize;

/// Up to this many names are compared one by one, which is faster than searching.
const SCANNED_MAX: usize = 16;

/// Numbers are compared as doubles: whole ones below this are exact.
pub const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// A set of JSON types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Types(u8);

impl Types {
    /// `null`.
    pub const NULL: Types = Types(1);
    /// `true` and `false`.
    pub const BOOLEAN: Types = Types(1 << 1);
    /// Numbers without a fraction: `1`, `1.0`, `1e3`.
    pub const INTEGER: Types = Types(1 << 2);
    /// All numbers.
    pub const NUMBER: Types = Types(1 << 2 | 1 << 3);
    /// Texts.
    pub const STRING: Types = Types(1 << 4);
    /// Arrays.
    pub const ARRAY: Types = Types(1 << 5);
    /// Objects.
    pub const OBJECT: Types = Types(1 << 6);
    /// None.
    pub const NONE: Types = Types(0);
    /// All.
    pub const ANY: Types = Types(0x7f);

    /// The names of JSON Schema.
    const NAMES: [(&'static str, Types); 7] = [
        ("null", Types::NULL),
        ("boolean", Types::BOOLEAN),
        ("number", Types::NUMBER),
        ("integer", Types::INTEGER),
        ("string", Types::STRING),
        ("array", Types::ARRAY),
        ("object", Types::OBJECT),
    ];

    /// The type of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Types> {
        let known = Types::NAMES.iter().find(|(known, _)| *known == name);
        known.map(|(_, types)| *types)
    }

    /// Those in both sets.
    #[must_use]
    pub fn and(self, other: Types) -> Types {
        Types(self.0 & other.0)
    }

    fn has(self, other: Types) -> bool {
        self.0 & other.0 == other.0
    }

    fn expected(self) -> String {
        let mut left = self;
        let mut names = Vec::new();
        for (name, types) in Types::NAMES {
            if left.has(types) {
                names.push(name);
                left = Types(left.0 & !types.0);
            }
        }
        match names[..] {
            [] => "no value is allowed".to_owned(),
            _ => format!("expected {}", names.join(" or ")),
        }
    }
}

impl BitOr for Types {
    type Output = Types;

    fn bitor(self, other: Types) -> Types {
        Types(self.0 | other.0)
    }
}

/// How many there may be of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// At least.
    pub min: u64,
    /// At most.
    pub max: u64,
}

impl Count {
    /// Any number.
    pub const ANY: Count = Count {
        min: 0,
        max: u64::MAX,
    };

    fn check(self, actual: u64, rules: [&str; 2], unit: &str) -> Result<(), Box<Violation>> {
        let Count { min, max } = self;
        match actual {
            _ if actual < min => Err(Violation::new(
                rules[0],
                format!("{actual} {unit}, at least {min} are needed"),
            )),
            _ if actual > max => Err(Violation::new(
                rules[1],
                format!("{actual} {unit}, at most {max} are allowed"),
            )),
            _ => Ok(()),
        }
    }
}

/// A bound of numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// The bound.
    pub value: f64,
    /// Whether the bound itself is out of it.
    pub is_exclusive: bool,
}

/// Simple values, of which one has to be there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choices {
    /// In order.
    texts: Vec<Box<str>>,
    numbers: Vec<f64>,

    has_null: bool,
    has_false: bool,
    has_true: bool,
}

impl Choices {
    /// Allows a text of at most [`NAME_BYTES_MAX`] bytes.
    pub fn text(&mut self, text: &str) {
        if let Err(at) = self.texts.binary_search_by(|known| (**known).cmp(text)) {
            self.texts.insert(at, text.into());
        }
    }

    /// Allows a number.
    pub fn number(&mut self, number: f64) {
        self.numbers.push(number);
    }

    /// Allows `true` or `false`.
    pub fn boolean(&mut self, value: bool) {
        self.has_true |= value;
        self.has_false |= !value;
    }

    /// Allows `null`.
    pub fn null(&mut self) {
        self.has_null = true;
    }

    fn has(&self, value: &[u8]) -> bool {
        match value.first() {
            Some(b'"') => {
                let raw = value.get(1..value.len() - 1).unwrap_or_default();
                let has = |text: &[u8]| {
                    let found = self
                        .texts
                        .binary_search_by(|known| known.as_bytes().cmp(text));
                    found.is_ok()
                };
                match raw.contains(&b'\\') {
                    false => has(raw),
                    true => with_unescaped(raw, has).unwrap_or(false),
                }
            }
            Some(b'n') => self.has_null,
            Some(b't') => self.has_true,
            Some(b'f') => self.has_false,
            Some(b'-' | b'0'..=b'9') => {
                let number = number(value);
                self.numbers.iter().any(|known| Some(*known) == number)
            }
            _ => false,
        }
    }
}

/// Members that have no rule of their own.
#[derive(Clone, Debug, Default)]
pub enum Others {
    /// May be there.
    #[default]
    Allowed,
    /// May not.
    Refused,
    /// May be there with such values.
    Are(Box<Node>),
}

/// What a value has to look like.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its types.
    pub types: Types,
    /// Characters of a text.
    pub chars: Count,
    /// Elements of an array.
    pub elements: Count,
    /// Members of an object.
    pub members: Count,
    /// The least number.
    pub least: Option<Limit>,
    /// The greatest number.
    pub most: Option<Limit>,
    /// The only values, if simple ones are listed.
    pub one_of: Option<Choices>,
    /// Each element of an array.
    pub element: Option<Box<Node>>,
    /// Whether rules for members hold for those of an array's elements as well, which are objects then.
    pub reaches_into_arrays: bool,
    /// Members of an object that have no rule of their own.
    pub others: Others,
    /// What else has to hold for the value.
    pub beyond: Option<Arc<dyn Check>>,
    /// By length and name.
    properties: Vec<Property>,
    /// Bit n is set if some name has n bytes (63: or more), so that one test skips most keys.
    lengths: u64,
    /// Bit n is set if some name begins with a byte whose last six bits are n.
    firsts: u64,
    /// Bits of properties that have to be there.
    required: u64,
}

#[derive(Clone, Debug)]
struct Property {
    name: Box<[u8]>,
    /// Its bit among the required ones; 0 for others.
    bit: u64,
    node: Node,
}

/// A shape that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// A long name.
    #[error("a name or text has {actual} bytes, at most {limit} are allowed")]
    Name {
        /// [`NAME_BYTES_MAX`].
        limit: usize,
        /// Its bytes.
        actual: usize,
    },
    /// Many required members.
    #[error("an object needs over {limit} members")]
    Required {
        /// [`REQUIRED_MAX`].
        limit: usize,
    },
}

impl Default for Node {
    fn default() -> Node {
        Node {
            types: Types::ANY,
            chars: Count::ANY,
            elements: Count::ANY,
            members: Count::ANY,
            least: None,
            most: None,
            one_of: None,
            element: None,
            reaches_into_arrays: false,
            others: Others::Allowed,
            beyond: None,
            properties: Vec::new(),
            lengths: 0,
            firsts: 0,
            required: 0,
        }
    }
}

fn order(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

impl Node {
    /// The node of a member, which is added if it was not there.
    ///
    /// # Errors
    /// Its name is too long.
    pub fn property(&mut self, name: &str) -> Result<&mut Node, ShapeError> {
        if name.len() > NAME_BYTES_MAX {
            let (limit, actual) = (NAME_BYTES_MAX, name.len());
            return Err(ShapeError::Name { limit, actual });
        }
        let at = match self.find(name.as_bytes()) {
            Ok(at) => at,
            Err(at) => {
                let property = Property {
                    name: name.as_bytes().into(),
                    bit: 0,
                    node: Node::default(),
                };
                self.properties.insert(at, property);
                self.lengths |= 1 << name.len().min(63);
                self.firsts |= first_bit(name.as_bytes());
                at
            }
        };
        Ok(&mut self.properties[at].node)
    }

    /// Has a member be there that [`Node::property`] has added.
    ///
    /// # Errors
    /// There are too many.
    pub fn require(&mut self, name: &str) -> Result<(), ShapeError> {
        let limit = REQUIRED_MAX;
        let bit = 1_u64.checked_shl(self.required.count_ones());
        let bit = bit.filter(|_| self.required != u64::MAX);
        if let Ok(at) = self.find(name.as_bytes())
            && self.properties[at].bit == 0
        {
            let bit = bit.ok_or(ShapeError::Required { limit })?;
            self.properties[at].bit = bit;
            self.required |= bit;
        }
        Ok(())
    }

    /// Whether [`Node::property`] has added a member of this name.
    #[must_use]
    pub fn has_property(&self, name: &str) -> bool {
        self.find(name.as_bytes()).is_ok()
    }

    fn find(&self, name: &[u8]) -> Result<usize, usize> {
        let compare = |property: &Property| order(&property.name, name);
        self.properties.binary_search_by(compare)
    }

    /// The property that a key, as it stands between its quotes, names.
    #[inline]
    fn property_of(&self, key: &[u8], is_escaped: bool) -> Option<&Property> {
        if is_escaped {
            return with_unescaped(key, |name| self.named(name))?;
        }
        let may_be =
            self.lengths >> key.len().min(63) & 1 == 1 && self.firsts & first_bit(key) != 0;
        may_be.then(|| self.named(key))?
    }

    fn named(&self, name: &[u8]) -> Option<&Property> {
        if self.properties.len() > SCANNED_MAX {
            return self.properties.get(self.find(name).ok()?);
        }
        self.properties
            .iter()
            .find(|property| *property.name == *name)
    }

    /// The end of the value at `at`.
    fn value(&self, json: &[u8], at: usize) -> Result<usize, Box<Violation>> {
        let kind = match byte(json, at) {
            b'{' => Types::OBJECT,
            b'[' => Types::ARRAY,
            b'"' => Types::STRING,
            b't' | b'f' => Types::BOOLEAN,
            b'n' => Types::NULL,
            _ => Types::NUMBER,
        };
        if !self.types.has(kind) && kind != Types::NUMBER {
            return Err(Violation::new("type", self.types.expected()));
        }
        let end = match kind {
            Types::OBJECT => self.object(json, at)?,
            Types::ARRAY => self.array(json, at)?,
            Types::STRING => {
                let (end, is_escaped) = string_end(json, at);
                if self.chars != Count::ANY {
                    let raw = json.get(at + 1..end - 1).unwrap_or_default();
                    self.text(raw, is_escaped)?;
                }
                end
            }
            _ => value_end(json, at),
        };
        let value = json.get(at..end).unwrap_or_default();
        if kind == Types::NUMBER {
            self.number(value)?;
        }
        if let Some(choices) = &self.one_of
            && !choices.has(value)
        {
            let reason = "expected one of the listed values";
            return Err(Violation::new("enum", reason));
        }
        if let Some(check) = &self.beyond {
            check.check(value)?;
        }
        Ok(end)
    }

    fn text(&self, raw: &[u8], is_escaped: bool) -> Result<(), Box<Violation>> {
        let bytes = raw.len() as u64;
        // A character takes 1 to 4 bytes: mostly nothing need be counted.
        if !is_escaped && bytes <= self.chars.max && bytes >= self.chars.min.saturating_mul(4) {
            return Ok(());
        }
        let chars = match is_escaped {
            false => raw.iter().filter(|byte| (**byte as i8) >= -64).count(),
            true => std::str::from_utf8(raw).map_or(0, |raw| unescape::chars(raw).count()),
        };
        let rules = ["minLength", "maxLength"];
        self.chars.check(chars as u64, rules, "characters")
    }

    fn number(&self, text: &[u8]) -> Result<(), Box<Violation>> {
        if !self.types.has(Types::NUMBER) {
            let is_allowed = self.types.has(Types::INTEGER) && is_whole(text);
            if !is_allowed {
                return Err(Violation::new("type", self.types.expected()));
            }
        }
        if self.least.is_some() || self.most.is_some() {
            let value = number(text).unwrap_or(f64::NAN);
            let is_below = |limit: Limit| match limit.is_exclusive {
                true => value <= limit.value,
                false => value < limit.value,
            };
            let is_above = |limit: Limit| match limit.is_exclusive {
                true => value >= limit.value,
                false => value > limit.value,
            };
            let over = |rules: [&str; 2], limit: Limit, than: [&str; 2]| {
                let at = usize::from(limit.is_exclusive);
                let reason = format!("expected a number {} {}", than[at], limit.value);
                Violation::new(rules[at], reason)
            };
            if let Some(limit) = self.least.filter(|limit| is_below(*limit)) {
                let rules = ["minimum", "exclusiveMinimum"];
                return Err(over(rules, limit, ["of at least", "greater than"]));
            }
            if let Some(limit) = self.most.filter(|limit| is_above(*limit)) {
                let rules = ["maximum", "exclusiveMaximum"];
                return Err(over(rules, limit, ["of at most", "less than"]));
            }
        }
        Ok(())
    }

    fn array(&self, json: &[u8], start: usize) -> Result<usize, Box<Violation>> {
        let is_any = self.element.is_none() && !self.reaches_into_arrays;
        if is_any && self.elements == Count::ANY {
            return Ok(value_end(json, start));
        }
        let mut at = skip_space(json, start + 1);
        let mut count = 0;
        if byte(json, at) != b']' {
            while at < json.len() {
                let end = match &self.element {
                    Some(node) => node.value(json, at),
                    None if !self.reaches_into_arrays => Ok(value_end(json, at)),
                    None if byte(json, at) == b'{' => self.object(json, at),
                    None => Err(Violation::new("type", Types::OBJECT.expected())),
                };
                at = end.map_err(|error| inside(error, &count.to_string()))?;
                count += 1;
                at = skip_space(json, at);
                if byte(json, at) != b',' {
                    break;
                }
                at = skip_space(json, at + 1);
            }
        }
        let rules = ["minItems", "maxItems"];
        self.elements.check(count, rules, "elements")?;
        Ok(at + 1)
    }

    fn object(&self, json: &[u8], start: usize) -> Result<usize, Box<Violation>> {
        let has_rules = !self.properties.is_empty()
            || !matches!(self.others, Others::Allowed)
            || self.members != Count::ANY;
        if !has_rules {
            return Ok(value_end(json, start));
        }
        let mut at = skip_space(json, start + 1);
        let mut seen = 0;
        let mut count = 0;
        if byte(json, at) != b'}' {
            while at < json.len() {
                let (key_end, is_escaped) = string_end(json, at);
                let key = json.get(at + 1..key_end - 1).unwrap_or_default();
                let value = skip_space(json, skip_space(json, key_end) + 1);
                let node = match (self.property_of(key, is_escaped), &self.others) {
                    (Some(property), _) => {
                        seen |= property.bit;
                        Some(&property.node)
                    }
                    (None, Others::Allowed) => None,
                    (None, Others::Are(node)) => Some(&**node),
                    (None, Others::Refused) => {
                        let unknown = Violation::new("additionalProperties", "no such member");
                        return Err(inside(unknown, &name_of(key)));
                    }
                };
                at = match node {
                    Some(node) => node
                        .value(json, value)
                        .map_err(|error| inside(error, &name_of(key)))?,
                    None => value_end(json, value),
                };
                count += 1;
                at = skip_space(json, at);
                if byte(json, at) != b',' {
                    break;
                }
                at = skip_space(json, at + 1);
            }
        }
        if seen != self.required {
            return Err(self.missing(seen));
        }
        let rules = ["minProperties", "maxProperties"];
        self.members.check(count, rules, "members")?;
        Ok(at + 1)
    }

    fn missing(&self, seen: u64) -> Box<Violation> {
        let is_missing = |property: &&Property| property.bit & !seen != 0;
        let first = self.properties.iter().filter(is_missing);
        let first = first.min_by_key(|property| property.bit);
        let name = first.map_or(&b""[..], |property| &property.name);
        let reason = format!("`{}` is missing", String::from_utf8_lossy(name));
        Violation::new("required", reason)
    }
}

impl Check for Node {
    fn check(&self, event: &[u8]) -> Result<(), Box<Violation>> {
        self.value(event, 0).map(|_| ())
    }
}

/// Gives text between quotes to `read` as it reads; `None` if it is longer than any name.
#[cold]
fn with_unescaped<T>(raw: &[u8], read: impl FnOnce(&[u8]) -> T) -> Option<T> {
    let mut buffer = [0; NAME_BYTES_MAX];
    let mut used = 0;
    for letter in unescape::chars(std::str::from_utf8(raw).ok()?) {
        let end = used + letter.len_utf8();
        letter.encode_utf8(buffer.get_mut(used..end)?);
        used = end;
    }
    buffer.get(..used).map(read)
}

/// The bit of a name's first byte.
fn first_bit(name: &[u8]) -> u64 {
    1 << (name.first().copied().unwrap_or(0) & 63)
}

fn number(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn is_whole(text: &[u8]) -> bool {
    let has_point = text.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E'));
    !has_point || number(text).is_some_and(|number| number.fract() == 0.0)
}

/// A violation inside a member or an element.
fn inside(mut violation: Box<Violation>, name: &str) -> Box<Violation> {
    violation.path = format!("/{name}{}", violation.path);
    violation
}

/// A key for a JSON Pointer, cut to what is shown of one.
fn name_of(key: &[u8]) -> String {
    let key = String::from_utf8_lossy(key);
    let name: String = unescape::chars(&key).take(super::TEXT_BYTES_MAX).collect();
    name.replace('~', "~0").replace('/', "~1")
}
