package headrace.bridge;

import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.catalyst.expressions.ApplyFunctionExpression;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.classic.SparkSession;
import org.apache.spark.sql.connector.catalog.functions.ScalarFunction;
import org.apache.spark.sql.types.DataType;

/** A Java function as a function of Spark's catalog API. */
final class CatalogFunction implements ScalarFunction<Object> {
    private static final long serialVersionUID = 1;

    private final Bound bound;
    private final boolean failing;

    CatalogFunction(Bound bound, boolean failing) {
        this.bound = bound;
        this.failing = failing;
    }

    /** A call of such a function as an expression with generated code; any other expression unchanged. */
    static Expression inlined(Expression expression) {
        if (!(expression instanceof ApplyFunctionExpression call)
                || !(call.function() instanceof CatalogFunction function)) {
            return expression;
        }
        scala.Option<SparkSession> session = SparkSession.getActiveSession();
        Tally tally = function.failing || session.isEmpty() ? null : Ledger.failures(session.get(), function.name());
        return new Invocation(function.bound, function.failing, tally, call.children());
    }

    @Override
    public DataType[] inputTypes() {
        return bound.types().toArray(DataType[]::new);
    }

    @Override
    public DataType resultType() {
        return bound.signature().result().sql();
    }

    @Override
    public boolean isDeterministic() {
        return bound.routine().isDeterministic(bound.signature().method());
    }

    @Override
    public String canonicalName() {
        return bound.routine().javaName() + bound.types();
    }

    @Override
    public String name() {
        return bound.routine().sqlName();
    }

    @Override
    public Object produceResult(InternalRow row) {
        Object[] values = new Object[bound.types().size()];
        for (int i = 0; i < values.length; i++) {
            values[i] = row.isNullAt(i) ? null : row.get(i, bound.types().get(i));
        }
        try {
            Object[] arguments = bound.read(values);
            return arguments == null ? null : bound.writer().write(bound.call(arguments));
        } catch (Throwable error) {
            bound.failed(error, values, failing);
            return null;
        }
    }
}
