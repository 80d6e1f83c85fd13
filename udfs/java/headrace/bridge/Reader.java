package headrace.bridge;

import org.apache.spark.sql.catalyst.expressions.SpecializedGetters;
import org.apache.spark.sql.types.DataType;

/**
 * Turns SQL values of one type, in Spark's internal form, into Java objects of another.
 *
 * <p>Readers are made once for each call in a query and task, never for a row.
 */
public abstract class Reader {
    /** The SQL type that is read. */
    final DataType sql;

    /** How far the SQL type is from the Java type: 0 is the same, more is a wider number. */
    final int distance;

    Reader(DataType sql, int distance) {
        this.sql = sql;
        this.distance = distance;
    }

    /**
     * Reads a value that is not null.
     *
     * @return null when the Java type has no room for the value: a null element in a {@code List<String>}, a name that
     *     the enum lacks
     */
    public abstract Object read(Object value);

    /** What stands for SQL null: {@code Optional.empty()}, or null where the Java type has no room for it. */
    public Object absent() {
        return null;
    }

    /** Whether {@link #read} may return null. */
    boolean partial() {
        return false;
    }

    /** The reader of what an Optional holds; of anything else, itself. */
    Reader inner() {
        return this;
    }

    /** Reads the value at a place of a row or an array; null as in {@link #read} and {@link #absent}. */
    final Object at(SpecializedGetters values, int index) {
        return values.isNullAt(index) ? absent() : get(values, index);
    }

    Object get(SpecializedGetters values, int index) {
        return read(values.get(index, sql));
    }
}
