"""jute/codec.py: what is encoded comes back, and no bytes make a reader do anything but refuse."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkstore.errors import RemoteProtocolError
from zkstore.jute import codec

BEFORE = st.binary(max_size=8)  # what stands in the frame in front of the value
BUFFERS = st.none() | st.binary(max_size=300)
READERS: list[Callable[[bytes, int], tuple[object, int]]] = [
    codec.read_int, codec.read_long, codec.read_bool, codec.read_buffer, codec.read_text,
    codec.read_texts,
]  # fmt: skip


@given(BEFORE, st.integers(-(1 << 31), (1 << 31) - 1), st.binary(max_size=8))
def test_int(before: bytes, value: int, behind: bytes) -> None:
    frame = before + codec.pack_int(value) + behind
    assert codec.read_int(frame, len(before)) == (value, len(before) + 4)


@given(BEFORE, st.integers(-(1 << 63), (1 << 63) - 1), st.binary(max_size=8))
def test_long(before: bytes, value: int, behind: bytes) -> None:
    frame = before + codec.pack_long(value) + behind
    assert codec.read_long(frame, len(before)) == (value, len(before) + 8)


@given(BEFORE, st.integers(0, 255))
def test_any_byte_but_zero_is_true(before: bytes, byte: int) -> None:
    frame = before + bytes([byte])
    assert codec.read_bool(frame, len(before)) == (byte != 0, len(frame))


@given(BEFORE, BUFFERS, st.binary(max_size=8))
def test_buffer(before: bytes, value: bytes | None, behind: bytes) -> None:
    encoded = codec.buffer(value)
    frame = before + encoded + behind
    end = len(before) + len(encoded)
    assert codec.read_buffer(frame, len(before)) == (value, end)
    assert codec.read_text(frame, len(before)) == (value or b"", end)


@given(BEFORE, st.lists(st.binary(max_size=20)), st.binary(max_size=8))
def test_texts(before: bytes, values: list[bytes], behind: bytes) -> None:
    encoded = codec.texts(values)
    assert encoded == codec.vector(map(codec.buffer, values))
    frame = before + encoded + behind
    assert codec.read_texts(frame, len(before)) == (values, len(before) + len(encoded))


@given(st.lists(st.binary(max_size=20)), st.data())
def test_a_value_that_is_cut_short_is_refused(values: list[bytes], data: st.DataObject) -> None:
    encoded = codec.texts(values)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(RemoteProtocolError):
        codec.read_texts(encoded[:cut], 0)


@given(st.sampled_from(READERS), st.binary(max_size=64), st.integers(0, 70))
def test_any_bytes_are_read_or_refused(
    reader: Callable[[bytes, int], tuple[object, int]], frame: bytes, offset: int
) -> None:
    try:
        _, end = reader(frame, offset)
    except RemoteProtocolError:
        return
    assert offset < end <= len(frame)
