"""`zkstore log`: looks into the transaction log, zkstore's or Apache's.

Not here: where the txns come from and how one is shown (entries.py), statistics (logstat.py), what
changes a log (logrepair.py).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Final

from zkstore.errors import CorruptionError, ZkstoreError
from zkstore.storage.env import open_reader

from . import logrepair, logstat
from .common import DAMAGED, FINE, Out, add_json, run, write_json
from .entries import (
    Entry,
    add_filters,
    apache_entries,
    apache_logs,
    as_json,
    entries,
    is_zkstore,
    line,
    live_entries,
    toolkit_line,
    wanted,
)

_POLL_S: Final = 0.2
_SOURCE: Final = "zkstore's dataDir (live or stopped), Apache's dataDir, or one of its log.* files"


def main(argv: list[str] | None = None, out: Out | None = None) -> int:
    """Shows, counts, checks, repairs and purges the transaction log, zkstore's or Apache's."""
    return run(_parser(), argv, out, lambda arguments, to: int(arguments.job(arguments, to)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="zkstore log", description=main.__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, what: str, job: object) -> argparse.ArgumentParser:
        one = verbs.add_parser(name, help=what, description=what, allow_abbrev=False)
        one.add_argument("source", type=Path, metavar="SOURCE", help=_SOURCE)
        one.add_argument("--data-log-dir", type=Path, metavar="L", help="zkstore's dataLogDir")
        one.set_defaults(job=job)
        return one

    dump = verb("dump", "Print the txns, one a line.", _dump)
    add_filters(dump)
    add_json(dump)
    dump.add_argument("--toolkit", action="store_true", help="as Apache's TxnLogToolkit prints")
    stat = verb("stat", "Count: by op, rate over time, biggest txns, busiest paths.", _stat)
    add_filters(stat)
    add_json(stat)
    stat.add_argument("--top", type=int, default=5, metavar="N", help="rows of each list")
    stat.add_argument("--svg", type=Path, metavar="FILE", help="draw the rate over time")
    tail = verb("tail", "Print the last txns; with -f go on as they come.", _tail)
    tail.add_argument("-n", type=int, default=10, metavar="N", dest="count")
    tail.add_argument("-f", action="store_true", dest="follow", help="a live zkstore server's")
    add_filters(tail)
    add_json(tail)
    add_json(verb("verify", "Check every checksum, the order of zxids, and gaps.", _verify))
    recover = verb("recover", "Cut a damaged tail off; a copy is kept.", logrepair.recover)
    recover.add_argument("--yes", action="store_true", help="write; else only say what would go")
    add_json(recover)
    purge = verb("purge", "Drop the oldest part of the log.", logrepair.purge)
    logrepair.add_purge_options(purge)
    add_json(purge)
    return parser


def _show(entry: Entry, arguments: argparse.Namespace, out: Out) -> None:
    if arguments.json:
        out.write(json.dumps(as_json(entry), ensure_ascii=False) + "\n")
    else:
        out.write(line(entry))


def _dump(arguments: argparse.Namespace, out: Out) -> int:
    passes = wanted(arguments)
    after = arguments.since - 1 if arguments.since is not None else -1
    if arguments.toolkit:
        out.write("ZooKeeper Transactional Log File with dbid 0 txnlog format version 2\n")
    count = 0
    for entry in entries(arguments.source, arguments.data_log_dir, after):
        if passes(entry):
            count += 1
            if arguments.toolkit:
                out.write(toolkit_line(entry))
            else:
                _show(entry, arguments, out)
        if arguments.upto is not None and entry.txn.zxid >= arguments.upto:
            break
    if arguments.toolkit:
        out.write(f"EOF reached after {count} txns.\n")
    return FINE


def _stat(arguments: argparse.Namespace, out: Out) -> int:
    passes = wanted(arguments)
    after = arguments.since - 1 if arguments.since is not None else -1
    found = entries(arguments.source, arguments.data_log_dir, after)
    counted = logstat.count(filter(passes, found), arguments.top)
    if arguments.svg is not None:
        arguments.svg.write_text(logstat.svg(counted))
    if arguments.json:
        write_json(out, logstat.as_json(counted))
    else:
        out.write(logstat.table(counted))
    return FINE


def _tail(arguments: argparse.Namespace, out: Out) -> int:
    passes = wanted(arguments)
    last: list[Entry] = []
    newest = -1
    for entry in entries(arguments.source, arguments.data_log_dir):
        newest = entry.txn.zxid
        if passes(entry):
            last = [*last[-arguments.count + 1 :], entry] if arguments.count > 1 else [entry]
    for entry in last[: arguments.count]:
        _show(entry, arguments, out)
    if not arguments.follow:
        return FINE
    if not is_zkstore(arguments.source):
        raise ZkstoreError(f"{arguments.source}: only a live zkstore server's log can be followed")
    with contextlib.closing(open_reader(arguments.source)) as reader:
        while True:
            for entry in live_entries(reader, newest):
                newest = entry.txn.zxid
                if passes(entry):
                    _show(entry, arguments, out)
            sys.stdout.flush()
            time.sleep(_POLL_S)


def _verify(arguments: argparse.Namespace, out: Out) -> int:
    found: list[str] = []
    files = 1
    count = 0
    first = last = -1
    if is_zkstore(arguments.source):
        sources = [entries(arguments.source, arguments.data_log_dir)]
    else:
        logs = apache_logs(arguments.source)
        sources = [apache_entries(one.path) for one in logs]
        files = len(logs)
    for source in sources:
        try:
            for entry in source:
                zxid = entry.txn.zxid
                if last >= 0 and zxid <= last:
                    found.append(f"{entry.place}: zxid {zxid:#x} comes behind {last:#x}")
                elif last >= 0 and zxid != last + 1 and zxid >> 32 == last >> 32:
                    found.append(
                        f"{entry.place}: zxid {zxid:#x} comes behind {last:#x}: txns are missing"
                    )
                first = zxid if first < 0 else first
                last = max(last, zxid)
                count += 1
        except CorruptionError as e:
            found.append(str(e))
    if arguments.json:
        write_json(
            out,
            {"files": files, "txns": count, "first_zxid": first, "last_zxid": last,
             "damage": found},
        )  # fmt: skip
    else:
        span = f", zxid {first:#x} to {last:#x}" if count else ""
        out.write(f"{count} txns{span}\n")
        for one in found:
            out.write(f"damaged: {one}\n")
        if not found:
            out.write("no damage\n")
    return DAMAGED if found else FINE
