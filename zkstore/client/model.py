"""What a client gives and takes beside values: nodes, access control lists, kinds of creation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import Final, Generic, NamedTuple, TypeVar

from zkstore.proto import client_requests as requests
from zkstore.proto import opcodes as op
from zkstore.proto.client_replies import Stat

T = TypeVar("T")
ANY_VERSION: Final = -1


@dataclass(frozen=True, slots=True)
class Node(Generic[T]):
    """A node as a reply showed it."""

    path: str
    value: T
    stat: Stat

    @property
    def name(self) -> str:
        """The last component of the path."""
        return self.path.rpartition("/")[2]

    @property
    def version(self) -> int:
        """What a write expects that must not overwrite somebody else's."""
        return self.stat.version


class Perms(IntFlag):
    READ = op.READ
    WRITE = op.WRITE
    CREATE = op.CREATE_PERM
    DELETE = op.DELETE_PERM
    ADMIN = op.ADMIN
    ALL = op.ALL_PERMS


class Acl(NamedTuple):
    """One entry of an access control list."""

    perms: Perms
    scheme: str
    id: str


OPEN: Final = (Acl(Perms.ALL, "world", "anyone"),)
READ_ONLY: Final = (Acl(Perms.READ, "world", "anyone"),)
CREATOR: Final = (Acl(Perms.ALL, "auth", ""),)  # every identity that the client has added


def acl_entries(acl: Sequence[Acl]) -> list[requests.AclEntry]:
    return [(entry.perms, entry.scheme.encode(), entry.id.encode()) for entry in acl]


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """How a node is created: the arguments that `create` has beside path and value."""

    ephemeral: bool = False  # goes with the session
    sequential: bool = False  # the server appends a number that rises with each child
    container: bool = False  # goes some time after its last child
    ttl_ms: int | None = None  # goes when it has been unchanged and childless for so long
    acl: Sequence[Acl] = OPEN

    def request(self, path: bytes, data: bytes | None) -> tuple[int, bytes]:
        """(opcode, body). Raises: ValueError for what no server can do."""
        if self.ephemeral + self.container + (self.ttl_ms is not None) > 1:
            raise ValueError("a node is ephemeral, or a container, or has a time to live")
        if self.container and self.sequential:
            raise ValueError("a container has no sequence number")
        if self.container:
            kind, flags = op.CREATE_CONTAINER, op.CONTAINER
        elif self.ttl_ms is not None:
            kind = op.CREATE_TTL
            flags = op.PERSISTENT_SEQUENTIAL_WITH_TTL if self.sequential else op.PERSISTENT_WITH_TTL
        else:
            # The flags' bits: 1 ephemeral, 2 sequential.
            kind, flags = op.CREATE2, self.ephemeral + 2 * self.sequential
        return kind, requests.create(path, data, acl_entries(self.acl), flags, self.ttl_ms)
