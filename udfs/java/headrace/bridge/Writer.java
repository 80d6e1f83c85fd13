package headrace.bridge;

import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.lang.reflect.Array;
import java.lang.reflect.RecordComponent;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalInt;
import java.util.OptionalLong;
import java.util.function.Function;
import org.apache.spark.sql.catalyst.expressions.GenericInternalRow;
import org.apache.spark.sql.catalyst.util.ArrayBasedMapData;
import org.apache.spark.sql.catalyst.util.GenericArrayData;
import org.apache.spark.unsafe.types.UTF8String;

/** Converts what a function returned to Spark's internal form. Made once for each call and task. */
public abstract class Writer {
    private static final String MISSING_TEXT = missing("String");

    /**
     * Converts a result.
     *
     * @return null for an empty Optional
     * @throws NullPointerException if the result, or a part of it, is null although its Java type is not an Optional
     */
    public abstract Object write(Object value);

    /** Converts a String that must not be null. */
    public static UTF8String text(String value) {
        return UTF8String.fromString(Objects.requireNonNull(value, MISSING_TEXT));
    }

    static Writer of(Shape shape) {
        return switch (shape.kind()) {
            case OPTIONAL -> optional(shape);
            case LIST, SET -> {
                Writer element = of(shape.part());
                yield new Writer() {
                    @Override
                    public Object write(Object value) {
                        return array((Collection<?>) promised(value, shape), element);
                    }
                };
            }
            case ARRAY -> array(shape);
            case MAP -> map(shape);
            case RECORD -> new RecordWriter(shape);
            default -> new ScalarWriter(shape);
        };
    }

    private static Object promised(Object value, Shape shape) {
        if (value == null) {
            throw new NullPointerException(missing(shape.raw().getSimpleName()));
        }
        return value;
    }

    private static String missing(String type) {
        return "null where " + type + " is declared; declare Optional<" + type + ">";
    }

    private static final class ScalarWriter extends Writer {
        private final Shape shape;
        private final Function<Object, Object> convert;

        ScalarWriter(Shape shape) {
            this.shape = shape;
            this.convert = Scalars.writer(shape);
        }

        @Override
        public Object write(Object value) {
            return convert.apply(promised(value, shape));
        }
    }

    private static Writer optional(Shape shape) {
        Writer inner = of(shape.part());
        return new Writer() {
            @Override
            public Object write(Object value) {
                Object found = get(promised(value, shape));
                return found == null ? null : inner.write(found);
            }
        };
    }

    private static Object get(Object optional) {
        if (optional instanceof Optional<?> any) {
            return any.orElse(null);
        }
        if (optional instanceof OptionalInt number) {
            return number.isPresent() ? number.getAsInt() : null;
        }
        if (optional instanceof OptionalLong number) {
            return number.isPresent() ? number.getAsLong() : null;
        }
        OptionalDouble number = (OptionalDouble) optional;
        return number.isPresent() ? number.getAsDouble() : null;
    }

    private static GenericArrayData array(Collection<?> values, Writer element) {
        Object[] written = new Object[values.size()];
        int i = 0;
        for (Object value : values) {
            written[i++] = element.write(value);
        }
        return new GenericArrayData(written);
    }

    private static Writer array(Shape shape) {
        Writer element = of(shape.part());
        return new Writer() {
            @Override
            public Object write(Object value) {
                Object[] written = new Object[Array.getLength(promised(value, shape))];
                for (int i = 0; i < written.length; i++) {
                    written[i] = element.write(Array.get(value, i));
                }
                return new GenericArrayData(written);
            }
        };
    }

    private static Writer map(Shape shape) {
        Writer key = of(shape.parts().get(0));
        Writer item = of(shape.parts().get(1));
        return new Writer() {
            @Override
            public Object write(Object value) {
                Map<?, ?> map = (Map<?, ?>) promised(value, shape);
                Object[] keys = new Object[map.size()];
                Object[] items = new Object[map.size()];
                int i = 0;
                for (Map.Entry<?, ?> entry : map.entrySet()) {
                    keys[i] = key.write(entry.getKey());
                    items[i++] = item.write(entry.getValue());
                }
                return new ArrayBasedMapData(new GenericArrayData(keys), new GenericArrayData(items));
            }
        };
    }

    private static final class RecordWriter extends Writer {
        private final Shape shape;
        private final Writer[] writers;
        private final MethodHandle[] accessors;

        RecordWriter(Shape shape) {
            this.shape = shape;
            List<Shape> parts = shape.parts();
            RecordComponent[] components = shape.raw().getRecordComponents();
            writers = parts.stream().map(Writer::of).toArray(Writer[]::new);
            accessors = new MethodHandle[components.length];
            for (int i = 0; i < components.length; i++) {
                try {
                    accessors[i] = MethodHandles.publicLookup().unreflect(components[i].getAccessor())
                            .asType(MethodType.methodType(Object.class, Object.class));
                } catch (IllegalAccessException error) {
                    throw new IllegalStateException(components[i] + " cannot be read", error);
                }
            }
        }

        @Override
        public Object write(Object value) {
            promised(value, shape);
            Object[] fields = new Object[writers.length];
            for (int i = 0; i < fields.length; i++) {
                try {
                    fields[i] = writers[i].write((Object) accessors[i].invokeExact(value));
                } catch (Throwable error) {
                    throw Failure.sneaky(error);
                }
            }
            return new GenericInternalRow(fields);
        }
    }
}
