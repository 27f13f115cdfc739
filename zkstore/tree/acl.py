"""Access control lists: decoding, what may be set, and who may do what.

Owns:   nothing; pure. An ACL is a tuple of (perms, scheme, id), texts as bytes; stored as the
        wire's vector.
Invariants:
  1. `allows` never raises: an entry that no provider understands grants nothing.
Source: ZooKeeperServer.checkACL, PrepRequestProcessor.fixupACL.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from zkstore.errors import Code, RemoteProtocolError, ZooKeeperError
from zkstore.jute.codec import buffer, pack_int, read_buffer, read_int, utf8
from zkstore.proto.opcodes import ADMIN, ALL_PERMS
from zkstore.tree.auth import Identity, Providers

Entry = tuple[int, bytes, bytes]
Acl = tuple[Entry, ...]

OPEN: Final[Acl] = ((ALL_PERMS, b"world", b"anyone"),)
READ_ALL: Final[Acl] = ((1, b"world", b"anyone"),)
_SUPER: Final = b"super"


def read(
    frame: bytes, offset: int
) -> tuple[list[tuple[int, bytes | None, bytes | None]] | None, int]:
    """Decode a vector<ACL> as it came: nulls and all, for `fix_up` to judge."""
    count, offset = read_int(frame, offset)
    if count < 0:
        return None, offset
    if count > (len(frame) - offset) // 12:
        raise RemoteProtocolError(f"vector of {count} ACLs in a frame of {len(frame)} bytes")
    entries = []
    for _ in range(count):
        perms, offset = read_int(frame, offset)
        scheme, offset = read_buffer(frame, offset)
        identity, offset = read_buffer(frame, offset)
        entries.append((perms, scheme, identity))
    return entries, offset


def encode(acl: Acl) -> bytes:
    """The wire's vector<ACL>."""
    return pack_int(len(acl)) + b"".join(
        pack_int(perms) + buffer(scheme) + buffer(identity) for perms, scheme, identity in acl
    )


def decode(encoded: bytes) -> Acl:
    """An ACL that was stored: no nulls in it."""
    entries, end = read(encoded, 0)
    assert end == len(encoded), (end, len(encoded))
    return tuple(
        (perms, scheme or b"", identity or b"") for perms, scheme, identity in entries or []
    )


OPEN_ENCODED: Final = encode(OPEN)
OPEN_ID: Final = -1  # as a node keeps it; all others are in a table


def allows(acl: Acl, perm: int, identities: Iterable[Identity], providers: Providers) -> bool:
    """Whether the connection may: open list, super user, or an entry that grants and matches."""
    if not acl or providers.skip_acl:
        return True
    if any(identity[0] == _SUPER for identity in identities):
        return True
    for perms, scheme, expression in acl:
        if not perms & perm:
            continue
        if scheme == b"world" and expression == b"anyone":
            return True
        provider = providers.get(scheme)
        if provider is not None and any(
            identity[0] == scheme and provider.matches(identity[1], expression)
            for identity in identities
        ):
            return True
    return False


def fix_up(
    entries: list[tuple[int, bytes | None, bytes | None]] | None,
    identities: Iterable[Identity],
    providers: Providers,
) -> Acl:
    """What is stored of an ACL that a client asks for: duplicates removed, then `auth` expanded.

    Raises: ZooKeeperError(INVALID_ACL) for an empty list, a null, an unknown scheme or an id it
            refuses.
    """
    fixed: list[Entry] = []
    for perms, scheme, expression in dict.fromkeys(entries or ()):
        if scheme is None:
            raise ZooKeeperError(Code.INVALID_ACL, "null scheme in an ACL")
        if scheme == b"auth":
            mine = [one for one in identities if _vouches(providers, one)]
            if not mine:
                raise ZooKeeperError(Code.INVALID_ACL, "auth without an authenticated id")
            fixed += [(perms, one[0], one[1]) for one in mine]
        elif expression is None:  # a NullPointerException in Apache
            raise ZooKeeperError(Code.MARSHALLING_ERROR, "null id in an ACL")
        elif scheme == b"world" and expression == b"anyone":
            fixed.append((perms, scheme, expression))
        else:
            provider = providers.get(scheme)
            expression = utf8(expression)
            if provider is None or not provider.is_valid(expression):
                raise ZooKeeperError(Code.INVALID_ACL, f"{scheme!r}:{expression!r}")
            fixed.append((perms, scheme, expression))
    if not fixed:
        raise ZooKeeperError(Code.INVALID_ACL, "empty ACL")
    return tuple(fixed)


def _vouches(providers: Providers, identity: Identity) -> bool:
    provider = providers.get(identity[0])
    return provider is not None and provider.is_authenticated


def shown(acl: Acl, identities: Iterable[Identity], providers: Providers) -> Acl:
    """What getACL shows: digest hashes are masked for those without ADMIN. Source:
    CVE-2019-0201."""
    if allows(acl, ADMIN, identities, providers):
        return acl
    return tuple(
        (perms, scheme, expression.split(b":")[0] + b":x" if scheme == b"digest" else expression)
        for perms, scheme, expression in acl
    )
