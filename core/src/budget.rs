//! Admission by bytes: how much of request bodies and records one core may hold at once, in all and from one
//! client.

use crate::priority::{Priority, Shares};
use foldhash::HashMap;
use std::cell::{Cell, RefCell};
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::num::NonZeroU128;
use std::rc::Rc;

/// One client may hold this part of a budget: an eighth.
pub const PARTS_PER_SOURCE: u64 = 8;

/// All clients of an IPv6 /48 together may hold this part: an ordinary site has that much, and hosts without number
/// in it.
const PARTS_PER_SITE: u64 = 4;

/// Whom bytes are counted for: an IPv4 address or an IPv6 /64, the least that one client has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source(NonZeroU128);

/// The lower half of a key says of what it is, for nothing else is there in that of an IPv6 network. An IPv4 address
/// has more than this bit there.
const NETWORK: u128 = 1;
const SITE: u128 = 2;

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Source {
        let key = match address.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped().to_bits() << 1,
            IpAddr::V6(address) => address.to_bits() >> 64 << 64,
        };
        Source(NonZeroU128::MIN | key)
    }
}

impl Source {
    /// The client, and its site if it has one, as keys that no other client or site has.
    #[must_use]
    pub fn keys(self) -> (u128, Option<u128>) {
        let client = self.0.get();
        let is_network = u128::from(client as u64) == NETWORK;
        (client, is_network.then_some(client >> 80 << 80 | SITE))
    }
}

/// One core's share of the process's in-flight bytes. Not shared between threads, so that admission
/// costs no locked instruction; the process divides its budget evenly among its cores. A share, or the part of it
/// that one client may have, may be smaller than one allowed request, so a request that finds it empty is always
/// admitted: it would otherwise never succeed.
#[derive(Clone, Debug)]
pub struct ByteBudget(Rc<Held>);

#[derive(Debug)]
struct Held {
    limit: u64,
    /// What all may hold while more is reserved for what has not been read.
    unread_limit: Cell<u64>,
    all: Cell<u64>,
    /// Bytes held by those that hold some. Asked several times a request; its keys are few, and its hash is keyed, too.
    by_source: RefCell<HashMap<u128, u64>>,
}

impl ByteBudget {
    /// A budget of `limit` bytes, all free.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        ByteBudget(Rc::new(Held {
            limit,
            unread_limit: Cell::new(limit),
            all: Cell::default(),
            by_source: RefCell::default(),
        }))
    }

    /// Reserves `bytes` until the permit is dropped; `None` when fewer are free and another permit is held. Of a
    /// source, at most an eighth of the budget is held, and a quarter of an IPv6 /48.
    #[must_use]
    pub fn try_reserve(&self, bytes: u64, source: Option<Source>) -> Option<Permit> {
        self.reserve(bytes, source, self.0.limit)
    }

    /// The same for what arrives and has not been read, whose priority nobody knows: beyond the part that it may fill
    /// there is room for what is known to matter.
    #[must_use]
    pub fn try_reserve_unread(&self, bytes: u64, source: Option<Source>) -> Option<Permit> {
        self.reserve(bytes, source, self.0.unread_limit.get())
    }

    fn reserve(&self, bytes: u64, source: Option<Source>, all_max: u64) -> Option<Permit> {
        let mut permit = Permit {
            budget: self.clone(),
            source,
            bytes: 0,
            all_max,
        };
        permit.try_resize(bytes).then_some(permit)
    }

    /// Bounds what unread bodies may fill.
    pub fn limit_unread(&self, limit: u64) {
        self.0.unread_limit.set(limit);
    }

    /// Bytes that may be reserved.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// Bytes currently reserved.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.0.all.get()
    }
}

impl Held {
    /// Whether `held` bytes of others leave room for `bytes` in a part of the budget.
    fn fits(&self, held: u64, bytes: u64, parts: u64) -> bool {
        leaves_room(held, bytes, self.limit / parts)
    }

    /// Changes what a source holds, unless it would be more than its part.
    fn resize(&self, source: Source, from: u64, to: u64) -> bool {
        let (client, site) = source.keys();
        let fits = |others, parts| to <= from || self.fits(others, to, parts);
        let mut held = self.by_source.borrow_mut();
        if let Some(site) = site {
            let others = held.get(&site).map_or(0, |held| held - from);
            if !fits(others, PARTS_PER_SITE) {
                return false;
            }
        }
        let mut set = |key, parts| {
            match held.entry(key) {
                Entry::Occupied(mut entry) => {
                    let others = entry.get() - from;
                    if !fits(others, parts) {
                        return false;
                    }
                    match others + to {
                        0 => drop(entry.remove()),
                        held => *entry.get_mut() = held,
                    }
                }
                Entry::Vacant(_) if to == 0 => {}
                Entry::Vacant(entry) => {
                    entry.insert(to);
                }
            }
            true
        };
        // The site's part was asked for before, so that nothing is to be undone.
        set(client, PARTS_PER_SOURCE) && site.is_none_or(|site| set(site, PARTS_PER_SITE))
    }
}

fn leaves_room(held: u64, bytes: u64, limit: u64) -> bool {
    held == 0 || held.saturating_add(bytes) <= limit
}

/// A reservation in a [`ByteBudget`]; dropping it returns the bytes.
#[derive(Debug)]
#[must_use = "a dropped permit reserves nothing"]
pub struct Permit {
    budget: ByteBudget,
    source: Option<Source>,
    bytes: u64,
    /// What all may hold while this one grows.
    all_max: u64,
}

impl Permit {
    /// Resizes the reservation to `bytes`. Shrinking always succeeds. Growing beyond the budget, or beyond the
    /// source's part of it, succeeds only while no other permit holds anything of it; otherwise the permit stays as
    /// it was.
    #[must_use]
    pub fn try_resize(&mut self, bytes: u64) -> bool {
        let held = &*self.budget.0;
        let others = held.all.get() - self.bytes;
        let has_room = bytes <= self.bytes || leaves_room(others, bytes, self.all_max);
        let is_resized = has_room
            && self
                .source
                .is_none_or(|source| held.resize(source, self.bytes, bytes));
        if is_resized {
            held.all.set(others + bytes);
            self.bytes = bytes;
        }
        is_resized
    }

    /// The same for a reservation of this priority, which may shrink, too, only where all hold no more than its share
    /// of the budget.
    #[must_use]
    pub fn try_resize_as(&mut self, bytes: u64, priority: Priority, shares: Shares) -> bool {
        if shares == Shares::WHOLE {
            return self.try_resize(bytes);
        }
        let held = &*self.budget.0;
        self.all_max = shares.of(priority, held.limit);
        let others = held.all.get() - self.bytes;
        let has_room = self.all_max == held.limit || leaves_room(others, bytes, self.all_max);
        has_room && self.try_resize(bytes)
    }

    /// Bytes that it holds.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // Shrinking always succeeds.
        let _ = self.try_resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_itself_fits_and_one_byte_more_does_not() {
        let budget = ByteBudget::new(100);
        let permit = budget.try_reserve(60, None).unwrap();
        assert!(budget.try_reserve(41, None).is_none());
        let rest = budget.try_reserve(40, None).unwrap();
        assert_eq!(budget.held(), 100);
        drop((permit, rest));
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn permits_resize_or_stay() {
        let budget = ByteBudget::new(100);
        let _other = budget.try_reserve(10, None).unwrap();
        let mut permit = budget.try_reserve(60, None).unwrap();
        assert!(!permit.try_resize(91));
        assert_eq!(budget.held(), 70);
        assert!(permit.try_resize(10));
        assert_eq!(budget.held(), 20);
        assert!(budget.try_reserve(u64::MAX, None).is_none());
    }

    #[test]
    fn a_lone_permit_may_exceed_the_budget() {
        let budget = ByteBudget::new(100);
        let mut permit = budget.try_reserve(150, None).unwrap();
        assert!(permit.try_resize(200));
        assert!(budget.try_reserve(1, None).is_none());
        drop(permit);
        assert_eq!(budget.held(), 0);
    }

    const SHARES: Shares = Shares {
        low_percent: 50,
        mid_percent: 80,
    };

    #[test]
    fn each_priority_is_refused_beyond_its_share() {
        for (priority, share) in [
            (Priority::Low, 50),
            (Priority::Mid, 80),
            (Priority::High, 100),
        ] {
            let budget = ByteBudget::new(100);
            let _other = budget.try_reserve(30, None).unwrap();
            let mut permit = budget.try_reserve(1, None).unwrap();
            assert!(permit.try_resize_as(share - 30, priority, SHARES));
            assert!(!permit.try_resize_as(share - 29, priority, SHARES));
            assert_eq!(budget.held(), share);
        }
    }

    #[test]
    fn low_is_refused_over_its_share_even_to_shrink() {
        let budget = ByteBudget::new(100);
        let mut permit = budget.try_reserve(30, None).unwrap();
        let other = budget.try_reserve(45, None).unwrap();
        assert!(!permit.try_resize_as(10, Priority::Low, SHARES));
        drop(other);
        // Alone it may hold anything.
        assert!(permit.try_resize_as(60, Priority::Low, SHARES));
    }

    #[test]
    fn unread_bodies_leave_the_rest_of_the_budget() {
        let budget = ByteBudget::new(100);
        budget.limit_unread(80);
        let mut permit = budget.try_reserve_unread(30, None).unwrap();
        let other = budget.try_reserve_unread(50, None).unwrap();
        assert!(budget.try_reserve_unread(1, None).is_none());
        assert!(!permit.try_resize(31));
        let read = budget.try_reserve(20, None).unwrap();
        assert!(permit.try_resize_as(30, Priority::High, SHARES));
        drop((read, other));
    }

    fn source(address: &str) -> Option<Source> {
        let address: IpAddr = address.parse().unwrap();
        Some(address.into())
    }

    #[test]
    fn a_source_holds_at_most_an_eighth() {
        let budget = ByteBudget::new(800);
        let greedy = source("192.0.2.7");
        let first = budget.try_reserve(60, greedy).unwrap();
        assert!(budget.try_reserve(41, greedy).is_none());
        let second = budget.try_reserve(40, source("::ffff:192.0.2.7")).unwrap();
        assert!(budget.try_reserve(1, greedy).is_none());
        let other = budget.try_reserve(100, source("192.0.2.8")).unwrap();
        let trusted = budget.try_reserve(600, None).unwrap();
        assert_eq!(budget.held(), 800);
        drop((first, second));
        // It holds nothing now, so it may have one request of any size that the budget has room for.
        let alone = budget.try_reserve(100, greedy).unwrap();
        drop((alone, other, trusted));
        assert_eq!(budget.held(), 0);
        assert!(budget.0.by_source.borrow().is_empty());
    }

    #[test]
    fn clients_and_sites_have_keys_of_their_own() {
        let clients = [
            "0.0.0.0",
            "0.0.0.1",
            "255.255.255.255",
            "::",
            "0:0:0:1::",
            "0:0:1::",
            "2001:db8:7:1::",
            "2001:db8:7:2::",
            "2001:db8:8::",
        ];
        let keys: Vec<_> = clients.map(|client| source(client).unwrap().keys()).into();
        let mut all: Vec<u128> = keys.iter().map(|(client, _)| *client).collect();
        // ::, 0:0:1::, 2001:db8:7:: and 2001:db8:8::.
        all.extend(keys.iter().filter_map(|(_, site)| *site));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), clients.len() + 4);
        let same = |one, other| assert_eq!(source(one), source(other));
        same("192.0.2.7", "::ffff:192.0.2.7");
        same("2001:db8:7:1::1", "2001:db8:7:1:ffff::9");
    }

    #[test]
    fn an_ipv6_site_holds_at_most_a_quarter() {
        let budget = ByteBudget::new(800);
        let in_site = |network: u16| source(&format!("2001:db8:7:{network:x}::1"));
        let same = budget.try_reserve(100, in_site(1)).unwrap();
        assert!(
            budget
                .try_reserve(1, source("2001:db8:7:1:ffff::9"))
                .is_none()
        );
        let next = budget.try_reserve(100, in_site(2)).unwrap();
        assert!(budget.try_reserve(1, in_site(3)).is_none());
        let elsewhere = budget.try_reserve(100, source("2001:db8:8::1")).unwrap();
        drop((same, next, elsewhere));
        assert!(budget.0.by_source.borrow().is_empty());
    }
}
