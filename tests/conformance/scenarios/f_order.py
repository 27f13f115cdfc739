"""Section F: which check wins. Each request breaks two rules that are neighbours in the order.

Source: reference parity F; PrepRequestProcessor.pRequest2Txn.
"""

from __future__ import annotations

from tests.conformance import requests as r
from tests.conformance.scenario import Client, Scenario, scenario

_BAD_ACL: list[r.Acl] = []


def _two_clients(s: Scenario) -> tuple[Client, Client]:
    """An owner of nodes that the other one may not touch, and the other one."""
    owner, client = s.client(), s.client()
    owner.call(r.auth("digest", b"owner:secret"))
    owner.call(r.create("/t/mine", acl=r.CREATOR))
    owner.call(r.create("/t/mine/child"))
    owner.call(r.create("/t/e", acl=r.CREATOR, flags=r.EPHEMERAL))
    return owner, client


@scenario
def create(s: Scenario) -> None:
    _, client = _two_clients(s)
    s.note("flag, acl")
    client.call(r.create("/t/a", flags=9, acl=_BAD_ACL))
    s.note("flag, parent")
    client.call(r.create("/none/a", flags=9))
    s.note("path without slash, acl")
    client.call(r.create("a", acl=_BAD_ACL))
    s.note("NUL, acl")
    client.call(r.create("/t/a\0", acl=_BAD_ACL))
    s.note("NUL, parent")
    client.call(r.create("/none/a\0"))
    s.note("acl, parent")
    client.call(r.create("/none/a", acl=_BAD_ACL))
    s.note("acl, right to create")
    client.call(r.create("/t/mine/a", acl=_BAD_ACL))
    s.note("acl, bad name")
    client.call(r.create("/t/.", acl=_BAD_ACL))
    s.note("acl, exists")
    client.call(r.create("/t/mine", acl=_BAD_ACL))
    s.note("parent, bad name")
    client.call(r.create("/none/\x01"))
    s.note("right to create, bad name")
    client.call(r.create("/t/mine/\x01"))
    s.note("right to create, exists")
    client.call(r.create("/t/mine/child"))
    s.note("right to create, ephemeral parent")
    client.call(r.create("/t/e/a"))
    s.note("bad name, ephemeral parent")
    owner = s.client()
    owner.call(r.create("/t/open", flags=r.EPHEMERAL))
    client.call(r.create("/t/open/."))
    s.note("sequence name, ephemeral parent")
    client.call(r.create("/t/open/a-", flags=r.SEQUENTIAL))


@scenario
def create_ttl(s: Scenario) -> None:
    _, client = _two_clients(s)
    s.note("flag, time to live")
    client.call(r.create_ttl("/t/a", ttl_ms=0, flags=9))
    s.note("time to live, path")
    client.call(r.create_ttl("a", ttl_ms=0))
    s.note("time to live, acl")
    client.call(r.create_ttl("/t/a", ttl_ms=0, acl=_BAD_ACL))
    s.note("time to live, parent")
    client.call(r.create_ttl("/none/a", ttl_ms=0))
    s.note("acl, parent")
    client.call(r.create_ttl("/none/a", ttl_ms=1000, acl=_BAD_ACL))
    s.note("right to create, exists")
    client.call(r.create_ttl("/t/mine/child", ttl_ms=1000))


@scenario
def delete(s: Scenario) -> None:
    owner, client = _two_clients(s)
    s.note("special path, version")
    client.call(r.delete("/zookeeper", 77))
    s.note("parent, path")
    client.call(r.delete("/none/"))
    s.note("right to delete, node")
    client.call(r.delete("/t/mine/none"))
    s.note("right to delete, version")
    client.call(r.delete("/t/mine/child", 77))
    s.note("node, version")
    client.call(r.delete("/t/none", 77))
    s.note("version, children")
    owner.call(r.delete("/t/mine", 77))
    s.note("right to delete, children")
    owner.call(r.create("/t/mine/child/x"))
    client.call(r.delete("/t/mine/child"))
    s.note("the node's own acl does not count")
    owner.call(r.delete("/t/mine/child/x"))
    owner.call(r.delete("/t/mine/child"))
    client.call(r.delete("/t/mine"))


@scenario
def set_data(s: Scenario) -> None:
    _, client = _two_clients(s)
    s.note("path, node")
    client.call(r.set_data("/none/", b""))
    s.note("node, version")
    client.call(r.set_data("/none", b"", 77))
    s.note("right to write, version")
    client.call(r.set_data("/t/mine", b"", 77))


@scenario
def set_acl(s: Scenario) -> None:
    owner, client = _two_clients(s)
    s.note("path, acl")
    client.call(r.set_acl("/none/", _BAD_ACL))
    s.note("acl, node")
    client.call(r.set_acl("/none", _BAD_ACL))
    s.note("acl, right to administer")
    client.call(r.set_acl("/t/mine", _BAD_ACL))
    s.note("acl, version")
    owner.call(r.set_acl("/t/mine", _BAD_ACL, 77))
    s.note("node, version")
    client.call(r.set_acl("/none", r.OPEN, 77))
    s.note("right to administer, version")
    client.call(r.set_acl("/t/mine", r.OPEN, 77))


@scenario
def check(s: Scenario) -> None:
    _, client = _two_clients(s)
    s.note("path, node")
    client.call(r.multi(r.check("/none/")))
    s.note("node, version")
    client.call(r.multi(r.check("/none", 77)))
    s.note("right to read, version")
    client.call(r.multi(r.check("/t/mine", 77)))
    client.call(r.multi(r.check("/t", 77)))


@scenario
def reads(s: Scenario) -> None:
    _, client = _two_clients(s)
    for path in ("/t/mine", "/t/mine/none", "/t/mine/child"):
        client.call(r.exists(path))
        client.call(r.get_data(path))
        client.call(r.get_acl(path))
        client.call(r.get_children(path))
        client.call(r.get_children2(path))
        client.call(r.get_all_children_number(path))
    client.call(r.multi_read(r.get_data("/t/mine"), r.get_children("/t/mine"), r.get_data("/t")))


@scenario
def writes_see_earlier_writes_of_the_pipeline(s: Scenario) -> None:
    # No setACL among them: Apache checks later requests against the old ACL until it is applied,
    # so what it answers depends on its speed.
    client = s.client()
    client.pipeline(
        r.create("/t/a"),
        r.create("/t/a"),
        r.create("/t/a/b"),
        r.delete("/t/a"),
        r.set_data("/t/a", b"", 0),
        r.set_data("/t/a", b"", 0),
        r.set_data("/t/a", b"", 1),
        r.set_data("/t/a", b"", 2),
        r.create("/t/a/c"),
        r.delete("/t/a/b"),
        r.delete("/t/a/b"),
        r.create("/t/a/s-", flags=r.SEQUENTIAL),
        r.create("/t/a/s-", flags=r.SEQUENTIAL),
        r.delete("/t/a/s-0000000001"),
        r.delete("/t/a/s-0000000002"),
        r.delete("/t/a/s-0000000003"),
        r.delete("/t/a/c"),
        r.delete("/t/a", 2),
        r.delete("/t/a", 3),
        r.exists("/t/a"),
        r.create("/t/a", flags=r.EPHEMERAL),
        r.create("/t/a/b"),
        r.exists("/t"),
    )
