//! The write-ahead logs of the brokers' epochs, as far as the metadata knows them.

use vocabulary::{BrokerEpoch, BrokerId, VolumeId};

/// Where a log's segments are kept, which decides how it is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalKind {
    /// On a volume: whoever has the volume recovers it. Its directory goes on under later epochs.
    File,
    /// In the bucket: ended with a fence.
    Bucket,
}

/// One broker epoch's log. Its record stays after its end: the fence has to stay as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalLog {
    pub broker: BrokerId,
    pub epoch: BrokerEpoch,
    pub kind: WalKind,
    /// Which volume it lies on. `None` for one in the bucket, and for one of before volumes had names.
    pub volume: Option<VolumeId>,
    /// Segments below this sequence are not needed.
    pub trimmed: u64,
    /// Where the log ends for ever. `None` while it is open.
    pub fence: Option<u64>,
}

impl WalLog {
    pub(crate) fn check(&self) {
        assert!(self.trimmed <= self.fence.unwrap_or(u64::MAX), "nothing behind a fence is needed");
    }
}
