"""The client's parts by themselves: connect strings, bytes, slots, the table of watches."""

from __future__ import annotations

import asyncio
import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client.loop import on_loop
from zkstore.client import BadArguments, Code, NoNode, ZooKeeperError
from zkstore.client.errors import error_of
from zkstore.client.hosts import Hosts, parse
from zkstore.client.paths import Paths, ancestors, join
from zkstore.client.slots import Slots
from zkstore.client.watches import (
    CHILD,
    DATA,
    EXIST,
    PERSISTENT,
    RECURSIVE,
    Event,
    Events,
    EventType,
    Watches,
)
from zkstore.errors import RemoteProtocolError
from zkstore.proto import client_replies as replies
from zkstore.proto import client_requests as requests
from zkstore.proto import opcodes as op
from zkstore.proto import replies as served
from zkstore.proto import requests as asked

PATHS = st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace"))
DATA_BYTES = st.binary(max_size=100)
INTS = st.integers(-(1 << 31), (1 << 31) - 1)
LONGS = st.integers(-(1 << 63), (1 << 63) - 1)


@pytest.mark.parametrize(
    "text, addresses, chroot",
    [
        ("a", [("a", 2181)], ""),
        ("a:1,b, c:65535", [("a", 1), ("b", 2181), ("c", 65535)], ""),
        ("a/", [("a", 2181)], ""),
        ("a:1/x/y/", [("a", 1)], "/x/y"),
        ("[::1]:5,[fe80::2]", [("::1", 5), ("fe80::2", 2181)], ""),
    ],
)
def test_connect_strings(text: str, addresses: list[tuple[str, int]], chroot: str) -> None:
    assert parse(text) == (addresses, chroot)


@pytest.mark.parametrize(
    "text", ["", "/x", "a,,b", "a:", "a:0", "a:x", "a:70000", "[::1", "[::1]x", "a//x", "a:-1"]
)
def test_bad_connect_strings(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


def test_every_server_has_its_turn() -> None:
    addresses = [("a", 1), ("b", 2), ("c", 3)]
    hosts = Hosts(addresses)
    first = [hosts.turn() for _ in range(3)]
    assert sorted(first) == addresses
    assert [hosts.turn() for _ in range(3)] == first


def test_paths_stay_below_the_chroot() -> None:
    root, below = Paths(""), Paths("/x")
    assert (root.wire("/"), root.wire("/a")) == (b"/", b"/a")
    assert (below.wire("/"), below.wire("/a")) == (b"/x", b"/x/a")
    assert (root.shown(b"/"), root.shown(b"/a")) == ("/", "/a")
    assert (below.shown(b"/x"), below.shown(b"/x/a")) == ("/", "/a")
    for path in ("", "a", "../a"):
        with pytest.raises(BadArguments):
            below.wire(path)
    assert (join("/", "a"), join("/a", "b")) == ("/a", "/a/b")
    assert ancestors("/a/b/c") == ["/a", "/a/b"]
    assert ancestors("/a") == ancestors("/") == []


def test_codes_become_errors() -> None:
    assert isinstance(error_of(-101, "get /a"), NoNode)
    plain = error_of(-13, "x")
    assert type(plain) is ZooKeeperError and plain.code is Code.NEW_CONFIG_NO_QUORUM
    assert "-999" in str(error_of(-999, "x"))


@given(PATHS, DATA_BYTES, INTS, LONGS)
def test_requests_are_what_the_server_reads(
    path: bytes, data: bytes, number: int, long: int
) -> None:
    entries = [(31, b"world", b"anyone"), (1, b"digest", b"a:b")]
    hello = requests.connect(long, number, long, data)
    assert asked.read_connect(hello[4:]) == (0, long, number, long, data, False)
    frame = requests.frame(7, op.SET_DATA, requests.set_data(path, data, number))
    assert len(frame) == 4 + int.from_bytes(frame[:4], "big")
    assert asked.read_header(frame[4:]) == (7, op.SET_DATA)
    assert asked.read_set_data(frame, 12)[0] == (path, data, number)
    made = requests.create(path, data, entries, 3, None)
    assert asked.read_create(made, op.CREATE2, 0)[0] == (path, data, entries, 3, -1)
    made = requests.create(path, data, entries, 5, long)
    assert asked.read_create(made, op.CREATE_TTL, 0)[0] == (path, data, entries, 5, long)
    assert asked.read_path_int(requests.path_int(path, number), 0)[0] == (path, number)
    assert asked.read_path_bool(requests.path_bool(path, True), 0)[:2] == (path, True)
    assert asked.read_set_acl(requests.set_acl(path, entries, number), 0) == (
        path,
        entries,
        number,
    )
    assert asked.read_auth(requests.auth(b"digest", data), 0) == (b"digest", data)


@given(LONGS, st.lists(st.lists(PATHS, max_size=3), min_size=5, max_size=5))
def test_watches_are_armed_by_the_older_request_where_it_can(
    zxid: int, lists: list[list[bytes]]
) -> None:
    kind, body = requests.set_watches(zxid, lists)
    if lists[3] or lists[4]:
        assert kind == op.SET_WATCHES2
        assert asked.read_set_watches(body, 0, 5) == (zxid, lists)
    else:
        assert kind == op.SET_WATCHES
        assert asked.read_set_watches(body, 0, 3) == (zxid, lists[:3])


def test_a_multi_is_what_the_server_reads() -> None:
    operations = [
        (op.CREATE2, requests.create(b"/a", b"x", [(31, b"world", b"anyone")], 1, None)),
        (op.SET_DATA, requests.set_data(b"/a", b"y", 0)),
        (op.CHECK, requests.path_int(b"/a", 1)),
        (op.DELETE, requests.path_int(b"/b", -1)),
    ]
    frame = bytes(8) + requests.multi(operations)
    assert [one.type for one in asked.read_multi(frame, reads=False)] == [15, 5, 13, 2]


@given(st.binary(max_size=200))
def test_garbage_is_the_servers_fault(garbage: bytes) -> None:
    for read in (
        replies.read_header,
        replies.read_connected,
        replies.read_data,
        replies.read_children,
        replies.read_acl,
        replies.read_event,
        replies.read_multi,
    ):
        try:
            read(garbage)
        except RemoteProtocolError:
            pass


@given(LONGS, INTS, PATHS)
def test_replies_are_what_the_server_writes(zxid: int, number: int, path: bytes) -> None:
    assert replies.read_header(served.reply(number, zxid, b"x")[4:]) == (number, zxid, 0)
    assert replies.read_header(served.error(number, zxid, -101)[4:]) == (number, zxid, -101)
    assert replies.read_event(served.event(zxid, 3, path)[4:]) == (3, path)
    answer = served.connect(zxid, number, b"p" * 16, False)
    assert replies.read_connected(answer[4:]) == (number, zxid, b"p" * 16, False)


@on_loop
async def test_slots_go_to_who_came_first() -> None:
    slots = Slots(2)
    order: list[int] = []

    async def take(number: int) -> None:
        await slots.acquire()
        order.append(number)

    tasks = [asyncio.ensure_future(take(number)) for number in range(6)]
    await asyncio.sleep(0)
    assert order == [0, 1]
    tasks[2].cancel()
    slots.release()
    tasks[3].cancel()  # it has just been handed one, and hands it on
    slots.release()
    await asyncio.wait(tasks)
    assert order == [0, 1, 4, 5]
    slots.release()
    slots.release()
    await take(6)
    await take(7)


@on_loop
async def test_events_wake_those_whom_they_concern() -> None:
    watches = Watches()
    waiters = {kind: asyncio.Event() for kind in (DATA, EXIST, CHILD)}

    def woken_by(event: int) -> list[int]:
        for kind, waiter in waiters.items():
            waiter.clear()
            watches.add_waiter(kind, b"/a", waiter)
        watches.dispatch(event, b"/a", 1)
        return [kind for kind, waiter in waiters.items() if waiter.is_set()]

    assert woken_by(op.NODE_CREATED) == [DATA, EXIST]
    assert woken_by(op.NODE_DELETED) == [DATA, EXIST, CHILD]
    assert woken_by(op.NODE_DATA_CHANGED) == [DATA, EXIST]
    assert woken_by(op.NODE_CHILDREN_CHANGED) == [CHILD]
    assert woken_by(99) == []


@on_loop
async def test_a_waiter_that_nobody_holds_is_not_armed_again() -> None:
    watches = Watches()
    kept = asyncio.Event()
    watches.add_waiter(DATA, b"/kept", kept)
    watches.add_waiter(DATA, b"/dropped", asyncio.Event())
    gc.collect()
    assert list(watches.armed()) == [[[b"/kept"], [], [], [], []]]


@on_loop
async def test_events_find_persistent_watches() -> None:
    watches = Watches()
    shown = Paths("").shown
    one, tree, root = (Events(path, shown) for path in (b"/a", b"/a", b"/"))
    watches.add_events(PERSISTENT, b"/a", one)
    watches.add_events(RECURSIVE, b"/a", tree)
    watches.add_events(RECURSIVE, b"/", root)
    for kind, path in (
        (op.NODE_CREATED, b"/a"),
        (op.NODE_CREATED, b"/a/b"),
        (op.NODE_CHILDREN_CHANGED, b"/a"),
        (op.NODE_DELETED, b"/ab"),
    ):
        watches.dispatch(kind, path, 5)

    def taken(events: Events) -> list[Event]:
        return list(iter(events.pop, None))

    a, b, ab = "/a", "/a/b", "/ab"
    created, deleted = EventType.CREATED, EventType.DELETED
    assert taken(one) == [(created, a, 5), (EventType.CHILDREN_CHANGED, a, 5)]
    assert taken(tree) == [(created, a, 5), (created, b, 5)]
    assert taken(root) == [(created, a, 5), (created, b, 5), (deleted, ab, 5)]
    assert list(watches.armed()) == [[[], [], [], [b"/a"], [b"/a", b"/"]]]
    assert watches.discard_events(RECURSIVE, b"/", root)
