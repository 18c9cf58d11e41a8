//! How many connections there may be at once: in all, and from one address.
//!
//! Owns: the counts and the decision about a new connection. Does not own: sockets (`listener`), what the limits
//! are (`configs`), how long a connection may idle (`connection`).
//!
//! Invariant: a count is what lives of the [`Admission`]s it was raised for; an address without any has no entry,
//! so the map is bounded by `max.connections`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use prometheus_client::metrics::gauge::Gauge;

/// Connections at once (max.connections, max.connections.per.ip and its overrides).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) all: usize,
    pub(crate) per_address: usize,
    /// Other limits for some addresses, in their canonical form.
    pub(crate) overrides: HashMap<IpAddr, usize>,
}

impl Limits {
    fn of(&self, address: IpAddr) -> usize {
        self.overrides.get(&address).copied().unwrap_or(self.per_address)
    }
}

/// The config whose limit is reached, and the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{config} ({limit}) reached")]
pub(crate) struct Refused {
    config: &'static str,
    limit: usize,
}

#[derive(Debug)]
pub(crate) struct ConnectionLimits {
    limits: Limits,
    counts: Mutex<Counts>,
    /// Shows `Counts::all` to an operator.
    open: Gauge,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The right to one connection; given back when dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: Arc<ConnectionLimits>,
    address: IpAddr,
}

impl ConnectionLimits {
    pub(crate) fn new(limits: Limits, open: Gauge) -> Arc<ConnectionLimits> {
        Arc::new(ConnectionLimits { limits, counts: Mutex::default(), open })
    }

    /// `peer` may be an IPv4 address that came over IPv6: it counts as what it is.
    pub(crate) fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<Admission, Refused> {
        let address = peer.to_canonical();
        let mut counts = self.counts();
        if self.limits.all <= counts.all {
            return Err(Refused { config: "max.connections", limit: self.limits.all });
        }
        let limit = self.limits.of(address);
        if limit <= counts.by_address.get(&address).copied().unwrap_or(0) {
            return Err(Refused { config: "max.connections.per.ip", limit });
        }
        counts.all += 1;
        *counts.by_address.entry(address).or_default() += 1;
        self.open.inc();
        Ok(Admission { limits: Arc::clone(self), address })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().expect("no holder of this leaf lock panics: arithmetic only")
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut counts = self.limits.counts();
        counts.all -= 1;
        if let Some(count) = counts.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&self.address);
            }
        }
        self.limits.open.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(
        all: usize,
        per_address: usize,
        overrides: &[(&str, usize)],
    ) -> Arc<ConnectionLimits> {
        let overrides = overrides.iter().map(|(address, limit)| (ip(address), *limit)).collect();
        ConnectionLimits::new(Limits { all, per_address, overrides }, Gauge::default())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_its_limit_and_gets_back_what_it_gives_up() {
        let limits = limits(10, 2, &[]);
        let (first, _second) = (limits.admit(ip("10.0.0.1")), limits.admit(ip("::ffff:10.0.0.1")));
        let refused = limits.admit(ip("10.0.0.1")).map(|_| ());
        assert_eq!(refused, Err(Refused { config: "max.connections.per.ip", limit: 2 }));
        let other = limits.admit(ip("10.0.0.2"));
        assert!(other.is_ok());
        assert_eq!(limits.open.get(), 3);
        drop(first);
        assert!(limits.admit(ip("10.0.0.1")).is_ok());
        drop(other);
        assert!(!limits.counts().by_address.contains_key(&ip("10.0.0.2")), "forgotten");
        assert_eq!(limits.open.get(), 1);
    }

    #[test]
    fn overrides_go_before_and_the_limit_of_all_before_them() {
        let limits = limits(3, 0, &[("10.0.0.1", 2), ("::1", 9)]);
        assert!(limits.admit(ip("10.0.0.2")).is_err(), "0 refuses whoever is not named");
        let kept = [limits.admit(ip("10.0.0.1")), limits.admit(ip("10.0.0.1"))];
        assert!(limits.admit(ip("10.0.0.1")).is_err());
        let last = limits.admit(ip("::1"));
        assert!(kept.iter().all(Result::is_ok) && last.is_ok());
        let refused = limits.admit(ip("::1")).map(|_| ());
        assert_eq!(refused, Err(Refused { config: "max.connections", limit: 3 }));
    }
}
