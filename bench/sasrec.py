#!/usr/bin/env python3
"""What an imported SASRec costs an event beside a softmax transformer of the same sizes, whose keys and values are cached:
random weights, the CPU time that `freshet replay` says of itself, and in turn, so that a busy machine is busy for both.

    bench/sasrec.py [--layers 2] [--dim 50] [--window 200] [--users 5] [--events 800] [--rounds 5]

SASRec's answers are compared with PyTorch's first. FRESHET: the program (build/release/bin/freshet). Needs PyTorch.
"""

import argparse
import json
import pathlib
import random
import re
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests/parity"), str(ROOT / "inference/training")]

from parity_test import BOUND, FRESHET, relative_error
from sasrec_import_test import expectation, write_events

ITEMS = 3416  # MovieLens-1M's


def make_models(sizes: argparse.Namespace, work: pathlib.Path):
    """SASRec as PyTorch has it; `work` gets it as `sasrec`, and `transformer` beside it."""
    import torch
    from freshet_training import model_directory
    from freshet_training.model import ModelConfig, SequenceModel
    from freshet_training.vocabulary import Vocabulary
    from sasrec_reference import Pmixer

    torch.manual_seed(4)
    torch.set_num_threads(1)
    sasrec = Pmixer(items=ITEMS, dim=sizes.dim, heads=1, layers=sizes.layers, maxlen=sizes.window, from_one=True)
    sasrec.randomise()
    sasrec.eval()
    torch.save(sasrec.state_dict(), work / "sasrec.pth")
    (work / "items.txt").write_text("".join(f"item {item}\n" for item in range(1, ITEMS + 1)))
    freshet("model", "convert", work / "sasrec.pth", "--items", work / "items.txt", "--heads", 1, "--norm", "query",
            "--output", work / "sasrec")  # fmt: skip
    vocabulary = Vocabulary.load(work / "sasrec")
    config = ModelConfig(items=len(vocabulary.items), event_types=len(vocabulary.event_types), block="transformer",
                         attention="softmax", layers=sizes.layers, dim=sizes.dim, heads=1, window=sizes.window)  # fmt: skip
    model_directory.save(SequenceModel(config), vocabulary, work / "transformer")
    return sasrec


def freshet(*arguments: object) -> str:
    done = subprocess.run([FRESHET, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"bench/sasrec.py: {FRESHET} {arguments[0]}: {done.stderr.strip()}")
    return done.stderr


def replay(model: str, emit: str, work: pathlib.Path) -> float:
    """CPU µs per event; the answers are in `work`/answers.jsonl."""
    with tempfile.TemporaryDirectory(dir=work) as state:
        said = freshet("replay", "--input", work / "events.jsonl", "--emit", emit, "--output", work / "answers.jsonl",
                       "--set", f"model.directory={work / model}", "--set", f"state.directory={state}",
                       "--set", "sink.include_user_vector=true", "--set", "recommend.top_k=10", "--set", "state.history=5000")  # fmt: skip
    return float(re.search(r"([\d.]+) µs CPU per event", said)[1])


def check(sasrec, histories: dict[str, list[int]], work: pathlib.Path) -> None:
    for line in (work / "answers.jsonl").read_text().splitlines():
        answer = json.loads(line)
        expected = expectation(sasrec, 0, histories[answer["user_id"]])
        error = relative_error(answer["user_vector"], expected["user_vector"])
        if error > BOUND:
            sys.exit(f"bench/sasrec.py: {answer['user_id']}: vector differs from PyTorch's by {error:.1e}, expected {BOUND:.0e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"layers": 2, "dim": 50, "window": 200, "users": 5, "events": 800, "rounds": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    sizes = parser.parse_args()
    numbers = random.Random(5)
    histories = {f"u{user}": [numbers.randint(1, ITEMS) for _ in range(sizes.events)] for user in range(sizes.users)}
    with tempfile.TemporaryDirectory() as directory:
        work = pathlib.Path(directory)
        sasrec = make_models(sizes, work)
        write_events(work / "events.jsonl", histories)
        replay("sasrec", "final", work)
        check(sasrec, histories, work)
        for emit in ("every", "none"):
            cost = {"sasrec": [], "transformer": []}
            for _ in range(sizes.rounds):
                for model, measured in cost.items():
                    measured.append(replay(model, emit, work))
            for model, measured in cost.items():
                print(f"--emit {emit}, {model}: {statistics.median(measured):.1f} µs CPU per event ({min(measured)}-{max(measured)})")
            ratios = [theirs / ours for theirs, ours in zip(cost["sasrec"], cost["transformer"], strict=True)]
            print(f"--emit {emit}: {statistics.median(ratios):.1f} times ({min(ratios):.1f}-{max(ratios):.1f})")


if __name__ == "__main__":
    main()
