import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.InputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.common.utils.Exit;

/** Runs Kafka's command line tools: most in this JVM through their main method, a few as processes of their own. */
final class Tools {
    private static final long PROCESS_SECONDS = 60;

    /** What a tool printed and how it ended. */
    record Result(int status, String output) {
        /** The output of a tool that must have succeeded. */
        String fine() {
            Harness.equal(0, status, "exit status of the tool, which said: " + output);
            return output;
        }
    }

    /** Stands for the end of the process when a tool runs inside this one. */
    private static final class Exited extends Error {
        Exited() {
            super("exit", null, false, false);
        }
    }

    /** The status that the running tool ended with; some tools catch our error and end a second time. */
    private static Integer exitStatus;

    /** What the running tool wants done at the end of its process: some only then send or print the rest. */
    private static final List<Runnable> HOOKS = new ArrayList<>();

    private Tools() {}

    private static void exit(int status) {
        if (exitStatus == null) {
            exitStatus = status;
        }
        throw new Exited();
    }

    static void install() {
        Exit.setExitProcedure((status, message) -> exit(status));
        Exit.setHaltProcedure((status, message) -> exit(status));
        Exit.setShutdownHookAdder((name, runnable) -> HOOKS.add(runnable));
    }

    static Result run(String tool, String... arguments) throws Exception {
        return runWithInput("", tool, arguments);
    }

    /** Calls the tool's main method with {@code input} as standard input. */
    static Result runWithInput(String input, String tool, String... arguments) throws Exception {
        PrintStream out = System.out;
        PrintStream err = System.err;
        InputStream in = System.in;
        ByteArrayOutputStream captured = new ByteArrayOutputStream();
        PrintStream capture = new PrintStream(captured, true, StandardCharsets.UTF_8);
        exitStatus = null;
        try {
            System.setOut(capture);
            System.setErr(capture);
            System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
            Class.forName(name(tool)).getMethod("main", String[].class).invoke(null, (Object) arguments);
        } catch (InvocationTargetException wrapped) {
            if (!(wrapped.getCause() instanceof Exited)) {
                throw new IllegalStateException(tool + ": " + captured, wrapped.getCause());
            }
        } finally {
            HOOKS.forEach(Runnable::run);
            HOOKS.clear();
            capture.flush();
            System.setOut(out);
            System.setErr(err);
            System.setIn(in);
        }
        return new Result(exitStatus == null ? 0 : exitStatus, captured.toString(StandardCharsets.UTF_8));
    }

    /** The same as a process of its own, as a user's shell would start it. */
    static Result process(String input, String tool, String... arguments) throws Exception {
        List<String> command = new ArrayList<>();
        command.add(System.getProperty("java.home") + File.separator + "bin" + File.separator + "java");
        command.addAll(List.of("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m"));
        command.add("-Dorg.slf4j.simpleLogger.defaultLogLevel=error");
        command.addAll(List.of("-cp", System.getProperty("java.class.path"), name(tool)));
        command.addAll(List.of(arguments));
        Path captured = Files.createTempFile("tool", ".out");
        try {
            Process process = new ProcessBuilder(command).redirectOutput(captured.toFile())
                    .redirectError(ProcessBuilder.Redirect.INHERIT).start();
            try (var sink = process.getOutputStream()) {
                sink.write(input.getBytes(StandardCharsets.UTF_8));
            }
            if (!process.waitFor(PROCESS_SECONDS, TimeUnit.SECONDS)) {
                process.destroyForcibly();
                throw new AssertionError(tool + " did not end within " + PROCESS_SECONDS + " s");
            }
            return new Result(process.exitValue(), Files.readString(captured));
        } finally {
            Files.delete(captured);
        }
    }

    private static String name(String tool) {
        return tool.startsWith("kafka.") ? tool : "org.apache.kafka.tools." + tool;
    }
}
