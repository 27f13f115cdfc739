"""Servers that break a promise on purpose, so that each check is seen to fail.

Invariants:
  1. Only what is named is broken; the server is the real, embedded one otherwise.
Not here: servers broken in a way that only one test needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import zkstore
from zkstore.frontend.worker import Worker
from zkstore.storage.view import View


@contextmanager
def late_views(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """Every read sees the tree as it stood when the read before it began."""
    previous: list[View] = []

    def late(self: Worker) -> View:
        previous.append(self._views.open())
        return previous.pop(0) if len(previous) > 1 else self._views.open()

    with zkstore.Server() as server:
        monkeypatch.setattr(Worker, "view", late)
        yield "127.0.0.1", server.port
        monkeypatch.undo()
        previous.clear()
