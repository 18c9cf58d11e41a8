"""kill -9 under full load: no acknowledged record is lost, none of an idempotent producer is stored twice.

A producer sends as fast as it can to four partitions and a group member commits offsets as it reads, while the
broker is killed KILLS times at random moments and restarted on the same data folder. At the end each partition must
hold exactly what was sent, in order, each acknowledged record at its acknowledged offset, and no acknowledged commit
may be lost. KILL_SEED repeats a run's pauses.
"""

import os
import random
import statistics
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from harness import BOOTSTRAP, Control, report, unique

PARTITIONS = 4
KILLS = int(os.environ.get("KILLS", "20"))
SEED = int(os.environ.get("KILL_SEED", str(random.randrange(1 << 32))))
RECORDS_MAX = 3_000_000
BODY = "x" * 200
SECONDS = 60
RECONNECT = {"bootstrap.servers": BOOTSTRAP, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 100}


class Load(threading.Thread):
    """Sends numbered records until told to stop; remembers the offset that each was acknowledged at."""

    def __init__(self, topic):
        super().__init__()
        self.topic, self.stop = topic, threading.Event()
        self.sent = [0] * PARTITIONS
        self.offsets = [[] for _ in range(PARTITIONS)]
        self.acknowledged, self.errors = 0, []
        settings = {"enable.idempotence": True, "linger.ms": 2, "queue.buffering.max.messages": 20_000}
        self.producer = Producer(RECONNECT | settings)

    def delivered(self, error, message):
        if error:
            self.errors.append(str(error))
            return
        self.acknowledged += 1
        self.offsets[message.partition()].append(message.offset())

    def run(self):
        number = 0
        while not self.stop.is_set() and number < RECORDS_MAX:
            partition = number % PARTITIONS
            value = f"{partition}:{self.sent[partition]}:{BODY}"
            try:
                self.producer.produce(self.topic, value, partition=partition, on_delivery=self.delivered)
            except BufferError:
                self.producer.poll(0.01)
                continue
            self.sent[partition] += 1
            number += 1
            if number % 64 == 0:
                self.producer.poll(0)
        unanswered = self.producer.flush(SECONDS)
        if unanswered:
            self.errors.append(f"{unanswered} records without an answer")


class Commits(threading.Thread):
    """A group member that reads along and remembers the highest acknowledged commit of each partition."""

    def __init__(self, topic, group):
        super().__init__()
        self.stop, self.highest, self.disorder = threading.Event(), {}, []
        group_settings = {"group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
        self.reader = Consumer(RECONNECT | group_settings | {"session.timeout.ms": 45_000})
        self.reader.subscribe([topic])

    def run(self):
        expected = {}
        while not self.stop.is_set():
            for message in self.reader.consume(1000, timeout=0.1):
                if message.error():
                    continue  # The broker is being killed: librdkafka reports it and goes on.
                at = message.partition()
                if message.offset() > expected.get(at, message.offset()):
                    self.disorder.append(f"partition {at}: offset {message.offset()}, expected {expected[at]}")
                expected[at] = message.offset() + 1
            try:
                for done in self.reader.commit(asynchronous=False) or []:
                    if done.error is None and done.offset >= 0:
                        self.highest[done.partition] = max(done.offset, self.highest.get(done.partition, 0))
            except KafkaException:
                pass  # Nothing to commit, or the broker is away: not acknowledged, so nothing is promised.
        self.reader.close()


def read_back(topic, partition, check):
    """Calls `check` for every record of a partition in order; returns how many there were."""
    reader = Consumer(RECONNECT | {"group.id": unique("verify"), "enable.auto.commit": False})
    low, high = reader.get_watermark_offsets(TopicPartition(topic, partition), timeout=SECONDS)
    reader.assign([TopicPartition(topic, partition, low)])
    count, deadline = 0, time.monotonic() + 2 * SECONDS
    while count < high - low and time.monotonic() < deadline:
        for message in reader.consume(5000, timeout=1):
            if message.error():
                raise KafkaException(message.error())
            check(count, message)
            count += 1
    reader.close()
    return count


def verify_partition(topic, partition, load):
    problems = []

    def check(index, message):
        found = message.value().decode().split(":")[:2]
        if found != [str(partition), str(index)] and len(problems) < 3:
            problems.append(f"offset {message.offset()} holds {':'.join(found)}, expected {partition}:{index}")
        if index < len(load.offsets[partition]) and load.offsets[partition][index] != message.offset():
            if len(problems) < 3:
                problems.append(f"record {index} was acknowledged at {load.offsets[partition][index]}")

    count = read_back(topic, partition, check)
    if count != load.sent[partition]:
        sent, acknowledged = load.sent[partition], len(load.offsets[partition])
        problems.append(f"{count} records stored, {sent} sent, {acknowledged} acknowledged")
    return "; ".join(problems) or None


def main():
    control, chance = Control(), random.Random(SEED)
    topic, group = unique("kill"), unique("kill")
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(SECONDS)
    load, commits = Load(topic), Commits(topic, group)
    load.start()
    commits.start()
    ready, resumed = [], []
    try:
        for _ in range(KILLS):
            before, deadline = load.acknowledged, time.monotonic() + SECONDS
            while load.acknowledged == before and time.monotonic() < deadline:
                time.sleep(0.005)  # Each life must acknowledge something, or the kills would be one long kill.
            time.sleep(chance.uniform(0, 0.4))
            control.ask("kill")
            ready.append(control.ask("start"))
            started, at = time.monotonic(), load.acknowledged
            while load.acknowledged == at and time.monotonic() < started + SECONDS:
                time.sleep(0.001)
            resumed.append(ready[-1] + 1000 * (time.monotonic() - started))
    finally:
        load.stop.set()
        load.join()
        commits.stop.set()
        commits.join()
    print(f"# {KILLS} kills, seed {SEED}, {load.acknowledged} records acknowledged")
    print(f"# milliseconds from start to ready: median {statistics.median(ready):.0f}, worst {max(ready)}")
    median, worst = statistics.median(resumed), max(resumed)
    print(f"# milliseconds from start to next acknowledgement: median {median:.0f}, worst {worst:.0f}")
    results = {
        "every record is answered in the end": "; ".join(load.errors[:3]) or None,
        "the reader sees no gap": "; ".join(commits.disorder[:3]) or None,
    }
    for partition in range(PARTITIONS):
        name = f"partition {partition} holds each record once, in order, at its acknowledged offset"
        results[name] = verify_partition(topic, partition, load)
    reader = Consumer(RECONNECT | {"group.id": group})
    stored = reader.committed([TopicPartition(topic, p) for p in commits.highest], timeout=SECONDS)
    lost = [f"partition {p.partition}: {p.offset} < {commits.highest[p.partition]}" for p in stored
            if p.offset < commits.highest[p.partition]]
    reader.close()
    results[f"no acknowledged commit of {len(stored)} partitions is lost"] = "; ".join(lost) or None
    for name, problem in results.items():
        report(f"kill -9: {name}", problem)
    return 1 if any(results.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
