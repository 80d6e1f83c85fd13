package acme;

import headrace.NonDeterministic;
import java.util.concurrent.CountDownLatch;

/** Two threads that wait for each other; daemons, so that the JVM may end. */
public final class Deadlock {
    private Deadlock() {}

    private static boolean done;

    @NonDeterministic
    public static synchronized int lock(int x) throws InterruptedException {
        if (!done) {
            Object a = new Object();
            Object b = new Object();
            CountDownLatch both = new CountDownLatch(2);
            start("deadlock-a", a, b, both);
            start("deadlock-b", b, a, both);
            both.await();
            Thread.sleep(100);
            done = true;
        }
        return 2;
    }

    private static void start(String name, Object first, Object second, CountDownLatch both) {
        Thread thread = new Thread(() -> {
            synchronized (first) {
                both.countDown();
                try {
                    both.await();
                } catch (InterruptedException interrupted) {
                    return;
                }
                synchronized (second) {
                    first.notifyAll();
                }
            }
        }, name);
        thread.setDaemon(true);
        thread.start();
    }
}
