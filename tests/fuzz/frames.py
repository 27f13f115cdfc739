"""Random frames: sane ones, and sane ones that were damaged."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Final

from tests.conformance import requests
from tests.conformance.requests import Acl, Request
from tests.conformance.wire import i32

PATHS: Final = ("/", "/a", "/a/b", "/a/b/c", "/e", "", "a", "//", "/a/", "/\u00e9", "/a/../b", None)
SOME_PATHS: Final = ("/a", "/a/b", "/e", "/")
ACLS: Final[tuple[list[Acl] | None, ...]] = (
    requests.OPEN, requests.CREATOR, [(1, "ip", "127.0.0.1")], [], None,
)  # fmt: skip
INTERESTING: Final = (0, 1, -1, -2, 7, 127, 2**31 - 1, -(2**31), 0xFFFFF, 0x100000)


def _write(rng: random.Random) -> Request:
    """A request that may be part of a multi."""
    path = rng.choice(PATHS if rng.random() < 0.3 else SOME_PATHS)
    data = rng.choice((None, b"", b"data", bytes(2000)))
    choice = rng.randrange(5)
    if choice == 0:
        return requests.set_data(path, data, rng.choice((-1, 0, 1, 2)))
    if choice == 1:
        return requests.delete(path, rng.choice((-1, 0, 1)))
    if choice == 2:
        return requests.check(path, rng.choice((-1, 0, 1)))
    return requests.create(
        path, data, acl=rng.choice(ACLS), flags=rng.choice((0, 0, 1, 1, 2, 3, 4, 5, 9, -1)),
        op=rng.choice(("create", "create2", "createContainer")),
    )  # fmt: skip


def write(rng: random.Random) -> Request:
    choice = rng.randrange(12)
    if choice < 3:
        return requests.multi(*(_write(rng) for _ in range(rng.randrange(5))))
    if choice == 3:
        return requests.create_ttl(
            rng.choice(SOME_PATHS), ttl_ms=rng.choice((-1, 0, 1, 2**40, 1000)), flags=5
        )
    if choice == 4:
        return requests.set_acl(rng.choice(PATHS), rng.choice(ACLS), rng.choice((-1, 0)))
    if choice == 5:
        return requests.sync(rng.choice(PATHS))
    if choice == 6:
        return requests.reconfig(None, None, None)
    return _write(rng)


def read(rng: random.Random) -> Request:
    """A read, with a watch now and then."""
    path = rng.choice(PATHS if rng.random() < 0.3 else SOME_PATHS)
    watch = rng.random() < 0.5
    builders: list[Callable[[], Request]] = [
        lambda: requests.exists(path, watch),
        lambda: requests.get_data(path, watch),
        lambda: requests.get_children(path, watch),
        lambda: requests.get_children2(path, watch),
        lambda: requests.get_acl(path),
        lambda: requests.get_ephemerals(path),
        lambda: requests.get_all_children_number(path),
        lambda: requests.who_am_i(),
        lambda: requests.add_watch(path, rng.choice((0, 1, 2, -1))),
        lambda: requests.check_watches(path, rng.randrange(7)),
        lambda: requests.remove_watches(path, rng.randrange(7)),
        lambda: requests.multi_read(*(requests.get_data(p) for p in rng.sample(PATHS, 3))),
        lambda: requests.set_watches(
            rng.choice((0, -1, 5, 2**40)), zxid_text="", data=["/a", "/no"], exist=["/e", "/no"],
            child=["/", "/a"], persistent=["/a"] if watch else None,
        ),
    ]  # fmt: skip
    return rng.choice(builders)()


def direct(rng: random.Random) -> Request:
    """What is answered whenever it comes."""
    if rng.random() < 0.5:
        return requests.ping()
    scheme = rng.choice(("digest", "ip", "super", "world", "nonsense", None))
    return requests.auth(scheme, rng.choice((b"a:b", b"", None, b"super:x", rng.randbytes(9))))


def payload(request: Request, xid: int) -> bytes:
    return i32(request.xid or xid) + i32(request.opcode) + request.body


def damaged(rng: random.Random, content: bytes) -> bytes:
    """The same with something wrong in it, mostly behind the header."""
    at = rng.randrange(8 if rng.random() < 0.9 and len(content) > 8 else 0, len(content) + 1)
    choice = rng.randrange(6)
    if choice == 0:
        return content[:at]
    if choice == 1:
        return content[:at] + rng.randbytes(rng.randrange(1, 9)) + content[at:]
    if choice == 2:
        return content[:at] + content[at + rng.randrange(1, 9) :]
    if choice == 3:
        return content[:at] + struct.pack(">i", rng.choice(INTERESTING)) + content[at + 4 :]
    if choice == 4:
        return content[:at] + content[max(8, at - 20) : at] + content[at:]
    flipped = bytearray(content)
    for _ in range(rng.randrange(1, 4)):
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return bytes(flipped)
