package acme;

import java.math.BigDecimal;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalInt;
import java.util.OptionalLong;
import java.util.Set;

/** Each supported type as parameter and result: what comes in goes out. */
public final class Types {
    private Types() {}

    public enum Colour { RED, GREEN }

    public record Point(int x, Optional<Double> y) {}

    public record Shape(String name, List<Optional<Point>> points, Optional<Map<String, Colour>> colours, byte[] bytes) {}

    public static boolean ofBoolean(boolean x) { return x; }
    public static Boolean ofBooleanBoxed(Boolean x) { return x; }
    public static byte ofByte(byte x) { return x; }
    public static Byte ofByteBoxed(Byte x) { return x; }
    public static short ofShort(short x) { return x; }
    public static Short ofShortBoxed(Short x) { return x; }
    public static int ofInt(int x) { return x; }
    public static Integer ofIntBoxed(Integer x) { return x; }
    public static long ofLong(long x) { return x; }
    public static Long ofLongBoxed(Long x) { return x; }
    public static float ofFloat(float x) { return x; }
    public static Float ofFloatBoxed(Float x) { return x; }
    public static double ofDouble(double x) { return x; }
    public static Double ofDoubleBoxed(Double x) { return x; }
    public static BigDecimal ofDecimal(BigDecimal x) { return x; }
    public static String ofString(String x) { return x; }
    public static byte[] ofBytes(byte[] x) { return x; }
    public static LocalDate ofDate(LocalDate x) { return x; }
    public static Instant ofInstant(Instant x) { return x; }
    public static LocalDateTime ofDateTime(LocalDateTime x) { return x; }
    public static Duration ofDuration(Duration x) { return x; }
    public static Colour ofEnum(Colour x) { return x; }
    public static OptionalInt ofOptionalInt(OptionalInt x) { return x; }
    public static OptionalLong ofOptionalLong(OptionalLong x) { return x; }
    public static OptionalDouble ofOptionalDouble(OptionalDouble x) { return x; }
    public static Optional<Boolean> ofOptionalBoolean(Optional<Boolean> x) { return x; }
    public static Optional<Integer> ofOptionalInteger(Optional<Integer> x) { return x; }
    public static Optional<Long> ofOptionalLongBoxed(Optional<Long> x) { return x; }
    public static Optional<Float> ofOptionalFloat(Optional<Float> x) { return x; }
    public static Optional<BigDecimal> ofOptionalDecimal(Optional<BigDecimal> x) { return x; }
    public static Optional<String> ofOptionalString(Optional<String> x) { return x; }
    public static Optional<byte[]> ofOptionalBytes(Optional<byte[]> x) { return x; }
    public static Optional<LocalDate> ofOptionalDate(Optional<LocalDate> x) { return x; }
    public static Optional<Instant> ofOptionalInstant(Optional<Instant> x) { return x; }
    public static Optional<LocalDateTime> ofOptionalDateTime(Optional<LocalDateTime> x) { return x; }
    public static Optional<Duration> ofOptionalDuration(Optional<Duration> x) { return x; }
    public static Optional<Colour> ofOptionalEnum(Optional<Colour> x) { return x; }
    public static List<String> ofList(List<String> x) { return x; }
    public static List<Optional<String>> ofListOfOptional(List<Optional<String>> x) { return x; }
    public static Optional<List<Optional<Point>>> ofOptionalListOfOptional(Optional<List<Optional<Point>>> x) { return x; }
    public static Set<Integer> ofSet(Set<Integer> x) { return x; }
    public static Map<String, Optional<Long>> ofMap(Map<String, Optional<Long>> x) { return x; }
    public static Map<Integer, List<String>> ofMapOfLists(Map<Integer, List<String>> x) { return x; }
    public static int[] ofIntArray(int[] x) { return x; }
    public static double[][] ofDoubleArrays(double[][] x) { return x; }
    public static String[] ofStringArray(String[] x) { return x; }
    public static Optional<String>[] ofOptionalArray(Optional<String>[] x) { return x; }
    public static byte[][] ofByteArrays(byte[][] x) { return x; }
    public static List<? extends Point> ofWildcard(List<? extends Point> x) { return x; }
    public static Point ofRecord(Point x) { return x; }
    public static Optional<Point> ofOptionalRecord(Optional<Point> x) { return x; }
    public static Shape ofNested(Shape x) { return x; }

    /** What Java sees, as text. */
    public static String text(LocalDate x) { return x.toString(); }
    public static String text(Instant x) { return x.toString(); }
    public static String text(LocalDateTime x) { return x.toString(); }
    public static long millis(Duration x) { return x.toMillis(); }
    public static String plain(BigDecimal x) { return x.toPlainString(); }
    public static int ordinal(Colour x) { return x.ordinal(); }
    public static int size(Optional<List<Optional<Integer>>> x) {
        return x.map(list -> (int) list.stream().filter(Optional::isPresent).count()).orElse(-1);
    }

    /** What Java makes. */
    public static LocalDate parseDate(String x) { return LocalDate.parse(x); }
    public static Instant parseInstant(String x) { return Instant.parse(x); }
    public static LocalDateTime parseDateTime(String x) { return LocalDateTime.parse(x); }
    public static Duration ofSeconds(long x) { return Duration.ofSeconds(x); }
    public static BigDecimal parseDecimal(String x) { return new BigDecimal(x); }
    public static Map<String, Integer> lengths(List<String> words) {
        Map<String, Integer> lengths = new java.util.LinkedHashMap<>();
        words.forEach(word -> lengths.put(word, word.length()));
        return lengths;
    }
    public static Point point(int x, double y) { return new Point(x, Optional.of(y)); }
}
