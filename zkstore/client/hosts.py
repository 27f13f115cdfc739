"""The connect string: which servers to try, in which order, and below which path to live.

Owns:   the order of the servers and whose turn it is.
Source: ConnectStringParser, StaticHostProvider.
"""

from __future__ import annotations

import random
from typing import Final

DEFAULT_PORT: Final = 2181
Address = tuple[str, int]


def parse(connect: str) -> tuple[list[Address], str]:
    """`host:port,host:port/chroot` → (addresses, chroot); chroot is "" or "/a/b".

    A port may be left out; an IPv6 address stands in brackets. Raises: ValueError.
    """
    servers, slash, path = connect.partition("/")
    chroot = (slash + path).rstrip("/")
    if "//" in chroot:
        raise ValueError(f"chroot {chroot!r} has an empty component")
    return [_address(part.strip()) for part in servers.split(",")], chroot


def _address(text: str) -> Address:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        if not bracket or colon not in ("", ":"):
            raise ValueError(f"server {text!r}: expected [address]:port")
    else:
        host, colon, port = text.partition(":")
    if not host or (colon and not (port.isdecimal() and 0 < int(port) < 65536)):
        raise ValueError(f"server {text!r}: expected host or host:port")
    return host, int(port) if colon else DEFAULT_PORT


class Hosts:
    """The servers in an order of the client's own, so that many clients spread over all."""

    def __init__(self, addresses: list[Address]) -> None:
        assert addresses
        self._order = random.sample(addresses, len(addresses))
        self._next = 0

    def __len__(self) -> int:
        return len(self._order)

    def turn(self) -> Address:
        """The server to try next."""
        address = self._order[self._next]
        self._next = (self._next + 1) % len(self._order)
        return address
