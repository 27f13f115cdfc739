"""The bounds of what a client keeps, and the pace of its attempts to connect."""

from __future__ import annotations

from typing import Final

# Requests that wait for their reply or for a connection; one more call waits its turn. A server
# reads no further than its own globalOutstandingLimit, 1000 in Apache ZooKeeper.
REQUESTS_MAX: Final = 1000

# Events that a watch keeps for its reader; beyond, they are replaced by one GAP.
EVENTS_MAX: Final = 10_000

# A server does not limit its replies, so this is only a guard against nonsense on the wire.
REPLY_BYTES_MAX: Final = 256 << 20

# Paths in one setWatches, as the Java client does it: well below any server's frame limit.
SET_WATCHES_BYTES_MAX: Final = 128 << 10

# Children read together by `nodes`.
PAGE_NODES: Final = 256

# Pause after each server has been tried once: random, up to a bound that doubles.
BACKOFF_SECONDS_MIN: Final = 0.1
BACKOFF_SECONDS_MAX: Final = 2.0
CONNECT_SECONDS_MIN: Final = 1.0  # for one attempt, however many servers share the timeout

assert PAGE_NODES <= REQUESTS_MAX
