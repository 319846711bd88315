"""The safetensors file form: 8 bytes of header length (little endian), a JSON header, then the tensors' bytes."""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import strict_json

Array = npt.NDArray[Any]

_DTYPES = {"U8": "|u1", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8"}
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}

_LENGTH = struct.Struct("<Q")
_MOST_HEADER_BYTES = 100_000_000


def save(path: Path, tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> None:
    """Writes `tensors` in the order given. The header is padded with blanks so that the data begins 8-byte aligned."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, array in tensors.items():
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(_LENGTH.pack(len(text)) + text)
        for array in tensors.values():
            file.write(np.ascontiguousarray(array).tobytes())


def load(path: Path) -> dict[str, Array]:
    """All tensors of a file. Raises ValueError, naming file and tensor, where it is not one or is cut short."""
    data = path.read_bytes()
    if len(data) < _LENGTH.size:
        raise ValueError(f"{path}: {len(data)} bytes, expected a header's length of {_LENGTH.size} bytes")
    (length,) = _LENGTH.unpack_from(data)
    rest = len(data) - _LENGTH.size
    if length > min(rest, _MOST_HEADER_BYTES):
        raise ValueError(
            f"{path}: header of {length} bytes, but the file has {rest} left (truncated, or not safetensors)"
        )
    base = _LENGTH.size + length
    try:
        header = strict_json.parse(data[_LENGTH.size : base])
        if not isinstance(header, dict):
            raise ValueError("header is not a JSON object")
        entries = {name: _entry(name, entry) for name, entry in header.items() if name != "__metadata__"}
        _check_cover({name: entry[2:] for name, entry in entries.items()}, len(data) - base)
        return {name: _tensor(name, entry, memoryview(data)[base:]) for name, entry in entries.items()}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def metadata(path: Path) -> dict[str, str]:
    """What a file says of itself, as far as it is text. REQUIRES: load() reads it."""
    with path.open("rb") as file:
        header = json.loads(file.read(_LENGTH.unpack(file.read(_LENGTH.size))[0]))
    said = header.get("__metadata__")
    return {name: text for name, text in said.items() if isinstance(text, str)} if isinstance(said, dict) else {}


_Entry = tuple[str, list[int], int, int]  # dtype, shape, begin and end of its bytes


def _entry(name: str, entry: object) -> _Entry:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [begin, end], **others} if not others and all(
            type(size) is int and 0 <= size < 1 << 63 for size in (*shape, begin, end)
        ):
            return dtype, shape, begin, end
    raise ValueError(f'{name}: expected {{"dtype": text, "shape": [sizes], "data_offsets": [begin, end]}}')


def _check_cover(ranges: Mapping[str, tuple[int, int]], size: int) -> None:
    """Each byte is of one tensor."""
    covered, before = 0, ""
    for name, (begin, end) in sorted(ranges.items(), key=lambda entry: entry[1]):
        if begin > end or end > size:
            held = f"which holds {size} bytes of tensors (truncated?)"
            raise ValueError(f"{name}: bytes {begin}..{end} reach beyond the file, {held}")
        if begin < covered:
            raise ValueError(f"{name}: overlaps {before}")
        if begin > covered:
            raise ValueError(f"{begin - covered} bytes before {name} belong to no tensor")
        covered, before = end, name
    if covered < size:
        raise ValueError(f"{size - covered} bytes after the last tensor belong to none")


def _tensor(name: str, entry: _Entry, data: memoryview) -> Array:
    dtype, shape, begin, end = entry
    if dtype not in _DTYPES:
        of = ", as of a quantised model" if dtype in ("BF16", "F16", "I8") else ""
        raise ValueError(f"{name}: dtype {dtype}{of}; expected one of {', '.join(_DTYPES)}")
    expected = math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize
    if expected != end - begin:
        raise ValueError(f"{name}: {end - begin} bytes, but {dtype} {shape} takes {expected}")
    try:
        return np.frombuffer(data[begin:end], _DTYPES[dtype]).reshape(shape).copy()
    except ValueError as error:  # of more dimensions than NumPy knows
        raise ValueError(f"{name}: {shape}: {error}") from None
