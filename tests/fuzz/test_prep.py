"""The commit side alone: a damaged frame becomes a txn or RemoteProtocolError, and applies."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz import frames
from tests.fuzz.machine import CLOCK_MS
from zkstore.commit.process import Opened, open_writer
from zkstore.commit.source import TreeSource
from zkstore.errors import RemoteProtocolError
from zkstore.proto import opcodes as op
from zkstore.records import txn as txns
from zkstore.records.txn import Txn
from zkstore.settings import Settings
from zkstore.storage.disk import Disk
from zkstore.tree.auth import Identity, Providers
from zkstore.tree.prep import Prep
from zkstore.zab.ready import Proposal, Ready

BATCHES = 150
SESSIONS = (0x100, 0x101, 0x102)
IDENTITIES: tuple[tuple[Identity, ...], ...] = (
    ((b"ip", b"127.0.0.1"),),
    ((b"ip", b"127.0.0.1"), (b"digest", b"user:hash")),
    ((b"super", b""),),
)
# What Loop hands to prep; the others it answers by itself.
PREPARED = op.WRITES - {op.SYNC, op.CLOSE_SESSION, op.RECONFIG}


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    settings = Settings(data_dir=str(tmp_path), force_sync=False, disk_reserve_bytes=0)
    opened = open_writer(settings, Disk())
    yield opened
    opened.replica.abandon()
    opened.reserve.close()


class Leader:
    """Prep and writer, batch by batch."""

    def __init__(self, opened: Opened) -> None:
        self.writer = opened.writer
        self.source = TreeSource(opened.writer)
        self.prep = Prep(
            self.source, Providers.of(Settings()), ttl_enabled=True, close_session_paths=True,
            now_ms=lambda: CLOCK_MS,
        )  # fmt: skip
        self.zxid = self.writer.applied

    def batch(self, rng: random.Random) -> list[Txn]:
        """Some damaged writes and the end of a session now and then, prepared over the tree."""
        made = []
        with self.source:
            for _ in range(rng.randrange(1, 12)):
                session = rng.choice(SESSIONS)
                if rng.random() < 0.1:
                    made.append(self.prep.close_session(self.zxid + 1, session, 1))
                    self.zxid += 1
                    continue
                frame = frames.payload(frames.write(rng), 1)
                if rng.random() < 0.4:
                    frame = frames.damaged(rng, frame)
                if len(frame) < 8 or int.from_bytes(frame[4:8], "big", signed=True) not in PREPARED:
                    continue
                try:
                    txn = self.prep.request(self.zxid + 1, session, frame, rng.choice(IDENTITIES))
                except RemoteProtocolError:
                    continue
                assert isinstance(txn, Txn)
                self.zxid += 1
                made.append(txn)
        return made

    def apply(self, made: list[Txn]) -> None:
        """Log and apply, as the loop does."""
        proposals = [Proposal(txn.zxid, txns.encode(txn)) for txn in made]
        self.writer.perform(Ready(append=proposals, committed=proposals))
        self.prep.applied(self.writer.applied)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_writes(opened: Opened, seed: int) -> None:
    rng = random.Random(seed)
    leader = Leader(opened)
    kinds = set()
    for _ in range(BATCHES):
        made = leader.batch(rng)
        if made:
            leader.apply(made)
            kinds |= {txn.type for txn in made}
    assert {op.ERROR, op.CREATE, op.MULTI, op.CLOSE_SESSION} <= kinds
    assert leader.prep._changes == {}


def test_batches_that_are_withdrawn(opened: Opened) -> None:
    """Nothing of a batch that could not be logged is left to the next one."""
    rng = random.Random(4)
    leader = Leader(opened)
    for _ in range(BATCHES):
        made = leader.batch(rng)
        if made and rng.random() < 0.5:
            leader.apply(made)
        else:
            leader.prep.abandon()
            leader.zxid = leader.writer.applied
    assert leader.prep._changes == {}


def test_control_prep_that_trusts_its_client(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fuzz finds an operation that fails otherwise than with a protocol error."""
    prep_delete = Prep._prep_delete

    def trusting(self: Prep, zxid: int, request: object, identities: object) -> object:
        path = request[0]  # type: ignore[index]
        path.decode("ascii")
        return prep_delete(self, zxid, request, identities)  # type: ignore[arg-type]

    monkeypatch.setattr(Prep, "_prep_delete", trusting)
    rng = random.Random(0)
    leader = Leader(opened)
    with pytest.raises((AttributeError, UnicodeDecodeError)):
        for _ in range(BATCHES):
            leader.batch(rng)
            leader.prep.abandon()
