"""Reads the syntax of java.util.Properties, in which every zoo.cfg is written.

Owns:   nothing; bytes of a file in, properties with their places out.
Invariants:
  1. Keys and values are what Java's `Properties.load` makes of the same lines: separators, escapes,
     continued lines, comments; the places are ours.
Design: one rule differs. Java takes the bytes for Latin-1; here they are UTF-8 where they can be,
  as an editor shows them, else Latin-1.
Not here: what a key means (config.py).
Source: java.util.Properties.load.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from zkstore.errors import ConfigError

_BLANK: Final = " \t\f"
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
# The key ends at the first separator that is not escaped; one = or : may stand among the blanks.
_KEY: Final = re.compile(r"((?:\\.|[^\\=: \t\f])*)[ \t\f]*[=:]?[ \t\f]*", re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_ESCAPED: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


class Property(NamedTuple):
    """One setting as the user wrote it."""

    key: str
    value: str
    where: str  # for messages: "zoo.cfg:12" or "-Dzookeeper.maxCnxns"


def decode(content: bytes) -> str:
    """The text of a properties file."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def parse(text: str, file_name: str) -> list[Property]:
    """All properties in the order of their lines; a key may occur more than once.

    Raises: ConfigError for an escape that Java refuses, too.
    """
    found = []
    for number, line in _logical_lines(text):
        where = f"{file_name}:{number}"
        match = _KEY.match(line)
        assert match is not None, line
        key = _unescape(match.group(1), where)
        value = _unescape(line[match.end() :], where)
        found.append(Property(key.strip(), value.strip(), where))
    return found


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """(number of the first line, content) of each line that is neither blank nor a comment.

    A line that ends in an odd number of backslashes goes on in the next one, whose leading blanks
    are dropped; a comment never goes on.
    """
    lines = iter(enumerate(_LINE_END.split(text), start=1))
    for number, raw in lines:
        line = raw.lstrip(_BLANK)
        if not line or line[0] in "#!":
            continue
        while _goes_on(line):
            line = line[:-1]
            following = next(lines, None)
            if following is None:
                break
            line += following[1].lstrip(_BLANK)
        if line:
            yield number, line


def _goes_on(line: str) -> bool:
    backslashes = len(line) - len(line.rstrip("\\"))
    return backslashes % 2 == 1


def _unescape(text: str, where: str) -> str:
    def replace(match: re.Match[str]) -> str:
        escaped = match.group(1)
        if len(escaped) == 5:
            return chr(int(escaped[1:], 16))
        if escaped == "u":
            raise ConfigError(f"{where}: \\u must be followed by four hexadecimal digits")
        return _ESCAPED.get(escaped, escaped)

    return _ESCAPE.sub(replace, text)
