"""Every decoder of what a client sends: a value, or RemoteProtocolError, whatever the bytes."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conformance.wire import connect_request
from tests.fuzz import frames
from zkstore.errors import RemoteProtocolError
from zkstore.jute import codec
from zkstore.proto import opcodes as op
from zkstore.proto import requests
from zkstore.tree import acl as acls

DECODERS: dict[str, Callable[[bytes], object]] = {
    "connect": requests.read_connect,
    "header": requests.read_header,
    "create": lambda frame: requests.read_create(frame, op.CREATE, requests.BODY),
    "createTTL": lambda frame: requests.read_create(frame, op.CREATE_TTL, requests.BODY),
    "setData": lambda frame: requests.read_set_data(frame, requests.BODY),
    "path and int": lambda frame: requests.read_path_int(frame, requests.BODY),
    "path and bool": lambda frame: requests.read_path_bool(frame, requests.BODY),
    "setACL": lambda frame: requests.read_set_acl(frame, requests.BODY),
    "auth": lambda frame: requests.read_auth(frame, requests.BODY),
    "setWatches": lambda frame: requests.read_set_watches(frame, requests.BODY, 3),
    "setWatches2": lambda frame: requests.read_set_watches(frame, requests.BODY, 5),
    "multi": lambda frame: requests.read_multi(frame, reads=False),
    "multiRead": lambda frame: requests.read_multi(frame, reads=True),
    "acl": lambda frame: acls.read(frame, 0),
    "buffer": lambda frame: codec.read_buffer(frame, 0),
    "texts": lambda frame: codec.read_texts(frame, 0),
}


def survives(decode: Callable[[bytes], object], frame: bytes) -> None:
    """What is asked of a decoder."""
    try:
        decode(frame)
    except RemoteProtocolError:
        return


@pytest.mark.parametrize("name", DECODERS)
@given(frame=st.binary(max_size=200))
def test_any_bytes(name: str, frame: bytes) -> None:
    survives(DECODERS[name], frame)
    survives(DECODERS[name], bytes(requests.BODY) + frame)


def damaged_frames(count: int) -> list[bytes]:
    """Sane frames of all kinds, each with some damage, and some without."""
    rng = random.Random(11)
    makers = (frames.write, frames.read, frames.direct)
    whole = [frames.payload(rng.choice(makers)(rng), 1) for _ in range(count)]
    whole += [connect_request()] * (count // 20)
    return [frames.damaged(rng, each) if rng.random() < 0.9 else each for each in whole]


def test_damaged_frames() -> None:
    for frame in damaged_frames(2000):
        for decode in DECODERS.values():
            survives(decode, frame)


def test_a_length_that_lies_allocates_nothing() -> None:
    """Counts and lengths of two thousand million, in a frame of some bytes."""
    greatest = codec.pack_int(2**31 - 1)
    for decode in DECODERS.values():
        for repeats in range(1, 8):
            survives(decode, bytes(requests.BODY) + greatest * repeats)
            survives(decode, greatest * repeats)


def test_control_a_decoder_that_trusts_a_length() -> None:
    """The canary: this one has to be found."""

    def canary(frame: bytes) -> object:
        path, _ = codec.read_buffer(frame, requests.BODY)
        return frame[requests.BODY + 4 + len(path or b"")]

    with pytest.raises(IndexError):
        for frame in damaged_frames(2000):
            survives(canary, frame)
