package headrace.bridge;

import headrace.bridge.Scalars.ScalarReader;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.lang.reflect.Array;
import java.lang.reflect.RecordComponent;
import java.util.ArrayList;
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
import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.catalyst.util.ArrayData;
import org.apache.spark.sql.catalyst.util.MapData;
import org.apache.spark.sql.types.ArrayType;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.MapType;
import org.apache.spark.sql.types.NullType;
import org.apache.spark.sql.types.StructField;
import org.apache.spark.sql.types.StructType;

/** Finds the reader from an SQL type to a Java type. */
final class Readers {
    private Readers() {}

    /** @return null when values of the SQL type cannot become values of the Java type without a cast */
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
            case RECORD -> sql instanceof StructType struct ? struct(shape, struct) : null;
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
        public Object absent() {
            return empty;
        }

        @Override
        public Object read(Object sqlValue) {
            return wrap(value.read(sqlValue));
        }

        @Override
        Object get(org.apache.spark.sql.catalyst.expressions.SpecializedGetters values, int index) {
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

    /** Fields are matched by name, whatever their order; an Optional component without a field is empty. */
    private static Reader struct(Shape shape, StructType type) {
        RecordComponent[] components = shape.raw().getRecordComponents();
        Reader[] readers = new Reader[components.length];
        int[] places = new int[components.length];
        boolean partial = false;
        int distance = 0;
        for (int i = 0; i < components.length; i++) {
            Shape part = shape.parts().get(i);
            places[i] = place(type, components[i].getName());
            if (places[i] < 0) {
                readers[i] = part.isOptional() ? of(part, part.sql()) : null;
            } else {
                StructField field = type.fields()[places[i]];
                readers[i] = of(part, field.dataType());
                partial |= readers[i] != null && (readers[i].partial() || field.nullable() && !part.isOptional());
            }
            if (readers[i] == null) {
                return null;
            }
            distance += readers[i].distance;
        }
        return new RecordReader(type, distance, partial, shape.raw(), readers, places);
    }

    private static int place(StructType type, String name) {
        String[] names = type.fieldNames();
        int exact = Arrays.asList(names).indexOf(name);
        for (int i = 0; exact < 0 && i < names.length; i++) {
            if (names[i].equalsIgnoreCase(name)) {
                return i;
            }
        }
        return exact;
    }

    private static final class RecordReader extends Reader {
        private final boolean partial;
        private final Reader[] readers;
        private final int[] places;
        private final int width;
        private final MethodHandle constructor;

        RecordReader(StructType type, int distance, boolean partial, Class<?> raw, Reader[] readers, int[] places) {
            super(type, distance);
            this.partial = partial;
            this.readers = readers;
            this.places = places;
            this.width = type.length();
            Class<?>[] types = new Class<?>[readers.length];
            List<Class<?>> declared = new ArrayList<>();
            for (RecordComponent component : raw.getRecordComponents()) {
                declared.add(component.getType());
            }
            try {
                constructor = MethodHandles.publicLookup()
                        .findConstructor(raw, MethodType.methodType(void.class, declared.toArray(types)))
                        .asSpreader(Object[].class, types.length)
                        .asType(MethodType.methodType(Object.class, Object[].class));
            } catch (ReflectiveOperationException error) {
                throw new IllegalStateException("record " + raw.getTypeName() + " has no public constructor", error);
            }
        }

        @Override
        boolean partial() {
            return partial;
        }

        @Override
        Object get(org.apache.spark.sql.catalyst.expressions.SpecializedGetters values, int index) {
            return read(values.getStruct(index, width));
        }

        @Override
        public Object read(Object value) {
            InternalRow row = (InternalRow) value;
            Object[] found = new Object[readers.length];
            for (int i = 0; i < found.length; i++) {
                found[i] = places[i] < 0 ? readers[i].absent() : readers[i].at(row, places[i]);
                if (found[i] == null) {
                    return null;
                }
            }
            try {
                return (Object) constructor.invokeExact(found);
            } catch (Throwable error) {
                throw Failure.sneaky(error);
            }
        }
    }
}
