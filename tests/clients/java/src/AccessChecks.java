import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.errors.GroupAuthorizationException;
import org.apache.kafka.common.errors.TopicAuthorizationException;
import org.apache.kafka.common.errors.TransactionalIdAuthorizationException;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Promises about ACLs, to Java clients and to operators. The broker has the standard authorizer, and what no ACL speaks
 * of is everybody's; every client is {@code User:ANONYMOUS}.
 */
final class AccessChecks {
    private static final int SECONDS = 60;
    private static final String ME = "User:ANONYMOUS";

    private AccessChecks() {}

    static void run(Harness harness) {
        harness.check("kafka-acls adds, lists and removes, also over a restart", AccessChecks::tool);
        harness.check("a producer is refused and then allowed", AccessChecks::producing);
        harness.check("a consumer is refused by its topic, by its group, and then allowed", AccessChecks::consuming);
        harness.check("a pattern finds topics that may be described", AccessChecks::pattern);
        harness.check("a transactional producer needs its id", AccessChecks::transactions);
        harness.check("what may not be described is not listed", AccessChecks::listing);
    }

    private static Admin admin() {
        return Admin.create(Map.of("bootstrap.servers", Harness.BOOTSTRAP));
    }

    private static String topic(Admin admin) throws Exception {
        String topic = Harness.unique("java-access");
        admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all().get();
        return topic;
    }

    private static AclBinding acl(
            ResourceType type, String name, AclOperation operation, AclPermissionType permission) {
        return new AclBinding(new ResourcePattern(type, name, PatternType.LITERAL),
                new AccessControlEntry(ME, "*", operation, permission));
    }

    /** Returns when they are in effect: Kafka's brokers follow their controller a little later. */
    private static void add(Admin admin, AclBinding... acls) throws Exception {
        admin.createAcls(List.of(acls)).all().get();
        Harness.until("the ACLs are there", SECONDS, () -> all(admin).containsAll(List.of(acls)));
    }

    private static Collection<AclBinding> all(Admin admin) throws Exception {
        return admin.describeAcls(AclBindingFilter.ANY).values().get();
    }

    private static void remove(Admin admin, AclBinding... acls) throws Exception {
        List<AclBindingFilter> filters = new ArrayList<>();
        for (AclBinding acl : acls) {
            filters.add(acl.toFilter());
        }
        admin.deleteAcls(filters).all().get();
        Harness.until("the ACLs are gone", SECONDS, () -> Collections.disjoint(all(admin), List.of(acls)));
    }

    private static void tool() throws Exception {
        String topic = Harness.unique("java-access");
        String group = Harness.unique("group");
        String[] common = {"--bootstrap-server", Harness.BOOTSTRAP};
        acls(common, "--add", "--allow-principal", "User:alice", "--consumer", "--topic", topic, "--group", group);
        acls(common, "--add", "--deny-principal", "User:bob", "--deny-host", "10.0.0.1", "--operation", "Write",
                "--topic", topic, "--resource-pattern-type", "prefixed");
        Harness.control("restart");
        String listed = acls(common, "--list", "--topic", topic, "--resource-pattern-type", "match");
        Harness.contains(listed, "principal=User:alice, host=*, operation=READ, permissionType=ALLOW");
        Harness.contains(listed, "principal=User:bob, host=10.0.0.1, operation=WRITE, permissionType=DENY");
        Harness.contains(acls(common, "--list", "--group", group), "operation=READ");
        acls(common, "--remove", "--force", "--topic", topic, "--resource-pattern-type", "any");
        Harness.that(!acls(common, "--list", "--topic", topic, "--resource-pattern-type", "any").contains("User:"),
                "the topic's ACLs are gone");
        acls(common, "--remove", "--force", "--group", group);
    }

    private static String acls(String[] common, String... rest) throws Exception {
        List<String> arguments = new ArrayList<>(List.of(common));
        arguments.addAll(List.of(rest));
        return Tools.run("AclCommand", arguments.toArray(String[]::new)).fine();
    }

    private static void producing() throws Exception {
        try (Admin admin = admin(); var producer = ApiChecks.producer("none")) {
            String topic = topic(admin);
            AclBinding denial = acl(ResourceType.TOPIC, topic, AclOperation.WRITE, AclPermissionType.DENY);
            add(admin, denial);
            Harness.that(send(producer, topic) instanceof TopicAuthorizationException, "the write is refused");
            remove(admin, denial);
            Harness.equal(null, send(producer, topic), "the write once the denial is gone");
            // With an ACL for somebody else the topic is nobody else's.
            AclBinding other = new AclBinding(new ResourcePattern(ResourceType.TOPIC, topic, PatternType.LITERAL),
                    new AccessControlEntry("User:other", "*", AclOperation.WRITE, AclPermissionType.ALLOW));
            add(admin, other);
            Harness.that(send(producer, topic) instanceof TopicAuthorizationException, "the topic is somebody else's");
            add(admin, acl(ResourceType.TOPIC, topic, AclOperation.WRITE, AclPermissionType.ALLOW));
            Harness.equal(null, send(producer, topic), "the write once it is allowed");
        }
    }

    private static Throwable send(KafkaProducer<String, String> producer, String topic) throws Exception {
        try {
            producer.send(new ProducerRecord<>(topic, "k", "v")).get(SECONDS, TimeUnit.SECONDS);
            return null;
        } catch (ExecutionException refused) {
            return refused.getCause();
        }
    }

    private static void consuming() throws Exception {
        try (Admin admin = admin(); var producer = ApiChecks.producer("none")) {
            String topic = topic(admin);
            Harness.equal(null, send(producer, topic), "a record to read");
            String group = Harness.unique("group");
            // With an ACL the topic is nobody's any more: what is to stay allowed has to be said.
            AclBinding known = acl(ResourceType.TOPIC, topic, AclOperation.DESCRIBE, AclPermissionType.ALLOW);
            AclBinding unread = acl(ResourceType.TOPIC, topic, AclOperation.READ, AclPermissionType.DENY);
            AclBinding unjoined = acl(ResourceType.GROUP, group, AclOperation.READ, AclPermissionType.DENY);
            for (String protocol : List.of("classic", "consumer")) {
                add(admin, known, unread, unjoined);
                Throwable refused = poll(group, topic, protocol);
                Harness.that(refused instanceof GroupAuthorizationException, "the group is refused: " + refused);
                remove(admin, unjoined);
                Throwable told = poll(group, topic, protocol);
                Harness.that(told instanceof TopicAuthorizationException, "the topic is refused: " + told);
                Harness.equal(Set.of(topic), ((TopicAuthorizationException) told).unauthorizedTopics(), "which");
                remove(admin, known, unread);
                Harness.equal(null, poll(group, topic, protocol), "what is read with " + protocol);
            }
        }
    }

    /** What a new member meets until it has a record; {@code null} if it gets one. */
    private static Throwable poll(String group, String topic, String protocol) {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", Harness.BOOTSTRAP);
        settings.put("group.id", group);
        settings.put("group.protocol", protocol);
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        long deadline = System.nanoTime() + SECONDS * 1_000_000_000L;
        try (var consumer =
                new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic));
            while (System.nanoTime() < deadline) {
                if (!consumer.poll(Duration.ofMillis(200)).isEmpty()) {
                    return null;
                }
            }
            return new AssertionError("no record and no error");
        } catch (RuntimeException refused) {
            return refused;
        }
    }

    private static void pattern() throws Exception {
        String prefix = Harness.unique("java-access");
        String group = Harness.unique("group");
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", Harness.BOOTSTRAP);
        settings.put("group.id", group);
        settings.put("group.protocol", "consumer");
        try (Admin admin = admin();
                var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            List<NewTopic> topics = new ArrayList<>();
            for (String name : List.of("-seen", "-unseen")) {
                topics.add(new NewTopic(prefix + name, 1, (short) 1));
            }
            admin.createTopics(topics).all().get();
            AclBinding denial =
                    acl(ResourceType.TOPIC, prefix + "-unseen", AclOperation.DESCRIBE, AclPermissionType.DENY);
            add(admin, denial);
            consumer.subscribe(new SubscriptionPattern("^" + prefix + "-.*"));
            untilAssigned(consumer, Set.of(prefix + "-seen"));
            // A topic that comes has all topics looked for again, by what the ACLs say then.
            remove(admin, denial);
            admin.createTopics(List.of(new NewTopic(prefix + "-later", 1, (short) 1))).all().get();
            untilAssigned(consumer, Set.of(prefix + "-seen", prefix + "-unseen", prefix + "-later"));
            Harness.equal(1, admin.describeConsumerGroups(List.of(group)).all().get().get(group).members().size(),
                    "members told to who may describe all");
            add(admin, denial);
            try {
                admin.describeConsumerGroups(List.of(group)).all().get();
                throw new AssertionError("the description is refused");
            } catch (ExecutionException refused) {
                Harness.that(refused.getCause() instanceof TopicAuthorizationException, String.valueOf(refused));
            }
            remove(admin, denial);
        }
    }

    private static void untilAssigned(KafkaConsumer<String, String> consumer, Set<String> topics) throws Exception {
        Harness.until("assigned: " + topics, SECONDS, () -> {
            consumer.poll(Duration.ofMillis(200));
            Set<String> assigned = new HashSet<>();
            consumer.assignment().forEach(it -> assigned.add(it.topic()));
            Harness.that(topics.containsAll(assigned), "nothing else is assigned: " + assigned);
            return assigned.equals(topics);
        });
    }

    private static void transactions() throws Exception {
        try (Admin admin = admin()) {
            String topic = topic(admin);
            String id = Harness.unique("transactional");
            AclBinding denial = acl(ResourceType.TRANSACTIONAL_ID, id, AclOperation.WRITE, AclPermissionType.DENY);
            add(admin, denial);
            Map<String, Object> settings = Map.of("bootstrap.servers", Harness.BOOTSTRAP, "transactional.id", id);
            try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
                producer.initTransactions();
                throw new AssertionError("the id is refused");
            } catch (TransactionalIdAuthorizationException refused) {
                Harness.contains(refused.toString(), "Authorization");
            }
            remove(admin, denial);
            try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
                producer.initTransactions();
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(topic, "k", "v"));
                producer.commitTransaction();
            }
        }
    }

    private static void listing() throws Exception {
        try (Admin admin = admin()) {
            String topic = topic(admin);
            Harness.that(admin.listTopics().names().get().contains(topic), "the topic is listed");
            AclBinding denial = acl(ResourceType.TOPIC, topic, AclOperation.DESCRIBE, AclPermissionType.DENY);
            add(admin, denial);
            Harness.that(!admin.listTopics().names().get().contains(topic), "the topic is not listed");
            try {
                admin.describeTopics(List.of(topic)).allTopicNames().get();
                throw new AssertionError("the description is refused");
            } catch (ExecutionException refused) {
                Harness.that(refused.getCause() instanceof TopicAuthorizationException, String.valueOf(refused));
            }
            remove(admin, denial);
            Harness.that(admin.listTopics().names().get().contains(topic), "the topic is listed again");
        }
    }
}
