//! Packs several events into one record, for destinations that bill or count records. Each event is a line:
//! its bytes and a newline. Not the batch of records of one call, and not a container format.

/// The data of one record and its number of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Whole events, each with its newline.
    pub data: Vec<u8>,
    /// How many, at least 1.
    pub events: usize,
}

/// Packs `events` in order: each is added to the current chunk as long as that stays within `bytes_max`
/// bytes, newlines included. A larger event, and every event if `bytes_max` is 0, gets a chunk of its own.
/// A chunk is never revisited once the next one has begun: order is worth more than the last few percent.
#[must_use]
pub(super) fn pack<T: AsRef<[u8]>>(events: &[T], bytes_max: usize) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut rest = events;
    while !rest.is_empty() {
        let (count, bytes) = fitting(rest, bytes_max);
        let (these, others) = rest.split_at(count);
        let mut data = Vec::with_capacity(bytes);
        for event in these {
            data.extend_from_slice(event.as_ref());
            data.push(b'\n');
        }
        chunks.push(Chunk {
            data,
            events: count,
        });
        rest = others;
    }
    chunks
}

/// Number of leading events that fit together, and their bytes. At least one.
fn fitting<T: AsRef<[u8]>>(events: &[T], bytes_max: usize) -> (usize, usize) {
    let (mut count, mut bytes) = (0, 0);
    for event in events {
        let line = event.as_ref().len() + 1;
        if count > 0 && bytes + line > bytes_max {
            break;
        }
        count += 1;
        bytes += line;
    }
    (count, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of_sizes(sizes: &[usize]) -> Vec<Vec<u8>> {
        sizes.iter().map(|size| vec![b'x'; *size]).collect()
    }

    fn counts(sizes: &[usize], bytes_max: usize) -> Vec<usize> {
        let chunks = pack(&of_sizes(sizes), bytes_max);
        chunks.iter().map(|chunk| chunk.events).collect()
    }

    #[test]
    fn the_newline_of_the_last_event_counts() {
        // Ten lines of 512 bytes are 5,120.
        assert_eq!(counts(&[511; 20], 5_120), [10, 10]);
        assert_eq!(counts(&[512; 10], 5_120), [9, 1]);
        assert_eq!(counts(&[5_119], 5_120), [1]);
    }

    #[test]
    fn a_large_event_is_packed_alone() {
        assert_eq!(counts(&[10, 10, 5_120, 10, 10], 5_120), [2, 1, 2]);
        assert_eq!(counts(&[6_000, 6_000], 5_120), [1, 1]);
    }

    #[test]
    fn without_a_size_to_pack_to_every_event_goes_alone() {
        assert_eq!(counts(&[0, 1, 2], 0), [1, 1, 1]);
        assert!(counts(&[], 0).is_empty());
        assert!(counts(&[], 5_120).is_empty());
    }

    proptest! {
        #[test]
        fn chunks_keep_events_whole_and_in_order(
            events in prop::collection::vec("[^\n]{0,40}", 0..60),
            bytes_max in 0..200_usize,
        ) {
            let chunks = pack(&events, bytes_max);
            let mut expected = events.iter();
            for chunk in &chunks {
                prop_assert!(chunk.data.len() <= bytes_max || chunk.events == 1);
                prop_assert_eq!(chunk.data.last(), Some(&b'\n'));
                let text = std::str::from_utf8(&chunk.data).unwrap();
                let lines: Vec<&str> = text.strip_suffix('\n').unwrap().split('\n').collect();
                prop_assert_eq!(lines.len(), chunk.events);
                for line in lines {
                    prop_assert_eq!(Some(line), expected.next().map(String::as_str));
                }
            }
            prop_assert_eq!(expected.next(), None);
            // Nothing is left apart that would have gone together.
            for pair in chunks.windows(2) {
                let next = pair[1].data.iter().position(|byte| *byte == b'\n').unwrap() + 1;
                prop_assert!(pair[0].data.len() + next > bytes_max);
            }
        }
    }
}
