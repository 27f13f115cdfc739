"""zkstore and Apache ZooKeeper in one ensemble, in every role, while clients write and check.

Debian's Apache (3.8) always, 3.9 where ZKSTORE_APACHE_39 names its jars. The greatest server id
wins the first election of an empty ensemble if it is there in time.
"""

from __future__ import annotations

import re
import shutil
from functools import partial
from pathlib import Path

import pytest

from tests.partitions.conftest import storming
from tests.partitions.hosts import Hosts
from tests.partitions.replicas import ZKSTORE, Ensemble, Replica, wait_for
from tests.tools.apache_server import classpaths

APACHE = classpaths()
CLIENTS = 4
_MISMATCHES = re.compile(r"^zk_digest_mismatches_count\s+(\d+)", re.MULTILINE)
# Whose process ends is missed at once; none is given up for a disk that stands still, all have one.
_PATIENT = {"syncLimit": "20"}
# As patient as a test can be that waits until one that is cut off is missed.
_LESS_PATIENT = {"syncLimit": "12"}


def mismatches(replica: Replica) -> re.Match[str] | None:
    return _MISMATCHES.search(replica.word("mntr"))


def agree(ensemble: Ensemble) -> None:
    """No replica found a tree digest that was not the leader's."""
    for number, replica in ensemble.replicas.items():
        found = wait_for(partial(mismatches, replica))
        assert found and found[1] == "0", f"replica {number}; {ensemble.tails()}"


def others(ensemble: Ensemble, number: int) -> frozenset[int]:
    return frozenset(ensemble.replicas) - {number}


def again(ensemble: Ensemble, number: int) -> None:
    """Start a replica that was killed, and wait until it serves."""
    ensemble.replicas[number].start()
    ensemble.serve(number)


@pytest.mark.parametrize("apache", APACHE.values(), ids=APACHE.keys())
@pytest.mark.parametrize("zkstores", [{1}, {3}, {1, 2}, {1, 3}], ids=lambda s: f"zkstore-{s}")
def test_every_role_in_turn(
    four_hosts: Hosts, tmp_path: Path, apache: str, zkstores: set[int]
) -> None:
    """Each replica is killed once while it leads, or while it follows, and comes back."""
    kinds = {number: ZKSTORE if number in zkstores else apache for number in (1, 2, 3)}
    ensemble = Ensemble(four_hosts, tmp_path, kinds, _PATIENT, first=3)
    with ensemble, storming(ensemble, CLIENTS) as storm:
        assert ensemble.leader().number == 3
        for victim in (3, 1, 2):
            storm.last(0.5)
            ensemble.replicas[victim].kill()
            ensemble.leader(others(ensemble, victim))
            storm.last(0.5)
            again(ensemble, victim)
        storm.last(0.5)
        agree(ensemble)


@pytest.mark.parametrize("apache", APACHE.values(), ids=APACHE.keys())
@pytest.mark.parametrize("leader", ["zkstore", "apache"])
def test_an_observer_of_the_other_kind(
    four_hosts: Hosts, tmp_path: Path, apache: str, leader: str
) -> None:
    """It sees everything, and its clients write through it; the quorum does without it."""
    voter, watcher = (ZKSTORE, apache) if leader == "zkstore" else (apache, ZKSTORE)
    kinds = {1: watcher, 2: voter, 3: voter}
    ensemble = Ensemble(four_hosts, tmp_path, kinds, _PATIENT, observers=frozenset({1}))
    with ensemble, storming(ensemble, CLIENTS) as storm:
        assert wait_for(lambda: ensemble.replicas[1].mode) == "observer"
        storm.last(0.5)
        ensemble.replicas[1].kill()
        storm.last(0.5)
        again(ensemble, 1)
        assert wait_for(lambda: ensemble.replicas[1].mode) == "observer"
        storm.last(0.5)
        agree(ensemble)


@pytest.mark.parametrize("apache", APACHE.values(), ids=APACHE.keys())
@pytest.mark.parametrize("emptied", ["zkstore", "apache"])
def test_a_replica_that_lost_everything(
    four_hosts: Hosts, tmp_path: Path, apache: str, emptied: str
) -> None:
    """It gets the whole tree from a leader of the other kind."""
    other, lost = (apache, ZKSTORE) if emptied == "zkstore" else (ZKSTORE, apache)
    kinds = {1: lost, 2: other, 3: other}
    ensemble = Ensemble(four_hosts, tmp_path, kinds, _PATIENT)
    with ensemble, storming(ensemble, CLIENTS) as storm:
        storm.last(1)
        replica = ensemble.replicas[1]
        replica.kill()
        for folder in replica.data_dir.iterdir():
            if folder.is_dir():
                shutil.rmtree(folder)
        storm.last(0.5)
        again(ensemble, 1)
        storm.last(0.5)
        agree(ensemble)


@pytest.mark.parametrize("apache", APACHE.values(), ids=APACHE.keys())
@pytest.mark.parametrize("old", ["zkstore", "apache"])
def test_what_a_deposed_leader_proposed_in_vain_goes(
    four_hosts: Hosts, tmp_path: Path, apache: str, old: str
) -> None:
    """A leader that is cut off logs what no quorum acknowledges; the next one has it dropped."""
    other, deposed = (apache, ZKSTORE) if old == "zkstore" else (ZKSTORE, apache)
    kinds = {1: other, 2: other, 3: deposed}
    ensemble = Ensemble(four_hosts, tmp_path, kinds, _LESS_PATIENT, first=3)
    with ensemble, storming(ensemble, CLIENTS) as storm:
        assert ensemble.leader().number == 3
        storm.last(0.5)
        four_hosts.part([3], [1, 2])  # its clients reach it still
        ensemble.leader(frozenset({1, 2}))
        storm.last(1)
        four_hosts.heal()
        ensemble.serve(3)
        storm.last(0.5)
        agree(ensemble)
