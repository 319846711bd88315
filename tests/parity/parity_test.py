#!/usr/bin/env python3
"""The C++ engine against the PyTorch definition, on the demo model and on random transformers: user vectors and top 10 of
users of a generated log.

FRESHET: the program. Needs numpy and PyTorch; where they are absent it says so and ends with 77 (CTest: skipped), or 1 with FRESHET_TEST_NO_SKIP.
"""
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
FRESHET = os.environ.get("FRESHET", str(ROOT / "build/release/bin/freshet"))
DEMO = ROOT / "models/demo"
USERS = 300
BOUND = 1e-4
sys.path.insert(0, str(ROOT / "inference/training"))


def run(*arguments: object) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "inference/training")}
    subprocess.run([str(argument) for argument in arguments], check=True, env=environment)


def relative_error(actual: list[float], expected: list[float]) -> float:
    difference = math.sqrt(sum((a - e) ** 2 for a, e in zip(actual, expected, strict=True)))
    return difference / max(math.sqrt(sum(e * e for e in expected)), 1e-30)


def without_torch() -> int:
    """What to end with where PyTorch is absent; 0 where it is there, made single-threaded."""
    try:
        import torch
    except ImportError as problem:
        print(f"skipped: {problem}; deploy/install-dependencies.sh test installs PyTorch")
        return 1 if os.environ.get("FRESHET_TEST_NO_SKIP") else 77
    torch.set_num_threads(1)
    return 0


def main() -> int:
    if code := without_torch():
        return code
    failures = 0
    with tempfile.TemporaryDirectory() as directory:
        work = pathlib.Path(directory)
        events = work / "log" / "events.jsonl"
        run(FRESHET, "generate", "--users", USERS, "--items", 2000, "--events", 40 * USERS, "--seed", 3, "--output", events)
        run(FRESHET, "export", "--input", events, "--vocabulary", DEMO, "--output", work / "export")
        for model in (DEMO, *random_transformers(work / "models")):
            failures += check(model, events, work)
    return 1 if failures else 0


def random_transformers(parent: pathlib.Path) -> list[pathlib.Path]:
    """Both attentions, with odd sizes, every tensor random, and the demo model's items."""
    import torch
    from freshet_training import model_directory
    from freshet_training.model import ModelConfig, SequenceModel
    from freshet_training.vocabulary import Vocabulary

    torch.manual_seed(4)
    vocabulary = Vocabulary.load(DEMO)
    items, types = len(vocabulary.items), len(vocabulary.event_types)
    shapes = (
        {"attention": "softmax", "dim": 30, "heads": 3, "layers": 3, "window": 11, "ffn_dim": 70},
        {"attention": "additive", "dim": 32, "heads": 4, "layers": 2, "window": 16, "similarity": "dot"},
        {"attention": "additive", "dim": 21, "heads": 1, "layers": 2, "window": 7, "time_bias": False},
    )
    paths = []
    for shape in shapes:
        model = SequenceModel(ModelConfig(items=items, event_types=types, block="transformer", **shape))
        with torch.no_grad():
            for weight in model.parameters():
                weight.normal_(std=0.3)
        paths.append(parent / f"{shape['attention']}-{shape['dim']}")
        model_directory.save(model, vocabulary, paths[-1])
    return paths


def check(model: pathlib.Path, events: pathlib.Path, work: pathlib.Path) -> int:
    """Both programs' answers for one model; 0 where they agree."""
    expected_file, answers = work / f"{model.name}.torch.json", work / f"{model.name}.jsonl"
    run(sys.executable, "-m", "freshet_training", "parity", "--model", model, "--data", work / "export",
        "--users", USERS, "--output", expected_file)
    run(FRESHET, "replay", "--input", events, "--emit", "final", "--output", answers,
        "--set", f"model.directory={model}", "--set", f"state.directory={work / model.name}",
        "--set", "sink.include_user_vector=true", "--set", "recommend.top_k=10",
        "--set", "state.history=5000")  # PyTorch leaves out everything a user ever saw, freshet what it keeps
    expected = json.loads(expected_file.read_text())["users"]
    names = [line.split("\t")[1] for line in (work / "export" / "users.tsv").read_text().splitlines()]
    rows = {line.split("\t")[1]: int(line.split("\t")[0]) for line in (model / "items.tsv").read_text().splitlines()}
    actual = {record["user_id"]: record for record in map(json.loads, answers.read_text().splitlines())}
    print(f"{model.name}: ", end="")
    return compare(expected, names, rows, actual)


def compare(expected: list[dict], names: list[str], rows: dict[str, int], actual: dict[str, dict]) -> int:
    worst_vector = worst_score = 0.0
    different = 0
    for record in expected:
        answer = actual[names[record["user"]]]
        worst_vector = max(worst_vector, relative_error(answer["user_vector"], record["user_vector"]))
        for ours, theirs in zip(answer["items"], record["top"], strict=True):
            error = abs(ours["score"] - theirs["score"]) / max(abs(theirs["score"]), 1e-30)
            worst_score = max(worst_score, error)
            # Another item is right only where the two scores cannot be told apart.
            if rows[ours["item_id"]] != theirs["row"] and error > 1e-6:
                different += 1
    holds = len(expected) >= 200 and worst_vector <= BOUND and worst_score <= BOUND and different == 0
    print(f"{len(expected)} users: largest relative error of user vectors {worst_vector:.1e}, of scores {worst_score:.1e}, "
          f"bound {BOUND:.0e}; {different} different items in the top 10: {'ok' if holds else 'FAILED'}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
