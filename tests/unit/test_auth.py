"""tree/auth.py: reference section J, scheme by scheme."""

from __future__ import annotations

import base64
import hashlib

import pytest

from zkstore.errors import ConfigError
from zkstore.settings import Settings
from zkstore.tree.auth import (
    AuthFailed,
    DigestProvider,
    EnsembleProvider,
    IpProvider,
    Provider,
    Providers,
    written_out,
)

HERE = "10.1.2.3"
# What Apache ZooKeeper 3.9.3 stored for `addauth digest user:pw` (tests/golden/data/zk393).
USER = b"user:2Om+GBbT2q/tS6pdvACZbbm7/1A="


def test_digest_is_apaches() -> None:
    provider: Provider = DigestProvider("SHA1", "")
    assert provider.authenticate(b"user:pw", HERE) == [(b"digest", USER)]
    assert provider.user_name(USER) == b"user"


def hashed(auth: bytes, algorithm: str = "sha1") -> bytes:
    user = auth.partition(b":")[0]
    return user + b":" + base64.b64encode(hashlib.new(algorithm, auth).digest())


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [("SHA1", "sha1"), ("SHA-256", "sha256"), ("SHA-512", "sha512"), ("MD5", "md5"),
     ("SHA3-256", "sha3_256")],
)  # fmt: skip
def test_javas_names_of_hash_algorithms(algorithm: str, name: str) -> None:
    provider = DigestProvider(algorithm, "")
    assert provider.digest(b"u:p") == hashed(b"u:p", name)


def test_an_unknown_hash_algorithm_is_a_mistake_in_the_configuration() -> None:
    with pytest.raises(ConfigError, match="digestAlg=WHIRL"):
        DigestProvider("WHIRL", "")


@pytest.mark.parametrize("auth", [b"", b"no colon", b"a:b:c", b":", b"u:"])
def test_any_digest_data_is_an_identity(auth: bytes) -> None:
    assert DigestProvider("SHA1", "").authenticate(auth, HERE) == [(b"digest", hashed(auth))]


def test_digest_data_is_read_as_text_first() -> None:
    assert DigestProvider("SHA1", "").authenticate(b"u:\xff", HERE) == [
        (b"digest", hashed("u:\ufffd".encode()))
    ]


def test_null_digest_data_is_refused() -> None:
    with pytest.raises(AuthFailed):
        DigestProvider("SHA1", "").authenticate(None, HERE)


def test_the_super_digest_makes_a_super_user() -> None:
    provider = DigestProvider("SHA1", hashed(b"root:secret").decode())
    assert provider.authenticate(b"root:secret", HERE) == [
        (b"super", b""), (b"digest", hashed(b"root:secret")),
    ]  # fmt: skip
    assert len(provider.authenticate(b"root:guess", HERE)) == 1


@pytest.mark.parametrize(
    ("expression", "matches"),
    [
        (b"10.1.2.3", True), (b"10.1.2.3/32", True), (b"10.1.2.0/24", True), (b"10.1.2.9/24", True),
        (b"0.0.0.0/0", True), (b"10.1.2.4", False), (b"10.2.0.0/16", False), (b"::1", False),
        (b"junk", False), (b"\xff", False), (b"", False), (b"010.001.002.003", True),
        (b"10.1.2.0/024", True), (b"+10.1.2.3", True), (b"11.1.2.3/7", True), (b"::/0", False),
    ],
)  # fmt: skip
def test_ip_matches(expression: bytes, matches: bool) -> None:
    assert IpProvider().matches(b"10.1.2.3", expression) == matches


@pytest.mark.parametrize(
    "expression",
    [b"1.2.3", b"1.2.3.4/33", b"1.2.3.4/", b"1.2.3.4/-1", b"10.0.0.0/255.0.0.0", b"256.1.1.1",
     b"a.b.c.d", b"", b"\xff", b"1.2.3.4.", b"1.2.3.4 ", b"1.2.3.4/8/8", b"1.2.3.-4"],
)  # fmt: skip
def test_ip_expressions_that_are_refused(expression: bytes) -> None:
    assert not IpProvider().is_valid(expression)


@pytest.mark.parametrize(
    "expression", [b"1.2.3.4", b"1.2.3.4/0", b"1.2.3.4/32", b"::1", b"fe80::/10"]
)
def test_ip_expressions(expression: bytes) -> None:
    assert IpProvider().is_valid(expression)


@pytest.mark.parametrize(
    ("address", "written"),
    [
        ("10.1.2.3", "10.1.2.3"), ("::ffff:10.1.2.3", "10.1.2.3"), ("", ""),
        ("::1", "0:0:0:0:0:0:0:1"), ("2001:db8::a0:f", "2001:db8:0:0:0:0:a0:f"),
        ("fe80::1%eth0", "fe80:0:0:0:0:0:0:1%eth0"),
    ],
)  # fmt: skip
def test_an_address_is_written_as_by_java(address: str, written: str) -> None:
    assert written_out(address) == written
    assert IpProvider().matches(written.encode(), b"::/0") == (":" in written)


def test_an_ip_proves_nothing_to_the_auth_scheme() -> None:
    assert not IpProvider.is_authenticated
    assert IpProvider().authenticate(b"whatever", HERE) == [(b"ip", HERE.encode())]


def test_ensemble() -> None:
    provider: Provider = EnsembleProvider(["east", "west"])
    assert provider.authenticate(b"west", HERE) == []
    assert provider.authenticate(b"", HERE) == []
    with pytest.raises(AuthFailed) as failed:
        provider.authenticate(b"north", HERE)
    assert not failed.value.is_told
    assert EnsembleProvider([]).authenticate(b"anything", HERE) == []
    assert not provider.matches(b"east", b"east")
    assert not provider.is_valid(b"east")


class Badge:
    """A provider of one's own."""

    scheme = b"badge"
    is_authenticated = True

    def authenticate(self, auth: bytes | None, address: str) -> list[tuple[bytes, bytes]]:
        return [(b"badge", auth or b"")]

    def matches(self, identity: bytes, expression: bytes) -> bool:
        return identity.startswith(expression)

    def is_valid(self, expression: bytes) -> bool:
        return True

    def user_name(self, identity: bytes) -> bytes:
        return identity


def test_providers_of_the_settings() -> None:
    providers = Providers.of(Settings(auth_providers=(f"{__name__}:Badge",)))
    assert providers.get(b"ip") and providers.get(b"digest")
    badge = providers.get(b"badge")
    assert badge is not None and badge.authenticate(b"7", HERE) == [(b"badge", b"7")]
    assert Providers.of(Settings(digest_auth_enabled=False)).get(b"digest") is None
    assert Providers.of(Settings(skip_acl=True)).skip_acl


@pytest.mark.parametrize("name", ["no.such.module:Class", f"{__name__}:Nobody", "nocolon"])
def test_a_provider_that_cannot_be_had_is_a_mistake_in_the_configuration(name: str) -> None:
    with pytest.raises(ConfigError, match="authProvider="):
        Providers.of(Settings(auth_providers=(name,)))
