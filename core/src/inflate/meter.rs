//! What one body may cost its decoder.
//!
//! A limit on the output does not bound the work: a decoder can be kept busy with members, blocks and tables
//! that hold nothing. So each coding counts its units, and its bytes that led to no output. The allowances
//! are far above what encoders produce.

/// A body may be longer than what it holds by a quarter and this. Compressors never lengthen by more than
/// a thousandth, and by a few bytes for each flush.
const IDLE_BYTES_MAX: usize = 16 << 10;

/// Empty units in a body, beside one for each unit that is not empty: a flush ends with an empty one.
const EMPTY_UNITS_MAX: usize = 48;

/// How many units a body may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// This many in any body,
    pub(super) free: usize,
    /// and one for each this many bytes of it.
    pub(super) unit_bytes: usize,
}

/// Why a decoder stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Not valid in its coding, or cut off.
    Broken,
    /// More output than allowed.
    TooLarge,
    /// More work than the body's length and content account for.
    Overhead {
        /// What there was too much of.
        what: &'static str,
        limit: usize,
        actual: usize,
    },
}

/// Counts for one layer of one body.
#[derive(Debug)]
pub(super) struct Meter {
    body_bytes: usize,
    output_max: usize,
    units_max: usize,
    units: usize,
    empty: usize,
    idle_bytes: usize,
}

impl Meter {
    pub(super) fn new(body_bytes: usize, allowance: Allowance, output_max: usize) -> Meter {
        Meter {
            body_bytes,
            output_max,
            units_max: allowance.free + body_bytes / allowance.unit_bytes,
            units: 0,
            empty: 0,
            idle_bytes: 0,
        }
    }

    pub(super) fn output_max(&self) -> usize {
        self.output_max
    }

    /// Counts a member, frame or block of `bytes` bytes.
    pub(super) fn unit(&mut self, bytes: usize, has_output: bool) -> Result<(), Fault> {
        self.units += 1;
        if self.units > self.units_max {
            return Err(Fault::Overhead {
                what: "blocks",
                limit: self.units_max,
                actual: self.units,
            });
        }
        self.bytes(bytes, has_output)
    }

    /// Counts bytes that cost no more than themselves.
    pub(super) fn bytes(&mut self, bytes: usize, has_output: bool) -> Result<(), Fault> {
        if has_output {
            self.empty = self.empty.saturating_sub(1);
            return Ok(());
        }
        self.empty += 1;
        if self.empty > EMPTY_UNITS_MAX {
            return Err(Fault::Overhead {
                what: "empty blocks",
                limit: EMPTY_UNITS_MAX,
                actual: self.empty,
            });
        }
        self.idle_bytes += bytes;
        over_idle(self.idle_bytes, IDLE_BYTES_MAX)
    }

    /// Compares the bytes read so far with what came of them.
    pub(super) fn progress(&self, read: usize, output: usize) -> Result<(), Fault> {
        over_idle(read.saturating_sub(output + output / 4), IDLE_BYTES_MAX)
    }

    /// The same at the end of the body.
    pub(super) fn made(&self, output: usize) -> Result<(), Fault> {
        self.progress(self.body_bytes, output)
    }
}

fn over_idle(actual: usize, limit: usize) -> Result<(), Fault> {
    if actual > limit {
        return Err(Fault::Overhead {
            what: "bytes without content",
            limit,
            actual,
        });
    }
    Ok(())
}
