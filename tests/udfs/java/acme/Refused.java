package acme;

import java.util.Date;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/** Classes that cannot be registered, each for one reason. */
public final class Refused {
    private Refused() {}

    public static final class RawType { public static int f(int n, List words) { return 0; } }
    public static final class TypeVariable { public static <T> int f(T any) { return 0; } }
    public static final class BareWildcard { public static int f(List<?> words) { return 0; } }
    public static final class LowerWildcard { public static int f(List<? super Integer> words) { return 0; } }
    public static final class InstanceMethod { public int f(int n) { return 0; } }
    static final class NotPublic { public static int f(int n) { return 0; } }
    public static final class NoCounterpart { public static int f(Date when) { return 0; } }
    public static final class NoCounterpartInside { public static int f(Map<String, List<Thread>> threads) { return 0; } }
    public static final class OneCharacter { public static int f(char letter) { return 0; } }
    public static final class AnyObject { public static int f(Object any) { return 0; } }
    public static final class NoResult { public static void f(int n) {} }
    public static final class GenericResult { public static Iterable<String> f(int n) { return List.of(); } }
    public static final class TwoLevels { public static int f(Optional<Optional<String>> text) { return 0; } }
    public static final class OptionalKey { public static int f(Map<Optional<String>, String> map) { return 0; } }
    public record Node(String name, List<Node> children) {}
    public static final class Recursive { public static int f(Node node) { return 0; } }
    record Hidden(String name) {}
    public static final class HiddenRecord { public static int f(Hidden hidden) { return 0; } }
    public record Odd(String name, Thread thread) {}
    public static final class OddComponent { public static int f(Odd odd) { return 0; } }
    public static final class Empty { private static int f(int n) { return 0; } }
    public static final class AlikeOptional {
        public static int f(String text) { return 0; }
        public static int f(Optional<String> text) { return 1; }
    }
    public static final class AlikeBoxed {
        public static int f(int n) { return 0; }
        public static int f(Integer n) { return 1; }
    }
    public static final class AlikeContainers {
        public static int f(List<String> words) { return 0; }
        public static int f(Set<String> words) { return 1; }
    }
    public static final class AlikeNames {
        public static int bestCaption(String text) { return 0; }
        public static int best_caption(String text) { return 1; }
    }
}
