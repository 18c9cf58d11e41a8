//! Hands out producer ids from blocks reserved with the controller, so that one metadata commit
//! serves a thousand producers. Ids of an unfinished block are lost at a restart, as in Kafka.

use std::ops::Range;
use std::time::Duration;

use cluster::{Controller, SubmitError};
use vocabulary::ProducerId;

use crate::admin_rows;
use crate::broker::Broker;

/// Ids reserved at a time, as Kafka's block size.
const BLOCK_IDS: u32 = 1000;

/// How long an id is waited for. Clients ask again, on a connection that does other things meanwhile.
const ID_WAIT_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    /// An async mutex: one caller fetches the next block while the others wait for it.
    block: tokio::sync::Mutex<Range<i64>>,
}

impl ProducerIds {
    /// An id that nobody had before.
    ///
    /// # Errors
    /// None within [`ID_WAIT_MAX`]. The block that was asked for is lost then.
    pub(crate) async fn next(&self, broker: &Broker) -> Result<ProducerId, SubmitError> {
        let deadline = broker.environment.clock.now().plus(ID_WAIT_MAX);
        let given = admin_rows::until(broker, deadline, self.given(&broker.controller)).await;
        given.unwrap_or_else(|| {
            Err(SubmitError::Unavailable(format!("no answer within {ID_WAIT_MAX:?}")))
        })
    }

    async fn given(&self, controller: &Controller) -> Result<ProducerId, SubmitError> {
        let mut block = self.block.lock().await;
        if block.is_empty() {
            *block = controller.allocate_producer_ids(BLOCK_IDS).await?;
        }
        let id = block.start;
        block.start += 1;
        Ok(ProducerId(id))
    }
}
