package headrace.bridge;

import java.util.List;
import org.apache.spark.sql.catalyst.CatalystTypeConverters;
import org.apache.spark.sql.types.DataType;

/** The arguments of a call as text for error messages. */
final class Arguments {
    private static final int LONGEST = 200;
    private static final int SHOWN_BYTES = 16;

    private Arguments() {}

    /** @return the arguments in Spark's internal form as text of at most 200 characters */
    static String shortened(Object[] values, List<DataType> types) {
        StringBuilder text = new StringBuilder();
        for (int i = 0; i < values.length && text.length() <= LONGEST; i++) {
            text.append(i == 0 ? "" : ", ").append(shown(values[i], types.get(i)));
        }
        return text.length() <= LONGEST ? text.toString() : text.substring(0, LONGEST - 1) + "…";
    }

    private static String shown(Object value, DataType type) {
        if (value == null) {
            return "null";
        }
        if (value instanceof byte[] bytes) {
            StringBuilder hex = new StringBuilder(bytes.length + " bytes ");
            for (int i = 0; i < Math.min(bytes.length, SHOWN_BYTES); i++) {
                hex.append(String.format("%02x", bytes[i]));
            }
            return hex.append(bytes.length > SHOWN_BYTES ? "…" : "").toString();
        }
        Object external = CatalystTypeConverters.convertToScala(value, type);
        return external instanceof String ? "'" + external + "'" : String.valueOf(external);
    }
}
