"""The log's txns one by one, wherever they are: a zkstore directory, live or stopped, or Apache's.

Invariants:
  1. One pass, in the order of zxids; memory does not grow with the log.
  2. Damage raises CorruptionError, which names file, offset and zxid.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from zkstore.apache import log as apache_log
from zkstore.errors import CorruptionError, DirectoryInUse, RemoteProtocolError, ZkstoreError
from zkstore.proto import opcodes as op
from zkstore.records import txn as txns
from zkstore.records.txn import Body, Txn
from zkstore.storage import apache_files, checkpoint, txnlog
from zkstore.storage.env import Reader, open_reader, storage_dir
from zkstore.storage.hotcopy import live_batches
from zkstore.storage.offline import Offline
from zkstore.tree import acl as acls

from .common import is_or_below, text, warn, zxid_of

NAMES: Final = {
    op.CREATE: "create", op.CREATE2: "create2", op.CREATE_CONTAINER: "createContainer",
    op.CREATE_TTL: "createTTL", op.DELETE: "delete", op.DELETE_CONTAINER: "deleteContainer",
    op.SET_DATA: "setData", op.SET_ACL: "setACL", op.RECONFIG: "reconfig", op.CHECK: "check",
    op.MULTI: "multi", op.CREATE_SESSION: "createSession", op.CLOSE_SESSION: "closeSession",
    op.ERROR: "error",
}  # fmt: skip
U64: Final = 0xFFFFFFFFFFFFFFFF


class Entry(NamedTuple):
    """One txn of a log."""

    txn: Txn
    size: int  # bytes as it is stored, without effects
    digest: int | None  # that Apache wrote behind it
    place: str  # "file: offset n", or the batch

    @property
    def name(self) -> str:
        return NAMES.get(self.txn.type, str(self.txn.type))


def is_zkstore(source: Path) -> bool:
    return (storage_dir(source) / checkpoint.NAME).exists()


def apache_logs(source: Path) -> list[apache_files.Found]:
    """The log files that a path names. Raises: ZkstoreError if there are none."""
    if source.is_file():
        return [apache_files.Found(apache_files.zxid_of_name(source) or 0, source)]
    if not source.is_dir():
        raise ZkstoreError(f"{source}: no such file or directory")
    logs = apache_files.list_files(source).logs
    if not logs:
        raise ZkstoreError(f"{source} holds neither zkstore's data nor Apache's log.*")
    return logs


def entries(source: Path, log_dir: Path | None = None, after: int = -1) -> Iterator[Entry]:
    """Every txn of a log behind `after`."""
    if not is_zkstore(source):
        for found in apache_logs(source):
            yield from (one for one in apache_entries(found.path) if one.txn.zxid > after)
        return
    try:
        offline = Offline(source, log_dir)
    except DirectoryInUse:
        with contextlib.closing(open_reader(source)) as reader:
            yield from live_entries(reader, after)
        return
    with offline:
        for zxid, value in offline.batches(after + 1):
            yield from (one for one in _of_batch(zxid, value) if one.txn.zxid > after)
        for encoded, _ in offline.tail:
            txn = txns.decode(encoded)
            if txn.zxid > after:
                yield Entry(txn, len(encoded), None, "journal")
        if offline.journal_damage:
            raise CorruptionError(offline.journal_damage)


def live_entries(reader: Reader, after: int) -> Iterator[Entry]:
    """The log of a live server, up to its end."""
    for zxid, value in live_batches(reader.env, reader.path, after):
        yield from (one for one in _of_batch(zxid, value) if one.txn.zxid > after)


def _of_batch(zxid: int, value: bytes) -> Iterator[Entry]:
    place = f"batch {zxid:#x}"
    for encoded, _ in txnlog.entries(zxid, value):
        yield Entry(txns.decode(encoded), len(encoded), None, place)


def apache_entries(path: Path) -> Iterator[Entry]:
    """The txns of one of Apache's log files."""
    with apache_files.open_read(path) as read:
        reader = apache_log.Reader(read, str(path))
        for record in reader.records():
            try:
                split = apache_log.split(record.payload)
            except RemoteProtocolError as e:
                raise reader.damage(record.offset, f"zxid {record.zxid:#x}: {e}") from e
            place = f"{path}: offset {record.offset}"
            yield Entry(split.txn, len(split.encoded), split.digest, place)
        if reader.torn:
            warn(f"{path}: offset {reader.end}: {reader.torn}; the log ends before it")


# ---- what a txn touches, and how it is shown


def touched(kind: int, body: Body) -> Iterator[bytes]:
    """The paths that a txn names."""
    if kind == op.MULTI:
        for sub_kind, sub in body[0]:
            yield from touched(sub_kind, sub)
    elif kind == op.CLOSE_SESSION:
        yield from body[0]
    elif kind not in (op.CREATE_SESSION, op.ERROR):
        yield body[0]


def line(entry: Entry) -> str:
    """One line for people; data is counted, not shown."""
    txn = entry.txn
    return (
        f"{when(txn.time_ms)}  zxid {txn.zxid:#x}  session {txn.session_id & U64:#x}"
        f"  cxid {txn.cxid & 0xFFFFFFFF:#x}  {shown(txn.type, txn.body)}\n"
    )


def when(time_ms: int) -> str:
    """A time as ISO 8601 in UTC, with milliseconds."""
    try:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time_ms // 1000))
    except (OverflowError, ValueError, OSError):
        return str(time_ms)
    return f"{stamp}.{time_ms % 1000:03d}Z"


def _data(data: bytes | None) -> str:
    return "null" if data is None else f"{len(data)} bytes"


def shown(kind: int, body: Body) -> str:
    name = NAMES.get(kind, str(kind))
    if kind in op.CREATES:
        flags = ""
        if kind in (op.CREATE, op.CREATE2) and body[3]:
            flags = ", ephemeral"
        elif kind == op.CREATE_TTL:
            flags = f", ttl {body[4]} ms"
        return f"{name} {text(body[0])} ({_data(body[1])}{flags})"
    if kind in (op.SET_DATA, op.RECONFIG):
        return f"{name} {text(body[0])} ({_data(body[1])}, version {body[2]})"
    if kind == op.SET_ACL:
        return f"{name} {text(body[0])} (aversion {body[2]})"
    if kind == op.CHECK:
        return f"{name} {text(body[0])} (version {body[1]})"
    if kind == op.CREATE_SESSION:
        return f"{name} (timeout {body[0]} ms)"
    if kind == op.CLOSE_SESSION:
        return " ".join([name, *map(text, body[0])])
    if kind == op.ERROR:
        return f"{name} {body[0]}"
    if kind == op.MULTI:
        return f"{name} [{'; '.join(shown(*sub) for sub in body[0])}]"
    return f"{name} {text(body[0])}"


def as_json(entry: Entry) -> dict[str, Any]:
    """One object for programs."""
    txn = entry.txn
    value: dict[str, Any] = {
        "zxid": txn.zxid, "time_ms": txn.time_ms, "session": f"{txn.session_id & U64:#x}",
        "cxid": txn.cxid, "op": entry.name, **_body_json(txn.type, txn.body), "bytes": entry.size,
        "place": entry.place,
    }  # fmt: skip
    if entry.digest is not None:
        value["digest"] = f"{entry.digest:#x}"
    return value


def _body_json(kind: int, body: Body) -> dict[str, Any]:
    if kind in op.CREATES:
        value: dict[str, Any] = {"path": text(body[0]), "data": _data_json(body[1])}
        if kind in (op.CREATE, op.CREATE2):
            value |= {"ephemeral": body[3], "parent_cversion": body[4]}
        else:
            value["parent_cversion"] = body[3]
        if kind == op.CREATE_TTL:
            value["ttl_ms"] = body[4]
        return value
    if kind in (op.SET_DATA, op.RECONFIG):
        return {"path": text(body[0]), "data": _data_json(body[1]), "version": body[2]}
    if kind == op.SET_ACL:
        return {"path": text(body[0]), "version": body[2]}
    if kind == op.CHECK:
        return {"path": text(body[0]), "version": body[1]}
    if kind == op.CREATE_SESSION:
        return {"timeout_ms": body[0]}
    if kind == op.CLOSE_SESSION:
        return {"paths": [text(path) for path in body[0]]}
    if kind == op.ERROR:
        return {"code": body[0]}
    if kind == op.MULTI:
        return {"ops": [{"op": NAMES.get(k, str(k)), **_body_json(k, b)} for k, b in body[0]]}
    return {"path": text(body[0])}


def _data_json(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-8", "backslashreplace")


# ---- as Apache's TxnLogToolkit prints it


def toolkit_line(entry: Entry) -> str:
    txn = entry.txn
    local = time.localtime(txn.time_ms / 1000)
    stamp = (
        f"{local.tm_mon}/{local.tm_mday}/{local.tm_year % 100:02d},"
        f" {local.tm_hour % 12 or 12}:{local.tm_min:02d}:{local.tm_sec:02d}"
        f" {'AM' if local.tm_hour < 12 else 'PM'} {local.tm_zone}"
    )
    return (
        f"{stamp} session {txn.session_id & U64:#x} cxid {txn.cxid & U64 & 0xFFFFFFFF:#x}"
        f" zxid {txn.zxid:#x} {entry.name} {_toolkit_body(txn.type, txn.body)}\n"
    )


def _toolkit_acl(encoded: bytes, form: str) -> str:
    parts = []
    for perms, scheme, identity in acls.decode(encoded):
        one = f"s{{'{text(scheme)},'{text(identity)}}}"
        parts.append(f"s{{{perms},{one}}}" if form == "v" else f"{perms},{one}\n")
    return f"v{{{','.join(parts)}}}" if form == "v" else f"[{', '.join(parts)}]"


def _toolkit_body(kind: int, body: Body) -> str:
    if kind in op.CREATES:
        head = f"{text(body[0])},{(body[1] or b'').decode('utf-8', 'replace')}"
        acl = _toolkit_acl(body[2], "list")
        if kind in (op.CREATE, op.CREATE2):
            return f"{head},{acl},{str(bool(body[3])).lower()},{body[4]}"
        tail = f",{body[4]}" if kind == op.CREATE_TTL else ""
        return f"{head},{acl},{body[3]}{tail}"
    if kind in (op.SET_DATA, op.RECONFIG):
        return f"{text(body[0])},{(body[1] or b'').decode('utf-8', 'replace')},{body[2]}"
    if kind == op.SET_ACL:
        return f"'{text(body[0])},{_toolkit_acl(body[1], 'v')},{body[2]}"
    if kind == op.CLOSE_SESSION:
        return "v{" + ",".join(f"'{text(path)}" for path in body[0]) + "}"
    if kind == op.MULTI:
        return ";".join(
            f"{NAMES.get(k, str(k))}:{txns.encode_body(k, b).decode('utf-8', 'replace')}"
            for k, b in body[0]
        )
    if kind in (op.CREATE_SESSION, op.ERROR):
        return str(body[0])
    return f"'{text(body[0])}"


# ---- which txns are wanted


def add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--since", type=zxid_of, metavar="ZXID", help="from this zxid on")
    parser.add_argument("--upto", type=zxid_of, metavar="ZXID", help="up to this zxid")
    parser.add_argument("--from-time", type=time_of, metavar="T", help="ISO 8601, or milliseconds")
    parser.add_argument("--to-time", type=time_of, metavar="T")
    parser.add_argument("--session", type=_session_of, metavar="ID", help="as 0x100000…")
    parser.add_argument("--path", metavar="P", help="what touches this node or one below")
    parser.add_argument("--op", action="append", choices=sorted(NAMES.values()), metavar="OP")


def wanted(arguments: argparse.Namespace) -> Callable[[Entry], bool]:
    """Whether a txn passes the filters."""
    ops = frozenset(arguments.op or ())
    path = None if arguments.path is None else arguments.path.encode()

    def passes(entry: Entry) -> bool:
        txn = entry.txn
        return (
            (arguments.since is None or txn.zxid >= arguments.since)
            and (arguments.upto is None or txn.zxid <= arguments.upto)
            and (arguments.from_time is None or txn.time_ms >= arguments.from_time)
            and (arguments.to_time is None or txn.time_ms <= arguments.to_time)
            and (arguments.session is None or txn.session_id & U64 == arguments.session)
            and (not ops or entry.name in ops)
            and (path is None or any(is_or_below(p, path) for p in touched(txn.type, txn.body)))
        )

    return passes


def _session_of(argument: str) -> int:
    if not re.fullmatch(r"(0x)?[0-9a-fA-F]{1,16}", argument):
        raise argparse.ArgumentTypeError(f"{argument!r} is no session id, as 0x1000016c7060000")
    return int(argument, 16)


def time_of(argument: str) -> int:
    """Milliseconds of a time that a person wrote; without a zone it is UTC."""
    if argument.isdecimal():
        return int(argument)
    try:
        found = datetime.fromisoformat(argument.replace("Z", "+00:00"))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{argument!r} is no time, such as 2026-11-21T07:55:41"
        ) from None
    if found.tzinfo is None:
        found = datetime.fromisoformat(found.isoformat() + "+00:00")
    return int(found.timestamp() * 1000)
