"""Records golden transcripts: `python -m tests.conformance.record --apache DIR [PATTERN ...]`.

Every scenario is played twice, and one whose two transcripts differ is named and not written. With
`--flavour` the exceptions of another server (golden.py) are recorded; only those in its table.
"""

from __future__ import annotations

import argparse
import difflib
import sys

from tests.conformance import golden, runner, servers
from tests.conformance.scenario import SCENARIOS


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.record", description=__doc__)
    parser.add_argument("--apache", metavar="DIR", help="folder of Apache ZooKeeper 3.9's jars")
    parser.add_argument("--flavour", default="apache-3.9", help="record exceptions of this server")
    parser.add_argument("pattern", nargs="*", help="only scenarios whose name contains one of these")
    arguments = parser.parse_args(argv)
    flavour: str = arguments.flavour
    starts = runner.flavours()
    if arguments.apache:
        starts["apache-3.9"] = runner.apache(servers.apache_classpath(arguments.apache))
    if flavour not in starts:
        parser.error(f"{flavour} is not on this machine; there are {', '.join(starts)}")
    names = [
        name
        for name in SCENARIOS
        if not arguments.pattern or any(part in name for part in arguments.pattern)
    ]
    if flavour in golden.EXCEPTIONS:
        names = [name for name in names if name in golden.EXCEPTIONS[flavour][1]]
    return _record(starts[flavour], flavour, names)


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
            changes = difflib.unified_diff(first.splitlines(), second.splitlines(), n=0, lineterm="")
            print("\n".join(f"  {line[:300]}" for line in changes))
    print(f"{len(names) - unstable} recorded, {unstable} unstable")
    return 1 if unstable else 0


if __name__ == "__main__":
    sys.exit(main())
