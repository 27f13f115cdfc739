"""Local sessions: known to their server alone, until they own a node.

The same with Apache's servers in the ensemble, which behave alike: Debian's 3.8, and 3.9 where
ZKSTORE_APACHE_39 names its jars.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import requests
from tests.conformance.requests import EPHEMERAL, Request
from tests.ensemble.ensemble import WAIT_SECONDS, Ensemble, Member
from tests.ensemble.test_sessions import (
    LATE_MS,
    PINGED_TIMEOUT_MS,
    PINGS,
    PINGS_A_TIMEOUT,
    TIMEOUT_MS,
)
from tests.ensemble.writers import client_of
from tests.invariants.client import Client, RefusedError, connect
from tests.invariants.history import History
from tests.invariants.replica import Replica, wait_for
from tests.ports import free_ports
from tests.tools.apache_server import PROPERTIES, classpaths

APACHE = classpaths()
EXPIRED = -112
EPHEMERAL_ON_LOCAL_SESSION = -120
# Nothing is flushed: to make a session global must not take as long as its timeout.
_ENABLED = {"localSessionsEnabled": "true", "forceSync": "no"}
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


async def stays_local(ensemble: Ensemble, member: Member) -> None:
    """A session that costs no txn, and that nobody else knows."""
    ensemble.settled()
    before = member.zxid
    counted = sessions(member)
    client = await session_at(member)
    assert client.session_id >> 56 == member.sid
    assert sessions(member) == (counted[0] + 1, counted[1])
    for one in ensemble.members.values():
        assert knows(one, client) == (one is member, False)
    for one in ensemble.others(member):
        with pytest.raises(RefusedError):
            await resumed(one, client)
    last = (await client.ask(requests.exists("/nothing"), requests.close_session()))[1]
    assert last.error == 0
    await client.ended()
    assert member.zxid == before
    wait_for(lambda: sessions(member) == counted)
    with pytest.raises(RefusedError):
        await resumed(member, client)


async def becomes_global(ensemble: Ensemble, member: Member, path: str, made: Request) -> None:
    """A session that comes to own a node is everybody's, and can move."""
    ensemble.settled()
    client = await session_at(member)
    before = member.zxid
    created, after = await client.ask(made, requests.exists(path))
    assert created.error == after.error == 0
    assert created.zxid == before + 2  # the session's txn, and its own
    ensemble.settled()
    for one in ensemble.members.values():
        assert knows(one, client) == (False, True)
    other = ensemble.others(member)[0]
    client.cut()
    newer = await resumed(other, client)
    await newer.done(requests.set_data(path, b"moved"))
    await newer.close()
    ensemble.settled()
    last = await session_at(member)
    assert (await last.one(requests.exists(path))).error == -101
    await last.close()


async def dies(member: Member, path: str) -> None:
    """Silent sessions, one local, one that owns a node: both end in time, and not before."""
    said = time.monotonic()
    local = await session_at(member, TIMEOUT_MS)
    owner = await session_at(member, TIMEOUT_MS)
    await owner.done(requests.create(path, flags=EPHEMERAL))
    heard = time.monotonic()
    await asyncio.gather(local.ended(), owner.ended())
    ended = time.monotonic()
    assert (ended - said) * 1000 >= TIMEOUT_MS
    assert (ended - heard) * 1000 < TIMEOUT_MS + LATE_MS
    for gone in (local, owner):  # Apache cuts first, and forgets then
        wait_for(lambda gone=gone: knows(member, gone) == (False, False))  # type: ignore[misc]
    watcher = await session_at(member)
    assert (await watcher.one(requests.exists(path))).error == -101
    await watcher.close()


async def owns_nothing(member: Member, root: str) -> None:
    """Without upgrading, what a local session would own is refused."""
    client = await session_at(member)
    await client.done(requests.create(root))
    refused, after = await client.ask(
        requests.create(f"{root}/e", flags=EPHEMERAL), requests.create(f"{root}/p")
    )
    assert (refused.error, after.error) == (EPHEMERAL_ON_LOCAL_SESSION, 0)
    assert after.zxid == refused.zxid + 1  # it took a zxid
    in_multi = await client.done(requests.multi(requests.create(f"{root}/m", flags=EPHEMERAL)))
    # In a multi the leader's word stands: it takes a learner's local session for an expired one.
    why = EPHEMERAL_ON_LOCAL_SESSION if member.mode == "leader" else EXPIRED
    assert why.to_bytes(4, signed=True) in in_multi.body
    children = await client.done(requests.get_children(root))
    assert children.body == b"\0\0\0\1\0\0\0\1p"
    assert knows(member, client) == (True, False)
    await client.close()


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_a_local_session_costs_no_txn_and_nobody_else_knows_it(
    upgrading: Ensemble, who: str
) -> None:
    asyncio.run(stays_local(upgrading, member_of(upgrading, who)))


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

    asyncio.run(becomes_global(upgrading, member, path, made))


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_a_silent_local_session_dies(upgrading: Ensemble, who: str) -> None:
    asyncio.run(dies(member_of(upgrading, who), f"/dies{who}"))


def test_a_local_session_that_pings_lives(upgrading: Ensemble) -> None:
    async def run() -> None:
        client = await session_at(upgrading.followers()[0], PINGED_TIMEOUT_MS)
        for _ in range(PINGS):
            await asyncio.sleep(PINGED_TIMEOUT_MS / PINGS_A_TIMEOUT / 1000)
            await client.ask(requests.ping())
        await client.close()

    asyncio.run(run())


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_without_upgrading_it_owns_nothing(refusing: Ensemble, who: str) -> None:
    asyncio.run(owns_nothing(member_of(refusing, who), f"/refused{who}"))


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


class ApacheMember(Member):
    """A server of Apache's in place of one of ours."""

    def __init__(self, folder: Path, ours: Member, classpath: str) -> None:
        super().__init__(folder, ours.sid, ours.settings)
        self.port = free_ports(1)[0]
        self._classpath = classpath

    def command(self, config: Path) -> list[str]:
        options = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        options += [f"-D{name}={value}" for name, value in PROPERTIES.items()]
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        return ["java", *options, "-cp", self._classpath, main, str(config)]

    def await_ready(self) -> Replica:
        wait_for(lambda: self.mode, WAIT_SECONDS)
        return self


class Mixed(Ensemble):
    """Three members; those with one of these ids are Apache's."""

    def __init__(
        self, folder: Path, classpath: str, apaches: set[int], settings: dict[str, str]
    ) -> None:
        super().__init__(folder, 3, settings)
        for sid in apaches:
            self.members[sid] = ApacheMember(folder / "apache", self.members[sid], classpath)

    def settled(self) -> None:
        """Behind a txn: Apache's followers know of no epoch before its first one."""
        client = client_of(self.hosts)
        client.create("/settled", sequence=True)
        client.stop()
        client.close()
        super().settled()


@pytest.mark.parametrize("apache", APACHE.values(), ids=APACHE.keys())
@pytest.mark.parametrize("apaches", [{1}, {2, 3}], ids=["zkstore-leads", "apache-leads"])
def test_beside_apache(tmp_path: Path, apache: str, apaches: set[int]) -> None:
    """The least id does not lead: so one kind leads, and each kind follows."""
    with Mixed(tmp_path, apache, apaches, _UPGRADING) as ensemble:
        assert (ensemble.leader().sid in apaches) == (1 not in apaches)
        for sid, member in ensemble.members.items():
            asyncio.run(stays_local(ensemble, member))
            made = requests.create(f"/owned{sid}", flags=EPHEMERAL)
            asyncio.run(becomes_global(ensemble, member, f"/owned{sid}", made))
            asyncio.run(dies(member, f"/dies{sid}"))
        ensemble.settled()


@pytest.mark.parametrize("apache", APACHE.values(), ids=APACHE.keys())
@pytest.mark.parametrize("apaches", [{1}, {2, 3}], ids=["zkstore-leads", "apache-leads"])
def test_beside_apache_without_upgrading(tmp_path: Path, apache: str, apaches: set[int]) -> None:
    with Mixed(tmp_path, apache, apaches, _ENABLED) as ensemble:
        for sid, member in ensemble.members.items():
            asyncio.run(owns_nothing(member, f"/refused{sid}"))
        ensemble.settled()
