//! Streams written bit by bit, as no encoder writes them.

/// Writes bits, the lowest first.
#[derive(Default)]
pub(super) struct Bits {
    pub(super) bytes: Vec<u8>,
    count: usize,
}

impl Bits {
    pub(super) fn push(&mut self, value: u64, count: usize) -> &mut Bits {
        for bit in 0..count {
            if self.count.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let last = self.bytes.len() - 1;
            self.bytes[last] |= ((value >> bit & 1) as u8) << (self.count % 8);
            self.count += 1;
        }
        self
    }

    pub(super) fn deflate_block_of_one_letter(&mut self) {
        // Not last, own tables; 286 lengths, 1 distance, 18 lengths of lengths.
        self.push(0, 1)
            .push(2, 2)
            .push(29, 5)
            .push(0, 5)
            .push(14, 4);
        for symbol in [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1] {
            self.push(u64::from(symbol == 18 || symbol == 1), 3);
        }
        for zeros in [97, 0, 138, 20, 0, 29, 0] {
            match zeros {
                0 => self.push(0, 1),
                zeros => self.push(1, 1).push(zeros - 11, 7),
            };
        }
        self.push(0, 1).push(1, 1);
    }

    /// Eight letters as they are, and copies of two bytes from the last distance, of no bits each.
    pub(super) fn brotli_copies_of_two(&mut self, count: usize) {
        self.push(0, 1).push(0, 2).push(7, 16).push(1, 1);
        self.count = self.bytes.len() * 8;
        self.bytes.extend_from_slice(b"aaaaaaaa");
        self.count = self.bytes.len() * 8;
        self.push(0, 1).push(0, 2).push(2 * count as u64 - 1, 16);
        self.push(0, 1).push(0, 3).push(0, 6).push(0, 2).push(0, 2);
        self.brotli_code(u64::from(b'a'), 8);
        self.brotli_code(0, 10);
        self.brotli_code(0, 6);
    }

    /// A simple code of one symbol.
    pub(super) fn brotli_code(&mut self, symbol: u64, bits: usize) {
        self.push(1, 2).push(0, 2).push(symbol, bits);
    }

    /// A metablock of one byte. With 256 `commands` one block type and tree for each; with two
    /// `literal_trees` 256 types of literals and the largest context map.
    pub(super) fn brotli_metablock(&mut self, commands: usize, literal_trees: usize) {
        self.push(0, 1).push(0, 2).push(0, 16).push(0, 1);
        let literals = if literal_trees == 2 { 256 } else { 1 };
        for types in [literals, commands, 1] {
            if types == 1 {
                self.push(0, 1);
                continue;
            }
            self.push(1, 1).push(7, 3).push(127, 7);
            self.brotli_code(2, 9);
            self.brotli_code(25, 5);
            self.push(0, 24);
        }
        self.push(0, 6);
        for _ in 0..literals {
            self.push(0, 2);
        }
        if literal_trees == 2 {
            self.push(1, 1).push(0, 3).push(1, 1).push(13, 4);
            self.brotli_code(14, 4);
            self.push(0, 14).push(1, 1);
        } else {
            self.push(1, 1).push(7, 3).push(127, 7).push(0, 1);
            self.brotli_code(0, 8);
            self.push(1, 1);
        }
        self.push(0, 1);
        for _ in 0..literal_trees {
            self.brotli_code(u64::from(b'a'), 8);
        }
        for _ in 0..commands {
            self.brotli_code(8, 10);
        }
        self.brotli_code(0, 6);
    }
}
