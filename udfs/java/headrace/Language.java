package headrace;

import java.lang.Character.UnicodeScript;
import java.util.EnumMap;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;

/** What the letters of a text tell about its language, without a dictionary. */
public final class Language {
    private Language() {}

    /** Scripts that only one language uses, or one language far more than any other. */
    private static final Map<UnicodeScript, String> LANGUAGES = new EnumMap<>(Map.ofEntries(
            Map.entry(UnicodeScript.HIRAGANA, "ja"), Map.entry(UnicodeScript.KATAKANA, "ja"),
            Map.entry(UnicodeScript.HANGUL, "ko"), Map.entry(UnicodeScript.HAN, "zh"),
            Map.entry(UnicodeScript.THAI, "th"), Map.entry(UnicodeScript.LAO, "lo"),
            Map.entry(UnicodeScript.KHMER, "km"), Map.entry(UnicodeScript.MYANMAR, "my"),
            Map.entry(UnicodeScript.TIBETAN, "bo"), Map.entry(UnicodeScript.GREEK, "el"),
            Map.entry(UnicodeScript.HEBREW, "he"), Map.entry(UnicodeScript.ARMENIAN, "hy"),
            Map.entry(UnicodeScript.GEORGIAN, "ka"), Map.entry(UnicodeScript.DEVANAGARI, "hi"),
            Map.entry(UnicodeScript.BENGALI, "bn"), Map.entry(UnicodeScript.GURMUKHI, "pa"),
            Map.entry(UnicodeScript.GUJARATI, "gu"), Map.entry(UnicodeScript.TAMIL, "ta"),
            Map.entry(UnicodeScript.TELUGU, "te"), Map.entry(UnicodeScript.KANNADA, "kn"),
            Map.entry(UnicodeScript.MALAYALAM, "ml"), Map.entry(UnicodeScript.SINHALA, "si"),
            Map.entry(UnicodeScript.ETHIOPIC, "am"), Map.entry(UnicodeScript.CYRILLIC, "ru"),
            Map.entry(UnicodeScript.ARABIC, "ar")));

    /** The script of most letters, for example {@code latin} or {@code han}. Empty if there is no letter. */
    public static Optional<String> script(String text) {
        return dominant(text).map(script -> script.name().toLowerCase(Locale.ROOT));
    }

    /**
     * The ISO 639 code of the language that a text's script suggests: {@code ja} for Han characters with any kana,
     * {@code uk} and {@code fa} for letters that Russian and Arabic lack. Empty for Latin letters, which many languages
     * share, and for text without letters.
     */
    public static Optional<String> languageByScript(String text) {
        Optional<UnicodeScript> script = dominant(text);
        if (script.isEmpty()) {
            return Optional.empty();
        }
        return switch (script.get()) {
            case HAN -> Optional.of(text.codePoints().anyMatch(Language::isKana) ? "ja" : "zh");
            case CYRILLIC -> Optional.of(text.matches("(?s).*[ґєіїҐЄІЇ].*") ? "uk" : "ru");
            case ARABIC -> Optional.of(text.matches("(?s).*[پچژگ].*") ? "fa" : "ar");
            default -> Optional.ofNullable(LANGUAGES.get(script.get()));
        };
    }

    private static boolean isKana(int point) {
        UnicodeScript script = UnicodeScript.of(point);
        return script == UnicodeScript.HIRAGANA || script == UnicodeScript.KATAKANA;
    }

    private static Optional<UnicodeScript> dominant(String text) {
        Map<UnicodeScript, Integer> counts = new EnumMap<>(UnicodeScript.class);
        text.codePoints().filter(Character::isLetter).forEach(
                point -> counts.merge(UnicodeScript.of(point), 1, Integer::sum));
        counts.remove(UnicodeScript.COMMON);
        counts.remove(UnicodeScript.INHERITED);
        return counts.entrySet().stream().max(Map.Entry.comparingByValue()).map(Map.Entry::getKey);
    }
}
