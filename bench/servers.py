"""Servers to measure: each with its defaults, its own directory, and all of its processes counted.

Owns:   a server's directory (zoo.cfg, data/, server.log) and its processes.
Invariants:
  1. Every kind gets the same zoo.cfg: defaults, but no limit on connections from one address.
  2. A server leads a process group of its own; stop() and kill() leave nothing of it behind.
Design: a server is ready when a new session's first read is answered, not when its port is open.
Not here: what is asked of it.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Final

from bench import procs, wire
from zkstore.version import VERSION

REPOSITORY: Final = Path(__file__).resolve().parent.parent
START_TIMEOUT_S: Final = 180.0
STOP_TIMEOUT_S: Final = 60.0
# How often a starting server is asked whether it answers: the resolution of its start-up time.
_PROBE_INTERVAL_S: Final = 0.002
# Apache now and then never answers a connection that came while it was starting. It doubles with
# each probe that it was too short for: a new session waits for the disk.
_PROBE_TIMEOUT_S: Final = 0.25
_PROBE_TIMEOUT_S_MAX: Final = 16.0
# zkServer.sh's own default (ZK_SERVER_HEAP).
_APACHE_HEAP: Final = "-Xmx1000m"
# Where there is util-linux, a benchmark that is killed leaves no server behind.
_LIFELINE: Final = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
_APACHE_38_JAR: Final = Path("/usr/share/java/zookeeper.jar")


@dataclass(frozen=True, slots=True)
class Kind:
    """A server that can be measured."""

    name: str
    title: str
    # Why it cannot be run here; empty: it can.
    missing: str
    version: str
    # The arguments, given the path of its zoo.cfg.
    command: Callable[[str], list[str]]
    # The checkout that zkstore is taken from, and its commit; empty: what is checked out here.
    source: Path = REPOSITORY
    commit: str = ""


def _git(*args: str) -> str:
    command = ["git", "-C", str(REPOSITORY), *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def commit() -> str:
    """What is measured: the commit checked out now; "-dirty" if the working tree differs."""
    head = _git("rev-parse", "--short=10", "HEAD") or "unknown"
    return f"{head}-dirty" if _git("status", "--porcelain", "--", "zkstore") else head


def _zkstore(name: str, title: str, *options: str) -> Kind:
    def command(config: str) -> list[str]:
        return [sys.executable, "-m", "zkstore", "serve", config, *options]

    return Kind(name, title, "", VERSION, command)


def _apache(name: str, title: str, class_path: str, version: str, missing: str) -> Kind:
    def command(config: str) -> list[str]:
        return [
            "java",
            _APACHE_HEAP,
            # Its jetty is not among the jars of every installation, and is no part of the work.
            "-Dzookeeper.admin.enableServer=false",
            "-cp",
            class_path,
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
            config,
        ]

    if not shutil.which("java"):
        missing = "there is no java"
    return Kind(name, title, missing, version, command)


def _apache_39() -> Kind:
    folder = os.environ.get("ZKSTORE_APACHE_39", "")
    jars = sorted(Path(folder).glob("zookeeper-3.*.jar")) if folder else []
    version = jars[-1].stem.removeprefix("zookeeper-") if jars else ""
    missing = "" if jars else "ZKSTORE_APACHE_39 names no folder with zookeeper-3.*.jar"
    return _apache("apache39", "Apache ZooKeeper 3.9", f"{folder}/*", version, missing)


def _apache_38() -> Kind:
    missing = "" if _APACHE_38_JAR.exists() else f"there is no {_APACHE_38_JAR}"
    jars = sorted(_APACHE_38_JAR.parent.glob("zookeeper-3.*.jar"))
    version = jars[-1].stem.removeprefix("zookeeper-") if jars else "unknown"
    # Debian's jar names those that it needs in its manifest.
    return _apache("apache38", "Debian's ZooKeeper 3.8", str(_APACHE_38_JAR), version, missing)


@cache
def kinds() -> dict[str, Kind]:
    """Every kind by name, available or not."""
    every = [
        _zkstore("zkstore", "zkstore"),
        _zkstore("zkstore-embedded", "zkstore in one process", "--embedded"),
        _zkstore("zkstore-1w", "zkstore with one worker", "--workers", "1"),
        _apache_39(),
        _apache_38(),
    ]
    return {kind.name: kind for kind in every}


def default_kinds(*, peers: bool) -> list[str]:
    """zkstore, and the newest Apache ZooKeeper that is installed."""
    apache = [name for name in ("apache39", "apache38") if not kinds()[name].missing]
    return ["zkstore", *apache[:1]] if peers else ["zkstore"]


_given: set[int] = set()


def free_port() -> int:
    """A port that the kernel gives to no client: one that polls a port of its own range may be
    connected to itself. No port is given twice: its server may not have started yet."""
    for port in random.sample(range(20_000, 30_000), 10_000):
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind((wire.HOST, port))
            except OSError:
                continue  # somebody's
            _given.add(port)
            return port
    raise wire.BenchmarkError("no free port between 20000 and 30000")


class Server:
    """One server in one directory; a context manager that stops it."""

    def __init__(
        self,
        kind: Kind,
        directory: Path,
        *,
        data: Path | None = None,
        prefix: Sequence[str] = (),
        more_config: str = "",
    ) -> None:
        """data: where it keeps its data, if not in its directory; prefix: what stands before its
        command; more_config: lines of its zoo.cfg."""
        self.kind = kind
        self.directory = directory
        self.data = data or directory / "data"
        self.port = free_port()
        self._prefix = tuple(prefix)
        self._more_config = more_config
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """It was started, and neither stopped nor killed by us."""
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def ports(self) -> tuple[int, ...]:
        """Of all of its servers: one."""
        return (self.port,)

    @property
    def pids(self) -> tuple[int, ...]:
        """The roots of all of its processes: one."""
        return (self.pid,)

    def start(self, probe: str = "/") -> float:
        """Start it on what is in `data`; returns the seconds until exists(`probe`) was answered.

        Raises: BenchmarkError if it ends or does not answer in time.
        """
        begun = time.perf_counter()
        self.launch()
        self.await_answer(probe)
        return time.perf_counter() - begun

    def launch(self) -> None:
        """Start it, and wait for nothing."""
        assert self._process is None
        self.data.mkdir(parents=True, exist_ok=True)
        config = self.directory / "zoo.cfg"
        config.write_text(
            f"dataDir={self.data}\n"
            f"clientPort={self.port}\n"
            f"clientPortAddress={wire.HOST}\n"
            f"maxClientCnxns=0\n{self._more_config}"
        )
        environment = {**os.environ, "PYTHONPATH": str(self.kind.source)}
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_LIFELINE, *self._prefix, *self.kind.command(str(config))],
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def await_answer(self, probe: str = "/") -> None:
        """Wait until exists(`probe`) is answered.

        Raises: BenchmarkError if it ends or does not answer in time; then it is killed.
        """
        try:
            self._await_answer(time.perf_counter() + START_TIMEOUT_S, probe)
        except BaseException:
            self.kill()
            raise

    def _await_answer(self, deadline: float, probe: str) -> None:
        assert self._process is not None
        patience_s = _PROBE_TIMEOUT_S
        while True:
            begun = time.perf_counter()
            if _answers(self.port, probe, patience_s):
                return
            if time.perf_counter() - begun >= patience_s:
                patience_s = min(2 * patience_s, _PROBE_TIMEOUT_S_MAX)
            if self._process.poll() is not None:
                raise wire.BenchmarkError(f"{self.kind.name} ended at its start: {self.log()}")
            if time.perf_counter() > deadline:
                raise wire.BenchmarkError(f"{self.kind.name} does not answer: {self.log()}")
            time.sleep(_PROBE_INTERVAL_S)

    def log(self) -> str:
        """The last that it wrote."""
        return (self.directory / "server.log").read_text(errors="replace")[-2000:]

    def memory(self) -> procs.Memory:
        return procs.memory(procs.process_tree(self.pid))

    def stop(self) -> None:
        """A clean stop: SIGTERM, as an init system would.

        Raises: BenchmarkError if it does not end in time; then it is killed.
        """
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise wire.BenchmarkError(f"{self.kind.name} ignores SIGTERM") from None
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to all of its processes at once. Raises: BenchmarkError if one of them stays."""
        assert self._process is not None
        group = self._process.pid
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            pass  # nothing of the group is left
        self._process.wait()
        self._process = None
        # One that waits for the disk ends when the disk has answered, and has its files until then.
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while procs.lives_in_group(group):
            if time.monotonic() > deadline:
                raise wire.BenchmarkError(f"{self.kind.name} does not end")
            time.sleep(_PROBE_INTERVAL_S)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.running:
            self.kill()


def _answers(port: int, probe: str, patience_s: float) -> bool:
    """Whether a new session's first read is answered; a server that is starting refuses it."""
    try:
        session = wire.connect(port)
    except OSError:
        return False
    with session:
        session.settimeout(patience_s)
        try:
            session.sendall(wire.connect_request())
            wire.finish_handshake(session)
            wire.call(session, wire.EXISTS, wire.read_body(probe))
            wire.close_sessions([session])
        except (OSError, wire.BenchmarkError):
            return False
    return True


def resolve(names: Sequence[str]) -> list[Kind]:
    """The kinds of these names; `zkstore@REVISION` is zkstore as it is in a commit.

    Raises: ValueError if one is unknown or cannot be run here.
    """
    known = kinds()
    found = []
    for full_name in names:
        name, at, revision = full_name.partition("@")
        if name not in known:
            raise ValueError(f"unknown server {name}; there are {', '.join(known)}")
        if known[name].missing:
            raise ValueError(f"{name} cannot be run: {known[name].missing}")
        found.append(_at_commit(known[name], revision) if at else known[name])
    return found


def _at_commit(kind: Kind, revision: str) -> Kind:
    """The same kind with its sources as they are in a commit, laid out below build/."""
    found = _git("rev-parse", "--short=10", f"{revision}^{{commit}}")
    if not found or not kind.name.startswith("zkstore"):
        raise ValueError(f"{kind.name}@{revision}: no such commit of zkstore")
    source = REPOSITORY / "build" / "bench" / "sources" / found
    if not source.exists():
        _check_out(found, source)
    return replace(kind, name=f"{kind.name}@{found}", source=source, commit=found)


def _check_out(revision: str, target: Path) -> None:
    """Without git's knowledge of it: nothing is to be pruned later."""
    command = ["git", "-C", str(REPOSITORY), "archive", revision, "zkstore", "tools", "setup.cfg"]
    archive = subprocess.run(command, capture_output=True, check=True).stdout
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / "made"
        made.mkdir()
        subprocess.run(["tar", "-x", "-C", str(made)], input=archive, check=True)
        # Where an installation has them: setup.cfg's package_dir.
        (made / "zkstore" / "tools").symlink_to("../tools")
        try:
            made.rename(target)
        except OSError:
            # Another run may have been faster.
            if not target.exists():
                raise
