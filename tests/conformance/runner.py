"""Plays scenarios on a kind of server: most on a shared one, some on one of their own.

Owns:       the shared server of a flavour while a `Runner` is open.
Invariants:
  1. A shared server that ended is replaced, so one scenario's damage is one scenario's failure.
Not here:   starting processes (servers.py), what the transcripts should be (golden.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Final

from tests.conformance import servers
from tests.conformance.scenario import Entry, play
from tests.conformance.scenarios import SCENARIOS
from tests.conformance.servers import Server

Start = Callable[[Mapping[str, str], Mapping[str, str]], AbstractContextManager[Server]]

APACHE_39_VARIABLE: Final = "ZKSTORE_APACHE_39"
"""The environment variable that names a folder with the jars of Apache ZooKeeper 3.9."""


class Runner:
    """Plays scenarios against one flavour of server; a context manager."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._stack = ExitStack()
        self._shared: Server | None = None

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def play(self, name: str) -> str:
        """The transcript of a scenario, as the text of a golden file."""
        return self.play_entry(SCENARIOS[name])

    def play_entry(self, entry: Entry) -> str:
        if entry.shared:
            return _text(play(entry, self._shared_server().address))
        with self._start(entry.settings, entry.properties) as server:
            return _text(play(entry, server.address))

    def _shared_server(self) -> Server:
        if self._shared is None or self._shared.process.poll() is not None:
            self._stack.close()
            self._shared = self._stack.enter_context(self._start({}, {}))
        return self._shared


def _text(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def apache(classpath: str) -> Start:
    return lambda settings, properties: servers.apache(classpath, settings, properties)


def zkstore(*options: str) -> Start:
    return lambda settings, properties: servers.zkstore(
        *options, settings=settings, properties=properties
    )


def flavours() -> dict[str, Start]:
    """Every kind of server that this machine can run, by name."""
    found = {
        "zkstore-workers": zkstore("--workers", "2"),
        "zkstore-embedded": zkstore("--embedded"),
    }
    if folder := os.environ.get(APACHE_39_VARIABLE):
        found["apache-3.9"] = apache(servers.apache_classpath(folder))
    if classpath := servers.debian_classpath():
        found["apache-3.8"] = apache(classpath)
    return found
