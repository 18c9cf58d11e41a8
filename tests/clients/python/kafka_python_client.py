"""Promises to users of kafka-python, a client that shares no code with librdkafka or Java."""

import threading
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetSpec, TopicPartition
from kafka import errors
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic

import harness
from harness import BOOTSTRAP, CODECS, Control, check, equal, that, unique, until

ADMIN = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
SECONDS = 30


def create(prefix, partitions=1, configs=None):
    topic = unique(prefix)
    ADMIN.create_topics([NewTopic(topic, partitions, 1, topic_configs=configs or {})])
    return topic


def producer(codec="none", **options):
    kind = None if codec == "none" else codec
    return KafkaProducer(bootstrap_servers=BOOTSTRAP, compression_type=kind, linger_ms=5, **options)


def consumer(group=None, **options):
    settings = {
        "group_id": group,
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
        "session_timeout_ms": 6000,
        "heartbeat_interval_ms": 500,
    }
    return KafkaConsumer(bootstrap_servers=BOOTSTRAP, **(settings | options))


def send_all(sender, topic, values, **rest):
    futures = [sender.send(topic, value, **rest) for value in values]
    sender.flush(SECONDS)
    return [future.get(SECONDS) for future in futures]


def take(reader, count):
    records, deadline = [], time.monotonic() + SECONDS
    while len(records) < count and time.monotonic() < deadline:
        for batch in reader.poll(500).values():
            records.extend(batch)
    equal(len(records), count, "records received")
    return records


def read_all(topic):
    """Everything in partition 0, from its start to its end."""
    reader, partition = consumer(), TopicPartition(topic, 0)
    try:
        reader.assign([partition])
        reader.seek_to_beginning(partition)
        low, high = reader.beginning_offsets([partition])[partition], reader.end_offsets([partition])[partition]
        return take(reader, high - low)
    finally:
        reader.close()


def refused(kind, call):
    try:
        call()
    except kind:
        return
    raise AssertionError(f"expected {kind.__name__}")


@check
def codecs():
    """records keep order, content and offsets with every codec"""
    for codec in CODECS:
        topic = create(f"codec-{codec}")
        sender = producer(codec)
        values = [f"{codec} {index} ".encode() * 8 for index in range(1000)]
        stored = send_all(sender, topic, values)
        sender.close()
        equal([m.offset for m in stored], list(range(1000)), "acknowledged offsets")
        records = read_all(topic)
        equal([r.value for r in records] == values, True, f"content with {codec}")
        equal([r.offset for r in records], list(range(1000)), "offsets")


@check
def fields():
    """keys, headers, tombstones and timestamps come back as they were sent"""
    topic, sender = create("fields"), producer()
    headers = [("a", b"1"), ("a", b"2"), ("empty", b"")]
    sender.send(topic, b"value", key=b"key", headers=headers, timestamp_ms=1_600_000_000_123).get(SECONDS)
    sender.send(topic, None, key=b"tombstone").get(SECONDS)
    sender.close()
    first, second = read_all(topic)
    equal((first.key, first.value, list(map(tuple, first.headers))), (b"key", b"value", headers), "first")
    equal((first.timestamp, first.timestamp_type), (1_600_000_000_123, 0), "timestamp")
    equal((second.key, second.value), (b"tombstone", None), "tombstone")


@check
def group():
    """a group rebalances over two members and resumes from its commits"""
    topic, group = create("group", partitions=4), unique("group")
    stop, seen, owned, failures = threading.Event(), {}, [set(), set()], []

    def member(number):
        reader = consumer(group)
        try:
            # kafka-python 3.0.12 can lose the answer to its SyncGroup when a poll ends in the middle of a
            # rebalance that a first look at the topic set off: so look first, and poll for long enough.
            reader.partitions_for_topic(topic)
            reader.subscribe([topic])
            while not stop.is_set():
                for batch in reader.poll(1000).values():
                    seen.update({(r.partition, r.offset): r.value for r in batch})
                    reader.commit()
                owned[number] = {p.partition for p in reader.assignment()}
        except Exception as error:  # noqa: BLE001 handed to the main thread
            failures.append(error)
        finally:
            reader.close()

    threads = [threading.Thread(target=member, args=(number,)) for number in range(2)]
    try:
        for thread in threads:
            thread.start()
        until(
            lambda: failures or (len(owned[0]) == len(owned[1]) == 2 and len(owned[0] | owned[1]) == 4),
            SECONDS,
            "two partitions each",
        )
        sender = producer()
        for partition in range(4):
            send_all(sender, topic, [str(i).encode() for i in range(100)], partition=partition)
        sender.close()
        until(lambda: failures or len(seen) == 400, SECONDS, "400 records read")
    finally:
        stop.set()
        for thread in threads:
            thread.join(SECONDS)
    equal(failures, [], "failures of members")
    late = consumer(group)
    committed = [late.committed(TopicPartition(topic, partition)) for partition in range(4)]
    late.close()
    equal(committed, [100] * 4, "committed offsets")


@check
def times_and_seek():
    """offsets are found by time and consumers seek to them"""
    topic, sender, base = create("times"), producer(), 1_700_000_000_000
    for index in range(20):
        sender.send(topic, str(index).encode(), timestamp_ms=base + index * 1000)
    sender.flush(SECONDS)
    sender.close()
    reader, partition = consumer(), TopicPartition(topic, 0)
    reader.assign([partition])
    found = reader.offsets_for_times({partition: base + 4500})[partition]
    equal((found.offset, found.timestamp), (5, base + 5000), "offset by time")
    equal(reader.offsets_for_times({partition: base + 60_000})[partition], None, "after the last one")
    reader.seek(partition, found.offset)
    equal(take(reader, 15)[0].value, b"5", "after seek")
    reader.close()


@check
def admin():
    """topics, configs, groups and records are administered"""
    topic, group = create("admin", 2, {"retention.ms": "1234"}), unique("admin")
    refused(errors.TopicAlreadyExistsError, lambda: ADMIN.create_topics([NewTopic(topic, 1, 1)]))
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)

    def value(name):
        return ADMIN.describe_configs([resource], config_filter="all")["topic"][topic][name]["value"]

    equal(value("retention.ms"), "1234", "retention.ms")
    ADMIN.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "777000"})])
    until(lambda: value("retention.ms") == "777000", SECONDS, "retention.ms altered")
    ADMIN.create_partitions({topic: NewPartitions(4)})
    until(lambda: len(ADMIN.describe_topics([topic])[0]["partitions"]) == 4, SECONDS, "4 partitions")
    sender, partition = producer(), TopicPartition(topic, 0)
    send_all(sender, topic, [b"x"] * 10, partition=0)
    sender.close()
    equal(ADMIN.delete_records({partition: 5})[partition]["low_watermark"], 5, "low watermark")
    equal(ADMIN.list_partition_offsets({partition: OffsetSpec.EARLIEST})[partition].offset, 5, "earliest")
    reader = consumer(group)
    reader.subscribe([topic])
    take(reader, 5)
    reader.commit()
    that(group in [g["group_id"] for g in ADMIN.list_groups()], "the group is listed")
    equal(ADMIN.describe_groups([group])[group]["group_state"], "Stable", "state")
    reader.close()
    equal(ADMIN.list_group_offsets([group])[group][partition].offset, 10, "committed")
    ADMIN.delete_groups([group])
    that(group not in [g["group_id"] for g in ADMIN.list_groups()], "the group is gone")
    ADMIN.delete_topics([topic])
    until(lambda: topic not in ADMIN.list_topics(), SECONDS, "the topic is gone")
    refused(errors.UnknownTopicOrPartitionError, lambda: ADMIN.delete_topics([topic]))


@check
def cluster():
    """the cluster describes itself and its log folders"""
    described = ADMIN.describe_cluster()
    equal([f"{b['host']}:{b['port']}" for b in described["brokers"]], [BOOTSTRAP], "brokers")
    topic = create("folders")

    def topics():
        folders = ADMIN.describe_log_dirs()
        return [t["name"] for broker in folders for d in broker["log_dirs"] for t in d["topics"]]

    until(lambda: topic in topics(), SECONDS, "the topic is in a log folder")


@check
def restart():
    """a producer and a group member go on over a restart of the broker"""
    control = Control()
    topic, sender, reader = create("restart"), producer(), consumer(unique("restart"))
    reader.subscribe([topic])
    send_all(sender, topic, [str(i).encode() for i in range(500)])
    first = take(reader, 500)
    control.ask("restart")
    expected = [str(i).encode() for i in range(1000)]
    send_all(sender, topic, expected[500:])
    seen = dict.fromkeys(r.value for r in first)  # A member that joins again reads again what it did not commit.

    def read_on():
        for batch in reader.poll(500).values():
            seen.update(dict.fromkeys(r.value for r in batch))
        return len(seen) == 1000

    until(read_on, 2 * SECONDS, "the member reads on")
    equal(list(seen) == expected, True, "order of what the member read")
    equal([r.value for r in read_all(topic)] == expected, True, "each record is stored once and in order")
    reader.close()
    sender.close()


def write(topic, codec):
    sender = producer(codec)
    for index in range(harness.CROSS_COUNT):
        sender.send(topic, harness.cross_value("kafka-python", codec, index), key=harness.cross_key(index))
    sender.flush(SECONDS)
    sender.close()


def read(topic):
    return [(record.key, record.value) for record in read_all(topic)]


if __name__ == "__main__":
    raise SystemExit(harness.main("kafka-python", write, read))
