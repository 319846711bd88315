"""The options of whatever trains: of the model, of its training, and where it is written."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import augmentation, files, model_directory, sequences, vocabulary
from ..distillation import Teachers
from ..item_codes import assign
from ..model import ATTENTIONS, BLOCKS, NUMBERS, SIMILARITIES, SIZES, ModelConfig, SequenceModel
from ..objective import LOSSES, SAMPLERS, ObjectiveOptions
from ..progress import ProgressLine
from ..sequences import History, Sequences
from ..train import Saving, TrainOptions, train
from .arguments import SEED, Number, Whole, chosen

WRITES = {"--output": files.MODEL, "--checkpoint": files.CHECKPOINT, "--metrics": files.RECORDS}
MODEL = ("block", "attention", "ffn_dim", "dim", "layers", "heads", "window", "similarity", "temperature")
_WEIGHT = Number(0, 1e6)
_OBJECTIVE = ("loss", "negatives", "sampler", "gbce_calibration")
_TRAIN = ("epochs", "patience", "batch_users", "lr", "dropout", "id_dropout", "hold_out", "valid_users", "seed")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    model = ModelConfig(2, 2)
    add = parser.add_argument
    add("--dim", type=Whole(*SIZES["dim"]), default=model.dim, help="width of the model")
    add("--layers", type=Whole(*SIZES["layers"]), default=model.layers, help="attention blocks")
    add("--heads", type=Whole(*SIZES["heads"]), default=model.heads, help="of each; divide --dim")
    add(
        "--window",
        type=Whole(*SIZES["window"]),
        default=model.window,
        help="events that an event attends to, itself included",
    )
    add(
        "--block",
        choices=BLOCKS,
        default=model.block,
        help="HSTU, or softmax attention and a gated FFN",
    )
    add("--attention", choices=ATTENTIONS, default=model.attention, help="how a transformer scores an event")
    add(
        "--ffn-dim",
        type=Whole(*SIZES["ffn_dim"]),
        default=model.ffn_dim,
        help="width of a transformer's feed-forward part; 0: 2 * dim",
    )
    add("--no-time-bias", action="store_true", help="leave out the bias by time between events")
    add("--similarity", choices=SIMILARITIES, default=model.similarity, help="of a user and an item")
    add("--temperature", type=Number(*NUMBERS), default=model.temperature, help="of the cosine")


def add_code_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--item-codes", type=Whole(*SIZES["dim"]), metavar="M", help="store an item as M bytes; M divides --dim")
    add("--codes-from", type=Path, metavar="DIR", help="a model of the same export, whose items settle these bytes")


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """All of these."""
    add_output_options(parser)
    add_recipe_options(parser)
    _add_checkpoint_options(parser)


def add_output_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the model directory to write")
    parser.add_argument("--metrics", type=Path, metavar="FILE", help="append a JSON line per epoch here")


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    options = TrainOptions()
    objective = options.objective
    dropout = Number(0, 1, open_most=True)
    add = parser.add_argument
    add("--loss", choices=LOSSES, default=objective.loss, help="softmax over all items, over some, or gBCE")
    add(
        "--negatives", type=Whole(1), default=objective.negatives, help="items a step that a sampled loss compares with"
    )
    add("--sampler", choices=SAMPLERS, default=objective.sampler, help="what they are drawn by")
    add("--no-logq", action="store_true", help="leave out the correction for how often an item is drawn")
    add("--gbce-calibration", type=Number(0, 1), default=objective.gbce_calibration, help="t of gBCE")
    add(
        "--type-weight",
        type=_type_weight,
        action="append",
        default=[],
        metavar="TYPE=WEIGHT",
        help="of events of a type, 1 otherwise",
    )
    add("--epochs", type=Whole(1), default=options.epochs, help="at most")
    add(
        "--patience",
        type=Whole(0),
        default=options.patience,
        help="end after so many epochs without a better; 0: never",
    )
    add("--batch-users", type=Whole(1), default=options.batch_users, help="users a step, with their whole histories")
    add(
        "--lr",
        type=Number(0, 1e30),
        default=options.lr,
        help="Adam's rate at the start; decays to 2 %% of it along a cosine",
    )
    add("--dropout", type=dropout, default=options.dropout, help="share of numbers left out in training")
    add(
        "--id-dropout", type=dropout, default=options.id_dropout, help="share of input items replaced by row 0, unknown"
    )
    add(
        "--augment",
        type=_augmentation,
        action="append",
        default=[],
        metavar="NAME=PROBABILITY[:PARAMETER...]",
        help=f"change so many of the histories each epoch, once per --augment: {', '.join(augmentation.PARAMETERS)}",
    )
    add("--hold-out", type=int, choices=(0, 2), default=options.hold_out, help="newest events kept from training")
    add("--valid-users", type=Whole(1), default=options.valid_users, help="at most so many users judge each epoch")
    add("--seed", type=SEED, default=options.seed, help="of all that is drawn at random")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where the arithmetic runs")


def _add_checkpoint_options(parser: argparse.ArgumentParser) -> None:
    saving, add = Saving(Path()), parser.add_argument
    add("--checkpoint", type=Path, metavar="FILE", help="what --resume goes on from (default OUTPUT.checkpoint)")
    add("--resume", action="store_true", help="go on from the checkpoint, where there is one")
    add(
        "--checkpoint-minutes",
        type=Number(0, 1e6),
        default=saving.checkpoint_minutes,
        help="between two, within an epoch",
    )


def load(arguments: argparse.Namespace) -> Sequences:
    data = sequences.load(arguments.data)
    say(f"{data.users} users, {len(data.events)} events, {data.items - 1} items")
    return data


def say(text: str) -> None:
    print(text, file=sys.stderr)


def model_config(arguments: argparse.Namespace, data: Sequences) -> ModelConfig:
    return ModelConfig(
        items=data.items,
        event_types=data.event_types,
        time_bias=not arguments.no_time_bias,
        item_codes=getattr(arguments, "item_codes", None),
        **chosen(arguments, *MODEL),
    )


def item_codes(arguments: argparse.Namespace) -> Tensor | None:
    """As add_code_options() has them."""
    if arguments.item_codes is None and arguments.codes_from is None:
        return None
    if arguments.item_codes is None or arguments.codes_from is None:
        raise ValueError("--item-codes and --codes-from: expected both, or neither")
    vocabulary.check_same(arguments.codes_from, arguments.data)
    model = model_directory.load(arguments.codes_from)
    return assign(model.item_embedding.weight.detach(), arguments.item_codes, arguments.seed)


def train_options(arguments: argparse.Namespace, data: Sequences) -> TrainOptions:
    objective = ObjectiveOptions(
        logq=not arguments.no_logq,
        type_weights=_type_weights(arguments.type_weight, data.vocabulary.event_types),
        **chosen(arguments, *_OBJECTIVE),
    )
    return TrainOptions(augmentations=tuple(arguments.augment), objective=objective, **chosen(arguments, *_TRAIN))


def saving(arguments: argparse.Namespace) -> Saving:
    return Saving(**chosen(arguments, "output", "checkpoint", "resume", "checkpoint_minutes"))


def device(arguments: argparse.Namespace) -> torch.device:
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: this PyTorch finds no GPU")
    return torch.device(arguments.device)


def run(
    arguments: argparse.Namespace,
    data: Sequences,
    config: ModelConfig,
    teachers: Teachers | None = None,
    start: SequenceModel | None = None,
    others: Sequence[History] = (),
    codes: Tensor | None = None,
) -> SequenceModel:
    """train() as the arguments say."""
    line = ProgressLine(sys.stderr)
    return train(
        data,
        config,
        train_options(arguments, data),
        saving(arguments),
        report=lambda record: report(record, arguments.metrics, line),
        progress=line.epoch,
        device=device(arguments),
        teachers=teachers,
        start=start,
        others=others,
        codes=codes,
    )


def _augmentation(text: str) -> augmentation.Augmentation:
    try:
        return augmentation.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _type_weight(text: str) -> tuple[str, float]:
    name, _, weight = text.rpartition("=")
    try:
        return name, _WEIGHT(weight)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text}: expected TYPE=WEIGHT, the weight a number {_WEIGHT}") from None


def _type_weights(given: list[tuple[str, float]], names: list[str]) -> tuple[float, ...]:
    """By row of `names`."""
    weights = [1.0] * len(names) if given else []
    for name, weight in given:
        if name not in names:
            raise ValueError(f"--type-weight {name}={weight:g}: expected one of the types {', '.join(names[1:])}")
        weights[names.index(name)] = weight
    return tuple(weights)


def append(record: dict[str, Any], metrics: Path | None) -> None:
    if metrics is not None:
        metrics.parent.mkdir(parents=True, exist_ok=True)
        with metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def report(record: dict[str, Any], metrics: Path | None, line: ProgressLine) -> None:
    line.clear()
    append(record, metrics)
    valid, test = (accuracy_text(record.get(name)) for name in ("valid", "test"))
    if record.get("epoch") == 0:
        print(f"before     valid {valid}", flush=True)
        return
    if "epoch" not in record:
        print(f"chosen: epoch {record['chosen_epoch']}, test {test}", flush=True)
        return
    print(
        f"epoch {record['epoch']:3}  loss {record['loss']:.4f}  valid {valid}"
        f"  {record['train_seconds']:.1f} + {record['valid_seconds']:.1f} s",
        flush=True,
    )


def accuracy_text(record: dict[str, float] | None) -> str:
    return f"HR@10 {record['hr']:.4f} NDCG@10 {record['ndcg']:.4f}" if record else "-"
