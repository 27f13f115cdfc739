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
from tests.conformance.wire import ClosedError, DeadlineError
from tests.invariants.replica import Replica, wait_for
from tests.ports import free_ports

WAIT_SECONDS: Final = 60.0
# All members are on one disk here: while it stands still for some seconds so do they all, and none
# is to be given up for it. Who dies is noticed at once. A test in which one falls silent says less.
_PATIENT: Final = {"initLimit": "20", "syncLimit": "20"}


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
        return self.stands()[0]

    @property
    def zxid(self) -> int:
        return self.stands()[1]

    def stands(self) -> tuple[str, int]:
        """Its mode and zxid, of one moment; it may be dying, or not be there."""
        try:
            told = self.word("srvr")
        except (OSError, ClosedError, DeadlineError):
            return "", -1
        mode = re.search(r"^Mode: (\w+)", told, re.MULTILINE)
        zxid = re.search(r"^Zxid: 0x([0-9a-f]+)", told, re.MULTILINE)
        return (mode[1], int(zxid[1], 16)) if mode and zxid else ("", -1)

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
        lines = {**_PATIENT, **(settings or {})}
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
        """The only one that leads, waited for; who is deposed may not know it at first."""
        some = list(self.members.values()) if among is None else among

        def found() -> list[Member]:
            leading = [one for one in some if one.mode == "leader"]
            return leading if len(leading) == 1 else []

        return wait_for(found, WAIT_SECONDS)[0]

    def others(self, *excluded: Member) -> list[Member]:
        return [one for one in self.members.values() if one not in excluded]

    def followers(self) -> list[Member]:
        """All that follow, waited for until each member has a role."""
        modes: dict[int, str] = {}

        def have_roles() -> bool:
            modes.update({sid: one.mode for sid, one in self.members.items()})
            return all(modes.values())

        wait_for(have_roles, WAIT_SECONDS)
        return [self.members[sid] for sid, mode in modes.items() if mode == "follower"]

    def settled(self) -> None:
        """Wait until each member has a role and all stand at one zxid."""

        def agree() -> bool:
            standing = [one.stands() for one in self.members.values()]
            return all(mode for mode, _ in standing) and len({zxid for _, zxid in standing}) == 1

        wait_for(agree, WAIT_SECONDS)

    @property
    def hosts(self) -> str:
        """The connection string."""
        return ",".join(f"127.0.0.1:{one.port}" for one in self.members.values())
