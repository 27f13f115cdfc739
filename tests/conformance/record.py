"""Records golden transcripts: `python -m tests.conformance.record --apache DIR [PATTERN ...]`.

Every scenario is played twice, and one whose two transcripts differ is named and not written.
`--zkstore` records the transcripts of golden.DIFFERENCES instead, from zkstore itself.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable

from tests.conformance import golden, runner, servers
from tests.conformance.scenarios import SCENARIOS


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--apache", metavar="DIR", help="folder of Apache ZooKeeper 3.9's jars")
    parser.add_argument("--zkstore", action="store_true", help="record where zkstore differs")
    parser.add_argument("pattern", nargs="*", help="only scenarios with one of these in the name")
    arguments = parser.parse_args(argv)
    if arguments.zkstore == bool(arguments.apache):
        parser.error("either --apache DIR or --zkstore")
    patterns: list[str] = arguments.pattern or [""]
    if arguments.zkstore:
        flavour, start = "zkstore-workers", runner.flavours()["zkstore-workers"]
        known: Iterable[str] = golden.DIFFERENCES
    else:
        flavour, start = "apache-3.9", runner.apache(servers.apache_classpath(arguments.apache))
        known = SCENARIOS
    names = [name for name in known if any(part in name for part in patterns)]
    return _record(start, flavour, names)


def _record(start: runner.Start, flavour: str, names: list[str]) -> int:
    unstable = 0
    with runner.Runner(start) as one:
        for name in names:
            first, second = one.play(name), one.play(name)
            if first == second:
                golden.path(name, flavour).write_text(first)
                continue
            unstable += 1
            print(f"{name}: not the same twice")
            lines = first.splitlines(), second.splitlines()
            changes = difflib.unified_diff(*lines, n=0, lineterm="")
            print("\n".join(f"  {line[:300]}" for line in changes))
    print(f"{len(names) - unstable} recorded, {unstable} unstable")
    return 1 if unstable else 0


if __name__ == "__main__":
    sys.exit(main())
