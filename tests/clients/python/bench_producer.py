"""One librdkafka producer as fast as it goes: TOPIC SIZE MEGABYTES [idempotent]. Prints a line of JSON."""

import json
import os
import sys
import time

from confluent_kafka import Producer

topic, size, megabytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
idempotent = "idempotent" in sys.argv[4:]
payload = os.urandom(size)
count = megabytes * 1_000_000 // size
failures = []


def delivered(error, _message):
    if error:
        failures.append(str(error))


# Defaults. With idempotence, as is Java's default, librdkafka 2.16 has one request under way to a partition.
producer = Producer({"bootstrap.servers": os.environ["BOOTSTRAP"], "enable.idempotence": idempotent})
started = time.monotonic()
for _ in range(count):
    while True:
        try:
            producer.produce(topic, payload, on_delivery=delivered)
            break
        except BufferError:
            producer.poll(0.1)
producer.flush()
seconds = time.monotonic() - started
if failures:
    sys.exit(failures[0])
print(json.dumps({"mb_s": count * size / 1e6 / seconds}))
