package headrace.bridge;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.WeakHashMap;
import org.apache.spark.SparkContext;
import org.apache.spark.sql.classic.SparkSession;
import org.apache.spark.util.CollectionAccumulator;

/** Where tallies report to: for each call, how many values are there, and how many absent for which cause. */
public final class Ledger {
    private static final Map<SparkContext, Ledger> FAILURES = new WeakHashMap<>();

    private final CollectionAccumulator<Object[]> reports = new CollectionAccumulator<>();

    Ledger(SparkContext context) {
        context.register(reports);
    }

    Tally tally(String id, boolean keyed) {
        return new Tally(id, keyed, reports);
    }

    /** The tally of a function whose exceptions become absent values, when no ledger watches the query. */
    static synchronized Tally failures(SparkSession session, String function) {
        return FAILURES.computeIfAbsent(session.sparkContext(), Ledger::new).tally(function, false);
    }
}
