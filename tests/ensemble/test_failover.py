"""Replicas die or stand still while clients write: no acknowledged write is lost, and writes go on.

Invariant Durable of an ensemble.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.conformance import requests
from tests.ensemble.ensemble import Ensemble, Member
from tests.ensemble.writers import Writer, client_of
from tests.invariants.client import connect
from tests.invariants.history import History
from tests.invariants.replica import wait_for

FLOOD = 60_000  # more than may be outstanding
THROTTLED = -127
SILENCE_IS_NOTICED = {"syncLimit": "5"}


def writes_on(writer: Writer, count: int = 50) -> None:
    """Wait until so many more writes were acknowledged."""
    enough = len(writer.acknowledged) + count
    wait_for(lambda: len(writer.acknowledged) >= enough)


def agree(ensemble: Ensemble, *writers: Writer) -> None:
    """All replicas have all that was acknowledged."""
    ensemble.settled()
    for member in ensemble.members.values():
        for writer in writers:
            assert writer.acknowledged
            assert writer.lost_at(member) == set(), member.sid


def test_each_replica_takes_writes_and_shows_those_of_the_others(three: Ensemble) -> None:
    clients = {m.sid: client_of(f"127.0.0.1:{m.port}") for m in three.members.values()}
    try:
        clients[1].create("/each")
        for sid, client in clients.items():
            client.sync("/each")
            client.create(f"/each/{sid}", str(sid).encode())
        for client in clients.values():
            client.sync("/each")
            assert sorted(client.get_children("/each")) == ["1", "2", "3"]
            assert client.get("/each/2")[0] == b"2"
        assert len({session >> 56 for session, _ in (c.client_id for c in clients.values())}) == 3
    finally:
        for client in clients.values():
            client.stop()


@pytest.mark.parametrize("count", [3, 5])
def test_the_leader_is_killed(tmp_path: Path, count: int) -> None:
    with Ensemble(tmp_path, count) as ensemble:
        leader = ensemble.leader()
        with Writer(ensemble.hosts, "first") as first, Writer(ensemble.hosts, "second") as second:
            writes_on(first)
            leader.kill_all()
            ensemble.leader(ensemble.others(leader))
            writes_on(first)
            writes_on(second)
            leader.start()
            wait_for(lambda: leader.mode == "follower")
            writes_on(first)
        agree(ensemble, first, second)


def test_each_in_turn_is_killed(tmp_path: Path) -> None:
    with Ensemble(tmp_path, 3) as ensemble:
        ensemble.leader()
        with Writer(ensemble.hosts, "writer") as writer:
            for member in ensemble.members.values():
                writes_on(writer)
                member.kill_all()
                writes_on(writer)
                member.start()
                wait_for(lambda member=member: member.mode)  # type: ignore[misc]
        agree(ensemble, writer)


def test_all_are_killed_at_once(tmp_path: Path) -> None:
    with Ensemble(tmp_path, 3) as ensemble:
        ensemble.leader()
        with Writer(ensemble.hosts, "writer") as writer:
            writes_on(writer)
            for member in ensemble.members.values():
                member.kill_all()
            for member in ensemble.members.values():
                member.launch()
            for member in ensemble.members.values():
                member.await_ready()
            writes_on(writer)
        agree(ensemble, writer)


def stands_still(ensemble: Ensemble, member: Member) -> None:
    """One replica is stopped and goes on, while clients write."""
    with Writer(ensemble.hosts, "writer") as writer:
        writes_on(writer)
        member.pause()
        writes_on(writer)
        member.resume()
        wait_for(lambda: member.mode == "follower")
        writes_on(writer)
    agree(ensemble, writer)


def test_the_leader_stands_still(tmp_path: Path) -> None:
    with Ensemble(tmp_path, 3, SILENCE_IS_NOTICED) as ensemble:
        stands_still(ensemble, ensemble.leader())


def test_a_follower_stands_still(tmp_path: Path) -> None:
    with Ensemble(tmp_path, 3, SILENCE_IS_NOTICED) as ensemble:
        leader = ensemble.leader()
        stands_still(ensemble, ensemble.others(leader)[0])


def test_a_flood_while_nobody_acknowledges_is_refused(tmp_path: Path) -> None:
    """The leader's followers stand still: its memory is bounded, and it lives on."""

    async def flood(leader: Member) -> list[int]:
        client = await connect(leader.address, History().log("flood"))
        await client.done(requests.create("/flood"))
        for other in others:
            other.pause()
        sent = client.send(*(requests.set_data("/flood", b"x") for _ in range(FLOOD)))
        await client.ended()
        return [future.result().error for future in sent if not future.exception()]

    limit = {"globalOutstandingLimit": str(2 * FLOOD)}
    with Ensemble(tmp_path, 3, {**SILENCE_IS_NOTICED, **limit}) as ensemble:
        leader = ensemble.leader()
        others = ensemble.others(leader)
        commit = leader.commit()
        errors = asyncio.run(flood(leader))
        for other in others:
            other.resume()
        with Writer(ensemble.hosts, "after") as writer:
            writes_on(writer)
        agree(ensemble, writer)
        assert leader.commit() == commit
        assert set(errors) <= {THROTTLED}
