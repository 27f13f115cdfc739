"""How one value of the configuration is read: a reader for each kind of value.

A reader takes the text and returns the value, or raises ValueError with what was expected, in words
that end the sentence "expected ...".

Not here: which key has which kind (config_keys.py), file and line (config.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

INT32_MAX: Final = (1 << 31) - 1
INT64_MAX: Final = (1 << 63) - 1

Reader = Callable[[str], object]

# As Java's Integer.decode, but without octal numbers: half of Apache's keys never knew them.
_INTEGER: Final = re.compile(r"([+-]?)(0[xX]|#)?([0-9A-Fa-f]+)\Z")
_REAL: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?\Z")
_INTERVAL: Final = re.compile(r"([+-]?[0-9]+)(ms|s|m|h|d)?\Z")
_UNIT_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

# The digests of Java that hashlib has as well, by the name that Java gives them.
_DIGESTS: Final = {
    "MD5": "MD5",
    "SHA": "SHA1",
    "SHA1": "SHA1",
    "SHA-1": "SHA1",
    "SHA-224": "SHA224",
    "SHA-256": "SHA256",
    "SHA-384": "SHA384",
    "SHA-512": "SHA512",
    "SHA3-224": "SHA3-224",
    "SHA3-256": "SHA3-256",
    "SHA3-384": "SHA3-384",
    "SHA3-512": "SHA3-512",
}


def integer(least: int, greatest: int = INT32_MAX, unit: str = "") -> Callable[[str], int]:
    """A reader for a whole number, decimal or hexadecimal, within bounds that are both allowed."""
    expected = f"a whole number{unit and ' of ' + unit} from {least} to {greatest}"

    def read(text: str) -> int:
        match = _INTEGER.match(text)
        if match is None:
            raise ValueError(expected)
        sign, prefix, digits = match.groups()
        try:
            number = int(digits, 16 if prefix else 10)
        except ValueError:
            raise ValueError(expected) from None
        number = -number if sign == "-" else number
        if not least <= number <= greatest:
            raise ValueError(expected)
        return number

    return read


def real(least: float) -> Callable[[str], float]:
    """A reader for a number with or without a fraction, not below `least`."""
    expected = f"a number of at least {least:g}"

    def read(text: str) -> float:
        match = _REAL.match(text)
        if match is None or float(text) < least:
            raise ValueError(expected)
        return float(text)

    return read


def limit(text: str) -> int:
    """A limit that zero and, as in Apache, any negative number switch off: 0 then."""
    return max(0, integer(-INT32_MAX)(text))


def boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("true or false")
    return text.lower() == "true"


def yes_no(text: str) -> bool:
    """For the keys that Apache compares with "yes" or "no".

    Apache takes any other word for the default; that is how skipACL=true comes to skip nothing.
    """
    if text not in ("yes", "no"):
        raise ValueError("yes or no")
    return text == "yes"


def text(value: str) -> str:
    return value


def path(value: str) -> str:
    if not value:
        raise ValueError("a path")
    return value


def host(value: str) -> str:
    """A name or an address; an IPv6 address may stand in brackets."""
    name = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    try:
        name.encode("idna")
    except UnicodeError:
        name = ""
    if not name or any(character.isspace() for character in name):
        raise ValueError("a host name or an address")
    return name


def names(value: str) -> tuple[str, ...]:
    """A comma list; blanks around a name and empty names do not count."""
    return tuple(name for part in value.split(",") if (name := part.strip()))


def digest_algorithm(value: str) -> str:
    """The name by which hashlib knows the digest that Java calls `value`."""
    name = _DIGESTS.get(value.upper())
    if name is None:
        raise ValueError("one of " + ", ".join(_DIGESTS))
    return name


def interval_hours_ms(value: str) -> int:
    """autopurge.purgeInterval in ms: hours, or since 3.10 a number with its unit; below 0: off."""
    match = _INTERVAL.match(value)
    if match is None:
        raise ValueError("a whole number of hours, or one followed by ms, s, m, h or d")
    return int(match.group(1)) * _UNIT_MS[match.group(2) or "h"]
