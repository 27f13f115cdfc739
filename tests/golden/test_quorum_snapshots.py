"""The trees that Apache's leaders sent, taken in as a learner does, and the txns behind them.

Each txn bears the digest of the leader's tree after it: ours must be the same, and what ours sends
on must be the same tree again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest

from tests.golden.quorum_captures import CAPTURES, SNAPSHOT_END, directions, packets
from tests.property.stored import open_writer
from tests.unit.test_transfer import receive, stream_of
from zkstore.apache import log as apache_log
from zkstore.proto import quorum
from zkstore.proto.quorum import Packet
from zkstore.storage.scrub import scrub
from zkstore.storage.writer import Writer
from zkstore.zab.ready import HardState, Proposal, Ready

U64 = (1 << 64) - 1


class Synchronised(NamedTuple):
    """What one learner was sent."""

    name: str
    zxid: int
    stream: bytes
    behind: list[Packet]


def synchronised(capture: str) -> Iterator[Synchronised]:
    for direction in directions(capture):
        if direction.port.startswith("e"):
            continue
        found, snapshots, _ = packets(direction.content)
        streams = iter(snapshots)
        for at, packet in enumerate(found):
            if packet.type == quorum.SNAP:
                yield Synchronised(direction.name, packet.zxid, next(streams), found[at + 1 :])


ALL = [(capture, one) for capture in CAPTURES for one in synchronised(capture)]


def learn(folder: Path, one: Synchronised) -> tuple[Writer, int]:
    """Take the tree and what follows it; returns how many digests were the leader's."""
    writer = open_writer(folder, alone=False)
    assert receive(one.stream + b"beyond", folder, one.zxid) == b"beyond"
    writer.switch(2, zxid=one.zxid, whole=False)
    waiting: list[Proposal] = []
    digests: dict[int, int] = {}
    agreed = 0
    settled = False
    for packet in one.behind:
        if packet.type in (quorum.PROPOSAL, quorum.INFORM) and packet.zxid > _last(writer, waiting):
            assert packet.data is not None
            split = apache_log.split(packet.data)
            if split.digest is not None:
                digests[packet.zxid] = split.digest
            waiting.append(Proposal(packet.zxid, split.encoded))
            writer.perform(Ready(append=waiting[-1:]))
        if packet.type == quorum.NEWLEADER:
            settled = True
            epoch = packet.zxid >> 32
            writer.perform(Ready(hard_state=HardState(epoch, epoch)))
        if packet.type in (quorum.COMMIT, quorum.INFORM) and settled:
            while waiting and waiting[0].zxid <= packet.zxid:
                zxid = waiting[0].zxid
                assert len(writer.perform(Ready(committed=[waiting.pop(0)]))) == 1
                if zxid in digests:
                    assert writer.totals.digest & U64 == digests[zxid] & U64, hex(zxid)
                    agreed += 1
    return writer, agreed


def _last(writer: Writer, waiting: list[Proposal]) -> int:
    return waiting[-1].zxid if waiting else writer.applied


def test_there_are_some() -> None:
    assert len(ALL) >= 3


@pytest.mark.parametrize(("capture", "one"), ALL, ids=lambda one: getattr(one, "name", str(one)))
def test_a_tree_of_apache_is_ours(capture: str, one: Synchronised, tmp_path: Path) -> None:
    writer, _ = learn(tmp_path, one)
    with writer.views.open() as view:
        assert list(scrub(view)) == []
    with tempfile.TemporaryDirectory() as folder:
        again = open_writer(Path(folder), alone=False)
        receive(stream_of(writer), Path(folder), writer.applied)
        again.switch(2, zxid=writer.applied, whole=True)
        for total in ("nodes", "ephemerals", "bytes"):
            assert getattr(again.totals, total) == getattr(writer.totals, total)
        assert (again.totals.digest - writer.totals.digest) & U64 == 0
        again.close()
    writer.close()


def test_digests_were_compared(tmp_path: Path) -> None:
    """Some behind a tree that was sent while txns were applied to it."""
    compared = 0
    for number, (_, one) in enumerate(ALL):
        writer, agreed = learn(tmp_path / str(number), one)
        compared += agreed
        cast(Any, writer)._replica.abandon()
    assert compared > 50


def test_what_ends_a_tree_is_found_where_it_is() -> None:
    """Control: the captures' own cut of the stream is the reader's."""
    for _, one in ALL:
        assert one.stream.endswith(SNAPSHOT_END)
