//! How long requests take: a log-normal distribution per class of operation, given by two quantiles.
//!
//! Owns: the distributions and the presets. Does not own: chance (random numbers come in) and waiting.

use std::time::Duration;

use crate::operation::Operation;

/// The standard normal distribution's 99th percentile.
const Z_P99: f64 = 2.326_347_874_040_841;
/// No drawn delay is longer: a log-normal tail has no end.
const DELAY_MAX: Duration = Duration::from_secs(60);
const MIB_BYTES: f64 = 1024.0 * 1024.0;

/// Half of the delays are below `p50`, 99 in 100 below `p99`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delay {
    pub p50: Duration,
    /// Taken as `p50` when it is smaller.
    pub p99: Duration,
}

/// How long each class of operation takes, besides what the machine itself needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delays {
    /// Everything that writes: PUT, copies, all of multipart but aborts.
    pub put: Delay,
    /// GET and HEAD, to the first byte.
    pub get: Delay,
    pub list: Delay,
    pub delete: Delay,
    /// Besides, for each MiB of a body in either direction.
    pub per_mib: Duration,
}

impl Delay {
    pub const fn millis(p50: u64, p99: u64) -> Delay {
        Delay { p50: Duration::from_millis(p50), p99: Duration::from_millis(p99) }
    }

    /// The delay of a request whose draw from the standard normal distribution is `z`.
    fn at(self, z: f64) -> Duration {
        let p50 = self.p50.as_secs_f64();
        if p50 <= 0.0 {
            return Duration::ZERO;
        }
        let sigma = (self.p99.as_secs_f64().max(p50) / p50).ln() / Z_P99;
        Duration::from_secs_f64((p50 * (sigma * z).exp()).min(DELAY_MAX.as_secs_f64()))
    }
}

impl Delays {
    pub const NONE: Delays = Delays {
        put: Delay::millis(0, 0),
        get: Delay::millis(0, 0),
        list: Delay::millis(0, 0),
        delete: Delay::millis(0, 0),
        per_mib: Duration::ZERO,
    };

    /// A standard bucket in the client's own region.
    pub fn s3() -> Delays {
        Delays {
            put: Delay::millis(60, 300),
            get: Delay::millis(30, 100),
            list: Delay::millis(50, 200),
            delete: Delay::millis(30, 100),
            per_mib: Duration::ZERO,
        }
    }

    /// A preset by its name: `none` or `s3`.
    pub fn named(name: &str) -> Option<Delays> {
        match name {
            "none" => Some(Delays::NONE),
            "s3" => Some(Delays::s3()),
            _ => None,
        }
    }

    /// The delay of one request, given its draw from the standard normal distribution.
    pub(crate) fn of(&self, operation: Operation, z: f64) -> Duration {
        let class = match operation {
            Operation::Put
            | Operation::Copy
            | Operation::CreateUpload
            | Operation::UploadPart
            | Operation::CompleteUpload
            | Operation::Bucket => self.put,
            Operation::Get | Operation::Head => self.get,
            Operation::List | Operation::ListParts => self.list,
            Operation::Delete | Operation::DeleteMany | Operation::AbortUpload => self.delete,
            Operation::Unknown => Delay::default(),
        };
        class.at(z)
    }

    pub(crate) fn transfer(&self, bytes: u64) -> Duration {
        self.per_mib.mul_f64(bytes as f64 / MIB_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_met() {
        let s3 = Delays::s3();
        let millis = |operation, z| s3.of(operation, z).as_secs_f64() * 1000.0;
        for (operation, p50, p99) in [
            (Operation::Put, 60.0, 300.0),
            (Operation::Get, 30.0, 100.0),
            (Operation::List, 50.0, 200.0),
            (Operation::DeleteMany, 30.0, 100.0),
        ] {
            assert!((millis(operation, 0.0) - p50).abs() < 1e-6, "{operation} p50");
            assert!((millis(operation, Z_P99) - p99).abs() < 1e-6, "{operation} p99");
        }
        assert_eq!(s3.of(Operation::Put, 100.0), DELAY_MAX);
        assert_eq!(Delays::NONE.of(Operation::Put, 3.0), Duration::ZERO);
        assert_eq!(Delay::millis(5, 0).at(2.0), Duration::from_millis(5), "no p99: no spread");
    }

    #[test]
    fn bytes_take_time_too() {
        let delays = Delays { per_mib: Duration::from_millis(10), ..Delays::NONE };
        assert_eq!(delays.transfer(3 * 1024 * 1024), Duration::from_millis(30));
        assert_eq!(delays.transfer(0), Duration::ZERO);
    }
}
