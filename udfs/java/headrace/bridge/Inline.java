package headrace.bridge;

import java.lang.invoke.MethodType;
import java.lang.reflect.RecordComponent;
import java.util.ArrayList;
import java.util.List;
import org.apache.spark.sql.catalyst.expressions.codegen.CodeGenerator;
import org.apache.spark.sql.types.BinaryType;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.StringType;
import org.apache.spark.sql.types.StructField;
import org.apache.spark.sql.types.StructType;

/** Conversions that are short enough to be generated inline; all others call a reader or writer. */
final class Inline {
    private static final String ROW = "org.apache.spark.sql.catalyst.expressions.GenericInternalRow";

    private Inline() {}

    /** The name of a Java type in generated code: erased, and public, which registration has checked. */
    static String typeName(Shape shape) {
        return shape.raw().getCanonicalName();
    }

    static String wrapper(Class<?> primitive) {
        return MethodType.methodType(primitive).wrap().returnType().getName();
    }

    /** The expression that boxes a value in generated code. */
    static String boxed(DataType type, String value) {
        return CodeGenerator.isPrimitiveType(type) ? CodeGenerator.boxedType(type) + ".valueOf(" + value + ")" : value;
    }

    /**
     * An expression that reads a non-null value.
     *
     * @return null if that needs the reader
     */
    static String read(Shape shape, Reader reader, String value) {
        if (shape.isOptional()) {
            String inner = reader.inner().partial() ? null : read(shape.part(), reader.inner(), value);
            return inner == null ? null : typeName(shape) + ".of(" + inner + ")";
        }
        if (shape.raw().isPrimitive() && CodeGenerator.isPrimitiveType(reader.sql)) {
            return "((" + shape.raw().getName() + ") " + value + ")";
        }
        if (shape.raw() == String.class && reader.sql instanceof StringType) {
            return value + ".toString()";
        }
        if (reader.sql instanceof BinaryType) {
            return value;
        }
        return reader instanceof RecordReader record ? readRecord(shape, record, value) : null;
    }

    private static String readRecord(Shape shape, RecordReader reader, String row) {
        List<String> components = new ArrayList<>();
        List<String> missing = new ArrayList<>();
        for (int i = 0; i < shape.parts().size(); i++) {
            Shape part = shape.parts().get(i);
            int place = reader.place(i);
            String absent = row + ".isNullAt(" + place + ")";
            String component =
                    place < 0 ? typeName(part) + ".empty()" : readField(part, reader.component(i), row, place);
            if (component == null) {
                return null;
            }
            if (part.isOptional() && place >= 0) {
                component = "(" + absent + " ? " + typeName(part) + ".empty() : " + component + ")";
            } else if (place >= 0 && reader.mayLack(i)) {
                missing.add(absent);
            }
            components.add(component);
        }
        String made = "new " + typeName(shape) + "(" + String.join(", ", components) + ")";
        return missing.isEmpty()
                ? made
                : "(" + String.join(" || ", missing) + " ? (" + typeName(shape) + ") null : " + made + ")";
    }

    /** A record inside a record would be fetched once for each component, so it needs the reader. */
    private static String readField(Shape part, Reader reader, String row, int place) {
        return reader.inner() instanceof RecordReader
                ? null
                : read(part, reader, CodeGenerator.getValue(row, reader.sql, String.valueOf(place)));
    }

    /**
     * An expression that writes what a function returned, of the class that generated code uses for the SQL type.
     *
     * @return null if that needs the writer
     */
    static String write(Shape shape, String value) {
        if (shape.raw().isPrimitive()) {
            return value;
        }
        if (shape.raw() == String.class) {
            return Writer.class.getName() + ".text(" + value + ")";
        }
        return shape.kind() == Shape.Kind.RECORD ? writeRecord(shape, value) : null;
    }

    private static String writeRecord(Shape shape, String value) {
        StructField[] fields = ((StructType) shape.sql()).fields();
        RecordComponent[] components = shape.raw().getRecordComponents();
        List<String> written = new ArrayList<>();
        for (int i = 0; i < fields.length; i++) {
            Shape part = shape.parts().get(i);
            String component = part.kind() == Shape.Kind.RECORD
                    ? null : write(part, value + "." + components[i].getName() + "()");
            if (component == null) {
                return null;
            }
            written.add("(Object) " + boxed(fields[i].dataType(), component));
        }
        return "new " + ROW + "(new Object[] {" + String.join(", ", written) + "})";
    }
}
