"""zkstore: a ZooKeeper server. `zkstore.Server` runs one inside a Python program
(server/embedded.py).

The name is looked up when it is first used, so that the processes of a replica load only what they
need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zkstore.server.embedded import Server

__all__ = ["Server"]


def __getattr__(name: str) -> Any:
    if name == "Server":
        from zkstore.server.embedded import Server

        return Server
    raise AttributeError(f"module 'zkstore' has no attribute {name!r}")
