import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.CloseOptions;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.StateRestoreListener;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/** Promises to programs built on Kafka Streams, at least once and exactly once. */
final class StreamsChecks {
    private static final int SECONDS = 30;
    private static final int PARTITIONS = 2;
    private static final List<String> WORDS = List.of("water", "well", "pump", "spring");

    private StreamsChecks() {}

    static void run(Harness harness) {
        harness.check("a Streams word count that lost its state goes on from its log",
                () -> wordCount("at_least_once"));
        harness.check("the same with exactly_once_v2", () -> wordCount("exactly_once_v2"));
    }

    private static void wordCount(String guarantee) throws Exception {
        String id = Harness.unique("count");
        Path state = Files.createTempDirectory("streams");
        AtomicLong restored = new AtomicLong();
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", Harness.BOOTSTRAP));
                KafkaConsumer<String, String> out = ApiChecks.consumer(id + "-reader")) {
            admin.createTopics(List.of(
                    new NewTopic(id + "-in", PARTITIONS, (short) 1), new NewTopic(id + "-out", PARTITIONS, (short) 1)))
                    .all().get();
            out.subscribe(List.of(id + "-out"));
            Map<String, Long> counts = new HashMap<>();
            KafkaStreams first = start(id, guarantee, state, restored);
            write(id + "-in", 100);
            Harness.until("each word counted 100 times", SECONDS, () -> read(out, counts, 100));
            // Streams deletes what went through its repartition topic by itself.
            Harness.until("the repartition topic is purged", SECONDS, () -> purged(admin, id));
            Harness.equal(0L, restored.get(), "records restored by the first run");
            stop(first);
            KafkaStreams second = start(id, guarantee, state, restored);
            write(id + "-in", 50);
            Harness.until("each word counted 150 times", SECONDS, () -> read(out, counts, 150));
            Harness.that(WORDS.size() <= restored.get(), "restored only " + restored.get());
            Harness.equal(WORDS.size(), counts.size(), "words");
            stop(second);
        }
    }

    private static KafkaStreams start(String id, String guarantee, Path state, AtomicLong restored) {
        Properties settings = new Properties();
        settings.put("application.id", id);
        settings.put("bootstrap.servers", Harness.BOOTSTRAP);
        settings.put("processing.guarantee", guarantee);
        settings.put("commit.interval.ms", "100");
        settings.put("repartition.purge.interval.ms", "500");
        settings.put("state.dir", state.toString());
        settings.put("statestore.cache.max.bytes", "0");
        settings.put("auto.offset.reset", "earliest");
        settings.put("default.key.serde", Serdes.StringSerde.class.getName());
        settings.put("default.value.serde", Serdes.StringSerde.class.getName());
        StreamsBuilder builder = new StreamsBuilder();
        // In memory: what a run does not leave on the disk, the next one has to read from the changelog.
        Materialized<String, Long, KeyValueStore<Bytes, byte[]>> store =
                Materialized.as(Stores.inMemoryKeyValueStore("counts"));
        builder.<String, String>stream(id + "-in")
                .flatMapValues(line -> List.of(line.split(" ")))
                .groupBy((key, word) -> word)
                .count(store.withKeySerde(Serdes.String()).withValueSerde(Serdes.Long()))
                .toStream()
                .mapValues(String::valueOf)
                .to(id + "-out", Produced.with(Serdes.String(), Serdes.String()));
        KafkaStreams streams = new KafkaStreams(builder.build(), settings);
        streams.setGlobalStateRestoreListener(new StateRestoreListener() {
            @Override
            public void onRestoreStart(TopicPartition partition, String store, long from, long to) {}

            @Override
            public void onBatchRestored(TopicPartition partition, String store, long end, long count) {}

            @Override
            public void onRestoreEnd(TopicPartition partition, String store, long total) {
                restored.addAndGet(total);
            }
        });
        streams.start();
        return streams;
    }

    /** Leaves the group, or the next run would wait for the end of this one's session. */
    private static void stop(KafkaStreams streams) {
        CloseOptions options = CloseOptions.groupMembershipOperation(CloseOptions.GroupMembershipOperation.LEAVE_GROUP);
        Harness.that(streams.close(options.withTimeout(Duration.ofSeconds(SECONDS))), "Streams does not stop");
    }

    private static void write(String topic, int lines) {
        try (KafkaProducer<String, String> producer = ApiChecks.producer("lz4")) {
            for (int line = 0; line < lines; line++) {
                producer.send(new ProducerRecord<>(topic, line % PARTITIONS, null, String.join(" ", WORDS)));
            }
        }
    }

    /** Whether every word has been counted {@code times} times; no word more often. */
    private static boolean read(KafkaConsumer<String, String> out, Map<String, Long> counts, long times) {
        out.poll(Duration.ofMillis(200)).forEach(it -> {
            long count = Long.parseLong(it.value());
            Harness.that(count <= times, it.key() + " counted " + count + " times");
            counts.put(it.key(), count);
        });
        return WORDS.stream().allMatch(word -> counts.getOrDefault(word, 0L) == times);
    }

    private static boolean purged(Admin admin, String id) throws Exception {
        List<TopicPartition> partitions = new ArrayList<>();
        for (int index = 0; index < PARTITIONS; index++) {
            partitions.add(new TopicPartition(id + "-counts-repartition", index));
        }
        long start = 0;
        for (TopicPartition partition : partitions) {
            start += offset(admin, partition, OffsetSpec.earliest());
        }
        return 100L * WORDS.size() <= start; // Markers of transactions have offsets, too.
    }

    private static long offset(Admin admin, TopicPartition partition, OffsetSpec which) throws Exception {
        return admin.listOffsets(Map.of(partition, which)).partitionResult(partition).get().offset();
    }
}
