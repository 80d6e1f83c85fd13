package headrace.docs;

import java.io.IOException;
import java.io.Writer;
import java.util.Properties;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import javax.annotation.processing.AbstractProcessor;
import javax.annotation.processing.RoundEnvironment;
import javax.annotation.processing.SupportedAnnotationTypes;
import javax.lang.model.SourceVersion;
import javax.lang.model.element.Element;
import javax.lang.model.element.ExecutableElement;
import javax.lang.model.element.Modifier;
import javax.lang.model.element.TypeElement;
import javax.lang.model.type.TypeMirror;
import javax.lang.model.util.ElementFilter;
import javax.tools.Diagnostic;
import javax.tools.StandardLocation;

/**
 * An annotation processor that stores the Javadoc of public static methods in
 * {@code META-INF/headrace/CLASS.properties}. From there it gets into {@code help()} in Python and
 * {@code DESCRIBE FUNCTION} in SQL.
 */
@SupportedAnnotationTypes("*")
public final class DocsProcessor extends AbstractProcessor {
    private static final Pattern INLINE = Pattern.compile("\\{@(?:code|literal|link|linkplain)\\s+([^}]*)}");

    @Override
    public SourceVersion getSupportedSourceVersion() {
        return SourceVersion.latestSupported();
    }

    @Override
    public boolean process(Set<? extends TypeElement> annotations, RoundEnvironment round) {
        ElementFilter.typesIn(round.getRootElements()).forEach(this::keep);
        return false;
    }

    private void keep(TypeElement type) {
        Properties texts = new Properties();
        for (ExecutableElement method : ElementFilter.methodsIn(type.getEnclosedElements())) {
            String doc = processingEnv.getElementUtils().getDocComment(method);
            if (doc != null && method.getModifiers().containsAll(Set.of(Modifier.PUBLIC, Modifier.STATIC))) {
                texts.setProperty(key(method), plain(doc));
            }
        }
        if (!texts.isEmpty()) {
            write(type, texts);
        }
        ElementFilter.typesIn(type.getEnclosedElements()).forEach(this::keep);
    }

    private void write(TypeElement type, Properties texts) {
        String name = processingEnv.getElementUtils().getBinaryName(type).toString();
        Element[] origin = {type};
        try (Writer out = processingEnv.getFiler()
                .createResource(StandardLocation.CLASS_OUTPUT, "", "META-INF/headrace/" + name + ".properties", origin)
                .openWriter()) {
            texts.store(out, null);
        } catch (IOException error) {
            String problem = "cannot store the Javadoc of " + name + ": " + error;
            processingEnv.getMessager().printMessage(Diagnostic.Kind.ERROR, problem);
        }
    }

    private String key(ExecutableElement method) {
        return method.getSimpleName() + method.getParameters().stream()
                .map(parameter -> binaryName(processingEnv.getTypeUtils().erasure(parameter.asType())))
                .collect(Collectors.joining(",", "(", ")"));
    }

    /** The name that {@code Class.getName} returns. */
    private String binaryName(TypeMirror type) {
        return switch (type.getKind()) {
            case ARRAY -> {
                String component = binaryName(((javax.lang.model.type.ArrayType) type).getComponentType());
                yield "[" + (component.startsWith("[") ? component : descriptor(component));
            }
            case DECLARED -> processingEnv.getElementUtils()
                    .getBinaryName((TypeElement) ((javax.lang.model.type.DeclaredType) type).asElement()).toString();
            default -> type.toString();
        };
    }

    private static String descriptor(String name) {
        return switch (name) {
            case "boolean" -> "Z";
            case "byte" -> "B";
            case "short" -> "S";
            case "int" -> "I";
            case "long" -> "J";
            case "float" -> "F";
            case "double" -> "D";
            default -> "L" + name + ";";
        };
    }

    private static String plain(String doc) {
        return INLINE.matcher(doc).replaceAll("$1").replaceAll("<[/a-zA-Z][^>]*>", "")
                .replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
                .lines().map(String::strip).collect(Collectors.joining("\n")).strip();
    }
}
