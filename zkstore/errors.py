"""Every error that crosses a module's border, and whose fault it is.

* `ZooKeeperError`: a request was refused; its `code` goes back to the client in the reply header.
* `RemoteProtocolError`: a peer or client sent what the protocol does not allow; its connection is
  closed.
* `CorruptionError`: a file is not what was written; names file and offset.
* `FormatError`: the data directory is of a format this program does not read.
* `LogTrimmed`: the log does not reach back to where it is asked for; a snapshot can help.
* `StorageFull`: the disk has no room for a write that grows; the write is refused, everything else
  goes on.
* `StorageFailed`: a write or flush failed: the page cache is no longer to be trusted and the
  process stops.
* `ConfigError`: the configuration is wrong; names file, line and what was expected.

Our own mistakes are no error class here: they are asserts, with the numbers in them.
"""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """Error codes of the client protocol. Source: KeeperException.Code."""

    OK = 0
    SYSTEM_ERROR = -1
    RUNTIME_INCONSISTENCY = -2
    DATA_INCONSISTENCY = -3
    CONNECTION_LOSS = -4
    MARSHALLING_ERROR = -5
    UNIMPLEMENTED = -6
    OPERATION_TIMEOUT = -7
    BAD_ARGUMENTS = -8
    UNKNOWN_SESSION = -12
    NEW_CONFIG_NO_QUORUM = -13
    RECONFIG_IN_PROGRESS = -14
    API_ERROR = -100
    NO_NODE = -101
    NO_AUTH = -102
    BAD_VERSION = -103
    NO_CHILDREN_FOR_EPHEMERALS = -108
    NODE_EXISTS = -110
    NOT_EMPTY = -111
    SESSION_EXPIRED = -112
    INVALID_CALLBACK = -113
    INVALID_ACL = -114
    AUTH_FAILED = -115
    SESSION_MOVED = -118
    NOT_READ_ONLY = -119
    EPHEMERAL_ON_LOCAL_SESSION = -120
    NO_WATCHER = -121
    REQUEST_TIMEOUT = -122
    RECONFIG_DISABLED = -123
    SESSION_CLOSED_REQUIRE_SASL_AUTH = -124
    QUOTA_EXCEEDED = -125
    THROTTLED_OP = -127


class ZkstoreError(Exception):
    """The root of all errors that zkstore raises on purpose."""


class ZooKeeperError(ZkstoreError):
    """A request refused with a code of the client protocol."""

    def __init__(self, code: Code, detail: str = "") -> None:
        super().__init__(f"{code.name} {detail}".rstrip())
        self.code = code


class RemoteProtocolError(ZkstoreError):
    """The other side broke the protocol."""


class CorruptionError(ZkstoreError):
    """A file's content fails its check."""


class FormatError(ZkstoreError):
    """The data directory has a format that this program does not read."""


class LogTrimmed(ZkstoreError):
    """The log does not reach back far enough."""


class StorageFull(ZkstoreError):
    """No room for a write that grows."""


class StorageFailed(ZkstoreError):
    """A write or a flush failed; the process must stop and start again from its checkpoint."""


class DirectoryInUse(ZkstoreError):
    """Another process has the data directory (or a port) that this one needs."""


class ConfigError(ZkstoreError):
    """The configuration is wrong."""
