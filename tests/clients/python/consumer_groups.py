"""Promises to users of `group.protocol=consumer` (KIP-848), through librdkafka, against the real binary.

The coordinator assigns: members only heartbeat, every few seconds, so these checks take their time.
"""

import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

import harness
from harness import BOOTSTRAP, Control, check, equal, unique, until

ADMIN = AdminClient({"bootstrap.servers": BOOTSTRAP})
# A member that was killed is missed after 45 s, a change of topics is seen with the next heartbeat.
SECONDS = 90


def create(prefix, partitions):
    topic = unique(prefix)
    new = NewTopic(topic, num_partitions=partitions, replication_factor=1)
    ADMIN.create_topics([new])[topic].result(SECONDS)
    return topic


class Member(threading.Thread):
    """A member that polls until it is told to stop, and remembers what it had and what it read."""

    def __init__(self, group, topics, **options):
        super().__init__()
        self.stop, self.owned, self.read, self.failure, self.lost = threading.Event(), set(), {}, None, 0
        settings = {
            "bootstrap.servers": BOOTSTRAP,
            "group.id": group,
            "group.protocol": "consumer",
            "auto.offset.reset": "earliest",
            "auto.commit.interval.ms": 200,
            "reconnect.backoff.max.ms": 200,
            "topic.metadata.refresh.interval.ms": 1000,
        }
        self.consumer = Consumer(settings | options)
        self.consumer.subscribe(topics, on_lost=self.gone)
        self.start()

    def gone(self, _consumer, partitions):
        self.lost += len(partitions)

    def run(self):
        try:
            while not self.stop.is_set():
                message = self.consumer.poll(0.1)
                self.owned = {(p.topic, p.partition) for p in self.consumer.assignment()}
                if message is not None and not message.error():
                    self.read[message.topic(), message.partition(), message.offset()] = message.value()
                elif message is not None and message.error().fatal():
                    raise KafkaException(message.error())
        except Exception as error:  # noqa: BLE001 handed to the main thread
            self.failure = error

    def leave(self):
        self.stop.set()
        self.join(SECONDS)
        self.consumer.close()
        self.owned = set()


def shares(members, partitions):
    """Every partition has one owner and members are within one of each other."""
    for member in members:
        if member.failure:
            raise member.failure
    owned = [member.owned for member in members]
    sizes = [len(them) for them in owned]
    return sum(sizes) == len(partitions) and set().union(*owned) == partitions and max(sizes) - min(sizes) <= 1


def send(topic, partitions, count):
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "enable.idempotence": True})
    for index in range(count):
        producer.produce(topic, str(index).encode(), partition=index % partitions)
    equal(producer.flush(SECONDS), 0, "messages without an answer")


@check
def members_come_and_go():
    """consumer protocol: three members share partitions, one leaves and the others take over"""
    topic, group = create("kip848", 6), unique("kip848")
    everything = {(topic, index) for index in range(6)}
    members = [Member(group, [topic]) for _ in range(3)]
    try:
        until(lambda: shares(members, everything), SECONDS, "6 partitions over 3 members")
        send(topic, 6, 600)
        read = lambda: len(set().union(*(set(it.read) for it in members))) == 600
        until(read, SECONDS, "600 messages read")
        members[0].leave()
        until(lambda: shares(members[1:], everything), SECONDS, "6 partitions over 2 members")
        described = ADMIN.describe_consumer_groups([group])[group].result(SECONDS)
        equal(described.type.name, "CONSUMER", "type")
        equal(described.state.name, "STABLE", "state")
        equal(described.partition_assignor, "uniform", "assignor")
        equal(len(described.members), 2, "members")
        assigned = [p.partition for it in described.members for p in it.assignment.topic_partitions]
        equal(sorted(assigned), list(range(6)), "assignment")
    finally:
        for member in members:
            member.leave()
    ADMIN.delete_consumer_groups([group])[group].result(SECONDS)


@check
def patterns_and_growth():
    """consumer protocol: new topics and partitions reach whoever subscribes by a pattern"""
    prefix, group = unique("pattern"), unique("pattern")
    first = create(prefix, 1)
    member = Member(group, [f"^{prefix}.*"])
    try:
        until(lambda: shares([member], {(first, 0)}), SECONDS, "the topic there is")
        second = create(prefix, 1)
        until(lambda: shares([member], {(first, 0), (second, 0)}), SECONDS, "the topic that came")
        ADMIN.create_partitions([NewPartitions(first, 2)])[first].result(SECONDS)
        grown = {(first, 0), (first, 1), (second, 0)}
        until(lambda: shares([member], grown), SECONDS, "the partition that came")
        ADMIN.delete_topics([second])[second].result(SECONDS)
        until(lambda: shares([member], {(first, 0), (first, 1)}), SECONDS, "the topic that went")
    finally:
        member.leave()


@check
def a_static_member_restarts():
    """consumer protocol: a static member that restarts gets its partitions back, the other keeps its own"""
    topic, group = create("static848", 4), unique("static848")
    everything = {(topic, index) for index in range(4)}
    one = Member(group, [topic], **{"group.instance.id": "one"})
    two = Member(group, [topic], **{"group.instance.id": "two"})
    try:
        until(lambda: shares([one, two], everything), SECONDS, "4 partitions over 2 members")
        mine, theirs = set(one.owned), set(two.owned)
        one.leave()
        equal(two.owned, theirs, "the other's partitions")
        one = Member(group, [topic], **{"group.instance.id": "one"})
        until(lambda: one.owned, SECONDS, "the static member is back")
        equal(one.owned, mine, "its partitions")
        equal(two.owned, theirs, "the other's partitions")
    finally:
        one.leave()
        two.leave()


@check
def the_broker_is_killed():
    """consumer protocol: members keep their partitions over a kill -9 of the broker"""
    control = Control()
    topic, group = create("kill848", 4), unique("kill848")
    everything = {(topic, index) for index in range(4)}
    members = [Member(group, [topic]) for _ in range(2)]
    try:
        until(lambda: shares(members, everything), SECONDS, "4 partitions over 2 members")
        before = [set(it.owned) for it in members]
        send(topic, 4, 400)
        read = lambda count: len(set().union(*(set(it.read) for it in members))) == count
        until(lambda: read(400), SECONDS, "400 messages read")
        control.ask("kill")
        time.sleep(1)
        control.ask("start")
        send(topic, 4, 400)
        until(lambda: read(800), SECONDS, "800 messages read")
        equal([it.owned for it in members], before, "partitions")
        equal([it.lost for it in members], [0, 0], "partitions lost")
    finally:
        for member in members:
            member.leave()
    reader = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": group})
    committed = reader.committed([TopicPartition(topic, index) for index in range(4)], timeout=SECONDS)
    equal(sum(it.offset for it in committed), 800, "committed offsets")
    reader.close()


if __name__ == "__main__":
    only = sys.argv[2] if len(sys.argv) > 2 else None
    sys.exit(harness.run_checks("confluent-kafka", only))
