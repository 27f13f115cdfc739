"""What changes a log: cutting off a damaged tail, dropping the oldest part.

Invariants:
  1. A copy of what is cut is kept, and every txn that goes with it is named.
  2. A live server is refused: the directory's lock is held exclusively.
Not here: looking (logs.py).
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from pathlib import Path
from typing import Any, Final

from zkstore.apache import log as apache_log
from zkstore.commit.process import Opened, open_writer
from zkstore.errors import CorruptionError, ZkstoreError
from zkstore.settings import Settings
from zkstore.storage import apache_files
from zkstore.storage.disk import Disk
from zkstore.storage.env import storage_dir
from zkstore.storage.offline import Offline
from zkstore.storage.rescue import behind_damage, drop_log_front

from .common import DAMAGED, FINE, Out, size_of, write_json
from .entries import apache_logs, is_zkstore

_ENTRY_FIXED: Final = 13  # checksum, length and end mark of a record


def recover(arguments: argparse.Namespace, out: Out) -> int:
    """Cut a damaged tail off a log."""
    if is_zkstore(arguments.source):
        report = _recover_journal(arguments)
    else:
        logs = apache_logs(arguments.source)
        report = _recover_apache(logs[-1].path, arguments.yes)
    if arguments.json:
        write_json(out, report)
        return DAMAGED if report["damage"] else FINE
    if not report["damage"]:
        out.write("no damage\n")
        return FINE
    out.write(f"damaged   {report['damage']}\n")
    for zxid in report["dropped"]:
        out.write(f"dropped   zxid {zxid}\n")
    if report["kept"]:
        out.write(f"kept      {report['kept']}\n")
    else:
        out.write("nothing was written; --yes cuts it off\n")
    return DAMAGED


def _recover_apache(path: Path, write: bool) -> dict[str, Any]:
    """The last of Apache's logs, cut behind its last good record."""
    if path.suffix == ".gz":
        raise ZkstoreError(f"{path}: unpack it first")
    content = path.read_bytes()
    end, damage = _good_end(path)
    if not damage:
        return {"damage": "", "dropped": [], "kept": ""}
    report = {
        "damage": damage,
        "dropped": [f"{zxid:#x}" for zxid in _whole_behind(content, end)],
        "kept": "",
    }
    if write:
        copy = path.with_name(f"{path.name}.damaged")
        if copy.exists():
            raise ZkstoreError(f"{copy} exists already")
        shutil.copyfile(path, copy)
        with path.open("r+b") as file:
            file.truncate(end)
            os.fsync(file.fileno())
        report["kept"] = str(copy)
    return report


def _good_end(path: Path) -> tuple[int, str]:
    """(where the last good record ends, what is wrong behind it; empty: nothing)."""
    with apache_files.open_read(path) as read:
        reader = apache_log.Reader(read, str(path))
        try:
            for _ in reader.records():
                pass
        except CorruptionError as e:
            return reader.end, str(e)
        if reader.torn:
            return reader.end, f"{path}: offset {reader.end}: {reader.torn}"
    return reader.end, ""


def _whole_behind(content: bytes, at: int) -> list[int]:
    """The zxids of records behind `at` whose header can still be read."""
    found = []
    while 0 <= at < len(content) - 12:
        size = int.from_bytes(content[at + 8 : at + 12], "big", signed=True)
        if size >= 32 and at + size + _ENTRY_FIXED <= len(content):
            found.append(int.from_bytes(content[at + 24 : at + 32], "big"))
            if content[at + 12 + size] == 0x42:
                at += size + _ENTRY_FIXED
                continue
        following = content.find(b"\x42\0\0\0\0", at + 1)
        at = following + 1 if following >= 0 else -1
        while at >= 0 and not any(content[at : at + 12]):
            at = -1
    return found


def _recover_journal(arguments: argparse.Namespace) -> dict[str, Any]:
    """zkstore's journal: acknowledged records are lost, what follows them cannot be applied."""
    log_dir = arguments.data_log_dir or arguments.source
    with Offline(arguments.source, arguments.data_log_dir) as offline:
        damage = offline.journal_damage
        dropped = [
            f"{zxid:#x}"
            for zxid in behind_damage(storage_dir(log_dir), offline.still.checkpoint.position)
            if zxid > offline.applied
        ]
    report = {"damage": damage, "dropped": dropped, "kept": ""}
    if not damage or not arguments.yes:
        return report
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    kept = storage_dir(log_dir) / f"journal-damaged-{stamp}"
    kept.mkdir()
    for path in storage_dir(log_dir).glob("journal.[0-9]*"):
        shutil.copyfile(path, kept / path.name)
    opened = _open(arguments, accept_damage=True)
    opened.replica.accept_damage()
    _close(opened)
    report["kept"] = str(kept)
    return report


def _open(arguments: argparse.Namespace, **settings: Any) -> Opened:
    return open_writer(
        Settings(
            data_dir=str(arguments.source),
            data_log_dir=str(arguments.data_log_dir or ""),
            **settings,
        ),
        Disk(),
    )


def _close(opened: Opened) -> None:
    opened.writer.close()
    opened.reserve.close()


def add_purge_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keep",
        type=int,
        metavar="N",
        help="keep the newest N txns"
        " (of Apache's: the newest N snapshots, at least 3, and their logs)",
    )
    parser.add_argument("--keep-bytes", type=size_of, metavar="SIZE", help="keep so much of it")
    parser.add_argument("--keep-days", type=float, metavar="D", help="keep what is younger")


def purge(arguments: argparse.Namespace, out: Out) -> int:
    """Drop the oldest part of a log."""
    if is_zkstore(arguments.source):
        given = (arguments.keep, arguments.keep_bytes, arguments.keep_days)
        if all(one is None for one in given):
            raise ZkstoreError("what is to be kept? --keep N, --keep-bytes SIZE or --keep-days D")
        opened = _open(arguments)
        try:
            report: dict[str, Any] = drop_log_front(
                opened.replica.env,
                keep_txns=arguments.keep,
                keep_bytes=arguments.keep_bytes,
                keep_ms=None if arguments.keep_days is None else int(arguments.keep_days * 86400e3),
                now_ms=time.time_ns() // 1_000_000,
            )
        finally:
            _close(opened)
        words = f"{report['txns']} txns dropped, the log begins behind zxid {report['begins']:#x}\n"
    else:
        report = _purge_apache(arguments)
        removed = "".join(f"removed   {name}\n" for name in report["removed"])
        words = removed or "nothing to remove\n"
    if arguments.json:
        write_json(out, report)
    else:
        out.write(words)
    return FINE


def _purge_apache(arguments: argparse.Namespace) -> dict[str, Any]:
    """As PurgeTxnLog: the newest snapshots, and every log that the oldest of them needs."""
    if arguments.keep is None or arguments.keep < 3:
        raise ZkstoreError("of Apache's snapshots at least 3 are kept: --keep 3")
    files = apache_files.list_files(arguments.source, arguments.data_log_dir)
    kept = files.snapshots[-arguments.keep :]
    if not kept:
        return {"removed": []}
    oldest = kept[0].zxid
    needed = max((found.zxid for found in files.logs if found.zxid <= oldest), default=0)
    removed = [found.path for found in files.snapshots[: -arguments.keep]]
    removed += [found.path for found in files.logs if found.zxid < needed]
    for path in removed:
        path.unlink()
    return {"removed": [str(path) for path in removed]}
