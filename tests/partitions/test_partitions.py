"""An ensemble whose hosts are cut off, stopped and killed while clients write and check.

What the clients check is in writers.py; that its checks can fail, in test_writers.py.
"""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from tests.partitions.conftest import storming
from tests.partitions.hosts import Hosts
from tests.partitions.replicas import ZKSTORE, Ensemble

THREE = dict.fromkeys(range(1, 4), ZKSTORE)
# Where who leads is to stay the same: all replicas are on one disk, which may stand still.
PATIENT = {"syncLimit": "12"}
FIVE = dict.fromkeys(range(1, 6), ZKSTORE)


def others(ensemble: Ensemble, number: int) -> list[int]:
    return [one for one in ensemble.replicas if one != number]


def test_the_leader_is_cut_off(four_hosts: Hosts, tmp_path: Path) -> None:
    """Its clients go over to the rest; it steps down, and follows when it is back."""
    ensemble = Ensemble(four_hosts, tmp_path, THREE, PATIENT)
    with ensemble, storming(ensemble, 4) as storm:
        storm.last(1)
        old = ensemble.leader().number
        four_hosts.part([old], others(ensemble, old))
        new = ensemble.leader(frozenset(others(ensemble, old))).number
        storm.last(2)
        ensemble.cut_off(old)
        four_hosts.heal()
        ensemble.serve(old)
        assert ensemble.leader().number == new
        storm.last(1)


@pytest.mark.parametrize("deaf", [True, False], ids=["deaf", "mute"])
def test_a_leader_that_one_direction_is_cut_off_from(
    four_hosts: Hosts, tmp_path: Path, deaf: bool
) -> None:
    """It hears nobody, or nobody hears it: either way another one leads."""
    with Ensemble(four_hosts, tmp_path, THREE) as ensemble, storming(ensemble, 4) as storm:
        storm.last(1)
        old = ensemble.leader().number
        rest = others(ensemble, old)
        for one in rest:
            four_hosts.cut(*((one, old) if deaf else (old, one)))
        ensemble.leader(frozenset(rest))
        storm.last(1)
        four_hosts.heal()
        ensemble.serve()
        storm.last(1)


def test_a_follower_is_cut_off_and_catches_up(four_hosts: Hosts, tmp_path: Path) -> None:
    """The others go on without a pause that clients of theirs would notice."""
    ensemble = Ensemble(four_hosts, tmp_path, THREE, PATIENT)
    with ensemble, storming(ensemble, 4) as storm:
        leader = ensemble.leader().number
        away = others(ensemble, leader)[0]
        storm.last(1)
        four_hosts.part([away], others(ensemble, away))
        storm.last(6)
        ensemble.cut_off(away)
        four_hosts.heal()
        ensemble.serve(away)
        assert ensemble.leader().number == leader
        storm.last(1)


@pytest.mark.parametrize("victim", ["leader", "follower"])
def test_kill_9(four_hosts: Hosts, tmp_path: Path, victim: str) -> None:
    with Ensemble(four_hosts, tmp_path, THREE) as ensemble, storming(ensemble, 4) as storm:
        for _ in range(2):
            storm.last(1)
            leader = ensemble.leader().number
            number = leader if victim == "leader" else others(ensemble, leader)[0]
            ensemble.replicas[number].kill()
            ensemble.leader(frozenset(others(ensemble, number)))
            storm.last(1)
            ensemble.replicas[number].start()
            ensemble.serve(number)


@pytest.mark.parametrize("victim", ["leader", "follower"])
def test_a_replica_is_stopped_and_goes_on(four_hosts: Hosts, tmp_path: Path, victim: str) -> None:
    """SIGSTOP: it keeps its connections and answers nobody; awake again it must not go on as if
    nothing had been."""
    with Ensemble(four_hosts, tmp_path, THREE) as ensemble, storming(ensemble, 4) as storm:
        storm.last(1)
        leader = ensemble.leader().number
        number = leader if victim == "leader" else others(ensemble, leader)[0]
        replica = ensemble.replicas[number]
        replica.pause()
        ensemble.leader(frozenset(others(ensemble, number)))
        storm.last(5)
        replica.resume()
        ensemble.serve(number)
        storm.last(1)


def test_all_are_killed_at_once(four_hosts: Hosts, tmp_path: Path) -> None:
    """Nothing that was acknowledged is lost, and the sessions live on."""
    with Ensemble(four_hosts, tmp_path, THREE) as ensemble, storming(ensemble, 4) as storm:
        storm.last(2)
        for replica in ensemble.replicas.values():
            replica.signal(signal.SIGKILL)
        for replica in ensemble.replicas.values():
            replica.kill()
            replica.start()
        ensemble.serve()
        storm.last(2)
    assert storm.report["expired"] == 0, storm.report


@pytest.mark.parametrize("seed", range(2))
def test_five_replicas_and_anything(six_hosts: Hosts, tmp_path: Path, seed: int) -> None:
    """Faults of a minority, chosen by a seed, one after another."""
    rng = random.Random(seed)
    with Ensemble(six_hosts, tmp_path, FIVE) as ensemble, storming(ensemble, 6, seed) as storm:
        for _ in range(3):
            storm.last(1)
            chosen = rng.sample(range(1, 6), rng.randint(1, 2))
            rest = [number for number in FIVE if number not in chosen]
            fault = rng.choice(("part", "cut", "kill", "pause"))
            if fault == "part":
                six_hosts.part(chosen, rest)
            for number in chosen:
                if fault == "cut":
                    six_hosts.cut(rng.choice(rest), number)
                elif fault == "kill":
                    ensemble.replicas[number].kill()
                elif fault == "pause":
                    ensemble.replicas[number].pause()
            if fault != "cut":
                ensemble.leader(frozenset(rest))
            storm.last(2)
            six_hosts.heal()
            for number in chosen:
                if fault == "kill":
                    ensemble.replicas[number].start()
                elif fault == "pause":
                    ensemble.replicas[number].resume()
            ensemble.serve()


def test_two_sites(tmp_path: Path) -> None:
    """The far site, 50 ms away, has no weight: it never leads, and is never waited for."""
    sites = {"group.1": "1:2:3", "group.2": "4:5", "weight.4": "0", "weight.5": "0"}
    with (
        Hosts(6, far=frozenset({4, 5}), delay_ms=50) as hosts,
        Ensemble(hosts, tmp_path, FIVE, sites) as ensemble,
        storming(ensemble, 6) as storm,
    ):
        for near in (1, 2):
            storm.last(1)
            assert ensemble.leader().number in (1, 2, 3)
            ensemble.replicas[near].kill()
            ensemble.leader(frozenset({1, 2, 3} - {near}))
            storm.last(1)
            ensemble.replicas[near].start()
            ensemble.serve(near)
        hosts.part([4, 5], [1, 2, 3])
        storm.last(4)
        ensemble.cut_off(4, 5)
        assert ensemble.leader().number in (1, 2, 3)
        hosts.heal()
        ensemble.serve()
