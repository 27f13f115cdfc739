"""storage/writer.py as a member of an ensemble: tail, truncation, epochs, over every restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from tests.property.stored import create, open_writer, proposals
from zkstore.errors import LogTrimmed
from zkstore.storage.writer import Writer
from zkstore.zab.ready import HardState, Proposal, Ready

E2 = 2 << 32


def made(*zxids: int, suffix: bytes = b"") -> list[Proposal]:
    return proposals(create(zxid, b"/n%x%b" % (zxid, suffix)) for zxid in zxids)


def names(writer: Writer) -> list[bytes]:
    with writer.views.open() as view:
        return sorted(name for name in view.children(b"/") if name != b"zookeeper")


def zxids(writer: Writer) -> list[int]:
    with writer.views.open() as view:
        return [zxid for zxid, _ in view.log(0)]


def tail(writer: Writer) -> list[int]:
    return [proposal.zxid for proposal in writer.tail]


def again(writer: Writer, folder: Path, *, clean: bool = False) -> Writer:
    """Crash (or stop) and start."""
    writer.close() if clean else cast(Any, writer)._replica.abandon()
    return open_writer(folder, alone=False, segment_bytes=4096)


def checkpoint(writer: Writer) -> None:
    writer.begin_checkpoint()
    cast(Any, writer)._replica.checkpointer._thread.join()
    writer.finish_checkpoint()


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return open_writer(tmp_path, alone=False, segment_bytes=4096)


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("checkpoints", [0, 1, 3])
def test_what_is_not_known_to_be_committed_comes_back_as_the_tail(
    writer: Writer, tmp_path: Path, clean: bool, checkpoints: int
) -> None:
    first, second = made(1, 2, 3), made(4, 5)
    writer.perform(Ready(append=first))
    writer.perform(Ready(committed=first[:2]))
    writer.perform(Ready(append=second))
    for _ in range(checkpoints):
        checkpoint(writer)
    assert tail(writer) == [3, 4, 5]
    for _ in range(3):
        writer = again(writer, tmp_path, clean=clean)
        assert (writer.applied, tail(writer)) == (2, [3, 4, 5])
        assert list(writer.tail) == [*first[2:], *second]
    writer.perform(Ready(committed=[*first[2:], *second]))
    assert (writer.applied, tail(writer)) == (5, [])
    assert names(writer) == [b"n1", b"n2", b"n3", b"n4", b"n5"]
    writer.close()


def test_what_was_applied_and_in_no_record_since_is_in_the_tail_again(
    writer: Writer, tmp_path: Path
) -> None:
    """A COMMIT is no record of its own: a quorum has it, and the next leader says so again."""
    writer.perform(Ready(append=made(1, 2)))
    writer.perform(Ready(committed=made(1, 2)))
    writer = again(writer, tmp_path)
    assert (writer.applied, tail(writer)) == (0, [1, 2])
    writer.close()


def test_all_that_a_server_alone_journaled_is_history_when_it_joins(tmp_path: Path) -> None:
    alone = open_writer(tmp_path)
    alone.perform(Ready(append=made(1, 2)))
    writer = again(alone, tmp_path)
    assert (writer.applied, tail(writer)) == (2, [])
    writer.perform(Ready(append=made(3)))
    cast(Any, writer)._replica.abandon()
    alone = open_writer(tmp_path)
    assert (alone.applied, tail(alone)) == (3, [])
    alone.close()


@pytest.mark.parametrize("checkpoint_before", [True, False])
@pytest.mark.parametrize("checkpoint_after", [True, False])
def test_a_truncated_tail_is_gone_and_what_came_instead_is_there(
    writer: Writer, tmp_path: Path, checkpoint_before: bool, checkpoint_after: bool
) -> None:
    writer.perform(Ready(append=made(1, 2, 3, 4)))
    writer.perform(Ready(committed=made(1)))
    if checkpoint_before:
        checkpoint(writer)
    new = made(E2 | 1, E2 | 2)
    writer.perform(Ready(truncate_after=2, append=new, hard_state=HardState(2, 2)))
    assert tail(writer) == [2, E2 | 1, E2 | 2]
    if checkpoint_after:
        checkpoint(writer)
    writer.perform(Ready(append=made(E2 | 3)))
    writer = again(writer, tmp_path)
    assert (writer.applied, tail(writer)) == (1, [2, E2 | 1, E2 | 2, E2 | 3])
    writer.perform(Ready(committed=[*made(2), *new]))
    writer = again(writer, tmp_path)
    assert writer.hard_state == HardState(2, 2)
    writer.perform(Ready(committed=list(writer.tail)))
    assert zxids(writer) == [1, 2, E2 | 1, E2 | 2, E2 | 3]
    writer.close()


@pytest.mark.parametrize("before", [0, 2, 4])
@pytest.mark.parametrize("after", [True, False])
def test_txns_that_were_applied_are_taken_back(
    writer: Writer, tmp_path: Path, before: int, after: bool
) -> None:
    """Apache sends COMMIT before its leader has the txn in its own log."""
    old = made(1, 2, 3, 4, suffix=b"old")
    for at, proposal in enumerate(old, 1):
        writer.perform(Ready(append=[proposal]))
        writer.perform(Ready(committed=[proposal]))
        if at == before:
            checkpoint(writer)
    writer.perform(Ready(truncate_after=2))
    assert (writer.applied, names(writer)) == (2, [b"n1old", b"n2old"])
    if after:
        checkpoint(writer)
    writer.perform(Ready(append=made(E2 | 1)))
    writer.perform(Ready(committed=made(E2 | 1)))
    writer.perform(Ready(append=made(E2 | 2)))
    writer = again(writer, tmp_path)
    assert (writer.applied, tail(writer)) == (E2 | 1, [E2 | 2])
    assert zxids(writer) == [1, 2, E2 | 1]
    assert len(names(writer)) == 3
    writer.close()


def test_a_truncation_that_the_checkpoint_has_is_not_done_to_what_came_later(
    writer: Writer, tmp_path: Path
) -> None:
    """The record that truncates is read again for the proposals in it that are not applied."""
    writer.perform(Ready(append=made(1, 2, 3)))
    writer.perform(Ready(committed=made(1)))
    new = made(E2 | 1, E2 | 2)
    writer.perform(Ready(truncate_after=1, append=new))
    writer.perform(Ready(committed=new[:1]))
    checkpoint(writer)
    writer = again(writer, tmp_path)
    assert (writer.applied, tail(writer)) == (E2 | 1, [E2 | 2])
    writer.close()


def test_a_txn_that_was_taken_back_and_came_again_is_not_committed_by_that(
    writer: Writer, tmp_path: Path
) -> None:
    """A leader that dies before it is established may have had it taken back for nothing."""
    for proposal in made(1, 2, 3):
        writer.perform(Ready(append=[proposal]))
        writer.perform(Ready(committed=[proposal]))
    writer.perform(Ready(truncate_after=1))
    writer.perform(Ready(append=made(2, 3)))
    writer = again(writer, tmp_path)
    assert (writer.applied, tail(writer)) == (1, [2, 3])
    writer.close()


def test_what_the_log_does_not_reach_is_refused_before_anything_is_written(
    writer: Writer, tmp_path: Path
) -> None:
    writer.perform(Ready(append=made(1, 2, 3)))
    writer.perform(Ready(committed=made(1, 2)))
    writer = again(writer, tmp_path)
    writer.close()
    writer = open_writer(tmp_path, alone=False, retention_bytes=0)
    for zxid in range(4, 12):
        writer.perform(Ready(append=made(zxid)))
        writer.perform(Ready(committed=list(writer.tail)))
        writer.review(now_ms=1_000)
    kept = zxids(writer)
    assert kept[0] > 4
    with pytest.raises(LogTrimmed):
        writer.perform(Ready(truncate_after=kept[0] - 2, append=made(E2 | 1)))
    assert (writer.applied, tail(writer)) == (11, [])
    cast(Any, writer)._replica.abandon()
    writer = open_writer(tmp_path, alone=False)
    assert (writer.applied + len(tail(writer)), zxids(writer)[-1] <= 11) == (11, True)
    writer.close()


def test_the_journal_of_the_tail_and_of_the_epochs_is_kept(writer: Writer, tmp_path: Path) -> None:
    """Segments are given up again and again behind a tail that nobody commits."""
    waiting = proposals(create(1, b"/waits", b"w" * 3000) for _ in range(1))
    writer.perform(Ready(append=waiting, hard_state=HardState(3, 2)))
    for accepted in range(4, 40):
        writer.perform(Ready(append=proposals([create(accepted, b"/%d" % accepted, b"y" * 900)])))
        hard = HardState(accepted, 2, accepted % 2 == 0)
        writer.perform(Ready(truncate_after=1, hard_state=hard))
        checkpoint(writer)
    writer = again(writer, tmp_path)
    assert (tail(writer), writer.hard_state) == ([1], HardState(39, 2, False))
    writer.close()
