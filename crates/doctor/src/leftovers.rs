//! What lies in the bucket and is needed by nobody: A7.
//!
//! Owns: telling leftovers from what is pending, by age. Does not own: deleting anything; a broker's sweep
//! does.

use std::collections::BTreeMap;

use bucket::{Bucket, BucketError, Key, ObjectInfo};
use cluster::{MetadataInspection, WalLog};
use partition_log::segment::{DATA_PREFIX, WAL_PREFIX, segment_key, segment_of};
use vocabulary::{BrokerEpoch, BrokerId, SegmentName, Timestamp};

use crate::finding::{Finding, Invariant};

/// Objects listed at a time.
const LIST_PAGE: usize = 1000;

/// Old objects that are judged; more say nothing new, and the report is cut before.
const SUSPECTS_MAX: usize = 10_000;

const SAFE: &str = "It costs its storage and nothing else: no committed record lies in it.";
const ADVICE: &str = "A running broker sweeps it within two grace periods. If it stays, look for \
                      \"the sweep of orphans goes on later\" in the log, and at the permission to delete.";

/// An object nobody refers to.
#[derive(Debug, Clone)]
pub(crate) struct Suspect {
    name: SegmentName,
    bytes: u64,
    modified: Timestamp,
}

/// What a listing gave.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub(crate) objects: u64,
    /// Unreferenced, and too young to say more.
    pub(crate) pending: u64,
    /// Of logs that the metadata does not have: nobody's to judge.
    pub(crate) strangers: u64,
    /// Below `data` and `wal`, but not named as segments are.
    pub(crate) misnamed: u64,
    pub(crate) suspects: Vec<Suspect>,
}

/// Lists all segments of the bucket and compares them with the metadata as of `look`. Objects modified
/// before `cutoff` are old.
///
/// # Errors
/// The store did not answer.
pub(crate) async fn list(
    bucket: &dyn Bucket,
    look: &MetadataInspection,
    cutoff: Timestamp,
) -> Result<Listed, BucketError> {
    let logs = logs_of(look);
    let mut listed = Listed::default();
    for prefix in [DATA_PREFIX, WAL_PREFIX].map(Key::new) {
        let mut after: Option<Key> = None;
        loop {
            let page = bucket.list(&prefix, after.as_ref(), LIST_PAGE).await?;
            for object in &page {
                listed.judge(object, look, &logs, cutoff);
            }
            if page.len() < LIST_PAGE {
                break;
            }
            after = page.last().map(|it| it.key.clone());
        }
    }
    Ok(listed)
}

impl Listed {
    fn judge(
        &mut self,
        object: &ObjectInfo,
        look: &MetadataInspection,
        logs: &BTreeMap<(BrokerId, BrokerEpoch), WalLog>,
        cutoff: Timestamp,
    ) {
        self.objects += 1;
        let Some(name) = segment_of(&object.key) else {
            self.misnamed += 1;
            return;
        };
        match need(name, look, logs) {
            Need::Needed => (),
            Need::Unknown => self.strangers += 1,
            Need::None if cutoff <= object.modified => self.pending += 1,
            Need::None if SUSPECTS_MAX <= self.suspects.len() => self.pending += 1,
            Need::None => {
                let (bytes, modified) = (object.length, object.modified);
                self.suspects.push(Suspect { name, bytes, modified });
            }
        }
    }
}

enum Need {
    Needed,
    None,
    Unknown,
}

/// What keeps an object.
fn need(
    name: SegmentName,
    look: &MetadataInspection,
    logs: &BTreeMap<(BrokerId, BrokerEpoch), WalLog>,
) -> Need {
    if look.segment(name).is_some() {
        return Need::Needed; // Live, or garbage that the collection knows.
    }
    let SegmentName::Wal { broker, epoch, sequence } = name else { return Need::None };
    match logs.get(&(broker, epoch)) {
        None => Need::Unknown,
        Some(WalLog { fence: Some(fence), .. }) if *fence == sequence => Need::Needed,
        Some(WalLog { fence: Some(_), .. }) => Need::None,
        Some(log) if sequence < log.trimmed => Need::None,
        Some(_) => Need::Needed,
    }
}

/// The suspects that a later look does not need either.
pub(crate) fn confirmed(
    suspects: Vec<Suspect>,
    later: &MetadataInspection,
    now: Timestamp,
) -> Vec<Finding> {
    let logs = logs_of(later);
    let unneeded = |it: &Suspect| matches!(need(it.name, later, &logs), Need::None);
    let finding = |it: Suspect| {
        let minutes = now.0.saturating_sub(it.modified.0) / 60_000;
        let bytes = it.bytes;
        Finding {
            invariant: Invariant::A7,
            object: segment_key(it.name).to_string(),
            range: None,
            what: format!(
                "nothing refers to it; it has {bytes} bytes and is {minutes} minutes old"
            ),
            safe: SAFE,
            advice: ADVICE,
        }
    };
    suspects.into_iter().filter(unneeded).map(finding).collect()
}

/// Segments that have been garbage since before `cutoff`: nobody collects them. Those of open logs wait
/// for the log.
pub(crate) fn uncollected(look: &MetadataInspection, cutoff: Timestamp) -> Vec<SegmentName> {
    let logs = logs_of(look);
    let may_go = |name: SegmentName| match name {
        SegmentName::Data(_) => true,
        SegmentName::Wal { broker, epoch, sequence } => {
            logs.get(&(broker, epoch)).is_some_and(|it| it.fence.is_some() || sequence < it.trimmed)
        }
    };
    let old = |since: Option<Timestamp>| since.is_some_and(|it| it < cutoff);
    let due = look.segments().filter(|(name, it)| old(it.garbage_since) && may_go(*name));
    due.map(|(name, _)| name).take(SUSPECTS_MAX).collect()
}

/// What is told of a segment that nobody collects.
pub(crate) fn uncollected_finding(name: SegmentName) -> Finding {
    Finding {
        invariant: Invariant::A7,
        object: segment_key(name).to_string(),
        range: None,
        what: "it has been garbage for longer than the grace, and is still there".to_owned(),
        safe: SAFE,
        advice: "Start a broker: it collects garbage every half minute. If one runs, look for \
                 \"garbage stays for now\" in its log.",
    }
}

pub(crate) fn logs_of(look: &MetadataInspection) -> BTreeMap<(BrokerId, BrokerEpoch), WalLog> {
    look.wal_logs().into_iter().map(|it| ((it.broker, it.epoch), it)).collect()
}
