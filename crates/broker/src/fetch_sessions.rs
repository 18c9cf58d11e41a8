//! Incremental fetch sessions (KIP-227): the broker remembers what a consumer reads, so that a
//! steady fetch names only what changed, in both directions.
//!
//! Owns: the session slots, their epochs and their partitions.
//! Does not own: reading, waiting, or what a partition's fields mean.
//!
//! Invariants:
//! - at most `slots_max` sessions; a new one evicts the least recently used one that has been idle
//!   for at least [`EVICTION_AGE`], else the fetch is served without a session;
//! - a session belongs to one kind of client (with topic ids or without): mixing is refused.
//!
//! Pure: time and chance are arguments. The mutex around it lives with its one owner, `Broker`.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use vocabulary::{Tick, TopicId};

/// A session used more recently than this is not evicted (min.incremental.fetch.session.eviction.ms).
pub(crate) const EVICTION_AGE: Duration = Duration::from_secs(120);

/// The most partitions one broker remembers over all sessions; beyond it new sessions are refused.
const PARTITIONS_MAX: usize = 4_000_000;

/// A request's epoch for "open a new session" and "no session".
pub(crate) const INITIAL_EPOCH: i32 = 0;
pub(crate) const FINAL_EPOCH: i32 = -1;

/// How a client names a partition: before Fetch v13 by topic name, from then on by topic id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FetchKey {
    pub(crate) name: String,
    pub(crate) id: TopicId,
    pub(crate) index: i32,
}

/// What a client asks of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FetchInterest {
    pub(crate) from: i64,
    pub(crate) bytes_max: i32,
    pub(crate) current_leader_epoch: i32,
    pub(crate) last_fetched_epoch: i32,
    pub(crate) log_start: i64,
}

/// What the client was last told about one partition: an incremental answer leaves out partitions
/// whose facts are unchanged and that have no records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ToldFacts {
    pub(crate) high_watermark: i64,
    pub(crate) last_stable: i64,
    pub(crate) log_start: i64,
    pub(crate) is_error: bool,
}

#[derive(Debug)]
struct Entry {
    interest: FetchInterest,
    told: Option<ToldFacts>,
    /// Place in the fetch order. A partition that returned data moves to the back (KIP-227).
    turn: u64,
}

#[derive(Debug)]
struct Session {
    epoch: i32,
    with_topic_ids: bool,
    used_at: Tick,
    partitions: HashMap<FetchKey, Entry>,
    order: BTreeMap<u64, FetchKey>,
    turn_next: u64,
}

/// What a fetch request says about its session.
#[derive(Debug)]
pub(crate) struct SessionRequest {
    pub(crate) id: i32,
    pub(crate) epoch: i32,
    pub(crate) with_topic_ids: bool,
    pub(crate) interests: Vec<(FetchKey, FetchInterest)>,
    pub(crate) forgotten: Vec<FetchKey>,
}

/// What to read for a request, in order, and how to answer it.
#[derive(Debug)]
pub(crate) struct FetchPlan {
    /// 0: served without a session.
    pub(crate) session: i32,
    /// Only changed partitions are answered.
    pub(crate) is_incremental: bool,
    pub(crate) partitions: Vec<(FetchKey, FetchInterest)>,
}

/// A variant exists only because the client gets another error code for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionRefusal {
    /// FETCH_SESSION_ID_NOT_FOUND: evicted, or from before a restart. The client opens a new one.
    NotFound,
    /// INVALID_FETCH_SESSION_EPOCH: a lost or repeated request. The client opens a new one.
    WrongEpoch,
    /// FETCH_SESSION_TOPIC_ID_ERROR: the client changed between topic names and topic ids.
    TopicIdsChanged,
}

#[derive(Debug)]
pub(crate) struct FetchSessions {
    slots_max: usize,
    sessions: HashMap<i32, Session>,
    partitions: usize,
}

impl FetchSessions {
    pub(crate) fn new(slots_max: usize) -> FetchSessions {
        FetchSessions { slots_max, sessions: HashMap::new(), partitions: 0 }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Opens, advances or closes a session. `chance` proposes the id of a new one.
    pub(crate) fn plan(
        &mut self,
        now: Tick,
        chance: u64,
        request: SessionRequest,
    ) -> Result<FetchPlan, SessionRefusal> {
        match request.epoch {
            FINAL_EPOCH => {
                self.close(request.id);
                Ok(FetchPlan::without_session(request.interests))
            }
            INITIAL_EPOCH => {
                self.close(request.id);
                Ok(self.open(now, chance, request))
            }
            _ => self.advance(now, request),
        }
    }

    /// Whether `key` belongs in the answer of `session`, remembering what the client is now told.
    pub(crate) fn tell(
        &mut self,
        session: i32,
        key: &FetchKey,
        facts: ToldFacts,
        has_records: bool,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&session) else { return true };
        let Some(entry) = session.partitions.get_mut(key) else { return true };
        // An error is told again each time, as Kafka does: the client retries on being told.
        let changed = entry.told != Some(facts) || facts.is_error;
        entry.told = Some(facts);
        if has_records {
            session.order.remove(&entry.turn);
            entry.turn = session.turn_next;
            session.order.insert(session.turn_next, key.clone());
            session.turn_next += 1;
        }
        changed || has_records
    }

    fn open(&mut self, now: Tick, chance: u64, request: SessionRequest) -> FetchPlan {
        let count = request.interests.len();
        if count == 0 || !self.make_room(now, count) {
            return FetchPlan::without_session(request.interests);
        }
        let id = self.unused_id(chance);
        let mut session = Session {
            epoch: 1,
            with_topic_ids: request.with_topic_ids,
            used_at: now,
            partitions: HashMap::with_capacity(count),
            order: BTreeMap::new(),
            turn_next: 0,
        };
        for (key, interest) in &request.interests {
            session.set(key.clone(), interest.clone());
        }
        self.partitions += session.partitions.len();
        self.sessions.insert(id, session);
        FetchPlan { session: id, is_incremental: false, partitions: request.interests }
    }

    fn advance(&mut self, now: Tick, request: SessionRequest) -> Result<FetchPlan, SessionRefusal> {
        let session = self.sessions.get_mut(&request.id).ok_or(SessionRefusal::NotFound)?;
        if session.with_topic_ids != request.with_topic_ids {
            return Err(SessionRefusal::TopicIdsChanged);
        }
        if session.epoch != request.epoch {
            return Err(SessionRefusal::WrongEpoch);
        }
        // Wraps to 1: 0 and -1 mean other things (KIP-227).
        session.epoch = session.epoch.checked_add(1).unwrap_or(1);
        session.used_at = now;
        let before = session.partitions.len();
        for key in &request.forgotten {
            session.forget(key);
        }
        for (key, interest) in request.interests {
            session.set(key, interest);
        }
        self.partitions = self.partitions - before + session.partitions.len();
        let partitions = session.in_order();
        if partitions.is_empty() {
            // Kafka ends a session that has nothing left to fetch.
            self.close(request.id);
            return Ok(FetchPlan::without_session(Vec::new()));
        }
        Ok(FetchPlan { session: request.id, is_incremental: true, partitions })
    }

    fn close(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.partitions -= session.partitions.len();
        }
    }

    /// Whether a session of `count` partitions may be opened, after at most one eviction.
    fn make_room(&mut self, now: Tick, count: usize) -> bool {
        if self.slots_max == 0 || PARTITIONS_MAX < self.partitions + count {
            return false;
        }
        if self.sessions.len() < self.slots_max {
            return true;
        }
        let idle = self.sessions.iter().min_by_key(|(_, session)| session.used_at);
        let idle = idle.filter(|(_, session)| EVICTION_AGE <= now.since(session.used_at));
        let Some((&id, _)) = idle else { return false };
        self.close(id);
        true
    }

    fn unused_id(&self, chance: u64) -> i32 {
        // Positive and non-zero; at most `slots_max` are taken, so the next free one is near.
        let mut id = (chance % (i32::MAX as u64)) as i32 + 1;
        while self.sessions.contains_key(&id) {
            id = if id == i32::MAX { 1 } else { id + 1 };
        }
        id
    }
}

impl FetchPlan {
    fn without_session(partitions: Vec<(FetchKey, FetchInterest)>) -> FetchPlan {
        FetchPlan { session: 0, is_incremental: false, partitions }
    }
}

impl Session {
    fn set(&mut self, key: FetchKey, interest: FetchInterest) {
        match self.partitions.get_mut(&key) {
            Some(entry) => entry.interest = interest,
            None => {
                let turn = self.turn_next;
                self.turn_next += 1;
                self.order.insert(turn, key.clone());
                self.partitions.insert(key, Entry { interest, told: None, turn });
            }
        }
    }

    fn forget(&mut self, key: &FetchKey) {
        if let Some(entry) = self.partitions.remove(key) {
            self.order.remove(&entry.turn);
        }
    }

    fn in_order(&self) -> Vec<(FetchKey, FetchInterest)> {
        let interest = |key: &FetchKey| self.partitions.get(key).map(|it| it.interest.clone());
        self.order.values().filter_map(|key| Some((key.clone(), interest(key)?))).collect()
    }
}

#[cfg(test)]
mod tests;
