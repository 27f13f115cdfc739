"""`zkstore status`: asks a server how it is, with the word that every server answers.

Owns:   the command's options and exit codes: 0 it serves, 1 it does not, 2 the command is wrong.
Design: over the client port, like any tool: what it tells is what clients get. It works with
  Apache's servers as well.
Not here: what the server answers (proto/fourletter.py).
"""

from __future__ import annotations

import argparse
import socket
import sys
from pathlib import Path
from typing import Final, NamedTuple

from zkstore.errors import ConfigError
from zkstore.server import config

_SECONDS_MAX: Final = 10.0
_ANSWER_BYTES_MAX: Final = 1 << 20


class Address(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def main(argv: list[str]) -> int:
    """Tells whether a server serves, and its counts."""
    parser = argparse.ArgumentParser(
        prog="zkstore status", description="Ask a server for its state, as srvr gives it."
    )
    parser.add_argument(
        "server",
        nargs="?",
        default=f"localhost:{config.CLIENT_PORT_DEFAULT}",
        metavar="HOST:PORT or zoo.cfg",
        help="default: %(default)s",
    )
    given = parser.parse_args(argv).server
    try:
        address = address_of(Path(given)) if Path(given).is_file() else parse(given)
    except ConfigError as error:
        sys.stderr.write(f"zkstore: {error}\n")
        return 2
    answer = ask(address)
    if answer is None:
        sys.stderr.write(f"zkstore: no server answers on {address}\n")
        return 1
    sys.stdout.write(answer)
    return 0


def address_of(path: Path) -> Address:
    """Where the server of a zoo.cfg listens, for a client on its machine. Raises: ConfigError."""
    settings = config.configure(config.read_file(path)).settings
    return Address(settings.client_port_address or "localhost", settings.client_port)


def parse(text: str) -> Address:
    """host:port, [host]:port, host or :port. Raises: ConfigError."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(config.CLIENT_PORT_DEFAULT)
    if not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"{text}: expected host:port, or a configuration file")
    return Address(host.removeprefix("[").removesuffix("]") or "localhost", int(port))


def ask(address: Address, word: str = "srvr", seconds: float = _SECONDS_MAX) -> str | None:
    """The answer to a four-letter word; None if there is none in time."""
    answer = b""
    try:
        with socket.create_connection(address, seconds) as connection:
            connection.sendall(word.encode())
            while len(answer) < _ANSWER_BYTES_MAX and (chunk := connection.recv(65536)):
                answer += chunk
    except OSError:
        return None
    return answer.decode(errors="replace") or None
