package headrace;

import java.nio.charset.StandardCharsets;
import java.util.Optional;
import java.util.Set;

/**
 * Reads the headers of image files, without decoding: format, size, and what is wrong with the file. Takes any bytes. The
 * rules are those of pipelines/images/headers.py, and a test checks that both give the same answers.
 */
final class Headers {
    /** Pixels of the largest image that is decoded. */
    static final long MAX_PIXELS = 1L << 28;

    /** Pixels of the longest side that is decoded, libpng's limit, and the same for JPEG, libjpeg's. */
    private static final int MAX_SIDE = 1_000_000;

    private static final int MAX_JPEG_SIDE = 65_500;

    private static final int START_OF_SCAN = 0xda;
    private static final int END_OF_IMAGE = 0xd9;

    /** Bytes of the header of OS/2 1.x, and of the shortest that Windows writes. */
    private static final int BMP_CORE_HEADER = 12;

    private static final int BMP_INFO_HEADER = 40;

    /** Kinds of compression that compress nothing: BI_RGB, BI_BITFIELDS. */
    private static final Set<Long> BMP_RAW = Set.of(0L, 3L);

    /**
     * What is known of a file without decoding it.
     *
     * @param facts format and size; empty if the header does not give both
     * @param problem what is wrong with the file; empty if nothing is, as far as that shows without decoding
     */
    record Header(Optional<ImageFacts> facts, Optional<String> problem) {}

    /** The message is the problem, in a word or two. */
    private static final class BadImage extends Exception {
        private static final long serialVersionUID = 1;

        BadImage(String problem) {
            super(problem, null, false, false);
        }
    }

    private record Size(long width, long height) {}

    private final byte[] bytes;

    private Headers(byte[] bytes) {
        this.bytes = bytes;
    }

    static Header read(byte[] image) {
        Headers headers = new Headers(image);
        Optional<ImageFacts> facts = Optional.empty();
        try {
            String format = headers.format();
            facts = Optional.of(facts(format, headers.size(format)));
            check(facts.get());
            headers.readToEnd(format);
            return new Header(facts, Optional.empty());
        } catch (BadImage bad) {
            return new Header(facts, Optional.of(bad.getMessage()));
        }
    }

    private String format() throws BadImage {
        if (says(0, "\u0089PNG\r\n\u001a\n")) {
            return "png";
        }
        if (says(0, "\u00ff\u00d8\u00ff")) {
            return "jpeg";
        }
        if (says(0, "GIF87a") || says(0, "GIF89a")) {
            return "gif";
        }
        if (says(0, "RIFF") && says(8, "WEBP")) {
            return "webp";
        }
        if (says(0, "BM")) {
            return "bmp";
        }
        throw new BadImage(bytes.length == 0 ? "empty" : "unknown format");
    }

    private Size size(String format) throws BadImage {
        return switch (format) {
            case "png" -> pngSize();
            case "jpeg" -> jpegSize();
            case "gif" -> new Size(little(6, 2), little(8, 2));
            case "webp" -> webpSize();
            default -> bmpSize();
        };
    }

    private void readToEnd(String format) throws BadImage {
        switch (format) {
            case "png" -> pngEnd();
            case "jpeg" -> jpegEnd();
            case "gif" -> gifEnd();
            case "webp" -> need(little(4, 4) + 8);
            default -> bmpEnd();
        }
    }

    private static ImageFacts facts(String format, Size size) throws BadImage {
        if (Math.min(size.width, size.height) < 1) {
            throw new BadImage("no pixels");
        }
        if (Math.max(size.width, size.height) > Integer.MAX_VALUE) {
            throw new BadImage("too large");
        }
        return new ImageFacts(format, (int) size.width, (int) size.height);
    }

    private static void check(ImageFacts facts) throws BadImage {
        int maxSide = facts.format().equals("jpeg") ? MAX_JPEG_SIDE : MAX_SIDE;
        boolean longSide = Math.max(facts.width(), facts.height()) > maxSide;
        if (longSide || (long) facts.width() * facts.height() > MAX_PIXELS) {
            throw new BadImage("too large");
        }
    }

    /** IHDR, of 13 bytes, comes first: PNG specification, section 11.2.2. */
    private Size pngSize() throws BadImage {
        Size size = new Size(big(16, 4), big(20, 4));
        if (big(8, 4) != 13 || !says(12, "IHDR")) {
            throw new BadImage("corrupt");
        }
        return size;
    }

    /** Walks the chunks to IEND: PNG specification, section 5.3. */
    private void pngEnd() throws BadImage {
        long at = 8;
        boolean end = false;
        while (!end) {
            end = big(at + 4, 4) == 0x49454e44;
            at += 12 + big(at, 4);
            need(at);
        }
    }

    /** From the frame header: ITU T.81, section B.2.2. */
    private Size jpegSize() throws BadImage {
        long frame = frameOrScan(2);
        if (marker(frame) == START_OF_SCAN) {
            throw new BadImage("corrupt");
        }
        return new Size(big(frame + 7, 2), big(frame + 5, 2));
    }

    /** One frame header, a scan, and an end-of-image marker somewhere after it: cameras append to their files. */
    private void jpegEnd() throws BadImage {
        int frames = 0;
        long at = frameOrScan(2);
        for (; marker(at) != START_OF_SCAN; at = frameOrScan(behind(at))) {
            frames++;
        }
        if (frames > 1) {
            throw new BadImage("corrupt");
        }
        for (int end = bytes.length - 2; end >= at; end--) {
            if ((bytes[end] & 0xff) == 0xff && (bytes[end + 1] & 0xff) == END_OF_IMAGE) {
                return;
            }
        }
        throw new BadImage("truncated");
    }

    /** The position of the first frame header or scan from {@code at} on. */
    private long frameOrScan(long at) throws BadImage {
        for (long segment = segment(at); ; segment = segment(behind(segment))) {
            int marker = marker(segment);
            boolean frame = marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
            if (frame || marker == START_OF_SCAN) {
                return segment;
            }
        }
    }

    /** The position of the first segment from {@code at} on, behind fill bytes and markers without a length. */
    private long segment(long at) throws BadImage {
        while (true) {
            if (big(at, 1) != 0xff) {
                throw new BadImage("corrupt");
            }
            int marker = marker(at);
            boolean alone = marker == 0x01 || marker >= 0xd0 && marker <= 0xd8;
            if (marker != 0xff && !alone) {
                if (big(at + 2, 2) < 2 || marker == END_OF_IMAGE) {
                    throw new BadImage("corrupt");
                }
                return at;
            }
            at += alone ? 2 : 1;
        }
    }

    /** The position behind a segment. */
    private long behind(long segment) throws BadImage {
        return segment + 2 + big(segment + 2, 2);
    }

    private int marker(long at) throws BadImage {
        return (int) big(at + 1, 1);
    }

    /** Walks the blocks to the trailer: GIF89a specification, sections 15 to 27. */
    private void gifEnd() throws BadImage {
        long at = 13 + gifColours(little(10, 1));
        for (long block = little(at, 1); block != 0x3b; block = little(at, 1)) {
            if (block == 0x21) { // an extension: its label
                at += 2;
            } else if (block == 0x2c) { // an image: its descriptor, its colours, its code size
                at += 11 + gifColours(little(at + 9, 1));
            } else {
                throw new BadImage("corrupt");
            }
            for (long length = little(at, 1); length != 0; length = little(at, 1)) { // the sub-blocks
                at += 1 + length;
            }
            at++;
        }
    }

    /** The bytes of a colour table. */
    private static long gifColours(long flags) {
        return (flags & 0x80) == 0 ? 0 : 6L << (flags & 7);
    }

    /** The three kinds of WebP: lossy, lossless, extended. RFC 9649, sections 2.5 to 2.7. */
    private Size webpSize() throws BadImage {
        need(16);
        if (says(12, "VP8 ")) {
            need(30);
            if (says(23, "\u009d\u0001\u002a")) {
                return new Size(little(26, 2) & 0x3fff, little(28, 2) & 0x3fff);
            }
        } else if (says(12, "VP8L")) {
            long bits = little(21, 4);
            if (little(20, 1) == 0x2f) {
                return new Size((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1);
            }
        } else if (says(12, "VP8X")) {
            return new Size(little(24, 3) + 1, little(27, 3) + 1);
        }
        throw new BadImage("corrupt");
    }

    /** The old header of OS/2 has 16-bit sizes. In later ones a negative height says that the top row comes first. */
    private Size bmpSize() throws BadImage {
        long header = little(14, 4);
        if (header == BMP_CORE_HEADER) {
            return new Size(little(18, 2), little(20, 2));
        }
        if (header < BMP_INFO_HEADER) {
            throw new BadImage("corrupt");
        }
        return new Size((int) little(18, 4), Math.abs((long) (int) little(22, 4)));
    }

    /** The file is as long as it says, and has all rows, each of a multiple of four bytes. */
    private void bmpEnd() throws BadImage {
        boolean core = little(14, 4) == BMP_CORE_HEADER;
        Size size = bmpSize();
        long bits = little(core ? 24 : 28, 2);
        need(little(2, 4));
        if (core || BMP_RAW.contains(little(30, 4))) {
            need(little(10, 4) + (size.width * bits + 31) / 32 * 4 * size.height);
        }
    }

    private boolean says(int at, String text) {
        byte[] wanted = text.getBytes(StandardCharsets.ISO_8859_1);
        if (bytes.length < at + wanted.length) {
            return false;
        }
        for (int i = 0; i < wanted.length; i++) {
            if (bytes[at + i] != wanted[i]) {
                return false;
            }
        }
        return true;
    }

    private void need(long length) throws BadImage {
        if (length > bytes.length) {
            throw new BadImage("truncated");
        }
    }

    /** An unsigned number, most significant byte first. */
    private long big(long at, int size) throws BadImage {
        need(at + size);
        long number = 0;
        for (int i = 0; i < size; i++) {
            number = number << 8 | bytes[(int) at + i] & 0xff;
        }
        return number;
    }

    /** An unsigned number, least significant byte first. */
    private long little(long at, int size) throws BadImage {
        need(at + size);
        long number = 0;
        for (int i = size - 1; i >= 0; i--) {
            number = number << 8 | bytes[(int) at + i] & 0xff;
        }
        return number;
    }
}
