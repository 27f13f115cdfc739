"""Section C: errors, above all of requests whose bytes are wrong; which of them take a zxid.

Invariants: after every one of these the connection goes on, unless the transcript says closed.
Source:     reference parity C; PrepRequestProcessor.pRequest, FinalRequestProcessor.
"""

from __future__ import annotations

from tests.conformance import requests as r
from tests.conformance.scenario import SUPER, Scenario, on_server, scenario
from tests.conformance.wire import XID_AUTH, XID_SET_WATCHES, buffer, i32, i64, ustring, vector

_ACL = i32(1) + i32(31) + ustring("world") + ustring("anyone")


def _each_body(s: Scenario, name: str, *bodies: tuple[str, bytes]) -> None:
    client = s.client()
    for text, body in bodies:
        client.call(r.raw(r.OPCODES[name], body, f"({text})"))
    client.call(r.set_data("/t", b"next"))


@scenario
def unparsable_create(s: Scenario) -> None:
    for name in ("create", "create2", "createContainer"):
        _each_body(
            s,
            name,
            ("empty", b""),
            ("path cut", i32(5) + b"/t"),
            ("path length -2", i32(-2)),
            ("data length 2^31-1", ustring("/t/a") + i32(0x7FFFFFFF)),
            ("no acl", ustring("/t/a") + buffer(b"")),
            ("acl count 2^31-1", ustring("/t/a") + buffer(b"") + i32(0x7FFFFFFF)),
            ("no flags", ustring("/t/a") + buffer(b"") + _ACL),
        )


@scenario
def unparsable_create_ttl(s: Scenario) -> None:
    whole = r.create_ttl("/t/a", ttl_ms=1000).body
    _each_body(s, "createTTL", ("empty", b""), ("no ttl", whole[:-8]), ("ttl cut", whole[:-1]))


@scenario
def unparsable_delete(s: Scenario) -> None:
    _each_body(s, "delete", ("empty", b""), ("no version", ustring("/t/a")))


@scenario
def unparsable_set_data(s: Scenario) -> None:
    body = ustring("/t")
    _each_body(s, "setData", ("empty", b""), ("no data", body), ("no version", body + buffer(b"")))


@scenario
def unparsable_set_acl(s: Scenario) -> None:
    body = ustring("/t")
    _each_body(s, "setACL", ("empty", b""), ("no acl", body), ("no version", body + _ACL))


@scenario
def unparsable_multi(s: Scenario) -> None:
    header = i32(1) + b"\0" + i32(-1)
    end = i32(-1) + b"\1" + i32(-1)
    _each_body(
        s,
        "multi",
        ("empty", b""),
        ("header cut", header[:-1]),
        ("header only", header),
        ("record cut", header + i32(5) + b"/t"),
        ("no end", header + r.create("/t/a").body),
        ("end cut", header + r.create("/t/b").body + end[:-1]),
        ("end without its error", end[:5]),
    )


@scenario
def unparsable_reads(s: Scenario) -> None:
    for name in ("exists", "getData", "getChildren", "getChildren2"):
        path = ustring("/t")
        _each_body(s, name, ("empty", b""), ("path cut", path[:-1]), ("no watch byte", path))
    for name in ("getACL", "sync", "getEphemerals", "getAllChildrenNumber", "multiRead"):
        _each_body(s, name, ("empty", b""), ("path cut", ustring("/t")[:-1]))
    for name in ("addWatch", "checkWatches", "removeWatches"):
        _each_body(s, name, ("empty", b""), ("no number", ustring("/t")))


@scenario
def unparsable_set_watches(s: Scenario) -> None:
    client = s.client()
    for name in ("setWatches", "setWatches2"):
        for body in (b"", i64(0), i64(0) + i32(1), i64(0) + i32(0) * 2):
            request = r.raw(r.OPCODES[name], body).with_xid(XID_SET_WATCHES)
            client.call(request)
    client.call(r.set_data("/t", b""))


@scenario
def unparsable_auth(s: Scenario) -> None:
    for body in (b"", i32(0), i32(0) + ustring("digest"), i32(0) + ustring("digest") + i32(50)):
        client = s.client()
        client.send(r.raw(r.OPCODES["auth"], body).with_xid(XID_AUTH))
        client.expect_close()


@scenario
def trailing_bytes_are_ignored(s: Scenario) -> None:
    client = s.client()
    for request in (
        r.exists("/t"),
        r.create("/t/a"),
        r.set_data("/t/a", b""),
        r.delete("/t/a"),
        r.multi(r.create("/t/b")),
        r.get_children("/t"),
        r.who_am_i(),
        r.ping(),
    ):
        client.call(r.raw(request.opcode, request.body + b"more", f"({request.text}) + more"))


@scenario
def watch_byte_other_than_one(s: Scenario) -> None:
    client = s.client()
    client.call(r.raw(r.OPCODES["exists"], ustring("/t") + b"\7", "/t watch=7"))
    client.call(r.raw(r.OPCODES["getChildren"], ustring("/t") + b"\xff", "/t watch=255"))
    client.call(r.set_data("/t", b""))
    client.call(r.create("/t/a"))


@scenario
def null_paths(s: Scenario) -> None:
    client = s.client()
    for request in (
        r.create(None),
        r.create2(None),
        r.delete(None),
        r.set_data(None, b""),
        r.set_acl(None, r.OPEN),
        r.multi(r.create(None)),
        r.multi(r.delete(None)),
        r.multi(r.set_data(None, b"")),
        r.multi(r.check(None)),
        r.exists(None),
        r.get_data(None),
        r.get_acl(None),
        r.get_children(None),
        r.get_children2(None),
        r.get_all_children_number(None),
        r.check_watches(None, 3),
        r.remove_watches(None, 3),
        r.set_data("/t", b"next"),
    ):
        client.call(request)


@scenario
def null_paths_in_create_ttl(s: Scenario) -> None:
    client = s.client()
    whole = r.create_ttl("/t", ttl_ms=1000).body
    client.call(r.raw(r.OPCODES["createTTL"], i32(-1) + whole[6:], "(path null)"))
    client.call(r.set_data("/t", b"next"))


@scenario
def failed_writes_take_a_zxid(s: Scenario) -> None:
    client = s.client()
    for request in (
        r.create("/t"),
        r.delete("/none"),
        r.set_data("/none", b""),
        r.set_acl("/none", r.OPEN),
        r.multi(r.check("/none")),
        r.multi(),
        r.exists("/none"),
        r.get_data("/none"),
        r.multi_read(r.get_data("/none")),
        r.sync("/none"),
        r.ping(),
    ):
        client.call(request)


@scenario
def odd_paths_in_reads(s: Scenario) -> None:
    client = s.client()
    for path in ("/t/", "//", "/t//a", "t", "/t/./a", "/t/..", b"/t/\xff", "/t/\u00e9"):
        for read in (r.exists, r.get_data):
            client.call(read(path))
    client.call(r.exists("/t\0x"))
    for request in (r.get_data, r.get_children, r.get_acl, r.get_all_children_number):
        client.call(request("/t\0x"))


@on_server(fresh=True)
def empty_path_is_the_root_in_reads(s: Scenario) -> None:
    client = s.client()
    client.call(r.exists(""))
    client.call(r.get_data(""))
    client.call(r.get_acl(""))
    client.call(r.get_children(""))
    client.call(r.get_children2(""))
    client.call(r.multi_read(r.get_data(""), r.get_children("")))


@scenario
def unparsable_reconfig(s: Scenario) -> None:
    client = s.client()
    whole = r.reconfig(None, "1", None)
    for body in (b"", whole.body[:4], whole.body[:-1], i32(-2) + whole.body[4:]):
        client.call(r.raw(whole.opcode, body))
    client.call(whole)
    client.call(r.exists("/t"))


@scenario
def texts_that_are_no_utf8(s: Scenario) -> None:
    """What comes back of them has U+FFFD in their place, for any reader to take."""
    client, reader = s.client(), s.client()
    reader.call(r.auth("digest", SUPER))
    for text in (b"u:\xff", b"\xc3u:x", b"u:\xe2\x82x", b"u:\xc3\xa9"):
        acl = i32(1) + i32(r.ALL) + ustring("digest") + ustring(text)
        body = ustring("/t/a") + buffer(b"") + acl + i32(r.PERSISTENT)
        client.call(r.raw(r.OPCODES["create"], body, f"acl=digest:{text!r}"))
        reader.call(r.get_acl("/t/a"))
        reader.call(r.delete("/t/a"))
    for text in (b"/t/\xff", b"\xc3", b"/t/\xc3\xa9"):
        client.call(r.raw(r.OPCODES["sync"], ustring(text), repr(text)))
        client.call(r.exists(text, watch=True))
        listed = vector([ustring(text)])
        client.call(r.raw(r.OPCODES["setWatches"], i64(0) + listed * 3, repr(text)))
