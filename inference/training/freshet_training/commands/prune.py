"""Makes a model smaller by leaving out what matters least."""

import argparse
from pathlib import Path

from .. import model_directory
from ..files import MODEL
from ..finetuning import draw
from ..model import SIZES
from ..pruning import Sizes, prune
from . import training
from .arguments import SEED, Whole, chosen, export_command


def add(parser: argparse.ArgumentParser) -> None:
    export_command(parser, _run, ("--model",), {"--output": MODEL})
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="DIR", help="a model directory")
    add("--output", type=Path, required=True, metavar="DIR", help="the model directory to write")
    add("--layers", type=Whole(*SIZES["layers"]), metavar="K", help="keep so many layers")
    add(
        "--heads",
        type=Whole(*SIZES["heads"]),
        metavar="K",
        help="keep so many heads, and as much of the model's width as they have",
    )
    add(
        "--ffn-dim",
        type=Whole(1, SIZES["ffn_dim"][1]),
        metavar="K",
        help="keep so many units of a transformer's feed-forward parts",
    )
    add("--window", type=Whole(*SIZES["window"]), metavar="K", help="attend to so many events")
    add(
        "--users", type=Whole(1), default=1000, metavar="N", help="at most so many users, at random, judge what matters"
    )
    add("--hold-out", type=int, choices=(0, 2), default=2, help="newest events of each user that they do not judge by")
    add("--seed", type=SEED, default=1)
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where the arithmetic runs")


def _run(arguments: argparse.Namespace) -> None:
    model = model_directory.load(arguments.model).to(training.device(arguments))
    vocabulary = model_directory.load_vocabulary(arguments.model, model.config)
    if model.config.items < 2:
        raise ValueError(f"{arguments.model}: items.tsv has no item but [unknown], nothing to judge by")
    histories = training.load(arguments).translated(vocabulary).histories(arguments.hold_out, at_least=2)
    if not histories:
        raise ValueError(f"{arguments.data}: no user has {arguments.hold_out + 2} events or more to judge by")
    judges = draw(histories, min(1, arguments.users / len(histories)), arguments.seed)
    pruned = prune(model, judges, Sizes(**chosen(arguments, "layers", "heads", "ffn_dim", "window")))
    model_directory.save(pruned.model, vocabulary, arguments.output)
    for layer, heads in zip(pruned.layers, pruned.heads):
        print(f"layer {layer}: heads {', '.join(map(str, heads))}")
    config = pruned.model.config
    print(f"dim {config.dim}, window {config.window}; loss {pruned.loss[0]:.4f} before, {pruned.loss[1]:.4f} after")
