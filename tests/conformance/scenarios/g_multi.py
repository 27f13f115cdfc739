"""Section G: multi and multiRead.

Source: reference parity G1-G10; MultiOperationRecord, PrepRequestProcessor, FinalRequestProcessor.
"""

from __future__ import annotations

from tests.conformance import requests as r
from tests.conformance.scenario import Scenario, scenario
from tests.conformance.wire import i32, ustring


@scenario
def every_operation(s: Scenario) -> None:
    client = s.client()
    client.call(
        r.multi(
            r.create("/t/a", b"0"),
            r.create2("/t/b", b"0"),
            r.create_container("/t/c"),
            r.create_ttl("/t/d", ttl_ms=3_600_000),
            r.create("/t/e", flags=r.EPHEMERAL),
            r.create("/t/s-", flags=r.SEQUENTIAL),
            r.set_data("/t/a", b"1", 0),
            r.check("/t/a", 1),
            r.delete("/t/a", 1),
            r.create("/t/a", b"2"),
        )
    )
    client.call(r.get_data("/t/a"))
    client.call(r.get_children2("/t"))
    client.call(r.get_ephemerals(None))


@scenario
def empty(s: Scenario) -> None:
    client = s.client()
    client.call(r.multi())
    client.call(r.multi_read())
    client.call(r.set_data("/t", b""))


@scenario
def fails_at_every_position(s: Scenario) -> None:
    client = s.client()
    good = [r.create("/t/a"), r.set_data("/t", b"x"), r.check("/t")]
    for position in range(4):
        operations = [*good[:position], r.delete("/none"), *good[position:]]
        client.call(r.multi(*operations))
        client.call(r.get_children2("/t"))


@scenario
def each_error(s: Scenario) -> None:
    client = s.client()
    client.call(r.create("/t/full"))
    client.call(r.create("/t/full/child"))
    client.call(r.create("/t/e", flags=r.EPHEMERAL))
    for operation in (
        r.create("/t"),
        r.create("/t/none/a"),
        r.create("/t/e/a"),
        r.create("bad"),
        r.create("/t/."),
        r.create("/t/a", acl=[]),
        r.create("/t/a", acl=[(31, "nope", "x")]),
        r.create_ttl("/t/a", ttl_ms=0),
        r.delete("/t/full"),
        r.delete("/t/full/child", 3),
        r.delete("/"),
        r.set_data("/t/none", b""),
        r.set_data("/t", b"", 3),
        r.set_data("bad", b""),
        r.check("/t", 3),
        r.check("/t/none"),
        r.check("bad"),
    ):
        client.call(r.multi(operation))
    client.call(r.exists("/t"))


@scenario
def what_is_not_allowed_inside(s: Scenario) -> None:
    client = s.client()
    for operation in (
        r.exists("/t"),
        r.get_data("/t"),
        r.get_children("/t"),
        r.get_children2("/t"),
        r.set_acl("/t", r.OPEN),
        r.get_acl("/t"),
        r.sync("/t"),
        r.multi(),
        r.raw(r.OPCODES["deleteContainer"], ustring("/t/a"), "/t/a"),
        r.close_session(),
        r.raw(500, b"", "op500"),
        r.raw(-1, i32(0), "error"),
        r.create("/t/a", flags=9),
        r.create("/t/a", flags=r.TTL),
        r.create_ttl("/t/a", ttl_ms=1000, flags=9),
    ):
        client.call(r.multi(operation))
        client.call(r.multi(r.create("/t/a"), operation))
    client.call(r.get_children("/t"))


@scenario
def container_flag_inside(s: Scenario) -> None:
    client = s.client()
    client.call(r.multi(r.create("/t/a", flags=r.CONTAINER)))
    client.call(r.multi(r.create_container("/t/b", flags=r.PERSISTENT)))
    client.call(r.multi(r.create_container("/t/c-", flags=r.SEQUENTIAL)))
    client.call(r.get_children("/t"))


@scenario
def later_operations_see_earlier_ones(s: Scenario) -> None:
    client = s.client()
    client.call(
        r.multi(
            r.create("/t/a"),
            r.create("/t/a/b"),
            r.set_data("/t/a/b", b"1", 0),
            r.set_data("/t/a/b", b"2", 1),
            r.check("/t/a/b", 2),
            r.delete("/t/a/b", 2),
            r.delete("/t/a"),
            r.create("/t/a"),
            r.create2("/t/a/c"),
        )
    )
    client.call(r.exists("/t/a"))
    client.call(r.multi(r.create("/t/e", flags=r.EPHEMERAL), r.create("/t/e/x")))
    client.call(r.multi(r.delete("/t/a/c"), r.delete("/t/a"), r.check("/t/a")))
    client.call(r.exists("/t/a"))


@scenario
def sequence_numbers(s: Scenario) -> None:
    client = s.client()
    sequential = r.create("/t/s-", flags=r.SEQUENTIAL)
    client.call(r.multi(sequential, sequential, r.create("/t/x"), sequential))
    client.call(r.multi(sequential, sequential, r.delete("/none")))
    client.call(sequential)
    client.call(r.exists("/t"))


@scenario
def a_node_made_and_deleted_leaves_its_mark(s: Scenario) -> None:
    client = s.client()
    client.call(r.multi(r.create("/t/a"), r.delete("/t/a")))
    client.call(r.exists("/t"))
    client.call(r.create("/t/s-", flags=r.SEQUENTIAL))


@scenario
def rights_are_checked(s: Scenario) -> None:
    owner, client = s.client(), s.client()
    owner.call(r.auth("digest", b"owner:secret"))
    owner.call(r.multi(r.create("/t/mine", acl=r.CREATOR), r.create("/t/mine/x")))
    for operation in (
        r.create("/t/mine/y"),
        r.delete("/t/mine/x"),
        r.set_data("/t/mine", b""),
        r.check("/t/mine"),
        r.create("/t/a", acl=r.CREATOR),
    ):
        client.call(r.multi(r.create("/t/b"), operation))
    owner.call(r.get_acl("/t/mine"))


@scenario
def pipelined_multis(s: Scenario) -> None:
    client = s.client()
    client.pipeline(
        r.multi(r.create("/t/a")),
        r.multi(r.create("/t/a")),
        r.multi(r.set_data("/t/a", b"1", 0), r.set_data("/none", b"")),
        r.multi(r.set_data("/t/a", b"1", 0)),
        r.get_data("/t/a"),
        r.multi(r.set_data("/t/a", b"2", 1), r.delete("/t/a", 2)),
        r.exists("/t/a"),
    )


@scenario
def multi_read(s: Scenario) -> None:
    client = s.client()
    client.call(r.create("/t/a", b"data"))
    client.call(r.multi_read(r.get_data("/t/a"), r.get_children("/t"), r.get_data("/t/none")))
    client.call(r.multi_read(r.get_children("/t/none"), r.get_children("/t/a")))
    client.call(r.multi_read(r.get_data("bad"), r.get_data("/t/a")))


@scenario
def null_path_in_a_multi_read(s: Scenario) -> None:
    client = s.client()
    client.call(r.multi_read(r.get_data(None), r.get_children("/t")))
    client.alive()


@scenario
def what_is_not_allowed_in_a_multi_read(s: Scenario) -> None:
    client = s.client()
    for operation in (
        r.exists("/t"),
        r.get_children2("/t"),
        r.get_acl("/t"),
        r.create("/t/a"),
        r.check("/t"),
        r.delete("/t/a"),
        r.set_data("/t", b""),
    ):
        client.call(r.multi_read(operation))
        client.call(r.multi_read(r.get_data("/t"), operation))
    client.call(r.exists("/t"))


@scenario
def large_multi_read(s: Scenario) -> None:
    client = s.client()
    for name in ("a", "b", "c"):
        client.call(r.create(f"/t/{name}", name.encode() * 900_000))
    client.call(r.multi_read(*(r.get_data(f"/t/{name}") for name in ("a", "b", "c"))))


@scenario
def many_operations(s: Scenario) -> None:
    client = s.client()
    client.call(r.multi(*(r.create(f"/t/n{number:03d}") for number in range(300))))
    client.call(r.exists("/t"))
    client.call(r.multi(*(r.delete(f"/t/n{number:03d}") for number in range(300))))
    client.call(r.exists("/t"))


@scenario
def nulls_in_an_acl(s: Scenario) -> None:
    client = s.client()
    null_id: list[r.Acl] = [(r.ALL, "digest", None)]
    for acl in (None, null_id):
        client.call(r.multi(r.create("/t/a"), r.create("/t/b", acl=acl), r.delete("/t/a")))
        client.call(r.multi(r.check("/t/none"), r.create("/t/b", acl=acl)))
    client.call(r.multi(r.create("/t/b", acl=[]), r.create_ttl("/t/c", ttl_ms=1000, acl=None)))
    client.call(r.get_children2("/t"))
