package headrace;

/**
 * What an image's header says.
 *
 * @param format png, jpeg, gif, webp or bmp
 * @param width in pixels, at least 1
 * @param height in pixels, at least 1
 */
public record ImageFacts(String format, int width, int height) {}
