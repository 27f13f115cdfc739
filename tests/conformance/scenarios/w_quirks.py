"""Section W: the quirks, those that are kept and those that are not (differences.py says why).

Source: reference parity W. W3, W7-W9, W11, W12, W16, W19-W21 are no matter of the client protocol.
"""

from __future__ import annotations

from tests.conformance import requests as r
from tests.conformance.scenario import Scenario, on_server, scenario


@scenario
def w1_delete_container_from_a_client(s: Scenario) -> None:
    owner = s.client()
    owner.call(r.auth("digest", b"owner:secret"))
    owner.call(r.create("/t/mine", acl=r.CREATOR))
    owner.call(r.create("/t/mine/child", acl=r.CREATOR))
    owner.call(r.set_acl("/t", [(r.READ, "world", "anyone")]))
    for path in ("/t/mine/child", "/t/mine", "/t/none"):
        thief = s.client()
        thief.send(r.delete_container(path))
        thief.read_reply()
        thief.alive()
    owner.call(r.exists("/t/mine"))


@on_server(fresh=True)
def w1_create_session_from_a_client(s: Scenario) -> None:
    client = s.client()
    client.send(r.raw(r.OPCODES["createSession"], b"\0\0\x27\x10", "10000 ms"))
    s.note(f"the answer has {len(client.connection.recv())} bytes")
    client.expect_close(10)


@scenario
def w4_failed_multi_has_header_error_zero(s: Scenario) -> None:
    client = s.client()
    client.call(r.multi(r.create("/t/a"), r.delete("/none"), r.create("/t/b")))


@scenario
def w5_container_and_ttl_nodes_show_no_owner(s: Scenario) -> None:
    client = s.client()
    client.call(r.create_container("/t/c"))
    client.call(r.create_ttl("/t/l", ttl_ms=3_600_000))
    client.call(r.create2("/t/e", flags=r.EPHEMERAL))


@scenario
def w6_deletes_show_in_cversion_but_not_in_sequence_numbers(s: Scenario) -> None:
    client = s.client()
    for _ in range(3):
        client.call(r.create("/t/a"))
        client.call(r.delete("/t/a"))
    client.call(r.exists("/t"))
    client.call(r.create("/t/s-", flags=r.SEQUENTIAL))


@scenario
def w10_no_catch_up_for_persistent_watches(s: Scenario) -> None:
    client = s.client()
    client.call(r.create("/t/a"))
    client.call(r.set_watches(0, zxid_text="0", persistent=["/t/a"], recursive=["/t"]))
    client.call(r.set_data("/t/a", b""))


@scenario
def w13_create_with_the_container_flag_is_persistent(s: Scenario) -> None:
    client = s.client()
    client.call(r.create2("/t/a", flags=r.CONTAINER))
    client.call(r.create("/t/a/b"))
    client.call(r.delete("/t/a/b"))
    client.call(r.exists("/t/a"))


@scenario
def w14_get_ephemerals_matches_by_string_prefix(s: Scenario) -> None:
    client = s.client()
    for name in ("a", "ab", "b"):
        client.call(r.create(f"/t/{name}", flags=r.EPHEMERAL))
    client.call(r.get_ephemerals("/t/a"))


@on_server(fresh=True)
def w15_node_count_has_the_root_twice(s: Scenario) -> None:
    client = s.client()
    for _ in range(2):
        lines = s.socket().word("srvr").splitlines()
        s.note(next(line for line in lines if line.startswith("Node count")))
        client.call(r.create("/a"))


@scenario
def w17_exists_needs_the_right_to_read(s: Scenario) -> None:
    client = s.client()
    client.call(r.create("/t/a", acl=[(r.WRITE, "world", "anyone")]))
    client.call(r.exists("/t/a", True))
    client.call(r.check_watches("/t/a", 3))


@scenario
def w18_failed_writes_take_zxids(s: Scenario) -> None:
    client = s.client()
    client.call(r.delete("/t/none"))
    client.call(r.delete("/t/none"))
    client.call(r.create2("/t/a"))


@scenario
def w22_rights_before_existence(s: Scenario) -> None:
    owner, client = s.client(), s.client()
    owner.call(r.auth("digest", b"owner:secret"))
    owner.call(r.create("/t/mine", acl=r.CREATOR))
    owner.call(r.create("/t/mine/a"))
    client.call(r.create("/t/mine/a"))
