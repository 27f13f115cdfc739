"""Ports for servers that tests start, and start again."""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from typing import Final

_PORTS: Final = range(12_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at this moment, all different.

    They lie below those that the kernel gives to who dials, so that none is taken that way.
    """
    sockets: list[socket.socket] = []
    for port in random.sample(_PORTS, 100 * count):
        if len(sockets) < count:
            with suppress(OSError):
                sockets.append(socket.create_server(("127.0.0.1", port)))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    assert len(ports) == count
    return ports


def free_port() -> int:
    return free_ports(1)[0]
