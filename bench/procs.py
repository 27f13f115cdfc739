"""CPU and memory of a server, summed over all of its processes.

Owns:   nothing; it reads the kernel's accounts.
Design: CPU comes from the POSIX CPU clock of each process: nanoseconds, threads that have ended
  included. /proc/<pid>/stat counts in hundredths of a second and /proc/<pid>/schedstat only the
  first thread. The CPU of a process that ended between two samples is lost, so that is an error.
Source: clock_getcpuclockid(3); proc(5), smaps_rollup.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CPUCLOCK_SCHED: Final = 2


def process_tree(root: int) -> list[int]:
    """`root` and all of its descendants.

    Raises: ProcessLookupError if there is no such process, or only its zombie.
    """
    children: dict[int, list[int]] = {}
    for pid, (state, parent, *_) in _all():
        if state != "Z":
            children.setdefault(int(parent), []).append(pid)
            children.setdefault(pid, [])
    if root not in children:
        raise ProcessLookupError(f"no process {root}")
    tree = [root]
    for pid in tree:
        tree += children[pid]
    return tree


def lives_in_group(group: int) -> bool:
    """Whether a process of this group is there; a zombie is not."""
    return any(
        int(of_group) == group and state not in "ZX" for _, (state, _, of_group, *_) in _all()
    )


def _all() -> Iterator[tuple[int, list[str]]]:
    """Every process: its pid, and what the kernel tells of it, from its state on."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
            # The command's name is in parentheses and may hold any character.
            yield int(entry.name), stat[stat.rindex(")") + 2 :].split()


@dataclass(frozen=True, slots=True)
class CpuSample:
    """CPU used since the start of each process of a tree, in nanoseconds."""

    by_pid: dict[int, int]

    def since(self, earlier: CpuSample) -> int:
        """Nanoseconds used between the two samples; a process that is new counts in full.

        Raises: ProcessLookupError if a process of the earlier sample has ended.
        """
        if gone := earlier.by_pid.keys() - self.by_pid.keys():
            raise ProcessLookupError(f"server processes ended during the measurement: {gone}")
        return sum(self.by_pid.values()) - sum(earlier.by_pid.values())


def cpu_sample(*roots: int) -> CpuSample:
    """Of the trees of all these processes."""
    return CpuSample({pid: cpu_ns(pid) for root in roots for pid in process_tree(root)})


def cpu_ns(pid: int) -> int:
    """User and system CPU of one process, all of its threads."""
    return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED)


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory in bytes; a page shared by n processes counts 1/n for each.

    anonymous: what the processes hold for themselves. file: pages of mapped files, which the
    kernel takes back when it needs them (program text, and the memory map of a database).
    """

    anonymous: int
    file: int


def memory(pids: Sequence[int]) -> Memory:
    totals = {"Pss_Anon": 0, "Pss_File": 0, "Pss_Shmem": 0}
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in totals:
                totals[name] += int(rest.split()[0]) * 1024
    return Memory(totals["Pss_Anon"], totals["Pss_File"] + totals["Pss_Shmem"])
