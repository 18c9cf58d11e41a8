//! Promises to users of rust-rdkafka: `scenarios [PART-OF-A-NAME]`, `cross-write` or `cross-read WRITER…`.
//!
//! Prints `ok - NAME` or `not ok - NAME # REASON` for each check; `cargo xtask test` counts them. The broker's
//! address comes in BOOTSTRAP, that of the control socket (stop, kill, start the broker) in CONTROL.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{
    BorrowedMessage, DeliveryResult, Header, Headers, OwnedHeaders, OwnedMessage,
};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const CROSS_COUNT: usize = 300;
const LIMIT: Duration = Duration::from_secs(30);

macro_rules! ensure {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            return Err(format!($($text)*).into());
        }
    };
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mode = arguments.first().map_or("scenarios", String::as_str);
    let rest = arguments.get(1..).unwrap_or_default();
    let fine = match mode {
        "scenarios" => scenarios(rest.first().map_or("", String::as_str)),
        "cross-write" => report("rust-rdkafka writes with every codec", cross_write()),
        "cross-read" => cross_read(rest),
        unknown => {
            eprintln!("unknown mode {unknown}");
            false
        }
    };
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn scenarios(only: &str) -> bool {
    let checks: [(&str, fn() -> Outcome); 5] = [
        ("an idempotent producer's records keep order and content with every codec", codecs),
        ("keys, headers, tombstones and timestamps come back as they were sent", fields),
        ("a group of two shares partitions and resumes from its commits", group),
        ("topics and configs are administered", admin),
        ("a producer and a consumer go on over a restart of the broker", restart),
    ];
    let chosen = checks.iter().filter(|(name, _)| name.contains(only));
    chosen
        .fold(true, |fine, (name, check)| report(&format!("rust-rdkafka: {name}"), check()) && fine)
}

fn report(name: &str, outcome: Outcome) -> bool {
    match &outcome {
        Ok(()) => println!("ok - {name}"),
        Err(error) => println!("not ok - {name} # {error}"),
    }
    outcome.is_ok()
}

fn bootstrap() -> String {
    std::env::var("BOOTSTRAP").unwrap_or_default()
}

fn config() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap());
    config
}

fn unique(prefix: &str) -> String {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    format!("{prefix}-{}-{}", std::process::id(), now.as_nanos())
}

/// Remembers what was acknowledged: offsets in order, and errors.
#[derive(Clone, Default)]
struct Acknowledged(Arc<Mutex<(Vec<i64>, Vec<String>)>>);

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let Ok(mut kept) = self.0.lock() else { return };
        match result {
            Ok(message) => kept.0.push(message.offset()),
            Err((error, _)) => kept.1.push(error.to_string()),
        }
    }
}

struct Sender {
    producer: BaseProducer<Acknowledged>,
    acknowledged: Acknowledged,
}

impl Sender {
    fn new(codec: &str) -> Outcome<Sender> {
        let acknowledged = Acknowledged::default();
        let mut config = config();
        config
            .set("enable.idempotence", "true")
            .set("compression.type", codec)
            .set("linger.ms", "5");
        let producer = config.create_with_context(acknowledged.clone())?;
        Ok(Sender { producer, acknowledged })
    }

    fn send(&self, mut record: BaseRecord<'_, [u8], [u8]>) -> Outcome {
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.producer.poll(Duration::from_millis(20));
                    record = back;
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    /// The acknowledged offsets, once all is answered.
    fn finish(&self) -> Outcome<Vec<i64>> {
        self.producer.flush(LIMIT)?;
        let kept = self.acknowledged.0.lock().map_err(|_| "a callback panicked")?;
        ensure!(kept.1.is_empty(), "delivery errors: {:?}", kept.1);
        Ok(kept.0.clone())
    }
}

fn consumer(group: &str) -> Outcome<BaseConsumer> {
    let mut config = config();
    config.set("group.id", group).set("auto.offset.reset", "earliest");
    config.set("enable.auto.commit", "false").set("session.timeout.ms", "6000");
    Ok(config.create()?)
}

fn take(consumer: &BaseConsumer, count: usize) -> Outcome<Vec<OwnedMessage>> {
    let (mut messages, deadline) = (Vec::new(), Instant::now() + LIMIT);
    while messages.len() < count && Instant::now() < deadline {
        if let Some(message) = consumer.poll(Duration::from_millis(200)) {
            messages.push(
                message.as_ref().map(BorrowedMessage::detach).map_err(|error| error.to_string())?,
            );
        }
    }
    ensure!(messages.len() == count, "expected {count} messages, got {}", messages.len());
    Ok(messages)
}

/// Everything in partition 0.
fn read_all(topic: &str) -> Outcome<Vec<OwnedMessage>> {
    let consumer = consumer(&unique("read"))?;
    let (low, high) = consumer.fetch_watermarks(topic, 0, LIMIT)?;
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Offset(low))?;
    consumer.assign(&assignment)?;
    take(&consumer, usize::try_from(high - low)?)
}

/// Runs a future that librdkafka's own threads complete, without a runtime.
fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park_timeout(Duration::from_millis(100)),
        }
    }
}

fn admin_client() -> Outcome<AdminClient<DefaultClientContext>> {
    Ok(config().create()?)
}

fn new_topic(prefix: &str, partitions: i32) -> Outcome<String> {
    let topic = unique(prefix);
    let new = NewTopic::new(&topic, partitions, TopicReplication::Fixed(1));
    for result in wait(admin_client()?.create_topics([&new], &AdminOptions::new()))? {
        result.map_err(|(name, code)| format!("creating {name}: {code}"))?;
    }
    Ok(topic)
}

fn codecs() -> Outcome {
    for codec in CODECS {
        let topic = new_topic("rust-codec", 1)?;
        let sender = Sender::new(codec)?;
        let value = |index: usize| format!("{codec} {index} ").repeat(8).into_bytes();
        for index in 0..1000 {
            sender.send(
                BaseRecord::to(&topic).partition(0).key(b"k".as_slice()).payload(&value(index)),
            )?;
        }
        let offsets = sender.finish()?;
        ensure!(offsets == (0..1000).collect::<Vec<i64>>(), "offsets with {codec}: {offsets:?}");
        for (index, message) in read_all(&topic)?.iter().enumerate() {
            ensure!(
                message.payload() == Some(value(index).as_slice()),
                "value {index} with {codec}"
            );
        }
    }
    Ok(())
}

fn fields() -> Outcome {
    let (topic, sender) = (new_topic("rust-fields", 1)?, Sender::new("zstd")?);
    let headers = OwnedHeaders::new()
        .insert(Header { key: "a", value: Some("1") })
        .insert(Header { key: "null", value: None::<&str> });
    let record =
        BaseRecord::to(&topic).partition(0).key(b"key".as_slice()).payload(b"value".as_slice());
    sender.send(record.headers(headers).timestamp(1_600_000_000_123))?;
    sender.send(BaseRecord::to(&topic).partition(0).key(b"tombstone".as_slice()))?;
    sender.finish()?;
    let messages = read_all(&topic)?;
    let [first, second] = messages.as_slice() else { return Err("two messages".into()) };
    ensure!(first.timestamp().to_millis() == Some(1_600_000_000_123), "timestamp");
    let found = first.headers().ok_or("no headers")?;
    ensure!(
        found.count() == 2 && found.get(0).value == Some(b"1") && found.get(1).value.is_none(),
        "headers"
    );
    ensure!(second.key() == Some(b"tombstone") && second.payload().is_none(), "tombstone");
    Ok(())
}

fn group() -> Outcome {
    let (topic, group, sender) =
        (new_topic("rust-group", 4)?, unique("rust-group"), Sender::new("lz4")?);
    let members = [consumer(&group)?, consumer(&group)?];
    for member in &members {
        member.subscribe(&[&topic])?;
    }
    let mut seen = BTreeSet::new();
    let poll = |seen: &mut BTreeSet<Vec<u8>>| -> Outcome<Vec<usize>> {
        for member in &members {
            if let Some(message) = member.poll(Duration::from_millis(20)) {
                seen.insert(
                    message
                        .map_err(|error| error.to_string())?
                        .payload()
                        .unwrap_or_default()
                        .to_vec(),
                );
            }
        }
        Ok(members.iter().map(|it| it.assignment().map_or(0, |list| list.count())).collect())
    };
    let deadline = Instant::now() + LIMIT;
    while poll(&mut seen)? != [2, 2] {
        ensure!(Instant::now() < deadline, "four partitions over two members");
    }
    for index in 0..400 {
        let value = index.to_string();
        sender.send(BaseRecord::to(&topic).partition(index % 4).payload(value.as_bytes()))?;
    }
    sender.finish()?;
    while seen.len() < 400 {
        ensure!(Instant::now() < deadline + LIMIT, "400 records, {} seen", seen.len());
        poll(&mut seen)?;
    }
    for member in &members {
        member.commit_consumer_state(CommitMode::Sync)?;
    }
    let mut asked = TopicPartitionList::new();
    (0..4).for_each(|partition| drop(asked.add_partition(&topic, partition)));
    let committed = members[0].committed_offsets(asked, LIMIT)?;
    let offsets: Vec<Offset> = committed.elements().iter().map(|it| it.offset()).collect();
    ensure!(offsets == [Offset::Offset(100); 4], "committed {offsets:?}");
    Ok(())
}

fn admin() -> Outcome {
    let (topic, client, options) =
        (new_topic("rust-admin", 1)?, admin_client()?, AdminOptions::new());
    let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
    let again = wait(client.create_topics([&new], &options))?;
    ensure!(
        matches!(again[..], [Err((_, RDKafkaErrorCode::TopicAlreadyExists))]),
        "a second create: {again:?}"
    );
    let resource = ResourceSpecifier::Topic(&topic);
    let change = AlterConfig::new(resource).set("retention.ms", "1234000");
    ensure!(wait(client.alter_configs([&change], &options))?[0].is_ok(), "alter configs");
    let deadline = Instant::now() + LIMIT;
    loop {
        let described = wait(client.describe_configs([&resource], &options))?.remove(0)?;
        if described.get("retention.ms").and_then(|it| it.value.clone()).as_deref()
            == Some("1234000")
        {
            break;
        }
        ensure!(Instant::now() < deadline, "retention.ms is altered");
    }
    ensure!(wait(client.delete_topics(&[&topic], &options))?[0].is_ok(), "delete");
    let gone = wait(client.delete_topics(&[&topic], &options))?;
    ensure!(
        matches!(gone[..], [Err((_, RDKafkaErrorCode::UnknownTopicOrPartition))]),
        "a second delete: {gone:?}"
    );
    Ok(())
}

fn restart() -> Outcome {
    let (topic, sender) = (new_topic("rust-restart", 1)?, Sender::new("none")?);
    for index in 0..1000 {
        let value = index.to_string();
        sender.send(BaseRecord::to(&topic).partition(0).payload(value.as_bytes()))?;
        if index == 500 {
            control("restart")?;
        }
    }
    sender.finish()?;
    for (index, message) in read_all(&topic)?.iter().enumerate() {
        ensure!(message.payload() == Some(index.to_string().as_bytes()), "record {index}");
    }
    Ok(())
}

fn control(command: &str) -> Outcome {
    let mut stream = TcpStream::connect(std::env::var("CONTROL")?)?;
    writeln!(stream, "{command}")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    ensure!(answer.starts_with("ok "), "{command}: {answer}");
    Ok(())
}

fn cross_value(writer: &str, codec: &str, index: usize) -> String {
    format!("{writer}/{codec}/{index};").repeat(index % 20 + 1)
}

fn cross_write() -> Outcome {
    for codec in CODECS {
        let sender = Sender::new(codec)?;
        let topic = format!("cross-rust-rdkafka-{codec}");
        for index in 0..CROSS_COUNT {
            let (key, value) = (index.to_string(), cross_value("rust-rdkafka", codec, index));
            sender.send(BaseRecord::to(&topic).key(key.as_bytes()).payload(value.as_bytes()))?;
        }
        sender.finish()?;
    }
    Ok(())
}

fn cross_read(writers: &[String]) -> bool {
    let mut fine = true;
    for writer in writers {
        for codec in CODECS {
            let name = format!("rust-rdkafka reads what {writer} wrote with {codec}");
            fine &= report(&name, cross_verify(writer, codec));
        }
    }
    fine
}

fn cross_verify(writer: &str, codec: &str) -> Outcome {
    let messages = read_all(&format!("cross-{writer}-{codec}"))?;
    ensure!(
        messages.len() == CROSS_COUNT,
        "expected {CROSS_COUNT} messages, got {}",
        messages.len()
    );
    for (index, message) in messages.iter().enumerate() {
        let key = index.to_string();
        let value = cross_value(writer, codec, index);
        let same =
            message.key() == Some(key.as_bytes()) && message.payload() == Some(value.as_bytes());
        ensure!(same, "message {index} differs");
    }
    Ok(())
}
