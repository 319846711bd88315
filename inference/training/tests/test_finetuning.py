"""Fine-tuning: rows that stay, rows that are new, what is forgotten and what is kept."""

import json
import unittest
from pathlib import Path

import numpy as np
import torch

from freshet_training import model_directory, sequences, vocabulary
from freshet_training.evaluation import user_vectors
from freshet_training.finetuning import draw, grow
from freshet_training.vocabulary import Vocabulary
from tests.command_line import ITEMS, CommandLine, forget_digests, write_export, write_vocabulary
from tests.support import columns, random_history, random_model

TRICKY = ["é", "e\u0301", "a\u2028b", '"i1"', " i1", "[unknown ]", "0", "i1\x85", "\U0001f600", "i1,i2"]


class Growing(unittest.TestCase):
    def test_what_it_says_of_known_items_stays(self) -> None:
        model = random_model(1).float()
        names = Vocabulary([f"i{row}" for row in range(37)], [f"t{row}" for row in range(5)])
        larger = grow(model, names, [], seed=1)
        self.assertEqual((larger.config.items, larger.config.event_types), (37, 5))
        history = columns(random_history(np.random.default_rng(1), 20))
        with torch.no_grad():
            self.assertTrue(torch.equal(larger(*history), model(*history)))
            self.assertTrue(torch.equal(larger.candidates()[:30], model.candidates()))
        new = larger.item_embedding.weight[30:]
        self.assertLess(new.abs().max(), 0.1)
        self.assertEqual(len(torch.unique(new, dim=0)), 7)
        self.assertTrue(torch.equal(grow(model, names, [], seed=1).item_embedding.weight, larger.item_embedding.weight))

    def test_new_items_begin_among_those_that_users_like_least(self) -> None:
        for similarity in ("cosine", "dot"):
            random = np.random.default_rng(4)
            model = random_model(4, items=200, similarity=similarity).float()
            with torch.no_grad():  # what all users have in common
                model.item_embedding.weight[:100] += 0.3
            histories = [random_history(random, 20, items=100) for _ in range(40)]
            names = Vocabulary([f"i{row}" for row in range(220)], [f"t{row}" for row in range(3)])
            larger = grow(model, names, histories, seed=1)
            with torch.no_grad():
                scores = (user_vectors(larger, histories) @ larger.candidates().T).mean(dim=0)
            self.assertLess(scores[200:].max(), scores[1:200].quantile(0.3), similarity)

    def test_a_model_that_knows_nothing_grows(self) -> None:
        model = random_model(2, items=1, event_types=1).float()
        larger = grow(model, Vocabulary(["[unknown]", "a"], ["[unknown]", "view"]), [], seed=1)
        self.assertTrue(torch.isfinite(larger.item_embedding.weight).all())

    def test_draws_a_share(self) -> None:
        histories = [random_history(np.random.default_rng(3), 3) for _ in range(10)]
        self.assertEqual(len(draw(histories, 0.3, seed=1)), 3)
        self.assertEqual(draw(histories, 1, seed=1), histories)
        for share in (0, -0.1, 1.1, float("nan")):
            with self.assertRaisesRegex(ValueError, "more than 0 and at most 1"):
                draw(histories, share, seed=1)


class Finetuning(CommandLine):
    """Yesterday items came around in steps of 3; today a catalogue of half known, half new items does in steps of 7."""

    def setUp(self) -> None:
        super().setUp()
        self.today = self.directory / "today"
        write_export(self.today, step=7)
        self.names = [f"i{row}" for row in range(ITEMS, ITEMS // 2, -1)] + TRICKY
        write_vocabulary(self.today / "items.tsv", self.names)
        write_vocabulary(self.today / "event_types.tsv", ["buy", "view"])
        self.old = self.train("old")

    def finetune(self, name: str, *arguments: str) -> tuple[Path, str]:
        output = self.directory / name
        flags = ["--from", str(self.old), "--output", str(output), "--batch-users", "8", "--lr", ".02", *arguments]
        code, printed, errors = self.run_command("finetune", *flags, data=self.today)
        self.assertEqual(code, 0, errors)
        return output, printed

    def lines(self, model: Path, name: str) -> list[bytes]:
        return (model / name).read_bytes().split(b"\n")

    def test_rows_are_appended_and_learnt(self) -> None:
        model, _ = self.finetune("new", "--epochs", "12")
        for name in vocabulary.FILES:
            old, new = self.lines(self.old, name)[:-1], self.lines(model, name)[:-1]
            self.assertEqual(new[: len(old)], old)
        self.assertEqual(vocabulary.read(model / "items.tsv")[ITEMS + 1 :], TRICKY)
        self.assertEqual(vocabulary.read(model / "event_types.tsv"), ["[unknown]", "view", "buy"])
        loaded = model_directory.load(model)
        data = sequences.load(self.today).translated(model_directory.load_vocabulary(model, loaded.config))
        names = np.array(data.vocabulary.items)[data.events.items[:12]]
        self.assertEqual(names.tolist(), [self.names[(self.names.index(names[0]) + 7 * n) % ITEMS] for n in range(12)])
        self.assertEqual(data.vocabulary.event_types[data.events.types[0]], "buy")
        accuracy = json.loads(self.run_command("evaluate", "--model", str(model), data=self.today)[1])
        self.assertGreater(accuracy["ndcg"], 0.95)

    def forgotten(self, name: str, *arguments: str) -> tuple[float, float]:
        """NDCG@10 on yesterday's export, before and after."""
        metrics = self.directory / f"{name}.jsonl"
        flags = ["--forgetting", str(self.directory), "--metrics", str(metrics), "--epochs", "8", *arguments]
        _, printed = self.finetune(name, *flags)
        record = json.loads(metrics.read_text("utf-8").splitlines()[-1])
        self.assertIn(f"{self.directory}: test HR@10 {record['before']['hr']:.4f} NDCG@10", printed)
        self.assertEqual(record["before"]["users"], 60)
        return record["before"]["ndcg"], record["after"]["ndcg"]

    def test_forgetting_is_reported_and_replay_prevents_it(self) -> None:
        before, after = self.forgotten("forgetful")
        self.assertGreater(before, 0.95)
        self.assertLess(after, 0.8)
        same, kept = self.forgotten("keeping", "--keep", f"{self.directory}:0.5")
        self.assertEqual(same, before)
        self.assertGreater(kept, after + 0.1)

    def test_what_only_makes_it_worse_is_not_kept(self) -> None:
        model, printed = self.finetune("same", "--lr", "0", "--epochs", "1")
        self.assertRegex(printed, r"^before     valid HR@10 [\d.]+ NDCG@10 [\d.]+\n")
        self.assertIn("chosen: epoch 0, test", printed)
        rows = model_directory.load(model).item_embedding.weight[: ITEMS + 1]
        self.assertTrue(torch.equal(rows, model_directory.load(self.old).item_embedding.weight))

    def test_today_may_be_of_other_users_and_fewer_items(self) -> None:
        write_vocabulary(self.today / "items.tsv", [f"i{row}" for row in range(ITEMS, 0, -1)])
        model, _ = self.finetune("new", "--hold-out", "0", "--epochs", "1")
        self.assertEqual(self.lines(model, "items.tsv"), self.lines(self.old, "items.tsv"))

    def test_goes_on_from_its_checkpoint_with_the_same_model_only(self) -> None:
        flags = ["--epochs", "2", "--hold-out", "0"]
        whole = self.weights(self.finetune("whole", *flags)[0])
        model, _ = self.finetune("again", *flags, "--checkpoint-minutes", "0")
        self.assertEqual(self.weights(model), whole)
        self.old = self.train("other", "--epochs", "1")
        line = ["--from", str(self.old), "--output", str(model), "--batch-users", "8", "--lr", ".02", *flags]
        code, _, errors = self.run_command("finetune", *line, "--resume", data=self.today)
        self.assertEqual(code, 1)
        self.assertIn("the checkpoint is of another run: its start is", errors)

    def test_bad_input_is_refused(self) -> None:
        flags = ["--from", str(self.old)]
        for arguments, message in (
            (["--dim", "32"], f"{self.old}: its dim is 16, expected 32"),
            (["--block", "transformer"], "its block is hstu, expected transformer"),
            (["--no-time-bias"], "its time_bias is True, expected False"),
            (["--keep", f"{self.directory / 'none'}:1"], "none"),
            (["--forgetting", str(self.directory / "none")], "none"),
        ):
            self.assertIn(message, self.refused("finetune", *flags, *arguments, data=self.today))
        for keep in (str(self.directory), f"{self.directory}:2", f"{self.directory}:x"):
            errors = self.refused("finetune", *flags, "--keep", keep, data=self.today, status=2)
            self.assertIn(f"--keep: {keep}: expected EXPORT:SHARE, a directory and a number above 0 to 1", errors)
        self.assertIn("config.json", self.refused("finetune", "--from", str(self.today), data=self.today))
        forget_digests(self.old)
        write_vocabulary(self.old / "items.tsv", ["i1"])
        self.assertIn("items.tsv: 2 rows, expected 21", self.refused("finetune", *flags, data=self.today))


if __name__ == "__main__":
    unittest.main()
