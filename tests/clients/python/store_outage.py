"""The object store answers nothing for a while under load: nobody notices but by waiting.

A librdkafka producer with default time limits, idempotent as Java's is by default, sends as fast as it can and a group
member reads along, while the store is away. Every record is acknowledged in the end without a restart of anybody, and
each partition holds exactly what was sent, in order, each record once and at its acknowledged offset.
"""

import time

from confluent_kafka.admin import AdminClient, NewTopic

from harness import BOOTSTRAP, Control, report, unique, until
from kill_nine import PARTITIONS, SECONDS, Commits, Load, verify_partition

OUTAGE_MS = 12_000
LOAD_SECONDS = 3


def more_than(load, count):
    until(lambda: load.acknowledged > count, SECONDS, f"more than {count} acknowledged records")


def main():
    control = Control()
    topic, group = unique("outage"), unique("outage")
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(SECONDS)
    load, commits = Load(topic), Commits(topic, group)
    load.start()
    commits.start()
    try:
        more_than(load, 0)
        time.sleep(LOAD_SECONDS)
        control.ask(f"outage {OUTAGE_MS}")
        time.sleep(OUTAGE_MS / 1000)
        before = load.acknowledged
        started = time.monotonic()
        more_than(load, before)
        resumed = time.monotonic() - started
        time.sleep(LOAD_SECONDS)
    finally:
        load.stop.set()
        load.join()
        commits.stop.set()
        commits.join()
    print(f"# {load.acknowledged} records acknowledged, {before} of them when the outage of {OUTAGE_MS} ms ended")
    print(f"# {resumed:.1f} s from its end to the next acknowledgement")
    results = {
        "every record is acknowledged in the end": "; ".join(load.errors[:3]) or None,
        "the reader sees no gap": "; ".join(commits.disorder[:3]) or None,
    }
    for partition in range(PARTITIONS):
        name = f"partition {partition} holds each record once, in order, at its acknowledged offset"
        results[name] = verify_partition(topic, partition, load)
    for name, problem in results.items():
        report(f"outage of the store: {name}", problem)
    return 1 if any(results.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
