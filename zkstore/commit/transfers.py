"""Snapshots on their way: to learners that lack too much, and from the leader if that is us.

Owns:   the helper processes, the links while these have them, what of the log is kept for learners.
Invariants:
  1. A tree takes the old one's place only while the link that it came on lives; what a helper built
     for another is thrown away.
  2. The log is kept from where a tree was sent until its learner is up to date, or gone.
  3. Bounded: a helper that makes no progress for initLimit is ended, and its link with it.
Not here: what the helpers do (storage/snapshot_out.py, snapshot_in.py), which learner needs one
          (zab/sync.py).
Source: LearnerHandler.run, Learner.syncWithLeader.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from zkstore.commit.loop import Loop
from zkstore.errors import StorageFull
from zkstore.quorum.learner_port import LearnerPort
from zkstore.storage import transfer
from zkstore.storage.env import Replica
from zkstore.storage.transfer import Transfer
from zkstore.zab.peer import Peer
from zkstore.zab.ready import Snapshot

_log = logging.getLogger("zkstore.quorum")


class _Helper:
    """One running helper and when it last made progress."""

    def __init__(self) -> None:
        self.process: Transfer | None = None
        self.moved = time.monotonic()

    def progress(self) -> None:
        self.moved = time.monotonic()


class Transfers:
    """All snapshots of one member that are under way."""

    def __init__(
        self,
        loop: Loop,
        replica: Replica,
        peer: Peer,
        links: LearnerPort,
        aio: asyncio.AbstractEventLoop,
    ) -> None:
        self._loop = loop
        self._replica = replica
        self._peer = peer
        self._links = links
        self._aio = aio
        settings = loop.settings
        self._patience_s = settings.tick_time_ms * settings.init_limit_ticks / 1000
        self._sending: dict[int, _Helper] = {}
        self._keeping: dict[int, Callable[[], None]] = {}  # link → lets the log be trimmed again
        self._receiving: tuple[int, _Helper] | None = None
        self._next: Snapshot | None = None  # waits until the helper of a link that is gone ends

    # ---- links

    def up_to_date(self, link: int) -> None:
        """A learner needs no more of the log than others."""
        release = self._keeping.pop(link, None)
        if release is not None:
            release()

    def closed(self, link: int) -> None:
        """A link is gone."""
        self.up_to_date(link)
        helper = self._sending.get(link)
        if self._receiving is not None and self._receiving[0] == link:
            helper = self._receiving[1]
        if helper is not None and helper.process is not None:
            helper.process.kill()
        if self._next is not None and self._next.link == link:
            self._next = None

    def close(self) -> None:
        """The end of this member."""
        for link in [*self._sending, *([self._receiving[0]] if self._receiving else [])]:
            self.closed(link)

    def watch(self) -> None:
        """End what makes no progress. Call it every second or so."""
        late = time.monotonic() - self._patience_s
        some = list(self._sending.items()) + ([self._receiving] if self._receiving else [])
        for link, helper in some:
            if helper.moved < late:
                _log.warning("%s: the snapshot makes no progress; closed", self._name(link))
                self._links.hang_up(link)

    def _name(self, link: int) -> str:
        return self._links.peer_of(link) or f"link {link}"

    def _start(
        self, helper: _Helper, module: str, job: dict[str, Any], fd: int, ended: transfer.OnEnd
    ) -> None:
        try:
            helper.process = Transfer(self._aio, module, job, fd, ended, helper.progress)
        except OSError as e:
            ended({}, f"no room for a process: {e.strerror}")

    # ---- to a learner

    def send(self, link: int) -> None:
        """Send the tree, once what was said before has left."""
        self._links.when_drained(link, lambda: self._send(link))

    def _send(self, link: int) -> None:
        lent = self._links.lend(link)
        if lent is None:
            return
        helper = self._sending[link] = _Helper()
        self._keeping[link] = self._loop.writer.keep_log(self._loop.writer.applied)
        job = {"data_dir": self._loop.settings.data_dir}

        def ended(done: dict[str, Any], failed: str) -> None:
            del self._sending[link]
            self._sent(link, done, failed)

        _log.info("%s: it lacks too much, and gets the whole tree", self._name(link))
        self._start(helper, transfer.SEND, job, lent[0], ended)

    def _sent(self, link: int, done: dict[str, Any], failed: str) -> None:
        if failed:
            _log.warning("%s: the snapshot was not sent: %s", self._name(link), failed)
            self._links.hang_up(link)
            return
        _log.info("%s: has %d znodes at %#x", self._name(link), done["nodes"], done["zxid"])
        self._links.take_back(link)
        self._peer.snapshot_sent(link, done["zxid"])
        self._loop.schedule()

    # ---- from the leader

    def receive(self, snapshot: Snapshot) -> None:
        """Take in the leader's tree; it comes to `snapshot_received` if all goes well."""
        if self._receiving is not None:
            self._next = snapshot
            return
        lent = self._links.lend(snapshot.link)
        if lent is None:
            return
        fd, rest = lent
        helper = _Helper()
        self._receiving = snapshot.link, helper
        settings = self._loop.settings
        generation = self._replica.generation + 1
        job = {
            "data_dir": settings.data_dir,
            "rest": rest.hex(),
            "generation": generation,
            "zxid": snapshot.zxid,
            "map_size_bytes": settings.map_size_bytes,
        }

        def ended(done: dict[str, Any], failed: str) -> None:
            self._receiving = None
            self._received(snapshot, generation, done, failed)
            following, self._next = self._next, None
            if following is not None:
                self.receive(following)

        _log.info("%s sends the whole tree, of %#x", self._name(snapshot.link), snapshot.zxid)
        self._start(helper, transfer.RECEIVE, job, fd, ended)

    def _received(
        self, snapshot: Snapshot, generation: int, done: dict[str, Any], failed: str
    ) -> None:
        link, zxid, whole = snapshot
        if not failed and self._peer.leader_link == link:
            try:
                self._loop.writer.switch(generation, zxid=zxid, whole=whole)
            except StorageFull as e:
                failed = str(e)
        if failed:
            _log.warning("%s: the snapshot was not taken in: %s", self._name(link), failed)
            # If it is our own fault it will be again: the leader does not pay for it all the time.
            pause_s = 0 if self._links.is_ended(link) else self._patience_s / 2
            self._aio.call_later(pause_s, self._links.hang_up, link)
            return
        if self._peer.leader_link != link:
            return
        for warning in done["warnings"]:
            _log.warning("%s", warning)
        _log.info("took in %d znodes at %#x", done["nodes"], zxid)
        self._loop.moved()
        self._peer.snapshot_received(link)
        self._links.take_back(link, bytes.fromhex(done["rest"]))
        self._loop.schedule()
