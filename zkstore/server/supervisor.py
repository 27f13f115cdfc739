"""Runs one replica's processes: starts them, watches over them, and stops them in order.

Owns:   the signals, the child processes, and the sockets they inherit.
Invariants:
  1. Workers live only beside the commit process they connected to: when it dies they are killed,
     and all start again from the disk.
  2. The commit process is the last to stop, so that no worker acknowledges what it cannot hear of.
  3. Every restart is bounded: a replica that cannot live says why and stops.
  4. ready is reported once all processes of a generation are ready, and on_ready called once.
Design: one loop over signals, status pipes and timers. The workers are spawned together with the
  commit process; their connections wait in the commit socket's backlog until recovery is done.
Not here: how a child is started and heard (child.py), sockets (listener.py), what ties a child's
  life to ours (lifeline.py).
"""

from __future__ import annotations

import dataclasses
import enum
import logging
import os
import selectors
import signal
import socket
import tempfile
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

from zkstore.frontend.board import ROW_BYTES
from zkstore.server.child import Child
from zkstore.server.listener import CommitSocket
from zkstore.server.notify import notify
from zkstore.server.ready import Ready
from zkstore.settings import Settings

_log = logging.getLogger(__name__)

_DAMAGE: Final = (-signal.SIGBUS, -signal.SIGSEGV)
_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Modules(NamedTuple):
    """What runs in the processes; tests put others in."""

    commit: str = "zkstore.commit.process"
    worker: str = "zkstore.frontend.process"


class Limits(NamedTuple):
    """How long the supervisor waits, and how often it tries."""

    drain_seconds: float = 10.0  # for the workers to stop
    close_seconds: float = 30.0  # for the commit process to take its last checkpoint
    commit_deaths_max: int = 5  # within commit_deaths_seconds; the next one ends the replica
    commit_deaths_seconds: float = 60.0
    quick_death_seconds: float = 1.0  # a worker that lives shorter counts as failing
    quick_deaths_max: int = 8  # of one worker in a row; the next one ends the replica
    respawn_seconds: float = 0.02  # after which a dying commit process would have been noticed
    backoff_seconds: float = 0.1  # before the second respawn of what fails; doubles
    backoff_seconds_max: float = 5.0
    damage_deaths_max: int = 1  # of workers, by SIGBUS or SIGSEGV; the next ends the replica


_MODULES: Final = Modules()
_LIMITS: Final = Limits()


class _Phase(enum.Enum):
    SERVING = enum.auto()  # starting counts as serving
    DRAINING = enum.auto()  # workers are told to stop
    CLOSING = enum.auto()  # the commit process is told to stop
    KILLING = enum.auto()  # all are killed; then a new start, or the end


class _Slot:
    """One worker's place: the child that fills it, and how its predecessors fared."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.child: Child | None = None
        self.quick_deaths = 0


class Supervisor:
    """Call `run` once, in the main thread."""

    def __init__(
        self,
        settings: Settings,
        listening: socket.socket,
        on_ready: Callable[[Ready], None],
        *,
        modules: Modules = _MODULES,
        limits: Limits = _LIMITS,
    ) -> None:
        assert settings.workers > 0, settings.workers
        self._settings = settings
        self._listening = listening
        self._on_ready = on_ready
        self._modules = modules
        self._limits = limits
        self._phase = _Phase.SERVING
        self._exit_code: int | None = None
        self._code_after_kill: int | None = None  # None: start again
        self._commit: Child | None = None
        self._slots = [_Slot(number) for number in range(settings.workers)]
        self._commit_deaths: deque[float] = deque()
        self._damage_deaths = 0
        self._announced = False
        self._found = Ready(0, 0, 0, 0.0)
        self._timers: dict[str, tuple[float, Callable[[], None]]] = {}
        self._signals: deque[int] = deque()
        self._selector = selectors.DefaultSelector()
        self._commit_socket = CommitSocket(Path(settings.data_dir))
        self._board_fd = _shared_memory(settings.workers * ROW_BYTES)

    def run(self) -> int:
        """Serves until told to stop, or until the replica cannot live. Returns the exit code."""
        wakeup, notified = socket.socketpair()
        wakeup.setblocking(False)
        notified.setblocking(False)
        self._selector.register(wakeup, selectors.EVENT_READ, lambda: _drain(wakeup))
        previous_fd = signal.set_wakeup_fd(notified.fileno(), warn_on_full_buffer=False)
        handlers = {number: signal.getsignal(number) for number in (*_STOP_SIGNALS, signal.SIGCHLD)}
        for number in handlers:
            if number != signal.SIGHUP or handlers[number] is not signal.SIG_IGN:  # nohup
                signal.signal(number, self._on_signal)
        try:
            self._start_all()
            while self._exit_code is None:
                self._turn()
            return self._exit_code
        finally:
            for child in self._children():
                child.close()
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(previous_fd)
            self._selector.close()
            wakeup.close()
            notified.close()
            self._commit_socket.close()
            os.close(self._board_fd)

    # The loop

    def _turn(self) -> None:
        deadline = min((when for when, _ in self._timers.values()), default=None)
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        for key, _ in self._selector.select(timeout):
            key.data()
        while self._signals:
            self._stop_asked(signal.Signals(self._signals.popleft()))
        self._reap()
        now = time.monotonic()
        for name in [name for name, (when, _) in self._timers.items() if when <= now]:
            timer = self._timers.pop(name, None)
            if timer is not None:  # an earlier one may have cancelled it
                timer[1]()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        # SIGCHLD only ends the wait of the loop.
        if number != signal.SIGCHLD:
            self._signals.append(number)

    def _after(self, name: str, seconds: float, action: Callable[[], None]) -> None:
        self._timers[name] = (time.monotonic() + seconds, action)

    # Children

    def _children(self) -> list[Child]:
        commit = [self._commit] if self._commit else []
        return commit + self._workers()

    def _workers(self) -> list[Child]:
        return [slot.child for slot in self._slots if slot.child]

    def _start_all(self) -> None:
        """Spawns every process of a new generation."""
        commit_fd = self._commit_socket.listening.fileno()
        try:
            self._commit = Child(
                "commit process",
                self._modules.commit,
                {"settings": dataclasses.asdict(self._settings), "commit_fd": commit_fd},
                [commit_fd],
            )
        except OSError as error:
            self._kill_all(f"cannot start the commit process: {error.strerror}", exit_code=1)
            return
        self._watch(self._commit)
        for slot in self._slots:
            self._start_worker(slot)

    def _start_worker(self, slot: _Slot) -> None:
        listen_fd = self._listening.fileno()
        bootstrap = {
            "settings": dataclasses.asdict(self._settings),
            "worker": slot.number,
            "listen_fds": [listen_fd],
            "commit_path": str(self._commit_socket.path),
            "board_fd": self._board_fd,
        }
        try:
            slot.child = Child(
                f"worker {slot.number}",
                self._modules.worker,
                bootstrap,
                [listen_fd, self._board_fd],
            )
        except OSError as error:
            _log.error("cannot start worker %d: %s", slot.number, error.strerror)
            self._respawn(slot, quick=True)
            return
        self._watch(slot.child)

    def _watch(self, child: Child) -> None:
        self._selector.register(child.status_fd, selectors.EVENT_READ, lambda: self._hear(child))

    def _unwatch(self, child: Child) -> None:
        if child.status_fd in self._selector.get_map():
            self._selector.unregister(child.status_fd)

    def _hear(self, child: Child) -> None:
        """Handles what a child has written; that its pipe ended is no exit yet."""
        for event in child.events():
            self._on_event(child, event)
        if child.silent:
            self._unwatch(child)

    def _reap(self) -> None:
        for child in self._children():
            status = child.exit_status
            if status is None:
                continue
            self._hear(child)
            self._unwatch(child)
            child.close()
            if child is self._commit:
                self._commit = None
                self._commit_died(child, status)
            else:
                slot = next(slot for slot in self._slots if slot.child is child)
                slot.child = None
                self._worker_died(slot, child, status)

    # Events

    def _on_event(self, child: Child, event: dict[str, Any]) -> None:
        match event["event"]:
            case "ready":
                child.ready = True
                if child is self._commit:
                    self._found = Ready(*(event[field] for field in Ready._fields))
                self._announce()
            case "stale_reader":
                self._kill_stale_reader(event["pid"])
            case "settings":
                # For processes that start later; those that run have been told.
                self._settings = self._settings.altered(event["changed"])
            case "suspect":
                self._suspect(f"{child.name}: {event.get('message', 'unknown reason')}")
            case "fatal":
                _log.error("%s: %s", child.name, event["message"])
                if event.get("restart") is False and self._phase is _Phase.SERVING:
                    self._kill_all(None, exit_code=1)
            case unknown:
                raise AssertionError(f"{child.name} reported {unknown}")

    def _announce(self) -> None:
        children = self._children()
        complete = len(children) == 1 + len(self._slots) and all(child.ready for child in children)
        if not complete or self._phase is not _Phase.SERVING:
            return
        if self._announced:
            _log.info("all processes are ready again")
            return
        self._announced = True
        notify("READY=1")
        self._on_ready(self._found)

    def _kill_stale_reader(self, pid: int) -> None:
        """A stopped worker pins pages, and its sessions can neither move nor expire."""
        for worker in self._workers():
            if worker.pid == pid:
                _log.warning(
                    "%s (pid %d) does not report, or holds an old view, and is killed",
                    worker.name,
                    pid,
                )
                worker.send_signal(signal.SIGKILL)

    def _suspect(self, reason: str) -> None:
        """Has the data checked at the next start (commit/process.py)."""
        _log.error("the data of this replica is suspect: %s", reason)
        folder = Path(self._settings.data_dir) / "zkstore"
        with suppress(OSError):  # a disk that cannot be written to is not made worse
            (folder / "suspect").write_text(reason + "\n")

    # Deaths

    def _worker_died(self, slot: _Slot, child: Child, status: int) -> None:
        os.pwrite(self._board_fd, bytes(ROW_BYTES), ROW_BYTES * slot.number)
        if self._phase is not _Phase.SERVING:
            self._all_gone()
            return
        _log.warning("%s %s; its connections are cut", child.name, _describe(status))
        if status in _DAMAGE:
            self._damage_deaths += 1
            self._suspect(f"{child.name} {_describe(status)}")
            if self._damage_deaths > self._limits.damage_deaths_max:
                self._give_up("workers die reading the data file; the replica stops")
                return
        lived = time.monotonic() - child.started
        self._respawn(slot, quick=not child.ready or lived < self._limits.quick_death_seconds)

    def _respawn(self, slot: _Slot, *, quick: bool) -> None:
        """Starts another worker: soon the first time, then after a growing pause.

        A worker also ends when its commit process does, and may be seen dead before that is; a new
        one would be killed before it has loaded its modules.
        """
        slot.quick_deaths = slot.quick_deaths + 1 if quick else 0
        if slot.quick_deaths > self._limits.quick_deaths_max:
            self._give_up(
                f"worker {slot.number} died {slot.quick_deaths} times at its start;"
                " the replica stops"
            )
            return
        delay = self._backoff(slot.quick_deaths) or self._limits.respawn_seconds
        self._after(f"worker {slot.number}", delay, lambda: self._start_worker(slot))

    def _commit_died(self, child: Child, status: int) -> None:
        if self._phase is _Phase.KILLING:
            self._all_gone()
            return
        if self._phase is _Phase.CLOSING:
            # Told to stop before it was ready, it has nothing to write down.
            clean = status == 0 or (not child.ready and status == -signal.SIGTERM)
            if not clean:
                _log.error("%s %s while stopping", child.name, _describe(status))
            self._exit_code = 0 if clean and not self._code_after_kill else 1
            return
        if self._phase is _Phase.DRAINING:
            self._kill_all(f"{child.name} {_describe(status)} while stopping", exit_code=1)
            return
        if status in _DAMAGE:
            self._suspect(f"{child.name} {_describe(status)}")
        now = time.monotonic()
        self._commit_deaths.append(now)
        while now - self._commit_deaths[0] > self._limits.commit_deaths_seconds:
            self._commit_deaths.popleft()
        if len(self._commit_deaths) > self._limits.commit_deaths_max:
            self._kill_all(
                f"{child.name} {_describe(status)}, death {len(self._commit_deaths)} within"
                f" {self._limits.commit_deaths_seconds:g} s; the replica stops",
                exit_code=1,
            )
            return
        self._kill_all(
            f"{child.name} {_describe(status)}; all starts again from the disk", exit_code=None
        )

    def _kill_all(self, reason: str | None, *, exit_code: int | None) -> None:
        """SIGKILL for all that runs; afterwards the end, or a new start if `exit_code` is None."""
        if reason:
            _log.error("%s", reason)
        self._phase = _Phase.KILLING
        self._code_after_kill = exit_code
        self._timers.clear()
        for child in self._children():
            child.send_signal(signal.SIGKILL)
        self._all_gone()

    def _all_gone(self) -> None:
        """What comes next once nobody is left whom the phase waits for."""
        if self._phase is _Phase.DRAINING and not self._workers():
            self._close_commit()
        elif self._phase is _Phase.KILLING and not self._children():
            if self._code_after_kill is not None:
                self._exit_code = self._code_after_kill
                return
            # At once the first time; what goes on failing is not helped by trying ever faster.
            self._after("start", self._backoff(len(self._commit_deaths)), self._start_again)

    def _start_again(self) -> None:
        self._phase = _Phase.SERVING
        self._start_all()

    def _backoff(self, deaths: int) -> float:
        """Seconds to wait after so many deaths: none after the first, then more each time."""
        if deaths <= 1:
            return 0.0
        doubled = self._limits.backoff_seconds * 2.0 ** (deaths - 2)
        return min(self._limits.backoff_seconds_max, doubled)

    # Stopping

    def _stop_asked(self, number: signal.Signals) -> None:
        if self._phase is _Phase.SERVING:
            _log.info("stopping on %s", number.name)
            self._drain(exit_code=None)
        elif self._phase is _Phase.KILLING and self._code_after_kill is None:
            # Between two generations: there is nothing to drain, and the disk is as after a crash.
            self._code_after_kill = 0
            self._all_gone()
        else:
            self._kill_all(f"{number.name} again: stopping at once", exit_code=1)

    def _give_up(self, reason: str) -> None:
        """Stops in order, for a reason that leaves the commit process in health."""
        _log.error("%s", reason)
        self._drain(exit_code=1)

    def _drain(self, *, exit_code: int | None) -> None:
        notify("STOPPING=1")
        self._phase = _Phase.DRAINING
        self._code_after_kill = exit_code
        self._timers.clear()
        for worker in self._workers():
            # One that is not ready has no clients, and may be waiting for the recovery.
            worker.send_signal(signal.SIGTERM if worker.ready else signal.SIGKILL)
        self._after("drain", self._limits.drain_seconds, self._drain_late)
        self._all_gone()

    def _drain_late(self) -> None:
        names = ", ".join(worker.name for worker in self._workers())
        _log.warning("%s did not stop in time and is killed", names)
        for worker in self._workers():
            worker.send_signal(signal.SIGKILL)

    def _close_commit(self) -> None:
        self._phase = _Phase.CLOSING
        self._timers.clear()
        assert self._commit is not None  # its death would have ended the draining
        self._commit.send_signal(signal.SIGTERM)
        self._after("close", self._limits.close_seconds, self._close_late)

    def _close_late(self) -> None:
        self._kill_all("the commit process did not stop in time and is killed", exit_code=1)


def _describe(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"exited with code {status}"


def _drain(source: socket.socket) -> None:
    while True:
        try:
            if not source.recv(4096):
                return
        except BlockingIOError:
            return


def _shared_memory(size: int) -> int:
    """A file in memory for the workers' board (frontend/board.py), all zeros."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("zkstore-board", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.truncate(fd, size)
    return fd
