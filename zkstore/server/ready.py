"""What a replica says when it is ready: the one line on stdout that a script can wait for."""

from __future__ import annotations

from typing import NamedTuple

from zkstore.settings import Settings
from zkstore.version import VERSION


class Ready(NamedTuple):
    """What the commit process found at its start."""

    zxid: int
    znodes: int
    replayed: int  # transactions
    seconds: float  # from the start of recovery to its end


def ready_line(settings: Settings, found: Ready) -> str:
    """The one line that tells a person, and a script that waits for it, where the server is."""
    host = settings.client_port_address or "0.0.0.0"
    port = settings.client_port
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if settings.embedded:
        processes = "embedded"
    else:
        processes = f"{settings.workers} worker{'s' if settings.workers != 1 else ''}"
    return (
        f"zkstore {VERSION} ready on {shown}, {processes}, data in {settings.data_dir}"
        f" (zxid {found.zxid:#x}, {found.znodes} znodes,"
        f" recovered {found.replayed} transactions in {found.seconds:.2f} s)"
    )
