package headrace.bridge;

import java.io.Serializable;
import java.util.ArrayList;
import java.util.List;
import org.apache.spark.TaskContext;
import org.apache.spark.util.CollectionAccumulator;
import org.apache.spark.util.TaskCompletionListener;

/**
 * Counts the present and absent results of one call in a query.
 *
 * <p>Each task reports once, when it ends, to an accumulator. The report consists of JDK types, so that the driver can
 * read it with any class loader. It names its query and partition, and the ledger keeps one report for each pair, so a
 * task that ran twice counts once.
 */
public final class Tally implements Serializable {
    private static final long serialVersionUID = 1;
    private static final int EXAMPLES = 10;

    /** The report of one task. */
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

    /** @param column the output column that the call is part of; null if only failures are counted, in any query */
    Tally(String id, String column, String function, boolean keyed, CollectionAccumulator<Object[]> reports) {
        this.id = id;
        this.column = column;
        this.function = function;
        this.keyed = keyed;
        this.reports = reports;
    }

    /** Whether every result is counted, so that Spark must neither repeat nor fold the call. */
    boolean isExact() {
        return column != null;
    }

    /** Whether the row's key is passed with each absent result. */
    boolean isKeyed() {
        return keyed;
    }

    /** Counts a present result. */
    public void found() {
        if (counts == null) {
            start();
        }
        counts[0]++;
    }

    /** Counts an absent result and its cause, and keeps the row's key as an example. */
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
            return; // the driver folds a constant, which is not a row of the data
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

    /** Exact tallies are different unless they have the same id; tallies that count only failures are all equal. */
    @Override
    public boolean equals(Object other) {
        return other instanceof Tally tally && isExact() == tally.isExact() && (!isExact() || id.equals(tally.id));
    }

    @Override
    public int hashCode() {
        return isExact() ? id.hashCode() : 0;
    }
}
