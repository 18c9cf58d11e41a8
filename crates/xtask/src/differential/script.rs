//! The requests, in an order in which later ones build on earlier ones.

mod access;
mod admin;
mod consumer_groups;
mod groups;
mod records;
mod replicas;
mod transactions;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use protocol::messages::Api;
use protocol::messages::create_topics::{self, CreateTopics};
use vocabulary::TopicId;

use super::answers::Answers;
use crate::wire::Client;

const ANSWER_LIMIT: Duration = Duration::from_secs(6);
/// The first coordinator request makes Kafka create an internal topic, which takes it a moment.
const TRIES_MAX: u32 = 100;
const TRY_AGAIN: Duration = Duration::from_millis(100);

pub(super) fn run(address: SocketAddr, answers: &mut Answers) -> Result<()> {
    let client = Client::connect(address, ANSWER_LIMIT)?;
    let mut asking = Asking { address, client, answers };
    admin::topics(&mut asking)?;
    admin::partitions(&mut asking)?;
    admin::configs(&mut asking)?;
    admin::altering(&mut asking)?;
    admin::metadata(&mut asking)?;
    records::producing(&mut asking)?;
    records::idempotence(&mut asking)?;
    records::fetching(&mut asking)?;
    records::offsets(&mut asking)?;
    records::deleting(&mut asking)?;
    groups::joining(&mut asking)?;
    groups::committing(&mut asking)?;
    groups::administering(&mut asking)?;
    consumer_groups::all(&mut asking)?;
    transactions::all(&mut asking)?;
    records::deleting_internal(&mut asking)?;
    replicas::all(&mut asking)?;
    admin::deleting(&mut asking)
}

/// What is asked of a broker with an authorizer.
pub(super) fn run_with_authorizer(address: SocketAddr, answers: &mut Answers) -> Result<()> {
    let client = Client::connect(address, ANSWER_LIMIT)?;
    access::all(&mut Asking { address, client, answers })
}

struct Asking<'a> {
    address: SocketAddr,
    client: Client,
    answers: &'a mut Answers,
}

impl Asking<'_> {
    /// Asks, and notes every field of the answer under `step`, or that there is none.
    fn ask<A: Api>(&mut self, step: &str, version: i16, request: &A::Request) -> Result<A::Response>
    where
        A::Response: std::fmt::Debug + Default,
    {
        let step = format!("{:?} v{version}, {step}", A::KEY);
        match self.client.call::<A>(version, request) {
            Ok(answer) => {
                self.answers.all(&step, &answer);
                Ok(answer)
            }
            Err(_) => {
                self.answers.note(&step, "answer", "none");
                self.client = Client::connect(self.address, ANSWER_LIMIT)?;
                Ok(A::Response::default())
            }
        }
    }

    /// Asks without noting: a step that prepares another.
    fn prepare<A: Api>(&mut self, version: i16, request: &A::Request) -> Result<A::Response> {
        self.client.call::<A>(version, request).with_context(|| format!("preparing: {:?}", A::KEY))
    }

    /// Creates a topic that the steps need.
    fn topic(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Result<TopicId> {
        let mut topic = topic(name, partitions);
        topic.configs.extend(configs.iter().map(|(name, value)| config(name, Some(value))));
        let request = creating(vec![topic]);
        let answer = self.prepare::<CreateTopics>(7, &request)?;
        anyhow::ensure!(answer.topics[0].error_code == 0, "creating {name}: {answer:?}");
        Ok(answer.topics[0].topic_id)
    }

    /// Repeats a step until `ready` likes its answer.
    fn until<A: Api>(
        &mut self,
        version: i16,
        request: &A::Request,
        ready: impl Fn(&A::Response) -> bool,
    ) -> Result<A::Response> {
        for _ in 0..TRIES_MAX {
            let answer = self.prepare::<A>(version, request)?;
            if ready(&answer) {
                return Ok(answer);
            }
            std::thread::sleep(TRY_AGAIN);
        }
        anyhow::bail!("{:?} does not get ready", A::KEY)
    }
}

fn topic(name: &str, partitions: i32) -> create_topics::request::CreatableTopic {
    create_topics::request::CreatableTopic {
        name: name.to_owned(),
        num_partitions: partitions,
        replication_factor: 1,
        ..Default::default()
    }
}

fn config(name: &str, value: Option<&str>) -> create_topics::request::CreatableTopicConfig {
    create_topics::request::CreatableTopicConfig {
        name: name.to_owned(),
        value: value.map(str::to_owned),
    }
}

fn creating(topics: Vec<create_topics::request::CreatableTopic>) -> create_topics::Request {
    create_topics::Request { topics, timeout_ms: 20_000, validate_only: false }
}
