"""`zkstore admin`: looks into a running server and changes it, from the machine it runs on.

Owns:   the command's options, its text, its exit codes: 0 done, 1 the server cannot be asked or
        cannot do it, 2 the command is wrong.
Design: through the admin socket in the data directory, so the file system says who may. It needs no
        client port, no password, and works while clients are turned away.
Not here: what the server does (commit/control.py).
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from zkstore import admin_socket
from zkstore.errors import ConfigError, ZkstoreError
from zkstore.server import config
from zkstore.settings import Settings

_SECONDS_MAX: Final = 10.0
_EPILOG: Final = """commands:
  get [NAME]                     the settings, by the names of zoo.cfg
  set NAME VALUE                 change one until the server ends
  reset WHAT                     statistics, connections, latency, max-latency or auth-failed
  sessions                       who has a session, and where it is connected
  connections                    who is connected
  ephemerals                     the ephemeral nodes of each session
  terminate-session ID           close a session; its ephemeral nodes go
  terminate-connection ADDRESS   end the connection from address:port, or all from an address
"""


def main(argv: list[str]) -> int:
    """Shows and changes a running server's settings, sessions and connections."""
    arguments = _parser().parse_args(argv)
    try:
        data_dir = _data_dir(arguments)
        answer = _ask(data_dir, arguments.command, arguments.arguments)
    except ZkstoreError as error:
        sys.stderr.write(f"zkstore: {error}\n")
        return 2 if isinstance(error, ConfigError) else 1
    if arguments.json:
        sys.stdout.write(json.dumps(answer) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in _SHOWN[arguments.command](answer)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zkstore admin",
        description="Look into a running server, and change it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--data-dir", metavar="D", help="the server's dataDir (default: data)")
    where.add_argument("--config", metavar="zoo.cfg", help="the server's configuration")
    parser.add_argument("--json", action="store_true", help="the answer as JSON")
    parser.add_argument("command", metavar="COMMAND", choices=sorted(_SHOWN))
    parser.add_argument("arguments", metavar="ARGUMENT", nargs="*")
    return parser


def _data_dir(arguments: argparse.Namespace) -> str:
    """Raises: ConfigError."""
    if arguments.config is not None:
        return config.configure(config.read_file(Path(arguments.config))).settings.data_dir
    return arguments.data_dir or Settings().data_dir


def _ask(data_dir: str, word: str, arguments: list[str]) -> Any:
    """The server's answer. Raises: ConfigError for a wrong request, ZkstoreError for the rest."""
    path = admin_socket.path_of(data_dir)
    request = json.dumps({"do": word, "arguments": arguments}).encode() + b"\n"
    if len(request) > admin_socket.LINE_BYTES_MAX:
        raise ConfigError("the arguments are too long")
    try:
        with (
            admin_socket.address(path) as address,
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection,
        ):
            connection.settimeout(_SECONDS_MAX)
            connection.connect(address)
            connection.sendall(request)
            with connection.makefile("rb") as answers:
                line = answers.readline()
    except OSError as error:
        raise ZkstoreError(f"no server answers at {path}: {error.strerror or error}") from error
    try:
        answer = json.loads(line)
    except ValueError as error:
        raise ZkstoreError(f"the server at {path} gave no answer") from error
    if "error" in answer:
        raise (ConfigError if answer["wrong"] else ZkstoreError)(answer["error"])
    return answer["answer"]


# ---- the answers as text


def _settings(answer: list[dict[str, Any]]) -> list[str]:
    if len(answer) == 1:
        return [answer[0]["value"]]
    return [
        f"{one['name']}={one['value']}{'' if one['live'] else '  (at the start only)'}"
        for one in answer
    ]


def _change(answer: dict[str, str]) -> list[str]:
    return [f"{answer['before']} -> {answer['after']}"]


def _sessions(answer: list[dict[str, Any]]) -> list[str]:
    return [
        f"{one['session_id']}  {one['address'] or 'not connected'}  timeout {one['timeout_ms']} ms,"
        f" heard {one['heard_ms_ago']} ms ago, {one['ephemerals']} ephemerals"
        for one in answer
    ]


def _connections(answer: list[dict[str, Any]]) -> list[str]:
    return [
        f"{one['address']}  session {one['session_id']}, timeout {one['timeout_ms']} ms, connected"
        f" {one['connected_ms_ago']} ms ago, received {one['received']}, sent {one['sent']},"
        f" outstanding {one['outstanding']}"
        for one in answer
    ]


def _ephemerals(answer: dict[str, list[str]]) -> list[str]:
    return [line for owner, paths in answer.items() for line in (owner, *(f"\t{p}" for p in paths))]


_SHOWN: Final[dict[str, Callable[[Any], list[str]]]] = {
    "get": _settings,
    "set": _change,
    "reset": lambda what: [f"{what} reset"],
    "sessions": _sessions,
    "connections": _connections,
    "ephemerals": _ephemerals,
    "terminate-session": lambda session_id: [f"{session_id} is being closed"],
    "terminate-connection": lambda addresses: [f"{one} ended" for one in addresses],
}
