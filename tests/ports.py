"""Ports for servers that tests start, and start again.

Invariants:
  1. Once: no port is given twice, so that one whose server is down for a moment is nobody else's;
     pytest-xdist's workers give ports of their own, for the same reason.
"""

from __future__ import annotations

import os
import random
import socket
from contextlib import suppress
from typing import Final

_WORKERS: Final = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_WORKER: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_PORTS: Final = range(12_000, 32_000)[_WORKER::_WORKERS]
_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at this moment, all different.

    They lie below those that the kernel gives to who dials, so that none is taken that way.
    """
    if len(_given) > len(_PORTS) // 2:
        _given.clear()
    sockets: list[socket.socket] = []
    for port in random.sample(_PORTS, min(100 * count, len(_PORTS))):
        if len(sockets) < count and port not in _given:
            with suppress(OSError):
                sockets.append(socket.create_server(("127.0.0.1", port)))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    assert len(ports) == count
    _given.update(ports)
    return ports


def free_port() -> int:
    return free_ports(1)[0]
