"""Looking for damage: every node, every batch of the log, compared with its checksum.

Owns:   nothing; reads one view in the writing process before it serves, or a copy.
Invariants:
  1. Damage is named: the path of a node, the zxid of a batch, the aggregate that is wrong.
Design: a node's crc is of path and data, its digest of the Stat as well; a batch of the log has a
        crc of its own.
Not here: the journal's damage (storage/journal.py finds it when it is read).
"""

from __future__ import annotations

from collections.abc import Iterator

from zkstore.errors import CorruptionError
from zkstore.storage.view import View
from zkstore.tree import node as nodes
from zkstore.tree.paths import ROOT


def scrub(view: View) -> Iterator[str]:
    """Every damage there is, a line each."""
    digest = count = 0
    for path, value in _all_nodes(view):
        count += 1
        digest += nodes.digest_of(value)
        try:
            data = view.data(value)
            view.acl(nodes.unpack(value)[nodes.ACL_ID])
        except CorruptionError as e:
            yield f"node {path.decode(errors='replace')}: {e}"
            continue
        if not nodes.intact(value, path, data):
            yield f"node {path.decode(errors='replace')}: wrong crc32"
    totals = view.label().totals
    if count != totals.nodes or digest & _U64 != totals.digest & _U64:
        yield (
            f"tree: {count} nodes of digest {digest & _U64:#x}, the log says {totals.nodes}"
            f" of {totals.digest & _U64:#x}"
        )
    yield from view.damaged_batches()


_U64 = (1 << 64) - 1


def _all_nodes(view: View) -> Iterator[tuple[bytes, bytes]]:
    root = view.node(ROOT)
    assert root is not None, "there is no root"
    yield ROOT, root
    yield from view.descendants(ROOT)
