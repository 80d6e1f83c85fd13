package headrace.bridge;

import headrace.bridge.Scalars.ScalarReader;
import java.lang.reflect.Array;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalInt;
import java.util.OptionalLong;
import org.apache.spark.sql.catalyst.expressions.SpecializedGetters;
import org.apache.spark.sql.catalyst.util.ArrayData;
import org.apache.spark.sql.catalyst.util.MapData;
import org.apache.spark.sql.types.ArrayType;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.MapType;
import org.apache.spark.sql.types.NullType;
import org.apache.spark.sql.types.StructType;

/** Finds the reader that converts an SQL type to a Java type. */
final class Readers {
    private Readers() {}

    /** @return null if values of the SQL type cannot be converted to the Java type without a cast */
    static Reader of(Shape shape, DataType sql) {
        if (shape.isOptional()) {
            Reader value = of(shape.part(), sql);
            return value == null ? null : new OptionalReader(shape, value);
        }
        if (sql instanceof NullType) {
            return new ScalarReader(sql, 0, value -> null);
        }
        return switch (shape.kind()) {
            case LIST, SET, ARRAY -> sql instanceof ArrayType array ? sequence(shape, array) : null;
            case MAP -> sql instanceof MapType map ? map(shape, map) : null;
            case RECORD -> sql instanceof StructType struct ? RecordReader.of(shape, struct) : null;
            default -> Scalars.reader(shape, sql);
        };
    }

    private static final class OptionalReader extends Reader {
        private final Reader value;
        private final Object empty;
        private final Class<?> raw;

        OptionalReader(Shape shape, Reader value) {
            super(value.sql, value.distance);
            this.value = value;
            this.raw = shape.raw();
            this.empty = raw == OptionalInt.class ? OptionalInt.empty()
                    : raw == OptionalLong.class ? OptionalLong.empty()
                    : raw == OptionalDouble.class ? OptionalDouble.empty()
                    : Optional.empty();
        }

        @Override
        Reader inner() {
            return value;
        }

        @Override
        public Object absent() {
            return empty;
        }

        @Override
        public Object read(Object sqlValue) {
            return wrap(value.read(sqlValue));
        }

        @Override
        Object get(SpecializedGetters values, int index) {
            return wrap(value.get(values, index));
        }

        private Object wrap(Object found) {
            if (found == null) {
                return empty;
            }
            if (raw == Optional.class) {
                return Optional.of(found);
            }
            return raw == OptionalInt.class ? OptionalInt.of((Integer) found)
                    : raw == OptionalLong.class ? OptionalLong.of((Long) found)
                    : OptionalDouble.of((Double) found);
        }
    }

    private static Reader sequence(Shape shape, ArrayType type) {
        Reader element = of(shape.part(), type.elementType());
        if (element == null) {
            return null;
        }
        boolean partial = element.partial() || type.containsNull() && element.absent() == null;
        return switch (shape.kind()) {
            case ARRAY -> new ArrayReader(type, element, partial, shape.part().raw());
            case SET -> new ListReader(type, element, partial) {
                @Override
                public Object read(Object value) {
                    List<?> list = list((ArrayData) value);
                    return list == null ? null : Collections.unmodifiableSet(new LinkedHashSet<>(list));
                }
            };
            default -> new ListReader(type, element, partial);
        };
    }

    private static class ListReader extends Reader {
        private final Reader element;
        private final boolean partial;

        ListReader(ArrayType type, Reader element, boolean partial) {
            super(type, element.distance);
            this.element = element;
            this.partial = partial;
        }

        @Override
        boolean partial() {
            return partial;
        }

        @Override
        public Object read(Object value) {
            return list((ArrayData) value);
        }

        final List<Object> list(ArrayData array) {
            Object[] found = new Object[array.numElements()];
            for (int i = 0; i < found.length; i++) {
                found[i] = element.at(array, i);
                if (found[i] == null) {
                    return null;
                }
            }
            return Collections.unmodifiableList(Arrays.asList(found));
        }
    }

    private static final class ArrayReader extends Reader {
        private final Reader element;
        private final boolean partial;
        private final Class<?> component;

        ArrayReader(ArrayType type, Reader element, boolean partial, Class<?> component) {
            super(type, element.distance);
            this.element = element;
            this.partial = partial;
            this.component = component;
        }

        @Override
        boolean partial() {
            return partial;
        }

        @Override
        public Object read(Object value) {
            ArrayData array = (ArrayData) value;
            Object found = Array.newInstance(component, array.numElements());
            for (int i = 0; i < array.numElements(); i++) {
                Object next = element.at(array, i);
                if (next == null) {
                    return null;
                }
                Array.set(found, i, next);
            }
            return found;
        }
    }

    private static Reader map(Shape shape, MapType type) {
        Reader key = of(shape.parts().get(0), type.keyType());
        Reader value = of(shape.parts().get(1), type.valueType());
        if (key == null || value == null) {
            return null;
        }
        boolean partial = key.partial() || value.partial() || type.valueContainsNull() && value.absent() == null;
        return new Reader(type, key.distance + value.distance) {
            @Override
            boolean partial() {
                return partial;
            }

            @Override
            public Object read(Object sqlValue) {
                MapData map = (MapData) sqlValue;
                ArrayData keys = map.keyArray();
                ArrayData values = map.valueArray();
                Map<Object, Object> found = new LinkedHashMap<>();
                for (int i = 0; i < map.numElements(); i++) {
                    Object k = key.at(keys, i);
                    Object v = value.at(values, i);
                    if (k == null || v == null) {
                        return null;
                    }
                    found.put(k, v);
                }
                return Collections.unmodifiableMap(found);
            }
        };
    }
}
