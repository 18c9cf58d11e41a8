//! Whose log a volume holds: known before anything is registered or recovered.
//!
//! Owns: reading the first header of each file. Does not own: what counts as durable (`recovery`).
//!
//! A file is written by one process, so its first header speaks for all of it. A file whose header is
//! torn was never acknowledged, and nobody owns it.

use super::chain::FileName;
use super::{FileWal, RecoveredSegment, WalError};
use crate::segment::{HEADER_LEN, SegmentError, SegmentHeader};
use crate::volume::Volume;
use std::collections::BTreeSet;
use vocabulary::{BrokerId, SegmentName};

/// The brokers that wrote what a recovery found.
pub fn owners_of(recovered: &[RecoveredSegment]) -> BTreeSet<BrokerId> {
    recovered.iter().filter_map(|it| owner(it.index.name)).collect()
}

fn owner(name: SegmentName) -> Option<BrokerId> {
    match name {
        SegmentName::Wal { broker, .. } => Some(broker),
        SegmentName::Data(_) => None,
    }
}

impl FileWal {
    /// The brokers whose segments lie on a volume: whoever is started with it continues their logs, and
    /// has to take over their partitions as it registers. Reads headers only, changes nothing.
    ///
    /// # Errors
    ///
    /// The volume's, and `Unsupported` for segments of newer software.
    pub async fn owners(volume: &dyn Volume) -> Result<BTreeSet<BrokerId>, WalError> {
        let mut owners = BTreeSet::new();
        for entry in volume.list().await? {
            if entry.name.parse::<FileName>().is_err() {
                continue; // Not a file of the log; recovery says so.
            }
            let file = volume.open(&entry.name).await?;
            let bytes = file.read_at(0, HEADER_LEN).await?;
            match SegmentHeader::parse(&bytes) {
                Ok(header) => owners.extend(owner(header.name)),
                Err(source @ SegmentError::Version { .. }) => {
                    return Err(WalError::Unsupported { file: entry.name, position: 0, source });
                }
                Err(_) => (),
            }
        }
        Ok(owners)
    }
}
