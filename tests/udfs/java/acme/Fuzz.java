package acme;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.Random;

/** Calls each function of a class with random and mutated arguments. */
public final class Fuzz {
    private Fuzz() {}

    private static final String[] PIECES = {
        "&amp;", "&#x1F600;", "&#0;", "&#99999999;", "&", ";", ":", ":smiling_face:", "_", " ", "\u00a0", "\u0000", "\u200d",
        "\ufeff", "\ud83d", "\ude00", "😀", "👨‍👩‍👧", "🇫🇷", "1️⃣", "e\u0301", "ﬁ", "漢", "かな", "한", "א", "ї", "پ", "ไ",
        "http://", "https://a:b@Ex.com:80/p/a.jpg?q#f", "[::1]", "://", "//", "?", "#", "%zz", "9999999999999999999", "1e999",
        "-", "+", ".", "e", "NaN", "٣", "2024-02-30", "0000-00-00", "99999-01-01", "2024-02-29T12:00:00Z", "T", "Z",
        "Thu, 29 Feb 2024 12:00:00 GMT", "29.02.2024", "2024:02:29 12:00:00", "\\", "$1", "$", "(", "[", "\n",
    };

    private static final String[] MAGICS = {
        "\u0089PNG\r\n\u001a\n\0\0\0\rIHDR", "GIF89a", "RIFF\0\0\0\0WEBPVP8 ", "RIFF\0\0\0\0WEBPVP8L", "RIFF\0\0\0\0WEBPVP8X",
        "BM", "\u00ff\u00d8\u00ff",
    };

    /** @return what threw or returned null: none, if the functions are total */
    public static List<String> fuzz(String className, long seed, int inputs, List<byte[]> images)
            throws ReflectiveOperationException {
        Random random = new Random(seed);
        List<Method> methods = new ArrayList<>();
        for (Method method : Class.forName(className, true, Thread.currentThread().getContextClassLoader()).getMethods()) {
            if (Modifier.isStatic(method.getModifiers())) {
                methods.add(method);
            }
        }
        methods.sort((a, b) -> a.toString().compareTo(b.toString()));
        List<String> failures = new ArrayList<>();
        for (int i = 0; i < inputs; i++) {
            Method method = methods.get(i % methods.size());
            Object[] arguments = Arrays.stream(method.getGenericParameterTypes())
                    .map(type -> argument(type.getTypeName(), random, images)).toArray();
            try {
                if (method.invoke(null, arguments) == null) {
                    failures.add(method + " returned null for " + Arrays.deepToString(arguments));
                }
            } catch (InvocationTargetException error) {
                failures.add(method + " threw " + error.getCause() + " for " + Arrays.deepToString(arguments));
            }
        }
        return failures;
    }

    /** As {@code fuzz}, with texts of so many characters, each of which is one of the pieces again and again. */
    public static List<String> fuzzLong(String className, int characters) throws ReflectiveOperationException {
        List<String> failures = new ArrayList<>();
        for (Method method : Class.forName(className, true, Thread.currentThread().getContextClassLoader()).getMethods()) {
            if (!Modifier.isStatic(method.getModifiers()) || method.getParameterTypes()[0] == byte[].class) {
                continue;
            }
            for (String piece : PIECES) {
                String text = piece.repeat(characters / piece.length());
                Object[] arguments = Arrays.stream(method.getGenericParameterTypes())
                        .map(type -> type == String.class ? text
                                : type == int.class ? (Object) 1
                                : type.getTypeName().startsWith("java.util.List") ? List.of(Optional.of(text))
                                : Optional.of(text))
                        .toArray();
                try {
                    method.invoke(null, arguments);
                } catch (InvocationTargetException error) {
                    failures.add(method.getName() + " threw " + error.getCause().getClass() + " for many " + piece);
                }
            }
        }
        return failures;
    }

    private static Object argument(String type, Random random, List<byte[]> images) {
        switch (type) {
            case "java.lang.String": return text(random);
            case "java.util.Optional<java.lang.String>": return optional(random);
            case "int": return random.nextInt(4) == 0 ? random.nextInt() : random.nextInt(10) - 3;
            case "byte[]": return bytes(random, images);
            case "java.util.List<java.util.Optional<java.lang.String>>":
                List<Optional<String>> texts = new ArrayList<>();
                for (int i = random.nextInt(5); i > 0; i--) {
                    texts.add(optional(random));
                }
                return texts;
            default: throw new IllegalArgumentException("no random " + type);
        }
    }

    private static Optional<String> optional(Random random) {
        return random.nextInt(5) == 0 ? Optional.empty() : Optional.of(text(random));
    }

    private static String text(Random random) {
        StringBuilder text = new StringBuilder();
        for (int i = random.nextInt(12); i > 0; i--) {
            if (random.nextBoolean()) {
                text.append(PIECES[random.nextInt(PIECES.length)]);
            } else {
                text.append((char) (random.nextInt(4) == 0 ? random.nextInt(0x10000) : 32 + random.nextInt(95)));
            }
        }
        return text.toString();
    }

    private static byte[] bytes(Random random, List<byte[]> images) {
        byte[] bytes = random.nextInt(3) == 0
                ? new byte[random.nextInt(80)]
                : images.get(random.nextInt(images.size())).clone();
        if (bytes.length < 80) {
            random.nextBytes(bytes);
            byte[] magic = MAGICS[random.nextInt(MAGICS.length)].getBytes(java.nio.charset.StandardCharsets.ISO_8859_1);
            System.arraycopy(magic, 0, bytes, 0, Math.min(magic.length, bytes.length));
        }
        for (int i = random.nextInt(6); i > 0 && bytes.length > 0; i--) {
            int near = random.nextBoolean() ? bytes.length : Math.min(bytes.length, 40);
            bytes[random.nextInt(near)] = (byte) random.nextInt(256);
        }
        return random.nextInt(4) == 0 ? Arrays.copyOf(bytes, random.nextInt(bytes.length + 1)) : bytes;
    }
}
