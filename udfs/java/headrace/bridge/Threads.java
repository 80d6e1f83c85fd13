package headrace.bridge;

import java.lang.management.LockInfo;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadInfo;
import java.lang.management.ThreadMXBean;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.spark.SparkEnv;
import org.apache.spark.api.java.JavaSparkContext;
import org.apache.spark.sql.SparkSession;

/** The threads of JVMs, reported by JMX. */
public final class Threads {
    /** The threads of this JVM, as a JSON list. */
    public String here() {
        return Json.of(snapshot());
    }

    /**
     * The threads of each executor's JVM, as a JSON object by executor id. A job with one short task for each core
     * collects them; it is scheduled like any other job. In local mode the result is empty.
     */
    public String ofExecutors(SparkSession session) {
        JavaSparkContext context = JavaSparkContext.fromSparkContext(session.sparkContext());
        int tasks = Math.max(1, context.defaultParallelism());
        List<List<String>> found = context.parallelize(Collections.nCopies(tasks, 0), tasks)
                .map(task -> List.of(SparkEnv.get().executorId(), new Threads().here()))
                .collect();
        Map<String, String> byExecutor = new TreeMap<>();
        found.forEach(pair -> byExecutor.putIfAbsent(pair.get(0), pair.get(1)));
        byExecutor.remove("driver");
        return Json.of(byExecutor);
    }

    private static List<Map<String, Object>> snapshot() {
        ThreadMXBean threads = ManagementFactory.getThreadMXBean();
        long[] deadlocked = threads.findDeadlockedThreads();
        List<Long> stuck = deadlocked == null ? List.of() : Arrays.stream(deadlocked).boxed().toList();
        List<Map<String, Object>> snapshot = new ArrayList<>();
        for (ThreadInfo thread : threads.dumpAllThreads(true, true)) {
            Map<String, Object> entry = new LinkedHashMap<>();
            StackTraceElement[] stack = thread.getStackTrace();
            long cpu = threads.isThreadCpuTimeSupported() ? threads.getThreadCpuTime(thread.getThreadId()) : -1;
            entry.put("name", thread.getThreadName());
            entry.put("id", thread.getThreadId());
            entry.put("state", thread.getThreadState().name());
            entry.put("daemon", thread.isDaemon());
            entry.put("cpu_seconds", cpu < 0 ? null : cpu / 1e9);
            entry.put("held", held(thread));
            entry.put("awaited", thread.getLockName() == null ? "" : thread.getLockName()
                    + (thread.getLockOwnerName() == null ? "" : " held by " + thread.getLockOwnerName()));
            entry.put("frame", stack.length == 0 ? "" : stack[0].toString());
            entry.put("deadlocked", stuck.contains(thread.getThreadId()));
            snapshot.add(entry);
        }
        return snapshot;
    }

    private static String held(ThreadInfo thread) {
        return Stream.concat(Arrays.stream(thread.getLockedMonitors()), Arrays.stream(thread.getLockedSynchronizers()))
                .map(LockInfo::toString).distinct().collect(Collectors.joining(", "));
    }
}
