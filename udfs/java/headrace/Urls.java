package headrace;

import java.util.Locale;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Parts of URLs as defined by RFC 3986. Every function accepts any text. */
public final class Urls {
    private Urls() {}

    /** The parts of a URL. Scheme and host are in lower case; path, query and fragment are as written. */
    public record UrlParts(
            String scheme,
            Optional<String> host,
            OptionalInt port,
            String path,
            Optional<String> query,
            Optional<String> fragment) {}

    /** RFC 3986, appendix B, with a required scheme. */
    private static final Pattern URL = Pattern.compile(
            "([A-Za-z][A-Za-z0-9+.-]*):(?://([^/?#\\s]*))?([^?#\\s]*)(?:\\?([^#\\s]*))?(?:#(\\S*))?");

    private static final Pattern AUTHORITY =
            Pattern.compile("(?:[^@]*@)?(\\[[0-9A-Fa-f:.]+\\]|[^:\\[\\]@]*)(?::(\\d{0,5}))?");

    /** The parts of a URL. Empty if it has no scheme, contains white space, or has an invalid host or port. */
    public static Optional<UrlParts> urlParts(String url) {
        Matcher matcher = URL.matcher(url.strip());
        if (!matcher.matches()) {
            return Optional.empty();
        }
        Optional<String> host = Optional.empty();
        OptionalInt port = OptionalInt.empty();
        if (matcher.group(2) != null) {
            Matcher authority = AUTHORITY.matcher(matcher.group(2));
            if (!authority.matches()) {
                return Optional.empty();
            }
            host = Optional.of(authority.group(1).toLowerCase(Locale.ROOT)).filter(name -> !name.isEmpty());
            String number = authority.group(2);
            if (number != null && !number.isEmpty()) {
                port = OptionalInt.of(Integer.parseInt(number));
            }
        }
        if (port.orElse(0) > 0xffff) {
            return Optional.empty();
        }
        return Optional.of(new UrlParts(matcher.group(1).toLowerCase(Locale.ROOT), host, port, matcher.group(3),
                Optional.ofNullable(matcher.group(4)), Optional.ofNullable(matcher.group(5))));
    }

    /** The host of a URL in lower case. Empty if it has none. */
    public static Optional<String> urlHost(String url) {
        return urlParts(url).flatMap(UrlParts::host);
    }

    /** The last part of a URL's path, for example {@code cat.jpg}. Empty if it has none. */
    public static Optional<String> urlFile(String url) {
        return urlParts(url).map(parts -> parts.path().substring(parts.path().lastIndexOf('/') + 1))
                .filter(name -> !name.isEmpty());
    }

    /** The extension of a URL's file in lower case, for example {@code jpg}. Empty if it has none. */
    public static Optional<String> urlExtension(String url) {
        return urlFile(url).filter(name -> name.indexOf('.') > 0 && !name.endsWith("."))
                .map(name -> name.substring(name.lastIndexOf('.') + 1).toLowerCase(Locale.ROOT));
    }
}
