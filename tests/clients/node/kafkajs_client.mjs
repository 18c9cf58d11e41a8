// Promises to users of kafkajs, the most used client in Node, which shares no code with the others.

import assert from "node:assert/strict";
import kafkajs from "kafkajs";
import {
  BOOTSTRAP, CODECS, CROSS_COUNT, control, crossTopic, crossValue, crossVerify, installCodecs, runChecks, unique, until,
} from "./harness.mjs";

const { AssignerProtocol, CompressionTypes, ConfigResourceTypes, Kafka, logLevel, Partitioners } = kafkajs;
const SECONDS = 30;
const TYPES = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
};

const kafka = new Kafka({
  clientId: "kafkajs-scenarios",
  brokers: [BOOTSTRAP],
  logLevel: logLevel.NOTHING,
  retry: { initialRetryTime: 50, retries: 12 },
});
const admin = kafka.admin();

async function create(prefix, numPartitions = 1, configEntries = []) {
  const topic = unique(prefix);
  await admin.createTopics({ waitForLeaders: true, topics: [{ topic, numPartitions, configEntries }] });
  return topic;
}

async function withProducer(options, body) {
  const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner, ...options });
  await producer.connect();
  try {
    return await body(producer);
  } finally {
    await producer.disconnect();
  }
}

/** A running consumer that collects what it gets. */
async function reader(groupId, topic, options = {}) {
  const consumer = kafka.consumer({
    groupId,
    sessionTimeout: 6000,
    heartbeatInterval: 500,
    rebalanceTimeout: 10000,
    maxWaitTimeInMs: 100, // A stopping consumer waits for its last fetch.
  });
  const received = [];
  const assignment = { partitions: [] };
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    assignment.partitions = payload.memberAssignment[topic] ?? [];
  });
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await consumer.run({
    autoCommitInterval: 200,
    eachMessage: async ({ partition, message }) => received.push({ partition, ...message }),
    ...options,
  });
  return { consumer, received, assignment };
}

async function readAll(topic) {
  const [{ low, high }] = await admin.fetchTopicOffsets(topic);
  const { consumer, received } = await reader(unique("read"), topic);
  try {
    await until(() => received.length >= Number(high) - Number(low), SECONDS, `all records of ${topic}`);
    return received;
  } finally {
    await consumer.disconnect();
  }
}

const numbered = (count, from = 0) => Array.from({ length: count }, (_, i) => ({ value: String(from + i) }));

const checks = {
  "records keep order, content and offsets with every codec": async () => {
    for (const codec of CODECS) {
      const topic = await create(`codec-${codec}`);
      const messages = Array.from({ length: 1000 }, (_, i) => ({ value: `${codec} ${i} `.repeat(8) }));
      await withProducer({}, (producer) => producer.send({ topic, messages, compression: TYPES[codec], acks: -1 }));
      const records = await readAll(topic);
      assert.deepEqual(records.map((r) => r.value.toString()), messages.map((m) => m.value));
      assert.deepEqual(records.map((r) => Number(r.offset)), [...records.keys()]);
    }
  },
  "an idempotent producer stores each record once": async () => {
    const topic = await create("idempotent", 2);
    await withProducer({ idempotent: true, maxInFlightRequests: 1 }, async (producer) => {
      for (let i = 0; i < 20; i++) await producer.send({ topic, messages: numbered(50, i * 50) });
    });
    const records = await readCount(topic, 1000);
    assert.equal(new Set(records.map((r) => r.value.toString())).size, 1000);
  },
  "keys, headers, tombstones and timestamps come back as they were sent": async () => {
    const topic = await create("fields");
    await withProducer({}, (producer) =>
      producer.send({
        topic,
        messages: [
          { key: "key", value: "value", headers: { a: "1", b: ["2", "3"] }, timestamp: "1600000000123" },
          { key: "tombstone", value: null },
        ],
      }),
    );
    const [first, second] = await readAll(topic);
    assert.deepEqual([first.key.toString(), first.value.toString()], ["key", "value"]);
    assert.equal(first.timestamp, "1600000000123");
    assert.equal(first.headers.a.toString(), "1");
    assert.deepEqual(first.headers.b.map(String), ["2", "3"]);
    assert.equal(second.value, null);
  },
  "a group rebalances over two members and resumes from its commits": async () => {
    const [topic, group] = [await create("group", 4), unique("group")];
    const members = [await reader(group, topic), await reader(group, topic)];
    await until(
      () => members.every(({ assignment }) => assignment.partitions.length === 2),
      SECONDS,
      "two partitions each",
    );
    await withProducer({}, (producer) =>
      producer.send({ topic, messages: numbered(400).map((m, i) => ({ ...m, partition: i % 4 })) }),
    );
    const total = () => new Set(members.flatMap(({ received }) => received.map((r) => r.value.toString()))).size;
    await until(() => total() === 400, SECONDS, "400 records read");
    const described = await admin.describeGroups([group]);
    assert.equal(described.groups[0].state, "Stable");
    assert.equal(described.groups[0].members.length, 2);
    const assigned = described.groups[0].members.flatMap(
      (m) => AssignerProtocol.MemberAssignment.decode(m.memberAssignment).assignment[topic],
    );
    assert.deepEqual(assigned.sort(), [0, 1, 2, 3]);
    for (const { consumer } of members) await consumer.disconnect();
    const [{ partitions }] = await admin.fetchOffsets({ groupId: group, topics: [topic] });
    assert.deepEqual(partitions.map((p) => p.offset), ["100", "100", "100", "100"]);
    await admin.deleteGroups([group]);
    const { groups } = await admin.listGroups();
    assert.ok(!groups.some((g) => g.groupId === group));
  },
  "offsets are found by time, reset and sought": async () => {
    const [topic, group] = [await create("times"), unique("times")];
    const base = 1_700_000_000_000;
    const messages = numbered(20).map((m, i) => ({ ...m, timestamp: String(base + i * 1000) }));
    await withProducer({}, (producer) => producer.send({ topic, messages }));
    const [found] = await admin.fetchTopicOffsetsByTimestamp(topic, base + 4500);
    assert.equal(found.offset, "5");
    await admin.setOffsets({ groupId: group, topic, partitions: [{ partition: 0, offset: "15" }] });
    const { consumer, received } = await reader(group, topic);
    await until(() => received.length >= 5, SECONDS, "records from the altered offset");
    assert.equal(received[0].offset, "15");
    consumer.seek({ topic, partition: 0, offset: "2" });
    await until(() => received.some((r) => r.offset === "2"), SECONDS, "records after seek");
    await consumer.disconnect();
  },
  "topics, configs and records are administered": async () => {
    const topic = await create("admin", 2, [{ name: "retention.ms", value: "1234" }]);
    assert.equal(await admin.createTopics({ topics: [{ topic }] }), false);
    const describe = () =>
      admin.describeConfigs({ includeSynonyms: false, resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }] });
    const value = async (name) =>
      (await describe()).resources[0].configEntries.find((e) => e.configName === name).configValue;
    assert.equal(await value("retention.ms"), "1234");
    const configEntries = [{ name: "retention.ms", value: "777000" }];
    await admin.alterConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries }] });
    await until(async () => (await value("retention.ms")) === "777000", SECONDS, "retention.ms altered");
    await admin.createPartitions({ topicPartitions: [{ topic, count: 4 }] });
    const count = async () => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length;
    await until(async () => (await count()) === 4, SECONDS, "4 partitions");
    const messages = numbered(10).map((m) => ({ ...m, partition: 0 }));
    await withProducer({}, (producer) => producer.send({ topic, messages }));
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: "5" }] });
    const offsets = await admin.fetchTopicOffsets(topic);
    assert.equal(offsets.find((o) => o.partition === 0).low, "5");
    const { brokers } = await admin.describeCluster();
    assert.deepEqual(brokers.map((b) => `${b.host}:${b.port}`), [BOOTSTRAP]);
    await admin.deleteTopics({ topics: [topic] });
    await until(async () => !(await admin.listTopics()).includes(topic), SECONDS, "the topic is gone");
  },
  "a producer and a group member go on over a restart of the broker": async () => {
    const topic = await create("restart");
    const { consumer, received } = await reader(unique("restart"), topic);
    await withProducer({ idempotent: true, maxInFlightRequests: 1 }, async (producer) => {
      await producer.send({ topic, messages: numbered(500) });
      await control("restart");
      await producer.send({ topic, messages: numbered(500, 500) });
    });
    await until(() => new Set(received.map((r) => r.offset)).size === 1000, 60, "1000 records read");
    await consumer.disconnect();
    const once = await readAll(topic);
    assert.deepEqual(once.map((r) => r.value.toString()), numbered(1000).map((m) => m.value));
  },
};

/** Reads `count` records of all partitions. */
async function readCount(topic, count) {
  const { consumer, received } = await reader(unique("read"), topic);
  await until(() => received.length >= count, SECONDS, `${count} records of ${topic}`);
  await consumer.disconnect();
  assert.equal(received.length, count);
  return received;
}

async function crossWrite() {
  for (const codec of CODECS) {
    const messages = Array.from({ length: CROSS_COUNT }, (_, i) => ({
      key: String(i),
      value: crossValue("kafkajs", codec, i),
    }));
    const topic = crossTopic("kafkajs", codec);
    await withProducer({}, (producer) => producer.send({ topic, messages, compression: TYPES[codec] }));
  }
  console.log("ok - kafkajs writes with every codec");
  return true;
}

async function crossRead(writers) {
  let fine = true;
  for (const writer of writers) {
    for (const codec of CODECS) {
      const records = await readAll(crossTopic(writer, codec));
      const pairs = records.map((r) => [r.key.toString(), r.value.toString()]);
      fine = crossVerify("kafkajs", writer, codec, pairs) && fine;
    }
  }
  return fine;
}

const [mode = "scenarios", ...rest] = process.argv.slice(2);
const modes = {
  scenarios: () => runChecks("kafkajs", checks, rest[0]),
  "cross-write": crossWrite,
  "cross-read": () => crossRead(rest),
};
await installCodecs();
await admin.connect();
const fine = await modes[mode]();
await admin.disconnect();
process.exit(fine ? 0 : 1);
