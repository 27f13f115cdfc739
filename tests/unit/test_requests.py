"""proto/requests.py: bodies as an independent client writes them; what is cut short is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conformance import requests as r
from tests.conformance.wire import buffer, i8, i32, i64
from zkstore.errors import RemoteProtocolError
from zkstore.proto import opcodes as op
from zkstore.proto import requests
from zkstore.proto.requests import Connect, Create, MultiOp

OPEN: requests.RawAcl = [(31, b"world", b"anyone")]
CONNECT = i32(0) + i64(7) + i32(30_000) + i64(0x100000000000001) + buffer(b"p" * 16)


def body(request: r.Request) -> bytes:
    return i32(1) + i32(request.opcode) + request.body


CASES: dict[str, tuple[bytes, Callable[[bytes], Any], Any]] = {
    "create": (
        body(r.create("/a", b"x", flags=3)),
        lambda frame: requests.read_create(frame, op.CREATE, 8)[0],
        Create(b"/a", b"x", OPEN, 3, -1),
    ),
    "create of nulls": (
        body(r.create(None, None, acl=None)),
        lambda frame: requests.read_create(frame, op.CREATE, 8)[0],
        Create(None, None, None, 0, -1),
    ),
    "createTTL": (
        body(r.create_ttl("/a", b"", ttl_ms=1 << 39, acl=[(1, None, "x")])),
        lambda frame: requests.read_create(frame, op.CREATE_TTL, 8)[0],
        Create(b"/a", b"", [(1, None, b"x")], 5, 1 << 39),
    ),
    "setData": (
        body(r.set_data("/a", None, 4)),
        lambda frame: requests.read_set_data(frame, 8)[0],
        (b"/a", None, 4),
    ),
    "delete": (
        body(r.delete("/a", 9)),
        lambda frame: requests.read_path_int(frame, 8)[0],
        (b"/a", 9),
    ),
    "exists": (
        body(r.exists("/a", True)),
        lambda frame: requests.read_path_bool(frame, 8)[:2],
        (b"/a", True),
    ),
    "setACL": (
        body(r.set_acl("/a", [(31, "world", "anyone")], 2)),
        lambda frame: requests.read_set_acl(frame, 8),
        (b"/a", OPEN, 2),
    ),
    "auth": (
        body(r.auth("digest", b"u:p", kind=9)),
        lambda frame: requests.read_auth(frame, 8),
        (b"digest", b"u:p"),
    ),
    "setWatches": (
        body(r.set_watches(5, zxid_text="", data=["/a"], exist=["/b", "/c"])),
        lambda frame: requests.read_set_watches(frame, 8, 3),
        (5, [[b"/a"], [b"/b", b"/c"], []]),
    ),
    "setWatches2": (
        body(r.set_watches(5, zxid_text="", persistent=["/a"], recursive=["/b"])),
        lambda frame: requests.read_set_watches(frame, 8, 5),
        (5, [[], [], [], [b"/a"], [b"/b"]]),
    ),
    "multi": (
        body(
            r.multi(r.create("/a", b"x"), r.delete("/b", 2), r.set_data("/c", b""), r.check("/d"))
        ),
        lambda frame: requests.read_multi(frame, reads=False),
        [
            MultiOp(op.CREATE, Create(b"/a", b"x", OPEN, 0, -1)),
            MultiOp(op.DELETE, (b"/b", 2)),
            MultiOp(op.SET_DATA, (b"/c", b"", -1)),
            MultiOp(op.CHECK, (b"/d", -1)),
        ],
    ),
    "multiRead": (
        body(r.multi_read(r.get_data("/a", True), r.get_children(None))),
        lambda frame: requests.read_multi(frame, reads=True),
        [MultiOp(op.GET_DATA, (b"/a",)), MultiOp(op.GET_CHILDREN, (None,))],
    ),
    "connect": (
        CONNECT + i8(1),
        requests.read_connect,
        Connect(0, 7, 30_000, 0x100000000000001, b"p" * 16, True),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_request_is_read(name: str) -> None:
    frame, read, wanted = CASES[name]
    assert read(frame) == wanted


@pytest.mark.parametrize("name", CASES)
def test_bytes_behind_a_request_are_ignored(name: str) -> None:
    frame, read, wanted = CASES[name]
    assert read(frame + b"behind") == wanted


@pytest.mark.parametrize("name", [name for name in CASES if name != "connect"])
def test_a_request_that_is_cut_short_is_refused(name: str) -> None:
    frame, read, _ = CASES[name]
    for size in range(8, len(frame)):
        with pytest.raises(RemoteProtocolError):
            read(frame[:size])


def test_a_connect_request_of_an_old_client_has_no_read_only_byte() -> None:
    assert requests.read_connect(CONNECT).read_only is None
    for size in range(len(CONNECT)):
        with pytest.raises(RemoteProtocolError):
            requests.read_connect(CONNECT[:size])


def test_a_header_needs_eight_bytes() -> None:
    assert requests.read_header(i32(-2) + i32(11)) == (-2, 11)
    with pytest.raises(RemoteProtocolError):
        requests.read_header(bytes(7))


@pytest.mark.parametrize(
    "sub",
    [
        r.exists("/a"),
        r.get_data("/a"),
        r.set_acl("/a", r.OPEN),
        r.delete_container("/a"),
        r.create("/a", flags=5),
        r.create("/a", flags=-1),
        r.create_container("/a", flags=9),
        r.create(None),
        r.delete(None),
        r.set_data(None, b""),
        r.check(None),
        r.raw(99, b""),
    ],
    ids=lambda sub: sub.text,
)
def test_what_a_multi_may_not_hold(sub: r.Request) -> None:
    with pytest.raises(RemoteProtocolError):
        requests.read_multi(body(r.multi(r.create("/x"), sub)), reads=False)


def test_the_container_flag_makes_a_container_in_a_multi() -> None:
    (sub,) = requests.read_multi(body(r.multi(r.create("/a", flags=4))), reads=False)
    assert sub.type == op.CREATE_CONTAINER
