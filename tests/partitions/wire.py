"""A slow wire between two switches: every frame arrives so much later, in order, none is lost.

Owns:   two raw sockets, one at each end.
Shape:  `python -m tests.partitions.wire INTERFACE INTERFACE DELAY_MS`, in the switches' namespace;
  prints a line when it carries, runs until it is killed.
Design: kernels are built without netem often enough; two packet sockets do as well for some
  thousand frames a second. Hosts must not offload checksums or segmentation (hosts.py sees to it).
"""

from __future__ import annotations

import select
import socket
import sys
import time
from collections import deque
from typing import Final

_ALL_FRAMES: Final = 3  # ETH_P_ALL
_FRAME_BYTES_MAX: Final = 70_000
_OUTGOING: Final = 4  # PACKET_OUTGOING: what we sent ourselves comes back


def main(one: str, other: str, delay_ms: str) -> None:
    ends = []
    for name in (one, other):
        end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_FRAMES))
        end.bind((name, 0))
        end.setblocking(False)
        ends.append(end)
    delay = float(delay_ms) / 1000
    under_way: deque[tuple[float, socket.socket, bytes]] = deque()
    print("carries", flush=True)
    while True:
        wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
        for end in select.select(ends, [], [], wait)[0]:
            frame, address = end.recvfrom(_FRAME_BYTES_MAX)
            if address[2] != _OUTGOING:
                target = ends[1] if end is ends[0] else ends[0]
                under_way.append((time.monotonic() + delay, target, frame))
        now = time.monotonic()
        while under_way and under_way[0][0] <= now:
            _, target, frame = under_way.popleft()
            target.send(frame)


if __name__ == "__main__":
    main(*sys.argv[1:])
