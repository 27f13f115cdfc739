"""tree/watches.py against the reference's section D, written down as one set of watches."""

from __future__ import annotations

from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from zkstore.tree import watches as w

PATHS: Final = [b"/", b"/a", b"/ab", b"/a/b", b"/a/b/c", b"/b"]
NODES: Final = PATHS[1:]  # the root is neither created nor deleted
CREATED, DELETED, DATA_CHANGED, CHILDREN_CHANGED = 1, 2, 3, 4
KINDS: Final = {  # checkWatches and removeWatches (D17): type → (table, mode) pairs
    1: {("child", w.STANDARD)},
    2: {("data", w.STANDARD)},
    3: {(table, mode) for table in ("data", "child") for mode in (1, 2, 4)},
    4: {("data", w.PERSISTENT), ("child", w.PERSISTENT)},
    5: {("data", w.RECURSIVE)},
}

Told = list[tuple[int, bytes, int, set[str]]]


class Connection:
    """What the tables need of a connection."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.watched_paths: set[bytes] = set()


def ancestors(path: bytes) -> list[bytes]:
    """ "/a/b" → "/a", "/"."""
    found = []
    while path != b"/":
        path = path[: path.rindex(b"/")] or b"/"
        found.append(path)
    return found


class Model:
    """Watches as (table, path, mode, who)."""

    def __init__(self) -> None:
        self.held: set[tuple[str, bytes, int, str]] = set()

    def of(self, who: str, path: bytes, kind: int) -> set[tuple[str, bytes, int, str]]:
        return {
            one for one in self.held
            if one[1] == path and one[3] == who and (one[0], one[2]) in KINDS[kind]
        }  # fmt: skip

    def trigger(self, table: str, path: bytes) -> set[str]:
        """Who is told; one-shot watches of this very path are gone after it."""
        here = {one for one in self.held if one[:2] == (table, path)}
        self.held -= {one for one in here if one[2] == w.STANDARD}
        above = {
            one for one in self.held
            if one[0] == table and one[2] == w.RECURSIVE and one[1] in ancestors(path)
        }  # fmt: skip
        return {one[3] for one in here | above}

    def created(self, path: bytes) -> Told:
        told = [(CREATED, path, 7, self.trigger("data", path))]
        told.append((CHILDREN_CHANGED, ancestors(path)[0], 8, self._children(path)))
        return told

    def deleted(self, path: bytes) -> Told:
        first = self.trigger("data", path)
        second = self.trigger("child", path) - first
        parent = ancestors(path)[0]
        return [
            (DELETED, path, 7, first),
            (DELETED, path, 7, second),
            (CHILDREN_CHANGED, parent, 8, self._children(path)),
        ]

    def changed(self, path: bytes) -> Told:
        return [(DATA_CHANGED, path, 7, self.trigger("data", path))]

    def _children(self, path: bytes) -> set[str]:
        return self.trigger("child", ancestors(path)[0])


class WatchesLikeTheModel(RuleBasedStateMachine):
    """Connections come, watch, are told and go."""

    connections = Bundle("connections")
    paths = st.sampled_from(PATHS)

    def __init__(self) -> None:
        super().__init__()
        self.watches = w.Watches()
        self.model = Model()
        self.everybody: dict[str, Connection] = {}

    def new(self) -> Connection:
        one = Connection(f"c{len(self.everybody)}")
        self.everybody[one.name] = one
        return one

    @initialize(target=connections)
    def first(self) -> Connection:
        return self.new()

    @rule(target=connections)
    def connect(self) -> Connection:
        return self.new()

    @rule(one=connections, path=paths)
    def get_data(self, one: Connection, path: bytes) -> None:
        self.watches.add_data(one, path)
        self.model.held.add(("data", path, w.STANDARD, one.name))

    @rule(one=connections, path=paths)
    def get_children(self, one: Connection, path: bytes) -> None:
        self.watches.add_child(one, path)
        self.model.held.add(("child", path, w.STANDARD, one.name))

    @rule(one=connections, path=paths, mode=st.sampled_from([w.PERSISTENT, w.RECURSIVE]))
    def add_watch(self, one: Connection, path: bytes, mode: int) -> None:
        self.watches.add(one, path, mode)
        self.model.held.add(("data", path, mode, one.name))
        if mode == w.PERSISTENT:
            self.model.held.add(("child", path, mode, one.name))

    @rule(one=connections, path=paths, kind=st.sampled_from(sorted(KINDS)))
    def remove_watches(self, one: Connection, path: bytes, kind: int) -> None:
        found = self.model.of(one.name, path, kind)
        assert self.watches.has(one, path, kind) == bool(found)
        assert self.watches.remove(one, path, kind) == bool(found)
        assert not self.watches.has(one, path, kind)
        self.model.held -= found

    @rule(one=connections)
    def disconnect(self, one: Connection) -> None:
        self.watches.forget(one)
        self.model.held = {each for each in self.model.held if each[3] != one.name}
        assert not one.watched_paths

    @rule(path=st.sampled_from(NODES), what=st.sampled_from(["created", "deleted", "changed"]))
    def change(self, path: bytes, what: str) -> None:
        if what == "created":
            events, told = list(self.watches.created(path, 7, 8)), self.model.created(path)
        elif what == "deleted":
            events, told = list(self.watches.deleted(path, 7, 8)), self.model.deleted(path)
        else:
            events, told = list(self.watches.changed(path, 7)), self.model.changed(path)
        names = []
        for kind, changed, acl_id, watchers in events:
            assert all(isinstance(one, Connection) for one in watchers)
            listed = [one.name for one in watchers if isinstance(one, Connection)]
            assert len(listed) == len(set(listed)), "told twice by one trigger"
            names.append((kind, changed, acl_id, set(listed)))
        assert names == [one for one in told if one[3]]

    @invariant()
    def the_tables_are_the_models(self) -> None:
        held = self.model.held
        assert bool(self.watches) == bool(held)
        data_paths = {one[1] for one in held if one[0] == "data"}
        assert self.watches.counts() == (len({(t, p, c) for t, p, _, c in held}), len(data_paths))
        for name, one in self.everybody.items():
            assert one.watched_paths == {each[1] for each in held if each[3] == name}


TestWatches = WatchesLikeTheModel.TestCase
TestWatches.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
