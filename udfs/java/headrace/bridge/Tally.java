package headrace.bridge;

import java.io.Serializable;
import java.util.ArrayList;
import java.util.List;
import org.apache.spark.TaskContext;
import org.apache.spark.util.CollectionAccumulator;
import org.apache.spark.util.TaskCompletionListener;

/**
 * Counts what one call of a query finds absent, in one task after another.
 *
 * <p>Each task reports once, when it ends, to an accumulator that holds nothing but JDK types, so that a driver may read
 * it whatever its class loader. A report says which query and partition it is of, and the ledger keeps one of each: a
 * task that ran twice counts once.
 */
public final class Tally implements Serializable {
    private static final long serialVersionUID = 1;
    private static final int EXAMPLES = 10;

    /** What a task reports. */
    record Report(String id, String column, String function, long query, int partition, long[] counts,
            List<List<String>> examples) {
        Object[] plain() {
            return new Object[] {id, column, function, query, partition, counts, examples};
        }

        @SuppressWarnings("unchecked")
        static Report of(Object[] plain) {
            return new Report((String) plain[0], (String) plain[1], (String) plain[2], (Long) plain[3],
                    (Integer) plain[4], (long[]) plain[5], (List<List<String>>) plain[6]);
        }
    }

    private final String id;
    private final String column;
    private final String function;
    private final boolean keyed;
    private final CollectionAccumulator<Object[]> reports;
    private transient long[] counts;
    private transient List<List<String>> examples;

    /** @param column the output column that the call makes; null when only failures count, of any query */
    Tally(String id, String column, String function, boolean keyed, CollectionAccumulator<Object[]> reports) {
        this.id = id;
        this.column = column;
        this.function = function;
        this.keyed = keyed;
        this.reports = reports;
    }

    /** Whether every value counts, so that Spark must neither repeat the call nor fold it. */
    boolean isExact() {
        return column != null;
    }

    /** Whether the row's key comes with each value that is absent. */
    boolean isKeyed() {
        return keyed;
    }

    /** Counts a value that is there. */
    public void found() {
        if (counts == null) {
            start();
        }
        counts[0]++;
    }

    /** Counts a value that is absent for a cause, and keeps the row's key as an example. */
    public void count(Cause cause, Object key) {
        if (counts == null) {
            start();
        }
        counts[cause.ordinal()]++;
        List<String> kept = examples.get(cause.ordinal());
        if (key != null && cause != Cause.NONE && kept.size() < EXAMPLES) {
            kept.add(key.toString());
        }
    }

    private void start() {
        counts = new long[Cause.values().length];
        examples = new ArrayList<>();
        for (int i = 0; i < counts.length; i++) {
            examples.add(new ArrayList<>());
        }
        TaskContext task = TaskContext.get();
        if (task == null) {
            return; // the driver folds a constant: no row of the data
        }
        String query = task.getLocalProperty("spark.sql.execution.id");
        Report report = new Report(id, column, function, query == null ? -1 : Long.parseLong(query),
                task.partitionId(), counts, examples);
        TaskCompletionListener listener = ended -> {
            if (isExact() || counts[Cause.FAILURE.ordinal()] > 0) {
                reports.add(report.plain());
            }
        };
        task.addTaskCompletionListener(listener);
    }

    /** Calls that count each for itself are different; calls that count failures only are alike. */
    @Override
    public boolean equals(Object other) {
        return other instanceof Tally tally && isExact() == tally.isExact() && (!isExact() || id.equals(tally.id));
    }

    @Override
    public int hashCode() {
        return isExact() ? id.hashCode() : 0;
    }
}
