"""Durable: a write acknowledged to a client is there, whatever process dies next.

What a machine's power loss keeps is tests/crash's; here whole processes are killed under load.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import zkstore
from tests.conformance import requests
from tests.conformance.requests import EPHEMERAL
from tests.conformance.wire import Reader
from tests.invariants.client import Client, RefusedError, connect
from tests.invariants.history import Call, History
from tests.invariants.replica import Replica, wait_for
from zkstore.storage.journal import Journal, JournalPosition

CLIENTS = 4
PIPELINE = 8
WAIT = 90.0
Address = tuple[str, int]


@dataclass(slots=True)
class Account:
    """What one client wrote to its two nodes: always the same number to both, in one multi."""

    root: str
    sent: int = 0
    acknowledged: int = 0
    ephemeral: bool = False
    session_id: int = 0
    password: bytes = b""

    @property
    def paths(self) -> tuple[str, str]:
        return f"{self.root}/a", f"{self.root}/b"

    def errors(self, values: tuple[int, int], ephemeral_there: bool) -> Iterator[str]:
        """What a later state tells wrong."""
        one, other = values
        if one != other:
            yield f"{self.root}: half applied, {one} and {other}"
        if not self.acknowledged <= one <= self.sent:
            yield f"{self.root}: {one}, not {self.acknowledged} to {self.sent}"
        if self.ephemeral and not ephemeral_there:
            yield f"{self.root}: the ephemeral of a living session is gone"


async def prepare(address: Address) -> list[Account]:
    accounts = [Account(f"/durable{number}") for number in range(CLIENTS)]
    client = await connect(address, History().log("setup"))
    for account in accounts:
        await client.done(requests.create(account.root))
        for path in account.paths:
            await client.done(requests.create(path, b"0"))
    await client.close()
    return accounts


async def write(address: Address, account: Account, acknowledged: Callable[[], None]) -> None:
    """Write pipelines until the connection is cut."""
    client: Client | None = None
    try:
        client = await connect(
            address, History().log(account.root), timeout_ms=60_000,
            session_id=account.session_id, password=account.password or bytes(16),
        )  # fmt: skip
        account.session_id, account.password = client.session_id, client.password
        if not account.ephemeral:
            await client.done(requests.create(f"{account.root}/e", flags=EPHEMERAL))
            account.ephemeral = True
        while True:
            pipeline = []
            for _ in range(PIPELINE):
                account.sent += 1
                data = b"%d" % account.sent
                both = (requests.set_data(path, data) for path in account.paths)
                pipeline.append(requests.multi(*both))
            for future in client.send(*pipeline):
                call: Call = await future
                assert call.error == 0, call
                account.acknowledged += 1
                acknowledged()
    except (RefusedError, ConnectionError):
        return


async def check(address: Address, accounts: list[Account]) -> list[str]:
    """What of the accounts is not as it must be; continues from what is there."""
    found: list[str] = []
    client = await connect(address, History().log("check"))
    for account in accounts:
        calls = await client.ask(*(requests.get_data(path) for path in account.paths))
        one, other = (int(Reader(call.body).buffer() or b"-1") for call in calls)
        there = (await client.one(requests.exists(f"{account.root}/e"))).error == 0
        found += account.errors((one, other), there)
        account.sent = account.acknowledged = one
    await client.close()
    return found


async def write_and_kill(
    address: Address, accounts: list[Account], until: int, kill: Callable[[], None]
) -> None:
    """All clients write; after so many acknowledgements the victim is killed.

    The death of a worker cuts only its own clients, maybe none: the others write as many again.
    """
    count = 0
    enough = asyncio.Event()

    def acknowledged() -> None:
        nonlocal count
        count += 1
        if count == until:
            kill()
        elif count == 2 * until:
            enough.set()

    writers = {asyncio.create_task(write(address, one, acknowledged)) for one in accounts}
    all_cut = asyncio.gather(*writers, return_exceptions=True)
    satisfied = asyncio.create_task(enough.wait())
    await asyncio.wait({all_cut, satisfied}, return_when=asyncio.FIRST_COMPLETED, timeout=WAIT)
    satisfied.cancel()
    for writer in writers:
        writer.cancel()
    for result in await asyncio.gather(*writers, return_exceptions=True):
        assert result is None or isinstance(result, asyncio.CancelledError), result
    assert count >= until, "nobody was killed"


@pytest.mark.timeout(300)  # four times a load, a death and a start
@pytest.mark.parametrize("workers", [2, 3])
def test_durable(tmp_path: Path, workers: int) -> None:
    rng = random.Random(workers)
    with Replica(tmp_path, workers, {"zkstore.checkpointIntervalMs": "300"}) as replica:

        def kill_worker() -> None:
            replica.kill(rng.choice(replica.workers()))

        def kill_commit() -> None:
            replica.kill(replica.commit())

        accounts = asyncio.run(prepare(replica.address))
        for kill in (replica.kill_all, kill_commit, kill_worker, replica.kill_all):
            until = rng.randint(50, 600)
            asyncio.run(write_and_kill(replica.address, accounts, until, kill))
            if kill == replica.kill_all:
                replica.start()
            wait_for(replica.serves)
            assert asyncio.run(check(replica.address, accounts)) == []


def test_control_a_journal_that_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that acknowledges what it has not logged is found out by its death."""

    def forget(self: Journal, payload: bytes) -> JournalPosition:
        return self.end

    server = zkstore.Server(tmp_path).start()
    address = ("127.0.0.1", server.port)
    accounts = asyncio.run(prepare(address))
    server.stop()
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "begin", forget)
        server.start()
        address = ("127.0.0.1", server.port)
        asyncio.run(write_and_kill(address, accounts, 100, server.kill))
    server.start()
    try:
        assert asyncio.run(check(("127.0.0.1", server.port), accounts))
    finally:
        server.stop()
