"""What members tell of themselves: the words that monitoring asks, and /zookeeper/config."""

from __future__ import annotations

from pathlib import Path

from tests.ensemble.ensemble import Ensemble
from tests.ensemble.writers import client_of
from tests.invariants.replica import wait_for

NOT_SERVING = "This ZooKeeper instance is not currently serving requests\n"


def test_monitoring_finds_who_leads_and_who_follows(three: Ensemble) -> None:
    leader = three.leader()
    client = client_of(f"127.0.0.1:{leader.port}")
    client.create("/words", b"x" * 100)
    client.stop()
    three.settled()
    # Strangers that other tests were are gone as soon as the leader has read their ends.
    wait_for(lambda: leader.mntr()["zk_learners"] == "2")
    rows = leader.mntr()
    assert rows["zk_server_state"] == "leader"
    assert rows["zk_peer_state"] == "leading - broadcast"
    assert rows["zk_quorum_size"] == "3"
    assert rows["zk_learners"] == rows["zk_synced_followers"] == "2"
    assert rows["zk_synced_observers"] == rows["zk_synced_non_voting_followers"] == "0"
    assert rows["zk_pending_syncs"] == "0"
    assert int(rows["zk_proposal_count"]) >= 2
    assert int(rows["zk_max_proposal_size"]) > 100
    assert int(rows["zk_leader_uptime"]) > 0
    assert "Proposal sizes last/min/max: " in leader.word("srvr")
    for follower in three.followers():
        rows = follower.mntr()
        assert rows["zk_server_state"] == "follower"
        assert rows["zk_peer_state"] == "following - broadcast"
        assert int(rows["zk_learner_proposal_received_count"]) >= 2
        assert "zk_learners" not in rows
        assert "Proposal sizes" not in follower.word("srvr")
        assert follower.word("isro") == "rw"


def test_conf_and_the_configuration_node_tell_the_membership(three: Ensemble) -> None:
    for member in three.members.values():
        client = client_of(f"127.0.0.1:{member.port}")
        data, stat = client.get("/zookeeper/config")
        client.stop()
        lines = data.decode().split("\n")
        assert [line.partition("=")[0] for line in lines] == [
            "server.1", "server.2", "server.3", "version",
        ]  # fmt: skip
        assert lines[-1] == "version=0"
        assert lines[0].endswith(":participant")
        assert (stat.version, stat.data_length) == (-1, len(data))
        conf = member.word("conf")
        assert f"serverId={member.sid}\ninitLimit=" in conf
        assert "electionAlg=3\n" in conf
        assert "peerType=0\n" in conf
        assert conf.endswith(f"membership: \n{data.decode()}")


def test_who_serves_nobody_says_so(tmp_path: Path) -> None:
    with Ensemble(tmp_path, 3) as ensemble:
        alone = ensemble.followers()[0]
        for other in ensemble.others(alone):
            other.kill_all()
        wait_for(lambda: alone.word("isro") == "null")
        assert alone.word("ruok") == "imok"
        for word in ("srvr", "stat", "mntr", "conf", "cons", "dump", "wchs", "dirs", "crst"):
            assert alone.word(word) == NOT_SERVING
        assert not alone.serves()
        ensemble.others(alone)[0].start()
        wait_for(alone.serves)
        assert alone.word("isro") == "rw"
