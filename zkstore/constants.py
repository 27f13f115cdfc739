"""Limits and protocol numbers, and the relations between them, checked at import.

Every queue, buffer and cache that is not bounded by a setting has its bound here (invariant
Bounded).
"""

from __future__ import annotations

from typing import Final

# ---- what a worker keeps for one client
# unsent replies and events; beyond: connection closed
CLIENT_WRITE_BUFFER_BYTES_MAX: Final = 32 << 20
CLIENT_WRITE_BUFFER_BYTES_HIGH: Final = 1 << 20  # beyond: requests of this client are not read
REQUEST_BYTES_OUTSTANDING_MAX: Final = 16 << 20  # of a worker's clients; beyond: R1's rule
# how long a connection that is closed waits for the client to read the rest
CLOSE_LINGER_MS: Final = 3000
DROP_LINGER_MS: Final = 100  # its session is gone or elsewhere, and somebody may be waiting
READS_TURN_S: Final = 0.01  # of pipelined reads of one client, then the others have a turn
CONNECT_FRAME_BYTES_MAX: Final = 1024  # a ConnectRequest has 44 or 45 bytes
IDENTITIES_MAX: Final = 256  # that a connection may prove; each change sends them all

# ---- between a worker and the commit process
IPC_MESSAGE_BYTES_MAX: Final = 1 << 30  # a batch of requests or replies; larger is a bug of ours
# a worker's turn with more goes in several messages, each larger by one frame at most
IPC_PIECE_BYTES_MAX: Final = 64 << 20
FRAME_BYTES_MAX: Final = 512 << 20  # to which jute.maxbuffer may be raised
HEARTBEAT_INTERVAL_MS: Final = 250  # commit process to workers
SILENT_BEATS_MAX: Final = 16  # after which a worker that does not report is killed: 4 seconds
TOUCH_INTERVAL_MS: Final = 200  # workers to commit process: which sessions were heard
GATHER_TIMEOUT_MS: Final = 1000  # how long `stat` and its kin wait for a worker's part

# ---- one batch
BATCH_REQUESTS_MAX: Final = 1000  # requests prepared for one journal record
BATCH_BYTES_MAX: Final = 4 << 20  # request bytes after which a batch is closed
OUTSTANDING_PROPOSALS_MAX: Final = 50_000  # beyond: learners that ask for more are closed
OUTSTANDING_THROTTLED: Final = 10_000  # beyond: the leader's own clients are refused

# ---- what one of Keeper's requests may touch: longer, and everybody waits for it
REMOVE_RECURSIVE_NODES_MAX: Final = 10_000
REMOVE_RECURSIVE_BYTES_MAX: Final = 4 << 20  # of their paths, which the txn lists
LIST_RECURSIVE_NODES_MAX: Final = 100_000

# ---- sessions
PASSWORD_BYTES: Final = 16
CLOSE_SESSION_PATHS_BYTES_MAX: Final = 512 << 10  # paths listed in a closeSession txn, else none
TTL_MS_MAX: Final = (1 << 40) - 1

# ---- between the members of an ensemble
PACKET_IDENTITIES_MAX: Final = 1024  # of a client in one packet; ours prove IDENTITIES_MAX
# a greater id would make session ids that look like the owners of TTL nodes
EXTENDED_SID_MAX: Final = 254
# between two times that a replica whose tree is outvoted takes the leader's
DIGEST_HEAL_INTERVAL_MS: Final = 600_000
LINKS_MAX: Final = 1000  # at the quorum port; beyond: closed
LINK_UNSENT_BYTES_MAX: Final = 64 << 20  # to a learner; beyond: closed, it comes back by DIFF
NOTIFICATION_BYTES_MAX: Final = 512 << 10  # Source: QuorumCnxManager.PACKETMAXSIZE
ELECTION_STRANGERS_MAX: Final = 32  # servers that are no members, and connections without a name

# ---- storage
INLINE_DATA_BYTES_MAX: Final = 1024  # larger data lives apart from its node
LMDB_KEY_BYTES_MAX: Final = 511
LOOKED_NODES_MAX: Final = 10_000  # that a batch looked up and remembers until it is committed
ACL_IDS_MAX: Final = 10_000  # ids of ACLs that the writer remembers
ACL_BYTES_REMEMBERED_MAX: Final = 4096
DIGEST_INTERVAL: Final = 128  # zxids between two digests that `hash` shows. Source: DataTree
DIGESTS_MAX: Final = 1024  # that are remembered
LOG_TRIM_BATCHES_MAX: Final = 2  # batches trimmed for each one appended

assert CLIENT_WRITE_BUFFER_BYTES_HIGH < CLIENT_WRITE_BUFFER_BYTES_MAX
assert HEARTBEAT_INTERVAL_MS * 4 <= 1000
# What else a turn proposes by itself (expired sessions, a sweep) has its place above the limit.
assert OUTSTANDING_THROTTLED + 4 * BATCH_REQUESTS_MAX < OUTSTANDING_PROPOSALS_MAX
assert IDENTITIES_MAX <= PACKET_IDENTITIES_MAX
assert REMOVE_RECURSIVE_BYTES_MAX <= BATCH_BYTES_MAX
assert BATCH_BYTES_MAX < IPC_MESSAGE_BYTES_MAX
assert IPC_PIECE_BYTES_MAX + FRAME_BYTES_MAX < IPC_MESSAGE_BYTES_MAX
assert INLINE_DATA_BYTES_MAX < 2000  # a larger value would go to LMDB's overflow pages
