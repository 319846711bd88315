"""How many CPU threads, and how they wait: told to libraries that read it once, as PyTorch and NumPy load them."""

import os
from collections.abc import MutableMapping, Sequence
from itertools import pairwise

_LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # OpenBLAS of Debian has threads of its own beside PyTorch's

MOST = 1024  # of --threads: libraries end the process where the system gives them no more


def prepare(line: Sequence[str], environment: MutableMapping[str, str] = os.environ) -> None:
    """Of a command line with --threads N; REQUIRES: PyTorch and NumPy are not imported yet. What is set already stays.

    Threads of OpenMP wait for one another by spinning. Where other processes want the CPUs too, the one that is waited
    for does not run meanwhile, and steps of a millisecond take a hundred.
    """
    environment.setdefault("OMP_WAIT_POLICY", "passive")
    words = [part for word in line for part in word.split("=", 1)]
    count = next((after for word, after in pairwise(words) if word == "--threads"), "0")
    if count.isdecimal() and 0 < int(count[:9]) <= MOST:
        for name in _LIBRARIES:
            environment.setdefault(name, count)
