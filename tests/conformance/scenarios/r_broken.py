"""Random bytes: requests of every operation whose bodies a seed damages; servers must agree on each
answer, and on what is left of the tree.

What for:   the borders of every record: lengths, nulls, texts that are no UTF-8, numbers at the
            ends of their range, bytes that are missing or too many. Some seeds have golden texts;
            `compare.py` plays any number of others against two live servers.
Invariants:
  1. A script depends on its seed only, and each request is answered before the next one is sent.
  2. Only bodies are damaged: the xid is the client's next, and the operation one that clients have.
  3. Nothing that is an explained difference: no null ACL in a multi (g_multi.nulls_in_an_acl), no
     character beyond the basic plane, which Apache sends back as two surrogates, no UTF-8.
Design:     a golden one has a server of its own, as the root is among the paths.
Not here:   sensible requests in a random order (r_random.py).
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from tests.conformance import requests as r
from tests.conformance.requests import Request
from tests.conformance.scenario import Entry, Scenario, register

GOLDEN_SEEDS: Final = (2,)
STEPS: Final = 120

_PATHS: Final = ("/t", "/t/a", "/t/a/b", "/t/b", "/t/none", "/t/\u00e9", "/", "")
_TEXTS: Final = (b"\xff", b"\xc3", b"\xc3\xa9", b"\0", b"/", b"//", b"..", b" ")
_INTS: Final = (-1, 0, 1, -2, 2, 255, 0x7FFFFFFF, -0x80000000, 1 << 20, 0x00010000)
_ACLS: Final[tuple[list[r.Acl], ...]] = (
    r.OPEN,
    r.CREATOR,
    [(r.ALL, "digest", "u:x")],
    [(r.ALL, "ip", "127.0.0.1/8"), (r.READ, "world", "anyone")],
    [],
)


class Script:
    """Makes the steps of one seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def play(self, s: Scenario) -> None:
        client, watcher = s.client(), s.client()
        for path in _PATHS[:4]:
            client.call(r.create(path))
        for _ in range(STEPS):
            request = self._damaged(self._request())
            other = self._random.randrange(8) == 0
            answers = (watcher if other else client).pipeline(request)
            if answers[-1] == "closed":
                if other:
                    watcher = s.socket().resume(watcher)
                else:
                    client = s.socket().resume(client)
            if self._random.randrange(6) == 0:
                watcher.events()
                client.events()
        for path in _PATHS[:5]:
            client.call(r.get_data(path))
            client.call(r.get_acl(path))
            client.call(r.get_children2(path))
        client.call(r.who_am_i())

    # ---- requests

    def _request(self) -> Request:
        return self._random.choice(_MAKERS)(self)

    def path(self) -> str:
        return self._random.choice(_PATHS)

    def acl(self) -> list[r.Acl]:
        return self._random.choice(_ACLS)

    def flags(self) -> int:
        return self._random.choice((0, 0, 0, 1, 2, 3, 4))

    def writes(self) -> list[Request]:
        makers = (_create, _create2, _delete, _set_data, _check, _container)
        return [self._random.choice(makers)(self) for _ in range(self._random.randrange(4))]

    def reads(self) -> list[Request]:
        makers = (_get_data, _get_children)
        return [self._random.choice(makers)(self) for _ in range(self._random.randrange(4))]

    def paths(self) -> list[str]:
        return [self.path() for _ in range(self._random.randrange(3))]

    def kind(self) -> int:
        """A type of watch."""
        return self._random.randrange(1, 6)

    def flag(self) -> bool:
        return self._random.randrange(2) == 0

    # ---- damage

    def _damaged(self, request: Request) -> Request:
        body = bytearray(request.body)
        done = []
        for _ in range(self._random.choice((0, 1, 1, 1, 2, 3))):
            done.append(self._random.choice(_DAMAGES)(self._random, body))
        if not done:
            return request
        return replace(
            request, body=bytes(body), text=f"{request.text} {' '.join(done)}: {body.hex()}"
        )


Damage = Callable[[random.Random, bytearray], str]


def _cut(rng: random.Random, body: bytearray) -> str:
    del body[rng.randrange(len(body) + 1) :]
    return "cut"


def _extend(rng: random.Random, body: bytearray) -> str:
    body += rng.randbytes(rng.randrange(1, 9))
    return "extended"


def _flip(rng: random.Random, body: bytearray) -> str:
    if body:
        body[rng.randrange(len(body))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return "flipped"


def _number(rng: random.Random, body: bytearray) -> str:
    """Overwrite four bytes that look like a number: they begin with a zero or an 0xff."""
    places = [at for at in range(len(body) - 3) if body[at] in (0, 0xFF)]
    if places:
        struct.pack_into(">i", body, rng.choice(places), rng.choice(_INTS))
    return "renumbered"


def _text(rng: random.Random, body: bytearray) -> str:
    """Put some text behind one that is there, and correct its length."""
    places = [
        at
        for at in range(len(body) - 3)
        if 0 <= struct.unpack_from(">i", body, at)[0] <= len(body) - at - 4
    ]
    if places:
        at = rng.choice(places)
        size = struct.unpack_from(">i", body, at)[0]
        more = rng.choice(_TEXTS)
        body[at + 4 + size : at + 4 + size] = more
        struct.pack_into(">i", body, at, size + len(more))
    return "lengthened"


def _drop(rng: random.Random, body: bytearray) -> str:
    if body:
        del body[rng.randrange(len(body))]
    return "dropped"


_DAMAGES: Final[tuple[Damage, ...]] = (_cut, _extend, _flip, _number, _number, _text, _text, _drop)


# ---- one maker for each operation


def _create(s: Script) -> Request:
    return r.create(s.path(), b"data", acl=s.acl(), flags=s.flags())


def _create2(s: Script) -> Request:
    return r.create2(s.path(), None, acl=s.acl(), flags=s.flags())


def _container(s: Script) -> Request:
    return r.create_container(s.path())


def _ttl(s: Script) -> Request:
    return r.create_ttl(s.path(), ttl_ms=3_600_000, acl=s.acl())


def _delete(s: Script) -> Request:
    return r.delete(s.path())


def _set_data(s: Script) -> Request:
    return r.set_data(s.path(), b"other data")


def _set_acl(s: Script) -> Request:
    return r.set_acl(s.path(), s.acl())


def _check(s: Script) -> Request:
    return r.check(s.path(), 0)


def _multi(s: Script) -> Request:
    return r.multi(*s.writes())


def _multi_read(s: Script) -> Request:
    return r.multi_read(*s.reads())


def _get_data(s: Script) -> Request:
    return r.get_data(s.path(), s.flag())


def _get_children(s: Script) -> Request:
    return r.get_children(s.path(), s.flag())


_MAKERS: Final[tuple[Callable[[Script], Request], ...]] = (
    _create,
    _create,
    _create2,
    _container,
    _ttl,
    _delete,
    _set_data,
    _set_acl,
    _multi,
    _multi,
    _multi_read,
    _get_data,
    _get_children,
    lambda s: r.exists(s.path(), s.flag()),
    lambda s: r.get_children2(s.path(), s.flag()),
    lambda s: r.get_acl(s.path()),
    lambda s: r.sync(s.path()),
    lambda s: r.get_ephemerals(s.path()),
    lambda s: r.get_all_children_number(s.path()),
    lambda s: r.add_watch(s.path(), int(s.flag())),
    lambda s: r.check_watches(s.path(), s.kind()),
    lambda s: r.remove_watches(s.path(), s.kind()),
    lambda s: r.set_watches(
        1 << 40, zxid_text="the future", data=s.paths(), exist=s.paths(), child=s.paths()
    ),
    lambda s: r.set_watches(
        0,
        zxid_text="0",
        data=s.paths(),
        exist=s.paths(),
        child=s.paths(),
        persistent=s.paths(),
        recursive=s.paths(),
    ),
    lambda s: r.auth("digest", b"u:p"),
    lambda s: r.who_am_i(),
    lambda s: r.reconfig("server.1=localhost:1:2;3", None, None),
)


def entry(seed: int, *, fresh: bool = False) -> Entry:
    return Entry(f"r_broken.seed_{seed}", lambda s: Script(seed).play(s), fresh=fresh)


for _seed in GOLDEN_SEEDS:
    register(entry(_seed, fresh=True))
