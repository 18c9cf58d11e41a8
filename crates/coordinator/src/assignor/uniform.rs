//! The assignor `uniform`: as even as the subscriptions allow, and as little moved as that allows.
//!
//! Members that all subscribe to the same topics end within one partition of each other, and a
//! partition moves only if its member had more than its share. Otherwise a partition goes to
//! whoever of its subscribers has least, and moves while that makes two members more even.

use std::collections::{BTreeMap, BTreeSet};

use vocabulary::TopicId;

use super::Subscriber;
use crate::event::Partitions;

pub(super) fn assign(
    topics: &BTreeMap<TopicId, i32>,
    members: &[Subscriber<'_>],
) -> Vec<Partitions> {
    let Some(first) = members.first() else { return Vec::new() };
    if members.iter().all(|it| it.topics == first.topics) {
        alike(topics, members)
    } else {
        mixed(topics, members)
    }
}

type Place = (TopicId, i32);

/// What each member had and may keep, and what nobody has. A partition named by two stays with the
/// first.
fn kept(
    topics: &BTreeMap<TopicId, i32>,
    members: &[Subscriber<'_>],
) -> (Vec<Vec<Place>>, BTreeSet<Place>) {
    let subscribed: BTreeSet<TopicId> =
        members.iter().flat_map(|it| it.topics.iter().copied()).collect();
    let all = topics.iter().filter(|(topic, _)| subscribed.contains(topic));
    let mut free: BTreeSet<Place> =
        all.flat_map(|(topic, count)| (0..*count).map(|it| (*topic, it))).collect();
    let keep = |member: &Subscriber<'_>| {
        let before = member.before.into_iter().flatten();
        let wanted = before.filter(|(topic, _)| member.topics.contains(topic));
        let places = wanted.flat_map(|(topic, them)| them.iter().map(|it| (*topic, *it)));
        places.filter(|place| free.remove(place)).collect()
    };
    let kept = members.iter().map(keep).collect();
    (kept, free)
}

fn alike(topics: &BTreeMap<TopicId, i32>, members: &[Subscriber<'_>]) -> Vec<Partitions> {
    let (mut owned, mut free) = kept(topics, members);
    let total = free.len() + owned.iter().map(Vec::len).sum::<usize>();
    let (share, mut extra) = (total / members.len(), total % members.len());
    let mut quotas = Vec::with_capacity(members.len());
    for mine in &mut owned {
        let keeps_extra = share < mine.len() && 0 < extra;
        extra -= usize::from(keeps_extra);
        let quota = share + usize::from(keeps_extra);
        free.extend(mine.drain(quota.min(mine.len())..));
        quotas.push(quota);
    }
    // Who keeps no extra partition may get a new one, who lacks most first.
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|at| (owned[*at].len(), *at));
    for at in &order {
        if 0 < extra && quotas[*at] == share {
            quotas[*at] += 1;
            extra -= 1;
        }
    }
    // In turns, so that the partitions of one topic spread.
    let mut free = free.into_iter();
    let mut short: Vec<usize> =
        order.into_iter().filter(|at| owned[*at].len() < quotas[*at]).collect();
    while !short.is_empty() {
        for at in &short {
            owned[*at].extend(free.next());
        }
        short.retain(|at| owned[*at].len() < quotas[*at]);
    }
    owned.into_iter().map(by_topic).collect()
}

/// The members of one topic, by how much they own, and which of its partitions each has.
struct Market {
    topic: TopicId,
    subscribers: Vec<usize>,
    held: BTreeMap<usize, Vec<i32>>,
}

fn mixed(topics: &BTreeMap<TopicId, i32>, members: &[Subscriber<'_>]) -> Vec<Partitions> {
    let (owned, free) = kept(topics, members);
    let mut loads: Vec<usize> = owned.iter().map(Vec::len).collect();
    let mut markets: BTreeMap<TopicId, Market> = BTreeMap::new();
    for (at, member) in members.iter().enumerate() {
        for topic in member.topics.iter().filter(|it| topics.contains_key(it)) {
            let empty = || Market { topic: *topic, subscribers: Vec::new(), held: BTreeMap::new() };
            markets.entry(*topic).or_insert_with(empty).subscribers.push(at);
        }
    }
    for (at, places) in owned.into_iter().enumerate() {
        for (topic, index) in places {
            if let Some(market) = markets.get_mut(&topic) {
                market.held.entry(at).or_default().push(index);
            }
        }
    }
    let mut unowned: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for (topic, index) in free {
        unowned.entry(topic).or_default().push(index);
    }
    // Topics with few subscribers first: the others can still give way.
    let mut markets: Vec<Market> = markets.into_values().collect();
    markets.sort_by_key(|it| (it.subscribers.len(), it.topic));
    for market in &mut markets {
        market.hand_out(&mut loads, unowned.remove(&market.topic).unwrap_or_default());
    }
    // Every move makes two loads more even, so this ends.
    let mut moved = true;
    while moved {
        moved = false;
        for market in &mut markets {
            moved |= market.balance(&mut loads);
        }
    }
    let mut assigned = vec![Partitions::new(); members.len()];
    for market in markets {
        for (at, held) in market.held.into_iter().filter(|(_, held)| !held.is_empty()) {
            assigned[at].insert(market.topic, held.into_iter().collect());
        }
    }
    assigned
}

impl Market {
    fn by_load(&self, loads: &[usize]) -> BTreeSet<(usize, usize)> {
        self.subscribers.iter().map(|at| (loads[*at], *at)).collect()
    }

    fn hand_out(&mut self, loads: &mut [usize], unowned: Vec<i32>) {
        let mut poor = self.by_load(loads);
        for index in unowned {
            let Some((load, at)) = poor.pop_first() else { return };
            self.held.entry(at).or_default().push(index);
            loads[at] = load + 1;
            poor.insert((load + 1, at));
        }
    }

    /// Moves partitions of this topic from who has two more to who has two less, as long as there
    /// are such. Whether anything moved.
    fn balance(&mut self, loads: &mut [usize]) -> bool {
        let mut all = self.by_load(loads);
        let mut moved = false;
        loop {
            let holds = |at: &usize| self.held.get(at).is_some_and(|it| !it.is_empty());
            let richest = all.iter().rev().find(|(_, at)| holds(at)).copied();
            let (Some(poor), Some(rich)) = (all.first().copied(), richest) else { return moved };
            if rich.0 < poor.0 + 2 {
                return moved;
            }
            let Some(index) = self.held.get_mut(&rich.1).and_then(Vec::pop) else { return moved };
            self.held.entry(poor.1).or_default().push(index);
            for ((load, at), after) in [(rich, rich.0 - 1), (poor, poor.0 + 1)] {
                all.remove(&(load, at));
                all.insert((after, at));
                loads[at] = after;
            }
            moved = true;
        }
    }
}

fn by_topic(places: Vec<Place>) -> Partitions {
    let mut partitions = Partitions::new();
    for (topic, index) in places {
        partitions.entry(topic).or_default().insert(index);
    }
    partitions
}
