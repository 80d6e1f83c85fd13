package headrace.bridge;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.apache.spark.sql.types.DataType;

/** The methods behind one SQL function, and the choice between them by number and types of arguments. */
record Overloads(String sqlName, List<Routine> routines) {
    /** @throws IllegalArgumentException that names two methods with the same SQL types */
    Overloads {
        Map<List<String>, Routine> seen = new HashMap<>();
        for (Routine routine : routines) {
            Routine.Signature signature = routine.signature();
            List<String> types = new ArrayList<>();
            signature.parameters().forEach(shape -> types.add(shape.sql().catalogString()));
            Routine other = seen.put(types, routine);
            if (other != null) {
                throw new IllegalArgumentException("Spark cannot distinguish " + java(other) + " and "
                        + java(routine) + ": both are " + routine.describe());
            }
        }
    }

    private static String java(Routine routine) {
        return routine.javaName() + "(" + String.join(", ", routine.parameterClasses()) + ")";
    }

    /** Chooses the method whose parameters are closest to the argument types, fixed arity before varargs. */
    Bound resolve(List<DataType> arguments) {
        List<Bound> best = new ArrayList<>();
        int closest = Integer.MAX_VALUE;
        for (Routine routine : routines) {
            for (boolean spread : new boolean[] {false, true}) {
                Bound candidate = Bound.of(routine, arguments, spread);
                if (candidate == null) {
                    continue;
                }
                int distance = candidate.distance();
                if (distance < closest) {
                    best.clear();
                    closest = distance;
                }
                if (distance == closest) {
                    best.add(candidate);
                }
            }
        }
        if (best.size() == 1) {
            return best.get(0);
        }
        String types = arguments.stream().map(DataType::simpleString).collect(Collectors.joining(", "));
        String call = sqlName + "(" + types + ")";
        List<Routine> among = best.isEmpty() ? routines : best.stream().map(Bound::routine).toList();
        String choices = among.stream().map(Routine::describe).collect(Collectors.joining("; "));
        throw Failure.analysis(best.isEmpty()
                ? call + ": no function takes these arguments; found " + choices
                : call + " is ambiguous, cast an argument to choose between " + choices);
    }
}
