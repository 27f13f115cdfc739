"""What all file tools share: options, exit codes, messages, progress, and the tree they look at.

Invariants:
  1. Exit codes: 0 fine, 1 damage was found, 2 the command cannot be done as it was given.
  2. Results go to `out`, stable and without colour; warnings and progress to standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from zkstore.errors import CorruptionError, DirectoryInUse, StorageFailed, ZkstoreError
from zkstore.storage import checkpoint
from zkstore.storage.disk import Disk
from zkstore.storage.env import FIRST_GENERATION, open_reader, storage_dir
from zkstore.storage.generation import building
from zkstore.storage.hotcopy import HotCopy
from zkstore.storage.offline import Offline

FINE: Final = 0
DAMAGED: Final = 1
WRONG: Final = 2
_PROGRESS_AFTER_S: Final = 1.0
_NICENESS: Final = 19
# Bytes a second that are read of a live server: its journal has the disk to share with the copy.
LIVE_BANDWIDTH: Final = 40_000_000


class Out(Protocol):
    """Where results go."""

    def write(self, text: str, /) -> object: ...


def run(
    parser: argparse.ArgumentParser,
    argv: list[str] | None,
    out: Out | None,
    job: Callable[[argparse.Namespace, Out], int],
) -> int:
    """Parse, do, and turn errors into a line and an exit code."""
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    try:
        code = job(arguments, out or sys.stdout)
        if out is None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever read the output has seen enough; keep Python from trying again at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINE
    except (CorruptionError, StorageFailed) as e:
        complain(parser, f"damaged: {e}" if isinstance(e, CorruptionError) else str(e))
        return DAMAGED
    except (ZkstoreError, FileNotFoundError, PermissionError, NotADirectoryError) as e:
        complain(parser, str(e))
        return WRONG
    except KeyboardInterrupt:
        complain(parser, "interrupted")
        return WRONG


def complain(parser: argparse.ArgumentParser, what: str) -> None:
    sys.stderr.write(f"{parser.prog}: {what}\n")


def warn(what: str) -> None:
    sys.stderr.write(f"warning: {what}\n")


def add_data_dir(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument(
        "--data-dir", metavar="D", type=Path, required=required,
        help="zkstore's data directory: the dataDir of its zoo.cfg",
    )  # fmt: skip
    parser.add_argument(
        "--data-log-dir", metavar="L", type=Path, help="its dataLogDir, if it has one"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def write_json(out: Out, value: object) -> None:
    out.write(json.dumps(value, ensure_ascii=False) + "\n")


class Progress:
    """A count on the terminal, for what takes longer than a second; silent elsewhere."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._shown = sys.stderr.isatty()
        self._bar: Any = None
        self._what = ""

    def __call__(self, what: str, count: int) -> None:
        if not self._shown or time.monotonic() - self._begun < _PROGRESS_AFTER_S:
            return
        if self._bar is None or self._what != what:
            self.close()
            try:
                tqdm = importlib.import_module("tqdm").tqdm
            except ModuleNotFoundError:
                warn("progress is shown if tqdm is there: pip install 'zkstore[tools]'")
                self._shown = False
                return
            self._what = what
            self._bar = tqdm(desc=what, unit="", unit_scale=True, file=sys.stderr, leave=False)
        self._bar.update(count - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def pacer(bytes_per_second: int) -> Callable[[int], None]:
    """A function that waits so that what it was told of stays below a bandwidth; 0: never."""
    begun = time.monotonic()
    total = 0

    def pause(size: int) -> None:
        nonlocal total
        total += size
        ahead = total / bytes_per_second - (time.monotonic() - begun) if bytes_per_second else 0
        if ahead > 0:
            time.sleep(ahead)

    return pause


def hot_copy(
    data_dir: Path,
    target: Path,
    progress: Callable[[str, int], None],
    bytes_per_second: int = LIVE_BANDWIDTH,
) -> int:
    """Copy a live server's data to a new data directory; returns the zxid it stands at."""
    disk = Disk()
    os.nice(_NICENESS)  # the server and its clients come first
    reader = open_reader(data_dir)
    try:
        found = checkpoint.read(storage_dir(data_dir), disk)
        assert found is not None, data_dir
        directory = storage_dir(target)
        disk.mkdir(directory)
        with building(directory, FIRST_GENERATION) as generation:
            copy = HotCopy(reader.env, reader.path, generation, pacer(bytes_per_second), progress)
            applied = copy.run()
            generation.install(
                applied=applied, epochs=(found.accepted_epoch, found.current_epoch), disk=disk,
                log_directory=directory,
            )  # fmt: skip
    finally:
        reader.close()
    return applied


@contextlib.contextmanager
def open_tree(
    data_dir: Path, log_dir: Path | None, progress: Callable[[str, int], None]
) -> Iterator[Offline]:
    """The tree of a data directory at one zxid; of a live server a copy that is made first.

    After an unclean stop the journal's tail is taken into account, in memory.
    """
    try:
        tree = Offline(data_dir, log_dir)
    except DirectoryInUse:
        with tempfile.TemporaryDirectory(prefix="zkstore-copy-", dir=data_dir) as copy:
            hot_copy(data_dir, Path(copy), progress)
            with Offline(Path(copy)) as tree:
                tree.name = str(data_dir)
                yield tree
        return
    with tree:
        if tree.journal_damage:
            warn(f"{tree.journal_damage}: what follows is not in the tree")
        yield tree


def is_or_below(path: bytes, ancestor: bytes) -> bool:
    return ancestor == b"/" or path == ancestor or path.startswith(ancestor + b"/")


def text(path: bytes) -> str:
    """Bytes that should be UTF-8, as text."""
    return path.decode("utf-8", "backslashreplace")


def size_text(size: float) -> str:
    """A size for people: 1.5 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


_UNITS: Final = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}


def size_of(argument: str) -> int:
    """A size that a person wrote: 500, 10k, 1.5G (bytes). Raises: ArgumentTypeError."""
    lowered = argument.lower().removesuffix("b")
    unit = lowered[-1:] if lowered[-1:] in _UNITS else ""
    number = lowered.removesuffix(unit) if unit else lowered
    try:
        return int(float(number) * _UNITS[unit])
    except ValueError:
        raise argparse.ArgumentTypeError(f"{argument!r} is no size, such as 500k or 1G") from None


def zxid_of(argument: str) -> int:
    """A zxid that a person wrote: decimal, or hexadecimal with 0x. Raises: ArgumentTypeError."""
    try:
        return int(argument, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{argument!r} is no zxid, such as 0x1f") from None
