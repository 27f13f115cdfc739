"""storage/loader.py and sorter.py: a tree in any order becomes the same records; no tree, none."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from zkstore.apache.snapshot import Znode
from zkstore.errors import CorruptionError
from zkstore.storage import loader as loaders
from zkstore.storage import sorter as sorters
from zkstore.storage.generation import Generation
from zkstore.storage.loader import Loader, planted
from zkstore.storage.sorter import Sorter
from zkstore.tree import node as nodes

SESSION = 0x100000000000001


def silent(_what: str, _count: int) -> None:
    """Tells nobody."""


def tree(acl_id: Any) -> list[Znode]:
    """Some thousand nodes: deep, wide, owned, long, large, with null data."""
    rng = random.Random(7)
    found = planted(acl_id)
    paths = [b"/"]
    for zxid in range(1, 2000):
        parent = rng.choice(paths[-50:] if zxid % 3 else paths[:20])
        name = b"x" * 300 if zxid % 97 == 0 else b"n%d" % zxid
        path = parent.rstrip(b"/") + b"/" + name
        owner = SESSION if zxid % 11 == 0 else nodes.CONTAINER_OWNER if zxid % 13 == 0 else 0
        data = None if zxid % 7 == 0 else b"d" * (3000 if zxid % 101 == 0 else zxid % 20)
        found.append(Znode(path, data, -1, zxid, zxid, 1, 1, 0, zxid % 4, 0, owner, zxid))
        if owner != SESSION:
            paths.append(path)
    return found


def load(folder: Path, found: list[Znode], number: int) -> tuple[dict[bytes, bytes], Any]:
    """Every record, but for the ids of large data, which go by the order of the nodes."""
    folder.mkdir(exist_ok=True)
    generation = Generation(folder, number, 1 << 30)
    try:
        with closing(Loader(folder, silent)) as loader:
            loader.nodes(found, CorruptionError)
            loader.store(generation, 2000)
            totals = loader.totals
        with generation.env.begin() as view:
            records = {bytes(key): bytes(value) for key, value in view.cursor()}
    finally:
        generation.discard()
    large = {key: value for key, value in records.items() if key[:1] == b"d"}
    return {
        key: value[:-8] + large[b"d" + value[-8:]] if b"d" + value[-8:] in large else value
        for key, value in records.items()
        if key not in large
    }, totals


@pytest.mark.parametrize("order", ["as it came", "reversed", "shuffled", "sorted"])
def test_the_order_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    found = tree(lambda _: -1)
    wanted, totals = load(tmp_path, found, 1)
    monkeypatch.setattr(loaders, "COUNTS_MAX", 10)
    monkeypatch.setattr(loaders, "_BLOCK_NODES", 50)
    monkeypatch.setattr(sorters, "_RUN_BYTES", 20_000)
    if order == "reversed":
        found.reverse()
    elif order == "sorted":
        found.sort()
    elif order == "shuffled":
        random.Random(1).shuffle(found)
    assert load(tmp_path, found, 2) == (wanted, totals)
    below = [one for one in found if one.path.count(b"/") == 1 and one.path != b"/"]
    assert nodes.unpack(wanted[b"n\0"])[nodes.CHILDREN] == len(below)
    assert totals.nodes == len(found)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda found: found.pop(4), "is missing, and there are nodes below it"),
        (lambda found: found.append(found[-1]), "came twice"),
        (lambda found: found.append(found[0]), "came twice"),
        (lambda found: found.clear(), "a tree without nodes"),
        (lambda found: found.append(found[-1]._replace(path=b"none")), "no path: 'none'"),
        (lambda found: found.append(found[-1]._replace(path=b"/a\0b")), "no path"),
        (lambda found: found.append(found[-1]._replace(path=b"/a/")), "no path"),
        (lambda found: found.append(found[-1]._replace(path=b"/nobody/a")), "node /nobody is"),
    ],
)
def test_what_is_no_tree_is_refused(tmp_path: Path, change: Any, what: str) -> None:
    found = tree(lambda _: -1)
    change(found)
    with pytest.raises(CorruptionError, match=what):
        load(tmp_path, found, 1)


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 5000])
def test_sorting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(sorters, "_RUN_BYTES", 100_000)
    rng = random.Random(count)
    items = [(b"%d" % rng.randrange(1000), b"%d" % number) for number in range(count)]
    with closing(Sorter(tmp_path)) as sorter:
        for item in items[::2]:
            sorter.add(*item)
        sorter.extend(items[1::2])
        assert list(sorter.items()) == sorted(items)
