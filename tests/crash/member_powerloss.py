"""Power loss by simulation, of a member of an ensemble: truncation, epochs, trees that come whole.

One run is a seed: some lives of one data directory, each ended by a power loss at a random
operation and begun by recovering what it left. Nobody else is there: the random steps are what a
core could want done.

Invariants (checked after each power loss):
  1. Step by step: log (applied and tail), epochs, `whole` and generation are those after some step,
     no earlier than the last that was done: all of the step, or nothing.
  2. NeverMore: nothing is applied that was not committed before.
  3. TreeOfLog: the tree is that of the log at `applied`, its totals and checksums as well.
Design: `python -m tests.crash.member_powerloss --seeds N --without reflected` takes a guard away;
  then runs must fail, which proves that the simulation can.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest import mock

import lmdb

from tests.crash.simdisk import SimDisk
from tests.property.stored import create, open_writer, proposals, txn
from zkstore.apache.snapshot import Znode
from zkstore.errors import CorruptionError, LogTrimmed, ZkstoreError
from zkstore.proto import opcodes as op
from zkstore.records.txn import Txn
from zkstore.storage import record
from zkstore.storage.env import Replica, storage_dir
from zkstore.storage.generation import Generation
from zkstore.storage.loader import Loader, planted
from zkstore.storage.scrub import scrub
from zkstore.storage.writer import Writer
from zkstore.zab.ready import HardState, Proposal, Ready

LIVES: Final = 4
SEGMENT_BYTES: Final = 4096
# What `--without` can take away: that a checkpoint says which truncations its tree has; the flushes
# of a tree that came in; the journal's record of a truncation; the tail's segments.
GUARDS: Final = ("reflected", "seal", "truncation", "tail")
_CAME: Final = re.compile(r"data\.([2-9]|\d\d)")


class Broken(AssertionError):
    """What survived is not what it must be."""


@dataclass
class Model:
    """What the replica has been told to hold."""

    base: int = 0  # the zxid of the tree that the generation began with
    nodes: frozenset[bytes] = frozenset()  # of that tree
    log: list[int] = field(default_factory=list)  # zxids behind it
    committed: int = 0
    hard: HardState = field(default_factory=lambda: HardState(0, 0))

    @property
    def last(self) -> int:
        return self.log[-1] if self.log else self.base

    def tree(self, applied: int) -> tuple[frozenset[bytes], bytes]:
        """(nodes, data of /counter) at a zxid."""
        done = [zxid for zxid in self.log if zxid <= applied]
        created = {name(zxid) for zxid in done if zxid % 3}
        counted = [zxid for zxid in done if not zxid % 3]
        data = b"%d" % counted[-1] if counted else b"base"
        return self.nodes | created, data


def name(zxid: int) -> bytes:
    return b"n%x" % zxid


def made(zxid: int) -> Txn:
    """A txn that its zxid says all about."""
    if zxid % 3:
        return create(zxid, b"/" + name(zxid), b"x" * (zxid % 7) * 300)
    return txn(zxid, op.SET_DATA, b"/counter", b"%d" % zxid, 1)


class Life:
    """One life: recover, work until power is lost."""

    def __init__(self, root: Path, rng: random.Random, without: str) -> None:
        self._rng = rng
        self._without = without
        self._root = root
        self.disk = SimDisk(root)
        self._flushing = threading.Event()
        self._released = threading.Event()
        self._released.set()
        self.disk.on_map_flush = self._in_map_flush
        self.writer: Writer

    def _in_map_flush(self) -> None:
        self._flushing.set()
        self._released.wait()

    def recover(self, candidates: list[Model]) -> Model:
        """Open what the last power loss left; returns which of the models it is."""
        if self._without == "seal":
            self.disk.lying = lambda path: bool(_CAME.match(path.name))
        self.writer = open_writer(
            self._root, disk=self.disk, segment_bytes=SEGMENT_BYTES, alone=False
        )
        found = self._found()
        for model in reversed(candidates):
            if found == (model.base, model.log, model.hard):
                break
        else:
            wanted = [(model.base, model.log, model.hard) for model in candidates]
            raise Broken(f"found {found}, wanted one of {wanted}")
        model = deepcopy(model)
        self._check(model, found)
        return model

    def _found(self) -> tuple[int, list[int], HardState]:
        writer = self.writer
        with writer.views.open() as view:
            log = [zxid for zxid, _ in view.log(-1)]
            base = 0
            while not view.log_covers(base):
                base = min(z for z in (*log, writer.applied) if z > base)
        with writer.env.begin() as lmdb_txn:
            first = next(value for key, value in lmdb_txn.cursor() if key[:1] == b"z")
        base = int.from_bytes(first[4:12], "big")
        return base, log + [one.zxid for one in writer.tail], writer.hard_state

    def _check(self, model: Model, found: object) -> None:
        writer = self.writer
        if writer.applied > model.committed:
            raise Broken(f"{writer.applied:#x} is applied, committed is {model.committed:#x}")
        with writer.views.open() as view:
            damage = list(scrub(view))
            names = frozenset(view.children(b"/")) - {b"zookeeper", b"counter"}
            value = view.node(b"/counter")
            data = None if value is None else view.data(value)
        if damage:
            raise Broken("; ".join(damage))
        wanted, counter = model.tree(writer.applied)
        if (names, data) != (wanted, counter if model.base else data):
            raise Broken(f"at {writer.applied:#x}: {names ^ wanted} differ, {data!r} {counter!r}")

    # ---- steps

    def work(self, model: Model, steps: int) -> list[Model]:
        """Random steps until power is lost; returns the models of the last step: before, after."""
        self._begin_checkpoint(model)
        self._finish_checkpoint(model)
        actions = (
            self._append, self._append, self._commit, self._commit, self._truncate, self._epochs,
            self._begin_checkpoint, self._finish_checkpoint, self._switch,
        )  # fmt: skip
        before = model
        for _ in range(steps):
            if self.disk.lost:
                break
            before, model = model, deepcopy(model)
            self._rng.choice(actions)(model)
            for thread in threading.enumerate():
                if thread.name == "journal-prepare":
                    thread.join()
        return [before, model]

    def end(self) -> None:
        """Close the zombie that went on after the power loss."""
        self._released.set()
        replica: Replica = self.writer._replica
        replica.abandon()

    def _append(self, model: Model) -> None:
        new = [model.last + 1 + n for n in range(self._rng.randint(1, 4))]
        self._log(model, new)

    def _log(self, model: Model, new: list[int], **more: Any) -> None:
        self.writer.perform(Ready(append=proposals(map(made, new)), **more))
        model.log += new

    def _commit(self, model: Model) -> None:
        tail = list(self.writer.tail)[: self._rng.randint(0, 6)]
        if tail:
            self.writer.perform(Ready(committed=[Proposal(*one) for one in tail]))
            model.committed = max(model.committed, tail[-1].zxid)

    def _truncate(self, model: Model) -> None:
        """A new leader knows less, and goes on in an epoch of its own."""
        cut = self._rng.choice([model.base, *model.log][-6:])
        epoch = max(model.hard.current_epoch, model.last >> 32) + 1
        new = [epoch << 32 | 1 + n for n in range(self._rng.randint(0, 3))]
        hard = HardState(max(epoch, model.hard.accepted_epoch), epoch, model.hard.whole)
        try:
            self.writer.perform(
                Ready(truncate_after=cut, append=proposals(map(made, new)), hard_state=hard)
            )
        except LogTrimmed:
            # Right only for what a tree that came may have held parts of.
            assert model.base and cut < self.writer.applied, (cut, model)
            return
        model.log = [zxid for zxid in model.log if zxid <= cut] + new
        model.committed = min(model.committed, cut)
        model.hard = hard

    def _epochs(self, model: Model) -> None:
        accepted, current, _ = model.hard
        model.hard = HardState(accepted + 1, current + self._rng.randint(0, 1))
        self.writer.perform(Ready(hard_state=model.hard))

    def _begin_checkpoint(self, model: Model) -> None:
        """Begin one, and stop in the middle of its flush."""
        if not self.writer.checkpointing:
            self._flushing.clear()
            self._released.clear()
            self.writer.begin_checkpoint()
            self._flushing.wait()

    def _finish_checkpoint(self, model: Model) -> None:
        self._released.set()
        if self.writer.checkpointing:
            replica: Any = self.writer._replica
            replica.checkpointer._thread.join()
            self.writer.finish_checkpoint()

    def _switch(self, model: Model) -> None:
        """A tree comes in, takes the old one's place, and becomes whole with the next epoch."""
        if self._rng.random() < 0.5:
            return
        self._finish_checkpoint(model)
        replica: Replica = self.writer._replica
        zxid = (model.last >> 32) + 1 << 32 | self._rng.randint(1, 9)
        nodes = frozenset(b"base%d" % self._rng.randrange(1000) for _ in range(5))
        built = Generation(storage_dir(self._root), replica.generation + 1, 1 << 30)
        with closing(Loader(built.directory, lambda _what, _count: None)) as loader:
            loader.nodes(_tree(nodes, zxid, loader), CorruptionError)
            loader.store(built, zxid, pending=True)
        built.seal(self.disk)
        whole = self._rng.random() < 0.5
        self.writer.switch(built.number, zxid=zxid, whole=whole)
        model.base = model.committed = zxid
        model.nodes, model.log = nodes, []
        model.hard = model.hard._replace(whole=whole)


def _tree(nodes: frozenset[bytes], zxid: int, loader: Loader) -> Iterator[Znode]:
    yield from planted(loader.acl_id)
    for one in (b"counter", *nodes):
        yield Znode(b"/" + one, b"base", -1, zxid, zxid, 1, 1, 0, 0, 0, 0, zxid)


@contextmanager
def _without(guard: str) -> Iterator[None]:
    """Take a guard away."""
    if guard == "reflected":
        with mock.patch.object(Writer, "_mark", _mark_nothing_reflected(Writer._mark)):
            yield
    elif guard == "truncation":
        encode = record.encode
        with mock.patch.object(record, "encode", lambda a, c, h=None, t=None: encode(a, c, h)):
            yield
    elif guard == "tail":
        with mock.patch.object(Writer, "_mark", _mark_the_end(Writer._mark)):
            yield
    else:
        with nullcontext():
            yield


def _mark_nothing_reflected(mark: Any) -> Any:
    return lambda self: {**mark(self), "reflected": 0}


def _mark_the_end(mark: Any) -> Any:
    return lambda self: {**mark(self), "position": self._journal.end}


def run(seed: int, folder: Path, *, without: str = "", lives: int = LIVES) -> int:
    """One seed; returns how many txns survived. Raises: Broken, or what the storage raises."""
    rng = random.Random(seed)
    root = folder / "life0"
    root.mkdir(parents=True)
    candidates = [Model()]
    survived = 0
    with _without(without):
        for number in range(lives):
            life = Life(root, rng, without)
            survivor = folder / f"life{number + 1}"
            life.disk.lose_power_at(rng.randint(1, rng.choice((30, 100, 600))), rng, survivor)
            model = life.recover(candidates)
            candidates = [model]
            if not life.disk.lost:
                candidates = life.work(model, rng.randint(1, 80))
            if not life.disk.lost:
                life.disk.lose_power(rng, survivor)
                candidates = candidates[-1:]
            life.end()
            shutil.rmtree(root)
            root = survivor
        life = Life(root, rng, without)
        survived = len(life.recover(candidates).log)
        life.end()
    return survived


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.crash.member_powerloss",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds to run")
    parser.add_argument("--since", type=int, default=0, help="the first seed")
    parser.add_argument("--without", choices=GUARDS, default="", help="take a guard away")
    options = parser.parse_args(argv)
    failed = survived = 0
    for seed in range(options.since, options.since + options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            try:
                survived += run(seed, Path(folder), without=options.without)
            except (AssertionError, ZkstoreError, lmdb.Error) as error:
                failed += 1
                print(f"seed {seed}: {type(error).__name__}: {error}", flush=True)
    print(f"{options.seeds} seeds, {failed} failed, {survived} txns survived")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
