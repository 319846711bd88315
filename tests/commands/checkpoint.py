"""Checkpoints as PyTorch saves them, without PyTorch: a zip file of a pickle and the bytes of each tensor."""

import collections
import io
import math
import pickle
import random
import struct
import types
import zipfile
from array import array
from unittest import mock

from support import SEED

ITEMS = [f"i{n}" for n in range(1, 31)]
DIM, LAYERS, MAXLEN = 8, 2, 5


class Storage:
    def __init__(self, kind, values):
        self.kind, self.values = kind, values


class Tensor:
    """Pickled as PyTorch does it."""

    def __init__(self, shape, values, kind="FloatStorage", strides=None):
        self.shape, self.storage = tuple(shape), Storage(kind, values)
        self.strides = strides or tuple(math.prod(self.shape[place + 1 :]) for place in range(len(self.shape)))

    def __reduce__(self):
        arguments = (self.storage, 0, self.shape, self.strides, False, collections.OrderedDict())
        return MODULES["torch._utils"]._rebuild_tensor_v2, arguments


def make_modules():
    """Those that a checkpoint's pickle refers to."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for kind in PACK:
        setattr(torch, kind, type(kind, (), {"__module__": "torch"}))
    utils._rebuild_tensor_v2 = type("_rebuild_tensor_v2", (), {"__module__": "torch._utils"})
    return {"torch": torch, "torch._utils": utils}


PACK = {
    "FloatStorage": lambda values: array("f", values).tobytes(),
    "DoubleStorage": lambda values: array("d", values).tobytes(),
    "HalfStorage": lambda values: struct.pack(f"<{len(values)}e", *values),
    "BFloat16Storage": lambda values: b"".join(struct.pack("<f", value)[2:] for value in values),
    "LongStorage": lambda values: array("q", map(int, values)).tobytes(),
}
MODULES = make_modules()


def save(path, what, compression=zipfile.ZIP_STORED):
    """torch.save()."""
    blobs = []

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if not isinstance(value, Storage):
                return None
            blobs.append(PACK[value.kind](value.values))
            return ("storage", getattr(MODULES["torch"], value.kind), str(len(blobs) - 1), "cpu", len(value.values))

    text = io.BytesIO()
    with mock.patch.dict("sys.modules", MODULES):
        Pickler(text, protocol=2).dump(what)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", text.getvalue())
        archive.writestr("archive/byteorder", "little")
        for place, blob in enumerate(blobs):
            archive.writestr(f"archive/data/{place}", blob)


def text(words):
    """An instruction that puts them on the stack."""
    return b"X" + struct.pack("<I", len(words)) + words.encode()


def tensor(
    storage_type=b"ctorch\nFloatStorage\n", call=b"ctorch._utils\n_rebuild_tensor_v2\n", place=b"K\0K\1\x85K\1\x85"
):
    """Instructions for a tensor of storage 0: `place` is its offset, shape and strides."""
    storage = b"(" + text("storage") + storage_type + text("0") + text("cpu") + b"K\1tQ"
    return call + b"(" + storage + place + b"\x89}tR"


def save_pickle(path, entries, storage=bytes(4)):
    """A checkpoint of one storage, whose pickle is a dict of `entries`, instructions of any kind."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\2}(" + entries + b"u.")
        archive.writestr("archive/data/0", storage)


def pmixer(from_one=False, kind="FloatStorage"):
    """A state_dict of random tensors, in eighths, which 16 bits hold exactly."""
    numbers = random.Random(SEED)
    state = collections.OrderedDict()
    state._metadata = collections.OrderedDict({"": {"version": 1}})

    def put(name, *shape):
        values = [numbers.randrange(-8, 9) / 8 for _ in range(math.prod(shape))]
        state[name] = Tensor(shape, values, kind)

    put("item_emb.weight", len(ITEMS) + 1, DIM)
    put("pos_emb.weight", MAXLEN + from_one, DIM)
    if from_one:
        for name in state:
            state[name].storage.values[:DIM] = [0.0] * DIM
    else:
        state["pos_emb.weight"].storage.values[0] = 1.0
    for layer in range(LAYERS):
        for name in ("attention_layernorms", "forward_layernorms"):
            put(f"{name}.{layer}.weight", DIM)
            put(f"{name}.{layer}.bias", DIM)
        put(f"attention_layers.{layer}.in_proj_weight", 3 * DIM, DIM)
        put(f"attention_layers.{layer}.in_proj_bias", 3 * DIM)
        put(f"attention_layers.{layer}.out_proj.weight", DIM, DIM)
        put(f"attention_layers.{layer}.out_proj.bias", DIM)
        for name in ("conv1", "conv2"):
            put(f"forward_layers.{layer}.{name}.weight", DIM, DIM, 1)
            put(f"forward_layers.{layer}.{name}.bias", DIM)
    put("last_layernorm.weight", DIM)
    put("last_layernorm.bias", DIM)
    return state
