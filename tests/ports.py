"""Ports for servers that tests start, and start again."""

from __future__ import annotations

import random
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

_FIRST: Final = 12_000
_LAST: Final = 32_000
_BLOCK: Final = 64  # ports that a process takes for itself in one go
_RANDOM: Final = random.SystemRandom()  # hypothesis gives every process the same random numbers
_marks: list[socket.socket] = []  # each says whose a block is, for as long as the process lives


def _blocks() -> Iterator[range]:
    """Blocks of ports that no other process of tests has."""
    firsts = range(_FIRST, _LAST, _BLOCK)
    for first in _RANDOM.sample(firsts, len(firsts)):
        if sys.platform == "linux":  # elsewhere there are no names without a file
            mark = socket.socket(socket.AF_UNIX)
            try:
                mark.bind(f"\0zkstore-test-ports-{first}")
            except OSError:
                mark.close()
                continue
            _marks.append(mark)
        yield range(first, first + _BLOCK)


_ports: Final = (port for block in _blocks() for port in block)
_lock: Final = threading.Lock()


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at this moment, all different; none is given twice.

    A server that is down has its port still: no other test is given it. They lie below those that
    the kernel gives to who dials, so that none is taken that way.
    """
    sockets: list[socket.socket] = []
    with _lock:
        for port in _ports:
            with suppress(OSError):
                sockets.append(socket.create_server(("127.0.0.1", port)))
            if len(sockets) == count:
                break
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    assert len(ports) == count
    return ports


def free_port() -> int:
    return free_ports(1)[0]
