//! Packs records of one shard into one record of the stream: the container of the Kinesis Producer Library, which its
//! client library takes apart.
//!
//! ```text
//!  magic | partition keys, hash key, records: (key's index, hash key's index, data)… | MD5 of what is between
//! ```
//!
//! Consumers drop records whose hash lies outside the shard that they read. So each record keeps its own partition key,
//! and takes the container's explicit hash key: whatever was split or merged on the way, it lies where the container lies.

use md5::{Digest as _, Md5};

/// What a container begins with.
const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
/// Bytes of the MD5 at its end.
const DIGEST_BYTES: usize = 16;
/// A container's own partition key. It decides nothing, and is short because its bytes count.
pub(super) const CONTAINER_KEY: &str = "a";
/// Bytes that a record takes at most besides its data and its key, with its part of what a container takes that has
/// at least two of them.
pub(super) const RECORD_OVERHEAD_MAX: usize = 64;

/// The tags of a length-delimited field and of a number, by the field's number.
const fn bytes_tag(field: u8) -> u8 {
    field << 3 | 2
}
const fn number_tag(field: u8) -> u8 {
    field << 3
}
/// That the record's hash key is the first of the table, which has no other.
const HASH_KEY_INDEX: [u8; 2] = [number_tag(2), 0];

/// A container that is being filled, or a record that goes alone.
#[derive(Debug)]
pub struct Container<'a> {
    hash: u128,
    bytes_max: usize,
    /// As it will be sent, its own key included.
    bytes: usize,
    keys: Vec<Option<&'a str>>,
    records: Vec<Packed<'a>>,
}

#[derive(Debug)]
struct Packed<'a> {
    key: usize,
    data: &'a [u8],
}

impl<'a> Container<'a> {
    fn new(hash: u128, bytes_max: usize) -> Container<'a> {
        let digits = hash.checked_ilog10().unwrap_or(0) as usize + 1;
        Container {
            hash,
            bytes_max,
            bytes: CONTAINER_KEY.len() + MAGIC.len() + field_bytes(digits) + DIGEST_BYTES,
            keys: Vec::new(),
            records: Vec::new(),
        }
    }

    /// The explicit hash key that it has to be sent with.
    #[must_use]
    pub fn hash(&self) -> u128 {
        self.hash
    }

    /// The number of records in it, at least 1. A single one is better sent as it is.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records.len()
    }

    /// Takes a record if there is room. Neighbours with the same key, as those of one request, share its entry in the table.
    fn try_push(&mut self, key: Option<&'a str>, data: &'a [u8]) -> bool {
        let is_known = self.keys.last() == Some(&key);
        let index = self.keys.len() - usize::from(is_known);
        let key_bytes = match is_known {
            true => 0,
            false => field_bytes(key.map_or(super::RANDOM_KEY_BYTES, str::len)),
        };
        let bytes = self.bytes + key_bytes + field_bytes(record_bytes(index, data.len()));
        if bytes > self.bytes_max && !self.records.is_empty() {
            return false;
        }
        self.bytes = bytes;
        if !is_known {
            self.keys.push(key);
        }
        self.records.push(Packed { key: index, data });
        true
    }

    /// The data of the record that holds them all.
    #[must_use]
    pub fn seal(&self) -> Vec<u8> {
        let mut data = Vec::with_capacity(self.bytes);
        data.extend_from_slice(&MAGIC);
        for key in &self.keys {
            match key {
                Some(key) => push_field(&mut data, 1, key.as_bytes()),
                // One for all that have none: as good as one each, and shorter.
                None => push_field(&mut data, 1, &super::put::hex_of((self.hash >> 64) as u64)),
            }
        }
        push_field(&mut data, 2, self.hash.to_string().as_bytes());
        for record in &self.records {
            data.push(bytes_tag(3));
            push_number(&mut data, record_bytes(record.key, record.data.len()));
            data.push(number_tag(1));
            push_number(&mut data, record.key);
            data.extend_from_slice(&HASH_KEY_INDEX);
            push_field(&mut data, 3, record.data);
        }
        let digest = Md5::digest(data.get(MAGIC.len()..).unwrap_or_default());
        data.extend_from_slice(&digest);
        data
    }
}

/// Fills containers with the records of one call, one container a shard at a time.
#[derive(Debug, Default)]
pub struct Packer<'a> {
    containers: Vec<Container<'a>>,
    /// By the place of a shard: its container that still has room.
    open: Vec<Option<usize>>,
    /// By record.
    container_of: Vec<usize>,
}

impl<'a> Packer<'a> {
    /// Takes the next record; without a key it gets one by chance. `shard` is any number for the shard of `hash`, best a small one,
    /// and `None` where the record has to go alone. `bytes_max` is asked for each new container.
    pub fn push(
        &mut self,
        key: Option<&'a str>,
        data: &'a [u8],
        shard: Option<usize>,
        hash: u128,
        bytes_max: impl FnOnce() -> usize,
    ) {
        let open = shard.and_then(|shard| *self.open.get(shard)?);
        if let Some(open) = open
            && let Some(container) = self.containers.get_mut(open)
            && container.try_push(key, data)
        {
            return self.container_of.push(open);
        }
        let mut container = Container::new(hash, bytes_max());
        container.try_push(key, data);
        let has_room = container.bytes < container.bytes_max;
        let at = self.containers.len();
        self.containers.push(container);
        self.container_of.push(at);
        // A record that fills a container by itself leaves the one that is being filled open.
        if let Some(shard) = shard.filter(|_| has_room) {
            if self.open.len() <= shard {
                self.open.resize(shard + 1, None);
            }
            if let Some(open) = self.open.get_mut(shard) {
                *open = Some(at);
            }
        }
    }

    /// The containers, in the order of their first records.
    #[must_use]
    pub fn containers(&self) -> &[Container<'a>] {
        &self.containers
    }

    /// For each record, in the order of [`Packer::push`], the place of its container.
    #[must_use]
    pub fn container_of(&self) -> &[usize] {
        &self.container_of
    }
}

/// Bytes of a record in a container, without tag and length in front.
fn record_bytes(key: usize, data: usize) -> usize {
    1 + number_bytes(key) + HASH_KEY_INDEX.len() + field_bytes(data)
}

/// Bytes of a field of this length, its tag included.
fn field_bytes(length: usize) -> usize {
    1 + number_bytes(length) + length
}

/// Bytes of a number: seven bits each.
fn number_bytes(number: usize) -> usize {
    (number.checked_ilog2().unwrap_or(0) / 7 + 1) as usize
}

fn push_field(to: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    to.push(bytes_tag(field));
    push_number(to, bytes.len());
    to.extend_from_slice(bytes);
}

/// The lowest seven bits first; all bytes but the last have the highest bit.
fn push_number(to: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}
