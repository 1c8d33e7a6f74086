//! The vector kernels against their scalar kernels.

use super::{find_special, scalar};

/// Clean filler of this length with `inserts` placed at their offsets.
fn text(len: usize, inserts: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|at| b'a' + (at % 26) as u8).collect();
    for (at, byte) in inserts {
        if let Some(place) = bytes.get_mut(*at) {
            *place = *byte;
        }
    }
    bytes
}

fn escaped(escape: impl Fn(&[u8], &mut Vec<u8>), bytes: &[u8], capacity: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(capacity);
    out.extend_from_slice(b"before");
    escape(bytes, &mut out);
    out
}

type Growth = fn(&[u8]) -> usize;
type Escape = fn(&[u8], &mut Vec<u8>);

/// The kernels that this processor chooses, and those it passes over for better ones.
const KERNELS: &[(&str, Growth, Escape)] = &[
    ("chosen", super::growth, super::escape),
    #[cfg(target_arch = "x86_64")]
    ("sse2", super::x86::growth_sse2, |bytes, out| {
        let done = super::x86::escape_sse2(bytes, out);
        super::vector::escape_runs(&bytes[done..], out);
    }),
];

fn check(bytes: &[u8]) {
    for from in [0, 1, bytes.len() / 2, bytes.len()] {
        let from = from.min(bytes.len());
        assert_eq!(
            find_special(bytes, from),
            scalar::find_special(bytes, from),
            "find from {from} in {bytes:?}"
        );
    }
    let growth = scalar::growth(bytes);
    let expected = escaped(scalar::escape, bytes, 0);
    assert_eq!(expected.len(), 6 + bytes.len() + growth);
    for &(name, growth_with, escape_with) in KERNELS {
        assert_eq!(growth_with(bytes), growth, "{name} growth of {bytes:?}");
        // With no room the kernels leave all to the runs; with exact room they must not outgrow it.
        for capacity in [6, expected.len(), expected.len() + 7 * 32] {
            let out = escaped(escape_with, bytes, capacity);
            assert_eq!(out, expected, "{name} escape of {bytes:?} into {capacity}");
            if capacity >= expected.len() {
                assert!(out.capacity() == capacity, "{name} grew from {capacity}");
            }
        }
    }
}

/// Miri is a thousand times slower than the processor: there, the lengths around one vector, and three of
/// the bytes.
const LENGTHS: &[usize] = if cfg!(miri) {
    &[0, 1, 15, 16, 17, 33, 65]
} else {
    &[
        0, 1, 15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 65, 96, 100, 129,
    ]
};
const BYTES: &[u8] = if cfg!(miri) {
    b"\"\x1f\xff"
} else {
    b"\"\\\x00\x1f\n\x20\x7f\x80\xff"
};

#[test]
fn the_table_escapes_special_bytes_and_no_others() {
    for byte in 0..=255 {
        let escape = super::escape_of(byte);
        assert_eq!(super::is_special(byte), !escape.is_empty(), "byte {byte}");
    }
}

#[test]
fn vector_kernels_match_scalar_at_each_offset_around_vector_edges() {
    for &len in LENGTHS {
        check(&text(len, &[]));
        for at in 0..len {
            for &byte in BYTES {
                check(&text(len, &[(at, byte)]));
            }
            check(&text(len, &[(at, b'"'), (at + 1, 0x01), (at + 17, b'\\')]));
        }
    }
}

#[test]
fn vector_kernels_match_scalar_on_runs_of_special_bytes() {
    let lengths = if cfg!(miri) { 30..40 } else { 0..200 };
    for len in lengths {
        for byte in [b'"', 0x01, b'\n'] {
            check(&vec![byte; len]);
        }
    }
}

#[test]
fn vector_kernels_match_scalar_on_every_byte_value() {
    let all: Vec<u8> = (0..=255).collect();
    let starts = if cfg!(miri) { 0..4 } else { 0..64 };
    for start in starts {
        check(&all[start..]);
    }
}
