"""Which command a line is, what was typed before, and whether events are shown.

Owns:   the history, the exit code of the last command, the link.
Invariants:
  1. No line ends the shell but `quit`: what a command raises becomes its error text.
Source: ZooKeeperMain.
"""

from __future__ import annotations

import asyncio
from typing import Final

from zkstore.errors import ZkstoreError

from . import nodes, quotas, service
from .command import Command, Context, Out
from .grammar import NotFound, Refused, words_of
from .link import Link

_COMMANDS: Final[dict[str, Command]] = {
    command.name: command for command in (*nodes.COMMANDS, *quotas.COMMANDS, *service.COMMANDS)
}
# Those that are the shell's own.
_OWN: Final = {
    "connect": "host:port",
    "exit": "",
    "help": "",
    "history": "",
    "printwatches": "on|off",
    "quit": "",
    "redo": "cmdno",
}
NAMES: Final = sorted({*_COMMANDS, *_OWN})
_SHOWN_LINES: Final = 11
FINE: Final = 0


class Quit(Exception):
    """The user has had enough."""


class Shell:
    def __init__(self, out: Out, err: Out, *, timeout_ms: int, read_only: bool, wait: bool) -> None:
        """`wait`: a connection is waited for, for up to the timeout."""
        self.exit_code = FINE
        self.count = 0  # of commands so far
        self.link = Link(self._on_event, timeout_ms, read_only)
        self._wait = wait
        self._context = Context(self.link, out, err)
        self._history: dict[int, str] = {}
        self._shows_events = True

    @property
    def prompt(self) -> str:
        return f"[zk: {self.link.host}({self.link.state}) {self.count}] "

    async def connect(self, host: str) -> None:
        """Raises: Refused."""
        await self.link.connect(host, wait=self._wait)
        await _turn()

    async def close(self) -> None:
        self._shows_events = False
        await self.link.close()

    async def line(self, line: str) -> None:
        """Do what a line says. Raises: Quit."""
        words = words_of(line)
        if not words:
            return
        self._history[self.count] = line
        await self.command(words)
        self.count += 1

    async def command(self, words: list[str]) -> None:
        """Do one command, and keep its exit code. Raises: Quit."""
        try:
            await self._run(words)
            self.exit_code = FINE
        except Refused as refused:
            self.exit_code = refused.exit_code
            self._context.complain(str(refused))
        await _turn()

    async def _run(self, words: list[str]) -> None:
        name = words[0]
        if name not in _COMMANDS and name not in _OWN:
            self._usage(self._context.err)
            raise NotFound(f"Command not found: Command not found {name}")
        if name in _OWN:
            await self._run_own(name, words[1:])
        if name == "help":
            return
        if not self.link.is_alive:
            self._context.out.write("Not connected\n")
            return
        if name in _COMMANDS:
            command = _COMMANDS[name]
            await command.action(self._context, command.given(words, self._context))

    async def _run_own(self, name: str, arguments: list[str]) -> None:
        if name in ("quit", "exit"):
            raise Quit
        if name == "help":
            self._usage(self._context.out)
        elif name == "connect":
            await self.connect(arguments[0] if arguments else self.link.host)
        elif name == "redo" and arguments:
            await self._redo(arguments[0])
        elif name == "printwatches" and arguments:
            self._shows_events = arguments[0] == "on"
        elif name == "printwatches":
            state = "on" if self._shows_events else "off"
            self._context.out.write(f"printwatches is {state}\n")
        elif name == "history":
            for number in range(max(0, self.count + 1 - _SHOWN_LINES), self.count + 1):
                self._context.out.write(f"{number} - {self._history.get(number, 'null')}\n")

    async def _redo(self, number: str) -> None:
        line = self._history.get(int(number)) if number.isascii() and number.isdigit() else None
        if line is None or int(number) >= self.count:
            raise Refused("Command index out of range")
        words = words_of(line)
        if words[0] == "redo":
            raise Refused("No redoing redos")
        self._history[self.count] = line
        await self.command(words)

    def _usage(self, out: Out) -> None:
        out.write("ZooKeeper -server host:port -client-configuration properties-file cmd args\n")
        for name in NAMES:
            out.write(f"\t{name} {_COMMANDS[name].form if name in _COMMANDS else _OWN[name]}\n")

    def _on_event(self, shown: str) -> None:
        if not self._shows_events:
            return
        try:
            self._context.out.write(shown)
        except BrokenPipeError:
            self._shows_events = False  # nobody reads any more; the next command will find out

    async def completions(self, word: str, *, is_first: bool) -> list[str]:
        """What a word that has been begun may become: a command, or a path."""
        if is_first:
            return [f"{name} " for name in NAMES if name.startswith(word)]
        if not word.startswith("/") or not self.link.is_alive:
            return []
        parent, _, begun = word.rpartition("/")
        try:
            names, _ = await self.link.raw.children(parent or "/")
        except ZkstoreError:
            return []  # nothing to choose from, and no place to complain
        return [f"{parent}/{name}" for name in names if name.startswith(begun)]


async def _turn() -> None:
    """Let what has happened to the session be told before anything else is printed."""
    await asyncio.sleep(0)
