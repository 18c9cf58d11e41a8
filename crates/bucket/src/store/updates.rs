//! The start-up check of conditional updates, which the metadata database asks of the store below the
//! port.
//!
//! Owns: the race, what its outcomes prove. Does not own: the other promises (`probe`).
//!
//! The client below does not repeat a conditional write whose connection was reset, and where it
//! repeats one, after a 500 that was done all the same, the winner is told that it lost. So an outcome
//! may be unknown, or wrongly a loss; neither is held against the store. What would be: two writers
//! that are told they won, a winner whose bytes are not there, a race that left the object as it was.

use super::{StoreBucket, path};
use crate::classify::classify;
use crate::port::{Bucket, BucketError, Key, Purpose};
use crate::probe::{ProbeError, Property, broken};
use bytes::Bytes;
use object_store::{Error, GetOptions, ObjectStore, PutMode, PutOptions, UpdateVersion};

/// Writers of one version of one object at once.
const UPDATERS: u8 = 8;

const BODY_BYTES: usize = 9;

fn body(writer: u8) -> Vec<u8> {
    vec![writer; BODY_BYTES]
}

/// A conditional write that was answered.
enum Answer {
    Done(UpdateVersion),
    /// The condition did not hold; or the client has used up its tries on 409, then whoever caused
    /// those has won.
    Lost,
    /// The client has no such request.
    Foreign,
}

impl StoreBucket {
    /// Updates an object below `probe/` under conditions. A store that says it has no such thing passes
    /// if `is_optional`: a directory, where one process has the database. What passes is tried again,
    /// [`super::StoreOptions::attempts_max`] times with a new key each.
    ///
    /// # Errors
    ///
    /// The promise is broken; otherwise what keeps from asking.
    pub(super) async fn probe_updates(&self, is_optional: bool) -> Result<(), ProbeError> {
        let mut attempt = 1;
        loop {
            let key = Key::new(format!("probe/{:032x}", self.entropy.next_u128()));
            let checked = self.check_updates(&key, is_optional).await;
            let deleted = self.delete(&key, Purpose::Cluster).await;
            match checked.and(deleted.map_err(ProbeError::from)) {
                Err(ProbeError::Bucket(error))
                    if error.is_transient() && attempt < self.options.attempts_max =>
                {
                    self.note(attempt, &error);
                    self.pause(attempt).await;
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }

    async fn check_updates(&self, key: &Key, is_optional: bool) -> Result<(), ProbeError> {
        let store = &*self.object_store();
        let conditional = async |writer, mode| {
            self.in_time(key, Purpose::Cluster, conditional(store, key, writer, mode)).await
        };
        let refused = |seen| Err(broken(Property::ConditionalUpdate, seen));
        let first = match conditional(0, PutMode::Create).await? {
            Answer::Done(version) => version,
            Answer::Lost => {
                // Who made it is not known. That a store takes every key for taken, the other half of
                // the probe finds out.
                let reason = "a key made of chance exists already".to_owned();
                return Err(BucketError::Unavailable { key: key.clone(), reason }.into());
            }
            Answer::Foreign if is_optional => return Ok(()),
            Answer::Foreign => return refused("the client has no such request"),
        };
        let race = (1..=UPDATERS).map(|writer| conditional(writer, PutMode::Update(first.clone())));
        let outcomes = futures::future::join_all(race).await;
        let (mut winner, mut unknown) = (None, None);
        for (writer, outcome) in (1..=UPDATERS).zip(outcomes) {
            match outcome {
                Ok(Answer::Done(_)) if winner.replace(writer).is_some() => {
                    return refused("two writers updated the same version");
                }
                Ok(Answer::Done(_) | Answer::Lost) => (),
                Ok(Answer::Foreign) if is_optional => return Ok(()),
                Ok(Answer::Foreign) => return refused("the client has no such request"),
                Err(error) if error.is_transient() => unknown = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        let whole = || self.in_time(key, Purpose::Cluster, whole(store, key));
        // Whatever became of an earlier try: once the version is gone, none may succeed.
        let stale = || conditional(0, PutMode::Update(first.clone()));
        let (found, stale) = futures::join!(
            self.again(Purpose::Cluster, whole),
            self.again(Purpose::Cluster, stale)
        );
        let found = found?;
        let others = (1..=UPDATERS).any(|writer| found == body(writer));
        match (winner, unknown) {
            (Some(winner), _) if found != body(winner) => {
                return refused("the object is not that of the one who won");
            }
            (Some(_), _) => (),
            (None, _) if others => (), // Who won was not told, or told otherwise.
            (None, Some(error)) => return Err(error.into()),
            (None, None) => return refused("no writer updated a version that was current"),
        }
        match stale? {
            Answer::Done(_) => refused("a version that was gone was updated"),
            Answer::Lost | Answer::Foreign => Ok(()),
        }
    }
}

async fn conditional(
    store: &dyn ObjectStore,
    key: &Key,
    writer: u8,
    mode: PutMode,
) -> Result<Answer, BucketError> {
    let options = PutOptions { mode, ..PutOptions::default() };
    match store.put_opts(&path(key), body(writer).into(), options).await {
        Ok(put) => Ok(Answer::Done(UpdateVersion { e_tag: put.e_tag, version: put.version })),
        Err(Error::Precondition { .. } | Error::AlreadyExists { .. }) => Ok(Answer::Lost),
        Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => Ok(Answer::Foreign),
        Err(error) => Err(classify(key, error)),
    }
}

async fn whole(store: &dyn ObjectStore, key: &Key) -> Result<Bytes, BucketError> {
    let found = store.get_opts(&path(key), GetOptions::default()).await;
    let found = found.map_err(|error| classify(key, error))?;
    found.bytes().await.map_err(|error| classify(key, error))
}
