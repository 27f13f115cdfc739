"""The client protocol's operations, special xids, and the short names that `cons` shows.

Source: ZooDefs.OpCode, Request.op2String, ClientCnxn.
"""

from __future__ import annotations

from typing import Final

NOTIFICATION: Final = 0
CREATE: Final = 1
DELETE: Final = 2
EXISTS: Final = 3
GET_DATA: Final = 4
SET_DATA: Final = 5
GET_ACL: Final = 6
SET_ACL: Final = 7
GET_CHILDREN: Final = 8
SYNC: Final = 9
PING: Final = 11
GET_CHILDREN2: Final = 12
CHECK: Final = 13
MULTI: Final = 14
CREATE2: Final = 15
RECONFIG: Final = 16
CHECK_WATCHES: Final = 17
REMOVE_WATCHES: Final = 18
CREATE_CONTAINER: Final = 19
DELETE_CONTAINER: Final = 20
CREATE_TTL: Final = 21
MULTI_READ: Final = 22
AUTH: Final = 100
SET_WATCHES: Final = 101
SASL: Final = 102
GET_EPHEMERALS: Final = 103
GET_ALL_CHILDREN_NUMBER: Final = 104
SET_WATCHES2: Final = 105
ADD_WATCH: Final = 106
WHO_AM_I: Final = 107
# ClickHouse Keeper's. Source: ZooKeeperConstants.h.
FILTERED_LIST: Final = 500
CHECK_NOT_EXISTS: Final = 501
CREATE_IF_NOT_EXISTS: Final = 502
REMOVE_RECURSIVE: Final = 503
CHECK_STAT: Final = 504
TRY_REMOVE: Final = 505
LIST_WITH_STATS_AND_DATA: Final = 506
LIST_RECURSIVE: Final = 507
LIST_PAGE: Final = 1001  # zkstore's own
CREATE_SESSION: Final = -10
CLOSE_SESSION: Final = -11
ERROR: Final = -1

XID_NOTIFICATION: Final = -1
XID_PING: Final = -2
XID_AUTH: Final = -4
XID_SET_WATCHES: Final = -8

CREATES: Final = frozenset((CREATE, CREATE2, CREATE_CONTAINER, CREATE_TTL))

KEEPER_WRITES: Final = frozenset(
    (CHECK_NOT_EXISTS, CREATE_IF_NOT_EXISTS, REMOVE_RECURSIVE, CHECK_STAT, TRY_REMOVE)
)

# What goes through the commit process, in the order of its session.
WRITES: Final = frozenset(
    (
        CREATE, CREATE2, CREATE_CONTAINER, CREATE_TTL, DELETE, SET_DATA, SET_ACL,
        MULTI, RECONFIG, SYNC, CLOSE_SESSION, *KEEPER_WRITES,
    )
)  # fmt: skip

# Create flags. Source: CreateMode.
PERSISTENT: Final = 0
EPHEMERAL: Final = 1
PERSISTENT_SEQUENTIAL: Final = 2
EPHEMERAL_SEQUENTIAL: Final = 3
CONTAINER: Final = 4
PERSISTENT_WITH_TTL: Final = 5
PERSISTENT_SEQUENTIAL_WITH_TTL: Final = 6

EPHEMERAL_FLAGS: Final = frozenset((EPHEMERAL, EPHEMERAL_SEQUENTIAL))
SEQUENTIAL_FLAGS: Final = frozenset(
    (PERSISTENT_SEQUENTIAL, EPHEMERAL_SEQUENTIAL, PERSISTENT_SEQUENTIAL_WITH_TTL)
)
TTL_FLAGS: Final = frozenset((PERSISTENT_WITH_TTL, PERSISTENT_SEQUENTIAL_WITH_TTL))

# Access rights. Source: ZooDefs.Perms.
READ: Final = 1
WRITE: Final = 2
CREATE_PERM: Final = 4
DELETE_PERM: Final = 8
ADMIN: Final = 16
ALL_PERMS: Final = 31

# Event types. Source: Watcher.Event.EventType.
NODE_CREATED: Final = 1
NODE_DELETED: Final = 2
NODE_DATA_CHANGED: Final = 3
NODE_CHILDREN_CHANGED: Final = 4
SYNC_CONNECTED: Final = 3  # the only state that a server sends

SHORT_NAMES: Final[dict[int, str]] = {
    PING: "PING",
    CREATE_SESSION: "SESS",
    MULTI: "MULT",
    MULTI_READ: "MLTR",
    CREATE: "CREA",
    CREATE2: "CREA",
    CREATE_CONTAINER: "CREA",
    CREATE_TTL: "CREA",
    DELETE: "DELE",
    DELETE_CONTAINER: "DELE",
    SET_DATA: "SETD",
    RECONFIG: "RECO",
    SET_ACL: "SETA",
    CLOSE_SESSION: "CLOS",
    SYNC: "SYNC",
    CHECK: "CHEC",
    EXISTS: "EXIS",
    GET_DATA: "GETD",
    SET_WATCHES: "SETW",
    SET_WATCHES2: "STW2",
    ADD_WATCH: "ADDW",
    GET_ACL: "GETA",
    GET_CHILDREN: "GETC",
    GET_CHILDREN2: "GETC",
    GET_ALL_CHILDREN_NUMBER: "GETACN",
    CHECK_WATCHES: "CHKW",
    REMOVE_WATCHES: "REMW",
    WHO_AM_I: "HOMI",
    GET_EPHEMERALS: "GETE",
    FILTERED_LIST: "LSTF",
    CHECK_NOT_EXISTS: "CHNE",
    CREATE_IF_NOT_EXISTS: "CRNE",
    REMOVE_RECURSIVE: "RMRC",
    CHECK_STAT: "CHST",
    TRY_REMOVE: "TRYR",
    LIST_WITH_STATS_AND_DATA: "LSTD",
    LIST_RECURSIVE: "LSTR",
    LIST_PAGE: "LSTP",
}
