"""A line becomes words, and words a command's options and arguments.

Owns:   nothing; pure.
Design: the rules of Apache's commons-cli, which ZooKeeper's shell uses: options anywhere in the
        line, of one letter or more, `-v 5`, `-v5`, `-v=5`, `-sw` for `-s -w`, `--` before what only
        looks like an option. argparse knows most of that, but not these texts.
Source: ZooKeeperMain.MyCommandOptions, DefaultParser and HelpFormatter of commons-cli.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

_WORD: Final = re.compile(r"""\s*([^"']\S*|"[^"]*"|'[^']*')\s*""", re.ASCII)
_QUOTED: Final = re.compile(r"""(['"])(.*)\1""", re.DOTALL)
_NUMBER: Final = re.compile(r"[+-]?[0-9]+")
_DECIMAL: Final = re.compile(r"-[0-9.]+")


class Refused(Exception):
    """A command that cannot be done as it was given; the text is for who typed it."""

    exit_code = 1


class NotFound(Refused):
    """A command that there is none of."""

    exit_code = 127


@dataclass(frozen=True, slots=True)
class Option:
    name: str  # without its hyphen
    help: str
    has_value: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """What a command understands; of a group only one may be given, if `needed` exactly one."""

    each: tuple[Option, ...] = ()
    group: bool = False
    needed: bool = False

    def find(self, name: str) -> Option | None:
        return next((option for option in self.each if option.name == name), None)

    def help(self) -> str:
        """One line for each, in order of the names."""
        forms = {
            f" -{option.name}{' <arg>' if option.has_value else ''}": option.help
            for option in sorted(self.each, key=lambda option: option.name.lower())
        }
        width = max(map(len, forms)) + 3
        return "".join(f"{form:<{width}}{text}\n" for form, text in forms.items())


@dataclass(slots=True)
class Given:
    """The words of one command, in their kinds."""

    arguments: list[str] = field(default_factory=list)  # the first is the command itself
    values: dict[str, str] = field(default_factory=dict)  # of options; "" for those without one

    def has(self, name: str) -> bool:
        return name in self.values

    def integer(self, name: str, default: int, bits: int = 32) -> int:
        """The value of an option. Raises: Refused for what is no such integer."""
        if name not in self.values:
            return default
        number = integer(self.values[name], bits)
        if number is None:
            kind = {32: "an int", 64: "a long"}[bits]
            raise Refused(f"-{name} argument must be {kind} value")
        return number


def integer(text: str, bits: int) -> int | None:
    """A number as Java's parseInt and parseLong take it; None for anything else."""
    if not _NUMBER.fullmatch(text):
        return None
    number = int(text)
    return number if -(1 << bits - 1) <= number < 1 << bits - 1 else None


def words_of(line: str) -> list[str]:
    """The words of a line; quotes hold one together."""
    words = _WORD.findall(line.strip())
    return [quoted[2] if (quoted := _QUOTED.fullmatch(word)) else word for word in words]


def parse(options: Options, words: Sequence[str]) -> Given:
    """Raises: Refused."""
    return _Parser(options).parse(words)


class _Parser:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._given = Given()
        self._waiting: Option | None = None  # for its value

    def parse(self, words: Iterable[str]) -> Given:
        rest = False
        for word in words:
            if rest:
                self._given.arguments.append(word)
            elif word == "--":
                rest = True
            elif self._waiting is not None and not self._is_option(word):
                self._set_value(word)
            elif word.startswith("-") and len(word) > 1:
                self._on_hyphen(word)
            else:
                self._given.arguments.append(word)
        self._check_waiting()
        if self._options.needed and not self._given.values:
            group = ", ".join(f"-{option.name} {option.help}" for option in self._options.each)
            raise Refused(f"Missing required option: [{group}]")
        return self._given

    def _is_option(self, word: str) -> bool:
        if not word.startswith("-") or len(word) == 1 or _DECIMAL.fullmatch(word):
            return False
        name = word[1:].partition("=")[0]
        find = self._options.find
        return find(name) is not None or (bool(name) and find(name[0]) is not None)

    def _on_hyphen(self, word: str) -> None:
        name, equals, value = word[1:].partition("=")
        option = self._options.find(name)
        if equals:
            if option is None or len(name) > 1 or not option.has_value:
                raise Refused(f"Unrecognized option: {word}")
            self._take(option)
            self._set_value(value)
        elif option is not None:
            self._take(option)
        else:
            self._on_letters(word)

    def _on_letters(self, word: str) -> None:
        """Several options in one word, or one with its value."""
        for place, letter in enumerate(word[1:], 1):
            option = self._options.find(letter)
            if option is None or len(word) == 2:
                raise Refused(f"Unrecognized option: {word}")
            self._take(option)
            if option.has_value and place + 1 < len(word):
                self._set_value(word[place + 1 :])
                return

    def _take(self, option: Option) -> None:
        self._check_waiting()
        values = self._given.values
        if self._options.group and values and option.name not in values:
            raise Refused(
                f"The option '{option.name}' was specified but an option from this group"
                f" has already been selected: '{next(iter(values))}'"
            )
        values.setdefault(option.name, "")
        self._waiting = option if option.has_value else None

    def _set_value(self, value: str) -> None:
        assert self._waiting is not None
        # Of an option that comes twice the first value counts.
        values = self._given.values
        values[self._waiting.name] = values[self._waiting.name] or value
        self._waiting = None

    def _check_waiting(self) -> None:
        if self._waiting is not None:
            raise Refused(f"Missing argument for option: {self._waiting.name}")
