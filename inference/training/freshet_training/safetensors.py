"""The safetensors file form: 8 bytes of header length (little endian), a JSON header, then the tensors' bytes."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_DTYPES = {"U8": "|u1", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8"}
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}


def save(path: Path, tensors: Mapping[str, Array]) -> None:
    """Writes `tensors` in the order given. The header is padded with blanks so that the data begins 8-byte aligned."""
    header: dict[str, object] = {}
    end = 0
    for name, array in tensors.items():
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in tensors.values():
            file.write(np.ascontiguousarray(array).tobytes())


def load(path: Path) -> dict[str, Array]:
    """All tensors of a file. Raises ValueError, naming the file, where it is not one or is cut short."""
    data = path.read_bytes()
    length = struct.unpack_from("<Q", data)[0] if len(data) >= 8 else len(data)
    if 8 + length > len(data):
        raise ValueError(f"{path}: not a safetensors file, or cut short: {len(data)} bytes")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    return {name: _tensor(path, name, entry, data, 8 + length) for name, entry in header.items()}


def _tensor(path: Path, name: str, entry: dict[str, Any], data: bytes, base: int) -> Array:
    dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in _DTYPES:
        raise ValueError(f"{path}: {name} is {dtype}, expected one of {', '.join(_DTYPES)}")
    count = int(np.prod(shape, dtype=np.int64))
    if base + end > len(data) or end - begin != count * np.dtype(_DTYPES[dtype]).itemsize:
        raise ValueError(f"{path}: {name} {shape} does not fit bytes {begin}..{end} of {len(data) - base}")
    return np.frombuffer(data, _DTYPES[dtype], count, base + begin).reshape(shape).copy()
