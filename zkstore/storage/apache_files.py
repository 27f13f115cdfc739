"""Apache's data directory: which files are in it, and their bytes as they were before compression.

Owns:   open files.
Invariants:
  1. Whatever is wrong with a file raises CorruptionError with its name; nothing else.
Design: the ending of a name says how it is compressed, as Apache reads it; a log.* that was packed
  up by hand (log.1.gz) is read as well.
Not here: what the bytes mean (zkstore/apache).
Source: FileTxnSnapLog, SnapStream.
"""

from __future__ import annotations

import gzip
import importlib
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from zkstore.apache import snappy
from zkstore.errors import CorruptionError, ZkstoreError

_NAME: Final = re.compile(r"(snapshot|log)\.([0-9a-f]{1,16})(\.gz|\.snappy)?")
_VERSION: Final = "version-2"


class Found(NamedTuple):
    """A snapshot or a log."""

    zxid: int  # of the name
    path: Path


class ApacheFiles(NamedTuple):
    """All of a data directory, each list rising by zxid."""

    snapshots: list[Found]
    logs: list[Found]


def holds_data(data_dir: Path, log_dir: Path | None = None) -> bool:
    """Whether Apache has stored anything in a directory."""
    found = list_files(data_dir, log_dir)
    return bool(found.snapshots or found.logs)


def version_dir(directory: Path) -> Path:
    """The folder with the files: `version-2`, or the directory itself if it is that already."""
    below = directory / _VERSION
    return below if below.is_dir() else directory


def list_files(data_dir: Path, log_dir: Path | None = None) -> ApacheFiles:
    """What is in a dataDir (and dataLogDir); empty lists if there is nothing."""
    found: dict[str, list[Found]] = {"snapshot": [], "log": []}
    for folder in dict.fromkeys((version_dir(data_dir), version_dir(log_dir or data_dir))):
        if not folder.is_dir():
            continue
        for path in folder.iterdir():
            match = _NAME.fullmatch(path.name)
            if match is not None and path.is_file():
                found[match[1]].append(Found(int(match[2], 16), path))
    return ApacheFiles(sorted(found["snapshot"]), sorted(found["log"]))


def zxid_of_name(path: Path) -> int | None:
    """The zxid in the name of a snapshot or log; None if it has none."""
    match = _NAME.fullmatch(path.name)
    return int(match[2], 16) if match is not None else None


def _snappy() -> Any:
    try:
        return importlib.import_module("cramjam").snappy
    except ModuleNotFoundError as e:
        raise ZkstoreError(
            "snappy files need the package cramjam: pip install 'zkstore[tools]'"
        ) from e


def _guarded(read: Callable[[int], bytes], name: str) -> Callable[[int], bytes]:
    """Errors of decompression and of the disk, with the file's name."""

    def guarded(size: int) -> bytes:
        try:
            return read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as e:
            raise CorruptionError(f"{name}: the compressed data is damaged: {e}") from e
        except OSError as e:
            raise CorruptionError(f"{name}: cannot be read: {e.strerror}") from e

    return guarded


@contextmanager
def open_read(path: Path) -> Iterator[Callable[[int], bytes]]:
    """A `read(size)` of the file's content. Raises: CorruptionError if there is no such file."""
    name = str(path)
    try:
        file: IO[bytes] = path.open("rb")
    except OSError as e:
        raise CorruptionError(f"{name}: cannot be read: {e.strerror}") from e
    with file:
        if path.suffix == ".gz":
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield _guarded(unpacked.read, name)
        elif path.suffix == ".snappy":
            module = _snappy()

            def decompress(block: bytes) -> bytes:
                try:
                    return bytes(module.decompress_raw(block))
                except module_error() as e:
                    raise ValueError(f"a snappy block is damaged: {e}") from e

            yield snappy.Reader(_guarded(file.read, name), decompress, name).read
        else:
            yield _guarded(file.read, name)


def module_error() -> type[Exception]:
    """cramjam's error."""
    error: type[Exception] = importlib.import_module("cramjam").DecompressionError
    return error


@contextmanager
def open_write(path: Path, compression: str) -> Iterator[Callable[[bytes], object]]:
    """A `write(bytes)` into a file that is on the disk at the end; `compression`: "", gz, snappy.

    The caller chose a name that ends in the compression.
    """
    with path.open("xb") as file:
        if compression == "gz":
            with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6, filename="") as packed:
                yield packed.write
        elif compression == "snappy":
            module = _snappy()
            yield snappy.Writer(file.write, lambda block: bytes(module.compress_raw(block))).write
        else:
            yield file.write
        file.flush()
