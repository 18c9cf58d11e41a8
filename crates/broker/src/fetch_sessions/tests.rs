//! Tables for KIP-227's rules.

use super::*;

fn key(index: i32) -> FetchKey {
    FetchKey { name: "t".into(), id: TopicId::ZERO, index }
}

fn interest(from: i64) -> FetchInterest {
    FetchInterest {
        from,
        bytes_max: 100,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        log_start: -1,
    }
}

fn request(id: i32, epoch: i32, indexes: &[i32]) -> SessionRequest {
    let interests = indexes.iter().map(|it| (key(*it), interest(0))).collect();
    SessionRequest { id, epoch, with_topic_ids: false, interests, forgotten: Vec::new() }
}

const QUIET: ToldFacts =
    ToldFacts { high_watermark: 5, last_stable: 5, log_start: 0, is_error: false };

#[test]
fn an_empty_incremental_request_reads_what_the_session_remembers() {
    let mut sessions = FetchSessions::new(10);
    let opened = sessions.plan(Tick(0), 7, request(0, INITIAL_EPOCH, &[0, 1])).unwrap();
    assert_eq!((opened.session, opened.is_incremental), (8, false));
    let next = sessions.plan(Tick(1), 0, request(8, 1, &[])).unwrap();
    assert!(next.is_incremental);
    assert_eq!(next.partitions.len(), 2);
}

#[test]
fn unchanged_partitions_are_left_out_and_errors_are_repeated() {
    let mut sessions = FetchSessions::new(10);
    let id = sessions.plan(Tick(0), 1, request(0, INITIAL_EPOCH, &[0])).unwrap().session;
    assert!(sessions.tell(id, &key(0), QUIET, false), "first told");
    assert!(!sessions.tell(id, &key(0), QUIET, false), "unchanged");
    assert!(sessions.tell(id, &key(0), QUIET, true), "records");
    let moved = ToldFacts { high_watermark: 6, ..QUIET };
    assert!(sessions.tell(id, &key(0), moved, false), "watermark moved");
    let failed = ToldFacts { is_error: true, ..QUIET };
    assert!(sessions.tell(id, &key(0), failed, false));
    assert!(sessions.tell(id, &key(0), failed, false));
}

#[test]
fn a_partition_that_had_records_moves_to_the_back() {
    let mut sessions = FetchSessions::new(10);
    let id = sessions.plan(Tick(0), 1, request(0, INITIAL_EPOCH, &[0, 1, 2])).unwrap().session;
    sessions.tell(id, &key(0), QUIET, true);
    let plan = sessions.plan(Tick(0), 1, request(id, 1, &[])).unwrap();
    let order: Vec<i32> = plan.partitions.iter().map(|(key, _)| key.index).collect();
    assert_eq!(order, [1, 2, 0]);
}

#[test]
fn wrong_ids_epochs_and_kinds_are_refused_with_their_own_code() {
    let mut sessions = FetchSessions::new(10);
    let id = sessions.plan(Tick(0), 1, request(0, INITIAL_EPOCH, &[0])).unwrap().session;
    let refusal = |sessions: &mut FetchSessions, request| {
        sessions.plan(Tick(0), 1, request).map(|plan| plan.session).unwrap_err()
    };
    assert_eq!(refusal(&mut sessions, request(999, 1, &[])), SessionRefusal::NotFound);
    assert_eq!(refusal(&mut sessions, request(id, 2, &[])), SessionRefusal::WrongEpoch);
    let with_ids = SessionRequest { with_topic_ids: true, ..request(id, 1, &[]) };
    assert_eq!(refusal(&mut sessions, with_ids), SessionRefusal::TopicIdsChanged);
    let closed = sessions.plan(Tick(0), 1, request(id, FINAL_EPOCH, &[0])).unwrap();
    assert_eq!((closed.session, closed.partitions.len()), (0, 1));
    assert_eq!(refusal(&mut sessions, request(id, 1, &[])), SessionRefusal::NotFound);
}

#[test]
fn forgetting_the_last_partition_ends_the_session() {
    let mut sessions = FetchSessions::new(10);
    let id = sessions.plan(Tick(0), 1, request(0, INITIAL_EPOCH, &[0])).unwrap().session;
    let forget = SessionRequest { forgotten: vec![key(0)], ..request(id, 1, &[]) };
    assert_eq!(sessions.plan(Tick(0), 1, forget).unwrap().session, 0);
    assert_eq!((sessions.len(), sessions.partitions), (0, 0));
}

#[test]
fn slots_are_bounded_and_only_idle_sessions_are_evicted() {
    let mut sessions = FetchSessions::new(1);
    let open = |sessions: &mut FetchSessions, now| {
        sessions.plan(now, 1, request(0, INITIAL_EPOCH, &[0])).unwrap().session
    };
    assert_ne!(open(&mut sessions, Tick(0)), 0);
    assert_eq!(open(&mut sessions, Tick(1)), 0, "the only slot is in use");
    let later = Tick(0).plus(EVICTION_AGE);
    assert_ne!(open(&mut sessions, later), 0, "an idle session makes room");
    assert_eq!(sessions.len(), 1);
}

#[test]
fn the_epoch_wraps_to_one() {
    let mut sessions = FetchSessions::new(1);
    let id = sessions.plan(Tick(0), 1, request(0, INITIAL_EPOCH, &[0])).unwrap().session;
    sessions.sessions.get_mut(&id).unwrap().epoch = i32::MAX;
    sessions.plan(Tick(0), 1, request(id, i32::MAX, &[])).unwrap();
    assert!(sessions.plan(Tick(0), 1, request(id, 1, &[])).is_ok());
}
