"""Opens what a replica listens on: the client port, and the socket between its own processes.

Owns:   the sockets until they are handed on, and the file of the Unix socket.
Invariants:
  1. The client port is bound exclusively. With SO_REUSEPORT a second server on the same port would
     silently take half of the clients.
  2. Nobody but this user can connect to the commit socket.
  3. A commit socket that a live server listens on is never removed.
Not here: accepting (frontend/, commit/).
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any, Final

from zkstore.errors import ConfigError, DirectoryInUse
from zkstore.settings import Settings

# Java's default of 50 loses connections when thousands of clients come back at once.
_BACKLOG_DEFAULT: Final = 1024
# sun_path holds 108 bytes on Linux and 104 elsewhere.
_UNIX_PATH_BYTES_MAX: Final = 100


def bind_client_port(settings: Settings) -> socket.socket:
    """The listening socket of the client port; an empty address means all, IPv6 and IPv4 together.

    Raises: ConfigError for an address that is not ours, DirectoryInUse for a port that is taken.
    """
    host, port = settings.client_port_address, settings.client_port
    shown = f"{host or '*'}:{port}"
    listening = None
    try:
        family, address = _resolve(host, port)
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if host else 0)
        listening.bind(address)
        backlog = settings.client_port_listen_backlog
        listening.listen(backlog if backlog > 0 else _BACKLOG_DEFAULT)
    except OSError as error:
        if listening is not None:
            listening.close()
        message = f"cannot listen on {shown}: {error.strerror or error}"
        if error.errno == errno.EADDRINUSE:
            raise DirectoryInUse(message) from error
        raise ConfigError(message) from error
    listening.setblocking(False)
    return listening


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    if not host:
        return (socket.AF_INET6, ("::", port)) if _has_ipv6() else (socket.AF_INET, ("", port))
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    return family, address


def _has_ipv6() -> bool:
    """Whether an IPv6 socket that takes IPv4 connections too can be had on this machine."""
    if not socket.has_dualstack_ipv6():
        return False
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


class CommitSocket:
    """The Unix socket on which the commit process hears from the workers."""

    def __init__(self, data_dir: Path) -> None:
        self._temporary: str | None = None
        name = f"commit.{os.urandom(4).hex()}.sock"
        try:
            self.path = _private_directory(data_dir) / name
            if len(os.fsencode(self.path)) >= _UNIX_PATH_BYTES_MAX:
                raise OSError("path too long")
            self.listening = _listen(self.path)
        except OSError:
            # The path is too long, or the file system knows no sockets.
            self._temporary = tempfile.mkdtemp(prefix="zkstore-")
            self.path = Path(self._temporary) / name
            self.listening = _listen(self.path)

    def close(self) -> None:
        self.listening.close()
        self.path.unlink(missing_ok=True)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)


def _private_directory(data_dir: Path) -> Path:
    """<dataDir>/zkstore, made if it is missing, without the sockets that killed servers left."""
    directory = data_dir / "zkstore"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make {directory}: {error.strerror}") from error
    for left in directory.glob("commit.*.sock"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(left))
            except ConnectionRefusedError:
                left.unlink(missing_ok=True)
            except OSError:
                continue
    return directory


def _listen(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(str(path))
        path.chmod(0o600)
        listening.listen(_BACKLOG_DEFAULT)
    except OSError:
        listening.close()
        raise
    return listening
