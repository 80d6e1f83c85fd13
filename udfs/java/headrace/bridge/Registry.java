package headrace.bridge;

import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.Parameter;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.WeakHashMap;
import org.apache.spark.sql.catalyst.FunctionIdentifier;
import org.apache.spark.sql.catalyst.analysis.FunctionRegistry;
import org.apache.spark.sql.catalyst.analysis.TableFunctionRegistry;
import org.apache.spark.sql.catalyst.analysis.UnresolvedFunction;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.parser.ParseException;
import org.apache.spark.sql.classic.SparkSession;
import org.apache.spark.sql.types.DataType;
import scala.collection.immutable.Seq;
import scala.jdk.javaapi.CollectionConverters;

/** Registers a class's public static methods as SQL functions: the entry point for Java, Scala and, by py4j, Python. */
public final class Registry {
    /** For each session, the class that each SQL name belongs to. */
    private static final Map<SparkSession, Map<String, String>> OWNERS = new WeakHashMap<>();

    /**
     * Registers each public static method of a class in a session, under its SQL name and under a name that contains the
     * class, which no other function can have.
     *
     * @param prefix is put before each SQL name
     * @param failing whether an exception of a function ends the query; otherwise the result is null, and counted
     * @return the functions, as JSON: name, the name with the class, doc, deterministic, overloads with parameters and
     *     result
     * @throws IllegalArgumentException that names the class, method, parameter and type that is not supported, or the
     *     name that would call another function
     */
    public String register(
            org.apache.spark.sql.SparkSession session, String className, String prefix, boolean failing) {
        SparkSession classic = (SparkSession) session;
        Class<?> owner = find(classic, className);
        FunctionRegistry functions = classic.sessionState().functionRegistry();
        List<Map<String, Object>> described = new ArrayList<>();
        Docs docs = Docs.of(owner);
        Map<String, Overloads> all = overloads(owner, prefix);
        all.values().forEach(overloads -> checkName(classic, overloads));
        for (Overloads overloads : all.values()) {
            for (String name : List.of(overloads.sqlName(), qualified(overloads))) {
                functions.createOrReplaceTempFunction(
                        name, arguments -> invocation(classic, overloads, arguments, failing), "java_udf");
            }
            owners(classic).put(overloads.sqlName(), className);
            described.add(describe(overloads, docs));
        }
        return Json.of(described);
    }

    private static synchronized Map<String, String> owners(SparkSession session) {
        return OWNERS.computeIfAbsent(session, key -> new HashMap<>());
    }

    private static String qualified(Overloads overloads) {
        return overloads.routines().get(0).className() + "." + overloads.sqlName();
    }

    /**
     * Spark looks among its own functions first, its grammar has forms of its own for some names, and a second function
     * of a name replaces the first: in each case a query would silently call the wrong one.
     */
    private static void checkName(SparkSession session, Overloads overloads) {
        String name = overloads.sqlName();
        Routine routine = overloads.routines().get(0);
        String other = null;
        if (isBuiltIn(name)) {
            other = "Spark's own function of that name";
        } else if (!isCall(session, name)) {
            other = "a word of Spark's grammar";
        } else if (session.sessionState().catalog().isTemporaryFunction(new FunctionIdentifier(name))) {
            String owner = owners(session).getOrDefault(name, "another function of this session");
            other = owner.equals(routine.className()) ? null : owner.contains(" ") ? owner : owner + "." + name;
        }
        if (other != null) {
            throw new IllegalArgumentException(routine.javaName() + " would be " + name + " in SQL, but that is " + other
                    + "; expected a free name: choose a prefix");
        }
    }

    private static boolean isBuiltIn(String name) {
        Set<FunctionIdentifier> all = new HashSet<>(CollectionConverters.asJava(FunctionRegistry.functionSet()));
        all.addAll(CollectionConverters.asJava(TableFunctionRegistry.functionSet()));
        return all.stream().anyMatch(builtIn -> builtIn.funcName().equals(name));
    }

    /** Whether the parser takes {@code name(…)} for a call of the function {@code name}. */
    private static boolean isCall(SparkSession session, String name) {
        for (String arguments : List.of("a", "a, b", "a, b, c", "day, b, c")) {
            try {
                Expression parsed =
                        session.sessionState().sqlParser().parseExpression(name + "(" + arguments + ")");
                if (!(parsed instanceof UnresolvedFunction call) || !call.nameParts().last().equals(name)) {
                    return false;
                }
            } catch (ParseException error) {
                return false;
            }
        }
        return true;
    }

    private static Class<?> find(SparkSession session, String className) {
        try {
            return Class.forName(className, true, session.sharedState().jarClassLoader());
        } catch (ClassNotFoundException error) {
            throw new IllegalArgumentException("class " + className + " is in no jar of this session", error);
        }
    }

    /** @return the functions of a class by SQL name */
    static Map<String, Overloads> overloads(Class<?> owner, String prefix) {
        for (Class<?> outer = owner; outer != null; outer = outer.getEnclosingClass()) {
            if (!Modifier.isPublic(outer.getModifiers())) {
                throw new IllegalArgumentException("class " + owner.getName() + " is not public");
            }
        }
        Map<String, List<Routine>> byName = new TreeMap<>();
        Method[] methods = owner.getDeclaredMethods();
        Arrays.sort(methods, Comparator.comparing(Method::toGenericString));
        for (Method method : methods) {
            if (Modifier.isPublic(method.getModifiers()) && !method.isSynthetic()) {
                Routine routine = Routine.of(method, prefix);
                byName.computeIfAbsent(routine.sqlName(), name -> new ArrayList<>()).add(routine);
            }
        }
        if (byName.isEmpty()) {
            throw new IllegalArgumentException("class " + owner.getName() + " has no public static method");
        }
        Map<String, Overloads> overloads = new LinkedHashMap<>();
        byName.forEach((name, routines) -> overloads.put(name, new Overloads(name, routines)));
        return overloads;
    }

    private static Expression invocation(
            SparkSession session, Overloads overloads, Seq<Expression> arguments, boolean failing) {
        List<DataType> types = new ArrayList<>();
        CollectionConverters.asJava(arguments).forEach(argument -> types.add(argument.dataType()));
        Tally tally = failing ? null : Ledger.failures(session, overloads.sqlName());
        return new Invocation(overloads.resolve(types), failing, tally, arguments);
    }

    private static Map<String, Object> describe(Overloads overloads, Docs docs) {
        List<Map<String, Object>> described = new ArrayList<>();
        for (Routine routine : overloads.routines()) {
            Routine.Signature signature = routine.signature();
            List<Map<String, Object>> parameters = new ArrayList<>();
            Parameter[] names = signature.method().getParameters();
            for (int i = 0; i < names.length; i++) {
                Shape shape = signature.parameters().get(i);
                boolean many = names[i].isVarArgs();
                parameters.add(Map.of(
                        "name", names[i].getName(),
                        "java", names[i].getParameterizedType().getTypeName(),
                        "sql", (many ? shape.part() : shape).sql().simpleString(),
                        "optional", shape.isOptional(),
                        "many", many));
            }
            described.add(Map.of(
                    "parameters", parameters,
                    "result", signature.result().sql().simpleString(),
                    "optional", signature.result().isOptional(),
                    "deterministic", routine.isDeterministic(signature.method()),
                    "doc", docs.of(routine)));
        }
        String java = overloads.routines().get(0).methodName();
        return Map.of("name", overloads.sqlName(), "qualified", qualified(overloads), "java", java,
                "overloads", described);
    }
}
