"""Replicas of one ensemble, each with processes of its own, on this machine's loopback.

Owns:   their directories, ports and processes.
Invariants:
  1. Gone: leaving the context kills every process that is left, stopped ones too.
Not here: networks that fail (tests/partitions), Apache's servers (tests/partitions/test_mixed.py).
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final

from tests.conformance.servers import Server
from tests.invariants.replica import Replica, wait_for
from tests.ports import free_ports

WAIT_SECONDS: Final = 30.0


class Member(Replica):
    """One replica of the ensemble."""

    def __init__(self, folder: Path, sid: int, settings: Mapping[str, str]) -> None:
        super().__init__(folder / f"replica{sid}", workers=1, settings=settings)
        self.sid = sid
        self.data_dir.mkdir(parents=True)
        (self.data_dir / "myid").write_text(f"{sid}\n")

    @property
    def mode(self) -> str:
        """leader, follower, observer; empty while it serves nobody, or is not there."""
        try:
            found = re.search(r"^Mode: (\w+)", self.word("srvr"), re.MULTILINE)
        except OSError:
            return ""
        return found[1] if found else ""

    @property
    def zxid(self) -> int:
        found = re.search(r"^Zxid: 0x([0-9a-f]+)", self.word("srvr"), re.MULTILINE)
        return int(found[1], 16) if found else -1

    def as_server(self) -> Server:
        """As the conformance scenarios take it."""
        assert self._process is not None
        return Server(self.address, self._process, self.data_dir, self._output)

    def pause(self) -> None:
        """SIGSTOP to all of its processes."""
        for pid in (self.supervisor, *self.pids()):
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in (self.supervisor, *self.pids()):
            os.kill(pid, signal.SIGCONT)


class Ensemble:
    """Use as a context manager; all replicas are started."""

    def __init__(
        self,
        folder: Path,
        count: int,
        settings: Mapping[str, str] | None = None,
        *,
        observers: frozenset[int] = frozenset(),
    ) -> None:
        ports = free_ports(2 * count)
        lines = dict(settings or {})
        for sid in range(1, count + 1):
            role = ":observer" if sid in observers else ""
            quorum_port, election_port = ports[2 * sid - 2 : 2 * sid]
            lines[f"server.{sid}"] = f"127.0.0.1:{quorum_port}:{election_port}{role}"
        self.members = {sid: Member(folder, sid, lines) for sid in range(1, count + 1)}

    def __enter__(self) -> Ensemble:
        try:
            for member in self.members.values():
                member.launch()
            for member in self.members.values():
                member.await_ready()
            self.settled()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for member in self.members.values():
            member.kill_all()

    def leader(self, among: list[Member] | None = None) -> Member:
        """The one that leads, waited for."""
        some = list(self.members.values()) if among is None else among
        found = wait_for(lambda: [one for one in some if one.mode == "leader"], WAIT_SECONDS)
        assert len(found) == 1, [one.sid for one in found]
        return found[0]

    def others(self, *excluded: Member) -> list[Member]:
        return [one for one in self.members.values() if one not in excluded]

    def followers(self) -> list[Member]:
        """All that follow, waited for until each member has a role."""
        some = list(self.members.values())
        wait_for(lambda: all(one.mode for one in some), WAIT_SECONDS)
        return [one for one in some if one.mode == "follower"]

    def settled(self) -> None:
        """Wait until each member has a role and all stand at one zxid."""
        some = list(self.members.values())
        wait_for(
            lambda: all(one.mode for one in some) and len({one.zxid for one in some}) == 1,
            WAIT_SECONDS,
        )

    @property
    def hosts(self) -> str:
        """The connection string."""
        return ",".join(f"127.0.0.1:{one.port}" for one in self.members.values())
