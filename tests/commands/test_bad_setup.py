"""What is wrong before the first event, or beside all events: paths, disks, the state directory, the configuration,
the model. The program says where, what and what it expected, with the right exit code, and a second try goes on."""

import contextlib
import fcntl
import json
import os
import random
import resource
import shutil
import socket
import struct
import subprocess
import time

from support import (
    SEED,
    START_MS,
    TIMEOUT_S,
    CommandTest,
    as_lines,
    event,
    main,
    random_log,
    read_output,
    read_safetensors,
    write_model,
    write_rows,
    write_safetensors,
)

ITEMS = [f"i{n}" for n in range(1, 31)]


class SetupTest(CommandTest):
    def setUp(self):
        super().setUp()
        write_model(self.path("model"), ITEMS)
        self.log = random_log(random.Random(SEED), users=20, items=len(ITEMS), events=2000)
        self.events = self.write("events.jsonl", as_lines(self.log))

    @contextlib.contextmanager
    def mounted(self, name, options):
        """A small disk of its own, as root; elsewhere the test is skipped."""
        path = self.path(name)
        path.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
            self.skipTest("mounting a small disk takes root")
        try:
            yield path
        finally:
            subprocess.run(["umount", path], check=True)

    def remount(self, path, options):
        subprocess.run(["mount", "-o", f"remount,{options}", path], check=True)


class PathTest(SetupTest):
    def test_inputs_that_cannot_be_read(self):
        missing = self.path("missing.jsonl")
        self.assert_error(
            self.replay(self.events, missing, expect=1), missing, "cannot open: No such file or directory"
        )
        self.assert_error(self.replay(self.directory, expect=1), self.directory, "is a directory, expected a log file")
        self.assert_error(self.replay("/dev/null", expect=1), "/dev/null: is not a regular file, expected a log file")
        self.assert_error(self.replay(self.events, self.events, expect=2), self.events, "given twice as input")
        self.replay(self.events)
        self.assertEqual(len(read_output(self.path("out.jsonl"))), 2000, "no try left anything that hinders the next")

    def test_outputs_that_cannot_be_written(self):
        error = self.replay(self.events, output="missing/out.jsonl", expect=1)
        self.assert_error(error, self.path("missing/out.jsonl"), "cannot open for writing")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(self.path("socket")))
            for name, kind in (("model", "a directory"), ("socket", "a socket")):
                for words in (["replay", "--input", self.events, "--output"], ["generate", "--output"],
                              ["evaluate", "--input", self.events, "--json"]):  # fmt: skip
                    settings = {} if words[0] == "generate" else self.settings()
                    done = self.run_program(*words, name, settings=settings, expect=2)
                    self.assert_error(done.stderr, f"{words[-1]}: {name}: is {kind}, expected a file")

    def test_what_the_user_may_not_touch(self):
        other = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        self.directory.chmod(0o777)
        secret = self.write("secret.jsonl", as_lines(self.log))
        secret.chmod(0)
        try:
            done = self.run_program("replay", "--input", secret, settings=self.settings(), expect=1, **other)
        except PermissionError:
            self.skipTest("no other user may run the program here")
        self.assert_error(done.stderr, f"{secret}: cannot open: Permission denied")
        shutil.rmtree(self.path("state"))
        self.path("state").mkdir()
        self.path("state").chmod(0o555)
        done = self.run_program("replay", "--input", self.events, settings=self.settings(), expect=1, **other)
        self.assert_error(done.stderr, f"state.directory: {self.path('state')}", "Permission denied")

    def test_outputs_that_are_the_state(self):
        own = ("FORMAT", "LOCK", "commits.json", "dead-letters.jsonl", "partition-0/CURRENT")
        for name in own:  # where there is no state yet
            self.assert_error(self.replay(self.events, output=f"state/{name}", expect=2), "--output", name)
        self.replay(self.events)
        digest = self.digest()
        for name in own:
            self.assert_error(self.replay(self.events, output=f"state/{name}", expect=2), "--output", self.path("state"))
        link = self.path("link")
        link.symlink_to(self.path("state/commits.json"))
        self.assert_error(self.replay(self.events, output="link", expect=2), "--output", "belongs to the state")
        self.assertEqual(self.digest(), digest)
        self.replay(self.events, output="state-2/out.jsonl", state="state-2", expect=0)
        self.assertEqual(len(read_output(self.path("state-2/out.jsonl"))), len(self.log))

    def test_outputs_that_are_inputs(self):
        content = self.events.read_bytes()
        for name, arguments in (
            (self.events, ["replay", "--output"]),
            (self.write("x/sequences.safetensors", content), ["export", "--output"]),
            (self.write("y/users.tsv", content), ["export", "--output"]),
            (self.write("z.jsonl", content), ["evaluate", "--json"]),
        ):  # fmt: skip
            output = name.parent if arguments[0] == "export" else name
            done = self.run_program(*arguments, output, "--input", name, settings=self.settings(), expect=2)
            self.assert_error(done.stderr, f"{arguments[-1]}: {name}: is the input {name}")
            self.assertEqual(name.read_bytes(), content)
            self.assertFalse(self.path("state").exists())
        self.write("report.new", content)  # where the report is written
        words = ["evaluate", "--input", "report.new", "--json", "report"]
        error = self.run_program(*words, settings=self.settings(), expect=2).stderr
        self.assert_error(error, "--json: report.new: is the input report.new")

    def test_closed_standard_descriptors(self):
        self.write("bad.jsonl", "{}\n" + self.events.read_text())
        words = self.command(["replay", "--input", "bad.jsonl"], self.settings())

        def closed(*descriptors, output=None):
            added = ["--output", self.path(output)] if output else []
            return subprocess.run(
                [*words, *added], env=self.environment, cwd=self.directory, capture_output=True,
                preexec_fn=lambda: [os.close(n) for n in descriptors],
            )  # fmt: skip

        done = closed(0, 1)
        self.assertEqual(done.returncode, 1)
        self.assert_error(done.stderr.decode(), "standard output: cannot write", "Bad file descriptor")
        self.assertEqual(closed(0, 1, 2, output="out.jsonl").returncode, 0)
        self.assert_numbered(read_output(self.path("out.jsonl")), self.log)
        self.assertEqual(len(self.dead_letters()), 1)
        self.assertEqual(self.digest(), self.digest())

    def limited(self, limit, most, arguments, **options):
        """The program with `limit` of its resources; where it fails, with one line and no core."""
        done = subprocess.run(
            arguments, env=self.environment, cwd=self.directory, capture_output=True, timeout=TIMEOUT_S,
            preexec_fn=lambda: resource.setrlimit(limit, (most, most)), **options,
        )  # fmt: skip
        error = done.stderr.decode()
        self.assertIn(done.returncode, (0, 1), (most, error))
        if done.returncode == 1:
            self.assertEqual(len(error.splitlines()), 1, (most, error))
            self.assert_error(error, "the system gives no more")
        return done.returncode

    def test_no_more_threads(self):
        root = os.geteuid() == 0  # whom the limit does not bind
        other = {"user": 65534, "group": 65534, "extra_groups": []} if root else {}
        self.directory.chmod(0o777)
        failed = []
        for most in range(1, 12 if root else 2):
            words = self.command(["replay", "--input", self.events, "--output", self.path(f"{most}.jsonl")],
                                 self.settings(f"state-{most}", processing__workers=4))  # fmt: skip
            try:
                failed.append(self.limited(resource.RLIMIT_NPROC, most, words, **other))
            except PermissionError:
                self.skipTest("no other user may run the program here")
        self.assertEqual(failed[0], 1)

    def test_no_more_memory(self):
        words = self.command(["generate", "--users", 100_000_000, "--output", "x.jsonl"], {})
        self.assertEqual(self.limited(resource.RLIMIT_AS, 1 << 30, words), 1)

    def test_a_pipe_that_nobody_reads(self):
        pipe = self.path("pipe")
        os.mkfifo(pipe)
        words = self.command(["replay", "--input", self.events, "--output", pipe], self.settings())
        with subprocess.Popen(words, env=self.environment, stderr=subprocess.PIPE) as replay:
            while not self.path("state/commits.json").exists():
                time.sleep(0.01)
            with self.assertRaises(subprocess.TimeoutExpired):
                replay.wait(0.3)
            replay.terminate()
            try:
                replay.wait(20)
            finally:
                replay.kill()
            self.assertEqual(replay.returncode, 1)
            self.assert_error(replay.stderr.read().decode(), pipe, "interrupted before anybody read this pipe")

    def test_a_full_device(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                self.command(["replay", "--input", self.events], self.settings()), stdout=full, stderr=subprocess.PIPE,
                env=self.environment,
            )  # fmt: skip
        self.assertEqual(done.returncode, 1)
        self.assert_error(done.stderr.decode(), "standard output: cannot write", "No space left on device")
        self.replay(self.events)
        self.assert_numbered(read_output(self.path("out.jsonl")), self.log)

    def test_dead_letters_of_a_device_are_in_the_state_directory(self):
        self.replay(self.write("bad.jsonl", "{}\n"), output="/dev/null")
        self.assertEqual(len(read_output(self.path("state/dead-letters.jsonl"))), 1)
        self.assertFalse(os.path.exists("/dev/null.dead-letters.jsonl"))

    def test_a_full_disk_below_the_output(self):
        with self.mounted("small", "size=256k") as small:
            output = small / "out.jsonl"
            error = self.replay(self.events, output=output, expect=1, processing__commit_interval="1ms")
            self.assert_error(error, f"{output}: cannot write", "No space left on device")
            self.remount(small, "size=64m")
            self.replay(self.events, output=output)
            self.assert_numbered(read_output(output), self.log)

    def test_a_full_disk_below_the_state(self):
        log = self.log * 20
        self.events.write_bytes(as_lines(log))
        with self.mounted("small", "size=512k") as small:
            settings = {"state": small / "state", "processing__commit_interval": "1ms"}
            error = self.replay(self.events, expect=1, **settings)
            self.assert_error(error, small, "o space left")
            self.remount(small, "size=64m")
            self.replay(self.events, **settings)
            self.assert_numbered(read_output(self.path("out.jsonl")), log)
            digest = self.digest(small / "state")
        self.replay(self.events, output="expected.jsonl")
        self.assertEqual(digest, self.digest())

    def test_a_read_only_state_directory(self):
        with self.mounted("disk", "size=64m") as disk:
            self.remount(disk, "ro")
            error = self.replay(self.events, state=disk / "state", expect=1)
            self.assert_error(error, f"state.directory: {disk / 'state'}", "cannot create: Read-only file system")
            self.remount(disk, "rw")
            self.replay(self.events, state=disk / "state")
            self.remount(disk, "ro")
            error = self.replay(self.events, state=disk / "state", expect=1)
            self.assert_error(error, f"state.directory: {disk / 'state'}", "Read-only file system")
            settings = self.settings(disk / "state")
            self.assertEqual(json.loads(self.run_program("state", "verify", settings=settings).stdout)["events"], 2000)


class StateDirectoryTest(SetupTest):
    def test_in_use(self):
        pipe = self.path("pipe")
        os.mkfifo(pipe)
        words = ["replay", "--input", self.events, "--output", pipe]
        with subprocess.Popen(
            self.command(words, self.settings()), env=self.environment, stderr=subprocess.PIPE
        ) as other:
            with open(pipe, "rb") as reader:  # the other has its state open by now
                reader.readline()
                error = self.replay(self.events, expect=1)
                self.assert_error(error, f"state.directory: {self.path('state')}: in use by process {other.pid}")
                done = self.run_program("state", "stats", settings=self.settings(), expect=1)
                self.assert_error(done.stderr, f"in use by process {other.pid}")
                reader.read()
            other.stderr.read()
        self.assertEqual(other.returncode, 0)
        self.assertEqual(
            json.loads(self.run_program("state", "verify", settings=self.settings()).stdout)["events"], 2000
        )
        with open(self.path("state/LOCK")) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            error = self.replay(self.events, expect=1)
            self.assert_error(error, "in use by another process, which reads it")

    def test_of_another_format(self):
        self.replay(self.events)
        form = self.path("state/FORMAT")
        text = form.read_text()
        form.write_text(text.replace("freshet-state 2", "freshet-state 99"))
        error = self.replay(self.events, expect=2)
        self.assert_error(error, form, 'found format "freshet-state 99", this version reads "freshet-state 2"')
        form.write_text("something else\n")
        self.assert_error(
            self.replay(self.events, expect=1), form, 'line 1: "something else": expected "freshet-state 2"'
        )
        form.unlink()
        self.assert_error(self.replay(self.events, expect=1), form, "is missing, but partition-")
        form.write_text(text)
        self.assertIn("replayed 0 events", self.replay(self.events))

    def test_of_another_application(self):
        self.replay(self.events)
        error = self.replay(self.events, application="shop", expect=2)
        self.assert_error(error, 'holds the state of application "freshet", expected "shop"')

    def test_other_partitions_than_the_state_has(self):
        self.assertNotIn("state.partitions", self.replay(self.events))
        said = self.replay(self.events, state__partitions=2)
        self.assertIn("state.partitions: 2 is not used: the users in ", said)
        self.assertIn("are spread over 4 since it was made", said)

    def test_too_short_a_history(self):
        error = self.replay(self.events, state__history=3, expect=2)
        self.assert_error(error, "state.history: 3, expected auto or at least 15")

    def test_partitions_in_each_others_place(self):
        self.replay(self.events)
        digest = self.digest()
        first, second, aside = (self.path("state") / f"partition-{name}" for name in ("0", "1", "9"))
        first.rename(aside)
        second.rename(first)
        aside.rename(second)
        says = f"state.directory: {first}: holds partition 1 of application freshet, expected partition 0 of"
        self.assert_error(self.replay(self.events, expect=1), says)
        done = self.run_program("state", "verify", settings=self.settings(), expect=1)
        self.assert_error(done.stderr, says)
        first.rename(aside)
        second.rename(first)
        aside.rename(second)
        self.assertEqual(self.digest(), digest)
        shutil.copytree(first, aside)
        done = self.run_program("state", "verify", settings=self.settings(), expect=1)
        self.assert_error(done.stderr, f"{aside}: holds partition 0 of application freshet, expected partition 9 of")

    def test_a_missing_commit_log(self):
        self.replay(self.events)
        output, commits = self.path("out.jsonl"), self.path("state/commits.json")
        answers, kept = output.read_bytes(), commits.read_bytes()
        more = self.write("more.jsonl", as_lines(self.log[:100]))
        commits.unlink()
        for inputs in ([self.events], [more]):
            error = self.replay(*inputs, expect=1)
            self.assert_error(error, f"state.directory: {commits} is missing, but partition-0 is there")
        commits.write_text(json.dumps({**json.loads(kept), "outputs": {}}))
        self.assert_error(self.replay(self.events, more, expect=3), output, f"holds {len(answers)} bytes")
        self.assertEqual(output.read_bytes(), answers)
        commits.write_bytes(kept)
        self.replay(self.events, more)
        self.assertEqual(len(read_output(output)), len(self.log) + 100)

    def test_a_damaged_commit_log(self):
        self.replay(self.events)
        self.path("state/commits.json").write_text("{")
        self.assert_error(self.replay(self.events, expect=1), self.path("state/commits.json"), "not a commit log: parse error at")

    def test_nothing_there(self):
        for command in ("stats", "verify"):
            done = self.run_program("state", command, settings=self.settings("nowhere"), expect=1)
            self.assert_error(done.stderr, "state.directory: ", self.path("nowhere"))
        self.assertFalse(self.path("nowhere").exists(), "looking at a state makes none")


class ConfigurationTest(SetupTest):
    def test_every_error_at_once(self):
        self.write(
            "bad.yaml",
            "stat: {directory: x}\nstate: {hot_cache: 1GB}\nrecommend: {top_k: many}\nprocessing: {workers: [1]}\n"
            "source: {format: xml}\nlog: loud\nkafka: {properties: {no.such: 1}}\n",
        )
        self.environment["FRESHET_STATE__DIRECTRY"] = "x"
        expected = [
            "stat: unknown key, the nearest known one is state; from bad.yaml:1",
            'state.hot_cache: "1GB": expected a size such as 512MiB or 1GiB',
            'recommend.top_k: "many": expected a whole number from 1 to 10000; from bad.yaml:3',
            "processing.workers: a list: expected auto or a whole number from 1 to 1024; from bad.yaml:4",
            'source.format: "xml": expected json, csv, tsv or protobuf; from bad.yaml:5',
            'log: "loud": expected a map of settings; from bad.yaml:6',
            "state.directry: unknown key, the nearest known one is state.directory; from FRESHET_STATE__DIRECTRY",
            "kafka.properties.no.such: No such configuration property",
            'processing.emit: "sometimes": expected every or latest; from --set',
        ]
        for command in (["replay", "--input", self.events], ["run"], ["config", "check"], ["config", "print"],
                        ["export", "--input", self.events, "--output", "x"], ["state", "stats"],
                        ["evaluate", "--input", self.events]):  # fmt: skip
            done = self.run_program(*command, "-c", "bad.yaml", settings={"processing.emit": "sometimes"}, expect=2)
            lines = done.stderr.strip().splitlines()
            self.assertEqual(len(lines), len(expected), done.stderr)
            for text in expected:
                self.assertTrue(any(line.startswith(f"freshet: {text}") for line in lines), (text, done.stderr))
            self.assertEqual(done.stdout, "")

    def test_records_that_the_producer_would_not_take(self):
        long_ids = self.path("long-ids")
        write_model(long_ids, [f"{n:0>1000}" for n in range(1, 2001)])
        kafka = {"kafka.bootstrap_servers": "127.0.0.1:1"}
        run, replay = ["run"], ["replay", "--input", self.events, "--output", "kafka"]
        for command, settings, expected in (
            (run, {"model.directory": long_ids, "recommend.top_k": 1000}, "recommend.top_k: 1000 items of model long-ids"),
            (replay, {"model.directory": long_ids, "recommend.top_k": 1000}, "recommend.top_k: 1000 items of model"),
            (run, {"state.history": 100_000}, "state.history: 100000 events kept for a user make a snapshot record of up "
             "to 2,001,600 bytes, and the producer takes 999,488"),
        ):  # fmt: skip
            done = self.run_program(*command, settings={**self.settings(), **kafka, **settings}, expect=2)
            self.assert_error(done.stderr, expected, "kafka.properties.message.max.bytes")
            self.assertEqual(len(done.stderr.strip().splitlines()), 1)
            self.assertFalse(self.path("state").exists())
        # Files take any size.
        self.replay(self.events, model__directory=long_ids, recommend__top_k=1000)

    def test_files_that_are_no_configuration(self):
        for name, content, message in (
            ("list.yaml", "- a\n", "list.yaml: a list: expected a map of settings"),
            ("torn.yaml", "state: [a\n", "torn.yaml:2: not YAML: "),
        ):
            self.write(name, content)
            self.assert_error(self.run_program("config", "check", "-c", name, expect=2).stderr, message)
        done = self.run_program("config", "check", "-c", "missing.yaml", expect=2)
        self.assert_error(done.stderr, "missing.yaml: cannot be read: No such file or directory; from -c")

    def test_wrong_usage(self):
        for arguments in ([], ["replays"], ["replay"], ["replay", "--input", "x", "--emit", "often"], ["state", "get"],
                          ["model", "verify", "x", "--users", "0"], ["replay", "--input", "x", "--sett", "a=b"],
                          ["evaluate", "--input", "x", "--protocol", "guess"], ["generate"]):  # fmt: skip
            done = self.run_program(*arguments, expect=2)
            self.assert_error(done.stderr, "")
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        done = self.run_program("state", "get", expect=2)
        self.assert_error(done.stderr, "user is required; see freshet state get --help")

    def test_empty_paths(self):
        for command, flags in (
            (["replay", "--input", "x"], ["-c", "--config", "--snapshot", "--output", "--from", "--to"]),
            (["replay"], ["--input"]),
            (["run"], ["-c", "--snapshot"]),
            (["export", "--input", "x", "--output", "y"], ["--vocabulary"]),
            (["export", "--input", "x"], ["--output"]),
            (["export", "--output", "x"], ["--input"]),
            (["generate"], ["--output"]),
            (["evaluate", "--input", "x"], ["--json", "--compare", "--from"]),
            (["state", "snapshot"], ["--output"]),
        ):
            for flag in flags:
                done = self.run_program(*command, flag, "", expect=2)
                named = "--config" if flag == "-c" else flag
                self.assert_error(done.stderr, f"{named}: empty, expected a value")
        for command in ("inspect", "verify"):
            done = self.run_program("model", command, "", expect=2)
            self.assert_error(done.stderr, "directory: empty, expected a value")


class ModelDirectoryTest(SetupTest):
    def fails(self, code, *fragments):
        """Whoever loads the model says so, and leaves nothing behind."""
        model = self.path("model")
        for done in (
            self.run_program("model", "inspect", model, expect=code),
            self.run_program("model", "verify", model, expect=code),
            self.run_program("replay", "--input", self.events, settings=self.settings(), expect=code),
            self.run_program("evaluate", "--input", self.events, settings=self.settings(), expect=code),
        ):
            self.assert_error(done.stderr, model, *fragments)
            self.assertEqual(done.stdout, "")
        self.assertFalse(self.path("state").exists())

    def edit_config(self, **changes):
        path = self.path("model/config.json")
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    def test_no_directory(self):
        shutil.rmtree(self.path("model"))
        self.fails(2, "no such directory")

    def test_missing_files(self):
        for name in ("config.json", "model.safetensors", "items.tsv", "event_types.tsv"):
            path = self.path("model") / name
            content = path.read_bytes()
            path.unlink()
            self.fails(2, f"{name}: no such file")
            path.write_bytes(content)

    def test_duplicate_ids(self):
        write_rows(self.path("model/items.tsv"), ["[unknown]", *ITEMS[:-1], "i3"])
        self.fails(2, 'items row 30: duplicate id: "i3" and row 3 "i3"')

    def test_rows_out_of_order(self):
        self.write("model/event_types.tsv", "0\t[unknown]\n1\tview\n3\tcart\n2\tpurchase\n")
        self.fails(1, 'event_types.tsv: line 3: row "3", expected 2')

    def test_sizes_that_disagree(self):
        write_rows(self.path("model/items.tsv"), ["[unknown]", *ITEMS, "i31"])
        self.fails(2, "items.tsv: 32 rows, expected 31 by config.json")
        self.edit_config(items=32)
        self.fails(2, "item_embedding.weight is F32 [31, 16], expected F32 [32, 16] ([items, dim] by config.json)")
        write_rows(self.path("model/items.tsv"), ["[unknown]", *ITEMS])
        self.edit_config(items=31, layers=3)
        self.fails(2, "layers.2.uvqk.weight is missing, expected F32 [16, 64]")
        self.edit_config(layers=1)
        self.fails(2, "layers.1.", "is no tensor of a model with 1 layers")

    def test_a_configuration_that_is_wrong(self):
        for change, message in (
            ({"dim": "16"}, 'dim: "16", expected a whole number from 1 to 4096'),
            ({"dim": 16, "heads": 3}, "heads: 3, expected a divisor of dim 16"),
            ({"heads": 2, "widow": 8}, "widow: unknown key"),
        ):  # fmt: skip
            self.edit_config(**change)
            self.fails(2, "config.json: " + message)
        self.write("model/config.json", "{")
        self.fails(1, "config.json: not JSON")

    def test_truncated_weights(self):
        path = self.path("model/model.safetensors")
        data = path.read_bytes()
        for size in (0, 5, 100):
            path.write_bytes(data[:size])
            self.fails(1, "model.safetensors: ")
        path.write_bytes(data[:-1])
        self.fails(1, "model.safetensors: ", "reach beyond the file", "(truncated?)")
        path.write_bytes(data + b"\0")
        self.fails(1, "model.safetensors: 1 bytes after the last tensor belong to none")
        path.write_bytes(struct.pack("<Q", 1 << 60) + data[8:])
        self.fails(1, "model.safetensors: header of 1152921504606846976 bytes")

    def test_weights_that_are_no_numbers(self):
        path = self.path("model/model.safetensors")
        tensors = {name: (shape, values) for name, (_, shape, values) in read_safetensors(path).items()}
        for value, name in ((float("nan"), "NaN"), (float("-inf"), "infinite")):
            tensors["layers.1.bias_pos"][1][3] = value
            write_safetensors(path, tensors)
            self.fails(1, f"layers.1.bias_pos[3] is {name}; file model.safetensors")

    def test_weights_that_overflow(self):
        path = self.path("model/model.safetensors")
        whole = {name: (shape, values) for name, (_, shape, values) in read_safetensors(path).items()}
        for chosen, says in ((whole, "a user's vector is not finite"), (["item_embedding.weight"], "not finite")):
            tensors = {
                name: (shape, [3e38] * len(values) if name in chosen else values)
                for name, (shape, values) in whole.items()
            }
            write_safetensors(path, tensors)
            for words in (["model", "verify", self.path("model")], ["replay", "--input", self.events]):
                settings = {} if words[0] == "model" else self.settings()
                done = self.run_program(*words, settings=settings, expect=1)
                self.assert_error(done.stderr, f"model.directory: {self.path('model')}", says)

    def test_keys_beyond_what_fp16_holds(self):
        path = self.path("model/model.safetensors")
        tensors = {name: (shape, values) for name, (_, shape, values) in read_safetensors(path).items()}
        shape, values = tensors["layers.0.uvqk.weight"]
        tensors["layers.0.uvqk.weight"] = (shape, [1e6 * value for value in values])
        write_safetensors(path, tensors)
        says = "keys or values are beyond 65504, the largest number of a cache in fp16"
        done = self.run_program("replay", "--input", self.events, settings=self.settings(model__cache_precision="fp16"), expect=2)
        self.assert_error(done.stderr, f"model.directory: {self.path('model')}", says)
        self.assertIn(f"with a cache of fp16: {says}", self.run_program("model", "verify", self.path("model"), "--users", 3).stdout)
        for precision in ("fp32", "int8"):
            self.replay(self.events, output=f"{precision}.jsonl", state=precision, model__cache_precision=precision)

    def test_logs_with_nothing_to_evaluate(self):
        single = self.write("single.jsonl", as_lines([event("u1", "i1"), event("u2", "i2")]))
        done = self.run_program("evaluate", "--input", single, settings=self.settings(), expect=2)
        self.assert_error(done.stderr, "--input: no user has two events, which leave-one-out needs")

    def test_a_log_of_one_item(self):
        """Whoever had it has seen all that there is: nothing to recommend, and nothing to err about."""
        shutil.rmtree(self.path("model"))
        write_model(self.path("model"), ["i1"])
        log = [event(f"u{n % 5}", "i1", START_MS + n * 1000) for n in range(20)] + [event("once", "i1", START_MS)]
        events = self.write("one.jsonl", as_lines(log))
        self.run_program("export", "--input", events, "--output", self.path("export"))
        self.assertEqual(self.path("export/items.tsv").read_text(), "0\t[unknown]\n1\ti1\n")
        self.run_program("model", "quantize", "model", "--output", "small")
        for model in ("model", "small"):
            self.assertIn("ok", self.run_program("model", "verify", model, "--users", 3).stdout)
            settings = {"model__directory": self.path(model)}
            self.run_program("evaluate", "--input", events, "--json", "found.json", settings=self.settings(**settings))
            found = json.loads(self.path("found.json").read_text())
            self.assertEqual((found["protocol"]["users"], found["protocol"]["seen_targets"]), (5, 5))  # not who came once
            self.assertEqual((found["model"]["hr@10"], found["model"]["ndcg@10"]), (0, 0))
            self.replay(events, output=f"{model}.jsonl", state=f"{model}-state", **settings)
            records = read_output(self.path(f"{model}.jsonl"))
            self.assert_numbered(records, log)
            self.assertTrue(all(record["items"] == [] for record in records))


if __name__ == "__main__":
    main()
