package headrace.bridge;

import java.util.Map;
import org.apache.spark.sql.AnalysisException;
import scala.jdk.javaapi.CollectionConverters;

/** The errors of this bridge. */
public final class Failure extends RuntimeException {
    private static final long serialVersionUID = 1;

    Failure(String message, Throwable cause) {
        super(message, cause);
    }

    /** Throws any error as if it were unchecked: {@code throw sneaky(error)}. */
    @SuppressWarnings("unchecked")
    static <E extends Throwable> RuntimeException sneaky(Throwable error) throws E {
        throw (E) error;
    }

    /** What Spark throws when a query is wrong. */
    static RuntimeException analysis(String message) {
        Map<String, String> parameters = Map.of("errorMessage", message);
        return sneaky(new AnalysisException(
                "USER_RAISED_EXCEPTION",
                scala.collection.immutable.Map$.MODULE$.from(CollectionConverters.asScala(parameters))));
    }
}
