"""The server, group and weight lines of a configuration: who belongs to the ensemble.

Invariants:
  1. A line is read as Apache reads it; what it refuses is refused, with file and line.
Not here: the syntax of a line's value, quorums (zab/membership.py).
Source: QuorumPeerConfig.parseDynamicConfig and setupQuorumPeerConfig of ZooKeeper 3.9.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from zkstore.errors import ConfigError
from zkstore.server import values
from zkstore.server.properties import Property
from zkstore.zab.membership import Member, Membership, Parser

_FAMILIES: Final = ("server.", "group.", "weight.")


def is_member_line(name: str) -> bool:
    # server.realm and server.principal are properties of Kerberos.
    return name.startswith(_FAMILIES) and name not in ("server.realm", "server.principal")


def read_dynamic_lines(lines: Iterable[Property]) -> list[Property]:
    """The lines of a dynamic configuration file, which has no other settings.

    Raises: ConfigError for any other key.
    """
    found = list(lines)
    for line in found:
        if not is_member_line(line.key):
            raise ConfigError(
                f"{line.where}: {line.key}: a dynamic configuration file has server lines only"
            )
    return found


def read(lines: Sequence[Property]) -> Membership | None:
    """The members; None if there is no server line.

    Raises: ConfigError.
    """
    servers = [line for line in lines if line.key.startswith("server.")]
    if not servers:
        return None
    parser = Parser()
    for line in lines:
        try:
            parser.add(line.key, line.value)
        except ValueError as error:
            raise ConfigError(f"{line.where}: {line.key}={line.value}: expected {error}") from error
    try:
        return parser.result()
    except ValueError as error:
        raise ConfigError(f"{servers[0].where}: {servers[0].key}: expected {error}") from error


def find_own(membership: Membership, myid: Path) -> Member:
    """The member that this server is: the one whose number stands in the file `myid`.

    Raises: ConfigError.
    """
    listed = ", ".join(map(str, membership.members))
    duty = f"it must hold the number of this server's line server.N: {listed}"
    try:
        text = myid.read_text(errors="replace").partition("\n")[0].strip()
    except FileNotFoundError:
        raise ConfigError(f"{myid}: there is no such file; {duty}") from None
    except OSError as error:
        raise ConfigError(f"{myid}: {error.strerror}; {duty}") from error
    try:
        member = membership.members.get(values.integer(0, values.INT64_MAX)(text))
    except ValueError:
        member = None
    if member is None:
        raise ConfigError(f"{myid}:1: {text[:20]!r} is not the number of a server line; {duty}")
    return member


def weakness(membership: Membership) -> str | None:
    """What to say of a membership that tolerates less than it costs; None if there is nothing."""
    count = len(membership.voters)
    if count == 2:
        return "with 2 participants none may fail; 3 are the least that can lose one"
    if count % 2 == 0:
        return f"{count} participants can lose no more of them than {count - 1}"
    return None
