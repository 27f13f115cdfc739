"""What a review found about a worker: two views in one turn, and what it says it has heard."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import requests
from tests.conformance.requests import Request
from tests.conformance.wire import connect_request, frame
from zkstore.commit.process import Opened, open_writer
from zkstore.frontend.client import Client
from zkstore.frontend.worker import Worker
from zkstore.proto import opcodes as op
from zkstore.proto import replies
from zkstore.records import ipc
from zkstore.records import txn as txns
from zkstore.records.txn import Txn
from zkstore.settings import Settings
from zkstore.storage.disk import Disk
from zkstore.tree import acl as acls
from zkstore.tree.auth import Providers
from zkstore.zab.ready import Proposal, Ready


class Transport(asyncio.Transport):
    """Takes everything, and keeps it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.sent = b""

    def write(self, data: Any) -> None:
        self.sent += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...

    def frames(self) -> list[bytes]:
        """What was sent since the last call."""
        found, rest = [], self.sent
        while rest:
            size = struct.unpack_from(">i", rest)[0]
            found.append(rest[4 : 4 + size])
            rest = rest[4 + size :]
        self.sent = b""
        return found


class Messages:
    """The channel to a commit process that the test plays."""

    def __init__(self) -> None:
        self.sent: list[list[Any]] = []

    def send(self, message: list[Any]) -> None:
        self.sent.append(message)

    def close(self) -> None: ...


class Timers:
    """A loop that only keeps what is to be called."""

    def __init__(self) -> None:
        self.due: list[Any] = []

    def call_soon(self, what: Any, *args: Any) -> None:
        self.due.append((what, args))

    def call_later(self, _: float, what: Any, *args: Any) -> None:
        """The test calls it itself."""

    def run(self) -> None:
        due, self.due = self.due, []
        for what, args in due:
            what(*args)


class Stage:
    """A worker over real storage, and a commit process that does what the test says."""

    def __init__(self, opened: Opened, settings: Settings) -> None:
        self.opened = opened
        self.timers = Timers()
        self.views = opened.writer.views
        loop: Any = self.timers
        self.worker = Worker(settings, Providers.of(settings), self.views, loop)
        self.channel = Messages()
        self.worker.start(self.channel)

    def commit(self, kind: int, *body: Any) -> int:
        """One txn, in the journal and applied; returns its zxid."""
        writer = self.opened.writer
        zxid = writer.applied + 1
        proposal = Proposal(zxid, txns.encode(Txn(zxid, 1, 1, 0, kind, body)))
        writer.perform(Ready(append=[proposal], committed=[proposal]))
        return zxid

    def connect(self) -> tuple[Client, Transport]:
        client, transport = self.worker.client(), Transport()
        client.connection_made(transport)
        client.data_received(frame(connect_request(timeout_ms=10_000)))
        self.timers.run()
        session = [replies.connect(client.number, 10_000, bytes(16), None), client.number, 10_000]
        self.say(ipc.SESSION, client.number, 0, session)
        transport.frames()
        return client, transport

    def say(self, *items: Any) -> None:
        self.worker.on_message([self.opened.writer.applied, *items])
        self.timers.run()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    settings = Settings(data_dir=str(tmp_path), disk_reserve_bytes=1 << 20)
    opened = open_writer(settings, Disk())
    yield Stage(opened, settings)
    opened.reserve.close()
    opened.replica.abandon()


def bytes_of(*some: Request) -> bytes:
    return b"".join(
        frame(struct.pack(">ii", number, one.opcode) + one.body)
        for number, one in enumerate(some, 1)
    )


def test_no_change_is_missed_by_a_watch_that_is_set_in_a_turn_with_two_views(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A's pipeline makes the worker open a second, newer view; B's read with a watch follows."""
    stage.commit(op.CREATE, b"/n", b"old", acls.OPEN_ENCODED, False, 1)
    stage.commit(op.CREATE, b"/other", b"", acls.OPEN_ENCODED, False, 2)
    a, _ = stage.connect()
    b, heard = stage.connect()
    watcher, _ = stage.connect()
    watcher.data_received(bytes_of(requests.exists("/elsewhere", watch=True)))
    write = requests.set_data("/other", b"")
    a.data_received(bytes_of(write, requests.exists("/other")))
    a.pause_writing()
    a.data_received(bytes_of(requests.exists("/other")))
    a.resume_writing()
    b.data_received(bytes_of(write, requests.get_data("/n", watch=True)))
    one, two = (stage.commit(op.SET_DATA, b"/other", b"", version) for version in (1, 2))

    open_view = stage.views.open
    count = 0

    def opening() -> Any:
        nonlocal count
        count += 1
        if count == 3:  # the walk, A's queue, then the rest of A's bytes
            stage.commit(op.SET_DATA, b"/n", b"new", 1)
        return open_view()

    monkeypatch.setattr(stage.views, "open", opening)
    stage.say(
        ipc.REPLY, a.number, one, replies.reply(1, one, b""),
        ipc.REPLY, b.number, two, replies.reply(1, two, b""),
    )  # fmt: skip
    assert count >= 3
    stage.say()
    _, read, *events = heard.frames()
    assert b"new" in read or len(events) == 1


def test_what_was_heard_before_a_pause_of_the_worker_is_reported(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = stage.connect()
    client.data_received(bytes_of(requests.exists("/")))
    heard_ms = client.heard_ms
    clock = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 5)
    assert heard_ms in _reported(stage)


def test_a_report_claims_only_what_must_have_been_read(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came in while the worker was busy is read after the timer: the report is not for it."""
    before_ms = int(time.monotonic() * 1000)
    stage.worker._report_touches()
    clock = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 5)
    assert before_ms <= _reported(stage)[0] < before_ms + 1000


def test_a_connection_that_ends_says_nothing_about_the_others(stage: Stage) -> None:
    client, _ = stage.connect()
    other, _ = stage.connect()
    other.data_received(bytes_of(requests.exists("/")))
    stage.timers.run()
    stage.channel.sent.clear()
    client.connection_lost(None)
    stage.timers.run()
    (payload,) = (one[2] for one in _items(stage) if one[0] == ipc.TOUCHES)
    assert payload[0] == 0 and client.session_id in payload


def _reported(stage: Stage) -> list[int]:
    stage.timers.run()
    stage.channel.sent.clear()
    stage.worker._report_touches()
    stage.timers.run()
    (payload,) = (one[2] for one in _items(stage) if one[0] == ipc.TOUCHES)
    assert isinstance(payload, list)
    return payload


def _items(stage: Stage) -> list[list[Any]]:
    width = ipc.TO_COMMIT_WIDTH
    return [
        message[at : at + width]
        for message in stage.channel.sent
        for at in range(0, len(message), width)
    ]
