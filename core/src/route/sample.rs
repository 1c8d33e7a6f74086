//! Which events a sample keeps: always all of a user's, or none.

use sha2::{Digest, Sha256};

/// Of so many users a sample keeps some; see [`Sample::keep_per_mille`].
pub const WHOLE: u32 = 1_000;

/// A sample by one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Values of the field that are kept, of [`WHOLE`].
    pub keep_per_mille: u32,
}

impl Sample {
    /// Whether events with this text are kept. The same in every process and version, so that all servers keep the
    /// same users, and a smaller sample is a part of a larger one: the first 8 bytes of the SHA-256, as a big-endian
    /// number, lie in the first `keep_per_mille` thousandths of all such numbers.
    #[must_use]
    pub fn keeps(self, text: &[u8]) -> bool {
        let digest = Sha256::digest(text);
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        let place = u128::from(u64::from_be_bytes(first)) * u128::from(WHOLE);
        place >> 64 < u128::from(self.keep_per_mille)
    }

    /// The share that is kept, as a number of JSON: `0.05`, `1`.
    pub(crate) fn write_rate(self, out: &mut Vec<u8>) {
        if self.keep_per_mille >= WHOLE {
            return out.push(b'1');
        }
        let digits = format!("{:03}", self.keep_per_mille);
        out.extend_from_slice(b"0.");
        out.extend_from_slice(digits.trim_end_matches('0').as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(keep_per_mille: u32) -> String {
        let mut out = Vec::new();
        Sample { keep_per_mille }.write_rate(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_rate_is_written_as_a_share() {
        for (keep, text) in [
            (1, "0.001"),
            (10, "0.01"),
            (50, "0.05"),
            (125, "0.125"),
            (500, "0.5"),
            (1_000, "1"),
        ] {
            assert_eq!(rate(keep), text);
        }
    }

    #[test]
    fn a_smaller_sample_is_part_of_a_larger_one() {
        let kept = |keep_per_mille| {
            let sample = Sample { keep_per_mille };
            let users =
                (0..10_000).filter(move |user| sample.keeps(format!("u-{user}").as_bytes()));
            users.collect::<Vec<u32>>()
        };
        let (small, large) = (kept(100), kept(300));
        assert!(small.iter().all(|user| large.contains(user)));
        // Four standard deviations around the expected 1,000 and 3,000.
        assert!((880..1_120).contains(&small.len()), "{}", small.len());
        assert!((2_817..3_183).contains(&large.len()), "{}", large.len());
        assert_eq!(kept(1_000).len(), 10_000);
    }

    /// Computed with `sha256sum`: whoever is kept now is kept after an upgrade.
    #[test]
    fn which_users_are_kept_is_fixed() {
        for (user, first_kept_at) in [("u-1", 634), ("u-17", 576), ("é", 292)] {
            let keeps = |keep_per_mille| Sample { keep_per_mille }.keeps(user.as_bytes());
            assert_eq!(
                (1..=WHOLE).find(|keep| keeps(*keep)),
                Some(first_kept_at),
                "{user}"
            );
        }
    }
}
