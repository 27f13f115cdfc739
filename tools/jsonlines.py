"""A tree as JSON lines: one object a line, to read, to change, and to move by other means.

Shape:  first {"zkstore": 1, "zxid": …, "root": "/"}; then {"session": "0x…", "timeout_ms": …} each;
        then nodes, parents first: {"path", "text" or "base64" (null data: "text": null), "acl":
        [[perms, scheme, id], …], "czxid", …, "owner", "pzxid"}: cversion is the stored number of
        creates; owner "container", "ttl:<ms>", a session "0x…", or null.
Invariants:
  1. What `write` wrote `read` gives back, byte for byte.
  2. A line that is wrong is named with its number; nothing else is raised.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from zkstore.apache.snapshot import Znode
from zkstore.errors import CorruptionError
from zkstore.storage.offline import Offline
from zkstore.tree import acl as acls
from zkstore.tree import node as nodes
from zkstore.tree.paths import ROOT

from .common import Out

VERSION: Final = 1
FIELDS: Final = (
    "czxid", "mzxid", "ctime_ms", "mtime_ms", "version", "cversion", "aversion", "owner", "pzxid",
)  # fmt: skip
_U64: Final = 0xFFFFFFFFFFFFFFFF


def write(source: Offline, out: Out, root: bytes, progress: Callable[[str, int], None]) -> int:
    """Write a tree, or the part of it below `root`; returns the number of nodes."""
    head = {"zkstore": VERSION, "zxid": source.applied, "root": _text(root)}
    out.write(json.dumps(head, ensure_ascii=False) + "\n")
    if root == ROOT:
        for session_id, timeout_ms in sorted(source.sessions().items()):
            line = {"session": f"{session_id & _U64:#x}", "timeout_ms": timeout_ms}
            out.write(json.dumps(line) + "\n")
    table = {acl_id: shown_acl(encoded) for acl_id, encoded in source.acls()}
    table[-1] = shown_acl(acls.OPEN_ENCODED)
    encode = json.JSONEncoder(ensure_ascii=False).encode
    count = 0
    for path, value in source.walk(root):
        out.write(encode(node_line(path, value, source.data(value), table)) + "\n")
        count += 1
        if count % 10_000 == 0:
            progress("znodes written", count)
    return count


def node_line(
    path: bytes, value: bytes, data: bytes | None, table: dict[int, list[Any]]
) -> dict[str, Any]:
    """One node's object; `table`: ACL id → what is shown of it."""
    persisted = nodes.persisted_of(value)
    line: dict[str, Any] = {"path": _text(path), **shown_data(data)}
    line["acl"] = table.get(persisted[0])
    line.update(zip(FIELDS, persisted[1:], strict=True))
    line["owner"] = shown_owner(persisted[8])
    return line


def shown_data(data: bytes | None) -> dict[str, str | None]:
    if data is None:
        return {"text": None}
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def shown_acl(encoded: bytes) -> list[Any]:
    return [
        [perms, _text(scheme), _text(identity)] for perms, scheme, identity in acls.decode(encoded)
    ]


def shown_owner(owner: int) -> str | None:
    if owner == 0:
        return None
    if owner == nodes.CONTAINER_OWNER:
        return "container"
    if nodes.is_ttl(owner):
        return f"ttl:{nodes.ttl_ms_of(owner)}"
    return f"{owner & _U64:#x}"


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


class Reader:
    """Reads lines: `head`, then `sessions`, then `nodes`."""

    def __init__(self, lines: Iterable[str], name: str) -> None:
        self._lines = iter(lines)
        self._name = name
        self._number = 0
        self._held: dict[str, Any] | None = None

    def damage(self, what: str) -> CorruptionError:
        return CorruptionError(f"{self._name}: line {self._number}: {what}")

    def _next(self) -> dict[str, Any] | None:
        held, self._held = self._held, None
        if held is not None:
            return held
        try:
            line = next(self._lines, None)
        except UnicodeDecodeError as e:
            raise self.damage(f"not UTF-8: {e}") from e
        if line is None:
            return None
        self._number += 1
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as e:
            raise self.damage(f"not JSON: {e}") from e
        if not isinstance(value, dict):
            raise self.damage("not an object")
        return value

    def head(self) -> tuple[int, bytes]:
        """(zxid, root) of the export."""
        head = self._next() or {}
        zxid, root = head.get("zxid"), head.get("root")
        if head.get("zkstore") != VERSION or type(zxid) is not int or not isinstance(root, str):
            raise self.damage("not an export of zkstore: the first line has to say so")
        return zxid, _bytes(root)

    def sessions(self) -> Iterator[tuple[int, int]]:
        """All (session id, timeout_ms)."""
        while (line := self._next()) is not None:
            if "session" not in line:
                self._held = line
                return
            try:
                yield _signed(int(line["session"], 16)), int(line["timeout_ms"])
            except (KeyError, TypeError, ValueError) as e:
                raise self.damage(f"no session: {e!r}") from e

    def nodes(self, acl_id: Callable[[bytes], int]) -> Iterator[Znode]:
        """All nodes; `acl_id` gives an ACL its number."""
        while (line := self._next()) is not None:
            try:
                yield self._node(line, acl_id)
            except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as e:
                raise self.damage(f"no node: {e!r}") from e

    def _node(self, line: dict[str, Any], acl_id: Callable[[bytes], int]) -> Znode:
        if "base64" in line:
            data: bytes | None = base64.b64decode(line["base64"], validate=True)
        else:
            data = None if line["text"] is None else _bytes(line["text"])
        acl = tuple((int(perms), _bytes(scheme), _bytes(one)) for perms, scheme, one in line["acl"])
        numbers = {name: line[name] for name in FIELDS if name != "owner"}
        for name, number in numbers.items():
            bits = 31 if name in ("version", "cversion", "aversion") else 63
            if type(number) is not int or not -(1 << bits) <= number < 1 << bits:
                raise ValueError(f"{name}: {number!r}")
        path = _bytes(line["path"])
        owner = _owner(line["owner"])
        return Znode(path, data, acl_id(acls.encode(acl)), owner=owner, **numbers)


def _owner(shown: str | None) -> int:
    if shown is None:
        return 0
    if shown == "container":
        return nodes.CONTAINER_OWNER
    if shown.startswith("ttl:"):
        return nodes.ttl_owner(int(shown[4:]))
    owner = int(shown, 16)
    if not 0 <= owner <= _U64:
        raise ValueError(f"owner: {shown}")
    return _signed(owner)
