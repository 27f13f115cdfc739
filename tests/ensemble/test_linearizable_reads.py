"""Invariant LinearizableReads (zkstore.linearizableReads=true): no read misses a write that was
acknowledged anywhere before the read was sent.

To make a replica stale its commit process is stopped; its worker goes on, and would answer. The
control is the same without the setting.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.conformance import requests
from tests.ensemble.ensemble import Ensemble, Member
from tests.ensemble.test_local_sessions import APACHE, Mixed
from tests.invariants.client import Client, RefusedError, connect
from tests.invariants.history import History
from tests.invariants.replica import wait_for
from tests.invariants.test_session_order import run_storm

_LINEARIZABLE: Final = {"zkstore.linearizableReads": "true"}
_SILENCE_IS_NOTICED: Final = {"syncLimit": "5"}
_TURNS: Final = 50
_AT_ONCE: Final = 20
# For how long an answer that must not come is waited for; a read takes a thousandth of that.
_SILENCE_SECONDS: Final = 1.0
_ANSWER_SECONDS: Final = 30.0  # within which one that must come does


@pytest.fixture(scope="module")
def linearizable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    with Ensemble(tmp_path_factory.mktemp("linearizable"), 3, _LINEARIZABLE) as ensemble:
        yield ensemble


async def session_at(member: Member) -> Client:
    return await connect(member.address, History().log("client"))


@contextmanager
def stopped(member: Member) -> Iterator[None]:
    """Its commit process hears nothing meanwhile."""
    pid = member.commit()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def read(client: Client, path: str) -> bytes:
    told = await client.done(requests.get_data(path))
    return told.body[4 : 4 + int.from_bytes(told.body[:4])]


async def at_a_stopped_replica(
    ensemble: Ensemble, member: Member, seconds: float
) -> list[bytes]:
    """What a client of a replica reads, within that time and at last, that has not heard of the
    last write; empty: nothing."""
    path = "/stale"
    others = ensemble.others(member)
    reader = await session_at(member)
    await reader.done(requests.create(path, b"old"))
    with stopped(member):
        ensemble.leader(others)
        wait_for(lambda: all(one.mode for one in others))
        writer = await session_at(others[0])
        await writer.done(requests.sync(path))
        await writer.done(requests.set_data(path, b"new"))
        await writer.close()
        asked = asyncio.ensure_future(read(reader, path))
        done, _ = await asyncio.wait([asked], timeout=seconds)
        early = [task.result() for task in done]
    try:
        return [*early, await asked]
    except RefusedError:
        return early  # it serves nobody any more


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_a_replica_that_is_cut_off_answers_nothing_old(tmp_path: Path, who: str) -> None:
    with Ensemble(tmp_path, 3, {**_LINEARIZABLE, **_SILENCE_IS_NOTICED}) as ensemble:
        member = ensemble.leader() if who == "leader" else ensemble.followers()[0]
        seen = asyncio.run(at_a_stopped_replica(ensemble, member, _SILENCE_SECONDS))
        # Once it goes on, a follower catches up first, if it is not cut off for having been silent.
        assert seen in ([[]] if who == "leader" else [[], [b"new"]])


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_control_without_the_setting_it_does(tmp_path: Path, who: str) -> None:
    with Ensemble(tmp_path, 3, _SILENCE_IS_NOTICED) as ensemble:
        member = ensemble.leader() if who == "leader" else ensemble.followers()[0]
        seen = asyncio.run(at_a_stopped_replica(ensemble, member, _ANSWER_SECONDS))
        assert seen[0] == b"old"


async def everywhere_at_once(ensemble: Ensemble, path: str) -> None:
    """Each write is seen at once by pipelined reads at every replica."""
    clients = [await session_at(one) for one in ensemble.members.values()]
    await clients[0].done(requests.create(path, b""))
    for turn in range(_TURNS):
        value = b"%d" % turn
        await clients[turn % 3].done(requests.set_data(path, value))
        reads = [read(client, path) for client in clients for _ in range(_AT_ONCE)]
        assert set(await asyncio.gather(*reads)) == {value}
    for client in clients:
        await client.close()


def test_every_replica_shows_what_was_acknowledged_at_another(linearizable: Ensemble) -> None:
    asyncio.run(everywhere_at_once(linearizable, "/everywhere"))


@pytest.mark.parametrize("apache", APACHE.values(), ids=APACHE.keys())
def test_a_learner_of_apache_asks_it(tmp_path: Path, apache: str) -> None:
    """Apache's servers take the barrier for a sync; their own clients read as ever."""
    with Mixed(tmp_path, apache, {2, 3}, _LINEARIZABLE) as ensemble:
        writer_at, reader_at = ensemble.members[2], ensemble.members[1]

        async def run() -> None:
            writer, reader = await session_at(writer_at), await session_at(reader_at)
            await writer.done(requests.create("/asked", b""))
            for turn in range(_TURNS):
                await writer.done(requests.set_data("/asked", b"%d" % turn))
                assert await read(reader, "/asked") == b"%d" % turn
            await writer.close()
            await reader.close()

        asyncio.run(run())


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_the_invariants_of_one_replica_hold_too(linearizable: Ensemble, who: str) -> None:
    """SessionOrder, WatchFirst, NeverBack and the rest, under a storm of pipelined requests."""
    member = linearizable.leader() if who == "leader" else linearizable.followers()[0]
    history = run_storm(member.address, f"/storm{who}", clients=6, rounds=100)
    assert len(history.answered()) > 1000
    assert history.violations() == []


def test_a_client_that_goes_leaves_nothing_behind(tmp_path: Path) -> None:
    """Its reads that wait go with it, and nobody else waits for them."""

    async def run(member: Member) -> None:
        going, staying = await session_at(member), await session_at(member)
        await staying.done(requests.create("/going", b"here"))
        with stopped(member):
            sent = going.send(*(requests.get_data("/going") for _ in range(100)))
            going.cut()
            await going.ended()
        for future in sent:
            future.cancel()
        assert await read(staying, "/going") == b"here"
        await staying.close()
        wait_for(lambda: member.mntr()["zk_outstanding_requests"] == "0")

    with Ensemble(tmp_path, 3, _LINEARIZABLE) as ensemble:
        asyncio.run(run(ensemble.followers()[0]))
