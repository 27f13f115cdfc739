"""What clients saw, and the checks of the order guarantees over it.

Owns:   the logs of all connections of one test.
Invariants:
  1. A check returns what it found wrong, one line each; none means that the history is allowed.
     Each check is shown to fail: by doctored histories (test_history.py) and by broken servers.
Design: the zxid in a reply's header places it: a write took effect at it, a read saw the tree as
  it stood at it. So one sweep over all writes in zxid order says what every read must have seen
  (`exact`), and the order guarantees are inequalities between zxids and times.
Shape:  the checks hold only while every write that took effect was answered; tests that kill
  connections keep account of their own.
Not here: sending and hearing (client.py).
Source: ZooKeeper's consistency guarantees; the names in design are those of the tests.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tests.conformance.requests import OPCODES, Request
from tests.conformance.wire import Reader

CREATE, CREATE2, DELETE = OPCODES["create"], OPCODES["create2"], OPCODES["delete"]
SET_DATA, MULTI, EXISTS = OPCODES["setData"], OPCODES["multi"], OPCODES["exists"]
GET_DATA, GET_CHILDREN = OPCODES["getData"], OPCODES["getChildren"]
SET_ACL, CLOSE_SESSION = OPCODES["setACL"], OPCODES["closeSession"]
# Each of these takes a zxid of its own, which its reply bears.
WRITES: Final = {CREATE, CREATE2, DELETE, SET_DATA, SET_ACL, MULTI, CLOSE_SESSION}
READS: Final = {EXISTS, GET_DATA, GET_CHILDREN}
# These are answered whenever they come (reference H: pings; auth packets).
UNORDERED: Final = {OPCODES["ping"], OPCODES["auth"]}
NO_NODE: Final = -101
CREATED, DELETED, CHANGED, CHILDREN = 1, 2, 3, 4


@dataclass(slots=True, eq=False)
class Call:
    """A request and its reply. `order`: its place among the requests of its connection."""

    order: int
    xid: int
    request: Request
    sent: float
    heard: float = 0.0  # 0: not answered
    zxid: int = 0
    error: int = 0
    body: bytes = b""

    @property
    def opcode(self) -> int:
        return self.request.opcode

    @property
    def path(self) -> str:
        return Reader(self.request.body).ustring() or ""

    def __str__(self) -> str:
        return f"#{self.order} {self.request.text} -> {self.error} at {self.zxid:#x}"


class Event(NamedTuple):
    """A watch event as it came in."""

    zxid: int
    kind: int
    path: str
    heard: float


@dataclass(slots=True, eq=False)
class Log:
    """One connection: what was sent, and what came in, each in order."""

    name: str
    session_id: int = 0
    since: float = 0.0
    calls: list[Call] = field(default_factory=list)
    heard: list[Call | Event] = field(default_factory=list)

    def replies(self) -> list[Call]:
        return [one for one in self.heard if isinstance(one, Call)]

    def events(self) -> list[Event]:
        return [one for one in self.heard if isinstance(one, Event)]


class Stat(NamedTuple):
    czxid: int
    mzxid: int
    version: int
    owner: int
    pzxid: int


def read_stat(reader: Reader) -> Stat:
    czxid, mzxid = reader.i64(), reader.i64()
    reader.i64(), reader.i64()
    version, _, _ = reader.i32(), reader.i32(), reader.i32()
    owner = reader.i64()
    reader.i32(), reader.i32()
    return Stat(czxid, mzxid, version, owner, reader.i64())


def read_names(reader: Reader) -> list[str]:
    return [reader.ustring() or "" for _ in range(reader.i32())]


class History:
    """All connections of a test."""

    def __init__(self) -> None:
        self.logs: list[Log] = []

    def log(self, name: str) -> Log:
        """A log for a new connection; a session's connections are added in their order."""
        log = Log(name)
        self.logs.append(log)
        return log

    def violations(self) -> list[str]:
        """Everything that the checks below find."""
        checks = (fifo, own, never_back, watch_first, exact, visible)
        return [f"{check.__name__}: {text}" for check in checks for text in check(self)]

    def answered(self) -> list[Call]:
        return [call for log in self.logs for call in log.replies()]


def fifo(history: History) -> Iterator[str]:
    """SessionOrder: replies come in the order of the requests."""
    for log in history.logs:
        last = -1
        for call in log.replies():
            if call.opcode in UNORDERED:
                continue
            if call.order < last:
                yield f"{log.name}: {call} came behind the reply to request #{last}"
            last = max(last, call.order)


def own(history: History) -> Iterator[str]:
    """SessionOrder: a read sees its session's earlier writes, and not the later ones."""
    for log in history.logs:
        before = 0
        reads: list[Call] = []
        for call in log.calls:
            if not call.heard:
                continue
            if call.opcode in READS:
                reads.append(call)
                if call.zxid < before:
                    yield f"{log.name}: {call} does not see its own write of {before:#x}"
            elif call.opcode in WRITES:
                for read in reads:
                    if read.zxid >= call.zxid:
                        yield f"{log.name}: {read} sees the later write {call}"
                reads.clear()
                before = call.zxid


def never_back(history: History) -> Iterator[str]:
    """NeverBack: what a session is told of never gets older, also over its later connections."""
    seen: dict[int, int] = {}
    for log in history.logs:
        for call in log.replies():
            if call.zxid <= 0 or call.opcode in UNORDERED:
                continue
            last = seen.get(log.session_id, 0)
            if call.zxid < last:
                yield f"{log.name}: {call} after the session had seen {last:#x}"
            seen[log.session_id] = max(last, call.zxid)


def watch_first(history: History) -> Iterator[str]:
    """WatchFirst: the event of a change comes before anything as new; events in zxid order."""
    for log in history.logs:
        newest: Call | None = None
        last = 0
        for one in log.heard:
            if isinstance(one, Call):
                if one.opcode not in UNORDERED and (newest is None or one.zxid > newest.zxid):
                    newest = one
                continue
            if one.zxid < 0:  # the catch-up of setWatches has no zxid
                continue
            if newest is not None and newest.zxid >= one.zxid:
                yield f"{log.name}: {newest} came before {one}"
            if one.zxid < last:
                yield f"{log.name}: {one} behind an event of {last:#x}"
            last = one.zxid


def merged(history: History) -> Iterator[str]:
    """Events and replies come in one order, that of their zxids."""
    for log in history.logs:
        last = 0
        for one in log.heard:
            if isinstance(one, Call) and one.opcode in UNORDERED:
                continue
            if 0 < one.zxid < last:
                yield f"{log.name}: {one} behind {last:#x}"
            last = max(last, one.zxid)


def visible(history: History) -> Iterator[str]:
    """ReadYourReplica: once a write is answered, whoever it was, every read sent later sees it."""
    writes = sorted(
        (call.heard, call.zxid) for call in history.answered() if call.opcode in WRITES
    )
    times = [heard for heard, _ in writes]
    newest: list[int] = []
    for _, zxid in writes:
        newest.append(max(zxid, newest[-1] if newest else 0))
    for log in history.logs:
        for call in log.replies():
            known = bisect.bisect_left(times, call.sent)
            if call.opcode in READS and known and call.zxid < newest[known - 1]:
                yield f"{log.name}: {call} after a write of {newest[known - 1]:#x} was answered"


class _Model:
    """The tree as the writes make it, for the paths that the test has created."""

    def __init__(self) -> None:
        self.nodes: dict[str, tuple[int, bytes]] = {}  # → (mzxid, data)
        self.children: dict[str, set[str]] = {}

    def apply(self, call: Call) -> None:
        for opcode, path, data in _effects(call):
            parent, _, name = path.rpartition("/")
            if opcode == DELETE:
                del self.nodes[path]
                self.children[parent].discard(name)
                continue
            if opcode != SET_DATA:
                self.children.setdefault(parent, set()).add(name)
            self.nodes[path] = (call.zxid, data)

    def differs(self, call: Call) -> str:
        """What a read saw otherwise; empty: nothing. A path that nobody created is not judged."""
        path = call.path
        expected = self.nodes.get(path)
        if expected is None or call.error:
            return "" if (expected is None) == (call.error == NO_NODE) else f"{expected}"
        reader = Reader(call.body)
        if call.opcode == GET_CHILDREN:
            names = set(read_names(reader))
            children = self.children.get(path, set())
            return "" if names == children else f"{children ^ names} differ"
        data = (reader.buffer() or b"") if call.opcode == GET_DATA else expected[1]
        seen = (read_stat(reader).mzxid, data)
        return "" if seen == expected else f"saw {seen}, not {expected}"


def _effects(call: Call) -> Iterator[tuple[int, str, bytes]]:
    """(opcode, path, data) of what a successful write did; a multi of setData is its parts."""
    reader = Reader(call.request.body)
    if call.opcode == MULTI:
        while True:
            opcode, done, _ = reader.i32(), reader.i8(), reader.i32()
            if done:
                return
            assert opcode == SET_DATA, opcode
            path, data, _ = reader.ustring(), reader.buffer(), reader.i32()
            yield opcode, path or "", data or b""
    elif call.opcode in (CREATE, CREATE2):
        reader.ustring()
        yield CREATE, Reader(call.body).ustring() or "", reader.buffer() or b""
    elif call.opcode == SET_DATA:
        path = reader.ustring()
        yield SET_DATA, path or "", reader.buffer() or b""
    elif call.opcode == DELETE:
        yield DELETE, reader.ustring() or "", b""


def exact(history: History) -> Iterator[str]:
    """Every read shows the tree exactly as it stood at the zxid in its header."""
    calls = sorted(history.answered(), key=lambda call: call.zxid)
    writes = [c for c in calls if c.opcode in WRITES and not c.error and not _failed(c)]
    reads = [c for c in calls if c.opcode in READS]
    model = _Model()
    at = 0
    for read in reads:
        while at < len(writes) and writes[at].zxid <= read.zxid:
            model.apply(writes[at])
            at += 1
        difference = model.differs(read)
        if difference:
            yield f"{read}: {difference}"


def _failed(call: Call) -> bool:
    """Whether the reply to a multi says that it did nothing."""
    return call.opcode == MULTI and Reader(call.body).i32() == -1
