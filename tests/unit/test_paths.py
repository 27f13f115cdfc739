"""tree/paths.py: reference E3 (what a path may be) and E5 (sequence numbers)."""

from __future__ import annotations

import pytest

from zkstore.tree import paths

GOOD = ["/", "/a", "/a/b", "/a.", "/.a", "/...", "/a b", "/\u00a0", "/\ud7ff", "/\uf900", "/\uffef",
        "/zookeeper", "/a" * 1000]  # fmt: skip
BAD = ["", "a", "a/b", "//", "/a/", "/a//b", "/.", "/..", "/a/./b", "/a/..", "/../a", "/\0",
       "/a\x01", "/\x1f", "/\x7f", "/\x80", "/\x9f", "/\ue000", "/\uf8ff", "/\ufff0", "/\uffff",
       "/\U0001f600", "/\U00010000"]  # fmt: skip


@pytest.mark.parametrize("path", GOOD, ids=ascii)
def test_valid(path: str) -> None:
    assert paths.valid(path.encode())


@pytest.mark.parametrize("path", BAD, ids=ascii)
def test_not_valid(path: str) -> None:
    assert not paths.valid(path.encode())


@pytest.mark.parametrize("path", [b"/\xff", b"/\xc3", b"/a\x80b", b"/\xed\xa0\x80", b"/\xc0\x80"])
def test_what_is_no_utf8_is_not_valid(path: bytes) -> None:
    assert not paths.valid(path)


@pytest.mark.parametrize(
    ("path", "parent", "name"),
    [(b"/a", b"/", b"a"), (b"/a/b", b"/a", b"b"), (b"/a/", b"/a", b""), (b"/", b"/", b"")],
)
def test_split(path: bytes, parent: bytes, name: bytes) -> None:
    assert paths.split(path) == (parent, name)


@pytest.mark.parametrize(
    ("counter", "suffix"),
    [
        (0, b"0000000000"),
        (42, b"0000000042"),
        (2147483647, b"2147483647"),
        (-2147483648, b"-2147483648"),
        (-5, b"-000000005"),
    ],
)
def test_sequence_numbers_are_ten_digits_and_a_javas_int(counter: int, suffix: bytes) -> None:
    assert paths.sequential(b"/q-", counter) == b"/q-" + suffix


def test_an_int_wraps_as_javas_does() -> None:
    assert paths.wrap_int(2147483648) == -2147483648
    assert paths.wrap_int(-2147483649) == 2147483647
    assert paths.wrap_int(-1) == -1
