"""Whose disk is full keeps nobody from writing: a follower leaves, a leader gives way, and each is
back when there is room."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.ensemble.ensemble import Ensemble
from tests.ensemble.test_catch_up import lose
from tests.ensemble.test_failover import agree, writes_on
from tests.ensemble.writers import Writer, client_of
from tests.faults.test_disk_full import FILE_SYSTEMS, MB, RESERVE_BYTES, SETTINGS, Filler, mounted
from tests.invariants.replica import wait_for

_NODE_BYTES = 500_000


@pytest.mark.parametrize("kind", FILE_SYSTEMS)
def test_a_follower_with_a_full_disk(tmp_path: Path, kind: str) -> None:
    with mounted(kind, tmp_path) as disk, Ensemble(tmp_path, 3, SETTINGS) as ensemble:
        leader = ensemble.leader()
        poor, rich = ensemble.others(leader)
        poor.kill_all()
        poor.data_dir = disk / "data"
        poor.data_dir.mkdir()
        lose(poor)
        poor.start()
        wait_for(lambda: poor.mode == "follower")
        filler = Filler(disk)
        client = client_of(f"127.0.0.1:{leader.port},127.0.0.1:{rich.port}")
        with Writer(ensemble.hosts, "writer") as writer:
            writes_on(writer)
            filler.fill(leave_bytes=MB)
            for number in range(40):
                client.create(f"/large{number}", bytes(_NODE_BYTES))
            wait_for(lambda: re.search("No space left on device|the disk is full", poor.output))
            wait_for(lambda: poor.mode != "follower")
            writes_on(writer, 200)
            assert poor.output.count("looking for a leader") <= 11  # a minute
            filler.remove()
            wait_for(lambda: poor.mode == "follower")
            writes_on(writer)
        agree(ensemble, writer)
        client.stop()
        for member in ensemble.members.values():
            member.kill_all()


@pytest.mark.parametrize("kind", FILE_SYSTEMS[:1])
def test_a_leader_with_a_full_disk_gives_way(tmp_path: Path, kind: str) -> None:
    ensemble = Ensemble(tmp_path, 3, SETTINGS)
    poor = ensemble.members[3]  # of equal logs the greatest sid leads
    with mounted(kind, tmp_path) as disk:
        poor.data_dir = disk / "data"
        poor.data_dir.mkdir()
        lose(poor)
        with ensemble:
            if (first := ensemble.leader()) is not poor:
                first.kill_all()
                wait_for(lambda: poor.mode == "leader")
                first.start()
                ensemble.settled()
            filler = Filler(disk)
            with Writer(ensemble.hosts, "writer") as writer:
                writes_on(writer)
                filler.fill(leave_bytes=RESERVE_BYTES // 2)
                wait_for(lambda: poor.mode == "follower")
                assert "the disk is full, and the others can go on" in poor.output
                writes_on(writer, 200)
                assert ensemble.leader() is not poor
                filler.remove()
                wait_for(lambda: "disk has room again" in poor.output)
                writes_on(writer)
            agree(ensemble, writer)
            for member in ensemble.members.values():
                member.kill_all()
