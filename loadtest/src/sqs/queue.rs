//! The messages of a queue, and who is reading which. Time is an argument.

use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Memory per message beside its body, counted against the retention cap.
const OVERHEAD: usize = 160;

/// A message as the queue keeps it.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// Its place in the queue, from 1.
    pub(super) number: u64,
    pub(super) body: Bytes,
    /// The JSON of its attributes, and their digest.
    pub(super) attributes: Option<(Bytes, String)>,
    /// Nobody receives it before.
    pub(super) visible_at: Duration,
}

impl Message {
    fn cost(&self) -> usize {
        let attributes = self.attributes.as_ref().map_or(0, |(json, _)| json.len());
        self.body.len() + attributes + OVERHEAD
    }
}

/// Messages, the oldest first.
#[derive(Debug)]
pub(super) struct Queue {
    ready: VecDeque<Message>,
    /// Delayed or being read, by when they are visible (again).
    hidden: BTreeMap<(Duration, u64), Message>,
    bytes: usize,
    /// `None` keeps no message at all.
    bytes_max: Option<usize>,
}

impl Queue {
    pub(super) fn new(bytes_max: Option<usize>) -> Queue {
        Queue {
            ready: VecDeque::new(),
            hidden: BTreeMap::new(),
            bytes: 0,
            bytes_max,
        }
    }

    pub(super) fn push(&mut self, now: Duration, message: Message) {
        let Some(bytes_max) = self.bytes_max else {
            return;
        };
        self.bytes += message.cost();
        if message.visible_at > now {
            let key = (message.visible_at, message.number);
            self.hidden.insert(key, message);
        } else {
            self.ready.push_back(message);
        }
        while self.bytes > bytes_max {
            let oldest = self.ready.pop_front();
            let oldest = oldest.or_else(|| Some(self.hidden.pop_first()?.1));
            let Some(oldest) = oldest else {
                return;
            };
            self.bytes -= oldest.cost();
        }
    }

    /// Up to `count` messages; they are hidden from others for `hidden_for`, and carry until when.
    pub(super) fn receive(
        &mut self,
        now: Duration,
        count: usize,
        hidden_for: Duration,
    ) -> Vec<Message> {
        while let Some(entry) = self.hidden.first_entry() {
            if entry.key().0 > now {
                break;
            }
            // The receiver did not delete it in time.
            self.ready.push_back(entry.remove());
        }
        let mut received = Vec::new();
        while received.len() < count {
            let Some(mut message) = self.ready.pop_front() else {
                break;
            };
            message.visible_at = now.saturating_add(hidden_for);
            received.push(message.clone());
            let key = (message.visible_at, message.number);
            self.hidden.insert(key, message);
        }
        received
    }

    /// Deletes a message that was received with this time and number, and says whether there was
    /// one: a second time there is not.
    pub(super) fn delete(&mut self, visible_at: Duration, number: u64) -> bool {
        let found = self.hidden.remove(&(visible_at, number));
        if let Some(message) = &found {
            self.bytes -= message.cost();
        }
        found.is_some()
    }

    /// Messages that anybody could receive, and those that are hidden.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.ready.len(), self.hidden.len())
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The bodies of all messages, in no particular order.
    pub(super) fn bodies(&self) -> impl Iterator<Item = &Bytes> {
        let all = self.ready.iter().chain(self.hidden.values());
        all.map(|message| &message.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn message(number: u64, visible_at: Duration) -> Message {
        Message {
            number,
            body: Bytes::from_static(b"x"),
            attributes: None,
            visible_at,
        }
    }

    fn numbers(messages: &[Message]) -> Vec<u64> {
        messages.iter().map(|message| message.number).collect()
    }

    #[test]
    fn an_undeleted_message_reappears_after_its_visibility_timeout() {
        let mut queue = Queue::new(Some(1 << 20));
        for number in 1..=3 {
            queue.push(Duration::ZERO, message(number, Duration::ZERO));
        }
        let first = queue.receive(Duration::ZERO, 2, 30 * SECOND);
        assert_eq!(numbers(&first), [1, 2]);
        let second = queue.receive(29 * SECOND, 10, 30 * SECOND);
        assert_eq!(numbers(&second), [3]);
        assert!(queue.delete(first[0].visible_at, 1));
        let again = queue.receive(30 * SECOND, 10, 30 * SECOND);
        assert_eq!(numbers(&again), [2]);
        // The receipt of the first time has no effect any more.
        assert!(!queue.delete(first[1].visible_at, 2));
        assert_eq!(queue.counts(), (0, 2));
    }

    #[test]
    fn a_delayed_message_comes_after_its_delay() {
        let mut queue = Queue::new(Some(1 << 20));
        queue.push(Duration::ZERO, message(1, 5 * SECOND));
        assert!(queue.receive(4 * SECOND, 1, SECOND).is_empty());
        assert_eq!(numbers(&queue.receive(5 * SECOND, 1, SECOND)), [1]);
    }

    #[test]
    fn retention_drops_the_oldest_and_zero_keeps_none() {
        let mut queue = Queue::new(Some(2 * (OVERHEAD + 1)));
        for number in 1..=3 {
            queue.push(Duration::ZERO, message(number, Duration::ZERO));
        }
        assert_eq!(numbers(&queue.receive(Duration::ZERO, 10, SECOND)), [2, 3]);
        assert_eq!(queue.bytes(), 2 * (OVERHEAD + 1));
        let mut none = Queue::new(None);
        none.push(Duration::ZERO, message(1, Duration::ZERO));
        assert_eq!(none.counts(), (0, 0));
    }
}
