#!/usr/bin/env python3
"""The C++ engine against the PyTorch definition, on the demo model: user vectors and top 10 of users of a generated log.

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
USERS = 300
BOUND = 1e-4


def run(*arguments: object) -> None:
    subprocess.run([str(argument) for argument in arguments], check=True)


def relative_error(actual: list[float], expected: list[float]) -> float:
    difference = math.sqrt(sum((a - e) ** 2 for a, e in zip(actual, expected, strict=True)))
    return difference / max(math.sqrt(sum(e * e for e in expected)), 1e-30)


def main() -> int:
    try:
        import torch
    except ImportError as problem:
        print(f"skipped: {problem}; deploy/install-dependencies.sh test installs PyTorch")
        return 1 if os.environ.get("FRESHET_TEST_NO_SKIP") else 77
    torch.set_num_threads(1)
    model = ROOT / "models/demo"
    with tempfile.TemporaryDirectory() as directory:
        work = pathlib.Path(directory)
        events = work / "log" / "events.jsonl"
        run(FRESHET, "generate", "--users", USERS, "--items", 2000, "--events", 40 * USERS, "--seed", 3, "--output", events)
        run(FRESHET, "export", "--input", events, "--vocabulary", model, "--output", work / "export")
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "inference/training")}
        command = [sys.executable, "-m", "freshet_training", "parity", "--model", model, "--data", work / "export",
                   "--users", str(USERS), "--output", work / "torch.json"]
        subprocess.run([str(part) for part in command], check=True, env=environment)
        run(FRESHET, "replay", "--input", events, "--emit", "final", "--output", work / "cpp.jsonl",
            "--set", f"model.directory={model}", "--set", f"state.directory={work / 'state'}",
            "--set", "sink.include_user_vector=true", "--set", "recommend.top_k=10",
            "--set", "state.history=5000")  # PyTorch leaves out everything a user ever saw, freshet what it keeps
        expected = json.loads((work / "torch.json").read_text())["users"]
        names = [line.split("\t")[1] for line in (work / "export" / "users.tsv").read_text().splitlines()]
        rows = {line.split("\t")[1]: int(line.split("\t")[0]) for line in (model / "items.tsv").read_text().splitlines()}
        actual = {record["user_id"]: record for record in map(json.loads, (work / "cpp.jsonl").read_text().splitlines())}
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
