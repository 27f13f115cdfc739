"""Observers serve clients like any follower, and have no voice."""

from __future__ import annotations

from pathlib import Path

from tests.ensemble.ensemble import Ensemble
from tests.ensemble.test_failover import agree, writes_on
from tests.ensemble.writers import Writer, client_of
from tests.invariants.replica import wait_for


def test_an_observer_takes_writes_and_survives_its_leader(tmp_path: Path) -> None:
    with Ensemble(tmp_path, 4, observers=frozenset({4})) as ensemble:
        observer = ensemble.members[4]
        assert observer.mode == "observer"
        leader = ensemble.leader()
        with (
            Writer(f"127.0.0.1:{observer.port}", "here") as here,
            Writer(ensemble.hosts, "there") as there,
        ):
            writes_on(here)
            leader.kill_all()
            writes_on(here)
            writes_on(there)
            observer.kill_all()
            writes_on(there)
            leader.start()
            observer.start()
            wait_for(lambda: observer.mode == "observer")
            writes_on(there)
        agree(ensemble, here, there)


def test_observers_make_no_quorum(tmp_path: Path) -> None:
    with Ensemble(tmp_path, 5, observers=frozenset({4, 5})) as ensemble:
        leader = ensemble.leader()
        for member in ensemble.others(leader):
            if member.mode == "follower":
                member.kill_all()
        observers = [ensemble.members[4], ensemble.members[5]]
        wait_for(lambda: not leader.mode and not any(one.mode for one in observers))
        ensemble.members[1 if leader.sid != 1 else 2].start()
        wait_for(lambda: all(one.mode == "observer" for one in observers))
        client = client_of(f"127.0.0.1:{observers[0].port}")
        assert client.create("/again") == "/again"
        client.stop()
