"""tree/prep.py: requests become txns, over the tree and the changes in flight."""

from __future__ import annotations

from tests.conformance import requests as r
from tests.property.leader import ANNE, BERT, Leader
from zkstore.errors import Code
from zkstore.proto import opcodes as op


def test_a_node_made_and_deleted_in_a_failed_multi_is_nobodys() -> None:
    """The session could not be closed after it: NoNode came out of close_session."""
    leader = Leader()
    leader.request(
        r.multi(r.create("/e", flags=r.EPHEMERAL), r.delete("/e"), r.check("/none")), ANNE
    )
    assert leader.close_session(ANNE).body == ([],)
    leader.apply()


def test_a_failed_multi_gives_ephemerals_back_to_their_owner() -> None:
    leader = Leader()
    leader.do(r.create("/e", flags=r.EPHEMERAL), ANNE)
    leader.request(
        r.multi(r.delete("/e"), r.create("/e", flags=r.EPHEMERAL), r.check("/none")), BERT
    )
    assert leader.close_session(BERT).body == ([],)
    assert leader.close_session(ANNE).body == ([b"/e"],)


def test_close_lists_what_the_changes_in_flight_leave_to_the_session() -> None:
    leader = Leader()
    leader.do(r.create("/stays", flags=r.EPHEMERAL), ANNE)
    leader.do(r.create("/goes", flags=r.EPHEMERAL), ANNE)
    leader.do(r.create("/taken", flags=r.EPHEMERAL), ANNE)
    leader.request(r.delete("/goes"), BERT)
    leader.request(r.delete("/taken"), BERT)
    leader.request(r.create("/taken", flags=r.EPHEMERAL), BERT)
    leader.request(r.create("/new", flags=r.EPHEMERAL), ANNE)
    closed = leader.close_session(ANNE)
    assert closed.body == ([b"/stays", b"/new"],)
    refused = leader.request(r.create("/new/child"), BERT)
    assert (refused.type, refused.body) == (op.ERROR, (int(Code.NO_NODE),))
    leader.apply()
    assert leader.tree.ephemerals(BERT) == [b"/taken"]
