import java.io.PrintStream;

/** The real standard output, kept while a tool's own output is captured. */
final class Out {
    private static final PrintStream REAL = System.out;

    private Out() {}

    static void line(String text) {
        REAL.println(text);
        REAL.flush();
    }
}
