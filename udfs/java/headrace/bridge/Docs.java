package headrace.bridge;

import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Properties;

/** The Javadoc of a class's methods, which {@code headrace.docs.DocsProcessor} stored in the jar. */
final class Docs {
    private final Properties texts = new Properties();

    private Docs() {}

    static Docs of(Class<?> owner) {
        Docs docs = new Docs();
        String name = "/META-INF/headrace/" + owner.getName() + ".properties";
        try (InputStream stream = owner.getResourceAsStream(name)) {
            if (stream != null) {
                docs.texts.load(new InputStreamReader(stream, StandardCharsets.UTF_8));
            }
        } catch (IOException error) {
            throw new IllegalStateException(name + " cannot be read", error);
        }
        return docs;
    }

    /** @return the text, or "" if the method has none */
    String of(Routine routine) {
        return texts.getProperty(routine.methodName() + "(" + String.join(",", routine.parameterClasses()) + ")", "");
    }
}
