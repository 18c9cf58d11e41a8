//! The assignor `range`: topic by topic, the members in order, each with one range.

use std::collections::BTreeMap;

use vocabulary::TopicId;

use super::Subscriber;
use crate::event::Partitions;

pub(super) fn assign(
    topics: &BTreeMap<TopicId, i32>,
    members: &[Subscriber<'_>],
) -> Vec<Partitions> {
    let mut assigned = vec![Partitions::new(); members.len()];
    // Static members first and by instance, so that a restart under a new id changes nothing.
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|at| {
        (members[*at].instance.is_none(), members[*at].instance, members[*at].id)
    });
    for (topic, count) in topics {
        let subscribers: Vec<usize> =
            order.iter().copied().filter(|at| members[*at].topics.contains(topic)).collect();
        let Some(members_count) = i32::try_from(subscribers.len()).ok().filter(|it| 0 < *it) else {
            continue;
        };
        let (each, extra) = (count / members_count, count % members_count);
        let mut next = 0;
        for (place, at) in (0..).zip(subscribers) {
            let end = next + each + i32::from(place < extra);
            if next < end {
                assigned[at].insert(*topic, (next..end).collect());
            }
            next = end;
        }
    }
    assigned
}
