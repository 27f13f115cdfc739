"""Apache's transaction log: the records of one file, read and written.

Owns:   the layout of log.<zxid>; pure. Bytes come from a `read(size)`.
Invariants:
  1. A log ends where its bytes end, at its zero padding, or in a torn record that nothing whole
     follows; anything else raises CorruptionError that names file, offset and the zxid before it.
  2. Streamed: a reader keeps one piece and one record.
Shape:  header: int magic 'ZKLG', int 2, long 0; records {long adler32 of the payload, int length,
        payload, 0x42}; zeros. Payload: a txn (records/txn.py), then {int 2, long tree digest} if
        the server that made it computes digests.
Design: Apache takes any record without its last byte as the end of the file. A length that was
        damaged in the middle of a file looks the same, and all that follows would be forgotten; so
        the rest is searched for a whole record: a record ends in 0x42, and four zeros begin the
        next one's checksum.
Source: FileTxnLog, Util.marshallTxnEntry, SerializeUtils.deserializeTxn.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple
from zlib import adler32

from zkstore.errors import CorruptionError, RemoteProtocolError
from zkstore.proto import opcodes as op
from zkstore.records import txn as txns
from zkstore.records.txn import Txn

Read = Callable[[int], bytes]

HEADER: Final = struct.pack(">4siq", b"ZKLG", 2, 0)
_ENTRY: Final = struct.Struct(">qi")
_TXN_HEADER: Final = struct.Struct(">qiqqi")
_DIGEST: Final = struct.Struct(">iq")
_END: Final = 0x42
_NEXT_RECORD: Final = b"\x42\0\0\0\0"
_PIECE_BYTES: Final = 1 << 18
_RECORD_BYTES_MAX: Final = 1 << 29
_SEARCH_BYTES: Final = 1 << 22
DIGEST_VERSION: Final = 2


class Record(NamedTuple):
    """One record of a file."""

    offset: int  # where it starts
    end: int  # where the next one starts
    payload: bytes

    @property
    def zxid(self) -> int:
        zxid: int = _TXN_HEADER.unpack_from(self.payload)[2]
        return zxid


class Split(NamedTuple):
    """A payload taken apart."""

    encoded: bytes  # the txn's own bytes
    txn: Txn
    digest: int | None  # of the tree after it, unsigned


class Reader:
    """Reads one file; `torn` and `end` say how it ended once `records` is through."""

    def __init__(self, read: Read, name: str) -> None:
        self._read = read
        self.name = name
        self.torn = ""  # why the last record counts for nothing; empty: the file ends cleanly
        self.end = 0  # where the next record would start
        self.last_zxid = 0

    def damage(self, offset: int, what: str) -> CorruptionError:
        behind = f" behind zxid {self.last_zxid:#x}" if self.last_zxid else ""
        return CorruptionError(f"{self.name}: offset {offset}: {what}{behind}")

    def records(self) -> Iterator[Record]:
        """All records, in the order of the file."""
        piece = self._read(_PIECE_BYTES)
        while len(piece) < len(HEADER) and (more := self._read(_PIECE_BYTES)):
            piece += more
        if piece[:8] != HEADER[:8] or len(piece) < len(HEADER):
            raise self.damage(0, f"not a log of ZooKeeper: it begins with {piece[:8]!r}")
        start = 0  # of the piece in the file
        at = len(HEADER)
        while True:
            self.end = start + at
            found = _record_at(piece, at)
            if isinstance(found, bytes):
                end = at + _ENTRY.size + len(found) + 1
                record = Record(start + at, start + end, found)
                if len(found) < _TXN_HEADER.size:
                    raise self.damage(record.offset, f"a txn of {len(found)} bytes")
                yield record
                self.last_zxid = record.zxid
                at = end
                continue
            if found == _SHORT:
                more = self._read(max(_PIECE_BYTES, len(piece) - at))
                if more and len(piece) - at <= _RECORD_BYTES_MAX:
                    piece, start, at = piece[at:] + more, start + at, 0
                    continue
                found = _TORN_BY_END if piece[at:].strip(b"\0") else _PADDING
            self._finish(piece, at, start, found)
            return

    def _finish(self, piece: bytes, at: int, start: int, why: str) -> None:
        """The record at hand is not whole: the end, or damage if a whole one follows."""
        offset = start + at
        if why.startswith(_WRONG):  # not torn: it was whole once, as its end mark shows
            raise self.damage(offset, why)
        behind = at
        right_behind = _end_of(piece, at) if why == _NO_END_MARK else -1
        while True:
            found = right_behind >= 0 and _is_whole(piece, right_behind)
            next_at = right_behind if found else _next_whole(piece, behind)
            if next_at is not None:
                raise self.damage(
                    offset, f"{why or 'zeros'}, but offset {start + next_at} is whole"
                )
            more = self._read(_SEARCH_BYTES)
            if not more:
                break
            if why == _PADDING and not piece[at:].strip(b"\0") and not more.strip(b"\0"):
                start, piece, at, behind = start + len(piece), more, 0, 0
                continue
            keep = max(behind, len(piece) - _SEARCH_BYTES)
            piece, start, behind, at = piece[keep:] + more, start + keep, 0, 0
            right_behind -= keep
        if why != _PADDING:
            self.torn = why


_SHORT: Final = "short"
_WRONG: Final = "the record's checksum does not match"
_NO_END_MARK: Final = "the record has no end mark"
_PADDING: Final = ""
_TORN_BY_END: Final = "the record is cut off by the file's end"


def _record_at(piece: bytes, at: int) -> bytes | str:
    """The payload of the record at `at`, or why there is none; `_SHORT`: with more, perhaps."""
    start = at + _ENTRY.size
    if start > len(piece):
        return _SHORT
    checksum, size = _ENTRY.unpack_from(piece, at)
    if size == 0 or size == -1:
        return _PADDING
    if size < 0 or size > _RECORD_BYTES_MAX:
        return f"a record of {size} bytes"
    end = start + size
    if end >= len(piece):
        return _SHORT
    payload = piece[start:end]
    if piece[end] != _END:
        return _NO_END_MARK
    if adler32(payload) != checksum:
        return f"{_WRONG} (zxid {_zxid_of(payload)})"
    return payload


def _zxid_of(payload: bytes) -> str:
    if len(payload) < _TXN_HEADER.size:
        return "unknown"
    return f"{_TXN_HEADER.unpack_from(payload)[2]:#x}"


def _end_of(piece: bytes, at: int) -> int:
    """Where the record at `at` ends by its own length."""
    size: int = _ENTRY.unpack_from(piece, at)[1]
    return at + _ENTRY.size + size + 1


def _is_whole(piece: bytes, at: int) -> bool:
    found = _record_at(piece, at)
    return isinstance(found, bytes) and len(found) >= _TXN_HEADER.size


def _next_whole(piece: bytes, behind: int) -> int | None:
    """Where a whole record starts that follows `behind`."""
    at = piece.find(_NEXT_RECORD, behind)
    while at >= 0:
        if _is_whole(piece, at + 1):
            return at + 1
        at = piece.find(_NEXT_RECORD, at + 1)
    return None


def split(payload: bytes) -> Split:
    """Take a payload apart. Raises: RemoteProtocolError if it is no txn."""
    kind = _TXN_HEADER.unpack_from(payload)[4]
    digest = None
    if kind == op.CLOSE_SESSION and len(payload) == _TXN_HEADER.size + _DIGEST.size:
        # No paths but a digest: read as paths, these bytes would be two of them.
        version, digest = _DIGEST.unpack_from(payload, _TXN_HEADER.size)
        if version == DIGEST_VERSION:
            payload = payload[: _TXN_HEADER.size]
            return Split(payload, txns.decode(payload), digest & 0xFFFFFFFFFFFFFFFF)
    txn = txns.decode(payload)
    if kind == op.ERROR:
        return Split(payload, txn, None)
    size = len(txns.encode(txn))
    # Shorter than our own form: a closeSession without paths, a create of before 3.3.3.
    if len(payload) - size == _DIGEST.size:
        version, digest = _DIGEST.unpack_from(payload, size)
        if version == DIGEST_VERSION:
            return Split(payload[:size], txn, digest & 0xFFFFFFFFFFFFFFFF)
    elif len(payload) > size:
        raise RemoteProtocolError(f"txn {txn.zxid:#x}: {len(payload) - size} bytes too many")
    return Split(payload, txn, None)


def record(payload: bytes) -> bytes:
    """A record, as it is appended to a file."""
    return _ENTRY.pack(adler32(payload), len(payload)) + payload + b"\x42"


def with_digest(encoded: bytes, digest: int) -> bytes:
    """A txn and the digest of the tree after it."""
    return encoded + _DIGEST.pack(DIGEST_VERSION, digest - (1 << 64) if digest >> 63 else digest)
