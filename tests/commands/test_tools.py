"""The commands around the stream: model, state, config, export, generate, and what --help promises."""

import gzip
import json
import os
import random
import re
import resource
import shlex
import shutil
import signal
import subprocess

import checkpoint
from support import (
    COMMANDS,
    SEED,
    START_MS,
    CommandTest,
    as_lines,
    event,
    main,
    random_log,
    read_output,
    read_safetensors,
    write_model,
    write_safetensors,
    zstd_compress,
    zstd_decompress,
)

ITEMS = [f"i{n}" for n in range(1, 41)]



class ModelTest(CommandTest):
    def inspect(self, directory):
        return json.loads(self.run_program("model", "inspect", directory, "--json").stdout)

    def test_inspect(self):
        write_model(self.path("model"), ITEMS, dim=16, layers=2, heads=2, window=8)
        parameters = 41 * 16 + 4 * 16 + 2 * (16 * 64 + 16 * 16 + 16 + 2 * 8 + 2 * 129)
        facts = self.inspect("model")
        version = facts.pop("version")
        self.assertRegex(version, r"^[0-9a-f]{16}$")
        self.assertEqual(facts, {
            "name": "model", "block": "hstu", "items": 40, "event_types": 3, "dim": 16, "layers": 2, "heads": 2, "window": 8,
            "time_bias": True, "similarity": "cosine", "parameters": parameters,
            "stored": {"F32": parameters}, "weight_bytes": 4 * parameters,
            "tokens_for_exact_rebuild": 2 * 7 + 1, "key_value_bytes_per_user": facts["key_value_bytes_per_user"],
            "key_value_bytes_per_user_fp16": facts["key_value_bytes_per_user_fp16"],
            "key_value_bytes_per_user_int8": facts["key_value_bytes_per_user_int8"],
        })  # fmt: skip
        for precision, number in (("", 4), ("_fp16", 2), ("_int8", 1)):  # in blocks of 16 rows, beside 8 times
            scales = 2 * 2 * 2 * 16 * 4 if number == 1 else 0
            padding = facts["key_value_bytes_per_user" + precision] - (2 * 2 * 16 * 16 * number + scales + 8 * 8)
            self.assertIn(padding, range(65), precision)
        text = self.run_program("model", "inspect", "model/").stdout
        for key, value in {**facts, "version": version}.items():
            shown = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
            self.assertRegex(text, rf"(?m)^{key} +{re.escape(shown)}$")

    def test_the_version_is_that_of_the_content(self):
        write_model(self.path("a/model"), ITEMS)
        write_model(self.path("b/other"), ITEMS)
        ours, theirs = self.inspect("a/model"), self.inspect("b/other")
        self.assertEqual((ours["version"], theirs["name"]), (theirs["version"], "other"))
        versions = {ours["version"]}
        for name, old, new in (("config.json", b"0.05", b"0.06"), ("items.tsv", b"i40", b"i41"),
                               ("event_types.tsv", b"cart", b"bag")):  # fmt: skip
            path = self.path("a/model") / name
            path.write_bytes(path.read_bytes().replace(old, new))
            versions.add(self.inspect("a/model")["version"])
        weights = self.path("a/model/model.safetensors")
        weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
        versions.add(self.inspect("a/model")["version"])
        self.assertEqual(len(versions), 5)

    def test_verify(self):
        write_model(self.path("model"), ITEMS, dim=32, layers=3, heads=4, window=12)
        runs = [
            self.run_program("model", "verify", "model", "--users", 10, "--seed", seed).stdout for seed in (3, 3, 4)
        ]
        self.assertEqual(runs[0], runs[1])
        self.assertNotEqual(runs[0], runs[2])
        found = re.fullmatch(
            r"(\d+) prefixes of 10 users \(seed 3\): largest relative error of the incremental step (\S+), "
            r"bound 1e-05: ok\nwith a cache of fp16: (\S+)\nwith a cache of int8: (\S+)\n", runs[0],
        )  # fmt: skip
        self.assertIsNotNone(found, runs[0])
        self.assertGreater(int(found[1]), 10)
        self.assertLess(float(found[2]), 1e-5)
        self.assertLess(1e-5, float(found[3]))
        self.assertLess(float(found[3]), float(found[4]))
        self.assertLess(float(found[4]), 0.5)


    def quantize(self, output, *arguments, expect=0):
        return self.run_program("model", "quantize", "model", "--output", output, *arguments, expect=expect)

    def test_quantize(self):
        write_model(self.path("model"), ITEMS, dim=16, layers=2, heads=2, window=8)
        before = self.inspect("model")
        items, matrices, scales = 41 * 16, 2 * (16 * 64 + 16 * 16), 2 * (64 + 16)
        rest = before["parameters"] - items - matrices
        for flags, stored in (
            ((), {"I8": items + matrices, "F32": rest + scales + 41}),
            (("--weights", "bf16"), {"I8": items, "BF16": matrices, "F32": rest + 41}),
            (("--weights", "fp32", "--items", "bf16"), {"BF16": items, "F32": rest + matrices}),
            (("--weights", "fp32", "--items", "fp32"), {"F32": before["parameters"]}),
        ):
            done = self.quantize("small", *flags)
            facts = self.inspect("small")
            self.assertEqual(facts["stored"], stored)
            size = sum(count * {"F32": 4, "BF16": 2, "I8": 1}[kind] for kind, count in stored.items())
            self.assertEqual(facts["weight_bytes"], size)
            self.assertEqual(facts["parameters"], before["parameters"])
            self.assertIn(facts["version"], done.stdout)
            self.assertIn(f"{size} bytes of tensors ({100 * size / before['weight_bytes']:.1f} %", done.stdout)
            self.assertIn("ok", self.run_program("model", "verify", "small", "--users", 3).stdout)
            log = random_log(random.Random(SEED), users=3, items=45, events=40)
            self.replay(self.write("events.jsonl", as_lines(log)), state=f"state-{len(flags)}-{size}",
                        model__directory=self.path("small"))  # fmt: skip
            self.assertEqual(len(read_output(self.path("out.jsonl"))), 40)

    def test_quantize_refuses(self):
        write_model(self.path("model"), ITEMS)
        before = self.inspect("model")
        self.assert_error(self.quantize("./model/", expect=2).stderr, "--output: ./model/: is the model itself")
        self.assert_error(self.quantize("small", "--items", "int4", expect=2).stderr, "--items", "int4", "int8")
        self.write("a-file", "")
        self.assertIn("a-file", self.quantize("a-file", expect=1).stderr)
        self.assertEqual(self.inspect("model"), before)

    def test_a_full_disk_leaves_the_old_model(self):
        write_model(self.path("model"), ITEMS)
        self.quantize("small")
        before = {path.name: path.read_bytes() for path in self.path("small").iterdir()}
        shutil.rmtree(self.path("model"))
        write_model(self.path("model"), ITEMS, seed=SEED + 1)

        def limit():  # a write beyond it fails, as the signal is ignored
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(before["model.safetensors"]) // 2,) * 2)

        done = self.run_program("model", "quantize", "model", "--output", "small", expect=1, preexec_fn=limit,
                                restore_signals=False)  # fmt: skip
        self.assert_error(done.stderr, "small/model.safetensors.new: cannot be written: File too large")
        self.assertEqual({path.name: path.read_bytes() for path in self.path("small").iterdir()}, before)

    def test_precisions_give_the_same_answers(self):
        write_model(self.path("model"), [f"i{n}" for n in range(1, 2001)], dim=48)
        log = random_log(random.Random(SEED), users=9, items=2100, events=200)
        answers = {}
        for precision in ("fp32", "int8", "auto"):
            done = self.replay(self.write("events.jsonl", as_lines(log)), state=precision, model__precision=precision)
            answers[precision] = read_output(self.path("out.jsonl"))
            self.assertEqual("model.precision" in done, precision == "int8" and not self.has_vnni(), done)
        self.assertEqual(len(answers["fp32"]), 200)
        for expected, *others in zip(answers["fp32"], answers["int8"], answers["auto"]):
            for other in others:
                self.assertEqual([item["item_id"] for item in other["items"]],
                                 [item["item_id"] for item in expected["items"]])  # fmt: skip
                for ours, theirs in zip(other["items"], expected["items"]):
                    self.assertAlmostEqual(ours["score"], theirs["score"], places=4)

    @staticmethod
    def has_vnni():
        with open("/proc/cpuinfo") as file:
            return "avx512_vnni" in file.read()


class ItemCodesTest(CommandTest):
    """`model` has its items as codes of centroids, `decoded` as the numbers that they stand for."""

    def setUp(self):
        super().setUp()
        rows, parts, centroids, width = len(ITEMS) + 1, 4, 16, 4
        write_model(self.path("decoded"), ITEMS, dim=parts * width)
        shutil.copytree(self.path("decoded"), self.path("model"))
        tensors = {name: (shape, values) for name, (_, shape, values) in self.tensors("decoded").items()}
        del tensors["item_embedding.weight"]
        numbers = random.Random(SEED)
        codes = bytes(numbers.randrange(centroids) for _ in range(rows * parts))
        values = [0.4 * numbers.random() - 0.2 for _ in range(parts * centroids * width)]
        table = [
            values[(part * centroids + codes[row * parts + part]) * width + place]
            for row in range(rows) for part in range(parts) for place in range(width)
        ]  # fmt: skip
        self.write_tensors("decoded", {"item_embedding.weight": ([rows, parts * width], table), **tensors})
        self.write_tensors("model", {"item_embedding.codes": ([rows, parts], codes),
                                     "item_embedding.centroids": ([parts, centroids, width], values), **tensors})  # fmt: skip

    def tensors(self, model):
        return read_safetensors(self.path(model) / "model.safetensors")

    def write_tensors(self, model, tensors):
        write_safetensors(self.path(model) / "model.safetensors", tensors)

    def facts(self, model):
        return json.loads(self.run_program("model", "inspect", model, "--json").stdout)

    def quantize(self, *arguments):
        return self.run_program("model", "quantize", "model", "--output", "small", *arguments).stdout

    def test_inspect_and_verify(self):
        facts, decoded = self.facts("model"), self.facts("decoded")
        self.assertEqual(facts["item_codes"], {"parts": 4, "centroids": 16})
        self.assertNotIn("item_codes", decoded)
        others = decoded["parameters"] - 41 * 16
        self.assertEqual(facts["stored"], {"U8": 41 * 4, "F32": others + 4 * 16 * 4})
        self.assertEqual(facts["weight_bytes"], 41 * 4 + 4 * (others + 4 * 16 * 4))
        for key in ("parameters", "items", "dim", "key_value_bytes_per_user"):
            self.assertEqual(facts[key], decoded[key])
        self.assertIn("ok", self.run_program("model", "verify", "model", "--users", 3).stdout)

    def answers(self, model, **more):
        log = random_log(random.Random(SEED), users=5, items=45, events=100)
        self.replay(self.write("events.jsonl", as_lines(log)), state=f"state-{model}-{len(more)}",
                    model__directory=self.path(model), **more)  # fmt: skip
        return [record["items"] for record in read_output(self.path("out.jsonl"))]

    def test_answers_are_those_of_the_decoded_model(self):
        expected = self.answers("decoded")
        self.assertEqual(len(expected), 100)
        self.assertEqual(self.answers("model"), expected)
        int8 = {"model__precision": "int8"}
        self.assertEqual(self.answers("model", **int8), self.answers("decoded", **int8))
        self.run_program("evaluate", "--input", "events.jsonl", "--compare", "decoded", "--json", "found.json",
                         settings=self.settings())  # fmt: skip
        found = json.loads(self.path("found.json").read_text())
        for metric, difference in found["compare"]["differences"].items():
            self.assertEqual(difference["difference"], 0, metric)

    def test_quantize_keeps_codes(self):
        self.assertIn("weights int8, items codes, ", self.quantize())
        before, after = self.tensors("model"), self.tensors("small")
        for name in ("item_embedding.codes", "item_embedding.centroids"):
            self.assertEqual(after[name], before[name])
        self.assertEqual(after["layers.0.uvqk.weight"][0], "I8")
        self.assertIn("weights fp32, items fp32, ", self.quantize("--weights", "fp32", "--items", "fp32"))
        self.assertEqual(self.tensors("small"), self.tensors("decoded"))
        for kind, dtype in (("bf16", "BF16"), ("int8", "I8")):
            self.assertIn(f"items {kind}, ", self.quantize("--items", kind))
            facts = self.facts("small")
            self.assertNotIn("item_codes", facts)
            self.assertGreaterEqual(facts["stored"][dtype], 41 * 16)

    def test_refused_codes(self):
        path = self.path("model") / "model.safetensors"
        path.write_bytes(path.read_bytes().replace(b"[41, 4]", b"[82, 2]"))
        self.assert_error(self.run_program("model", "inspect", "model", expect=2).stderr,
                          "item_embedding.codes is U8 [82, 2]", "expected U8 [41, M]")  # fmt: skip


class StateTest(CommandTest):
    def setUp(self):
        super().setUp()
        write_model(self.path("model"), ITEMS)
        self.log = random_log(random.Random(SEED), users=12, items=45, events=600)
        self.replay(self.write("events.jsonl", as_lines(self.log)))

    def state(self, *arguments, expect=0, **settings):
        return self.run_program("state", *arguments, settings=self.settings(**settings), expect=expect)

    def test_get(self):
        for user in ("u0", "u7"):
            events = [entry for entry in self.log if entry["user_id"] == user]
            found = json.loads(self.state("get", user).stdout)
            self.assertEqual(found["user_id"], user)
            self.assertIn(found["partition"], range(4))
            self.assertEqual(found["applied_offset"], max(n for n, e in enumerate(self.log) if e["user_id"] == user))
            profile = found["profile"]
            self.assertEqual(profile["events"], len(events))
            self.assertEqual(profile["first_time"], events[0]["timestamp"])
            self.assertEqual(profile["last_time"], events[-1]["timestamp"])
            self.assertLessEqual(profile["session_events"], profile["events"])
            kept = events[-15:]  # what 2 layers with a window of 8 need
            tokens = [(token["item_id"], token["event_type"], token["timestamp"]) for token in found["tokens"]]
            known = {item: item for item in ITEMS}
            self.assertEqual(tokens, [
                (known.get(entry["item_id"], "[unknown]"), entry["event_type"], entry["timestamp"]) for entry in kept
            ])  # fmt: skip
            for token in found["tokens"]:
                self.assertRegex(token["item_hash"], r"^[0-9a-f]{16}$")

    def test_get_without_a_model_or_user(self):
        tokens = json.loads(self.state("get", "u0", model__directory="nowhere").stdout)["tokens"]
        self.assertEqual(len(tokens), 15)
        self.assertEqual(list(tokens[0]), ["item_hash", "timestamp"])
        self.assert_error(self.state("get", "nobody", expect=1).stderr, 'user "nobody": not in', self.path("state"))

    def test_stats(self):
        stats = json.loads(self.state("stats").stdout)
        self.assertEqual((stats["directory"], stats["application"]), (str(self.path("state")), "freshet"))
        self.assertEqual([part["partition"] for part in stats["partitions"]], [0, 1, 2, 3])
        for part in stats["partitions"]:
            self.assertGreaterEqual(part["position"], 600)
        for key in ("estimated_users", "disk_bytes"):
            self.assertEqual(stats[key], sum(part[key] for part in stats["partitions"]))
        self.assertGreater(stats["estimated_users"], 0)

    def test_verify(self):
        found = json.loads(self.state("verify").stdout)
        self.assertEqual(found, {"users": 12, "events": 600, "violations": 0, "digest": self.digest()})
        self.assertRegex(found["digest"], r"^[0-9a-f]{32}$")
        self.replay(self.path("events.jsonl"), output="2.jsonl", state="other", state__partitions=3)
        self.assertEqual(self.digest("other"), found["digest"], "however they are partitioned")
        self.log[-1]["timestamp"] += 1
        self.replay(self.write("changed.jsonl", as_lines(self.log)), output="3.jsonl", state="changed")
        self.assertNotEqual(self.digest("changed"), found["digest"])


class ConfigTest(CommandTest):
    YAML = """
application: shop
kafka: {bootstrap_servers: "a:1,b:2", properties: {session.timeout.ms: 6000, ssl.ca.location: /etc/ca.pem}}
source:
  format: csv
  mapping:
    user_id: visitor
    event_type: {path: behaviour, map: {pv: view, "a: b": "c, d"}}
    timestamp: {path: ts, unit: iso8601}
state: {hot_cache: 3MiB, directory: "with space: and colon"}
processing: {commit_interval: 250ms, workers: 3, emit: latest}
"""

    def test_what_is_printed_loads_to_the_same(self):
        self.write("shop.yaml", self.YAML)
        self.assertEqual(self.run_program("config", "check", "-c", "shop.yaml").stdout, "ok\n")
        printed = self.run_program("config", "print", "-c", "shop.yaml", settings={"recommend.top_k": 7}).stdout
        self.write("printed.yaml", printed)
        self.assertEqual(self.run_program("config", "print", "-c", "printed.yaml").stdout, printed)
        for text in ("application: shop", "top_k: 7", "commit_interval: 250ms", "hot_cache: 3MiB", "workers: 3"):
            self.assertIn(text, printed)
        defaults = self.run_program("config", "print").stdout
        self.write("defaults.yaml", defaults)
        self.assertEqual(self.run_program("config", "print", "-c", "defaults.yaml").stdout, defaults)

    def test_secrets_are_masked(self):
        secrets = {
            "sasl.password": "hunter2a", "ssl.key.password": "hunter2b", "ssl.key.pem": "hunter2c",
        }  # fmt: skip
        settings = {f"kafka.properties.{key}": value for key, value in secrets.items()}
        self.environment["FRESHET_KAFKA__PROPERTIES__SSL__KEYSTORE__PASSWORD"] = "hunter2d"
        printed = self.run_program("config", "print", settings={**settings, "kafka.properties.client.id": "me"})
        self.assertNotIn("hunter2", printed.stdout + printed.stderr)
        self.assertEqual(printed.stdout.count("********"), 4)
        self.assertIn("client.id: me", printed.stdout)
        wrong = self.run_program("config", "check", settings={"kafka.properties.sasl.password": "[hunter2]"}, expect=2)
        self.assertNotIn("hunter2", wrong.stdout + wrong.stderr)


class ExportTest(CommandTest):
    def test_only_a_time_range_is_exported(self):
        events = self.write("events.jsonl", as_lines(event("u1", f"i{n}", START_MS + 1000 * n) for n in range(9)))
        words = ("export", "--input", events, "--output", "out")
        done = self.run_program(*words, "--from", str(START_MS + 2000), "--to", "2017-10-01T03:00:05Z")
        self.assertIn("exported 3 events of 1 users, 3 items", done.stderr)
        self.assertEqual(self.path("out/items.tsv").read_text().split()[3::2], ["i2", "i3", "i4"])
        done = self.run_program(*words, "--to", "noon", expect=2)
        self.assert_error(done.stderr, '--to: "noon": expected an ISO 8601 time')

    def test_nothing_to_export_leaves_what_is_there(self):
        events = self.write("events.jsonl", as_lines(event("u1", f"i{n}", START_MS + 1000 * n) for n in range(9)))
        words = ("export", "--input", events, "--output", "out")
        self.run_program(*words)
        before = {path.name: path.read_bytes() for path in self.path("out").iterdir()}
        self.assertEqual(len(before), 4)
        for arguments, code, message in (
            (("--from", "2099-01-01"), 3, "--input: no event to export: 9 events are outside --from and --to, 0 records"),
            (("--from", "2018-01-01", "--to", "2017-01-01"), 2, "--to: 2017-01-01: not after --from, 2018-01-01"),
            (("--from", "2018-01-01", "--to", "2018-01-01"), 2, "--to: 2018-01-01: not after --from, 2018-01-01"),
            (("--set", "source.mapping.user_id=/customer"), 3, "0 events are outside --from and --to, 9 records are bad"),
        ):
            done = self.run_program(*words, *arguments, expect=code)
            self.assert_error(done.stderr, message)
            self.assertEqual({path.name: path.read_bytes() for path in self.path("out").iterdir()}, before)
        self.run_program("export", "--input", self.write("empty.jsonl", ""), "--output", "new", expect=3)
        self.assertFalse(self.path("new").exists())

    def test_half_a_log_is_no_log(self):
        """A compressed file that breaks off ends `export` and `evaluate`: what they make of half would look whole."""
        write_model(self.path("model"), ITEMS)
        log = as_lines(random_log(random.Random(SEED), users=25, items=40, events=3000))
        for name, compress in (("cut.gz", gzip.compress), ("cut.zst", zstd_compress)):
            whole = compress(log)
            cut = self.write(name, whole[: len(whole) // 2])
            for words in (["export", "--output", "out"], ["evaluate", "--json", "report.json"]):
                done = self.run_program(*words, "--input", cut, settings=self.settings(), expect=1)
                self.assert_error(done.stderr, f"{cut}: byte {len(whole) // 2}: the compressed data breaks off, at record ",
                                  "expected a whole file")  # fmt: skip
        damaged = self.write("damaged.gz", bytes(reversed(gzip.compress(log)[20:])))
        damaged.write_bytes(gzip.compress(log)[:200] + b"x" * 100 + gzip.compress(log)[300:])
        done = self.run_program("export", "--input", damaged, "--output", "out", expect=1)
        self.assert_error(done.stderr, f"{damaged}: byte ", "expected a whole file")
        self.assertFalse(self.path("out").exists() or self.path("report.json").exists())

    def test_times_that_run_backwards(self):
        """Within a user, which is where it matters: counted, with an example."""
        log = [event("a", "i1", START_MS + 5000), event("b", "i2", START_MS), event("a", "i3", START_MS + 4000),
               event("a", "i4", START_MS + 4500), event("a", "i5", START_MS), event("b", "i6", START_MS)]  # fmt: skip
        done = self.run_program("export", "--input", self.write("events.jsonl", as_lines(log)), "--output", "out")
        self.assertIn(
            "2 events are earlier than the one before them of the same user (events.jsonl, record 2: user a, "
            "2017-10-01T03:00:04Z after 2017-10-01T03:00:05Z)", done.stderr,
        )  # fmt: skip
        log.sort(key=lambda entry: entry["timestamp"])
        done = self.run_program("export", "--input", self.write("sorted.jsonl", as_lines(log)), "--output", "out")
        self.assertNotIn("earlier", done.stderr)

    def test_what_is_exported_is_the_log(self):
        log = random_log(random.Random(SEED), users=25, items=60, events=800)
        log[5]["event_type"] = "poke"
        data = as_lines(log).splitlines(keepends=True)
        half = [
            self.write("1.jsonl", b"".join(data[:300]) + b"broken\n{}\n"),
            self.write("2.gz", gzip.compress(b"".join(data[300:]))),
        ]
        done = self.run_program("export", "--input", *half, "--output", "out/deep")
        self.assertIn("exported 800 events of 25 users", done.stderr)
        self.assertIn("2 bad records left out", done.stderr)
        users = self.check(self.path("out/deep"), log, self.rows(log, "item_id"), self.rows(log, "event_type"))
        names = self.path("out/deep/users.tsv").read_text()
        self.assertEqual(names, "".join(f"{row}\t{user}\n" for row, user in enumerate(users)))

    def test_duplicates_are_left_out_as_the_pipeline_drops_them(self):
        log = [{**entry, "event_id": n} for n, entry in enumerate(random_log(random.Random(SEED), 25, 60, 800))]
        sent = []
        for n, entry in enumerate(log):
            sent += [entry, {**log[n // 60 * 60], "item_id": "never"}] if n % 3 == 0 else [entry]
        events = self.write("events.jsonl", as_lines(sent))
        done = self.run_program("export", "--input", events, "--output", "out")
        self.assertIn(f"0 bad records left out, {len(sent) - len(log)} duplicates dropped", done.stderr)
        self.check(self.path("out"), log, self.rows(log, "item_id"), self.rows(log, "event_type"))

    def rows(self, log, field):
        return {name: row for row, name in enumerate(dict.fromkeys(entry[field] for entry in log), start=1)}

    def check(self, directory, log, items, types):
        users = {}
        for entry in log:
            users.setdefault(entry["user_id"], []).append(entry)
        offsets = [0]
        for events in users.values():
            offsets.append(offsets[-1] + len(events))
        ordered = [entry for events in users.values() for entry in events]
        self.assertEqual(read_safetensors(directory / "sequences.safetensors"), {
            "offsets": ("I64", [len(users) + 1], offsets),
            "items": ("I32", [len(log)], [items.get(entry["item_id"], 0) for entry in ordered]),
            "types": ("I32", [len(log)], [types.get(entry["event_type"], 0) for entry in ordered]),
            "times": ("I64", [len(log)], [entry["timestamp"] // 1000 for entry in ordered]),
        })  # fmt: skip
        for name, rows in (("items.tsv", items), ("event_types.tsv", types)):
            text = "0\t[unknown]\n" + "".join(f"{row}\t{name}\n" for name, row in rows.items())
            self.assertEqual((directory / name).read_text(), text)
        return users

    def test_with_the_rows_of_a_model(self):
        write_model(self.path("model"), ITEMS)
        log = random_log(random.Random(SEED), users=25, items=60, events=800)
        events = self.write("events.jsonl", as_lines(log))
        self.run_program("export", "--input", events, "--output", "out", "--vocabulary", "model")
        rows = {item: row for row, item in enumerate(ITEMS, start=1)}
        self.check(self.path("out"), log, rows, {"view": 1, "cart": 2, "purchase": 3})

    def test_log_lines_stay_json(self):
        events = self.write("events.jsonl", as_lines([event("u", "i1")]) + b'{"user_id":"a\\u0000"}\n')
        settings = {"log.format": "json", "log.level": "debug"}
        done = self.run_program("export", "--input", events, "--output", 'out"dir\\', settings=settings)
        messages = [json.loads(line)["message"] for line in done.stderr.splitlines()]
        self.assertTrue(any('a NUL byte in "a\\u0000"' in message for message in messages), done.stderr)
        self.assertTrue(any('to out"dir\\;' in message for message in messages), done.stderr)


class GenerateTest(CommandTest):
    def generate(self, output, seed=5):
        sizes = ["--users", 40, "--items", 60, "--events", 3000, "--seed", seed]
        done = self.run_program("generate", *sizes, "--output", output)
        self.assertEqual(done.stdout, "", "progress is no result")
        return self.path(output).read_bytes()

    def test_the_same_seed_gives_the_same_bytes(self):
        first = self.generate("a/events.jsonl")
        items = self.path("a/items.jsonl").read_bytes()
        self.assertEqual(self.generate("b/events.jsonl"), first)
        self.assertEqual(self.path("b/items.jsonl").read_bytes(), items)
        self.assertEqual(gzip.decompress(self.generate("c/events.jsonl.gz")), first)
        self.assertEqual(zstd_decompress(self.generate("d/events.jsonl.zst")), first)
        self.assertNotEqual(self.generate("e/events.jsonl", seed=6), first)

    def test_a_later_log_goes_on_where_one_ended(self):
        sizes = ["--users", 40, "--items", 60, "--events", 500]
        self.run_program("generate", *sizes, "--start", "2024-03-01", "--days", 2, "--output", "later.jsonl")
        times = [record["timestamp"] for record in read_output(self.path("later.jsonl"))]
        begin, day_ms = 1_709_251_200_000, 86_400_000
        self.assertGreaterEqual(times[0], begin)
        self.assertTrue(1.5 * day_ms < times[-1] - begin < 2.5 * day_ms, times[-1])

    def test_what_is_generated_runs(self):
        log = [json.loads(line) for line in self.generate("events.jsonl").splitlines()]
        catalogue = [json.loads(line)["item_id"] for line in self.path("items.jsonl").read_bytes().splitlines()]
        self.assertEqual((len(log), len(catalogue)), (3000, 60))
        write_model(self.path("model"), catalogue)
        summary = self.replay(self.path("events.jsonl"))
        self.assertIn("3000 recommendations, 0 dead letters, 0 repeats dropped, 0 without a known item", summary)
        self.assert_numbered(read_output(self.path("out.jsonl")), log)

    def test_nonsense_is_refused(self):
        for option in ("--users", "--items", "--days"):
            self.run_program("generate", option, 0, "--output", "events.jsonl", expect=2)
        self.run_program("generate", "--events", "many", "--output", "events.jsonl", expect=2)
        for start, message in (("soon", '--start: "soon": expected an ISO 8601 time'), ("-5", "--start"),
                               ("2999-01-01", "--start: 32472144000000 ms since 1970: expected a time from 1970 to 2099")):  # fmt: skip
            done = self.run_program("generate", "--start", start, "--output", "events.jsonl", expect=2)
            self.assert_error(done.stderr, message)
        done = self.run_program("generate", "--users", "-1", "--output", "events.jsonl", expect=2)
        self.assert_error(done.stderr, "--users: -1: expected a whole number")
        self.write("file", "")
        self.run_program("generate", "--events", 10, "--output", "file/events.jsonl", expect=1)
        self.path("taken/items.jsonl").mkdir(parents=True)
        done = self.run_program("generate", "--events", 10, "--output", "taken/x.jsonl", expect=2)
        self.assert_error(done.stderr, "--output: taken/items.jsonl: is a directory, expected a file")


    def test_another_catalogue_is_kept(self):
        first = self.generate("a/events.jsonl")
        items = self.path("a/items.jsonl").read_bytes()
        done = self.run_program("generate", "--items", 7, "--output", "a/other.jsonl", expect=2)
        self.assert_error(done.stderr, "--output: a/other.jsonl: a/items.jsonl beside it would be replaced")
        self.assertEqual(self.path("a/items.jsonl").read_bytes(), items)
        self.assertEqual(self.generate("a/events.jsonl"), first, "its own it writes anew")


class ResultsTest(CommandTest):
    """Results go to stdout: where they cannot, the command has failed."""

    def test_results_that_cannot_be_written(self):
        write_model(self.path("model"), ITEMS)
        self.replay(self.write("events.jsonl", as_lines([event("u", "i1")])))
        for command in ("state get u", "state stats", "state verify", "config print", "config check",
                        "model inspect model", "model verify model --users 1", "--help", "--help-all", "--version",
                        "replay --help"):  # fmt: skip
            words = command.split()
            settings = self.settings() if words[0] in ("state", "config") else {}
            for stdout, reason in (("/dev/full", "No space left on device"), (None, "Bad file descriptor")):
                with open(stdout or "/dev/null", "wb") as out:
                    done = subprocess.run(
                        self.command(words, settings), env=self.environment, cwd=self.directory, stdout=out,
                        stderr=subprocess.PIPE, preexec_fn=None if stdout else lambda: os.close(1),
                    )  # fmt: skip
                self.assertEqual(done.returncode, 1, (command, stdout))
                self.assert_error(done.stderr.decode(), f"standard output: cannot write: {reason}")


class HelpTest(CommandTest):
    """Every command's example is run, in a directory that has what the examples name."""

    def setUp(self):
        super().setUp()
        log = as_lines(random_log(random.Random(SEED), users=12, items=40, events=300))
        self.write("clicks.jsonl", log)
        self.write("clicks.jsonl.gz", gzip.compress(log))
        self.write("freshet.yaml", "model: {directory: models/demo}\n")
        for name in ("demo", "shop"):
            write_model(self.path("models") / name, ITEMS)
        checkpoint.save(self.path("SASRec.pth"), checkpoint.pmixer())
        self.write("items.txt", "".join(f"{item}\n" for item in checkpoint.ITEMS))
        self.environment["FRESHET_HTTP__LISTEN"] = "127.0.0.1:0"

    def example(self, command):
        text = self.run_program(*command.split(), "--help").stdout
        self.assertIn("Example:\n", text, command)
        examples = [line.strip() for line in text.split("Example:\n")[1].splitlines() if line.startswith("  freshet ")]
        self.assertTrue(examples, text)
        for words in map(shlex.split, examples):
            self.assertEqual(words[1 : 1 + len(command.split())], command.split())
        return examples

    def test_the_examples_run(self):
        self.run_program("replay", "--input", "clicks.jsonl", settings={"model.directory": "models/demo"})
        for command in COMMANDS[1:]:
            for example in self.example(command):
                if command == "replay" and "--from" in example:  # of a topic
                    self.assert_waits_for_its_broker(example, b"no broker answers", 1)
                elif command == "state forget":  # writes to one
                    done = self.run_program(*shlex.split(example)[1:], expect=1)
                    self.assertIn("timed out", done.stderr)
                else:
                    self.run_program(*shlex.split(example)[1:])
        self.assertEqual(len(read_output(self.path("recommendations.jsonl"))), 300)

    def assert_waits_for_its_broker(self, example, says, code):
        command = self.command(shlex.split(example)[1:], {})
        with subprocess.Popen(command, stderr=subprocess.PIPE, env=self.environment, cwd=self.directory) as process:
            for line in process.stderr:
                if says in line:
                    break
            process.terminate()
            rest = process.stderr.read().decode()
        self.assertEqual(process.returncode, code, rest)

    def test_the_example_of_run_waits_for_its_broker_and_stops(self):
        example, _ = self.example("run")  # the other brings its own, integration.playground
        self.assert_waits_for_its_broker(example, b"serving /healthz", 0)

    def test_every_command_is_listed_and_tells_its_exit_codes(self):
        text = self.run_program("--help").stdout
        for command in COMMANDS:
            self.assertRegex(text, rf"(?m)^  {command.split()[0]} ")
        self.assertIn(
            "Exit codes: 0 done; 1 failed; 2 wrong usage or configuration; 3 the data needs a decision.", text
        )
        self.assertRegex(self.run_program("--version").stdout, r"^freshet \d+\.\d+\.\d+\n$")


if __name__ == "__main__":
    main()
