"""Patroni keeps a PostgreSQL primary elected through zkstore: a whole application, not a recipe.

Owns:       two Patroni processes, the PostgreSQL server of each, and their folder.
Invariants:
  1. Gone: when the test ends, nothing of what it started runs.
Design:     Debian's packages. PostgreSQL refuses to run as root, so that root runs both as the user
            that the package made.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.clients.support import tool
from tests.invariants.replica import Replica
from tests.ports import free_port

# Two databases are made, copied and recovered.
pytestmark = [pytest.mark.clients, pytest.mark.timeout(400)]

_USER: Final = "postgres" if os.getuid() == 0 else None
_SECONDS_MAX: Final = 60.0
_TTL_SECONDS: Final = 20  # after which the primary's ephemeral is gone; Patroni's default is 30
_RETRY_SECONDS: Final = 9  # for so long a primary does without zkstore; twice fits in the above


class Member:
    """One Patroni with its PostgreSQL."""

    def __init__(self, folder: Path, name: str, zookeeper: tuple[str, int]) -> None:
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
        assert found, 'PostgreSQL is missing: install postgresql, or run with -m "not clients"'
        self.name = name
        self._home = folder / name
        self._home.mkdir(mode=0o700)
        self._bin = found[-1]
        self._api = free_port()
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        config = self._configuration(zookeeper)
        (self._home / "patroni.yml").write_text(json.dumps(config))  # JSON is YAML
        if _USER:
            shutil.chown(self._home, _USER)

    def _configuration(self, zookeeper: tuple[str, int]) -> dict[str, object]:
        trusted = [f"host {which} all 127.0.0.1/32 trust" for which in ("all", "replication")]
        shared: dict[str, object] = {"ttl": _TTL_SECONDS, "loop_wait": 1}
        shared |= {"retry_timeout": _RETRY_SECONDS, "postgresql": {"use_pg_rewind": True}}
        return {
            "scope": "scenario",
            "name": self.name,
            "restapi": {
                "listen": f"127.0.0.1:{self._api}",
                "connect_address": f"127.0.0.1:{self._api}",
            },
            "zookeeper": {"hosts": ["{}:{}".format(*zookeeper)]},
            "bootstrap": {
                "dcs": shared,
                "initdb": [{"encoding": "UTF8"}, {"auth": "trust"}, "no-sync"],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{self._port}",
                "connect_address": f"127.0.0.1:{self._port}",
                "data_dir": str(self._home / "data"),
                "bin_dir": self._bin,
                "pgpass": str(self._home / "pgpass"),
                "authentication": {
                    "superuser": {"username": "postgres", "password": "secret"},
                    "replication": {"username": "replicator", "password": "secret"},
                },
                "pg_hba": trusted,
                "parameters": {"unix_socket_directories": str(self._home), "wal_log_hints": "on"},
            },
        }

    def start(self) -> None:
        with open(self._home.parent / f"{self.name}.log", "ab") as log:
            self._process = subprocess.Popen(
                [tool("patroni", "patroni"), str(self._home / "patroni.yml")],
                cwd=self._home, stdout=log, stderr=log, user=_USER, group=_USER,
                extra_groups=[] if _USER else None, env={"PATH": os.environ["PATH"]},
            )  # fmt: skip

    def kill(self) -> None:
        """kill -9 of Patroni and PostgreSQL, as if the machine was gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        pid_file = self._home / "data" / "postmaster.pid"
        if pid_file.exists():
            try:
                os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
            except ProcessLookupError:
                pass  # the file is of an earlier life

    def has_role(self, role: str) -> bool:
        """Whether Patroni says so: `primary` or `replica`."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._api}/{role}", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False  # another role, or not up

    def sql(self, statement: str) -> str:
        """What psql prints. Raises: CalledProcessError if PostgreSQL refuses."""
        command = [f"{self._bin}/psql", "-h", "127.0.0.1", "-p", str(self._port)]
        command += ["-U", "postgres", "-X", "-q", "-t", "-A", "-c", statement]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def log(self) -> str:
        return (self._home.parent / f"{self.name}.log").read_text(errors="replace")[-3000:]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the user of PostgreSQL may go; pytest's own folders are their owner's alone."""
    home = Path(tempfile.mkdtemp(prefix="zkstore-patroni-"))
    home.chmod(0o755)
    yield home
    shutil.rmtree(home, ignore_errors=True)


def _until(condition: Callable[[], bool], members: list[Member]) -> None:
    deadline = time.monotonic() + _SECONDS_MAX
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("\n\n".join(member.log() for member in members))
        time.sleep(0.1)


def _has_row(member: Member, row: int) -> bool:
    try:
        return str(row) in member.sql("SELECT n FROM kept").split()
    except subprocess.CalledProcessError:
        return False  # it has its role before it takes connections


def _takes_writes(member: Member) -> bool:
    try:
        return member.sql("SELECT pg_is_in_recovery()") == "f"
    except subprocess.CalledProcessError:
        return False


def test_patroni_fails_over(folder: Path, tmp_path: Path) -> None:
    """A crash of zkstore costs no primary; the death of a primary makes the other one."""
    with Replica(tmp_path, workers=2) as server:
        members = [Member(folder, name, server.address) for name in "ab"]
        first, second = members
        try:
            first.start()
            _until(lambda: first.has_role("primary") and _takes_writes(first), members)
            second.start()
            _until(lambda: second.has_role("replica"), members)
            first.sql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)")

            server.kill_all()
            server.start()
            first.sql("INSERT INTO kept VALUES (2)")
            _until(lambda: _has_row(second, 2), members)
            assert first.has_role("primary") and second.has_role("replica")

            first.kill()
            _until(lambda: second.has_role("primary"), members)
            # It has the role before PostgreSQL has left recovery and takes writes.
            _until(lambda: _takes_writes(second), members)
            second.sql("INSERT INTO kept VALUES (3)")
            assert second.sql("SELECT n FROM kept ORDER BY n").split() == ["1", "2", "3"]

            first.start()
            _until(lambda: first.has_role("replica"), members)
            _until(lambda: _has_row(first, 3), members)
            assert second.has_role("primary")
        finally:
            for member in members:
                member.kill()
