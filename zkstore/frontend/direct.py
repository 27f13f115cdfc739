"""What is answered at once, whatever else the client waits for: pings and proofs of identity.

Owns:   nothing.
Not here: who proves what, and how (tree/auth.py).
Source: FinalRequestProcessor, ZooKeeperServer.processPacket; reference J15.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from zkstore.errors import Code, RemoteProtocolError
from zkstore.jute.codec import NULL
from zkstore.proto import opcodes as op
from zkstore.proto import replies, requests
from zkstore.tree.auth import AuthFailed

if TYPE_CHECKING:
    from zkstore.frontend.client import Client

KINDS: Final = frozenset((op.PING, op.AUTH, op.SASL))
PROVING: Final = frozenset((op.AUTH, op.SASL))


def answer(client: Client, frame: bytes, xid: int, kind: int) -> None:
    """Answer one request of these kinds."""
    worker = client.worker
    if kind == op.PING:
        if worker.commit_process_is_alive(client.timeout_ms):
            client.send(replies.reply(op.XID_PING, worker.applied, b""))
            client.stats.last(kind, -1, worker.applied)
            client.count(1, time.monotonic(), worker.read_latency)
    elif kind != op.SASL:
        _authenticate(client, xid, frame)
    elif requests.has_token(frame, requests.BODY):
        client.send(replies.reply(xid, 0, NULL))  # no SASL here: a null token, as Apache answers
    else:
        client.fail("sasl packet without a token")


def _authenticate(client: Client, xid: int, frame: bytes) -> None:
    """J15: the identities grow, or the connection ends."""
    try:
        scheme, auth = requests.read_auth(frame, requests.BODY)
    except RemoteProtocolError as e:
        client.fail(f"auth packet: {e}")
        return
    worker = client.worker
    try:
        identities = worker.providers.prove(scheme, auth, client.address, client.identities)
    except AuthFailed as e:
        worker.auth_failed += 1
        if e.is_told:
            client.send(replies.error(xid, 0, Code.AUTH_FAILED))
        client.fail(f"authentication failed: {e}")
        return
    if identities != client.identities:
        schemes = worker.settings.enforce_auth_schemes
        enforced = any(scheme.decode() in schemes for scheme, _ in identities)
        client.identified(identities, enforced=enforced)
    client.send(replies.reply(xid, 0, b""))
