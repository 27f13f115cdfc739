"""A replica as the commit process opens it, never served: what the micro-benchmarks call into.

Owns:   the replica's files and its open environment, until the block ends.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zkstore.commit.process import Opened, open_writer
from zkstore.proto import opcodes as op
from zkstore.records import txn as txns
from zkstore.records.txn import Txn
from zkstore.settings import Settings
from zkstore.storage.disk import Disk
from zkstore.storage.view import View
from zkstore.tree import acl as acls
from zkstore.tree.auth import Providers
from zkstore.tree.prep import Prep
from zkstore.zab.ready import Proposal, Ready

PATH = b"/bench/p07/k0000042"
DATA = b"x" * 100
BATCH_MAX = 64


@dataclass
class Replica:
    """An opened replica with the nodes that all is done to: PATH and BATCH_MAX beside it."""

    settings: Settings
    opened: Opened
    view: View
    prep: Prep
    zxids: Iterator[int]

    def proposals(self, count: int) -> list[Proposal]:
        """setData of as many nodes, at the next zxids."""
        made = [
            Txn(next(self.zxids), 1, 1, 1, op.SET_DATA, (PATH + b"%d" % n, DATA, n))
            for n in range(count)
        ]
        return [Proposal(one.zxid, txns.encode(one)) for one in made]


@contextmanager
def open_replica(folder: Path) -> Iterator[Replica]:
    settings = Settings(data_dir=str(folder), disk_reserve_bytes=1 << 20)
    opened = open_writer(settings, Disk())
    zxids = itertools.count(1)
    paths = [b"/bench", b"/bench/p07", PATH, *(PATH + b"%d" % n for n in range(BATCH_MAX))]
    made = [
        Txn(next(zxids), 1, 1, 1, op.CREATE, (path, DATA, acls.OPEN_ENCODED, False, -1))
        for path in paths
    ]
    proposals = [Proposal(one.zxid, txns.encode(one)) for one in made]
    opened.writer.perform(Ready(append=proposals))
    opened.writer.perform(Ready(committed=proposals))
    with opened.writer.views.open() as view:
        prep = Prep(
            view, Providers.of(settings), ttl_enabled=True, close_session_paths=True,
            now_ms=lambda: 1,
        )  # fmt: skip
        yield Replica(settings, opened, view, prep, zxids)
    opened.writer.close()
    opened.reserve.close()
