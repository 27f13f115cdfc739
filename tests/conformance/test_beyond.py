"""Where zkstore goes beyond Apache ZooKeeper: no golden text of Apache can say what is right."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.conformance import requests as r
from tests.conformance import servers
from tests.conformance.scenario import Entry, Run, Scenario, play
from tests.conformance.servers import Server
from tests.conformance.wire import Reader


@pytest.fixture(scope="module", params=[("--workers", "2"), ("--embedded",)], ids=lambda o: o[0])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with servers.zkstore(*request.param) as running:
        yield running


def _transcript(server: Server, run: Run) -> list[str]:
    return play(Entry("beyond", run), server.address)


def _errors(lines: list[str]) -> list[int]:
    """The err of each reply, in order."""
    return [
        int(found[1]) for line in lines if (found := re.search(r"^\S* ?<? ?.* err=(-?\d+)", line))
    ]


def test_a_ttl_of_minus_one_with_a_plain_mode_is_refused(server: Server) -> None:
    """Apache 3.9.3 logs it, dies of it, and dies again at every start."""

    def run(s: Scenario) -> None:
        client = s.client()
        for flags in (r.PERSISTENT, r.EPHEMERAL, r.SEQUENTIAL, r.CONTAINER):
            client.call(r.create_ttl("/t/a", ttl_ms=-1, flags=flags))
            client.call(r.multi(r.create_ttl("/t/a", ttl_ms=-1, flags=flags)))
        client.call(r.exists("/t/a"))

    lines = _transcript(server, run)
    assert _errors(lines) == [-8, 0] * 4 + [-101]
    assert sum("[error -8/-8; end]" in line for line in lines) == 4


def test_a_pipelined_set_acl_counts_for_the_next_request(server: Server) -> None:
    """Apache checks what is in the pipeline against the old ACL until the new one is applied."""

    def run(s: Scenario) -> None:
        client = s.client()
        client.pipeline(
            r.create("/t/a"),
            r.set_acl("/t/a", [(r.READ | r.ADMIN, "world", "anyone")]),
            r.set_data("/t/a", b""),
            r.create("/t/a/b"),
            r.set_acl("/t/a", r.OPEN),
            r.set_data("/t/a", b""),
            r.create("/t/a/b"),
        )

    assert _errors(_transcript(server, run)) == [0, 0, -102, -102, 0, 0, 0]


def test_children_come_in_the_order_of_their_bytes(server: Server) -> None:
    names = ["z", "a", "B", "10", "9", "a-b", "a.b", "\u00e9", "n" * 300, "n" * 700, "a0000000001"]
    ordered = sorted(names, key=str.encode)
    found: list[list[str | None]] = []

    def run(s: Scenario) -> None:
        client = s.client()
        for name in names:
            client.call(r.create(f"/t/{name}"))
        for request in (r.get_children("/t"), r.get_children2("/t")):
            client.send(request)
            reader = Reader(client.connection.recv()[16:])
            found.append([reader.ustring() for _ in range(reader.i32())])

    _transcript(server, run)
    assert found == [ordered, ordered]


def test_the_log_says_who_sent_an_oversized_frame(server: Server) -> None:
    sessions: list[int] = []

    def run(s: Scenario) -> None:
        client = s.client()
        sessions.append(client.session_id)
        client.call(r.create("/t/a", bytes(0xFFFFF)))
        client.expect_close()

    assert _errors(_transcript(server, run)) == [-4]
    named = [line for line in server.log.read_text().splitlines() if f"{sessions[0]:x}" in line]
    assert any("127.0.0.1" in line and "1048575" in line for line in named), named


def test_requests_behind_a_close_leave_no_trace(server: Server) -> None:
    """Apache answers some of them SessionExpired, by its speed; none is carried out."""

    def run(s: Scenario) -> None:
        client = s.client()
        client.send(r.create("/t/a"), r.close_session(), r.create("/t/b"), r.exists("/t"))
        client.expect_close()
        s.client().call(r.get_children("/t"))

    assert _transcript(server, run)[-1].endswith("[a]")


def test_failed_reads_use_nothing_up(server: Server) -> None:
    """A failed read leaves no view behind: LMDB has a few hundred reader slots in all.

    One request at a time, because all reads of one turn share a view.
    """

    def run(s: Scenario) -> None:
        for client in (s.client(), s.client()):
            for _ in range(200):
                for read in (r.exists, r.get_data, r.get_acl, r.get_children):
                    assert _errors(client.quietly(read("/t/none"))) == [-101]
        s.client().call(r.exists("/t"))

    assert _errors(_transcript(server, run)) == [0]
