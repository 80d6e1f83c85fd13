package headrace.bridge;

import headrace.NonDeterministic;
import java.io.Serializable;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.Parameter;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.stream.Collectors;

/**
 * One public static method as an SQL function. Only names are serialised; each process finds the method again.
 *
 * @param sqlName the name in SQL: {@code bestCaption} is {@code best_caption}
 */
record Routine(String sqlName, String className, String methodName, List<String> parameterClasses)
        implements Serializable {
    /** A method and its analysed types, found by reflection once for each task. */
    record Signature(Method method, List<Shape> parameters, Shape result) {}

    /** @throws IllegalArgumentException that names the class, method, parameter and type without SQL counterpart */
    static Routine of(Method method, String prefix) {
        List<String> classes = Arrays.stream(method.getParameterTypes()).map(Class::getName).toList();
        String sqlName = prefix + snake(method.getName());
        Routine routine =
                new Routine(sqlName, method.getDeclaringClass().getName(), method.getName(), new ArrayList<>(classes));
        if (!Modifier.isStatic(method.getModifiers())) {
            throw new IllegalArgumentException(
                    routine.javaName() + " is an instance method; only static ones can be functions");
        }
        routine.describe(method);
        return routine;
    }

    /** {@code bestCaption} → {@code best_caption}. */
    static String snake(String camel) {
        return camel.replaceAll("([a-z0-9])([A-Z])", "$1_$2").replaceAll("([A-Z])([A-Z][a-z])", "$1_$2")
                .toLowerCase(Locale.ROOT);
    }

    String javaName() {
        return className + "." + methodName;
    }

    Signature signature() {
        try {
            Class<?> owner = load(className);
            Class<?>[] types = new Class<?>[parameterClasses.size()];
            for (int i = 0; i < types.length; i++) {
                types[i] = forName(parameterClasses.get(i), owner.getClassLoader());
            }
            return describe(owner.getMethod(methodName, types));
        } catch (ReflectiveOperationException error) {
            throw new IllegalStateException(javaName() + " is not in the jars of this process: " + error, error);
        }
    }

    private Signature describe(Method method) {
        if (method.getTypeParameters().length > 0) {
            throw refusal("type variable " + method.getTypeParameters()[0].getName());
        }
        List<Shape> parameters = new ArrayList<>();
        for (Parameter parameter : method.getParameters()) {
            try {
                parameters.add(Shape.of(parameter.getParameterizedType()));
            } catch (Shape.Unsupported problem) {
                throw refusal("parameter " + parameter.getName() + ": " + problem.getMessage());
            }
        }
        try {
            return new Signature(method, parameters, Shape.of(method.getGenericReturnType()));
        } catch (Shape.Unsupported problem) {
            throw refusal("result: " + problem.getMessage());
        }
    }

    private IllegalArgumentException refusal(String problem) {
        return new IllegalArgumentException(javaName() + " cannot be a function: " + problem);
    }

    /** Finds a class in the jars of the session or, in a task, of the executor. */
    static Class<?> load(String name) throws ClassNotFoundException {
        ClassLoader context = Thread.currentThread().getContextClassLoader();
        try {
            return Class.forName(name, true, context);
        } catch (ClassNotFoundException notThere) {
            return Class.forName(name, true, Loaders.session());
        }
    }

    private static Class<?> forName(String name, ClassLoader loader) throws ClassNotFoundException {
        return switch (name) {
            case "boolean" -> boolean.class;
            case "byte" -> byte.class;
            case "short" -> short.class;
            case "int" -> int.class;
            case "long" -> long.class;
            case "float" -> float.class;
            case "double" -> double.class;
            default -> Class.forName(name, true, loader);
        };
    }

    boolean isDeterministic(Method method) {
        return !method.isAnnotationPresent(NonDeterministic.class);
    }

    /** The signature for messages: {@code best(alt string, captions array<string>, minWords int)}. */
    String describe() {
        Signature signature = signature();
        Parameter[] names = signature.method().getParameters();
        List<String> parts = new ArrayList<>();
        for (int i = 0; i < names.length; i++) {
            Shape shape = signature.parameters().get(i);
            boolean many = signature.method().isVarArgs() && i == names.length - 1;
            String type = many ? shape.part().sql().simpleString() + "..." : shape.sql().simpleString();
            parts.add(names[i].getName() + " " + type);
        }
        return sqlName + parts.stream().collect(Collectors.joining(", ", "(", ")"));
    }
}
