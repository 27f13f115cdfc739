"""Taking txns back leads to the very records that were there: of any txns, batched in any way."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.leader import ANNE, BERT
from tests.property.stored import open_writer, proposals
from tests.property.test_prep_apply import STEPS, Run, Step
from zkstore.errors import CorruptionError, LogTrimmed
from zkstore.proto import opcodes as op
from zkstore.records import txn as txns
from zkstore.records.txn import Txn
from zkstore.storage import rollback, schema, txnlog
from zkstore.storage.writer import Writer
from zkstore.zab.ready import Ready

IDS = (schema.ACL, schema.ACL_HASH)


def txns_of(steps: list[Step]) -> list[Txn]:
    """What a leader makes of the steps, between sessions that come and go."""
    run = Run()
    made: list[Txn] = []
    for number, step in enumerate([("open", ANNE), ("open", BERT), *steps]):
        before = run.leader.zxid
        if step[0] == "open" or (number % 7 == 0 and not run.leader.tree.sessions):
            run.leader.create_session(ANNE if number != 1 else BERT)
        else:
            run.step(cast(Step, step))
        made += [txn for txn in run.leader.waiting if txn.zxid > before]
        run.leader.apply()
        run.expected.clear()
    return made


def batches(made: list[Txn], sizes: list[int]) -> list[list[Txn]]:
    found = []
    at = 0
    while at < len(made):
        size = sizes[len(found) % len(sizes)]
        found.append(made[at : at + size])
        at += size
    return found


def apply(writer: Writer, found: list[list[Txn]], upto: int) -> None:
    for batch in found:
        part = proposals(txn for txn in batch if txn.zxid <= upto)
        if part:
            writer.perform(Ready(append=part))
            writer.perform(Ready(committed=part))


def records(writer: Writer) -> dict[bytes, Any]:
    """Every record but the ACLs; of the last batch all but the ids that are to be given next."""
    env = cast(Any, writer)._env
    with env.begin() as lmdb_txn:
        found = {key: value for key, value in lmdb_txn.cursor() if key[:1] not in IDS}
    last = max(found)
    value = found[last]
    label = txnlog.label_of(schema.zxid_of(last), value)
    label.totals.next_acl_id = label.totals.next_data_id = 0
    found[last] = (
        label, txnlog.previous_of(value), txnlog.last_uses_of(value),
        list(txnlog.entries(schema.zxid_of(last), value)),
    )  # fmt: skip
    return found


def tree(writer: Writer) -> dict[bytes, Any]:
    """The records without the log, which a restart may batch in another way."""
    return {key: value for key, value in records(writer).items() if key[:1] != schema.LOG}


def table_of_acls(writer: Writer) -> dict[bytes, bytes]:
    with cast(Any, writer)._env.begin() as lmdb_txn:
        return {key: value for key, value in lmdb_txn.cursor() if key[:1] in IDS}


@settings(max_examples=60, deadline=None)
@given(
    STEPS.filter(len), st.lists(st.integers(1, 6), min_size=1, max_size=5), st.floats(0, 1),
    st.floats(0, 1),
)  # fmt: skip
def test_back_is_where_it_was(
    steps: list[Step], sizes: list[int], back: float, recovered: float
) -> None:
    made = txns_of(steps)
    upto = int(back * len(made))
    found = batches(made, sizes)
    with tempfile.TemporaryDirectory() as folder:
        writer = open_writer(Path(folder) / "a", segment_bytes=4096)
        kept = open_writer(Path(folder) / "b", segment_bytes=4096)
        apply(writer, found, len(made))
        apply(kept, found, upto)
        next_ids = writer.totals.next_acl_id, writer.totals.next_data_id
        writer.perform(Ready(truncate_after=upto))
        assert records(writer) == records(kept)
        assert table_of_acls(kept).items() <= table_of_acls(writer).items()
        assert (writer.totals.next_acl_id, writer.totals.next_data_id) == next_ids
        assert writer.quotas == kept.quotas
        # And on from there, over a restart that takes them back once more if it is early.
        if recovered < 0.5:
            cast(Any, writer)._replica.abandon()
            writer = open_writer(Path(folder) / "a", segment_bytes=4096)
            assert tree(writer) == tree(kept)
        for one in (writer, kept):
            apply(one, [[txn for txn in batch if txn.zxid > upto] for batch in found], len(made))
        assert writer.totals.digest % (1 << 64) == kept.totals.digest % (1 << 64)
        writer.close()
        kept.close()


def test_a_log_that_is_wrong_about_the_past_is_found_out(tmp_path: Path) -> None:
    """The control of the comparison with the label: an effect that tells another past."""
    writer = open_writer(tmp_path)
    made = txns_of([])
    apply(writer, [[txn] for txn in made], len(made))
    env = cast(Any, writer)._env
    with env.begin(write=True) as lmdb_txn:
        root = lmdb_txn.get(schema.node_key(b"/"))
        effects = [op.NODE_DATA_CHANGED, b"/", 0, 0, b"\1" + root[1:], None]
        later = txns.encode(made[0]._replace(zxid=3))
        lmdb_txn.put(schema.log_key(3), txnlog.encode(2, writer.totals, 0, [later, effects]))
    with env.begin(write=True) as lmdb_txn, pytest.raises(CorruptionError, match="the log says"):
        rollback.roll_back(lmdb_txn, 2)
    cast(Any, writer)._replica.abandon()


def test_more_than_a_snapshot_costs_is_not_taken_back(tmp_path: Path, monkeypatch: Any) -> None:
    writer = open_writer(tmp_path)
    made = txns_of([])
    apply(writer, [[txn] for txn in made], len(made))
    monkeypatch.setattr(rollback, "ROLLBACK_BYTES_MAX", 1)
    with pytest.raises(LogTrimmed, match="bytes of log"):
        writer.perform(Ready(truncate_after=0))
    assert writer.applied == 2
    writer.close()
