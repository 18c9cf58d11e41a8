//! Whatever the sequence of requests, passing time and restarts.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Op {
    Init { claimed: bool },
    Add { stale: i16, v2: bool },
    End { stale: i16, commit: bool, v2: bool },
    CarryOut,
    Wait { ms: u64 },
    LastEpoch,
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let stale = prop_oneof![4 => Just(0i16), 1 => -1i16..2];
    prop_oneof![
        2 => any::<bool>().prop_map(|claimed| Op::Init { claimed }),
        5 => (stale.clone(), any::<bool>()).prop_map(|(stale, v2)| Op::Add { stale, v2 }),
        4 => (stale, any::<bool>(), any::<bool>())
            .prop_map(|(stale, commit, v2)| Op::End { stale, commit, v2 }),
        4 => Just(Op::CarryOut),
        2 => (1u64..90_000).prop_map(|ms| Op::Wait { ms }),
        1 => Just(Op::LastEpoch),
        1 => Just(Op::Restart),
    ]
}

fn version(v2: bool) -> TransactionVersion {
    if v2 { TransactionVersion::V2 } else { TransactionVersion::V1 }
}

/// What the client knows of itself.
type Client = (ProducerId, i16);

/// Runs one operation; `decided`: an end waits to be carried out.
fn run(bench: &mut Bench, client: &mut Client, op: Op, decided: bool) {
    let (producer, epoch) = *client;
    let granted = match op {
        Op::Init { claimed } => {
            let granted = bench.init(ID, claimed.then_some(*client));
            assert!(granted.is_err() || !decided, "an id is not given out before it has ended");
            granted.ok()
        }
        Op::Add { stale, v2 } => {
            let code = bench.add((producer, epoch.saturating_add(stale)), version(v2));
            assert!(code != ErrorCode::None || !decided, "nothing joins what has ended");
            None
        }
        Op::End { stale, commit, v2 } => {
            let result = if commit { TransactionResult::Commit } else { TransactionResult::Abort };
            let asked = (producer, epoch.saturating_add(stale));
            let granted = bench.end(asked, result, version(v2)).ok();
            let stands = [TransactionState::prepare(result), TransactionState::complete(result)];
            assert!(granted.is_none() || stands.contains(&bench.state()), "{result:?} was told");
            granted
        }
        Op::CarryOut => {
            bench.carry_out();
            None
        }
        Op::Wait { ms } => {
            bench.wait(ms);
            None
        }
        Op::LastEpoch if !decided && bench.image().epoch < CLIENT_EPOCH_MAX => {
            bench.set_epoch(CLIENT_EPOCH_MAX);
            Some((bench.image().producer, CLIENT_EPOCH_MAX))
        }
        Op::LastEpoch => None,
        Op::Restart => {
            bench.restart();
            None
        }
    };
    if let Some(granted) = granted {
        assert_ne!(granted.1, i16::MAX, "the last epoch is kept for fencing");
        *client = granted;
    }
}

proptest! {
    // Goal: a decision is never taken back, an answer never contradicts it, and everything ends. T1 to T4 fire by
    // themselves. Method: random operations on one id, then time.
    #[test]
    fn a_decision_stands_until_it_is_carried_out(ops in prop::collection::vec(op(), 0..120)) {
        let mut bench = Bench::new();
        let mut client = bench.init(ID, None).expect("a new id");
        let mut decided: Option<MarkersOrder> = None;
        for op in ops {
            if matches!(op, Op::CarryOut) {
                decided = None;
            }
            run(&mut bench, &mut client, op, decided.is_some());
            prop_assert!(bench.orders.len() <= 1, "one end at a time");
            match (&decided, bench.orders.first()) {
                (Some(before), now) => prop_assert_eq!(Some(before), now),
                (None, now) => decided = now.cloned(),
            }
        }
        bench.restart();
        bench.carry_out();
        bench.wait(90_000);
        bench.carry_out();
        let state = bench.state();
        prop_assert!(state != TransactionState::Ongoing && state.ending().is_none());
        prop_assert!(bench.init(ID, None).is_ok(), "the id can be taken over");
    }
}
