"""`zkstore shell`: the start options, and the lines from a terminal or a pipe.

Owns:   the thread of the event loop, standard input and output.
Invariants:
  1. A session is closed at the end, however that comes, so nothing waits for its timeout.
Design: lines are read on the main thread, where a terminal's editing lives; commands run on the
        loop's thread, so that pings and events go on while somebody thinks. From a pipe the prompt
        and the line are printed before what the line gives, as Apache's shell does it.
Source: ZooKeeperMain, JLineZNodeCompleter.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from zkstore.client.blocking import LoopThread
from zkstore.errors import ZkstoreError

from .grammar import Refused, integer
from .shell import FINE, NAMES, Quit, Shell

_USAGE: Final = f"""\
usage: zkstore shell [-server host:port[,host:port...][/chroot]] [-timeout ms] [-r]
                     [-waitforconnection] [-client-configuration file] [command [argument...]]

Talks to a ZooKeeper server as zkCli.sh does: one command, or the lines of standard input.

  -server                 the servers, and the path to live below; localhost:2181
  -timeout                of the session; 30000
  -r                      content with a server that has lost the others and answers reads only
  -waitforconnection      run nothing before there is a connection
  -client-configuration   a properties file of Apache's client

commands: {" ".join(NAMES)}
"""
_COMPLETION_SECONDS_MAX: Final = 1.0
_INTERRUPTED: Final = 130


@dataclass(slots=True)
class _Start:
    server: str = "localhost:2181"
    timeout_ms: int = 30_000
    read_only: bool = False
    wait: bool = False
    words: list[str] = field(default_factory=list)


class _Terminal:
    """Standard output and input. What is written while a line is being typed leaves that line as
    it was, below."""

    def __init__(self) -> None:
        self.is_interactive = sys.stdin.isatty() and sys.stdout.isatty()
        self._readline: Any = importlib.import_module("readline") if self.is_interactive else None
        self._prompt: str | None = None  # shown, while a line is being typed

    def write(self, text: str, /) -> None:
        sys.stdout.write(text)
        if self._prompt is not None:
            sys.stdout.write(self._prompt + self._readline.get_line_buffer())
        sys.stdout.flush()

    def read(self, prompt: str) -> str | None:
        """The next line; None at the end."""
        if not self.is_interactive:
            self.write(prompt)
            line = sys.stdin.readline()
            if not line:
                return None
            line = line.rstrip("\r\n")
            self.write(f"{line}\n")
            return line
        self._prompt = prompt
        try:
            return input(prompt)
        except EOFError:
            return None
        finally:
            self._prompt = None

    def complete_with(self, shell: Shell, loop: LoopThread) -> None:
        found: list[str] = []

        def complete(word: str, number: int) -> str | None:
            if number == 0:
                is_first = self._readline.get_begidx() == 0
                words = shell.completions(word, is_first=is_first)
                try:
                    found[:] = loop.run(words, _COMPLETION_SECONDS_MAX)
                except ZkstoreError:
                    found.clear()  # not in time
            return found[number] if number < len(found) else None

        self._readline.set_completer_delims(" ")
        self._readline.set_completer(complete)
        self._readline.parse_and_bind("tab: complete")


def main(argv: list[str] | None = None) -> int:
    """Talks to a server, with the commands of ZooKeeper's zkCli.sh."""
    words = sys.argv[1:] if argv is None else argv
    if words[:1] in (["-h"], ["--help"], ["-help"]):
        sys.stdout.write(_USAGE)
        return FINE
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        # A node's name or a line may hold bytes that are no text.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="surrogateescape" if stream is sys.stdin else "replace")
    # Why a connection was lost concerns a log; here the prompt and the errors say that it is.
    logging.getLogger("zkstore.client").setLevel(logging.CRITICAL)
    try:
        return _run(_start(words))
    except Refused as refused:
        sys.stderr.write(f"{refused}\n")
        return refused.exit_code
    except BrokenPipeError:
        # Whoever read the output has seen enough; keep Python from trying again at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINE
    except KeyboardInterrupt:
        return _INTERRUPTED


def _start(words: list[str]) -> _Start:
    """Raises: Refused."""
    start = _Start()
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            start.words = [word, *rest]
        elif word == "-r":
            start.read_only = True
        elif word == "-waitforconnection":
            start.wait = True
        elif word == "-server":
            start.server = _value(word, rest)
        elif word == "-timeout":
            start.timeout_ms = _milliseconds(_value(word, rest))
        elif word == "-client-configuration":
            _check_configuration(Path(_value(word, rest)))
        else:
            raise Refused(f"Error: no such option {word}\n{_USAGE.partition(chr(10) * 2)[0]}")
    return start


def _value(option: str, rest: Iterator[str]) -> str:
    value = next(rest, None)
    if value is None:
        raise Refused(f"Error: no argument found for option {option}")
    return value


def _milliseconds(text: str) -> int:
    number = integer(text, 32)
    if number is None or number <= 0:
        raise Refused(f"Error: -timeout is milliseconds, not {text}")
    return number


def _check_configuration(path: Path) -> None:
    """What Apache's file can say concerns Java, but for one thing, which must not be missed.

    Raises: Refused if it asks for TLS, or cannot be read.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"Error: {path}: {error}") from None
    pairs = [line.partition("=") for line in lines]
    settings = {key.strip(): value.strip() for key, _, value in pairs}
    if settings.get("zookeeper.client.secure", "").lower() == "true":
        raise Refused(f"Error: {path} asks for TLS, which this shell does not speak")


def _run(start: _Start) -> int:
    """Raises: Refused if there is no session at all."""
    terminal = _Terminal()
    shell = Shell(
        terminal,
        sys.stderr,
        timeout_ms=start.timeout_ms,
        read_only=start.read_only,
        wait=start.wait,
    )
    loop = LoopThread(None)
    loop.start()
    try:
        terminal.write(f"Connecting to {start.server}\n")
        if not start.words:
            terminal.write("Welcome to ZooKeeper!\n")
        loop.run(shell.connect(start.server), None)
        if start.words:
            loop.run(shell.command(start.words), None)
        else:
            _read_lines(shell, terminal, loop)
    except Quit:
        pass  # as the line said
    finally:
        loop.run(shell.close(), None)
        loop.stop()
    return shell.exit_code


def _read_lines(shell: Shell, terminal: _Terminal, loop: LoopThread) -> None:
    """Until the end of the input. Raises: Quit; KeyboardInterrupt at the prompt."""
    if terminal.is_interactive:
        terminal.complete_with(shell, loop)
    while (line := terminal.read(shell.prompt)) is not None:
        try:
            loop.run(shell.line(line), None)
        except KeyboardInterrupt:
            if not terminal.is_interactive:
                raise
            terminal.write("\n")  # the command is given up, not the shell
