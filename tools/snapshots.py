"""`zkstore snapshot`: makes one of a live or stopped server, and looks into trees of every kind.

Design: a tree is looked at where it stands, without writing; a live server's is copied first, and
  Apache's becomes a zkstore tree in a temporary directory, as only a sorted one can be compared and
  checked without holding it in memory. `dump` and `summary` read a snapshot file as it is.
Not here: comparing (compare.py), the figures (summary.py), checks (zkstore/storage/verify.py).
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from zkstore.apache.snapshot import Reader
from zkstore.errors import DirectoryInUse, ZkstoreError
from zkstore.storage import apache_files, intake, outlet
from zkstore.storage.offline import Offline
from zkstore.storage.stillcopy import copy_stopped
from zkstore.storage.verify import Verification
from zkstore.tree import node as nodes

from . import jsonlines, summary
from .common import (
    DAMAGED,
    FINE,
    LIVE_BANDWIDTH,
    Out,
    Progress,
    add_json,
    hot_copy,
    is_or_below,
    open_tree,
    run,
    size_of,
    text,
    warn,
    write_json,
)
from .compare import Comparison, Difference
from .entries import U64, is_zkstore, when

_SOURCE: Final = (
    "zkstore's dataDir (live or stopped), Apache's dataDir, or one of its snapshot.* files"
)
_SHOWN_MAX: Final = 1000


def main(argv: list[str] | None = None, out: Out | None = None) -> int:
    """Makes snapshots; shows, sums up, compares and checks trees, zkstore's or Apache's."""
    return run(_parser(), argv, out, lambda arguments, to: int(arguments.job(arguments, to)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="zkstore snapshot", description=main.__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, what: str, job: object) -> argparse.ArgumentParser:
        one = verbs.add_parser(name, help=what, description=what, allow_abbrev=False)
        one.set_defaults(job=job)
        one.add_argument("source", type=Path, metavar="SOURCE", help=_SOURCE)
        one.add_argument("--data-log-dir", type=Path, metavar="L", help="zkstore's dataLogDir")
        add_json(one)
        return one

    create = verb("create", "Copy a server's data, live or stopped, at one zxid.", _create)
    create.add_argument(
        "target", type=Path, metavar="TARGET",
        help="a new data directory: serve it, or look into it",
    )  # fmt: skip
    create.add_argument(
        "--bandwidth",
        type=size_of,
        default=LIVE_BANDWIDTH,
        metavar="SIZE",
        help="bytes a second read of a live server (default: 40M; 0: no limit)",
    )
    create.add_argument(
        "--format", choices=("zkstore", "apache"), default="zkstore", help="what TARGET becomes"
    )
    dump = verb("dump", "Print every node with its Stat.", _dump)
    dump.add_argument("--path", default="/", help="only this node and below")
    dump.add_argument("--data", action="store_true", help="print the data as well")
    tree = verb("tree", "Draw the tree.", _tree)
    tree.add_argument("--path", default="/")
    tree.add_argument("--depth", type=int, metavar="N", help="levels to show")
    sums = verb("summary", "Count nodes and bytes; name the biggest.", _summary)
    sums.add_argument("--path", default="/", help="what each part below it holds")
    sums.add_argument("--depth", type=int, default=1, metavar="N", help="levels of parts")
    sums.add_argument("--top", type=int, default=5, metavar="N", help="rows of each list")
    compare = verb("compare", "Name what differs between two trees.", _compare)
    compare.add_argument("right", type=Path, metavar="OTHER", help="as SOURCE")
    compare.add_argument(
        "--nodes", type=int, metavar="N", help="show parts that differ by more than N nodes"
    )
    compare.add_argument(
        "--bytes", type=size_of, metavar="SIZE", help="… or by more than so many bytes of data"
    )
    verb("verify", "Check every record, alone and against the others.", _verify)
    return parser


@contextlib.contextmanager
def _opened(source: Path, log_dir: Path | None, progress: Progress) -> Iterator[Offline]:
    """Any kind of source as a tree."""
    if is_zkstore(source):
        with open_tree(source, log_dir, progress) as tree:
            yield tree
        return
    if not source.exists():
        raise ZkstoreError(f"{source}: no such file or directory")
    with tempfile.TemporaryDirectory(prefix="zkstore-import-") as folder:
        target = Path(folder)
        if source.is_file():
            report = intake.import_snapshot(source, target, progress=progress)
        else:
            report = intake.import_apache(source, target, source_log=log_dir, progress=progress)
        for warning in report.warnings:
            warn(warning)
        with Offline(target) as tree:
            tree.name = str(source)
            yield tree


def _create(arguments: argparse.Namespace, out: Out) -> int:
    source, target = arguments.source, arguments.target
    if not is_zkstore(source):
        raise ZkstoreError(f"{source} holds no data of zkstore")
    with Progress() as progress:
        if arguments.format == "apache":
            with open_tree(source, arguments.data_log_dir, progress) as tree:
                written = outlet.export_apache(tree, target, "", progress)
                zxid = tree.applied
        else:
            written = target / "zkstore"
            if is_zkstore(target):
                raise ZkstoreError(f"{target} holds a tree already")
            try:
                tree = Offline(source, arguments.data_log_dir)
            except DirectoryInUse:
                zxid = hot_copy(source, target, progress, arguments.bandwidth)
            else:
                with tree:
                    zxid = copy_stopped(tree, target, progress)
    if arguments.json:
        write_json(out, {"written": str(written), "zxid": zxid})
    else:
        out.write(f"written   {written}, at zxid {zxid:#x}\n")
    return FINE


def _items(
    arguments: argparse.Namespace, progress: Progress
) -> contextlib.AbstractContextManager[Iterator[summary.Seen]]:
    """The nodes of a source at and below --path."""
    root = arguments.path.encode()
    if arguments.source.is_file() and not is_zkstore(arguments.source):
        return _of_file(arguments.source, root)
    return _of_tree(arguments, root, progress)


@contextlib.contextmanager
def _of_file(source: Path, root: bytes) -> Iterator[Iterator[summary.Seen]]:
    with apache_files.open_read(source) as read:
        reader = Reader(read, str(source))
        reader.header()
        for _ in itertools.chain(reader.sessions(), reader.acls()):
            pass
        yield (
            summary.Seen(one.path, one.data, len(one.data or b""), one[3:])
            for one in reader.nodes()
            if is_or_below(one.path, root)
        )
        reader.seals()


@contextlib.contextmanager
def _of_tree(
    arguments: argparse.Namespace, root: bytes, progress: Progress
) -> Iterator[Iterator[summary.Seen]]:
    with _opened(arguments.source, arguments.data_log_dir, progress) as tree:
        with_data = getattr(arguments, "data", False) or arguments.json
        yield (
            summary.Seen(
                path, tree.data(value) if with_data else None,
                nodes.unpack(value)[nodes.DATA_LENGTH], nodes.persisted_of(value)[1:],
            )
            for path, value in tree.walk(root)
        )  # fmt: skip


def _dump(arguments: argparse.Namespace, out: Out) -> int:
    with Progress() as progress, _items(arguments, progress) as found:
        for one in found:
            if arguments.json:
                line: dict[str, object] = {"path": text(one.path)}
                line |= jsonlines.shown_data(one.data)
                line |= dict(zip(jsonlines.FIELDS, one.stat, strict=True))
                line["owner"] = jsonlines.shown_owner(one.stat[7])
                out.write(json.dumps(line, ensure_ascii=False) + "\n")
            else:
                out.write(_details(one, arguments.data))
    return FINE


def _details(one: summary.Seen, with_data: bool) -> str:
    """One node as Apache's SnapshotFormatter prints it, with times in UTC."""
    czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, pzxid = one.stat
    data = ""
    if with_data:
        shown = "null" if one.data is None else one.data.decode("utf-8", "backslashreplace")
        data = f"  data = {shown}\n"
    return (
        f"----\n{text(one.path)}\n  cZxid = {czxid:#016x}\n  ctime = {when(ctime)}\n"
        f"  mZxid = {mzxid:#016x}\n  mtime = {when(mtime)}\n  pZxid = {pzxid:#016x}\n"
        f"  cversion = {cversion}\n  dataVersion = {version}\n  aclVersion = {aversion}\n"
        f"  ephemeralOwner = {owner & U64:#016x}\n  dataLength = {one.size}\n{data}"
    )


def _tree(arguments: argparse.Namespace, out: Out) -> int:
    root = arguments.path.encode()
    base = 0 if root == b"/" else root.count(b"/")
    with (
        Progress() as progress,
        _opened(arguments.source, arguments.data_log_dir, progress) as tree,
    ):
        for path, value in tree.walk(root, arguments.depth):
            fields = nodes.unpack(value)
            size, children = fields[nodes.DATA_LENGTH], fields[nodes.CHILDREN]
            if arguments.json:
                write_json(out, {"path": text(path), "bytes": size, "children": children})
                continue
            level = 0 if path == b"/" else path.count(b"/") - base
            name = text(path if path == root else path[path.rfind(b"/") + 1 :])
            owner = jsonlines.shown_owner(fields[nodes.OWNER])
            notes = [f"{size} B"] if size else []
            notes += [f"{children} children"] if children else []
            notes += [owner] if owner else []
            out.write(f"{'  ' * level}{name}{'  (' + ', '.join(notes) + ')' if notes else ''}\n")
    return FINE


def _summary(arguments: argparse.Namespace, out: Out) -> int:
    with Progress() as progress, _items(arguments, progress) as found:
        total = summary.of(found, arguments.path.encode(), arguments.depth, arguments.top)
    if arguments.json:
        write_json(out, summary.as_json(total))
    else:
        out.write(summary.table(total))
    return FINE


def _shown(difference: Difference) -> str:
    path = text(difference.path)
    if difference.kind == "changed":
        return f"changed   {path}: {', '.join(difference.fields)}\n"
    return f"only {difference.kind:<5} {path}\n"


def _compare(arguments: argparse.Namespace, out: Out) -> int:
    by_weight = arguments.nodes is not None or arguments.bytes is not None
    unlimited = 1 << 62
    nodes_over = unlimited if arguments.nodes is None else arguments.nodes
    bytes_over = unlimited if arguments.bytes is None else arguments.bytes
    counts = {"left": 0, "right": 0, "changed": 0}
    with (
        Progress() as progress,
        _opened(arguments.source, arguments.data_log_dir, progress) as left,
        _opened(arguments.right, None, progress) as right,
    ):
        comparison = Comparison(left, right, nodes_over, bytes_over)
        for difference in comparison.differences():
            counts[difference.kind] += 1
            if by_weight:
                continue
            if arguments.json:
                write_json(
                    out,
                    {"path": text(difference.path), "kind": difference.kind,
                     "fields": difference.fields},
                )  # fmt: skip
            else:
                out.write(_shown(difference))
        for delta in sorted(comparison.deltas, key=lambda one: one.path):
            if arguments.json:
                value = {"path": text(delta.path), "nodes": delta.nodes, "bytes": delta.size}
                write_json(out, value)
            else:
                out.write(f"{text(delta.path)}: {delta.nodes:+d} nodes, {delta.size:+d} bytes\n")
    if not arguments.json:
        out.write(
            f"{comparison.compared} nodes compared: {counts['left']} only left,"
            f" {counts['right']} only right, {counts['changed']} changed\n"
        )
    return DAMAGED if any(counts.values()) else FINE


def _verify(arguments: argparse.Namespace, out: Out) -> int:
    with (
        Progress() as progress,
        _opened(arguments.source, arguments.data_log_dir, progress) as tree,
    ):
        verification = Verification(tree, progress)
        found: list[str] = []
        count = 0
        for damage in verification.run():
            count += 1
            if len(found) < _SHOWN_MAX:
                found.append(damage)
        report = {"nodes": verification.nodes, "zxid": tree.applied, "damages": count}
    if arguments.json:
        write_json(out, {**report, "damage": found})
    else:
        out.write(f"{report['nodes']} znodes at zxid {report['zxid']:#x}\n")
        out.write("".join(f"damaged: {one}\n" for one in found))
        if count > len(found):
            out.write(f"… and {count - len(found)} more\n")
        if not count:
            out.write("no damage\n")
    return DAMAGED if count else FINE
