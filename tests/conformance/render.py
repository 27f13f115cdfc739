"""Frames as stable text: every field decoded, what differs between runs replaced by names.

What for:   two runs of one scenario, on any server, give equal text exactly when the servers
            behaved alike.
Owns:       `Names`: the session ids, zxids and times that one scenario has seen.
Invariants:
  1. Lossless: every byte of a frame is in the text; what a record does not account for is shown as
     `extra=`.
  2. Relations survive: zxids count from the scenario's start (z+1, z+2), sessions are numbered by
     appearance, a time is shown as the zxid whose time it is (@z+3) and as `@?` when that zxid had
     another time.
Design:     times are not numbered by value: two writes share a millisecond in one run and not in
            the next.
Not here:   sockets (wire.py), who said what in which order (scenario.py).
Source:     zookeeper.jute; reference parity, sections A, B, D and G.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import Final

from tests.conformance.requests import NAMES, OPCODES
from tests.conformance.wire import ConnectResponse, Reader, java_password

_RECENT_MS: Final = 3_600_000
"""A time that is further from now than this is in the wrong unit."""

EVENTS: Final = {
    1: "NodeCreated",
    2: "NodeDeleted",
    3: "NodeDataChanged",
    4: "NodeChildrenChanged",
}


class Names:
    """The names that one scenario gives to what differs between runs."""

    def __init__(self, base_zxid: int) -> None:
        self._base_zxid = base_zxid
        self._sessions: dict[int, str] = {}
        self._time_of_zxid: dict[int, int] = {}

    def zxid(self, zxid: int) -> str:
        if zxid in (0, -1):
            return str(zxid)
        ahead = zxid - self._base_zxid
        return f"z+{ahead}" if ahead >= 0 else "old"

    def session(self, session_id: int) -> str:
        if session_id == 0:
            return "0"
        return self._sessions.setdefault(session_id, f"S{len(self._sessions) + 1}")

    def time(self, zxid: int, time_ms: int) -> str:
        if zxid == 0 and time_ms == 0:
            return "0"
        known = self._time_of_zxid.setdefault(zxid, time_ms)
        recent = abs(time_ms - time.time() * 1000) < _RECENT_MS
        return f"@{self.zxid(zxid)}" if known == time_ms and recent else f"@?{time_ms}"

    def password(self, session_id: int, password: bytes | None) -> str:
        if password is None:
            return "null"
        if session_id and password == java_password(session_id):
            return "java"
        return "zeros" if password == bytes(16) else password.hex()


def text_of(value: str | bytes | None) -> str:
    """A string or buffer as it is shown: plain if printable ASCII, else escaped; long: its size."""
    if value is None:
        return "null"
    if isinstance(value, bytes):
        return repr(value)[1:] if len(value) <= 200 else f"({len(value)} bytes)"
    if len(value) > 200:
        return f"{value[:20]!a}..({len(value.encode())} bytes)"
    return value if value.isascii() and value.isprintable() and " " not in value else ascii(value)


def connect_response(names: Names, response: ConnectResponse) -> str:
    read_only = "absent" if response.read_only is None else response.read_only
    password = names.password(response.session_id, response.password)
    return (
        f"protocol={response.protocol} timeout={response.timeout_ms} "
        f"session={names.session(response.session_id)} password={password} readOnly={read_only}"
    )


def frame(names: Names, payload: bytes, opcode_of: Callable[[int], int], unordered: bool) -> str:
    """A reply or an event.

    `opcode_of` tells which operation an xid belongs to; `unordered` sorts lists.
    """
    if len(payload) < 16:
        return f"short frame {payload.hex()}"
    xid, zxid, err = struct.unpack_from(">iqi", payload)
    reader = Reader(payload[16:])
    head = f"zxid={names.zxid(zxid)}"
    try:
        if xid == -1:
            body = _event(reader)
            text = f"{body} {head}" + (f" err={err}" if err else "")
        else:
            name = NAMES.get(opcode_of(xid), "?")
            body = _body(names, name, err, payload, reader, unordered)
            text = f"{name} xid={xid} {head} err={err} {body}".rstrip()
    except (struct.error, IndexError) as error:
        return f"xid={xid} {head} err={err} undecodable ({error}): {payload[16:].hex()}"
    left = reader.rest()
    return f"{text} extra={left.hex()}" if left else text


def _event(reader: Reader) -> str:
    kind, state, path = reader.i32(), reader.i32(), reader.ustring()
    return f"event {EVENTS.get(kind, kind)} {text_of(path)} state={state}"


def _body(
    names: Names, name: str, err: int, payload: bytes, reader: Reader, unordered: bool
) -> str:
    if err or len(payload) == 16:
        return ""
    if name in ("multi", "multiRead"):
        return _multi(names, reader)
    return _record(names, name, reader, unordered)


def _record(names: Names, name: str, reader: Reader, unordered: bool = False) -> str:
    if name in ("create", "sync"):
        return text_of(reader.ustring())
    if name in ("create2", "createTTL", "createContainer"):
        return f"{text_of(reader.ustring())} {stat(names, reader)}"
    if name in ("exists", "setData", "setACL"):
        return stat(names, reader)
    if name in ("getData", "reconfig"):
        return f"{text_of(reader.buffer())} {stat(names, reader)}"
    if name == "getACL":
        return f"{_list(reader, _acl, unordered)} {stat(names, reader)}"
    if name in ("getChildren", "getEphemerals"):
        return _list(reader, _path, unordered=True)
    if name == "getChildren2":
        return f"{_list(reader, _path, unordered=True)} {stat(names, reader)}"
    if name == "getAllChildrenNumber":
        return f"total={reader.i32()}"
    if name == "addWatch":
        return f"ErrorResponse={reader.i32()}"
    if name == "whoAmI":
        return _list(reader, _client_info, unordered=True)
    if name == "sasl":
        return text_of(reader.buffer())
    return ""


def stat(names: Names, reader: Reader) -> str:
    czxid, mzxid, ctime, mtime = reader.i64(), reader.i64(), reader.i64(), reader.i64()
    version, cversion, aversion = reader.i32(), reader.i32(), reader.i32()
    owner, length, children, pzxid = reader.i64(), reader.i32(), reader.i32(), reader.i64()
    return (
        f"{{czxid={names.zxid(czxid)} mzxid={names.zxid(mzxid)} ctime={names.time(czxid, ctime)} "
        f"mtime={names.time(mzxid, mtime)} version={version} cversion={cversion} "
        f"aversion={aversion} owner={names.session(owner)} length={length} children={children} "
        f"pzxid={names.zxid(pzxid)}}}"
    )


def _multi(names: Names, reader: Reader) -> str:
    results: list[str] = []
    while True:
        kind, done, err = reader.i32(), reader.i8(), reader.i32()
        if done:
            end = "end" if (kind, done, err) == (-1, 1, -1) else f"end({kind},{done},{err})"
            return "[" + "; ".join([*results, end]) + "]"
        name = NAMES.get(kind, str(kind))
        if kind == OPCODES["error"]:
            results.append(f"error {err}/{reader.i32()}")
        else:
            record = _record(names, name, reader)
            results.append(f"{name} {err} {record}".rstrip())


def _list(reader: Reader, item: Callable[[Reader], str], unordered: bool) -> str:
    size = reader.i32()
    if size < 0:
        return "null"
    items = [item(reader) for _ in range(size)]
    return "[" + ", ".join(sorted(items) if unordered else items) + "]"


def _path(reader: Reader) -> str:
    return text_of(reader.ustring())


def _acl(reader: Reader) -> str:
    perms, scheme, ident = reader.i32(), reader.ustring(), reader.ustring()
    return f"{text_of(scheme)}:{text_of(ident)}:{perms}"


def _client_info(reader: Reader) -> str:
    return f"{text_of(reader.ustring())}:{text_of(reader.ustring())}"
