"""SplitMix64 (Steele, Lea & Flood 2014), for numpy arrays, torch tensors and plain integers.

Signed 64-bit arrays wrap around, and Python's integers are unbounded. In both, the low 64 bits equal those of unsigned
arithmetic, so the same functions work for all three.
"""

from typing import Any, TypeVar

Integers = TypeVar("Integers")
"""an int64 array or tensor, or a plain int"""


def signed(value: int) -> int:
    """The low 64 bits of `value` as a signed integer."""
    return ((value + (1 << 63)) & ((1 << 64) - 1)) - (1 << 63)


# The increment and the multipliers (figure 16, Stafford's variant 13).
GOLDEN = signed(0x9E3779B97F4A7C15)
_FIRST = signed(0xBF58476D1CE4E5B9)
_SECOND = signed(0x94D049BB133111EB)


def finalize(x: Integers) -> Integers:
    """The finalizer: a bijection of 64 bits in which each input bit flips each output bit half of the time.

    For a plain int only the low 64 bits of the result are meaningful.
    """
    value: Any = x
    value = (value ^ shift(value, 30)) * _FIRST
    value = (value ^ shift(value, 27)) * _SECOND
    return value ^ shift(value, 31)


def shift(x: Any, bits: int) -> Any:
    """Logical shift right."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
