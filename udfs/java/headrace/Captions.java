package headrace;

import java.util.List;
import java.util.Optional;

/** Cleaning the captions of images, and choosing the best one. */
public final class Captions {
    private Captions() {}

    /**
     * A caption as plain text (see {@code plain_text}), with emoji shortcodes such as :red_car: turned into words.
     * Empty if nothing is left.
     */
    public static Optional<String> clean(Optional<String> caption) {
        return caption.flatMap(Text::words);
    }

    /**
     * The alternative text if it has at least {@code minWords} words, otherwise the longest such caption; cleaned.
     * Empty if there is none.
     */
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
