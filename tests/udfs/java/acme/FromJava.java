package acme;

import headrace.bridge.Registry;
import org.apache.spark.sql.SparkSession;

/** A Java program that registers functions itself and calls them by SQL. */
public final class FromJava {
    public String joined(SparkSession session) {
        new Registry().register(session, "acme.Calls", "java_", true);
        return session.sql("SELECT java_join('-', CAST(id AS STRING), 'b') FROM range(7, 8)").first().getString(0);
    }
}
