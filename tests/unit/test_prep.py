"""tree/prep.py: requests become txns, over the tree and the changes in flight."""

from __future__ import annotations

import pytest

from tests.conformance import requests as r
from tests.property.leader import ANNE, BERT, Leader, frame_of
from zkstore.constants import CLOSE_SESSION_PATHS_BYTES_MAX
from zkstore.errors import Code, RemoteProtocolError
from zkstore.proto import opcodes as op
from zkstore.records.txn import Txn
from zkstore.tree import acl as acls


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


def codes(leader: Leader) -> list[int]:
    """The error codes of all that waits, applied as one batch."""
    return [result[0] for result, _ in leader.apply()]


def test_requests_see_what_was_asked_for_before_them() -> None:
    leader = Leader()
    for request in (
        r.create("/a"), r.create("/a/b"), r.delete("/a"), r.set_data("/a/b", b"x", 0),
        r.set_data("/a/b", b"y", 0), r.delete("/a/b", 1), r.delete("/a"), r.create("/a"),
    ):  # fmt: skip
        leader.request(request)
    assert codes(leader) == [0, 0, Code.NOT_EMPTY, 0, Code.BAD_VERSION, 0, 0, 0]


def test_rights_that_are_changed_count_at_once() -> None:
    leader = Leader()
    leader.request(r.create("/a"))
    leader.request(r.set_acl("/a", [(r.READ, "world", "anyone")], 0))
    leader.request(r.set_data("/a", b""))
    leader.request(r.create("/a/b"))
    assert codes(leader) == [0, 0, Code.NO_AUTH, Code.NO_AUTH]


def test_changes_are_kept_until_their_txn_is_applied() -> None:
    leader = Leader()
    leader.request(r.create("/a"))
    leader.request(r.set_data("/a", b"1"))
    leader.request(r.delete("/a"))
    leader.apply(1)
    assert leader.request(r.set_data("/a", b"")).body == (int(Code.NO_NODE),)
    leader.apply(2)
    assert leader.request(r.create("/a")).type == op.CREATE
    assert codes(leader) == [Code.NO_NODE, 0]


def test_abandoned_changes_never_were() -> None:
    leader = Leader()
    leader.do(r.create("/stays"))
    leader.request(r.create("/a"))
    leader.request(r.create("/e", flags=r.EPHEMERAL))
    leader.request(r.delete("/stays"))
    leader.prep.abandon()
    leader.waiting.clear()
    leader.zxid = 1
    assert leader.close_session(ANNE).body == ([],)
    assert leader.request(r.create("/a")).type == op.CREATE
    assert leader.request(r.set_data("/stays", b"")).type == op.SET_DATA
    assert codes(leader) == [0, 0, 0]


def test_a_failed_multi_burns_no_sequence_number() -> None:
    leader = Leader()
    leader.request(r.create("/q"))
    leader.request(r.multi(r.create("/q/n-", flags=r.SEQUENTIAL), r.check("/none")))
    assert leader.request(r.create("/q/n-", flags=r.SEQUENTIAL)).body[0] == b"/q/n-0000000000"


def test_a_failed_multi_is_logged_with_its_codes() -> None:
    leader = Leader()
    made = leader.request(r.multi(r.create("/a"), r.delete("/none"), r.create("/b")))
    assert made.type == op.MULTI
    assert [kind for kind, _ in made.body[0]] == [op.CREATE, op.ERROR, op.ERROR]
    assert [body for _, body in made.body[0][1:]] == [(-101,), (-2,)]


def test_what_does_not_parse_takes_no_zxid_but_a_multi_does() -> None:
    leader = Leader()
    with pytest.raises(RemoteProtocolError):
        leader.request(r.raw(op.CREATE, b"\0\0"))
    assert leader.zxid == 0
    refused = leader.request(r.raw(op.MULTI, b"\0\0"))
    assert (refused.type, refused.body) == (op.ERROR, (int(Code.MARSHALLING_ERROR),))


def test_after_2147483647_the_sequence_is_apaches() -> None:
    """In flight the counter wraps; applied it stays, as it only ever rises there."""
    leader = Leader()
    leader.do(r.create("/q"))
    leader.tree.commit(
        [Txn(2, ANNE, 1, 0, op.CREATE, (b"/q/x", b"", acls.OPEN_ENCODED, False, 2147483646))]
    )
    leader.zxid = 2
    for number in ("2147483646", "2147483647", "-2147483648", "-2147483647"):
        made = leader.request(r.create("/q/n", flags=r.SEQUENTIAL))
        assert made.body[0] == b"/q/n" + number.encode()
    leader.apply()
    assert leader.do(r.create("/q/n", flags=r.SEQUENTIAL))[0] == Code.NODE_EXISTS


@pytest.mark.parametrize(
    ("count", "listed"), [(CLOSE_SESSION_PATHS_BYTES_MAX // 104, True),
                          (CLOSE_SESSION_PATHS_BYTES_MAX // 104 + 1, False)],
)  # fmt: skip
def test_a_close_lists_the_paths_while_they_fit(count: int, listed: bool) -> None:
    leader = Leader()
    for number in range(count):
        leader.request(r.create(f"/{number:099d}", flags=r.EPHEMERAL))
    leader.apply()
    (paths,) = leader.close_session(ANNE).body
    assert len(paths) == (count if listed else 0)
    assert leader.request(r.create(f"/{0:099d}/child")).body == (int(Code.NO_NODE),)
    leader.apply()
    assert leader.tree.totals.ephemerals == 0


def test_a_close_lists_nothing_when_it_is_told_so() -> None:
    leader = Leader(close_session_paths=False)
    leader.do(r.create("/e", flags=r.EPHEMERAL))
    assert leader.close_session(ANNE).body == ([],)
    leader.apply()
    assert leader.tree.node(b"/e") is None


def test_the_sweep_deletes_what_is_still_due() -> None:
    leader = Leader()
    for request in (
        r.create_container("/c"), r.create_ttl("/t", ttl_ms=1), r.create("/plain"),
        r.create("/e", flags=r.EPHEMERAL), r.create_container("/full"), r.create("/full/child"),
    ):  # fmt: skip
        leader.do(request)
    made = [leader.delete_container(path) for path in (b"/c", b"/t")]
    assert [(txn.type, txn.session_id, txn.cxid) for txn in made] == [
        (op.DELETE_CONTAINER, 0, 0)
    ] * 2
    for path, code in (
        (b"/c", Code.NO_NODE), (b"/full", Code.NOT_EMPTY), (b"/plain", Code.BAD_VERSION),
        (b"/e", Code.BAD_VERSION),
    ):  # fmt: skip
        assert leader.delete_container(path).body == (int(code),)


def test_ttl_nodes_are_unimplemented_unless_they_are_switched_on() -> None:
    leader = Leader(ttl_enabled=False)
    assert leader.do(r.create_ttl("/t", ttl_ms=1))[0] == Code.UNIMPLEMENTED
    assert leader.do(r.create_ttl("/t", ttl_ms=-1, flags=0))[0] == Code.BAD_ARGUMENTS


def test_the_clock_is_read_once_for_each_request() -> None:
    leader = Leader()
    leader.now_ms = 77
    assert leader.request(r.create("/a"), xid=5)[:4] == (1, ANNE, 5, 77)


@pytest.mark.parametrize(
    "made",
    [
        r.create("/e", flags=r.EPHEMERAL),
        r.create2("/e", flags=3),
        r.multi(r.create("/p"), r.create("/e", flags=r.EPHEMERAL)),
    ],
    ids=["create", "create2", "multi"],
)
def test_a_session_that_may_own_nothing(made: r.Request) -> None:
    """Of a local session; what else it asks for is as ever, and so is the next session."""
    leader = Leader()
    why = Code.EPHEMERAL_ON_LOCAL_SESSION
    txn = leader.prep.homeless_request(1, ANNE, frame_of(made), (), why)
    if txn.type == op.MULTI:
        assert [body[0] for kind, body in txn.body[0] if kind == op.ERROR] == [int(why)]
    else:
        assert (txn.type, txn.body) == (op.ERROR, (int(why),))
    plain = leader.prep.homeless_request(2, ANNE, frame_of(r.create("/plain")), (), why)
    assert plain.type == op.CREATE
    assert leader.request(r.create("/e", flags=r.EPHEMERAL), ANNE).type == op.CREATE
