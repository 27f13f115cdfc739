"""tree/watches.py: the rules of reference section D, each by its letter.

tests/property/test_watches.py holds any history against a model.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from zkstore.proto import opcodes as op
from zkstore.tree.watches import PERSISTENT, RECURSIVE, Event, Watches


class Client:
    def __init__(self) -> None:
        self.watched_paths: set[bytes] = set()


NODE_ACL, PARENT_ACL = 7, 8
CREATED, DELETED, CHANGED, CHILDREN = (
    op.NODE_CREATED, op.NODE_DELETED, op.NODE_DATA_CHANGED, op.NODE_CHILDREN_CHANGED,
)  # fmt: skip


@pytest.fixture
def watches() -> Watches:
    return Watches()


@pytest.fixture
def anne() -> Client:
    return Client()


@pytest.fixture
def bert() -> Client:
    return Client()


def created(watches: Watches, path: bytes) -> list[tuple[int, bytes, int, list[object]]]:
    return listed(watches.created(path, NODE_ACL, PARENT_ACL))


def deleted(watches: Watches, path: bytes) -> list[tuple[int, bytes, int, list[object]]]:
    return listed(watches.deleted(path, NODE_ACL, PARENT_ACL))


def changed(watches: Watches, path: bytes) -> list[tuple[int, bytes, int, list[object]]]:
    return listed(watches.changed(path, NODE_ACL))


def listed(events: Iterator[Event]) -> list[tuple[int, bytes, int, list[object]]]:
    return [(kind, path, acl_id, list(told)) for kind, path, acl_id, told in events]


def test_d4_a_standard_watch_fires_once(watches: Watches, anne: Client) -> None:
    watches.add_data(anne, b"/a")
    assert changed(watches, b"/a") == [(CHANGED, b"/a", NODE_ACL, [anne])]
    assert changed(watches, b"/a") == []
    assert not watches
    assert not anne.watched_paths


def test_d5_a_persistent_watch_stays_and_sees_node_and_children(
    watches: Watches, anne: Client
) -> None:
    watches.add(anne, b"/a", PERSISTENT)
    for _ in range(2):
        assert created(watches, b"/a") == [(CREATED, b"/a", NODE_ACL, [anne])]
        assert changed(watches, b"/a") == [(CHANGED, b"/a", NODE_ACL, [anne])]
        assert created(watches, b"/a/b") == [(CHILDREN, b"/a", PARENT_ACL, [anne])]
        assert deleted(watches, b"/a/b") == [(CHILDREN, b"/a", PARENT_ACL, [anne])]
        assert deleted(watches, b"/a") == [(DELETED, b"/a", NODE_ACL, [anne])]
    assert changed(watches, b"/a/b") == []


def test_d6_a_recursive_watch_sees_all_below_but_no_children_changed(
    watches: Watches, anne: Client
) -> None:
    watches.add(anne, b"/a", RECURSIVE)
    for path in (b"/a", b"/a/b", b"/a/b/c"):
        assert created(watches, path) == [(CREATED, path, NODE_ACL, [anne])]
        assert changed(watches, path) == [(CHANGED, path, NODE_ACL, [anne])]
        assert deleted(watches, path) == [(DELETED, path, NODE_ACL, [anne])]
    assert created(watches, b"/ab") == []


def test_d7_a_creation_tells_of_the_node_first(
    watches: Watches, anne: Client, bert: Client
) -> None:
    watches.add_child(bert, b"/a")
    watches.add_data(anne, b"/a/b")
    assert created(watches, b"/a/b") == [
        (CREATED, b"/a/b", NODE_ACL, [anne]), (CHILDREN, b"/a", PARENT_ACL, [bert]),
    ]  # fmt: skip


def test_d8_a_deletion_tells_nobody_twice_of_the_node(
    watches: Watches, anne: Client, bert: Client
) -> None:
    watches.add_data(anne, b"/a")
    watches.add_child(anne, b"/a")
    watches.add_child(bert, b"/a")
    watches.add_child(bert, b"/")
    assert deleted(watches, b"/a") == [
        (DELETED, b"/a", NODE_ACL, [anne]),
        (DELETED, b"/a", NODE_ACL, [bert]),
        (CHILDREN, b"/", PARENT_ACL, [bert]),
    ]
    assert not watches  # the watch that was passed over is used up as well


def test_d10_a_recursive_watch_on_the_root_sees_everything(watches: Watches, anne: Client) -> None:
    watches.add(anne, b"/", RECURSIVE)
    assert changed(watches, b"/a/b/c") == [(CHANGED, b"/a/b/c", NODE_ACL, [anne])]
    assert changed(watches, b"/") == [(CHANGED, b"/", NODE_ACL, [anne])]


def test_d12_one_event_for_a_connection_with_several_modes(watches: Watches, anne: Client) -> None:
    watches.add_data(anne, b"/a/b")
    for path in (b"/a/b", b"/a", b"/"):
        watches.add(anne, path, RECURSIVE)
    watches.add(anne, b"/a/b", PERSISTENT)
    assert changed(watches, b"/a/b") == [(CHANGED, b"/a/b", NODE_ACL, [anne])]
    assert changed(watches, b"/a/b") == [(CHANGED, b"/a/b", NODE_ACL, [anne])]


@pytest.mark.parametrize(
    ("kind", "left"),
    [
        (1, {2, 3, 4, 5}),
        (2, {1, 3, 4, 5}),
        (3, set()),
        (4, {1, 2, 3, 5}),
        (5, {1, 2, 3, 4}),
    ],
)
def test_d17_remove_watches(watches: Watches, anne: Client, kind: int, left: set[int]) -> None:
    watches.add_data(anne, b"/a")
    watches.add_child(anne, b"/a")
    watches.add(anne, b"/a", PERSISTENT)
    watches.add(anne, b"/a", RECURSIVE)
    assert {each for each in range(1, 6) if watches.has(anne, b"/a", each)} == {1, 2, 3, 4, 5}
    assert watches.remove(anne, b"/a", kind)
    assert {each for each in range(1, 6) if watches.has(anne, b"/a", each)} == left
    assert not watches.remove(anne, b"/a", kind)


def test_d18_only_watches_of_ones_own_are_found(
    watches: Watches, anne: Client, bert: Client
) -> None:
    watches.add_data(anne, b"/a")
    assert not watches.has(bert, b"/a", 3)
    assert not watches.remove(bert, b"/a", 3)
    assert not watches.has(anne, b"/b", 3)


def test_d19_the_end_of_a_connection_is_the_end_of_its_watches(
    watches: Watches, anne: Client, bert: Client
) -> None:
    for path in (b"/a", b"/b"):
        watches.add_data(anne, path)
        watches.add(anne, path, RECURSIVE)
        watches.add_child(bert, path)
    watches.forget(anne)
    assert not anne.watched_paths
    assert changed(watches, b"/a") == []
    assert created(watches, b"/a/x") == [(CHILDREN, b"/a", PARENT_ACL, [bert])]
    watches.forget(bert)
    assert not watches


def test_counts_are_of_both_tables(watches: Watches, anne: Client, bert: Client) -> None:
    watches.add(anne, b"/a", PERSISTENT)
    watches.add_data(anne, b"/a")
    watches.add_data(bert, b"/b")
    watches.add_child(bert, b"/b")
    assert watches.counts() == (4, 2)
