"""Authentication providers: how a connection proves who it is, and which ids an ACL entry matches.

Owns:   the table of providers of one process. Pure: remote addresses and auth data come in as
        arguments.
Invariants:
  1. An identity is (scheme, id), both bytes; scheme b"super" passes every check.
  2. A provider never raises on a client's data but AuthFailed.
Design: a provider is a small class; `Providers.load` finds further ones by "module:Class", so that
        a site's own scheme is a Python class of four methods. The scheme name comes from the class,
        as in Apache.
Source: IPAuthenticationProvider, DigestAuthenticationProvider, EnsembleAuthenticationProvider,
        ProviderRegistry.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import ipaddress
import re
from collections.abc import Iterable
from typing import Final, Protocol

from zkstore.constants import IDENTITIES_MAX
from zkstore.errors import ConfigError
from zkstore.settings import Settings

Identity = tuple[bytes, bytes]


class AuthFailed(Exception):
    """The auth data proves nothing; the connection is closed."""

    is_told = True  # whether the client hears of it before


class WrongEnsemble(AuthFailed):
    """The client means another ensemble: it shall look for that, not give up."""

    is_told = False


class Provider(Protocol):
    """One scheme of authentication."""

    scheme: bytes
    is_authenticated: bool  # whether its ids stand in for the `auth` scheme

    def authenticate(self, auth: bytes | None, address: str) -> list[Identity]:
        """The identities that the data proves. Raises: AuthFailed."""

    def matches(self, identity: bytes, expression: bytes) -> bool:
        """Whether an ACL entry's expression means this id."""

    def is_valid(self, expression: bytes) -> bool:
        """Whether the expression may stand in an ACL."""

    def user_name(self, identity: bytes) -> bytes:
        """What whoAmI and the audit log call the id."""


class IpProvider:
    """Scheme `ip`: address or address/bits."""

    scheme = b"ip"
    is_authenticated = False

    def authenticate(self, auth: bytes | None, address: str) -> list[Identity]:
        return [(b"ip", address.encode())]

    def matches(self, identity: bytes, expression: bytes) -> bool:
        network, address = _network(expression), _address(identity)
        if network is None or address is None or len(network[0]) != len(address):
            return False
        base, bits = network
        rest = 8 * len(base) - bits
        return int.from_bytes(base, "big") >> rest == int.from_bytes(address, "big") >> rest

    def is_valid(self, expression: bytes) -> bool:
        return _network(expression) is not None

    def user_name(self, identity: bytes) -> bytes:
        return identity


# What Java's parseInt takes for a small number: leading zeros are none of an octal one.
_SMALL: Final = re.compile(rb"[+-]?0{0,20}[0-9]{1,3}")


def _small(text: bytes, greatest: int) -> int | None:
    """A number from 0 to `greatest`, None if it is not one."""
    number = int(text) if _SMALL.fullmatch(text) else -1
    return number if 0 <= number <= greatest else None


def _address(text: bytes) -> bytes | None:
    """The 4 or 16 bytes of an address, None if it is none."""
    numbers = [_small(part, 255) for part in text.split(b".")]
    known = [number for number in numbers if number is not None]
    if len(numbers) == len(known) == 4:
        return bytes(known)
    try:
        return ipaddress.IPv6Address(text.decode()).packed
    except ValueError:
        return None


def written_out(address: str) -> str:
    """A client's address as Java writes it: of IPv6 all eight numbers, "0:0:0:0:0:0:0:1"."""
    address = address.removeprefix("::ffff:")  # IPv4 that came in on a socket for both
    if ":" not in address:
        return address
    plain, percent, zone = address.partition("%")
    groups = ipaddress.IPv6Address(plain).exploded.split(":")
    return ":".join(f"{int(group, 16):x}" for group in groups) + percent + zone


def _network(expression: bytes) -> tuple[bytes, int] | None:
    """(address, bits that count) of "address" or "address/bits", None if it is neither."""
    text, slash, suffix = expression.partition(b"/")
    address = _address(text)
    if address is None:
        return None
    bits = _small(suffix, 8 * len(address)) if slash else 8 * len(address)
    return None if bits is None else (address, bits)


class DigestProvider:
    """Scheme `digest`: id user:base64(hash("user:password")); with the super digest, super."""

    scheme = b"digest"
    is_authenticated = True

    def __init__(self, algorithm: str, super_digest: str) -> None:
        name = algorithm.lower().replace("-", "").replace("sha3", "sha3_")
        try:
            hashlib.new(name)
        except ValueError:
            raise ConfigError(f"digestAlg={algorithm}: no such hash algorithm") from None
        self._algorithm = name
        self._super_digest = super_digest.encode()

    def digest(self, auth: bytes) -> bytes:
        """user:password → user:base64(hash)."""
        user = auth.split(b":", 1)[0]
        return user + b":" + base64.b64encode(hashlib.new(self._algorithm, auth).digest())

    def authenticate(self, auth: bytes | None, address: str) -> list[Identity]:
        if auth is None:
            raise AuthFailed("no auth data")
        # Java reads it as text first: what is no UTF-8 is replaced before it is hashed.
        digest = self.digest(auth.decode(errors="replace").encode())
        identities = [(b"digest", digest)]
        if self._super_digest and digest == self._super_digest:
            identities.insert(0, (b"super", b""))
        return identities

    def matches(self, identity: bytes, expression: bytes) -> bool:
        return identity == expression

    def is_valid(self, expression: bytes) -> bool:
        # As Java splits: empty parts at the end do not count, so "a:" and ":" are refused.
        return len(expression.rstrip(b":").split(b":")) == 2

    def user_name(self, identity: bytes) -> bytes:
        return identity.split(b":", 1)[0]


class EnsembleProvider:
    """Scheme `ensemble`: the client names the ensemble it means."""

    scheme = b"ensemble"
    is_authenticated = False

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(name.encode() for name in names)

    def authenticate(self, auth: bytes | None, address: str) -> list[Identity]:
        if auth and self._names and auth not in self._names:
            raise WrongEnsemble(f"ensemble name {auth!r} is none of ours")
        return []

    def matches(self, identity: bytes, expression: bytes) -> bool:
        return False

    def is_valid(self, expression: bytes) -> bool:
        return False

    def user_name(self, identity: bytes) -> bytes:
        return identity


_ENSEMBLE: Final = "EnsembleAuthenticationProvider"  # as server/config.py names Apache's class


class Providers:
    """The schemes that this server knows."""

    def __init__(self, providers: Iterable[Provider], *, skip_acl: bool = False) -> None:
        self._by_scheme = {provider.scheme: provider for provider in providers}
        self.skip_acl = skip_acl
        self.get = self._by_scheme.get

    @classmethod
    def of(cls, settings: Settings) -> Providers:
        """The built-in providers and the configured ones.

        Raises: ConfigError for a class that cannot be had.
        """
        providers: list[Provider] = [IpProvider()]
        if settings.digest_auth_enabled:
            providers.append(DigestProvider(settings.digest_algorithm, settings.super_digest))
        for name in settings.auth_providers:
            if name == _ENSEMBLE:
                providers.append(EnsembleProvider(settings.ensemble_auth_names))
            else:
                providers.append(_imported(name))
        return cls(providers, skip_acl=settings.skip_acl)

    def prove(
        self, scheme: bytes | None, auth: bytes | None, address: str, known: tuple[Identity, ...]
    ) -> tuple[Identity, ...]:
        """The identities of a connection after an auth packet. Raises: AuthFailed."""
        provider = self.get(scheme) if scheme is not None else None
        if provider is None:
            raise AuthFailed(f"scheme {scheme!r} is not known")
        identities = tuple(dict.fromkeys((*known, *provider.authenticate(auth, address))))
        if len(identities) > IDENTITIES_MAX:
            raise AuthFailed(f"more than {IDENTITIES_MAX} identities")
        return identities


def _imported(name: str) -> Provider:
    """A provider by "module:Class"."""
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ConfigError(f"authProvider={name}: expected module:Class of a Python provider")
    try:
        provider: Provider = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError) as e:
        raise ConfigError(f"authProvider={name}: {e}") from e
    return provider
