"""Section E: Stat fields, sequence numbers, paths and data.

Source: reference parity E1-E9, E20-E25; DataTree, DataNode.copyStat, PathUtils.
"""

from __future__ import annotations

from tests.conformance import requests as r
from tests.conformance.scenario import Scenario, on_server, scenario


@on_server(fresh=True)
def fresh_tree(s: Scenario) -> None:
    client = s.client()
    for path in ("/", "/zookeeper", "/zookeeper/quota"):
        client.call(r.get_data(path))
        client.call(r.get_children2(path))
        client.call(r.get_acl(path))
    for path in ("/zookeeper/config", "/zookeeper/config/none"):
        client.call(r.exists(path))
    client.call(r.get_acl("/zookeeper/config"))
    client.call(r.get_data("/zookeeper/config"))
    client.call(r.get_children2("/zookeeper"))


@on_server(fresh=True)
def special_nodes(s: Scenario) -> None:
    client = s.client()
    for path in ("/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"):
        client.call(r.delete(path))
        client.call(r.create(path))
    client.call(r.set_data("/zookeeper/config", b"x"))
    client.call(r.create("/zookeeper/config/child"))
    for path in ("/", "/zookeeper", "/zookeeper/quota"):
        client.call(r.set_data(path, b"x"))
        client.call(r.set_acl(path, r.OPEN))
        client.call(r.get_data(path))
    client.call(r.create("/zookeeper/child"))
    client.call(r.exists("/zookeeper"))
    client.call(r.delete("/zookeeper/child"))
    client.call(r.create("/child"))
    client.call(r.exists("/"))
    client.call(r.delete("/child"))
    client.call(r.exists("/"))
    client.call(r.multi(r.delete("/zookeeper")))


@on_server(fresh=True)
def root_acl_closed(s: Scenario) -> None:
    client = s.client()
    client.call(r.set_acl("/", [(r.READ, "world", "anyone")]))
    client.call(r.create("/a"))
    client.call(r.set_acl("/", r.OPEN))
    client.call(r.get_data("/"))


@scenario
def stat_of_every_change(s: Scenario) -> None:
    client = s.client()
    for write in (
        r.create2("/t/a", b"0123"),
        r.set_data("/t/a", b"01"),
        r.set_acl("/t/a", r.OPEN),
        r.create("/t/a/x"),
        r.create("/t/a/y"),
        r.set_data("/t/a/x", b"changed"),
        r.create("/t/a/x/deep"),
        r.delete("/t/a/x/deep"),
        r.delete("/t/a/x"),
        r.create("/t/a/x"),
        r.delete("/t/a/none"),
        r.set_data("/t/a", None),
    ):
        client.call(write)
        client.call(r.exists("/t/a"))
    client.call(r.exists("/t"))
    client.call(r.exists("/t/a/x"))


@scenario
def ephemeral_stat(s: Scenario) -> None:
    client, other = s.client(), s.client()
    client.call(r.create2("/t/e", b"x", flags=r.EPHEMERAL))
    other.call(r.exists("/t/e"))
    other.call(r.set_data("/t/e", b"by another"))
    other.call(r.create2("/t/f-", flags=r.EPHEMERAL_SEQUENTIAL))
    other.call(r.delete("/t/e"))
    client.call(r.get_ephemerals(None))
    client.call(r.close_session())
    other.call(r.get_children2("/t"))


@scenario
def ephemerals_have_no_children(s: Scenario) -> None:
    client = s.client()
    client.call(r.create("/t/e", flags=r.EPHEMERAL))
    for flags in (r.PERSISTENT, r.EPHEMERAL, r.SEQUENTIAL):
        client.call(r.create("/t/e/x", flags=flags))
    client.call(r.create_container("/t/e/x"))
    client.call(r.create_ttl("/t/e/x", ttl_ms=1000))
    client.call(r.create("/t/e/x/y"))
    client.call(r.multi(r.delete("/t/e"), r.create("/t/e"), r.create("/t/e/x")))


@scenario
def sequence_numbers(s: Scenario) -> None:
    client = s.client()
    client.call(r.create("/t/q"))
    sequential = r.create("/t/q/n-", flags=r.SEQUENTIAL)
    s.note("creates of any kind count, deletes and failures do not")
    client.call(sequential)
    client.call(r.create("/t/q/plain"))
    client.call(sequential)
    client.call(r.delete("/t/q/plain"))
    client.call(sequential)
    client.call(r.create("/t/q/n-0000000000"))
    client.call(r.create("/t/q/plain", acl=[]))
    client.call(sequential)
    client.call(r.set_data("/t/q", b""))
    client.call(r.create("/t/q/e-", flags=r.EPHEMERAL_SEQUENTIAL))
    client.call(r.exists("/t/q"))
    s.note("a name of nothing but the number")
    client.call(r.create("/t/q/", flags=r.SEQUENTIAL))
    client.call(r.create("/t/q/", flags=r.EPHEMERAL_SEQUENTIAL))
    client.call(r.create("/t/q", flags=r.SEQUENTIAL))
    client.call(r.create("/t/q//", flags=r.SEQUENTIAL))
    client.call(r.create("/t/none/", flags=r.SEQUENTIAL))


@scenario
def sequence_number_collides(s: Scenario) -> None:
    client = s.client()
    client.call(r.create("/t/q"))
    client.call(r.create("/t/q/n-0000000002"))
    client.call(r.create("/t/q/n-", flags=r.SEQUENTIAL))
    client.call(r.create("/t/q/n-", flags=r.SEQUENTIAL))
    client.call(r.create("/t/q/n-", flags=r.SEQUENTIAL))
    client.call(r.exists("/t/q"))


@scenario
def sequence_of_a_new_node_starts_again(s: Scenario) -> None:
    client = s.client()
    client.call(r.create("/t/q"))
    client.call(r.create("/t/q/n-", flags=r.SEQUENTIAL))
    client.call(r.delete("/t/q/n-0000000000"))
    client.call(r.delete("/t/q"))
    client.call(r.create("/t/q"))
    client.call(r.create("/t/q/n-", flags=r.SEQUENTIAL))


@scenario
def sequence_name_is_checked_whole(s: Scenario) -> None:
    client = s.client()
    for name in (".", "..", "...", "a\x01", "a\0b", "\u00e9-", "\U0001f600"):
        client.call(r.create(f"/t/{name}", flags=r.SEQUENTIAL))


@scenario
def odd_paths_in_create(s: Scenario) -> None:
    client = s.client()
    for path in (
        "/t/a//b",
        "/t/a/",
        "/t/",
        "/t//b",
        "//t",
        "",
        "t",
        "t/a",
        "/t/.",
        "/t/..",
        "/t/./a",
        "/t/../a",
        "/none/x",
        b"/t/\xff\xfe",
        b"/t/\xed\xa0\x80",
        b"/t/\xc0\xaf",
    ):
        client.call(r.create(path))
    client.call(r.get_children("/t"))


@scenario
def characters_in_names(s: Scenario) -> None:
    client = s.client()
    for character in (
        "\0",
        "\x01",
        "\x1f",
        " ",
        "\x7e",
        "\x7f",
        "\x9f",
        "\xa0",
        "\ud7ff",
        "\ue000",
        "\uf8ff",
        "\uf900",
        "\uffef",
        "\ufff0",
        "\ufffd",
        "\uffff",
        "\U0001f600",
    ):
        client.call(r.create(f"/t/x{character}"))
    for name in ("...", ".a", "a.", "a b", "\\", "%2F", "\u65e5\u672c"):
        client.call(r.create(f"/t/{name}"))
        client.call(r.get_data(f"/t/{name}"))
    client.call(r.get_children("/t"))


@scenario
def odd_paths_in_other_writes(s: Scenario) -> None:
    client = s.client()
    for path in ("", "/t/", "t", "/t//a", "/t/.", "/t\0", "/t/\x01", "//", "/t/a/"):
        client.call(r.delete(path))
        client.call(r.set_data(path, b""))
        client.call(r.set_acl(path, r.OPEN))
        client.call(r.multi(r.check(path)))


@scenario
def long_paths(s: Scenario) -> None:
    client = s.client()
    for size in (200, 255, 256, 511, 512, 2000, 70_000):
        name = "n" * size
        client.call(r.create(f"/t/{name}", b"long"))
        client.call(r.create(f"/t/{name}/child"))
        client.call(r.get_data(f"/t/{name}"))
        client.call(r.get_children2(f"/t/{name}"))
        client.call(r.delete(f"/t/{name}/child"))
        client.call(r.delete(f"/t/{name}"))
    client.call(r.exists("/t"))


@scenario
def long_names_alike_up_to_the_end(s: Scenario) -> None:
    client = s.client()
    for end in ("a", "b"):
        client.call(r.create("/t/" + "n" * 600 + end, end.encode()))
    for end in ("a", "b", "c"):
        client.call(r.get_data("/t/" + "n" * 600 + end))
    client.call(r.get_children("/t"))


@scenario
def deep_paths(s: Scenario) -> None:
    client = s.client()
    path = "/t"
    for _ in range(40):
        path += "/level"
        client.send(r.create(path))
        client.read_reply()
    client.call(r.get_all_children_number("/t"))
    client.call(r.exists(path))


@scenario
def data_sizes(s: Scenario) -> None:
    client = s.client()
    for size in (0, 1, 1000, 4096, 100_000, 1_000_000):
        client.call(r.create2(f"/t/size{size}", bytes(size)))
        client.call(r.get_data(f"/t/size{size}"))
        client.call(r.set_data(f"/t/size{size}", b"small"))
    client.call(r.set_data("/t", None))
    client.call(r.get_data("/t"))
    client.call(r.set_data("/t", b""))
    client.call(r.get_data("/t"))


@scenario
def names_are_bytes_not_order(s: Scenario) -> None:
    client = s.client()
    for name in ("B", "a", "b", "A", "10", "9", "\u00e9", "z", "a-b", "a.b", "a/b"):
        client.call(r.create(f"/t/{name}"))
    client.call(r.get_children("/t"))
    client.call(r.get_children("/t/a"))
