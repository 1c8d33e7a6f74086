//! Stored records in memory up to a cap: over it the oldest go, and are counted.

use bytes::Bytes;
use std::collections::VecDeque;

/// Memory per retained record beside its bytes, counted against the cap.
const OVERHEAD: usize = 64;

/// Records, oldest first.
#[derive(Debug)]
pub(crate) struct Retained {
    records: VecDeque<Bytes>,
    bytes: usize,
    /// `None` keeps no record at all.
    bytes_max: Option<usize>,
}

impl Retained {
    pub(crate) fn new(bytes_max: Option<usize>) -> Retained {
        Retained {
            records: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    pub(crate) fn push(&mut self, data: &[u8]) {
        let Some(bytes_max) = self.bytes_max else {
            return;
        };
        self.records.push_back(Bytes::copy_from_slice(data));
        self.bytes += data.len() + OVERHEAD;
        while self.bytes > bytes_max {
            let Some(oldest) = self.records.pop_front() else {
                return;
            };
            self.bytes -= oldest.len() + OVERHEAD;
        }
    }

    pub(crate) fn records(&self) -> &VecDeque<Bytes> {
        &self.records
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_the_cap_the_oldest_go() {
        let mut retained = Retained::new(Some(3 * (OVERHEAD + 1)));
        for data in [b"a", b"b", b"c", b"d"] {
            retained.push(data);
        }
        assert_eq!(*retained.records(), ["b", "c", "d"]);
        assert_eq!(retained.bytes(), 3 * (OVERHEAD + 1));
        let mut none = Retained::new(None);
        none.push(b"a");
        assert!(none.records().is_empty());
    }
}
