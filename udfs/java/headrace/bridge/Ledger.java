package headrace.bridge;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.WeakHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.UnaryOperator;
import org.apache.spark.SparkContext;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.catalyst.expressions.Attribute;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.expressions.NamedExpression;
import org.apache.spark.sql.catalyst.plans.logical.LogicalPlan;
import org.apache.spark.sql.catalyst.plans.logical.Project;
import org.apache.spark.sql.classic.Dataset;
import org.apache.spark.sql.classic.SparkSession;
import org.apache.spark.util.CollectionAccumulator;
import scala.jdk.javaapi.CollectionConverters;
import scala.runtime.AbstractPartialFunction;

/** Counts, for each call in a query, how many results are present, and how many are absent for each cause. */
public final class Ledger {
    private static final int EXAMPLES = 10;
    private static final Map<SparkContext, Ledger> FAILURES = new WeakHashMap<>();

    private final CollectionAccumulator<Object[]> reports = new CollectionAccumulator<>();
    private final AtomicInteger calls = new AtomicInteger();

    /** Registers this ledger with a context. */
    public Ledger open(SparkContext context) {
        context.register(reports);
        return this;
    }

    /** The tally of a call whose exceptions become null, in a query that no ledger observes. */
    static Tally failures(SparkSession session, String function) {
        Ledger ledger = ofFailures(session.sparkContext());
        return new Tally("call " + ledger.calls.incrementAndGet(), null, function, false, ledger.reports);
    }

    private static synchronized Ledger ofFailures(SparkContext context) {
        return FAILURES.computeIfAbsent(context, key -> new Ledger().open(key));
    }

    /** How often each function failed in queries that no ledger observes, as JSON. */
    public String failures(org.apache.spark.sql.SparkSession session) {
        Map<String, Long> failures = new TreeMap<>();
        Map<List<Object>, Tally.Report> once = new LinkedHashMap<>();
        for (Tally.Report report : ofFailures(((SparkSession) session).sparkContext()).all()) {
            once.put(List.of(report.id(), report.query(), report.partition()), report);
        }
        once.values().forEach(
                report -> failures.merge(report.function(), report.counts()[Cause.FAILURE.ordinal()], Long::sum));
        return Json.of(failures);
    }

    /**
     * The same rows, with the results of each call in a SELECT counted.
     *
     * @param key the column to take examples from, if the input of the SELECT has it; null for none
     */
    public Dataset<Row> observe(org.apache.spark.sql.Dataset<Row> frame, String key) {
        Dataset<Row> classic = (Dataset<Row>) frame;
        LogicalPlan plan = classic.queryExecution().analyzed();
        LogicalPlan observed = (LogicalPlan) plan.transformUp(each(
                node -> node instanceof Project project ? observed(project, key) : node));
        return Dataset.ofRows(classic.sparkSession(), observed);
    }

    private LogicalPlan observed(Project project, String key) {
        Attribute found = null;
        for (Attribute attribute : CollectionConverters.asJava(project.child().output())) {
            if (key != null && attribute.name().toLowerCase(Locale.ROOT).equals(key.toLowerCase(Locale.ROOT))) {
                found = attribute;
            }
        }
        Attribute keyed = found;
        return (LogicalPlan) project.mapExpressions(expression -> {
            String column = expression instanceof NamedExpression named ? named.name() : expression.sql();
            return expression.transformUp(each(part ->
                    CatalogFunction.inlined(part) instanceof Invocation call ? counted(call, column, keyed) : part));
        });
    }

    private Expression counted(Invocation call, String column, Attribute key) {
        String id = "call " + calls.incrementAndGet();
        Tally tally = new Tally(id, column, call.name(), key != null, reports);
        return call.counted(tally, key);
    }

    /** A change of every node, in the form that Spark's tree transformations take. */
    static <T> AbstractPartialFunction<T, T> each(UnaryOperator<T> change) {
        return new AbstractPartialFunction<>() {
            @Override
            public boolean isDefinedAt(T node) {
                return true;
            }

            @Override
            public <A extends T, B> B applyOrElse(A node, scala.Function1<A, B> otherwise) {
                @SuppressWarnings("unchecked")
                B changed = (B) change.apply(node);
                return changed;
            }
        };
    }

    private List<Tally.Report> all() {
        List<Tally.Report> all = new ArrayList<>();
        reports.value().forEach(plain -> all.add(Tally.Report.of(plain)));
        return all;
    }

    /** The counts of each call over its latest query, as JSON. */
    public String counts() {
        Map<String, Map<Integer, Tally.Report>> byCall = new LinkedHashMap<>();
        List<Tally.Report> all = all();
        all.sort(Comparator.comparingInt(report -> Integer.parseInt(report.id().substring("call ".length()))));
        for (Tally.Report report : all) {
            long latest = all.stream().filter(other -> other.id().equals(report.id()))
                    .mapToLong(Tally.Report::query).max().orElseThrow();
            if (report.query() == latest) {
                byCall.computeIfAbsent(report.id(), id -> new TreeMap<>()).put(report.partition(), report);
            }
        }
        List<Map<String, Object>> counts = new ArrayList<>();
        byCall.values().forEach(partitions -> counts.add(sum(new ArrayList<>(partitions.values()))));
        return Json.of(counts);
    }

    private static Map<String, Object> sum(List<Tally.Report> partitions) {
        Map<String, Object> sum = new LinkedHashMap<>();
        Map<String, List<String>> examples = new LinkedHashMap<>();
        sum.put("column", partitions.get(0).column());
        sum.put("function", partitions.get(0).function());
        for (Cause cause : Cause.values()) {
            String name = cause == Cause.NONE ? "values" : cause.name().toLowerCase(Locale.ROOT);
            int place = cause.ordinal();
            sum.put(name, partitions.stream().mapToLong(report -> report.counts()[place]).sum());
            List<String> keys = partitions.stream().flatMap(report -> report.examples().get(place).stream())
                    .limit(EXAMPLES).toList();
            if (!keys.isEmpty()) {
                examples.put(name, keys);
            }
        }
        sum.put("examples", examples);
        return sum;
    }
}
