"""The ONNX graph through ONNX Runtime gives the numbers of PyTorch."""

import importlib.util
import tempfile
import unittest
from pathlib import Path

import numpy as np
import torch

from freshet_training import model_directory, onnx
from freshet_training.model import SequenceModel
from freshet_training.time_bucket import THRESHOLDS
from freshet_training.vocabulary import Vocabulary
from tests.command_line import run
from tests.support import columns, random_history, random_model

KINDS = (
    {},
    {"similarity": "dot", "time_bias": False},
    {"block": "transformer", "layers": 1},
    {"block": "transformer", "attention": "additive", "similarity": "dot"},
)
RUNTIME = importlib.util.find_spec("onnxruntime") is not None and importlib.util.find_spec("onnx") is not None


class Onnx(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name) / "made" / "model.onnx"

    def test_export_of_a_model_directory(self) -> None:
        model = random_model(1).float()
        names = Vocabulary([f"i{row}" for row in range(30)], ["[unknown]", "view", "buy"])
        source = self.path.parent / "model"
        model_directory.save(model, names, source)
        code, _, errors = run("export-onnx", "--model", str(source), "--output", str(self.path))
        self.assertEqual(code, 0, errors)
        whole = sum(weight.numel() * 4 for weight in model.state_dict().values())
        self.assertGreater(self.path.stat().st_size, whole)
        code, _, errors = run("export-onnx", "--model", str(self.path.parent), "--output", str(self.path))
        self.assertEqual(code, 1)
        self.assertIn("config.json", errors)

    @unittest.skipUnless(RUNTIME, "needs onnxruntime and onnx: pip install onnx onnxruntime")
    def test_the_runtime_gives_the_same_numbers(self) -> None:
        for seed, kind in enumerate(KINDS):
            model = random_model(seed, **kind).float()
            session = self.session(model)
            for events in (1, 2, 5, 9, 60):  # one, two, the window, all that counts, more
                history = columns(random_history(np.random.default_rng(events), events))
                user, scores = self.numbers(session, history)
                with torch.no_grad():
                    expected = model(*history)[-1]
                    np.testing.assert_allclose(user, expected, rtol=2e-5, atol=2e-6)
                    np.testing.assert_allclose(scores, model.candidates() @ expected, rtol=2e-5, atol=5e-5)

    @unittest.skipUnless(RUNTIME, "needs onnxruntime and onnx: pip install onnx onnxruntime")
    def test_time_buckets_are_exact_at_their_bounds(self) -> None:
        model = random_model(7, layers=1, heads=1, window=2).float()
        session = self.session(model)
        for bound in (0, 2, 60, *THRESHOLDS[[20, 64, 127]].tolist()):
            for delta in (bound - 1, bound, bound + 1):
                history = (torch.tensor([3, 4]), torch.tensor([1, 2]), torch.tensor([0, delta]))
                with torch.no_grad():
                    expected = model(*history)[-1]
                np.testing.assert_allclose(self.numbers(session, history)[0], expected, rtol=2e-5, atol=2e-6)

    def session(self, model: SequenceModel) -> "onnxruntime.InferenceSession":  # noqa: F821
        import onnxruntime

        onnx.export(model, self.path)
        return onnxruntime.InferenceSession(str(self.path), providers=["CPUExecutionProvider"])

    def numbers(self, session: "onnxruntime.InferenceSession", history: tuple[torch.Tensor, ...]) -> list[np.ndarray]:  # noqa: F821
        feeds = {name: column.numpy() for name, column in zip(onnx.INPUTS, history)}
        return session.run(list(onnx.OUTPUTS), feeds)


if __name__ == "__main__":
    unittest.main()
