"""A member that only votes: a real election behind a real election port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import uvloop

from tests.ports import free_ports
from zkstore.proto.quorum import Notification
from zkstore.quorum.election_port import ElectionPort
from zkstore.settings import Settings
from zkstore.zab.election import Election
from zkstore.zab.membership import Address, Member, Membership

TEST_S_MAX = 60.0
LOCALHOST = "127.0.0.1"
STEP_S = 0.01

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
# What the commit process runs on.
PRODUCTION: tuple[LoopFactory, ...] = (uvloop.new_event_loop,)


def membership(*sids: int, observers: tuple[int, ...] = ()) -> Membership:
    """Members on free ports of this machine."""
    everybody = sids + observers
    ports = iter(free_ports(2 * len(everybody)))
    return Membership(
        Member(sid, (Address(LOCALHOST, next(ports), next(ports)),), observer=sid in observers)
        for sid in everybody
    )


def bounded(
    test: Callable[[], Coroutine[Any, Any, None]],
    seconds: float = TEST_S_MAX,
    loops: Iterable[LoopFactory] = (uvloop.new_event_loop, asyncio.new_event_loop),
) -> None:
    """Run a test on each kind of loop, and not for ever."""

    async def run() -> None:
        await asyncio.wait_for(test(), seconds)

    for loop in loops:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(run())


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something to become true; `bounded` is the limit."""
    while not condition():
        await asyncio.sleep(STEP_S)


def is_connected(port: ElectionPort, sid: int) -> bool:
    peer = port._peers.get(sid)
    return peer is not None and peer.connection is not None


class Voter:
    """One member; `heard` keeps what came in."""

    def __init__(self, sid: int, members: Membership, **settings: Any) -> None:
        self.sid = sid
        self.heard: list[tuple[int, Notification]] = []
        self.election = Election(sid, members)
        self.port = ElectionPort(
            Settings(server_id=sid, members=members.text().decode(), **settings),
            members,
            self._receive,
        )
        self._task: asyncio.Task[None] | None = None

    def _receive(self, sid: int, notification: Notification) -> None:
        self.heard.append((sid, notification))
        self.election.receive(sid, notification)

    async def start(self, zxid: int = 0, epoch: int = 0) -> Voter:
        """Listen and look for a leader."""
        await self.port.start()
        self.election.look(zxid, epoch)
        self._task = asyncio.get_running_loop().create_task(self._tick())
        return self

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            for sid, notification in self.election.drain():
                self.port.send(sid, notification)
            await asyncio.sleep(STEP_S)
            now = loop.time()
            self.election.tick((now - last) * 1000)
            last = now

    async def forget(self, sid: int) -> None:
        """Wait until all is heard that a member had said before its end."""
        await until(lambda: not is_connected(self.port, sid))

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self.port.close()
