//! Which topics the group's regular expressions stand for: of all there are, those that the member may know of whose
//! heartbeat had them looked for.
//!
//! A refresh is of all expressions at once, so that it moves the group's epoch once, and in the name of whoever
//! heartbeats then: the group knows no principals. It is due when topics may have come, and from time to time, because
//! nobody tells of changed ACLs. The rules are those of Kafka's `GroupMetadataManager`; ADR 2026-11-28-topic-patterns
//! says in what ours differ.

use std::collections::BTreeSet;

use crate::consumer::{ConsumerGroup, Member};
use crate::event::{ConsumerFact, Event, ResolvedPattern};
use crate::pattern::Pattern;
use crate::shard::Turn;
use crate::sight::Sight;

/// The least time between two refreshes of a group, in milliseconds; Kafka's `REGEX_BATCH_REFRESH_MIN_INTERVAL_MS`.
const REFRESH_MS_MIN: i64 = 10_000;

/// An expression that the group did not know.
pub(crate) type Brought<'a> = Option<(&'a str, Pattern)>;

impl ConsumerGroup {
    /// Resolves what is new, and everything again if that is due. Tells whether an expression stands for other topics
    /// than before.
    pub(super) fn refresh_patterns(
        &mut self,
        turn: &Turn<'_>,
        unit: &mut Vec<Event>,
        sight: &Sight,
        brought: Brought<'_>,
    ) -> bool {
        let is_due = self.is_refresh_due(turn, brought.is_some());
        let mut wanted: Vec<(String, Option<Pattern>)> = Vec::new();
        if is_due {
            // Only of use to those who missed it: a member brings its expression once.
            self.may_have_new_topics = false;
            for expression in self.expressions() {
                // It was valid when it came in; a log of Kafka's may hold one that only RE2J takes.
                let pattern = Pattern::new(&expression).ok();
                wanted.push((expression, pattern));
            }
        } else if let Some((expression, pattern)) = brought {
            // Kafka would have the member wait.
            wanted.push((expression.to_owned(), Some(pattern)));
        }
        self.resolve(turn, unit, sight, wanted)
    }

    /// Whether all expressions are to be resolved.
    fn is_refresh_due(&self, turn: &Turn<'_>, is_asked_for: bool) -> bool {
        let now = turn.now.wall.0;
        // All of a refresh have its time; one that came between two refreshes has a later one.
        let Some(last) = self.patterns.values().map(|it| it.timestamp).min() else {
            return is_asked_for || self.may_have_new_topics;
        };
        match now.saturating_sub(last) {
            ..0 => true, // The clock was set back.
            0..=REFRESH_MS_MIN => false,
            age => {
                let is_old = turn.options.regex_refresh_interval_ms < age;
                is_asked_for || self.may_have_new_topics || is_old
            }
        }
    }

    /// Those that members subscribe by.
    fn expressions(&self) -> BTreeSet<String> {
        let subscriptions = self.members.values().filter_map(|it| it.subscription.as_ref());
        subscriptions.filter_map(|it| it.pattern.clone()).collect()
    }

    fn resolve(
        &mut self,
        turn: &Turn<'_>,
        unit: &mut Vec<Event>,
        sight: &Sight,
        wanted: Vec<(String, Option<Pattern>)>,
    ) -> bool {
        if wanted.is_empty() {
            return false;
        }
        let mut found = vec![BTreeSet::new(); wanted.len()];
        for name in turn.catalogue.names() {
            let mut is_shown = None; // Asked once, however many expressions match.
            for ((_, pattern), topics) in wanted.iter().zip(&mut found) {
                let is_match = pattern.as_ref().is_some_and(|it| it.matches(&name));
                if is_match && *is_shown.get_or_insert_with(|| sight.shows(&name)) {
                    topics.insert(name.clone());
                }
            }
        }
        let mut is_changed = false;
        for ((expression, pattern), mut topics) in wanted.into_iter().zip(found) {
            let before = self.patterns.get(&expression).map(|it| &it.topics);
            if pattern.is_none() {
                let kept = before.into_iter().flatten().filter(|it| sight.shows(it));
                topics.extend(kept.cloned());
            }
            is_changed |= *before.unwrap_or(&BTreeSet::new()) != topics;
            let resolved = ResolvedPattern { topics, version: 0, timestamp: turn.now.wall.0 };
            self.decide(unit, ConsumerFact::Pattern { expression, resolved: Some(resolved) });
        }
        is_changed
    }

    /// Forgets an expression that no member subscribes by any more.
    pub(super) fn forget_pattern(&mut self, unit: &mut Vec<Event>, expression: Option<&String>) {
        let Some(expression) = expression else { return };
        let uses = |it: &Member| {
            it.subscription.as_ref().is_some_and(|it| it.pattern.as_ref() == Some(expression))
        };
        if self.patterns.contains_key(expression) && !self.members.values().any(uses) {
            let expression = expression.clone();
            self.decide(unit, ConsumerFact::Pattern { expression, resolved: None });
        }
    }
}
