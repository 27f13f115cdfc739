"""The tools on a live server: copies at one zxid, while clients write; the log as it grows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from tests.conformance.servers import zkstore as zkstore_server
from tests.tools.commands import run

ROOT = Path(__file__).parents[2]


def tool(*words: object) -> str:
    """A tool as a process of its own, as it is beside a server; its output."""
    done = subprocess.run(
        [sys.executable, "-m", "zkstore", *map(str, words)],
        capture_output=True, text=True, cwd=ROOT, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def writing(address: tuple[str, int]) -> Iterator[KazooClient]:
    """Keep changing the tree until the end."""
    one = KazooClient(f"{address[0]}:{address[1]}")
    one.start(timeout=20)
    for number in range(300):
        one.create(f"/base/n{number:03d}", b"x" * 50, makepath=True)
    stop = threading.Event()

    def write() -> None:
        count = 0
        while not stop.is_set():
            # The pair is changed in one txn: a copy that shows one half is not of one zxid.
            transaction = one.transaction()
            transaction.set_data("/base/n000", b"%d" % count)
            transaction.set_data("/base/n299", b"%d" % count)
            transaction.create(f"/base/n100/c{count}", b"y" * (count % 3000))
            assert None not in transaction.commit()
            if count > 5:
                one.delete(f"/base/n100/c{count - 5}")
            count += 1

    one.create("/base/n100/eph", b"", ephemeral=True)
    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield one
    finally:
        stop.set()
        thread.join()
        one.stop()
        one.close()


@pytest.fixture(scope="module")
def live() -> Iterator[tuple[Path, KazooClient]]:
    with zkstore_server() as server, writing(server.address) as one:
        yield server.data_dir, one


def test_a_copy_of_a_live_server_is_one_state(
    live: tuple[Path, KazooClient], tmp_path: Path
) -> None:
    data_dir, _ = live
    for number in range(3):
        copy = tmp_path / str(number)
        said = json.loads(tool("snapshot", "create", data_dir, copy, "--json"))
        assert run("snapshot verify {0}", copy).endswith("no damage\n")
        lines = run("export - --format json --data-dir {0}", copy).splitlines()
        nodes = {one["path"]: one for one in map(json.loads, lines) if "path" in one}
        assert nodes["/base/n000"]["text"] == nodes["/base/n299"]["text"]
        assert nodes["/base/n000"]["mzxid"] == nodes["/base/n299"]["mzxid"] <= said["zxid"]
        assert f"zxid {said['zxid']:#x} " in run("log tail {0} -n 1", copy)
        assert nodes["/base/n100/eph"]["owner"].startswith("0x")


def test_tools_that_only_look(live: tuple[Path, KazooClient], tmp_path: Path) -> None:
    data_dir, _ = live
    assert tool("snapshot", "verify", data_dir).endswith("no damage\n")
    assert tool("log", "verify", data_dir).endswith("no damage\n")
    assert "/base/n000" in tool("export", "-", "--format", "json", "--data-dir", data_dir)
    assert "snapshot." in tool("export", tmp_path / "apache", "--data-dir", data_dir)
    assert run("snapshot verify {0}", tmp_path / "apache").endswith("no damage\n")
    assert not list(data_dir.glob("zkstore-copy-*"))


def test_what_writes_is_refused(live: tuple[Path, KazooClient]) -> None:
    data_dir, _ = live
    for words in (("compact", "--data-dir", data_dir), ("log", "purge", data_dir, "--keep", "1")):
        done = subprocess.run(
            [sys.executable, "-m", "zkstore", *map(str, words)],
            capture_output=True, text=True, cwd=ROOT, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert "is in use by process" in done.stderr


def test_the_log_is_followed(live: tuple[Path, KazooClient]) -> None:
    data_dir, one = live
    with subprocess.Popen(
        [sys.executable, "-m", "zkstore", "log", "tail", "-f", "-n", "1", "--path", "/seen",
         "--json", str(data_dir)],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            one.create("/seen", b"1")
            assert json.loads(process.stdout.readline())["op"] == "create"
            one.set("/seen", b"2")
            assert json.loads(process.stdout.readline())["data"] == "2"
        finally:
            process.kill()
