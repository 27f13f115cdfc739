"""A member of an ensemble whose data are damaged: it opens, says that it is not whole, heals."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from tests.property.stored import create, open_writer, perform, proposals
from tests.unit.test_transfer import receive, stream_of
from zkstore.commit.process import Opened
from zkstore.commit.process import open_writer as open_server
from zkstore.errors import CorruptionError
from zkstore.settings import Settings
from zkstore.storage import schema
from zkstore.storage.disk import Disk
from zkstore.storage.env import SUSPECT_NAME, storage_dir
from zkstore.storage.writer import Writer
from zkstore.zab.ready import HardState, Ready

MEMBERS = "server.1=127.0.0.1:1:2:participant\nserver.2=127.0.0.1:3:4:participant\nversion=0"


def settings(folder: Path, members: str = MEMBERS) -> Settings:
    return Settings(
        data_dir=str(folder), members=members, server_id=1, disk_reserve_bytes=1 << 20,
        journal_segment_bytes=4096,
    )  # fmt: skip


def member(folder: Path) -> Opened:
    return open_server(settings(folder), Disk())


def crash(opened: Opened) -> None:
    opened.reserve.close()
    opened.replica.abandon()


def damage_journal(folder: Path) -> None:
    """A replica with promises and txns in its journal, one of whose records is then destroyed."""
    writer = open_writer(folder, alone=False)
    perform(writer, create(1, b"/kept"))
    writer.perform(Ready(append=proposals([create(2, b"/lost" + b"x" * 50)])))
    writer.perform(Ready(hard_state=HardState(5, 4)))
    cast(Any, writer)._replica.abandon()
    path = storage_dir(folder) / "journal.1"
    content = bytearray(path.read_bytes())
    content[content.index(b"/lost") + 20] ^= 1
    path.write_bytes(content)


def heal(opened: Opened, folder: Path, leader: Path) -> None:
    """What a leader's SNAP and NEWLEADER do."""
    source = open_writer(leader)
    perform(source, create(1, b"/kept"), create(2, b"/lost"), create(3, b"/new"))
    writer = opened.writer
    generation = opened.replica.generation + 1
    assert generation == 2
    receive(stream_of(source), folder, 3)
    source.close()
    writer.switch(generation, zxid=3, whole=False)
    assert not writer.hard_state.whole
    writer.perform(Ready(hard_state=HardState(6, 6)))


def names(writer: Writer) -> list[bytes]:
    with writer.views.open() as view:
        return [name for name in view.children(b"/") if name != b"zookeeper"]


def test_a_damaged_journal_is_healed_by_a_leaders_tree(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    damage_journal(folder)
    for promised in (5, 6, 7):  # what was promised behind the damage holds, over every restart
        opened = member(folder)
        writer = opened.writer
        assert writer.hard_state == HardState(promised, 0, whole=False)
        assert (names(writer), [one.zxid for one in writer.tail]) == ([], [1])
        writer.begin_checkpoint()  # takes none: it would hide the damage
        assert not writer.checkpointing
        writer.perform(Ready(hard_state=HardState(promised + 1, 0, whole=False)))
        crash(opened)
    opened = member(folder)
    heal(opened, folder, tmp_path / "leader")
    crash(opened)
    opened = member(folder)
    assert opened.writer.hard_state == HardState(6, 6)
    assert names(opened.writer) == [b"kept", b"lost", b"new"]
    assert not opened.replica.journal_damaged
    crash(opened)


def test_alone_it_still_refuses(tmp_path: Path) -> None:
    damage_journal(tmp_path)
    with pytest.raises(CorruptionError, match="acknowledged transactions are lost"):
        open_server(settings(tmp_path, ""), Disk())


def test_a_damaged_tree_is_healed_too(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    writer = open_writer(folder)
    perform(writer, create(1, b"/a", b"content"))
    with writer.env.begin(write=True) as lmdb_txn:
        key = schema.node_key(b"/a")
        value = lmdb_txn.get(key)
        lmdb_txn.put(key, value[:-1] + b"!")
    writer.close()
    (storage_dir(folder) / SUSPECT_NAME).write_bytes(b"")
    with pytest.raises(CorruptionError, match="node /a: wrong crc32"):
        open_server(settings(folder, ""), Disk())
    for _ in range(2):
        opened = member(folder)
        assert not opened.writer.hard_state.whole
        crash(opened)
    opened = member(folder)
    heal(opened, folder, tmp_path / "leader")
    crash(opened)
    assert not (storage_dir(folder) / SUSPECT_NAME).exists()
    opened = member(folder)
    assert opened.writer.hard_state.whole
    crash(opened)


def test_what_was_not_whole_does_not_become_a_server_alone(tmp_path: Path) -> None:
    opened = member(tmp_path)
    opened.writer.perform(Ready(hard_state=HardState(2, 1, whole=False)))
    crash(opened)
    with pytest.raises(CorruptionError, match="had not got all data again"):
        open_server(settings(tmp_path, ""), Disk())
    opened = member(tmp_path)
    assert opened.writer.hard_state == HardState(2, 1, whole=False)
    crash(opened)
