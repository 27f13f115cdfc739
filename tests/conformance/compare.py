"""Plays random scripts on two live servers:
`python -m tests.conformance.compare FLAVOUR FLAVOUR FIRST_SEED [COUNT] [--broken]`.

For example `... compare apache-3.9 zkstore-workers 1000 200` (ZKSTORE_APACHE_39 names the folder
with the jars). Prints each seed whose transcripts differ, with the first differences. With
`--broken` the scripts are those of scenarios/r_broken.py, else of r_random.py.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from itertools import islice

from tests.conformance import runner
from tests.conformance.scenarios import r_broken, r_random

_DIFFERENCES_SHOWN = 12


def main(argv: list[str] | None = None) -> int:
    starts = runner.flavours()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("left", choices=starts)
    parser.add_argument("right", choices=starts)
    parser.add_argument("first", type=int, help="the first seed")
    parser.add_argument("count", type=int, nargs="?", default=1, help="how many seeds")
    parser.add_argument("--broken", action="store_true", help="damaged requests")
    arguments = parser.parse_args(argv)
    script = r_broken.entry if arguments.broken else r_random.entry
    unlike = 0
    with (
        runner.Runner(starts[arguments.left]) as left,
        runner.Runner(starts[arguments.right]) as right,
    ):
        for seed in range(arguments.first, arguments.first + arguments.count):
            entry = script(seed)
            one, other = left.play_entry(entry), right.play_entry(entry)
            if one != other:
                unlike += 1
                print(f"seed {seed}")
                lines = one.splitlines(), other.splitlines()
                changes = difflib.unified_diff(*lines, n=2, lineterm="")
                print("\n".join(f"  {line}" for line in islice(changes, 2, 2 + _DIFFERENCES_SHOWN)))
    print(f"{unlike} of {arguments.count} seeds differ")
    return 1 if unlike else 0


if __name__ == "__main__":
    sys.exit(main())
