"""JSON as the engine reads it: UTF-8, no key twice, no NaN, no number that is infinite as a float."""

import json
import math
from typing import Any


class _RefusedError(ValueError):
    """What Python would take."""


def parse(data: bytes | str) -> Any:
    """Raises ValueError, saying what is wrong; to name the file is the caller's part."""
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        return json.loads(text, parse_constant=_refuse, parse_float=_number, object_pairs_hook=_object)
    except _RefusedError:
        raise
    except RecursionError:
        raise ValueError("not JSON that can be read: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None


def _refuse(name: str) -> None:
    raise _RefusedError(f"not JSON: {name} is no number there")


def _number(text: str) -> float:
    if math.isinf(value := float(text)):
        raise _RefusedError(f"not JSON that can be read: {text} is too large a number")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(key for row, (key, _) in enumerate(pairs) if key in dict(pairs[:row]))
        raise _RefusedError(f'key "{twice}" comes twice')
    return values
