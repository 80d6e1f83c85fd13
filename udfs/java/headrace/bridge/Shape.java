package headrace.bridge;

import java.lang.reflect.Array;
import java.lang.reflect.GenericArrayType;
import java.lang.reflect.Modifier;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.RecordComponent;
import java.lang.reflect.Type;
import java.lang.reflect.TypeVariable;
import java.lang.reflect.WildcardType;
import java.math.BigDecimal;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalInt;
import java.util.OptionalLong;
import java.util.Set;
import org.apache.spark.sql.types.ArrayType;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.DataTypes;
import org.apache.spark.sql.types.DecimalType;
import org.apache.spark.sql.types.MapType;
import org.apache.spark.sql.types.Metadata;
import org.apache.spark.sql.types.StructField;
import org.apache.spark.sql.types.StructType;

/**
 * A Java type in a signature, analysed: its kind, its parts, and its SQL type.
 *
 * @param raw the erased Java class
 * @param parts element of an Optional, list, set or array; key and value of a map; components of a record
 */
record Shape(Kind kind, Class<?> raw, DataType sql, List<Shape> parts) {
    enum Kind { SCALAR, ENUM, OPTIONAL, LIST, SET, ARRAY, MAP, RECORD }

    static final DecimalType DECIMAL = DataTypes.createDecimalType(38, 18);

    private static final Map<Class<?>, DataType> SCALARS = Map.ofEntries(
            Map.entry(boolean.class, DataTypes.BooleanType), Map.entry(Boolean.class, DataTypes.BooleanType),
            Map.entry(byte.class, DataTypes.ByteType), Map.entry(Byte.class, DataTypes.ByteType),
            Map.entry(short.class, DataTypes.ShortType), Map.entry(Short.class, DataTypes.ShortType),
            Map.entry(int.class, DataTypes.IntegerType), Map.entry(Integer.class, DataTypes.IntegerType),
            Map.entry(long.class, DataTypes.LongType), Map.entry(Long.class, DataTypes.LongType),
            Map.entry(float.class, DataTypes.FloatType), Map.entry(Float.class, DataTypes.FloatType),
            Map.entry(double.class, DataTypes.DoubleType), Map.entry(Double.class, DataTypes.DoubleType),
            Map.entry(BigDecimal.class, DECIMAL), Map.entry(String.class, DataTypes.StringType),
            Map.entry(byte[].class, DataTypes.BinaryType), Map.entry(LocalDate.class, DataTypes.DateType),
            Map.entry(Instant.class, DataTypes.TimestampType),
            Map.entry(LocalDateTime.class, DataTypes.TimestampNTZType),
            Map.entry(Duration.class, DataTypes.createDayTimeIntervalType()));

    private static final Map<Class<?>, Class<?>> PRIMITIVE_OPTIONALS = Map.of(
            OptionalInt.class, int.class, OptionalLong.class, long.class, OptionalDouble.class, double.class);

    private static final Map<Class<?>, Kind> CONTAINERS = Map.of(
            Optional.class, Kind.OPTIONAL, List.class, Kind.LIST, Set.class, Kind.SET, Map.class, Kind.MAP);

    /** A type with no SQL counterpart; the message says which type and why. */
    static final class Unsupported extends Exception {
        Unsupported(String message) {
            super(message);
        }
    }

    static Shape of(Type type) throws Unsupported {
        return of(type, List.of());
    }

    /** @param within the enclosing records, so that a record that contains itself is refused */
    private static Shape of(Type type, List<Class<?>> within) throws Unsupported {
        if (type instanceof TypeVariable) {
            throw new Unsupported("type variable " + type.getTypeName());
        }
        if (type instanceof WildcardType wildcard) {
            Type bound = wildcard.getUpperBounds()[0];
            if (bound == Object.class) {
                throw new Unsupported("wildcard " + type.getTypeName() + " has no upper bound");
            }
            return of(bound, within);
        }
        if (type instanceof GenericArrayType array) {
            return arrayOf(of(array.getGenericComponentType(), within));
        }
        if (type instanceof ParameterizedType generic) {
            return container(generic, within);
        }
        return plain((Class<?>) type, within);
    }

    private static Shape plain(Class<?> type, List<Class<?>> within) throws Unsupported {
        if (SCALARS.containsKey(type)) {
            return new Shape(Kind.SCALAR, type, SCALARS.get(type), List.of());
        }
        if (PRIMITIVE_OPTIONALS.containsKey(type)) {
            Shape number = plain(PRIMITIVE_OPTIONALS.get(type), within);
            return new Shape(Kind.OPTIONAL, type, number.sql, List.of(number));
        }
        if (type.getTypeParameters().length > 0) {
            throw new Unsupported("raw type " + type.getTypeName());
        }
        if (type.isArray()) {
            return arrayOf(of(type.getComponentType(), within));
        }
        if (type.isEnum() || type.isRecord()) {
            requirePublic(type);
            return type.isEnum()
                    ? new Shape(Kind.ENUM, type, DataTypes.StringType, List.of())
                    : recordOf(type, within);
        }
        throw new Unsupported("type " + type.getTypeName() + " has no SQL counterpart");
    }

    private static Shape arrayOf(Shape element) {
        Class<?> raw = Array.newInstance(element.raw, 0).getClass();
        return new Shape(Kind.ARRAY, raw, new ArrayType(element.sql, element.isOptional()), List.of(element));
    }

    private static Shape recordOf(Class<?> type, List<Class<?>> within) throws Unsupported {
        if (within.contains(type)) {
            throw new Unsupported("record " + type.getTypeName() + " contains itself");
        }
        List<Class<?>> inside = new ArrayList<>(within);
        inside.add(type);
        List<Shape> parts = new ArrayList<>();
        List<StructField> fields = new ArrayList<>();
        for (RecordComponent component : type.getRecordComponents()) {
            Shape part;
            try {
                part = of(component.getGenericType(), inside);
            } catch (Unsupported problem) {
                String where = "component " + component.getName() + " of record " + type.getTypeName() + ": ";
                throw new Unsupported(where + problem.getMessage());
            }
            parts.add(part);
            fields.add(new StructField(component.getName(), part.sql, part.isOptional(), Metadata.empty()));
        }
        return new Shape(Kind.RECORD, type, new StructType(fields.toArray(StructField[]::new)), parts);
    }

    private static Shape container(ParameterizedType generic, List<Class<?>> within) throws Unsupported {
        Kind kind = CONTAINERS.get((Class<?>) generic.getRawType());
        if (kind == null) {
            throw new Unsupported("type " + generic.getTypeName() + " has no SQL counterpart");
        }
        List<Shape> parts = new ArrayList<>();
        for (Type argument : generic.getActualTypeArguments()) {
            parts.add(of(argument, within));
        }
        Shape last = parts.get(parts.size() - 1);
        Class<?> raw = (Class<?>) generic.getRawType();
        if (parts.get(0).isOptional() && kind != Kind.LIST && kind != Kind.SET) {
            throw new Unsupported(generic.getTypeName() + (kind == Kind.MAP
                    ? ": a key of an SQL map is never null"
                    : ": SQL has only one level of absence"));
        }
        DataType sql = switch (kind) {
            case OPTIONAL -> last.sql;
            case MAP -> new MapType(parts.get(0).sql, last.sql, last.isOptional());
            default -> new ArrayType(last.sql, last.isOptional());
        };
        return new Shape(kind, raw, sql, parts);
    }

    private static void requirePublic(Class<?> type) throws Unsupported {
        for (Class<?> outer = type; outer != null; outer = outer.getEnclosingClass()) {
            if (!Modifier.isPublic(outer.getModifiers())) {
                throw new Unsupported("type " + type.getTypeName() + " is not public");
            }
        }
    }

    boolean isOptional() {
        return kind == Kind.OPTIONAL;
    }

    /** The first part: the value of an Optional, the element of a list, set or array, the key of a map. */
    Shape part() {
        return parts.get(0);
    }
}
