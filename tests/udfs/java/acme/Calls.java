package acme;

import headrace.NonDeterministic;
import java.io.IOException;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.atomic.AtomicLong;

/** Functions that show how calls are chosen, fail and repeat. */
public final class Calls {
    private Calls() {}

    private static final AtomicLong COUNTER = new AtomicLong();

    public static String kind(int x) { return "int"; }
    public static String kind(long x) { return "long"; }
    public static String kind(double x) { return "double"; }
    public static String kind(String x) { return "string"; }
    public static String kind(String x, int y) { return "string, int"; }
    public static String kind(List<String> x) { return "list"; }

    /** Joins words. */
    public static String join(String separator, String... words) { return String.join(separator, words); }

    /** The sum of all numbers. */
    public static int sum(int... numbers) { return Arrays.stream(numbers).sum(); }

    public static int firstOf(int only) { return only; }
    public static int firstOf(int first, int... rest) { return first * 100; }

    public static String present(Optional<String>... texts) {
        return Arrays.stream(texts).map(text -> text.isPresent() ? "1" : "0").reduce("", String::concat);
    }

    /** Throws what its argument asks for. */
    public static String failing(String how) throws IOException {
        switch (how) {
            case "checked": throw new IOException("disk is full");
            case "unchecked": throw new IllegalStateException("no luck");
            case "null": return null;
            case "stack": return failing("stack");
            default: return how;
        }
    }

    public static String failsLong(String text) { throw new IllegalArgumentException("too long"); }

    public static List<String> nullInside(int x) { return Arrays.asList("a", null); }

    /** A function of two arguments. */
    public static Optional<String> pick(Optional<String> altText, String fallBack) {
        return altText.filter(text -> !text.isEmpty()).or(() -> fallBack.isEmpty() ? Optional.empty() : Optional.of(fallBack));
    }

    @NonDeterministic
    public static long next(int x) { return COUNTER.incrementAndGet(); }

    public static long counted(int x) { return COUNTER.incrementAndGet(); }

    public static int plain(int x) { return x + 1; }

    public static final class Nested {
        private Nested() {}

        public static int twice(int x) { return 2 * x; }
    }
}
