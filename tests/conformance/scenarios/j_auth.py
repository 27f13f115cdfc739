"""Section J: authentication and access control.

Source: reference parity J1-J20; PrepRequestProcessor.fixupACL, DigestAuthenticationProvider.
"""

from __future__ import annotations

import base64
import hashlib

from tests.conformance import requests as r
from tests.conformance.scenario import SUPER, Client, Scenario, on_server, scenario

_OWNER = r.auth("digest", b"owner:secret")


def _every_operation(client: Client, path: str) -> None:
    for request in (
        r.exists(path),
        r.get_data(path),
        r.get_children(path),
        r.get_children2(path),
        r.get_acl(path),
        r.get_all_children_number(path),
        r.set_data(path, b""),
        r.create(f"{path}/new"),
        r.delete(f"{path}/new"),
        r.set_acl(path, [(r.ALL, "world", "anyone")]),
    ):
        client.call(request)


@scenario
def each_permission_alone(s: Scenario) -> None:
    owner, client = s.client(), s.client()
    owner.call(_OWNER)
    for perms in (0, r.READ, r.WRITE, r.CREATE, r.DELETE, r.ADMIN, r.ALL, 32, 255, -1):
        s.note(f"permissions {perms}")
        path = f"/t/p{perms}"
        owner.call(r.create(path, acl=[(perms, "world", "anyone"), (r.ALL, "auth", "")]))
        _every_operation(client, path)


@scenario
def refused_schemes(s: Scenario) -> None:
    for scheme in ("nope", "world", "auth", "sasl", "x509", "super", "DIGEST", "", None):
        client = s.client()
        client.call(r.auth(scheme, b"a:b"))
        client.expect_close()
        s.note("the session lives on")
        s.socket().resume(client).call(r.who_am_i())


@scenario
def digest_data(s: Scenario) -> None:
    for data in (b"user:password", b"no colon", b"", b":", b"a:b:c", b"\xff\xfe:x"):
        client = s.client()
        client.call(r.auth("digest", data))
        client.call(r.who_am_i())
        client.call(r.create("/t/a", acl=r.CREATOR))
        client.call(r.get_acl("/t/a"))
        client.call(r.delete("/t/a"))


@scenario
def digest_data_null(s: Scenario) -> None:
    client = s.client()
    client.call(r.auth("digest", None))
    client.expect_close()


@scenario
def ip_auth(s: Scenario) -> None:
    client = s.client()
    for data in (b"", b"1.2.3.4", None):
        client.call(r.auth("ip", data))
    client.call(r.who_am_i())
    client.call(r.create("/t/none", acl=r.CREATOR))
    for ident in ("127.0.0.1", "127.0.0.1/32", "127.0.0.0/8", "127.9.9.9/8", "0.0.0.0/0"):
        client.call(r.create("/t/a", acl=[(r.ALL, "ip", ident)]))
        client.call(r.get_acl("/t/a"))
        client.call(r.delete("/t/a"))
    for ident in ("10.0.0.1", "127.0.0.2", "127.0.1.0/24"):
        client.call(r.create("/t/a", acl=[(r.ALL, "ip", ident)]))
        client.call(r.get_data("/t/a"))
        client.call(r.delete("/t/a"))
    for ident in ("", "1.2.3", "1.2.3.4.5", "256.1.1.1", "a.b.c.d", "1.2.3.4/33", "1.2.3.4/-1"):
        client.call(r.create("/t/a", acl=[(r.ALL, "ip", ident)]))
    for ident in ("1.2.3.4/", "1.2.3.4/x", "1.2.3.4/8/8", "localhost"):
        client.call(r.create("/t/b", acl=[(r.ALL, "ip", ident)]))


@scenario
def ipv6_address_in_an_acl(s: Scenario) -> None:
    client = s.client()
    client.call(r.create("/t/a", acl=[(r.ALL, "ip", "::1")]))
    client.call(r.get_data("/t/a"))


@scenario
def acl_lists(s: Scenario) -> None:
    client = s.client()
    lists: list[list[r.Acl] | None] = [
        None,
        [],
        [(31, "world", "x")],
        [(31, "world", "")],
        [(31, "digest", "a")],
        [(31, "digest", "a:b")],
        [(31, "digest", "a:b:c")],
        [(31, "digest", ":")],
        [(31, "digest", "a:")],
        [(31, "digest", ":b")],
        [(31, "digest", "")],
        [(31, "nope", "a")],
        [(31, "", "a")],
        [(31, None, "a")],
        [(31, "world", None)],
        [(31, "auth", None)],
        [(31, "super", "")],
        [(31, "sasl", "a")],
        [(31, "x509", "a")],
        [(31, "auth", "")],
        [(31, "world", "anyone"), (31, "nope", "a")],
        [(1, "world", "anyone"), (1, "world", "anyone"), (2, "world", "anyone")],
        [(31, "digest", "b:b"), (31, "world", "anyone"), (31, "digest", "a:a")],
    ]
    for acl in lists:
        client.call(r.create("/t/a", acl=acl))
        client.call(r.get_acl("/t/a"))
        client.call(r.set_acl("/t", acl))
        client.call(r.delete("/t/a"))
        client.call(r.set_acl("/t", r.OPEN))


@scenario
def acl_id_null(s: Scenario) -> None:
    client = s.client()
    for scheme in ("digest", "ip"):
        client.call(r.create("/t/a", acl=[(31, scheme, None)]))
    client.call(r.set_data("/t", b"next"))


@scenario
def auth_scheme_in_acls(s: Scenario) -> None:
    client = s.client()
    s.note("nobody known yet: the ip address does not count")
    client.call(r.create("/t/a", acl=r.CREATOR))
    client.call(_OWNER)
    client.call(r.create("/t/a", acl=[(31, "auth", "this is ignored")]))
    client.call(r.get_acl("/t/a"))
    client.call(r.auth("digest", b"second:secret"))
    client.call(r.create("/t/b", acl=r.CREATOR))
    client.call(r.get_acl("/t/b"), unordered=True)
    client.call(r.create("/t/c", acl=[(1, "world", "anyone"), (3, "auth", ""), (31, "auth", "")]))
    client.call(r.get_acl("/t/c"), unordered=True)
    client.call(r.set_acl("/t/c", r.CREATOR))
    client.call(r.get_acl("/t/c"), unordered=True)


@scenario
def masked_digests(s: Scenario) -> None:
    owner, reader = s.client(), s.client()
    owner.call(_OWNER)
    reader_may: list[r.Acl] = [(r.READ, "world", "anyone")]
    acl = [*reader_may, (r.ALL, "auth", ""), (r.ALL, "digest", "a:b"), (r.ALL, "ip", "9.9.9.9")]
    owner.call(r.create("/t/a", acl=acl))
    owner.call(r.get_acl("/t/a"))
    reader.call(r.get_acl("/t/a"))
    owner.call(r.set_acl("/t/a", [(r.ADMIN, "world", "anyone"), (r.ALL, "digest", "a:b")]))
    reader.call(r.get_acl("/t/a"))
    reader.call(r.get_data("/t/a"))


@scenario
def super_user(s: Scenario) -> None:
    owner, god = s.client(), s.client()
    owner.call(_OWNER)
    owner.call(r.create("/t/mine", acl=r.CREATOR))
    owner.call(r.create("/t/nobody", acl=[(0, "world", "anyone")]))
    god.call(r.auth("digest", b"super:wrong"))
    god.call(r.get_data("/t/mine"))
    god.call(r.auth("digest", SUPER))
    god.call(r.who_am_i())
    _every_operation(god, "/t/mine")
    _every_operation(god, "/t/nobody")
    s.note("what a super user makes")
    god.call(r.create("/t/his", acl=r.CREATOR))
    god.call(r.get_acl("/t/his"), unordered=True)


@scenario
def several_identities(s: Scenario) -> None:
    client = s.client()
    for name in ("a", "b"):
        other = s.client()
        other.call(r.auth("digest", f"{name}:secret".encode()))
        other.call(r.create(f"/t/{name}", acl=r.CREATOR))
    client.call(r.auth("digest", b"a:secret"))
    client.call(r.get_data("/t/a"))
    client.call(r.get_data("/t/b"))
    client.call(r.auth("digest", b"b:secret"))
    client.call(r.get_data("/t/a"))
    client.call(r.get_data("/t/b"))


@scenario
def auth_packet_fields(s: Scenario) -> None:
    client = s.client()
    client.call(r.auth("digest", b"u:p", kind=5))
    client.call(r.auth("digest", b"v:p").with_xid(9))
    client.call(r.auth("digest", b"w:p").with_xid(0))
    client.call(r.who_am_i())


@scenario
def auth_in_a_pipeline(s: Scenario) -> None:
    owner, client = s.client(), s.client()
    owner.call(_OWNER)
    owner.call(r.create("/t/mine", b"mine", acl=r.CREATOR))
    client.pipeline(_OWNER, r.get_data("/t/mine"), r.set_data("/t/mine", b"1"), r.who_am_i())


@scenario
def failed_auth_in_a_pipeline(s: Scenario) -> None:
    client = s.client()
    client.send(r.auth("nope", b""))
    client.expect_close()
    s.client().call(r.exists("/t"))


@on_server(settings={"skipACL": "yes"})
def skip_acl(s: Scenario) -> None:
    owner, client = s.client(), s.client()
    owner.call(_OWNER)
    owner.call(r.create("/t", acl=r.CREATOR))
    _every_operation(client, "/t")
    client.call(r.create("/t/a", acl=[]))
    client.call(r.create("/t/a", acl=[(31, "nope", "x")]))
    owner.call(r.create("/t/b", acl=[(0, "world", "anyone")]))
    client.call(r.get_acl("/t/b"))
    client.call(r.get_acl("/t"))


@on_server(settings={"DigestAuthenticationProvider.enabled": "false"})
def digest_switched_off(s: Scenario) -> None:
    client = s.client()
    client.call(r.create("/t", acl=[(31, "digest", "a:b")]))
    client.call(r.auth("digest", b"u:p"))
    client.expect_close()


@on_server(settings={"DigestAuthenticationProvider.digestAlg": "SHA-256"})
def digest_algorithm(s: Scenario) -> None:
    client = s.client()
    client.call(r.auth("digest", b"u:p"))
    client.call(r.create("/t", acl=r.CREATOR))
    client.call(r.get_acl("/t"))


@on_server(settings={"enforce.auth.enabled": "true", "enforce.auth.schemes": "digest"})
def enforced_auth(s: Scenario) -> None:
    client = s.client()
    client.call(r.ping())
    client.call(r.exists("/"))
    client.expect_close()
    client = s.client()
    client.call(r.auth("digest", b"u:p"))
    client.call(r.create("/t"))
    client.call(r.exists("/t"))


@on_server(
    settings={
        "authProvider.1": "org.apache.zookeeper.server.auth.EnsembleAuthenticationProvider",
        "ensembleAuthName": "east,west",
    }
)
def ensemble(s: Scenario) -> None:
    """A client of another ensemble loses the connection, so that it goes on looking for its own."""
    client = s.client()
    for name in (b"west", b"", b"east"):
        client.call(r.auth("ensemble", name))
    client.call(r.who_am_i())
    client.call(r.auth("ensemble", b"north"))
    client.expect_close()


@scenario
def ip_expressions(s: Scenario) -> None:
    """Numbers are decimal, whatever stands before them."""
    owner, client = s.client(), s.client()
    owner.call(r.auth("digest", SUPER))
    owner.call(r.create("/t/a"))
    for ident in (
        *("127.0.0.01", "0127.0.0.1", "+127.0.0.1", "127.0.0.1/08", "127.0.0.1/+8", "127.0.0.1/-0"),
        *("127.0.0.0/31", "127.0.0.2/31", "126.0.0.0/7", "128.0.0.0/1", "0.0.0.0/1", "9.9.9.9/0"),
        *("127.0.0.1/", "127.0.0.1/33", "127.0.0.1/-1", "127.0.0.1/8/8", "127.0.0.1/0x8", "/8"),
        *(" 127.0.0.1", "127.0.0.1 ", "127.0.0.1.", "127..0.1", "127.1", "127.0.0.1/255.0.0.0"),
    ):
        owner.call(r.set_acl("/t/a", [(r.ALL, "ip", ident)]))
        client.call(r.get_acl("/t/a"))


@scenario
def auth_beside_what_it_stands_for(s: Scenario) -> None:
    """Equal entries go before `auth` is replaced, not after."""
    client = s.client()
    client.call(_OWNER)
    client.call(r.create("/t/a", acl=r.CREATOR))
    mine = "owner:" + base64.b64encode(hashlib.sha1(b"owner:secret").digest()).decode()
    lists: tuple[list[r.Acl], ...] = (
        [(r.ALL, "auth", ""), (r.ALL, "auth", "ignored")],
        [(r.ALL, "auth", ""), (r.ALL, "digest", mine)],
        [(r.READ, "auth", ""), (r.ALL, "auth", None)],
        [(r.ALL, "digest", mine), (r.ALL, "digest", mine)],
    )
    for acl in lists:
        client.call(r.set_acl("/t/a", acl))
        client.call(r.get_acl("/t/a"))
