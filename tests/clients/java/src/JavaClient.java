import java.util.List;

/** Kafka's Java clients and command line tools against a broker, in one JVM: {@code scenarios [PART-OF-A-NAME]},
 * {@code access [PART-OF-A-NAME]} (ACLs),
 * {@code transactions [PART-OF-A-NAME]}, {@code groups [PART-OF-A-NAME]}, {@code shares [PART-OF-A-NAME]},
 * {@code frameworks [PART-OF-A-NAME]} (Streams and Connect), {@code cross-write} or {@code cross-read WRITER…}. */
public final class JavaClient {
    private JavaClient() {}

    public static void main(String[] arguments) {
        String mode = arguments.length > 0 ? arguments[0] : "scenarios";
        List<String> rest = arguments.length > 0 ? List.of(arguments).subList(1, arguments.length) : List.of();
        Harness harness = new Harness("java", !mode.startsWith("cross") && !rest.isEmpty() ? rest.get(0) : null);
        switch (mode) {
            case "scenarios" -> {
                Tools.install();
                ToolChecks.run(harness);
                ApiChecks.run(harness);
            }
            case "transactions" -> {
                Tools.install();
                TransactionChecks.run(harness);
            }
            case "groups" -> {
                Tools.install();
                GroupChecks.run(harness);
            }
            case "access" -> {
                Tools.install();
                AccessChecks.run(harness);
            }
            case "shares" -> {
                Tools.install();
                ShareChecks.run(harness);
            }
            case "frameworks" -> {
                StreamsChecks.run(harness);
                ConnectChecks.run(harness);
            }
            case "cross-write" -> ApiChecks.crossWrite(harness);
            case "cross-read" -> ApiChecks.crossRead(harness, rest);
            default -> throw new IllegalArgumentException("unknown mode " + mode);
        }
        // Kafka's tools leave threads behind that would keep the process.
        Runtime.getRuntime().halt(harness.failed() ? 1 : 0);
    }
}
