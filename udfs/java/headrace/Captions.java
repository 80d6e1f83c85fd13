package headrace;

import java.util.List;
import java.util.Optional;

/** Captions of images: cleaned, and the best one chosen. */
public final class Captions {
    private Captions() {}

    /** The text of a caption: see {@code plain_text}; colons and underscores of emoji shortcodes become words. */
    public static Optional<String> clean(Optional<String> caption) {
        return caption.flatMap(Text::words);
    }

    /** The longest caption of at least {@code minWords} words, cleaned; the alternative text goes first. */
    public static Optional<String> best(Optional<String> alt, List<Optional<String>> captions, int minWords) {
        Optional<String> best = clean(alt).filter(text -> Text.countWords(text) >= minWords);
        if (best.isPresent()) {
            return best;
        }
        String longest = null;
        for (Optional<String> caption : captions) {
            String text = clean(caption).orElse("");
            if (Text.countWords(text) >= minWords && (longest == null || text.length() > longest.length())) {
                longest = text;
            }
        }
        return Optional.ofNullable(longest).filter(text -> !text.isEmpty());
    }
}
