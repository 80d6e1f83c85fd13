package headrace;

import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/**
 * Reads the headers of image files, without decoding: format, size, and what is wrong with the file. Takes any bytes. The
 * rules are those of pipelines/images/formats.py and headers.py, and a test checks that both give the same answers.
 */
final class Headers {
    /** Pixels of the largest image that is decoded. */
    static final long MAX_PIXELS = 1L << 28;

    /** Pixels of the longest side that is decoded, libpng's limit, and the same for JPEG, libjpeg's. */
    private static final int MAX_SIDE = 1_000_000;

    private static final int MAX_JPEG_SIDE = 65_500;

    /** Scans of a JPEG: encoders write about 10, and a file of some kilobytes with thousands takes minutes to decode. */
    private static final int MAX_SCANS = 100;

    private static final int START_OF_SCAN = 0xda;
    private static final int END_OF_IMAGE = 0xd9;

    /** Those that decoders know. */
    private static final Set<Integer> START_OF_FRAME = Set.of(0xc0, 0xc1, 0xc2, 0xc3, 0xc9, 0xca);

    /** DHT, DAC, DQT, DNL, DRI, COM; besides them APPn, frames and scans have a length. */
    private static final Set<Integer> TABLES = Set.of(0xc4, 0xcc, 0xdb, 0xdc, 0xdd, 0xfe);

    /** The chunks IDAT and IEND of a PNG, and its channels by colour type, where that is not one. */
    private static final long PNG_PIXELS = 0x49444154;

    private static final long PNG_END = 0x49454e44;
    private static final Map<Integer, Integer> PNG_CHANNELS = Map.of(2, 3, 4, 2, 6, 4);

    /** The most bytes that one byte of deflate's becomes: 258 in two bits (RFC 1951, section 3.2.5). */
    private static final long DEFLATE_RATIO = 1032;

    private static final int GIF_IMAGE = ',';
    private static final int GIF_EXTENSION = '!';
    private static final int GIF_TRAILER = ';';

    /** Bytes of the header of OS/2 1.x, and of the shortest that Windows writes. */
    private static final int BMP_CORE_HEADER = 12;

    private static final int BMP_INFO_HEADER = 40;

    /** Kinds of compression of a bitmap: BI_RLE8 and BI_RLE4 compress, 0 and BI_BITFIELDS do not; others are not decoded. */
    private static final Set<Long> BMP_COMPRESSED = Set.of(1L, 2L);

    private static final int BMP_BITFIELDS = 3;

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
            case "gif" -> gifSize();
            case "webp" -> webpSize();
            default -> bmpSize();
        };
    }

    private void readToEnd(String format) throws BadImage {
        switch (format) {
            case "png" -> pngEnd();
            case "jpeg" -> jpegEnd();
            case "gif" -> gifEnd();
            case "webp" -> webpEnd();
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
        long packed = 0;
        long at = 8;
        long kind = 0;
        while (kind != PNG_END) {
            long length = big(at, 4);
            kind = big(at + 4, 4);
            at += 12 + length;
            need(at);
            packed += kind == PNG_PIXELS ? length : 0;
        }
        long channels = PNG_CHANNELS.getOrDefault((int) big(25, 1), 1);
        if (big(16, 4) * big(20, 4) * big(24, 1) * channels > 8 * DEFLATE_RATIO * packed) {
            throw new BadImage("truncated");
        }
    }

    /** From the frame header: ITU T.81, section B.2.2. */
    private Size jpegSize() throws BadImage {
        long at = segment(2);
        for (; !START_OF_FRAME.contains(marker(at)); at = segment(behind(at))) {
            if (marker(at) == START_OF_SCAN) {
                throw new BadImage("corrupt");
            }
        }
        return new Size(big(at + 7, 2), big(at + 5, 2));
    }

    /** One frame header, scans, and an end-of-image marker somewhere after them: cameras append to their files. */
    private void jpegEnd() throws BadImage {
        int frames = 0;
        long scan = segment(2);
        for (; marker(scan) != START_OF_SCAN; scan = segment(behind(scan))) {
            frames += START_OF_FRAME.contains(marker(scan)) ? 1 : 0;
        }
        int scans = 0;
        long at = scan;
        while (at >= 0 && marker(at) != END_OF_IMAGE) {
            scans += marker(at) == START_OF_SCAN ? 1 : 0;
            at = nextMarker(!hasLength(marker(at)) ? at + 2 : at + 4 <= bytes.length ? behind(at) : bytes.length);
        }
        if (frames > 1 || scans > MAX_SCANS) {
            throw new BadImage("corrupt");
        }
        if (at < 0 && !endsBehind(scan)) {
            throw new BadImage("truncated");
        }
    }

    /** Whether there is an end-of-image marker anywhere behind {@code at}. */
    private boolean endsBehind(long at) {
        int end = bytes.length - 2;
        while (end >= at && !((bytes[end] & 0xff) == 0xff && (bytes[end + 1] & 0xff) == END_OF_IMAGE)) {
            end--;
        }
        return end >= at;
    }

    /** The position of the first segment from {@code at} on. */
    private long segment(long at) throws BadImage {
        long segment = nextMarker(at);
        if (segment < 0) {
            throw new BadImage("truncated");
        }
        if (big(segment + 2, 2) < 2 || !hasLength(marker(segment))) {
            throw new BadImage("corrupt");
        }
        return segment;
    }

    /**
     * The position of the first marker from {@code at} on, behind stuffed zeros, fill bytes, markers that stand alone (TEM,
     * RST0 to RST7), and bytes that belong to nothing; -1 if there is none.
     */
    private long nextMarker(long at) {
        for (long place = at; place + 1 < bytes.length; place++) {
            if ((bytes[(int) place] & 0xff) == 0xff) {
                int marker = bytes[(int) place + 1] & 0xff;
                if (marker != 0xff && marker > 0x01 && (marker < 0xd0 || marker > 0xd7)) {
                    return place;
                }
            }
        }
        return -1;
    }

    private static boolean hasLength(int marker) {
        boolean application = marker >= 0xe0 && marker <= 0xef;
        return application || marker == START_OF_SCAN || TABLES.contains(marker) || START_OF_FRAME.contains(marker);
    }

    /** The position behind a segment. */
    private long behind(long segment) throws BadImage {
        return segment + 2 + big(segment + 2, 2);
    }

    private int marker(long at) throws BadImage {
        return (int) big(at + 1, 1);
    }

    /** The canvas, made larger where the first image reaches beyond it, as browsers do. */
    private Size gifSize() throws BadImage {
        long width = little(6, 2);
        long height = little(8, 2);
        long at = gifBlock(13 + gifColours(little(10, 1)));
        while (little(at, 1) != GIF_IMAGE) {
            if (little(at, 1) == GIF_TRAILER) {
                throw new BadImage("corrupt");
            }
            at = gifBlock(behindGifBlock(at));
        }
        behindGifBlock(at);
        long across = little(at + 5, 2);
        long down = little(at + 7, 2);
        if (across == 0 || down == 0) {
            throw new BadImage("no pixels");
        }
        return new Size(Math.max(width, little(at + 1, 2) + across), Math.max(height, little(at + 3, 2) + down));
    }

    /** Walks the blocks to the trailer: GIF89a specification, sections 15 to 27. */
    private void gifEnd() throws BadImage {
        long at = gifBlock(13 + gifColours(little(10, 1)));
        while (little(at, 1) != GIF_TRAILER) {
            at = gifBlock(behindGifBlock(at));
        }
    }

    /** The position of the first block from {@code at} on, behind bytes that belong to nothing. */
    private long gifBlock(long at) throws BadImage {
        for (long block = at; ; block++) {
            long kind = little(block, 1);
            if (kind == GIF_IMAGE || kind == GIF_EXTENSION || kind == GIF_TRAILER) {
                return block;
            }
        }
    }

    /** The position behind a block that is not the trailer. */
    private long behindGifBlock(long block) throws BadImage {
        // an extension: its label; an image: its descriptor, its colours, its code size
        long at = little(block, 1) == GIF_EXTENSION ? block + 2 : block + 11 + gifColours(little(block + 9, 1));
        for (long length = little(at, 1); length != 0; length = little(at, 1)) { // the sub-blocks
            at += 1 + length;
        }
        return at + 1;
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

    /** The image is inside the file, and so are all chunks of the extended kind: RFC 9649, section 2.3. */
    private void webpEnd() throws BadImage {
        long end = little(4, 4) + 8;
        need(end);
        boolean extended = says(12, "VP8X");
        boolean found = false;
        for (long at = 12; at + 8 <= end && (extended || at == 12); ) {
            found |= says((int) at, "VP8 ") || says((int) at, "VP8L") || says((int) at, "ANMF");
            long size = little(at + 4, 4);
            if (at + 8 + size > end) {
                throw new BadImage("corrupt");
            }
            at += 8 + size + (size & 1);
        }
        if (!found) {
            throw new BadImage("corrupt");
        }
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

    /** All rows are there, each of a multiple of four bytes; if they are compressed, the file is as long as it says. */
    private void bmpEnd() throws BadImage {
        boolean core = little(14, 4) == BMP_CORE_HEADER;
        Size size = bmpSize();
        long bits = little(core ? 24 : 28, 2);
        long compression = core ? 0 : little(30, 4);
        if (compression > BMP_BITFIELDS) {
            throw new BadImage("corrupt");
        }
        boolean raw = !BMP_COMPRESSED.contains(compression);
        need(raw ? little(10, 4) + (size.width * bits + 31) / 32 * 4 * size.height : little(2, 4));
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
