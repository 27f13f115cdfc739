"""What a command is: its form, its options, and the coroutine that does it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from . import text
from .grammar import Given, Options, Refused, parse
from .link import Link


class Out(Protocol):
    """Where text goes."""

    def write(self, text: str, /) -> object: ...


@dataclass(slots=True)
class Context:
    """What a command works with."""

    link: Link
    out: Out
    err: Out

    def complain(self, line: str) -> None:
        self.err.write(f"{line}\n")


Action = Callable[[Context, Given], Awaitable[None]]
NO_OPTIONS: Final = Options()


@dataclass(frozen=True, slots=True)
class Command:
    name: str
    form: str
    action: Action
    arguments_min: int = 0  # besides its own name
    arguments_max: int | None = None
    options: Options = field(default=NO_OPTIONS)
    shows_options: bool = False  # in its usage
    any_words: bool = False  # takes no arguments, and minds none
    # A form of old releases with an argument more: what to say about it.
    old_form: str = ""
    new_form: str = ""
    old_is_watch: bool = False  # that argument means -w

    @property
    def usage(self) -> str:
        line = f"{self.name} {self.form}"
        return f"{line}\n{self.options.help()}" if self.shows_options else line

    def given(self, words: list[str], context: Context) -> Given:
        """Raises: Refused."""
        if self.any_words:
            return Given(words)
        given = parse(self.options, words)
        count = len(given.arguments) - 1
        if given.has("?"):
            context.out.write(f"usage: {self.name} [options] path\n{self.options.help()}")
        if self.old_form and count > 1:
            context.complain(
                f"'{self.old_form}' has been deprecated. Please use '{self.new_form}' instead."
            )
            if self.old_is_watch:
                given = parse(self.options, [*words[:2], "-w", *words[3:]])
        too_many = self.arguments_max is not None and count > self.arguments_max
        if count < self.arguments_min or too_many:
            raise Refused(self.usage)
        return given


def path_of(given: Given, *, sequential: bool = False) -> str:
    """The first argument. Raises: Refused if it cannot be a path."""
    path = given.arguments[1]
    text.check_path(path, sequential=sequential)
    return path
