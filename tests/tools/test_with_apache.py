"""Real servers' data moved over and back: the same tree through both servers, the same sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_acl, make_digest_acl

import zkstore
from tests.tools.apache_server import apache, classpaths
from tests.tools.commands import run

SERVERS = classpaths()
pytestmark = pytest.mark.timeout(240)


def client(address: str, session: tuple[int, bytes] | None = None) -> KazooClient:
    one = KazooClient(address, timeout=40, client_id=session, auth_data=[("digest", "u:p")])
    one.start(timeout=30)
    return one


def vanish(one: KazooClient) -> None:
    """End a client whose server is gone: its session was not closed and lives on."""
    one.stop()
    one.close()


def work(one: KazooClient) -> None:
    """A little of everything that ends up in a tree."""
    one.create("/a", b"first")
    for number in range(40):
        one.create("/a/n-", b"%d" % number, sequence=True)
    one.set("/a", b"second")
    for name in sorted(one.get_children("/a"))[:15]:
        one.delete(f"/a/{name}")
    one.create("/null", None)
    one.create("/big", b"x" * 900_000)
    one.create("/grün", "ä".encode())
    one.create("/a/deep/er/and/deeper", b"", makepath=True)
    one.create("/mine", b"", acl=[make_digest_acl("u", "p", all=True)])
    one.create("/shared", b"s")
    one.set_acls("/shared", [make_acl("ip", "127.0.0.1", all=True)])
    one.create("/a/eph", b"e", ephemeral=True)
    transaction = one.transaction()
    transaction.create("/multi", b"m")
    transaction.set_data("/a", b"third")
    transaction.commit()


def seen(one: KazooClient, path: str = "/") -> dict[str, Any]:
    """Everything a client can see."""
    data, stat = one.get(path)
    acl, _ = one.get_acls(path)
    found = {path: (data, tuple(stat), acl)}
    for name in one.get_children(path):
        found |= seen(one, f"{path.rstrip('/')}/{name}")
    return found


@pytest.mark.parametrize("name", SERVERS)
def test_there_and_back(name: str, tmp_path: Path) -> None:
    """Apache → zkstore → Apache; a session and its ephemeral live through both moves."""
    with apache(SERVERS[name], tmp_path / "apache") as address:
        one = client(address)
        work(one)
        session, before = one.client_id, seen(one)
    vanish(one)
    run("import {0} --data-dir {1}", tmp_path / "apache", tmp_path / "mine")
    with zkstore.Server(tmp_path / "mine", max_session_timeout_ms=60_000) as server:
        one = client(server.address, session)
        assert one.client_id == session
        assert seen(one) == before
        one.create("/a/by-zkstore", b"z")
        one.delete("/multi")
        one.create("/a/n-", b"next", sequence=True)
        between = seen(one)
        assert "/a/n-0000000042" in between or "/a/n-0000000043" in between
    vanish(one)
    assert run("snapshot verify {0}", tmp_path / "mine").endswith("no damage\n")
    run("export {0} --data-dir {1}", tmp_path / "back", tmp_path / "mine")
    with apache(SERVERS[name], tmp_path / "back") as address:
        one = client(address, session)
        assert one.client_id == session
        assert seen(one) == between
        one.create("/a/by-apache", b"a")
        one.stop()
        other = client(address)
        assert other.exists("/a/eph") is None
        other.stop()
    text = (tmp_path / "back.log").read_text(errors="replace")
    assert "igest is not matching" not in text and "Digests are not matching" not in text


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("compression", ["gz", "snappy"])
def test_compressed_snapshots_of_both(name: str, compression: str, tmp_path: Path) -> None:
    method = {"zookeeper.snapshot.compression.method": compression}
    with apache(SERVERS[name], tmp_path / "apache") as address:
        one = client(address)
        work(one)
        one.stop()
    run("import {0} --data-dir {1}", tmp_path / "apache", tmp_path / "mine")
    run(f"export {{0}} --data-dir {{1}} --compress {compression}", tmp_path / "back",
        tmp_path / "mine")  # fmt: skip
    with apache(SERVERS[name], tmp_path / "back", **method) as address:
        one = client(address)
        before = seen(one)
        one.stop()
    # Its own snapshot, made at its start, is compressed too.
    run("import {0} --data-dir {1}", tmp_path / "back", tmp_path / "again")
    with zkstore.Server(tmp_path / "again") as server:
        one = client(server.address)
        assert seen(one) == before
        one.stop()


@pytest.mark.parametrize("name", SERVERS)
def test_many_fuzzy_snapshots(name: str, tmp_path: Path) -> None:
    """A server that takes a snapshot every few txns, killed: any of them leads to its tree."""
    with apache(SERVERS[name], tmp_path / "apache", **{"zookeeper.snapCount": "20"}) as address:
        one = client(address)
        # The usage is counted anew by who reads a fuzzy snapshot: it stands in another part of it.
        one.create("/quoted")
        one.create("/zookeeper/quota/quoted")
        one.create("/zookeeper/quota/quoted/zookeeper_limits", b"count=1000,bytes=-1")
        one.create("/zookeeper/quota/quoted/zookeeper_stats", b"count=0,bytes=0")
        for _ in range(3):
            for number in range(60):
                one.create(f"/quoted/f{number}", b"x" * number)
            for number in range(0, 60, 2):
                one.delete(f"/quoted/f{number}")
                one.create(f"/quoted/f{number}", b"again")
            for number in range(60):
                one.delete(f"/quoted/f{number}")
        work(one)
        before = seen(one)
        assert before["/zookeeper/quota/quoted/zookeeper_stats"][0] == b"count=1,bytes=0"
    vanish(one)
    run("import {0} --data-dir {1}", tmp_path / "apache", tmp_path / "mine")
    assert run("snapshot verify {0}", tmp_path / "mine").endswith("no damage\n")
    with zkstore.Server(tmp_path / "mine", max_session_timeout_ms=60_000) as server:
        other = client(server.address)
        assert seen(other) == before
        other.stop()


@pytest.mark.parametrize("name", SERVERS)
def test_what_a_quota_counts_is_counted_by_who_reads_a_snapshot(name: str, tmp_path: Path) -> None:
    """Source: DataTree.setupQuota. Apache, started on the same files, says the same."""
    stats = "/zookeeper/quota/a/zookeeper_stats"
    with zkstore.Server(tmp_path / "mine") as server:
        one = client(server.address)
        one.create("/a/b", b"12345", makepath=True)
        one.create("/zookeeper/quota/a/zookeeper_limits", b"count=9,bytes=9", makepath=True)
        one.create(stats)
        one.set(stats, b"count=77,bytes=1")
        one.stop()
    run("export {0} --data-dir {1}", tmp_path / "apache", tmp_path / "mine")
    run("import {0} --data-dir {1}", tmp_path / "apache", tmp_path / "again")
    assert run("snapshot verify {0}", tmp_path / "again").endswith("no damage\n")
    with zkstore.Server(tmp_path / "again") as server:
        one = client(server.address)
        imported = seen(one)
        assert imported[stats][0] == b"count=2,bytes=5"
        one.stop()
    with apache(SERVERS[name], tmp_path / "apache") as address:
        one = client(address)
        assert seen(one) == imported
        one.stop()


@pytest.mark.parametrize("name", SERVERS)
def test_a_live_tree_is_copied_through_the_protocol(name: str, tmp_path: Path) -> None:
    with apache(SERVERS[name], tmp_path / "apache") as address:
        one = client(address)
        work(one)
        one.delete("/a/eph")
        before = seen(one)
        said = run(f"import --from {address} --auth digest:u:p --data-dir {{0}}", tmp_path / "mine")
        assert said.endswith(f"compared  0 nodes differ from {address}\n")
        one.set("/a", b"changed")
        one.stop()
    with zkstore.Server(tmp_path / "mine") as server:
        other = client(server.address)
        assert seen(other) == before
        other.stop()
