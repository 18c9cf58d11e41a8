//! The bound on what the server holds: bytes of bodies, stored or still arriving, and of keys.
//!
//! Invariant: every byte that is held is charged by a [`Charge`] that lives as long as the byte does, so
//! nothing has to be given back by hand: deleting an object that is still being read frees it when the
//! last reader is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::refusal::Refusal;

/// Clones share the bound.
#[derive(Debug, Clone)]
pub(crate) struct Quota {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    used: AtomicU64,
    bytes_max: u64,
}

/// Bytes that are taken until this is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    quota: Quota,
    bytes: u64,
}

impl Quota {
    pub(crate) fn new(bytes_max: u64) -> Quota {
        Quota { shared: Arc::new(Shared { used: AtomicU64::new(0), bytes_max }) }
    }

    pub(crate) fn used(&self) -> u64 {
        self.shared.used.load(Ordering::Relaxed)
    }

    pub(crate) fn take(&self, bytes: u64) -> Result<Charge, Refusal> {
        let mut charge = Charge { quota: self.clone(), bytes: 0 };
        charge.grow(bytes)?;
        Ok(charge)
    }
}

impl Charge {
    /// Takes `bytes` more, or none of them.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<(), Refusal> {
        let Shared { used, bytes_max } = &*self.quota.shared;
        let fits = |held: u64| held.checked_add(bytes).filter(|it| it <= bytes_max);
        match used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => {
                self.bytes += bytes;
                Ok(())
            }
            Err(held) => Err(Refusal::full(held, *bytes_max)),
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.quota.shared.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_and_drops_give_back() {
        let quota = Quota::new(10);
        let mut first = quota.take(4).expect("room");
        first.grow(6).expect("room");
        assert_eq!(first.grow(1).expect_err("full").status.as_u16(), 507);
        assert!(quota.take(1).is_err());
        assert!(quota.take(u64::MAX).is_err(), "no overflow");
        drop(first);
        assert_eq!(quota.used(), 0);
        assert!(quota.take(10).is_ok());
    }
}
