//! A producer without transactions: idempotent, one batch at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::line::{Line, Sender, compression};
use super::{PARTITIONS, Site, TRY_AGAIN};
use crate::anomalies::Random;
use crate::anomalies::history::{Fate, Operation, Partition};

/// Values of one batch, at most.
const BATCH_MAX: u64 = 5;
/// Between batches: the log must stay small enough to be read whole at the end.
const BREATH: Duration = Duration::from_millis(8);

pub(super) struct Producer {
    site: Arc<Site>,
    process: u32,
    line: Line,
    random: Random,
    identity: Option<((i64, i16), BTreeMap<Partition, i32>)>,
    operations: Vec<Operation>,
}

impl Producer {
    pub(super) fn new(site: Arc<Site>, process: u32) -> Producer {
        let (line, random) = (site.line(), site.random(process));
        Producer { site, process, line, random, identity: None, operations: Vec::new() }
    }

    pub(super) fn run(mut self) -> Vec<Operation> {
        while !self.site.is_over() {
            self.send();
            std::thread::sleep(BREATH);
        }
        self.operations
    }

    /// Sends a batch and goes on when its fate is known, or cannot be.
    fn send(&mut self) {
        let identity = self.identity.take().or_else(|| {
            let granted = self.line.identify(None)?.ok()?;
            Some((granted, BTreeMap::new()))
        });
        let Some((producer, mut sequences)) = identity else {
            return std::thread::sleep(TRY_AGAIN);
        };
        let partition = partition(&mut self.random);
        let count = 1 + self.random.below(BATCH_MAX);
        let Some(first) = self.site.values(count) else { return };
        let sequences_now = &mut sequences;
        let mut sender =
            Sender { version: 9, transactional_id: None, producer, sequences: sequences_now };
        let codec = compression(&mut self.random);
        let sent = sender.send(&self.site, &mut self.line, partition, (first, count), codec);
        // After anything but success the sequence is in doubt: another identity begins at zero.
        if matches!(sent.batch.fate, Fate::Acknowledged(_)) {
            self.identity = Some((producer, sequences));
        }
        self.operations.push(Operation::Send { process: self.process, batch: sent.batch });
    }
}

pub(super) fn partition(random: &mut Random) -> Partition {
    i32::try_from(random.below(PARTITIONS.unsigned_abs().into())).unwrap_or(0)
}
