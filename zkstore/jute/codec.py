"""Jute's primitive types: straight functions over bytes, one `struct` for each fixed run.

Owns:   nothing; pure.
Invariants:
  1. Reading never looks past the frame: too few bytes raise RemoteProtocolError (the client is at
     fault).
  2. A text is passed on as the UTF-8 bytes that came (a path is a key, a key is bytes); null is
     None.
Shape:  int 4 bytes, long 8, boolean 1; ustring and buffer an int length (-1: null) and that many
        bytes; vector an int count (-1: null) and its items; big-endian, no padding.
Source: zookeeper-jute BinaryInputArchive, BinaryOutputArchive.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from zkstore.errors import RemoteProtocolError

INT = struct.Struct(">i")
LONG = struct.Struct(">q")
INT_INT = struct.Struct(">ii")
pack_int = INT.pack
pack_long = LONG.pack
unpack_int = INT.unpack_from
unpack_long = LONG.unpack_from

NULL = b"\xff\xff\xff\xff"


def _too_short(frame: bytes, offset: int) -> RemoteProtocolError:
    return RemoteProtocolError(f"frame of {len(frame)} bytes ends in a value at {offset}")


def read_int(frame: bytes, offset: int) -> tuple[int, int]:
    """Decode an int; returns the value and the offset of the first byte after it."""
    try:
        return unpack_int(frame, offset)[0], offset + 4
    except struct.error:
        raise _too_short(frame, offset) from None


def read_long(frame: bytes, offset: int) -> tuple[int, int]:
    """Decode a long; returns the value and the offset of the first byte after it."""
    try:
        return unpack_long(frame, offset)[0], offset + 8
    except struct.error:
        raise _too_short(frame, offset) from None


def read_bool(frame: bytes, offset: int) -> tuple[bool, int]:
    """Decode a boolean; any non-zero byte is true, as in Java's DataInput."""
    if offset >= len(frame):
        raise _too_short(frame, offset)
    return frame[offset] != 0, offset + 1


def read_buffer(frame: bytes, offset: int) -> tuple[bytes | None, int]:
    """Decode one buffer or ustring.

    Shape:  int32 length big-endian, then length bytes; -1 means null (None), 0 means empty.
    Raises: RemoteProtocolError if the length is below -1 or past the frame.
    """
    try:
        size = unpack_int(frame, offset)[0]
    except struct.error:
        raise _too_short(frame, offset) from None
    offset += 4
    if size == -1:
        return None, offset
    end = offset + size
    if size < 0 or end > len(frame):
        raise RemoteProtocolError(f"length {size} at {offset - 4} of a frame of {len(frame)} bytes")
    return frame[offset:end], end


def read_text(frame: bytes, offset: int) -> tuple[bytes, int]:
    """Decode a ustring that may not be null (a path): null is read as empty, as good as any wrong
    path."""
    value, offset = read_buffer(frame, offset)
    return value if value is not None else b"", offset


def read_texts(frame: bytes, offset: int) -> tuple[list[bytes], int]:
    """Decode a vector of ustrings; null is an empty one."""
    count, offset = read_int(frame, offset)
    if count > (len(frame) - offset) // 4:
        raise RemoteProtocolError(f"vector of {count} texts in a frame of {len(frame)} bytes")
    texts = []
    for _ in range(count):
        text, offset = read_text(frame, offset)
        texts.append(text)
    return texts, offset


def utf8(text: bytes) -> bytes:
    """A text as Java takes it in: what is no UTF-8 becomes U+FFFD, so that others can read it."""
    return text if text.isascii() else text.decode(errors="replace").encode()


def buffer(value: bytes | None) -> bytes:
    """Encode a buffer or ustring."""
    return NULL if value is None else pack_int(len(value)) + value


def text(value: bytes | None) -> bytes:
    """Encode a ustring that came from a client, as Apache sends it on."""
    return NULL if value is None else buffer(utf8(value))


def texts(values: Sequence[bytes]) -> bytes:
    """Encode a vector of ustrings."""
    return pack_int(len(values)) + b"".join(map(buffer, values))


def vector(items: Iterable[bytes]) -> bytes:
    """Encode a vector of already encoded items."""
    encoded = list(items)
    return pack_int(len(encoded)) + b"".join(encoded)
