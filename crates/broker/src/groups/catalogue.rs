//! What coordinators ask of the cluster's metadata and of the configuration.

use std::sync::Arc;

use cluster::{Topic, View};
use coordinator::{Catalogue, ConsumerSettings, ShareSettings, TopicFacts};
use vocabulary::TopicId;

use crate::configs::{self, BrokerConfig};

/// Answers from the metadata as they are now.
#[derive(Debug)]
pub(super) struct ViewCatalogue {
    pub(super) view: View,
    pub(super) config: Arc<BrokerConfig>,
}

impl Catalogue for ViewCatalogue {
    fn topic(&self, name: &str) -> Option<TopicFacts> {
        self.view.topic(name).as_ref().map(facts)
    }

    fn name_of(&self, id: TopicId) -> Option<String> {
        self.view.topic_by_id(id).map(|it| it.name.clone())
    }

    fn names(&self) -> Vec<String> {
        self.view.topics().into_iter().map(|it| it.name.clone()).collect()
    }

    fn settings(&self, group: &str) -> ConsumerSettings {
        configs::consumer_settings(&self.view.group_configs(group), &self.config)
    }

    fn share_settings(&self, group: &str) -> ShareSettings {
        configs::share_settings(&self.view.group_configs(group), &self.config)
    }
}

fn facts(topic: &Arc<Topic>) -> TopicFacts {
    let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    TopicFacts { id: topic.id, partitions }
}
