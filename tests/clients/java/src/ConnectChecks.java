import java.net.ServerSocket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.apache.kafka.connect.cli.ConnectDistributed;
import org.apache.kafka.connect.runtime.Connect;

/** Promises to users of Kafka Connect: a distributed worker that keeps everything it knows in topics. */
final class ConnectChecks {
    private static final int SECONDS = 60;
    private static final HttpClient HTTP = HttpClient.newHttpClient();

    private ConnectChecks() {}

    static void run(Harness harness) {
        harness.check("a Connect worker copies a file through a topic, also after a restart", ConnectChecks::files);
    }

    private static void files() throws Exception {
        String id = Harness.unique("connect");
        Path folder = Files.createTempDirectory("connect");
        Path source = folder.resolve("source");
        Path sink = folder.resolve("sink");
        append(source, 0, 500);
        String rest = "http://127.0.0.1:" + freePort();
        Connect<?> worker = worker(id, rest);
        String file = "\"tasks.max\":\"1\",\"file\":\"%s\","
                + "\"connector.class\":\"org.apache.kafka.connect.file.FileStream";
        put(rest, "source", String.format(file, source) + "SourceConnector\",\"topic\":\"" + id + "-lines\"");
        put(rest, "sink", String.format(file, sink) + "SinkConnector\",\"topics\":\"" + id + "-lines\"");
        Harness.until("500 lines copied", SECONDS, () -> count(sink) == 500);
        stop(worker);
        append(source, 500, 800);
        worker = worker(id, rest); // The connectors, and how far they were, come from the worker's topics.
        Harness.until("800 lines copied", SECONDS, () -> count(sink) == 800);
        stop(worker);
        List<String> expected = IntStream.range(0, 800).mapToObj(index -> "line " + index).toList();
        Harness.equal(expected, Files.readAllLines(sink), "the copy");
    }

    private static Connect<?> worker(String id, String rest) {
        Map<String, String> settings = new HashMap<>();
        settings.put("bootstrap.servers", Harness.BOOTSTRAP);
        settings.put("group.id", id);
        for (String kind : List.of("config", "offset", "status")) {
            settings.put(kind + ".storage.topic", id + "-" + kind);
            settings.put(kind + ".storage.replication.factor", "1");
        }
        settings.put("offset.storage.partitions", "5");
        settings.put("offset.flush.interval.ms", "500");
        settings.put("scheduled.rebalance.max.delay.ms", "0");
        for (String side : List.of("key", "value")) {
            settings.put(side + ".converter", "org.apache.kafka.connect.storage.StringConverter");
        }
        settings.put("consumer.auto.offset.reset", "earliest");
        settings.put("listeners", rest);
        // Without it every jar on the class path is searched for plugins, which takes most of a minute.
        settings.put("plugin.discovery", "service_load");
        return new ConnectDistributed().startConnect(settings);
    }

    private static void stop(Connect<?> worker) {
        worker.stop();
        worker.awaitStop();
    }

    /** Creates a connector once the worker takes it. */
    private static void put(String rest, String name, String config) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(rest + "/connectors/" + name + "/config"))
                .header("Content-Type", "application/json")
                .PUT(HttpRequest.BodyPublishers.ofString("{" + config + "}")).build();
        Harness.until("the connector " + name + " is created", SECONDS, () -> {
            HttpResponse<String> answer = HTTP.send(request, HttpResponse.BodyHandlers.ofString());
            // A worker that rebalances says 409.
            Harness.that(answer.statusCode() / 100 == 2 || answer.statusCode() == 409, answer.body());
            return answer.statusCode() / 100 == 2;
        });
    }

    private static void append(Path file, int from, int to) throws Exception {
        List<String> lines = IntStream.range(from, to).mapToObj(index -> "line " + index).toList();
        Files.write(file, lines, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
    }

    private static int count(Path file) throws Exception {
        return Files.exists(file) ? Files.readAllLines(file).size() : 0;
    }

    private static int freePort() throws Exception {
        try (ServerSocket socket = new ServerSocket(0)) {
            return socket.getLocalPort();
        }
    }
}
