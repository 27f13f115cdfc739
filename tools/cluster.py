"""`zkstore cluster`: an ensemble on this machine, to try things out, and how it is.

Owns:   the replicas' processes; in the data directory, for each replica N, `N/zoo.cfg`, `N/data`,
        `N/log`.
Invariants:
  1. NoOrphans: however this command ends, no replica outlives it.
  2. A replica that died stays dead, unless --restart was asked for.
Design: a replica is what anybody would run: `zkstore serve zoo.cfg`. What is shown is what srvr and
        mntr answer over the client port, so it is what a client would see.
Not here: serving (zkstore/server/), ensembles of several machines.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from zkstore.server.status import Address, ask

from .common import DAMAGED, FINE, Out, run, write_json

HOST: Final = "127.0.0.1"
NODES_MAX: Final = 99
# Ports of replica N: the base port + N - 1 for clients, and these above it for the replicas.
_QUORUM: Final = 100
_ELECTION: Final = 200
_LOOK_SECONDS: Final = 1.0
_ANSWER_SECONDS_MAX: Final = 1.0
_RESTART_SECONDS: Final = 1.0
_STOP_SECONDS_MAX: Final = 15.0
_LOG_LINES: Final = 5

# The lifeline makes a replica end with this process, which might be killed.
_PROGRAM: Final = (
    "import sys; from zkstore.lifeline import follow_supervisor;"
    " follow_supervisor(int(sys.argv.pop(1)));"
    " from zkstore.server.cli import main; sys.exit(main())"
)
_CONFIG: Final = """\
tickTime=2000
initLimit=10
syncLimit=5
dataDir={data}
clientPort={port}
clientPortAddress={host}
4lw.commands.whitelist=srvr,mntr,stat,ruok,conf,isro
"""


class View(NamedTuple):
    """One replica as it is seen from outside."""

    sid: int
    address: str
    role: str
    pid: int  # of its supervisor
    zxid: int = -1  # -1: unknown
    sessions: str = ""
    connections: str = ""


@dataclass(slots=True)
class _Replica:
    sid: int
    folder: Path
    address: Address
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    has_answered: bool = False  # since it was started
    exit_code: int | None = None  # None while it runs, when it was last looked at

    def start(self) -> None:
        command = [sys.executable, "-c", _PROGRAM, str(os.getpid()), "serve"]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [*command, str(self.folder / "zoo.cfg")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a terminal's Ctrl-C is for this process alone
            )
        self.started = time.monotonic()
        self.has_answered = False
        self.exit_code = None

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()

    def await_end(self, deadline: float) -> None:
        if self.process is None:
            return
        try:
            self.process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def last_words(self) -> str:
        lines = (self.folder / "log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-_LOG_LINES:])

    def look(self) -> View:
        assert self.process is not None
        sid, address, pid = self.sid, str(self.address), self.process.pid
        self.exit_code = self.process.poll()
        if self.exit_code is not None:
            return View(sid, address, f"died ({self.exit_code})", pid)
        counts = ask(self.address, "srvr", _ANSWER_SECONDS_MAX)
        if counts is None:
            return View(sid, address, "silent" if self.has_answered else "starting", pid)
        self.has_answered = True
        mode, zxid = _found("Mode: (.+)", counts), _found("Zxid: (0x[0-9a-f]+)", counts)
        if not mode or not zxid:
            return View(sid, address, "looking", pid)
        more = ask(self.address, "mntr", _ANSWER_SECONDS_MAX) or ""
        sessions = _found(r"zk_global_sessions\t(\d+)", more)
        connections = int(_found(r"Connections: (\d+)", counts) or 1) - 1  # but for ours
        return View(sid, address, mode, pid, int(zxid, 16), sessions, str(connections))


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ""


# ---- the command


def main(argv: list[str] | None = None, out: Out | None = None) -> int:
    """Runs an ensemble on this machine, and shows how it is."""
    return run(_parser(), argv, out, _cluster)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zkstore cluster",
        description="Run an ensemble on this machine and show how it is, until Ctrl-C. On a"
        " terminal a table is kept up to date; elsewhere each change is a line.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--nodes", type=_count, default=3, metavar="N", help="replicas (default: %(default)s)"
    )
    parser.add_argument(
        "--data-dir", type=Path, metavar="D",
        help="where the replicas keep their data, and find it the next time; without it they keep"
        " nothing",
    )  # fmt: skip
    parser.add_argument(
        "--base-port", type=_base_port, default=2181, metavar="P",
        help=f"the first replica's client port; the others follow, and from P+{_QUORUM} and"
        f" P+{_ELECTION} on are the replicas' own (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--restart", action="store_true", help="start again what died")
    parser.add_argument("--json", action="store_true", help="print JSON lines, for programs")
    return parser


def _count(text: str) -> int:
    """Raises: ArgumentTypeError."""
    if not text.isdecimal() or not 1 <= int(text) <= NODES_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {NODES_MAX}")
    return int(text)


def _base_port(text: str) -> int:
    """Raises: ArgumentTypeError."""
    last = 65535 - _ELECTION - NODES_MAX
    if not text.isdecimal() or not 1 <= int(text) <= last:
        raise argparse.ArgumentTypeError(f"{text!r} is no port from 1 to {last}")
    return int(text)


def _cluster(arguments: argparse.Namespace, out: Out) -> int:
    with contextlib.ExitStack() as stack:
        folder = arguments.data_dir
        if folder is None:
            made = tempfile.TemporaryDirectory(prefix="zkstore-cluster-")
            folder = Path(stack.enter_context(made))
        replicas = _prepare(folder.absolute(), arguments.nodes, arguments.base_port)
        stop = stack.enter_context(_stop_signals())
        stack.callback(_stop_all, replicas)
        for replica in replicas:
            replica.start()
        if arguments.json:
            shown: _Lines | _Table = _Lines(out, json=True)
        else:
            shown = _Table(out) if sys.stdout.isatty() else _Lines(out, json=False)
        return _watch(replicas, shown, stop, restart=arguments.restart)


def _prepare(folder: Path, count: int, base_port: int) -> list[_Replica]:
    """The replicas, with their configurations written."""
    members = "".join(
        f"server.{sid}={HOST}:{base_port + _QUORUM + sid - 1}:{base_port + _ELECTION + sid - 1}\n"
        for sid in range(1, count + 1)
    )
    replicas = []
    for sid in range(1, count + 1):
        replica = _Replica(sid, folder / str(sid), Address(HOST, base_port + sid - 1))
        data = replica.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        config = _CONFIG.format(data=data, port=replica.address.port, host=HOST)
        if count > 1:
            config += members
            (data / "myid").write_text(f"{sid}\n")
        (replica.folder / "zoo.cfg").write_text(config)
        replicas.append(replica)
    return replicas


@contextlib.contextmanager
def _stop_signals() -> Iterator[int]:
    """A file descriptor that can be read as soon as this command is to stop."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    previous = signal.set_wakeup_fd(writer)
    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = [signal.signal(number, lambda *_: None) for number in wanted]
    try:
        yield reader
    finally:
        for number, handler in zip(wanted, handlers, strict=True):
            signal.signal(number, handler)
        signal.set_wakeup_fd(previous)
        os.close(reader)
        os.close(writer)


def _stop_all(replicas: list[_Replica]) -> None:
    for replica in replicas:
        replica.stop()
    deadline = time.monotonic() + _STOP_SECONDS_MAX
    for replica in replicas:
        replica.await_end(deadline)


def _watch(replicas: list[_Replica], shown: _Lines | _Table, stop: int, *, restart: bool) -> int:
    """Until it is to stop, or nothing is left."""
    while True:
        shown.show([replica.look() for replica in replicas])
        dead = [replica for replica in replicas if replica.exit_code is not None]
        if len(dead) == len(replicas) and not restart:
            sys.stderr.write(f"all replicas died; the last words of replica {dead[0].sid}:\n")
            sys.stderr.write(f"{dead[0].last_words()}\n")
            return DAMAGED
        for replica in dead:
            # One that dies at once is given a pause.
            if restart and time.monotonic() - replica.started > _RESTART_SECONDS:
                replica.start()
        if select.select([stop], [], [], _LOOK_SECONDS)[0]:
            shown.end()
            return FINE


# ---- what is shown


def leader_of(views: list[View]) -> View | None:
    return next((view for view in views if view.role in ("leader", "standalone")), None)


def connection_string(views: list[View]) -> str:
    return ",".join(view.address for view in views)


def headline(views: list[View]) -> str:
    leader = leader_of(views)
    who = f"replica {leader.sid} leads" if leader else "nobody leads"
    return f"{who}; connect to {connection_string(views)}"


def behind(view: View, views: list[View]) -> str:
    """How many txns a replica lacks of the leader's; empty where that cannot be said."""
    leader = leader_of(views)
    if leader is None or view.zxid < 0:
        return ""
    if view.zxid >> 32 != leader.zxid >> 32:
        return "an epoch" if view.zxid < leader.zxid else ""
    return str(max(leader.zxid - view.zxid, 0))


def table(views: list[View]) -> list[str]:
    rows = [("id", "address", "role", "zxid", "behind", "sessions", "connections")]
    for view in views:
        zxid = f"0x{view.zxid:x}" if view.zxid >= 0 else ""
        late = behind(view, views)
        rows.append(
            (str(view.sid), view.address, view.role, zxid, late, view.sessions, view.connections)
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


class _Table:
    """A table on a terminal, written over itself."""

    def __init__(self, out: Out) -> None:
        self._out = out
        self._height = 0

    def show(self, views: list[View]) -> None:
        lines = [headline(views), "", *table(views), "", "Ctrl-C stops all."]
        up = f"\x1b[{self._height}A" if self._height else ""
        self._out.write(up + "".join(f"{line}\x1b[K\n" for line in lines))
        sys.stdout.flush()
        self._height = len(lines)

    def end(self) -> None:
        self._out.write("stopping\n")


class _Lines:
    """A line for each change of a role or of the leader."""

    def __init__(self, out: Out, *, json: bool) -> None:
        self._out = out
        self._json = json
        self._roles: dict[int, str] = {}
        self._headline = ""

    def show(self, views: list[View]) -> None:
        for view in views:
            if self._roles.get(view.sid) != view.role:
                self._roles[view.sid] = view.role
                self._tell(f"replica {view.sid}: {view.role}", view._asdict())
        leader = leader_of(views)
        if leader is not None and self._headline != headline(views):
            self._headline = headline(views)
            told = {"leader": leader.sid, "connect": connection_string(views)}
            self._tell(self._headline, told)

    def end(self) -> None:
        self._tell("stopping", {"stopping": True})

    def _tell(self, line: str, value: dict[str, object]) -> None:
        if self._json:
            write_json(self._out, value)
        else:
            self._out.write(f"{line}\n")
        sys.stdout.flush()
