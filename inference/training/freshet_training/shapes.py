"""Whether JSON that was read is what it should be."""

from collections.abc import Mapping
from typing import Any

# A type; {"key": shape, "key?": shape of what may be missing or null, "*": shape of all others}; [shape] of any length;
# (shape, shape) of this one. Keys that are not named may be there, and are anything.
Shape = type | Mapping[str, Any] | list[Any] | tuple[Any, ...]

_NAMES = {float: "a number", int: "a whole number", str: "text", bool: "true or false"}


def check(value: object, shape: Shape, at: str = "") -> None:
    """Raises ValueError, naming where, what and what was expected."""
    if isinstance(shape, type):
        kinds = (int, float) if shape is float else shape
        endless = isinstance(value, int) and abs(value) >= 1 << 63
        if not isinstance(value, kinds) or (isinstance(value, bool) and shape is not bool) or endless:
            raise _wrong(value, _NAMES[shape], at)
    elif isinstance(shape, Mapping):
        if not isinstance(value, dict):
            raise _wrong(value, "an object", at)
        _check_keys(value, shape, at)
    else:
        if not isinstance(value, list):
            raise _wrong(value, "a list", at)
        if isinstance(shape, tuple) and len(value) != len(shape):
            raise _wrong(value, f"a list of {len(shape)}", at)
        for row, part in enumerate(value):
            check(part, shape[row if isinstance(shape, tuple) else 0], f"{at}[{row}]")


def _check_keys(value: dict[str, Any], shape: Mapping[str, Any], at: str) -> None:
    prefix = f"{at}." if at else ""
    for name, part in shape.items():
        key = name.removesuffix("?")
        if name != "*" and key not in value and key == name:
            raise ValueError(f"{prefix}{key} is missing")
        if key in value and not (value[key] is None and key != name):
            check(value[key], part, prefix + key)
    if "*" in shape:
        for key in value.keys() - {name.removesuffix("?") for name in shape}:
            check(value[key], shape["*"], prefix + key)


def _wrong(value: object, expected: str, at: str) -> ValueError:
    text = repr(value)
    return ValueError(f"{at or 'it'} is {text if len(text) <= 40 else text[:40] + '..'}, expected {expected}")
