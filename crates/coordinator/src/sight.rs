//! Which topics the sender of a request may know of.

use std::fmt;
use std::sync::Arc;

/// A port of one request's: the caller answers from the ACLs as they were when the request came, the same each time.
pub trait Describable: fmt::Debug + Send + Sync {
    /// Whether the sender may DESCRIBE the topic.
    fn shows(&self, topic: &str) -> bool;
}

/// What the sender of a request may know of; every topic unless told otherwise. Two are equal if they are the same.
#[derive(Debug, Clone, Default)]
pub struct Sight(Option<Arc<dyn Describable>>);

impl Sight {
    pub fn of(topics: Arc<dyn Describable>) -> Sight {
        Sight(Some(topics))
    }

    pub(crate) fn shows(&self, topic: &str) -> bool {
        self.0.as_ref().is_none_or(|it| it.shows(topic))
    }
}

impl PartialEq for Sight {
    fn eq(&self, other: &Sight) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(two)) => Arc::ptr_eq(one, two),
            (one, two) => one.is_none() && two.is_none(),
        }
    }
}

impl Eq for Sight {}
