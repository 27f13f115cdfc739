"""A tree that differs from the others', silently: it is noticed, and who can be known to be wrong
heals."""

from __future__ import annotations

import re
from pathlib import Path

from tests.ensemble.ensemble import Ensemble, Member
from tests.ensemble.test_failover import agree, writes_on
from tests.ensemble.writers import Writer, client_of
from tests.invariants.replica import wait_for
from tests.property.stored import open_writer
from zkstore.storage import schema, txnlog
from zkstore.tree import node as nodes

PLANTED = "/writer/n00010"
_OUTVOTED = "a quorum has another tree than this replica"
_IS_BACK = "this replica has all data again, and takes part in votes"


def plant(member: Member) -> None:
    """Another content of one node, as a bug might have left it: all checksums are right."""
    path = PLANTED.encode()
    writer = open_writer(member.data_dir, alone=False)
    with writer.env.begin(write=True) as lmdb_txn:
        key = schema.node_key(path)
        old = lmdb_txn.get(key)
        f = nodes.unpack(old)
        new, _ = nodes.with_data(
            old, f, path, b"planted", f[nodes.MZXID], f[nodes.MTIME_MS], f[nodes.VERSION]
        )
        lmdb_txn.put(key, new)
        totals = writer.totals
        totals.digest += nodes.digest_of(new) - nodes.digest_of(old)
        label = schema.log_key(writer.applied)
        value = lmdb_txn.get(label)
        before = txnlog.log_bytes_of(value) - len(value)
        entries = [part for pair in txnlog.entries(writer.applied, value) for part in pair]
        uses = txnlog.last_uses_of(value)
        lmdb_txn.put(
            label, txnlog.encode(txnlog.previous_of(value), totals, before, entries, uses)
        )
    writer.changed_bytes += 1
    writer.close()


def content(member: Member) -> bytes:
    client = client_of(f"127.0.0.1:{member.port}")
    try:
        data, _ = client.get(PLANTED)
        assert isinstance(data, bytes)
        return data
    finally:
        client.stop()


def mismatches(member: Member) -> int:
    found = re.search(r"^zk_digest_mismatches_count\s+(\d+)", member.word("mntr"), re.MULTILINE)
    return int(found[1]) if found else -1


def replant(member: Member) -> None:
    """It stops, and stands again with a tree that is not the others'."""
    assert member.terminate() == 0
    member.kill_all()
    plant(member)


def test_a_follower_that_is_outvoted_takes_the_others_tree(tmp_path: Path) -> None:
    """While there are but two, who is wrong cannot be known: it is counted, and both go on."""
    with Ensemble(tmp_path, 3) as ensemble:
        leader = ensemble.leader()
        wrong, third = ensemble.others(leader)
        with Writer(ensemble.hosts, "writer") as writer:
            writes_on(writer, 20)
        ensemble.settled()
        replant(wrong)
        wrong.start()
        wait_for(lambda: wrong.mode)
        third.kill_all()
        with Writer(ensemble.hosts, "again") as writer:
            wait_for(lambda: mismatches(wrong) > 0)
            assert _OUTVOTED not in wrong.output
            assert content(wrong) == b"planted"
            third.start()
            wait_for(lambda: _OUTVOTED in wrong.output and _IS_BACK in wrong.output)
            wait_for(lambda: wrong.mode == "follower")
        agree(ensemble, writer)
        assert content(wrong) == b""
        assert mismatches(third) == mismatches(leader) == 0


def test_a_leader_that_is_outvoted_gives_up_and_takes_the_others_tree(tmp_path: Path) -> None:
    with Ensemble(tmp_path, 3) as ensemble:
        first, second, last = ensemble.members.values()
        with Writer(ensemble.hosts, "writer") as writer:
            writes_on(writer, 20)
        ensemble.settled()
        first.kill_all()
        second.kill_all()
        replant(last)
        last.launch()
        first.launch()
        last.await_ready()
        first.await_ready()
        assert ensemble.leader([first, last]) is last, "the greatest id of those who are as far"
        second.start()
        with Writer(ensemble.hosts, "again") as writer:
            wait_for(lambda: _OUTVOTED in last.output and _IS_BACK in last.output)
            wait_for(lambda: last.mode == "follower")
        agree(ensemble, writer)
        assert content(last) == b""
