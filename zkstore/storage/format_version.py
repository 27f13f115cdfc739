"""The number of the on-disk format: one, rising, for all files of a data directory.

Invariants:
  1. Rising: a number is never given to a second format, and data of each released one is kept for
     tests.
  2. An older program refuses a newer number before it has changed anything.

| number | what it is | what an older program does | migration |
|---|---|---|---|
| 1 | the first | - | - |
"""

from __future__ import annotations

from typing import Final

from zkstore.errors import CorruptionError, FormatError

FORMAT: Final = 1
_TEXT: Final = "zkstore data format "


def encode() -> bytes:
    """The content of the file `format`: one line that a person can read."""
    return f"{_TEXT}{FORMAT}\n".encode()


def check(content: bytes, name: str) -> None:
    """Refuse a `format` file that is not ours to read. Raises: FormatError, CorruptionError."""
    text = content.decode("utf-8", "replace")
    number = text.removeprefix(_TEXT).strip()
    if not text.startswith(_TEXT) or not number.isdecimal():
        raise CorruptionError(f"{name}: not a format file of zkstore: {content[:40]!r}")
    check_number(int(number), name)


def check_number(number: int, name: str) -> None:
    if number > FORMAT:
        raise FormatError(
            f"{name}: the data are of format {number}, this program reads up to {FORMAT};"
            " start them with the zkstore that wrote them or a newer one"
        )
    if number < 1:
        raise CorruptionError(f"{name}: format {number}")
