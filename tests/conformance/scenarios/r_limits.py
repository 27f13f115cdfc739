"""R: limits that a single client can meet, each at its border."""

from __future__ import annotations

from typing import Final

from tests.conformance import requests as r
from tests.conformance.scenario import Client, Scenario, on_server

_LARGE: Final = {"largeRequestThreshold": "1000", "largeRequestMaxBytes": "5000"}
_PATH: Final = "/a"


def _write(s: Scenario, frame_bytes: int) -> None:
    """A setData whose frame has so many bytes, on a connection of its own."""
    client: Client = s.client()
    around = 8 + len(r.set_data(_PATH, b"").body)
    s.note(f"a frame of {frame_bytes} bytes")
    client.call(r.set_data(_PATH, b"x" * (frame_bytes - around)))


@on_server(settings=_LARGE)
def a_large_request_and_the_room_for_them(s: Scenario) -> None:
    """The bytes of the frame are compared, head included; its length alone is enough."""
    s.client().call(r.create(_PATH))
    for frame_bytes in (1000, 1001, 5000, 5001, 20_000):
        _write(s, frame_bytes)
    s.client().call(r.get_data(_PATH, watch=True))


@on_server(settings={**_LARGE, "largeRequestThreshold": "-1"})
def no_request_is_large(s: Scenario) -> None:
    s.client().call(r.create(_PATH))
    _write(s, 20_000)


@on_server(settings={"request_throttle_max_requests": "1", "request_throttle_stall_time": "10"})
def one_request_in_process_at_a_time(s: Scenario) -> None:
    """All are served in order, and a read sees the writes before it."""
    client = s.client()
    client.call(r.create(_PATH))
    writes = (r.set_data(_PATH, b"%d" % number, number) for number in range(20))
    client.pipeline(*(one for write in writes for one in (write, r.get_data(_PATH))))
    client.pipeline(r.set_data(_PATH, b"x", 5), r.exists(_PATH), r.delete(_PATH))
