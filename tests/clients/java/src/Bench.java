import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicIntegerArray;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;
import org.HdrHistogram.ConcurrentHistogram;
import org.HdrHistogram.Histogram;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * The client of {@code cargo xtask bench}: one warm JVM that takes a command a line, {@code NAME key=value…}, and
 * answers each with one line of JSON, or {@code error TEXT}. Clients run with Kafka's default settings (acks=all).
 *
 * <p>Latencies count from the moment a record was due, not from when it was sent, so that a stalled broker cannot hide
 * the records it kept waiting.
 */
public final class Bench {
    private static final long MEGABYTE = 1_000_000;
    private static final long LATENCY_MICROS_MAX = 60_000_000;
    private static final double CREATE_SECONDS_MAX = 60;
    private static final Duration POLL = Duration.ofMillis(100);
    private static final long CONSUME_NANOS_MAX = 120_000_000_000L;
    /** A prime above any number of keys here, so it has no factor in common with them. */
    private static final long SHUFFLE = 2_654_435_761L;

    private final Map<String, String> options;

    private Bench(Map<String, String> options) {
        this.options = options;
    }

    public static void main(String[] arguments) throws Exception {
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            String[] words = line.trim().split("\\s+");
            Map<String, String> options = new HashMap<>();
            for (int i = 1; i < words.length; i++) {
                String[] parts = words[i].split("=", 2);
                options.put(parts[0], parts[1]);
            }
            try {
                Out.line(new Bench(options).run(words[0]));
            } catch (Exception problem) {
                problem.printStackTrace();
                Out.line("error " + String.valueOf(problem).replaceAll("\\s+", " "));
            }
        }
        Runtime.getRuntime().halt(0);
    }

    private String run(String command) throws Exception {
        return switch (command) {
            case "create" -> create();
            case "produce" -> produce();
            case "produce-at" -> produceAt();
            case "consume" -> consume();
            case "share" -> share();
            case "end-to-end" -> endToEnd();
            case "steady" -> steady();
            case "alter" -> alter();
            case "produce-keys" -> produceKeys();
            case "latest" -> latest();
            default -> throw new IllegalArgumentException("unknown command " + command);
        };
    }

    private int number(String name) {
        return Integer.parseInt(options.get(name));
    }

    private String topic() {
        return options.get("topic");
    }

    private Properties settings() {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", options.get("bootstrap"));
        return settings;
    }

    private KafkaProducer<byte[], byte[]> producer() {
        Properties settings = settings();
        if (transactionNanos() > 0) {
            settings.put("transactional.id", "bench-" + java.util.UUID.randomUUID());
        }
        return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
    }

    /** How long a transaction is; 0: none is wanted. */
    private long transactionNanos() {
        return Long.parseLong(options.getOrDefault("transaction_ms", "0")) * 1_000_000;
    }

    private KafkaConsumer<byte[], byte[]> consumer(boolean fromStart) {
        KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(settings(), new ByteArrayDeserializer(), new ByteArrayDeserializer());
        List<TopicPartition> partitions = new ArrayList<>();
        consumer.partitionsFor(topic()).forEach(it -> partitions.add(new TopicPartition(topic(), it.partition())));
        consumer.assign(partitions);
        if (fromStart) {
            consumer.seekToBeginning(partitions);
        } else {
            consumer.seekToEnd(partitions);
            partitions.forEach(consumer::position);
        }
        return consumer;
    }

    private String create() throws Exception {
        long started = System.nanoTime();
        try (Admin admin = Admin.create(settings())) {
            admin.createTopics(List.of(new NewTopic(topic(), number("partitions"), (short) 1))).all().get();
            // A topic serves once each partition has a leader; the first produce shall not pay for that.
            boolean ready = false;
            while (!ready) {
                if (seconds(started) > CREATE_SECONDS_MAX) {
                    throw new IllegalStateException(topic() + " has no leaders");
                }
                try {
                    var topics = admin.describeTopics(List.of(topic())).allTopicNames().get();
                    var partitions = topics.get(topic()).partitions();
                    ready = partitions.size() == number("partitions")
                            && partitions.stream().allMatch(it -> it.leader() != null);
                } catch (java.util.concurrent.ExecutionException notYet) {
                    Thread.sleep(5);
                }
            }
        }
        double seconds = seconds(started);
        if (options.containsKey("prime")) {
            // Apache Kafka may lose its way when the very first batches of a new partition are in flight together.
            try (KafkaProducer<byte[], byte[]> producer = producer()) {
                for (int partition = 0; partition < number("partitions"); partition++) {
                    producer.send(new ProducerRecord<>(topic(), partition, null, new byte[1])).get();
                }
            }
        }
        return String.format(Locale.ROOT, "{\"seconds\":%.3f}", seconds);
    }

    /** Bytes that do not compress, with room for a time stamp at the front. */
    private byte[] payload() {
        byte[] bytes = new byte[number("size")];
        new Random(7).nextBytes(bytes);
        return bytes;
    }

    /**
     * As fast as it goes: {@code size}, {@code megabytes} in all, {@code producers} if more than one, and
     * {@code transaction_ms} if they are to commit that often.
     */
    private String produce() throws Exception {
        byte[] payload = payload();
        int producers = Integer.parseInt(options.getOrDefault("producers", "1"));
        long each = number("megabytes") * MEGABYTE / payload.length / producers;
        AtomicReference<Exception> failure = new AtomicReference<>();
        long started = System.nanoTime();
        List<Thread> others = new ArrayList<>();
        for (int i = 1; i < producers; i++) {
            Thread thread = new Thread(() -> produce(payload, each, failure));
            thread.start();
            others.add(thread);
        }
        produce(payload, each, failure);
        for (Thread thread : others) {
            thread.join();
        }
        check(failure);
        double seconds = seconds(started);
        long count = each * producers;
        double megabytes = (double) count * payload.length / MEGABYTE;
        return String.format(Locale.ROOT, "{\"records\":%d,\"bytes\":%d,\"mb_s\":%.2f}",
                count, count * payload.length, megabytes / seconds);
    }

    private void produce(byte[] payload, long count, AtomicReference<Exception> failure) {
        long each = transactionNanos();
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            long commitAt = 0;
            if (each > 0) {
                producer.initTransactions();
                producer.beginTransaction();
                commitAt = System.nanoTime() + each;
            }
            for (long i = 0; i < count; i++) {
                producer.send(new ProducerRecord<>(topic(), payload), (metadata, problem) -> {
                    if (problem != null) {
                        failure.set(problem);
                    }
                });
                if (each > 0 && System.nanoTime() >= commitAt) {
                    producer.commitTransaction();
                    producer.beginTransaction();
                    commitAt = System.nanoTime() + each;
                }
            }
            if (each > 0) {
                producer.commitTransaction();
            }
        }
    }

    private static void check(AtomicReference<Exception> failure) throws Exception {
        if (failure.get() != null) {
            throw failure.get();
        }
    }

    private static double seconds(long started) {
        return (System.nanoTime() - started) / 1e9;
    }

    /** Calls {@code send} with the due time of each record, at {@code rate} megabytes a second for {@code seconds}. */
    private void paced(int size, java.util.function.LongConsumer send) {
        double perNano = number("rate_kb") * 1000.0 / size / 1e9;
        long count = (long) (perNano * 1e9 * number("seconds"));
        long started = System.nanoTime();
        for (long i = 0; i < count; i++) {
            long due = started + (long) (i / perNano);
            while (System.nanoTime() < due) {
                LockSupport.parkNanos(Math.max(50_000, due - System.nanoTime()));
            }
            send.accept(due);
        }
    }

    private static String latencies(Histogram histogram) {
        return String.format(Locale.ROOT,
                "{\"count\":%d,\"mean_ms\":%.3f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"p999_ms\":%.3f,\"max_ms\":%.3f}",
                histogram.getTotalCount(), histogram.getMean() / 1e3, histogram.getValueAtPercentile(50) / 1e3,
                histogram.getValueAtPercentile(99) / 1e3, histogram.getValueAtPercentile(99.9) / 1e3,
                histogram.getMaxValue() / 1e3);
    }

    private static void record(Histogram histogram, long due) {
        long micros = (System.nanoTime() - due) / 1000;
        histogram.recordValue(Math.max(1, Math.min(LATENCY_MICROS_MAX, micros)));
    }

    /** At a fixed rate: {@code size}, {@code rate_kb} a second, {@code seconds}. */
    private String produceAt() throws Exception {
        byte[] payload = payload();
        Histogram histogram = new ConcurrentHistogram(LATENCY_MICROS_MAX, 3);
        AtomicReference<Exception> failure = new AtomicReference<>();
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            producer.partitionsFor(topic());
            paced(payload.length, due -> producer.send(new ProducerRecord<>(topic(), payload), (metadata, problem) -> {
                record(histogram, due);
                if (problem != null) {
                    failure.set(problem);
                }
            }));
        }
        check(failure);
        return latencies(histogram);
    }

    /** Everything from the start: {@code records}. */
    private String consume() {
        long wanted = Long.parseLong(options.get("records"));
        long started = System.nanoTime();
        long count = 0;
        long bytes = 0;
        double first = 0;
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(true)) {
            while (count < wanted) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL)) {
                    if (count == 0) {
                        first = seconds(started);
                    }
                    count++;
                    bytes += record.serializedValueSize();
                }
                if (System.nanoTime() - started > CONSUME_NANOS_MAX) {
                    throw new IllegalStateException(count + " of " + wanted + " records");
                }
            }
        }
        return String.format(Locale.ROOT, "{\"bytes\":%d,\"mb_s\":%.2f,\"first_ms\":%.1f}", bytes,
                bytes / (double) MEGABYTE / seconds(started), first * 1000);
    }

    /**
     * Everything from the start by one member of a new share group, which acknowledges as it goes, each fetch with the
     * next one: {@code records}. The time counts from the first record on, and until all is acknowledged.
     */
    private String share() throws Exception {
        long wanted = Long.parseLong(options.get("records"));
        String group = "bench-" + java.util.UUID.randomUUID();
        Properties settings = settings();
        settings.put("group.id", group);
        try (Admin admin = Admin.create(settings())) {
            ConfigEntry earliest = new ConfigEntry("share.auto.offset.reset", "earliest");
            admin.incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.GROUP, group),
                    List.of(new AlterConfigOp(earliest, AlterConfigOp.OpType.SET)))).all().get();
        }
        long begun = System.nanoTime();
        long started = 0;
        long count = 0;
        long bytes = 0;
        long polls = 0;
        try (KafkaShareConsumer<byte[], byte[]> consumer =
                new KafkaShareConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(topic()));
            while (count < wanted) {
                var records = consumer.poll(POLL);
                if (started == 0 && !records.isEmpty()) {
                    started = System.nanoTime();
                }
                polls += records.isEmpty() ? 0 : 1;
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    count++;
                    bytes += record.serializedValueSize();
                }
                if (System.nanoTime() - begun > CONSUME_NANOS_MAX) {
                    throw new IllegalStateException(count + " of " + wanted + " records");
                }
            }
            consumer.commitSync();
        }
        return String.format(Locale.ROOT, "{\"bytes\":%d,\"mb_s\":%.2f,\"first_ms\":%.1f,\"polls\":%d}", bytes,
                bytes / (double) MEGABYTE / seconds(started), (started - begun) / 1e6, polls);
    }

    /**
     * Numbered records at a fixed rate while things go wrong elsewhere, then everything is read back: {@code size},
     * {@code rate_kb} a second, {@code seconds}. Tells what was lost or stored twice of what was acknowledged, and the
     * longest time without an acknowledgement.
     */
    private String steady() throws Exception {
        int size = number("size");
        long count = (long) (number("rate_kb") * 1000.0 / size * number("seconds"));
        AtomicIntegerArray acknowledged = new AtomicIntegerArray((int) count);
        AtomicLong refused = new AtomicLong();
        AtomicLong last = new AtomicLong(System.nanoTime());
        AtomicLong longest = new AtomicLong();
        AtomicInteger next = new AtomicInteger();
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            paced(size, due -> {
                int number = next.getAndIncrement();
                byte[] payload = ByteBuffer.allocate(size).putInt(number).array();
                producer.send(new ProducerRecord<>(topic(), payload), (metadata, problem) -> {
                    if (problem != null) {
                        refused.incrementAndGet();
                        return;
                    }
                    long now = System.nanoTime();
                    longest.accumulateAndGet(now - last.getAndSet(now), Math::max);
                    acknowledged.set(number, 1);
                });
            });
        }
        int[] read = new int[(int) count];
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(true)) {
            Map<TopicPartition, Long> ends = consumer.endOffsets(consumer.assignment());
            long started = System.nanoTime();
            while (ends.entrySet().stream().anyMatch(it -> consumer.position(it.getKey()) < it.getValue())) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL)) {
                    if (record.value().length == size) { // Not the first byte of a primed partition.
                        read[ByteBuffer.wrap(record.value()).getInt()]++;
                    }
                }
                if (System.nanoTime() - started > CONSUME_NANOS_MAX) {
                    throw new IllegalStateException("what was produced cannot be read back");
                }
            }
        }
        int lost = 0;
        int twice = 0;
        int kept = 0;
        for (int i = 0; i < count; i++) {
            kept += acknowledged.get(i);
            lost += acknowledged.get(i) == 1 && read[i] == 0 ? 1 : 0;
            twice += read[i] > 1 ? 1 : 0;
        }
        return String.format(Locale.ROOT,
                "{\"sent\":%d,\"acknowledged\":%d,\"refused\":%d,\"lost\":%d,\"twice\":%d,\"gap_ms\":%d}",
                next.get(), kept, refused.get(), lost, twice, longest.get() / 1_000_000);
    }

    /** Sets the topic's configs: {@code configs=NAME:VALUE[,NAME:VALUE…]}. */
    private String alter() throws Exception {
        List<AlterConfigOp> changes = new ArrayList<>();
        for (String config : options.get("configs").split(",")) {
            String[] parts = config.split(":", 2);
            changes.add(new AlterConfigOp(new ConfigEntry(parts[0], parts[1]), AlterConfigOp.OpType.SET));
        }
        try (Admin admin = Admin.create(settings())) {
            ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic());
            admin.incrementalAlterConfigs(Map.of(resource, changes)).all().get();
        }
        return "{}";
    }

    /** A number that goes with each number below {@code keys} exactly once, in no order anyone would call one. */
    private static long shuffled(long number, long keys) {
        return Math.floorMod(number * SHUFFLE, keys);
    }

    /**
     * Numbered records as fast as they go, each of {@code keys} in turn in a shuffled order, and again from the first:
     * {@code records} of {@code size} bytes.
     */
    private String produceKeys() throws Exception {
        byte[] payload = payload();
        long keys = number("keys");
        long count = number("records");
        AtomicReference<Exception> failure = new AtomicReference<>();
        long started = System.nanoTime();
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            for (long i = 0; i < count; i++) {
                byte[] key = ByteBuffer.allocate(Long.BYTES).putLong(shuffled(i, keys)).array();
                byte[] value = payload.clone();
                ByteBuffer.wrap(value).putLong(i);
                producer.send(new ProducerRecord<>(topic(), key, value), (metadata, problem) -> {
                    if (problem != null) {
                        failure.set(problem);
                    }
                });
            }
        }
        check(failure);
        double megabytes = (double) count * payload.length / MEGABYTE;
        return String.format(Locale.ROOT, "{\"bytes\":%d,\"mb_s\":%.2f}", count * payload.length,
                megabytes / seconds(started));
    }

    /** Reads what {@code produce-keys} left behind: records, keys among them, keys with their newest record. */
    private String latest() {
        long keys = number("keys");
        long count = number("records");
        long[] found = new long[(int) keys];
        java.util.Arrays.fill(found, -1);
        long records = 0;
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(true)) {
            Map<TopicPartition, Long> ends = consumer.endOffsets(consumer.assignment());
            long started = System.nanoTime();
            while (ends.entrySet().stream().anyMatch(it -> consumer.position(it.getKey()) < it.getValue())) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL)) {
                    int key = (int) ByteBuffer.wrap(record.key()).getLong();
                    found[key] = Math.max(found[key], ByteBuffer.wrap(record.value()).getLong());
                    records++;
                }
                if (System.nanoTime() - started > CONSUME_NANOS_MAX) {
                    throw new IllegalStateException("what was produced cannot be read back");
                }
            }
        }
        long[] expected = new long[(int) keys];
        java.util.Arrays.fill(expected, -1);
        for (long i = 0; i < count; i++) {
            expected[(int) shuffled(i, keys)] = i;
        }
        long newest = 0;
        long known = 0;
        for (int key = 0; key < keys; key++) {
            known += found[key] >= 0 ? 1 : 0;
            newest += found[key] >= 0 && found[key] == expected[key] ? 1 : 0;
        }
        return String.format(Locale.ROOT, "{\"records\":%d,\"keys\":%d,\"newest\":%d}", records, known, newest);
    }

    /** From due time to arrival at a consumer: {@code size}, {@code rate_kb} a second, {@code seconds}. */
    private String endToEnd() throws Exception {
        int size = number("size");
        Histogram histogram = new ConcurrentHistogram(LATENCY_MICROS_MAX, 3);
        long expected = (long) (number("rate_kb") * 1000.0 / size * number("seconds"));
        AtomicReference<Exception> failure = new AtomicReference<>();
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(false);
                KafkaProducer<byte[], byte[]> producer = producer()) {
            producer.partitionsFor(topic());
            Thread sender = new Thread(() -> paced(size, due -> {
                byte[] payload = ByteBuffer.allocate(size).putLong(due).array();
                producer.send(new ProducerRecord<>(topic(), payload), (metadata, problem) -> {
                    if (problem != null) {
                        failure.set(problem);
                    }
                });
            }));
            sender.start();
            long deadline = System.nanoTime() + (number("seconds") + 30) * 1_000_000_000L;
            while (histogram.getTotalCount() < expected && System.nanoTime() < deadline) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL)) {
                    record(histogram, ByteBuffer.wrap(record.value()).getLong());
                }
            }
            sender.join();
        }
        check(failure);
        return latencies(histogram);
    }
}
