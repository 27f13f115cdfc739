"""Tells systemd how the service is doing, if systemd wants to know.

Source: sd_notify(3); the protocol is a datagram to the socket that NOTIFY_SOCKET names.
"""

from __future__ import annotations

import logging
import os
import socket

_log = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Sends a state such as "READY=1"; does nothing where nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # Linux' abstract name space
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        try:
            datagrams.sendto(state.encode(), address)
        except OSError as error:
            _log.warning("cannot notify systemd at %s: %s", address, error.strerror)
