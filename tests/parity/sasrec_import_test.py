#!/usr/bin/env python3
"""`freshet model convert` against PyTorch: checkpoints of every form that the two published SASRec codes have had, with random
weights and saved by torch.save, give the user vectors and the top 10 of their own forward pass.

FRESHET: the program. Needs PyTorch; where it is absent it says so and ends with 77 (CTest: skipped), or 1 with
FRESHET_TEST_NO_SKIP.
"""
import json
import pathlib
import random
import subprocess
import sys
import tempfile

from parity_test import BOUND, FRESHET, compare, without_torch

ITEMS = 300
USERS = 200


def write_log(path: pathlib.Path) -> dict[str, list[int]]:
    """Histories of 1 to 40 events, so that windows of 12 are part-empty, just full, and passed."""
    numbers = random.Random(5)
    histories = {f"u{user}": [numbers.randint(1, ITEMS) for _ in range(numbers.randint(1, 40))] for user in range(USERS)}
    write_events(path, histories)
    return histories


def write_events(path: pathlib.Path, histories: dict[str, list[int]]) -> None:
    lines = [
        json.dumps({"user_id": user, "item_id": f"item {item}", "event_type": "view", "timestamp": 1_500_000_000_000 + at})
        for user, items in histories.items()
        for at, item in enumerate(items)
    ]
    path.write_text("\n".join(lines) + "\n")


def expectation(model, user: int, history: list[int]) -> dict:
    import torch

    with torch.no_grad():
        vector = model(history)
        scores = model.scored() @ vector
    scores[[0, *history]] = -torch.inf
    best = torch.sort(scores, descending=True, stable=True)
    top = [{"row": row, "score": score} for row, score in zip(best.indices[:10].tolist(), best.values[:10].tolist(), strict=True)]
    return {"user": user, "user_vector": vector.tolist(), "top": top}


def check(name: str, model, options: list[str], log: pathlib.Path, histories: dict[str, list[int]], work: pathlib.Path) -> int:
    import torch

    model.randomise()
    model.eval()
    checkpoint, directory, answers = work / f"{name}.pth", work / name, work / f"{name}.jsonl"
    torch.save(model.state_dict(), checkpoint)
    run = lambda *arguments: subprocess.run([FRESHET, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)  # noqa: E731
    run("model", "convert", checkpoint, "--items", work / "items.txt", "--output", directory, *options)
    run("model", "verify", directory)
    run("replay", "--input", log, "--emit", "final", "--output", answers,
        "--set", f"model.directory={directory}", "--set", f"state.directory={work / name}.state",
        "--set", "sink.include_user_vector=true", "--set", "recommend.top_k=10", "--set", "state.history=5000")  # fmt: skip
    expected = [expectation(model, user, history) for user, history in enumerate(histories.values())]
    rows = {f"item {item}": item for item in range(1, ITEMS + 1)}
    actual = {record["user_id"]: record for record in map(json.loads, answers.read_text().splitlines())}
    print(f"{name}: ", end="", flush=True)
    return compare(expected, list(histories), rows, actual)


def main() -> int:
    if code := without_torch():
        return code
    import torch
    from sasrec_reference import Gsasrec, Pmixer

    torch.manual_seed(4)
    size = {"items": ITEMS, "dim": 24, "heads": 2, "layers": 2, "maxlen": 12}
    one_head = {**size, "dim": 50, "heads": 1}
    cases = {
        "pmixer-2020": (Pmixer(**one_head, from_one=False), ["--heads", "1"]),
        "pmixer-2020-linear": (Pmixer(**size, from_one=False, relu=False), ["--heads", "2", "--activation", "none"]),
        "pmixer-query": (Pmixer(**size, from_one=True), ["--heads", "2", "--norm", "query"]),
        "pmixer-post": (Pmixer(**size, from_one=True, norm="post"), ["--heads", "2", "--norm", "post"]),
        "pmixer-pre": (Pmixer(**size, from_one=True, norm="pre"), ["--heads", "2", "--norm", "pre"]),
        "gsasrec": (Gsasrec(**size, tied=False), ["--heads", "2"]),
        "gsasrec-tied": (Gsasrec(**one_head, tied=True, relu=False), ["--heads", "1", "--activation", "none"]),
    }
    with tempfile.TemporaryDirectory() as directory:
        work = pathlib.Path(directory)
        log = work / "events.jsonl"
        histories = write_log(log)
        (work / "items.txt").write_text("".join(f"item {item}\n" for item in range(1, ITEMS + 1)))
        print(f"bound {BOUND:.0e}")
        return 1 if sum(check(name, model, options, log, histories, work) for name, (model, options) in cases.items()) else 0


if __name__ == "__main__":
    sys.exit(main())
