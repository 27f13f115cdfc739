"""Make nodes fast: `python -m bench.fill --port P --nodes 1000000`.

Owns:   one session.
Design: each request is a multi of BATCH creates and WINDOW of them are in flight, so that a million
  nodes take a minute and not an hour.
Not here: the paths (wire.key_path).
"""

from __future__ import annotations

import argparse
import random
import struct
import sys
from collections.abc import Sequence
from typing import Final

from bench import wire

BATCH: Final = 100
WINDOW: Final = 8


def fill(port: int, nodes: int, data_bytes: int, seed: int) -> None:
    """Make the nodes `wire.key_path(0 … nodes - 1)` and their parents, with random data.

    Raises: BenchmarkError if one of them exists already or cannot be made.
    """
    data = random.Random(seed).randbytes(data_bytes)
    session = wire.open_session(port)
    exists_or_made = (0, wire.NODE_EXISTS)
    for path in ("/bench", *map(wire.parent_path, range(wire.PARENTS))):
        wire.call(session, wire.CREATE, wire.create_body(path, b""), allowed=exists_or_made)
    in_flight = 0
    for first in range(0, nodes, BATCH):
        ops = [
            (wire.CREATE, wire.create_body(wire.key_path(key), data))
            for key in range(first, min(first + BATCH, nodes))
        ]
        session.sendall(wire.request(1, wire.MULTI, wire.multi_body(ops)))
        in_flight += 1
        if in_flight == WINDOW:
            _check(wire.receive_reply(session))
            in_flight -= 1
    for _ in range(in_flight):
        _check(wire.receive_reply(session))
    wire.close_sessions([session])


def _check(reply: wire.Reply) -> None:
    """A multi that failed says so in its header or in the type of its first result."""
    failed = reply.error or struct.unpack_from(">i", reply.body)[0] == -1
    if failed:
        raise wire.BenchmarkError(f"fill: {reply.error} {reply.body[:64]!r}")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fill", description=__doc__)
    parser.add_argument("--port", type=int, default=2181)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--data-bytes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    try:
        fill(args.port, args.nodes, args.data_bytes, args.seed)
    except (wire.BenchmarkError, OSError) as error:
        print(f"bench.fill: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
