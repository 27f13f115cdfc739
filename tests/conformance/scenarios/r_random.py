"""Random scripts: a seed decides what several clients do to a small tree; servers must agree.

What for:   what nobody thought of writing down. Some seeds have golden texts; `compare.py` plays
            any number of others against two live servers.
Invariants:
  1. A script depends on its seed only: every choice is made before the first frame is sent.
  2. Deterministic on Apache: setACL never stands in a pipeline before other requests, because
     Apache checks those against the old ACL until the new one is applied (a matter of its speed);
     events of a closing session are sorted, because Apache deletes its ephemerals in no order.
Design:     few names and few clients, so that collisions (exists, not empty, no right, bad
            version) are common.
"""

from __future__ import annotations

import random
from typing import Final

from tests.conformance import requests as r
from tests.conformance.requests import Request
from tests.conformance.scenario import Client, Entry, Scenario, register

GOLDEN_SEEDS: Final = range(1, 9)
STEPS: Final = 60

_NAMES: Final = ("a", "b", "c")
_USERS: Final = (b"u:1", b"v:2")
_ACLS: Final[tuple[list[r.Acl], ...]] = (
    r.OPEN,
    r.OPEN,
    r.OPEN,
    r.OPEN,
    r.CREATOR,
    [(r.READ, "world", "anyone"), (r.ALL, "auth", "")],
    [(r.READ | r.CREATE | r.DELETE, "world", "anyone")],
    [(r.ALL & ~r.READ, "world", "anyone")],
)


class Script:
    """Makes the steps of one seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def play(self, s: Scenario) -> None:
        clients = [s.client() for _ in range(3)]
        paths = [f"/t/{name}" for name in _NAMES]
        paths += [f"{path}/{name}" for path in paths for name in _NAMES]
        clients[0].call(r.multi(*(r.create(path) for path in paths)))
        for _ in range(STEPS):
            index = self._random.randrange(len(clients))
            before = clients[index]
            clients[index] = self._step(s, before)
            if clients[index] is not before or self._one_in(4):
                for client in clients:
                    client.events(unordered=True)
        for client in clients:
            client.call(r.get_children2("/t"))

    def _step(self, s: Scenario, client: Client) -> Client:
        """One thing that a client does; returns the client that goes on in its place."""
        kind = self._random.randrange(20)
        if kind == 0:
            client.send(r.close_session())
            client.expect_close(unordered=True)
            return s.client()
        if kind == 1:
            return self._reconnect(s, client)
        if kind == 2:
            client.call(r.auth("digest", self._random.choice(_USERS)))
        elif kind == 3:
            client.call(r.set_acl(self._path(), self._acl(), self._version()))
        elif kind < 8:
            client.pipeline(*(self._request() for _ in range(self._random.randrange(2, 8))))
        else:
            client.call(self._request())
        return client

    def _reconnect(self, s: Scenario, client: Client) -> Client:
        """As real clients do: the session is resumed and the watches are set again."""
        client.drop()
        again = s.socket().resume(client, last_zxid=client.last_zxid)
        paths = [[self._path() for _ in range(2)] for _ in range(5)]
        again.call(
            r.set_watches(
                client.last_zxid,
                zxid_text="last seen",
                data=paths[0],
                exist=paths[1],
                child=paths[2],
                persistent=paths[3],
                recursive=paths[4],
            )
        )
        return again

    def _request(self) -> Request:
        choose = self._random.randrange(10)
        if choose < 4:
            return self._write()
        if choose < 5:
            return self._multi()
        if choose < 6:
            return self._watch()
        return self._read()

    def _write(self) -> Request:
        choose = self._random.randrange(6)
        if choose < 3:
            return self._create()
        if choose < 4:
            return r.delete(self._path(), self._version())
        return r.set_data(self._path(), self._data(), self._version())

    def _create(self) -> Request:
        flags = self._random.choice((0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, r.CONTAINER, 9))
        make = self._random.choice((r.create, r.create2))
        return make(self._path(), self._data(), acl=self._acl(), flags=flags)

    def _multi(self) -> Request:
        count = self._random.randrange(1, 4)
        if self._one_in(4):
            reads = (r.get_data, r.get_children)
            return r.multi_read(*(self._random.choice(reads)(self._path()) for _ in range(count)))
        return r.multi(*(self._checked_write() for _ in range(count)))

    def _checked_write(self) -> Request:
        return r.check(self._path(), self._version()) if self._one_in(4) else self._write()

    def _watch(self) -> Request:
        choose = self._random.randrange(4)
        if choose < 2:
            return r.add_watch(self._path(), self._random.randrange(2))
        if choose < 3:
            return r.remove_watches(self._path(), self._random.randrange(1, 6))
        return r.check_watches(self._path(), self._random.randrange(1, 6))

    def _read(self) -> Request:
        path = self._path()
        watch = self._one_in(2)
        choose = self._random.randrange(9)
        if choose < 3:
            return r.exists(path, watch)
        if choose < 4:
            return r.get_data(path, watch)
        if choose < 5:
            return r.get_children(path, watch)
        if choose < 6:
            return r.get_children2(path, watch)
        if choose < 7:
            return r.get_acl(path)
        return r.get_ephemerals(path) if choose < 8 else r.get_all_children_number(path)

    def _path(self) -> str:
        """A path of one to three names below /t; seldom one that is no path."""
        if self._one_in(40):
            return self._random.choice(("/t/", "bad", "/t//a", "/t/.", "/t/a/"))
        depth = self._random.choice((1, 1, 1, 2, 2, 3))
        return "/t/" + "/".join(self._random.choice(_NAMES) for _ in range(depth))

    def _acl(self) -> list[r.Acl]:
        """Seldom an empty one."""
        return [] if self._one_in(30) else self._random.choice(_ACLS)

    def _data(self) -> bytes | None:
        return self._random.choice((None, b"", b"x", b"some data"))

    def _version(self) -> int:
        return self._random.choice((-1, -1, -1, -1, 0, 1))

    def _one_in(self, count: int) -> bool:
        return self._random.randrange(count) == 0


def entry(seed: int) -> Entry:
    return Entry(f"r_random.seed_{seed}", lambda s: Script(seed).play(s))


for _seed in GOLDEN_SEEDS:
    register(entry(_seed))
