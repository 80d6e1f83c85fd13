package headrace.bridge;

/** Why a function's result is absent. */
public enum Cause {
    /** The result is present. */
    NONE,
    /** A required argument is null, or all arguments that come from the data are. */
    DATA,
    /** The function received its arguments and returned empty. */
    ALGORITHM,
    /** The function threw an exception. */
    FAILURE
}
