"""The checks of history.py find what is wrong: each is run over a doctored history."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import pytest

from tests.conformance import requests
from tests.conformance.requests import Request
from tests.conformance.wire import buffer, i32, i64
from tests.invariants import history
from tests.invariants.history import CHANGED, Call, Event, History, Log

Check = Callable[[History], Iterator[str]]
PATH = "/a"


def stat(mzxid: int) -> bytes:
    return struct.pack(">qqqqiiiqiiq", 1, mzxid, 0, 0, 0, 0, 0, 0, 0, 0, 1)


class Story:
    """Builds a history step by step: each call is sent at once and heard a moment later."""

    def __init__(self) -> None:
        self.history = History()
        self.logs: dict[str, Log] = {}
        self._now = 0.0

    def log(self, name: str) -> Log:
        if name not in self.logs:
            self.logs[name] = self.history.log(name)
            self.logs[name].session_id = len(self.logs)
        return self.logs[name]

    def call(self, name: str, request: Request, zxid: int, body: bytes = b"") -> Call:
        log = self.log(name)
        self._now += 1
        call = Call(len(log.calls), len(log.calls) + 1, request, self._now)
        self._now += 1
        call.heard, call.zxid, call.body = self._now, zxid, body
        log.calls.append(call)
        log.heard.append(call)
        return call

    def write(self, name: str, zxid: int, data: bytes) -> Call:
        return self.call(name, requests.set_data(PATH, data), zxid, stat(zxid))

    def read(self, name: str, zxid: int, mzxid: int, data: bytes) -> Call:
        return self.call(name, requests.get_data(PATH), zxid, buffer(data) + stat(mzxid))

    def event(self, name: str, zxid: int) -> None:
        self._now += 1
        self.log(name).heard.append(Event(zxid, CHANGED, PATH, self._now))


def sound() -> Story:
    story = Story()
    story.call("one", requests.create(PATH, b"0"), 1, buffer(PATH.encode()))
    story.read("one", 1, 1, b"0")
    story.write("one", 2, b"1")
    story.event("two", 2)
    story.read("two", 2, 2, b"1")
    story.write("two", 3, b"2")
    story.read("two", 3, 3, b"2")
    story.read("one", 3, 3, b"2")
    return story


def test_a_sound_history_passes() -> None:
    story = sound()
    assert story.history.violations() == []
    assert list(history.merged(story.history)) == []


def swap_replies(story: Story) -> None:
    heard = story.logs["one"].heard
    heard[0], heard[1] = heard[1], heard[0]


def read_before_own_write(story: Story) -> None:
    story.logs["one"].calls[1].zxid = 0


def read_behind_later_write(story: Story) -> None:
    story.logs["one"].calls[1].zxid = 2


def older_reply(story: Story) -> None:
    story.read("two", 2, 2, b"1")


def older_reply_on_another_connection(story: Story) -> None:
    story.log("two again").session_id = story.logs["two"].session_id
    story.read("two again", 2, 2, b"1")


def late_event(story: Story) -> None:
    heard = story.logs["two"].heard
    heard[0], heard[1] = heard[1], heard[0]


def events_in_disorder(story: Story) -> None:
    story.event("three", 3)
    story.event("three", 2)


def event_overtakes_a_reply(story: Story) -> None:
    story.event("two", 9)
    story.read("two", 8, 3, b"2")


def wrong_data(story: Story) -> None:
    story.logs["one"].calls[1].body = buffer(b"7") + stat(1)


def wrong_zxid_of_the_change(story: Story) -> None:
    story.logs["two"].calls[0].body = buffer(b"1") + stat(1)


def no_node_that_is_there(story: Story) -> None:
    story.logs["two"].calls[0].error = history.NO_NODE


def missing_child(story: Story) -> None:
    story.call("one", requests.create(PATH + "/b"), 4, buffer(b"/a/b"))
    story.call("one", requests.get_children(PATH), 4, i32(0) + i64(0))


def stale_read(story: Story) -> None:
    story.write("three", 4, b"3")
    story.read("four", 3, 3, b"2")


@pytest.mark.parametrize(
    ("check", "doctor"),
    [
        (history.fifo, swap_replies),
        (history.own, read_before_own_write),
        (history.own, read_behind_later_write),
        (history.never_back, older_reply),
        (history.never_back, older_reply_on_another_connection),
        (history.watch_first, late_event),
        (history.watch_first, events_in_disorder),
        (history.merged, event_overtakes_a_reply),
        (history.exact, wrong_data),
        (history.exact, wrong_zxid_of_the_change),
        (history.exact, no_node_that_is_there),
        (history.exact, missing_child),
        (history.visible, stale_read),
    ],
    ids=lambda one: one.__name__,
)
def test_a_doctored_history_fails(check: Check, doctor: Callable[[Story], None]) -> None:
    story = sound()
    doctor(story)
    assert list(check(story.history))
