"""One module per command: `add` tells argparse of its options, the rest is what it does."""

COMMANDS = {  # by name, so that those which a line does not ask for are not imported
    "prepare": "clean an export: repeats, impossible times, robots, rare items",
    "synthesize": "add users that a model made up to an export",
    "train": "train a model on an export",
    "finetune": "train a model on a newer log; new items get rows of their own",
    "fedavg": "train one model of several exports that stay apart",
    "distill": "train a model that also learns from larger ones",
    "prune": "leave out the layers and heads of a model that matter least",
    "evaluate": "HR@10 and NDCG@10 on the newest event of each user",
    "report": "draw learning curves, or what `freshet evaluate` found",
    "parity": "user vectors and top 10 of some users, to compare freshet with",
    "export-onnx": "write a model as ONNX, for other runtimes",
}
