"""Section E: containers and nodes with a time to live, and when the sweep takes them.

Design: the servers sweep every 500 ms; a scenario waits for the event of the delete, never for a
        time.
Source: reference parity E10-E19; ContainerManager, EphemeralType.
"""

from __future__ import annotations

from tests.conformance import requests as r
from tests.conformance.scenario import Scenario, scenario


@scenario
def container_goes_after_its_last_child(s: Scenario) -> None:
    client = s.client()
    client.call(r.create_container("/t/c", b"data"))
    client.call(r.create("/t/c/a"))
    client.call(r.get_data("/t/c", True))
    client.call(r.get_children("/t", True))
    client.call(r.delete("/t/c/a"))
    client.event()
    client.event()
    client.call(r.exists("/t/c"))
    client.call(r.exists("/t"))


@scenario
def container_never_used_stays(s: Scenario) -> None:
    client = s.client()
    client.call(r.create_container("/t/never"))
    client.call(r.create_container("/t/used"))
    client.call(r.create("/t/used/a"))
    client.call(r.exists("/t/used", True))
    client.call(r.delete("/t/used/a"))
    client.event()
    client.call(r.get_children("/t"))


@scenario
def container_can_be_written_and_deleted(s: Scenario) -> None:
    client = s.client()
    client.call(r.create_container("/t/c"))
    client.call(r.set_data("/t/c", b"1"))
    client.call(r.create("/t/c/e", flags=r.EPHEMERAL))
    client.call(r.create("/t/c/s-", flags=r.SEQUENTIAL))
    client.call(r.exists("/t/c"))
    client.call(r.delete("/t/c"))
    client.call(r.multi(r.delete("/t/c/e"), r.delete("/t/c/s-0000000001"), r.delete("/t/c")))
    client.call(r.exists("/t/c"))


@scenario
def container_by_flag_only_is_persistent(s: Scenario) -> None:
    client = s.client()
    client.call(r.create("/t/plain", flags=r.CONTAINER))
    client.call(r.create("/t/plain/a"))
    client.call(r.delete("/t/plain/a"))
    s.note("the sweep takes a real container, not this one")
    client.call(r.create_container("/t/real"))
    client.call(r.create("/t/real/a"))
    client.call(r.exists("/t/real", True))
    client.call(r.delete("/t/real/a"))
    client.event()
    client.call(r.exists("/t/plain"))


@scenario
def ttl_node_goes(s: Scenario) -> None:
    client = s.client()
    client.call(r.create_ttl("/t/long", b"x", ttl_ms=3_600_000))
    client.call(r.multi(r.create_ttl("/t/parent", ttl_ms=1), r.create("/t/parent/child")))
    client.call(r.create_ttl("/t/short", b"x", ttl_ms=1))
    s.note("wait for the short one; one with a child and one with time left stay")
    client.until_gone("/t/short")
    client.call(r.get_children("/t"))
    client.call(r.exists("/t/parent", True))
    client.call(r.delete("/t/parent/child"))
    client.event()
    client.call(r.get_children2("/t"))


@scenario
def ttl_node_can_be_written_and_deleted(s: Scenario) -> None:
    client = s.client()
    client.call(r.create_ttl("/t/a", b"x", ttl_ms=3_600_000))
    client.call(r.set_data("/t/a", b"y"))
    client.call(r.create("/t/a/b"))
    client.call(r.delete("/t/a/b"))
    client.call(r.exists("/t/a"))
    client.call(r.delete("/t/a"))


@scenario
def ttl_and_container_in_a_multi(s: Scenario) -> None:
    client = s.client()
    client.call(
        r.multi(
            r.create_ttl("/t/a", ttl_ms=3_600_000),
            r.create_container("/t/c"),
            r.create_ttl("/t/s-", ttl_ms=3_600_000, flags=r.TTL_SEQUENTIAL),
            r.create("/t/c/x"),
        )
    )
    client.call(r.exists("/t/c", True))
    client.call(r.delete("/t/c/x"))
    client.event()


@scenario
def container_flag_in_a_multi_makes_a_container(s: Scenario) -> None:
    client = s.client()
    client.call(r.multi(r.create("/t/c", flags=r.CONTAINER), r.create("/t/c/x")))
    client.call(r.exists("/t/c", True))
    client.call(r.delete("/t/c/x"))
    client.event()
