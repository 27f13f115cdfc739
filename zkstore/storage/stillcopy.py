"""A stopped replica's data copied to a new directory, its journal's tail applied.

Owns:   the new directory while it is made.
Not here: copying a live one (hotcopy.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from zkstore.records import txn as txns
from zkstore.storage import fuzzy, scan, schema, txnlog
from zkstore.storage.batches import StoredTree, write_batch
from zkstore.storage.disk import Disk
from zkstore.storage.env import FIRST_GENERATION, storage_dir
from zkstore.storage.generation import Generation, building
from zkstore.storage.hotcopy import copy_still
from zkstore.storage.offline import Offline
from zkstore.tree.apply import Effects

_BATCH_TXNS: Final = 1000


def copy_stopped(tree: Offline, target: Path, progress: Callable[[str, int], None]) -> int:
    """Make the data directory `target` of a stopped one; returns the zxid it stands at."""
    disk = Disk()
    directory = storage_dir(target)
    disk.mkdir(directory)
    with building(directory, FIRST_GENERATION) as generation:
        copy_still(tree.still, generation, progress)
        for start in range(0, len(tree.tail), _BATCH_TXNS):
            _apply(generation, [one for one, _ in tree.tail[start : start + _BATCH_TXNS]])
        generation.install(
            applied=tree.applied, epochs=tree.epochs, disk=disk, log_directory=directory
        )
    return tree.applied


def _apply(generation: Generation, encoded: list[bytes]) -> None:
    """Apply txns as one batch."""
    entries: list[bytes | Effects] = []
    with generation.write() as write_txn:
        key, value = scan.last(write_txn)
        label = txnlog.label_of(schema.zxid_of(key), value)
        batch = fuzzy.batch_of(write_txn)(StoredTree(write_txn), label.totals)
        for one in encoded:
            _, effects = batch.apply(txns.decode(one))
            entries += (one, effects)
        write_batch(write_txn, batch)
        value = txnlog.encode(
            label.applied, label.totals, label.log_bytes, entries, batch.last_uses
        )
        write_txn.put(schema.log_key(txns.zxid_of(encoded[-1])), value, append=True)
