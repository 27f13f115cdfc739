"""jute/codec.py: the bytes themselves, and what a client may not send."""

from __future__ import annotations

import pytest

from zkstore.errors import RemoteProtocolError
from zkstore.jute import codec


def test_null_and_empty_are_not_the_same() -> None:
    assert codec.buffer(None).hex() == "ffffffff"
    assert codec.buffer(b"").hex() == "00000000"
    assert codec.read_buffer(bytes.fromhex("ffffffff"), 0) == (None, 4)
    assert codec.read_buffer(bytes.fromhex("00000000"), 0) == (b"", 4)


def test_a_null_vector_is_empty() -> None:
    assert codec.read_texts(bytes.fromhex("ffffffff"), 0) == ([], 4)


def test_vectors() -> None:
    assert codec.texts([b"a", b""]).hex() == "00000002000000016100000000"
    assert codec.vector([b"xy", b"z"]).hex() == "0000000278797a"


@pytest.mark.parametrize("length", ["fffffffe", "80000000", "7fffffff", "00000005"])
def test_a_length_that_the_frame_does_not_hold_is_refused(length: str) -> None:
    with pytest.raises(RemoteProtocolError, match="length"):
        codec.read_buffer(bytes.fromhex(length) + b"abcd", 0)


def test_a_giant_vector_is_refused_before_it_is_read() -> None:
    with pytest.raises(RemoteProtocolError, match="vector of 2147483647"):
        codec.read_texts(bytes.fromhex("7fffffff") + bytes(100), 0)


def test_reading_past_the_end_names_the_place() -> None:
    with pytest.raises(RemoteProtocolError, match="frame of 3 bytes ends in a value at 0"):
        codec.read_int(b"abc", 0)
    with pytest.raises(RemoteProtocolError, match="at 3"):
        codec.read_bool(b"abc", 3)
