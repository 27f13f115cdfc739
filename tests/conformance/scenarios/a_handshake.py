"""Section A: frames and the handshake, good ones and broken ones.

Invariants: a broken frame costs its own connection only; every scenario ends with the server still
            serving.
Source:     reference parity A1-A18; NIOServerCnxn, ZooKeeperServer.processConnectRequest.
"""

from __future__ import annotations

from tests.conformance import requests as r
from tests.conformance.scenario import Client, Scenario, on_server, scenario
from tests.conformance.wire import connect_request, frame, i32, i64

FRAME_BYTES_MAX = 0xFFFFF


@scenario
def timeout_is_clamped(s: Scenario) -> None:
    for timeout_ms in (0, -5, 1, 999, 1000, 1001, 60_000, 60_001, 2**31 - 1, -(2**31)):
        s.client(timeout_ms=timeout_ms)


@scenario
def read_only_byte(s: Scenario) -> None:
    for read_only in (None, False, True):
        client = s.client(read_only=read_only)
        client.call(r.exists("/t"))


@scenario
def protocol_version_is_ignored(s: Scenario) -> None:
    for protocol in (0, 1, 3, -1):
        s.client(protocol=protocol)


@scenario
def password_of_a_new_session_is_ignored(s: Scenario) -> None:
    for password in (None, b"", b"abc", b"x" * 16, b"y" * 40):
        s.client(password=password).alive()


@scenario
def unknown_session_is_refused(s: Scenario) -> None:
    for password in (None, b"", b"abc", b"x" * 16, b"y" * 40):
        s.client(session_id=12345, password=password).expect_close()
    s.client(session_id=-1).expect_close()


@scenario
def last_zxid_seen(s: Scenario) -> None:
    s.client(last_zxid=-1)
    s.client(last_zxid=s.base_zxid)
    s.note("ahead of the server")
    s.client(last_zxid=1 << 60)
    s.client(last_zxid=s.base_zxid + 4)
    s.client(last_zxid=s.base_zxid + 3)


@scenario
def requests_right_behind_the_handshake(s: Scenario) -> None:
    client = s.socket()
    batch = (r.exists("/t"), r.create("/t/a", b"x"), r.get_data("/t/a"))
    client.connect(behind=batch)
    for _ in batch:
        client.read_reply()


@scenario
def trailing_bytes_in_the_connect_frame(s: Scenario) -> None:
    s.socket().connect(trailing=b"more").alive()


@scenario
def short_connect_frames(s: Scenario) -> None:
    whole = connect_request()
    for size in (0, 3, 10, 28, 43):
        client = s.socket()
        client.send_bytes(frame(whole[:size]), f"connect frame of {size} bytes")
        client.expect_close()


@scenario
def broken_password_length_in_the_connect_frame(s: Scenario) -> None:
    head = i32(0) + i64(0) + i32(10_000) + i64(0)
    for size in (17, -2, 0x7FFFFFFF, FRAME_BYTES_MAX + 1):
        client = s.socket()
        client.send_bytes(frame(head + i32(size) + bytes(16)), f"password length {size}")
        client.expect_close()


@scenario
def request_without_handshake(s: Scenario) -> None:
    client = s.socket()
    client.send(r.get_data("/t"))
    client.expect_close()
    client = s.socket()
    client.send(r.create("/t/a", b"x" * 100))
    client.expect_close()


@scenario
def bad_length_before_the_handshake(s: Scenario) -> None:
    for length in (-1, -(2**31), FRAME_BYTES_MAX + 1, 0x7FFFFFFF):
        client = s.socket()
        client.send_bytes(i32(length), f"length {length}")
        client.expect_close()


@scenario
def second_connect_frame(s: Scenario) -> None:
    client = s.client()
    client.send_bytes(frame(connect_request()), "a second connect frame")
    client.expect_close()


@scenario
def largest_frame(s: Scenario) -> None:
    _create_frame_of(s.client(), FRAME_BYTES_MAX)


@scenario
def frame_too_large(s: Scenario) -> None:
    client = s.client()
    _create_frame_of(client, FRAME_BYTES_MAX + 1)
    client.expect_close()
    other = s.client()
    other.call(r.get_children("/t"))


def _create_frame_of(client: Client, size: int) -> None:
    """A create whose frame has exactly this many bytes of payload."""
    overhead = 8 + len(r.create("/t/large").body)
    client.call(r.create("/t/large", b"x" * (size - overhead)))


@scenario
def bad_length_after_the_handshake(s: Scenario) -> None:
    for length in (-1, -(2**31), 0x7FFFFFFF):
        client = s.client()
        client.send_bytes(i32(length) + i32(7) + i32(4) + bytes(20), f"length {length}, xid 7")
        client.expect_close()
        s.socket().resume(client).alive()


@scenario
def frames_in_pieces(s: Scenario) -> None:
    client = s.client()
    s.note("byte by byte")
    for byte in frame(client.payload(r.exists("/t"))):
        client.connection.send_raw(bytes([byte]))
    client.read_reply()


@scenario
def half_a_frame_then_gone(s: Scenario) -> None:
    client = s.client()
    client.send_bytes(frame(client.payload(r.create("/t/a")))[:-3], "(without its last 3 bytes)")
    client.drop()
    other = s.socket().resume(client)
    other.call(r.exists("/t/a"))


@scenario
def short_request_headers(s: Scenario) -> None:
    for size in (0, 2, 4, 7):
        client = s.client()
        client.send_bytes(frame(bytes(size)), f"frame of {size} bytes")
        client.expect_close()


@scenario
def any_xid_is_echoed(s: Scenario) -> None:
    client = s.client()
    for xid in (0, 5, 5, -2, -3, -4, -8, 2**31 - 1, -(2**31)):
        client.call(r.exists("/t").with_xid(xid))
    client.call(r.ping().with_xid(55))
    client.call(r.create("/t/a").with_xid(-9))
    client.call(r.exists("/t/a").with_xid(7))


@on_server(settings={"nio.sessionlessCnxnTimeout": "1000"})
def connection_without_handshake_is_dropped(s: Scenario) -> None:
    s.socket().expect_close()
    s.client().alive()


@on_server(settings={"maxClientCnxns": "2"})
def connections_per_address(s: Scenario) -> None:
    first, second = s.admitted(), s.admitted()
    s.client().expect_close()
    first.alive()
    second.call(r.close_session())
    second.expect_close()
    s.admitted().alive()


@on_server(properties={"jute.maxbuffer": "2000"})
def smaller_frame_limit(s: Scenario) -> None:
    client = s.client()
    client.call(r.create("/t"))
    _create_frame_of(client, 2000)
    client.call(r.delete("/t/large"))
    s.note("a reply may be larger than the limit for requests")
    for number in range(30):
        client.send(r.create(f"/t/{'n' * 100}{number:02d}"))
        client.read_reply()
    client.call(r.get_children2("/t"))
    _create_frame_of(client, 2001)
    client.expect_close()
