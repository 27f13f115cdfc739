"""prep and apply together are ZooKeeper: any requests, pipelined and batched in any way, end in the
replies and the tree that the model gives one by one."""

from __future__ import annotations

from itertools import chain
from typing import Final

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.conformance import requests as wire
from tests.conformance.wire import i64
from tests.property import model as m
from tests.property.leader import ANNE, BERT, Leader
from tests.property.model import Entry, Model, Operation
from zkstore.tree import node as nodes
from zkstore.tree.apply import Result

ANNES_ID, BERTS_ID = ("digest", "anne:a"), ("digest", "bert:b")
IDS: Final = {ANNE: [ANNES_ID], BERT: [BERTS_ID]}

# Few paths, so that requests meet; what is odd comes seldom, so that most requests do something.
_PATHS: Final = ["/a", "/a/b", "/a/b/c", "/e", "/e/x", "/a/n-", "/b"]
_ODD_PATHS: Final = [
    None, "", "/", "a", "//", "/a//b", "/a/.", "/a/\0", "/a/\x01", "/zookeeper", "/a/b/",
    "/zookeeper/quota/a", "/a/é", "/a/\U0001f600", "/none/a", "/" + "n" * 300,
]  # fmt: skip
PATHS: Final = st.sampled_from(_PATHS * 16 + _ODD_PATHS)

_ACLS: Final[list[list[Entry] | None]] = [
    [(31, "auth", "")],
    [(1, "world", "anyone"), (31, "digest", "anne:a")],
    [(m.CREATE, "world", "anyone"), (m.CREATE, "world", "anyone")],
    [(m.DELETE | m.WRITE, "digest", "bert:b")],
    None, [], [(31, None, "x")], [(31, "digest", None)], [(31, "digest", "x")],
    [(31, "nosuch", "x")], [(31, "world", "x")],
]  # fmt: skip
_OPEN: Final[list[list[Entry] | None]] = [m.OPEN]
ACLS: Final = st.sampled_from(_OPEN * 30 + _ACLS)
DATA: Final = st.sampled_from([b"", b"x", None, b"y" * 1025])
VERSIONS: Final = st.sampled_from([-1] * 8 + [0, 0, 1, 2])
FLAGS: Final = st.sampled_from([0, 0, 0, 1, 1, 1, 2, 3, 4] * 4 + [5, 7, -1])
TTL_FLAGS: Final = st.sampled_from([5, 6] * 6 + [0, 7])
TTLS: Final = st.sampled_from([1, 1000, (1 << 40) - 1] * 6 + [0, -1, 1 << 40])
KINDS: Final = (
    ["create"] * 6 + ["create2", "createContainer", "createTTL"] + ["delete"] * 3 + ["setData"] * 2
)
SESSIONS: Final = st.sampled_from([ANNE, ANNE, BERT])


@st.composite
def operations(draw: st.DrawFn, kinds: list[str]) -> Operation:
    kind, path = draw(st.sampled_from(kinds)), draw(PATHS)
    match kind:
        case "createTTL":
            return Operation(kind, path, b"", draw(ACLS), draw(TTL_FLAGS), draw(TTLS))
        case "create" | "create2" | "createContainer":
            return Operation(kind, path, draw(DATA), draw(ACLS), draw(FLAGS))
        case "setData":
            return Operation(kind, path, draw(DATA), version=draw(VERSIONS))
        case "setACL":
            return Operation(kind, path, acl=draw(ACLS), version=draw(VERSIONS))
        case "multi":
            subs = draw(st.lists(operations([*KINDS, "check"]), max_size=4))
            return Operation(kind, subs=tuple(subs))
        case _:
            return Operation(kind, path, version=draw(VERSIONS))


Step = tuple[int | str, Operation | int | str]


@st.composite
def _steps(draw: st.DrawFn) -> Step:
    match draw(st.integers(0, 11)):
        case 0:
            return "close", draw(SESSIONS)
        case 1:
            return "sweep", draw(st.sampled_from(["/a", "/a/b", "/b", "/e"]))
        case 2 | 3 | 4:
            return "apply", draw(st.integers(1, 5))
        case _:
            kinds = [*KINDS, "setACL", *["multi"] * 4]
            return draw(SESSIONS), draw(operations(kinds))


# Lists of lists, as hypothesis tends to short ones.
STEPS: Final = st.lists(st.lists(_steps(), max_size=12), max_size=12).map(
    lambda parts: list(chain.from_iterable(parts))
)


def encoded(wanted: Operation) -> wire.Request:
    """The request as a client sends it."""
    kind, path, data, acl, flags, ttl_ms, version, subs = wanted
    match kind:
        case "createTTL":
            assert path is None or isinstance(path, str)
            body = wire.create(path, data, acl=acl, flags=flags).body + i64(ttl_ms)
            return wire.raw(m.OPCODES[kind], body)
        case "create" | "create2" | "createContainer":
            return wire.create(path, data, acl=acl, flags=flags, op=kind)
        case "delete":
            return wire.delete(path, version)
        case "setData":
            return wire.set_data(path, data, version)
        case "setACL":
            return wire.set_acl(path, acl, version)
        case "check":
            return wire.check(path, version)
        case _:
            return wire.multi(*map(encoded, subs))


class Run:
    """One run of the leader beside the model."""

    def __init__(self, *, ttl_enabled: bool = True) -> None:
        self.leader = Leader(ttl_enabled=ttl_enabled)
        self.model = Model(ttl_enabled=ttl_enabled)
        self.expected: list[Result] = []  # of what the leader has not applied

    def step(self, step: Step) -> None:
        leader, model = self.leader, self.model
        leader.now_ms += 7
        zxid = leader.zxid + 1
        match step:
            case ("apply", int(count)):
                self.apply(min(count, len(leader.waiting)))
            case ("close", int(session_id)):
                leader.close_session(session_id)
                self.expected.append(model.close_session(zxid, session_id))
            case ("sweep", str(path)):
                leader.delete_container(path.encode())
                code, body = model.delete_container(zxid, path)
                self.expected.append((code, body))
            case (int(session_id), Operation() as wanted):
                ids = IDS[session_id]
                identities = [(scheme.encode(), one.encode()) for scheme, one in ids]
                leader.request(encoded(wanted), session_id, *identities)
                self.expected.append(model.request(zxid, leader.now_ms, session_id, ids, wanted))

    def apply(self, count: int) -> None:
        if count:
            results = [result for result, _ in self.leader.apply(count)]
            assert results == self.expected[:count]
            del self.expected[:count]

    def finish(self) -> None:
        """Apply the rest, and compare all there is."""
        self.apply(len(self.expected))
        tree, model = self.leader.tree, self.model
        assert {path.decode() for path in tree.nodes} == set(model.nodes)
        content = tree.content()
        for name, node in model.nodes.items():
            acl = tuple((p, (s or "").encode(), (i or "").encode()) for p, s, i in node.acl)
            wanted = (node.stat(), node.data, node.creates, node.owner, acl)
            assert content[name.encode()] == wanted, name
        assert tree.recount() == tree.totals
        owners = {path: nodes.unpack(value)[nodes.OWNER] for path, value in tree.nodes.items()}
        assert tree.sweep == {path for path, owner in owners.items() if owner < 0}
        owned = {path: owner for path, owner in owners.items() if owner > 0}
        assert owned == {path: one for one, paths in tree.owned.items() for path in paths}


# Two that were wrong once: see tests/unit/test_prep.py and test_apply.py.
MADE_AND_DELETED_IN_A_MULTI: Final[list[Step]] = [
    (ANNE, Operation("multi", subs=(
        Operation("create", "/e", flags=1), Operation("delete", "/e"), Operation("check", "/b"),
    ))),
    ("close", ANNE),
]  # fmt: skip
TAKEN_OVER_IN_THE_BATCH: Final[list[Step]] = [
    (ANNE, Operation("create", "/e", flags=1)),
    ("apply", 1),
    (BERT, Operation("delete", "/e")),
    (BERT, Operation("create", "/e")),
    ("close", ANNE),
]


@settings(max_examples=400)
@given(STEPS)
@example(MADE_AND_DELETED_IN_A_MULTI)
@example(TAKEN_OVER_IN_THE_BATCH)
def test_any_requests_batched_in_any_way(steps: list[Step]) -> None:
    run = Run()
    for step in steps:
        run.step(step)
    run.finish()


@settings(max_examples=50)
@given(STEPS)
def test_without_ttl_nodes(steps: list[Step]) -> None:
    run = Run(ttl_enabled=False)
    for step in steps:
        run.step(step)
    run.finish()
