"""What a review found about a worker: two views in one turn, and what it says it has heard."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import requests
from tests.unit.stage import Stage, bytes_of
from zkstore.commit.process import open_writer
from zkstore.proto import opcodes as op
from zkstore.proto import replies
from zkstore.records import ipc
from zkstore.settings import Settings
from zkstore.storage.disk import Disk
from zkstore.tree import acl as acls


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    settings = Settings(data_dir=str(tmp_path), disk_reserve_bytes=1 << 20)
    opened = open_writer(settings, Disk())
    yield Stage(opened, settings)
    opened.reserve.close()
    opened.replica.abandon()


def test_no_change_is_missed_by_a_watch_that_is_set_in_a_turn_with_two_views(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A's pipeline makes the worker open a second, newer view; B's read with a watch follows."""
    stage.commit(op.CREATE, b"/n", b"old", acls.OPEN_ENCODED, False, 1)
    stage.commit(op.CREATE, b"/other", b"", acls.OPEN_ENCODED, False, 2)
    a, _ = stage.connect()
    b, heard = stage.connect()
    watcher, _ = stage.connect()
    watcher.data_received(bytes_of(requests.exists("/elsewhere", watch=True)))
    write = requests.set_data("/other", b"")
    a.data_received(bytes_of(write, requests.exists("/other")))
    a.pause_writing()
    a.data_received(bytes_of(requests.exists("/other")))
    a.resume_writing()
    b.data_received(bytes_of(write, requests.get_data("/n", watch=True)))
    one, two = (stage.commit(op.SET_DATA, b"/other", b"", version) for version in (1, 2))

    open_view = stage.views.open
    count = 0

    def opening() -> Any:
        nonlocal count
        count += 1
        if count == 3:  # the walk, A's queue, then the rest of A's bytes
            stage.commit(op.SET_DATA, b"/n", b"new", 1)
        return open_view()

    monkeypatch.setattr(stage.views, "open", opening)
    stage.say(
        ipc.REPLY, a.number, one, [replies.reply(1, one, b"")],
        ipc.REPLY, b.number, two, [replies.reply(1, two, b"")],
    )  # fmt: skip
    assert count >= 3
    stage.say()
    _, read, *events = heard.frames()
    assert b"new" in read or len(events) == 1


def test_what_was_heard_before_a_pause_of_the_worker_is_reported(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = stage.connect()
    client.data_received(bytes_of(requests.exists("/")))
    heard_ms = client.heard_ms
    clock = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 5)
    assert heard_ms in _reported(stage)


def test_a_report_claims_only_what_must_have_been_read(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came in while the worker was busy is read after the timer: the report is not for it."""
    before_ms = int(time.monotonic() * 1000)
    stage.worker._report_touches()
    clock = time.monotonic
    after_ms = int(clock() * 1000)
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 5)
    assert before_ms <= _reported(stage)[0] <= after_ms


def test_a_connection_that_ends_says_nothing_about_the_others(stage: Stage) -> None:
    client, _ = stage.connect()
    other, _ = stage.connect()
    other.data_received(bytes_of(requests.exists("/")))
    stage.timers.run()
    stage.channel.items()
    client.connection_lost(None)
    stage.timers.run()
    (payload,) = (one[2] for one in stage.channel.items() if one[0] == ipc.TOUCHES)
    assert payload[0] == 0 and client.session_id in payload


def test_a_request_that_leaves_the_line_touches_its_session(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client sent it long ago, and only waits: it must not expire while it is served."""
    stage.commit(op.CREATE, b"/n", b"", acls.OPEN_ENCODED, False, 1)
    stage.worker._adopt(replace(stage.worker.settings, request_throttle_max_requests=1))
    client, _ = stage.connect()
    client.data_received(bytes_of(*[requests.set_data("/n", b"x")] * 3))
    sent_ms = client.heard_ms
    clock = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 5)
    zxid = stage.commit(op.SET_DATA, b"/n", b"x", 1)
    stage.say(ipc.REPLY, client.number, zxid, [replies.reply(1, zxid, b"")])
    assert stage.worker.in_process == 1 and stage.worker.queued == 1
    assert client.heard_ms >= sent_ms + 5000 and client.heard_ms in _reported(stage)


def _reported(stage: Stage) -> list[int]:
    stage.timers.run()
    stage.channel.items()
    stage.worker._report_touches()
    stage.timers.run()
    (payload,) = (one[2] for one in stage.channel.items() if one[0] == ipc.TOUCHES)
    assert isinstance(payload, list)
    return payload
