"""Apache's snapshot: the stream of a whole tree, as its files hold it and a leader sends it.

Owns:   the layout of the stream; pure. Bytes come from a `read(size)` and go to a `write(bytes)`.
Invariants:
  1. Streamed: a reader keeps one piece of the stream and one node, whatever the size of the tree.
  2. Nothing is passed over: what is not whole, or fails its checksum, raises CorruptionError that
     names file and offset. A caller that acts before `seals` has returned acts on unchecked data.
Shape:  header: int magic 'ZKSN', int 2, long -1
        body: int count, {long session, int timeout_ms}*; int count, {long id, vector<ACL>}*;
          {ustring path, buffer data, long ACL id, czxid, mzxid, ctime, mtime (longs), version,
          cversion, aversion (ints), owner, pzxid (longs)}*, parents first, the root's path is "";
          ustring "/"
        seal: long adler32 of all bytes before it, ustring "/"
        3.6 and newer: long zxid, int digest version, long digest, then a seal
        3.9 and newer: long zxid, then a seal
        From a leader: the body and ustring "BenWasHere", nothing else.
Design: a node is decoded by three struct calls over the piece at hand; one that is not whole in it
        is tried again with more, so that the usual one costs no question for the length.
Not here: files and their compression (storage/apache_files.py), the stored form of a node
        (tree/node.py), txns that came while a fuzzy snapshot was written (apache/replay.py).
Source: FileSnap, SerializeUtils, DataTree.serialize, StatPersisted.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple
from zlib import adler32

from zkstore.errors import CorruptionError, RemoteProtocolError
from zkstore.jute.codec import buffer, pack_int, pack_long
from zkstore.tree import acl as acls
from zkstore.tree.node import FIXED

Read = Callable[[int], bytes]
Write = Callable[[bytes], object]

HEADER: Final = struct.pack(">4siq", b"ZKSN", 2, -1)
END: Final = buffer(b"/")
SIGNATURE: Final = buffer(b"BenWasHere")  # ends the tree that a leader sends
_INT: Final = struct.Struct(">i")
_SESSION: Final = struct.Struct(">qi")
_LONG: Final = struct.Struct(">q")
_SEAL: Final = struct.Struct(">qi1s")
_DIGEST: Final = struct.Struct(">qiq")
_PIECE_BYTES: Final = 1 << 18
_VALUE_BYTES_MAX: Final = 1 << 29  # of one node or one ACL; a longer length is damage
DIGEST_VERSION: Final = 2


class Znode(NamedTuple):
    """One node of a stream; the fields behind the data in the order of tree/node.py's FIXED."""

    path: bytes  # b"/" for the root
    data: bytes | None
    acl_id: int
    czxid: int
    mzxid: int
    ctime_ms: int
    mtime_ms: int
    version: int
    cversion: int  # as stored: the number of creates
    aversion: int
    owner: int  # as stored: with the marks of containers and TTL nodes
    pzxid: int

    @property
    def raw(self) -> Raw:
        return self.path, self.data, FIXED.pack(*self[2:])


# A node as it comes: path, data, the bytes behind them.
Raw = tuple[bytes, bytes | None, bytes]
_FIXED_BYTES: Final = FIXED.size


class Seals(NamedTuple):
    """What follows the nodes; None where the file was written by an older server."""

    digest_zxid: int | None  # the tree's newest txn when the writing was done
    digest: int | None  # unsigned
    last_zxid: int | None


class Reader:
    """Reads one stream, in this order: `header`, `sessions`, `acls`, `nodes`, `seals`."""

    def __init__(self, read: Read, name: str) -> None:
        self._read = read
        self._name = name
        self._piece = b""
        self._at = 0  # in the piece
        self._start = 0  # of the piece in the stream
        self._adler = 1  # of all before the piece
        self._path = b""  # of the node read last, for messages

    @property
    def offset(self) -> int:
        """How many bytes were read and used."""
        return self._start + self._at

    def damage(self, what: str) -> CorruptionError:
        """The error for something wrong here."""
        behind = f" behind node {self._path.decode(errors='replace')}" if self._path else ""
        return CorruptionError(f"{self._name}: offset {self.offset}: {what}{behind}")

    def _more(self) -> bool:
        """Drop what was used and read on; False at the end of the stream."""
        piece, at = self._piece, self._at
        if len(piece) - at > _VALUE_BYTES_MAX:
            raise self.damage(f"a value of more than {_VALUE_BYTES_MAX} bytes")
        more = self._read(max(_PIECE_BYTES, len(piece) - at))
        if not more:
            return False
        self._adler = adler32(memoryview(piece)[:at], self._adler)
        self._piece = piece[at:] + more
        self._start += at
        self._at = 0
        return True

    def _unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        while len(self._piece) - self._at < layout.size:
            if not self._more():
                raise self.damage("the file ends here")
        fields = layout.unpack_from(self._piece, self._at)
        self._at += layout.size
        return fields

    def header(self) -> None:
        """Check the file's header."""
        while len(self._piece) < len(HEADER) and self._more():
            pass
        if self._piece[:8] != HEADER[:8]:
            raise self.damage(f"not a snapshot of ZooKeeper: it begins with {self._piece[:8]!r}")
        self._at = len(HEADER)

    def _count(self, what: str) -> int:
        (count,) = self._unpack(_INT)
        if count < 0:
            raise self.damage(f"{count} {what}")
        return count

    def sessions(self) -> Iterator[tuple[int, int]]:
        """All (session id, timeout_ms)."""
        for _ in range(self._count("sessions")):
            session_id, timeout_ms = self._unpack(_SESSION)
            yield session_id, timeout_ms

    def acls(self) -> Iterator[tuple[int, bytes]]:
        """All (id, encoded vector)."""
        for _ in range(self._count("ACLs")):
            (acl_id,) = self._unpack(_LONG)
            while True:
                try:
                    _, end = acls.read(self._piece, self._at)
                    break
                except RemoteProtocolError as e:
                    if not self._more():
                        raise self.damage(f"ACL {acl_id} is not whole") from e
            encoded = self._piece[self._at : end]
            self._at = end
            yield acl_id, encoded

    def nodes(self) -> Iterator[Znode]:
        """All nodes, parents first."""
        return (Znode(path, data, *FIXED.unpack(fixed)) for path, data, fixed in self.raw_nodes())

    def raw_nodes(self) -> Iterator[Raw]:
        """All nodes, their numbers not decoded."""
        int_at, fixed_bytes = _INT.unpack_from, _FIXED_BYTES
        while True:
            piece, at = self._piece, self._at
            whole = len(piece)
            while True:
                try:
                    start = at + 4
                    end = start + int_at(piece, at)[0]
                    path = piece[start:end]
                    if path == b"/" and end == start + 1:  # else cut off by the piece's end
                        self._at = end
                        return
                    start = end + 4
                    size = int_at(piece, end)[0]
                except struct.error:
                    break
                data_end = start + size if size > 0 else start
                if end < at + 4 or size < -1:
                    self._at = at
                    raise self.damage(f"a path of {end - at - 4} bytes, data of {size}")
                following = data_end + fixed_bytes
                if following > whole:
                    break
                self._path = path or b"/"
                self._at = following
                yield (
                    self._path, None if size == -1 else piece[start:data_end],
                    piece[data_end:following],
                )  # fmt: skip
                at = following
            self._at = at
            if not self._more():
                raise self.damage("the file ends in a node")

    def signature(self) -> bytes:
        """Check what ends a leader's tree; returns what was read beyond it."""
        while len(self._piece) - self._at < len(SIGNATURE):
            if not self._more():
                raise self.damage("it ends before its signature")
        end = self._at + len(SIGNATURE)
        if self._piece[self._at : end] != SIGNATURE:
            raise self.damage(f"the signature is {self._piece[self._at:end]!r}")
        self._at = end
        return self._piece[end:]

    def _seal(self) -> None:
        expected = adler32(memoryview(self._piece)[: self._at], self._adler)
        at = self.offset
        while len(self._piece) - self._at < _SEAL.size:
            if not self._more():
                raise self.damage("the file ends in a checksum")
        found, size, slash = _SEAL.unpack_from(self._piece, self._at)
        if found != expected or size != 1 or slash != b"/":
            raise CorruptionError(
                f"{self._name}: offset {at}: the checksum of all before it does not match"
                f" ({found:#x}, computed {expected:#x})"
            )
        self._at += _SEAL.size

    def _ended(self) -> bool:
        return self._at == len(self._piece) and not self._more()

    def seals(self) -> Seals:
        """Check the checksums, and return what newer servers say of the state."""
        self._seal()
        self._path = b""
        if self._ended():
            return Seals(None, None, None)
        digest_zxid, version, digest = self._unpack(_DIGEST)
        self._seal()
        unsigned = digest & 0xFFFFFFFFFFFFFFFF if version == DIGEST_VERSION else None
        if self._ended():
            return Seals(digest_zxid, unsigned, None)
        (last_zxid,) = self._unpack(_LONG)
        self._seal()
        return Seals(digest_zxid, unsigned, last_zxid)


class Writer:
    """Writes one stream, in this order: `begin`, `node` for each, `finish`."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._adler = 1
        self._pieces: list[bytes] = []
        self._bytes = 0

    def _put(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._bytes += len(piece)
        if self._bytes > _PIECE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand on what was gathered."""
        piece = b"".join(self._pieces)
        self._adler = adler32(piece, self._adler)
        self._write(piece)
        self._pieces.clear()
        self._bytes = 0

    def begin(self, sessions: list[tuple[int, int]], table: list[tuple[int, bytes]]) -> None:
        """Everything before the nodes; `table`: (id, encoded vector)."""
        self._put(HEADER + pack_int(len(sessions)))
        for session_id, timeout_ms in sessions:
            self._put(_SESSION.pack(session_id, timeout_ms))
        self._put(pack_int(len(table)))
        for acl_id, encoded in table:
            self._put(pack_long(acl_id) + encoded)

    def node(self, path: bytes, data: bytes | None, fixed: bytes) -> None:
        """One node; `fixed`: its numbers as they come. A node's parent came before."""
        name = b"" if path == b"/" else path
        self._put(pack_int(len(name)) + name + buffer(data) + fixed)

    def _seal(self) -> None:
        self.flush()
        self._put(_SEAL.pack(self._adler, 1, b"/"))

    def finish(self, zxid: int, digest: int) -> None:
        """End the nodes; the digest's and the last zxid are the tree's own: it is not fuzzy."""
        self._put(END)
        self._seal()
        signed = digest - (1 << 64) if digest >> 63 else digest
        self._put(_DIGEST.pack(zxid, DIGEST_VERSION, signed))
        self._seal()
        self._put(pack_long(zxid))
        self._seal()
        self.flush()
