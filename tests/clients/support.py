"""What the tests of foreign clients share: a server, a proxy that cuts connections, and toolchains.

Owns:       the proxy's threads and sockets, while a test runs.
Invariants:
  1. A missing tool is a failure that names the package, never a silent pass; `-m "not clients"`
     leaves these tests out.
Not here:   starting servers (tests/conformance/servers.py).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

Address = tuple[str, int]

PROGRAM_SECONDS_MAX: Final = 90.0


class Proxy:
    """A TCP proxy in front of a server; `cut` breaks every connection through it.

    To a client it looks as if the network had failed: it comes back and resumes its session.
    """

    def __init__(self, server: Address) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._closed = False
        self.accepted = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> Address:
        host, port = self._listener.getsockname()
        return str(host), int(port)

    @property
    def hosts(self) -> str:
        """The connect string for clients."""
        return f"127.0.0.1:{self.address[1]}"

    def cut(self) -> None:
        """Break all connections; new ones are accepted."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _break(pair)

    def close(self) -> None:
        """Break all connections for good."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        # Closing alone would leave the listener open for as long as the thread waits in accept.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            try:
                upstream = socket.create_connection(self._server)
            except OSError:
                client.close()  # the server is down, as the client is to learn
                continue
            pair = (client, upstream)
            with self._lock:
                if self._closed:
                    for end in pair:
                        end.close()
                    return
                self._pairs.append(pair)
                self.accepted += 1
            threading.Thread(target=_serve, args=pair, daemon=True).start()


def _serve(client: socket.socket, upstream: socket.socket) -> None:
    """Pass on what either end says. Nobody else closes the two: their numbers might be another
    connection's at once, while a thread still reads from them."""
    answers = threading.Thread(target=_pump, args=(upstream, client), daemon=True)
    answers.start()
    _pump(client, upstream)
    answers.join()
    client.close()
    upstream.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            target.sendall(data)
    except OSError:
        pass  # cut: the other direction ends too
    _break((source, target))


def _break(pair: tuple[socket.socket, socket.socket]) -> None:
    for end in pair:
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # already gone


def tool(command: str, package: str) -> str:
    """The path of a command. Raises: AssertionError that names what to install."""
    found = shutil.which(command)
    assert found, f'{command} is missing: install {package}, or run with -m "not clients"'
    return found


def run(
    command: Sequence[str],
    *,
    stdin: str = "",
    cwd: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a program to its end; its standard output. Raises: AssertionError if it fails."""
    done = subprocess.run(
        command,
        input=stdin,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=PROGRAM_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}:\n{_ends(done)}"
    return done.stdout


def _ends(done: subprocess.CompletedProcess[str]) -> str:
    return f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


class Program:
    """A running client that prints a line for each thing that happens to it."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
            env={**os.environ, **(environment or {})},
        )
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def wait_for(self, text: str, seconds: float = PROGRAM_SECONDS_MAX) -> None:
        """Wait until a line has the text in it."""

        def found() -> bool:
            return any(text in line for line in self.lines)

        with self._more:
            assert self._more.wait_for(found, seconds), f"no {text!r} in:\n" + "\n".join(self.lines)

    def end(self) -> list[str]:
        """Wait for the end of the program; all that it has printed."""
        code = self._process.wait(PROGRAM_SECONDS_MAX)
        self._reader.join(PROGRAM_SECONDS_MAX)
        assert code == 0, f"ended with {code}:\n" + "\n".join(self.lines)
        return self.lines

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._more:
                self.lines.append(line.rstrip("\n"))
                self._more.notify_all()


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Poll until a condition holds. Raises: AssertionError after the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)
