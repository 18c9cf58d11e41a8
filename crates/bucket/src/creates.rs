//! Believes "exists" only when there is something to read.
//!
//! S3 answers a conditional create with 409 while others write or delete the same key, and the client takes that
//! for a lost race. A database that did so, too, would go on with the next name of its log, and leave a hole that
//! nobody can read past, ever. So it is told to ask again. The port itself goes further for its own creates:
//! it compares what is there with what was to be written ([`crate::StoreBucket`]).

use std::sync::Arc;

use object_store::path::Path;
use object_store::{Error, GetOptions, ObjectStore, PutMode, Result};

use crate::hooked::{Hook, StoreRequest};

#[derive(Debug)]
pub(crate) struct BelievedCreates {
    /// What is looked at: the store that the creates go to.
    pub(crate) store: Arc<dyn ObjectStore>,
}

impl Hook for BelievedCreates {
    async fn around<T: Send>(
        &self,
        request: StoreRequest<'_>,
        run: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        match (run.await, request) {
            (
                Err(told @ Error::AlreadyExists { .. }),
                StoreRequest::Put { location, options, .. },
            ) if options.mode == PutMode::Create => Err(self.believed(location, told).await),
            (answer, _) => answer,
        }
    }
}

impl BelievedCreates {
    async fn believed(&self, location: &Path, told: Error) -> Error {
        let head = GetOptions { head: true, ..GetOptions::default() };
        match self.store.get_opts(location, head).await {
            Ok(_) => told,
            Err(error) => {
                let said = format!(
                    "{location} exists for a write and was not found by a read: {told}; {error}"
                );
                Error::Generic { store: "bucket", source: said.into() }
            }
        }
    }
}
