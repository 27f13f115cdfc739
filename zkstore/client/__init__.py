"""A thin, typed ZooKeeper client: `Client` for asyncio, `SyncClient` for everybody else.

Works with zkstore and with Apache ZooKeeper 3.6 and newer. Layers, each importing only those
before it: `connection` (frames), `session` (reconnects), `tree` (operations), `raw` (more of them),
`client`, `blocking`.
Not here: recipes; kazoo has them.
"""

from zkstore.client.blocking import SyncClient, SyncIterator, SyncTransaction, SyncTree
from zkstore.client.client import Client
from zkstore.client.codec import BYTES, JSON, MSGPACK, TEXT, Codec
from zkstore.client.errors import (
    AuthFailed,
    BadArguments,
    BadVersion,
    ClientClosed,
    ConnectionLoss,
    InvalidAcl,
    NoAuth,
    NoChildrenForEphemerals,
    NodeExists,
    NoNode,
    NotEmpty,
    OperationTimeout,
    QuotaExceeded,
    SessionExpired,
    Unimplemented,
)
from zkstore.client.model import ANY_VERSION, CREATOR, OPEN, READ_ONLY, Acl, Node, Perms
from zkstore.client.session import State
from zkstore.client.transaction import Outcome, Transaction
from zkstore.client.tree import Tree
from zkstore.client.watch import Observation, Watch
from zkstore.client.watches import Event, EventType
from zkstore.errors import Code, ZkstoreError, ZooKeeperError
from zkstore.proto.client_replies import Stat

__all__ = [
    # clients
    "Client",
    "SyncClient",
    "Tree",
    "SyncTree",
    "Transaction",
    "SyncTransaction",
    "SyncIterator",
    "Observation",
    "Watch",
    # what they give and take
    "ANY_VERSION",
    "Acl",
    "CREATOR",
    "Event",
    "EventType",
    "Node",
    "OPEN",
    "Outcome",
    "Perms",
    "READ_ONLY",
    "Stat",
    "State",
    # codecs
    "BYTES",
    "Codec",
    "JSON",
    "MSGPACK",
    "TEXT",
    # errors
    "AuthFailed",
    "BadArguments",
    "BadVersion",
    "ClientClosed",
    "Code",
    "ConnectionLoss",
    "InvalidAcl",
    "NoAuth",
    "NoChildrenForEphemerals",
    "NoNode",
    "NodeExists",
    "NotEmpty",
    "OperationTimeout",
    "QuotaExceeded",
    "SessionExpired",
    "Unimplemented",
    "ZkstoreError",
    "ZooKeeperError",
]
