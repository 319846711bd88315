"""One module per command: `add` describes it to argparse, the rest is what it does."""
