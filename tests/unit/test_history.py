"""storage/history.py: what the ZAB core asks of the applied log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.property.stored import create, open_writer, perform
from zkstore.storage.history import StoredHistory
from zkstore.storage.writer import Writer

E2 = 2 << 32
# Batches; an epoch changes in the middle of one, and one has none of the zxids before it.
BATCHES = ((1, 2, 3), (4,), (5, 6, E2 | 1, E2 | 2), (E2 | 3,))
ALL = [zxid for batch in BATCHES for zxid in batch]


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    writer = open_writer(tmp_path, retention_bytes=1)
    for batch in BATCHES:
        perform(writer, *(create(zxid, b"/n%x" % zxid, b"d" * 100) for zxid in batch))
    yield writer
    writer.close()


def test_what_is_there(writer: Writer) -> None:
    history = StoredHistory(writer)
    assert (history.first, history.last) == (1, E2 | 3)
    for zxid in (*ALL, 0, 7, 1 << 32, E2, E2 | 4, 3 << 32):
        assert history.holds(zxid) == (zxid in ALL)
        assert history.last_before(zxid) == max((z for z in ALL if z < zxid), default=0)


def test_reading_on(writer: Writer) -> None:
    history = StoredHistory(writer)
    for after in (0, *ALL, 7, E2):
        wanted = [zxid for zxid in ALL if zxid > after]
        assert [zxid for zxid, _ in history.read(after, 1 << 30)] == wanted
        piece = [zxid for zxid, _ in history.read(after, 1)]
        assert piece == wanted[: len(piece)] and bool(piece) == bool(wanted)
        assert len(piece) <= 4


def test_sizes_fall_to_nothing(writer: Writer) -> None:
    history = StoredHistory(writer)
    sizes = [history.bytes_after(zxid) for zxid in ALL]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 500 and sizes[-1] == history.bytes_after(E2 | 9) == 0
    assert history.tree_bytes > 100 * len(ALL)


def test_a_trimmed_log_begins_behind_what_was_dropped(writer: Writer) -> None:
    """And is kept for who still needs it."""
    history = StoredHistory(writer)
    release = writer.keep_log(4)
    for counter in range(4, 12):
        writer.review(now_ms=1_000)
        perform(writer, create(E2 | counter, b"/n%x" % (E2 | counter)))
    assert history.first == 4
    assert [zxid for zxid, _ in history.read(4, 1)] == [5, 6, E2 | 1, E2 | 2]
    assert not history.holds(4) and history.last_before(5) == 0
    release()
    perform(writer, create(E2 | 12, b"/last"))
    assert history.first > 6
