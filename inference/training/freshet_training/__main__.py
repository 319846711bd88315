"""python3 -m freshet_training train | evaluate | report | parity: see --help of each, and docs/training.md."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from . import model_directory, parity, report, sequences
from .evaluation import evaluate, held_out_cases
from .model import ATTENTIONS, BLOCKS, ModelConfig
from .objective import LOSSES, SAMPLERS, ObjectiveOptions
from .progress import ProgressLine
from .train import Saving, TrainOptions, train

_MODEL_OPTIONS = ("block", "attention", "ffn_dim", "dim", "layers", "heads", "window", "similarity", "temperature")


def main() -> int:
    options = _parser().parse_args()
    if getattr(options, "threads", 0):
        torch.set_num_threads(options.threads)
    try:
        options.command(options)
    except (OSError, ValueError, FloatingPointError) as error:
        print(f"freshet_training: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="freshet_training", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _train_parser(_add(commands, "train", "train a model on an export", _train))
    evaluator = _add(commands, "evaluate", "HR@10 and NDCG@10 on the newest event of each user", _evaluate)
    evaluator.add_argument("--model", type=Path, required=True, metavar="DIR", help="a model directory")
    reporter = _command(commands, "report", "draw learning curves, or what `freshet evaluate` found", _draw)
    source = reporter.add_mutually_exclusive_group(required=True)
    source.add_argument("--metrics", type=Path, nargs="+", metavar="FILE", help="of train: one curve each")
    source.add_argument("--evaluation", type=Path, metavar="FILE", help="of freshet evaluate --json")
    reporter.add_argument("--output", type=Path, required=True, metavar="FILE", help="the picture: .png, .svg, .pdf")
    checker = _add(commands, "parity", "user vectors and top 10 of some users, to compare freshet with", _parity)
    checker.add_argument("--model", type=Path, required=True, metavar="DIR", help="a model directory")
    checker.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON to write")
    checker.add_argument("--users", type=int, default=20, metavar="N", help="the first N users (default %(default)s)")
    return parser


def _command(commands: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.set_defaults(command=run)
    return parser


def _add(commands: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    """A command that reads an export."""
    parser = _command(commands, name, text, run)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="what `freshet export` wrote")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads; 0: PyTorch's choice")
    return parser


def _train_parser(parser: argparse.ArgumentParser) -> None:
    model, options = ModelConfig(2, 2), TrainOptions()
    objective, saving = options.objective, Saving(Path())
    add = parser.add_argument
    add("--output", type=Path, required=True, metavar="DIR", help="the model directory to write")
    add("--metrics", type=Path, metavar="FILE", help="append a JSON line per epoch here")
    add("--dim", type=int, default=model.dim, help="width of the model")
    add("--layers", type=int, default=model.layers)
    add("--heads", type=int, default=model.heads)
    add("--window", type=int, default=model.window, help="events that an event attends to, itself included")
    add(
        "--block",
        choices=BLOCKS,
        default=model.block,
        help="HSTU, or softmax attention and a gated FFN (not served yet)",
    )
    add("--attention", choices=ATTENTIONS, default=model.attention, help="how a transformer scores an event")
    add("--ffn-dim", type=int, default=model.ffn_dim, help="width of a transformer's feed-forward part; 0: 2 * dim")
    add("--no-time-bias", action="store_true", help="leave out the bias by time between events")
    add("--similarity", choices=("cosine", "dot"), default=model.similarity)
    add("--temperature", type=float, default=model.temperature, help="of the cosine")
    add("--loss", choices=LOSSES, default=objective.loss, help="softmax over all items, over some, or gBCE")
    add("--negatives", type=int, default=objective.negatives, help="items a step that a sampled loss compares with")
    add("--sampler", choices=SAMPLERS, default=objective.sampler, help="what they are drawn by")
    add("--no-logq", action="store_true", help="leave out the correction for how often an item is drawn")
    add("--gbce-calibration", type=float, default=objective.gbce_calibration, help="t of gBCE, 0 to 1")
    add("--type-weight", action="append", default=[], metavar="TYPE=WEIGHT", help="of events of a type, 1 otherwise")
    add("--epochs", type=int, default=options.epochs)
    add("--patience", type=int, default=options.patience, help="end after so many epochs without a better; 0: never")
    add("--batch-users", type=int, default=options.batch_users, help="users a step, with their whole histories")
    add("--lr", type=float, default=options.lr, help="Adam's rate at the start; decays to 2 %% of it along a cosine")
    add("--dropout", type=float, default=options.dropout)
    add("--id-dropout", type=float, default=options.id_dropout, help="share of input items replaced by row 0, unknown")
    add("--hold-out", type=int, choices=(0, 2), default=options.hold_out, help="newest events kept from training")
    add("--valid-users", type=int, default=options.valid_users, help="at most so many users judge each epoch")
    add("--seed", type=int, default=options.seed)
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where the arithmetic runs")
    add("--checkpoint", type=Path, metavar="FILE", help="what --resume goes on from (default OUTPUT.checkpoint)")
    add("--resume", action="store_true", help="go on from the checkpoint, where there is one")
    add("--checkpoint-minutes", type=float, default=saving.checkpoint_minutes, help="between two, within an epoch")


def _train(arguments: argparse.Namespace) -> None:
    data = sequences.load(arguments.data)
    config = ModelConfig(
        items=data.items,
        event_types=data.event_types,
        time_bias=not arguments.no_time_bias,
        **_chosen(arguments, *_MODEL_OPTIONS),
    )
    objective = ObjectiveOptions(
        logq=not arguments.no_logq,
        type_weights=_type_weights(arguments.type_weight, arguments.data),
        **_chosen(arguments, "loss", "negatives", "sampler", "gbce_calibration"),
    )
    names = ("epochs", "patience", "batch_users", "lr", "dropout", "id_dropout", "hold_out", "valid_users", "seed")
    options = TrainOptions(objective=objective, **_chosen(arguments, *names))
    checkpoint = arguments.checkpoint or arguments.output.with_name(arguments.output.name + ".checkpoint")
    saving = Saving(arguments.output, checkpoint, **_chosen(arguments, "resume", "checkpoint_minutes"))
    print(f"{data.users} users, {len(data.events)} events, {data.items - 1} items", file=sys.stderr)
    line = ProgressLine(sys.stderr)
    train(
        data,
        config,
        options,
        saving,
        report=lambda record: _report(record, arguments.metrics, line),
        progress=line.update,
        device=_device(arguments.device),
    )


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: this PyTorch finds no GPU")
    return torch.device(name)


def _type_weights(texts: list[str], data: Path) -> tuple[float, ...]:
    """By row of the export's event_types.tsv."""
    names = sequences.vocabulary(data / "event_types.tsv")
    weights = [1.0] * len(names) if texts else []
    for text in texts:
        name, _, weight = text.rpartition("=")
        if name not in names:
            raise ValueError(f"--type-weight {text}: expected TYPE=WEIGHT with TYPE one of {', '.join(names[1:])}")
        weights[names.index(name)] = float(weight)
    return tuple(weights)


def _chosen(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in names}


def _report(record: dict[str, Any], metrics: Path | None, line: ProgressLine) -> None:
    line.clear()
    if metrics is not None:
        with metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
    valid, test = (_accuracy(record.get(name)) for name in ("valid", "test"))
    if "epoch" not in record:
        print(f"chosen: epoch {record['chosen_epoch']}, test {test}", flush=True)
        return
    print(
        f"epoch {record['epoch']:3}  loss {record['loss']:.4f}  valid {valid}"
        f"  {record['train_seconds']:.1f} + {record['valid_seconds']:.1f} s",
        flush=True,
    )


def _accuracy(record: dict[str, float] | None) -> str:
    return f"HR@10 {record['hr']:.4f} NDCG@10 {record['ndcg']:.4f}" if record else "-"


def _evaluate(arguments: argparse.Namespace) -> None:
    model = model_directory.load(arguments.model)
    cases = held_out_cases(sequences.load(arguments.data), back=1)
    print(json.dumps(asdict(evaluate(model, cases))))


def _draw(arguments: argparse.Namespace) -> None:
    if arguments.metrics:
        report.draw_curves(arguments.metrics, arguments.output)
    else:
        report.draw_evaluation(arguments.evaluation, arguments.output)


def _parity(arguments: argparse.Namespace) -> None:
    model = model_directory.load(arguments.model)
    parity.write(model, sequences.load(arguments.data), arguments.users, arguments.output)


if __name__ == "__main__":
    sys.exit(main())
