package headrace;

import java.nio.charset.StandardCharsets;
import java.util.Optional;

/** Reads the headers of image files: sizes without decoding. Any bytes will do. */
final class Headers {
    private final byte[] bytes;

    private Headers(byte[] bytes) {
        this.bytes = bytes;
    }

    static Optional<ImageFacts> read(byte[] image) {
        Headers headers = new Headers(image);
        if (headers.says(0, "\u0089PNG\r\n\u001a\n") && headers.says(12, "IHDR")) {
            return facts("png", headers.big(16, 4), headers.big(20, 4));
        }
        if (headers.says(0, "GIF87a") || headers.says(0, "GIF89a")) {
            return facts("gif", headers.little(6, 2), headers.little(8, 2));
        }
        if (headers.says(0, "RIFF") && headers.says(8, "WEBP")) {
            return headers.webp();
        }
        if (headers.says(0, "BM")) {
            return headers.bmp();
        }
        return headers.says(0, "\u00ff\u00d8\u00ff") ? headers.jpeg() : Optional.empty();
    }

    private static Optional<ImageFacts> facts(String format, long width, long height) {
        boolean possible = width > 0 && height > 0 && width <= Integer.MAX_VALUE && height <= Integer.MAX_VALUE;
        return possible ? Optional.of(new ImageFacts(format, (int) width, (int) height)) : Optional.empty();
    }

    /** The three kinds of WebP: lossy, lossless, extended. RFC 9649, sections 2.5 to 2.7. */
    private Optional<ImageFacts> webp() {
        if (says(12, "VP8 ") && says(23, "\u009d\u0001\u002a")) {
            return facts("webp", little(26, 2) & 0x3fff, little(28, 2) & 0x3fff);
        }
        if (says(12, "VP8L") && says(20, "\u002f")) {
            long bits = little(21, 4);
            return bits < 0 ? Optional.empty() : facts("webp", (bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1);
        }
        if (says(12, "VP8X") && bytes.length >= 30) {
            return facts("webp", little(24, 3) + 1, little(27, 3) + 1);
        }
        return Optional.empty();
    }

    /** The old header of OS/2 has 16-bit sizes; in all later ones a negative height says «top row first». */
    private Optional<ImageFacts> bmp() {
        long header = little(14, 4);
        if (header == 12) {
            return facts("bmp", little(18, 2), little(20, 2));
        }
        return header >= 40 && bytes.length >= 26
                ? facts("bmp", (int) little(18, 4), Math.abs((long) (int) little(22, 4)))
                : Optional.empty();
    }

    /** Walks the segments to the frame header: ITU T.81, section B.2.2. */
    private Optional<ImageFacts> jpeg() {
        int at = 2;
        while (at + 4 <= bytes.length && (bytes[at] & 0xff) == 0xff) {
            int marker = bytes[at + 1] & 0xff;
            boolean filler = marker == 0xff;
            boolean alone = marker == 0x01 || marker >= 0xd0 && marker <= 0xd8;
            if (filler || alone) {
                at += filler ? 1 : 2;
                continue;
            }
            boolean frame = marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
            if (frame) {
                return facts("jpeg", big(at + 7, 2), big(at + 5, 2));
            }
            long length = big(at + 2, 2);
            if (length < 2 || marker == 0xd9 || marker == 0xda) {
                return Optional.empty();
            }
            at += 2 + (int) length;
        }
        return Optional.empty();
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

    /** An unsigned number, most significant byte first; -1 past the end. */
    private long big(int at, int size) {
        long number = 0;
        for (int i = 0; i < size; i++) {
            if (at + i >= bytes.length) {
                return -1;
            }
            number = number << 8 | bytes[at + i] & 0xff;
        }
        return number;
    }

    /** An unsigned number, least significant byte first; -1 past the end. */
    private long little(int at, int size) {
        long number = 0;
        for (int i = size - 1; i >= 0; i--) {
            if (at + i >= bytes.length) {
                return -1;
            }
            number = number << 8 | bytes[at + i] & 0xff;
        }
        return number;
    }
}
