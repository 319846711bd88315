"""freshet replay, interrupted: the output is that of a run that nothing happened to."""

import random
import signal
import subprocess
import time

from support import SEED, TIMEOUT_S, CommandTest, as_lines, main, parse_lines, random_log, read_output, write_model

ITEMS = 200
EVENTS = 8_000
KILLS = 12  # at most


class RestartTest(CommandTest):
    def setUp(self):
        super().setUp()
        self.numbers = random.Random(SEED)
        write_model(self.path("model"), [f"i{n}" for n in range(1, ITEMS + 1)], layers=4, dim=64, window=50)
        self.log = random_log(self.numbers, users=150, items=ITEMS, events=EVENTS)
        lines = as_lines(self.log).splitlines(keepends=True)
        for at in range(1000, len(lines), 1000):
            lines[at : at + 1] = [b"not an event\n", lines[at]]
        self.bad = len(lines) - EVENTS
        half = len(lines) // 2
        self.inputs = [self.write("1.jsonl", b"".join(lines[:half])), self.write("2.jsonl", b"".join(lines[half:]))]

    def uninterrupted(self, **settings):
        self.replay(*self.inputs, output="expected.jsonl", state="expected", **settings)
        return read_output(self.path("expected.jsonl"))

    def assert_whole(self, output, state="state"):
        """`output` holds all that an uninterrupted run writes, once, and the state is the same."""
        records = read_output(self.path(output))
        self.assert_numbered(records, self.log)
        self.assert_same_answers(records, read_output(self.path("expected.jsonl")))
        letters, expected = self.dead_letters(output), self.dead_letters("expected.jsonl")
        self.assertEqual(len(letters), self.bad)
        self.assertEqual(letters, expected)
        self.assertEqual(self.digest(state), self.digest("expected"))

    def run_and_kill(self, command, output, whole_bytes):
        """Kills the program while it starts, or once it has written a random part more. True: it ended before."""
        size = output.stat().st_size if output.exists() else 0
        starting = self.numbers.random() < 0.2
        target = size + self.numbers.uniform(0, 0.3) * whole_bytes
        deadline = time.monotonic() + (self.numbers.uniform(0, 0.2) if starting else TIMEOUT_S)
        with subprocess.Popen(command, stderr=subprocess.PIPE, env=self.environment) as process:
            while process.poll() is None and time.monotonic() < deadline:
                if not starting and output.exists() and output.stat().st_size > target:
                    break
                time.sleep(0.001)
            process.kill()
            error = process.stderr.read().decode()
        self.assertIn(process.returncode, (0, -signal.SIGKILL), error)
        return process.returncode == 0

    def kill_until_done(self, name, **settings):
        settings = {"processing__commit_interval": "2ms", "processing__max_batch": 16, **settings}
        self.replay(*self.inputs, output="whole-" + name, state="whole", **settings)
        whole_bytes = self.path("whole-" + name).stat().st_size
        output = self.path(name)
        command = self.command(["replay", "--input", *self.inputs, "--output", output], self.settings(**settings))
        kills = 0
        while kills < KILLS and not self.run_and_kill(command, output, whole_bytes):
            kills += 1
        last = self.replay(*self.inputs, output=name, **settings)
        self.assertGreater(kills, 0)
        print(f"{kills} kills;", last.strip().splitlines()[-1], flush=True)

    def test_kill_at_any_moment(self):
        self.uninterrupted()
        self.kill_until_done("out.jsonl")
        self.assert_whole("out.jsonl")

    def test_kill_with_several_workers_and_a_compressed_output(self):
        self.uninterrupted()
        self.kill_until_done("out.jsonl.gz", processing__workers=3, state__hot_cache="8MiB")
        self.assert_whole("out.jsonl.gz")

    def test_sigterm_in_the_middle(self):
        self.uninterrupted()
        # Standard output is a pipe that nobody reads on, too small for a batch: the run cannot end before the signal.
        command = self.command(["replay", "--input", *self.inputs], self.settings(processing__commit_interval="1ms"))
        parts, codes = [], []
        for number in (signal.SIGTERM, signal.SIGINT):
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  env=self.environment) as process:  # fmt: skip
                first = process.stdout.readline()
                process.send_signal(number)
                parts.append(first + process.stdout.read())
                error = process.stderr.read().decode()
            codes.append(process.returncode)
            self.assert_error(error, "interrupted; everything so far is committed, the same command goes on from there")
        self.assertEqual(codes, [1, 1])
        done = self.run_program("replay", "--input", *self.inputs, settings=self.settings(), text=False)
        parts.append(done.stdout)
        self.assertTrue(all(parts), "each run has its share")
        records = parse_lines(b"".join(parts))
        self.assert_numbered(records, self.log)
        self.assert_same_answers(records, read_output(self.path("expected.jsonl")))
        self.assertEqual(self.digest(), self.digest("expected"))
        self.assertEqual(len(read_output(self.path("state/dead-letters.jsonl"))), self.bad)

    def test_sighup_ends_it_as_ever(self):
        """Only `freshet run` makes something else of it."""
        command = self.command(["replay", "--input", *self.inputs], self.settings(processing__commit_interval="1ms"))
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment) as process:
            process.stdout.readline()
            process.send_signal(signal.SIGHUP)
            process.communicate()
        self.assertEqual(process.returncode, -signal.SIGHUP)

    def test_sigterm_in_the_last_commit_interrupts_nothing(self):
        events = self.write("events.jsonl", as_lines(self.log[:200]))
        # One batch, and its answers do not fit in the pipe: once their first line is here, the last commit runs.
        command = self.command(["replay", "--input", events], self.settings(recommend__top_k=100))
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment) as process:
            first = process.stdout.readline()
            process.terminate()
            records = parse_lines(first + process.stdout.read())
            log = process.stderr.read().decode()
        self.assertEqual(process.returncode, 0, log)
        self.assert_numbered(records, self.log[:200])
        self.assertIn("replayed 200 events: 200 recommendations", log)
        self.assertNotIn("interrupted", log)

    def test_a_finished_input_is_finished(self):
        self.uninterrupted()
        before = [self.path(name).read_bytes() for name in ("expected.jsonl", "expected.jsonl.dead-letters.jsonl")]
        log = self.replay(*self.inputs, output="expected.jsonl", state="expected", processing__workers=2)
        self.assertIn("replayed 0 events: 0 recommendations, 0 dead letters", log)
        after = [self.path(name).read_bytes() for name in ("expected.jsonl", "expected.jsonl.dead-letters.jsonl")]
        self.assertEqual(before, after)

    def test_batches_and_workers_change_nothing(self):
        self.uninterrupted(processing__max_batch=256, processing__workers=1)
        ways = [
            {"processing__max_batch": 1},
            {"processing__max_batch": 256, "processing__workers": 4},
            {"processing__max_batch": 7, "processing__workers": 2, "state__hot_cache": "4MiB"},
        ]
        for number, way in enumerate(ways):
            self.replay(*self.inputs, output=f"out-{number}.jsonl", state=f"state-{number}", **way)
            self.assert_whole(f"out-{number}.jsonl", f"state-{number}")

    def test_what_needs_a_decision(self):
        first = self.inputs[0]
        self.replay(first)
        whole = first.read_bytes()
        first.write_bytes(whole + whole[:100])
        self.assert_error(self.replay(first, expect=3), first, "changed since it was first read", f"{len(whole)} bytes")
        first.write_bytes(whole.replace(b'"u', b'"U', 1))
        self.assert_error(self.replay(first, expect=3), first, "another beginning")
        first.write_bytes(whole)
        output = self.path("out.jsonl")
        size = output.stat().st_size
        output.write_bytes(output.read_bytes()[:-1])
        self.assert_error(self.replay(first, expect=3), output, f"has {size - 1} bytes", f"{size} were committed")

    def test_an_input_read_in_part_must_be_named_again(self):
        first, second = self.inputs
        command = self.command(["replay", "--input", first], self.settings(processing__commit_interval="1ms"))
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=self.environment) as process:  # fmt: skip
            process.stdout.readline()
            process.terminate()
            process.stdout.read()
        self.assertEqual(process.returncode, 1)
        self.assert_error(self.replay(second, expect=3), first, "read only in part", "state.directory")

    def test_another_model_goes_on_with_the_same_state(self):
        first, second = self.inputs
        self.replay(first)
        write_model(
            self.path("new"), [f"i{n}" for n in range(ITEMS, 40, -1)], layers=4, dim=64, window=50, seed=SEED + 1
        )
        new = {"model__directory": self.path("new")}
        self.replay(first, second, **new)
        self.replay(first, second, output="expected.jsonl", state="expected", **new)
        self.assertEqual(self.digest(), self.digest("expected"))
        self.assertEqual(self.digest(model__directory="none"), self.digest(), "looking at the state takes no model")
        records, expected = read_output(self.path("out.jsonl")), read_output(self.path("expected.jsonl"))
        self.assert_numbered(records, self.log)
        versions = [record["model"]["version"] for record in records]
        self.assertEqual(len(set(versions)), 2)
        later = {(record["user_id"], record["sequence_number"]) for record in records
                 if record["model"]["version"] == versions[-1]}  # fmt: skip
        self.assert_same_answers(
            [record for record in records if record["model"]["version"] == versions[-1]],
            [record for record in expected if (record["user_id"], record["sequence_number"]) in later],
        )


if __name__ == "__main__":
    main()
