package headrace;

import java.awt.image.BufferedImage;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.util.Base64;
import java.util.Iterator;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import javax.imageio.ImageIO;
import javax.imageio.ImageReadParam;
import javax.imageio.ImageReader;
import javax.imageio.stream.ImageInputStream;
import javax.imageio.stream.MemoryCacheImageInputStream;

/** Facts about encoded images, and what is wrong with them. */
public final class Images {
    private Images() {}

    /** Pixels of the largest image that gets a key: decoding it takes a second and, for some JPEGs, 400 MB. */
    private static final long MAX_KEY_PIXELS = 1L << 26;

    /** An image is subsampled to sides of this many pixels, up to twice as many, before its key is computed. */
    private static final int ENOUGH = 128;

    private static final int KEY_WIDTH = 8;
    private static final int KEY_HEIGHT = 8;

    /** How URLs may write the digits of base64, its padding and its line breaks. */
    private static final Map<String, Character> ESCAPES = Map.of(
            "%2B", '+', "%2b", '+', "%2F", '/', "%2f", '/', "%3D", '=', "%3d", '=', "%0A", '\n', "%0D", '\r');

    /** Names and proportions of the buckets, from tall to wide. */
    private static final int[][] BUCKETS = {
        {1, 3}, {9, 21}, {1, 2}, {9, 16}, {2, 3}, {3, 4}, {4, 5}, {1, 1},
        {5, 4}, {4, 3}, {3, 2}, {16, 9}, {2, 1}, {21, 9}, {3, 1}
    };

    /**
     * Format, width and height from the header of a PNG, JPEG, GIF, WebP or BMP, without decoding. Empty when the bytes
     * are none of these, or end before the size.
     */
    public static Optional<ImageFacts> imageFacts(byte[] image) {
        return Headers.read(image).facts();
    }

    /**
     * What is wrong with an image, without decoding: {@code empty}, {@code unknown format} (no PNG, JPEG, GIF, WebP or
     * BMP), {@code truncated}, {@code corrupt}, {@code no pixels} or {@code too large} (over 2²⁸ pixels, or a side of
     * over 1,000,000, for JPEG 65,500). Empty when a dataset build would take the image.
     */
    public static Optional<String> imageProblem(byte[] image) {
        return Headers.read(image).problem();
    }

    /**
     * The bytes that base64 stands for, as it is found in JSON and in web pages: with or without a prefix such as
     * {@code data:image/png;base64,}, line breaks and padding, in the usual alphabet or the one for URLs. Empty for other
     * text.
     */
    public static Optional<byte[]> imageFromBase64(String text) {
        int comma = text.indexOf(',');
        boolean isUrl = text.stripLeading().regionMatches(true, 0, "data:", 0, 5);
        if (isUrl && !text.substring(0, Math.max(comma, 0)).stripTrailing().toLowerCase(Locale.ROOT).endsWith(";base64")) {
            return Optional.empty();
        }
        StringBuilder digits = new StringBuilder(text.length());
        for (int i = isUrl ? comma + 1 : 0; i < text.length(); i++) {
            char digit = text.charAt(i);
            if (digit == '%' && ESCAPES.containsKey(text.substring(i, Math.min(i + 3, text.length())))) {
                digit = ESCAPES.get(text.substring(i, i + 3));
                i += 2;
            }
            if (!Character.isWhitespace(digit)) {
                digits.append(digit == '-' ? '+' : digit == '_' ? '/' : digit);
            }
        }
        int end = digits.length();
        while (end > 0 && digits.charAt(end - 1) == '=') {
            end--;
        }
        try {
            return Optional.of(Base64.getDecoder().decode(digits.substring(0, end)));
        } catch (IllegalArgumentException notBase64) {
            return Optional.empty();
        }
    }

    /**
     * The nearest common proportion, {@code width:height} from {@code 1:3} to {@code 3:1}, by the ratio's logarithm.
     * Empty when a side is not positive.
     */
    public static Optional<String> aspectBucket(int width, int height) {
        if (width <= 0 || height <= 0) {
            return Optional.empty();
        }
        double wanted = Math.log((double) width / height);
        int[] nearest = BUCKETS[0];
        for (int[] bucket : BUCKETS) {
            if (Math.abs(ratio(bucket) - wanted) < Math.abs(ratio(nearest) - wanted)) {
                nearest = bucket;
            }
        }
        return Optional.of(nearest[0] + ":" + nearest[1]);
    }

    private static double ratio(int[] bucket) {
        return Math.log((double) bucket[0] / bucket[1]);
    }

    /**
     * A key of 64 bits that differs in few bits between images that look alike: the signs of the horizontal differences
     * of brightness on a grid of 9 × 8, over white, as 16 hexadecimal digits (dHash). Empty for WebP, for files that are
     * damaged or have an {@code imageProblem} or more than 2²⁶ pixels, and for formats other than PNG, JPEG, GIF and BMP.
     */
    public static Optional<String> nearDuplicateKey(byte[] image) {
        Headers.Header header = Headers.read(image);
        if (header.problem().isPresent() || header.facts().filter(Images::getsKey).isEmpty()) {
            return Optional.empty();
        }
        try (ImageInputStream stream = new MemoryCacheImageInputStream(new ByteArrayInputStream(image))) {
            Iterator<ImageReader> readers = ImageIO.getImageReaders(stream);
            if (!readers.hasNext()) {
                return Optional.empty();
            }
            ImageReader reader = readers.next();
            try {
                reader.setInput(stream, true, true);
                return Optional.of(key(subsampled(reader, header.facts().get())));
            } finally {
                reader.dispose();
            }
        } catch (IOException | RuntimeException damaged) {
            return Optional.empty(); // the JDK's decoders throw many kinds of RuntimeException on damaged bytes
        }
    }

    private static boolean getsKey(ImageFacts facts) {
        return (long) facts.width() * facts.height() <= MAX_KEY_PIXELS;
    }

    private static BufferedImage subsampled(ImageReader reader, ImageFacts facts) throws IOException {
        ImageReadParam parameters = reader.getDefaultReadParam();
        int across = Math.max(1, facts.width() / ENOUGH);
        int down = Math.max(1, facts.height() / ENOUGH);
        parameters.setSourceSubsampling(across, down, 0, 0);
        return reader.read(0, parameters);
    }

    private static String key(BufferedImage image) {
        double[][] grid = new double[KEY_HEIGHT][KEY_WIDTH + 1];
        for (int row = 0; row < KEY_HEIGHT; row++) {
            for (int column = 0; column <= KEY_WIDTH; column++) {
                grid[row][column] = brightness(image, column, row);
            }
        }
        long bits = 0;
        for (double[] row : grid) {
            for (int column = 0; column < KEY_WIDTH; column++) {
                bits = bits << 1 | (row[column] < row[column + 1] ? 1 : 0);
            }
        }
        return String.format("%016x", bits);
    }

    /** The mean brightness, 0 to 255, of one cell of the grid, laid over white. */
    private static double brightness(BufferedImage image, int column, int row) {
        int left = column * image.getWidth() / (KEY_WIDTH + 1);
        int right = Math.max(left + 1, (column + 1) * image.getWidth() / (KEY_WIDTH + 1));
        int top = row * image.getHeight() / KEY_HEIGHT;
        int bottom = Math.max(top + 1, (row + 1) * image.getHeight() / KEY_HEIGHT);
        double sum = 0;
        for (int y = top; y < bottom; y++) {
            for (int x = left; x < right; x++) {
                int argb = image.getRGB(x, y);
                double luma = 0.299 * (argb >> 16 & 0xff) + 0.587 * (argb >> 8 & 0xff) + 0.114 * (argb & 0xff);
                double alpha = (argb >>> 24) / 255.0;
                sum += alpha * luma + (1 - alpha) * 255;
            }
        }
        return sum / ((bottom - top) * (right - left));
    }
}
