package headrace.bridge;

import org.apache.spark.sql.catalyst.expressions.SpecializedGetters;
import org.apache.spark.sql.types.DataType;

/**
 * Converts SQL values of one type, in Spark's internal form, to Java objects.
 *
 * <p>Readers are made once for each call and task, not for each row.
 */
public abstract class Reader {
    /** The SQL type that this reads. */
    final DataType sql;

    /** How far the SQL type is from the Java type: 0 is the same type, more is a wider number. */
    final int distance;

    Reader(DataType sql, int distance) {
        this.sql = sql;
        this.distance = distance;
    }

    /**
     * Reads a value that is not null.
     *
     * @return null if the Java type cannot represent the value: a null element in a {@code List<String>}, a name that
     *     the enum lacks
     */
    public abstract Object read(Object value);

    /** The value for SQL null: {@code Optional.empty()}, or null if the Java type cannot represent it. */
    public Object absent() {
        return null;
    }

    /** Whether {@link #read} may return null. */
    boolean partial() {
        return false;
    }

    /** The reader of the value inside an Optional; for anything else, this reader. */
    Reader inner() {
        return this;
    }

    /** Reads the value at an index of a row or an array; null as in {@link #read} and {@link #absent}. */
    final Object at(SpecializedGetters values, int index) {
        return values.isNullAt(index) ? absent() : get(values, index);
    }

    Object get(SpecializedGetters values, int index) {
        return read(values.get(index, sql));
    }
}
