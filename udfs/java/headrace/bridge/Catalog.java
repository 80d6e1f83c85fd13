package headrace.bridge;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.apache.spark.sql.catalyst.analysis.NoSuchFunctionException;
import org.apache.spark.sql.catalyst.plans.logical.LogicalPlan;
import org.apache.spark.sql.catalyst.rules.Rule;
import org.apache.spark.sql.classic.SparkSession;
import org.apache.spark.sql.connector.catalog.FunctionCatalog;
import org.apache.spark.sql.connector.catalog.Identifier;
import org.apache.spark.sql.connector.catalog.functions.BoundFunction;
import org.apache.spark.sql.connector.catalog.functions.UnboundFunction;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.StructType;
import org.apache.spark.sql.util.CaseInsensitiveStringMap;
import scala.collection.immutable.Seq;
import scala.jdk.javaapi.CollectionConverters;

/**
 * A function catalog that makes Java functions available to plain SQL. With
 * {@code spark.sql.catalog.fn=headrace.bridge.Catalog}, a query can call {@code fn.captions.best(alt, captions, 3)}.
 * The namespace is the simple name of the class, in snake case.
 *
 * <p>Options: {@code spark.sql.catalog.fn.classes}, class names separated by commas (default: the classes of this
 * library); {@code spark.sql.catalog.fn.on_error}, {@code fail} (the default) or {@code absent}.
 */
public final class Catalog implements FunctionCatalog {
    private static final String LIBRARY =
            "headrace.Captions,headrace.Text,headrace.Language,headrace.Images,headrace.Urls,headrace.Parse";

    private final Map<String, Map<String, Overloads>> byNamespace = new LinkedHashMap<>();
    private String name;
    private boolean failing;

    @Override
    public void initialize(String catalog, CaseInsensitiveStringMap options) {
        name = catalog;
        String onError = options.getOrDefault("on_error", "fail");
        if (!List.of("fail", "absent").contains(onError)) {
            throw new IllegalArgumentException("spark.sql.catalog." + catalog + ".on_error: " + onError
                    + ", expected fail or absent");
        }
        failing = onError.equals("fail");
        for (String className : options.getOrDefault("classes", LIBRARY).split(",")) {
            try {
                Class<?> owner = Routine.load(className.strip());
                String space = Routine.snake(owner.getSimpleName());
                if (byNamespace.put(space, Registry.overloads(owner, "")) != null) {
                    throw new IllegalArgumentException("spark.sql.catalog." + catalog + ".classes: " + className
                            + " is the second class of the namespace " + space + ", expected one");
                }
            } catch (ClassNotFoundException error) {
                throw new IllegalArgumentException("spark.sql.catalog." + catalog + ".classes: " + className
                        + " is in no jar of this session", error);
            }
        }
    }

    @Override
    public String name() {
        return name;
    }

    @Override
    public Identifier[] listFunctions(String[] namespace) {
        List<Identifier> found = new ArrayList<>();
        byNamespace.forEach((space, functions) -> {
            if (namespace.length == 0 || namespace.length == 1 && namespace[0].equalsIgnoreCase(space)) {
                functions.keySet().forEach(function -> found.add(Identifier.of(new String[] {space}, function)));
            }
        });
        return found.toArray(Identifier[]::new);
    }

    @Override
    public UnboundFunction loadFunction(Identifier identifier) throws NoSuchFunctionException {
        String space = String.join(".", identifier.namespace()).toLowerCase(Locale.ROOT);
        Overloads overloads =
                byNamespace.getOrDefault(space, Map.of()).get(identifier.name().toLowerCase(Locale.ROOT));
        if (overloads == null) {
            throw new NoSuchFunctionException(identifier);
        }
        scala.Option<SparkSession> session = SparkSession.getActiveSession();
        if (session.isDefined()) {
            Inlining.join(session.get());
        }
        return new Unbound(overloads, failing);
    }

    private record Unbound(Overloads overloads, boolean failing) implements UnboundFunction {
        @Override
        public BoundFunction bind(StructType arguments) {
            List<DataType> types = new ArrayList<>();
            for (var field : arguments.fields()) {
                types.add(field.dataType());
            }
            return new CatalogFunction(overloads.resolve(types), failing);
        }

        @Override
        public String description() {
            List<String> signatures = new ArrayList<>();
            overloads.routines().forEach(routine -> signatures.add(routine.describe()));
            return String.join("; ", signatures);
        }

        @Override
        public String name() {
            return overloads.sqlName();
        }
    }

    /** Includes calls through the catalog in Spark's generated code; Spark by itself interprets them. */
    private static final class Inlining extends Rule<LogicalPlan> {
        static void join(SparkSession session) {
            Seq<Rule<LogicalPlan>> rules = session.experimental().extraOptimizations();
            List<Rule<LogicalPlan>> all = new ArrayList<>(CollectionConverters.asJava(rules));
            if (all.stream().noneMatch(Inlining.class::isInstance)) {
                all.add(new Inlining());
                session.experimental().extraOptimizations_$eq(CollectionConverters.asScala(all).toSeq());
            }
        }

        @Override
        public LogicalPlan apply(LogicalPlan plan) {
            return (LogicalPlan) plan.transformAllExpressions(Ledger.each(CatalogFunction::inlined));
        }
    }
}
