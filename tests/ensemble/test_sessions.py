"""Sessions of an ensemble: they move between replicas, and only the leader lets them die."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.conformance import requests
from tests.conformance.requests import EPHEMERAL
from tests.ensemble.ensemble import Ensemble
from tests.ensemble.writers import client_of
from tests.invariants.client import Client, RefusedError, connect
from tests.invariants.history import History, Log
from tests.invariants.replica import TICK_MS, WAIT_SECONDS, wait_for

TIMEOUT_MS = 1500
PINGED_TIMEOUT_MS = 4000  # of a session whose client must not be late
PINGS_A_TIMEOUT = 5
PINGS = 2 * PINGS_A_TIMEOUT
# Rounded up to a tick; reported with a ping; looked for every half second; closed by a txn, on a
# disk that may stand still.
LATE_MS = TICK_MS + TICK_MS + 500 + 15_000


async def again(
    address: tuple[str, int], client: Client, log: Log, *, timeout_ms: int = 20_000
) -> Client:
    """Take the client's session over on another connection.

    A replica that has not seen what the client has turns it away; it is asked again.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return await connect(
                address, log, session_id=client.session_id, password=client.password,
                last_zxid=client.last_zxid, timeout_ms=timeout_ms,
            )  # fmt: skip
        except RefusedError:
            assert time.monotonic() < deadline, "the replica does not catch up"
            await asyncio.sleep(0.01)


def test_a_session_moves_from_replica_to_replica(three: Ensemble) -> None:
    """Each has it in turn; the old connection cannot write any more, the ephemeral stays."""
    history = History()

    async def run() -> None:
        members = list(three.members.values())
        client = await connect(members[0].address, history.log("at 0"))
        await client.done(requests.create("/moving", flags=EPHEMERAL))
        for turn in range(1, 10):
            member = members[turn % 3]
            newer = await again(member.address, client, history.log(f"at {turn}"))
            await newer.done(requests.set_data("/moving", b"%d" % turn))
            with pytest.raises(RefusedError):
                await client.done(requests.set_data("/moving", b"stolen"))
            await client.ended()
            read = await newer.done(requests.get_data("/moving"))
            assert read.body[4:5] == b"%d" % turn
            client = newer
        await client.close()

    asyncio.run(run())
    assert history.violations() == []


def test_a_moved_session_keeps_its_order(three: Ensemble) -> None:
    """What was sent through the old replica and what is sent through the new one do not mix, though
    the client counts its requests from one again."""
    history = History()

    async def run() -> None:
        members = list(three.members.values())
        client = await connect(members[0].address, history.log("at 0"))
        await client.done(requests.create("/mixing"))
        for turn in range(1, 13):
            sent = client.send(*(requests.set_data("/mixing", b"%d" % turn) for _ in range(50)))
            newer = await again(members[turn % 3].address, client, history.log(f"at {turn}"))
            made = await newer.done(requests.create(f"/mixing/{turn}"))
            assert made.body[4:] == b"/mixing/%d" % turn
            await newer.done(requests.delete(f"/mixing/{turn}"))
            client.cut()
            await client.ended()
            for future in sent:
                future.cancel()
            client = newer
        await client.close()

    asyncio.run(run())


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_a_silent_session_dies_everywhere(three: Ensemble, who: str) -> None:
    """And not before its timeout, wherever it is connected."""
    leader = three.leader()
    member = leader if who == "leader" else three.followers()[0]

    async def run() -> None:
        history = History()
        owner = await connect(member.address, history.log("owner"))
        await owner.done(requests.create(f"/silent{who}", flags=EPHEMERAL))
        # The timeout is short only from here on, where nothing waits for a disk.
        said = time.monotonic()
        client = await again(member.address, owner, history.log("silent"), timeout_ms=TIMEOUT_MS)
        heard = time.monotonic()
        await client.ended()
        ended = time.monotonic()
        assert (ended - said) * 1000 >= TIMEOUT_MS
        assert (ended - heard) * 1000 < TIMEOUT_MS + LATE_MS

    asyncio.run(run())
    for one in three.members.values():
        client = client_of(f"127.0.0.1:{one.port}")
        client.sync("/")
        assert client.exists(f"/silent{who}") is None
        client.stop()


def test_a_session_that_pings_a_follower_lives(three: Ensemble) -> None:
    member = three.followers()[0]

    async def run() -> None:
        log = History().log("pings")
        owner = await connect(member.address, log)
        await owner.done(requests.create("/pings", flags=EPHEMERAL))
        client = await again(member.address, owner, log, timeout_ms=PINGED_TIMEOUT_MS)
        for _ in range(PINGS):
            await asyncio.sleep(PINGED_TIMEOUT_MS / PINGS_A_TIMEOUT / 1000)
            await client.ask(requests.ping())
        assert (await client.one(requests.exists("/pings"))).error == 0
        await client.close()

    asyncio.run(run())


def test_no_session_pays_for_time_without_a_leader(tmp_path: Path) -> None:
    """The ensemble is without a quorum for longer than the timeout; the session lives on."""

    async def run(ensemble: Ensemble) -> None:
        leader = ensemble.leader()
        kept, other = ensemble.others(leader)
        log = History().log("client")
        owner = await connect(kept.address, log)
        await owner.done(requests.create("/kept", flags=EPHEMERAL))
        client = await again(kept.address, owner, log, timeout_ms=PINGED_TIMEOUT_MS)
        leader.kill_all()
        other.kill_all()
        await client.ended()
        since = time.monotonic()
        while time.monotonic() < since + 1.5 * PINGED_TIMEOUT_MS / 1000:
            with pytest.raises((RefusedError, ConnectionError)):
                await connect(kept.address, log)
            await asyncio.sleep(0.2)
        other.start()
        wait_for(lambda: kept.mode)
        newer = await again(kept.address, client, log)
        assert (await newer.one(requests.exists("/kept"))).error == 0
        await newer.close()

    with Ensemble(tmp_path, 3) as ensemble:
        asyncio.run(run(ensemble))
