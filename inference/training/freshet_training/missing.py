"""What is said where a library is not there."""

import sys


def message(error: ImportError) -> str:
    """Raises `error` again where it is of this package: that is a fault of the program, and not of the machine."""
    library = (error.name or "").partition(".")[0]
    if library in ("", __package__):
        raise error
    return (
        f"{sys.executable} cannot import {library} ({error}). `deploy/install-dependencies.sh train` installs it for "
        f"Debian's /usr/bin/python3; for this one: {sys.executable} -m pip install {library}"
    )
