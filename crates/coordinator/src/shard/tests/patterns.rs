//! Subscriptions by regular expression: when expressions are resolved, and what their members may know of.

use super::consumers::{id, joining, owns, set, silent};
use super::*;
use crate::sight::{Describable, Sight};

#[derive(Debug)]
struct AllBut(&'static [&'static str]);

impl Describable for AllBut {
    fn shows(&self, topic: &str) -> bool {
        !self.0.contains(&topic)
    }
}

fn all_but(topics: &'static [&'static str]) -> Sight {
    Sight::of(Arc::new(AllBut(topics)))
}

/// As a member joins that names no topic.
fn by_pattern(member: &str, pattern: &str, sight: Sight) -> ConsumerHeartbeat {
    ConsumerHeartbeat { pattern: Some(pattern.to_owned()), sight, ..joining(member, &[]) }
}

impl Bench {
    /// A heartbeat with nothing to say but that the member has what it is to have.
    fn obey(&mut self, member: &str, sight: Sight) {
        let shown = self.shown();
        let them = shown.members.iter().find(|it| it.member == member).unwrap();
        let owned = them.assigned.iter().map(|it| (it.id, set(&it.partitions))).collect();
        let said = silent(member, them.epoch);
        self.beat(ConsumerHeartbeat { owned: Some(owned), sight, ..said }).unwrap();
    }

    /// The topics that the member is to have partitions of.
    fn targets(&mut self, member: &str) -> Vec<String> {
        let shown = self.shown();
        let them = shown.members.into_iter().find(|it| it.member == member).unwrap();
        them.target.into_iter().map(|it| it.name).collect()
    }

    fn resolved(&self, pattern: &str) -> Vec<String> {
        let Group::Consumer(group) = &self.shard.groups["g"] else { panic!("no consumer group") };
        let topics = group.facts().into_iter().find_map(|it| match it {
            ConsumerFact::Pattern { expression, resolved } if expression == pattern => resolved,
            _ => None,
        });
        topics.unwrap().topics.into_iter().collect()
    }
}

#[test]
fn an_expression_stands_for_what_its_member_may_describe_and_acls_are_looked_at_every_ten_minutes()
{
    let mut bench = Bench::new();
    bench.topic("t-1", 1);
    bench.topic("t-2", 1);
    let joined = bench.told(by_pattern("a", "t-.*", all_but(&["t-2"])));
    assert_eq!(joined, (1, owns("t-1", &[0])));
    // From here on it may describe both, of which nobody tells the group.
    for _ in 0..15 {
        bench.advance(40_000);
        assert_eq!(bench.told(silent("a", 1)), (1, None));
    }
    bench.advance(1);
    let both = Partitions::from([(id("t-1"), set(&[0])), (id("t-2"), set(&[0]))]);
    assert_eq!(bench.told(silent("a", 1)), (2, Some(both)));
    let denied = |epoch| ConsumerHeartbeat { sight: all_but(&["t-1"]), ..silent("a", epoch) };
    for _ in 0..15 {
        bench.advance(40_000);
        assert_eq!(bench.told(denied(2)), (2, None));
    }
    bench.advance(1);
    assert_eq!(bench.told(denied(2)), (2, owns("t-2", &[0])), "it is to give up the other");
    let gave_up = ConsumerHeartbeat { owned: owns("t-2", &[0]), ..denied(2) };
    assert_eq!(bench.told(gave_up), (3, None));
}

#[test]
fn two_refreshes_are_more_than_ten_seconds_apart_over_a_restart_too() {
    let mut bench = Bench::new();
    bench.topic("t-1", 1);
    assert_eq!(bench.told(by_pattern("a", "t-.*", Sight::default())), (1, owns("t-1", &[0])));
    bench.advance(9_000);
    bench.topic("t-2", 1);
    assert_eq!(bench.told(silent("a", 1)), (1, None));
    bench.restart();
    bench.advance(1_000);
    assert_eq!(bench.told(silent("a", 1)), (1, None));
    bench.advance(1);
    let both = Partitions::from([(id("t-1"), set(&[0])), (id("t-2"), set(&[0]))]);
    assert_eq!(bench.told(silent("a", 1)), (2, Some(both)));
    // A clock that is set back does not keep it from looking.
    bench.topic("t-3", 1);
    bench.now.wall.0 -= 3_600_000;
    bench.advance(1_000);
    bench.obey("a", Sight::default());
    assert_eq!(bench.targets("a"), ["t-1", "t-2", "t-3"]);
}

#[test]
fn a_new_expression_is_resolved_at_once_and_alone_between_two_refreshes() {
    let mut bench = Bench::new();
    bench.topic("t-1", 1);
    bench.told(by_pattern("a", "t-.*", Sight::default()));
    bench.topic("t-2", 1);
    bench.topic("u", 1);
    bench.advance(1_000);
    assert_eq!(bench.told(by_pattern("b", "u|t-2", all_but(&["t-2"]))), (2, owns("u", &[0])));
    assert_eq!(bench.resolved("t-.*"), ["t-1"]);
    // Ten seconds after the first all are looked for, whatever came in between, and whoever asks.
    bench.advance(9_001);
    bench.obey("b", Sight::default());
    assert_eq!((bench.resolved("t-.*").len(), bench.resolved("u|t-2").len()), (2, 2));
    assert_eq!(bench.shown().epoch, 3, "one epoch for both");
    // Who comes with another then is a reason to look for all.
    bench.advance(10_001);
    bench.told(by_pattern("c", "t-1", all_but(&["t-1", "t-2"])));
    assert!(bench.resolved("t-1").is_empty() && bench.resolved("t-.*").is_empty());
    assert_eq!(bench.resolved("u|t-2"), ["u"]);
}

#[test]
fn all_expressions_are_resolved_as_who_heartbeats_may_describe() {
    let mut bench = Bench::new();
    bench.topic("t-1", 1);
    bench.topic("t-2", 1);
    bench.told(by_pattern("a", "t-.*", Sight::default()));
    bench.advance(1_000);
    bench.told(by_pattern("b", "t-.*", all_but(&["t-2"])));
    assert_eq!(bench.resolved("t-.*"), ["t-1", "t-2"], "it was known");
    bench.advance(10_000);
    bench.obey("b", all_but(&["t-2"]));
    assert_eq!(bench.resolved("t-.*"), ["t-1", "t-2"], "there is no reason to look");
    bench.topic("t-3", 1);
    bench.obey("b", all_but(&["t-2"]));
    assert_eq!(bench.resolved("t-.*"), ["t-1", "t-3"]);
    let all = [bench.targets("a"), bench.targets("b")].concat();
    assert!(!all.contains(&"t-2".to_owned()), "{all:?}");
    // A topic that the expression stands for already is no reason, either.
    bench.topic("t-3", 2);
    bench.advance(10_001);
    bench.obey("a", Sight::default());
    assert_eq!(bench.resolved("t-.*"), ["t-1", "t-3"]);
    bench.topic("t-4", 1);
    bench.obey("a", Sight::default());
    assert_eq!(bench.resolved("t-.*").len(), 4);
}

#[test]
fn who_may_not_know_of_a_topic_any_more_loses_it_though_others_keep_it() {
    let mut bench = Bench::new();
    bench.topic("t", 2);
    bench.told(joining("a", &["t"]));
    bench.advance(1_000);
    bench.told(by_pattern("b", "t", Sight::default()));
    for _ in 0..16 {
        bench.advance(40_000);
        for member in ["b", "a", "b", "a"] {
            bench.obey(member, if member == "a" { Sight::default() } else { all_but(&["t"]) });
        }
    }
    assert!(bench.resolved("t").is_empty());
    assert_eq!((bench.targets("a"), bench.targets("b")), (vec!["t".to_owned()], vec![]));
    assert_eq!(bench.shown().members[0].assigned[0].partitions, [0, 1]);
}

#[test]
fn what_the_log_leaves_unresolved_is_resolved() {
    let mut bench = Bench::new();
    bench.topic("t-1", 1);
    bench.told(by_pattern("a", "t-.*", Sight::default()));
    let is_pattern =
        |it: &Event| matches!(it, Event::Consumer { fact: ConsumerFact::Pattern { .. }, .. });
    bench.log.retain(|it| !events(it).iter().any(is_pattern));
    bench.restart();
    bench.advance(1_000);
    bench.obey("a", Sight::default());
    assert_eq!(bench.resolved("t-.*"), ["t-1"]);
    assert_eq!((bench.shown().epoch, bench.targets("a")), (2, vec!["t-1".to_owned()]));
}

// Goal: an expression of Kafka's that does not compile here keeps its topics, and only those that may be known. Method:
// the records that Kafka would have written.
#[test]
fn an_expression_that_only_kafka_takes_keeps_what_may_be_described() {
    let mut bench = Bench::new();
    bench.topic("t-1", 1);
    bench.topic("t-2", 1);
    bench.told(joining("a", &["t-1"]));
    let fact = |fact| format::store(&[Event::Consumer { group: "g".to_owned(), fact }]);
    let subscription = Subscription { pattern: Some("a{".to_owned()), ..Subscription::default() };
    let topics = ["t-1", "t-2"].map(str::to_owned).into();
    bench.log.push(fact(ConsumerFact::Member {
        member: "a".to_owned(),
        subscription: Some(Box::new(subscription)),
    }));
    bench.log.push(fact(ConsumerFact::Pattern {
        expression: "a{".to_owned(),
        resolved: Some(ResolvedPattern { topics, version: 9, timestamp: bench.now.wall.0 }),
    }));
    bench.restart();
    bench.advance(10_000);
    bench.obey("a", all_but(&["t-2"]));
    assert_eq!(bench.resolved("a{"), ["t-1", "t-2"]);
    bench.advance(1);
    bench.obey("a", all_but(&["t-2"]));
    assert_eq!(bench.resolved("a{"), ["t-1"]);
    bench.advance(10_001);
    bench.obey("a", Sight::default());
    assert_eq!(bench.resolved("a{"), ["t-1"], "not again at once: it has been looked at");
}
