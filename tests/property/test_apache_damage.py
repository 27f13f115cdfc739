"""Damaged and cut files of Apache's: never a wrong tree, never an error without file and offset."""

from __future__ import annotations

import gzip
import io
import re
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden.apache_log import DATA
from zkstore.apache import log as apache_log
from zkstore.apache import snapshot as apache_snapshot
from zkstore.apache.snapshot import Znode
from zkstore.errors import CorruptionError
from zkstore.storage.intake import import_apache
from zkstore.storage.offline import Offline

SERVER = DATA / "zk393-rolled"
_NAMED = re.compile(r"(log|snapshot)\.[0-9a-f]+.*: offset \d+")


@cache
def unpacked(name: str) -> bytes:
    """A file's content; of a log without most of its padding."""
    content = gzip.decompress((SERVER / f"{name}.gz").read_bytes())
    if name.startswith("log"):
        content = content.rstrip(b"\0") + bytes(64)
    return content


def all_nodes(content: bytes) -> list[Znode]:
    reader = apache_snapshot.Reader(io.BytesIO(content).read, "snapshot.3a")
    reader.header()
    list(reader.sessions())
    list(reader.acls())
    nodes = list(reader.nodes())
    reader.seals()
    return nodes


def zxids(content: bytes) -> list[int]:
    reader = apache_log.Reader(io.BytesIO(content).read, "log.32")
    return [record.zxid for record in reader.records()]


def _sections(content: bytes) -> Iterator[int]:
    """Where a snapshot of an older server would end: behind each seal."""
    at = content.find(b"\0\0\0\1/", 16)
    while at >= 0:
        yield at + 5
        at = content.find(b"\0\0\0\1/", at + 1)


def test_a_snapshot_cut_at_any_byte_is_refused() -> None:
    whole = unpacked("snapshot.3a")
    # The 1 MB node has nothing that the others do not have.
    start = whole.find(b"0123456789abcdef" * 8)
    ends = [*range(start), *range(start, len(whole), 40_009), *range(len(whole) - 3000, len(whole))]
    whole_sections = set(_sections(whole))
    for end in ends:
        try:
            all_nodes(whole[:end])
        except CorruptionError as e:
            assert _NAMED.search(str(e)), str(e)
        else:
            assert end in whole_sections, end


def test_a_log_cut_at_any_byte_ends_before_the_cut() -> None:
    whole = unpacked("log.32")
    expected = zxids(whole)
    for end in range(len(whole)):
        try:
            found = zxids(whole[:end])
        except CorruptionError as e:
            assert end < 16, str(e)
            continue
        assert found == expected[: len(found)]


def flips(whole: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(byte, bit, content) of everything that is one bit away."""
    for at in range(len(whole)):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << bit
            yield at, bit, bytes(flipped)


def test_a_flipped_bit_in_a_log_is_found_or_changes_nothing() -> None:
    whole = unpacked("log.32")
    expected = zxids(whole)
    for at, bit, flipped in flips(whole):
        try:
            found = zxids(flipped)
        except CorruptionError as e:
            assert _NAMED.search(str(e)), str(e)
            continue
        # The dbid is not looked at; a last record that is torn was never acknowledged.
        assert found in (expected, expected[:-1]), f"byte {at}, bit {bit}"


@pytest.mark.parametrize("piece_bytes", [1, 20, 1 << 20])
@pytest.mark.parametrize("behind", [1, 2, 5])
def test_a_damaged_end_mark_is_no_torn_end(piece_bytes: int, behind: int) -> None:
    """Also that of the record before the last one, which no other end mark leads to."""
    whole = bytearray(unpacked("log.32"))
    ends = [one.end for one in apache_log.Reader(io.BytesIO(whole).read, "log.32").records()]
    whole[ends[-1 - behind] - 1] ^= 2
    source = io.BytesIO(whole)
    reader = apache_log.Reader(lambda size: source.read(min(size, piece_bytes)), "log.32")
    with pytest.raises(CorruptionError, match=f"no end mark, but offset {ends[-1 - behind]} is"):
        list(reader.records())


def test_a_flipped_bit_in_a_snapshot_is_found() -> None:
    for at, bit, flipped in flips(unpacked("snapshot.8")):
        with pytest.raises(CorruptionError) as refused:
            all_nodes(flipped)
            raise AssertionError(f"byte {at}, bit {bit} was missed")
        assert _NAMED.search(str(refused.value)), str(refused.value)


@cache
def trees() -> dict[int, dict[bytes, bytes]]:
    """The tree at every zxid that a cut log may end at, from the snapshot before the last log."""
    found = {}
    whole = unpacked("log.32")
    reader = apache_log.Reader(io.BytesIO(whole).read, "log.32")
    ends = [record.end for record in reader.records()]
    for end in ends:
        tree = imported(whole[:end])
        assert tree is not None
        found[tree[0]] = tree[1]
    return found


def imported(log: bytes) -> tuple[int, dict[bytes, bytes]] | None:
    """(zxid, nodes) of snapshot.30 and this log; None if it is refused."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "version-2"
        source.mkdir()
        (source / "snapshot.30").write_bytes(unpacked("snapshot.30"))
        (source / "log.29").write_bytes(unpacked("log.29"))
        (source / "log.32").write_bytes(log)
        try:
            report = import_apache(source, Path(folder))
        except CorruptionError as e:
            assert _NAMED.search(str(e)) or "zxid 0x" in str(e), str(e)
            return None
        with Offline(Path(folder)) as tree:
            assert tree.applied == report.zxid
            return report.zxid, dict(tree.walk())


@given(st.data())
def test_a_damaged_log_gives_an_earlier_tree_or_none(data: st.DataObject) -> None:
    whole = bytearray(unpacked("log.32"))
    if data.draw(st.booleans()):
        del whole[data.draw(st.integers(16, len(whole))) :]
    else:
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] ^= 1 << data.draw(st.integers(0, 7))
    tree = imported(bytes(whole))
    if tree is not None and tree[0] > 0x31:
        assert tree[1] == trees()[tree[0]]
