"""LMDB's own n-th write or flush fails, once and for good, whole and half written (lmdb_shim.c)."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SOURCE = Path(__file__).with_name("lmdb_shim.c")


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    return library


@pytest.mark.timeout(300)  # hundreds of flushes of a disk
@pytest.mark.parametrize("half", [False, True], ids=["nothing", "half"])
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for-good"])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_nothing_is_lost_whichever_of_lmdbs_writes_fails(
    tmp_path: Path, shim: Path, error: int, for_good: bool, half: bool
) -> None:
    arguments = [str(tmp_path), str(error), str(int(for_good)), str(int(half))]
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.lmdb_faults", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "LD_PRELOAD": str(shim)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    episodes, refused, stopped = (int(word) for word in done.stdout.split() if word.isdecimal())
    assert episodes > 30
    assert refused + stopped > 0
