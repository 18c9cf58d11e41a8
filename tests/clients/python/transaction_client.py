"""Promises about transactions to librdkafka users, which follow the old rules (no KIP-890): commit, abort, fencing,
offsets in transactions, kill -9 in the middle."""

import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import harness
from harness import BOOTSTRAP, Control, check, equal, that, unique, until

ADMIN = AdminClient({"bootstrap.servers": BOOTSTRAP})
SECONDS = 30


def create(prefix, partitions=1):
    topic = unique(prefix)
    ADMIN.create_topics([NewTopic(topic, num_partitions=partitions, replication_factor=1)])[topic].result(SECONDS)
    return topic


def transactional(transactional_id, **options):
    settings = {
        "bootstrap.servers": BOOTSTRAP,
        "transactional.id": transactional_id,
        "transaction.timeout.ms": 60000,
        "linger.ms": 5,
    }
    producer = Producer(settings | options)
    producer.init_transactions(SECONDS)
    return producer


def consumer(group, **options):
    settings = {
        "bootstrap.servers": BOOTSTRAP,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
    }
    return Consumer(settings | options)


def read_all(topic, partitions=1, isolation="read_committed"):
    """Every value up to the ends of all partitions, as this isolation sees them."""
    reader = consumer(unique("reader"), **{"isolation.level": isolation})
    reader.assign([TopicPartition(topic, index, 0) for index in range(partitions)])
    values, ended, deadline = [], set(), time.monotonic() + SECONDS
    while len(ended) < partitions:
        that(time.monotonic() < deadline, f"the end of {topic} was not reached: {len(values)} values")
        message = reader.poll(0.5)
        if message is None:
            continue
        if message.error():
            equal(message.error().code(), KafkaError._PARTITION_EOF, "error of a poll")
            ended.add(message.partition())
            continue
        values.append(message.value().decode())
    reader.close()
    return sorted(values)


def send(producer, topic, values, partitions=1):
    for place, value in enumerate(values):
        producer.produce(topic, value.encode(), partition=place % partitions)
    equal(producer.flush(SECONDS), 0, "messages without an answer")


@check
def commits_and_aborts():
    """committed records are read, aborted ones are not, in all partitions"""
    topic, producer = create("transactions", 3), transactional(unique("tx"))
    kept = []
    for number in range(6):
        producer.begin_transaction()
        values = [f"{number}-{index}" for index in range(30)]
        send(producer, topic, values, 3)
        if number % 2:
            producer.abort_transaction(SECONDS)
        else:
            producer.commit_transaction(SECONDS)
            kept += values
    equal(read_all(topic, 3), sorted(kept), "committed values")
    equal(len(read_all(topic, 3, "read_uncommitted")), 180, "all values")


@check
def an_open_transaction_hides_what_follows():
    """readers of committed records stop at an open transaction and go on when it ends"""
    topic = create("open")
    first, second = transactional(unique("tx")), transactional(unique("tx"))
    first.begin_transaction()
    send(first, topic, ["open"])
    second.begin_transaction()
    send(second, topic, ["behind"])
    second.commit_transaction(SECONDS)
    equal(read_all(topic), [], "values before the first transaction ends")
    equal(read_all(topic, isolation="read_uncommitted"), ["behind", "open"], "all values")
    first.abort_transaction(SECONDS)
    equal(read_all(topic), ["behind"], "values after it has ended")


@check
def a_second_producer_fences_the_first():
    """a new producer with the same transactional id aborts and fences the old one"""
    topic, name = create("fenced"), unique("tx")
    old = transactional(name)
    old.begin_transaction()
    send(old, topic, ["old"])
    new = transactional(name)
    new.begin_transaction()
    send(new, topic, ["new"])
    try:
        old.commit_transaction(SECONDS)
        raise AssertionError("the old producer has committed")
    except KafkaException as error:
        that(error.args[0].fatal() or error.args[0].txn_requires_abort(), f"fenced: {error}")
    new.commit_transaction(SECONDS)
    equal(read_all(topic), ["new"], "committed values")


@check
def offsets_and_records_are_one():
    """consume, transform and produce: offsets and records of a transaction count together or not at all"""
    source, target, group = create("source"), create("target"), unique("group")
    writer = Producer({"bootstrap.servers": BOOTSTRAP})
    for index in range(100):
        writer.produce(source, str(index).encode())
    equal(writer.flush(SECONDS), 0, "messages without an answer")
    producer = transactional(unique("tx"))
    reader = consumer(group)
    reader.subscribe([source])
    done, round_number = 0, 0
    while done < 100:
        batch = [it for it in reader.consume(20, timeout=1.0) if not it.error()]
        if not batch:
            continue
        producer.begin_transaction()
        for message in batch:
            producer.produce(target, message.value())
        positions = reader.position(reader.assignment())
        producer.send_offsets_to_transaction(positions, reader.consumer_group_metadata(), SECONDS)
        round_number += 1
        if round_number % 2:
            producer.abort_transaction(SECONDS)
            for position in reader.committed(reader.assignment(), SECONDS):
                reader.seek(TopicPartition(source, position.partition, max(position.offset, 0)))
        else:
            producer.commit_transaction(SECONDS)
            done += len(batch)
    committed = reader.committed([TopicPartition(source, 0)], SECONDS)
    equal(committed[0].offset, 100, "committed offset")
    reader.close()
    expected = sorted(str(index) for index in range(100))
    equal(read_all(target), expected, "committed values")


@check
def an_overdue_transaction_is_aborted():
    """a transaction whose producer is silent is aborted after its timeout"""
    topic = create("overdue")
    producer = transactional(unique("tx"), **{"transaction.timeout.ms": 1000})
    producer.begin_transaction()
    send(producer, topic, ["overdue"])
    after = Producer({"bootstrap.servers": BOOTSTRAP})
    after.produce(topic, b"after")
    equal(after.flush(SECONDS), 0, "messages without an answer")
    until(lambda: read_all(topic) == ["after"], 40, "the open transaction is aborted")


@check
def a_timeout_above_the_limit_is_refused():
    """a transaction timeout above transaction.max.timeout.ms is refused"""
    try:
        transactional(unique("tx"), **{"transaction.timeout.ms": 901000})
        raise AssertionError("the timeout was accepted")
    except KafkaException as error:
        equal(error.args[0].code(), KafkaError.INVALID_TRANSACTION_TIMEOUT, "error")


@check
def transactions_survive_a_kill():
    """kill -9 in the middle of transactions: what was committed is there, what was open can go on or is aborted"""
    control = Control()
    topic, name, kept = create("killed", 2), unique("tx"), []
    producer = transactional(name)
    for number in range(8):
        values = [f"{number}-{index}" for index in range(20)]
        producer.begin_transaction()
        send(producer, topic, values, 2)
        if number % 2:
            control.ask("kill")
            control.ask("start")
        producer.commit_transaction(60)
        kept += values
    producer.begin_transaction()
    send(producer, topic, ["left open"], 2)
    control.ask("kill")
    control.ask("start")
    equal(read_all(topic, 2), sorted(kept), "committed values with one transaction open")
    successor = transactional(name)
    successor.begin_transaction()
    send(successor, topic, ["successor"], 2)
    successor.commit_transaction(SECONDS)
    equal(read_all(topic, 2), sorted(kept + ["successor"]), "committed values in the end")


if __name__ == "__main__":
    raise SystemExit(harness.run_checks("librdkafka transactions", *harness.sys.argv[2:3]))
