package headrace.bridge;

import headrace.bridge.Routine.Signature;
import java.io.Serializable;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.util.ArrayList;
import java.util.List;
import org.apache.spark.sql.types.DataType;

/**
 * A function bound to the SQL types of its arguments. Only names and types are serialised; each task makes the readers,
 * the writer and the method handle again, once.
 */
public final class Bound implements Serializable {
    private static final long serialVersionUID = 1;

    private final Routine routine;
    private final ArrayList<DataType> types;
    private final boolean spread;
    private transient Plan plan;

    /** What a task needs to call the function. */
    private record Plan(
            Signature signature, List<Shape> shapes, Reader[] readers, Writer writer, MethodHandle handle) {}

    private Bound(Routine routine, List<DataType> types, boolean spread) {
        this.routine = routine;
        this.types = new ArrayList<>(types);
        this.spread = spread;
    }

    /** @return null if the function does not take such arguments; {@code spread} passes varargs one by one */
    static Bound of(Routine routine, List<DataType> types, boolean spread) {
        Signature signature = routine.signature();
        int parameters = signature.parameters().size();
        if (spread && !signature.method().isVarArgs()) {
            return null;
        }
        if (spread ? types.size() < parameters - 1 : types.size() != parameters) {
            return null;
        }
        Bound bound = new Bound(routine, types, spread);
        for (Reader reader : bound.plan(signature).readers) {
            if (reader == null) {
                return null;
            }
        }
        return bound;
    }

    private Plan plan() {
        if (plan == null) {
            plan = plan(routine.signature());
        }
        return plan;
    }

    private Plan plan(Signature signature) {
        List<Shape> declared = signature.parameters();
        List<Shape> shapes = new ArrayList<>();
        Reader[] readers = new Reader[types.size()];
        for (int i = 0; i < readers.length; i++) {
            boolean inTail = spread && i >= declared.size() - 1;
            shapes.add(inTail ? declared.get(declared.size() - 1).part() : declared.get(i));
            readers[i] = Readers.of(shapes.get(i), types.get(i));
        }
        plan = new Plan(signature, shapes, readers, Writer.of(signature.result()), handle(signature));
        return plan;
    }

    private MethodHandle handle(Signature signature) {
        try {
            MethodHandle handle = MethodHandles.publicLookup().unreflect(signature.method());
            int fixed = signature.parameters().size() - 1;
            MethodHandle flat = spread
                    ? handle.asCollector(signature.method().getParameterTypes()[fixed], types.size() - fixed)
                    : handle.asFixedArity();
            return flat.asSpreader(Object[].class, types.size())
                    .asType(MethodType.methodType(Object.class, Object[].class));
        } catch (IllegalAccessException error) {
            throw new IllegalArgumentException(routine.javaName() + " cannot be called: " + error.getMessage(), error);
        }
    }

    List<DataType> types() {
        return types;
    }

    Routine routine() {
        return routine;
    }

    boolean spread() {
        return spread;
    }

    Signature signature() {
        return plan().signature;
    }

    /** The Java type of an argument, counted from 0. */
    Shape shape(int argument) {
        return plan().shapes.get(argument);
    }

    /** The reader of an argument, counted from 0. */
    public Reader reader(int argument) {
        return plan().readers[argument];
    }

    /** The writer of the result. */
    public Writer writer() {
        return plan().writer;
    }

    /** How far the argument types are from the parameter types; varargs passed one by one add a little. */
    int distance() {
        int sum = spread ? 1 : 0;
        for (Reader reader : plan().readers) {
            sum += 2 * reader.distance;
        }
        return sum;
    }

    /**
     * Reads the arguments of a call from Spark's internal form.
     *
     * @return null if an argument is absent and its parameter cannot represent that
     */
    Object[] read(Object[] values) {
        Object[] arguments = new Object[values.length];
        for (int i = 0; i < values.length; i++) {
            Reader reader = reader(i);
            arguments[i] = values[i] == null ? reader.absent() : reader.read(values[i]);
            if (arguments[i] == null) {
                return null;
            }
        }
        return arguments;
    }

    /** Calls the function with Java arguments. */
    Object call(Object[] arguments) throws Throwable {
        return (Object) plan().handle.invokeExact(arguments);
    }

    /** Handles an exception of the function: ends the query if {@code failing}, otherwise the result is absent. */
    public void failed(Throwable error, Object[] arguments, boolean failing) {
        if (error instanceof Error && !(error instanceof StackOverflowError || error instanceof AssertionError)) {
            throw Failure.sneaky(error);
        }
        if (failing) {
            throw Failure.execution(routine.sqlName() + "(" + Arguments.shortened(arguments, types) + ") failed in "
                    + routine.javaName() + ": " + error, error);
        }
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Bound bound
                && routine.equals(bound.routine) && types.equals(bound.types) && spread == bound.spread;
    }

    @Override
    public int hashCode() {
        return 31 * routine.hashCode() + types.hashCode();
    }
}
