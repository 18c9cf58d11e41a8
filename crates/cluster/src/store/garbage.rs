//! When sorted files that the metadata database has replaced are deleted.
//!
//! Owns: their grace. Does not own: which files are garbage, and looking for them, which is SlateDB's.
//!
//! SlateDB keeps what a compaction has replaced for readers until a checkpoint expires, by the metadata's time
//! (`clock`). That time is raised at a start to what is stored, so a checkpoint made just before is over at once:
//! then files went that a load was still reading, and the start failed for what looked like damage. So a file goes
//! only when it was garbage already some time ago by the monotonic clock, which nothing moves.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use environment::Clock;
use object_store::path::Path;
use slatedb::{GcFilter, ObjectMetadata};
use vocabulary::Tick;

/// How long a sorted file stays after it was found to be garbage: for the reads under way, and until the open
/// database has seen that it was replaced (`StoreOptions::manifest_poll_interval`). Collection looks every ten
/// minutes (SlateDB's default), so that a file goes when it is found for the second time.
const SORTED_FILE_GRACE: Duration = Duration::from_secs(300);

/// A file that was not found again for so long has been deleted, here or by another process.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);

/// The folder of sorted files below the database's.
const SORTED_FILES: &str = "compacted";

/// Lets sorted files go after their grace, and everything else at once.
pub(super) struct Grace {
    clock: Arc<dyn Clock>,
    /// When each was found first. Leaf lock around a few numbers; as many as there are garbage files.
    found: Mutex<HashMap<Path, Tick>>,
}

impl Grace {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Grace {
        Grace { clock, found: Mutex::default() }
    }
}

#[async_trait::async_trait]
impl GcFilter for Grace {
    async fn filter(&self, candidates: HashSet<ObjectMetadata>) -> HashSet<ObjectMetadata> {
        let now = self.clock.now();
        let found = self.found.lock();
        let mut found = found.expect("no holder of this leaf lock panics: it only counts");
        found.retain(|_, first| now.since(*first) < FORGOTTEN_AFTER);
        let mut may_go = |file: &Path| {
            let is_sorted_file = file.as_ref().rsplit('/').nth(1) == Some(SORTED_FILES);
            if !is_sorted_file {
                return true;
            }
            let first = *found.entry(file.clone()).or_insert(now);
            SORTED_FILE_GRACE <= now.since(first)
        };
        candidates.into_iter().filter(|it| may_go(&it.location)).collect()
    }
}

#[cfg(test)]
mod tests;
