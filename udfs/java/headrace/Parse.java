package headrace;

import java.math.BigDecimal;
import java.text.Normalizer;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.OffsetDateTime;
import java.time.DateTimeException;
import java.time.format.DateTimeFormatter;
import java.time.format.ResolverStyle;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalLong;
import java.util.regex.Pattern;

/** Numbers and times parsed from text: a value or empty, never an error. */
public final class Parse {
    private Parse() {}

    private static final Pattern WHOLE = Pattern.compile("[+-]?[0-9]{1,19}");
    private static final Pattern NUMBER =
            Pattern.compile("[+-]?(?:[0-9]{1,400}(?:\\.[0-9]{0,400})?|\\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,4})?");
    private static final int DIGITS = 38;
    private static final int SCALE = 18;

    private static final List<DateTimeFormatter> DATES = formatters(
            "uuuu-MM-dd", "uuuu/MM/dd", "uuuuMMdd", "dd.MM.uuuu", "uuuu:MM:dd");
    private static final List<DateTimeFormatter> TIMES = formatters(
            "uuuu-MM-dd'T'HH:mm[:ss[.SSSSSS][.SSS]]", "uuuu-MM-dd HH:mm[:ss[.SSSSSS][.SSS]]",
            "uuuu/MM/dd HH:mm[:ss]", "uuuu:MM:dd HH:mm:ss");
    private static final List<DateTimeFormatter> INSTANTS = List.of(
            DateTimeFormatter.ISO_OFFSET_DATE_TIME, DateTimeFormatter.RFC_1123_DATE_TIME);

    private static List<DateTimeFormatter> formatters(String... patterns) {
        return List.of(patterns).stream()
                .map(pattern -> DateTimeFormatter.ofPattern(pattern, Locale.ROOT))
                .map(format -> format.withResolverStyle(ResolverStyle.STRICT))
                .toList();
    }

    /** A whole number, in the digits of any script. Empty if the text is anything else or exceeds 64 bits. */
    public static OptionalLong parseLong(String text) {
        String plain = plain(text);
        if (!WHOLE.matcher(plain).matches()) {
            return OptionalLong.empty();
        }
        try {
            return OptionalLong.of(Long.parseLong(plain));
        } catch (NumberFormatException tooLarge) {
            return OptionalLong.empty();
        }
    }

    /** A finite decimal number, with an optional exponent. Empty for any other text. */
    public static OptionalDouble parseDouble(String text) {
        String plain = plain(text);
        double number = NUMBER.matcher(plain).matches() ? Double.parseDouble(plain) : Double.NaN;
        return Double.isFinite(number) ? OptionalDouble.of(number) : OptionalDouble.empty();
    }

    /** A number as decimal(38, 18). Empty if it has more digits on either side of the point, and for any other text. */
    public static Optional<BigDecimal> parseDecimal(String text) {
        String plain = plain(text);
        if (!NUMBER.matcher(plain).matches()) {
            return Optional.empty();
        }
        BigDecimal number = new BigDecimal(plain).stripTrailingZeros();
        boolean fits = number.scale() <= SCALE && number.precision() - number.scale() <= DIGITS - SCALE;
        return fits ? Optional.of(number) : Optional.empty();
    }

    /**
     * A date: 2024-02-29, 2024/02/29, 20240229, 29.02.2024 or EXIF's 2024:02:29. Empty for dates that do not exist, and
     * for 02/03/2024, which means different days in America and Europe.
     */
    public static Optional<LocalDate> parseDate(String text) {
        String plain = plain(text);
        return first(DATES, format -> LocalDate.parse(plain, format)).filter(day -> inRange(day.getYear()));
    }

    /** A date and time without zone: 2024-02-29T12:00:00, the same with a space, or EXIF's 2024:02:29 12:00:00. */
    public static Optional<LocalDateTime> parseDateTime(String text) {
        String plain = plain(text);
        return first(TIMES, format -> LocalDateTime.parse(plain, format)).filter(time -> inRange(time.getYear()));
    }

    /** An instant: an ISO time with an offset or Z, or an HTTP date such as «Thu, 29 Feb 2024 12:00:00 GMT». */
    public static Optional<Instant> parseInstant(String text) {
        String plain = plain(text);
        return first(INSTANTS, format -> OffsetDateTime.parse(plain, format)).filter(time -> inRange(time.getYear()))
                .map(OffsetDateTime::toInstant);
    }

    private static boolean inRange(int year) {
        return year >= 1 && year <= 9999;
    }

    private static <F, T> Optional<T> first(List<F> formats, java.util.function.Function<F, T> parse) {
        for (F format : formats) {
            try {
                return Optional.of(parse.apply(format));
            } catch (DateTimeException notThisOne) {
                continue;
            }
        }
        return Optional.empty();
    }

    /** The text without surrounding space, with the digits of all scripts as ASCII. */
    private static String plain(String text) {
        StringBuilder plain = new StringBuilder();
        Normalizer.normalize(text, Normalizer.Form.NFKC).strip().codePoints().forEach(point -> {
            int digit = Character.isDigit(point) ? Character.digit(point, 10) : -1;
            plain.appendCodePoint(digit >= 0 ? '0' + digit : point == '\u2212' ? '-' : point);
        });
        return plain.toString();
    }
}
