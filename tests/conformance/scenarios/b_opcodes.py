"""Section B: every opcode once in its plain form, with and without its node.

Source: reference parity B1-B34; FinalRequestProcessor, PrepRequestProcessor.
"""

from __future__ import annotations

from tests.conformance import requests as r
from tests.conformance.scenario import Scenario, on_server, scenario
from tests.conformance.wire import i32, ustring


@scenario
def create(s: Scenario) -> None:
    client = s.client()
    client.call(r.create("/t/a", b"data"))
    client.call(r.get_data("/t/a"))
    client.call(r.create("/t/a"))
    client.call(r.create("/t/none/a"))
    for flags in (r.EPHEMERAL, r.SEQUENTIAL, r.EPHEMERAL_SEQUENTIAL):
        client.call(r.create("/t/b-", b"x", flags=flags))
    client.call(r.get_children2("/t"))
    client.call(r.exists("/t/b-"))


@scenario
def create2(s: Scenario) -> None:
    client = s.client()
    client.call(r.create2("/t/a", b"data"))
    client.call(r.create2("/t/a"))
    client.call(r.create2("/t/none/a"))
    for flags in (r.EPHEMERAL, r.SEQUENTIAL, r.EPHEMERAL_SEQUENTIAL):
        client.call(r.create2("/t/b-", b"x", flags=flags))


@scenario
def create_container(s: Scenario) -> None:
    client = s.client()
    client.call(r.create_container("/t/a", b"data"))
    client.call(r.exists("/t/a"))
    client.call(r.create_container("/t/a"))
    s.note("the opcode makes the container, the flag only the name")
    for flags in (r.PERSISTENT, r.EPHEMERAL, r.SEQUENTIAL, r.EPHEMERAL_SEQUENTIAL, r.TTL):
        client.call(r.create_container(f"/t/flags{flags}-", flags=flags))
    client.call(r.create_container("/t/x", flags=9))


@scenario
def create_ttl(s: Scenario) -> None:
    client = s.client()
    client.call(r.create_ttl("/t/a", b"data", ttl_ms=3_600_000))
    client.call(r.exists("/t/a"))
    client.call(r.create_ttl("/t/a", ttl_ms=3_600_000))
    client.call(r.create_ttl("/t/s-", ttl_ms=3_600_000, flags=r.TTL_SEQUENTIAL))
    for ttl_ms in (0, -1, -5, 1 << 40, 1 << 62, (1 << 40) - 1):
        client.call(r.create_ttl(f"/t/ttl{ttl_ms}", ttl_ms=ttl_ms))
    s.note("a time to live with a mode that has none")
    for flags in (r.PERSISTENT, r.EPHEMERAL, r.SEQUENTIAL, r.CONTAINER, 9):
        client.call(r.create_ttl(f"/t/flags{flags}", ttl_ms=1000, flags=flags))
    s.note("last, as its end takes a zxid at any time")
    client.call(r.create_ttl("/t/ttl1", ttl_ms=1))


@scenario
def delete(s: Scenario) -> None:
    client = s.client()
    client.call(r.create("/t/a"))
    client.call(r.create("/t/a/b"))
    client.call(r.delete("/t/a"))
    client.call(r.delete("/t/a/b", 1))
    client.call(r.delete("/t/a/b", 0))
    client.call(r.delete("/t/a/b"))
    client.call(r.delete("/t/a"))
    client.call(r.exists("/t"))


@scenario
def exists(s: Scenario) -> None:
    client = s.client()
    client.call(r.exists("/t/a"))
    client.call(r.create("/t/a", b"data"))
    client.call(r.exists("/t/a"))


@scenario
def get_data(s: Scenario) -> None:
    client = s.client()
    client.call(r.get_data("/t/a"))
    for name, data in (("null", None), ("empty", b""), ("bytes", bytes(range(256)))):
        client.call(r.create(f"/t/{name}", data))
        client.call(r.get_data(f"/t/{name}"))


@scenario
def set_data(s: Scenario) -> None:
    client = s.client()
    client.call(r.set_data("/t/a", b""))
    client.call(r.create("/t/a", b"0"))
    client.call(r.set_data("/t/a", b"1", 0))
    client.call(r.set_data("/t/a", b"2", 0))
    client.call(r.set_data("/t/a", b"3", -1))
    client.call(r.set_data("/t/a", None, 2))
    client.call(r.set_data("/t/a", b"5", -2))
    client.call(r.get_data("/t/a"))


@scenario
def acls(s: Scenario) -> None:
    client = s.client()
    client.call(r.get_acl("/t/a"))
    client.call(r.set_acl("/t/a", r.OPEN))
    client.call(r.create("/t/a"))
    client.call(r.get_acl("/t/a"))
    client.call(r.set_acl("/t/a", [(r.ALL, "ip", "127.0.0.1"), (r.READ, "world", "anyone")], 0))
    client.call(r.get_acl("/t/a"))
    client.call(r.set_acl("/t/a", r.OPEN, 0))
    client.call(r.set_acl("/t/a", r.OPEN, 1))
    client.call(r.get_acl("/t/a"))
    client.call(r.exists("/t/a"))


@scenario
def children(s: Scenario) -> None:
    client = s.client()
    client.call(r.get_children("/t"))
    client.call(r.get_children2("/t"))
    for name in ("b", "a", "c", "a/x", "a/y"):
        client.call(r.create(f"/t/{name}"))
    client.call(r.get_children("/t"))
    client.call(r.get_children2("/t/a"))
    client.call(r.get_children("/t/b"))
    client.call(r.get_children("/t/none"))
    client.call(r.get_children2("/t/none"))


@scenario
def sync(s: Scenario) -> None:
    client = s.client()
    for path in ("/t", "/nowhere", "/", "", "no path", None):
        client.call(r.sync(path))
    client.call(r.create("/t/a"))
    client.call(r.sync("/t"))


@scenario
def ping(s: Scenario) -> None:
    client = s.client()
    client.call(r.ping())
    client.call(r.create("/t/a"))
    client.call(r.ping())
    client.call(r.create("/t/a"))
    client.call(r.ping())


@scenario
def check_outside_multi(s: Scenario) -> None:
    client = s.client()
    client.call(r.check("/t"))
    client.expect_close()
    s.socket().resume(client).call(r.exists("/t"))


@scenario
def unknown_opcodes(s: Scenario) -> None:
    for opcode in (0, 10, 23, 99, 108, 508, 12345, -1, -2, -3, -12, 2**31 - 1, -(2**31)):
        client = s.client()
        client.call(r.raw(opcode, ustring("/t") + i32(-1), f"op{opcode}"))
        client.expect_close()
    s.client().call(r.exists("/t"))


@scenario
def reconfig_is_disabled(s: Scenario) -> None:
    client = s.client()
    client.call(r.reconfig("server.1=localhost:1:2;3", None, None))
    client.call(r.reconfig(None, "1", None))
    client.call(r.exists("/t"))


@scenario
def get_ephemerals(s: Scenario) -> None:
    client, other = s.client(), s.client()
    for path in ("/t/a", "/t/ab"):
        client.call(r.create(path, flags=r.EPHEMERAL))
    client.call(r.create("/t/d"))
    client.call(r.create("/t/d/e-", flags=r.EPHEMERAL_SEQUENTIAL))
    prefixes = (None, "", "  ", "/", "/t", "/t/", "/t/a", "/t/ab", "/t/d", "/t/d/", "/none", "t")
    for prefix in prefixes:
        client.call(r.get_ephemerals(prefix))
    other.call(r.get_ephemerals(None))


@scenario
def get_all_children_number(s: Scenario) -> None:
    client = s.client()
    client.call(r.get_all_children_number("/t"))
    for path in ("/t/a", "/t/a/b", "/t/a/b/c", "/t/ab", "/t/d"):
        client.call(r.create(path))
    for path in ("/t", "/t/a", "/t/a/b/c", "/t/none", "/t/"):
        client.call(r.get_all_children_number(path))


@on_server(fresh=True)
def get_all_children_number_of_the_root(s: Scenario) -> None:
    client = s.client()
    client.call(r.create("/x"))
    client.call(r.get_all_children_number("/"))
    client.call(r.get_all_children_number(""))
    client.call(r.get_all_children_number("/zookeeper"))
    client.call(r.delete("/x"))


@scenario
def add_watch(s: Scenario) -> None:
    client = s.client()
    for path, mode in (("/t", 0), ("/t", 1), ("/none", 0), ("no path", 1), ("", 0), (None, 0)):
        client.call(r.add_watch(path, mode))
    for mode in (2, -1, 7):
        client.call(r.add_watch("/t", mode))


@scenario
def who_am_i(s: Scenario) -> None:
    client = s.client()
    client.call(r.who_am_i())
    for scheme, data in (("digest", b"u:p"), ("digest", b"v:q"), ("digest", b"u:p"), ("ip", b"")):
        client.call(r.auth(scheme, data))
    client.call(r.who_am_i())


@scenario
def close_session(s: Scenario) -> None:
    client = s.client()
    client.call(r.create("/t/e", flags=r.EPHEMERAL))
    client.call(r.close_session().with_xid(0x7FFFFFFF))
    client.expect_close()
    s.socket().resume(client).expect_close()
    s.client().call(r.exists("/t/e"))


@scenario
def sasl_without_configuration(s: Scenario) -> None:
    client = s.client()
    client.call(r.sasl(b"token"))
    client.alive()


@on_server(settings={"extendedTypesEnabled": "false"})
def ttl_without_extended_types(s: Scenario) -> None:
    client = s.client()
    client.call(r.create_ttl("/t", ttl_ms=1000))
    client.call(r.create_ttl("/t", ttl_ms=-1))
    client.call(r.create("/t", flags=r.TTL))
    client.call(r.create("/t", flags=r.TTL_SEQUENTIAL))
    client.call(r.multi(r.create("/t"), r.create_ttl("/t/a", ttl_ms=1000)))
    client.call(r.create_container("/t"))


@scenario
def sasl_without_a_token(s: Scenario) -> None:
    for body in (b"", i32(-1), i32(5) + b"short", i32(-5), i32(0), i32(1) + b"ab"):
        client = s.client()
        client.call(r.raw(r.OPCODES["sasl"], body))
        client.alive()


@scenario
def get_ephemerals_of_blanks(s: Scenario) -> None:
    """Blanks around a slash do not count, blanks around a name do."""
    client = s.client()
    for path in ("/t/a", "/t/ab", "/t/b"):
        client.call(r.create(path, flags=r.EPHEMERAL))
    for prefix in (" ", "\t/\n", "\x01", "\x1f/", "\u00a0", "/t/a ", " /t", "//", "t"):
        client.call(r.get_ephemerals(prefix))
