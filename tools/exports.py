"""`zkstore export`: the tree as an Apache data directory, or as JSON lines.

Not here: the work (zkstore/storage/outlet.py), the JSON (jsonlines.py).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from zkstore.errors import ZkstoreError
from zkstore.storage import outlet
from zkstore.storage.offline import Offline

from . import jsonlines
from .common import (
    DAMAGED,
    FINE,
    Out,
    Progress,
    add_data_dir,
    add_json,
    open_tree,
    run,
    write_json,
)


def main(argv: list[str] | None = None, out: Out | None = None) -> int:
    """Writes the tree as Apache's data directory, or as JSON lines."""
    return run(_parser(), argv, out, _export)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zkstore export",
        description="Write the tree as a data directory that Apache ZooKeeper starts with (the same"
        " sessions go on), or as JSON lines. A live server is copied first, at one zxid.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "target", metavar="TARGET", help="Apache's dataDir, made if need be; or a file, - to print"
    )
    add_data_dir(parser)
    parser.add_argument("--format", choices=("apache", "json"), default="apache")
    parser.add_argument(
        "--compress", choices=("gz", "snappy"), default="", help="Apache's snapshot file"
    )
    parser.add_argument("--path", default="/", help="with --format json: only this node and below")
    add_json(parser)
    return parser


def _export(arguments: argparse.Namespace, out: Out) -> int:
    with (
        Progress() as progress,
        open_tree(arguments.data_dir, arguments.data_log_dir, progress) as source,
    ):
        report: dict[str, object]
        if arguments.format == "json":
            report = _json(arguments, source, out, progress)
            if arguments.target == "-":
                return FINE
        else:
            if arguments.path != "/":
                raise ZkstoreError("a part of the tree is exported with --format json")
            target = Path(arguments.target)
            path = outlet.export_apache(source, target, arguments.compress, progress)
            report = {"written": str(path), "nodes": source.totals.nodes}
        report |= {"zxid": source.applied, "sessions": len(source.sessions())}
        damaged = bool(source.journal_damage)
    if arguments.json:
        write_json(out, report)
    else:
        out.write(
            f"tree      {report['nodes']} znodes, {report['sessions']} sessions,"
            f" at zxid {report['zxid']:#x}\nwritten   {report['written']}\n"
        )
    return DAMAGED if damaged else FINE


def _json(
    arguments: argparse.Namespace, source: Offline, out: Out, progress: Progress
) -> dict[str, object]:
    root = arguments.path.encode()
    if source.node(root) is None:
        raise ZkstoreError(f"there is no node {arguments.path}")
    if arguments.target == "-":
        count = jsonlines.write(source, out, root, progress)
    else:
        with open(arguments.target, "x", encoding="utf-8", errors="surrogateescape") as file:
            count = jsonlines.write(source, file, root, progress)
    return {"written": arguments.target, "nodes": count}
