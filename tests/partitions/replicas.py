"""Replicas of an ensemble on hosts of their own: zkstore's, Apache's, or some of each.

Owns:   each replica's directory, configuration and processes.
Invariants:
  1. Gone: leaving the context kills what is left of every replica, with all its processes.
Not here: the network (hosts.py), the clients (writers.py).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, TypeVar

from tests.invariants.replica import lives
from tests.partitions.hosts import Hosts

REPOSITORY: Final = Path(__file__).parents[2]
CLIENT_PORT: Final = 2181
QUORUM_PORT: Final = 2888
ELECTION_PORT: Final = 3888
WAIT_SECONDS: Final = 60.0
_WORD_SECONDS: Final = 60.0
ZKSTORE: Final = "zkstore"  # else a class path of Apache's
T = TypeVar("T")

_BASE: Final = {
    "tickTime": "500",
    "initLimit": "20",
    "syncLimit": "6",
    "minSessionTimeout": "1000",
    "maxSessionTimeout": "60000",
    "maxClientCnxns": "0",
    "4lw.commands.whitelist": "*",
    "admin.enableServer": "false",
}
_ZKSTORE_ONLY: Final = {"zkstore.diskReserveBytes": str(16 << 20)}


def wait_for(what: Callable[[], T], seconds: float = WAIT_SECONDS, told: str = "") -> T:
    """The first true value of `what`, asked every now and then."""
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {told or what}"
        time.sleep(0.05)
    return value


def _lives(group: int) -> bool:
    """Whether there is a process of a group; its leader may be gone."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == group and lives(int(stat.parent.name)):
            return True
    return False


class Replica:
    """One server on one host."""

    def __init__(self, ensemble: Ensemble, number: int, kind: str) -> None:
        self.number = number
        self.kind = kind
        self.folder = ensemble.folder / f"replica{number}"
        self.data_dir = self.folder / "data"
        self.output = self.folder / "output"
        self._ensemble = ensemble
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, lines: Mapping[str, str]) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        (self.data_dir / "myid").write_text(f"{self.number}\n")
        settings = {"dataDir": str(self.data_dir), "clientPort": str(CLIENT_PORT), **lines}
        if self.kind == ZKSTORE:
            settings |= _ZKSTORE_ONLY
        text = "".join(f"{key}={value}\n" for key, value in settings.items())
        (self.folder / "zoo.cfg").write_text(text)

    def start(self) -> None:
        """Start the processes, and wait for nothing."""
        config = str(self.folder / "zoo.cfg")
        if self.kind == ZKSTORE:
            command = [sys.executable, "-m", "zkstore", "serve", config, "--workers", "1"]
        else:
            options = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
            options += ["-Dzookeeper.admin.enableServer=false", "-Dzookeeper.preAllocSize=64"]
            options += ["-Dzookeeper.extendedTypesEnabled=true"]
            main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
            command = ["java", *options, "-cp", self.kind, main, config]
        with open(self.output, "ab") as output:
            self._process = subprocess.Popen(
                self._ensemble.hosts.command(self.number, command), cwd=REPOSITORY,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send it to all processes of the replica."""
        assert self._process is not None
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            assert self._process.poll() is not None

    def kill(self) -> None:
        """kill -9 of all of it; returns when nothing is left that has its port or its files."""
        if self._process is not None:
            group = self._process.pid
            self.signal(signal.SIGKILL)
            self._process.wait()
            wait_for(lambda: not _lives(group), told=f"the end of replica {self.number}")
            self._process = None

    def stop(self) -> None:
        """SIGTERM; waits for the end."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(WAIT_SECONDS)
        self._process = None

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def word(self, word: str) -> str:
        """The answer to a four-letter word; empty if there is none."""
        address = self._ensemble.hosts.address(self.number)
        talk = f"exec 3<>/dev/tcp/{address}/{CLIENT_PORT} && printf {word} >&3 && timeout 2 cat <&3"
        done = subprocess.run(
            self._ensemble.hosts.command(self.number, ["bash", "-c", talk]),
            capture_output=True, text=True, timeout=_WORD_SECONDS, check=False,
        )  # fmt: skip
        return done.stdout

    def votes(self) -> bool:
        """Whether its election port takes connections."""
        address = self._ensemble.hosts.address(self.number)
        talk = ["bash", "-c", f"exec 3<>/dev/tcp/{address}/{ELECTION_PORT}"]
        command = self._ensemble.hosts.command(self.number, talk)
        done = subprocess.run(command, capture_output=True, timeout=_WORD_SECONDS, check=False)
        return done.returncode == 0

    @property
    def mode(self) -> str:
        """leader, follower, observer, …; empty while it serves nobody."""
        found = re.search(r"^Mode: (\w+)", self.word("srvr"), re.MULTILINE)
        return found[1] if found else ""


class Ensemble:
    """The replicas 1 to n, of the given kinds. Use as a context manager; it starts them."""

    def __init__(
        self,
        hosts: Hosts,
        folder: Path,
        kinds: Mapping[int, str],
        settings: Mapping[str, str] | None = None,
        observers: frozenset[int] = frozenset(),
        first: int = 0,
    ) -> None:
        """first: the one that leads at first; of those that vote the one with the greatest id."""
        self.hosts = hosts
        self._first = first
        self._voters = [number for number in kinds if number not in observers]
        self.folder = folder
        self.replicas = {n: Replica(self, n, kind) for n, kind in kinds.items()}
        lines = {**_BASE, **(settings or {})}
        for number in kinds:
            role = ":observer" if number in observers else ""
            address = f"{hosts.address(number)}:{QUORUM_PORT}:{ELECTION_PORT}{role}"
            lines[f"server.{number}"] = address
        for number, replica in self.replicas.items():
            own = {"peerType": "observer"} if number in observers else {}
            replica.configure({**lines, **own})

    def __enter__(self) -> Ensemble:
        try:
            if self._first:
                self._lead(self._first)
            for replica in self.replicas.values():
                if not replica.running:
                    replica.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        for replica in self.replicas.values():
            replica.kill()

    def _lead(self, number: int) -> None:
        """Start as many as a quorum needs: none of them leads without this one's vote."""
        self.replicas[number].start()
        wait_for(self.replicas[number].votes, told=self.tails())
        others = [other for other in self._voters if other != number]
        for other in others[: len(self._voters) // 2]:
            self.replicas[other].start()
        assert self.leader().number == number, self.tails()

    def servers(self, *numbers: int) -> str:
        """The connection string of these replicas, of all by default."""
        chosen = numbers or tuple(self.replicas)
        return ",".join(f"{self.hosts.address(n)}:{CLIENT_PORT}" for n in chosen)

    def leader(self, among: frozenset[int] | None = None) -> Replica:
        """The one that leads, waited for."""

        def find() -> Replica | None:
            for number, replica in self.replicas.items():
                asked = replica.running and (among is None or number in among)
                if asked and replica.mode == "leader":
                    return replica
            return None

        return wait_for(find, told=f"a leader; {self.tails()}")

    def cut_off(self, *numbers: int) -> None:
        """Wait until these have noticed it, and serve nobody."""
        for number in numbers:
            told = f"the end of replica {number}'s service; {self.tails()}"
            wait_for(lambda n=number: not self.replicas[n].mode, told=told)  # type: ignore[misc]

    def serve(self, *numbers: int) -> None:
        """Wait until these serve clients, all by default."""
        for number in numbers or tuple(self.replicas):
            told = f"replica {number}; {self.tails()}"
            wait_for(lambda n=number: self.replicas[n].mode, told=told)  # type: ignore[misc]

    def tails(self) -> str:
        """What the replicas wrote last, for a failure's text."""
        parts = []
        for number, replica in self.replicas.items():
            text = replica.output.read_text(errors="replace") if replica.output.exists() else ""
            parts.append(f"--- replica {number}:\n{text[-1500:]}")
        return "\n".join(parts)
