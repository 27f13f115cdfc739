"""Section H: sessions that are resumed, moved, closed and expire.

Source: reference parity H1-H13; SessionTrackerImpl, ZooKeeperServer.reopenSession.
"""

from __future__ import annotations

from tests.conformance import requests as r
from tests.conformance.scenario import Scenario, scenario
from tests.conformance.wire import java_password


@scenario
def session_id_and_password(s: Scenario) -> None:
    first, second = s.client(), s.client()
    s.note(f"first byte of the id: {first.session_id >> 56}")
    s.note(f"next id: {'one more' if second.session_id == first.session_id + 1 else 'other'}")
    s.note(f"password by java.util.Random: {first.password == java_password(first.session_id)}")


@scenario
def resume_after_a_cut(s: Scenario) -> None:
    first = s.client()
    first.call(r.create("/t/e", flags=r.EPHEMERAL))
    first.call(r.auth("digest", b"u:p"))
    first.drop()
    second = s.socket().resume(first)
    second.call(r.exists("/t/e"))
    second.call(r.get_ephemerals(None))
    s.note("authentication belongs to the connection")
    second.call(r.who_am_i())
    second.call(r.create("/t/f", flags=r.EPHEMERAL))
    second.call(r.close_session())
    second.expect_close()
    s.client().call(r.get_children("/t"))


@scenario
def resume_takes_over_a_live_connection(s: Scenario) -> None:
    first = s.client()
    second = s.socket().resume(first)
    first.expect_close()
    second.call(r.create("/t/a"))
    third = s.socket().resume(second, timeout_ms=4000, read_only=None)
    second.expect_close()
    third.call(r.exists("/t/a"))


@scenario
def resume_renegotiates_the_timeout(s: Scenario) -> None:
    client = s.client(timeout_ms=5000)
    for timeout_ms in (1, 7000, 70_000):
        client.drop()
        client = s.socket().resume(client, timeout_ms=timeout_ms)
        client.alive()


@scenario
def wrong_password(s: Scenario) -> None:
    owner = s.client()
    owner.call(r.create("/t/e", flags=r.EPHEMERAL))
    owner.drop()
    for password in (b"x" * 16, b"", None, b"x" * 15, b"x" * 17):
        thief = s.socket().connect(session_id=owner.session_id, password=password)
        thief.expect_close()
    s.socket().resume(owner).call(r.exists("/t/e"))


@scenario
def wrong_password_and_the_live_connection(s: Scenario) -> None:
    owner = s.client()
    s.socket().connect(session_id=owner.session_id, password=b"x" * 16).expect_close()
    owner.alive()
    s.socket().resume(owner).alive()


@scenario
def close_is_final(s: Scenario) -> None:
    client = s.client()
    client.call(r.close_session())
    client.expect_close()
    s.socket().resume(client).expect_close()


@scenario
def close_takes_the_ephemerals_in_one_zxid(s: Scenario) -> None:
    owner, other = s.client(), s.client()
    owner.call(r.create("/t/d"))
    for path in ("/t/a", "/t/b", "/t/d/c"):
        owner.call(r.create(path, flags=r.EPHEMERAL))
    other.call(r.exists("/t"))
    owner.call(r.close_session())
    owner.expect_close()
    other.call(r.exists("/t"))
    other.call(r.exists("/t/d"))
    other.call(r.get_children("/t"))
    other.call(r.create("/t/s-", flags=r.SEQUENTIAL))


@scenario
def close_leaves_what_others_took_over(s: Scenario) -> None:
    owner, other = s.client(), s.client()
    owner.call(r.create("/t/a", flags=r.EPHEMERAL))
    owner.call(r.create("/t/b", flags=r.EPHEMERAL))
    other.call(r.delete("/t/a"))
    other.call(r.create("/t/a", flags=r.EPHEMERAL))
    other.call(r.delete("/t/b"))
    other.call(r.create("/t/b"))
    owner.call(r.close_session())
    other.call(r.get_children("/t"))
    other.call(r.get_ephemerals(None))


@scenario
def writes_before_a_close_in_one_pipeline(s: Scenario) -> None:
    owner, other = s.client(), s.client()
    owner.pipeline(
        r.create("/t/a", flags=r.EPHEMERAL),
        r.multi(r.create("/t/b", flags=r.EPHEMERAL), r.create("/t/c")),
        r.get_ephemerals(None),
        r.close_session(),
    )
    owner.expect_close()
    other.call(r.get_children2("/t"))


@scenario
def expiry(s: Scenario) -> None:
    watcher = s.client(timeout_ms=30_000)
    owner = s.client(timeout_ms=1000)
    for name in ("a", "b"):
        owner.call(r.create(f"/t/{name}", flags=r.EPHEMERAL))
    watcher.call(r.get_children("/t", True))
    watcher.event()
    owner.expect_close()
    watcher.call(r.get_children2("/t"))
    s.socket().resume(owner).expect_close()


@scenario
def a_cut_connection_does_not_end_its_session(s: Scenario) -> None:
    watcher = s.client(timeout_ms=30_000)
    owner = s.client(timeout_ms=1000)
    owner.call(r.create("/t/a", flags=r.EPHEMERAL))
    owner.drop()
    watcher.call(r.exists("/t/a", True))
    watcher.event()
    watcher.call(r.exists("/t"))


@scenario
def pings_keep_a_session(s: Scenario) -> None:
    owner = s.client(timeout_ms=1000)
    owner.call(r.create("/t/a", flags=r.EPHEMERAL))
    owner.ping_for(2.5)
    owner.call(r.exists("/t/a"))


@scenario
def expired_while_its_connection_is_open(s: Scenario) -> None:
    owner = s.client(timeout_ms=1000)
    owner.call(r.create("/t/a", flags=r.EPHEMERAL))
    owner.expect_close()
    other = s.client()
    other.call(r.get_children("/t"))


@scenario
def resume_before_expiry_keeps_the_ephemerals(s: Scenario) -> None:
    owner = s.client(timeout_ms=2000)
    owner.call(r.create("/t/a", flags=r.EPHEMERAL))
    for _ in range(3):
        owner.drop()
        owner = s.socket().resume(owner, timeout_ms=2000)
        owner.ping_for(1.0)
    owner.call(r.exists("/t/a"))
