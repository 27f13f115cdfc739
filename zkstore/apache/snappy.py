"""The container of snappy-java's streams, which Apache writes snapshots in: read and written.

Owns:   the layout; pure. The compression itself is a function that is passed in.
Shape:  82 'SNAPPY' 00, int version 1, int compatible 1; blocks {int length, raw snappy block}.
Source: SnappyOutputStream, SnappyCodec.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from zkstore.errors import CorruptionError

MAGIC: Final = b"\x82SNAPPY\0"
_HEADER: Final = MAGIC + struct.pack(">ii", 1, 1)
_LENGTH: Final = struct.Struct(">i")
_BLOCK_BYTES: Final = 32 << 10  # of input, as snappy-java cuts it
_LENGTH_MAX: Final = 1 << 26

Read = Callable[[int], bytes]


class Reader:
    """Decompresses; `read` gives at most what is asked for, b"" at the end."""

    def __init__(self, read: Read, decompress: Callable[[bytes], bytes], name: str) -> None:
        self._source = read
        self._decompress = decompress
        self._name = name
        self._offset = len(_HEADER)
        self._rest = b""
        if read(len(_HEADER))[: len(MAGIC)] != MAGIC:
            raise CorruptionError(f"{name}: offset 0: not a snappy stream")

    def read(self, size: int) -> bytes:
        """Up to `size` decompressed bytes. Raises: CorruptionError."""
        pieces = [self._rest]
        gathered = len(self._rest)
        while gathered < size and (block := self._block()):
            pieces.append(block)
            gathered += len(block)
        whole = b"".join(pieces)
        self._rest = whole[size:]
        return whole[:size]

    def _block(self) -> bytes:
        head = self._source(_LENGTH.size)
        if not head:
            return b""
        length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else -1
        if not 0 <= length <= _LENGTH_MAX:
            raise CorruptionError(f"{self._name}: offset {self._offset}: a block of {length} bytes")
        block = self._source(length)
        if len(block) < length:
            raise CorruptionError(f"{self._name}: offset {self._offset}: the file ends in a block")
        try:
            found = self._decompress(block)
        except ValueError as e:
            raise CorruptionError(f"{self._name}: offset {self._offset}: {e}") from e
        self._offset += _LENGTH.size + length
        return found


class Writer:
    """Compresses what it is given."""

    def __init__(self, write: Callable[[bytes], object], compress: Callable[[bytes], bytes]):
        self._write = write
        self._compress = compress
        write(_HEADER)

    def write(self, content: bytes) -> None:
        for start in range(0, len(content), _BLOCK_BYTES):
            block = self._compress(content[start : start + _BLOCK_BYTES])
            self._write(_LENGTH.pack(len(block)) + block)
