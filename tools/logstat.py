"""What a log is made of: counts, bytes, rates over time, the biggest and the busiest.

Invariants:
  1. Bounded: seconds and lists are thinned when there are too many; paths and sessions are counted
     up to a limit, and what is rarer is given up first.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from zkstore.proto import opcodes as op

from .common import size_text, text
from .entries import U64, Entry, touched, when

_KEYS_MAX: Final = 200_000
_SLOTS: Final = 60  # of the drawing and the table of rates
_COLOURS: Final = (
    "#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377", "#bbbbbb", "#222222",
)  # fmt: skip


@dataclass(slots=True)
class Counted:
    """The statistics of some txns."""

    txns: int = 0
    size: int = 0  # bytes
    first: Entry | None = None
    last: Entry | None = None
    ops: Counter[str] = field(default_factory=Counter)
    op_bytes: Counter[str] = field(default_factory=Counter)
    paths: Counter[bytes] = field(default_factory=Counter)
    sessions: Counter[int] = field(default_factory=Counter)
    seconds: dict[tuple[int, str], int] = field(default_factory=dict)  # (slot, op) → txns
    slot_ms: int = 1000
    biggest: list[tuple[int, int, str]] = field(default_factory=list)  # (bytes, -zxid, what)
    top: int = 5


def count(found: Iterable[Entry], top: int) -> Counted:
    """Count everything."""
    counted = Counted(top=top)
    for entry in found:
        _add(counted, entry)
    return counted


def _add(counted: Counted, entry: Entry) -> None:
    txn, name = entry.txn, entry.name
    counted.txns += 1
    counted.size += entry.size
    counted.first = counted.first or entry
    counted.last = entry
    counted.ops[name] += 1
    counted.op_bytes[name] += entry.size
    counted.sessions[txn.session_id & U64] += 1
    for path in touched(txn.type, txn.body):
        counted.paths[path] += 1
    for counter in (counted.paths, counted.sessions):
        if len(counter) > _KEYS_MAX:
            _thin(counter)
    slot = (txn.time_ms // counted.slot_ms, name)
    counted.seconds[slot] = counted.seconds.get(slot, 0) + 1
    if len(counted.seconds) > _KEYS_MAX:
        counted.slot_ms *= 10
        coarser: dict[tuple[int, str], int] = {}
        for (at, one), number in counted.seconds.items():
            coarser[at // 10, one] = coarser.get((at // 10, one), 0) + number
        counted.seconds = coarser
    if len(counted.biggest) < counted.top or entry.size > counted.biggest[0][0]:
        what = name
        if txn.type not in (op.CREATE_SESSION, op.CLOSE_SESSION, op.ERROR, op.MULTI):
            what = f"{name} {text(txn.body[0])}"
        elif txn.type == op.MULTI:
            what = f"{name} of {len(txn.body[0])}"
        heapq.heappush(counted.biggest, (entry.size, -txn.zxid, what))
        if len(counted.biggest) > counted.top:
            heapq.heappop(counted.biggest)


def _thin(counter: Counter[Any]) -> None:
    """Keep the more frequent half."""
    for key, _ in counter.most_common()[_KEYS_MAX // 2 :]:
        del counter[key]


def rates(counted: Counted) -> tuple[int, int, list[Counter[str]]]:
    """(start ms, slot ms, txns by op for each slot) of the whole time, in at most 60 slots."""
    if not counted.seconds:
        return 0, 1000, []
    ticks = [at for at, _ in counted.seconds]
    first, last = min(ticks), max(ticks)
    width = max(1, -(-(last - first + 1) // _SLOTS))
    slots: list[Counter[str]] = [Counter() for _ in range((last - first) // width + 1)]
    for (at, name), number in counted.seconds.items():
        slots[(at - first) // width][name] += number
    return first * counted.slot_ms, width * counted.slot_ms, slots


def table(counted: Counted) -> str:
    """The statistics for people."""
    lines = [f"{counted.txns} txns, {size_text(counted.size)}"]
    if counted.first is None or counted.last is None:
        return lines[0] + "\n"
    lines[0] += f", zxid {counted.first.txn.zxid:#x} to {counted.last.txn.zxid:#x}"
    lines.append(f"{when(counted.first.txn.time_ms)} to {when(counted.last.txn.time_ms)}")
    lines += ["", f"{'op':<16} {'txns':>10} {'bytes':>10}"]
    for name, number in counted.ops.most_common():
        lines.append(f"{name:<16} {number:>10} {size_text(counted.op_bytes[name]):>10}")
    lines += ["", "biggest txns"]
    for size, zxid, what in sorted(counted.biggest, reverse=True):
        lines.append(f"{size_text(size):>10}  zxid {-zxid:#x}  {what}")
    lines += ["", "busiest paths"]
    for path, number in counted.paths.most_common(counted.top):
        lines.append(f"{number:>10}  {text(path)}")
    lines += ["", "busiest sessions"]
    for session, number in counted.sessions.most_common(counted.top):
        lines.append(f"{number:>10}  {session:#x}")
    start, slot_ms, slots = rates(counted)
    most = max(slots, key=lambda slot: slot.total(), default=Counter())
    at = slots.index(most)
    lines += [
        "", f"most in {slot_ms / 1000:g} s: {most.total()} txns at {when(start + at * slot_ms)}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def as_json(counted: Counted) -> dict[str, Any]:
    start, slot_ms, slots = rates(counted)
    return {
        "txns": counted.txns,
        "bytes": counted.size,
        "first_zxid": counted.first.txn.zxid if counted.first else None,
        "last_zxid": counted.last.txn.zxid if counted.last else None,
        "ops": {
            name: {"txns": number, "bytes": counted.op_bytes[name]}
            for name, number in counted.ops.most_common()
        },
        "biggest": [
            {"bytes": size, "zxid": -zxid, "what": what}
            for size, zxid, what in sorted(counted.biggest, reverse=True)
        ],
        "paths": [[text(path), n] for path, n in counted.paths.most_common(counted.top)],
        "sessions": [[f"{one:#x}", n] for one, n in counted.sessions.most_common(counted.top)],
        "rates": {"start_ms": start, "slot_ms": slot_ms, "slots": [dict(one) for one in slots]},
    }


def svg(counted: Counted) -> str:
    """Txns over time by op, as stacked bars."""
    start, slot_ms, slots = rates(counted)
    names = [name for name, _ in counted.ops.most_common(len(_COLOURS))]
    width, height, left, bottom = 900, 320, 60, 60
    most = max((slot.total() for slot in slots), default=1) or 1
    bar = (width - left - 10) / max(len(slots), 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="16">txns in {slot_ms / 1000:g} s, from {when(start)}</text>',
        f'<text x="4" y="34">{most}</text><text x="4" y="{height - bottom}">0</text>',
    ]
    for at, slot in enumerate(slots):
        y = float(height - bottom)
        for colour, name in zip(_COLOURS, names, strict=False):
            tall = (height - bottom - 30) * slot[name] / most
            y -= tall
            if tall:
                parts.append(
                    f'<rect x="{left + at * bar:.1f}" y="{y:.1f}" width="{max(bar - 1, 0.5):.1f}"'
                    f' height="{tall:.1f}" fill="{colour}"/>'
                )
    for at, (colour, name) in enumerate(zip(_COLOURS, names, strict=False)):
        x = left + at * 105
        parts.append(f'<rect x="{x}" y="{height - 36}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 14}" y="{height - 27}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
