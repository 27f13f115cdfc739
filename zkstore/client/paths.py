"""Paths between the program and the wire: the chroot goes in front, and comes off again.

Source: PathUtils, ZooKeeper.prependChroot; reference: E3, V2.
"""

from __future__ import annotations

from zkstore.client.errors import BadArguments
from zkstore.errors import Code


class Paths:
    """One client's view of the tree: everything below its chroot."""

    def __init__(self, chroot: str) -> None:
        """`chroot` is "" or "/a/b"."""
        self._chroot = chroot.encode()

    def wire(self, path: str) -> bytes:
        """The path for a server. Raises: BadArguments for one that would leave the chroot, or that
        has no bytes; the rest of the rules are the server's."""
        if not path.startswith("/"):
            raise BadArguments(Code.BAD_ARGUMENTS, f"path {path!r} does not begin with /")
        try:
            encoded = path.encode()
        except UnicodeEncodeError as error:
            raise BadArguments(Code.BAD_ARGUMENTS, f"path {path!r}: {error.reason}") from None
        return self._chroot or b"/" if encoded == b"/" else self._chroot + encoded

    def shown(self, path: bytes) -> str:
        """The path for the program."""
        return path[len(self._chroot) :].decode(errors="replace") or "/"


def join(parent: str, name: str) -> str:
    return f"/{name}" if parent == "/" else f"{parent}/{name}"


def ancestors(path: str) -> list[str]:
    """The path's ancestors from the top, without the root: /a/b/c has /a and /a/b."""
    parts = path.split("/")[1:-1]
    return ["/" + "/".join(parts[: count + 1]) for count in range(len(parts))]
