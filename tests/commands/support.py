"""What the tests of the command share: the program, scratch directories, small models, and readers of what came out.

The program is the one that $FRESHET names. Standard library only.
"""

import ctypes
import gzip
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import tempfile
import unittest
from array import array

PROGRAM = os.environ.get("FRESHET", "freshet")
SEED = int(os.environ.get("FRESHET_TEST_SEED", "20260101"))
START_MS = 1_506_826_800_000  # of the tests' logs
TIMEOUT_S = 300
TYPES = ("view", "cart", "purchase")
COMMANDS = ("run", "replay", "evaluate", "export", "generate", "model inspect", "model verify", "model quantize", "model convert", "state get",
            "state forget", "state stats", "state verify", "state snapshot", "config check", "config print")  # fmt: skip


def write_safetensors(path, tensors):
    """tensors: name -> (shape, floats, or bytes for U8)."""
    header, blobs, offset = {}, [], 0
    for name, (shape, values) in tensors.items():
        dtype, blob = ("U8", values) if isinstance(values, bytes) else ("F32", array("f", values).tobytes())
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(blob)]}
        offset += len(blob)
        blobs.append(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def read_safetensors(path):
    """name -> (dtype, shape, values)."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    tensors = {}
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        values = array({"F32": "f", "I8": "b", "U8": "B", "I32": "i", "I64": "q"}[entry["dtype"]])
        values.frombytes(data[begin:end])
        tensors[name] = (entry["dtype"], entry["shape"], values.tolist())
    return tensors


def write_rows(path, ids):
    path.write_text("".join(f"{row}\t{name}\n" for row, name in enumerate(ids)))


def write_model(directory, items, types=TYPES, dim=16, layers=2, heads=2, window=8, seed=SEED):
    """A model with random weights that knows `items` and `types`, as docs/model-format.md has it."""
    numbers = random.Random(seed)
    rows, type_rows = ["[unknown]", *items], ["[unknown]", *types]

    def values(shape, scale=0.2):
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        return shape, [scale * (2 * numbers.random() - 1) for _ in range(count)]

    tensors = {
        "item_embedding.weight": values([len(rows), dim]),
        "type_embedding.weight": values([len(type_rows), dim]),
    }
    for layer in range(layers):
        tensors[f"layers.{layer}.uvqk.weight"] = values([dim, 4 * dim])
        tensors[f"layers.{layer}.out.weight"] = values([dim, dim])
        tensors[f"layers.{layer}.out.bias"] = values([dim])
        tensors[f"layers.{layer}.bias_pos"] = values([heads, window])
        tensors[f"layers.{layer}.bias_time"] = values([heads, 129])
    config = {
        "format": "freshet-hstu-1", "block": "hstu", "time_unit": "s", "items": len(rows),
        "event_types": len(type_rows), "dim": dim, "layers": layers, "heads": heads, "window": window,
        "time_bias": True, "attention_scale": None, "ln_eps": 1e-6, "norm_eps": 1e-6, "similarity": "cosine",
        "temperature": 0.05,
    }  # fmt: skip
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config))
    write_safetensors(directory / "model.safetensors", tensors)
    write_rows(directory / "items.tsv", rows)
    write_rows(directory / "event_types.tsv", type_rows)


def event(user, item, time_ms=START_MS, **more):
    return {"user_id": user, "item_id": item, "event_type": "view", "timestamp": time_ms, **more}


def random_log(numbers, users, items, events):
    """Events of a few users in one order of time, which now and then stands still or runs backwards."""
    time_ms, log = START_MS, []
    for _ in range(events):
        time_ms += numbers.choice((0, 1, 900, 60_000, 86_400_000, -30_000))
        user, item = f"u{numbers.randrange(users)}", f"i{1 + numbers.randrange(items)}"
        log.append({**event(user, item, time_ms), "event_type": numbers.choice(TYPES)})
    return log


def as_lines(records):
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def zstd_library():
    """libzstd, which the program itself needs."""
    library = ctypes.CDLL("libzstd.so.1")
    for name in ("ZSTD_compress", "ZSTD_compressBound", "ZSTD_decompress"):
        getattr(library, name).restype = ctypes.c_size_t
    return library


def zstd_compress(data):
    library = zstd_library()
    out = ctypes.create_string_buffer(library.ZSTD_compressBound(ctypes.c_size_t(len(data))))
    size = library.ZSTD_compress(out, ctypes.c_size_t(len(out)), data, ctypes.c_size_t(len(data)), 3)
    assert not library.ZSTD_isError(ctypes.c_size_t(size))
    return out.raw[:size]


def zstd_decompress(data, most=1 << 28):
    """All frames of `data`."""
    library = zstd_library()
    out = ctypes.create_string_buffer(most)
    size = library.ZSTD_decompress(out, ctypes.c_size_t(most), data, ctypes.c_size_t(len(data)))
    assert not library.ZSTD_isError(ctypes.c_size_t(size))
    return out[:size]


def read_output(path):
    """The records of an output file, compressed as its name says. Every line must be whole and JSON."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    elif path.suffix == ".zst":
        data = zstd_decompress(data)
    return parse_lines(data)


def parse_lines(data):
    assert not data or data.endswith(b"\n"), f"the last line is cut off: {data[-80:]!r}"
    return [json.loads(line) for line in data.splitlines()]


def as_float32(number):
    return struct.unpack("<f", struct.pack("<f", number))[0]


class CommandTest(unittest.TestCase):
    """A test with a scratch directory, and with the program run in it."""

    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="freshet-commands-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.environment = {
            name: value for name, value in os.environ.items() if not name.upper().startswith("FRESHET_")
        }

    def path(self, name):
        return self.directory / name

    def write(self, name, content):
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def command(self, arguments, settings):
        words = [PROGRAM, *map(str, arguments)]
        for key, value in settings.items():
            words += ["--set", f"{key}={value}"]
        return words

    def run_program(self, *arguments, settings=None, expect=0, text=True, **options):
        """Runs the program; its exit code must be `expect`."""
        done = subprocess.run(
            self.command(arguments, settings or {}), capture_output=True, timeout=TIMEOUT_S, cwd=self.directory,
            env=self.environment, **options,
        )  # fmt: skip
        error = done.stderr.decode(errors="replace")
        self.assertEqual(done.returncode, expect, f"{' '.join(map(str, arguments))}\n{error}")
        done.stderr = error
        if text:
            done.stdout = done.stdout.decode()
        return done

    def settings(self, state="state", **more):
        """Small numbers, one worker, the model in `model`; dots in keys are written as two underscores."""
        settings = {
            "state.directory": self.path(state), "model.directory": self.path("model"), "recommend.top_k": 5,
            "processing.workers": 1, "state.partitions": 4,
        }  # fmt: skip
        return {**settings, **{key.replace("__", "."): value for key, value in more.items()}}

    def replay(self, *inputs, output="out.jsonl", emit=None, expect=0, state="state", **more):
        """`freshet replay`; the log on stderr."""
        arguments = ["replay", "--input", *inputs]
        if output is not None:
            arguments += ["--output", self.path(output)]
        if emit is not None:
            arguments += ["--emit", emit]
        return self.run_program(*arguments, settings=self.settings(state, **more), expect=expect).stderr

    def dead_letters(self, output="out.jsonl"):
        """In the order of their files and offsets."""
        letters = read_output(self.path(output + ".dead-letters.jsonl"))
        return sorted(letters, key=lambda letter: (letter["topic"], letter["offset"]))

    def digest(self, state="state", **more):
        return self.run_program("state", "verify", "--digest", settings=self.settings(state, **more)).stdout.strip()

    def assert_error(self, text, *fragments):
        """The last line of stderr is the error, and says all of `fragments`."""
        last = text.strip().splitlines()[-1]
        self.assertTrue(last.startswith("freshet: "), text)
        for fragment in fragments:
            self.assertIn(str(fragment), last)

    def assert_numbered(self, records, log):
        """One record for each event of `log`; each user's are numbered from 1 without gaps, in the order of events."""
        self.assertEqual(len(records), len(log))
        counts = {}
        for record in records:
            user = record["user_id"]
            counts[user] = counts.get(user, 0) + 1
            self.assertEqual(record["sequence_number"], counts[user], f"user {user}")
        expected = {}
        for entry in log:
            expected.setdefault(str(entry["user_id"]), []).append(entry["timestamp"])
        found = {}
        for record in records:
            found.setdefault(record["user_id"], []).append(record["source"]["event_time"])
        self.assertEqual(found, expected)

    def assert_same_answers(self, records, others):
        """The same events answered alike: equal but for the time of writing, the order across users, and rounding."""
        ours, theirs = ({(r["user_id"], r["sequence_number"]): r for r in some} for some in (records, others))
        self.assertEqual(len(ours), len(records), "an event was answered twice")
        self.assertEqual(len(theirs), len(others), "an event was answered twice")
        self.assertEqual(ours.keys(), theirs.keys())
        for key, record in ours.items():
            other = theirs[key]
            self.assertEqual(record["source"], other["source"], key)
            self.assertEqual(record["model"], other["model"], key)
            self.assert_same_items(record["items"], other["items"], key)

    def assert_same_items(self, items, others, where, tolerance=1e-4):
        """Scores equal within `tolerance`, and items too, but for those whose scores are that near to each other."""
        self.assertEqual(len(items), len(others), where)
        for item, other in zip(items, others):
            self.assertAlmostEqual(item["score"], other["score"], delta=tolerance, msg=str(where))
        scores = {item["item_id"]: item["score"] for item in others}
        for item in items:
            at_the_end = items[-1]["score"] + tolerance
            self.assertAlmostEqual(
                scores.get(item["item_id"], at_the_end), item["score"], delta=2 * tolerance, msg=where
            )


def main():
    print(f"FRESHET_TEST_SEED={SEED}", flush=True)
    unittest.main(verbosity=2)
