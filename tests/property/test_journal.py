"""storage/journal.py against its contract, for any records, any end and any single damage."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from zkstore.storage.disk import Disk
from zkstore.storage.journal import (
    RECORD_OVERHEAD_BYTES,
    SEGMENT_BYTES_MIN,
    Journal,
    JournalPosition,
    segment_path,
)

SEGMENT: Final = SEGMENT_BYTES_MIN
records = st.lists(st.binary(max_size=200) | st.just(bytes(1500)), min_size=1, max_size=40)
fraction = st.floats(0, 1, exclude_max=True)


def write(directory: Path, payloads: list[bytes]) -> list[JournalPosition]:
    """A journal with these records; their positions, and the end."""
    written = Journal.create(directory, Disk(), segment_bytes=SEGMENT)
    positions = [written.append(payload) for payload in payloads] + [written.end]
    written.close()
    return positions


def read_back(directory: Path, position: JournalPosition) -> tuple[list[bytes], bool]:
    recovered, payloads, damaged = Journal.recover(
        directory, Disk(), position, segment_bytes=SEGMENT
    )
    recovered.close()
    return payloads, damaged


@settings(max_examples=60, deadline=None)
@given(payloads=records, first=fraction)
def test_what_was_appended_is_read_back(payloads: list[bytes], first: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        positions = write(Path(folder), payloads)
        start = int(first * len(positions))
        for _ in range(2):
            assert read_back(Path(folder), positions[start]) == (payloads[start:], False)


@settings(max_examples=150, deadline=None)
@given(payloads=records, damaged=fraction, place=fraction, bit=st.integers(0, 7))
def test_a_flipped_bit_ends_the_reading_there_and_is_damage_unless_it_is_the_last_record(
    payloads: list[bytes], damaged: float, place: float, bit: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        positions = write(Path(folder), payloads)
        index = int(damaged * len(payloads))
        path = segment_path(Path(folder), positions[index].segment)
        content = bytearray(path.read_bytes())
        size = RECORD_OVERHEAD_BYTES + len(payloads[index])
        content[positions[index].offset + int(place * size)] ^= 1 << bit
        path.write_bytes(content)
        last = index == len(payloads) - 1
        assert read_back(Path(folder), positions[0]) == (payloads[:index], not last)


@settings(max_examples=60, deadline=None)
@given(lives=st.lists(st.tuples(records, fraction, st.booleans()), min_size=1, max_size=5))
def test_any_number_of_restarts_checkpoints_and_recycled_segments(
    lives: list[tuple[list[bytes], float, bool]],
) -> None:
    """Model: the list of what was appended since the last checkpoint's position."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        created = Journal.create(directory, Disk(), segment_bytes=SEGMENT)
        position, kept = created.end, list[bytes]()
        created.close()
        for payloads, checkpoint, recycle in lives:
            recovered, found, damaged = Journal.recover(
                directory, Disk(), position, segment_bytes=SEGMENT
            )
            assert (found, damaged) == (kept, False)
            positions = [recovered.append(payload) for payload in payloads]
            kept += payloads
            if recycle:
                start = int(checkpoint * len(payloads))
                position, kept = positions[start], payloads[start:]
                recovered.recycle(position)
            recovered.close()
        assert read_back(directory, position) == (kept, False)
