//! Bodies in chunks (RFC 9112 section 7.1).

use super::{Refusal, TOKEN, is};
use crate::error_code;

/// Chunks that any body may have; more need [`CHUNK_BYTES`] of content each. A chunk costs some 20 ns beside its bytes.
const CHUNKS_FREE: u64 = 2_048;
const CHUNK_BYTES: u64 = 256;

/// Digits of a chunk's size at most.
const SIZE_DIGITS: u8 = 16;

/// Where a body in chunks has come to.
#[derive(Debug)]
pub(in super::super) struct Chunked {
    at: At,
    chunks: u64,
    /// Bytes of content that they announced.
    announced: u64,
    /// Bytes of chunk extensions and trailers.
    extra: usize,
    extra_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Digits of a chunk size read so far, and their value.
    Size(u8, u64),
    /// Within an extension of a chunk of this size.
    Extension(u64, Extension),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    End,
}

/// `*( BWS ";" BWS name [ BWS "=" BWS value ] )`, but that nothing is between a size and its end or semicolon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    /// Behind the semicolon.
    BeforeName,
    Name,
    /// Blanks behind a name.
    AfterName,
    /// Behind the equals sign.
    BeforeValue,
    Value,
    Quoted,
    /// Behind a backslash in a quoted value.
    Escaped,
    /// Behind the quotation mark that ends a value.
    Closed,
    /// Blanks behind a value.
    AfterValue,
}

/// A part of a body in chunks.
pub(in super::super) struct Piece<'b> {
    /// Bytes of the input that are used up.
    pub(in super::super) used: usize,
    /// The content among them, at their end.
    pub(in super::super) content: &'b [u8],
}

impl Chunked {
    /// A body that begins; `extra` bytes of extensions and trailers are read past at most.
    pub(in super::super) fn new(extra: usize) -> Chunked {
        Chunked {
            at: At::Size(0, 0),
            chunks: 0,
            announced: 0,
            extra: 0,
            extra_max: extra,
        }
    }

    /// Whether the body is complete.
    pub(in super::super) fn is_complete(&self) -> bool {
        self.at == At::End
    }

    /// Reads up to the end of the next piece of content, of the body, or of the input.
    pub(in super::super) fn next<'b>(&mut self, input: &'b [u8]) -> Result<Piece<'b>, Refusal> {
        for (used, byte) in input.iter().enumerate() {
            match self.at {
                At::End => {
                    let content = &[][..];
                    return Ok(Piece { used, content });
                }
                At::Data(left) => {
                    let rest = &input[used..];
                    let here =
                        usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    self.at = match left - here as u64 {
                        0 => At::DataCr,
                        left => At::Data(left),
                    };
                    return Ok(Piece {
                        used: used + here,
                        content: &rest[..here],
                    });
                }
                _ => {
                    self.at = self.step(*byte).ok_or_else(|| self.refusal())?;
                }
            }
        }
        Ok(Piece {
            used: input.len(),
            content: &[],
        })
    }

    fn step(&mut self, byte: u8) -> Option<At> {
        Some(match (self.at, byte) {
            (At::Size(digits @ ..SIZE_DIGITS, value), _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16)?;
                At::Size(digits + 1, value << 4 | u64::from(digit))
            }
            (At::Size(1.., size), b';') => At::Extension(size, Extension::BeforeName),
            (At::Size(1.., size), b'\r') => At::SizeLf(size),
            (
                At::Extension(size, Extension::Name | Extension::Value | Extension::Closed),
                b'\r',
            ) => At::SizeLf(size),
            (At::Extension(size, extension), _) => {
                self.spend_extra()?;
                At::Extension(size, extension.step(byte)?)
            }
            (At::SizeLf(0), b'\n') => At::TrailerStart,
            (At::SizeLf(size), b'\n') => {
                self.count_chunk(size)?;
                At::Data(size)
            }
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size(0, 0),
            (At::TrailerStart, b'\r') => At::EndLf,
            (At::EndLf, b'\n') => At::End,
            (At::TrailerStart | At::TrailerName, _) if is(byte, TOKEN) => {
                self.spend_extra()?;
                At::TrailerName
            }
            (At::TrailerName, b':') => {
                self.spend_extra()?;
                At::TrailerValue
            }
            (At::TrailerValue, b'\r') => At::TrailerLf,
            (At::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => {
                self.spend_extra()?;
                At::TrailerValue
            }
            (At::TrailerLf, b'\n') => At::TrailerStart,
            _ => return None,
        })
    }

    fn count_chunk(&mut self, bytes: u64) -> Option<()> {
        self.chunks += 1;
        self.announced = self.announced.saturating_add(bytes);
        (self.chunks <= self.chunks_max()).then_some(())
    }

    fn chunks_max(&self) -> u64 {
        CHUNKS_FREE + self.announced / CHUNK_BYTES
    }

    fn spend_extra(&mut self) -> Option<()> {
        self.extra += 1;
        (self.extra <= self.extra_max).then_some(())
    }

    /// Why there is no next step.
    fn refusal(&self) -> Refusal {
        let malformed =
            |section, message| Refusal::new(error_code::BODY_MALFORMED, section, message);
        if self.chunks > self.chunks_max() {
            return Refusal {
                over: Some((self.chunks_max(), self.chunks)),
                ..malformed(
                    "RFC 9112 section 7.1",
                    "the body has too many chunks that are too small",
                )
            };
        }
        if self.extra > self.extra_max {
            return malformed(
                "RFC 9112 section 7.1.1",
                "chunk extensions and trailers are over the limit of bytes",
            )
            .over(self.extra_max, self.extra);
        }
        match self.at {
            At::Size(..) | At::SizeLf(_) => malformed(
                "RFC 9112 section 7.1",
                "a chunk does not begin with its size, up to 16 hexadecimal digits, and CR LF",
            ),
            At::Extension(..) => malformed(
                "RFC 9112 section 7.1.1",
                "a chunk extension is not a name, or a name and a value",
            ),
            At::Data(_) | At::DataCr | At::DataLf => malformed(
                "RFC 9112 section 7.1",
                "a chunk does not end with CR LF after as many bytes as its size says",
            ),
            _ => malformed(
                "RFC 9112 section 7.1.2",
                "a trailer behind the last chunk is malformed",
            ),
        }
    }
}

impl Extension {
    fn step(self, byte: u8) -> Option<Extension> {
        use Extension::*;
        Some(match (self, byte) {
            (BeforeName, b' ' | b'\t') => BeforeName,
            (BeforeName | Name, _) if is(byte, TOKEN) => Name,
            (Name | AfterName, b' ' | b'\t') => AfterName,
            (Name | AfterName, b'=') => BeforeValue,
            (Name | AfterName | Value | Closed | AfterValue, b';') => BeforeName,
            (BeforeValue, b' ' | b'\t') => BeforeValue,
            (BeforeValue, b'"') => Quoted,
            (BeforeValue | Value, _) if is(byte, TOKEN) => Value,
            (Value | Closed | AfterValue, b' ' | b'\t') => AfterValue,
            (Quoted, b'"') => Closed,
            (Quoted, b'\\') => Escaped,
            (Quoted | Escaped, b'\t' | b' '..=b'~' | 0x80..) => Quoted,
            _ => return None,
        })
    }
}
