package headrace.bridge;

import java.io.Serializable;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import org.apache.spark.TaskContext;
import org.apache.spark.util.CollectionAccumulator;
import org.apache.spark.util.TaskCompletionListener;

/**
 * Counts what one call of a query finds absent, in one task after another.
 *
 * <p>Each task reports once, when it ends, to an accumulator that holds nothing but JDK types, so that a driver may read
 * it whatever its class loader. A report carries the partition; the ledger keeps one for each, so a task that ran twice
 * counts once.
 */
public final class Tally implements Serializable {
    private static final long serialVersionUID = 1;
    private static final int EXAMPLES = 10;

    private final String id;
    private final boolean keyed;
    private final CollectionAccumulator<Object[]> reports;
    private transient long[] counts;
    private transient List<List<String>> examples;

    Tally(String id, boolean keyed, CollectionAccumulator<Object[]> reports) {
        this.id = id;
        this.keyed = keyed;
        this.reports = reports;
    }

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
        String execution = task.getLocalProperty("spark.sql.execution.id");
        Object[] report = {id, execution == null ? "-1" : execution, task.partitionId(), counts, examples};
        TaskCompletionListener listener = ended -> reports.add(report);
        task.addTaskCompletionListener(listener);
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Tally tally && id.equals(tally.id);
    }

    @Override
    public int hashCode() {
        return Objects.hash(id);
    }
}
