"""Apache's data directory becomes zkstore's: the newest good snapshot, the log replayed over it.

Owns:   the new data directory while it is made; its lock, exclusively.
Invariants:
  1. NeverWrong: the tree is the one that Apache's server had at the zxid that is reported, or there
     is none: checksums, the order of zxids without gaps, and digests (where the server wrote them)
     are checked, and what fails is named with file, offset and zxid.
  2. Whole or nothing: until all of it is flushed the directory holds no data of zkstore.
  3. Bounded: memory does not grow with the tree.
Design: nodes come parents first, so a node's children are counted while it waits on a stack; they
  are sorted by key and appended to a new data file. Then the txns behind the snapshot's zxid are
  applied as the server's own would be, with effects and log, so that history begins with them.
Not here: formats (zkstore/apache), which files there are (apache_files.py).
Source: FileTxnSnapLog.restore, DataTree.deserialize.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import lmdb

from zkstore.apache import log as apache_log
from zkstore.apache import snapshot as apache_snapshot
from zkstore.apache.replay import UNKNOWN_ACL, Replay
from zkstore.errors import CorruptionError, RemoteProtocolError, ZkstoreError
from zkstore.storage import apache_files, checkpoint, scan, schema, txnlog
from zkstore.storage.apache_files import Found
from zkstore.storage.batches import StoredTree, write_batch
from zkstore.storage.disk import Disk
from zkstore.storage.env import FIRST_GENERATION, storage_dir
from zkstore.storage.generation import Generation, building
from zkstore.storage.loader import Loader, planted
from zkstore.storage.lock import DirectoryLock
from zkstore.tree import node as nodes
from zkstore.tree.apply import Batch, Effects, Totals

SNAPSHOTS_TRIED_MAX: Final = 100
# Of a session that owns ephemerals but is in no table: the server closes it, and them, soon.
LOST_SESSION_TIMEOUT_MS: Final = 4000
_BATCH_TXNS: Final = 1000
_BATCH_BYTES: Final = 4 << 20
_COUNTER_MASK: Final = 0xFFFFFFFF
_U64: Final = (1 << 64) - 1

Progress = Callable[[str, int], None]


@dataclass(slots=True)
class Report:
    """What an import found and made."""

    snapshot: str = ""
    snapshot_zxid: int = 0
    logs: list[str] = field(default_factory=list)
    txns: int = 0  # replayed
    zxid: int = 0  # that the tree stands at
    nodes: int = 0
    sessions: int = 0
    ephemerals: int = 0
    digests_checked: int = 0
    warnings: list[str] = field(default_factory=list)


class Logged(NamedTuple):
    """One txn of Apache's log, and where it was."""

    name: str
    offset: int
    split: apache_log.Split


def no_progress(_what: str, _count: int) -> None:
    """Tells nobody."""


def import_apache(
    source: Path,
    data_dir: Path,
    *,
    source_log: Path | None = None,
    log_dir: Path | None = None,
    trust_empty: bool = False,
    accept_digests: bool = False,
    disk: Disk | None = None,
    progress: Progress = no_progress,
) -> Report:
    """Make `data_dir` out of what Apache stored in `source` (its log in `source_log`).

    trust_empty: go on without a snapshot if the log begins with the first txn there ever was.
    accept_digests: a digest that does not match is a warning.
    Raises: CorruptionError naming the damage; DirectoryInUse; ZkstoreError if there is data in
            `data_dir` already.
    """
    disk = disk or Disk()
    with new_directory(data_dir, disk) as generation:
        job = _Import(source, source_log, generation, trust_empty, accept_digests, progress)
        report = job.run()
        epochs = _epochs(source, report.zxid)
        generation.install(
            applied=report.zxid, epochs=epochs, disk=disk,
            log_directory=storage_dir(log_dir or data_dir),
        )  # fmt: skip
        return report


def import_snapshot(
    source: Path, data_dir: Path, *, progress: Progress = no_progress, disk: Disk | None = None
) -> Report:
    """Make `data_dir` out of one snapshot file as it is, without the log: to look into it.

    What a fuzzy one holds half is not made whole. Raises: CorruptionError.
    """
    disk = disk or Disk()
    zxid = apache_files.zxid_of_name(source) or 0
    report = Report(snapshot=str(source), snapshot_zxid=zxid)
    with new_directory(data_dir, disk) as generation:
        with closing(Loader(generation.directory, progress)) as loader:
            seals = _read_snapshot(loader, source)
            report.zxid = max(zxid, seals.digest_zxid or 0, seals.last_zxid or 0)
            loader.store(generation, report.zxid)
        generation.install(
            applied=report.zxid, epochs=(0, 0), disk=disk, log_directory=storage_dir(data_dir)
        )
    return report


@contextmanager
def new_directory(data_dir: Path, disk: Disk) -> Iterator[Generation]:
    """The first generation of a data directory that holds nothing yet; under its lock."""
    directory = storage_dir(data_dir)
    disk.mkdir(directory)
    lock = DirectoryLock(directory)
    try:
        lock.take(exclusive=True)
        if checkpoint.read(directory, disk) is not None:
            raise ZkstoreError(
                f"{directory} holds a tree already; move it away, or choose another --data-dir"
            )
        with building(directory, FIRST_GENERATION) as generation:
            yield generation
    finally:
        lock.release()


def _read_snapshot(loader: Loader, path: Path) -> apache_snapshot.Seals:
    """Read one snapshot; what was read counts only if this returns."""
    with apache_files.open_read(path) as read:
        reader = apache_snapshot.Reader(read, str(path))
        reader.header()
        for session_id, timeout_ms in reader.sessions():
            loader.session(session_id, timeout_ms)
        for acl_id, encoded in reader.acls():
            loader.acl(acl_id, encoded)
        loader.raw_nodes(reader.raw_nodes(), reader.damage)
        return reader.seals()


def _epochs(source: Path, zxid: int) -> tuple[int, int]:
    """(accepted, current): of Apache's files, at least that of the newest txn."""
    found = []
    for name in ("acceptedEpoch", "currentEpoch"):
        path = apache_files.version_dir(source) / name
        try:
            text = path.read_text().strip()
        except FileNotFoundError:
            text = "0"
        if not text.isdecimal():
            raise CorruptionError(f"{path}: not a number: {text[:40]!r}")
        found.append(max(int(text), zxid >> 32))
    return max(found), found[1]


def log_records(logs: list[Found], after: int, warn: Callable[[str], None]) -> Iterator[Logged]:
    """Every txn behind `after`, in order and without a gap.

    Raises: CorruptionError, naming file, offset and zxid.
    """
    started = [i for i, found in enumerate(logs) if found.zxid <= after + 1]
    first = started[-1] if started else 0
    previous = after
    for number, found in enumerate(logs[first:], first):
        is_last = number == len(logs) - 1
        if is_last and found.path.stat().st_size == 0:
            warn(f"{found.path}: empty, passed over (its server stopped while it made the file)")
            return
        with apache_files.open_read(found.path) as read:
            reader = apache_log.Reader(read, str(found.path))
            for record in reader.records():
                zxid = record.zxid
                if zxid <= previous:
                    continue  # before the snapshot, or written twice after a restart
                if not _follows(zxid, previous):
                    raise CorruptionError(
                        f"{found.path}: offset {record.offset}: zxid {zxid:#x} comes behind"
                        f" {previous:#x}: txns between them are missing"
                    )
                try:
                    split = apache_log.split(record.payload)
                except RemoteProtocolError as e:
                    raise CorruptionError(
                        f"{found.path}: offset {record.offset}: zxid {zxid:#x}: {e}"
                    ) from e
                yield Logged(str(found.path), record.offset, split)
                previous = zxid
            if reader.torn:
                warn(
                    f"{found.path}: offset {reader.end}: {reader.torn};"
                    f" the log ends with zxid {previous:#x}"
                )


def _follows(zxid: int, previous: int) -> bool:
    """The next of the same epoch, or among the first of a later one."""
    return zxid == previous + 1 or (zxid >> 32 > previous >> 32 and zxid & _COUNTER_MASK <= 1)


class _Import:
    """One import into a generation."""

    def __init__(
        self,
        source: Path,
        source_log: Path | None,
        generation: Generation,
        trust_empty: bool,
        accept_digests: bool,
        progress: Progress,
    ) -> None:
        self._source = source
        self._files = apache_files.list_files(source, source_log)
        self._generation = generation
        self._trust_empty = trust_empty
        self._accept_digests = accept_digests
        self._progress = progress
        self._report = Report()
        self._foreign_names = False  # a path beyond ASCII: its digest depends on Java's charset
        self._unknown_acls: list[bytes] = []
        self._totals = Totals()
        self._log_bytes = 0

    def run(self) -> Report:
        seals = self._load_newest()
        self._replay(seals)
        self._finish()
        return self._report

    # ---- the snapshot

    def _load_newest(self) -> apache_snapshot.Seals:
        """Load the newest snapshot that is whole."""
        report = self._report
        for zxid, path in self._files.snapshots[::-1][:SNAPSHOTS_TRIED_MAX]:
            with closing(self._loader()) as loader:
                try:
                    seals = _read_snapshot(loader, path)
                except CorruptionError as e:
                    report.warnings.append(f"{e}; the snapshot before it is tried")
                    continue
                self._store(loader, zxid)
            report.snapshot, report.snapshot_zxid = str(path), zxid
            return seals
        if report.warnings:
            raise CorruptionError("no snapshot is whole: " + "; ".join(report.warnings))
        if not self._files.logs:
            raise CorruptionError(f"{self._source} holds no snapshot.* and no log.* of ZooKeeper")
        if not self._trust_empty:
            raise CorruptionError(
                f"{self._source} holds logs but no snapshot; if the log is complete from its first"
                " txn on, say so with --trust-empty"
            )
        with closing(self._loader()) as loader:
            loader.nodes(planted(loader.acl_id), CorruptionError)
            self._store(loader, 0)
        return apache_snapshot.Seals(0, None, 0)

    def _loader(self) -> Loader:
        return Loader(self._generation.directory, self._progress)

    def _store(self, loader: Loader, zxid: int) -> None:
        loader.store(self._generation, zxid)
        self._totals = loader.totals
        self._recount_quotas(zxid)
        self._foreign_names = loader.foreign_names
        self._unknown_acls = loader.unknown_acls

    def _recount_quotas(self, zxid: int) -> None:
        """As Apache when it has read a snapshot (DataTree.setupQuota): the usage in a fuzzy one is
        of another moment than the nodes that it counts."""
        with self._generation.write() as write_txn:
            batch = Batch(StoredTree(write_txn), self._totals)
            batch.recount_quotas()
            write_batch(write_txn, batch)
            value = txnlog.encode(zxid, self._totals, 0, [])
            write_txn.put(schema.log_key(zxid), value)

    # ---- the log

    def _replay(self, seals: apache_snapshot.Seals) -> None:
        """Apply every txn behind the snapshot."""
        report = self._report
        report.zxid = report.snapshot_zxid
        fuzzy_upto = seals.digest_zxid if seals.digest_zxid is not None else 0
        if seals.digest is not None and 0 < fuzzy_upto <= report.zxid:
            self._compare(report.snapshot, 0, fuzzy_upto, seals.digest, self._totals.digest)
        pending: list[Logged] = []
        size = 0
        for one in log_records(self._files.logs, report.zxid, report.warnings.append):
            if not report.logs or report.logs[-1] != one.name:
                report.logs.append(one.name)
            pending.append(one)
            size += len(one.split.encoded)
            if len(pending) >= _BATCH_TXNS or size > _BATCH_BYTES:
                self._commit(pending, seals, fuzzy_upto)
                pending = []
                size = 0
        if pending:
            self._commit(pending, seals, fuzzy_upto)
        if fuzzy_upto > report.zxid:
            raise CorruptionError(
                f"{report.snapshot}: was written up to zxid {fuzzy_upto:#x}, and the log ends with"
                f" {report.zxid:#x}: the txns between them are missing, so the tree cannot be"
                " made whole"
            )

    def _commit(self, pending: list[Logged], seals: apache_snapshot.Seals, fuzzy_upto: int) -> None:
        """One LMDB transaction with all of them, as the server's own batches."""
        report = self._report
        entries: list[bytes | Effects] = []
        with self._generation.write() as write_txn:
            batch = Replay(StoredTree(write_txn), self._totals)
            for one in pending:
                split = one.split
                txn = split.txn
                _, effects = batch.apply(txn)
                entries += (split.encoded, effects)
                if not all(path.isascii() for path in effects[1::6] if isinstance(path, bytes)):
                    self._foreign_names = True
                if txn.zxid == fuzzy_upto and seals.digest is not None:
                    self._compare(report.snapshot, 0, txn.zxid, seals.digest, batch.totals.digest)
                if split.digest is not None and txn.zxid >= fuzzy_upto:
                    self._compare(one.name, one.offset, txn.zxid, split.digest, batch.totals.digest)
            last = pending[-1].split.txn.zxid
            write_batch(write_txn, batch)
            value = txnlog.encode(
                report.zxid, self._totals, self._log_bytes, entries, batch.last_uses
            )
            write_txn.put(schema.log_key(last), value, append=True)
        self._log_bytes = txnlog.log_bytes_of(value)
        report.zxid = last
        report.txns += len(pending)
        self._progress("txns replayed", report.txns)
        self._generation.drop_pages()

    def _compare(self, name: str, offset: int, zxid: int, expected: int, found: int) -> None:
        """A digest that Apache wrote down with the one of the tree here."""
        report = self._report
        if report.digests_checked < 0:
            return
        report.digests_checked += 1
        if expected == found & _U64:
            return
        what = (
            f"{name}: offset {offset}: at zxid {zxid:#x} the tree's digest is {found & _U64:#x},"
            f" Apache's server had {expected:#x}"
        )
        if self._foreign_names:
            report.warnings.append(
                f"{what}; there are names beyond ASCII, whose digests depend on the character set"
                " of Apache's server, so digests are not compared from here on"
            )
        elif self._accept_digests:
            report.warnings.append(f"{what}; accepted")
        else:
            raise CorruptionError(f"{what} (--accept-digests goes on all the same)")
        report.digests_checked = -1

    # ---- the end

    def _finish(self) -> None:
        report = self._report
        report.digests_checked = max(report.digests_checked, 0)
        with self._generation.write() as write_txn:
            get = scan.getter(write_txn)
            for path in self._unknown_acls:
                value = get(schema.node_key(path))
                if value is not None and nodes.unpack(value)[nodes.ACL_ID] == UNKNOWN_ACL:
                    raise CorruptionError(
                        f"{report.snapshot}: node {path.decode(errors='replace')}: its ACL is not"
                        " in the snapshot's table, and no txn in the log says it"
                    )
            add_lost_sessions(write_txn, report.warnings.append)
            report.sessions = sum(1 for _ in scan.keys(write_txn, schema.SESSION))
        report.nodes = self._totals.nodes
        report.ephemerals = self._totals.ephemerals


def add_lost_sessions(write_txn: lmdb.Transaction, warn: Callable[[str], None]) -> None:
    """Owners of ephemerals that are in no table get an entry, so that the server closes them."""
    get = scan.getter(write_txn)
    owners = dict.fromkeys(schema.session_of(key) for key in scan.keys(write_txn, schema.EPHEMERAL))
    for owner in owners:
        key = schema.session_key(owner)
        if get(key) is None:
            write_txn.put(key, LOST_SESSION_TIMEOUT_MS.to_bytes(4, "big", signed=True))
            warn(
                f"session {owner & _U64:#x} owns ephemerals but is not among the sessions; it is"
                f" closed {LOST_SESSION_TIMEOUT_MS} ms after the server's start"
            )
