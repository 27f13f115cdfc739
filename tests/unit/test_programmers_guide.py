"""ZooKeeper Programmer's Guide, sentence by sentence, as far as a lone server covers it.

Each test's docstring names the section and says what the guide says there, in our words.
Source: zookeeper.apache.org/doc/r3.9.3/zookeeperProgrammers.html
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import (
    BadArgumentsError,
    BadVersionError,
    InvalidACLError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NoNodeError,
)
from kazoo.protocol.states import EventType
from kazoo.security import ACL, OPEN_ACL_UNSAFE, Id, Permissions, make_acl, make_digest_acl

import zkstore
from tests.conformance import requests as r
from tests.unit.guide_clients import EVENT_SECONDS_MAX, Events, KazooClientOf, Raw, wait_until

Connect = Callable[..., KazooClient]
TICK_MS = 1000
CREATED, DELETED, CHANGED, CHILD = range(1, 5)  # event types on the wire


@pytest.fixture(scope="module")
def server() -> Iterator[zkstore.Server]:
    with zkstore.Server(
        tick_time_ms=TICK_MS, container_check_interval_ms=50, max_client_cnxns=0, force_sync=False
    ) as server:
        yield server


@pytest.fixture
def connect(server: zkstore.Server) -> Iterator[Connect]:
    """Starts clients; all are stopped at the end."""
    with ExitStack() as stack:

        def start(**options: object) -> KazooClient:
            client = KazooClient(hosts=server.address, **{"timeout": 20.0, **options})
            stack.callback(client.close)
            stack.callback(client.stop)
            client.start(timeout=60)
            return client

        yield start


@pytest.fixture
def zk(connect: Connect) -> KazooClient:
    return connect()


@pytest.fixture
def root(zk: KazooClient) -> str:
    """A node of the test's own."""
    path: str = zk.create("/test-", sequence=True)
    return path


# ---- The ZooKeeper Data Model


@pytest.mark.parametrize(
    "name", ["a\x00b", "\x01", "\x1f", "\x7f", "\x9f", "\ue000", "\uf8ff", "\ufff0", ".", ".."],
    ids=ascii,
)  # fmt: skip
def test_data_model_characters_that_a_path_cannot_have(zk: KazooClient, name: str) -> None:
    """Data Model: null, control characters, U+D800-F8FF, U+FFF0-FFFF, "." and ".." alone."""
    with pytest.raises((BadArgumentsError, ValueError)):
        zk.create(f"/{name}")


@pytest.mark.parametrize("name", ["a.b", "...", "ä", "名前", "a b"])
def test_data_model_any_other_character_can_be_in_a_path(
    zk: KazooClient, root: str, name: str
) -> None:
    """Data Model: any unicode character; "." may be a part of a name."""
    zk.create(f"{root}/{name}", b"here")
    assert zk.get_children(root) == [name]
    assert zk.get(f"{root}/{name}")[0] == b"here"


def test_data_model_a_node_has_data_as_well_as_children(zk: KazooClient, root: str) -> None:
    """Data Model: like a file system in which a file is a directory too."""
    zk.set(root, b"data")
    zk.create(f"{root}/child", b"child data")
    assert zk.get(root)[0] == b"data"
    assert zk.get_children(root) == ["child"]


def test_znodes_each_change_of_the_data_raises_the_version(zk: KazooClient, root: str) -> None:
    """ZNodes: the version increases; a client that reads the data gets it with them."""
    versions = [zk.get(root)[1].version]
    for data in (b"1", b"2", b"2"):
        zk.set(root, data)
        versions.append(zk.get(root)[1].version)
    assert versions == [0, 1, 2, 3]


@pytest.mark.parametrize("version", [0, 2])
def test_znodes_an_update_of_another_version_fails(
    zk: KazooClient, root: str, version: int
) -> None:
    """ZNodes: a set or a delete supplies the version; if it does not match, it fails."""
    zk.set(root, b"1")
    with pytest.raises(BadVersionError):
        zk.set(root, b"2", version=version)
    with pytest.raises(BadVersionError):
        zk.delete(root, version=version)
    zk.set(root, b"2", version=1)
    zk.delete(root, version=2)


def test_znodes_the_check_of_the_version_can_be_overridden(zk: KazooClient, root: str) -> None:
    """ZNodes: -1 matches any version."""
    zk.set(root, b"1")
    zk.set(root, b"2", version=-1)
    zk.delete(root, version=-1)


def test_data_access_a_write_replaces_all_the_data(zk: KazooClient, root: str) -> None:
    """Data Access: reads get all the bytes, a write replaces them all."""
    zk.set(root, b"a longer text")
    zk.set(root, b"short")
    assert zk.get(root)[0] == b"short"


def test_data_access_nodes_have_less_than_a_megabyte(zk: KazooClient, root: str) -> None:
    """Data Access: there are checks that data is below 1 MB; nearly that much is fine."""
    data = b"x" * 1_000_000
    zk.set(root, data)
    assert zk.get(root)[0] == data


# ---- Ephemeral, sequence, container and TTL nodes


def test_ephemeral_nodes_go_with_their_session(connect: Connect, root: str) -> None:
    """Ephemeral Nodes: they exist as long as the session; when it ends they are deleted."""
    other, watcher = connect(), connect()
    other.create(f"{root}/e", ephemeral=True)
    assert watcher.exists(f"{root}/e")
    other.stop()
    assert watcher.exists(f"{root}/e") is None


def test_ephemeral_nodes_have_no_children(zk: KazooClient, root: str) -> None:
    """Ephemeral Nodes: because of this they may not have children."""
    zk.create(f"{root}/e", ephemeral=True)
    with pytest.raises(NoChildrenForEphemeralsError):
        zk.create(f"{root}/e/child")


def test_sequence_nodes_are_counted_by_their_parent(zk: KazooClient, root: str) -> None:
    """Sequence Nodes: ten digits, padded with zeros, rising, unique to the parent."""
    zk.create(f"{root}/other")
    made = [zk.create(f"{root}/n-", sequence=True) for _ in range(3)]
    assert made == [f"{root}/n-000000000{number}" for number in (1, 2, 3)]
    assert zk.create(f"{root}/other/n-", sequence=True) == f"{root}/other/n-0000000000"


def test_sequence_numbers_rise_though_nodes_are_deleted(zk: KazooClient, root: str) -> None:
    """Sequence Nodes: the counter is monotonic."""
    first = zk.create(f"{root}/n-", sequence=True)
    zk.delete(first)
    assert zk.create(f"{root}/n-", sequence=True) > first


def test_container_nodes_go_after_their_last_child(
    server: zkstore.Server, zk: KazooClient, root: str
) -> None:
    """Container Nodes: when the last child is deleted, the server deletes the container."""
    Raw(server).ask(r.create_container(f"{root}/c"))
    zk.create(f"{root}/c/child")
    zk.delete(f"{root}/c/child")
    wait_until(lambda: zk.exists(f"{root}/c") is None)
    with pytest.raises(NoNodeError):
        zk.create(f"{root}/c/child")


def test_ttl_nodes_go_when_they_are_not_modified(
    server: zkstore.Server, zk: KazooClient, root: str
) -> None:
    """TTL Nodes: not modified within the TTL and without children, the server deletes it."""
    Raw(server).ask(r.create_ttl(f"{root}/parent", ttl_ms=1))
    zk.create(f"{root}/parent/child")
    Raw(server).ask(r.create_ttl(f"{root}/t", ttl_ms=1))
    wait_until(lambda: zk.exists(f"{root}/t") is None)
    assert zk.exists(f"{root}/parent")
    zk.delete(f"{root}/parent/child")
    wait_until(lambda: zk.exists(f"{root}/parent") is None)


# ---- Time in ZooKeeper, Stat


def test_time_every_change_has_a_zxid_of_its_own(zk: KazooClient, root: str) -> None:
    """Time, Zxid: unique, and in the order of the changes."""
    zk.create(f"{root}/a")
    zk.create(f"{root}/b")
    zk.set(f"{root}/a", b"")
    zk.delete(f"{root}/b")
    a = zk.get(f"{root}/a")[1]
    parent = zk.get(root)[1]
    assert parent.czxid < a.czxid < a.mzxid < parent.pzxid
    assert a.mzxid - a.czxid == 2


def test_time_three_version_numbers(zk: KazooClient, root: str) -> None:
    """Time, Version numbers: of the data, of the children, of the ACL."""

    def versions() -> tuple[int, int, int]:
        stat = zk.get(root)[1]
        return stat.version, stat.cversion, stat.aversion

    assert versions() == (0, 0, 0)
    zk.set(root, b"")
    assert versions() == (1, 0, 0)
    zk.create(f"{root}/a")
    zk.delete(f"{root}/a")
    assert versions() == (1, 2, 0)
    zk.set_acls(root, OPEN_ACL_UNSAFE)
    assert versions() == (1, 2, 1)


@pytest.mark.parametrize(
    ("asked_ms", "given_ms"), [(1, 2 * TICK_MS), (3000, 3000), (60_000, 20 * TICK_MS)]
)
def test_time_the_timeout_is_between_2_and_20_ticks(
    server: zkstore.Server, asked_ms: int, given_ms: int
) -> None:
    """Time, Ticks; Sessions: the server tells the client what it really gets."""
    assert Raw(server, timeout_ms=asked_ms).timeout_ms == given_ms


def test_stat_structure(zk: KazooClient, root: str) -> None:
    """Stat Structure: what each field means."""
    before_ms = int(time.time() * 1000)
    zk.create(f"{root}/a", b"12345", ephemeral=True)
    zk.create(f"{root}/b", b"")
    zk.create(f"{root}/b/c")
    zk.set(f"{root}/b", b"123")
    after_ms = int(time.time() * 1000)
    a, b = zk.get(f"{root}/a")[1], zk.get(f"{root}/b")[1]
    assert before_ms <= b.ctime <= b.mtime <= after_ms
    assert a.czxid == a.mzxid == a.pzxid
    assert b.czxid < b.pzxid < b.mzxid
    assert (a.ephemeralOwner, b.ephemeralOwner) == (zk.client_id[0], 0)
    assert (a.dataLength, b.dataLength) == (5, 3)
    assert (a.numChildren, b.numChildren) == (0, 1)


# ---- Sessions


def test_sessions_an_id_and_a_password_bring_a_session_back(
    server: zkstore.Server, zk: KazooClient, root: str
) -> None:
    """Sessions: a 64-bit id, and a password that the client sends when it comes back."""
    first = Raw(server)
    first.ask(r.create(f"{root}/e", flags=r.EPHEMERAL))
    again = Raw(server, session_id=first.session_id, password=first.password)
    assert (again.session_id, again.password) == (first.session_id, first.password)
    assert zk.get(f"{root}/e")[1].ephemeralOwner == first.session_id
    guess = Raw(server, session_id=first.session_id, password=b"x" * 16)
    assert guess.session_id == 0


def test_sessions_one_that_is_not_heard_expires_and_watchers_are_told(
    server: zkstore.Server, zk: KazooClient, root: str
) -> None:
    """Sessions: at expiry the ephemerals are deleted, and who watches them is told at once; the
    client learns of it when it comes back."""
    silent, events = Raw(server), Events()
    silent.ask(r.create(f"{root}/e", flags=r.EPHEMERAL))
    assert zk.exists(f"{root}/e", watch=events)
    # From here on its time is short.
    session = {"session_id": silent.session_id, "password": silent.password}
    assert Raw(server, **session, timeout_ms=2 * TICK_MS).timeout_ms == 2 * TICK_MS
    assert events.next() == (EventType.DELETED, f"{root}/e")
    late = Raw(server, **session)
    assert (late.session_id, late.timeout_ms) == (0, 0)


def test_sessions_a_ping_keeps_one_alive(connect: Connect, root: str) -> None:
    """Sessions: an idle client sends pings, so that the session lives on."""
    idle, busy = connect(timeout=4 * TICK_MS / 1000), connect()
    idle.create(f"{root}/e", ephemeral=True)
    deadline = time.monotonic() + 7 * TICK_MS / 1000
    while time.monotonic() < deadline:
        assert busy.exists(f"{root}/e")


# ---- Watches


def test_watches_are_one_time_triggers(zk: KazooClient, root: str) -> None:
    """Watches: one event; no other unless another read sets a new watch."""
    first, second = Events(), Events()
    zk.get(root, watch=first)
    zk.set(root, b"1")
    assert first.next() == (EventType.CHANGED, root)
    zk.set(root, b"2")
    zk.get(root, watch=second)
    zk.set(root, b"3")
    assert second.next() == (EventType.CHANGED, root)
    assert first.empty()


def test_watches_a_change_is_not_seen_before_its_event(
    server: zkstore.Server, zk: KazooClient, root: str
) -> None:
    """Watches, Sent to the client; Guarantees: the event first, then the new data."""
    reader = Raw(server)
    for number in range(100):
        before = reader.ask(r.get_data(root, True))
        pending = zk.set_async(root, b"%d" % number)
        reader.send(r.get_data(root))
        while (got := reader.reply_or_event()) == before:
            reader.send(r.get_data(root))
        assert got == (CHANGED, root)
        assert reader.reply_or_event() != before
        pending.get(timeout=EVENT_SECONDS_MAX)


@pytest.mark.parametrize("call", ["exists", "get"])
def test_watches_set_data_triggers_data_watches(zk: KazooClient, root: str, call: str) -> None:
    """Watches; Semantics, Changed event: enabled with exists and getData."""
    data, children = Events(), Events()
    getattr(zk, call)(root, watch=data)
    zk.get_children(root, watch=children)
    zk.set(root, b"1")
    assert data.next() == (EventType.CHANGED, root)
    assert children.empty()


def test_watches_create_triggers_the_nodes_and_the_parents(zk: KazooClient, root: str) -> None:
    """Watches; Semantics, Created and Child event: enabled with exists and getChildren."""
    node, parent = Events(), Events()
    zk.exists(f"{root}/a", watch=node)
    zk.get_children(root, watch=parent)
    zk.create(f"{root}/a")
    assert node.next() == (EventType.CREATED, f"{root}/a")
    assert parent.next() == (EventType.CHILD, root)


@pytest.mark.parametrize("call", ["exists", "get", "get_children"])
def test_watches_delete_triggers_both_of_the_node_and_the_parents(
    zk: KazooClient, root: str, call: str
) -> None:
    """Watches; Semantics, Deleted event: enabled with exists, getData and getChildren."""
    node, parent = Events(), Events()
    zk.create(f"{root}/a")
    getattr(zk, call)(f"{root}/a", watch=node)
    zk.get_children(root, watch=parent)
    zk.delete(f"{root}/a")
    assert node.next() == (EventType.DELETED, f"{root}/a")
    assert parent.next() == (EventType.CHILD, root)


def test_persistent_watches_are_not_removed_when_they_fire(
    server: zkstore.Server, zk: KazooClient, root: str
) -> None:
    """Persistent, Recursive Watches: not removed, for changes of the node and its children."""
    watcher = Raw(server)
    watcher.ask(r.add_watch(root, 0))
    zk.set(root, b"1")
    zk.set(root, b"2")
    zk.create(f"{root}/a")
    assert [watcher.event() for _ in range(3)] == [(CHANGED, root), (CHANGED, root), (CHILD, root)]


def test_recursive_watches_see_all_below_and_no_child_events(
    server: zkstore.Server, zk: KazooClient, root: str
) -> None:
    """Persistent, Recursive Watches: created, deleted, changed for all znodes below."""
    watcher = Raw(server)
    watcher.ask(r.add_watch(root, 1))
    zk.create(f"{root}/a")
    zk.create(f"{root}/a/b")
    zk.set(f"{root}/a/b", b"")
    zk.delete(f"{root}/a/b")
    assert [watcher.event() for _ in range(4)] == [
        (CREATED, f"{root}/a"),
        (CREATED, f"{root}/a/b"),
        (CHANGED, f"{root}/a/b"),
        (DELETED, f"{root}/a/b"),
    ]


def test_persistent_watches_are_removed_with_type_any(
    server: zkstore.Server, zk: KazooClient, root: str
) -> None:
    """Persistent, Recursive Watches; Remove Watches: with removeWatches and WatcherType.Any."""
    watcher = Raw(server)
    watcher.ask(r.add_watch(root, 0))
    watcher.ask(r.add_watch(root, 1))
    watcher.ask(r.remove_watches(root, 3))
    zk.set(root, b"1")
    watcher.ask(r.get_data(root))  # the reply comes, no event before it


def test_watch_events_come_in_the_order_of_the_updates(
    server: zkstore.Server, zk: KazooClient, root: str
) -> None:
    """Guarantees: the order of watch events is the order of the updates."""
    watcher = Raw(server)
    watcher.ask(r.add_watch(root, 1))
    pending = [zk.create_async(f"{root}/n{number}") for number in range(100)]
    for one in pending:
        one.get(timeout=EVENT_SECONDS_MAX)
    told = [watcher.event() for _ in range(100)]
    assert told == [(CREATED, f"{root}/n{number}") for number in range(100)]


# ---- Access control


def test_acls_are_not_recursive(zk: KazooClient, root: str) -> None:
    """ACLs: one pertains to its node only, not to the children."""
    zk.create(f"{root}/app", acl=[make_digest_acl("anne", "pw", create=True), *creating()])
    zk.create(f"{root}/app/status", b"readable")
    with pytest.raises(NoAuthError):
        zk.get(f"{root}/app")
    assert zk.get(f"{root}/app/status")[0] == b"readable"


def creating() -> list[ACL]:
    return [make_acl("world", "anyone", create=True)]


@pytest.mark.parametrize(
    ("right", "can"),
    [
        (Permissions.READ, {"get", "list", "getacl", "exists"}),
        (Permissions.WRITE, {"set"}),
        (Permissions.CREATE, {"create"}),
        (Permissions.DELETE, {"delete child"}),
        (Permissions.ADMIN, {"setacl", "getacl"}),
    ],
)
def test_acl_permissions(zk: KazooClient, root: str, right: int, can: set[str]) -> None:
    """ACL Permissions: what each of the five allows, and that it allows nothing else."""
    path = f"{root}/node"
    zk.create(path)
    zk.create(f"{path}/child")
    acl = [ACL(right, Id("world", "anyone"))]
    zk.set_acls(path, acl)
    calls: dict[str, Callable[[], object]] = {
        "get": lambda: zk.get(path),
        "list": lambda: zk.get_children(path),
        "exists": lambda: zk.exists(path),
        "getacl": lambda: zk.get_acls(path),
        "set": lambda: zk.set(path, b""),
        "create": lambda: zk.create(f"{path}/new"),
        "delete child": lambda: zk.delete(f"{path}/child"),
        "setacl": lambda: zk.set_acls(path, acl),
    }
    for name, call in calls.items():
        if name in can:
            call()
        else:
            with pytest.raises(NoAuthError):
                call()


def test_acl_hashes_are_shown_to_administrators_only(connect: Connect, root: str) -> None:
    """ACL Permissions: without ADMIN, digest hashes are masked."""
    anne = connect(auth_data=[("digest", "anne:pw")])
    mine = make_digest_acl("anne", "pw", all=True)
    anne.create(f"{root}/a", acl=[mine, make_acl("world", "anyone", read=True)])
    assert anne.get_acls(f"{root}/a")[0][0] == mine
    assert connect().get_acls(f"{root}/a")[0][0].id.id == "anne:x"


def test_the_auth_scheme_is_whoever_is_authenticated(connect: Connect, root: str) -> None:
    """Builtin Schemes, auth: ignores the expression; fails without an authenticated user."""
    acl = [make_acl("auth", "ignored", all=True)]
    with pytest.raises(InvalidACLError):
        connect().create(f"{root}/a", acl=acl)
    anne = connect(auth_data=[("digest", "anne:pw")])
    anne.create(f"{root}/a", acl=acl)
    assert anne.get_acls(f"{root}/a")[0] == [make_digest_acl("anne", "pw", all=True)]
    with pytest.raises(NoAuthError):
        connect(auth_data=[("digest", "anne:other")]).get(f"{root}/a")


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [("127.0.0.1", True), ("127.0.0.0/8", True), ("10.0.0.0/8", False), ("127.0.0.2", False)],
)
def test_the_ip_scheme_matches_the_first_bits(
    zk: KazooClient, root: str, expression: str, allowed: bool
) -> None:
    """Builtin Schemes, ip: addr/bits against the client's address."""
    zk.create(f"{root}/a", b"seen", acl=[make_acl("ip", expression, read=True)])
    if allowed:
        assert zk.get(f"{root}/a")[0] == b"seen"
    else:
        with pytest.raises(NoAuthError):
            zk.get(f"{root}/a")


# ---- Consistency guarantees


def test_updates_of_a_client_are_applied_in_the_order_they_were_sent(
    zk: KazooClient, root: str
) -> None:
    """Guarantees, Sequential consistency."""
    pending = [zk.set_async(root, b"%d" % number) for number in range(100)]
    versions = [one.get(timeout=EVENT_SECONDS_MAX).version for one in pending]
    assert versions == list(range(1, 101))
    assert zk.get(root)[0] == b"99"


def test_updates_succeed_or_fail_as_a_whole(zk: KazooClient, root: str) -> None:
    """Guarantees, Atomicity: there are no partial results."""
    transaction = zk.transaction()
    transaction.create(f"{root}/a")
    transaction.set_data(root, b"changed")
    transaction.check(root, version=99)
    results = transaction.commit()
    assert isinstance(results[2], BadVersionError)
    assert zk.exists(f"{root}/a") is None
    assert zk.get(root)[0] == b""


def test_a_client_never_sees_an_older_view(
    server: zkstore.Server, zk: KazooClient, root: str
) -> None:
    """Guarantees, Single system image: not even when it comes back on another connection."""
    reader, seen = Raw(server), b""
    for number in range(10, 60):
        pending = zk.set_async(root, b"%d" % number)
        found = reader.ask(r.get_data(root))[4:-68]
        assert found >= seen
        session = {"session_id": reader.session_id, "password": reader.password}
        reader, seen = Raw(server, **session, last_zxid=reader.zxid), found
        pending.get(timeout=EVENT_SECONDS_MAX)


def test_an_update_lasts_until_another_overwrites_it(tmp_path: Path) -> None:
    """Guarantees, Reliability: a successful update is there after failures (kill and restart)."""
    server = zkstore.Server(tmp_path).start()
    with KazooClientOf(server) as zk:
        zk.create("/kept", b"value")
    server.kill()
    server.start()
    with KazooClientOf(server) as zk:
        assert zk.get("/kept")[0] == b"value"
    server.stop()


def test_sync_then_read_sees_what_another_client_has_been_told(connect: Connect, root: str) -> None:
    """Guarantees: A sets, tells B; B calls sync and reads: it sees A's value."""
    one, other = connect(), connect()
    for number in range(50):
        one.set(root, b"%d" % number)
        other.sync(root)
        assert other.get(root)[0] == b"%d" % number
