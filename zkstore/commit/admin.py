"""What belongs to the whole replica and is asked for by a word: gathered from all workers, with a
time limit.

Owns:   the questions under way.
Invariants:
  1. Bounded: a worker that does not answer within GATHER_TIMEOUT_MS is left out, not waited for.
"""

from __future__ import annotations

import asyncio
import os
import platform
import pwd
import resource
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from zkstore.commit.loop import Loop
from zkstore.commit.ports import Connection, Port
from zkstore.commit.sessions import monotonic_ms
from zkstore.constants import GATHER_TIMEOUT_MS
from zkstore.observability.metrics import TOLD_NAMES, Summary, decimal, metrics, spread, summed
from zkstore.proto import fourletter
from zkstore.records import ipc
from zkstore.tree import quota
from zkstore.version import VERSION

Part = dict[str, Any]  # what one worker reports


class _Question:
    """What all workers are asked, and the parts that have come in."""

    def __init__(self, ports: list[Port], done: Callable[[dict[Port, Part]], None]) -> None:
        self.missing = set(ports)
        self.parts: dict[Port, Part] = {}
        self.done = done


class Admin:
    """Answers four-letter words for the replica."""

    def __init__(
        self, loop: Loop, aio: asyncio.AbstractEventLoop, *, replayed: int, start_ms: float
    ) -> None:
        self._loop = loop
        self._aio = aio
        self._tickets = 0
        self._questions: dict[int, _Question] = {}
        self._started = time.monotonic()
        self._trace_mask = fourletter.TRACE_MASK_DEFAULT  # kept for who asks; nothing is traced
        self._replayed = _of_one(replayed)
        self._start_ms = _of_one(start_ms)
        loop.on_admin = self.ask
        loop.on_gathered = self._gathered

    def ask(self, connection: Connection, word: str, argument: int) -> None:
        """Start to answer a word."""
        if self._loop.mode is None and word not in fourletter.ALWAYS_ANSWERED:
            connection.port.put(ipc.TEXT, connection.number, 0, fourletter.NOT_SERVING)
            self._loop.schedule()
            return
        if word == "isro":
            text = b"null" if self._loop.mode is None else b"rw"
            connection.port.put(ipc.TEXT, connection.number, 0, text)
            self._loop.schedule()
            return
        if word == "stmk":
            self._trace_mask = argument
        self.gather(word, lambda parts: self._tell(connection, word, list(parts.values())))

    def gather(self, what: str, done: Callable[[dict[Port, Part]], None]) -> None:
        """Ask all workers; `done` is called once, with the parts that came in time."""
        if what == "srst":
            self._loop.writer.reset()
            self._loop.sessions.token_deficit = Summary()
            self._loop.counters.clear()
            self._loop.ports.rejected = 0
        self._tickets += 1
        ticket = self._tickets
        self._questions[ticket] = _Question(self._loop.ports.ports, done)
        for port in self._loop.ports.ports:
            port.put(ipc.GATHER, ticket, 0, what)
        self._aio.call_later(GATHER_TIMEOUT_MS / 1000, self._answer, ticket)
        self._loop.schedule()

    def _gathered(self, ticket: int, port: Port, part: object) -> None:
        question = self._questions.get(ticket)
        if question is None or port not in question.missing:
            return
        assert isinstance(part, dict)
        question.missing.remove(port)
        question.parts[port] = part
        if not question.missing:
            self._answer(ticket)

    def _answer(self, ticket: int) -> None:
        question = self._questions.pop(ticket, None)
        if question is not None:
            question.done(question.parts)

    def _tell(self, connection: Connection, word: str, parts: list[Part]) -> None:
        text = fourletter.ANSWERS[word](self._snapshot(word, parts))
        connection.port.put(ipc.TEXT, connection.number, 0, text.encode())
        self._loop.finish_turn()

    def _snapshot(self, word: str, parts: list[Part]) -> fourletter.Snapshot:
        """Everything that an answer may need, summed over the workers."""
        loop = self._loop
        totals = loop.writer.totals
        reads = spread(part["read_latency"] for part in parts)
        updates = spread(part["update_latency"] for part in parts)
        latency = spread([reads.part(), updates.part()])
        snapshot = {
            "version": fourletter.version_text(VERSION),
            "mode": loop.mode,
            "zxid": loop.newest,
            "nodes": totals.nodes + 1,  # Apache counts the root under both of its names (W15)
            "connections": [one for part in parts for one in part["connections"]],
            "outstanding": sum(part["outstanding"] for part in parts),
            "received": sum(part["received"] for part in parts),
            "sent": sum(part["sent"] for part in parts),
            "latency": latency,
            "average_latency": decimal(latency.average),
            **self._details(word, parts),
        }
        if loop.member is not None:
            standing = loop.member.standing
            snapshot |= {"proposal_sizes": standing.proposal_sizes, "peer_state": standing.state}
            snapshot["ensemble"] = standing.rows()
        if word == "mntr":
            latencies = {"readlatency": reads, "updatelatency": updates}
            snapshot["metrics"] = metrics(snapshot | self._measured(parts, latencies))
        return snapshot

    def _measured(self, parts: list[Part], latencies: Mapping[str, Summary]) -> dict[str, Any]:
        """What only `mntr` tells."""
        loop = self._loop
        totals = loop.writer.totals
        summaries = dict(latencies)
        counters = loop.counters + Counter(
            connection_rejected=loop.ports.rejected,
            digest_mismatches_count=loop.writer.digests.mismatches,
        )
        for part in parts:
            counters.update(part["counters"])
        with loop.writer.views.open() as view:
            quotas = quota.gauges(view)
        for index, name in enumerate(TOLD_NAMES):
            summaries[name] = summed(part["told"][index] for part in parts)
        summaries["request_throttle_queue_time_ms"] = spread(
            part["waited_for_room"] for part in parts
        )
        return {
            "ephemerals_count": totals.ephemerals,
            "data_bytes": totals.bytes,
            "watches": sum(part["watches"] for part in parts),
            "response_sizes": _sizes([part["response_sizes"] for part in parts]),
            "sessions": len(loop.sessions.tracker.sessions),
            "local_sessions": len(loop.sessions.local.sessions),
            "uptime_ms": int((time.monotonic() - self._started) * 1000),
            "open_files": len(os.listdir("/dev/fd")),
            "max_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            "auth_failed": sum(part["auth_failed"] for part in parts),
            "drop_probability": loop.sessions.throttle.drop_probability,
            "counters": counters,
            "quotas": quotas,
            "summaries": summaries
            | {
                "fsynctime": loop.writer.flush_ms,
                "sync_processor_batch_size": loop.writer.batch_txns,
                "connection_token_deficit": loop.sessions.token_deficit,
                "dbinittime": self._start_ms,
                "startup_txns_loaded": self._replayed,
            },
        }

    def _details(self, word: str, parts: list[Part]) -> dict[str, Any]:
        """What only one word asks for, as it may be long."""
        if word == "dump":
            return self._sessions()
        if word == "conf":
            member = self._loop.member
            return {
                "conf": self._conf(),
                "membership": "" if member is None else member.standing.membership,
            }
        if word == "dirs":
            data, log = self._folders()
            return {"data_dir_size": _size(data, "data."), "log_dir_size": _size(log, "journal.")}
        if word == "envi":
            return {"environment": _environment()}
        if word == "hash":
            return {"digests": list(self._loop.writer.digests.kept)}
        if word in ("gtmk", "stmk"):
            return {"trace_mask": self._trace_mask}
        if word in ("wchs", "wchc", "wchp"):
            flat = [one for part in parts for one in part["watches_by_session"]]
            return {"watches_by_session": dict(zip(flat[::2], flat[1::2], strict=True))}
        return {}

    def _sessions(self) -> dict[str, Any]:
        offset_ms = time.time_ns() // 1_000_000 - monotonic_ms()
        sessions = self._loop.sessions
        with self._loop.writer.views.open() as view:
            ephemerals = view.ephemerals_by_session()
        return {
            "now_ms": offset_ms + monotonic_ms(),
            "ephemerals": ephemerals,
            "expiry": {due + offset_ms: ids for due, ids in sessions.tracker.buckets().items()},
            "local_expiry": None
            if not sessions.makes_local
            else {due + offset_ms: ids for due, ids in sessions.local.buckets().items()},
            # A learner does not let them expire.
            "global": None
            if self._loop.leading
            else {one.session_id: one.timeout_ms for one in sessions.tracker.sessions.values()},
        }

    def _folders(self) -> tuple[str, str]:
        """Where the data is, and where the journal."""
        settings = self._loop.settings
        log_dir = settings.data_log_dir or settings.data_dir
        return (
            os.path.join(os.path.abspath(settings.data_dir), "zkstore"),
            os.path.join(os.path.abspath(log_dir), "zkstore"),
        )

    def _conf(self) -> dict[str, object]:
        settings = self._loop.settings
        data, log = self._folders()
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
            **({} if self._loop.member is None else self._loop.member.standing.conf()),
        }


def _of_one(value: float) -> Summary:
    """What was measured once, at the start."""
    summary = Summary()
    summary.add(1, value)
    return summary


def _environment() -> dict[str, object]:
    """What `envi` tells: the keys that exist without a Java virtual machine, and Python's.

    `java.version` is there all the same: it is what scripts, and Apache's tests, look for.
    """
    return {
        "zookeeper.version": fourletter.version_text(VERSION),
        "host.name": socket.getfqdn(),
        "java.version": "none",
        "python.version": platform.python_version(),
        "python.implementation": platform.python_implementation(),
        "python.home": sys.prefix,
        "python.path": os.pathsep.join(sys.path),
        "os.name": platform.system(),
        "os.arch": platform.machine(),
        "os.version": platform.release(),
        "user.name": _user_name(),
        "user.home": os.path.expanduser("~"),
        "user.dir": os.getcwd(),
    }


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())  # a container may run as a user that it does not name


def _sizes(parts: list[list[int]]) -> tuple[int, int, int]:
    """(last, least, greatest) response of all workers; -1 before there was one."""
    some = [part for part in parts if part[0] >= 0]
    if not some:
        return -1, -1, -1
    return some[-1][0], min(part[1] for part in some), max(part[2] for part in some)


def _size(folder: str, prefix: str) -> int:
    """Bytes on the disk of the files with this prefix; the map is sparse, so blocks count, not
    length."""
    blocks = 0
    with os.scandir(folder) as entries:
        for one in entries:
            if one.name.startswith(prefix):
                try:
                    blocks += one.stat().st_blocks
                except FileNotFoundError:
                    pass  # a segment of the journal that was renamed meanwhile
    return blocks * 512
