"""tree/acl.py: reference J2 (who may), the fix-up of section F, and what getACL shows."""

from __future__ import annotations

import pytest

from zkstore.errors import Code, RemoteProtocolError, ZooKeeperError
from zkstore.proto.opcodes import ADMIN, READ, WRITE
from zkstore.tree import acl as acls
from zkstore.tree.acl import Acl
from zkstore.tree.auth import DigestProvider, Identity, IpProvider, Providers

PROVIDERS = Providers([IpProvider(), DigestProvider("SHA1", "")])
HERE: Identity = (b"ip", b"10.1.2.3")
ANNE: Identity = (b"digest", b"anne:hash")
ANNE2: Identity = (b"digest", b"anne2:hash")
SUPER: Identity = (b"super", b"")
Raw = list[tuple[int, bytes | None, bytes | None]]


def allows(acl: Acl, perm: int, *identities: Identity) -> bool:
    return acls.allows(acl, perm, (HERE, *identities), PROVIDERS)


def test_an_entry_grants_what_its_bits_say_to_whom_it_matches() -> None:
    acl: Acl = ((READ, b"world", b"anyone"), (WRITE, b"digest", b"anne:hash"))
    assert allows(acl, READ)
    assert not allows(acl, WRITE)
    assert allows(acl, WRITE, ANNE)
    assert not allows(acl, WRITE, ANNE2)
    assert not allows(acl, ADMIN, ANNE)


def test_one_of_several_rights_is_enough_where_several_are_asked_for() -> None:
    acl: Acl = ((ADMIN, b"digest", b"anne:hash"),)
    assert allows(acl, READ | ADMIN, ANNE)


def test_rights_do_not_add_up_over_entries_of_others() -> None:
    acl: Acl = ((READ, b"ip", b"10.1.0.0/16"), (WRITE, b"ip", b"10.9.0.0/16"))
    assert allows(acl, READ)
    assert not allows(acl, WRITE)


def test_an_empty_list_is_open_and_the_super_user_passes() -> None:
    assert allows((), ADMIN)
    assert allows(((READ, b"digest", b"anne:hash"),), WRITE, SUPER)


def test_skip_acl() -> None:
    lax = Providers([], skip_acl=True)
    assert acls.allows(((0, b"digest", b"x:y"),), ADMIN, (), lax)


def test_a_scheme_that_nobody_provides_grants_nothing() -> None:
    assert not allows(((31, b"sasl", b"anne"),), READ, (b"sasl", b"anne"))


def fixed(entries: Raw | None, *identities: Identity) -> Acl:
    return acls.fix_up(entries, (HERE, *identities), PROVIDERS)


def test_duplicates_go_and_the_order_stays() -> None:
    first, second = (31, b"digest", b"a:b"), (1, b"world", b"anyone")
    assert fixed([first, second, first]) == (first, second)


def test_auth_stands_for_the_identities_that_are_proven() -> None:
    assert fixed([(31, b"auth", b"ignored"), (1, b"world", b"anyone")], ANNE, ANNE2) == (
        (31, *ANNE), (31, *ANNE2), (1, b"world", b"anyone"),
    )  # fmt: skip
    assert fixed([(31, b"auth", None)], ANNE) == ((31, *ANNE),)
    # Duplicates went before.
    assert fixed([(31, b"auth", b""), (31, *ANNE)], ANNE) == ((31, *ANNE), (31, *ANNE))


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        (None, Code.INVALID_ACL),
        ([], Code.INVALID_ACL),
        ([(31, b"world", b"anybody")], Code.INVALID_ACL),
        ([(31, b"world", b"")], Code.INVALID_ACL),
        ([(31, None, b"x")], Code.INVALID_ACL),
        ([(31, b"nosuch", b"x")], Code.INVALID_ACL),
        ([(31, b"super", b"")], Code.INVALID_ACL),
        ([(31, b"auth", b"")], Code.INVALID_ACL),
        ([(31, b"digest", b"no colon")], Code.INVALID_ACL),
        ([(31, b"digest", b"a:b:c")], Code.INVALID_ACL),
        ([(31, b"digest", b":")], Code.INVALID_ACL),
        ([(31, b"ip", b"1.2.3")], Code.INVALID_ACL),
        ([(31, b"ip", b"1.2.3.4/33")], Code.INVALID_ACL),
        ([(31, b"digest", None)], Code.MARSHALLING_ERROR),
    ],
)
def test_lists_that_are_refused(entries: Raw | None, code: Code) -> None:
    with pytest.raises(ZooKeeperError) as refused:
        fixed(entries)
    assert refused.value.code == code


@pytest.mark.parametrize("perms", [0, 31, 255, -1])
def test_rights_are_stored_as_given(perms: int) -> None:
    assert fixed([(perms, b"world", b"anyone")]) == ((perms, b"world", b"anyone"),)


def test_hashes_are_shown_to_administrators_only() -> None:
    acl: Acl = ((31, b"digest", b"anne:hash"), (READ, b"world", b"anyone"), (1, b"ip", b"1.2.3.4"))
    assert acls.shown(acl, (HERE, ANNE), PROVIDERS) == acl
    assert acls.shown(acl, (HERE,), PROVIDERS) == (
        (31, b"digest", b"anne:x"), (READ, b"world", b"anyone"), (1, b"ip", b"1.2.3.4"),
    )  # fmt: skip


def test_a_stored_list_comes_back() -> None:
    acl: Acl = ((31, b"digest", b"anne:hash"), (-1, b"", b""))
    assert acls.decode(acls.encode(acl)) == acl
    assert acls.decode(acls.OPEN_ENCODED) == acls.OPEN


def test_a_giant_list_is_refused_before_it_is_read() -> None:
    with pytest.raises(RemoteProtocolError, match="vector of 2147483647"):
        acls.read(bytes.fromhex("7fffffff") + bytes(100), 0)
