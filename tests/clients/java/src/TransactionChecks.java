import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
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
