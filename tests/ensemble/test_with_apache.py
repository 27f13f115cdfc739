"""A server of Apache's among ours: digests of its trees, and trees that it could misread.

Debian's Apache (3.8) always where it is installed, 3.9 where ZKSTORE_APACHE_39 names its jars.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest
from kazoo.exceptions import KazooException

from tests.ensemble.ensemble import Ensemble, Member
from tests.ensemble.test_digests import content, mismatches, plant
from tests.ensemble.writers import client_of
from tests.invariants.replica import Replica, wait_for
from tests.ports import free_ports
from tests.tools.apache_server import classpaths
from zkstore.client import SyncClient, Unimplemented

APACHE = classpaths()
APACHE_SECONDS: Final = 60.0
TTL_MS: Final = 3_600_000


class Apache(Member):
    """One of Apache's servers, in a JVM that knows no character but ASCII's."""

    def __init__(
        self, folder: Path, sid: int, settings: Mapping[str, str], classpath: str
    ) -> None:
        super().__init__(folder, sid, settings)
        self.port = free_ports(1)[0]
        self._classpath = classpath

    def command(self, config: Path) -> list[str]:
        return [
            "java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            "-Dfile.encoding=US-ASCII", "-Dzookeeper.admin.enableServer=false",
            "-Dzookeeper.preAllocSize=64", "-cp", self._classpath,
            "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(config),
        ]  # fmt: skip

    def await_ready(self) -> Replica:
        """It listens, whether it serves or not."""

        def answers() -> bool:
            try:
                return bool(self.word("ruok"))
            except OSError:
                return False

        wait_for(answers, APACHE_SECONDS)
        return self


@contextmanager
def ensemble_with(folder: Path, sid: int, count: int, classpath: str) -> Iterator[Ensemble]:
    """The server of this id is Apache's. The others are to be started by hand, as it is."""
    ensemble = Ensemble(folder, count, {"initLimit": "20", "syncLimit": "20"})
    ours = ensemble.members[sid]
    lines = {key: value for key, value in ours.settings.items() if not key.startswith("zkstore.")}
    ensemble.members[sid] = Apache(folder / "apache", sid, lines, classpath)
    try:
        yield ensemble
    finally:
        for member in ensemble.members.values():
            member.kill_all()


@pytest.mark.parametrize("apache", APACHE.values(), ids=APACHE.keys())
def test_a_tree_that_is_not_the_leaders_is_taken_anew(tmp_path: Path, apache: str) -> None:
    """But the leader's character set is no difference."""
    with ensemble_with(tmp_path, 3, 3, apache) as ensemble:
        ours, third, theirs = ensemble.members.values()
        theirs.start()
        ours.start()  # these two before the third: the greater id leads
        wait_for(lambda: (ours.mode, theirs.mode) == ("follower", "leader"), APACHE_SECONDS)
        third.start()
        wait_for(lambda: third.mode == "follower", APACHE_SECONDS)
        client = client_of(f"127.0.0.1:{ours.port}")
        for path in ("/writer", "/writer/n00010", "/é", "/é/日本"):
            client.create(path)
        wait_for(lambda: client.set("/é/日本", b"*") and "counts '?'" in ours.output)
        assert mismatches(ours) == 0
        client.stop()
        assert ours.terminate() == 0
        ours.kill_all()
        plant(ours)
        ours.start()
        wait_for(lambda: ours.mode == "follower", APACHE_SECONDS)
        assert content(ours) == b"planted"
        client = client_of(f"127.0.0.1:{ours.port}")

        def is_taken() -> bool:
            with suppress(KazooException):  # it serves nobody for a moment
                client.create("/é/é", sequence=True)
            return "its whole tree is taken, once" in ours.output

        wait_for(is_taken)
        wait_for(lambda: ours.mode == "follower" and " took in " in ours.output, APACHE_SECONDS)
        assert content(ours) == b""
        before = mismatches(ours)
        client.retry(client.create, "/é/again")
        assert mismatches(ours) == before > 0
        assert mismatches(third) == 0
        client.stop()


@pytest.mark.parametrize("apache", APACHE.values(), ids=APACHE.keys())
def test_a_tree_with_ttl_nodes_is_kept_from_it(tmp_path: Path, apache: str) -> None:
    """Among ours TTL nodes are made; while there are some no server of another kind gets in, and
    none are made once it has."""
    with ensemble_with(tmp_path, 1, 3, apache) as ensemble:
        theirs, *ours = ensemble.members.values()
        first = Member(tmp_path / "first", 1, ours[0].settings)
        try:
            for member in ours:
                member.launch()
            for member in ours:
                member.await_ready()
            leader = ensemble.leader(ours)
            first.start()
            wait_for(lambda: all(one.mode for one in (first, *ours)))
            with SyncClient(f"127.0.0.1:{leader.port}") as client:
                client.create("/ttl", ttl_ms=TTL_MS)
                first.kill_all()
                client.create("/while-one-is-away", ttl_ms=TTL_MS)
                theirs.start()
                wait_for(lambda: "server 1 is refused: there are nodes with a" in leader.output)
                for path in ("/ttl", "/while-one-is-away"):
                    client.delete(path)
                wait_for(lambda: theirs.mode == "follower", APACHE_SECONDS)
                with pytest.raises(Unimplemented):
                    client.create("/no-more", ttl_ms=TTL_MS)
        finally:
            first.kill_all()
