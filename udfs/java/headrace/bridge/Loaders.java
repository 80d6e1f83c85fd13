package headrace.bridge;

import org.apache.spark.sql.classic.SparkSession;

/** Where classes of jars that joined a running session are. */
final class Loaders {
    private Loaders() {}

    /** The loader that sees the jars of {@code ADD JAR} on the driver; this class's own one elsewhere. */
    static ClassLoader session() {
        scala.Option<SparkSession> active = SparkSession.getDefaultSession();
        return active.isDefined() ? active.get().sharedState().jarClassLoader() : Loaders.class.getClassLoader();
    }
}
