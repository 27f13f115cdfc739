"""Section D: persistent and recursive watches, checking and removing, and who may see an event.

Source: reference parity D3-D18; WatchManager, WatcherMode, CVE-2024-23944.
"""

from __future__ import annotations

from tests.conformance import requests as r
from tests.conformance.scenario import Scenario, scenario

PERSISTENT, RECURSIVE = 0, 1
CHILDREN, DATA, ANY, KIND_PERSISTENT, KIND_RECURSIVE = 1, 2, 3, 4, 5

_LIFE = (
    r.create("/t/w"),
    r.set_data("/t/w", b""),
    r.create("/t/w/a"),
    r.set_data("/t/w/a", b""),
    r.create("/t/w/a/b"),
    r.delete("/t/w/a/b"),
    r.delete("/t/w/a"),
    r.set_acl("/t/w", r.OPEN),
    r.delete("/t/w"),
    r.create("/t/w"),
)


@scenario
def persistent(s: Scenario) -> None:
    watcher, writer = s.client(), s.client()
    watcher.call(r.add_watch("/t/w", PERSISTENT))
    for write in _LIFE:
        writer.call(write)
        watcher.events()


@scenario
def recursive(s: Scenario) -> None:
    watcher, writer = s.client(), s.client()
    watcher.call(r.add_watch("/t/w", RECURSIVE))
    for write in _LIFE:
        writer.call(write)
        watcher.events()


@scenario
def recursive_on_the_root(s: Scenario) -> None:
    watcher, writer = s.client(), s.client()
    watcher.call(r.add_watch("/", RECURSIVE))
    for write in _LIFE[:5]:
        writer.call(write)
        watcher.events()


@scenario
def persistent_on_the_parent(s: Scenario) -> None:
    watcher, writer = s.client(), s.client()
    watcher.call(r.add_watch("/t", PERSISTENT))
    for write in _LIFE:
        writer.call(write)
        watcher.events()


@scenario
def every_mode_on_one_path(s: Scenario) -> None:
    watcher, writer = s.client(), s.client()
    watcher.call(r.add_watch("/t/w", PERSISTENT))
    watcher.call(r.add_watch("/t/w", RECURSIVE))
    for write in _LIFE:
        watcher.call(r.exists("/t/w", True))
        watcher.call(r.get_children("/t/w", True))
        writer.call(write)
        watcher.events()


@scenario
def recursive_on_several_levels(s: Scenario) -> None:
    watcher, writer = s.client(), s.client()
    for path in ("/", "/t", "/t/w", "/t/w/a"):
        watcher.call(r.add_watch(path, RECURSIVE))
    watcher.call(r.add_watch("/t/w", PERSISTENT))
    for write in _LIFE:
        writer.call(write)
        watcher.events()


@scenario
def a_sibling_with_the_same_prefix_is_not_below(s: Scenario) -> None:
    watcher, writer = s.client(), s.client()
    watcher.call(r.add_watch("/t/w", RECURSIVE))
    writer.call(r.create("/t/wide"))
    writer.call(r.create("/t/w"))
    watcher.events()


@scenario
def standard_watch_over_a_persistent_one(s: Scenario) -> None:
    watcher, writer = s.client(), s.client()
    writer.call(r.create("/t/w"))
    watcher.call(r.add_watch("/t/w", PERSISTENT))
    watcher.call(r.get_data("/t/w", True))
    watcher.call(r.check_watches("/t/w", DATA))
    writer.call(r.set_data("/t/w", b""))
    watcher.events()
    watcher.call(r.check_watches("/t/w", DATA))
    watcher.call(r.check_watches("/t/w", KIND_PERSISTENT))
    writer.call(r.set_data("/t/w", b""))
    watcher.events()


@scenario
def check_watches(s: Scenario) -> None:
    client = s.client()
    client.call(r.create("/t/w"))
    s.note("none, then one kind after the other")
    for setting in (
        None,
        r.get_data("/t/w", True),
        r.get_children("/t/w", True),
        r.add_watch("/t/w", PERSISTENT),
        r.add_watch("/t/w", RECURSIVE),
    ):
        if setting is not None:
            client.call(setting)
        for kind in (CHILDREN, DATA, ANY, KIND_PERSISTENT, KIND_RECURSIVE):
            client.call(r.check_watches("/t/w", kind))
    for kind in (0, 6, -1, 100):
        client.call(r.check_watches("/t/w", kind))
    client.call(r.check_watches("/none", ANY))


@scenario
def remove_watches(s: Scenario) -> None:
    for kind in (CHILDREN, DATA, ANY, KIND_PERSISTENT, KIND_RECURSIVE):
        s.note(f"type {kind}")
        watcher, writer = s.client(), s.client()
        writer.call(r.create("/t/w"))
        watcher.pipeline(
            r.get_data("/t/w", True),
            r.get_children("/t/w", True),
            r.add_watch("/t/w", PERSISTENT),
            r.add_watch("/t/w", RECURSIVE),
        )
        watcher.call(r.remove_watches("/t/w", kind))
        for left in (CHILDREN, DATA, ANY, KIND_PERSISTENT, KIND_RECURSIVE):
            watcher.call(r.check_watches("/t/w", left))
        watcher.call(r.remove_watches("/t/w", kind))
        writer.call(r.set_data("/t/w", b""))
        writer.call(r.create("/t/w/c"))
        watcher.events()
        writer.call(r.delete("/t/w/c"))
        writer.call(r.delete("/t/w"))
        watcher.call(r.close_session())


@scenario
def remove_watches_that_are_not_there(s: Scenario) -> None:
    client = s.client()
    for kind in (0, 1, 2, 3, 4, 5, 6, -1):
        client.call(r.remove_watches("/t", kind))
    client.call(r.remove_watches("/none", ANY))
    client.call(r.remove_watches("", ANY))


@scenario
def watches_of_another_connection_stay(s: Scenario) -> None:
    one, other, writer = s.client(), s.client(), s.client()
    one.call(r.get_data("/t", True))
    other.call(r.check_watches("/t", ANY))
    other.call(r.remove_watches("/t", ANY))
    writer.call(r.set_data("/t", b""))
    one.events()


@scenario
def removing_one_of_two_recursive_watches(s: Scenario) -> None:
    watcher, writer = s.client(), s.client()
    watcher.call(r.add_watch("/t", RECURSIVE))
    watcher.call(r.add_watch("/t/w", RECURSIVE))
    watcher.call(r.remove_watches("/t", KIND_RECURSIVE))
    writer.call(r.create("/t/w"))
    writer.call(r.create("/t/x"))
    watcher.events()
    watcher.call(r.remove_watches("/t/w", ANY))
    writer.call(r.create("/t/w/y"))
    watcher.events()


@scenario
def only_readers_see_events(s: Scenario) -> None:
    owner, watcher = s.client(), s.client()
    owner.call(r.auth("digest", b"owner:secret"))
    owner.call(r.create("/t/mine", acl=r.CREATOR))
    watcher.call(r.exists("/t/mine", True))
    watcher.call(r.add_watch("/t/mine", PERSISTENT))
    watcher.call(r.add_watch("/t", RECURSIVE))
    watcher.call(r.exists("/t/later", True))
    owner.call(r.set_data("/t/mine", b""))
    owner.call(r.create("/t/mine/open"))
    owner.call(r.create("/t/later", acl=r.CREATOR))
    watcher.events()
    s.note("an event that was not sent has used up its watch")
    watcher.call(r.check_watches("/t/later", DATA))
    s.note("opened: events again, of what changes from now on")
    owner.call(r.set_acl("/t/mine", r.OPEN))
    owner.call(r.set_data("/t/mine", b""))
    owner.call(r.create("/t/mine/second"))
    watcher.events()
    s.note("closed: the deletes are hidden again")
    owner.call(r.set_acl("/t/mine", r.CREATOR))
    owner.call(r.delete("/t/mine/open"))
    owner.call(r.delete("/t/mine/second"))
    owner.call(r.delete("/t/mine"))
    owner.call(r.delete("/t/later"))
    watcher.events()


@scenario
def the_acl_at_the_time_of_the_change_counts(s: Scenario) -> None:
    owner, watcher = s.client(), s.client()
    owner.call(r.auth("digest", b"owner:secret"))
    owner.call(r.create("/t/a"))
    watcher.call(r.add_watch("/t/a", PERSISTENT))
    owner.pipeline(
        r.set_data("/t/a", b"seen"),
        r.set_acl("/t/a", r.CREATOR),
        r.set_data("/t/a", b"hidden"),
        r.set_acl("/t/a", r.OPEN),
        r.set_data("/t/a", b"seen"),
    )
    watcher.events()


@scenario
def auth_after_the_watch_lets_events_through(s: Scenario) -> None:
    owner, watcher = s.client(), s.client()
    owner.call(r.auth("digest", b"owner:secret"))
    owner.call(r.create("/t/a", acl=r.CREATOR))
    watcher.call(r.add_watch("/t/a", PERSISTENT))
    owner.call(r.set_data("/t/a", b""))
    watcher.events()
    watcher.call(r.auth("digest", b"owner:secret"))
    owner.call(r.set_data("/t/a", b""))
    watcher.events()


@scenario
def child_events_follow_the_parents_acl(s: Scenario) -> None:
    owner, watcher = s.client(), s.client()
    owner.call(r.auth("digest", b"owner:secret"))
    owner.call(r.create("/t/open"))
    watcher.call(r.get_children("/t/open", True))
    owner.call(r.create("/t/open/hidden", acl=r.CREATOR))
    watcher.events()
    owner.call(r.create("/t/shut", acl=r.CREATOR))
    watcher.call(r.add_watch("/t/shut", PERSISTENT))
    owner.call(r.create("/t/shut/visible"))
    watcher.events()


@scenario
def multi_read_sets_no_watch(s: Scenario) -> None:
    client = s.client()
    client.call(r.multi_read(r.get_data("/t", True), r.get_children("/t", True)))
    client.call(r.check_watches("/t", ANY))
    client.call(r.create("/t/a"))
    client.call(r.set_data("/t", b""))
