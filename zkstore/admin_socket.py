"""Where a replica's admin socket is, and how it is reached however long the path is.

Owns:   nothing.
Invariants:
  1. Only who may read the data can connect: the socket stands in the data directory, mode 0600.
Shape:  JSON objects, one a line. A request is {"do": WORD, "arguments": [TEXT, …]}; its answer is
        {"answer": …}, or {"error": TEXT, "wrong": whether asking again is of no use}.
Not here: the two ends (commit/control.py, server/admin.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

LINE_BYTES_MAX: Final = 1 << 16  # of a request; answers may be longer
# sun_path holds 108 bytes on Linux and 104 elsewhere.
_PATH_BYTES_MAX: Final = 100


def path_of(data_dir: str) -> Path:
    return Path(data_dir) / "zkstore" / "admin.sock"


@contextmanager
def address(path: Path) -> Iterator[str]:
    """What bind and connect take for this path. Raises: OSError, for a path that is too long too.

    Linux reaches a directory of any path by a descriptor of it.
    """
    if len(os.fsencode(path)) < _PATH_BYTES_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
