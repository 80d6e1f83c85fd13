package headrace.bridge;

import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.lang.reflect.RecordComponent;
import java.util.Arrays;
import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.catalyst.expressions.SpecializedGetters;
import org.apache.spark.sql.types.StructType;

/** Reads a struct as a record, matching fields by name. An Optional component without a field is empty. */
final class RecordReader extends Reader {
    private final boolean partial;
    private final Reader[] readers;
    private final int[] places;
    private final int width;
    private final MethodHandle constructor;

    private RecordReader(StructType type, int distance, boolean partial, Class<?> raw, Reader[] readers, int[] places) {
        super(type, distance);
        this.partial = partial;
        this.readers = readers;
        this.places = places;
        this.width = type.length();
        this.constructor = constructor(raw);
    }

    /** @return null if a component cannot be read */
    static Reader of(Shape shape, StructType type) {
        RecordComponent[] components = shape.raw().getRecordComponents();
        Reader[] readers = new Reader[components.length];
        int[] places = new int[components.length];
        boolean partial = false;
        int distance = 0;
        for (int i = 0; i < components.length; i++) {
            Shape part = shape.parts().get(i);
            places[i] = place(type, components[i].getName());
            if (places[i] >= 0) {
                readers[i] = Readers.of(part, type.fields()[places[i]].dataType());
            } else if (part.isOptional()) {
                readers[i] = Readers.of(part, part.sql());
            }
            if (readers[i] == null) {
                return null;
            }
            boolean nullable = places[i] >= 0 && type.fields()[places[i]].nullable();
            partial |= !part.isOptional() && (readers[i].partial() || nullable);
            distance += readers[i].distance;
        }
        return new RecordReader(type, distance, partial, shape.raw(), readers, places);
    }

    /** The index of the field with this name, or else of the first that differs only in case; -1 if there is none. */
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

    private static MethodHandle constructor(Class<?> raw) {
        Class<?>[] types =
                Arrays.stream(raw.getRecordComponents()).map(RecordComponent::getType).toArray(Class<?>[]::new);
        try {
            return MethodHandles.publicLookup()
                    .findConstructor(raw, MethodType.methodType(void.class, types))
                    .asSpreader(Object[].class, types.length)
                    .asType(MethodType.methodType(Object.class, Object[].class));
        } catch (ReflectiveOperationException error) {
            throw new IllegalStateException("record " + raw.getTypeName() + " has no public constructor", error);
        }
    }

    /** The index of a component's field in the struct; negative if it has none. */
    int place(int component) {
        return places[component];
    }

    Reader component(int component) {
        return readers[component];
    }

    /** Whether the field of a component may be null according to the struct's type. */
    boolean mayLack(int component) {
        return ((StructType) sql).fields()[places[component]].nullable();
    }

    @Override
    boolean partial() {
        return partial;
    }

    @Override
    Object get(SpecializedGetters values, int index) {
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
