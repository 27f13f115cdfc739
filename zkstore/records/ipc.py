"""What workers and the commit process say to each other: the kinds of items and their payloads.

Owns:   nothing; pure. How a message travels is frontend/link.py's and commit/links.py's.
Shape:  a message is one flat list, msgpack behind a 4-byte length on a stream, the list itself in
        memory.
        To the commit process: kind, connection, payload, kind, connection, payload, …
        To a worker: applied zxid, then kind, connection, number, payload, …
        Connections are numbered by their worker; 0 is the worker itself.
Design: one message a turn: a hop costs as much as some twenty requests. Only a turn with more
        bytes than a message may have (constants.IPC_PIECE_BYTES_MAX) goes in several.
        Pipelined requests travel together: a run of one kind is one item, and so are replies that
        follow each other. What is done for each item is then done once for many requests.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

# Worker → commit process.
REQUEST: Final = 0  # payload: frames as they came, each with its length; see `frames_of`
OPEN: Final = 1  # a client connected; payload: its address
CONNECT: Final = 2  # payload: the ConnectRequest frame
IDENTITIES: Final = 3  # payload: [scheme, id, …], as they are from now on
CLOSED: Final = 4  # the connection is gone, and not by LAST; payload: None
TOUCHES: Final = 5  # payload: [reported up to ms, session, heard ms, …]
# payload: the zxid that the worker's watches stand at; None: it has none any more
WATCHING: Final = 6
ADMIN: Final = 7  # payload: [a four-letter word that needs the whole replica, its argument]
GATHERED: Final = 8  # connection: ticket; payload: the worker's part
BARRIER: Final = 9  # connection: 0; payload: its number, which comes back behind it

# Commit process → worker.
REPLY: Final = 0  # number: zxid of the last; payload: [frame, …]
SESSION: Final = 1  # number: zxid; payload: [frame, session id, timeout_ms]
LAST: Final = 2  # payload: a frame; the connection ends, for the commit process with this item
CLOSE: Final = 3  # the connection ends at once; payload: why, for the log, or None
TEXT: Final = 4  # payload: an answer to ADMIN; then the connection ends
GATHER: Final = 5  # connection: ticket; payload: what is asked for
SETTINGS: Final = 6  # connection: 0; payload: {field of Settings that was changed: its value, …}
REOPEN: Final = 7  # first in its message: the data are in another file from now on
PASSED: Final = 8  # connection: 0; payload: the number of a BARRIER

TO_COMMIT_WIDTH: Final = 3
RUN_MAX: Final = 64  # requests of one connection in one REQUEST

Message = list[Any]

_SIZE = struct.Struct(">i").unpack_from


def frames_of(run: bytes) -> Iterator[bytes]:
    """The frames of a REQUEST, without their lengths."""
    at, end = 0, len(run)
    while at < end:
        stop = at + 4 + _SIZE(run, at)[0]
        yield run[at + 4 : stop]
        at = stop


def with_length(frame: bytes) -> bytes:
    """A frame as it came."""
    return len(frame).to_bytes(4, "big") + frame
