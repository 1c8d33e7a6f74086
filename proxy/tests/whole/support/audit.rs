//! Compares acknowledged ids with stored ones, as exact sets.

use super::client::Reply;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// One request that was sent as a whole, or begun.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) ids: Vec<String>,
    /// `None` when the connection ended without one.
    pub(crate) answer: Option<Reply>,
    pub(crate) took: Duration,
}

impl Sent {
    pub(crate) fn status(&self) -> Option<u16> {
        self.answer.as_ref().map(|answer| answer.status)
    }

    pub(crate) fn is_acked(&self) -> bool {
        self.status() == Some(200)
    }
}

/// The ids of all requests with this status.
pub(crate) fn ids_answered(sent: &[Sent], status: u16) -> BTreeSet<String> {
    sent.iter()
        .filter(|sent| sent.status() == Some(status))
        .flat_map(|sent| sent.ids.iter().cloned())
        .collect()
}

pub(crate) fn count_answered(sent: &[Sent], status: u16) -> usize {
    sent.iter()
        .filter(|sent| sent.status() == Some(status))
        .count()
}

/// What is stored: each id with its copies.
#[derive(Debug, Default)]
pub(crate) struct Stored(pub(crate) BTreeMap<String, u64>);

impl Stored {
    pub(crate) fn of(ids: impl IntoIterator<Item = String>) -> Stored {
        let mut stored = BTreeMap::new();
        for id in ids {
            *stored.entry(id).or_default() += 1;
        }
        Stored(stored)
    }

    pub(crate) fn ids(&self) -> BTreeSet<String> {
        self.0.keys().cloned().collect()
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// Copies beyond the first of each id.
    pub(crate) fn duplicates(&self) -> u64 {
        self.0.values().map(|copies| copies - 1).sum()
    }

    /// The rule of all rules: what was answered 200 is stored, and nothing is that was not sent.
    pub(crate) fn assert_truthful(&self, sent: &[Sent]) {
        let lost: Vec<_> = ids_answered(sent, 200)
            .into_iter()
            .filter(|id| !self.has(id))
            .collect();
        assert!(lost.is_empty(), "answered 200 and not stored: {lost:?}");
        let known: BTreeSet<&String> = sent.iter().flat_map(|sent| &sent.ids).collect();
        let strange: Vec<_> = self.0.keys().filter(|id| !known.contains(id)).collect();
        assert!(strange.is_empty(), "stored and never sent: {strange:?}");
    }

    /// For a stream that neither hangs nor leaves anything in doubt: a request is answered 200 if, and
    /// only if, all of it is stored, and nothing is stored twice.
    pub(crate) fn assert_exact(&self, sent: &[Sent]) {
        self.assert_truthful(sent);
        for sent in sent {
            let all = sent.ids.iter().all(|id| self.has(id));
            assert_eq!(sent.is_acked(), all, "{sent:?}");
        }
        assert_eq!(self.duplicates(), 0);
    }
}
