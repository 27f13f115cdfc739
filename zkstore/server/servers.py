"""The server.N lines of a configuration: who belongs to the ensemble, and at which addresses.

Invariants:
  1. A line is read as Apache reads it; what it refuses is refused.
Not here: quorum addresses; a server that runs standalone uses only its client address.
Source: QuorumPeer.QuorumServer and QuorumPeerConfig.parseDynamicConfig of ZooKeeper 3.9.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from zkstore.errors import ConfigError
from zkstore.server import values
from zkstore.server.properties import Property

_EXPECTED: Final = "host:port[:electionPort][:role][;[clientAddress:]clientPort]"
_HOST: Final = r"(?:\[[^\]]+\]|[^\[\]:;|]+)"
_ADDRESS: Final = rf"{_HOST}:\d+(?::\d+)?"
_LINE: Final = re.compile(
    rf"{_ADDRESS}(?:\|{_ADDRESS})*(?::(?P<role>[A-Za-z]+))?"
    rf"(?:;(?:(?P<client_host>{_HOST}):)?(?P<client_port>\d+))?\Z"
)


class Server(NamedTuple):
    """One line; `where` and `key` name it in messages."""

    where: str
    key: str
    role: str  # "participant" or "observer"
    client_host: str  # empty: all addresses
    client_port: int | None


def is_server_line(name: str) -> bool:
    # server.realm and server.principal are properties of Kerberos.
    return name.startswith("server.") and name not in ("server.realm", "server.principal")


def role(text: str) -> str:
    if text.lower() not in ("participant", "observer"):
        raise ValueError("participant or observer")
    return text.lower()


def read_dynamic_lines(lines: Iterable[Property]) -> list[Property]:
    """The server lines of a dynamic configuration file, which has no other settings.

    Raises: ConfigError for any other key than group, weight and version.
    """
    found = []
    for line in lines:
        if is_server_line(line.key):
            found.append(line)
        elif not line.key.startswith(("group", "weight")):
            raise ConfigError(
                f"{line.where}: {line.key}: a dynamic configuration file has server lines only"
            )
    return found


def parse(line: Property) -> Server:
    """Raises: ConfigError."""
    number = line.key.removeprefix("server.")
    if not number.isdecimal():
        raise ConfigError(f"{line.where}: {line.key}: expected server.N with a number N")
    match = _LINE.match(line.value.replace(" ", ""))
    if match is None:
        raise ConfigError(f"{line.where}: {line.key}={line.value}: expected {_EXPECTED}")
    try:
        member_role = role(match["role"] or "participant")
        port = match["client_port"]
        client_port = None if port is None else values.integer(0, 65535)(port)
        client_host = values.host(match["client_host"]) if match["client_host"] else ""
    except ValueError as error:
        raise ConfigError(f"{line.where}: {line.key}={line.value}: expected {error}") from error
    return Server(line.where, line.key, member_role, client_host, client_port)


def check(servers: Sequence[Server], *, standalone_enabled: bool) -> None:
    """Raises: ConfigError if the lines are not those of a server that can run alone."""
    voters = [server for server in servers if server.role == "participant"]
    if servers and not voters:
        raise ConfigError(f"{servers[0].where}: {servers[0].key}: an observer needs participants")
    if len(servers) > 1:
        raise ConfigError(
            f"{servers[1].where}: {servers[1].key} is the second of {len(servers)} servers:"
            " ensembles come with a later version of zkstore; to run standalone leave out the"
            " server lines"
        )
    if not servers and not standalone_enabled:
        raise ConfigError("standaloneEnabled=false needs a server line")
