package headrace.bridge;

import java.util.Map;
import org.apache.spark.QueryContext;
import org.apache.spark.SparkRuntimeException;
import org.apache.spark.sql.AnalysisException;
import scala.jdk.javaapi.CollectionConverters;

/** The errors of this bridge, as classes that every Spark process has. */
final class Failure {
    /** Spark's error condition for errors raised by user code; the message is ours. */
    private static final String CONDITION = "USER_RAISED_EXCEPTION";

    private Failure() {}

    /** Throws any error as if it were unchecked: {@code throw sneaky(error)}. */
    @SuppressWarnings("unchecked")
    static <E extends Throwable> RuntimeException sneaky(Throwable error) throws E {
        throw (E) error;
    }

    /** An error in a query, found in analysis. */
    static RuntimeException analysis(String message) {
        return sneaky(new AnalysisException(CONDITION, parameters(message)));
    }

    /** An error that fails the task. */
    static RuntimeException execution(String message, Throwable cause) {
        return new SparkRuntimeException(CONDITION, parameters(message), portable(cause), new QueryContext[0], "");
    }

    private static scala.collection.immutable.Map<String, String> parameters(String message) {
        Map<String, String> parameters = Map.of("errorMessage", message);
        return scala.collection.immutable.Map$.MODULE$.from(CollectionConverters.asScala(parameters));
    }

    /**
     * The same message, causes and stack trace as an exception that any process can deserialise: the driver may lack
     * the jar of an exception's class, and an Error, even as a cause, would end the executor.
     */
    private static Throwable portable(Throwable error) {
        if (error == null) {
            return null;
        }
        Throwable portable = new RuntimeException(error.toString(), portable(error.getCause()));
        portable.setStackTrace(error.getStackTrace());
        return portable;
    }
}
