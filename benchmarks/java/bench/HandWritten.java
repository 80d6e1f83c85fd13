package bench;

import com.sun.management.OperatingSystemMXBean;
import com.sun.management.ThreadMXBean;
import java.lang.management.ManagementFactory;
import java.util.Locale;
import java.util.Optional;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.RowFactory;
import org.apache.spark.sql.api.java.UDF1;
import org.apache.spark.sql.api.java.UDF2;
import scala.collection.Seq;

/** The same functions as Spark's Java API wants them: one class each, null-checked by hand. */
public final class HandWritten {
    private HandWritten() {}

    public static final class Loud implements UDF2<String, String, String> {
        @Override
        public String call(String alt, String caption) {
            String text = alt != null ? alt : caption;
            return text == null ? null : text.strip().toUpperCase(Locale.ROOT);
        }
    }

    public static final class LoudOptional implements UDF2<String, String, String> {
        @Override
        public String call(String alt, String caption) {
            return Functions.loud(Optional.ofNullable(alt), Optional.ofNullable(caption)).orElse(null);
        }
    }

    public static final class Longest implements UDF1<Seq<String>, String> {
        @Override
        public String call(Seq<String> captions) {
            if (captions == null) {
                return null;
            }
            String longest = null;
            for (int i = 0; i < captions.size(); i++) {
                String caption = captions.apply(i);
                if (caption != null && (longest == null || caption.length() > longest.length())) {
                    longest = caption;
                }
            }
            return longest;
        }
    }

    public static final class Turned implements UDF1<Row, Row> {
        @Override
        public Row call(Row size) {
            return size == null ? null : RowFactory.create(size.getInt(1), size.getInt(0));
        }
    }

    /** Nanoseconds of CPU that this JVM has used so far: unlike time on the clock, no matter what else runs. */
    public static long cpu() {
        return ((OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    }

    /** Bytes that the live threads of this JVM have allocated so far. */
    public static long allocated() {
        ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
        long sum = 0;
        for (long bytes : threads.getThreadAllocatedBytes(threads.getAllThreadIds())) {
            sum += Math.max(bytes, 0);
        }
        return sum;
    }
}
