import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Promises about share groups (KIP-932) to Java clients and to operators. */
final class ShareChecks {
    private static final int SECONDS = 60;

    private ShareChecks() {}

    static void run(Harness harness) {
        harness.check("two share consumers on one partition share its records", ShareChecks::sharing);
        harness.check("released records come back, rejected ones do not", ShareChecks::verdicts);
        harness.check("a record whose lock has run out goes to somebody else", ShareChecks::lockTimeout);
        harness.check("a group of committed records is given nothing undecided or aborted", ShareChecks::committed);
        harness.check("a group starts a duration ago", ShareChecks::durationAgo);
        harness.check("after kill -9 nothing acknowledged is redelivered and nothing is lost", ShareChecks::killNine);
        harness.check("kafka-share-groups describes, resets and deletes", ShareChecks::groupTool);
        harness.check("kafka-console-share-consumer starts where it is told", ShareChecks::consoleTool);
    }

    private static String topic() throws Exception {
        String topic = Harness.unique("java-share");
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", Harness.BOOTSTRAP))) {
            admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all().get();
        }
        return topic;
    }

    private static KafkaShareConsumer<String, String> consumer(String group, String topic) {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", Harness.BOOTSTRAP);
        settings.put("group.id", group);
        settings.put("share.acknowledgement.mode", "explicit");
        settings.put("max.poll.records", 10);
        KafkaShareConsumer<String, String> consumer =
                new KafkaShareConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
        consumer.subscribe(List.of(topic));
        return consumer;
    }

    /** Each record in a batch of its own. */
    private static void write(String topic, String prefix, int count) throws Exception {
        try (KafkaProducer<String, String> producer = ApiChecks.producer("none")) {
            for (int index = 0; index < count; index++) {
                producer.send(new ProducerRecord<>(topic, 0, null, prefix + index)).get();
            }
        }
    }

    private static List<ConsumerRecord<String, String>> poll(KafkaShareConsumer<String, String> consumer) {
        List<ConsumerRecord<String, String>> records = new ArrayList<>();
        consumer.poll(Duration.ofMillis(500)).forEach(records::add);
        return records;
    }

    private static void accept(KafkaShareConsumer<String, String> consumer, List<ConsumerRecord<String, String>> them) {
        them.forEach(it -> consumer.acknowledge(it, AcknowledgeType.ACCEPT));
        consumer.commitSync().values().forEach(error -> error.ifPresent(it -> {
            throw it;
        }));
    }

    /** A share group starts at the end: polls until it has started, and leaves nothing behind. */
    private static KafkaShareConsumer<String, String> started(String group, String topic) throws Exception {
        KafkaShareConsumer<String, String> consumer = consumer(group, topic);
        Set<String> seen = new HashSet<>();
        int[] written = {0};
        Harness.until("the share group starts", SECONDS, () -> {
            write(topic, "start" + written[0]++ + "-", 1);
            List<ConsumerRecord<String, String>> records = poll(consumer);
            accept(consumer, records);
            records.forEach(it -> seen.add(it.value()));
            return !seen.isEmpty();
        });
        String last = "start" + (written[0] - 1) + "-0";
        Harness.until("what was written to start it is read", SECONDS, () -> {
            List<ConsumerRecord<String, String>> records = poll(consumer);
            accept(consumer, records);
            records.forEach(it -> seen.add(it.value()));
            return seen.contains(last);
        });
        return consumer;
    }

    private static void sharing() throws Exception {
        String topic = topic();
        String group = Harness.unique("java-sharers");
        Set<String> first = new TreeSet<>();
        Set<String> second = new TreeSet<>();
        try (KafkaShareConsumer<String, String> a = started(group, topic);
                KafkaShareConsumer<String, String> b = consumer(group, topic)) {
            Harness.until("the second member has its share", SECONDS, () -> {
                write(topic, "both-", 20);
                for (KafkaShareConsumer<String, String> it : List.of(a, b)) {
                    List<ConsumerRecord<String, String>> records = poll(it);
                    accept(it, records);
                    records.forEach(record -> (it == a ? first : second).add(record.offset() + ""));
                }
                return !first.isEmpty() && !second.isEmpty();
            });
            Harness.until("all is read", SECONDS, () -> {
                int before = first.size() + second.size();
                for (KafkaShareConsumer<String, String> it : List.of(a, b)) {
                    List<ConsumerRecord<String, String>> records = poll(it);
                    accept(it, records);
                    records.forEach(record -> (it == a ? first : second).add(record.offset() + ""));
                }
                return before == first.size() + second.size();
            });
        }
        Set<String> both = new HashSet<>(first);
        both.retainAll(second);
        Harness.equal(Set.of(), both, "records that both were given");
    }

    private static void verdicts() throws Exception {
        String topic = topic();
        try (KafkaShareConsumer<String, String> consumer = started(Harness.unique("java-verdicts"), topic)) {
            write(topic, "value-", 6);
            Map<String, Integer> deliveries = new HashMap<>();
            Set<String> accepted = new TreeSet<>();
            Harness.until("all is decided", SECONDS, () -> {
                for (ConsumerRecord<String, String> record : poll(consumer)) {
                    int count = record.deliveryCount().orElseThrow();
                    Harness.equal(deliveries.merge(record.value(), 1, Integer::sum), count, record.value());
                    int number = Integer.parseInt(record.value().substring("value-".length()));
                    if (number % 3 == 0) {
                        consumer.acknowledge(record, AcknowledgeType.REJECT);
                    } else if (number % 3 == 1 && count < 3) {
                        consumer.acknowledge(record, AcknowledgeType.RELEASE);
                    } else {
                        consumer.acknowledge(record, AcknowledgeType.ACCEPT);
                        accepted.add(record.value());
                    }
                }
                consumer.commitSync();
                return accepted.size() == 4;
            });
            Harness.equal(List.of(), poll(consumer), "records after the last one");
            Harness.equal(Map.of("value-0", 1, "value-1", 3, "value-2", 1, "value-3", 1, "value-4", 3, "value-5", 1),
                    deliveries, "deliveries");
        }
    }

    private static void lockTimeout() throws Exception {
        String topic = topic();
        String group = Harness.unique("java-locks");
        try (KafkaShareConsumer<String, String> slow = started(group, topic)) {
            // In one batch, which is given as a whole.
            try (KafkaProducer<String, String> producer = ApiChecks.producer("none")) {
                within(producer, topic, "late-", 2);
            }
            List<ConsumerRecord<String, String>> held = new ArrayList<>();
            Harness.until("the slow member has the records", SECONDS, () -> held.addAll(poll(slow)));
            Harness.equal(2, held.size(), "records of the slow member");
            try (KafkaShareConsumer<String, String> other = consumer(group, topic)) {
                List<ConsumerRecord<String, String>> records = new ArrayList<>();
                Harness.until("the other member gets it", SECONDS, () -> records.addAll(poll(other)));
                Harness.equal("late-0", records.get(0).value(), "the record");
                Harness.equal(2, (int) records.get(0).deliveryCount().orElseThrow(), "its deliveries");
                // The first one stays open: Kafka says nothing of records below all that is open.
                Harness.equal(2, records.size(), "records of the other member");
                accept(other, records.subList(1, 2));
                slow.acknowledge(held.get(1), AcknowledgeType.ACCEPT);
                boolean refused = slow.commitSync().values().stream().allMatch(it -> it.isPresent());
                Harness.that(refused, "the slow member is told that it was too late");
            }
        }
    }

    private static void configure(String group, String... pairs) throws Exception {
        List<AlterConfigOp> operations = new ArrayList<>();
        for (int index = 0; index < pairs.length; index += 2) {
            ConfigEntry entry = new ConfigEntry(pairs[index], pairs[index + 1]);
            operations.add(new AlterConfigOp(entry, AlterConfigOp.OpType.SET));
        }
        ConfigResource resource = new ConfigResource(ConfigResource.Type.GROUP, group);
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", Harness.BOOTSTRAP))) {
            admin.incrementalAlterConfigs(Map.of(resource, operations)).all().get();
        }
    }

    private static KafkaProducer<String, String> transactional(String id) {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", Harness.BOOTSTRAP);
        settings.put("transactional.id", id);
        KafkaProducer<String, String> producer =
                new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
        producer.initTransactions();
        producer.beginTransaction();
        return producer;
    }

    /** So many records, in a batch as a rule, and in the producer's transaction if it has one. */
    private static void within(KafkaProducer<String, String> producer, String topic, String prefix, int count)
            throws Exception {
        for (int index = 0; index < count; index++) {
            producer.send(new ProducerRecord<>(topic, 0, null, prefix + index));
        }
        producer.flush();
    }

    private static void committed() throws Exception {
        String topic = topic();
        String group = Harness.unique("java-committed");
        configure(group, "share.isolation.level", "read_committed", "share.auto.offset.reset", "earliest");
        List<String> seen = new ArrayList<>();
        try (KafkaProducer<String, String> aborting = transactional(Harness.unique("java-share-aborting"));
                KafkaProducer<String, String> deciding = transactional(Harness.unique("java-share-deciding"));
                KafkaShareConsumer<String, String> consumer = consumer(group, topic)) {
            write(topic, "plain-", 2);
            within(aborting, topic, "aborted-", 30);
            within(deciding, topic, "decided-", 3);
            aborting.abortTransaction();
            write(topic, "behind-", 2);
            Harness.until("what is decided is read", SECONDS, () -> {
                take(consumer, seen);
                return seen.size() >= 2;
            });
            take(consumer, seen);
            Harness.equal(List.of("plain-0", "plain-1"), seen, "before the open transaction");
            deciding.commitTransaction();
            Harness.until("the rest is read", SECONDS, () -> {
                take(consumer, seen);
                return seen.size() >= 7;
            });
            // A whole row of aborted records, more than a poll brings, and what follows.
            aborting.beginTransaction();
            within(aborting, topic, "aborted-again-", 200);
            aborting.abortTransaction();
            write(topic, "last-", 1);
            Harness.until("what follows is read", SECONDS, () -> {
                take(consumer, seen);
                return seen.contains("last-0");
            });
        }
        Harness.equal(List.of("plain-0", "plain-1", "decided-0", "decided-1", "decided-2", "behind-0", "behind-1",
                "last-0"), seen, "what the group was given");
    }

    private static void take(KafkaShareConsumer<String, String> consumer, List<String> seen) {
        List<ConsumerRecord<String, String>> records = poll(consumer);
        accept(consumer, records);
        records.forEach(it -> seen.add(it.value()));
    }

    private static void durationAgo() throws Exception {
        String topic = topic();
        String group = Harness.unique("java-ago");
        long now = System.currentTimeMillis();
        try (KafkaProducer<String, String> producer = ApiChecks.producer("none")) {
            for (int minutes : new int[] {180, 90, 30, 1}) {
                long timestamp = now - minutes * 60_000L;
                producer.send(new ProducerRecord<>(topic, 0, timestamp, null, minutes + " minutes")).get();
            }
        }
        configure(group, "share.auto.offset.reset", "by_duration:PT1H");
        List<String> seen = new ArrayList<>();
        try (KafkaShareConsumer<String, String> consumer = consumer(group, topic)) {
            Harness.until("the last one is read", SECONDS, () -> {
                take(consumer, seen);
                return seen.contains("1 minutes");
            });
        }
        Harness.equal(List.of("30 minutes", "1 minutes"), seen, "what the group was given");
        try {
            configure(group, "share.auto.offset.reset", "by_duration:-PT1H");
            Harness.that(false, "a negative duration is refused");
        } catch (ExecutionException refused) {
            Harness.that(refused.getCause() instanceof InvalidConfigurationException, "the error: " + refused);
        }
    }

    private static void killNine() throws Exception {
        String topic = topic();
        String group = Harness.unique("java-kill");
        Set<String> acknowledged = new TreeSet<>();
        Set<String> delivered = new TreeSet<>();
        Set<String> all = new TreeSet<>();
        for (int index = 0; index < 60; index++) {
            all.add("value-" + index);
        }
        try (KafkaShareConsumer<String, String> consumer = started(group, topic)) {
            write(topic, "value-", 60);
            Harness.until("half of it is acknowledged", SECONDS, () -> {
                List<ConsumerRecord<String, String>> records = poll(consumer);
                accept(consumer, records);
                records.forEach(it -> acknowledged.add(it.value()));
                return acknowledged.size() >= 30;
            });
            Harness.until("more is delivered and not acknowledged", SECONDS, () -> !poll(consumer).isEmpty());
            Harness.control("kill");
            Harness.control("start");
            consumer.close(Duration.ofSeconds(1));
        }
        try (KafkaShareConsumer<String, String> consumer = consumer(group, topic)) {
            Harness.until("the rest is delivered", SECONDS, () -> {
                List<ConsumerRecord<String, String>> records = poll(consumer);
                records.forEach(it -> delivered.add(it.value()));
                accept(consumer, records);
                return acknowledged.size() + delivered.size() >= all.size();
            });
            Harness.equal(List.of(), poll(consumer), "records after the last one");
        }
        Set<String> twice = new TreeSet<>(acknowledged);
        twice.retainAll(delivered);
        Harness.equal(Set.of(), twice, "redelivered although acknowledged");
        delivered.addAll(acknowledged);
        Harness.equal(all, delivered, "delivered at all");
    }

    private static String tool(String... arguments) throws Exception {
        String[] all = new String[arguments.length + 2];
        all[0] = "--bootstrap-server";
        all[1] = Harness.BOOTSTRAP;
        System.arraycopy(arguments, 0, all, 2, arguments.length);
        return Tools.run("consumer.group.ShareGroupCommand", all).fine();
    }

    private static void groupTool() throws Exception {
        String topic = topic();
        String group = Harness.unique("java-tool");
        try (KafkaShareConsumer<String, String> consumer = started(group, topic)) {
            Harness.contains(tool("--list"), group);
            Harness.contains(tool("--describe", "--group", group, "--members"), topic);
            Harness.contains(tool("--describe", "--group", group, "--state"), "Stable");
        }
        write(topic, "again-", 3);
        Harness.contains(tool("--describe", "--group", group), topic);
        tool("--reset-offsets", "--group", group, "--topic", topic, "--to-earliest", "--execute");
        try (KafkaShareConsumer<String, String> consumer = consumer(group, topic)) {
            Set<String> seen = new TreeSet<>();
            Harness.until("it begins anew", SECONDS, () -> {
                List<ConsumerRecord<String, String>> records = poll(consumer);
                accept(consumer, records);
                records.forEach(it -> seen.add(it.value()));
                return seen.contains("start0-0") && seen.contains("again-2");
            });
        }
        tool("--delete-offsets", "--group", group, "--topic", topic);
        String described = tool("--describe", "--group", group);
        Harness.that(!described.contains(topic), "its offsets are gone: " + described);
        tool("--delete", "--group", group);
        Harness.that(!tool("--list").contains(group), "it is gone");
        // Of a group that nobody was ever in.
        tool("--reset-offsets", "--group", group, "--topic", topic, "--to-earliest", "--execute");
        Harness.contains(tool("--describe", "--group", group, "--state"), "Empty");
        try (KafkaShareConsumer<String, String> consumer = consumer(group, topic)) {
            Set<String> seen = new TreeSet<>();
            Harness.until("it begins where that was set", SECONDS, () -> {
                List<ConsumerRecord<String, String>> records = poll(consumer);
                accept(consumer, records);
                records.forEach(it -> seen.add(it.value()));
                return seen.contains("start0-0") && seen.contains("again-2");
            });
        }
    }

    private static void consoleTool() throws Exception {
        String topic = topic();
        String group = Harness.unique("java-console");
        write(topic, "shown-", 2);
        Tools.run("kafka.admin.ConfigCommand", "--bootstrap-server", Harness.BOOTSTRAP, "--alter", "--entity-type",
                "groups", "--entity-name", group, "--add-config", "share.auto.offset.reset=earliest").fine();
        String output = Tools.process("", "consumer.ConsoleShareConsumer", "--bootstrap-server", Harness.BOOTSTRAP,
                "--topic", topic, "--group", group, "--max-messages", "2").fine();
        Harness.contains(output, "shown-0");
        Harness.contains(output, "shown-1");
    }
}
