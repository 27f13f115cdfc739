"""proto/replies.py: whole frames, byte for byte."""

from __future__ import annotations

import pytest

from zkstore.proto import opcodes as op
from zkstore.proto import replies


def test_a_reply_with_a_body() -> None:
    frame = replies.reply(5, 0x100000002, b"\0\0\0\2/a")
    assert frame.hex() == "0000001600000005000000010000000200000000000000022f61"


def test_an_error_has_no_body() -> None:
    assert replies.error(-8, -1, -6).hex() == "00000010fffffff8fffffffffffffffffffffffa"


def test_an_event() -> None:
    frame = replies.event(3, op.NODE_CHILDREN_CHANGED, b"/t")
    assert frame.hex() == (
        "0000001e" "ffffffff" "0000000000000003" "00000000"
        "00000004" "00000003" "00000002" "2f74"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("read_only", "size", "tail"), [(None, "00000024", ""), (False, "00000025", "00")]
)
def test_a_connect_response_has_the_read_only_byte_if_the_client_sent_one(
    read_only: bool | None, size: str, tail: str
) -> None:
    """With it: what Apache ZooKeeper 3.9.3 sent to a Java client."""
    password = "0cdcb42ca9aa5996ca4b4e1d9a094872"
    frame = replies.connect(0x100003457420000, 6000, bytes.fromhex(password), read_only)
    assert frame.hex() == (
        f"{size} 00000000 00001770 0100003457420000 00000010 {password} {tail}".replace(" ", "")
    )


def test_a_refused_session() -> None:
    zeros = bytes(4 + 4 + 8)  # version, timeout, session
    assert replies.refused(True) == b"\0\0\0\x25" + zeros + b"\0\0\0\x10" + bytes(16 + 1)
