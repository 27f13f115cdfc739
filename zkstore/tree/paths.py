"""Paths: what a node may be called, and how a path splits into parent and name.

Owns:   nothing; pure. A path is UTF-8 bytes, the root is b"/" on the wire.
Invariants:
  1. Only a path that `valid` accepts is ever created; a lookup takes any bytes and finds nothing.
Source: PathUtils.validatePath; PrepRequestProcessor.
"""

from __future__ import annotations

import re
from typing import Final

ROOT: Final = b"/"
ZOOKEEPER: Final = b"/zookeeper"
QUOTA: Final = b"/zookeeper/quota"
CONFIG: Final = b"/zookeeper/config"
SPECIAL: Final = frozenset((b"", ROOT, ZOOKEEPER, QUOTA, CONFIG))  # cannot be deleted

_ASCII = re.compile(rb"(?:/(?!\.\.?(?:/|\Z))[^/\x00-\x1f\x7f]+)+")
# Java looks at UTF-16 units, so every character beyond the basic plane (two surrogates) is refused.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff\U00010000-\U0010ffff]")


def valid(path: bytes) -> bool:
    """Whether a node of this path may exist."""
    if path == ROOT:
        return True
    if _ASCII.fullmatch(path) is None:
        return False
    if path.isascii():
        return True
    try:
        text = path.decode()
    except UnicodeDecodeError:
        return False  # Java reads U+FFFD here, which is forbidden as well
    return _FORBIDDEN.search(text) is None


def split(path: bytes) -> tuple[bytes, bytes]:
    """Parent and name: b"/a/b" → (b"/a", b"b"); b"/a" → (b"/", b"a")."""
    parent, _, name = path.rpartition(b"/")
    return parent or ROOT, name


def sequential(path: bytes, counter: int) -> bytes:
    """The path with its suffix: ten digits of the parent's stored cversion, signed. Source: E5."""
    return b"%b%010d" % (path, counter)


def wrap_int(value: int) -> int:
    """A sum as Java's int keeps it."""
    return ((value + 0x80000000) & 0xFFFFFFFF) - 0x80000000
