"""Clients that write, watch and hold ephemerals while replicas and network fail, and check it all.

Owns:   one tree per writer: `/w<i>` with a child for each write, `/e<i>` its ephemeral.
Invariants, each checked on the client's side:
  1. Durable: every acknowledged write is there at the end, on every replica; nothing is there that
     was not sent.
  2. SessionOrder: the children's czxids rise in the order of the writes, also over reconnections.
  3. NeverBack: after each reconnection the session sees its last acknowledged write.
  4. WatchFirst: a persistent recursive watch tells every creation once, in order, as long as its
     connection lives.
  5. EphemeralsDie: while the session lives its ephemeral is there; when it was expired it is gone.
  6. Agreement: at the end all replicas hold the same nodes with the same Stat in every field.
Shape:  `python -m tests.partitions.writers SERVERS`; runs until its stdin ends, then waits for the
  ensemble to agree and prints one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Final

from tests.conformance import requests
from tests.conformance.requests import EPHEMERAL
from tests.conformance.wire import ClosedError, Reader
from tests.invariants.client import Client, RefusedError, connect
from tests.invariants.history import Call, Event, History, read_stat

Address = tuple[str, int]
SESSION_TIMEOUT_MS: Final = 20_000
_ATTEMPT_SECONDS: Final = 3.0
_ANSWER_SECONDS: Final = 4.0
_AGREE_SECONDS: Final = 60.0
_NO_NODE: Final = -101
_NODE_EXISTS: Final = -110
_PERSISTENT_RECURSIVE: Final = 1
_WRITES_MAX: Final = 50_000  # a writer stops there, whatever happens
_GONE: Final = "no such session"
_LOST: Final = (RefusedError, ConnectionError, OSError, TimeoutError, ClosedError)


@dataclass(slots=True)
class Report:
    """What a run saw."""

    sent: int = 0
    acknowledged: int = 0
    events: int = 0
    reconnected: int = 0
    expired: int = 0
    longest_pause_ms: float = 0.0
    violations: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Writer:
    """One client: its session, and what it wrote."""

    number: int
    servers: list[Address]
    report: Report
    rng: random.Random
    session_id: int = 0
    password: bytes = bytes(16)
    last_zxid: int = 0
    sent: int = 0
    acknowledged: set[int] = field(default_factory=set)
    has_ephemeral: bool = False
    last_answer: float = 0.0

    @property
    def root(self) -> str:
        return f"/w{self.number}"

    def child(self, write: int) -> str:
        return f"{self.root}/{write:06}"

    def fail(self, text: str) -> None:
        self.report.violations.append(f"writer {self.number}: {text}")

    async def run(self, stopped: asyncio.Event) -> None:
        """Write until told to stop, over any number of connections."""
        self.last_answer = time.monotonic()
        while not stopped.is_set() and self.sent < _WRITES_MAX:
            server = self.rng.choice(self.servers)
            client: Client | None = None
            try:
                client = await asyncio.wait_for(self._connect(server), _ATTEMPT_SECONDS)
                await self._settle(client)
                await self._write(client, stopped)
            except _LOST:
                await asyncio.sleep(0.05)  # as clients do before they try another server
            finally:
                if client is not None:
                    self._check_events(client)
                    self.last_zxid = max(self.last_zxid, client.last_zxid)
                    client.cut()

    async def leave(self) -> None:
        """Close the session: what was sent and not answered is done by then, or never."""
        deadline = time.monotonic() + _AGREE_SECONDS
        while self.session_id and time.monotonic() < deadline:
            try:
                resuming = self._resume(self.rng.choice(self.servers))
                client = await asyncio.wait_for(resuming, _ATTEMPT_SECONDS)
                await asyncio.wait_for(client.close(), _ANSWER_SECONDS)
                return
            except _LOST as error:
                if _GONE in str(error):
                    return
                await asyncio.sleep(0.05)

    async def _resume(self, server: Address) -> Client:
        return await connect(
            server, History().log(f"{self.root} at {server}"), timeout_ms=SESSION_TIMEOUT_MS,
            session_id=self.session_id, password=self.password, last_zxid=self.last_zxid,
        )  # fmt: skip

    async def _connect(self, server: Address) -> Client:
        try:
            client = await self._resume(server)
        except RefusedError as error:
            if self.session_id and _GONE in str(error):
                self.report.expired += 1
                self.session_id, self.password, self.has_ephemeral = 0, bytes(16), False
            raise
        if client.session_id == self.session_id:
            self.report.reconnected += 1
        self.session_id, self.password = client.session_id, client.password
        return client

    async def _settle(self, client: Client) -> None:
        """What a session may rely on after it has come back; then its watch and its ephemeral."""
        if self.acknowledged:
            last = self.child(max(self.acknowledged))
            if (await _ask(client, requests.exists(last))).error:
                self.fail(f"{last} was acknowledged, and is not seen after a reconnection")
        ephemeral = f"/e{self.number}"
        call = await _ask(client, requests.exists(ephemeral))
        owner = read_stat(Reader(call.body)).owner if not call.error else 0
        if self.has_ephemeral and owner != self.session_id:
            self.fail(f"{ephemeral} of living session {self.session_id:#x} belongs to {owner:#x}")
        if not self.has_ephemeral and owner not in (0, self.session_id):
            self.fail(f"{ephemeral} of dead session {owner:#x} is still there")
        if owner == 0:
            await _done(client, requests.create(ephemeral, flags=EPHEMERAL), _NODE_EXISTS)
        self.has_ephemeral = True
        await _done(client, requests.create(self.root), _NODE_EXISTS)
        await _done(client, requests.add_watch(self.root, _PERSISTENT_RECURSIVE))

    async def _write(self, client: Client, stopped: asyncio.Event) -> None:
        while not stopped.is_set() and self.sent < _WRITES_MAX:
            pipeline = range(self.sent + 1, self.sent + 1 + self.rng.randint(1, 8))
            futures = client.send(*(requests.create(self.child(n), b"x" * 50) for n in pipeline))
            self.sent = pipeline[-1]
            self.report.sent += len(pipeline)
            for number, future in zip(pipeline, futures, strict=True):
                call = await asyncio.wait_for(future, _ANSWER_SECONDS)
                if call.error:
                    self.fail(f"{call} for write {number}")
                self.acknowledged.add(number)
                self.report.acknowledged += 1
                now = time.monotonic()
                pause_ms = (now - self.last_answer) * 1000
                self.report.longest_pause_ms = max(self.report.longest_pause_ms, pause_ms)
                self.last_answer = now

    def _check_events(self, client: Client) -> None:
        """Creations are told in order, none left out; their events come before the replies."""
        last = 0
        for one in client.log.heard:
            if not isinstance(one, Event) or not one.path.startswith(self.root + "/"):
                continue
            self.report.events += 1
            number = int(one.path.rpartition("/")[2])
            if last and number <= last:
                self.fail(f"event of write {number} behind that of {last}")
            missing = [n for n in range(last + 1, number) if n in self.acknowledged] if last else []
            if missing:
                self.fail(f"no event of writes {missing[:5]} before that of {number}")
            last = number


async def _ask(client: Client, request: requests.Request) -> Call:
    return await asyncio.wait_for(client.send(request)[0], _ANSWER_SECONDS)


async def _done(client: Client, request: requests.Request, *allowed: int) -> None:
    call = await _ask(client, request)
    if call.error and call.error not in allowed:
        raise RefusedError(f"{request.text}: {call.error}")


Held = dict[str, list[tuple[str, bytes]]]


async def _children(server: Address, writers: list[Writer]) -> Held:
    """What one replica holds, behind a sync: (child, its Stat) by writer, itself under ''."""
    client = await asyncio.wait_for(connect(server, History().log("check")), _ATTEMPT_SECONDS)
    held: Held = {}
    try:
        await _done(client, requests.sync("/"))
        for writer in writers:
            call = await _ask(client, requests.get_children(writer.root))
            if call.error == _NO_NODE:
                held[writer.root] = []
                continue
            reader = Reader(call.body)
            names = sorted(reader.ustring() or "" for _ in range(reader.i32()))
            paths = [writer.root, *(f"{writer.root}/{name}" for name in names)]
            calls = await client.ask(*map(requests.exists, paths))
            stats = (one.body for one in calls)
            held[writer.root] = list(zip(("", *names), stats, strict=True))
    finally:
        client.cut()
    return held


async def _eventually(server: Address, writers: list[Writer]) -> Held:
    """`_children`, again until no connection is refused or lost."""
    deadline = time.monotonic() + _AGREE_SECONDS
    while True:
        try:
            return await _children(server, writers)
        except _LOST:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


async def judge(servers: list[Address], writers: list[Writer], report: Report) -> None:
    """The state at the end, on every replica."""
    reference: Held | None = None
    for server in servers:
        held = await _eventually(server, writers)
        if reference is None:
            reference = held
        elif held != reference:
            report.violations.append(f"{server} differs from {servers[0]}")
        for writer in writers:
            children = held[writer.root][1:]
            names = {int(name) for name, _ in children}
            czxids = [read_stat(Reader(stat)).czxid for _, stat in children]
            lost = sorted(writer.acknowledged - names)
            if lost:
                writer.fail(f"acknowledged writes {lost[:5]} ({len(lost)}) are not on {server}")
            if names and max(names) > writer.sent:
                writer.fail(f"write {max(names)} was never sent, and is on {server}")
            if czxids != sorted(set(czxids)):
                writer.fail(f"czxids on {server} are not in the order of the writes")


async def storm(servers: list[Address], count: int, seed: int, stopped: asyncio.Event) -> Report:
    """Run all writers until `stopped`, then judge."""
    report = Report()
    rng = random.Random(seed)
    writers = [Writer(n, servers, report, random.Random(rng.random())) for n in range(count)]
    await asyncio.gather(*(writer.run(stopped) for writer in writers))
    await asyncio.gather(*(writer.leave() for writer in writers))
    await judge(servers, writers, report)
    return report


async def _main(options: argparse.Namespace) -> Report:
    servers = []
    for one in options.servers.split(","):
        host, _, port = one.rpartition(":")
        servers.append((host, int(port)))
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, lambda: sys.stdin.buffer.read1(1) or stopped.set())
    loop.call_later(options.seconds_max, stopped.set)
    stopping = asyncio.create_task(stopped.wait())
    stopping.add_done_callback(lambda _: loop.remove_reader(sys.stdin))
    return await storm(servers, options.writers, options.seed, stopped)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.partitions.writers")
    parser.add_argument("servers", help="host:port,host:port,…")
    parser.add_argument("--writers", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds-max", type=float, default=90.0)
    report = asyncio.run(_main(parser.parse_args(argv)))
    print(json.dumps(asdict(report)))
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
