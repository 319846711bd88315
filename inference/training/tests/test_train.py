"""The trainer end to end, through its command line, on a pattern that it must find."""

import dataclasses
import itertools
import json
import unittest
from pathlib import Path
from unittest import mock

import numpy as np

from freshet_training import augmentation, model_directory, report, safetensors
from freshet_training import train as train_module
from freshet_training.augmentation import PARAMETERS
from freshet_training.checkpoint import Checkpoint
from freshet_training.sequences import History
from tests.command_line import CommandLine, Killed, run


class Training(CommandLine):
    def test_finds_the_pattern_and_reports(self) -> None:
        metrics = self.directory / "metrics.jsonl"
        model = self.train("model", "--metrics", str(metrics))
        code, printed, _ = self.run_command("evaluate", "--model", str(model))
        accuracy = json.loads(printed)
        self.assertEqual((code, accuracy["users"]), (0, 60))
        self.assertGreater(accuracy["ndcg"], 0.95)
        lines = [json.loads(line) for line in metrics.read_text("utf-8").splitlines()]
        self.assertEqual(len(lines), 13)
        self.assertLess(lines[11]["loss"], lines[0]["loss"])
        best = max(lines[:12], key=lambda line: line["valid"]["ndcg"])
        self.assertEqual((lines[12]["chosen_epoch"], lines[12]["test"]), (best["epoch"], accuracy))

    def test_same_seed_same_model(self) -> None:
        first, again, other = (
            (self.train(name, "--seed", seed, "--epochs", "2") / "model.safetensors").read_bytes()
            for name, seed in (("a", "4"), ("b", "4"), ("c", "5"))
        )
        self.assertEqual(first, again)
        self.assertNotEqual(first, other)

    def test_id_dropout_gives_row_0_a_meaning(self) -> None:
        for name, rate, trained in (("without", "0", False), ("with", "0.1", True)):
            model = model_directory.load(self.train(name, "--id-dropout", rate, "--epochs", "1"))
            self.assertEqual(bool(model.item_embedding.weight[0].any()), trained)

    def test_a_killed_run_goes_on_as_if_nothing_had_happened(self) -> None:
        recipe = ["--epochs", "3", "--loss", "sampled", "--augment", "crop=0.5", "--augment", "mask=0.5:0.3"]
        recipe += ["--item-codes", "4", "--codes-from", str(self.train("coarse", "--epochs", "1"))]
        whole = self.weights(self.train("whole", *recipe))
        step, steps = train_module.Run._step, itertools.count(1)

        def killed_in_the_second_epoch(run: train_module.Run, batch: list) -> None:
            if next(steps) == 12:  # of 8 an epoch
                raise Killed
            step(run, batch)

        flags = [*recipe, "--checkpoint-minutes", "0", "--resume"]
        with (
            mock.patch.object(train_module.Run, "_step", killed_in_the_second_epoch),
            self.assertRaises(Killed),
        ):
            self.train("killed", *flags)
        self.assertNotEqual(self.weights(self.directory / "killed"), whole)
        with mock.patch.object(train_module.Run, "_step", lambda run, batch: (next(steps), step(run, batch))):
            self.assertEqual(self.weights(self.train("killed", *flags)), whole)
        self.assertEqual(next(steps) - 1, 12 + 24 - 11)

    def test_each_augmentation_trains(self) -> None:
        plain = self.weights(self.train("plain", "--epochs", "1"))
        for name in PARAMETERS:
            texts = [f"{name}=0.5" if name != "windows" else "windows=0.5:6"]
            one, again = (
                self.weights(self.train(f"{name}{run}", "--epochs", "1", "--augment", *texts)) for run in "ab"
            )
            self.assertTrue(one == again, name)
            self.assertFalse(one == plain, name)
        code, _, errors = self.run_command("train", "--output", str(self.directory / "x"), "--augment", "crop=x")
        self.assertEqual(code, 2)
        self.assertIn("--augment: crop=x: expected crop=PROBABILITY[:SHARE]", errors)

    def test_held_out_events_teach_no_augmentation(self) -> None:
        seen: list[int] = []
        learn = augmentation.neighbours

        def neighbours(histories: list[History], items: int) -> np.ndarray:
            seen.extend(len(history) for history in histories)
            return learn(histories, items)

        with mock.patch.object(augmentation, "neighbours", neighbours):
            self.train("model", "--epochs", "1", "--augment", "insert=1")
        self.assertEqual(seen, [10] * 60)  # of 12 events

    def test_a_checkpoint_is_of_one_run_only(self) -> None:
        self.train("model", "--epochs", "1")
        code, _, errors = self.run_command("train", "--output", str(self.directory / "model"), "--resume")
        self.assertEqual(code, 1)
        self.assertIn("the checkpoint is of another run: its config.dim is 16, expected 64", errors)
        (self.directory / "model.checkpoint").write_bytes(b"nothing")
        for flags in (["--resume"], []):  # neither read nor written over
            code, _, errors = self.run_command("train", "--output", str(self.directory / "model"), *flags)
            self.assertEqual(code, 2)
            self.assertIn("model.checkpoint: is there and is not a checkpoint", errors)
        self.assertEqual((self.directory / "model.checkpoint").read_bytes(), b"nothing")

    def test_a_checkpoint_may_be_older_than_an_option_that_is_not_used(self) -> None:
        self.train("model", "--epochs", "1")
        checkpoint = Checkpoint.load(self.directory / "model.checkpoint")
        older = {name: value for name, value in checkpoint.purpose.items() if name != "distillation"}
        path = self.directory / "model.checkpoint"
        dataclasses.replace(checkpoint, purpose=older).check_purpose(checkpoint.purpose, path)
        with self.assertRaisesRegex(ValueError, "model.checkpoint: .* its users is None, expected 61"):
            checkpoint.check_purpose({**older, "users": 61}, path)

    def test_a_loss_that_is_no_number_ends_the_run_and_spoils_nothing(self) -> None:
        model = self.train("model", "--epochs", "2")
        before = self.weights(model), (self.directory / "model.checkpoint").read_bytes()
        shape = ["--dim", "16", "--window", "6", "--lr", "1e30", "--batch-users", "8"]
        code, _, errors = self.run_command("train", "--output", str(model), *shape)
        self.assertEqual(code, 1)
        self.assertRegex(errors, r"epoch 1, batch \d: the loss is (nan|inf)\. Try a lower --lr")
        self.assertEqual((self.weights(model), (self.directory / "model.checkpoint").read_bytes()), before)

    def test_a_full_disk_leaves_the_old_model(self) -> None:
        model = self.train("model", "--epochs", "1")
        before = {path.name: path.read_bytes() for path in model.iterdir()}

        def full(path: Path, *_: object) -> None:
            path.write_bytes(b"half of")
            raise OSError(28, "No space left on device", str(path))

        with mock.patch.object(safetensors, "save", full):
            code, _, errors = self.run_command("train", "--output", str(model), "--dim", "16", "--epochs", "1")
        self.assertEqual(code, 1)
        self.assertIn("No space left on device", errors)
        self.assertEqual({path.name: path.read_bytes() for path in model.iterdir()}, before)

    def test_patience(self) -> None:
        metrics = self.directory / "metrics.jsonl"
        self.train("model", "--lr", "0", "--epochs", "9", "--patience", "2", "--metrics", str(metrics))
        self.assertEqual(len(metrics.read_text("utf-8").splitlines()), 1 + 2 + 1)

    def test_weights_of_event_types_by_name(self) -> None:
        plain, heavy = (
            self.weights(self.train(name, "--epochs", "1", *flags))
            for name, flags in (("plain", []), ("heavy", ["--type-weight", "view=3"]))
        )
        self.assertEqual(plain, heavy)  # all of one type: a mean is a mean
        code, _, errors = self.run_command("train", "--output", str(self.directory / "x"), "--type-weight", "buy=3")
        self.assertEqual(code, 1)
        self.assertIn("--type-weight buy=3: expected one of the types view", errors)

    def test_learning_curves(self) -> None:
        metrics, picture = self.directory / "metrics.jsonl", self.directory / "curves.png"
        self.train("model", "--epochs", "2", "--metrics", str(metrics))
        self.assertEqual(run("report", "--metrics", str(metrics), "--output", str(picture))[0], 0)
        self.assertEqual(picture.read_bytes()[:8], b"\x89PNG\r\n\x1a\n")
        self.assertEqual(list(report.read_epochs(metrics)), [1, 2])
        metrics.write_text("no record\n", "utf-8")
        with self.assertRaisesRegex(ValueError, "metrics.jsonl:1: expected a JSON object"):
            report.read_epochs(metrics)

    def test_reports_take_what_finetune_writes(self) -> None:
        metrics, picture = self.directory / "metrics.jsonl", self.directory / "curves.png"
        self.train("model", "--epochs", "1")
        output = ["--output", str(self.directory / "tuned"), "--epochs", "1", "--metrics", str(metrics)]
        code, _, errors = self.run_command("finetune", "--from", str(self.directory / "model"), *output)
        self.assertEqual(code, 0, errors)
        self.assertEqual(list(report.read_epochs(metrics)), [0, 1])
        self.assertEqual(run("report", "--metrics", str(metrics), "--output", str(picture))[0], 0)
        code, printed, _ = run("report", "--recipes", str(metrics))
        self.assertEqual((code, len(printed.splitlines())), (0, 2))

    def test_a_table_of_recipes(self) -> None:
        files = []
        for name, flags in (("plain", []), ("crop", ["--augment", "crop=1"])):
            for seed in ("1", "2"):
                files.append(str(self.directory / f"{name}-{seed}.jsonl"))
                self.train(name, "--epochs", "2", "--seed", seed, "--metrics", files[-1], *flags)
        unfinished = self.directory / "mask-1.jsonl"
        unfinished.write_text('{"epoch": 1, "train_seconds": 1.0}\n', "utf-8")
        code, printed, _ = run("report", "--recipes", *files, str(unfinished))
        self.assertEqual(code, 0)
        lines = printed.splitlines()
        self.assertEqual([line.split()[:2] for line in lines[1:3]], [["plain", "2"], ["crop", "2"]])
        tests = [json.loads(Path(file).read_text("utf-8").splitlines()[-1])["test"]["ndcg"] for file in files]
        self.assertIn(f"{(tests[0] + tests[1]) / 2:.4f} ± {abs(tests[0] - tests[1]) / 2:.4f}", lines[1])
        self.assertIn(f"{50 * (tests[2] / tests[0] + tests[3] / tests[1]) - 100:+.1f} ± ", lines[2])
        self.assertEqual(lines[3:], [f"{unfinished}: no test accuracy"])

    def test_a_picture_of_an_evaluation(self) -> None:
        figures = {"hr@10": 0.3, "ndcg@10": 0.2, "intervals": {"hr@10": [0.29, 0.31], "ndcg@10": [0.19, 0.21]}}
        difference = {"difference": 0.0123, "interval": [0.0045, 0.0201], "relative": 0.041, "p": 0.002}
        hours = [
            {
                "begin": f"2026-10-10T0{hour}:00:00Z",
                "n": 5,
                **{who: {"hr@10": 0.3, "ndcg@10": 0.2} for who in ("model", "compared", "popularity")},
            }
            for hour in range(3)
        ]
        evaluation = {
            "protocol": {"name": "prequential", "cases": 1000, "exclude_seen": True},
            "model": {"name": "shop", **figures},
            "baselines": {"popularity": figures},
            "compare": {
                "model": {"name": "new", **figures},
                "differences": {"hr@10": difference, "ndcg@10": difference},
            },
            "curves": {"day": [], "hour": hours},
        }
        path, picture = self.directory / "evaluation.json", self.directory / "evaluation.png"
        for changes in ({}, {"curves": {}}):
            path.write_text(json.dumps({**evaluation, **changes}), "utf-8")
            report.draw_evaluation(path, picture)
            self.assertEqual(picture.read_bytes()[:8], b"\x89PNG\r\n\x1a\n")
        words = self.drawn(path)
        for expected in (
            "shop",
            "new (compared)",
            "0.3000",
            "new − shop",
            "HR@10: +0.0123 (+4.1%)\n[+0.0045, +0.0201]\np = 0.0020",
        ):
            self.assertIn(expected, words)
        path.write_text(json.dumps({**evaluation, "compare": None}), "utf-8")
        self.assertFalse([word for word in self.drawn(path) if "new" in word])
        path.write_text("{}", "utf-8")
        with self.assertRaisesRegex(ValueError, "evaluation.json: expected what `freshet evaluate --json` writes"):
            report.draw_evaluation(path, picture)

    def drawn(self, evaluation: Path) -> list[str]:
        """The words of the picture."""
        figures = []
        with mock.patch.object(report, "_save", lambda figure, _: figures.append(figure)):
            report.draw_evaluation(evaluation, self.directory / "evaluation.png")
        return [text.get_text() for text in figures[0].findobj(lambda artist: hasattr(artist, "get_text"))]

    def test_hours_are_drawn_where_they_hold_enough_events(self) -> None:
        hours, days = [{"n": 100}] * 48, [{"n": 2400}] * 3
        self.assertEqual(report._curve({"hour": hours, "day": days}), ("hour", hours))
        for curves in ({"hour": [{"n": 99}] * 48, "day": days}, {"hour": hours * 3, "day": days}):
            self.assertEqual(report._curve(curves), ("day", days))
        self.assertEqual(report._curve({"hour": [{"n": 1}], "day": [{"n": 1}]})[0], "hour")
        self.assertEqual(report._curve({})[1], [])

    def test_all_events_without_hold_out(self) -> None:
        metrics = self.directory / "metrics.jsonl"
        self.train("model", "--hold-out", "0", "--epochs", "2", "--metrics", str(metrics))
        lines = [json.loads(line) for line in metrics.read_text("utf-8").splitlines()]
        self.assertEqual([line.get("best_epoch") for line in lines], [1, 2, None])
        self.assertNotIn("test", lines[2])

    def test_some_users_judge_the_epochs_and_all_the_test(self) -> None:
        metrics = self.directory / "metrics.jsonl"
        self.train("model", "--valid-users", "7", "--epochs", "1", "--metrics", str(metrics))
        epoch, summary = (json.loads(line) for line in metrics.read_text("utf-8").splitlines())
        self.assertEqual((epoch["valid"]["users"], summary["test"]["users"]), (7, 60))

    def test_errors_name_the_file(self) -> None:
        (self.directory / "items.tsv").unlink()
        code, _, errors = self.run_command("train", "--output", str(self.directory / "model"))
        self.assertEqual(code, 1)
        self.assertIn("items.tsv", errors)


if __name__ == "__main__":
    unittest.main()
