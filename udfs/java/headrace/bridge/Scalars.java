package headrace.bridge;

import java.math.BigDecimal;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import org.apache.spark.sql.catalyst.expressions.SpecializedGetters;
import org.apache.spark.sql.catalyst.util.DateTimeUtils;
import org.apache.spark.sql.catalyst.util.IntervalUtils;
import org.apache.spark.sql.types.BinaryType;
import org.apache.spark.sql.types.BooleanType;
import org.apache.spark.sql.types.ByteType;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.DateType;
import org.apache.spark.sql.types.DayTimeIntervalType;
import org.apache.spark.sql.types.Decimal;
import org.apache.spark.sql.types.DecimalType;
import org.apache.spark.sql.types.DoubleType;
import org.apache.spark.sql.types.FloatType;
import org.apache.spark.sql.types.IntegerType;
import org.apache.spark.sql.types.LongType;
import org.apache.spark.sql.types.ShortType;
import org.apache.spark.sql.types.StringType;
import org.apache.spark.sql.types.TimestampNTZType;
import org.apache.spark.sql.types.TimestampType;
import org.apache.spark.unsafe.types.UTF8String;

/** Conversion of scalar values: numbers, text, bytes, times, enums. */
final class Scalars {
    private Scalars() {}

    /** Number types from narrow to wide: a number can be read into its own Java type or a wider one. */
    private static final List<Class<? extends DataType>> WIDTHS = List.of(
            ByteType.class, ShortType.class, IntegerType.class, LongType.class, DecimalType.class, FloatType.class,
            DoubleType.class);

    static final class ScalarReader extends Reader {
        private final Function<Object, Object> convert;

        ScalarReader(DataType sql, int distance, Function<Object, Object> convert) {
            super(sql, distance);
            this.convert = convert;
        }

        @Override
        public Object read(Object value) {
            return convert.apply(value);
        }
    }

    private static final class StringReader extends Reader {
        StringReader(DataType sql) {
            super(sql, 0);
        }

        @Override
        public Object read(Object value) {
            return value.toString();
        }

        @Override
        Object get(SpecializedGetters values, int index) {
            return values.getUTF8String(index).toString();
        }
    }

    private static final class EnumReader extends Reader {
        private final Map<UTF8String, Object> byName = new HashMap<>();

        EnumReader(DataType sql, Class<?> type) {
            super(sql, 1);
            for (Object constant : type.getEnumConstants()) {
                byName.put(UTF8String.fromString(((Enum<?>) constant).name()), constant);
            }
        }

        @Override
        public Object read(Object value) {
            return byName.get((UTF8String) value);
        }

        @Override
        boolean partial() {
            return true;
        }
    }

    /** @return null if the Java type does not accept the SQL type without a cast */
    static Reader reader(Shape shape, DataType sql) {
        if (sql instanceof StringType) {
            return shape.kind() == Shape.Kind.ENUM ? new EnumReader(sql, shape.raw())
                    : shape.raw() == String.class ? new StringReader(sql) : null;
        }
        if (shape.kind() == Shape.Kind.ENUM) {
            return null;
        }
        int from = width(sql);
        int to = width(shape.sql());
        if (to >= 0) {
            return from < 0 || from > to ? null : new ScalarReader(sql, to - from, number(shape.sql(), sql));
        }
        return shape.sql().getClass() == sql.getClass() ? new ScalarReader(sql, 0, same(sql)) : null;
    }

    private static int width(DataType type) {
        for (int i = 0; i < WIDTHS.size(); i++) {
            if (WIDTHS.get(i).isInstance(type)) {
                return i;
            }
        }
        return -1;
    }

    private static Function<Object, Object> number(DataType to, DataType from) {
        if (to instanceof DecimalType) {
            return from instanceof DecimalType
                    ? value -> ((Decimal) value).toJavaBigDecimal()
                    : value -> BigDecimal.valueOf(((Number) value).longValue());
        }
        Function<Number, Object> widen = to instanceof ByteType ? Number::byteValue
                : to instanceof ShortType ? Number::shortValue
                : to instanceof IntegerType ? Number::intValue
                : to instanceof LongType ? Number::longValue
                : to instanceof FloatType ? Number::floatValue
                : Number::doubleValue;
        return from instanceof DecimalType
                ? value -> widen.apply(((Decimal) value).toJavaBigDecimal())
                : value -> widen.apply((Number) value);
    }

    private static Function<Object, Object> same(DataType type) {
        if (type instanceof DateType) {
            return value -> LocalDate.ofEpochDay((Integer) value);
        }
        if (type instanceof TimestampType) {
            return value -> DateTimeUtils.microsToInstant((Long) value);
        }
        if (type instanceof TimestampNTZType) {
            return value -> DateTimeUtils.microsToLocalDateTime((Long) value);
        }
        if (type instanceof DayTimeIntervalType) {
            return value -> IntervalUtils.microsToDuration((Long) value);
        }
        return Function.identity();
    }

    /** The function from a non-null Java value to Spark's internal form. */
    static Function<Object, Object> writer(Shape shape) {
        DataType type = shape.sql();
        if (shape.kind() == Shape.Kind.ENUM) {
            return value -> UTF8String.fromString(((Enum<?>) value).name());
        }
        if (type instanceof StringType) {
            return value -> UTF8String.fromString((String) value);
        }
        if (type instanceof DecimalType) {
            return value -> decimal((BigDecimal) value);
        }
        if (type instanceof DateType) {
            return value -> Math.toIntExact(((LocalDate) value).toEpochDay());
        }
        if (type instanceof TimestampType) {
            return value -> DateTimeUtils.instantToMicros((Instant) value);
        }
        if (type instanceof TimestampNTZType) {
            return value -> DateTimeUtils.localDateTimeToMicros((LocalDateTime) value);
        }
        if (type instanceof DayTimeIntervalType) {
            return value -> IntervalUtils.durationToMicros((Duration) value);
        }
        if (type instanceof BooleanType || type instanceof BinaryType || width(type) >= 0) {
            return Function.identity();
        }
        throw new IllegalStateException("no writer for " + type);
    }

    private static Decimal decimal(BigDecimal value) {
        Decimal decimal = Decimal.apply(value);
        if (!decimal.changePrecision(Shape.DECIMAL.precision(), Shape.DECIMAL.scale())) {
            throw new ArithmeticException(value + " does not fit " + Shape.DECIMAL.sql());
        }
        return decimal;
    }
}
