"""Reads the transaction logs and the expected trees that were captured from Apache ZooKeeper 3.9.3.

Shape:  a log is a header of 16 bytes, then entries {long adler32, int length, txn, 'B'}; length 0
        ends it. A txn ends in {int 2, long digest} unless it is an error, or digests were off.
Source: FileTxnLog. Of each server in data/: its logs, and the tree its clients saw at the end.
"""

from __future__ import annotations

import base64
import gzip
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from zlib import adler32

DATA = Path(__file__).parent / "data"
SERVERS = ("zk393", "zk393-rolled", "zk393-nodigest")
_ENTRY = struct.Struct(">qi")
_DIGEST = struct.Struct(">iq")
_STAT = struct.Struct(">qqqqiiiqiiq")
_ERROR = -1
_TYPE_AT = 28


class Logged(NamedTuple):
    """One txn of a log."""

    txn: bytes  # without the digest
    digest: int | None  # of the tree after it, unsigned; None: the log does not say


class Expected(NamedTuple):
    """What the server's clients saw at the end."""

    tree: dict[bytes, tuple[bytes, bytes | None, list[tuple[int, bytes, bytes]]]]
    gauges: dict[str, str]  # of the word mntr


def logged(server: str) -> Iterator[Logged]:
    """All txns of a server, in order."""
    logs = sorted((DATA / server).glob("log.*.gz"), key=lambda p: int(p.name.split(".")[1], 16))
    for path in logs:
        yield from _entries(gzip.decompress(path.read_bytes()), server.endswith("-nodigest"))


def _entries(content: bytes, without_digest: bool) -> Iterator[Logged]:
    magic, version = struct.unpack_from(">4si", content)
    assert (magic, version) == (b"ZKLG", 2)
    offset = 16
    while offset < len(content):
        checksum, size = _ENTRY.unpack_from(content, offset)
        if size == 0:
            return
        offset += _ENTRY.size
        entry = content[offset : offset + size]
        assert adler32(entry) == checksum and content[offset + size] == ord("B")
        offset += size + 1
        if without_digest or struct.unpack_from(">i", entry, _TYPE_AT)[0] == _ERROR:
            yield Logged(entry, None)
        else:
            digest_version, digest = _DIGEST.unpack_from(entry, size - _DIGEST.size)
            assert digest_version == 2
            yield Logged(entry[: -_DIGEST.size], digest % (1 << 64))


def expected(server: str) -> Expected:
    """The final tree: path → (Stat, data, ACL)."""
    content: dict[str, Any] = json.loads(
        gzip.decompress((DATA / server / "expected.json.gz").read_bytes())
    )
    tree = {}
    for path, node in content["tree"].items():
        stat = _STAT.pack(
            node["czxid"], node["mzxid"], node["ctime"], node["mtime"], node["version"],
            node["cversion"], node["aversion"], node["ephemeralOwner"], node["dataLength"],
            node["numChildren"], node["pzxid"],
        )  # fmt: skip
        data = None if node["null"] else base64.b64decode(node["data_b64"])
        acl = [(perms, scheme.encode(), one.encode()) for perms, scheme, one in node["acl"]]
        tree[path.encode()] = (stat, data, acl)
    gauges = dict(line.split("\t", 1) for line in content["mntr"].splitlines() if "\t" in line)
    return Expected(tree, gauges)
