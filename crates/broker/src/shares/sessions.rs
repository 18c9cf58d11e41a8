//! Share sessions (KIP-932): the broker remembers which partitions a member of a share group reads, so that a steady
//! fetch names only what changed.
//!
//! Owns: the sessions, their epochs and their partitions. Does not own: what the members have (`coordinator::share`).
//!
//! Invariants: at most `sessions_max` sessions; one that has been idle for [`EVICTION_AGE`] makes room for a new one.
//! A session ends with the connection it was last used on. One that is to close stays until what its member has is
//! given back, so that it ends with its connection if its client does not wait for that.
//!
//! Pure: time is an argument. The mutex around it lives with its one owner, `ShareHost`.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use protocol::ErrorCode;
use vocabulary::{Partition, Tick};

/// A session used more recently than this is not evicted.
const EVICTION_AGE: Duration = Duration::from_secs(120);

/// The most partitions one session remembers, and one request adds or forgets.
const SESSION_PARTITIONS_MAX: usize = 100_000;

/// A request's epoch for "open a session" and "close it".
const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionId(pub(crate) u64);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SessionKey {
    pub(crate) group: String,
    pub(crate) member: String,
}

/// What a ShareFetch says about its session.
#[derive(Debug, Clone)]
pub(crate) struct SessionFetch {
    pub(crate) epoch: i32,
    pub(crate) added: Vec<Partition>,
    pub(crate) forgotten: Vec<Partition>,
    pub(crate) acknowledges: bool,
}

/// What to do for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SessionPlan {
    /// Read these, beginning with another one each time.
    Fetch(Vec<Partition>),
    /// What the member has is given back; then the session is to be [`closed`](ShareSessions::closed).
    Close,
}

#[derive(Debug)]
struct Session {
    epoch: i32,
    connection: ConnectionId,
    used_at: Tick,
    partitions: BTreeSet<Partition>,
    /// Those that were answered with partitions: which one is the first is their turn, not that of acknowledgements.
    fetches: usize,
    is_closing: bool,
}

#[derive(Debug)]
pub(crate) struct ShareSessions {
    sessions_max: usize,
    sessions: HashMap<SessionKey, Session>,
}

impl ShareSessions {
    pub(crate) fn new(sessions_max: usize) -> ShareSessions {
        ShareSessions { sessions_max, sessions: HashMap::new() }
    }

    /// Opens, advances or closes the session of a ShareFetch.
    ///
    /// # Errors
    /// SHARE_SESSION_NOT_FOUND and INVALID_SHARE_SESSION_EPOCH, on which clients open a new one;
    /// SHARE_SESSION_LIMIT_REACHED; INVALID_REQUEST.
    pub(crate) fn fetch(
        &mut self,
        now: Tick,
        connection: ConnectionId,
        key: SessionKey,
        asked: SessionFetch,
    ) -> Result<SessionPlan, ErrorCode> {
        if SESSION_PARTITIONS_MAX < asked.added.len().max(asked.forgotten.len()) {
            return Err(ErrorCode::InvalidRequest);
        }
        match asked.epoch {
            FINAL_EPOCH => return self.close(now, connection, &key),
            // Nobody has anything to acknowledge before it has fetched.
            INITIAL_EPOCH if asked.acknowledges => return Err(ErrorCode::InvalidRequest),
            INITIAL_EPOCH => self.open(now, connection, &key)?,
            epoch => self.advance(now, connection, &key, epoch)?,
        }
        let session = self.sessions.get_mut(&key).ok_or(ErrorCode::ShareSessionNotFound)?;
        session.partitions.extend(asked.added);
        for partition in &asked.forgotten {
            session.partitions.remove(partition);
        }
        if SESSION_PARTITIONS_MAX < session.partitions.len() {
            self.sessions.remove(&key);
            return Err(ErrorCode::InvalidRequest);
        }
        let mut partitions: Vec<Partition> = session.partitions.iter().copied().collect();
        if !partitions.is_empty() {
            let turns = session.fetches % partitions.len();
            partitions.rotate_left(turns);
        }
        session.fetches = session.fetches.wrapping_add(1);
        Ok(SessionPlan::Fetch(partitions))
    }

    /// Advances or closes the session of a ShareAcknowledge.
    ///
    /// # Errors
    /// As of [`ShareSessions::fetch`]; it cannot open one.
    pub(crate) fn acknowledge(
        &mut self,
        now: Tick,
        connection: ConnectionId,
        key: &SessionKey,
        epoch: i32,
    ) -> Result<SessionPlan, ErrorCode> {
        match epoch {
            INITIAL_EPOCH => Err(ErrorCode::InvalidShareSessionEpoch),
            FINAL_EPOCH => self.close(now, connection, key),
            _ => {
                self.advance(now, connection, key, epoch)?;
                Ok(SessionPlan::Fetch(Vec::new()))
            }
        }
    }

    /// What the member of a session that is to close had is given back. Another one that it has opened since stays.
    pub(crate) fn closed(&mut self, key: &SessionKey) {
        if self.sessions.get(key).is_some_and(|it| it.is_closing) {
            self.sessions.remove(key);
        }
    }

    /// Ends the sessions of a connection.
    pub(crate) fn connection_closed(&mut self, connection: ConnectionId) -> Vec<SessionKey> {
        let its = self.sessions.iter().filter(|(_, it)| it.connection == connection);
        let keys: Vec<SessionKey> = its.map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| drop(self.sessions.remove(key)));
        keys
    }

    fn open(
        &mut self,
        now: Tick,
        connection: ConnectionId,
        key: &SessionKey,
    ) -> Result<(), ErrorCode> {
        self.sessions.remove(key);
        if self.sessions_max <= self.sessions.len() {
            let idle = self.sessions.iter().min_by_key(|(_, it)| it.used_at);
            let idle = idle.filter(|(_, it)| EVICTION_AGE <= now.since(it.used_at));
            let idle = idle.map(|(key, _)| key.clone());
            self.sessions.remove(&idle.ok_or(ErrorCode::ShareSessionLimitReached)?);
        }
        let session = Session {
            epoch: 1,
            connection,
            used_at: now,
            partitions: BTreeSet::new(),
            fetches: 0,
            is_closing: false,
        };
        self.sessions.insert(key.clone(), session);
        Ok(())
    }

    fn close(
        &mut self,
        now: Tick,
        connection: ConnectionId,
        key: &SessionKey,
    ) -> Result<SessionPlan, ErrorCode> {
        let session = self.open_session(key)?;
        session.is_closing = true;
        session.used_at = now;
        session.connection = connection;
        Ok(SessionPlan::Close)
    }

    fn open_session(&mut self, key: &SessionKey) -> Result<&mut Session, ErrorCode> {
        let session = self.sessions.get_mut(key).filter(|it| !it.is_closing);
        session.ok_or(ErrorCode::ShareSessionNotFound)
    }

    fn advance(
        &mut self,
        now: Tick,
        connection: ConnectionId,
        key: &SessionKey,
        epoch: i32,
    ) -> Result<(), ErrorCode> {
        let session = self.open_session(key)?;
        if session.epoch != epoch {
            return Err(ErrorCode::InvalidShareSessionEpoch);
        }
        // Wraps to 1: 0 and -1 mean other things.
        session.epoch = epoch.checked_add(1).unwrap_or(1);
        session.used_at = now;
        session.connection = connection;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use vocabulary::TopicId;

    use super::*;

    const HERE: ConnectionId = ConnectionId(1);
    const THERE: ConnectionId = ConnectionId(2);

    fn key(member: &str) -> SessionKey {
        SessionKey { group: "g".to_owned(), member: member.to_owned() }
    }

    fn part(index: i32) -> Partition {
        Partition { topic: TopicId([1; 16]), index }
    }

    fn asked(epoch: i32, added: &[i32], forgotten: &[i32]) -> SessionFetch {
        let parts = |them: &[i32]| them.iter().copied().map(part).collect();
        SessionFetch {
            epoch,
            added: parts(added),
            forgotten: parts(forgotten),
            acknowledges: false,
        }
    }

    fn fetch(
        sessions: &mut ShareSessions,
        seconds: u64,
        member: &str,
        asked: SessionFetch,
    ) -> Result<Vec<i32>, ErrorCode> {
        let now = Tick(seconds * 1_000_000);
        match sessions.fetch(now, HERE, key(member), asked)? {
            SessionPlan::Fetch(partitions) => {
                let mut indexes: Vec<i32> = partitions.iter().map(|it| it.index).collect();
                indexes.sort_unstable();
                Ok(indexes)
            }
            SessionPlan::Close => Ok(vec![-1]),
        }
    }

    #[test]
    fn a_session_remembers_its_partitions_and_counts_its_epochs() {
        let mut sessions = ShareSessions::new(9);
        let all = &mut sessions;
        assert_eq!(fetch(all, 0, "a", asked(1, &[0], &[])), Err(ErrorCode::ShareSessionNotFound));
        assert_eq!(fetch(all, 0, "a", asked(0, &[0, 1], &[])), Ok(vec![0, 1]));
        assert_eq!(fetch(all, 0, "a", asked(1, &[2], &[0])), Ok(vec![1, 2]));
        // Acknowledged and given up in one request.
        assert_eq!(fetch(all, 0, "a", asked(2, &[1], &[1])), Ok(vec![2]));
        let wrong = Err(ErrorCode::InvalidShareSessionEpoch);
        assert_eq!(fetch(all, 0, "a", asked(2, &[], &[])), wrong);
        let plan = all.acknowledge(Tick(0), HERE, &key("a"), 3);
        assert_eq!(plan, Ok(SessionPlan::Fetch(Vec::new())));
        assert_eq!(fetch(all, 0, "a", asked(4, &[], &[])), Ok(vec![2]));
        assert_eq!(fetch(all, 0, "a", asked(-1, &[], &[])), Ok(vec![-1]));
        assert_eq!(fetch(all, 0, "a", asked(-1, &[], &[])), Err(ErrorCode::ShareSessionNotFound));
    }

    // Explicit acknowledgements use an epoch each; with two partitions the same one would come first for ever.
    #[test]
    fn every_partition_is_the_first_of_a_fetch_in_its_turn() {
        let mut sessions = ShareSessions::new(9);
        let mut firsts = Vec::new();
        let mut epoch = 0;
        for _ in 0..4 {
            let added: &[i32] = if epoch == 0 { &[0, 1] } else { &[] };
            let plan = sessions.fetch(Tick(0), HERE, key("a"), asked(epoch, added, &[])).unwrap();
            let SessionPlan::Fetch(partitions) = plan else { panic!("it is open") };
            firsts.push(partitions[0].index);
            sessions.acknowledge(Tick(0), HERE, &key("a"), epoch + 1).unwrap();
            epoch += 2;
        }
        assert_eq!(firsts, [0, 1, 0, 1]);
    }

    #[test]
    fn a_request_names_no_more_partitions_than_a_session_may_have() {
        let mut sessions = ShareSessions::new(9);
        fetch(&mut sessions, 0, "a", asked(0, &[0], &[])).unwrap();
        let many: Vec<i32> = (0..=SESSION_PARTITIONS_MAX as i32).collect();
        for (added, forgotten) in [(&many[..], &[][..]), (&[], &many)] {
            let refused = fetch(&mut sessions, 0, "a", asked(1, added, forgotten));
            assert_eq!(refused, Err(ErrorCode::InvalidRequest));
        }
        let most = &many[1..];
        let kept = fetch(&mut sessions, 0, "a", asked(1, most, &many[2..]));
        assert_eq!(kept, Ok(vec![0, 1]), "the session is as it was before what was refused");
    }

    // The client may be gone before what its member has is given back.
    #[test]
    fn a_session_that_closes_ends_when_all_is_given_back_or_with_its_connection() {
        let mut sessions = ShareSessions::new(9);
        let all = &mut sessions;
        for member in ["a", "b", "c"] {
            fetch(all, 0, member, asked(0, &[0], &[])).unwrap();
            let close = if member == "a" {
                all.acknowledge(Tick(0), THERE, &key("a"), -1)
            } else {
                all.fetch(Tick(0), THERE, key(member), asked(-1, &[], &[]))
            };
            assert_eq!(close, Ok(SessionPlan::Close));
            for epoch in [1, -1] {
                let gone = fetch(all, 0, member, asked(epoch, &[], &[]));
                assert_eq!(gone, Err(ErrorCode::ShareSessionNotFound));
            }
        }
        all.closed(&key("a"));
        // It has begun a new one meanwhile.
        fetch(all, 0, "b", asked(0, &[1], &[])).unwrap();
        all.closed(&key("b"));
        assert_eq!(fetch(all, 0, "b", asked(1, &[], &[])), Ok(vec![1]));
        assert_eq!(all.connection_closed(THERE), [key("c")]);
    }

    #[test]
    fn a_session_cannot_begin_with_acknowledgements() {
        let mut sessions = ShareSessions::new(9);
        let first = SessionFetch { acknowledges: true, ..asked(0, &[0], &[]) };
        assert_eq!(fetch(&mut sessions, 0, "a", first), Err(ErrorCode::InvalidRequest));
        let refused = sessions.acknowledge(Tick(0), HERE, &key("a"), 0);
        assert_eq!(refused, Err(ErrorCode::InvalidShareSessionEpoch));
        let refused = sessions.acknowledge(Tick(0), HERE, &key("a"), -1);
        assert_eq!(refused, Err(ErrorCode::ShareSessionNotFound));
    }

    #[test]
    fn only_an_idle_session_makes_room() {
        let mut sessions = ShareSessions::new(2);
        let all = &mut sessions;
        fetch(all, 0, "a", asked(0, &[0], &[])).unwrap();
        fetch(all, 60, "b", asked(0, &[0], &[])).unwrap();
        let full = fetch(all, 119, "c", asked(0, &[0], &[]));
        assert_eq!(full, Err(ErrorCode::ShareSessionLimitReached));
        fetch(all, 120, "c", asked(0, &[0], &[])).unwrap();
        assert_eq!(fetch(all, 120, "a", asked(1, &[], &[])), Err(ErrorCode::ShareSessionNotFound));
        assert_eq!(fetch(all, 120, "b", asked(1, &[], &[])), Ok(vec![0]));
    }

    #[test]
    fn sessions_end_with_their_connection() {
        let mut sessions = ShareSessions::new(9);
        fetch(&mut sessions, 0, "a", asked(0, &[0], &[])).unwrap();
        fetch(&mut sessions, 0, "b", asked(0, &[0], &[])).unwrap();
        sessions.fetch(Tick(0), THERE, key("b"), asked(1, &[], &[])).unwrap();
        assert_eq!(sessions.connection_closed(HERE), [key("a")]);
        assert_eq!(fetch(&mut sessions, 0, "b", asked(2, &[], &[])), Ok(vec![0]));
    }
}
