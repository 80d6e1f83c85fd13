package headrace.bridge;

/** Why a function's result is absent. */
public enum Cause {
    /** It is not. */
    NONE,
    /** An argument that must be there is null, or all that come from the data are. */
    DATA,
    /** The function had its arguments and found no answer. */
    ALGORITHM,
    /** The function threw an exception. */
    FAILURE
}
