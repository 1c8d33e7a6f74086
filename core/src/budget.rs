//! Admission by bytes: how much of request bodies and records one core may hold at once.

use std::cell::Cell;
use std::rc::Rc;

/// One core's share of the process's in-flight bytes. Not shared between threads, so that admission
/// costs no locked instruction; the process divides its budget evenly among its cores. A share may be
/// smaller than one allowed request, so a request that finds the budget empty is always admitted: it
/// would otherwise never succeed.
#[derive(Clone, Debug)]
pub struct ByteBudget {
    limit: u64,
    held: Rc<Cell<u64>>,
}

impl ByteBudget {
    /// A budget of `limit` bytes, all free.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        ByteBudget {
            limit,
            held: Rc::default(),
        }
    }

    /// Reserves `bytes` until the permit is dropped; `None` when fewer are free and another permit is held.
    #[must_use]
    pub fn try_reserve(&self, bytes: u64) -> Option<Permit> {
        let mut permit = Permit {
            budget: self.clone(),
            bytes: 0,
        };
        permit.try_resize(bytes).then_some(permit)
    }

    /// Bytes currently reserved.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held.get()
    }
}

/// A reservation in a [`ByteBudget`]; dropping it returns the bytes.
#[derive(Debug)]
#[must_use = "a dropped permit reserves nothing"]
pub struct Permit {
    budget: ByteBudget,
    bytes: u64,
}

impl Permit {
    /// Resizes the reservation to `bytes`. Shrinking always succeeds. Growing beyond the budget succeeds
    /// only while no other permit holds anything; otherwise the permit stays as it was.
    #[must_use]
    pub fn try_resize(&mut self, bytes: u64) -> bool {
        let others = self.budget.held.get() - self.bytes;
        let fits =
            bytes <= self.bytes || others == 0 || others.saturating_add(bytes) <= self.budget.limit;
        if fits {
            self.budget.held.set(others + bytes);
            self.bytes = bytes;
        }
        fits
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.held.set(self.budget.held.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_itself_fits_and_one_byte_more_does_not() {
        let budget = ByteBudget::new(100);
        let permit = budget.try_reserve(60).unwrap();
        assert!(budget.try_reserve(41).is_none());
        let rest = budget.try_reserve(40).unwrap();
        assert_eq!(budget.held(), 100);
        drop((permit, rest));
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn permits_resize_or_stay() {
        let budget = ByteBudget::new(100);
        let _other = budget.try_reserve(10).unwrap();
        let mut permit = budget.try_reserve(60).unwrap();
        assert!(!permit.try_resize(91));
        assert_eq!(budget.held(), 70);
        assert!(permit.try_resize(10));
        assert_eq!(budget.held(), 20);
        assert!(budget.try_reserve(u64::MAX).is_none());
    }

    #[test]
    fn a_lone_permit_may_exceed_the_budget() {
        let budget = ByteBudget::new(100);
        let mut permit = budget.try_reserve(150).unwrap();
        assert!(permit.try_resize(200));
        assert!(budget.try_reserve(1).is_none());
        drop(permit);
        assert_eq!(budget.held(), 0);
    }
}
