"""What is said where a library is not there, or does not load."""

import sys

_INSTALL = "`deploy/install-dependencies.sh train` installs it for Debian's /usr/bin/python3"


def message(error: ImportError) -> str:
    """Raises `error` again where it is of this package: that is a fault of the program, and not of the machine."""
    library = (error.name or "").partition(".")[0]
    if library == __package__:
        raise error
    if not isinstance(error, ModuleNotFoundError):
        said = str(error).strip().partition("\n")[0]
        return f"{sys.executable} cannot load a library ({said}). Expected one that is whole, and the memory for it"
    pip = f"{sys.executable} -m pip install {library}"
    return f"{sys.executable} cannot import {library} ({error}). {_INSTALL}; for this one: {pip}"
