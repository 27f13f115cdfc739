"""tree/quota.py: texts, prefixes, and the usage that tree/apply.py keeps."""

from __future__ import annotations

import pytest

from tests.property.dict_tree import DictTree
from tests.unit.test_apply import commit, create, delete
from zkstore.errors import Code, ZooKeeperError
from zkstore.proto import opcodes as op
from zkstore.records.txn import Txn
from zkstore.tree import node as nodes
from zkstore.tree import quota

STATS = b"/zookeeper/quota/a/zookeeper_stats"
LIMITS = b"/zookeeper/quota/a/zookeeper_limits"


def set_data(zxid: int, path: bytes, data: bytes | None, version: int = 1) -> Txn:
    return Txn(zxid, 1, 1, zxid * 10, op.SET_DATA, (path, data, version))


def _limited(limits: bytes = b"count=3,bytes=20") -> DictTree:
    tree = DictTree()
    commit(
        tree,
        create(1, b"/a", b"12345"),
        create(2, b"/a/b"),
        create(3, b"/zookeeper/quota/a"),
        create(4, LIMITS, limits),
        create(5, STATS),
    )
    return tree


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        (b"", {}),
        (b"count=3,bytes=-1", {b"count": 3, b"bytes": -1}),
        (
            b"count=3,bytes=20=;byteHardLimit=30;countHardLimit=4",
            {b"count": 3, b"bytes": 20, b"byteHardLimit": 30, b"countHardLimit": 4},
        ),
        (b"count==,bytes=+2", {b"count": -1, b"bytes": 2}),
        (b"count=9223372036854775807", {b"count": (1 << 63) - 1}),
    ],
)
def test_text_is_read_as_java_reads_it(text: bytes, numbers: quota.Numbers) -> None:
    assert quota.parse(text) == numbers


@pytest.mark.parametrize(
    "text",
    [b"garbage", b"count", b"count=", b"count=x", b"count=1.5", b"count= 1", b",count=1", b"\xff",
     b"count=9223372036854775808", b"count=-9223372036854775809", b"count=" + b"9" * 10_000],
)  # fmt: skip
def test_other_text_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="name=number"):
        quota.parse(text)


def test_text_is_written_so_that_old_parsers_stop_in_time() -> None:
    assert quota.encode({b"bytes": 5}) == b"count=-1,bytes=5"
    numbers = {b"countHardLimit": 4, b"count": 3, b"bytes": 20, b"byteHardLimit": 30}
    assert quota.encode(numbers) == b"count=3,bytes=20=;byteHardLimit=30;countHardLimit=4"


def test_the_longest_prefix_counts() -> None:
    prefixes = frozenset((b"/a", b"/a/b/c", b"/z"))
    found = [quota.covering(prefixes, path) for path in (b"/a", b"/a/b", b"/a/b/c/d", b"/ab", b"/")]
    assert found == [b"/a", b"/a", b"/a/b/c", b"", b""]


def test_a_new_usage_node_is_filled_in_and_then_kept() -> None:
    tree = _limited()
    assert tree.data(STATS) == b"count=2,bytes=5"
    before = nodes.unpack(tree.nodes[STATS])
    commit(tree, create(6, b"/a/c", b"1234567890"), set_data(7, b"/a", b"1"))
    assert tree.data(STATS) == b"count=3,bytes=11"
    commit(tree, delete(8, b"/a/c"), set_data(9, b"/a", None, 2))
    assert tree.data(STATS) == b"count=2,bytes=0"
    after = nodes.unpack(tree.nodes[STATS])
    assert [after[f] for f in (nodes.VERSION, nodes.MZXID, nodes.MTIME_MS, nodes.PZXID)] == [
        before[f] for f in (nodes.VERSION, nodes.MZXID, nodes.MTIME_MS, nodes.PZXID)
    ]


def test_what_one_batch_did_counts_when_it_makes_the_usage_node() -> None:
    tree = DictTree()
    commit(tree, create(1, b"/a", b"12"), create(2, b"/a/gone"), create(3, b"/a/b", b"345"))
    commit(
        tree,
        create(4, b"/zookeeper/quota/a"),
        create(5, LIMITS, b"count=3,bytes=20"),
        delete(6, b"/a/gone"),
        create(7, b"/a/b/c", b"6"),
        set_data(8, b"/a/b", b""),
        create(9, STATS),
        create(10, b"/a/d", b"7"),
    )
    assert tree.data(STATS) == b"count=4,bytes=4"


def test_usage_changes_are_effects_that_no_watch_sees() -> None:
    tree = _limited()
    [(_, effects)] = tree.commit([create(6, b"/a/c", b"1")])
    kinds = {effects[at + 1]: effects[at] for at in range(0, len(effects), 6)}
    assert kinds == {b"/a/c": op.NODE_CREATED, STATS: 0}


def test_without_limits_or_with_text_not_understood_nothing_is_counted() -> None:
    tree = _limited()
    commit(tree, delete(6, LIMITS), create(7, b"/a/c"))
    assert tree.data(STATS) == b"count=2,bytes=5"
    commit(tree, create(8, LIMITS), set_data(9, STATS, b"garbage"), create(10, b"/a/d"))
    assert tree.data(STATS) == b"garbage"
    commit(tree, set_data(11, STATS, b"x" * 5000, 2), create(12, b"/a/e"))
    assert tree.data(STATS) == b"x" * 5000


def test_limits_of_the_root_are_ignored() -> None:
    tree = DictTree()
    root = b"/zookeeper/quota"
    commit(tree, create(1, root + b"/zookeeper_limits", b"count=1"))
    commit(tree, create(2, root + b"/zookeeper_stats"), create(3, b"/a"))
    assert quota.registered(tree) == frozenset()
    assert tree.data(root + b"/zookeeper_stats") == b""


def _enforcer(tree: DictTree) -> quota.Enforcer:
    return quota.Enforcer(tree, lambda: quota.registered(tree))


def test_soft_limits_are_told_of_and_hard_ones_refuse() -> None:
    enforcer = _enforcer(_limited(b"count=2,bytes=5"))
    enforcer.check(b"/a/c", 1, 1)
    assert enforcer.exceeded == [
        ("a", "/a: count 3, soft limit 2", False),
        ("a", "/a: bytes 6, soft limit 5", False),
    ]
    enforcer = _enforcer(_limited(b"count=1,bytes=-1=;byteHardLimit=6;countHardLimit=3"))
    enforcer.check(b"/a/c", 1, 1)
    assert not enforcer.exceeded
    for size, count in ((2, 0), (0, 2)):
        with pytest.raises(ZooKeeperError) as refused:
            enforcer.check(b"/a/c", size, count)
        assert refused.value.code == Code.QUOTA_EXCEEDED
    assert [one[1] for one in enforcer.exceeded] == [
        "/a: bytes 7, hard limit 6", "/a: count 4, hard limit 3",
    ]  # fmt: skip


def test_limits_not_understood_refuse_what_they_would_judge() -> None:
    enforcer = _enforcer(_limited(b"garbage"))
    with pytest.raises(ZooKeeperError) as refused:
        enforcer.check(b"/a/c", 1, 1)
    assert refused.value.code == Code.MARSHALLING_ERROR
    enforcer.check(b"/elsewhere", 1, 1)
    assert len(enforcer.exceeded) == 1


def test_gauges_are_summed_by_namespace() -> None:
    tree = _limited(b"count=3,bytes=20=;countHardLimit=4")
    commit(
        tree,
        create(6, b"/zookeeper/quota/a/b"),
        create(7, b"/zookeeper/quota/a/b/zookeeper_limits", b"count=100,bytes=-1"),
        create(8, b"/zookeeper/quota/a/b/zookeeper_stats"),
        create(9, b"/zookeeper/quota/x"),
        create(10, b"/zookeeper/quota/x/zookeeper_limits", b"garbage"),
    )
    assert quota.gauges(tree) == {
        "a_quota_count_limit_per_namespace": 104,
        "a_quota_bytes_limit_per_namespace": 19,
        "a_quota_count_usage_per_namespace": 3,
        "a_quota_bytes_usage_per_namespace": 5,
    }
