"""Digests of a leader's tree beside ours: what agrees is silent, what differs is counted."""

from __future__ import annotations

import random
from pathlib import Path
from zlib import crc32

import pytest

from tests.property.stored import create, open_writer, perform, txn
from zkstore.apache.log import with_digest
from zkstore.proto import opcodes as op
from zkstore.records import txn as txns
from zkstore.records.txn import Txn
from zkstore.storage import digests as module
from zkstore.storage.digests import Ascii, Digests
from zkstore.storage.writer import Writer
from zkstore.tree import acl as acls
from zkstore.tree import node as nodes
from zkstore.zab.ready import Proposal, Ready

TXN = txns.encode(txns.Txn(0x100000080, 7, 1, 0, op.DELETE, (b"/a",)))
U64 = (1 << 64) - 1


def test_a_txn_that_bears_the_leaders_digest() -> None:
    digests = Digests()
    digests.compare_txn(TXN, 5, [], {}.get)
    digests.compare_txn(with_digest(TXN, 5), 5, [], {}.get)
    # Sums may be negative here.
    digests.compare_txn(with_digest(TXN, (1 << 64) - 5), -5, [], {}.get)
    assert (digests.mismatches, digests.ascii) == (0, None)


def test_a_digest_that_comes_with_a_ping() -> None:
    digests = Digests()
    assert digests.last() is None
    digests.kept += [(128, 1), (256, -2)]
    assert digests.last() == (256, (1 << 64) - 2)
    digests.compare(128, 1)
    digests.compare(200, 9)  # we did not keep it: nothing to compare with
    digests.compare(256, (1 << 64) - 2)
    assert digests.mismatches == 0
    digests.kept.append((384, 3))
    digests.compare(384, 4)
    digests.compare(384, 4)  # told again at each tick
    assert digests.mismatches == 1
    assert [digests.contradicts(384, told) for told in (3, 4)] == [False, True]
    assert not digests.contradicts(200, 9)


def test_a_tree_that_goes_back() -> None:
    digests = Digests()
    digests.kept += [(128, 1), (256, 2)]
    digests.cut(200)
    assert list(digests.kept) == [(128, 1)]


# A leader whose JVM knows only ASCII


def told(writer: Writer, made: Txn, digest: int) -> None:
    """A txn comes, with the digest that the leader's tree has behind it."""
    batch = [Proposal(made.zxid, with_digest(txns.encode(made), digest & U64))]
    writer.perform(Ready(append=batch))
    writer.perform(Ready(committed=batch))


def hashed_as_ascii(writer: Writer) -> int:
    """The tree's digest in such a JVM, by the definition."""
    total = 0
    with writer.views.open() as view:
        for path, value in [(b"/", view.node(b"/")), *view.descendants(b"/")]:
            assert value is not None
            if path.startswith(b"/zookeeper/"):
                continue
            f = nodes.unpack(value)
            asked = b"" if path == b"/" else path.decode().encode("ascii", "replace")
            stat = nodes._pack_digest(f[6], f[7], f[16], f[8], f[9], f[10], f[3], f[12], f[4])
            total += crc32(asked + (view.data(value) or b"") + stat)
    return total


def look(writer: Writer) -> None:
    for _ in range(1000):
        writer.explain_digests()
        if writer.digests.ascii is None or writer.digests.ascii.complete:
            return
    pytest.fail("there is no end of the tree")


def test_what_a_character_set_explains_is_not_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = open_writer(tmp_path, alone=False)
    perform(writer, create(1, "/é".encode()), create(2, "/é/日本".encode(), b"data" * 1000))
    told(writer, create(3, b"/plain"), 12345)  # all that is known is that it differs
    look(writer)
    assert writer.digests.mismatches == 0
    made = txn(4, op.SET_DATA, "/é/日本".encode(), b"new", 1)
    shadow = open_writer(tmp_path.with_name("shadow"), alone=False)
    perform(shadow, create(1, "/é".encode()), create(2, "/é/日本".encode(), b"data" * 1000))
    perform(shadow, create(3, b"/plain"), made)
    for _ in range(2):
        told(writer, made, hashed_as_ascii(shadow))
        made = made._replace(zxid=5)
        perform(shadow, made)
    assert (writer.digests.mismatches, writer.digests.unexplained) == (0, False)
    assert caplog.text.count("counts '?'") == 1
    told(writer, create(6, b"/more"), hashed_as_ascii(shadow))
    assert (writer.digests.mismatches, writer.digests.unexplained) == (1, True)
    assert "behind txn 0x6 the leader's tree" in caplog.text
    writer.close()
    shadow.close()


def test_it_is_added_up_while_the_tree_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A piece of the tree, a txn, the next piece: at the end it is what one look would find."""
    monkeypatch.setattr(module, "NODES_LOOKED_AT", 12)
    chance = random.Random(1)
    writer = open_writer(tmp_path, alone=False)
    names = ["é", "plain", "日本", "a" * 120, "ö" * 100]
    there: dict[bytes, int] = {b"": 0}  # path → children

    def change(zxid: int) -> Txn:
        path = chance.choice(list(there))
        child = path + b"/" + f"{chance.choice(names)}{zxid}".encode()
        kind = chance.randrange(4)
        if path and kind == 0 and not there[path]:
            del there[path]
            there[path[: path.rindex(b"/")]] -= 1
            return txn(zxid, op.DELETE, path)
        if path and kind == 1:
            return txn(zxid, op.SET_DATA, path, b"x" * chance.randrange(3000), zxid)
        if path and kind == 2 and len(path) < 200:
            subs = [
                (op.CREATE, (child, None, acls.OPEN_ENCODED, False, -1)),
                (op.SET_DATA, (child, b"y", 1)),
                (op.SET_DATA, (path, None, zxid)),
            ]
            there[child] = 0
            there[path] += 1
            return txn(zxid, op.MULTI, subs)
        if len(path) > 200:
            return txn(zxid, op.SET_DATA, path, b"deep", zxid)
        there[child] = 0
        there[path] += 1
        return create(zxid, child, b"z")

    for zxid in range(1, 60):
        perform(writer, change(zxid))
    writer.digests.ascii = found = Ascii()
    for zxid in range(60, 120):
        writer.explain_digests()
        perform(writer, change(zxid))
    assert found.complete
    again = Ascii()
    while not again.complete:
        with writer.env.begin() as lmdb_txn:
            again.look(lmdb_txn)
    assert found.more == again.more != 0
    writer.close()


def test_another_tree_is_looked_at_anew(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, alone=False)
    perform(writer, create(1, b"/a"), create(2, b"/b"))
    told(writer, create(3, b"/c"), 1)
    look(writer)
    told(writer, create(4, b"/d"), 1)
    assert writer.digests.mismatches == 1
    writer.perform(Ready(truncate_after=3))
    assert writer.digests.ascii is None
    writer.digests.replaced()
    assert not writer.digests.unexplained
    writer.close()
