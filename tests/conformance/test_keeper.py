"""ClickHouse Keeper's operations and zkstore's paged list, by a small client of the test's own.

What for:   there is no Apache to record them from; what they do is in ClickHouse's public sources.
Invariants:
  1. As in the rest of this folder: nothing of zkstore is imported.
Source:     ClickHouse, ZooKeeperCommon.cpp, KeeperStorage; reference beyond, section 2.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Final

import pytest

from tests.conformance import requests as r
from tests.conformance import servers
from tests.conformance.requests import Request
from tests.conformance.servers import Server
from tests.conformance.wire import (
    ClosedError,
    Connection,
    Reader,
    connect_request,
    i8,
    i32,
    i64,
    ustring,
)

FLAGS: Final = "/keeper/feature_flags"
NO_NODE, NO_AUTH, BAD_VERSION, NODE_EXISTS, NOT_EMPTY = -101, -102, -103, -110, -111
BAD_ARGUMENTS, MARSHALLING, INCONSISTENT = -8, -5, -2
CHILD_EVENT, DATA_EVENT, DELETED_EVENT = 4, 3, 2
ANY: Final = (-1,) * 11
_LONGS: Final = (0, 1, 2, 3, 7, 10)  # of a Stat's eleven fields
_SESSIONS: Final = itertools.count()


@pytest.fixture(scope="module", params=[("--workers", "2"), ("--embedded",)], ids=lambda o: o[0])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with servers.zkstore(*request.param) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    one = Client(server)
    one.do(r.create(one.root))
    yield one
    one.close()


def op(code: int, body: bytes) -> Request:
    return r.raw(code, body, f"op{code}")


def filtered(path: str, which: int = 0, watch: int = 0) -> Request:
    return op(500, ustring(path) + i8(watch) + i8(which))


def check_not_exists(path: str, version: int = -1) -> Request:
    return op(501, ustring(path) + i32(version))


def create_if_not_exists(path: str, data: bytes = b"", flags: int = 0) -> Request:
    return op(502, r.create(path, data, flags=flags).body)


def remove_recursive(path: str, limit: int) -> Request:
    return op(503, ustring(path) + i32(limit))


def check_stat(path: str, stat: Sequence[int], version: int = -1) -> Request:
    return op(504, ustring(path) + i32(version) + encode_stat(stat))


def try_remove(path: str, version: int = -1) -> Request:
    return op(505, ustring(path) + i32(version))


def list_with(path: str, which: int = 0, *, stats: int = 1, data: int = 1) -> Request:
    return op(506, ustring(path) + i8(0) + i8(which) + i8(stats) + i8(data))


def list_recursive(path: str, limit: int) -> Request:
    return op(507, ustring(path) + i32(limit))


def page(path: str, after: str, limit: int, *, stats: int = 0, data: int = 0) -> Request:
    return op(1001, ustring(path) + ustring(after) + i32(limit) + i8(stats) + i8(data))


def encode_stat(stat: Sequence[int]) -> bytes:
    return b"".join((i64 if at in _LONGS else i32)(value) for at, value in enumerate(stat))


def read_stat(reader: Reader) -> tuple[int, ...]:
    return tuple(reader.i64() if at in _LONGS else reader.i32() for at in range(11))


def read_texts(reader: Reader) -> list[str | None]:
    return [reader.ustring() for _ in range(reader.i32())]


def read_results(body: bytes) -> list[tuple[int, int]]:
    """(type, code) of each result of a multi of checks, deletes and creates."""
    reader = Reader(body)
    results: list[tuple[int, int]] = []
    while True:
        kind, done, code = reader.i32(), reader.i8(), reader.i32()
        if done:
            assert reader.rest() == b""
            return results
        if kind == -1:
            assert reader.i32() == code
        elif kind in (1, 502):
            reader.ustring()
        elif kind == 5:
            read_stat(reader)
        results.append((kind, code))


class Client:
    """One session; requests one at a time, or many in one write."""

    def __init__(self, server: Server) -> None:
        self.root = f"/t{next(_SESSIONS)}"
        self.events: list[tuple[int, str | None]] = []
        self._connection = Connection(server.address)
        self._connection.handshake(connect_request())
        self._xid = 0

    def close(self) -> None:
        self._connection.close()

    def send(self, *some: Request) -> list[tuple[int, bytes]]:
        """(error, body) of each reply."""
        first = self._xid + 1
        payloads = []
        for request in some:
            self._xid += 1
            payloads.append(i32(self._xid) + i32(request.opcode) + request.body)
        self._connection.send(*payloads)
        return [self._answer(xid) for xid in range(first, self._xid + 1)]

    def _answer(self, xid: int) -> tuple[int, bytes]:
        while True:
            reader = Reader(self._connection.recv())
            number, _, error = reader.i32(), reader.i64(), reader.i32()
            if number != -1:
                assert number == xid
                return error, reader.rest()
            kind, _ = reader.i32(), reader.i32()
            self.events.append((kind, reader.ustring()))

    def do(self, *some: Request) -> bytes:
        """The last reply's body; none may be an error."""
        replies = self.send(*some)
        assert [error for error, _ in replies] == [0] * len(some)
        return replies[-1][1]

    def error(self, request: Request) -> int:
        ((error, body),) = self.send(request)
        assert not error or not body
        return error

    def names(self, request: Request) -> list[str | None]:
        return read_texts(Reader(self.do(request)))

    def stat(self, path: str) -> tuple[int, ...]:
        return read_stat(Reader(self.do(r.exists(path))))


def _is_set(flags: bytes, number: int) -> bool:
    return bool(flags[number // 8] >> (7 - number % 8) & 1)


def test_the_flags_are_found_by_those_who_ask(client: Client) -> None:
    flags = Reader(client.do(r.get_data(FLAGS))).buffer()
    assert flags is not None
    assert [_is_set(flags, number) for number in range(16)] == [True] * 11 + [False] * 5
    assert Reader(client.do(r.get_data("/keeper/api_version"))).buffer() == b"4"
    assert client.stat(FLAGS)[8] == len(flags)


def test_they_are_hidden_from_all_others(client: Client) -> None:
    assert "keeper" not in client.names(r.get_children("/"))
    assert client.error(r.exists("/keeper")) == NO_NODE
    assert client.error(r.set_data(FLAGS, b"x")) == NO_NODE
    assert client.error(r.create(FLAGS, b"x")) == NO_NODE
    assert client.error(r.delete(FLAGS)) == NO_NODE
    client.do(r.create("/keeper"), r.create(FLAGS, b"mine"))
    assert Reader(client.do(r.get_data(FLAGS))).buffer() == b"mine"
    client.do(r.delete(FLAGS), r.delete("/keeper"))
    assert Reader(client.do(r.get_data(FLAGS))).buffer() != b"mine"


def test_lists_of_some_children(client: Client) -> None:
    root = client.root
    client.do(r.create(f"{root}/p", b"one"), r.create(f"{root}/e", b"two", flags=r.EPHEMERAL))
    assert [client.names(filtered(root, which)) for which in (0, 1, 2)] == [
        ["e", "p"],
        ["p"],
        ["e"],
    ]
    assert client.error(filtered(root, 3)) == MARSHALLING
    assert client.error(filtered(f"{root}/none")) == NO_NODE
    reader = Reader(client.do(list_with(root)))
    assert read_texts(reader) == ["e", "p"]
    assert read_stat(reader) == client.stat(root)
    assert [read_stat(reader) for _ in range(reader.i32())] == [
        client.stat(f"{root}/e"), client.stat(f"{root}/p"),
    ]  # fmt: skip
    assert [reader.buffer() for _ in range(reader.i32())] == [b"two", b"one"]
    assert reader.rest() == b""
    reader = Reader(client.do(list_with(root, 1, stats=0, data=0)))
    assert (read_texts(reader), len(reader.rest())) == (["p"], 68 + 8)


def test_a_list_that_tells_more_than_names_needs_rights(client: Client) -> None:
    root = client.root
    client.do(r.create(f"{root}/a"), r.create(f"{root}/b", acl=[(r.DELETE, "world", "anyone")]))
    assert client.names(filtered(root)) == ["a", "b"]
    assert client.error(filtered(root, 1)) == NO_AUTH
    assert client.error(list_with(root)) == NO_AUTH
    assert client.error(page(root, "", 9, data=1)) == NO_AUTH
    assert client.names(list_recursive(root, 9)) == [f"{root}/a"]


def test_a_list_sets_a_watch(client: Client) -> None:
    root = client.root
    client.do(filtered(root, 2, watch=1), r.create(f"{root}/a"), r.exists(root))
    assert client.events == [(CHILD_EVENT, root)]


def test_a_whole_subtree_is_listed(client: Client) -> None:
    root = client.root
    paths = [f"{root}/a", f"{root}/b", f"{root}/a/c", f"{root}/a/c/d"]
    client.do(*map(r.create, paths))
    assert client.names(list_recursive(root, 100)) == paths
    assert client.names(list_recursive(root, 2)) == paths[:2]
    assert client.names(list_recursive(root, 0)) == []
    assert client.error(list_recursive(f"{root}/none", 1)) == NO_NODE


def test_pages_make_the_whole_list(client: Client) -> None:
    root = client.root
    names = [f"n{number:03}" for number in range(25)] + ["é", "x" * 300, "y" * 300]
    for name in names:
        client.do(r.create(f"{root}/{name}", name[:5].encode()))
    found: list[str | None] = []
    more, after = 1, ""
    while more:
        reader = Reader(client.do(page(root, after, 4, data=1)))
        part = read_texts(reader)
        assert len(part) == 4 or not found or len(found) + len(part) == len(names)
        read_stat(reader)
        assert reader.i32() == 0
        assert reader.i32() == len(part)
        assert [reader.buffer() for _ in part] == [(name or "")[:5].encode() for name in part]
        more = reader.i8()
        found += part
        after = part[-1] or ""
    assert sorted(map(str, found)) == sorted(names)
    client.do(r.delete(f"{root}/n003"))
    assert client.names(page(root, "n003", 2)) == ["n004", "n005"]
    assert client.names(page(root, "zz", 2)) == ["é"]
    assert client.error(page(root, "a/b", 2)) == BAD_ARGUMENTS
    assert client.error(page(root, "", 0)) == BAD_ARGUMENTS
    assert None not in client.names(page("/", "", 1000))


def test_create_if_not_exists(client: Client) -> None:
    path = f"{client.root}/a"
    for _ in range(2):
        assert Reader(client.do(create_if_not_exists(path, b"x"))).ustring() == path
    assert client.stat(path)[4] == 0
    assert client.error(create_if_not_exists(f"{path}/none/b")) == NO_NODE
    assert client.error(create_if_not_exists(path, flags=r.SEQUENTIAL)) == BAD_ARGUMENTS
    replies = client.send(*[create_if_not_exists(f"{path}/b") for _ in range(5)])
    assert [Reader(body).ustring() for _, body in replies] == [f"{path}/b"] * 5


def test_check_not_exists(client: Client) -> None:
    root = client.root
    assert client.error(check_not_exists(f"{root}/a")) == 0
    client.do(r.create(f"{root}/a"), r.set_data(f"{root}/a", b""))
    assert client.error(check_not_exists(f"{root}/a")) == NODE_EXISTS
    assert client.error(check_not_exists(f"{root}/a", 1)) == NODE_EXISTS
    assert client.error(check_not_exists(f"{root}/a", 0)) == 0
    assert client.error(check_not_exists("bad")) == BAD_ARGUMENTS
    assert client.error(check_not_exists(f"{root}/none/a")) == 0
    client.do(r.set_acl(f"{root}/a", [(r.ALL & ~r.READ, "world", "anyone")]))
    assert client.error(check_not_exists(f"{root}/a")) == NODE_EXISTS  # the parent tells
    assert client.error(check_not_exists(f"{root}/a/b")) == NO_AUTH


def test_try_remove(client: Client) -> None:
    root = client.root
    client.do(r.create(f"{root}/a"), r.create(f"{root}/a/b"))
    for path, version in ((f"{root}/a", -1), (f"{root}/a/b", 7), (f"{root}/none/b", -1)):
        assert client.do(try_remove(path, version)) == b""
    assert client.names(r.get_children(f"{root}/a")) == ["b"]
    assert client.do(try_remove(f"{root}/a/b", 0)) == b""
    assert client.names(r.get_children(f"{root}/a")) == []
    assert client.error(try_remove("/")) == BAD_ARGUMENTS


def _plant(client: Client, root: str) -> list[str]:
    paths = [root, f"{root}/a", f"{root}/b", f"{root}/a/c", f"{root}/a/c/d"]
    client.do(*map(r.create, paths))
    return paths


def test_a_subtree_is_removed_whole_or_not_at_all(client: Client) -> None:
    root = f"{client.root}/s"
    paths = _plant(client, root)
    for limit in (0, 1, 4):
        assert client.error(remove_recursive(root, limit)) == NOT_EMPTY
    client.do(*(r.exists(path, True) for path in paths))
    assert client.do(remove_recursive(root, 5)) == b""
    assert client.error(remove_recursive(root, 5)) == NO_NODE
    assert sorted(client.events) == sorted((DELETED_EVENT, path) for path in paths)
    assert client.names(r.get_children(client.root)) == []
    for path in ("/", "/zookeeper", "/zookeeper/quota"):
        assert client.error(remove_recursive(path, 1000)) == BAD_ARGUMENTS


def test_what_is_in_flight_is_removed_as_well(client: Client) -> None:
    root = f"{client.root}/s"
    _plant(client, root)
    replies = client.send(
        r.create(f"{root}/b/new"), r.delete(f"{root}/a/c/d"), remove_recursive(root, 5),
        r.create(root), remove_recursive(root, 1),
    )  # fmt: skip
    assert [error for error, _ in replies] == [0] * 5
    assert client.names(r.get_children(client.root)) == []


def test_a_subtree_with_a_node_that_may_not_be_deleted_stays(client: Client) -> None:
    root = f"{client.root}/s"
    paths = _plant(client, root)
    client.do(r.set_acl(f"{root}/a/c/d", [(r.READ, "world", "anyone")]))
    assert client.error(remove_recursive(root, 10)) == NO_AUTH
    assert client.names(list_recursive(root, 10)) == paths[1:]


def test_more_than_the_servers_own_limit_is_refused(client: Client) -> None:
    root = f"{client.root}/s"
    client.do(r.create(root))
    for start in range(0, 10_000, 500):
        client.do(r.multi(*(r.create(f"{root}/{start + n}") for n in range(500))))
    assert client.error(remove_recursive(root, 100_000)) == NOT_EMPTY
    client.do(r.delete(f"{root}/0"))
    assert client.error(remove_recursive(root, 100_000)) == 0


def test_every_field_of_a_stat_is_checked(client: Client) -> None:
    path = f"{client.root}/a"
    client.do(r.create(path, b"x"), r.set_data(path, b"xy"), r.create(f"{path}/b"))
    stat = client.stat(path)
    assert client.error(check_stat(path, stat)) == 0
    assert client.error(check_stat(path, ANY)) == 0
    assert client.error(check_stat(path, ANY, version=7)) == BAD_VERSION
    for at, value in enumerate(stat):
        expected = list(ANY)
        expected[at] = value
        assert client.error(check_stat(path, expected)) == 0, at
        expected[at] = value + 1
        assert client.error(check_stat(path, expected)) == BAD_VERSION, at
    assert client.error(check_stat(f"{path}/none", ANY)) == NO_NODE


def test_a_stat_in_flight_is_checked_as_it_will_be(client: Client) -> None:
    """Each request in one write sees the one before, though nothing is applied yet."""
    path = f"{client.root}/a"
    client.do(r.create(path))
    before = client.stat(path)
    sizes = [(*ANY[:8], size, *ANY[9:]) for size in range(4)]
    replies = client.send(
        r.set_data(path, b"x"), check_stat(path, sizes[1]), check_stat(path, before),
        r.multi(r.set_data(path, b"xy"), check_stat(path, sizes[2]), r.create(f"{path}/b")),
        check_stat(path, (*ANY[:9], 1, -1)),
        r.multi(r.set_data(path, b"xyz"), check_stat(path, sizes[2])),
        check_stat(path, sizes[2]),
    )  # fmt: skip
    assert [error for error, _ in replies] == [0, 0, BAD_VERSION, 0, 0, 0, 0]
    assert read_results(replies[3][1]) == [(5, 0), (504, 0), (1, 0)]
    assert read_results(replies[5][1]) == [(-1, 0), (-1, BAD_VERSION)]
    assert client.stat(path)[8] == 2


def test_a_multi_takes_them_and_has_one_result_each(client: Client) -> None:
    root = client.root
    _plant(client, f"{root}/s")
    body = client.do(
        r.multi(
            check_not_exists(f"{root}/x"),
            create_if_not_exists(f"{root}/x"),
            create_if_not_exists(f"{root}/x"),
            r.create(f"{root}/y"),
            remove_recursive(f"{root}/s", 10),
            r.set_data(f"{root}/y", b"y"),
            try_remove(f"{root}/none"),
            check_stat(f"{root}/x", ANY),
            r.delete(f"{root}/x"),
        )
    )
    kinds = [501, 502, 502, 1, 503, 5, 505, 504, 2]
    assert read_results(body) == [(kind, 0) for kind in kinds]
    assert client.names(r.get_children(root)) == ["y"]


def test_a_multi_that_fails_changes_nothing(client: Client) -> None:
    root = client.root
    paths = _plant(client, f"{root}/s")
    body = client.do(
        r.multi(
            remove_recursive(f"{root}/s", 10),
            create_if_not_exists(f"{root}/x"),
            check_not_exists(f"{root}/x"),
            try_remove(f"{root}/x"),
        )
    )
    assert read_results(body) == [(-1, 0), (-1, 0), (-1, NODE_EXISTS), (-1, INCONSISTENT)]
    assert client.names(list_recursive(root, 10)) == sorted(paths, key=lambda p: p.count("/"))
    client.do(r.create(f"{root}/s/more"))
    reads = r.multi(check_not_exists(f"{root}/x"), r.get_data(root))
    assert client.error(reads) == MARSHALLING


def test_multi_reads_of_those_who_know(client: Client) -> None:
    root = client.root
    client.do(r.create(f"{root}/a", b"x"))
    reads = r.multi_read(
        r.get_data(f"{root}/a", True), r.exists(f"{root}/a"), r.get_children(root, True),
        filtered(root, 1), r.exists(f"{root}/none"),
    )  # fmt: skip
    assert client.error(reads) == MARSHALLING  # as Apache has it
    client.do(r.get_data(FLAGS))
    reader = Reader(client.do(reads))
    for kind in (4, 3, 8, 500):
        assert (reader.i32(), reader.i8(), reader.i32()) == (kind, 0, 0)
        if kind == 4:
            assert reader.buffer() == b"x"
        if kind in (8, 500):
            assert read_texts(reader) == ["a"]
        if kind in (3, 4, 500):
            read_stat(reader)
    assert (reader.i32(), reader.i8(), reader.i32()) == (3, 0, NO_NODE)
    assert (reader.i32(), reader.i8(), reader.i32()) == (-1, 1, -1)
    client.do(r.set_data(f"{root}/a", b""), r.create(f"{root}/b"), r.exists(root))
    assert sorted(client.events) == [(DATA_EVENT, f"{root}/a"), (CHILD_EVENT, root)]


def test_bodies_that_end_early_are_refused(client: Client) -> None:
    for code, whole in (
        (500, filtered("/a")), (501, check_not_exists("/a")), (502, create_if_not_exists("/a")),
        (503, remove_recursive("/a", 1)), (504, check_stat("/a", ANY)), (505, try_remove("/a")),
        (506, list_with("/a")), (507, list_recursive("/a", 1)), (1001, page("/a", "", 1)),
    ):  # fmt: skip
        for size in range(len(whole.body)):
            assert client.error(op(code, whole.body[:size])) == MARSHALLING, (code, size)
    with pytest.raises(ClosedError):
        client.send(op(508, b""), r.exists("/"))
