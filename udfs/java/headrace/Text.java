package headrace;

import java.text.Normalizer;
import java.util.Optional;
import java.util.regex.Pattern;

/** Plain text from text found on the web. */
public final class Text {
    private Text() {}

    private static final Pattern SHORTCODE =
            Pattern.compile("(?<![\\p{L}\\p{N}]):(?=[^\\s:]{0,99}\\p{L})([^\\s:]{1,100}):(?![\\p{L}\\p{N}])");
    private static final Pattern SPACES = Pattern.compile("[\\s\\p{Z}]+");

    /** Invisible characters: direction marks, byte order marks, soft hyphens; not joiners, for emoji and Persian. */
    private static final Pattern INVISIBLE =
            Pattern.compile("[\\p{Cc}\\p{Cs}\\p{Co}\\p{Cn}\\p{Cf}&&[^\\u200c\\u200d\\x{E0020}-\\x{E007F}]]");

    /** One character of an emoji, or a key cap. A repeated group would need stack for each of its repetitions. */
    private static final Pattern EMOJI = Pattern.compile("[0-9#*]\\x{FE0F}?\\x{20E3}|["
            + "\\x{1F000}-\\x{1FAFF}\\x{2600}-\\x{27BF}"
            + "\\x{2B00}-\\x{2BFF}\\x{2300}-\\x{23FF}\\x{FE0F}\\x{20E3}\\x{200D}\\x{E0020}-\\x{E007F}]");

    /**
     * Plain text: HTML entities are decoded, control characters removed, and runs of white space become one space; the
     * result is in Unicode normal form NFKC, without space at the ends. Empty if nothing is left.
     */
    public static Optional<String> plainText(Optional<String> text) {
        return text.flatMap(Text::plain);
    }

    /** Plain text without emoji: without pictographs, flags, key caps, and the marks that join and colour them. */
    public static Optional<String> withoutEmoji(Optional<String> text) {
        return text.map(all -> EMOJI.matcher(all).replaceAll(" ")).flatMap(Text::plain);
    }

    static Optional<String> plain(String text) {
        String spaced = SPACES.matcher(Entities.decode(text)).replaceAll(" ");
        String visible = INVISIBLE.matcher(spaced).replaceAll("");
        String normal = Normalizer.normalize(visible, Normalizer.Form.NFKC);
        String plain = SPACES.matcher(normal).replaceAll(" ").strip();
        return plain.isEmpty() ? Optional.empty() : Optional.of(plain);
    }

    /** Plain text in which {@code :smiling_face:} becomes «smiling face». */
    static Optional<String> words(String text) {
        String words = SHORTCODE.matcher(text).replaceAll(match -> " " + java.util.regex.Matcher.quoteReplacement(
                match.group(1).replace('_', ' ')) + " ");
        return plain(words);
    }

    /** The number of words: runs between white space, with each Han or Kana character counted as one word. */
    public static int countWords(String text) {
        int words = 0;
        boolean inside = false;
        for (int i = 0; i < text.length(); ) {
            int point = text.codePointAt(i);
            i += Character.charCount(point);
            boolean ideographic = Character.isIdeographic(point)
                    || Character.UnicodeScript.of(point) == Character.UnicodeScript.HIRAGANA
                    || Character.UnicodeScript.of(point) == Character.UnicodeScript.KATAKANA;
            boolean space = Character.isWhitespace(point);
            if (ideographic || !space && !inside) {
                words++;
            }
            inside = !space && !ideographic;
        }
        return words;
    }
}
