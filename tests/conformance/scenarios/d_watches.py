"""Section D: one-shot watches, their events and the order in which they reach the clients.

Source: reference parity D1-D19; WatchManager, DataTree, FinalRequestProcessor.
"""

from __future__ import annotations

from tests.conformance import requests as r
from tests.conformance.scenario import Scenario, scenario
from tests.conformance.wire import i64, ustring, vector


@scenario
def exists_watch_through_a_life(s: Scenario) -> None:
    watcher, writer = s.client(), s.client()
    for write in (r.create("/t/a"), r.set_data("/t/a", b"1"), r.delete("/t/a")):
        watcher.call(r.exists("/t/a", True))
        writer.call(write)
        watcher.events()
    s.note("one shot: nothing more")
    writer.call(r.create("/t/a"))
    watcher.events()


@scenario
def data_watch(s: Scenario) -> None:
    watcher, writer = s.client(), s.client()
    watcher.call(r.get_data("/t/a", True))
    writer.call(r.create("/t/a"))
    watcher.events()
    for write in (
        r.set_data("/t/a", b"1"),
        r.create("/t/a/b"),
        r.set_acl("/t/a", r.OPEN),
        r.delete("/t/a/b"),
        r.delete("/t/a"),
    ):
        watcher.call(r.get_data("/t/a", True))
        writer.call(write)
        watcher.events()


@scenario
def child_watch(s: Scenario) -> None:
    watcher, writer = s.client(), s.client()
    watcher.call(r.get_children("/t/a", True))
    writer.call(r.create("/t/a"))
    watcher.events()
    for write in (
        r.set_data("/t/a", b"1"),
        r.create("/t/a/b"),
        r.set_data("/t/a/b", b"1"),
        r.create("/t/a/b/c"),
        r.delete("/t/a/b/c"),
        r.delete("/t/a/b"),
        r.delete("/t/a"),
    ):
        watcher.call(r.get_children2("/t/a", True))
        writer.call(write)
        watcher.events()


@scenario
def failed_reads_leave_no_watch(s: Scenario) -> None:
    watcher, writer = s.client(), s.client()
    for read in (r.get_data, r.get_children, r.get_children2):
        watcher.call(read("/t/a", True))
    writer.call(r.create("/t/a"))
    writer.call(r.create("/t/a/b"))
    watcher.events()


@scenario
def a_node_deleted_under_every_watch(s: Scenario) -> None:
    watchers = [s.client(), s.client()]
    writer = s.client()
    writer.call(r.create("/t/a"))
    for watcher in watchers:
        watcher.pipeline(
            r.exists("/t/a", True),
            r.get_data("/t/a", True),
            r.get_children("/t/a", True),
            r.get_children("/t", True),
        )
    writer.call(r.delete("/t/a"))
    for watcher in watchers:
        watcher.events()
        watcher.call(r.check_watches("/t/a", 3))
        watcher.call(r.check_watches("/t", 3))


@scenario
def data_and_child_watches_of_different_clients(s: Scenario) -> None:
    data, child, writer = s.client(), s.client(), s.client()
    writer.call(r.create("/t/a"))
    data.call(r.get_data("/t/a", True))
    child.call(r.get_children("/t/a", True))
    writer.call(r.delete("/t/a"))
    data.events()
    child.events()


@scenario
def own_writes_fire_own_watches_first(s: Scenario) -> None:
    client = s.client()
    client.call(r.exists("/t/a", True))
    client.call(r.get_children("/t", True))
    client.call(r.create("/t/a"))
    client.call(r.get_data("/t/a", True))
    client.call(r.set_data("/t/a", b"1"))
    client.call(r.get_children("/t/a", True))
    client.call(r.create("/t/a/b"))
    client.call(r.create("/t/a/c"))


@scenario
def pipelined_reads_see_no_later_write(s: Scenario) -> None:
    client = s.client()
    client.pipeline(
        r.create("/t/a", b"0"),
        r.get_data("/t/a", True),
        r.set_data("/t/a", b"1"),
        r.get_data("/t/a", True),
        r.get_children("/t", True),
        r.create("/t/b"),
        r.exists("/t/a"),
        r.delete("/t/a"),
        r.exists("/t/a", True),
        r.create("/t/a", b"2"),
        r.get_data("/t/a"),
        r.delete("/none"),
        r.multi(r.set_data("/t/a", b"3"), r.create("/t/a/x")),
        r.get_children2("/t"),
        r.multi_read(r.get_data("/t/a"), r.get_children("/t/a")),
        r.sync("/t"),
    )


@scenario
def events_of_a_pipeline_at_another_client(s: Scenario) -> None:
    watcher, writer = s.client(), s.client()
    watcher.call(r.get_children("/t", True))
    watcher.call(r.exists("/t/a", True))
    watcher.call(r.exists("/t/b", True))
    writer.pipeline(r.create("/t/b"), r.create("/t/a"), r.set_data("/t/a", b""), r.delete("/t/b"))
    watcher.events()


@scenario
def events_of_a_multi(s: Scenario) -> None:
    watcher, writer = s.client(), s.client()
    writer.call(r.create("/t/a"))
    writer.call(r.create("/t/a/x"))
    watcher.pipeline(
        r.get_data("/t/a", True),
        r.get_children("/t/a", True),
        r.exists("/t/a/x", True),
        r.get_children("/t", True),
        r.exists("/t/b", True),
    )
    writer.call(
        r.multi(
            r.create("/t/b"),
            r.set_data("/t/b", b""),
            r.set_data("/t/a", b""),
            r.delete("/t/a/x"),
            r.delete("/t/a"),
        )
    )
    watcher.events()


@scenario
def failed_multi_fires_nothing(s: Scenario) -> None:
    watcher, writer = s.client(), s.client()
    watcher.call(r.exists("/t/a", True))
    writer.call(r.multi(r.create("/t/a"), r.delete("/none")))
    watcher.events()
    watcher.call(r.check_watches("/t/a", 2))


@scenario
def a_closing_session_fires_watches(s: Scenario) -> None:
    watcher, owner = s.client(), s.client()
    for name in ("a", "b", "c"):
        owner.call(r.create(f"/t/{name}", flags=r.EPHEMERAL))
        watcher.call(r.exists(f"/t/{name}", True))
    watcher.call(r.get_children("/t", True))
    owner.call(r.close_session())
    watcher.events(unordered=True)
    watcher.call(r.get_children("/t"))


@scenario
def own_close_sends_own_events_before_the_reply(s: Scenario) -> None:
    owner = s.client()
    owner.call(r.create("/t/a", flags=r.EPHEMERAL))
    owner.call(r.exists("/t/a", True))
    owner.call(r.close_session())
    owner.expect_close()


@scenario
def watches_belong_to_the_connection(s: Scenario) -> None:
    first, writer = s.client(), s.client()
    first.call(r.exists("/t/a", True))
    first.drop()
    second = s.socket().resume(first)
    second.call(r.check_watches("/t/a", 3))
    writer.call(r.create("/t/a"))
    second.events()


@scenario
def a_watch_set_twice_fires_once(s: Scenario) -> None:
    watcher, writer = s.client(), s.client()
    watcher.call(r.exists("/t/a", True))
    watcher.call(r.exists("/t/a", True))
    writer.call(r.create("/t/a"))
    writer.call(r.set_data("/t/a", b""))
    watcher.events()


@scenario
def set_watches_catch_up(s: Scenario) -> None:
    watcher, writer = s.client(), s.client()
    writer.call(r.create("/t/same"))
    writer.call(r.create("/t/changed"))
    seen = s.base_zxid + 4
    writer.call(r.set_data("/t/changed", b""))
    writer.call(r.create("/t/changed/child"))
    watcher.call(
        r.set_watches(
            seen,
            zxid_text="z+4",
            data=["/t/same", "/t/changed", "/t/none"],
            exist=["/t/same", "/t/none", "/t/none"],
            child=["/t", "/t/same", "/t/changed", "/t/none"],
        )
    )
    s.note("what had no event is watched now")
    writer.call(r.set_data("/t/same", b""))
    writer.call(r.create("/t/same/child"))
    writer.call(r.create("/t/none"))
    watcher.events()


@scenario
def set_watches_since(s: Scenario) -> None:
    client = s.client()
    client.call(r.create("/t/a"))
    client.call(r.set_data("/t/a", b""))
    client.call(r.create("/t/a/b"))
    for ahead in (1, 2, 3, 4, 5):
        zxid = s.base_zxid + ahead
        client.call(r.set_watches(zxid, zxid_text=f"z+{ahead}", data=["/t/a"], child=["/t/a"]))
    client.call(r.set_watches(1 << 60, zxid_text="far", data=["/t/a"], exist=["/t/a"]))
    client.call(r.set_watches(-1, zxid_text="-1", data=["/t/a"], child=["/t/a"]))


@scenario
def set_watches_with_odd_paths(s: Scenario) -> None:
    client = s.client()
    odd = ["no path", "", "/t/", "/t//a"]
    client.call(r.set_watches(s.base_zxid, zxid_text="z+0", data=odd[:1], exist=odd, child=odd[:1]))
    client.call(r.set_watches(s.base_zxid, zxid_text="z+0", data=["/t"]).with_xid(7))


@scenario
def set_watches_of_nothing(s: Scenario) -> None:
    client = s.client()
    client.call(r.set_watches(0, zxid_text="0"))
    client.call(r.set_watches(0, zxid_text="0", persistent=[]))


@scenario
def set_watches2_has_no_catch_up_for_persistent(s: Scenario) -> None:
    watcher, writer = s.client(), s.client()
    writer.call(r.create("/t/a"))
    writer.call(r.set_data("/t/a", b""))
    watcher.call(
        r.set_watches(
            s.base_zxid,
            zxid_text="z+0",
            data=["/t/a"],
            persistent=["/t/a", "/t/none"],
            recursive=["/t/a"],
        )
    )
    writer.call(r.set_data("/t/a", b""))
    writer.call(r.create("/t/a/b"))
    writer.call(r.create("/t/none"))
    watcher.events()


@scenario
def many_watchers(s: Scenario) -> None:
    watchers = [s.client() for _ in range(12)]
    writer = s.client()
    for watcher in watchers:
        watcher.call(r.exists("/t/a", True))
    writer.call(r.create("/t/a"))
    for watcher in watchers:
        watcher.events()


@scenario
def nulls_in_set_watches(s: Scenario) -> None:
    """The request fails there; what stands before it is done."""
    client, writer = s.client(), s.client()
    none, known, unknown = ustring(None), ustring("/t"), ustring("/t/a")
    empty = vector([])
    for lists in (
        vector([known, none, unknown]) + empty * 2,
        empty + vector([unknown, none]) + empty,
        empty * 2 + vector([none]),
        vector(None) + empty * 2,
        empty + vector(None) * 2,
    ):
        client.call(r.raw(r.OPCODES["setWatches"], i64(0) + lists))
    persistent = vector([none, unknown])
    client.call(r.raw(r.OPCODES["setWatches2"], i64(1 << 50) + empty * 3 + persistent + empty))
    writer.call(r.create("/t/a"))
    client.events()
