import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Consumer;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;

/** Promises to users of {@code group.protocol=consumer} (KIP-848) of Java clients and of Kafka's tools. */
final class GroupChecks {
    private static final int SECONDS = 60;
    private static final String B = Harness.BOOTSTRAP;

    private GroupChecks() {}

    static void run(Harness harness) {
        harness.check("kafka-configs shows and changes group configs, and members follow", GroupChecks::configs);
        harness.check("uniform: members come and go, every record is read", () -> comeAndGo("uniform"));
        harness.check("range: members come and go, every record is read", () -> comeAndGo("range"));
        harness.check("a static member restarts without a rebalance", GroupChecks::staticMember);
        harness.check("a pattern finds topics that come later", GroupChecks::pattern);
        harness.check("a group moves from range to the consumer protocol and back, twice",
                () -> migration(RangeAssignor.class.getName()));
        harness.check("a group moves from cooperative-sticky to the consumer protocol and back, twice",
                () -> migration(CooperativeStickyAssignor.class.getName()));
        harness.check("kafka-consumer-groups describes members and state, and resets offsets", GroupChecks::tool);
    }

    /** Polls in a thread of its own until it is closed; remembers what it owns and what it has read. */
    static final class Member implements AutoCloseable {
        final Set<TopicPartition> owned = ConcurrentHashMap.newKeySet();
        final Set<String> read = ConcurrentHashMap.newKeySet();
        private final Thread thread;
        private volatile boolean stopped;
        private volatile Throwable failure;

        Member(String group, Consumer<KafkaConsumer<String, String>> subscribe, String... settings) {
            thread = new Thread(() -> run(group, subscribe, settings));
            thread.start();
        }

        private void run(String group, Consumer<KafkaConsumer<String, String>> subscribe, String... settings) {
            try (KafkaConsumer<String, String> consumer = ApiChecks.consumer(group, settings)) {
                subscribe.accept(consumer);
                while (!stopped) {
                    consumer.poll(Duration.ofMillis(100)).forEach(it -> read.add(it.value()));
                    Set<TopicPartition> now = consumer.assignment();
                    owned.retainAll(now);
                    owned.addAll(now);
                    if (!now.isEmpty()) {
                        try {
                            consumer.commitSync();
                        } catch (org.apache.kafka.clients.consumer.CommitFailedException
                                | org.apache.kafka.clients.consumer.RetriableCommitFailedException
                                | org.apache.kafka.common.errors.RebalanceInProgressException again) {
                            // The partitions have moved on: whoever has them reads from the last commit.
                        }
                    }
                }
            } catch (Throwable problem) {
                failure = problem;
            } finally {
                owned.clear();
            }
        }

        void fine() {
            if (failure != null) {
                throw new AssertionError("a member failed: " + failure, failure);
            }
        }

        @Override
        public void close() throws Exception {
            stopped = true;
            thread.join(SECONDS * 1000L);
            Harness.that(!thread.isAlive(), "the member stops");
        }
    }

    private static Admin admin() {
        return Admin.create(Map.of("bootstrap.servers", B));
    }

    static String newTopic(String prefix, int partitions) throws Exception {
        String topic = Harness.unique(prefix);
        try (Admin admin = admin()) {
            admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all().get();
        }
        return topic;
    }

    /** A group whose members heartbeat often, so that a rebalance takes no half minute. */
    static String newGroup() throws Exception {
        String group = Harness.unique("java848");
        ConfigResource resource = new ConfigResource(ConfigResource.Type.GROUP, group);
        ConfigEntry often = new ConfigEntry("consumer.heartbeat.interval.ms", "300");
        try (Admin admin = admin()) {
            admin.incrementalAlterConfigs(
                    Map.of(resource, List.of(new AlterConfigOp(often, AlterConfigOp.OpType.SET)))).all().get();
        }
        return group;
    }

    private static Member member(String group, String topic, String... more) {
        String[] settings = new String[more.length + 2];
        settings[0] = "group.protocol";
        settings[1] = "consumer";
        System.arraycopy(more, 0, settings, 2, more.length);
        return new Member(group, it -> it.subscribe(List.of(topic)), settings);
    }

    private static Member classic(String group, String topic, String assignor) {
        return new Member(group, it -> it.subscribe(List.of(topic)), "partition.assignment.strategy", assignor,
                "session.timeout.ms", "6000", "heartbeat.interval.ms", "300");
    }

    private static ConsumerGroupDescription describe(String group) throws Exception {
        try (Admin admin = admin()) {
            return admin.describeConsumerGroups(List.of(group)).describedGroups().get(group).get();
        }
    }

    private static void send(String topic, int partitions, String name, int count) {
        try (KafkaProducer<String, String> producer = ApiChecks.producer("none")) {
            for (int index = 0; index < count; index++) {
                producer.send(new ProducerRecord<>(topic, index % partitions, null, name + index));
            }
        }
    }

    /** Every partition has one owner and members are within one of each other. */
    private static void untilShared(String topic, int partitions, Member... members) throws Exception {
        Set<TopicPartition> all = IntStream.range(0, partitions)
                .mapToObj(it -> new TopicPartition(topic, it)).collect(Collectors.toSet());
        Harness.until(partitions + " partitions over " + members.length + " members", SECONDS, () -> {
            List<TopicPartition> owned = new ArrayList<>();
            int least = Integer.MAX_VALUE;
            int most = 0;
            for (Member member : members) {
                member.fine();
                Set<TopicPartition> its = new HashSet<>(member.owned);
                owned.addAll(its);
                least = Math.min(least, its.size());
                most = Math.max(most, its.size());
            }
            return owned.size() == partitions && new HashSet<>(owned).equals(all) && most - least <= 1;
        });
    }

    private static void untilRead(String name, int count, Collection<Member> members) throws Exception {
        Harness.until(count + " records of " + name, SECONDS, () -> {
            Set<String> read = new HashSet<>();
            members.forEach(it -> it.read.stream().filter(value -> value.startsWith(name)).forEach(read::add));
            return read.size() == count;
        });
    }

    private static String configs(String... arguments) throws Exception {
        return tool("kafka.admin.ConfigCommand", arguments).fine();
    }

    private static Tools.Result tool(String name, String... arguments) throws Exception {
        String[] all = new String[arguments.length + 2];
        all[0] = "--bootstrap-server";
        all[1] = B;
        System.arraycopy(arguments, 0, all, 2, arguments.length);
        return Tools.run(name, all);
    }

    private static void configs() throws Exception {
        String group = Harness.unique("configured");
        String[] of = {"--entity-type", "groups", "--entity-name", group};
        configs("--alter", of[0], of[1], of[2], of[3], "--add-config", "consumer.session.timeout.ms=50000");
        Harness.until("the change shows", SECONDS, () -> configs("--describe", of[0], of[1], of[2], of[3])
                .contains("consumer.session.timeout.ms=50000"));
        String described = configs("--describe", of[0], of[1], of[2], of[3]);
        Harness.contains(described, "DYNAMIC_GROUP_CONFIG:consumer.session.timeout.ms=50000");
        Harness.contains(described, "DEFAULT_CONFIG:group.consumer.session.timeout.ms=45000");
        Harness.contains(configs("--describe", "--all", of[0], of[1], of[2], of[3]),
                "consumer.assignment.interval.ms=1000");
        Harness.contains(configs("--describe", "--entity-type", "groups"), group);
        Tools.Result small = tool("kafka.admin.ConfigCommand", "--alter", of[0], of[1], of[2], of[3],
                "--add-config", "consumer.session.timeout.ms=1000");
        Harness.that(small.status() != 0, "a session below the broker's minimum is refused");
        Tools.Result wrong = tool("kafka.admin.ConfigCommand", "--alter", of[0], of[1], of[2], of[3],
                "--add-config", "consumer.colour=blue");
        Harness.that(wrong.status() != 0, "an unknown config is refused");
        configs("--alter", of[0], of[1], of[2], of[3], "--delete-config", "consumer.session.timeout.ms");
        Harness.until("the group has no configs any more", SECONDS, () -> {
            try (Admin admin = admin()) {
                return admin.listConfigResources(Set.of(ConfigResource.Type.GROUP),
                        new org.apache.kafka.clients.admin.ListConfigResourcesOptions()).all().get().stream()
                        .noneMatch(it -> it.name().equals(group));
            }
        });
    }

    private static void comeAndGo(String assignor) throws Exception {
        String topic = newTopic("java848", 6);
        String group = newGroup();
        String[] uses = {"group.remote.assignor", assignor};
        Member one = member(group, topic, uses);
        Member two = member(group, topic, uses);
        Member three = null;
        try {
            untilShared(topic, 6, one, two);
            Harness.equal(assignor, describe(group).partitionAssignor(), "assignor");
            send(topic, 6, "a", 300);
            untilRead("a", 300, List.of(one, two));
            three = member(group, topic, uses);
            untilShared(topic, 6, one, two, three);
            send(topic, 6, "b", 300);
            untilRead("b", 300, List.of(one, two, three));
            one.close();
            untilShared(topic, 6, two, three);
            send(topic, 6, "c", 300);
            untilRead("c", 300, List.of(two, three));
            ConsumerGroupDescription described = describe(group);
            Harness.equal(GroupType.CONSUMER, described.type(), "type");
            Harness.equal(GroupState.STABLE, described.groupState(), "state");
            Harness.equal(2, described.members().size(), "members");
        } finally {
            one.close();
            two.close();
            if (three != null) {
                three.close();
            }
        }
        Harness.equal(GroupState.EMPTY, describe(group).groupState(), "state once all have left");
    }

    private static void staticMember() throws Exception {
        String topic = newTopic("java-static", 4);
        String group = newGroup();
        Member one = member(group, topic, "group.instance.id", "one");
        Member two = member(group, topic, "group.instance.id", "two");
        Member again = null;
        try {
            untilShared(topic, 4, one, two);
            Set<TopicPartition> mine = Set.copyOf(one.owned);
            Set<TopicPartition> theirs = Set.copyOf(two.owned);
            int epoch = describe(group).groupEpoch().orElseThrow();
            one.close();
            send(topic, 4, "while it was away ", 8);
            again = member(group, topic, "group.instance.id", "one");
            untilShared(topic, 4, again, two);
            Harness.equal(mine, Set.copyOf(again.owned), "its partitions");
            Harness.equal(theirs, Set.copyOf(two.owned), "the other's partitions");
            untilRead("while it was away ", 8, List.of(again, two));
            Harness.equal(epoch, describe(group).groupEpoch().orElseThrow(), "group epoch");
        } finally {
            one.close();
            two.close();
            if (again != null) {
                again.close();
            }
        }
    }

    private static void pattern() throws Exception {
        String prefix = Harness.unique("pattern");
        String group = newGroup();
        SubscriptionPattern pattern = new SubscriptionPattern("^" + prefix + "-(red|blue).*");
        String first = newTopic(prefix + "-red", 1);
        newTopic(prefix + "-green", 1);
        Member member = new Member(group, it -> it.subscribe(pattern), "group.protocol", "consumer");
        try {
            Harness.until("the topic there is", SECONDS, () -> {
                member.fine();
                return member.owned.equals(Set.of(new TopicPartition(first, 0)));
            });
            String second = newTopic(prefix + "-blue", 2);
            Harness.until("the topic that came", SECONDS, () -> {
                member.fine();
                return member.owned.equals(Set.of(new TopicPartition(first, 0), new TopicPartition(second, 0),
                        new TopicPartition(second, 1)));
            });
        } finally {
            member.close();
        }
        Member wrong = new Member(group, it -> it.subscribe(new SubscriptionPattern("(")), "group.protocol",
                "consumer");
        try {
            Harness.until("the pattern is refused", SECONDS, () -> wrong.failure != null);
            Harness.contains(String.valueOf(wrong.failure), "InvalidRegularExpression");
        } finally {
            wrong.close();
        }
    }

    private static void migration(String assignor) throws Exception {
        String topic = newTopic("java-migration", 6);
        String group = newGroup();
        List<Member> all = new ArrayList<>();
        Member classic = classic(group, topic, assignor);
        all.add(classic);
        try {
            untilShared(topic, 6, classic);
            for (int round = 0; round < 2; round++) {
                Harness.equal(GroupType.CLASSIC, describe(group).type(), "type before");
                Member modern = member(group, topic);
                all.add(modern);
                untilShared(topic, 6, classic, modern);
                Harness.equal(GroupType.CONSUMER, describe(group).type(), "type with one of each");
                send(topic, 6, "up" + round + "-", 120);
                untilRead("up" + round + "-", 120, all);
                classic.close();
                untilShared(topic, 6, modern);
                classic = classic(group, topic, assignor);
                all.add(classic);
                untilShared(topic, 6, classic, modern);
                modern.close();
                untilShared(topic, 6, classic);
                send(topic, 6, "down" + round + "-", 120);
                untilRead("down" + round + "-", 120, all);
            }
            Harness.equal(GroupType.CLASSIC, describe(group).type(), "type at the end");
        } finally {
            for (Member member : all) {
                member.close();
            }
        }
    }

    private static String groups(String... arguments) throws Exception {
        return tool("consumer.group.ConsumerGroupCommand", arguments).fine();
    }

    private static List<List<String>> rows(String table, String group) {
        return table.lines().map(line -> List.of(line.trim().split("\\s+")))
                .filter(words -> words.get(0).equals(group)).toList();
    }

    private static void tool() throws Exception {
        String topic = newTopic("java-described", 2);
        String group = newGroup();
        Member one = member(group, topic, "client.id", "first");
        Member two = member(group, topic, "client.id", "second");
        try {
            untilShared(topic, 2, one, two);
            send(topic, 2, "x", 20);
            untilRead("x", 20, List.of(one, two));
            Harness.until("all offsets are committed", SECONDS, () ->
                    rows(groups("--describe", "--group", group), group).stream()
                            .filter(it -> it.subList(3, 6).equals(List.of("10", "10", "0"))).count() == 2);
            List<List<String>> members = rows(groups("--describe", "--members", "--group", group), group);
            Set<String> clients = members.stream().map(it -> it.get(3)).collect(Collectors.toCollection(TreeSet::new));
            Harness.equal(Set.of("first", "second"), clients, "clients");
            members.forEach(it -> Harness.equal("1", it.get(4), "partitions of a member"));
            String verbose = groups("--describe", "--members", "--verbose", "--group", group);
            Harness.contains(verbose, topic + ":0");
            Harness.contains(verbose, topic + ":1");
            Harness.contains(verbose, "CURRENT-EPOCH");
            String state = groups("--describe", "--state", "--group", group);
            Harness.contains(state, "Stable");
            Harness.contains(state, "uniform");
            Harness.contains(groups("--list", "--type", "consumer"), group);
            Harness.contains(groups("--list", "--state", "stable"), group);
            groups("--reset-offsets", "--to-earliest", "--execute", "--group", group, "--topic", topic);
            Harness.equal(Set.of("10"), rows(groups("--describe", "--group", group), group).stream()
                    .map(it -> it.get(3)).collect(Collectors.toSet()), "offsets of a group in use");
        } finally {
            one.close();
            two.close();
        }
        Harness.contains(groups("--describe", "--state", "--group", group), "Empty");
        groups("--reset-offsets", "--to-earliest", "--execute", "--group", group, "--topic", topic);
        Harness.equal(Set.of("0"), rows(groups("--describe", "--group", group), group).stream()
                .map(it -> it.get(3)).collect(Collectors.toSet()), "offsets after the reset");
        Harness.contains(groups("--delete-offsets", "--group", group, "--topic", topic), "Successful");
        groups("--delete", "--group", group);
        Harness.that(!groups("--list").contains(group), "the group is gone");
    }
}
