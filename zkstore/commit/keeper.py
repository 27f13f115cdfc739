"""What must happen from time to time: heartbeats, expiry, checkpoints, the sweep, the look at the
disk.

Owns:   the timers of the commit process.
Invariants:
  1. Everything durable goes through the loop's one way (Loop.propose), the sweep too.
Design: one beat does it all, so that a stall of the disk stalls everything alike: nobody expires
        meanwhile.
Source: ExpiryQueue, ContainerManager (reference E16–E19).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from zkstore.commit.loop import Loop
from zkstore.constants import BATCH_REQUESTS_MAX, HEARTBEAT_INTERVAL_MS, SILENT_BEATS_MAX
from zkstore.errors import StorageFull
from zkstore.observability.log import Limited
from zkstore.storage.env import Replica, Reserve
from zkstore.storage.writer import wall_ms
from zkstore.tree import node as nodes

_log = logging.getLogger("zkstore.keeper")
_SLOW_CHECK_S: Final = 1.0
_SWEEP_PAGE: Final = 4000  # containers and TTL nodes looked at in one beat: some 20 ms
_STALE_VIEW_CHECKS: Final = 3  # seconds that a view may live
_LATE_BEATS_MAX: Final = 4  # in a row at which nobody expires: a disk may be slow for ever


class Keeper:
    """The commit process's timers."""

    def __init__(
        self,
        loop: Loop,
        replica: Replica,
        reserve: Reserve,
        aio: asyncio.AbstractEventLoop,
        on_stale_reader: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._loop = loop
        self._replica = replica
        self._reserve = reserve
        self._aio = aio
        self._on_stale_reader = on_stale_reader
        self._expiry_due = self._slow_due = self._checkpoint_due = time.monotonic()
        self._sweep_due = self._beat_due = self._checkpoint_due
        self._late_beats = 0  # in a row
        self._sweep_since: bytes | None = None  # where the sweep under way goes on
        self._sweep_allowance = 0.0
        self._held: dict[tuple[int, int], int] = {}  # (pid, LMDB's transaction id) → checks seen
        self._newest_id = 0  # LMDB's, at the last check
        self._put_off = Limited(_log, logging.WARNING)
        self._stopped = False
        replica.checkpointer.on_done = self._checkpoint_done
        loop.on_growth = self._look_at_disk
        self._look_at_disk()

    def start(self) -> None:
        self._beat()

    def stop(self) -> None:
        self._stopped = True

    def _beat(self) -> None:
        if self._stopped:
            return
        self._aio.call_later(HEARTBEAT_INTERVAL_MS / 1000, self._beat)
        loop, writer, settings = self._loop, self._loop.writer, self._loop.settings
        loop.ports.beat(writer.applied)
        if writer.stalled:
            loop.retry()
        now = time.monotonic()
        late, self._beat_due = now > self._beat_due, now + 2 * HEARTBEAT_INTERVAL_MS / 1000
        self._late_beats = self._late_beats + 1 if late else 0
        # After a stall, what clients sent meanwhile is read first: they are not charged for it.
        if now >= self._expiry_due and (not late or self._late_beats > _LATE_BEATS_MAX):
            self._late_beats = 0
            self._expiry_due = now + min(settings.tick_time_ms, 1000) / 2000
            loop.sessions.expire()
        if now >= self._slow_due:
            self._slow_due = now + _SLOW_CHECK_S
            writer.review(wall_ms())
            self._look_at_disk()
            self._look_at_readers()
        if now >= self._checkpoint_due and not writer.checkpointing:
            self._checkpoint_due = now + settings.checkpoint_interval_ms / 1000
            if writer.changed_bytes:
                writer.begin_checkpoint()
        self._sweep_some(now)

    def _checkpoint_done(self) -> None:
        """Called in the checkpointer's thread."""
        self._aio.call_soon_threadsafe(self._finish_checkpoint)

    def _finish_checkpoint(self) -> None:
        try:
            self._loop.writer.finish_checkpoint()
        except StorageFull as e:
            self._put_off("checkpoint put off: %s", e)

    # ---- the disk

    def _look_at_disk(self) -> None:
        """Refuse writes that grow while the reserve cannot be had; say so once each way."""
        self._loop.writer.unlooked_bytes = 0
        full = not self._reserve.ensure(self._replica.end_bytes()) or self._loop.writer.stalled
        if full != self._loop.full:
            if full:
                _log.error(
                    "disk nearly full: no %d bytes in reserve; writes that grow are refused",
                    self._loop.settings.disk_reserve_bytes,
                )
            else:
                _log.warning("disk has room again: writes are accepted")
        self._loop.full = full

    # ---- readers

    def _look_at_readers(self) -> None:
        """A view that is kept while commits go on pins every page freed since: report whose it is.

        A worker that is busy reading opens ever new views; while nothing is committed they all bear
        the newest id, so only an id that was old at the last check already counts.
        """
        held: dict[tuple[int, int], int] = {}
        for pid, lmdb_id in self._replica.open_views():
            if lmdb_id < self._newest_id:
                held[pid, lmdb_id] = self._held.get((pid, lmdb_id), 0) + 1
                if held[pid, lmdb_id] == _STALE_VIEW_CHECKS:
                    self._on_stale_reader(pid)
        self._held = held
        for port in self._loop.ports.ports:
            # It counts our own beats, not the clock: a machine that slept accuses nobody. A stopped
            # worker would hold its sessions for ever: they can neither move away nor expire.
            if port.silent_beats > SILENT_BEATS_MAX and port.pid:
                port.silent_beats = 0
                self._on_stale_reader(port.pid)
        self._newest_id = self._replica.newest_id()

    # ---- containers and TTL nodes

    def _sweep_some(self, now: float) -> None:
        """Delete due containers and TTL nodes, not faster than the configured pace."""
        settings, writer = self._loop.settings, self._loop.writer
        if self._sweep_since is None and now >= self._sweep_due:
            self._sweep_due = now + settings.container_check_interval_ms / 1000
            self._sweep_since = b""
            self._sweep_allowance = 1.0
        if self._sweep_since is None or writer.stalled:
            return
        if not self._loop.leading:
            self._sweep_since = None
            return
        pace = settings.container_per_minute_max / 60_000 * HEARTBEAT_INTERVAL_MS
        self._sweep_allowance = min(self._sweep_allowance + pace, BATCH_REQUESTS_MAX)
        with writer.views.open() as view:
            page = view.sweep_candidates(self._sweep_since, _SWEEP_PAGE)
        self._sweep_since = page[-1][0] + b"\0" if len(page) == _SWEEP_PAGE else None
        now_ms = wall_ms()
        with self._loop.source:
            for key, path in page:
                if self._is_due(self._loop.source.node(path), now_ms):
                    if self._sweep_allowance < 1:
                        self._sweep_since = key
                        return
                    self._sweep_allowance -= 1
                    zxid = self._loop.next_zxid()
                    self._loop.propose(self._loop.prep.delete_container(zxid, path))

    def _is_due(self, value: bytes | None, now_ms: int) -> bool:
        """Reference E17, E18."""
        if value is None:
            return False
        f = nodes.unpack(value)
        if f[nodes.CHILDREN]:
            return False
        age_ms = now_ms - f[nodes.MTIME_MS]
        if nodes.is_ttl(f[nodes.OWNER]):
            return bool(age_ms > nodes.ttl_ms_of(f[nodes.OWNER]))
        never_used_ms = self._loop.settings.container_never_used_ms_max
        return bool(f[nodes.CVERSION] > 0 or 0 < never_used_ms < age_ms)
