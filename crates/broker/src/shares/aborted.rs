//! Which batches hold records of transactions that were aborted, so that nobody of a share group gets them
//! (`share.isolation.level=read_committed`). Pure.
//!
//! Owns: telling such batches. Does not own: what was aborted (`partition_log`).

use std::collections::HashMap;

use partition_log::AbortedTransaction;
use protocol::records::BatchHeader;

/// The aborted transactions of what was read.
#[derive(Debug, Default)]
pub(super) struct Aborted {
    /// By producer, in the order of their markers: of one producer they do not overlap.
    transactions: HashMap<i64, Vec<AbortedTransaction>>,
}

impl Aborted {
    /// Given in the order of their markers.
    pub(super) fn new(found: Vec<AbortedTransaction>) -> Aborted {
        let mut transactions: HashMap<i64, Vec<AbortedTransaction>> = HashMap::new();
        for one in found {
            transactions.entry(one.producer.0).or_default().push(one);
        }
        Aborted { transactions }
    }

    pub(super) fn contains(&self, batch: &BatchHeader) -> bool {
        if !batch.attributes.is_transactional() {
            return false;
        }
        let Some(of_producer) = self.transactions.get(&batch.producer_id) else { return false };
        let at = of_producer.partition_point(|it| it.last_offset < batch.base_offset);
        of_producer.get(at).is_some_and(|it| it.first_offset <= batch.base_offset)
    }
}

#[cfg(test)]
mod tests {
    use protocol::records::{Batch, BatchBuilder, Compression};
    use vocabulary::{Offset, ProducerId, Timestamp};

    use super::*;

    fn header(producer: i64, at: i64, is_transactional: bool) -> BatchHeader {
        let builder = BatchBuilder::new(Compression::None, Some((ProducerId(producer), 0, 0)));
        let mut builder = if is_transactional { builder.transactional() } else { builder };
        builder.push(Timestamp(0), None, Some(b"v"), &[]);
        let batch: Batch = builder.build();
        BatchHeader { base_offset: Offset(at), ..batch.header }
    }

    #[test]
    fn only_what_its_own_producer_wrote_within_is_aborted() {
        let one = |producer, first, last| AbortedTransaction {
            producer: ProducerId(producer),
            first_offset: Offset(first),
            last_offset: Offset(last),
        };
        let aborted = Aborted::new(vec![one(7, 2, 5), one(8, 0, 6), one(7, 10, 12)]);
        let is_aborted = |producer, at| aborted.contains(&header(producer, at, true));
        let sevens: Vec<i64> = (0..14).filter(|at| is_aborted(7, *at)).collect();
        assert_eq!(sevens, [2, 3, 4, 5, 10, 11, 12], "what lies between was committed");
        let eights: Vec<i64> = (0..14).filter(|at| is_aborted(8, *at)).collect();
        assert_eq!(eights, [0, 1, 2, 3, 4, 5, 6]);
        assert!(!is_aborted(9, 3), "another producer");
        assert!(!aborted.contains(&header(7, 3, false)), "outside of any transaction");
    }
}
