"""Our votes among Apache's: a real election and port of ours with real servers of theirs.

Debian's Apache (3.8) always where it is installed, 3.9 where ZKSTORE_APACHE_39 names its jars.
Nobody answers on our quorum port: whoever is elected with us is, in Apache's eyes, soon gone.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import free_ports
from tests.quorum.voter import LOCALHOST, PRODUCTION, Voter, bounded, membership, until
from tests.tools.apache_server import classpaths
from zkstore.proto.quorum import NOBODY, Role
from zkstore.zab.membership import Membership

INSTALLED = classpaths()
# Two servers at a time, of each version and mixed.
PAIRS = [(one, other) for one in INSTALLED for other in INSTALLED]
SECONDS_MAX = 100.0
TICK_S = 0.2
LIMIT_TICKS = 10
# None is given up for being slow; whose process ends is missed at once.
SYNC_LIMIT_TICKS = 100


class Apache:
    """The processes of some members."""

    def __init__(self, folder: Path, members: Membership) -> None:
        self.folder = folder
        self.members = members
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.client_ports: dict[int, int] = {}

    def start(self, sid: int, version: str) -> None:
        home = self.folder / str(sid)
        home.mkdir()
        self.client_ports[sid] = free_ports(1)[0]
        (home / "myid").write_text(f"{sid}\n")
        servers = self.members.text().decode().rpartition("version=")[0]
        (home / "zoo.cfg").write_text(
            f"dataDir={home}\nclientPort={self.client_ports[sid]}\nclientPortAddress={LOCALHOST}\n"
            f"tickTime={TICK_S * 1000:.0f}\ninitLimit={LIMIT_TICKS}\n"
            f"syncLimit={SYNC_LIMIT_TICKS}\n{servers}"
        )
        with (home / "log").open("wb") as log:
            self.processes[sid] = subprocess.Popen(
                ["java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                 "-Dzookeeper.admin.enableServer=false", "-Dzookeeper.preAllocSize=64",
                 "-cp", INSTALLED[version],
                 "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(home / "zoo.cfg")],
                stdout=log, stderr=log,
            )  # fmt: skip

    def mode(self, sid: int) -> str:
        """What a server says that it is."""
        with socket.create_connection((LOCALHOST, self.client_ports[sid]), 10) as sock:
            sock.sendall(b"srvr")
            text = b"".join(iter(lambda: sock.recv(4096), b"")).decode()
        return text.partition("Mode: ")[2].partition("\n")[0]

    def kill(self, sid: int) -> None:
        process = self.processes.pop(sid)
        process.kill()
        process.wait()


@contextmanager
def apache(folder: Path, members: Membership) -> Iterator[Apache]:
    servers = Apache(folder, members)
    try:
        yield servers
    finally:
        for sid in list(servers.processes):
            servers.kill(sid)


def decided(voter: Voter) -> bool:
    return voter.election.role is not Role.LOOKING


async def established(voter: Voter) -> int:
    """Look again and again until they have an epoch; who leads.

    Each time we are silent until a leader that counted on us has given up: else our votes would
    make one of them lead, and then the other, for ever.
    """
    while True:
        await until(lambda: decided(voter))
        if voter.election.vote.peer_epoch > 0:
            return voter.election.vote.leader
        await asyncio.sleep(2 * TICK_S * LIMIT_TICKS)
        voter.election.look(0, 0)


pairs = pytest.mark.parametrize("pair", PAIRS, ids=["-".join(pair) for pair in PAIRS])


@pairs
def test_we_follow_the_one_they_elect_and_its_successor(
    tmp_path: Path, pair: tuple[str, str]
) -> None:
    members = membership(1, 2, 3)

    async def story() -> None:
        with apache(tmp_path, members) as servers:
            voter = await Voter(1, members).start()
            for sid, version in zip((2, 3), pair, strict=True):
                servers.start(sid, version)
            leader = await established(voter)
            assert voter.election.role == Role.FOLLOWING
            # They tell their epoch before they serve.
            await until(lambda: servers.mode(leader) == "leader")
            await until(lambda: servers.mode(5 - leader) == "follower")
            servers.kill(leader)
            await voter.forget(leader)
            voter.election.look(0, 0)
            await until(lambda: decided(voter))
            assert voter.election.vote[::3] == (5 - leader, 1)
            voter.stop()

    bounded(story, SECONDS_MAX, PRODUCTION)


@pairs
def test_who_comes_late_joins_with_the_leaders_epoch(tmp_path: Path, pair: tuple[str, str]) -> None:
    """Also an observer, and one that has lost its data and must not count."""
    members = membership(1, 2, 3, observers=(4,))

    async def story() -> None:
        with apache(tmp_path, members) as servers:
            for sid, version in zip((2, 3), pair, strict=True):
                servers.start(sid, version)
            observer = await Voter(4, members).start()
            leader = await established(observer)
            await until(lambda: servers.mode(leader) == "leader")
            assert observer.election.role == Role.OBSERVING
            voter = await Voter(1, members).start()
            voter.election.look(0, 0, whole=False)
            await until(lambda: decided(voter))
            assert voter.election.role == Role.FOLLOWING
            assert voter.election.vote == observer.election.vote
            voter.stop()
            observer.stop()

    bounded(story, SECONDS_MAX, PRODUCTION)


@pytest.mark.parametrize("version", INSTALLED)
@pytest.mark.parametrize(("ours", "theirs", "zxid"), [(3, 1, 0), (1, 3, 0x100000003)])
def test_they_elect_us(tmp_path: Path, version: str, ours: int, theirs: int, zxid: int) -> None:
    """By sid, or by zxid although the sid is the least. One alone needs our vote; two together
    might not wait for it."""
    members = membership(1, 2, 3)

    async def story() -> None:
        with apache(tmp_path, members) as servers:
            voter = await Voter(ours, members).start(zxid, zxid >> 32)
            servers.start(theirs, version)
            await until(lambda: decided(voter))
            assert (voter.election.role, voter.election.vote.zxid) == (Role.LEADING, zxid)
            round_ = voter.election.round
            votes = {(sid, n.leader) for sid, n in voter.heard if n.election_epoch == round_}
            assert (theirs, ours) in votes
            # It finds nobody on our quorum port and looks again, and again it is us.
            voter.heard.clear()
            voter.election.look(0x100000005, 1)
            await until(lambda: decided(voter))
            assert (voter.election.role, voter.election.vote.zxid) == (Role.LEADING, 0x100000005)
            assert NOBODY not in {n.leader for _, n in voter.heard}
            voter.stop()

    bounded(story, SECONDS_MAX, PRODUCTION)
