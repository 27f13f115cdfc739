"""What a review found about ends: of the commit process, of a turn, of a file."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.wire import connect_request
from zkstore.commit import admin
from zkstore.commit.process import CommitServer, open_writer
from zkstore.frontend import process
from zkstore.frontend.board import Board
from zkstore.messaging import memory_pair
from zkstore.records import ipc
from zkstore.settings import Settings
from zkstore.storage.disk import Disk


@pytest.mark.parametrize("end", [CommitServer.close, CommitServer.abandon])
def test_a_turn_that_is_scheduled_at_the_end_does_nothing(
    tmp_path: Path, end: Callable[[CommitServer], None]
) -> None:
    # Otherwise it wrote to a journal that is closed: a clean stop ended with an error.
    errors: list[dict[str, Any]] = []

    async def run() -> None:
        aio = asyncio.get_running_loop()
        aio.set_exception_handler(lambda _, context: errors.append(context))
        settings = Settings(data_dir=str(tmp_path), disk_reserve_bytes=1 << 20, checkpoint_bytes=1)
        server = CommitServer(settings, open_writer(settings, Disk()), aio)
        ours, _ = memory_pair(aio)
        port = server.loop.attach(ours)
        handshake = connect_request(timeout_ms=10_000)
        session = [ipc.OPEN, 1, "127.0.0.1", ipc.CONNECT, 1, handshake]
        server.loop.on_message(port, session)
        end(server)
        server.loop.on_message(port, session)
        for _ in range(3):
            await asyncio.sleep(0)

    asyncio.run(run())
    assert errors == []


def test_a_file_that_goes_while_files_are_counted_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The journal's thread renames segments; `conf` used to end the commit process then.
    for name in ("journal.1", "journal.2"):
        (tmp_path / name).write_bytes(bytes(4096))
    with os.scandir(tmp_path) as listing:
        entries = list(listing)
    (tmp_path / "journal.2").unlink()
    monkeypatch.setattr(os, "scandir", lambda _: nullcontext(entries))
    assert admin._size(str(tmp_path), "journal.") == (tmp_path / "journal.1").stat().st_blocks * 512


@pytest.mark.parametrize(("place", "ends"), [("handle", True), ("protocol", False)])
def test_an_unknown_error_in_a_turn_ends_the_worker(
    monkeypatch: pytest.MonkeyPatch, place: str, ends: bool
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    loop = asyncio.new_event_loop()
    process._fatal(loop, {"message": "", "exception": struct.error(), place: None})
    loop.close()
    assert codes == [1] * ends


def test_no_session_expires_right_after_a_stall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its client sent meanwhile is still to be read."""

    async def run() -> list[int]:
        settings = Settings(data_dir=str(tmp_path), disk_reserve_bytes=1 << 20)
        server = CommitServer(settings, open_writer(settings, Disk()), asyncio.get_running_loop())
        tracker = server.loop.sessions.tracker
        tracker.add(7, 4000, int(time.monotonic() * 1000))
        began = time.monotonic()
        left = []
        for seconds in (60.0, 60.25):
            monkeypatch.setattr(time, "monotonic", lambda now=began + seconds: now)
            server.keeper._beat()
            server.loop.turn()
            left.append(len(tracker.sessions))
        monkeypatch.undo()
        server.abandon()
        return left

    assert asyncio.run(run()) == [1, 0]


def test_sessions_expire_though_every_beat_is_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a disk whose every flush takes most of a second, while others write all the time."""

    async def run() -> int:
        settings = Settings(data_dir=str(tmp_path), disk_reserve_bytes=1 << 20)
        server = CommitServer(settings, open_writer(settings, Disk()), asyncio.get_running_loop())
        tracker = server.loop.sessions.tracker
        began = time.monotonic()
        tracker.add(7, 4000, int(began * 1000))
        for beat in range(1, 21):
            monkeypatch.setattr(time, "monotonic", lambda now=began + 0.8 * beat: now)
            server.keeper._beat()
            server.loop.turn()
            if not tracker.sessions:
                break
        monkeypatch.undo()
        server.abandon()
        return beat

    assert 4 / 0.8 < asyncio.run(run()) < 14


def test_a_client_that_is_gone_when_it_is_accepted_costs_nothing() -> None:
    class Gone(socket.socket):
        def setsockopt(self, *_: Any) -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

    class Listening(socket.socket):
        def accept(self) -> tuple[socket.socket, Any]:
            return gone, None

    gone = Gone()
    worker: Any = None

    async def run() -> None:
        with Listening() as listening:
            board = Board.of_one()
            acceptor = process.Acceptor(listening, worker, board, keep_alive=False)
            acceptor._on_readable()
            assert board.clients() == (0, 0)

    asyncio.run(run())
    assert gone.fileno() == -1
