package headrace.bridge;

import org.apache.spark.sql.classic.SparkSession;

/** The class loader for jars that were added to a running session. */
final class Loaders {
    private Loaders() {}

    /** On the driver, the loader with the jars of {@code ADD JAR}; elsewhere, the loader of this class. */
    static ClassLoader session() {
        scala.Option<SparkSession> active = SparkSession.getDefaultSession();
        return active.isDefined() ? active.get().sharedState().jarClassLoader() : Loaders.class.getClassLoader();
    }
}
