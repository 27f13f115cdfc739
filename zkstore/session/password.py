"""Session ids and passwords: the same as Apache's, so that sessions survive a move between the two.

Source: SessionTrackerImpl.initializeNextSessionId, ZooKeeperServer.generatePasswd,
        java.util.Random.
"""

from __future__ import annotations

from typing import Final

from zkstore.constants import PASSWORD_BYTES

_SECRET: Final = 0xB3415C00
_MULTIPLIER: Final = 0x5DEECE66D
_MASK: Final = (1 << 48) - 1


def first_session_id(server_id: int, now_ms: int) -> int:
    """Where a server that starts now begins to count: server id in the top byte, then 40 bits of
    time."""
    unsigned = ((server_id & 0xFF) << 56) | ((now_ms << 16) & ((1 << 56) - 1))
    return unsigned - (1 << 64) if unsigned >> 63 else unsigned


def password_of(session_id: int) -> bytes:
    """16 bytes that every server computes alike: Random(id ^ secret).nextBytes. No security
    value."""
    seed = ((session_id ^ _SECRET) ^ _MULTIPLIER) & _MASK
    password = b""
    while len(password) < PASSWORD_BYTES:
        seed = (seed * _MULTIPLIER + 0xB) & _MASK
        password += (seed >> 16).to_bytes(4, "little")
    return password
