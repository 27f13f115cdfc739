"""Disks that lost data or are damaged: no vote from what is lost, and all heals from the others."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Final

import pytest

from tests.ensemble.ensemble import Ensemble, Member
from tests.ensemble.test_catch_up import lose
from tests.ensemble.test_failover import agree, writes_on
from tests.ensemble.writers import Writer
from tests.invariants.replica import wait_for
from tests.property.stored import open_writer
from zkstore.storage import schema
from zkstore.storage.env import SUSPECT_NAME, storage_dir

_ELECTIONS_SECONDS: Final = 3.0  # in which replicas that may elect would have done so, often
_IS_EMPTY: Final = "this replica is empty, and server"
_HAS_NO_VOICE: Final = "takes part in no vote: it lacks data"
_IS_BACK: Final = "this replica has all data again, and takes part in votes"
_SELDOM: Final = {"zkstore.checkpointIntervalMs": "600000"}


def back(member: Member) -> bool:
    """Whether it serves, and counts again."""
    return member.mode == "follower" and _IS_BACK in member.output


class Bereft:
    """An ensemble of which one is stale, one emptied, and the one that has all is down."""

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble
        self.stale, self.emptied, self.whole = ensemble.members.values()
        with Writer(ensemble.hosts, "writer") as self.writer:
            writes_on(self.writer, 10)
            self.stale.kill_all()
            writes_on(self.writer)
        self.emptied.kill_all()
        self.whole.kill_all()
        lose(self.emptied)

    def start_two(self) -> None:
        for member in (self.stale, self.emptied):
            member.launch()
        for member in (self.stale, self.emptied):
            member.await_ready()


def test_a_stale_and_an_emptied_replica_elect_nobody(tmp_path: Path) -> None:
    """What two have acknowledged is lost on one of them: it must not vote for the third."""
    with Ensemble(tmp_path, 3) as ensemble:
        some = Bereft(ensemble)
        some.start_two()
        for life in range(2):  # it is not forgotten over a restart
            wait_for(lambda: _HAS_NO_VOICE in some.stale.output)
            if not life:
                wait_for(lambda: _IS_EMPTY in some.emptied.output)
            deadline = time.monotonic() + _ELECTIONS_SECONDS
            while time.monotonic() < deadline:
                assert (some.stale.mode, some.emptied.mode) == ("", "")
            if not life:
                some.emptied.kill_all()
                some.emptied.start()
        assert "had not got all data again" in some.emptied.output
        assert some.stale.output.count(_HAS_NO_VOICE) == 1
        some.whole.start()
        wait_for(lambda: back(some.emptied))
        agree(ensemble, some.writer)


def test_who_is_told_to_be_new_votes(tmp_path: Path) -> None:
    """The control: with Apache's file `initialize` the same replicas elect, and the loss shows."""
    with Ensemble(tmp_path, 3) as ensemble:
        some = Bereft(ensemble)
        mark = some.emptied.data_dir / "initialize"
        mark.touch()
        some.start_two()
        ensemble.leader([some.stale, some.emptied])
        wait_for(lambda: some.emptied.mode)
        assert _IS_EMPTY not in some.emptied.output
        assert not mark.exists()
        assert some.writer.lost_at(some.emptied)


def test_an_old_copy_of_a_data_directory_catches_up(tmp_path: Path) -> None:
    with Ensemble(tmp_path, 3) as ensemble:
        leader = ensemble.leader()
        member = ensemble.others(leader)[0]
        copy = tmp_path / "copy"
        with Writer(ensemble.hosts, "writer") as writer:
            writes_on(writer)
            member.kill_all()
            shutil.copytree(member.data_dir, copy, ignore=shutil.ignore_patterns("*.sock"))
            member.start()
            wait_for(lambda: member.mode == "follower")
            writes_on(writer)
            member.kill_all()
            shutil.rmtree(member.data_dir)
            copy.rename(member.data_dir)
            member.start()
            wait_for(lambda: member.mode == "follower")
            writes_on(writer)
        told = f"server {member.sid} has lost data, or has an old copy of it: it is back at 0x"
        assert told in leader.output
        agree(ensemble, writer)


def damage_journal(member: Member, acknowledged: list[str]) -> None:
    """One bit of a record in the middle of those that no checkpoint covers."""
    for name in reversed(acknowledged[:-10]):
        for path in sorted(storage_dir(member.data_dir).glob("journal.*")):
            content = bytearray(path.read_bytes())
            at = content.find(name.encode())
            if at >= 0:
                content[at] ^= 1
                path.write_bytes(content)
                return
    pytest.fail("none of the writes is in the journal")


def damage_node(member: Member, path: bytes) -> None:
    """One byte of a node's data; somebody has seen that something is wrong."""
    writer = open_writer(member.data_dir, alone=False)
    with writer.env.begin(write=True) as lmdb_txn:
        key = schema.node_key(path)
        value = lmdb_txn.get(key)
        lmdb_txn.put(key, value[:-1] + b"!")
    writer.close()
    (storage_dir(member.data_dir) / SUSPECT_NAME).touch()


@pytest.mark.parametrize("what", ["journal", "node"])
def test_a_damaged_replica_heals(tmp_path: Path, what: str) -> None:
    with Ensemble(tmp_path, 3, _SELDOM) as ensemble:
        leader = ensemble.leader()
        member = ensemble.others(leader)[0]
        with Writer(ensemble.hosts, "writer") as writer:
            writes_on(writer, 100)
            if what == "journal":
                member.kill_all()
                damage_journal(member, list(writer.acknowledged))
            else:
                assert member.terminate() == 0
                member.kill_all()
                damage_node(member, b"/writer/n00010")
            writes_on(writer)
            member.start()
            wait_for(lambda: back(member))
            writes_on(writer)
        named = {
            "journal": "acknowledged transactions are lost: ",
            "node": "damaged: node /writer/n00010: wrong crc32",
        }
        assert named[what] in member.output
        agree(ensemble, writer)
        # It counts: with it and one other there is a quorum.
        leader.kill_all()
        with Writer(ensemble.hosts, "without") as writer:
            writes_on(writer)
