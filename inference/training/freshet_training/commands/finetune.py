"""Trains a model that is there on a newer log."""

import argparse
from dataclasses import asdict
from pathlib import Path

from .. import model_directory, sequences
from ..evaluation import Accuracy, evaluate, held_out_cases
from ..finetuning import draw, grow
from ..model import ModelConfig, SequenceModel
from ..sequences import History
from ..vocabulary import Vocabulary
from . import training
from .arguments import SHARE, chosen, export_command

_EPOCHS = 4


def add(parser: argparse.ArgumentParser) -> None:
    export_command(parser, _run, ("--from", "--keep", "--forgetting"), training.WRITES)
    add = parser.add_argument
    add("--from", dest="start", type=Path, required=True, metavar="DIR", help="the model directory to begin with")
    add(
        "--keep",
        type=_keep,
        action="append",
        default=[],
        metavar="EXPORT:SHARE",
        help="also train on this share of the users of an old export, so that what it taught is not forgotten",
    )
    add(
        "--forgetting",
        action="append",
        default=[],
        type=Path,
        metavar="EXPORT",
        help="print the accuracy on an old export's newest events before and after",
    )
    training.add_training_options(parser)
    training.add_model_options(parser)
    parser.set_defaults(epochs=_EPOCHS, no_time_bias=None, **dict.fromkeys(training.MODEL))


def _run(arguments: argparse.Namespace) -> None:
    device = training.device(arguments)
    model = model_directory.load(arguments.start).to(device)
    _check_sizes(arguments, model.config)
    known = model_directory.load_vocabulary(arguments.start, model.config)
    data = training.load(arguments)
    vocabulary = known.grown_by(data.vocabulary)
    kept = [history for old, share in arguments.keep for history in _drawn(old, share, vocabulary, arguments)]
    before = {old: _accuracy(model, old, known) for old in arguments.forgetting}
    items, types = (len(now) - len(then) for now, then in zip(asdict(vocabulary).values(), asdict(known).values()))
    training.say(f"{items} new items, {types} new event types; {len(kept)} users of old exports")
    users = data.translated(known).histories(arguments.hold_out, at_least=1) if items else []
    larger = grow(model.cpu(), vocabulary, users, arguments.seed)
    tuned = training.run(arguments, data.translated(vocabulary), larger.config, start=larger, others=kept)
    for old, accuracy in before.items():
        _report_forgetting(arguments, old, accuracy, _accuracy(tuned, old, vocabulary))


def _check_sizes(arguments: argparse.Namespace, config: ModelConfig) -> None:
    wanted = chosen(arguments, *training.MODEL)
    if arguments.no_time_bias:
        wanted["time_bias"] = False
    for name, value in wanted.items():
        if value is not None and value != getattr(config, name):
            raise ValueError(
                f"{arguments.start}: its {name} is {getattr(config, name)}, expected {value}: fine-tuning keeps the "
                "model as it is but for its rows. Train one of other sizes"
            )


def _keep(text: str) -> tuple[Path, float]:
    directory, _, share = text.rpartition(":")
    try:
        return Path(directory), SHARE(share)
    except argparse.ArgumentTypeError:
        form = f"EXPORT:SHARE, a directory and a number {SHARE}, such as var/old:0.1"
        raise argparse.ArgumentTypeError(f"{text}: expected {form}") from None


def _drawn(old: Path, share: float, vocabulary: Vocabulary, arguments: argparse.Namespace) -> list[History]:
    histories = sequences.load(old).translated(vocabulary).histories(arguments.hold_out, at_least=2)
    return draw(histories, share, arguments.seed)


def _accuracy(model: SequenceModel, export: Path, vocabulary: Vocabulary) -> Accuracy:
    return evaluate(model, held_out_cases(sequences.load(export).translated(vocabulary), back=1))


def _report_forgetting(arguments: argparse.Namespace, old: Path, before: Accuracy, after: Accuracy) -> None:
    print(
        f"{old}: test {training.accuracy_text(asdict(before))} before, {training.accuracy_text(asdict(after))} after",
        flush=True,
    )
    record = {"forgetting": str(old), "before": asdict(before), "after": asdict(after)}
    training.append(record, arguments.metrics)
