"""ZooKeeper's tree as a plain dict, and its rules as the reference states them, one request a time.

Owns:   the nodes by path; nothing is pipelined, batched, encoded or counted ahead here.
Invariants:
  1. Shares no code with zkstore: a rule that is wrong there is not wrong here for the same reason.
Source: reference: sections E (data model), F (order of checks), G (multi), J (ACLs).
"""

from __future__ import annotations

import copy
import struct
from dataclasses import dataclass, field
from typing import Final, NamedTuple

Entry = tuple[int, str | None, str | None]  # of an ACL: perms, scheme, id
Identity = tuple[str, str]

READ, WRITE, CREATE, DELETE, ADMIN = 1, 2, 4, 8, 16
OPEN: Final[list[Entry]] = [(31, "world", "anyone")]

OPCODES: Final = {
    "create": 1, "create2": 15, "createContainer": 19, "createTTL": 21,
    "delete": 2, "setData": 5, "setACL": 7, "check": 13, "multi": 14,
}  # fmt: skip
CREATES: Final = ("create", "create2", "createContainer", "createTTL")
SPECIAL: Final = ("", "/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config")

NO_NODE, NO_AUTH, BAD_VERSION, EPHEMERAL_PARENT = -101, -102, -103, -108
EXISTS, NOT_EMPTY, INVALID_ACL = -110, -111, -114
MARSHALLING, UNIMPLEMENTED, BAD_ARGUMENTS, INCONSISTENT = -5, -6, -8, -2

CONTAINER_OWNER: Final = -(1 << 63)
_END: Final = struct.pack(">i?i", -1, True, -1)


class Refused(Exception):
    """The request fails with this code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Operation(NamedTuple):
    """One request of a client; fields that its kind has no use for are ignored."""

    kind: str
    path: str | None = None
    data: bytes | None = b""
    acl: list[Entry] | None = OPEN
    flags: int = 0
    ttl_ms: int = -1
    version: int = -1
    subs: tuple[Operation, ...] = ()


@dataclass
class Node:
    """A znode with every field of its Stat that is not computed."""

    data: bytes | None
    acl: list[Entry]
    owner: int  # as stored: session, container or TTL
    czxid: int
    mzxid: int
    pzxid: int
    ctime_ms: int
    mtime_ms: int
    version: int = 0
    creates: int = 0  # the stored cversion
    aversion: int = 0
    children: set[str] = field(default_factory=set)

    @property
    def is_ephemeral(self) -> bool:
        return self.owner > 0

    def stat(self) -> bytes:
        """The Stat as a client sees it."""
        return struct.pack(
            ">qqqqiiiqiiq", self.czxid, self.mzxid, self.ctime_ms, self.mtime_ms, self.version,
            2 * self.creates - len(self.children), self.aversion,
            self.owner if self.is_ephemeral else 0, len(self.data or b""), len(self.children),
            self.pzxid,
        )  # fmt: skip


def text(value: str) -> bytes:
    return struct.pack(">i", len(value.encode())) + value.encode()


class Model:
    """Call `request` and its kin with rising zxids."""

    def __init__(self, *, ttl_enabled: bool = True) -> None:
        self.ttl_enabled = ttl_enabled
        self.sessions: dict[int, int] = {}
        self.nodes: dict[str, Node] = {}
        for path in ("/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"):
            self.nodes[path] = Node(b"", OPEN, 0, 0, 0, 0, 0, 0)
        self.nodes["/"].children = {"zookeeper"}
        self.nodes["/zookeeper"].children = {"quota", "config"}
        self.nodes["/zookeeper/config"].acl = [(1, "world", "anyone")]
        self.nodes["/zookeeper/config"].aversion = -1

    # What clients and the server ask for: (error code, body of the reply)

    def request(
        self, zxid: int, now_ms: int, session_id: int, ids: list[Identity], wanted: Operation
    ) -> tuple[int, bytes]:
        """One request of a client."""
        self.zxid, self.now_ms, self.session_id, self.ids = zxid, now_ms, session_id, ids
        try:
            if wanted.kind == "multi":
                return 0, self._multi(wanted.subs)
            return 0, self._run(wanted)
        except Refused as refused:
            return refused.code, b""

    def create_session(self, session_id: int, timeout_ms: int) -> tuple[int, bytes]:
        self.sessions[session_id] = timeout_ms
        return 0, b""

    def close_session(self, zxid: int, session_id: int) -> tuple[int, bytes]:
        """All that the session owns goes with it."""
        self.zxid = zxid
        self.sessions.pop(session_id, None)
        for path in [path for path, node in self.nodes.items() if node.owner == session_id]:
            self._remove(path)
        return 0, b""

    def delete_container(self, zxid: int, path: str) -> tuple[int, bytes]:
        """The sweep found this path to be due when it looked."""
        self.zxid = zxid
        node = self.nodes.get(path)
        if node is None:
            return NO_NODE, b""
        if node.children:
            return NOT_EMPTY, b""
        if node.owner >= 0:
            return BAD_VERSION, b""
        self._remove(path)
        return 0, b""

    # multi

    def _multi(self, subs: tuple[Operation, ...]) -> bytes:
        if any(not parses_in_a_multi(sub) for sub in subs):
            raise Refused(MARSHALLING)
        before = copy.deepcopy(self.nodes)
        parts = []
        for index, sub in enumerate(subs):
            kind = sub.kind
            if kind in ("create", "create2") and sub.flags == 4:
                kind = "createContainer"
            try:
                body = self._run(sub._replace(kind=kind))
            except Refused as refused:
                self.nodes = before
                codes = [0] * index + [refused.code] + [INCONSISTENT] * (len(subs) - index - 1)
                return b"".join(struct.pack(">i?ii", -1, False, c, c) for c in codes) + _END
            shown = "create2" if kind in CREATES and kind != "create" else kind
            parts.append(struct.pack(">i?i", OPCODES[shown], False, 0) + body)
        return b"".join(parts) + _END

    # One operation each; checks in the reference's order

    def _run(self, wanted: Operation) -> bytes:
        if wanted.kind in CREATES:
            return self._create(wanted)
        if wanted.kind == "delete":
            return self._delete(wanted)
        if wanted.kind == "setData":
            return self._set_data(wanted)
        if wanted.kind == "setACL":
            return self._set_acl(wanted)
        return self._check(wanted)

    def _create(self, wanted: Operation) -> bytes:
        kind, path, flags, ttl_ms = wanted.kind, wanted.path, wanted.flags, wanted.ttl_ms
        if flags not in range(7):
            raise Refused(BAD_ARGUMENTS)
        if flags >= 5 and not self.ttl_enabled:
            raise Refused(UNIMPLEMENTED)
        if (flags >= 5) != (kind == "createTTL"):
            raise Refused(BAD_ARGUMENTS)
        if flags >= 5 and not 0 < ttl_ms < 1 << 40:
            raise Refused(BAD_ARGUMENTS)
        if path is None:
            raise Refused(MARSHALLING)
        if "/" not in path or "\0" in path:
            raise Refused(BAD_ARGUMENTS)
        acl = self._fixed(wanted.acl)
        parent_path, name = parent_and_name(path)
        parent = self._node(parent_path)
        self._require(parent, CREATE)
        if flags in (2, 3, 6):
            path += f"{parent.creates:010d}"
            name += f"{parent.creates:010d}"
        if not is_valid(path):
            raise Refused(BAD_ARGUMENTS)
        if path in self.nodes:
            raise Refused(EXISTS)
        if parent.is_ephemeral:
            raise Refused(EPHEMERAL_PARENT)
        owner = 0
        if kind == "createTTL":
            owner = (0xFF << 56 | ttl_ms) - (1 << 64)
        elif kind == "createContainer":
            owner = CONTAINER_OWNER
        elif flags in (1, 3):
            owner = self.session_id
        node = Node(
            wanted.data, acl, owner, self.zxid, self.zxid, self.zxid, self.now_ms, self.now_ms
        )
        self.nodes[path] = node
        parent.children.add(name)
        parent.creates += 1
        parent.pzxid = self.zxid
        return text(path) + (b"" if kind == "create" else node.stat())

    def _delete(self, wanted: Operation) -> bytes:
        path = wanted.path
        if path is None:
            raise Refused(MARSHALLING)
        if path in SPECIAL or "/" not in path or "\0" in path:
            raise Refused(BAD_ARGUMENTS)
        parent_path, _ = parent_and_name(path)
        self._require(self._node(parent_path), DELETE)
        node = self._node(path)
        compare(node.version, wanted.version)
        if node.children:
            raise Refused(NOT_EMPTY)
        self._remove(path)
        return b""

    def _set_data(self, wanted: Operation) -> bytes:
        node = self._valid(wanted.path)
        self._require(node, WRITE)
        compare(node.version, wanted.version)
        node.data = wanted.data
        node.version += 1
        node.mzxid, node.mtime_ms = self.zxid, self.now_ms
        return node.stat()

    def _set_acl(self, wanted: Operation) -> bytes:
        if wanted.path is None or not is_valid(wanted.path):
            raise Refused(BAD_ARGUMENTS)
        acl = self._fixed(wanted.acl)
        node = self._valid(wanted.path)
        self._require(node, ADMIN)
        compare(node.aversion, wanted.version)
        node.acl = acl
        node.aversion += 1
        return node.stat()

    def _check(self, wanted: Operation) -> bytes:
        node = self._valid(wanted.path)
        self._require(node, READ)
        compare(node.version, wanted.version)
        return b""

    # What they share

    def _node(self, path: str) -> Node:
        if path not in self.nodes:
            raise Refused(NO_NODE)
        return self.nodes[path]

    def _valid(self, path: str | None) -> Node:
        if path is None or not is_valid(path):
            raise Refused(BAD_ARGUMENTS)
        return self._node(path)

    def _remove(self, path: str) -> None:
        del self.nodes[path]
        parent_path, name = parent_and_name(path)
        self.nodes[parent_path].children.remove(name)
        self.nodes[parent_path].pzxid = self.zxid

    def _require(self, node: Node, perm: int) -> None:
        granted = {(scheme, one) for perms, scheme, one in node.acl if perms & perm}
        if not granted & {("world", "anyone"), *self.ids}:
            raise Refused(NO_AUTH)

    def _fixed(self, acl: list[Entry] | None) -> list[Entry]:
        fixed: list[Entry] = []
        for perms, scheme, one in acl or []:
            if scheme == "auth":
                mine = [each for each in self.ids if each[0] == "digest"]
                if not mine:
                    raise Refused(INVALID_ACL)
                fixed += [(perms, *each) for each in mine]
            elif (scheme, one) == ("world", "anyone") or (
                scheme == "digest" and one is not None and one.count(":") == 1
            ):
                fixed.append((perms, scheme, one))
            elif scheme == "digest" and one is None:
                raise Refused(MARSHALLING)
            else:
                raise Refused(INVALID_ACL)
        if not fixed:
            raise Refused(INVALID_ACL)
        return list(dict.fromkeys(fixed))


def parses_in_a_multi(sub: Operation) -> bool:
    """A record that Apache does not even read: the multi has no results then."""
    if sub.path is None:
        return False
    return sub.kind not in ("create", "create2", "createContainer") or sub.flags in range(5)


def compare(version: int, expected: int) -> None:
    if expected not in (-1, version):
        raise Refused(BAD_VERSION)


def parent_and_name(path: str) -> tuple[str, str]:
    cut = path.rindex("/")
    return path[:cut] or "/", path[cut + 1 :]


def is_valid(path: str) -> bool:
    """E3, on UTF-16 units as Java does it."""
    if path == "/":
        return True
    if not path.startswith("/") or any(part in ("", ".", "..") for part in path[1:].split("/")):
        return False
    units = struct.iter_unpack(">H", path.encode("utf-16-be", "surrogatepass"))
    return not any(
        unit <= 0x1F or 0x7F <= unit <= 0x9F or 0xD800 <= unit <= 0xF8FF or unit >= 0xFFF0
        for (unit,) in units
    )
