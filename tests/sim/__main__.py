"""The simulated ensemble for as many seeds as you like: `python -m tests.sim --seeds N --since S`.

A failing seed is printed with the violation and the last events before it; the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.sim.checkers import Violation
from tests.sim.world import World


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("--seeds", type=int, default=500, help="how many")
    parser.add_argument("--since", type=int, default=0, help="the first one")
    parser.add_argument("--fault", action="append", default=[], help="only these, e.g. _behead")
    arguments = parser.parse_args()
    began = time.monotonic()
    failed: list[int] = []
    acknowledged = 0
    for seed in range(arguments.since, arguments.since + arguments.seeds):
        world = World(seed, faults=arguments.fault)
        try:
            world.run()
        except AssertionError as e:
            failed.append(seed)
            kind = "" if isinstance(e, Violation) else "assertion "
            print(f"{world.tale()}\nseed {seed}: {kind}{e}", file=sys.stderr)
        acknowledged += len(world.checkers.linearizable.acknowledged)
    print(
        f"{arguments.seeds} seeds since {arguments.since}, {acknowledged} writes acknowledged,"
        f" {time.monotonic() - began:.0f} s; failed: {failed or 'none'}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
