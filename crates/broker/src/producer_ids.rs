//! Hands out producer ids from blocks reserved with the controller, so that one metadata commit
//! serves a thousand producers. Ids of an unfinished block are lost at a restart, as in Kafka.

use std::ops::Range;

use cluster::{Controller, SubmitError};
use vocabulary::ProducerId;

/// Ids reserved at a time, as Kafka's block size.
const BLOCK_IDS: u32 = 1000;

#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    /// An async mutex: one caller fetches the next block while the others wait for it.
    block: tokio::sync::Mutex<Range<i64>>,
}

impl ProducerIds {
    pub(crate) async fn next(&self, controller: &Controller) -> Result<ProducerId, SubmitError> {
        let mut block = self.block.lock().await;
        if block.is_empty() {
            *block = controller.allocate_producer_ids(BLOCK_IDS).await?;
        }
        let id = block.start;
        block.start += 1;
        Ok(ProducerId(id))
    }
}
