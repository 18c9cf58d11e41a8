import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;

/** Promises to operators who use Kafka's own command line tools. */
final class ToolChecks {
    private static final String B = Harness.BOOTSTRAP;
    private static final int SECONDS = 30;

    private ToolChecks() {}

    static void run(Harness harness) {
        harness.check("kafka-topics creates, lists, describes, grows and deletes", ToolChecks::topics);
        harness.check("kafka-configs shows and changes topic and broker configs", ToolChecks::configs);
        harness.check("console producer and consumer pass lines, keys and headers", ToolChecks::console);
        harness.check("kafka-consumer-groups lists, describes, resets and deletes", ToolChecks::groups);
        harness.check("kafka-get-offsets finds the start, the end and the newest", ToolChecks::offsets);
        harness.check("kafka-delete-records moves the start of the log", ToolChecks::deleteRecords);
        harness.check("kafka-log-dirs shows sizes", ToolChecks::logDirs);
        harness.check("kafka-reassign-partitions leaves a partition in its directory and knows no other",
                ToolChecks::reassignDirectories);
        harness.check("kafka-metadata-quorum shows one voter, which leads", ToolChecks::quorum);
        harness.check("kafka-broker-api-versions understands every answer", ToolChecks::apiVersions);
        harness.check("the performance tools produce and consume", ToolChecks::performance);
        harness.check("the verifiable producer and consumer agree", ToolChecks::verifiable);
        harness.check("the client compatibility test passes", ToolChecks::compatibility);
    }

    private static String topics(String... arguments) throws Exception {
        return tool("TopicCommand", arguments).fine();
    }

    private static Tools.Result tool(String name, String... arguments) throws Exception {
        String[] all = new String[arguments.length + 2];
        all[0] = "--bootstrap-server";
        all[1] = B;
        System.arraycopy(arguments, 0, all, 2, arguments.length);
        return Tools.run(name, all);
    }

    private static String newTopic(String prefix, int partitions) throws Exception {
        String topic = Harness.unique(prefix);
        topics("--create", "--topic", topic, "--partitions", String.valueOf(partitions));
        return topic;
    }

    private static void topics() throws Exception {
        String topic = Harness.unique("tool");
        topics("--create", "--topic", topic, "--partitions", "3", "--replication-factor", "1",
                "--config", "retention.ms=1234000");
        Harness.contains(topics("--list"), topic);
        String described = topics("--describe", "--topic", topic);
        Harness.contains(described, "PartitionCount: 3");
        Harness.contains(described, "retention.ms=1234000");
        Harness.contains(described, "Partition: 2");
        Harness.that(tool("TopicCommand", "--create", "--topic", topic).status() != 0, "a second create fails");
        topics("--create", "--topic", topic, "--if-not-exists");
        topics("--alter", "--topic", topic, "--partitions", "5");
        Harness.until("5 partitions", SECONDS,
                () -> topics("--describe", "--topic", topic).contains("PartitionCount: 5"));
        topics("--delete", "--topic", topic);
        Harness.until("the topic is gone", SECONDS, () -> !topics("--list").contains(topic));
    }

    private static String configs(String... arguments) throws Exception {
        return tool("kafka.admin.ConfigCommand", arguments).fine();
    }

    private static void configs() throws Exception {
        String topic = newTopic("configs", 1);
        configs("--alter", "--entity-type", "topics", "--entity-name", topic,
                "--add-config", "retention.ms=7654321,cleanup.policy=[compact,delete]");
        Harness.until("the change shows", SECONDS,
                () -> configs("--describe", "--entity-type", "topics", "--entity-name", topic)
                        .contains("retention.ms=7654321"));
        String all = configs("--describe", "--all", "--entity-type", "topics", "--entity-name", topic);
        Harness.contains(all, "cleanup.policy=compact,delete");
        Harness.contains(all, "max.message.bytes=1048588");
        configs("--alter", "--entity-type", "topics", "--entity-name", topic, "--delete-config", "retention.ms");
        Harness.until("the override is gone", SECONDS,
                () -> !configs("--describe", "--entity-type", "topics", "--entity-name", topic)
                        .contains("retention.ms=7654321"));
        Tools.Result wrong = tool("kafka.admin.ConfigCommand", "--alter", "--entity-type", "topics",
                "--entity-name", topic, "--add-config", "no.such.config=1");
        Harness.that(wrong.status() != 0, "an unknown config is refused");
        Harness.contains(configs("--describe", "--all", "--entity-type", "brokers"), "log.retention.hours=168");
    }

    private static void console() throws Exception {
        String topic = newTopic("console", 1);
        Tools.process("h:1\tk1\tone\nh:2\tk2\ttwo\n", "ConsoleProducer", "--bootstrap-server", B, "--topic", topic,
                "--reader-property", "parse.key=true", "--reader-property", "parse.headers=true").fine();
        Tools.runWithInput("k3\tthree\n", "ConsoleProducer", "--bootstrap-server", B, "--topic", topic,
                "--reader-property", "parse.key=true", "--compression-codec", "zstd").fine();
        String[] read = {"--bootstrap-server", B, "--topic", topic, "--from-beginning", "--max-messages", "3",
            "--timeout-ms", "30000", "--formatter-property", "print.key=true", "--formatter-property",
            "print.headers=true", "--formatter-property", "print.offset=true"};
        String expected = "Offset:0\th:1\tk1\tone\nOffset:1\th:2\tk2\ttwo\nOffset:2\tNO_HEADERS\tk3\tthree\n";
        Harness.equal(expected, Tools.process("", "consumer.ConsoleConsumer", read).fine(), "consumed");
    }

    private static String produce(String topic, int count) throws Exception {
        String lines = IntStream.range(0, count).mapToObj(i -> "line " + i).collect(Collectors.joining("\n"));
        return Tools.runWithInput(lines + "\n", "ConsoleProducer", "--bootstrap-server", B, "--topic", topic).fine();
    }

    private static String consume(String topic, String group, int count) throws Exception {
        return Tools.run("consumer.ConsoleConsumer", "--bootstrap-server", B, "--topic", topic, "--group", group,
                "--from-beginning", "--max-messages", String.valueOf(count), "--timeout-ms", "30000").fine();
    }

    private static String groups(String... arguments) throws Exception {
        return tool("consumer.group.ConsumerGroupCommand", arguments).fine();
    }

    private static void groups() throws Exception {
        String topic = newTopic("groups", 1);
        String group = Harness.unique("group");
        produce(topic, 20);
        consume(topic, group, 12);
        Harness.contains(groups("--list"), group);
        List<String> row = rowOf(groups("--describe", "--group", group), group);
        Harness.equal(List.of(group, topic, "0", "12", "20", "8"), row.subList(0, 6), "group, offset, end, lag");
        Harness.contains(groups("--describe", "--group", group, "--state"), "Empty");
        groups("--reset-offsets", "--to-earliest", "--execute", "--group", group, "--topic", topic);
        Harness.equal("0", rowOf(groups("--describe", "--group", group), group).get(3), "offset after reset");
        groups("--reset-offsets", "--shift-by", "5", "--execute", "--group", group, "--topic", topic);
        Harness.contains(consume(topic, group, 1), "line 5");
        Harness.until("the group is deleted", SECONDS, () ->
                tool("consumer.group.ConsumerGroupCommand", "--delete", "--group", group).status() == 0
                        && !groups("--list").contains(group));
    }

    private static List<String> rowOf(String table, String group) {
        return table.lines().map(line -> List.of(line.trim().split("\\s+")))
                .filter(words -> words.get(0).equals(group)).findFirst()
                .orElseThrow(() -> new AssertionError("no row of " + group + " in: " + table));
    }

    private static void offsets() throws Exception {
        String topic = newTopic("offsets", 2);
        produce(topic, 10);
        for (String time : List.of("-1", "-2", "-3")) {
            String output = tool("GetOffsetShell", "--topic", topic, "--time", time).fine();
            long sum = output.lines().filter(line -> line.startsWith(topic + ":"))
                    .mapToLong(line -> Math.max(0, Long.parseLong(line.split(":")[2]))).sum();
            if (time.equals("-3")) {
                boolean found = output.lines().anyMatch(line -> line.matches(topic + ":[01]:\\d+"));
                Harness.that(found, "the newest record has an offset: " + output);
            } else {
                Harness.equal(time.equals("-1") ? 10L : 0L, sum, "offsets at " + time);
            }
        }
    }

    private static void deleteRecords() throws Exception {
        String topic = newTopic("delete", 1);
        produce(topic, 10);
        Path file = Files.createTempFile("delete-records", ".json");
        try {
            Files.writeString(file, "{\"version\":1,\"partitions\":[{\"topic\":\"" + topic
                    + "\",\"partition\":0,\"offset\":4}]}");
            Harness.contains(tool("DeleteRecordsCommand", "--offset-json-file", file.toString()).fine(),
                    "low_watermark: 4");
        } finally {
            Files.delete(file);
        }
        Harness.contains(tool("GetOffsetShell", "--topic", topic, "--time", "-2").fine(), topic + ":0:4");
    }

    private static void logDirs() throws Exception {
        String topic = newTopic("folders", 1);
        produce(topic, 10);
        String output = tool("LogDirsCommand", "--describe", "--topic-list", topic).fine();
        Harness.contains(output, "\"partition\":\"" + topic + "-0\"");
        Harness.contains(output, "\"error\":null");
    }

    private static void reassignDirectories() throws Exception {
        String topic = newTopic("directories", 1);
        String node;
        String directory;
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", B))) {
            int id = admin.describeCluster().controller().get().id();
            node = String.valueOf(id);
            directory = admin.describeLogDirs(List.of(id)).allDescriptions().get().get(id).keySet().iterator().next();
        }
        String replica = topic + "-0";
        Harness.contains(reassign("--execute", topic, node, directory), "Successfully started moving log directory to "
                + directory + " for replica " + replica + " with broker " + node);
        Harness.contains(reassign("--verify", topic, node, directory), "Reassignment of replica " + replica
                + "-" + node + " completed successfully");
        Harness.contains(reassign("--execute", topic, node, "/no/such/directory"), "LogDirNotFoundException");
    }

    private static String reassign(String what, String topic, String node, String directory) throws Exception {
        Path file = Files.createTempFile("reassign", ".json");
        try {
            Files.writeString(file, "{\"version\":1,\"partitions\":[{\"topic\":\"" + topic + "\",\"partition\":0,"
                    + "\"replicas\":[" + node + "],\"log_dirs\":[\"" + directory + "\"]}]}");
            return tool("reassign.ReassignPartitionsCommand", "--reassignment-json-file", file.toString(), what)
                    .output();
        } finally {
            Files.delete(file);
        }
    }

    private static void quorum() throws Exception {
        String status = tool("MetadataQuorumCommand", "describe", "--status").fine();
        String leader = value(status, "LeaderId:");
        Harness.that(Integer.parseInt(value(status, "LeaderEpoch:")) >= 0, "an epoch: " + status);
        Harness.that(Long.parseLong(value(status, "HighWatermark:")) > 0, "a high watermark: " + status);
        Harness.equal("0", value(status, "MaxFollowerLag:"), "the lag of followers");
        Harness.contains(value(status, "CurrentVoters:"), "\"id\": " + leader + ",");
        Harness.equal("[]", value(status, "CurrentObservers:"), "observers");
        String replication = tool("MetadataQuorumCommand", "describe", "--replication").fine();
        List<String> rows = replication.lines().filter(line -> line.startsWith(leader)).toList();
        Harness.equal(1, rows.size(), "rows of the leader in: " + replication);
        Harness.contains(rows.get(0), "Leader");
    }

    /** What stands behind a name at the beginning of a line. */
    private static String value(String output, String name) {
        return output.lines().filter(line -> line.startsWith(name)).findFirst()
                .map(line -> line.substring(name.length()).trim())
                .orElseThrow(() -> new AssertionError("no " + name + " in: " + output));
    }

    private static void apiVersions() throws Exception {
        String output = Tools.process("", "BrokerApiVersionsCommand", "--bootstrap-server", B).fine();
        Harness.contains(output, B);
        for (String api : List.of("Produce(0)", "Fetch(1)", "JoinGroup(11)", "CreateTopics(19)")) {
            String line = output.lines().filter(it -> it.contains(api)).findFirst().orElse("");
            Harness.that(line.contains("usable"), api + " is usable: " + line);
        }
    }

    private static void performance() throws Exception {
        String topic = newTopic("performance", 1);
        produce(topic, 1); // Apache Kafka may lose its way when a new topic's very first batches are in flight.
        String produced = Tools.run("ProducerPerformance", "--bootstrap-server", B, "--topic", topic,
                "--num-records", "50000", "--record-size", "100", "--throughput", "-1").fine();
        Harness.contains(produced, "50000 records sent");
        String consumed = Tools.run("ConsumerPerformance", "--bootstrap-server", B, "--topic", topic,
                "--num-records", "50001", "--timeout", "30000").fine();
        Harness.contains(consumed, ", 50001, ");
    }

    private static void verifiable() throws Exception {
        String topic = newTopic("verifiable", 2);
        // Prints its summary from a shutdown hook of the JVM.
        String produced = Tools.process("", "VerifiableProducer", "--bootstrap-server", B, "--topic", topic,
                "--max-messages", "1000", "--acks", "-1").fine();
        Harness.contains(produced, "\"name\":\"tool_data\"");
        Harness.contains(produced, "\"acked\":1000");
        String consumed = Tools.run("VerifiableConsumer", "--bootstrap-server", B, "--topic", topic,
                "--group-id", Harness.unique("verifiable"), "--max-messages", "1000").fine();
        long read = consumed.lines().filter(line -> line.contains("\"name\":\"records_consumed\""))
                .mapToLong(line -> Long.parseLong(line.replaceAll(".*\"count\":(\\d+).*", "$1"))).sum();
        Harness.equal(1000L, read, "records consumed");
        Harness.contains(consumed, "\"success\":true");
    }

    private static void compatibility() throws Exception {
        String versions = Tools.run("BrokerApiVersionsCommand", "--bootstrap-server", B).fine();
        boolean acls = !versions.contains("DescribeAcls(29): UNSUPPORTED");
        String topic = newTopic("compatibility", 1);
        Tools.run("ClientCompatibilityTest", "--bootstrap-server", B, "--topic", topic,
                "--offsets-for-times-supported", "true", "--cluster-id-supported", "true",
                "--expect-record-too-large-exception", "false", "--num-cluster-nodes", "1",
                "--create-topics-supported", "true", "--describe-acls-supported", String.valueOf(acls),
                "--describe-configs-supported", "true", "--idempotent-producer-supported", "true").fine();
    }
}
