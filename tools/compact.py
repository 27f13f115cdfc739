"""`zkstore compact`: the data file without its free space.

Invariants:
  1. The old file is the server's until the new one is flushed and named by the checkpoint.
Design: a new generation, in the order of the keys: pages are full, and nothing free is among them.
"""

from __future__ import annotations

import argparse

from zkstore.commit.process import open_writer
from zkstore.settings import Settings
from zkstore.storage import checkpoint
from zkstore.storage.disk import Disk
from zkstore.storage.env import data_path, storage_dir
from zkstore.storage.generation import building
from zkstore.storage.hotcopy import copy_still
from zkstore.storage.lock import DirectoryLock
from zkstore.storage.still import Still

from .common import FINE, Out, Progress, add_data_dir, add_json, run, size_text, write_json


def main(argv: list[str] | None = None, out: Out | None = None) -> int:
    """Rewrites the data file of a stopped server without its free space."""
    return run(_parser(), argv, out, _compact)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zkstore compact",
        description="Rewrite the data file of a stopped server without its free space. Needs room"
        " for the new file beside the old one.",
        allow_abbrev=False,
    )
    add_data_dir(parser)
    add_json(parser)
    return parser


def _compact(arguments: argparse.Namespace, out: Out) -> int:
    data_dir, disk = arguments.data_dir, Disk()
    directory = storage_dir(data_dir)
    if not (directory / checkpoint.NAME).exists():
        raise FileNotFoundError(f"{directory} holds no data of zkstore")
    settings = Settings(data_dir=str(data_dir), data_log_dir=str(arguments.data_log_dir or ""))
    # A clean stop first: the journal's tail goes into the file that is rewritten.
    opened = open_writer(settings, disk)
    opened.writer.close()
    opened.reserve.close()
    lock = DirectoryLock(directory)
    try:
        lock.take(exclusive=True)
        with Progress() as progress:
            still = Still(directory, locked=True)
            try:
                before = still.path.stat().st_blocks * 512
                found = still.checkpoint
                with building(directory, found.generation + 1) as generation:
                    copy_still(still, generation, progress)
                    generation.install(
                        applied=found.applied,
                        epochs=(found.accepted_epoch, found.current_epoch),
                        disk=disk,
                        log_directory=storage_dir(arguments.data_log_dir or data_dir),
                    )
            finally:
                still.close()
        for path in (still.path, still.path.with_name(still.path.name + "-lock")):
            path.unlink(missing_ok=True)
        after = data_path(directory, found.generation + 1).stat().st_blocks * 512
    finally:
        lock.release()
    if arguments.json:
        write_json(out, {"bytes_before": before, "bytes_after": after})
    else:
        out.write(
            f"{data_path(directory, found.generation + 1)}: {size_text(after)},"
            f" was {size_text(before)}\n"
        )
    return FINE
