import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Promises about transactions to Java clients, which follow the new rules (KIP-890), and to operators. */
final class TransactionChecks {
    private static final int SECONDS = 30;

    private TransactionChecks() {}

    static void run(Harness harness) {
        harness.check("committed records are read, aborted ones are not", TransactionChecks::commitsAndAborts);
        harness.check("a new producer fences the old one and aborts what it left open", TransactionChecks::fencing);
        harness.check("offsets in a transaction count with its records", TransactionChecks::offsets);
        harness.check("consumed, transformed and produced once, while a consumer group rebalances",
                () -> exactlyOnce("consumer"));
        harness.check("consumed, transformed and produced once, while a classic group rebalances",
                () -> exactlyOnce("classic"));
        harness.check("transactions over a compacted topic keep the newest committed value",
                TransactionChecks::compacted);
        harness.check("kafka-transactions lists, describes and aborts", TransactionChecks::tool);
    }

    private static KafkaProducer<String, String> producer(String id) {
        KafkaProducer<String, String> producer = new KafkaProducer<>(
                Map.of("bootstrap.servers", Harness.BOOTSTRAP, "transactional.id", id, "linger.ms", 5),
                new StringSerializer(), new StringSerializer());
        producer.initTransactions();
        return producer;
    }

    private static KafkaConsumer<String, String> consumer(String group, String isolation) {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", Harness.BOOTSTRAP);
        settings.put("group.id", group);
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", false);
        settings.put("isolation.level", isolation);
        return new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
    }

    /** All values as this isolation sees them, up to the end it is told. */
    private static List<String> values(String topic, String isolation) {
        TopicPartition partition = new TopicPartition(topic, 0);
        List<String> values = new ArrayList<>();
        try (KafkaConsumer<String, String> reader = consumer(Harness.unique("reader"), isolation)) {
            reader.assign(List.of(partition));
            reader.seekToBeginning(List.of(partition));
            long end = reader.endOffsets(List.of(partition)).get(partition);
            long deadline = System.nanoTime() + SECONDS * 1_000_000_000L;
            while (reader.position(partition) < end) {
                Harness.that(System.nanoTime() < deadline, "the end of " + topic + " was not reached");
                reader.poll(Duration.ofMillis(200)).forEach(it -> values.add(it.value()));
            }
        }
        return values;
    }

    private static void commitsAndAborts() throws Exception {
        String topic = Harness.unique("java-transactions");
        List<String> kept = new ArrayList<>();
        try (KafkaProducer<String, String> producer = producer(Harness.unique("tx"))) {
            for (int number = 0; number < 10; number++) {
                producer.beginTransaction();
                for (int index = 0; index < 20; index++) {
                    String value = number + "-" + index;
                    producer.send(new ProducerRecord<>(topic, 0, null, value));
                    if (number % 3 != 0) {
                        kept.add(value);
                    }
                }
                producer.flush();
                if (number % 3 == 0) {
                    producer.abortTransaction();
                } else {
                    producer.commitTransaction();
                }
            }
        }
        Harness.equal(kept, values(topic, "read_committed"), "committed values");
        Harness.equal(200, values(topic, "read_uncommitted").size(), "all values");
    }

    private static void fencing() throws Exception {
        String topic = Harness.unique("java-fenced");
        String id = Harness.unique("tx");
        try (KafkaProducer<String, String> old = producer(id)) {
            old.beginTransaction();
            old.send(new ProducerRecord<>(topic, 0, null, "old")).get();
            try (KafkaProducer<String, String> next = producer(id)) {
                next.beginTransaction();
                next.send(new ProducerRecord<>(topic, 0, null, "new")).get();
                boolean fenced = false;
                try {
                    old.commitTransaction();
                } catch (ProducerFencedException expected) {
                    fenced = true;
                }
                Harness.that(fenced, "the old producer is fenced");
                next.commitTransaction();
            } finally {
                old.close(Duration.ZERO);
            }
        }
        Harness.equal(List.of("new"), values(topic, "read_committed"), "committed values");
    }

    private static void offsets() throws Exception {
        String source = Harness.unique("java-source");
        String target = Harness.unique("java-target");
        String group = Harness.unique("java-group");
        TopicPartition partition = new TopicPartition(source, 0);
        try (KafkaProducer<String, String> writer = ApiChecks.producer("none")) {
            writer.send(new ProducerRecord<>(source, 0, null, "in")).get();
        }
        try (KafkaProducer<String, String> producer = producer(Harness.unique("tx"));
                KafkaConsumer<String, String> reader = consumer(group, "read_committed")) {
            reader.assign(List.of(partition));
            for (boolean commit : new boolean[] {false, true}) {
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(target, 0, null, "out"));
                producer.sendOffsetsToTransaction(
                        Map.of(partition, new OffsetAndMetadata(1)), reader.groupMetadata());
                boolean pending = false;
                try {
                    reader.committed(Set.of(partition), Duration.ofMillis(500));
                } catch (TimeoutException expected) {
                    pending = true; // UNSTABLE_OFFSET_COMMIT is asked again until it is stable.
                }
                Harness.that(pending, "pending offsets are not told");
                if (commit) {
                    producer.commitTransaction();
                } else {
                    producer.abortTransaction();
                }
                OffsetAndMetadata known = reader.committed(Set.of(partition)).get(partition);
                Harness.equal(commit, known != null && known.offset() == 1, "the offset is committed");
            }
        }
        Harness.equal(List.of("out"), values(target, "read_committed"), "committed values");
    }

    /** Copies from one topic to another, each poll in a transaction of its own, until it is stopped. */
    private static final class Copier implements AutoCloseable {
        private final Thread thread;
        private volatile boolean stopped;
        private volatile Throwable failure;
        final AtomicInteger commits = new AtomicInteger();
        final AtomicInteger refusals = new AtomicInteger();

        Copier(String protocol, String group, String source, String target) {
            thread = new Thread(() -> {
                try {
                    copy(protocol, group, source, target);
                } catch (Throwable problem) {
                    failure = problem;
                }
            });
            thread.start();
        }

        private void copy(String protocol, String group, String source, String target) {
            try (KafkaProducer<String, String> producer = producer(Harness.unique("copier"));
                    KafkaConsumer<String, String> reader = ApiChecks.consumer(group, settings(protocol))) {
                reader.subscribe(List.of(source));
                while (!stopped) {
                    ConsumerRecords<String, String> records = reader.poll(Duration.ofMillis(100));
                    if (records.isEmpty()) {
                        continue;
                    }
                    producer.beginTransaction();
                    try {
                        Map<TopicPartition, OffsetAndMetadata> done = new HashMap<>();
                        for (TopicPartition partition : records.partitions()) {
                            List<ConsumerRecord<String, String>> them = records.records(partition);
                            them.forEach(it -> producer.send(new ProducerRecord<>(target, 0, null, it.value())));
                            done.put(partition, new OffsetAndMetadata(them.get(them.size() - 1).offset() + 1));
                        }
                        producer.sendOffsetsToTransaction(done, reader.groupMetadata());
                        producer.commitTransaction();
                        commits.incrementAndGet();
                    } catch (ProducerFencedException fenced) {
                        throw fenced;
                    } catch (KafkaException refused) {
                        // The group has moved on: what was read is somebody else's, or is read again.
                        refusals.incrementAndGet();
                        producer.abortTransaction();
                        Set<TopicPartition> owned = reader.assignment();
                        Map<TopicPartition, OffsetAndMetadata> known = reader.committed(owned);
                        for (TopicPartition partition : owned) {
                            OffsetAndMetadata at = known.get(partition);
                            reader.seek(partition, at == null ? 0 : at.offset());
                        }
                    }
                }
            }
        }

        private static String[] settings(String protocol) {
            return new String[] {"group.protocol", protocol, "isolation.level", "read_committed",
                "max.poll.records", "20"};
        }

        void fine() {
            if (failure != null) {
                throw new AssertionError("a copier failed: " + failure, failure);
            }
        }

        @Override
        public void close() throws Exception {
            stopped = true;
            thread.join(SECONDS * 1000L);
            Harness.that(!thread.isAlive(), "the copier stops");
        }
    }

    private static void exactlyOnce(String protocol) throws Exception {
        int partitions = 4;
        int count = 2000;
        String source = GroupChecks.newTopic("java-source", partitions);
        String target = GroupChecks.newTopic("java-target", 1);
        String group = GroupChecks.newGroup();
        List<Copier> copiers = new ArrayList<>();
        try (KafkaProducer<String, String> writer = ApiChecks.producer("none")) {
            copiers.add(new Copier(protocol, group, source, target));
            for (int index = 0; index < count; index++) {
                writer.send(new ProducerRecord<>(source, index % partitions, null, String.valueOf(index)));
                if (index == count / 4) {
                    writer.flush();
                    Harness.until("the first copier is at work", SECONDS, () -> copiers.get(0).commits.get() > 0);
                    copiers.add(new Copier(protocol, group, source, target));
                    Harness.until("the second copier is at work", SECONDS, () -> {
                        writer.send(new ProducerRecord<>(source, 0, null, "more"));
                        return copiers.get(1).commits.get() > 0 || groupSize(group) == 2;
                    });
                }
                if (index == count / 2) {
                    copiers.get(0).close();
                    copiers.add(new Copier(protocol, group, source, target));
                }
            }
            writer.flush();
            Set<String> expected = IntStream.range(0, count).mapToObj(String::valueOf).collect(Collectors.toSet());
            Harness.until("everything is copied", 2 * SECONDS, () -> {
                copiers.forEach(Copier::fine);
                return new HashSet<>(values(target, "read_committed")).containsAll(expected);
            });
        } finally {
            for (Copier copier : copiers) {
                copier.close();
            }
        }
        copiers.forEach(Copier::fine);
        List<String> copied = new ArrayList<>(values(target, "read_committed"));
        copied.removeIf("more"::equals);
        Harness.equal(count, copied.size(), "each value once");
    }

    private static int groupSize(String group) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", Harness.BOOTSTRAP))) {
            return admin.describeConsumerGroups(List.of(group)).all().get().get(group).members().size();
        }
    }

    private static void compacted() throws Exception {
        String source = Harness.unique("java-compacted");
        String target = GroupChecks.newTopic("java-target", 1);
        int keys = 20;
        int rounds = 30;
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", Harness.BOOTSTRAP))) {
            admin.createTopics(List.of(new NewTopic(source, 1, (short) 1).configs(Map.of("cleanup.policy", "compact",
                    "min.cleanable.dirty.ratio", "0.0", "segment.ms", "100", "delete.retention.ms", "0",
                    "segment.bytes", "1048576")))).all().get();
        }
        Map<String, String> newest = new HashMap<>();
        try (KafkaProducer<String, String> producer = producer(Harness.unique("tx"))) {
            for (int round = 0; round < rounds; round++) {
                boolean commits = round % 3 != 2;
                producer.beginTransaction();
                for (int key = 0; key < keys; key++) {
                    String value = round + "-" + key;
                    producer.send(new ProducerRecord<>(source, 0, "k" + key, value));
                    if (commits) {
                        newest.put("k" + key, value);
                    }
                }
                if (commits) {
                    producer.commitTransaction();
                } else {
                    producer.flush();
                    producer.abortTransaction();
                }
            }
            TopicPartition partition = new TopicPartition(source, 0);
            Map<String, String> seen = new HashMap<>();
            String group = Harness.unique("java-group");
            try (KafkaConsumer<String, String> reader = consumer(group, "read_committed")) {
                reader.assign(List.of(partition));
                long end = reader.endOffsets(List.of(partition)).get(partition);
                long deadline = System.nanoTime() + SECONDS * 1_000_000_000L;
                while (reader.position(partition) < end) {
                    Harness.that(System.nanoTime() < deadline, "the end of " + source + " was not reached");
                    ConsumerRecords<String, String> records = reader.poll(Duration.ofMillis(200));
                    if (records.isEmpty()) {
                        continue;
                    }
                    producer.beginTransaction();
                    for (ConsumerRecord<String, String> it : records) {
                        Harness.that(Integer.parseInt(it.value().split("-")[0]) % 3 != 2, "aborted: " + it.value());
                        seen.put(it.key(), it.value());
                        producer.send(new ProducerRecord<>(target, 0, it.key(), it.value()));
                    }
                    producer.sendOffsetsToTransaction(
                            Map.of(partition, new OffsetAndMetadata(reader.position(partition))),
                            reader.groupMetadata());
                    producer.commitTransaction();
                }
                Harness.equal(end, reader.committed(Set.of(partition)).get(partition).offset(), "committed offset");
            }
            Harness.equal(newest, seen, "the newest committed value of every key");
        }
    }

    private static String transactions(String... arguments) throws Exception {
        String[] all = new String[arguments.length + 2];
        all[0] = "--bootstrap-server";
        all[1] = Harness.BOOTSTRAP;
        System.arraycopy(arguments, 0, all, 2, arguments.length);
        return Tools.run("TransactionsCommand", all).fine();
    }

    private static void tool() throws Exception {
        String topic = Harness.unique("java-hanging");
        String id = Harness.unique("tx");
        try (KafkaProducer<String, String> producer = producer(id)) {
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, 0, null, "open")).get();
            Harness.contains(transactions("list"), id);
            String described = transactions("describe", "--transactional-id", id);
            Harness.contains(described, "Ongoing");
            Harness.contains(described, topic + "-0");
            Harness.contains(transactions("describe-producers", "--topic", topic, "--partition", "0"), "0");
            transactions("find-hanging", "--topic", topic);
            transactions("abort", "--topic", topic, "--partition", "0", "--start-offset", "0");
            Harness.equal(List.of(), values(topic, "read_committed"), "committed values");
            try {
                producer.abortTransaction();
            } catch (KafkaException ended) {
                // Its partition is ahead of it; what it says to that is its own affair.
                producer.close(Duration.ZERO);
            }
        }
        Harness.that(values(topic, "read_committed").isEmpty(), "what was aborted stays so");
    }
}
