package bench;

import java.util.List;
import java.util.Locale;
import java.util.Optional;

/** The functions under measurement, as a headrace user writes them. */
public final class Functions {
    private Functions() {}

    public record Size(int width, int height) {}

    /** The first text that is there, trimmed, in upper case. */
    public static Optional<String> loud(Optional<String> alt, Optional<String> caption) {
        return alt.or(() -> caption).map(text -> text.strip().toUpperCase(Locale.ROOT));
    }

    /** The longest of the texts that are there. */
    public static Optional<String> longest(List<Optional<String>> captions) {
        String longest = null;
        for (Optional<String> caption : captions) {
            if (caption.isPresent() && (longest == null || caption.get().length() > longest.length())) {
                longest = caption.get();
            }
        }
        return Optional.ofNullable(longest);
    }

    /** The size after a quarter turn. */
    public static Size turned(Size size) {
        return new Size(size.height(), size.width());
    }
}
