"""What a tree is made of: nodes and bytes by depth and by part, the biggest nodes and families.

Invariants:
  1. One pass, parents first, depth first; memory holds one path and the rows that are shown.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .common import size_text, text


class Seen(NamedTuple):
    """A node as it goes by."""

    path: bytes
    data: bytes | None
    size: int  # of its data
    stat: tuple[int, ...]  # czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, pzxid


@dataclass(slots=True)
class Part:
    """A node with all below it."""

    path: bytes
    nodes: int = 0  # below it
    size: int = 0  # with its own
    children: int = 0


@dataclass(slots=True)
class Summary:
    """The figures of a tree or of a part."""

    nodes: int = 0
    size: int = 0
    depths: list[tuple[int, int]] = field(default_factory=list)  # by depth: nodes, bytes
    parts: list[Part] = field(default_factory=list)  # those with children
    biggest: list[tuple[int, bytes]] = field(default_factory=list)  # bytes, path
    families: list[tuple[int, bytes]] = field(default_factory=list)  # children, path


def _keep(heap: list[tuple[int, bytes]], item: tuple[int, bytes], top: int) -> None:
    if len(heap) < top:
        heapq.heappush(heap, item)
    elif heap and item > heap[0]:
        heapq.heapreplace(heap, item)


def of(found: Iterable[Seen], root: bytes, depth: int, top: int) -> Summary:
    """Sum up the nodes at and below `root`; parts are shown `depth` levels deep."""
    total = Summary()
    levels: list[Part] = []
    base = 0 if root == b"/" else root.count(b"/")

    def leave() -> None:
        part = levels.pop()
        if part.children:
            _keep(total.families, (part.children, part.path), top)
        if levels:
            levels[-1].nodes += part.nodes + 1
            levels[-1].size += part.size
        if len(levels) <= depth and (part.children or not levels):
            total.parts.append(part)

    for path, _, size, _ in found:
        parent = path[: path.rfind(b"/")] or b"/"
        while levels and levels[-1].path != parent:
            leave()
        if levels:
            levels[-1].children += 1
        levels.append(Part(path, size=size))
        total.nodes += 1
        total.size += size
        level = 0 if path == b"/" else path.count(b"/") - base
        while len(total.depths) <= level:
            total.depths.append((0, 0))
        nodes, below = total.depths[level]
        total.depths[level] = (nodes + 1, below + size)
        if size:
            _keep(total.biggest, (size, path), top)
    while levels:
        leave()
    total.parts.sort(key=lambda part: part.path)
    return total


def table(total: Summary) -> str:
    """The figures for people."""
    lines = [
        f"{total.nodes} znodes, {size_text(total.size)} of data",
        "",
        "depth      nodes      data",
    ]
    for depth, (nodes, size) in enumerate(total.depths):
        lines.append(f"{depth:>5} {nodes:>10} {size_text(size):>9}")
    lines += ["", "parts that have children: nodes below, data with their own"]
    for part in total.parts:
        lines.append(f"{part.nodes:>10} {size_text(part.size):>9}  {text(part.path)}")
    lines += ["", "biggest nodes"]
    for size, path in sorted(total.biggest, reverse=True):
        lines.append(f"{size_text(size):>10}  {text(path)}")
    lines += ["", "most children"]
    for children, path in sorted(total.families, reverse=True):
        lines.append(f"{children:>10}  {text(path)}")
    return "\n".join(lines) + "\n"


def as_json(total: Summary) -> dict[str, Any]:
    return {
        "nodes": total.nodes,
        "bytes": total.size,
        "depths": [{"nodes": nodes, "bytes": size} for nodes, size in total.depths],
        "parts": [
            {"path": text(one.path), "nodes": one.nodes, "bytes": one.size} for one in total.parts
        ],
        "biggest": [{"path": text(p), "bytes": n} for n, p in sorted(total.biggest, reverse=True)],
        "families": [
            {"path": text(p), "children": n} for n, p in sorted(total.families, reverse=True)
        ],
    }
