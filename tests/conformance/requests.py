"""The requests of every client operation, as bytes and as the text a transcript shows.

What for:   one builder per operation; scenarios that need a broken body build a `Request`
            themselves with `raw`.
Invariants:
  1. Everything sent is shown: the text names each field whose value is not the usual one.
Not here:   jute primitives (wire.py), replies (render.py).
Source:     zookeeper.jute; ZooDefs.OpCode; reference parity, sections B and G.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from tests.conformance.wire import (
    XID_AUTH,
    XID_PING,
    XID_SET_WATCHES,
    buffer,
    i8,
    i32,
    i64,
    ustring,
    vector,
)

Acl = tuple[int, str | None, str | None]  # (perms, scheme, id)

READ, WRITE, CREATE, DELETE, ADMIN, ALL = 1, 2, 4, 8, 16, 31
OPEN: Final[list[Acl]] = [(ALL, "world", "anyone")]
CREATOR: Final[list[Acl]] = [(ALL, "auth", "")]

PERSISTENT, EPHEMERAL, SEQUENTIAL, EPHEMERAL_SEQUENTIAL, CONTAINER, TTL, TTL_SEQUENTIAL = range(7)

OPCODES: Final = {
    "notification": 0,
    "create": 1,
    "delete": 2,
    "exists": 3,
    "getData": 4,
    "setData": 5,
    "getACL": 6,
    "setACL": 7,
    "getChildren": 8,
    "sync": 9,
    "ping": 11,
    "getChildren2": 12,
    "check": 13,
    "multi": 14,
    "create2": 15,
    "reconfig": 16,
    "checkWatches": 17,
    "removeWatches": 18,
    "createContainer": 19,
    "deleteContainer": 20,
    "createTTL": 21,
    "multiRead": 22,
    "auth": 100,
    "setWatches": 101,
    "sasl": 102,
    "getEphemerals": 103,
    "getAllChildrenNumber": 104,
    "setWatches2": 105,
    "addWatch": 106,
    "whoAmI": 107,
    "createSession": -10,
    "closeSession": -11,
    "error": -1,
}
NAMES: Final = {code: name for name, code in OPCODES.items()}


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `xid` is None when the client's next number is to be used."""

    opcode: int
    body: bytes
    text: str
    xid: int | None = None

    def with_xid(self, xid: int) -> Request:
        return replace(self, xid=xid)


def raw(opcode: int, body: bytes, text: str = "") -> Request:
    """A request with a body of one's own making."""
    name = NAMES.get(opcode, f"op{opcode}")
    return Request(opcode, body, f"{name} {text or 'body=' + body.hex()}".rstrip())


def _request(name: str, body: bytes, *parts: object, xid: int | None = None) -> Request:
    shown = " ".join(str(part) for part in parts if part != "")
    return Request(OPCODES[name], body, f"{name} {shown}".rstrip(), xid)


def _acls(acl: list[Acl] | None) -> bytes:
    if acl is None:
        return vector(None)
    return vector([i32(perms) + ustring(scheme) + ustring(ident) for perms, scheme, ident in acl])


def _acl_text(acl: list[Acl] | None) -> str:
    if acl == OPEN:
        return ""
    if acl is None:
        return "acl=null"
    return "acl=" + ",".join(f"{scheme}:{ident}:{perms}" for perms, scheme, ident in acl)


def _data_text(data: bytes | None) -> str:
    if data is None:
        return "data=null"
    return repr(data)[1:] if len(data) <= 40 else f"{len(data)} bytes"


def _path_text(path: str | bytes | None) -> str:
    if path is None:
        return "null"
    if isinstance(path, bytes):
        return repr(path)
    if len(path) > 120:
        return f"{path[:20]!a}..({len(path.encode())} bytes)"
    return path if path.isascii() and path.isprintable() else ascii(path)


def _version_text(version: int) -> str:
    return "" if version == -1 else f"version={version}"


def create(
    path: str | bytes | None,
    data: bytes | None = b"",
    *,
    acl: list[Acl] | None = OPEN,
    flags: int = PERSISTENT,
    op: str = "create",
) -> Request:
    """create, create2 or createContainer, as `op` says."""
    body = ustring(path) + buffer(data) + _acls(acl) + i32(flags)
    flag_text = f"flags={flags}" if flags else ""
    return _request(op, body, _path_text(path), _data_text(data), flag_text, _acl_text(acl))


def create2(
    path: str | bytes | None,
    data: bytes | None = b"",
    *,
    acl: list[Acl] | None = OPEN,
    flags: int = PERSISTENT,
) -> Request:
    return create(path, data, acl=acl, flags=flags, op="create2")


def create_container(path: str, data: bytes | None = b"", *, flags: int = CONTAINER) -> Request:
    return create(path, data, flags=flags, op="createContainer")


def create_ttl(
    path: str,
    data: bytes | None = b"",
    *,
    ttl_ms: int,
    flags: int = TTL,
    acl: list[Acl] | None = OPEN,
) -> Request:
    body = ustring(path) + buffer(data) + _acls(acl) + i32(flags) + i64(ttl_ms)
    parts = (_path_text(path), _data_text(data), f"flags={flags}", f"ttl={ttl_ms}", _acl_text(acl))
    return _request("createTTL", body, *parts)


def delete(path: str | None, version: int = -1) -> Request:
    body = ustring(path) + i32(version)
    return _request("delete", body, _path_text(path), _version_text(version))


def exists(path: str | bytes | None, watch: bool = False) -> Request:
    return _watching("exists", path, watch)


def get_data(path: str | bytes | None, watch: bool = False) -> Request:
    return _watching("getData", path, watch)


def get_children(path: str | None, watch: bool = False) -> Request:
    return _watching("getChildren", path, watch)


def get_children2(path: str | None, watch: bool = False) -> Request:
    return _watching("getChildren2", path, watch)


def _watching(name: str, path: str | bytes | None, watch: bool) -> Request:
    body = ustring(path) + i8(int(watch))
    return _request(name, body, _path_text(path), "watch" if watch else "")


def set_data(path: str | None, data: bytes | None, version: int = -1) -> Request:
    body = ustring(path) + buffer(data) + i32(version)
    return _request("setData", body, _path_text(path), _data_text(data), _version_text(version))


def get_acl(path: str | None) -> Request:
    return _request("getACL", ustring(path), _path_text(path))


def set_acl(path: str | None, acl: list[Acl] | None, version: int = -1) -> Request:
    body = ustring(path) + _acls(acl) + i32(version)
    shown = _acl_text(acl) or "acl=open"
    return _request("setACL", body, _path_text(path), shown, _version_text(version))


def sync(path: str | None) -> Request:
    return _request("sync", ustring(path), _path_text(path))


def ping() -> Request:
    return _request("ping", b"", xid=XID_PING)


def check(path: str | None, version: int = -1) -> Request:
    return _request("check", ustring(path) + i32(version), _path_text(path), _version_text(version))


def multi(*operations: Request, op: str = "multi", end: bool = True) -> Request:
    """A multi (or multiRead) of the given requests; `end` False leaves the closing header out."""
    body = b"".join(i32(each.opcode) + i8(0) + i32(-1) + each.body for each in operations)
    if end:
        body += i32(-1) + i8(1) + i32(-1)
    shown = "; ".join(each.text for each in operations)
    return _request(op, body, f"[{shown}]")


def multi_read(*operations: Request) -> Request:
    return multi(*operations, op="multiRead")


def check_watches(path: str | None, kind: int) -> Request:
    return _request("checkWatches", ustring(path) + i32(kind), _path_text(path), f"type={kind}")


def remove_watches(path: str | None, kind: int) -> Request:
    return _request("removeWatches", ustring(path) + i32(kind), _path_text(path), f"type={kind}")


def add_watch(path: str | None, mode: int) -> Request:
    return _request("addWatch", ustring(path) + i32(mode), _path_text(path), f"mode={mode}")


def delete_container(path: str) -> Request:
    return _request("deleteContainer", ustring(path), _path_text(path))


def auth(scheme: str | None, data: bytes | None, *, kind: int = 0) -> Request:
    body = i32(kind) + ustring(scheme) + buffer(data)
    kind_text = f"type={kind}" if kind else ""
    return _request("auth", body, scheme, _data_text(data), kind_text, xid=XID_AUTH)


def _paths(paths: Iterable[str]) -> bytes:
    return vector([ustring(path) for path in paths])


def set_watches(
    relative_zxid: int,
    *,
    zxid_text: str,
    data: Iterable[str] = (),
    exist: Iterable[str] = (),
    child: Iterable[str] = (),
    persistent: Iterable[str] | None = None,
    recursive: Iterable[str] | None = None,
) -> Request:
    """setWatches; setWatches2 when `persistent` or `recursive` is given.

    `zxid_text` is the zxid as the transcript shows it.
    """
    parts = {"data": list(data), "exist": list(exist), "child": list(child)}
    name = "setWatches"
    if persistent is not None or recursive is not None:
        name = "setWatches2"
        parts |= {"persistent": list(persistent or ()), "recursive": list(recursive or ())}
    body = i64(relative_zxid) + b"".join(_paths(paths) for paths in parts.values())
    shown = [f"{kind}={','.join(paths)}" for kind, paths in parts.items() if paths]
    return _request(name, body, f"since={zxid_text}", *shown, xid=XID_SET_WATCHES)


def get_ephemerals(prefix: str | None) -> Request:
    return _request("getEphemerals", ustring(prefix), _path_text(prefix) or "''")


def get_all_children_number(path: str | None) -> Request:
    return _request("getAllChildrenNumber", ustring(path), _path_text(path))


def who_am_i() -> Request:
    return _request("whoAmI", b"")


def sasl(token: bytes | None) -> Request:
    return _request("sasl", buffer(token), _data_text(token))


def reconfig(
    joining: str | None, leaving: str | None, members: str | None, config_id: int = -1
) -> Request:
    body = ustring(joining) + ustring(leaving) + ustring(members) + i64(config_id)
    return _request("reconfig", body, f"join={joining} leave={leaving} members={members}")


def close_session() -> Request:
    return _request("closeSession", b"")
