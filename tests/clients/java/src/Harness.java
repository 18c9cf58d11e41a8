import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.UUID;
import java.util.concurrent.Callable;

/**
 * What the Java client programs share: named checks, broker control, and the content that clients exchange.
 *
 * <p>Prints {@code ok - NAME} or {@code not ok - NAME # REASON} ({@code ok - NAME # SKIP REASON} for a skip) for each
 * check; {@code cargo xtask test} counts them. The broker's address comes in BOOTSTRAP, that of the control socket in
 * CONTROL.
 */
final class Harness {
    static final String BOOTSTRAP = System.getenv("BOOTSTRAP");
    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    static final int CROSS_COUNT = 300;

    /** A check's body. */
    interface Body {
        void run() throws Exception;
    }

    /** Thrown by a check that cannot run here. */
    static final class Skip extends RuntimeException {
        Skip(String reason) {
            super(reason);
        }
    }

    private final String prefix;
    private final String only;
    private boolean failed;

    Harness(String prefix, String only) {
        this.prefix = prefix;
        this.only = only;
    }

    boolean failed() {
        return failed;
    }

    void check(String promise, Body body) {
        String name = prefix + ": " + promise;
        if (only != null && !name.contains(only)) {
            return;
        }
        long started = System.nanoTime();
        try {
            body.run();
            Out.line(String.format("ok - %s (%.1f s)", name, (System.nanoTime() - started) / 1e9));
        } catch (Skip skip) {
            Out.line("ok - " + name + " # SKIP " + skip.getMessage());
        } catch (Throwable problem) {
            failed = true;
            String reason = String.valueOf(problem).replaceAll("\\s+", " ");
            Out.line("not ok - " + name + " # " + reason.substring(0, Math.min(600, reason.length())));
            problem.printStackTrace();
        }
    }

    void report(String name, String problem) {
        failed |= problem != null;
        Out.line(problem == null ? "ok - " + name : "not ok - " + name + " # " + problem);
    }

    static void equal(Object expected, Object actual, String what) {
        if (!Objects.equals(expected, actual)) {
            throw new AssertionError(what + ": expected " + expected + ", got " + actual);
        }
    }

    static void that(boolean condition, String what) {
        if (!condition) {
            throw new AssertionError(what);
        }
    }

    static void contains(String text, String part) {
        that(text.contains(part), "expected '" + part + "' in: " + text);
    }

    /** Polls until {@code condition} holds; the limit only bounds a failure. */
    static void until(String what, int seconds, Callable<Boolean> condition) throws Exception {
        long deadline = System.nanoTime() + seconds * 1_000_000_000L;
        while (!condition.call()) {
            that(System.nanoTime() < deadline, "not within " + seconds + " s: " + what);
            Thread.sleep(50);
        }
    }

    static String unique(String prefix) {
        return prefix + "-" + UUID.randomUUID().toString().substring(0, 8);
    }

    /** One command to the control socket; its number is returned. */
    static long control(String command) throws IOException {
        String address = System.getenv("CONTROL");
        if (address == null) {
            throw new Skip("no control socket");
        }
        String[] parts = address.split(":");
        try (Socket socket = new Socket(parts[0], Integer.parseInt(parts[1]));
                OutputStream out = socket.getOutputStream();
                BufferedReader in = new BufferedReader(new InputStreamReader(socket.getInputStream()))) {
            out.write((command + "\n").getBytes(StandardCharsets.UTF_8));
            String answer = in.readLine();
            that(answer != null && answer.startsWith("ok "), command + ": " + answer);
            return Long.parseLong(answer.substring(3).trim());
        }
    }

    static String crossTopic(String writer, String codec) {
        return "cross-" + writer + "-" + codec;
    }

    static String crossValue(String writer, String codec, int index) {
        return (writer + "/" + codec + "/" + index + ";").repeat(index % 20 + 1);
    }

    /** {@code messages}: key, value, key, value… in order of arrival. */
    void crossVerify(String reader, String writer, String codec, List<String> messages) {
        List<String> expected = new ArrayList<>();
        for (int i = 0; i < CROSS_COUNT; i++) {
            expected.add(String.valueOf(i));
            expected.add(crossValue(writer, codec, i));
        }
        String problem = messages.equals(expected) ? null : "content differs, " + messages.size() / 2 + " messages";
        report(reader + " reads what " + writer + " wrote with " + codec, problem);
    }
}
