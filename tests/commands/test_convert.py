"""freshet model convert: what becomes of a checkpoint, and which ones are refused. The numbers themselves are checked against
PyTorch in tests/parity/sasrec_import_test.py."""

import collections
import json
import os
import random
import struct
import zipfile
import zlib

from checkpoint import DIM, ITEMS, Tensor, pmixer, save, save_pickle, tensor, text
from support import SEED, CommandTest, as_lines, main, random_log, read_output, read_safetensors


class ConvertTest(CommandTest):
    def setUp(self):
        super().setUp()
        self.write("items.txt", "".join(f"{item}\n" for item in ITEMS))

    def convert(self, *options, checkpoint="model.pth", expect=0, heads=2):
        return self.run_program(
            "model", "convert", checkpoint, "--items", "items.txt", "--output", "model", "--heads", heads, *options,
            expect=expect,
        )  # fmt: skip

    def refuse(self, *fragments, options=(), state=None, heads=2):
        """With exit code 1 or 2, by a line that says `fragments`, and without a trace."""
        if state is not None:
            save(self.path("model.pth"), state)
        command = ["model", "convert", "model.pth", "--items", "items.txt", "--output", "model", "--heads", heads, *options]
        done = self.run_program(*command, expect=None)
        self.assertIn(done.returncode, (1, 2), done.stderr)
        self.assert_error(done.stderr, *fragments)
        self.assertFalse(self.path("model").exists())

    def run_program(self, *arguments, expect=0, **options):
        if expect is not None:
            return super().run_program(*arguments, expect=expect, **options)
        try:
            return super().run_program(*arguments, expect=2, **options)
        except AssertionError:
            return super().run_program(*arguments, expect=1, **options)

    def test_tensors_go_where_they_belong(self):
        state = pmixer()
        save(self.path("model.pth"), state)
        self.assertIn("30 items, d 8, 2 layers, 2 heads, window 5, norm query, padding zero", self.convert().stdout)
        tensors = read_safetensors(self.path("model/model.safetensors"))
        given = {name: tensor.storage.values for name, tensor in state.items()}
        self.assertEqual(tensors["item_embedding.weight"][2], [0.0] * DIM + given["item_emb.weight"][DIM:])
        self.assertEqual(tensors["position_embedding.weight"][2], given["pos_emb.weight"])
        for ours, theirs in (("query", slice(0, DIM)), ("key_value", slice(DIM, 3 * DIM))):
            bias = given["attention_layers.1.in_proj_bias"][theirs]
            self.assertEqual(tensors[f"layers.1.{ours}.bias"][2], bias)
            matrix = given["attention_layers.1.in_proj_weight"][theirs.start * DIM : theirs.stop * DIM]
            transposed = [matrix[out * DIM + inner] for inner in range(DIM) for out in range(len(bias))]
            self.assertEqual(tensors[f"layers.1.{ours}.weight"][2], transposed)
        self.assertEqual(tensors["norm.bias"][2], given["last_layernorm.bias"])
        rows = self.path("model/items.tsv").read_text().splitlines()
        self.assertEqual(rows, ["0\t[unknown]", *(f"{row}\t{item}" for row, item in enumerate(ITEMS, 1))])

    def test_narrow_and_wide_numbers(self):
        versions = set()
        for kind in ("FloatStorage", "DoubleStorage", "HalfStorage", "BFloat16Storage"):
            save(self.path("model.pth"), pmixer(kind=kind))
            versions.add(self.convert().stdout.split("version ")[1])
            self.path("model").rename(self.path(kind))
        self.assertEqual(len(versions), 1)

    def test_the_model_is_served(self):
        save(self.path("model.pth"), pmixer(from_one=True))
        self.convert("--norm", "pre", "--window", 4)
        facts = json.loads(self.run_program("model", "inspect", "model", "--json").stdout)
        self.assertEqual(
            {key: facts[key] for key in ("block", "window", "norm", "padding", "recomputes", "tokens_for_exact_rebuild")},
            {"block": "sasrec", "window": 4, "norm": "pre", "padding": "token", "recomputes": True,
             "tokens_for_exact_rebuild": 4},
        )  # fmt: skip
        self.assertRegex(
            self.run_program("model", "verify", "model", "--users", 7).stdout,
            r"^7 windows of 7 users \(seed 1\): largest relative error of the window computed anew, against its plain twin, "
            r"\S+, bound 1e-05: ok\n$",
        )
        # Events of known and unknown items, types and times of all kinds; whatever the batches, and after a restart too.
        log = random_log(random.Random(SEED), users=6, items=33, events=300)
        events = self.write("events.jsonl", as_lines(log))
        self.assertIn("nothing of a SASRec model can be cached", self.replay(events))
        one_by_one = self.replay(events, output="single.jsonl", state="single", processing__max_batch=1)
        self.assertNotIn("error", one_by_one)
        records = read_output(self.path("out.jsonl"))
        self.assert_numbered(records, log)
        self.assert_same_answers(records, read_output(self.path("single.jsonl")))
        report = self.run_program("evaluate", "--input", events, settings={"model.directory": "model"}).stdout
        self.assertIn("model", report)

    def test_what_is_no_checkpoint(self):
        self.write("model.pth", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")  # how those before PyTorch 1.6 begin
        self.refuse("model.pth: no whole zip file", "PyTorch 1.6")
        save(self.path("model.pth"), pmixer(), zipfile.ZIP_DEFLATED)
        self.refuse("model.pth: archive/data.pkl is compressed")
        save(self.path("model.pth"), pmixer())
        whole = self.path("model.pth").read_bytes()
        self.write("model.pth", whole[: len(whole) // 2])
        self.refuse("model.pth: no whole zip file")
        middle = whole.index(b"archive/data/0") + 500
        self.write("model.pth", whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        self.refuse("model.pth: damaged: the checksum of archive/data/0")
        with zipfile.ZipFile(self.path("model.pth"), "w") as archive:
            archive.writestr("archive/readme", "")
        self.refuse("model.pth: a zip file without a data.pkl")

    def test_what_holds_more_than_tensors(self):
        self.refuse("model.pth: its pickle asks for posix.system", state=collections.OrderedDict(a=Runs()))
        self.refuse("its pickle asks for torch.LongStorage", state={"n": Tensor([1], [1], "LongStorage")})
        self.refuse("its entry epoch is no tensor", state={"epoch": 3, "item_emb.weight": Tensor([1, 1], [0.0])})
        self.refuse("its pickle is no state_dict", state=3)
        self.refuse("its pickle has instruction 0x5d", state=[pmixer()])

    def test_what_no_pickler_writes(self):
        name, model = text("pos_emb.weight"), self.path("model.pth")
        save_pickle(model, name + b"q\1" + tensor() + b"q\2" + 9 * b"h\1h\2")
        self.refuse("model.pth: its entry pos_emb.weight is repeated")
        save_pickle(model, name + tensor(b"ccollections\nOrderedDict\n"))
        self.refuse("its pickle has a storage of collections.OrderedDict, which is no type of number")
        save_pickle(model, name + tensor(call=text("torch._utils._rebuild_tensor_v2")))
        self.refuse("its pickle calls what is no tensor")
        save_pickle(model, name + tensor(place=b"\x8a\x09" + bytes(9) + b"K\1\x85K\1\x85"))
        self.refuse("its pickle has a number of more than 8 bytes")
        save_pickle(model, name + tensor(place=b"M\xff\xff))"), storage=b"")
        self.refuse("pos_emb.weight reaches beyond its bytes")
        for number in (4e38, -1e300, float("inf"), float("nan")):
            save_pickle(model, name + tensor(b"ctorch\nDoubleStorage\n"), storage=struct.pack("<d", number))
            self.refuse("pos_emb.weight[0] is NaN, infinite or beyond 32 bits")

    def test_files_that_share_bytes(self):
        content, count = bytes(1000), 50
        sizes = (zlib.crc32(content), len(content), len(content))
        whole = struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, 0, 0, 0, *sizes, 3, 0) + b"a/x" + content
        names = [f"a/{place:02}".encode() for place in range(count)]
        directory = b"".join(
            struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, 0, 0, 0, 0, *sizes, 4, 0, 0, 0, 0, 0, 0) + name
            for name in names
        )
        end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, len(directory), len(whole), 0)
        self.write("model.pth", whole + directory + end)
        self.refuse("model.pth: damaged: a/03 and those before it are larger than the file")

    def test_tensors_that_do_not_fit(self):
        def with_change(name, tensor):
            state = pmixer()
            if tensor is None:
                del state[name]
            else:
                state[name] = tensor
            return state

        self.refuse("neither item_emb.weight", state=with_change("item_emb.weight", None))
        self.refuse("pos_emb.weight is missing", state=with_change("pos_emb.weight", None))
        self.refuse("last_layernorm.bias is missing, expected [8]", state=with_change("last_layernorm.bias", None))
        self.refuse("attention_layers.1.in_proj_bias is [8], expected [24]",
                    state=with_change("attention_layers.1.in_proj_bias", Tensor([8], [0.0] * 8)))  # fmt: skip
        self.refuse("user_emb.weight is a tensor that neither layout has",
                    state=with_change("user_emb.weight", Tensor([1], [0.0])))  # fmt: skip
        self.refuse("last_layernorm.bias has too few bytes", state=with_change("last_layernorm.bias", Tensor([8], [0.0])))
        self.refuse("attention_layers.0.out_proj.weight is a view",
                    state=with_change("attention_layers.0.out_proj.weight", Tensor([8, 8], [0.0] * 64, strides=(1, 8))))  # fmt: skip
        self.refuse("model.pth: attention_layers.0.in_proj_weight[0] is NaN", state=with_change(
            "attention_layers.0.in_proj_weight", Tensor([24, 8], [float("nan")] * 192)))  # fmt: skip

    def test_options_that_do_not_fit(self):
        save(self.path("model.pth"), pmixer())
        self.refuse("--heads: 3, expected a divisor of the checkpoint's 8 columns", heads=3)
        self.refuse("--norm: expected query", options=["--norm", "post"])
        self.refuse("--window: 6, expected at most the checkpoint's 5 positions", options=["--window", 6])
        self.refuse("--norm: missing, expected query, post or pre", state=pmixer(from_one=True))
        self.write("items.txt", "a\nb\n")
        self.refuse("--items: 2 ids, expected 30 by the checkpoint's item_emb.weight")
        save(self.path("model.pth"), pmixer())
        self.write("items.txt", "a\n\nb\n")
        self.refuse("--items: items.txt: line 2 empty, expected an item id")
        self.write("items.txt", "a\n" * 30)
        self.refuse("model.pth", '"a"')
        self.write("items.txt", "".join(f"{item}\n" for item in ITEMS))
        self.path("model").mkdir()
        done = self.convert("--norm", "query", expect=2)
        self.assert_error(done.stderr, "--output: model: exists")


class Runs:
    def __reduce__(self):
        return os.system, ("echo ran > ran",)


if __name__ == "__main__":
    main()
