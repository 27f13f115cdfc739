"""What Apache's servers said to each other: connections of whole ensembles, byte for byte.

Shape:  data/quorum/<capture>.tar.gz holds <number>-<port>-from-<source port>.<way>: port q<sid> is
        a leader's quorum port, e<sid> an election port, om an observer master's; way c2s is from
        who dialled. A capture may begin and end in the midst of things, and then a direction too.
        Servers are 3.9.3; in the captures named mix, 3.8.0 as well.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from zkstore.proto.quorum import SNAP, Decoder, Packet

DATA = Path(__file__).parent / "data" / "quorum"
CAPTURES = sorted(path.name.removesuffix(".tar.gz") for path in DATA.glob("*.tar.gz"))
PACKET_BYTES_MAX = 4 << 20
# What stands behind a snapshot in the stream of packets.
SNAPSHOT_END = b"\0\0\0\x0aBenWasHere"


class Direction(NamedTuple):
    """One way of one connection."""

    name: str
    port: str  # "q2", "e1", "om"
    dialled: bool  # by who sends these bytes
    content: bytes


def directions(capture: str) -> Iterator[Direction]:
    with tarfile.open(DATA / f"{capture}.tar.gz") as archive:
        for entry in archive:
            source = archive.extractfile(entry)
            assert source is not None
            name, _, way = entry.name.rpartition(".")
            port = "om" if name.startswith("om-") else name.split("-")[1]
            yield Direction(name, port, way == "c2s", source.read())


def packets(content: bytes) -> tuple[list[Packet], list[bytes], bytes]:
    """(packets, the snapshots behind each SNAP, the beginning of a packet that was cut off)."""
    decoder = Decoder(PACKET_BYTES_MAX)
    found = decoder.feed(content)
    snapshots = []
    read = content
    while decoder.stopped:
        rest = decoder.rest()
        end = rest.index(SNAPSHOT_END) + len(SNAPSHOT_END)
        snapshots.append(rest[:end])
        read = rest[end:]
        found += decoder.feed(read)
    assert sum(packet.type == SNAP for packet in found) == len(snapshots)
    return found, snapshots, content[len(content) - decoder.held_bytes :]
