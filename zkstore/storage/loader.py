"""A whole tree, node by node, into a new generation: whatever it was read from.

Owns:   the sorter's temporary file.
Invariants:
  1. What comes is a tree: each node once, none without its parent; anything else is refused.
  2. Bounded: memory holds the counts of COUNTS_MAX parents, whatever the order of the nodes.
Design: records are sorted by key and then appended. A node's record says how many children it has,
        which is known at the end only; so the numbers are records of their own, which stand behind
        the node's in the order of the keys and are entered on the way out.
  Rejected: a stack of the nodes on the way down; it needs depth-first order, which a zkstore leader
        does not send.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from zkstore.apache.replay import UNKNOWN_ACL
from zkstore.apache.snapshot import Raw, Znode
from zkstore.constants import INLINE_DATA_BYTES_MAX
from zkstore.errors import CorruptionError
from zkstore.storage import fuzzy, schema, txnlog
from zkstore.storage.generation import Generation
from zkstore.storage.sorter import Item, Sorter
from zkstore.tree import acl as acls
from zkstore.tree import node as nodes
from zkstore.tree import paths
from zkstore.tree.apply import Totals

COUNTS_MAX: Final = 50_000
_BLOCK_NODES: Final = 2000
_SHORT_BYTES: Final = 200  # a path that is no longer has no long name
_NODE: Final = schema.NODE[0]
# Of /zookeeper/config as every server makes it; its ACL's id comes before.
_CONFIG_FIXED: Final = (0, 0, 0, 0, 0, 0, -1, 0, 0)
_OPEN_ID: Final = -1
_NO_OWNER: Final = bytes(8)
_UNKNOWN: Final = schema.pack_long(UNKNOWN_ACL)
_FORBIDDEN: Final = re.compile(rb"[\0\1]").search  # what keys are made of
_COUNT_BYTES: Final = 4  # no node's value is so short

Damage = Callable[[str], CorruptionError]


class Loader:
    """Gathers a tree's records; `store` writes them. Close it."""

    def __init__(self, directory: Path, progress: Callable[[str, int], None]) -> None:
        self.totals = Totals()
        self._sorter = Sorter(directory)
        self._progress = progress
        self._known = {schema.pack_long(_OPEN_ID)}
        self._ids: dict[bytes, int] = {}
        self._counts: dict[bytes, int] = {}  # parent → children, since the last `_put_counts`
        self._system: set[bytes] = set()  # of /zookeeper and /zookeeper/config, what has come
        self.unknown_acls: list[bytes] = []  # paths of nodes whose ACL id is of no ACL
        self.foreign_names = False  # there is a path beyond ASCII

    def session(self, session_id: int, timeout_ms: int) -> None:
        timeout = timeout_ms.to_bytes(4, "big", signed=True)
        self._sorter.add(schema.session_key(session_id), timeout)

    def acl(self, acl_id: int, encoded: bytes) -> None:
        """One entry of the ACL table, under the id that nodes have."""
        self._known.add(schema.pack_long(acl_id))
        self.totals.next_acl_id = max(self.totals.next_acl_id, acl_id + 1)
        self._sorter.add(schema.acl_key(acl_id), encoded)
        if self._ids.setdefault(encoded, acl_id) == acl_id:  # else the first one is found
            self._sorter.add(schema.acl_hash_key(encoded), schema.pack_long(acl_id))

    def acl_id(self, encoded: bytes) -> int:
        """The id of an ACL, entered in the table if it is new."""
        if encoded == acls.OPEN_ENCODED:
            return _OPEN_ID
        known = self._ids.get(encoded)
        if known is None:
            known = self.totals.next_acl_id
            self.acl(known, encoded)
        return known

    def nodes(self, found: Iterable[Znode], damage: Damage) -> None:
        """All nodes, in any order; `damage(what)` makes the error that says where it is.

        Raises: CorruptionError if they are not a tree, as far as it can be seen yet.
        """
        self.raw_nodes((one.raw for one in found), damage)

    def raw_nodes(self, found: Iterable[Raw], damage: Damage) -> None:
        """The same, of nodes as they come."""
        rest = iter(found)
        while block := list(islice(rest, _BLOCK_NODES)):
            self._block(block, damage)
            if len(self._counts) > COUNTS_MAX:
                self._put_counts()
            self._progress("znodes read", self.totals.nodes)
        if not self.totals.nodes:
            raise damage("a tree without nodes")
        if self._lacks_config:
            # Of a server before 3.5, which has no such node; a newer one makes it when it starts.
            acl_id = self.acl_id(acls.encode(acls.READ_ALL))
            self._block([(paths.CONFIG, b"", nodes.FIXED.pack(acl_id, *_CONFIG_FIXED))], damage)

    def _block(self, block: list[Raw], damage: Damage) -> None:
        """Some nodes. Hot: straight code for what most nodes are."""
        counts, known = self._counts, self._known
        key_of, value_of, digest_of = schema.node_key, nodes.from_fixed, nodes.digest_of
        items: list[Item] = []
        bytes_added = digest = 0
        for path, data, fixed in block:
            parent = path[: path.rfind(b"/")]
            if path == paths.ROOT:
                pass
            elif path[:1] == b"/" != path[-1:] and not _FORBIDDEN(path):
                counts[parent] = counts.get(parent, 0) + 1
            else:
                raise damage(f"no path: {path.decode(errors='replace')!r}")
            if fixed[:8] not in known:
                self.unknown_acls.append(path)
                fixed = _UNKNOWN + fixed[8:]
            if not path.isascii():
                self.foreign_names = True
            data_id = 0
            long_name = None
            if (
                fixed[52:60] != _NO_OWNER or len(path) > _SHORT_BYTES or parent == paths.ZOOKEEPER
                or path == paths.ZOOKEEPER or (data and len(data) > INLINE_DATA_BYTES_MAX)
            ):  # fmt: skip
                data_id, long_name = self._unusual(path, data, fixed, items)
            value = value_of(path, data, fixed, data_id, long_name)
            items.append((key_of(path), value))
            bytes_added += len(path) + (len(data) if data else 0)
            digest += digest_of(value)
        self._sorter.extend(items)
        totals = self.totals
        totals.nodes += len(block)
        totals.bytes += bytes_added
        totals.digest += digest

    def _unusual(
        self, path: bytes, data: bytes | None, fixed: bytes, items: list[Item]
    ) -> tuple[int, bytes | None]:
        """Adds the records beside the node's own; returns (id of its data, long name)."""
        data_id = 0
        if data is not None and len(data) > INLINE_DATA_BYTES_MAX:
            data_id = self.totals.next_data_id
            self.totals.next_data_id = data_id + 1
            items.append((schema.data_key(data_id), data))
        owner = int.from_bytes(fixed[52:60], "big", signed=True)
        if nodes.is_ephemeral(owner):
            self.totals.ephemerals += 1
            items.append((schema.ephemeral_key(owner, path), path))
        elif owner:
            items.append((schema.sweep_key(path), path))
        if path in (paths.ZOOKEEPER, paths.CONFIG):
            self._system.add(path)
        long_name = path[path.rfind(b"/") + 1 :] if schema.needs_long_name(path) else None
        return data_id, long_name

    @property
    def _lacks_config(self) -> bool:
        return self._system == {paths.ZOOKEEPER}

    def _put_counts(self) -> None:
        for parent, count in self._counts.items():
            key = schema.node_key(parent or paths.ROOT) + b"\0"
            self._sorter.add(key, count.to_bytes(_COUNT_BYTES, "big"))
        self._counts.clear()

    def store(self, generation: Generation, zxid: int, *, pending: bool = False) -> None:
        """Write everything; the tree stands at `zxid`. `pending`: see storage/fuzzy.py.

        Raises: CorruptionError if the nodes are not a tree.
        """
        self._put_counts()
        if pending:
            self._sorter.add(*fuzzy.pending(self.unknown_acls))
        # The log's first record: the tree begins here, nothing before it is known.
        self._sorter.add(schema.log_key(zxid), txnlog.encode(zxid, self.totals, 0, []))
        generation.append(self._told(_with_children(self._sorter.items())))

    def _told(self, items: Iterator[Item]) -> Iterator[Item]:
        count = 0
        while block := list(islice(items, _BLOCK_NODES)):
            yield from block
            count += len(block)
            self._progress("records written", count)

    def close(self) -> None:
        self._sorter.close()


def _with_children(items: Iterator[Item]) -> Iterator[Item]:
    """The records, the counts entered in the nodes that stand before them."""
    last, node, children = b"", b"", 0
    for item in items:
        key, value = item
        if key[0] != _NODE:
            if last:
                yield last, nodes.adopted(node, children) if children else node
                last = b""
            yield item
        elif len(value) == _COUNT_BYTES:
            if key[:-1] != last:
                parent, name = schema.parent_and_name(key[:-1])
                path = (parent + b"/" + name).decode(errors="replace")
                raise CorruptionError(f"node {path} is missing, and there are nodes below it")
            children += int.from_bytes(value, "big")
        else:
            if last:
                yield last, nodes.adopted(node, children) if children else node
            last, node, children = key, value, 0
    if last:
        yield last, nodes.adopted(node, children) if children else node


def planted(acl_id: Callable[[bytes], int]) -> list[Znode]:
    """The nodes that every tree begins with. Their times and zxids are zero."""
    zero = (0,) * 9
    config = acl_id(acls.encode(acls.READ_ALL))
    return [
        Znode(paths.ROOT, b"", _OPEN_ID, *zero),
        Znode(paths.ZOOKEEPER, b"", _OPEN_ID, *zero),
        Znode(paths.QUOTA, b"", _OPEN_ID, *zero),
        Znode(paths.CONFIG, b"", config, *_CONFIG_FIXED),
    ]
