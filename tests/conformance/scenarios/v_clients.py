"""Section V: what real clients do and the server must suit.

Source: reference parity V1-V8; ClientCnxn, kazoo's connection handler.
"""

from __future__ import annotations

import re

from tests.conformance import requests as r
from tests.conformance.scenario import Scenario, scenario


@scenario
def reconnect_in_one_write(s: Scenario) -> None:
    first, writer = s.client(), s.client()
    writer.call(r.create("/t/a"))
    first.call(r.get_data("/t/a", True))
    first.call(r.create("/t/e", flags=r.EPHEMERAL))
    first.drop()
    writer.call(r.set_data("/t/a", b"missed"))
    again = s.socket()
    again.connect(
        session_id=first.session_id,
        password=first.password,
        last_zxid=first.last_zxid,
        behind=(
            r.auth("digest", b"u:p"),
            r.set_watches(first.last_zxid, zxid_text="last seen", data=["/t/a"], child=["/t"]),
            r.who_am_i(),
            r.get_data("/t/a"),
            r.create("/t/b"),
        ),
    )
    for _ in range(5):
        again.read_reply()
    again.events()


@scenario
def replies_in_request_order(s: Scenario) -> None:
    client = s.client()
    batch = []
    for number in range(50):
        batch += [
            r.create(f"/t/n{number}"),
            r.exists(f"/t/n{number}"),
            r.set_data("/t", str(number).encode()),
            r.get_data("/t"),
        ]
    replies = client.quietly(*batch)
    xids = [int(re.search(r"xid=(-?\d+)", reply)[1]) for reply in replies]  # type: ignore[index]
    s.note(f"{len(replies)} replies, in order: {xids == list(range(1, 201))}")
    for reply in replies[-8:]:
        s.note(reply)


@scenario
def ping_among_other_requests(s: Scenario) -> None:
    client = s.client()
    replies = client.quietly(r.create("/t/a"), r.ping(), r.exists("/t/a"), r.ping())
    s.note("a ping may be answered before what was sent earlier")
    for reply in sorted(re.sub(r"(ping .*)zxid=\S+", r"\1zxid=any", reply) for reply in replies):
        s.note(reply)


@scenario
def a_client_that_reads_late(s: Scenario) -> None:
    client = s.client()
    client.call(r.set_data("/t", b"x" * 100_000))
    replies = client.quietly(*(r.get_data("/t") for _ in range(100)))
    s.note(f"{len(replies)} replies, alike: {len({_body(reply) for reply in replies}) == 1}")
    client.alive()


def _body(reply: str) -> str:
    return reply.split(" err=")[1]


@scenario
def two_clients_take_turns(s: Scenario) -> None:
    one, other = s.client(), s.client()
    for number in range(5):
        one.call(r.set_data("/t", f"one {number}".encode()))
        other.call(r.get_data("/t"))
        other.call(r.set_data("/t", f"other {number}".encode()))
        one.call(r.get_data("/t"))


@scenario
def sync_then_read(s: Scenario) -> None:
    writer, reader = s.client(), s.client()
    writer.call(r.create("/t/a", b"1"))
    reader.pipeline(r.sync("/t/a"), r.get_data("/t/a"))
    writer.call(r.set_data("/t/a", b"2"))
    reader.pipeline(r.sync("/t/a"), r.get_data("/t/a"), r.get_children2("/t"))


@scenario
def half_closed_by_the_client(s: Scenario) -> None:
    client = s.client()
    client.call(r.create("/t/e", flags=r.EPHEMERAL))
    client.connection.shut_write()
    client.expect_close()
    s.socket().resume(client).call(r.exists("/t/e"))
