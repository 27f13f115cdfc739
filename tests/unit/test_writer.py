"""storage/writer.py: nothing committed is skipped, whatever LMDB, the journal or the process do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import lmdb
import pytest

from tests.property.stored import create, open_writer, perform, proposals, txn
from zkstore.constants import INLINE_DATA_BYTES_MAX
from zkstore.errors import CorruptionError, StorageFailed, StorageFull
from zkstore.proto import opcodes as op
from zkstore.records.txn import Txn
from zkstore.storage import scan, schema
from zkstore.storage import writer as lmdb_writing
from zkstore.storage.disk import Disk
from zkstore.storage.writer import Writer
from zkstore.zab.ready import HardState, Ready

LARGE = b"x" * (INLINE_DATA_BYTES_MAX + 1)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    writer = open_writer(tmp_path)
    yield writer
    writer.close()


def crash(writer: Writer) -> None:
    """Let go of the directory as a killed process does."""
    cast(Any, writer)._replica.abandon()


def names(writer: Writer) -> list[bytes]:
    with writer.views.open() as view:
        return [name for name in view.children(b"/") if name != b"zookeeper"]


def is_stalled(writer: Writer) -> bool:
    return writer.stalled


def is_trimming(writer: Writer) -> bool:
    return writer.trimming


def children(count: int, *, first: int = 1, data: bytes = b"") -> list[Txn]:
    return [create(zxid, b"/n%03d" % zxid, data) for zxid in range(first, first + count)]


# ---- what is journaled, what is visible


def test_what_is_journaled_is_not_visible_before_it_is_committed(writer: Writer) -> None:
    batch = proposals(children(2))
    assert writer.perform(Ready(append=batch)) == []
    assert names(writer) == []
    applied = writer.perform(Ready(committed=batch))
    assert [(txn.zxid, result[0]) for txn, result in applied] == [(1, 0), (2, 0)]
    assert names(writer) == [b"n001", b"n002"]
    assert writer.applied == 2


def test_all_of_a_batch_becomes_visible_at_once(writer: Writer) -> None:
    perform(writer, *children(3))
    with writer.views.open() as view:
        label = view.label()
        assert view.applied == label.applied == 3
        assert label.totals == writer.totals
        assert [zxid for zxid, _ in view.log(0)] == [1, 2, 3]


def test_a_txn_made_here_is_not_decoded_again(writer: Writer) -> None:
    """The very object that prep made comes back with its result."""
    made = create(1, b"/a")
    writer.remember(made)
    ((applied, _),) = perform(writer, made)
    assert applied is made
    writer.remember(forgotten := create(2, b"/b"))
    writer.forget(proposals([forgotten]))
    ((again, _),) = perform(writer, forgotten)
    assert again is not forgotten and again == forgotten


# ---- after a stop


def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    perform(writer, *children(5), create(6, b"/e", LARGE, ephemeral=True))
    perform(writer, txn(7, op.CREATE_SESSION, 30_000))
    totals = writer.totals
    crash(writer)
    again = open_writer(tmp_path)
    assert (again.applied, again.totals.nodes) == (7, totals.nodes)
    assert again.totals.digest == totals.digest % (1 << 64)
    with again.views.open() as view:
        assert view.sessions() == [(0x100000000000001, 30_000)]
        assert view.ephemerals(0x100000000000001) == [b"/e"]
    again.close()


def test_what_was_journaled_counts_though_it_was_never_committed(tmp_path: Path) -> None:
    """Alone, what is in the journal may have been acknowledged."""
    writer = open_writer(tmp_path)
    writer.perform(Ready(append=proposals(children(2))))
    crash(writer)
    again = open_writer(tmp_path)
    assert names(again) == [b"n001", b"n002"]
    again.close()


@pytest.mark.parametrize(
    ("txns_max", "bytes_max", "batches"), [(9, 1 << 20, [5]), (2, 1 << 20, [2, 4, 5]), (9, 1, [])]
)
def test_a_replay_is_a_few_lmdb_transactions(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    txns_max: int,
    bytes_max: int,
    batches: list[int],
) -> None:
    """None is larger than allowed, but for one txn that is so by itself."""
    writer = open_writer(tmp_path)
    perform(writer, *children(5, data=b"some"))
    crash(writer)
    monkeypatch.setattr(lmdb_writing, "REPLAY_TXNS_MAX", txns_max)
    monkeypatch.setattr(lmdb_writing, "REPLAY_BYTES_MAX", bytes_max)
    again = open_writer(tmp_path)
    assert again.applied == 5 and again.changed_bytes > 0
    with again.env.begin() as lmdb_txn:
        kept = [schema.zxid_of(key) for key, _ in scan.items(lmdb_txn, schema.LOG)]
    assert kept == [0, *(batches or range(1, 6))]
    again.close()


@pytest.mark.parametrize("kill", [True, False])
def test_after_a_checkpoint_the_rest_is_replayed(tmp_path: Path, kill: bool) -> None:
    writer = open_writer(tmp_path)
    perform(writer, *children(3))
    checkpoint(writer)
    perform(writer, *children(3, first=4))
    crash(writer) if kill else writer.close()
    replica_check = open_writer(tmp_path)
    assert replica_check.applied == 6
    assert len(names(replica_check)) == 6
    replica_check.close()


def checkpoint(writer: Writer) -> None:
    """Take one, and recycle the journal behind it."""
    writer.begin_checkpoint()
    cast(Any, writer)._replica.checkpointer._thread.join()
    writer.finish_checkpoint()


def test_a_checkpoint_keeps_the_journal_of_what_is_not_applied(tmp_path: Path) -> None:
    """Proposals that wait for a quorum while segments are recycled again and again."""
    writer = open_writer(tmp_path, segment_bytes=4096)
    perform(writer, *children(2))
    waiting = proposals(children(20, first=3, data=b"y" * 1000))
    for proposal in waiting:
        writer.perform(Ready(append=[proposal]))
    checkpoint(writer)
    writer.perform(Ready(committed=waiting[:10]))
    checkpoint(writer)
    crash(writer)
    again = open_writer(tmp_path, segment_bytes=4096)
    assert again.applied == 22
    assert len(names(again)) == 22
    again.close()


@pytest.mark.parametrize("with_checkpoint", [False, True])
def test_epochs_survive(tmp_path: Path, with_checkpoint: bool) -> None:
    writer = open_writer(tmp_path)
    writer.perform(Ready(hard_state=HardState(accepted_epoch=3, current_epoch=2)))
    assert writer.hard_state == HardState(3, 2)
    if with_checkpoint:
        checkpoint(writer)
    perform(writer, *children(1))
    crash(writer)
    again = open_writer(tmp_path)
    assert again.hard_state == HardState(3, 2)
    again.close()


# ---- LMDB has no room


class FailingEnv:
    """An environment whose write transactions fail at one stage, so many times."""

    def __init__(self, env: lmdb.Environment, stage: str, error: lmdb.Error, times: int) -> None:
        self._env = env
        self.stage = stage
        self.error = error
        self.times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def begin(self, *, write: bool = False) -> Any:
        if not write or self.times == 0:
            return self._env.begin(write=write)
        self.times -= 1
        if self.stage == "begin":
            raise self.error
        return FailingTransaction(self._env.begin(write=True), self)


class FailingTransaction:
    """Fails at its third put, or when it is committed; nothing of it is kept."""

    def __init__(self, lmdb_txn: lmdb.Transaction, env: FailingEnv) -> None:
        self._txn = lmdb_txn
        self._env = env
        self._puts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._txn, name)

    def put(self, *args: Any, **kwargs: Any) -> Any:
        self._puts += 1
        if self._env.stage == "put" and self._puts == 3:
            raise self._env.error
        return self._txn.put(*args, **kwargs)

    def __enter__(self) -> FailingTransaction:
        return self

    def __exit__(self, *_: object) -> None:
        self._txn.abort()
        raise self._env.error


def fail(writer: Writer, stage: str, error: lmdb.Error, times: int) -> None:
    inside = cast(Any, writer)
    inside._env = FailingEnv(inside._env, stage, error, times)


def recovered(writer: Writer) -> None:
    inside = cast(Any, writer)
    inside._env = inside._env._env


@pytest.mark.parametrize("stage", ["begin", "put", "commit"])
def test_a_commit_that_lmdb_has_no_room_for_is_kept_and_nothing_overtakes_it(
    writer: Writer, stage: str
) -> None:
    perform(writer, *children(1))
    fail(writer, stage, lmdb.MapFullError("no room"), times=4)
    assert perform(writer, *children(2, first=2)) == []
    assert is_stalled(writer)
    assert perform(writer, *children(1, first=4)) == []
    assert names(writer) == [b"n001"]
    assert writer.applied == 1
    assert writer.retry() == []
    applied = writer.retry()  # there is room again
    assert [txn.zxid for txn, _ in applied] == [2, 3, 4]
    assert not is_stalled(writer)
    assert names(writer) == [b"n001", b"n002", b"n003", b"n004"]
    assert writer.retry() == []
    recovered(writer)


@pytest.mark.parametrize("kill", [True, False])
def test_what_lmdb_had_no_room_for_is_there_after_a_restart(tmp_path: Path, kill: bool) -> None:
    writer = open_writer(tmp_path)
    perform(writer, *children(1))
    fail(writer, "commit", lmdb.DiskError("no room"), times=9)
    perform(writer, *children(2, first=2))
    recovered(writer)
    checkpoint(writer)  # one that is taken meanwhile does not forget it either
    crash(writer) if kill else writer.close()
    again = open_writer(tmp_path)
    assert names(again) == [b"n001", b"n002", b"n003"]
    again.close()


def test_damage_is_not_taken_for_a_full_disk(writer: Writer) -> None:
    fail(writer, "put", lmdb.CorruptedError("page"), times=1)
    with pytest.raises(CorruptionError):
        perform(writer, *children(1))
    recovered(writer)


# ---- the journal has no room


class FullDisk(Disk):
    """No room for anything but what LMDB writes, while `full`."""

    full = False

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
        if self.full:
            raise StorageFull("no room")
        super().pwrite(fd, data, offset)


def test_a_batch_that_the_journal_has_no_room_for_never_was(tmp_path: Path) -> None:
    disk = FullDisk()
    writer = open_writer(tmp_path, disk=disk)
    perform(writer, *children(1))
    disk.full = True
    with pytest.raises(StorageFull):
        writer.perform(Ready(append=proposals([create(2, b"/refused")])))
    disk.full = False
    perform(writer, create(2, b"/accepted"))
    crash(writer)
    again = open_writer(tmp_path)
    assert names(again) == [b"accepted", b"n001"]
    again.close()


# ---- the log's front


def zxids(writer: Writer) -> list[int]:
    with writer.views.open() as view:
        return [zxid for zxid, _ in view.log(0)]


def test_the_log_is_trimmed_by_size_two_batches_for_one(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, retention_bytes=2000)
    for zxid in range(1, 11):
        perform(writer, create(zxid, b"/n%d" % zxid, b"y" * 200))
    assert zxids(writer) == list(range(1, 11))
    writer.review(now_ms=1_000)
    assert is_trimming(writer)
    perform(writer, create(11, b"/n11"))
    kept = zxids(writer)
    assert kept == list(range(kept[0], 12)) and kept[0] > 1
    for zxid in range(12, 30):
        writer.review(now_ms=1_000)
        perform(writer, create(zxid, b"/n%d" % zxid, b"y" * 200))
    writer.review(now_ms=1_000)
    assert 2 <= len(zxids(writer)) < 10
    with writer.views.open() as view:
        first = zxids(writer)[0]
        assert view.log_covers(first - 1)
        assert not view.log_covers(first - 2)
        assert len(view.children(b"/")) == 30
    writer.close()


def test_the_log_is_trimmed_by_age(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, retention_ms=10_000)
    perform(writer, txn(1, op.CREATE_SESSION, 5000, time_ms=1_000))
    perform(writer, txn(2, op.CREATE_SESSION, 5000, time_ms=9_000))
    writer.review(now_ms=11_000)
    assert not is_trimming(writer)
    writer.review(now_ms=11_001)
    assert is_trimming(writer)
    perform(writer, txn(3, op.CREATE_SESSION, 5000, time_ms=11_001))
    perform(writer, txn(4, op.CREATE_SESSION, 5000, time_ms=11_002))
    assert zxids(writer)[-2:] == [3, 4]
    writer.review(now_ms=11_002)
    assert not is_trimming(writer)
    writer.close()


def test_the_newest_batch_always_stays(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, retention_bytes=0)
    for zxid in range(1, 9):
        perform(writer, create(zxid, b"/n%d" % zxid))
        writer.review(now_ms=1_000)
    assert zxids(writer)[-1] == writer.applied == 8
    crash(writer)
    again = open_writer(tmp_path)
    assert (again.applied, again.totals.nodes) == (8, 4 + 8)
    again.close()


def data_ids(writer: Writer) -> int:
    """How many large data are stored."""
    with cast(Any, writer)._env.begin() as lmdb_txn:
        return sum(1 for key in lmdb_txn.cursor().iternext(values=False) if key[:1] == b"d")


def test_large_data_is_kept_while_the_log_may_need_it(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, retention_bytes=0)
    perform(writer, create(1, b"/a", LARGE))
    perform(writer, txn(2, op.SET_DATA, b"/a", LARGE + b"2", 1))
    perform(writer, txn(3, op.DELETE, b"/a"), create(4, b"/b", LARGE))
    assert data_ids(writer) == 3
    with writer.views.open() as view:
        before = [effects[4] for _, effects in view.log(1)][:2]
        assert [view.data(value) for value in before] == [LARGE, LARGE + b"2"]
    writer.review(now_ms=1_000)
    for zxid in range(5, 9):
        perform(writer, txn(zxid, op.CREATE_SESSION, 5000))
    with writer.views.open() as view:
        value = view.node(b"/b")
        assert value is not None and view.data(value) == LARGE
    assert data_ids(writer) == 1
    writer.close()


# ---- applied while the device writes


class WatchedDisk(Disk):
    """Tells at each flush of the journal what is visible."""

    def __init__(self) -> None:
        super().__init__()
        self.writer: Writer | None = None
        self.seen: list[int] = []
        self.fails = False

    def flush(self, fd: int) -> None:
        if self.writer is not None and "journal" in self.path_of(fd):
            with self.writer.views.open() as view:
                self.seen.append(view.applied)
            if self.fails:
                raise StorageFailed("flush")
        super().flush(fd)


def test_nothing_is_visible_before_it_is_durable(tmp_path: Path) -> None:
    """What a Ready appends may be committed by it: LMDB commits behind the journal's flush."""
    disk = WatchedDisk()
    disk.writer = writer = open_writer(tmp_path, disk=disk)
    for zxid in (1, 2):
        batch = proposals([create(zxid, b"/n%d" % zxid)])
        assert [txn.zxid for txn, _ in writer.perform(Ready(append=batch, committed=batch))] == [
            zxid
        ]
    assert disk.seen == [0, 1]
    disk.fails = True
    batch = proposals([create(3, b"/n3")])
    with pytest.raises(StorageFailed):
        writer.perform(Ready(append=batch, committed=batch))
    assert writer.applied == 2
    assert names(writer) == [b"n1", b"n2"]
    crash(writer)


def test_the_record_is_durable_though_lmdb_has_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = WatchedDisk()
    disk.writer = writer = open_writer(tmp_path, disk=disk)
    batch = proposals([create(1, b"/a")])
    with monkeypatch.context() as patched:
        patched.setattr(lmdb_writing, "write_batch", _no_room)
        assert writer.perform(Ready(append=batch, committed=batch)) == []
    assert writer.stalled and disk.seen == [0]
    assert [txn.zxid for txn, _ in writer.retry()] == [1]
    assert disk.seen == [0]
    writer.close()


def _no_room(*_: object) -> None:
    raise lmdb.MapFullError("no room")
