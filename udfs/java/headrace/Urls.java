package headrace;

import java.util.Locale;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Parts of URLs, as RFC 3986 divides them; any text will do. */
public final class Urls {
    private Urls() {}

    /** What a URL is made of; the host is in lower case, path and query are as written. */
    public record UrlParts(
            String scheme,
            Optional<String> host,
            OptionalInt port,
            String path,
            Optional<String> query,
            Optional<String> fragment) {}

    /** RFC 3986, appendix B, with a scheme that must be there. */
    private static final Pattern URL = Pattern.compile(
            "([A-Za-z][A-Za-z0-9+.-]*):(?://([^/?#\\s]*))?([^?#\\s]*)(?:\\?([^#\\s]*))?(?:#(\\S*))?");

    private static final Pattern AUTHORITY =
            Pattern.compile("(?:[^@]*@)?(\\[[0-9A-Fa-f:.]+\\]|[^:\\[\\]@]*)(?::(\\d{0,5}))?");

    /** The parts of a URL. Empty when it has no scheme, white space inside, or a host or port that cannot be. */
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

    /** The host of a URL in lower case, if it has one. */
    public static Optional<String> urlHost(String url) {
        return urlParts(url).flatMap(UrlParts::host);
    }

    /** The last part of a URL's path, say {@code cat.jpg}, if it has one. */
    public static Optional<String> urlFile(String url) {
        return urlParts(url).map(parts -> parts.path().substring(parts.path().lastIndexOf('/') + 1))
                .filter(name -> !name.isEmpty());
    }

    /** What follows the last dot of a URL's file, in lower case, say {@code jpg}. */
    public static Optional<String> urlExtension(String url) {
        return urlFile(url).filter(name -> name.indexOf('.') > 0 && !name.endsWith("."))
                .map(name -> name.substring(name.lastIndexOf('.') + 1).toLowerCase(Locale.ROOT));
    }
}
