"""The n-th write or flush fails, once and for good, n = 1, 2, 3 … until nothing fails any more.

After each failure the process restarts on the same page cache, then power is lost: what was
acknowledged before either is there. LMDB's own writes: test_lmdb_faults.py.
"""

from __future__ import annotations

import errno
import random
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from tests.crash.faultdisk import FaultDisk
from tests.crash.simdisk import SimDisk
from tests.crash.story import BATCHES, OPERATIONS_MAX, Story
from tests.crash.toy import Broken
from zkstore.errors import StorageFailed, StorageFull
from zkstore.storage import journal


def episode(folder: Path, operation: int, error: int, *, for_good: bool) -> tuple[bool, Story]:
    """One fault, a restart, a power loss, and on; whether anything failed, and the story."""
    root, survivor = folder / "root", folder / "survivor"
    root.mkdir(parents=True)
    disk = FaultDisk(root, operation, error, for_good=for_good)
    story = Story(seed=operation)
    try:
        story.tell(root, disk, BATCHES)
    except (StorageFailed, StorageFull):
        assert disk.failed
    disk.heal()
    story.recover(root, disk)
    disk.lose_power(random.Random(operation), survivor)
    story.tell(survivor, SimDisk(survivor), 2)
    return disk.failed, story


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for-good"])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_nothing_acknowledged_is_lost_whatever_operation_fails(
    tmp_path: Path, error: int, for_good: bool
) -> None:
    for operation in range(1, OPERATIONS_MAX):
        failed, story = episode(tmp_path / str(operation), operation, error, for_good=for_good)
        if not failed:
            break
    else:
        pytest.fail("the story has no end")
    assert operation > 3 * BATCHES
    assert story.acknowledged == BATCHES + 2
    assert story.refused == 0


def test_control_without_rewriting_what_was_recovered_a_failed_flush_loses_it(
    tmp_path: Path,
) -> None:
    """The kernel keeps the pages it could not write, as clean: flushing them again is in vain."""

    def reopen_in_place(
        directory: Path, disk: SimDisk, reading: journal._Reading, segment_bytes: int
    ) -> journal._Segment:
        return real(directory, disk, replace(reading, payloads=[]), segment_bytes)

    real = journal._reopen
    broken = 0
    with mock.patch.object(journal, "_reopen", reopen_in_place):
        for operation in range(1, OPERATIONS_MAX):
            folder = tmp_path / str(operation)
            try:
                failed, _ = episode(folder, operation, errno.EIO, for_good=False)
            except Broken:
                broken += 1
                continue
            if not failed:
                break
    assert broken > 0
