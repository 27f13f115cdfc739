"""Local sessions: known to their server alone, until they own a node.

Facts of Apache 3.9.3: reference section I, and the capture zk393-localsess-all.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import requests
from tests.conformance.requests import EPHEMERAL
from tests.ensemble.ensemble import Ensemble, Member
from tests.ensemble.test_sessions import LATE_MS, TIMEOUT_MS
from tests.invariants.client import Client, RefusedError, connect
from tests.invariants.history import History
from tests.invariants.replica import Replica, wait_for

EXPIRED = -112
EPHEMERAL_ON_LOCAL_SESSION = -120
_ENABLED = {"localSessionsEnabled": "true"}
_UPGRADING = {**_ENABLED, "localSessionsUpgradingEnabled": "true"}


@pytest.fixture(scope="module")
def upgrading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    with Ensemble(tmp_path_factory.mktemp("upgrading"), 3, _UPGRADING) as ensemble:
        yield ensemble


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    with Ensemble(tmp_path_factory.mktemp("refusing"), 3, _ENABLED) as ensemble:
        yield ensemble


def member_of(ensemble: Ensemble, who: str) -> Member:
    return ensemble.leader() if who == "leader" else ensemble.followers()[0]


async def session_at(member: Member, timeout_ms: int = 20_000) -> Client:
    return await connect(member.address, History().log("client"), timeout_ms=timeout_ms)


def knows(member: Member, client: Client) -> tuple[bool, bool]:
    """(as a local session, as a global one)"""
    session = f"0x{client.session_id & 0xFFFFFFFFFFFFFFFF:x}"
    dump = member.word("dump").partition("ephemeral nodes dump:")[0]
    local, found, known = dump.partition("Global Session")
    assert found and "Local Session Sets (" in local, dump
    as_global = re.search(rf"^\t?{session}\b", known, re.MULTILINE)
    return f"\t{session}\n" in local, as_global is not None


def sessions(member: Member) -> tuple[int, int]:
    """(local, global) as mntr counts them."""
    told = member.mntr()
    return int(told["zk_local_sessions"]), int(told["zk_global_sessions"])


async def resumed(member: Member, client: Client) -> Client:
    return await connect(
        member.address, History().log("again"),
        session_id=client.session_id, password=client.password,
    )  # fmt: skip


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_a_local_session_costs_no_txn_and_nobody_else_knows_it(
    upgrading: Ensemble, who: str
) -> None:
    member = member_of(upgrading, who)

    async def run() -> None:
        before = member.zxid
        counted = sessions(member)
        client = await session_at(member)
        assert client.session_id >> 56 == member.sid
        assert sessions(member) == (counted[0] + 1, counted[1])
        for one in upgrading.members.values():
            assert knows(one, client) == (one is member, False)
        for one in upgrading.others(member):
            with pytest.raises(RefusedError):
                await resumed(one, client)
        last = (await client.ask(requests.exists("/nothing"), requests.close_session()))[1]
        assert last.error == 0
        await client.ended()
        assert member.zxid == before
        assert sessions(member) == counted
        with pytest.raises(RefusedError):
            await resumed(member, client)

    asyncio.run(run())


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_it_reads_writes_watches_and_comes_back(upgrading: Ensemble, who: str) -> None:
    member = member_of(upgrading, who)

    async def run() -> None:
        client = await session_at(member)
        root = f"/writes{who}"
        await client.done(requests.create(root, b"0"))
        await client.done(requests.get_data(root, watch=True))
        told = await client.ask(
            requests.set_data(root, b"1"), requests.get_data(root), requests.sync(root),
            requests.set_data(root, b"2", version=7), requests.create(f"{root}/x", flags=2),
        )  # fmt: skip
        assert [one.error for one in told] == [0, 0, 0, -103, 0]
        assert told[1].body[4:5] == b"1"
        assert [event.path for event in client.log.heard if not hasattr(event, "xid")] == [root]
        newer = await resumed(member, client)
        await client.ended()
        await newer.done(requests.set_data(root, b"3"))
        assert knows(member, newer) == (True, False)
        await newer.close()

    asyncio.run(run())


@pytest.mark.parametrize("who", ["leader", "follower"])
@pytest.mark.parametrize("how", ["create", "create2", "multi"])
def test_owning_a_node_makes_it_global(upgrading: Ensemble, who: str, how: str) -> None:
    member = member_of(upgrading, who)
    path = f"/owned-{who}-{how}"
    made = {
        "create": requests.create(path, flags=EPHEMERAL),
        "create2": requests.create2(path, flags=EPHEMERAL),
        "multi": requests.multi(
            requests.create(f"{path}-too"), requests.create(path, flags=EPHEMERAL)
        ),
    }[how]

    async def run() -> None:
        client = await session_at(member)
        before = member.zxid
        created, after = await client.ask(made, requests.exists(path))
        assert created.error == after.error == 0
        assert created.zxid == before + 2  # the session's txn, and its own
        upgrading.settled()
        for one in upgrading.members.values():
            assert knows(one, client) == (False, True)
        other = upgrading.others(member)[0]
        client.cut()
        newer = await resumed(other, client)
        await newer.done(requests.set_data(path, b"moved"))
        await newer.close()
        upgrading.settled()
        last = await session_at(member)
        assert (await last.one(requests.exists(path))).error == -101
        await last.close()

    asyncio.run(run())


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_a_silent_local_session_dies(upgrading: Ensemble, who: str) -> None:
    """Its server alone says so, and not before its timeout; one that was upgraded dies as well."""
    member = member_of(upgrading, who)

    async def run() -> None:
        since = time.monotonic()
        local = await session_at(member, TIMEOUT_MS)
        owner = await session_at(member, TIMEOUT_MS)
        await owner.done(requests.create(f"/dies{who}", flags=EPHEMERAL))
        await asyncio.gather(local.ended(), owner.ended())
        lived_ms = (time.monotonic() - since) * 1000
        assert TIMEOUT_MS <= lived_ms < TIMEOUT_MS + LATE_MS
        assert knows(member, local) == knows(member, owner) == (False, False)
        watcher = await session_at(member)
        assert (await watcher.one(requests.exists(f"/dies{who}"))).error == -101
        await watcher.close()

    asyncio.run(run())


def test_a_local_session_that_pings_lives(upgrading: Ensemble) -> None:
    async def run() -> None:
        client = await session_at(upgrading.followers()[0], TIMEOUT_MS)
        for _ in range(12):
            await asyncio.sleep(TIMEOUT_MS / 3000)
            await client.ask(requests.ping())
        await client.close()

    asyncio.run(run())


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_without_upgrading_it_owns_nothing(refusing: Ensemble, who: str) -> None:
    member = member_of(refusing, who)
    root = f"/refused{who}"

    async def run() -> None:
        client = await session_at(member)
        await client.done(requests.create(root))
        refused, after = await client.ask(
            requests.create(f"{root}/e", flags=EPHEMERAL), requests.create(f"{root}/p")
        )
        assert (refused.error, after.error) == (EPHEMERAL_ON_LOCAL_SESSION, 0)
        assert after.zxid == refused.zxid + 1  # it took a zxid
        in_multi = await client.done(requests.multi(requests.create(f"{root}/m", flags=EPHEMERAL)))
        # In a multi the leader's word stands: it takes a learner's local session for an expired one
        why = EPHEMERAL_ON_LOCAL_SESSION if who == "leader" else EXPIRED
        assert why.to_bytes(4, signed=True) in in_multi.body
        children = await client.done(requests.get_children(root))
        assert children.body == b"\0\0\0\1\0\0\0\1p"
        assert knows(member, client) == (True, False)
        await client.close()

    asyncio.run(run())


def test_it_is_gone_with_its_server(tmp_path: Path) -> None:
    """Who comes back is told so; a new session is made, and an upgraded one lives on."""

    async def run(ensemble: Ensemble) -> None:
        member = ensemble.followers()[0]
        local, owner = await session_at(member), await session_at(member)
        await owner.done(requests.create("/stays", flags=EPHEMERAL))
        member.kill_all()
        member.start()
        wait_for(lambda: member.mode)
        with pytest.raises(RefusedError):
            await resumed(member, local)
        newer = await resumed(member, owner)
        assert (await newer.one(requests.exists("/stays"))).error == 0
        await newer.close()

    with Ensemble(tmp_path, 3, _UPGRADING) as ensemble:
        asyncio.run(run(ensemble))


def test_a_standalone_server_makes_global_ones(tmp_path: Path) -> None:
    with Replica(tmp_path, workers=1, settings=_ENABLED) as replica:

        async def run() -> None:
            client = await connect(replica.address, History().log("client"))
            await client.done(requests.create("/e", flags=EPHEMERAL))
            told = replica.mntr()
            assert (told["zk_local_sessions"], told["zk_global_sessions"]) == ("0", "1")
            assert "Local" not in replica.word("dump")
            await client.close()

        asyncio.run(run())
