"""`zkstore import`: an Apache data directory, or JSON lines, become zkstore's data directory.

Not here: the work (zkstore/storage/intake.py), the JSON (jsonlines.py).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

from zkstore.apache.snapshot import Znode
from zkstore.errors import CorruptionError, ZkstoreError
from zkstore.storage import intake
from zkstore.storage.disk import Disk
from zkstore.storage.env import storage_dir
from zkstore.storage.loader import Loader, planted
from zkstore.storage.offline import Offline
from zkstore.tree import paths

from . import jsonlines
from .common import (
    DAMAGED,
    FINE,
    Out,
    Progress,
    add_data_dir,
    add_json,
    is_or_below,
    run,
    text,
    warn,
    write_json,
)


def main(argv: list[str] | None = None, out: Out | None = None) -> int:
    """Makes zkstore's data out of Apache's, of JSON lines, or of a live server."""
    return run(_parser(), argv, out, _import)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zkstore import",
        description="Make zkstore's data directory out of Apache ZooKeeper's (the newest whole"
        " snapshot with the log replayed over it; sessions, passwords, ACLs and times kept), or"
        " out of the JSON lines of `zkstore export`. Stop Apache's server first.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "source", metavar="SOURCE", nargs="?",
        help="Apache's dataDir (or its version-2), or a file of JSON lines, or - for those",
    )  # fmt: skip
    add_data_dir(parser)
    parser.add_argument(
        "--source-log-dir", metavar="L", type=Path, help="Apache's dataLogDir, if it has one"
    )
    parser.add_argument("--trust-empty", action="store_true", help="accept logs without a snapshot")
    parser.add_argument(
        "--accept-digests", action="store_true",
        help="go on although a digest that Apache wrote does not match the tree",
    )  # fmt: skip
    parser.add_argument(
        "--from",
        dest="address",
        metavar="HOST:PORT",
        help="copy a live tree through the client protocol (no ephemerals; containers and TTL"
        " nodes become ordinary ones)",
    )
    parser.add_argument(
        "--auth",
        action="append",
        default=[],
        metavar="SCHEME:CREDENTIALS",
        help="with --from: such as digest:user:password",
    )
    add_json(parser)
    return parser


def _import(arguments: argparse.Namespace, out: Out) -> int:
    if arguments.address is not None:
        return _import_live(arguments, out)
    if arguments.source is None:
        raise ZkstoreError("what is to be imported? Name Apache's dataDir or a file")
    source = Path(arguments.source)
    with Progress() as progress:
        if arguments.source == "-" or source.is_file():
            report = import_json(arguments.source, arguments.data_dir, progress)
        elif source.is_dir():
            report = intake.import_apache(
                source, arguments.data_dir,
                source_log=arguments.source_log_dir, log_dir=arguments.data_log_dir,
                trust_empty=arguments.trust_empty, accept_digests=arguments.accept_digests,
                progress=progress,
            )  # fmt: skip
        else:
            raise ZkstoreError(f"{source}: no such file or directory")
    _tell(report, arguments, out)
    return FINE


def _import_live(arguments: argparse.Namespace, out: Out) -> int:
    # Needs an event loop and a client, which no other import does.
    from . import fromlive

    with (
        Progress() as progress,
        contextlib.closing(fromlive.Live(arguments.address, arguments.auth)) as live,
    ):
        with intake.new_directory(arguments.data_dir, Disk()) as generation:
            with contextlib.closing(Loader(generation.directory, progress)) as loader:
                loader.nodes(live.nodes(loader.acl_id), CorruptionError)
                zxid = live.copied.zxid
                loader.store(generation, zxid)
                report = intake.Report(zxid=zxid, nodes=loader.totals.nodes)
            generation.install(
                applied=zxid,
                epochs=(zxid >> 32, zxid >> 32),
                disk=Disk(),
                log_directory=storage_dir(arguments.data_log_dir or arguments.data_dir),
            )
        if live.copied.ephemerals:
            report.warnings.append(f"{live.copied.ephemerals} ephemerals were left out")
        if live.copied.masked:
            report.warnings.append(
                f"{live.copied.masked} nodes have a digest in their ACL that only their"
                " administrators are shown; give their credentials with --auth, or all of them"
                " are lost"
            )
        with Offline(arguments.data_dir, arguments.data_log_dir) as tree:
            differ = live.compare(tree)
    for one in live.copied.differs:
        report.warnings.append(f"changed while it was copied: {one}")
    _tell(report, arguments, out)
    if not arguments.json:
        out.write(f"compared  {differ} nodes differ from {arguments.address}\n")
    return DAMAGED if differ else FINE


def _tell(report: intake.Report, arguments: argparse.Namespace, out: Out) -> None:
    if arguments.json:
        write_json(out, dataclasses.asdict(report))
        return
    for warning in report.warnings:
        warn(warning)
    if report.snapshot:
        out.write(f"snapshot  {report.snapshot}\n")
    for log in report.logs:
        out.write(f"log       {log}\n")
    digests = f", {report.digests_checked} digests match" if report.digests_checked else ""
    if report.logs:
        out.write(f"replayed  {report.txns} txns{digests}\n")
    out.write(
        f"tree      {report.nodes} znodes ({report.ephemerals} ephemeral), {report.sessions}"
        f" sessions, at zxid {report.zxid:#x}\n"
        f"written   {storage_dir(arguments.data_dir)}\n"
    )


@contextlib.contextmanager
def _lines(source: str) -> Iterator[jsonlines.Reader]:
    if source == "-":
        yield jsonlines.Reader(sys.stdin, "standard input")
        return
    with open(source, encoding="utf-8", errors="strict") as file:
        yield jsonlines.Reader(file, source)


def import_json(
    source: str, data_dir: Path, progress: Progress, log_dir: Path | None = None
) -> intake.Report:
    """Make a data directory of JSON lines ("-": of standard input)."""
    disk = Disk()
    with _lines(source) as lines, intake.new_directory(data_dir, disk) as generation:
        zxid, root = lines.head()
        report = intake.Report(zxid=zxid)
        with contextlib.closing(Loader(generation.directory, progress)) as loader:
            for session_id, timeout_ms in lines.sessions():
                loader.session(session_id, timeout_ms)
                report.sessions += 1
            found = lines.nodes(loader.acl_id)
            if root != paths.ROOT:
                # A part of a tree hangs below the nodes that every tree has.
                found = _hung(found, root, zxid, loader)
            loader.nodes(found, lines.damage)
            loader.store(generation, zxid)
            report.nodes, report.ephemerals = loader.totals.nodes, loader.totals.ephemerals
        with generation.write() as write_txn:
            intake.add_lost_sessions(write_txn, report.warnings.append)
        generation.install(
            applied=zxid, epochs=(zxid >> 32, zxid >> 32), disk=disk,
            log_directory=storage_dir(log_dir or data_dir),
        )  # fmt: skip
    return report


def _hung(found: Iterator[Znode], root: bytes, zxid: int, loader: Loader) -> Iterator[Znode]:
    """The nodes that every tree has, what leads to `root`, then the part."""
    first, *rest = planted(loader.acl_id)
    above = [root[: at + 1] for at in range(1, len(root) - 1) if root[at + 1 : at + 2] == b"/"]
    if is_or_below(root, paths.ZOOKEEPER):
        raise ZkstoreError(f"{text(root)} is made by the server; import it as part of a whole tree")
    yield first._replace(cversion=1, pzxid=zxid)
    yield from rest
    for path in above:
        yield first._replace(path=path, cversion=1, pzxid=zxid)
    yield from found
