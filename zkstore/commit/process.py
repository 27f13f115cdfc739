"""The commit process: opens the replica, recovers it, serves its workers until it is told to stop.

Owns:   the replica's data directory; the Unix socket that workers connect to.
Invariants:
  1. Fatal: any error that is not a client's ends the process, and with it the replica, which starts
     again from the checkpoint. Nothing is served from a state that an unknown error may have
     touched.
Shape:  started as `python -m zkstore.commit.process --bootstrap FD`; see server/child.py for what
        FD says.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import shlex
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

from zkstore import lifeline
from zkstore.commit.admin import Admin
from zkstore.commit.control import Control
from zkstore.commit.keeper import Keeper
from zkstore.commit.live import LiveSettings
from zkstore.commit.loop import Loop
from zkstore.commit.member import Ensemble
from zkstore.errors import (
    ConfigError,
    CorruptionError,
    DirectoryInUse,
    FormatError,
    ZkstoreError,
)
from zkstore.messaging import StreamChannel
from zkstore.observability import log
from zkstore.settings import Settings
from zkstore.storage import checkpoint
from zkstore.storage.disk import Disk
from zkstore.storage.env import (
    SUSPECT_NAME,
    Replica,
    Reserve,
    open_replica,
    storage_dir,
)
from zkstore.storage.scrub import scrub
from zkstore.storage.writer import Writer
from zkstore.tree.auth import Providers

_log = logging.getLogger("zkstore.commit")

# Starting again changes nothing about these.
_HOPELESS = (FormatError, CorruptionError, DirectoryInUse, ConfigError)


class Opened(NamedTuple):
    """A replica that is recovered and ready to serve."""

    replica: Replica
    writer: Writer
    reserve: Reserve
    replayed: int
    seconds: float


def open_writer(settings: Settings, disk: Disk) -> Opened:
    """Open and recover the data directory. Raises: what storage/env.py's open_replica raises."""
    started = time.monotonic()
    _take_over(settings, disk)
    replica = open_replica(
        Path(settings.data_dir),
        Path(settings.data_log_dir or settings.data_dir),
        disk=disk,
        map_size_bytes=settings.map_size_bytes,
        journal_segment_bytes=settings.journal_segment_bytes,
        flush=settings.force_sync,
    )
    try:
        _check_journal(settings, replica)
        writer = Writer(
            replica,
            retention_ms=settings.log_retention_ms,
            retention_bytes=settings.log_retention_bytes,
            flush_warning_ms=settings.fsync_warning_threshold_ms,
            alone=not settings.members,
        )
        replayed = writer.recover()
        _check_whole(settings, replica, writer)
        _check_tree(settings, replica, writer)
        reserve = Reserve(replica.path, disk, settings.disk_reserve_bytes)
        replica.on_moved.append(reserve.move)
    except BaseException:
        replica.abandon()  # who starts an embedded server may try again
        raise
    return Opened(replica, writer, reserve, replayed, time.monotonic() - started)


def _take_over(settings: Settings, disk: Disk) -> None:
    """Where only Apache's data is, import it, or say how that is done.

    Raises: ConfigError; CorruptionError if Apache's data is damaged.
    """
    data_dir = Path(settings.data_dir)
    log_dir = Path(settings.data_log_dir or settings.data_dir)
    if (storage_dir(data_dir) / checkpoint.NAME).exists():
        return
    # Not at the top: every start would pay for what only the first one may need.
    from zkstore.storage import apache_files
    from zkstore.storage.intake import import_apache

    if not apache_files.holds_data(data_dir, log_dir):
        return
    if not settings.auto_import:
        raise ConfigError(
            f"{data_dir} holds data of Apache ZooKeeper, and none of zkstore. Stop Apache's server,"
            f" and run: {_import_command(data_dir, log_dir)}; or start with zkstore.autoImport=true"
        )
    report = import_apache(data_dir, data_dir, source_log=log_dir, log_dir=log_dir, disk=disk)
    for warning in report.warnings:
        _log.warning("%s", warning)
    _log.info(
        "imported Apache's data: %d znodes, %d sessions, at zxid %#x",
        report.nodes, report.sessions, report.zxid,
    )  # fmt: skip


def _import_command(data_dir: Path, log_dir: Path) -> str:
    words = ["zkstore", "import", str(data_dir), "--data-dir", str(data_dir)]
    if log_dir != data_dir:
        words += ["--source-log-dir", str(log_dir), "--data-log-dir", str(log_dir)]
    return shlex.join(words)


_HEALS = "This member takes part in no vote until it has a leader's tree"
_ADVICE = "Restore a backup, or start with zkstore.acceptDamage=true to serve what is left"


def _check_journal(settings: Settings, replica: Replica) -> None:
    """A lone server with a damaged journal has lost acknowledged writes: it serves only if told to.

    A member asks the others for all it has.
    Order:  before anything is replayed, as the next checkpoint would hide the damage.
    Raises: CorruptionError.
    """
    if not replica.journal_damaged:
        return
    damage = replica.journal.damage
    if settings.members:
        _log.error("acknowledged transactions are lost: %s. %s", damage, _HEALS)
        return
    if not settings.accept_damage:
        raise CorruptionError(f"acknowledged transactions are lost: {damage}. {_ADVICE}")
    _log.error("served although acknowledged transactions are lost: %s", damage)
    replica.accept_damage()


def _check_whole(settings: Settings, replica: Replica, writer: Writer) -> None:
    """What was a member in the middle of a synchronisation must not become a server alone.

    Raises: CorruptionError.
    """
    if writer.hard_state.whole:
        return
    if settings.members:
        if not replica.journal_damaged:
            _log.error("this replica had not got all data again when it stopped. %s", _HEALS)
        return
    if settings.accept_damage:
        return
    raise CorruptionError(
        f"{settings.data_dir}: this replica of an ensemble had not got all data again when it"
        f" stopped. Start it as a member of its ensemble. {_ADVICE}"
    )


def _check_tree(settings: Settings, replica: Replica, writer: Writer) -> None:
    """A replica that is suspect is scrubbed before it serves; a damaged one serves only if told to.

    A member asks the others for all it has.
    Raises: CorruptionError with every damage named.
    """
    suspect = replica.path.parent / SUSPECT_NAME
    if not suspect.exists():
        return
    _log.warning("%s: the data is suspect and is checked before it is served", suspect)
    with writer.views.open() as view:
        found = list(scrub(view))
    if found and settings.members:
        _log.error("%s: damaged: %s. %s", replica.path, "; ".join(found), _HEALS)
        writer.declare_not_whole()
        return
    if found and not settings.accept_damage:
        raise CorruptionError(f"{replica.path}: damaged: {'; '.join(found)}. {_ADVICE}")
    for damage in found:
        _log.error("served although damaged: %s", damage)
    if not found:
        suspect.unlink()


class CommitServer:
    """The loop and its timers, on an event loop."""

    def __init__(
        self,
        settings: Settings,
        opened: Opened,
        aio: asyncio.AbstractEventLoop,
        on_stale_reader: Callable[[int], None] = lambda _: None,
        on_settings: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        """`on_settings` is given the fields of Settings that were changed while it runs."""
        self._opened = opened
        self.loop = Loop(settings, opened.writer, Providers.of(settings), aio.call_soon)
        self.admin = Admin(self.loop, aio, replayed=opened.replayed, start_ms=opened.seconds * 1000)
        self.keeper = Keeper(self.loop, opened.replica, opened.reserve, aio, on_stale_reader)
        self.keeper.start()
        self._live = LiveSettings(self.loop, on_settings)
        self._control = Control(self.loop, self.admin, self._live, aio)
        self.ensemble: Ensemble | None = None
        if settings.members:
            self.ensemble = Ensemble(self.loop, opened.replica, aio)

    async def start(self) -> None:
        """Open the admin socket; a member's ports, and look for a leader. Raises: OSError."""
        await self._control.start()
        if self.ensemble is not None:
            await self.ensemble.start()

    def accept(self) -> StreamChannel:
        """The protocol of a worker that connects."""

        def connected(channel: StreamChannel) -> None:
            port = self.loop.attach(channel, channel.peer_pid())
            ports[channel] = port
            self._live.tell(port)
            channel.send([self.loop.writer.applied])  # the worker waits for it: we have recovered

        def message(items: list[Any]) -> None:
            self.loop.on_message(ports[channel], items)

        def lost() -> None:
            self.loop.detach(ports.pop(channel))

        ports: dict[StreamChannel, Any] = {}
        channel = StreamChannel(message, lost, connected)
        return channel

    def close(self) -> None:
        """A clean stop: what was taken in is answered first."""
        self.keeper.stop()
        self._control.close()
        if self.ensemble is not None:
            self.ensemble.close()
        self.loop.turn()
        self.loop.ended = True
        self._opened.writer.close()
        self._opened.reserve.close()

    def abandon(self) -> None:
        """Let go of everything as a crash would."""
        self.keeper.stop()
        self._control.close()
        if self.ensemble is not None:
            self.ensemble.close()
        self.loop.ended = True
        self._opened.replica.abandon()
        self._opened.reserve.close()


def main(argv: list[str]) -> None:
    """Run until SIGTERM."""
    assert argv[0] == "--bootstrap", argv
    with os.fdopen(int(argv[1])) as pipe:
        bootstrap = json.load(pipe)
    lifeline.follow_supervisor(bootstrap["supervisor_pid"])
    log.configure("commit")
    status = os.fdopen(bootstrap["status_fd"], "w", buffering=1)

    def report(event: str, **details: object) -> None:
        status.write(json.dumps({"event": event, **details}) + "\n")

    settings = Settings.from_json(json.dumps(bootstrap["settings"]))
    try:
        opened = open_writer(settings, Disk())
        uvloop.run(_serve(settings, opened, bootstrap["commit_fd"], report))
    except ZkstoreError as e:
        report("fatal", message=str(e), restart=not isinstance(e, _HOPELESS))
        sys.exit(1)


async def _serve(
    settings: Settings, opened: Opened, commit_fd: int, report: Callable[..., None]
) -> None:
    aio = asyncio.get_running_loop()

    def fatal(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        text = str(error) if isinstance(error, ZkstoreError) else context["message"]
        report("fatal", message=text or repr(error), restart=not isinstance(error, _HOPELESS))
        if error is not None:
            traceback.print_exception(error)
        os._exit(1)

    aio.set_exception_handler(fatal)
    own_pid = os.getpid()
    server = CommitServer(
        settings, opened, aio,
        lambda pid: None if pid == own_pid else report("stale_reader", pid=pid),
        lambda changed: report("settings", changed=changed),
    )  # fmt: skip
    stop = asyncio.Event()
    aio.add_signal_handler(signal.SIGTERM, stop.set)
    listening = socket.socket(fileno=commit_fd)
    workers = await aio.create_unix_server(server.accept, sock=listening)
    await server.start()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    report(
        "ready",
        zxid=opened.writer.applied,
        znodes=opened.writer.totals.nodes + 1,
        replayed=opened.replayed,
        seconds=opened.seconds,
    )
    await stop.wait()
    workers.close()
    server.close()


if __name__ == "__main__":
    main(sys.argv[1:])
