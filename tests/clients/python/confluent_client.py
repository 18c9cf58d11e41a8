"""Promises to librdkafka users, through confluent-kafka: the newest librdkafka against the real binary."""

import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, ConsumerGroupState, KafkaError, KafkaException, Producer
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, ConsumerGroupTopicPartitions
from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic
from confluent_kafka.admin import OffsetSpec, ResourceType

import harness
from harness import BOOTSTRAP, CODECS, Control, check, equal, that, unique, until

ADMIN = AdminClient({"bootstrap.servers": BOOTSTRAP})
SECONDS = 30


def create(prefix, partitions=1, config=None):
    topic = unique(prefix)
    new = NewTopic(topic, num_partitions=partitions, replication_factor=1, config=config or {})
    ADMIN.create_topics([new])[topic].result(SECONDS)
    return topic


class Sender:
    """A producer that remembers what was acknowledged, by partition: offset -> value."""

    def __init__(self, **options):
        self.acknowledged = {}
        self.errors = []
        settings = {"bootstrap.servers": BOOTSTRAP, "enable.idempotence": True, "linger.ms": 5}
        self.producer = Producer(settings | options)

    def _delivered(self, error, message):
        if error:
            self.errors.append(error)
        else:
            self.acknowledged.setdefault(message.partition(), {})[message.offset()] = message.value()

    def send(self, topic, value, **rest):
        while True:
            try:
                self.producer.produce(topic, value, on_delivery=self._delivered, **rest)
                self.producer.poll(0)
                return
            except BufferError:
                self.producer.poll(0.1)

    def flush(self):
        equal(self.producer.flush(60), 0, "messages without an answer")
        equal(self.errors, [], "delivery errors")

    def count(self):
        return sum(len(offsets) for offsets in self.acknowledged.values())


def consumer(group=None, **options):
    settings = {
        "bootstrap.servers": BOOTSTRAP,
        "group.id": group or unique("group"),
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "session.timeout.ms": 6000,
        "heartbeat.interval.ms": 500,
    }
    return Consumer(settings | options)


def take(reader, count, seconds=SECONDS):
    """Exactly `count` messages, or an assertion."""
    messages, deadline = [], time.monotonic() + seconds
    while len(messages) < count and time.monotonic() < deadline:
        for message in reader.consume(min(500, count - len(messages)), timeout=0.5):
            if message.error():
                raise KafkaException(message.error())
            messages.append(message)
    equal(len(messages), count, "messages received")
    return messages


def read_all(topic, partitions=1, **options):
    """Everything from the start of each partition up to its high watermark, by partition."""
    reader = consumer(**options)
    try:
        result = {}
        for partition in range(partitions):
            low, high = reader.get_watermark_offsets(TopicPartition(topic, partition), timeout=SECONDS)
            reader.assign([TopicPartition(topic, partition, low)])
            result[partition] = take(reader, high - low)
        return result
    finally:
        reader.close()


def refused(expected, call):
    """`call` must fail with the Kafka error `expected`."""
    try:
        call()
    except KafkaException as error:
        equal(error.args[0].name(), KafkaError(expected).name(), "error")
        return
    raise AssertionError(f"expected the error {KafkaError(expected).name()}")


@check
def idempotent_codecs():
    """an idempotent producer's records keep order and content with every codec"""
    for codec in CODECS:
        topic = create(f"codec-{codec}", partitions=2)
        sender = Sender(**{"compression.type": codec})
        for index in range(2000):
            sender.send(topic, f"{codec} {index} ".encode() * 8, partition=index % 2)
        sender.flush()
        for partition, messages in read_all(topic, 2).items():
            values = [message.value() for message in messages]
            expected = [f"{codec} {index} ".encode() * 8 for index in range(partition, 2000, 2)]
            equal(values == expected, True, f"content of {codec} partition {partition}")
            equal([m.offset() for m in messages], list(range(1000)), "offsets without gaps")
            equal(list(sender.acknowledged[partition].values()), values, "acknowledged offsets are true")


@check
def acks():
    """acks 0, 1 and all store records"""
    topic = create("acks")
    for number, acks in enumerate(["0", "1", "all"], start=1):
        sender = Sender(**{"enable.idempotence": False, "acks": acks})
        for index in range(50):
            sender.send(topic, f"{acks}-{index}".encode())
        sender.flush()
        until(lambda n=number: high_watermark(topic) == 50 * n, SECONDS, f"50 records with acks={acks}")


def high_watermark(topic, partition=0):
    reader = consumer()
    try:
        return reader.get_watermark_offsets(TopicPartition(topic, partition), timeout=SECONDS)[1]
    finally:
        reader.close()


@check
def resume_from_commit():
    """a group resumes from its committed offsets"""
    topic, group = create("resume"), unique("resume")
    sender = Sender()
    for index in range(100):
        sender.send(topic, str(index).encode())
    sender.flush()
    first = consumer(group)
    first.subscribe([topic])
    last = take(first, 40)[-1]
    first.commit(message=last, asynchronous=False)
    equal(first.committed([TopicPartition(topic, 0)], timeout=SECONDS)[0].offset, 40, "committed")
    first.close()
    second = consumer(group)
    second.subscribe([topic])
    equal([m.value() for m in take(second, 60)], [str(i).encode() for i in range(40, 100)], "rest")
    second.close()


def share_partitions(**options):
    topic, group = create("rebalance", partitions=6), unique("rebalance")
    stop, lock, received = threading.Event(), threading.Lock(), {}
    leave = threading.Event()
    assigned = [set(), set(), set()]
    failures = []

    def member(number):
        reader = consumer(group, **{"enable.auto.commit": True, "auto.commit.interval.ms": 200}, **options)

        def refresh():
            assigned[number] = {p.partition for p in reader.assignment()}

        reader.subscribe([topic])
        try:
            while not stop.is_set() and not (number == 0 and leave.is_set()):
                message = reader.poll(0.1)
                refresh()
                if message is None:
                    continue
                if message.error():
                    raise KafkaException(message.error())
                with lock:
                    key = (message.partition(), message.offset())
                    received[key] = message.value()
        except Exception as error:  # noqa: BLE001 handed to the main thread
            failures.append(error)
        finally:
            reader.close()
            assigned[number] = set()

    def balanced(members):
        sizes = sorted(len(assigned[number]) for number in members)
        union = set().union(*(assigned[number] for number in members))
        return not failures and union == set(range(6)) and sizes == [6 // len(members)] * len(members)

    threads = [threading.Thread(target=member, args=(number,)) for number in range(3)]
    sender = Sender()
    try:
        for thread in threads:
            thread.start()
        until(lambda: failures or balanced([0, 1, 2]), SECONDS, "6 partitions over 3 consumers")
        for index in range(600):
            sender.send(topic, str(index).encode(), partition=index % 6)
        sender.flush()
        until(lambda: failures or len(received) == 600, SECONDS, "600 messages read")
        leave.set()
        until(lambda: failures or balanced([1, 2]), SECONDS, "6 partitions over 2 consumers")
        for index in range(600, 1200):
            sender.send(topic, str(index).encode(), partition=index % 6)
        sender.flush()
        until(lambda: failures or len(received) == 1200, SECONDS, "1200 messages read")
        equal(failures, [], "failures of members")
    finally:
        stop.set()
        for thread in threads:
            thread.join(SECONDS)
    expected = {(p, o): v for p, offsets in sender.acknowledged.items() for o, v in offsets.items()}
    equal(received == expected, True, "every acknowledged record was read")


@check
def rebalance_eager():
    """three consumers share partitions, one leaves and the others take over (range)"""
    share_partitions(**{"partition.assignment.strategy": "range"})


@check
def rebalance_cooperative():
    """three consumers share partitions, one leaves and the others take over (cooperative-sticky)"""
    share_partitions(**{"partition.assignment.strategy": "cooperative-sticky"})


@check
def static_membership():
    """a static member that restarts gets its partitions back without a rebalance"""
    topic, group = create("static", partitions=2), unique("static")
    options = {"group.instance.id": "one", "session.timeout.ms": 30000}
    other = consumer(group, **{"group.instance.id": "two", "session.timeout.ms": 30000})
    one = consumer(group, **options)
    moved = []
    other.subscribe([topic], on_revoke=lambda _c, partitions: moved.append(partitions))
    one.subscribe([topic])

    def settled():
        other.poll(0.1)
        one.poll(0.1)
        return len(one.assignment()) == 1 and len(other.assignment()) == 1

    until(settled, SECONDS, "each static member has one partition")
    before, moved[:] = one.assignment()[0].partition, []
    one.close()  # A static member does not leave its group when it closes.
    again = consumer(group, **options)
    again.subscribe([topic])

    def returned():
        other.poll(0.1)
        again.poll(0.1)
        return again.assignment()

    until(returned, SECONDS, "the static member is back")
    equal(again.assignment()[0].partition, before, "partition")
    equal(moved, [], "partitions revoked from the other member")
    again.close()
    other.close()


@check
def seek_and_time():
    """offsets are found by time and consumers seek to them"""
    topic, base = create("times"), 1_700_000_000_000
    sender = Sender()
    for index in range(100):
        sender.send(topic, str(index).encode(), timestamp=base + index * 1000)
    sender.flush()
    reader = consumer()

    def lookup(timestamp):
        return reader.offsets_for_times([TopicPartition(topic, 0, timestamp)], timeout=SECONDS)[0].offset

    equal(lookup(base), 0, "offset of the first timestamp")
    equal(lookup(base + 41_500), 42, "offset between two timestamps")
    equal(lookup(base + 99_000), 99, "offset of the last timestamp")
    that(lookup(base + 1_000_000) < 0 or lookup(base + 1_000_000) == 100, "no offset after the last one")
    reader.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    equal(take(reader, 1)[0].value(), b"0", "first")
    reader.seek(TopicPartition(topic, 0, 42))
    message = take(reader, 1)[0]
    equal((message.value(), message.timestamp()), (b"42", (TIMESTAMP_CREATE_TIME, base + 42_000)), "after seek")
    reader.close()
    partition = TopicPartition(topic, 0)
    for spec, offset in [(OffsetSpec.earliest(), 0), (OffsetSpec.latest(), 100), (OffsetSpec.max_timestamp(), 99)]:
        for isolation in [IsolationLevel.READ_UNCOMMITTED, IsolationLevel.READ_COMMITTED]:
            found = ADMIN.list_offsets({partition: spec}, isolation_level=isolation)[partition].result(SECONDS)
            equal(found.offset, offset, f"list_offsets {spec}")


@check
def offset_reset():
    """a consumer out of range starts again where its reset policy says"""
    topic = create("reset")
    sender = Sender()
    for index in range(10):
        sender.send(topic, str(index).encode())
    sender.flush()
    early = consumer(**{"auto.offset.reset": "earliest"})
    early.assign([TopicPartition(topic, 0, 5000)])
    equal(take(early, 10)[0].offset(), 0, "earliest")
    early.close()
    strict = consumer(**{"auto.offset.reset": "error"})
    strict.assign([TopicPartition(topic, 0, 5000)])
    message = until(lambda: strict.poll(0.5), SECONDS, "an error is reported")
    equal(message.error().code(), KafkaError._AUTO_OFFSET_RESET, "error")
    strict.close()


@check
def round_trip_of_metadata():
    """keys, headers, nulls, empty values and timestamps come back as they were sent"""
    topic = create("fields")
    sender = Sender(**{"compression.type": "zstd"})
    headers = [("a", b"1"), ("a", b"2"), ("empty", b""), ("null", None), ("utf-\u00fc", b"\x00\xff")]
    sender.send(topic, b"value", key=b"key", headers=headers, timestamp=1_600_000_000_123)
    sender.send(topic, None, key=b"tombstone")
    sender.send(topic, b"", key=None)
    sender.send(topic, b"\x00" * 10, key=b"")
    sender.flush()
    first, second, third, fourth = read_all(topic)[0]
    equal(first.headers(), headers, "headers")
    equal(first.timestamp(), (TIMESTAMP_CREATE_TIME, 1_600_000_000_123), "timestamp")
    equal((first.key(), first.value()), (b"key", b"value"), "first")
    equal((second.key(), second.value()), (b"tombstone", None), "tombstone")
    equal((third.key(), third.value()), (None, b""), "empty value")
    equal((fourth.key(), fourth.value()), (b"", b"\x00" * 10), "empty key")
    appended = create("append-time", config={"message.timestamp.type": "LogAppendTime"})
    sender.send(appended, b"x", timestamp=1_600_000_000_123)
    sender.flush()
    kind, stamp = read_all(appended)[0][0].timestamp()
    equal(kind, TIMESTAMP_LOG_APPEND_TIME, "timestamp type")
    that(abs(stamp / 1000 - time.time()) < 600, f"append time {stamp} is the broker's")


@check
def large_messages():
    """large messages pass, and those over the topic's limit are refused"""
    topic = create("large", config={"max.message.bytes": "3000000"})
    body = bytes(range(256)) * 10_000
    sender = Sender(**{"message.max.bytes": 4_000_000})
    for index in range(4):
        sender.send(topic, body + bytes([index]))
    sender.flush()
    messages = read_all(topic, **{"fetch.message.max.bytes": 1_000_000})[0]
    equal([m.value() == body + bytes([i]) for i, m in enumerate(messages)], [True] * 4, "content")
    small = create("small", config={"max.message.bytes": "1000"})
    refusing = Sender(**{"enable.idempotence": False})
    refusing.send(small, b"x" * 2000)
    refusing.producer.flush(SECONDS)
    equal([e.code() for e in refusing.errors], [KafkaError.MSG_SIZE_TOO_LARGE], "error")


@check
def topics_and_configs():
    """topics are created, described, altered, grown and deleted"""
    topic = create("admin", partitions=2, config={"retention.ms": "123456"})
    again = NewTopic(topic, 1, 1)
    refused(KafkaError.TOPIC_ALREADY_EXISTS, lambda: ADMIN.create_topics([again])[topic].result(SECONDS))
    bad = NewTopic(unique("bad"), 1, 1, config={"retention.ms": "soon"})
    refused(KafkaError.INVALID_CONFIG, lambda: ADMIN.create_topics([bad])[bad.topic].result(SECONDS))
    spaced = NewTopic("not a name", 1, 1)
    refused(KafkaError.TOPIC_EXCEPTION, lambda: ADMIN.create_topics([spaced])[spaced.topic].result(SECONDS))
    dry = NewTopic(unique("dry"), 1, 1)
    ADMIN.create_topics([dry], validate_only=True)[dry.topic].result(SECONDS)
    that(dry.topic not in ADMIN.list_topics(timeout=SECONDS).topics, "validate_only creates nothing")

    resource = ConfigResource(ResourceType.TOPIC, topic)

    def configs():
        return ADMIN.describe_configs([resource])[resource].result(SECONDS)

    equal(configs()["retention.ms"].value, "123456", "retention.ms")
    equal(configs()["cleanup.policy"].value, "delete", "cleanup.policy")
    that(configs()["cleanup.policy"].is_default, "a default is marked as default")
    that(not configs()["retention.ms"].is_default, "an override is not")
    change = ConfigResource(
        ResourceType.TOPIC,
        topic,
        incremental_configs=[
            ConfigEntry("retention.ms", None, incremental_operation=AlterConfigOpType.DELETE),
            ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.APPEND),
            ConfigEntry("max.message.bytes", "2000000", incremental_operation=AlterConfigOpType.SET),
        ],
    )
    ADMIN.incremental_alter_configs([change])[change].result(SECONDS)
    until(lambda: configs()["max.message.bytes"].value == "2000000", SECONDS, "max.message.bytes is set")
    equal(configs()["cleanup.policy"].value, "delete,compact", "appended list")
    equal(configs()["retention.ms"].value, "604800000", "back to the default")

    ADMIN.create_partitions([NewPartitions(topic, 5)])[topic].result(SECONDS)
    until(lambda: len(ADMIN.list_topics(timeout=SECONDS).topics[topic].partitions) == 5, SECONDS, "5 partitions")
    fewer = lambda: ADMIN.create_partitions([NewPartitions(topic, 3)])[topic].result(SECONDS)  # noqa: E731
    refused(KafkaError.INVALID_PARTITIONS, fewer)
    ADMIN.delete_topics([topic])[topic].result(SECONDS)
    until(lambda: topic not in ADMIN.list_topics(timeout=SECONDS).topics, SECONDS, "the topic is gone")
    gone = lambda: ADMIN.delete_topics([topic])[topic].result(SECONDS)  # noqa: E731
    refused(KafkaError.UNKNOWN_TOPIC_OR_PART, gone)


@check
def recreated_topic():
    """a topic created again under the same name starts empty"""
    topic = create("again")
    sender = Sender()
    sender.send(topic, b"old")
    sender.flush()
    ADMIN.delete_topics([topic])[topic].result(SECONDS)
    until(lambda: topic not in ADMIN.list_topics(timeout=SECONDS).topics, SECONDS, "the topic is gone")

    def created():
        try:
            ADMIN.create_topics([NewTopic(topic, 1, 1)])[topic].result(SECONDS)
            return True
        except KafkaException:
            return False

    until(created, SECONDS, "the name is free again")
    fresh = Sender()
    fresh.send(topic, b"new")
    fresh.flush()
    equal([(m.offset(), m.value()) for m in read_all(topic)[0]], [(0, b"new")], "content")


@check
def delete_records():
    """delete_records moves the start of the log and what is below is gone"""
    topic = create("delete-records")
    sender = Sender()
    for index in range(100):
        sender.send(topic, str(index).encode())
    sender.flush()
    partition = TopicPartition(topic, 0, 60)
    equal(ADMIN.delete_records([partition])[partition].result(SECONDS).low_watermark, 60, "low watermark")
    messages = read_all(topic)[0]
    equal([m.offset() for m in messages], list(range(60, 100)), "offsets")
    beyond = TopicPartition(topic, 0, 1000)
    refused(KafkaError.OFFSET_OUT_OF_RANGE, lambda: ADMIN.delete_records([beyond])[beyond].result(SECONDS))


@check
def groups():
    """groups are listed, described, their offsets read and altered, and deleted"""
    topic, group = create("groups", partitions=2), unique("groups")
    reader = consumer(group, **{"client.id": "the-client"})
    reader.subscribe([topic])

    def joined():
        reader.poll(0.1)
        return len(reader.assignment()) == 2

    until(joined, SECONDS, "the member has both partitions")
    reader.commit(offsets=[TopicPartition(topic, 0, 7), TopicPartition(topic, 1, 9, "note")], asynchronous=False)
    listed = ADMIN.list_consumer_groups().result(SECONDS).valid
    equal([g.state for g in listed if g.group_id == group], [ConsumerGroupState.STABLE], "listed state")
    described = ADMIN.describe_consumer_groups([group])[group].result(SECONDS)
    equal(described.state, ConsumerGroupState.STABLE, "described state")
    equal([m.client_id for m in described.members], ["the-client"], "members")
    assignment = described.members[0].assignment.topic_partitions
    equal(sorted(p.partition for p in assignment), [0, 1], "assignment")
    refused(KafkaError.NON_EMPTY_GROUP, lambda: ADMIN.delete_consumer_groups([group])[group].result(SECONDS))
    reader.close()

    def offsets():
        request = [ConsumerGroupTopicPartitions(group)]
        answer = ADMIN.list_consumer_group_offsets(request)[group].result(SECONDS)
        return {p.partition: p.offset for p in answer.topic_partitions}

    equal(offsets(), {0: 7, 1: 9}, "offsets")
    change = [ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 3)])]
    ADMIN.alter_consumer_group_offsets(change)[group].result(SECONDS)
    equal(offsets(), {0: 3, 1: 9}, "altered offsets")
    ADMIN.delete_consumer_groups([group])[group].result(SECONDS)
    that(group not in [g.group_id for g in ADMIN.list_consumer_groups().result(SECONDS).valid], "the group is gone")
    refused(KafkaError.GROUP_ID_NOT_FOUND, lambda: ADMIN.delete_consumer_groups([group])[group].result(SECONDS))


@check
def cluster():
    """the cluster describes itself"""
    described = ADMIN.describe_cluster().result(SECONDS)
    that(described.cluster_id, "there is a cluster id")
    equal([f"{node.host}:{node.port}" for node in described.nodes], [BOOTSTRAP], "nodes")


def read_to_end(topic):
    """What is left between the low and the high watermark, where offsets may be missing."""
    reader = consumer()
    try:
        partition = TopicPartition(topic, 0)
        low, high = reader.get_watermark_offsets(partition, timeout=SECONDS)
        reader.assign([TopicPartition(topic, 0, low)])
        messages = []

        def is_at_end():
            messages.extend(message for message in reader.consume(1000, timeout=0.2) if not message.error())
            return high <= reader.position([partition])[0].offset

        until(is_at_end, SECONDS, "the reader reaches the end")
        return messages
    finally:
        reader.close()


@check
def compaction():
    """a compacted topic keeps the newest value of each key, at its offset, and readers reach the end"""
    topic = create("compaction", config={
        "cleanup.policy": "compact",
        "segment.ms": "100",
        "min.cleanable.dirty.ratio": "0.01",
        "delete.retention.ms": "3600000",
    })
    newest = {}
    for codec in CODECS:
        sender = Sender(**{"compression.type": codec})
        for index in range(200):
            key, value = str(index % 20).encode(), f"{codec} {index}".encode()
            sender.send(topic, value, key=key)
            newest[key] = value
        sender.flush()
    sender = Sender()
    sender.send(topic, None, key=b"7")
    newest[b"7"] = None
    sender.flush()
    end = high_watermark(topic)
    # Kafka rolls the segment when something comes, Aquifer when the tail is flushed, which a clean stop does.
    Control().ask("restart")
    time.sleep(0.2)
    sender.send(topic, b"last", key=b"last")
    newest[b"last"] = b"last"
    sender.flush()

    def is_compacted():
        messages = read_to_end(topic)
        last = {message.key(): message.value() for message in messages}
        equal(last, newest, "what a reader from the beginning knows of each key")
        return len(messages) == len(newest) and messages[-1].offset() == end

    until(is_compacted, 4 * SECONDS, "one record of each key is left")


@check
def restart():
    """a clean restart loses nothing: records, offsets, topics and the producer go on"""
    control = Control()
    topic, group = create("restart", partitions=3), unique("restart")
    sender, reader = Sender(), consumer(group)
    reader.subscribe([topic])
    for index in range(3000):
        sender.send(topic, str(index).encode(), partition=index % 3)
    first = take(reader, 1500)
    reader.commit(asynchronous=False)
    for index in range(3000, 6000):
        sender.send(topic, str(index).encode(), partition=index % 3)
        if index == 4500:
            control.ask("restart")
    sender.flush()
    seen = {(m.partition(), m.offset()): m.value() for m in first}

    def read_on():
        for message in reader.consume(500, timeout=0.5):
            if not message.error():  # librdkafka reports that the broker was away, and goes on.
                seen[message.partition(), message.offset()] = message.value()
        return len(seen) == 6000

    until(read_on, 2 * SECONDS, "the member reads on")
    for partition, messages in read_all(topic, 3).items():
        values = [m.value() for m in messages]
        expected = [str(index).encode() for index in range(partition, 6000, 3)]
        equal(values == expected, True, f"partition {partition} in order, complete, without duplicates")
    reader.close()
    resumed = consumer(group)
    offsets = resumed.committed([TopicPartition(topic, p) for p in range(3)], timeout=SECONDS)
    # A partition that nothing was read from yet has no committed offset, which reads as a negative one.
    equal(sum(max(0, p.offset) for p in offsets), 1500, "committed offsets survive")
    resumed.close()


def write(topic, codec):
    sender = Sender(**{"compression.type": codec})
    for index in range(harness.CROSS_COUNT):
        sender.send(topic, harness.cross_value("librdkafka", codec, index), key=harness.cross_key(index))
    sender.flush()


def read(topic):
    return [(m.key(), m.value()) for m in read_all(topic)[0]]


if __name__ == "__main__":
    raise SystemExit(harness.main("librdkafka", write, read))
