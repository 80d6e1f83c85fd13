package headrace.bridge;

import java.io.Serializable;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.stream.Collectors;
import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.expressions.UserDefinedExpression;
import org.apache.spark.sql.catalyst.expressions.codegen.CodegenContext;
import org.apache.spark.sql.catalyst.expressions.codegen.ExprCode;
import org.apache.spark.sql.types.DataType;
import scala.collection.immutable.IndexedSeq;
import scala.collection.immutable.Seq;
import scala.jdk.javaapi.CollectionConverters;

/**
 * A call of a Java function in a query, as a Spark expression. It compiles to a plain static call in the query's
 * generated class. A tally, if there is one, counts absent results; if it keeps examples, the last child is the row's
 * key.
 */
public final class Invocation extends Expression implements UserDefinedExpression, Serializable {
    private static final long serialVersionUID = 1;

    private final Bound bound;
    private final boolean failing;
    private final Tally tally;
    private final Seq<Expression> children;
    private transient List<Expression> inputs;

    /** @param failing whether an exception ends the query; otherwise the result is null */
    Invocation(Bound bound, boolean failing, Tally tally, Seq<Expression> children) {
        this.bound = bound;
        this.failing = failing;
        this.tally = tally;
        this.children = children;
    }

    /** This call with a tally; the key may be null. */
    Invocation counted(Tally with, Expression key) {
        List<Expression> all = new ArrayList<>(arguments());
        if (key != null) {
            all.add(key);
        }
        return new Invocation(bound, failing, with, CollectionConverters.asScala(all).toIndexedSeq());
    }

    Bound bound() {
        return bound;
    }

    boolean failing() {
        return failing;
    }

    Tally tally() {
        return tally;
    }

    /** The arguments of the function. */
    List<Expression> arguments() {
        return all().subList(0, all().size() - (hasKey() ? 1 : 0));
    }

    /** The key of the row, for the tally; null if there is none. */
    Expression key() {
        return hasKey() ? all().get(all().size() - 1) : null;
    }

    private boolean hasKey() {
        return tally != null && tally.isKeyed();
    }

    private List<Expression> all() {
        if (inputs == null) {
            inputs = List.copyOf(CollectionConverters.asJava(children));
        }
        return inputs;
    }

    @Override
    public String name() {
        return bound.routine().sqlName();
    }

    @Override
    public String prettyName() {
        return name();
    }

    @Override
    public DataType dataType() {
        return bound.signature().result().sql();
    }

    @Override
    public boolean nullable() {
        if (!failing || bound.signature().result().isOptional()) {
            return true;
        }
        for (int i = 0; i < arguments().size(); i++) {
            if (!bound.shape(i).isOptional() && (arguments().get(i).nullable() || bound.reader(i).partial())) {
                return true;
            }
        }
        return false;
    }

    @Override
    public boolean deterministic() {
        boolean marked = !bound.routine().isDeterministic(bound.signature().method());
        boolean counted = tally != null && tally.isExact();
        return !marked && !counted && all().stream().allMatch(Expression::deterministic);
    }

    @Override
    public boolean foldable() {
        return deterministic() && all().stream().allMatch(Expression::foldable);
    }

    @Override
    public Object eval(InternalRow row) {
        List<Expression> expressions = arguments();
        Object[] values = new Object[expressions.size()];
        for (int i = 0; i < values.length; i++) {
            values[i] = expressions.get(i).eval(row);
        }
        Object result = null;
        Cause cause = Cause.DATA;
        try {
            Object[] arguments = bound.read(values);
            if (arguments != null) {
                result = bound.writer().write(bound.call(arguments));
                cause = result != null ? Cause.NONE : allAbsent(values) ? Cause.DATA : Cause.ALGORITHM;
            }
        } catch (Throwable error) {
            bound.failed(error, values, failing);
            cause = Cause.FAILURE;
        }
        if (tally != null) {
            tally.count(cause, cause == Cause.NONE || key() == null ? null : key().eval(row));
        }
        return result;
    }

    /** Whether all arguments that come from the data are null. */
    private boolean allAbsent(Object[] values) {
        for (int i = 0; i < values.length; i++) {
            if (values[i] != null && !arguments().get(i).foldable()) {
                return false;
            }
        }
        return true;
    }

    @Override
    public ExprCode doGenCode(CodegenContext context, ExprCode code) {
        return new Emitter(this, context, code).emit();
    }

    @Override
    public Seq<Expression> children() {
        return children;
    }

    @Override
    public Expression withNewChildrenInternal(IndexedSeq<Expression> replaced) {
        return new Invocation(bound, failing, tally, replaced);
    }

    @Override
    public String sql() {
        return name() + arguments().stream().map(Expression::sql).collect(Collectors.joining(", ", "(", ")"));
    }

    @Override
    public String toString() {
        return name() + arguments().stream().map(Expression::toString).collect(Collectors.joining(", ", "(", ")"));
    }

    @Override
    public int productArity() {
        return 4;
    }

    @Override
    public Object productElement(int place) {
        return switch (place) {
            case 0 -> bound;
            case 1 -> failing;
            case 2 -> tally;
            default -> children;
        };
    }

    @Override
    public boolean canEqual(Object other) {
        return other instanceof Invocation;
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Invocation call
                && bound.equals(call.bound)
                && failing == call.failing
                && Objects.equals(tally, call.tally)
                && children.equals(call.children);
    }

    @Override
    public int hashCode() {
        return Objects.hash(bound, failing, tally, children);
    }
}
