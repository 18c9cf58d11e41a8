import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.DescribeReplicaLogDirsResult.ReplicaLogDirInfo;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.QuorumInfo;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionReplica;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.LogDirNotFoundException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Promises to programs that use Kafka's Java clients, and the Java side of the cross-client checks. */
final class ApiChecks {
    private static final int SECONDS = 30;

    private ApiChecks() {}

    static void run(Harness harness) {
        harness.check("an idempotent producer's records keep order and content with every codec", ApiChecks::codecs);
        harness.check("a batch over the topic's limit is refused for good", ApiChecks::tooLarge);
        harness.check("a cooperative group rebalances without losing records", ApiChecks::cooperativeGroup);
        harness.check("the admin client creates, alters, reads offsets and deletes", ApiChecks::admin);
        harness.check("the admin client describes the quorum of the metadata and the directories of replicas",
                ApiChecks::nodes);
        harness.check("commits, seeks and times agree", ApiChecks::offsets);
        harness.check("a producer and a consumer go on over a restart of the broker", ApiChecks::restart);
    }

    static KafkaProducer<String, String> producer(String codec) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", Harness.BOOTSTRAP);
        settings.put("compression.type", codec);
        settings.put("linger.ms", "5");
        return new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
    }

    static KafkaConsumer<String, String> consumer(String group, String... more) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", Harness.BOOTSTRAP);
        settings.put("group.id", group);
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        for (int i = 0; i < more.length; i += 2) {
            settings.put(more[i], more[i + 1]);
        }
        if (!"consumer".equals(settings.get("group.protocol"))) {
            // In the consumer protocol these are the coordinator's, and setting them is an error.
            settings.putIfAbsent("session.timeout.ms", "6000");
            settings.putIfAbsent("heartbeat.interval.ms", "500");
        }
        return new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
    }

    private static Admin adminClient() {
        return Admin.create(Map.of("bootstrap.servers", Harness.BOOTSTRAP));
    }

    private static String newTopic(String prefix, int partitions, Map<String, String> configs) throws Exception {
        String topic = Harness.unique(prefix);
        try (Admin admin = adminClient()) {
            admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(configs))).all().get();
        }
        return topic;
    }

    private static List<ConsumerRecord<String, String>> take(KafkaConsumer<String, String> consumer, int count) {
        List<ConsumerRecord<String, String>> records = new ArrayList<>();
        long deadline = System.nanoTime() + SECONDS * 1_000_000_000L;
        while (records.size() < count && System.nanoTime() < deadline) {
            consumer.poll(Duration.ofMillis(200)).forEach(records::add);
        }
        Harness.equal(count, records.size(), "records received");
        return records;
    }

    /** Everything in partition 0. */
    private static List<ConsumerRecord<String, String>> readAll(String topic) {
        TopicPartition partition = new TopicPartition(topic, 0);
        try (KafkaConsumer<String, String> consumer = consumer(Harness.unique("read"))) {
            consumer.assign(List.of(partition));
            long low = consumer.beginningOffsets(List.of(partition)).get(partition);
            long high = consumer.endOffsets(List.of(partition)).get(partition);
            consumer.seek(partition, low);
            return take(consumer, (int) (high - low));
        }
    }

    private static void codecs() throws Exception {
        for (String codec : Harness.CODECS) {
            String topic = newTopic("java-" + codec, 1, Map.of());
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            try (KafkaProducer<String, String> producer = producer(codec)) {
                for (int i = 0; i < 2000; i++) {
                    sent.add(producer.send(new ProducerRecord<>(topic, 0, "k" + i, (codec + i).repeat(5))));
                }
            }
            List<ConsumerRecord<String, String>> records = readAll(topic);
            for (int i = 0; i < 2000; i++) {
                Harness.equal((long) i, sent.get(i).get().offset(), "acknowledged offset");
                Harness.equal((codec + i).repeat(5), records.get(i).value(), "value " + i);
                Harness.equal("k" + i, records.get(i).key(), "key " + i);
            }
        }
    }

    private static void refused(Class<? extends Exception> expected, Future<?> future) throws Exception {
        try {
            future.get();
        } catch (ExecutionException problem) {
            Harness.that(expected.isInstance(problem.getCause()), "expected " + expected + ", got " + problem);
            return;
        }
        throw new AssertionError("expected " + expected);
    }

    private static void tooLarge() throws Exception {
        String topic = newTopic("java-large", 1, Map.of("max.message.bytes", "1000"));
        try (KafkaProducer<String, String> producer = producer("none")) {
            refused(RecordTooLargeException.class, producer.send(new ProducerRecord<>(topic, "x".repeat(5000))));
            producer.send(new ProducerRecord<>(topic, "fits")).get();
        }
        Harness.equal("fits", readAll(topic).get(0).value(), "the record that fits");
    }

    private static void cooperativeGroup() throws Exception {
        String topic = newTopic("java-group", 6, Map.of());
        String group = Harness.unique("java-group");
        String[] strategy = {"partition.assignment.strategy", CooperativeStickyAssignor.class.getName()};
        List<KafkaConsumer<String, String>> members = new ArrayList<>();
        Set<String> seen = new HashSet<>();
        try (KafkaProducer<String, String> producer = producer("lz4")) {
            for (int i = 0; i < 3; i++) {
                members.add(consumer(group, strategy));
                members.get(i).subscribe(List.of(topic));
            }
            pollUntilBalanced(members, seen);
            for (int i = 0; i < 600; i++) {
                producer.send(new ProducerRecord<>(topic, i % 6, null, "v" + i));
            }
            producer.flush();
            Harness.until("600 records", SECONDS, () -> pollAll(members, seen) == 600);
            KafkaConsumer<String, String> leaver = members.remove(0);
            leaver.commitSync();
            leaver.close();
            pollUntilBalanced(members, seen);
            for (int i = 600; i < 1200; i++) {
                producer.send(new ProducerRecord<>(topic, i % 6, null, "v" + i));
            }
            producer.flush();
            Harness.until("1200 records", SECONDS, () -> pollAll(members, seen) == 1200);
        } finally {
            members.forEach(KafkaConsumer::close);
        }
    }

    private static int pollAll(List<KafkaConsumer<String, String>> members, Set<String> seen) {
        for (KafkaConsumer<String, String> member : members) {
            member.poll(Duration.ofMillis(20)).forEach(record -> seen.add(record.value()));
        }
        return seen.size();
    }

    private static void pollUntilBalanced(List<KafkaConsumer<String, String>> members, Set<String> seen)
            throws Exception {
        Harness.until("balanced over " + members.size(), SECONDS, () -> {
            pollAll(members, seen);
            Set<TopicPartition> all = new HashSet<>();
            members.forEach(member -> all.addAll(member.assignment()));
            return all.size() == 6
                    && members.stream().allMatch(member -> member.assignment().size() == 6 / members.size());
        });
    }

    private static void admin() throws Exception {
        String topic = newTopic("java-admin", 2, Map.of("retention.ms", "1234000"));
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        try (Admin admin = adminClient()) {
            refused(TopicExistsException.class, admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all());
            admin.incrementalAlterConfigs(Map.of(resource, List.<AlterConfigOp>of(
                    new AlterConfigOp(new ConfigEntry("retention.ms", ""), AlterConfigOp.OpType.DELETE),
                    new AlterConfigOp(new ConfigEntry("max.message.bytes", "5000"), AlterConfigOp.OpType.SET))))
                    .all().get();
            Harness.until("configs are altered", SECONDS, () -> {
                var config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
                return config.get("max.message.bytes").value().equals("5000")
                        && config.get("retention.ms").isDefault();
            });
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all().get();
            Harness.until("4 partitions", SECONDS, () ->
                    admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size() == 4);
            TopicPartition partition = new TopicPartition(topic, 0);
            try (KafkaProducer<String, String> producer = producer("gzip")) {
                for (int i = 0; i < 10; i++) {
                    producer.send(new ProducerRecord<>(topic, 0, 1000L + i, null, "v" + i)).get();
                }
            }
            var deleted = admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(3)));
            Harness.equal(3L, deleted.lowWatermarks().get(partition).get().lowWatermark(), "low watermark");
            Map<OffsetSpec, Long> expected = new HashMap<>();
            expected.put(OffsetSpec.earliest(), 3L);
            expected.put(OffsetSpec.latest(), 10L);
            expected.put(OffsetSpec.maxTimestamp(), 9L);
            expected.put(OffsetSpec.forTimestamp(1005), 5L);
            for (var entry : expected.entrySet()) {
                var found = admin.listOffsets(Map.of(partition, entry.getKey())).partitionResult(partition).get();
                Harness.equal(entry.getValue(), found.offset(), entry.getKey().getClass().getSimpleName());
            }
            Harness.equal(1, admin.describeCluster().nodes().get().size(), "nodes");
            admin.deleteTopics(List.of(topic)).all().get();
            Harness.until("the topic is gone", SECONDS, () -> !admin.listTopics().names().get().contains(topic));
            refused(UnknownTopicOrPartitionException.class, admin.deleteTopics(List.of(topic)).all());
        }
    }

    private static void nodes() throws Exception {
        String topic = newTopic("java-nodes", 1, Map.of());
        try (Admin admin = adminClient()) {
            QuorumInfo before = admin.describeMetadataQuorum().quorumInfo().get();
            int leader = before.leaderId();
            Harness.equal(admin.describeCluster().controller().get().id(), leader, "leader");
            Harness.equal(List.of(leader), before.voters().stream().map(it -> it.replicaId()).toList(), "voters");
            Harness.that(before.nodes().containsKey(leader), "the leader is reached somewhere: " + before.nodes());
            newTopic("java-nodes", 1, Map.of());
            QuorumInfo after = admin.describeMetadataQuorum().quorumInfo().get();
            Harness.equal(before.leaderEpoch(), after.leaderEpoch(), "epoch");
            Harness.that(before.highWatermark() < after.highWatermark(), "a topic is a change of the metadata");

            String directory = admin.describeLogDirs(List.of(leader)).allDescriptions().get().get(leader)
                    .keySet().iterator().next();
            TopicPartitionReplica replica = new TopicPartitionReplica(topic, 0, leader);
            admin.alterReplicaLogDirs(Map.of(replica, directory)).all().get();
            ReplicaLogDirInfo where = admin.describeReplicaLogDirs(List.of(replica)).all().get().get(replica);
            Harness.equal(directory, where.getCurrentReplicaLogDir(), "where it is");
            Harness.equal(null, where.getFutureReplicaLogDir(), "where it moves to");
            try {
                admin.alterReplicaLogDirs(Map.of(replica, "/no/such/directory")).all().get();
                throw new AssertionError("there is no such directory");
            } catch (ExecutionException refused) {
                Harness.that(refused.getCause() instanceof LogDirNotFoundException, "refused: " + refused);
            }
        }
    }

    private static void offsets() throws Exception {
        String topic = newTopic("java-offsets", 1, Map.of());
        String group = Harness.unique("java-offsets");
        TopicPartition partition = new TopicPartition(topic, 0);
        // Not longer ago than records are kept.
        long first = System.currentTimeMillis() - 60_000L;
        try (KafkaProducer<String, String> producer = producer("snappy")) {
            for (int i = 0; i < 50; i++) {
                producer.send(new ProducerRecord<>(topic, 0, first + i * 1000L, null, "v" + i));
            }
        }
        try (KafkaConsumer<String, String> consumer = consumer(group)) {
            consumer.subscribe(List.of(topic));
            take(consumer, 50);
            consumer.commitSync(Map.of(partition, new OffsetAndMetadata(20, "note")));
            OffsetAndMetadata committed = consumer.committed(Set.of(partition)).get(partition);
            Harness.equal(20L, committed.offset(), "committed offset");
            Harness.equal("note", committed.metadata(), "committed metadata");
            var found = consumer.offsetsForTimes(Map.of(partition, first + 500L)).get(partition);
            Harness.equal(1L, found.offset(), "offset by time");
            consumer.seek(partition, 45);
            Harness.equal("v45", take(consumer, 5).get(0).value(), "after seek");
        }
        try (KafkaConsumer<String, String> consumer = consumer(group)) {
            consumer.subscribe(List.of(topic));
            Harness.equal("v20", take(consumer, 30).get(0).value(), "the group resumes");
        }
    }

    private static void restart() throws Exception {
        String topic = newTopic("java-restart", 1, Map.of());
        List<String> expected = new ArrayList<>();
        // A member that joins again reads again what it did not commit, so this keeps each value once.
        Set<String> seen = new LinkedHashSet<>();
        try (KafkaProducer<String, String> producer = producer("none");
                KafkaConsumer<String, String> consumer = consumer(Harness.unique("java-restart"))) {
            consumer.subscribe(List.of(topic));
            for (int i = 0; i < 2000; i++) {
                producer.send(new ProducerRecord<>(topic, 0, null, "v" + i));
                expected.add("v" + i);
                if (i == 1000) {
                    consumer.poll(Duration.ofSeconds(2)).forEach(record -> seen.add(record.value()));
                    Harness.control("restart");
                }
            }
            producer.flush();
            Harness.until("the member reads on", 2 * SECONDS, () -> pollAll(List.of(consumer), seen) == 2000);
        }
        Harness.that(expected.equals(List.copyOf(seen)), "the member reads in order");
        List<String> stored = readAll(topic).stream().map(ConsumerRecord::value).toList();
        Harness.that(expected.equals(stored), "each record is stored once and in order");
    }

    static void crossWrite(Harness harness) {
        for (String codec : Harness.CODECS) {
            try (KafkaProducer<String, String> producer = producer(codec)) {
                for (int i = 0; i < Harness.CROSS_COUNT; i++) {
                    producer.send(new ProducerRecord<>(Harness.crossTopic("java", codec), String.valueOf(i),
                            Harness.crossValue("java", codec, i)));
                }
            }
        }
        harness.report("java writes with every codec", null);
    }

    static void crossRead(Harness harness, List<String> writers) {
        for (String writer : writers) {
            for (String codec : Harness.CODECS) {
                List<String> found = new ArrayList<>();
                for (ConsumerRecord<String, String> record : readAll(Harness.crossTopic(writer, codec))) {
                    found.add(record.key());
                    found.add(record.value());
                }
                harness.crossVerify("java", writer, codec, found);
            }
        }
    }
}
