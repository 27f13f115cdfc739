"""A replica that was away gets what it lacks: the missing txns, or the whole tree."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.conformance import requests
from tests.ensemble.ensemble import Ensemble, Member
from tests.ensemble.test_failover import agree, writes_on
from tests.ensemble.writers import Writer, client_of
from tests.invariants.client import connect
from tests.invariants.history import History
from tests.invariants.replica import wait_for

_AT_ONCE = 2000
_IN_VAIN = 10


def lose(member: Member) -> None:
    """Its disk is a new one."""
    shutil.rmtree(member.data_dir)
    member.data_dir.mkdir()
    (member.data_dir / "myid").write_text(f"{member.sid}\n")


async def write(address: tuple[str, int], root: str, count: int) -> None:
    """So many writes to one node, pipelined."""
    client = await connect(address, History().log("writer"))
    await client.done(requests.create(root))
    for start in range(0, count, _AT_ONCE):
        numbers = range(start, min(start + _AT_ONCE, count))
        await client.ask(*(requests.set_data(root, b"%d" % number) for number in numbers))
    await client.close()


@pytest.mark.parametrize(
    ("missed", "by_snapshot"),
    [pytest.param(20_000, False, id="some"), pytest.param(100_000, True, id="more-than-the-tree")],
)
def test_a_follower_that_missed_txns_comes_back(
    tmp_path: Path, missed: int, by_snapshot: bool
) -> None:
    """By what it missed, or by the tree if that is so much smaller."""
    with Ensemble(tmp_path, 3) as ensemble:
        leader = ensemble.leader()
        away = ensemble.others(leader)[0]
        asyncio.run(write(away.address, "/before", 1))  # else it stands at zero, and needs all
        away.kill_all()
        asyncio.run(write(leader.address, "/missed", missed))
        with Writer(ensemble.hosts, "meanwhile") as writer:
            writes_on(writer)
            away.start()
            wait_for(lambda: away.mode == "follower")
            writes_on(writer)
        agree(ensemble, writer)
        assert ("sends the whole tree" in away.output) == by_snapshot
        client = client_of(f"127.0.0.1:{away.port}")
        assert client.get("/missed")[0] == b"%d" % (missed - 1)
        client.stop()


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_an_emptied_disk_comes_back_by_a_snapshot(tmp_path: Path, who: str) -> None:
    with Ensemble(tmp_path, 3) as ensemble:
        leader = ensemble.leader()
        member = leader if who == "leader" else ensemble.others(leader)[0]
        with Writer(ensemble.hosts, "writer") as writer:
            writes_on(writer)
            member.kill_all()
            lose(member)
            writes_on(writer)
            member.start()
            wait_for(lambda: member.mode == "follower")
            writes_on(writer)
        assert "sends the whole tree" in member.output
        agree(ensemble, writer)
        # It stands on its own feet: with it, any other may be missing.
        for other in ensemble.others(member):
            with Writer(ensemble.hosts, f"without{other.sid}") as writer:
                other.kill_all()
                writes_on(writer)
                other.start()
                wait_for(lambda other=other: other.mode)  # type: ignore[misc]
            agree(ensemble, writer)


def test_what_only_a_deposed_leader_has_goes(tmp_path: Path) -> None:
    """A leader without followers logs what it is asked to, and nobody acknowledges it."""
    with Ensemble(tmp_path, 3) as ensemble:
        leader = ensemble.leader()
        others = ensemble.others(leader)
        client = client_of(f"127.0.0.1:{leader.port}")
        logged = int(leader.mntr()["zk_proposal_count"])
        for other in others:
            other.pause()  # not killed yet: the leader would give up before it logs
        writes = [client.create_async(f"/nobody{number}") for number in range(_IN_VAIN)]
        wait_for(lambda: int(leader.mntr()["zk_proposal_count"]) == logged + _IN_VAIN)
        assert not any(write.ready() for write in writes)
        for other in others:
            other.kill_all()
        wait_for(lambda: "looking for a leader" in leader.output)
        leader.kill_all()
        for other in others:
            other.start()
        with Writer(ensemble.hosts, "writer") as writer:
            writes_on(writer)
            leader.start()
            wait_for(lambda: leader.mode == "follower")
        agree(ensemble, writer)
        seen = client_of(f"127.0.0.1:{leader.port}")
        assert [name for name in seen.get_children("/") if name.startswith("nobody")] == []
        seen.stop()
        client.stop()
