"""Who belongs to an ensemble, at which addresses, and which of them together are a quorum.

Owns:   the text form of a membership: of server lines, of /zookeeper/config, of NEWLEADER.
Invariants:
  1. Any two quorums share a voter: is_quorum holds for no two sets of voters without a common one.
  2. Only voters count: ids of observers and strangers in a set change nothing.
  3. A text that Apache refuses is refused; what is read is written back in Apache's spelling.
Design: frozen; another membership is another object. Names of hosts are kept as written: who dials
        resolves them.
Shape:  lines, the last without its end:
          server.<sid>=<host>:<quorumPort>:<electionPort>[|...]:<role>[;<host>:<port>]
          group.<number>=<sid>:<sid>...
          weight.<sid>=<number>
          version=<hex>
Source: QuorumMaj, QuorumHierarchical, QuorumPeer.QuorumServer.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple, Protocol

SID_MAX: Final = (1 << 63) - 1

_EXPECTED: Final = "host:port:electionPort[:role][;[clientAddress:]clientPort]"
_HOST: Final = r"(?:\[[^\[\]\s]+\]|[^\[\]:;|\s]+)"
_ADDRESS: Final = re.compile(rf"({_HOST}):(\d{{1,5}}):(\d{{1,5}})(?::([A-Za-z]+))?\Z")
_CLIENT: Final = re.compile(rf"(?:({_HOST}):)?(\d{{1,5}})\Z")
ANY_HOST: Final = "0.0.0.0"  # what Apache makes of a client port without an address


class Address(NamedTuple):
    """One address of a member."""

    host: str  # without brackets
    quorum_port: int
    election_port: int


class Member(NamedTuple):
    """One server line."""

    sid: int
    addresses: tuple[Address, ...]  # at least one
    observer: bool = False
    client: tuple[str, int] | None = None  # (host, port); None: not in the server line
    secure: tuple[str, int] | None = None

    @classmethod
    def parse(cls, sid: int, text: str) -> Member:
        """A member from the value of its server line.

        Raises: ValueError that says what was expected.
        """
        servers, *clients = text.replace(" ", "").split(";")
        matches = [_ADDRESS.match(part) for part in servers.split("|")]
        roles = {read_role(match[4]) for match in matches if match and match[4]}
        if None in matches or len(clients) > 2:
            raise ValueError(_EXPECTED)
        if len(roles) > 1:
            raise ValueError("one role")
        addresses = tuple(
            Address(_host(match[1]), _port(match[2]), _port(match[3])) for match in matches if match
        )
        for address in addresses:
            if address.quorum_port == address.election_port:
                raise ValueError("a quorum port and another election port")
        ends: list[tuple[str, int]] = []
        for part in clients:
            client = _CLIENT.match(part)
            if client is None:
                raise ValueError(_EXPECTED)
            ends.append((_host(client[1] or ANY_HOST), _port(client[2])))
        return cls(sid, addresses, roles == {"observer"}, *ends)

    def text(self) -> str:
        """The value of the server line, as Apache writes it."""
        addresses = "|".join(
            f"{_bracketed(host)}:{quorum_port}:{election_port}"
            for host, quorum_port, election_port in sorted(self.addresses)
        )
        clients = "".join(
            f";{_bracketed(end[0])}:{end[1]}" for end in (self.client, self.secure) if end
        )
        return f"{addresses}:{'observer' if self.observer else 'participant'}{clients}"


class Quorums(Protocol):
    """What makes a quorum."""

    def is_quorum(self, sids: Collection[int]) -> bool: ...
    def weight(self, sid: int) -> int: ...
    def text(self) -> str: ...


class Majority:
    """More than half of the voters."""

    def __init__(self, voters: frozenset[int]) -> None:
        self._voters = voters

    def is_quorum(self, sids: Collection[int]) -> bool:
        return len(self._voters.intersection(sids)) > len(self._voters) // 2

    def weight(self, sid: int) -> int:
        return 1

    def text(self) -> str:
        return ""


class Hierarchical:
    """In more than half of the groups (those that weigh anything) more than half of the weight."""

    def __init__(
        self,
        voters: frozenset[int],
        groups: Mapping[int, Collection[int]],
        weights: Mapping[int, int],
    ) -> None:
        """Raises: ValueError unless each voter is in one group and each group has voters only."""
        grouped = [sid for sids in groups.values() for sid in sids]
        if len(grouped) != len(set(grouped)):
            raise ValueError("each server in one group only")
        if missing := voters.difference(grouped):
            raise ValueError(f"a group for server {min(missing)}")
        self._groups = {number: frozenset(sids) & voters for number, sids in groups.items()}
        self._weights = {sid: weights.get(sid, 1) for sid in sorted(voters)}
        self._halves = {
            number: weight // 2
            for number, sids in self._groups.items()
            if (weight := self._weigh(sids))
        }
        if not self._halves:
            raise ValueError("a group that weighs something")

    def is_quorum(self, sids: Collection[int]) -> bool:
        present = frozenset(sids)
        won = sum(
            self._weigh(self._groups[number] & present) > half
            for number, half in self._halves.items()
        )
        return won > len(self._halves) // 2

    def weight(self, sid: int) -> int:
        return self._weights.get(sid, 0)

    def text(self) -> str:
        groups = "".join(
            f"group.{number}={':'.join(map(str, sorted(sids)))}\n"
            for number, sids in sorted(self._groups.items())
        )
        return groups + "".join(f"weight.{sid}={w}\n" for sid, w in self._weights.items())

    def _weigh(self, sids: Iterable[int]) -> int:
        return sum(self._weights[sid] for sid in sids)


class Membership:
    """The members of an ensemble at one version."""

    def __init__(
        self,
        members: Iterable[Member],
        *,
        groups: Mapping[int, Collection[int]] | None = None,
        weights: Mapping[int, int] | None = None,
        version: int = 0,
    ) -> None:
        """Raises: ValueError without a voter, and as Hierarchical, which groups or weights make."""
        self.members = {member.sid: member for member in sorted(members)}
        self.voters = frozenset(m.sid for m in self.members.values() if not m.observer)
        self.observers = frozenset(self.members) - self.voters
        self.version = version
        if not self.voters:
            raise ValueError("a participant; an observer needs participants")
        self._quorums: Quorums = Majority(self.voters)
        if groups or weights:
            self._quorums = Hierarchical(self.voters, groups or {}, weights or {})

    def is_quorum(self, sids: Collection[int]) -> bool:
        return self._quorums.is_quorum(sids)

    def weight(self, sid: int) -> int:
        """0: this server may vote, but never leads."""
        return self._quorums.weight(sid)

    def text(self) -> bytes:
        """The text form, as it is sent and shown."""
        servers = "".join(f"server.{m.sid}={m.text()}\n" for m in self.members.values())
        return f"{servers}{self._quorums.text()}version={self.version:x}".encode()

    @classmethod
    def parse(cls, text: bytes | str) -> Membership:
        """The membership of a text form.

        Raises: ValueError that says what was expected.
        """
        if isinstance(text, bytes):
            text = text.decode()  # a UnicodeDecodeError is a ValueError
        parser = Parser()
        for line in text.splitlines():
            if line:
                parser.add(*line.partition("=")[::2])
        return parser.result()


class Parser:
    """A membership in the making: its lines in any order, then `result`."""

    def __init__(self) -> None:
        self._members: dict[int, Member] = {}
        self._groups: dict[int, list[int]] = {}
        self._weights: dict[int, int] = {}
        self._version = 0

    def add(self, key: str, value: str) -> None:
        """One line. Raises: ValueError that says what was expected."""
        family, dot, name = key.partition(".")
        if key == "version":
            self._version = _number(value, 16)
        elif not dot or family not in ("server", "group", "weight"):
            raise ValueError("lines server.N, group.N, weight.N and version")
        elif family == "server":
            number = _number(name)
            self._members[number] = Member.parse(number, value)
        elif family == "group":
            self._groups[_number(name)] = [_number(sid) for sid in value.split(":")]
        else:
            self._weights[_number(name)] = _number(value)

    def result(self) -> Membership:
        """Raises: ValueError, as Membership."""
        return Membership(
            self._members.values(),
            groups=self._groups,
            weights=self._weights,
            version=self._version,
        )


def read_role(text: str) -> str:
    """A role's name in lower case. Raises: ValueError."""
    if text.lower() not in ("participant", "observer"):
        raise ValueError("participant or observer")
    return text.lower()


def _number(text: str, base: int = 10) -> int:
    text = text.strip()
    digits = r"[0-9a-fA-F]{1,16}" if base == 16 else r"[0-9]{1,19}"
    if not re.fullmatch(digits, text) or (number := int(text, base)) > SID_MAX:
        raise ValueError("a number")
    return number


def _host(text: str) -> str:
    return text.removeprefix("[").removesuffix("]")


def _port(text: str) -> int:
    if int(text) > 0xFFFF:
        raise ValueError("ports up to 65535")
    return int(text)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
