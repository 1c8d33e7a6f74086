//! What only a Firehose output knows. Pure, like the rest of `resolve`.

use super::FirehoseSink;
use super::bounds;
use super::check::{Check, Number};
use super::raw::RawOutput;

/// What the service bills records in multiples of, bytes.
const BILLED_STEP: u64 = 5_120;

impl Check {
    pub(super) fn firehose(
        &mut self,
        name: &str,
        raw: &RawOutput,
        linger: &Number,
        within: &Number,
        batch_bytes: &Number,
    ) -> Option<FirehoseSink> {
        let pack = self.number(
            &bounds::PACK_BYTES,
            name,
            raw.pack_bytes_max,
            BILLED_STEP.min(batch_bytes.value),
        );
        self.at_most(&pack, batch_bytes, "no record would ever be packed so full");
        let missing = "a firehose output needs the name of its delivery stream";
        let named = (64, "1 to 64 letters, digits or any of _.-", missing);
        Some(FirehoseSink {
            stream: self.stream_of_aws(name, raw, linger, within, named)?,
            pack_bytes_max: pack.size(),
        })
    }
}
