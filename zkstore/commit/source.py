"""The applied tree as prep sees it, and the time.

Owns:   the view of the message that is being handled; none is open between messages.
Not here: the changes in flight (tree/prep.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from zkstore.storage.view import View
from zkstore.storage.writer import Writer, wall_ms
from zkstore.tree.acl import Acl


class TreeSource:
    """The applied tree, for prep: the view of the message that is being handled."""

    acl: Callable[[int], Acl]
    ephemerals: Callable[[int], list[bytes]]
    descendants: Callable[[bytes], Iterator[tuple[bytes, bytes]]]
    children: Callable[[bytes], list[bytes]]

    def __init__(self, writer: Writer) -> None:
        self._views = writer.views
        self.node = writer.views.looked.node  # apply will ask for the same nodes
        self.pending = writer.pending
        self._view: View | None = None
        self._now_ms = 0

    def now_ms(self) -> int:
        """The wall clock, read once for all txns of a message."""
        return self._now_ms

    def __enter__(self) -> None:
        assert self._view is None
        self._view = view = self._views.open()
        view.lend()
        self.acl, self.ephemerals = view.acl, view.ephemerals
        self.descendants = view.descendants
        self.children = view.children
        self._now_ms = wall_ms()

    def __exit__(self, *_: object) -> None:
        assert self._view is not None
        self._view.close()
        self._view = None
