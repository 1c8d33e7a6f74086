//! Counts the frames of a connection that ask for nothing. The library handles each in a tenth of a microsecond and
//! has no bound for most of them (RFC 9113 section 10.5 leaves that to the server), so that a client could keep a core
//! busy for ever by pings, settings, windows or frames of unknown types.

use sluice_core::time::Mono;

/// Bytes of a frame's header (RFC 9113 section 4.1).
const HEADER_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;

/// Such frames that a connection may send at once, and how many more each second. Clients send a handful when they
/// begin, and a ping every few seconds.
const ALLOWED_MAX: u32 = 1_000;
const ALLOWED_PER_SECOND: u32 = 100;

/// How many more with each request: windows for its answer, a priority, a reset.
const ALLOWED_PER_REQUEST: u32 = 4;

/// A connection sent more frames than its requests need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {ALLOWED_MAX} frames of HTTP/2 that ask for nothing")]
pub(super) struct TooManyFrames;

/// Follows the frames of one connection.
#[derive(Debug)]
pub(super) struct FrameCount {
    /// Bytes before the next frame's header: of the preface first, then of payloads.
    skip: usize,
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    allowed: u32,
    refilled_at: Mono,
}

impl FrameCount {
    /// Of a connection whose preface has so many bytes.
    pub(super) fn new(preface_bytes: usize, now: Mono) -> FrameCount {
        FrameCount {
            skip: preface_bytes,
            header: [0; HEADER_BYTES],
            header_bytes: 0,
            allowed: ALLOWED_MAX,
            refilled_at: now,
        }
    }

    /// Follows the next bytes.
    ///
    /// # Errors
    /// [`TooManyFrames`] with the first frame over the bound.
    pub(super) fn pass(&mut self, mut bytes: &[u8], now: Mono) -> Result<(), TooManyFrames> {
        self.refill(now);
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return Ok(());
            }
            let taken = (HEADER_BYTES - self.header_bytes).min(bytes.len());
            let (part, rest) = bytes.split_at(taken);
            self.header[self.header_bytes..][..taken].copy_from_slice(part);
            self.header_bytes += taken;
            bytes = rest;
            if self.header_bytes == HEADER_BYTES {
                self.header_bytes = 0;
                self.frame()?;
            }
        }
    }

    fn frame(&mut self) -> Result<(), TooManyFrames> {
        let [high, middle, low, kind, ..] = self.header;
        let length = u32::from_be_bytes([0, high, middle, low]);
        // At most 2^24.
        self.skip = length as usize;
        match kind {
            HEADERS => {
                self.allowed = (self.allowed + ALLOWED_PER_REQUEST).min(ALLOWED_MAX);
                Ok(())
            }
            DATA if length > 0 => Ok(()),
            GOAWAY => Ok(()),
            _ => {
                self.allowed = self.allowed.checked_sub(1).ok_or(TooManyFrames)?;
                Ok(())
            }
        }
    }

    fn refill(&mut self, now: Mono) {
        let passed = now.since(self.refilled_at).as_micros();
        let more = passed * u128::from(ALLOWED_PER_SECOND) / 1_000_000;
        if more > 0 {
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            self.allowed = self.allowed.saturating_add(more).min(ALLOWED_MAX);
            self.refilled_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const PING: u8 = 6;
    const NOW: Mono = Mono(5_000_000);

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 0], &vec![PING; payload]].concat()
    }

    fn fresh() -> FrameCount {
        FrameCount::new(0, NOW)
    }

    #[test]
    fn frames_are_found_wherever_reads_cut_them() {
        let preface = [PING; 24];
        let frames = [frame(PING, 8), frame(DATA, 300), frame(0xbb, 1)].concat();
        let bytes = [&preface[..], &frames.repeat(20)].concat();
        for size in [1, 2, 7, 9, 10, 311, bytes.len()] {
            let mut count = FrameCount::new(preface.len(), NOW);
            for piece in bytes.chunks(size) {
                assert_eq!(count.pass(piece, NOW), Ok(()));
            }
            assert_eq!(count.allowed, ALLOWED_MAX - 40, "{size}");
        }
    }

    #[test]
    fn only_so_many_frames_that_ask_for_nothing_pass() {
        for (kind, payload) in [
            (PING, 8),
            (4, 0),
            (8, 4),
            (2, 5),
            (9, 1),
            (DATA, 0),
            (0xbb, 0),
        ] {
            let mut count = fresh();
            let all = frame(kind, payload).repeat(ALLOWED_MAX as usize);
            assert_eq!(count.pass(&all, NOW), Ok(()), "{kind}");
            let one_more = frame(kind, payload);
            assert_eq!(count.pass(&one_more, NOW), Err(TooManyFrames), "{kind}");
        }
    }

    #[test]
    fn requests_and_their_bodies_are_free_and_allow_for_more() {
        let mut count = fresh();
        let request = [frame(HEADERS, 50), frame(DATA, 1)].concat();
        let windows = frame(8, 4).repeat(ALLOWED_PER_REQUEST as usize);
        let all = [request, windows].concat().repeat(10_000);
        assert_eq!(count.pass(&all, NOW), Ok(()));
    }

    #[test]
    fn time_allows_for_more_up_to_the_bound() {
        let second = frame(PING, 8).repeat(ALLOWED_PER_SECOND as usize);
        let all = frame(PING, 8).repeat(ALLOWED_MAX as usize);
        for (passed, more) in [(1, second), (3_600, all.clone())] {
            let mut count = fresh();
            assert_eq!(count.pass(&all, NOW), Ok(()));
            let later = NOW + Duration::from_secs(passed);
            assert_eq!(count.pass(&more, later), Ok(()));
            assert_eq!(count.pass(&frame(PING, 8), later), Err(TooManyFrames));
        }
    }
}
