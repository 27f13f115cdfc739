"""What belongs to the whole replica and is asked for by a word: gathered from all workers, with a
time limit.

Owns:   the questions under way.
Invariants:
  1. Bounded: a worker that does not answer within GATHER_TIMEOUT_MS is left out, not waited for.
"""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections import Counter
from typing import Any

from zkstore.commit.loop import Loop
from zkstore.commit.ports import Connection, Port
from zkstore.commit.sessions import monotonic_ms
from zkstore.constants import GATHER_TIMEOUT_MS
from zkstore.proto import fourletter
from zkstore.records import ipc
from zkstore.version import VERSION


class _Question:
    """A word somebody asked, and the parts that have come in."""

    def __init__(self, connection: Connection, word: str, ports: list[Port]) -> None:
        self.connection = connection
        self.word = word
        self.missing = set(ports)
        self.parts: list[dict[str, Any]] = []


class Admin:
    """Answers four-letter words for the replica."""

    def __init__(self, loop: Loop, aio: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._aio = aio
        self._tickets = 0
        self._questions: dict[int, _Question] = {}
        self._started = time.monotonic()
        loop.on_admin = self.ask
        loop.on_gathered = self._gathered

    def ask(self, connection: Connection, word: str) -> None:
        """Start to answer a word."""
        self._tickets += 1
        ticket = self._tickets
        self._questions[ticket] = _Question(connection, word, self._loop.ports.ports)
        for port in self._loop.ports.ports:
            port.put(ipc.GATHER, ticket, 0, word)
        self._aio.call_later(GATHER_TIMEOUT_MS / 1000, self._answer, ticket)

    def _gathered(self, ticket: int, port: Port, part: object) -> None:
        question = self._questions.get(ticket)
        if question is None or port not in question.missing:
            return
        assert isinstance(part, dict)
        question.missing.remove(port)
        question.parts.append(part)
        if not question.missing:
            self._answer(ticket)

    def _answer(self, ticket: int) -> None:
        question = self._questions.pop(ticket, None)
        if question is None:
            return
        text = fourletter.ANSWERS[question.word](self._snapshot(question))
        connection = question.connection
        connection.port.put(ipc.TEXT, connection.number, 0, text.encode())
        self._loop.finish_turn()

    def _snapshot(self, question: _Question) -> fourletter.Snapshot:
        """Everything that an answer may need, summed over the workers."""
        loop = self._loop
        totals = loop.writer.totals
        parts = question.parts
        latencies = [part["latency"] for part in parts]
        served = sum(one[0] for one in latencies)
        counters: Counter[str] = Counter()
        for part in parts:
            counters.update(part["counters"])
        counters["connection_rejected"] += loop.ports.rejected
        return {
            "version": fourletter.version_text(VERSION),
            "mode": "standalone",
            "zxid": loop.writer.applied,
            "nodes": totals.nodes + 1,  # Apache counts the root under both of its names (W15)
            "ephemerals_count": totals.ephemerals,
            "data_bytes": totals.bytes,
            "connections": [one for part in parts for one in part["connections"]],
            "outstanding": sum(part["outstanding"] for part in parts),
            "received": counters.pop("packets_received", 0),
            "sent": counters.pop("packets_sent", 0),
            "watches": sum(part["watches"] for part in parts),
            "min_latency": min((one[2] for one in latencies if one[0]), default=0),
            "avg_latency": sum(one[1] for one in latencies) / served if served else 0.0,
            "max_latency": max((one[3] for one in latencies), default=0),
            "response_sizes": _sizes([part["response_sizes"] for part in parts]),
            "sessions": len(loop.sessions.tracker.sessions),
            "uptime_ms": int((time.monotonic() - self._started) * 1000),
            "open_files": len(os.listdir("/dev/fd")),
            "max_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            "counters": dict(counters),
            **self._details(question.word),
        }

    def _details(self, word: str) -> dict[str, Any]:
        """What only one word asks for, as it may be long."""
        if word == "dump":
            offset_ms = time.time_ns() // 1_000_000 - monotonic_ms()
            with self._loop.writer.views.open() as view:
                ephemerals = view.ephemerals_by_session()
            return {
                "now_ms": offset_ms + monotonic_ms(),
                "ephemerals": ephemerals,
                "expiry": {
                    due + offset_ms: ids
                    for due, ids in self._loop.sessions.tracker.buckets().items()
                },
            }
        return {"conf": self._conf()} if word == "conf" else {}

    def _conf(self) -> dict[str, object]:
        settings = self._loop.settings
        data = os.path.join(os.path.abspath(settings.data_dir), "zkstore")
        log = os.path.join(os.path.abspath(settings.data_log_dir or settings.data_dir), "zkstore")
        least, greatest = settings.session_timeout_ms_bounds
        return {
            "clientPort": settings.client_port,
            "secureClientPort": -1,
            "dataDir": data,
            "dataDirSize": _size(data, "data."),
            "dataLogDir": log,
            "dataLogSize": _size(log, "journal."),
            "tickTime": settings.tick_time_ms,
            "maxClientCnxns": settings.max_client_cnxns,
            "minSessionTimeout": least,
            "maxSessionTimeout": greatest,
            "clientPortListenBacklog": settings.client_port_listen_backlog,
            "serverId": settings.server_id,
        }


def _sizes(parts: list[list[int]]) -> tuple[int, int, int]:
    """(last, least, greatest) response of all workers; -1 before there was one."""
    some = [part for part in parts if part[0] >= 0]
    if not some:
        return -1, -1, -1
    return some[-1][0], min(part[1] for part in some), max(part[2] for part in some)


def _size(folder: str, prefix: str) -> int:
    """Bytes on the disk of the files with this prefix; the map is sparse, so blocks count, not
    length."""
    with os.scandir(folder) as entries:
        return sum(one.stat().st_blocks * 512 for one in entries if one.name.startswith(prefix))
