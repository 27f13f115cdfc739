"""A disk that is full: writes that grow are refused, all else goes on, and it heals by itself.

A small file system of its own can be mounted by root only; others see the server refuse a reserve
that no disk has. What a write that fails in the middle does is tests/crash's.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conformance import requests
from tests.conformance.requests import EPHEMERAL, Request
from tests.conformance.wire import Connection, Reader
from tests.faults.bystander import ask, error_of
from tests.invariants.replica import Replica, wait_for

MB = 1 << 20
SYSTEM_ERROR = -1
NO_NODE = -101
DISK_BYTES = 120 * MB
RESERVE_BYTES = 16 * MB
SETTINGS = {
    "zkstore.diskReserveBytes": str(RESERVE_BYTES),
    "zkstore.journalSegmentBytes": str(1 * MB),
    "zkstore.checkpointIntervalMs": "200",
}
REFUSED = re.compile("writes (that grow are )?refused")
ROOM_AGAIN = "disk has room again"
FILE_SYSTEMS = ["tmpfs", "ext4"] if os.geteuid() == 0 else []


@contextmanager
def mounted(kind: str, folder: Path) -> Iterator[Path]:
    """A small file system of this kind."""
    point = folder / "disk"
    point.mkdir()
    if kind == "tmpfs":
        source, options = "none", f"size={DISK_BYTES}"
    else:
        source, options = str(folder / "image"), "loop"
        with open(source, "wb") as image:
            image.truncate(DISK_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", source], check=True)
    subprocess.run(["mount", "-t", kind, "-o", options, source, str(point)], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", str(point)], check=True)


class Filler:
    """A file that takes the room that is left."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "filler"

    def fill(self, leave_bytes: int) -> None:
        """Take all but so many bytes."""
        stat = os.statvfs(self._path.parent)
        with open(self._path, "ab") as file:
            left = stat.f_bavail * stat.f_frsize - leave_bytes
            while left > 0:
                try:
                    written = os.write(file.fileno(), bytes(min(left, MB)))
                except OSError:  # even sooner than was said
                    return
                left -= written

    def remove(self) -> None:
        self._path.unlink()


def write(connection: Connection, size: int = 100_000) -> int:
    """The error code of a write that grows."""
    return error_of(ask(connection, requests.set_data("/data", os.urandom(size)), 30))


def data(number: int) -> bytes:
    return b"%d " % number * 20_000


def numbered(number: int) -> Request:
    return requests.set_data("/data", data(number))


def write_all(connection: Connection, numbers: range) -> list[int]:
    """The error codes of the writes, one at a time."""
    return [error_of(ask(connection, numbered(number), 60)) for number in numbers]


def data_of(connection: Connection) -> bytes | None:
    return Reader(ask(connection, requests.get_data("/data"))[16:]).buffer()


def all_but_growth_goes_on(replica: Replica, connection: Connection, round_: int) -> None:
    """Reads, pings, deletes, sessions and words are as ever."""
    assert error_of(ask(connection, requests.get_data("/data"))) == 0
    assert error_of(ask(connection, requests.ping())) == 0
    assert error_of(ask(connection, requests.delete(f"/spare{round_}"))) == 0
    assert error_of(ask(connection, requests.exists(f"/spare{round_}"))) == NO_NODE
    assert error_of(ask(connection, requests.sync("/"))) == 0
    other = replica.connect()
    assert error_of(ask(other, requests.create("/refused"))) == SYSTEM_ERROR
    assert error_of(ask(other, requests.close_session())) == 0
    other.close()
    assert replica.mntr()["zk_server_state"] == "standalone"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", FILE_SYSTEMS)
def test_a_disk_that_runs_full_and_has_room_again(tmp_path: Path, kind: str) -> None:
    with mounted(kind, tmp_path) as disk, Replica(tmp_path, 2, SETTINGS) as replica:
        replica.kill_all()
        replica.data_dir = disk / "data"
        replica.start()
        pids = replica.pids()
        connection, owner = replica.connect(), replica.connect()
        ask(connection, requests.create("/data"))
        for number in range(4):
            ask(connection, requests.create(f"/spare{number}", os.urandom(1000)))
        ask(owner, requests.create("/ephemeral", flags=EPHEMERAL))
        filler = Filler(disk)
        for number in range(2):
            filler.fill(leave_bytes=RESERVE_BYTES // 2)
            # Where a reserve is allocated it is used up first; tmpfs has none, and is looked at.
            size = 100_000 if kind == "ext4" else 1000
            wait_for(lambda: write(connection, size) == SYSTEM_ERROR, 90)  # noqa: B023
            # The log says so, whether the reserve or the journal met the end of the disk first.
            assert REFUSED.search(replica.output)
            before = ask(connection, requests.get_data("/data"))
            all_but_growth_goes_on(replica, connection, number)
            assert ask(connection, requests.get_data("/data"))[16:] == before[16:]
            filler.remove()
            wait_for(lambda: write(connection) == 0)
        assert ROOM_AGAIN in replica.output
        assert error_of(ask(owner, requests.close_session())) == 0
        assert error_of(ask(connection, requests.exists("/ephemeral"))) == NO_NODE
        assert replica.pids() == pids
        last = ask(connection, requests.get_data("/data"))
        replica.kill_all()
        replica.start()
        again = replica.connect()
        assert ask(again, requests.get_data("/data"))[16:] == last[16:]
        again.close()
        replica.kill_all()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", FILE_SYSTEMS)
@pytest.mark.parametrize("left", [0, 4 * MB], ids=["nothing-left", "soon-nothing-left"])
def test_not_a_byte_left_while_many_write(tmp_path: Path, kind: str, left: int) -> None:
    """Full before anybody has looked: writes are refused, or answered when there is room."""
    with mounted(kind, tmp_path) as disk, Replica(tmp_path, 2, SETTINGS) as replica:
        replica.kill_all()
        replica.data_dir = disk / "data"
        replica.start()
        connection, reader = replica.connect(), replica.connect()
        ask(connection, requests.create("/data", b"-1"))
        for number in range(50):
            assert error_of(ask(connection, numbered(number))) == 0
        filler = Filler(disk)
        filler.fill(leave_bytes=left)
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write_all, connection, range(50, 150))
            wait_for(lambda: "refused" in replica.output)
            # Whatever becomes of the writes that were on their way, a new one is refused now,
            # unless a checkpoint has given some of the journal back meanwhile, which the log says.
            created = error_of(ask(reader, requests.create("/new", os.urandom(100_000))))
            assert created == SYSTEM_ERROR or ROOM_AGAIN in replica.output
            for _ in range(50):
                assert error_of(ask(reader, requests.get_data("/data"))) == 0
                assert error_of(ask(reader, requests.ping())) == 0
            filler.remove()
            errors = writing.result()
        assert set(errors) <= {0, SYSTEM_ERROR}
        last = max([49, *(50 + at for at, error in enumerate(errors) if error == 0)])
        assert data_of(reader) == data(last)
        wait_for(lambda: write(connection) == 0)
        assert error_of(ask(connection, numbered(7))) == 0
        replica.kill_all()
        replica.start()
        again = replica.connect()
        assert data_of(again) == data(7)
        again.close()
        replica.kill_all()


def test_a_reserve_that_cannot_be_had(tmp_path: Path) -> None:
    """The server starts, says what is wrong, and serves all but writes that grow."""
    with Replica(tmp_path, 2) as replica:
        connection = replica.connect()
        ask(connection, requests.create("/data", b"x"))
        ask(connection, requests.create("/spare0"))
        connection.close()
        assert replica.terminate() == 0
        replica.kill_all()
    poor = Replica(tmp_path, 2, {"zkstore.diskReserveBytes": str(1 << 46)}, port=replica.port)
    with poor:
        connection = poor.connect()
        assert "writes that grow are refused" in poor.output
        assert write(connection) == SYSTEM_ERROR
        all_but_growth_goes_on(poor, connection, 0)
        connection.close()
