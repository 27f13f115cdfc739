"""What a client raises: one class for each error that a program may want to tell apart.

Each is a `ZooKeeperError` with its `code`; a code without a class of its own is raised as plain
`ZooKeeperError`.
Source: KeeperException.
"""

from __future__ import annotations

from typing import Final

from zkstore.errors import Code, ZkstoreError, ZooKeeperError


class NoNode(ZooKeeperError):
    """The node does not exist; of a create: its parent does not."""


class NodeExists(ZooKeeperError):
    """The node to be created exists."""


class BadVersion(ZooKeeperError):
    """The node has another version than the caller expected."""


class NotEmpty(ZooKeeperError):
    """The node to be deleted has children."""


class NoChildrenForEphemerals(ZooKeeperError):
    """The parent is ephemeral."""


class NoAuth(ZooKeeperError):
    """The node's ACL does not grant this."""


class InvalidAcl(ZooKeeperError):
    """The server does not take this ACL."""


class BadArguments(ZooKeeperError):
    """The request makes no sense: most often its path."""


class Unimplemented(ZooKeeperError):
    """The server does not know the operation, or has it switched off."""


class QuotaExceeded(ZooKeeperError):
    """The write would exceed a hard quota."""


class AuthFailed(ZooKeeperError):
    """The server refused the credentials; the client is of no more use."""


class ConnectionLoss(ZooKeeperError):
    """The connection was cut before the reply to a write came.

    The write may have happened or not: read, and decide. Only writes raise this; reads are repeated
    on the next connection.
    """


class SessionExpired(ZooKeeperError):
    """The session is gone, and its ephemeral nodes with it; the client is of no more use."""


class OperationTimeout(ZooKeeperError):
    """The synchronous client's time limit ended; what was asked for may still happen."""


class ClientClosed(ZkstoreError):
    """The client was closed by its own program."""


_CLASSES: Final[dict[Code, type[ZooKeeperError]]] = {
    Code.NO_NODE: NoNode,
    Code.NODE_EXISTS: NodeExists,
    Code.BAD_VERSION: BadVersion,
    Code.NOT_EMPTY: NotEmpty,
    Code.NO_CHILDREN_FOR_EPHEMERALS: NoChildrenForEphemerals,
    Code.NO_AUTH: NoAuth,
    Code.INVALID_ACL: InvalidAcl,
    Code.BAD_ARGUMENTS: BadArguments,
    Code.UNIMPLEMENTED: Unimplemented,
    Code.QUOTA_EXCEEDED: QuotaExceeded,
    Code.AUTH_FAILED: AuthFailed,
    Code.CONNECTION_LOSS: ConnectionLoss,
    Code.SESSION_EXPIRED: SessionExpired,
    Code.OPERATION_TIMEOUT: OperationTimeout,
}


def error_of(code: int, detail: str) -> ZooKeeperError:
    """The error for a reply's code; `detail` says what was asked for."""
    try:
        known = Code(code)
    except ValueError:  # a server newer than this program
        return ZooKeeperError(Code.SYSTEM_ERROR, f"(code {code}) {detail}")
    return _CLASSES.get(known, ZooKeeperError)(known, detail)
