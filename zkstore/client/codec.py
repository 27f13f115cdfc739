"""Codecs: how a value of the program becomes the bytes of a node and back.

Design: a codec is any object with `encode` and `decode`; these four are the usual ones. A node
        without data has no value: `decode` gets b"" for it, and must make something of it.
"""

from __future__ import annotations

import json
from typing import Any, Final, Protocol, TypeVar

import msgpack

T = TypeVar("T")


class Codec(Protocol[T]):
    """Two inverse functions. What they raise goes to the caller of the operation."""

    def encode(self, value: T, /) -> bytes: ...

    def decode(self, data: bytes, /) -> T: ...


class _Bytes:
    """Bytes as they are."""

    def encode(self, value: bytes, /) -> bytes:
        return value

    def decode(self, data: bytes, /) -> bytes:
        return data


class _Text:
    """Strings in UTF-8."""

    def encode(self, value: str, /) -> bytes:
        return value.encode()

    def decode(self, data: bytes, /) -> str:
        return data.decode()


class _Json:
    """Whatever JSON can hold; no data is None."""

    def encode(self, value: Any, /) -> bytes:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()

    def decode(self, data: bytes, /) -> Any:
        return json.loads(data) if data else None


class _Msgpack:
    """Whatever msgpack can hold; no data is None."""

    def encode(self, value: Any, /) -> bytes:
        packed: bytes = msgpack.packb(value)
        return packed

    def decode(self, data: bytes, /) -> Any:
        return msgpack.unpackb(data) if data else None


BYTES: Final[Codec[bytes]] = _Bytes()
TEXT: Final[Codec[str]] = _Text()
JSON: Final[Codec[Any]] = _Json()
MSGPACK: Final[Codec[Any]] = _Msgpack()
