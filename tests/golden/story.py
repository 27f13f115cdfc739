"""Tells a story of one replica: its loop and its workers, step by step, without sockets or clocks.

What for:   who is told what in which order, behind which flush: seen as a text, and its change as a
            diff.
Owns:       an event loop that runs when told, clients on fake transports, a disk that can be full.
Shape:      a story is blocks of commands, each followed by `----` and what happened:
              connect c1 [worker=2] [session=c0]    a handshake, of c0's session
              c1 create /a data [flags=1]; get /a watch    requests, in one piece of bytes
              c1 oversize               a frame beyond the limit
              c1 drop                   the connection is cut
              disk full | disk roomy    the journal has no room | has room again
              lmdb full | lmdb roomy    LMDB likewise
              run                       the event loop runs until nothing is left to do
            Everything before a `run` arrives in one turn. `journal` is what one record holds,
            `flush` the disk's, `apply` what one LMDB transaction makes visible; `c1 <` is one write
            to a client's socket and the frames in it.
Not here:   the rules themselves (tests/conformance), what is journaled byte by byte (tests/crash).
"""

from __future__ import annotations

import asyncio
import shlex
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import lmdb

from tests.conformance import render, wire
from tests.conformance import requests as r
from zkstore.commit.loop import Loop
from zkstore.errors import StorageFull
from zkstore.frontend.client import Client
from zkstore.frontend.worker import Worker
from zkstore.messaging import memory_pair
from zkstore.records import txn as txns
from zkstore.settings import Settings
from zkstore.storage.disk import Disk
from zkstore.storage.env import open_replica
from zkstore.storage.writer import Applied, Writer
from zkstore.tree.auth import Providers
from zkstore.zab.ready import Ready

FRAME_BYTES_MAX = 1000


class Steps:
    """An event loop whose turns are taken by hand; timers never come."""

    def __init__(self) -> None:
        self._soon: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        self._soon.append((callback, args))

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> None:
        """No time passes."""

    def run(self) -> None:
        while self._soon:
            callback, args = self._soon.popleft()
            callback(*args)


class StoryDisk(Disk):
    """Tells of the flushes of the story's own thread; can be full."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell
        self._thread = threading.current_thread()
        self.full = False

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
        if self.full:
            raise StorageFull("no room")
        super().pwrite(fd, data, offset)

    def flush(self, fd: int) -> None:
        super().flush(fd)
        if threading.current_thread() is self._thread:
            self._tell("flush")


class FullEnv:
    """LMDB's environment while it has no room."""

    def __init__(self, env: lmdb.Environment) -> None:
        self.env = env

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def begin(self, *, write: bool = False) -> Any:
        if write:
            raise lmdb.MapFullError("no room")
        return self.env.begin()


class FakeTransport(asyncio.Transport):
    """One client's socket, seen from the server."""

    def __init__(self, story: Story, name: str) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self._story = story
        self._name = name
        self._closing = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever buffered."""

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """The story sends in portions that fit."""

    def resume_reading(self) -> None:
        """See pause_reading."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing:  # what comes later is dropped, as by a socket
            self._story.received(self._name, bytes(data))

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._story.tell(f"{self._name} closed")
            self._story.steps.call_soon(self._story.lost, self._name)

    def write_eof(self) -> None:
        if not self._closing:
            self._closing = True
            self._story.tell(f"{self._name} sees the end")
            self._story.steps.call_soon(self._story.lost, self._name)

    abort = close


class Story:
    """One replica, and what happened to it since the last `run`."""

    def __init__(self, folder: Path, workers: int = 2) -> None:
        self.steps = Steps()
        self._lines: list[str] = []
        self._names = render.Names(0)
        self._disk = StoryDisk(self.tell)
        settings = Settings(frame_size_bytes_max=FRAME_BYTES_MAX, max_client_cnxns=0)
        replica = open_replica(
            folder, folder, disk=self._disk, map_size_bytes=1 << 30, journal_segment_bytes=1 << 20
        )
        self._writer = Writer(replica, retention_ms=1 << 40, retention_bytes=1 << 30)
        self._writer.recover()
        self._trace_writer()
        aio = cast(asyncio.AbstractEventLoop, self.steps)
        self._loop = Loop(settings, self._writer, Providers.of(settings), self.steps.call_soon)
        self._workers = [self._worker(settings, aio) for _ in range(workers)]
        self._clients: dict[str, Client] = {}
        self._sessions: dict[str, wire.ConnectResponse] = {}
        self._sent: dict[str, dict[int, int]] = {}  # by client: xid → opcode
        self.steps.run()
        self._lines.clear()

    def _worker(self, settings: Settings, aio: asyncio.AbstractEventLoop) -> Worker:
        worker = Worker(settings, Providers.of(settings), self._writer.views, aio)
        ours, theirs = memory_pair(aio)
        port = self._loop.attach(ours)
        ours.on_message = lambda message: self._loop.on_message(port, message)
        theirs.on_message = worker.on_message
        worker.start(theirs)
        return worker

    def _trace_writer(self) -> None:
        perform, retry = self._writer.perform, self._writer.retry

        def traced_perform(ready: Ready) -> list[Applied]:
            if ready.append:
                self.tell("journal " + ", ".join(self._txn(txn) for _, txn in ready.append))
            return perform(ready)

        def traced_retry() -> list[Applied]:
            applied = retry()
            if applied:
                self.tell("apply " + ", ".join(f"z+{txn.zxid}" for txn, _ in applied))
            elif self._writer.stalled:
                self.tell("apply: no room in LMDB")
            return applied

        writer = cast(Any, self._writer)
        writer.perform, writer.retry = traced_perform, traced_retry

    def _txn(self, encoded: bytes) -> str:
        txn = txns.decode(encoded)
        error = f" {txn.body[0]}" if txn.type == r.OPCODES["error"] else ""
        return f"z+{txn.zxid} {r.NAMES[txn.type]}{error}"

    # What happens

    def tell(self, line: str) -> None:
        self._lines.append(line)

    def received(self, name: str, data: bytes) -> None:
        """A client got bytes, in one write."""
        texts = []
        while data:
            end = 4 + wire.Reader(data).i32()
            payload, data = data[4:end], data[end:]
            if name in self._sessions:
                sent = self._sent[name]
                texts.append(render.frame(self._names, payload, sent.__getitem__, unordered=False))
            else:
                response = self._sessions[name] = wire.read_connect_response(payload)
                texts.append(f"connected session={self._names.session(response.session_id)}")
        self.tell(f"{name} < " + texts[0])
        for text in texts[1:]:
            self.tell(" " * len(name) + " + " + text)

    def lost(self, name: str) -> None:
        self._clients.pop(name).connection_lost(None)

    # What the story does

    def play(self, commands: list[str]) -> list[str]:
        """Do the commands; returns what happened."""
        for command in commands:
            name, _, rest = command.partition(" ")
            if name == "connect":
                self._connect(*rest.split())
            elif command == "run":
                self.steps.run()
            elif name == "disk":
                self._disk.full = rest == "full"
                self._loop.full = False  # the keeper's look at the disk is not in the story
            elif name == "lmdb":
                self._lmdb(rest)
            elif rest == "drop":
                self.lost(name)
            else:
                self._send(name, rest)
        lines, self._lines = self._lines, []
        return lines

    def _connect(self, name: str, *options: str) -> None:
        given = dict(option.split("=") for option in options)
        client = self._workers[int(given.get("worker", 1)) - 1].client()
        self._clients[name] = client
        self._sent[name] = {}
        client.connection_made(FakeTransport(self, name))
        handshake = wire.connect_request()
        if "session" in given:
            known = self._sessions[given["session"]]
            handshake = wire.connect_request(session_id=known.session_id, password=known.password)
        client.data_received(wire.frame(handshake))

    def _lmdb(self, room: str) -> None:
        writer = cast(Any, self._writer)
        if room == "full":
            writer._env = FullEnv(writer._env)
        else:
            writer._env = writer._env.env
            self._loop.retry()

    def _send(self, name: str, text: str) -> None:
        data = b""
        sent = self._sent[name]
        for one in text.split("; "):
            xid = sum(1 for known in sent if known > 0) + 1
            request = parsed("create /" if one == "oversize" else one)
            if request.xid is not None:
                xid = request.xid
            sent[xid] = request.opcode
            payload = wire.i32(xid) + wire.i32(request.opcode) + request.body
            if one == "oversize":
                payload += bytes(FRAME_BYTES_MAX + 1 - len(payload))
            data += wire.frame(payload)
        self._clients[name].data_received(data)

    def close(self) -> None:
        self._disk.full = False
        self._writer.close()


def parsed(text: str) -> r.Request:
    """A request from its words; `multi` takes the rest, its operations separated by `|`."""
    if text.startswith("multi "):
        return r.multi(*(parsed(one) for one in text.removeprefix("multi ").split(" | ")))
    words = shlex.split(text)
    named = dict(word.split("=", 1) for word in words if "=" in word)
    name, *args = [word for word in words if "=" not in word]
    data = args[1].encode() if len(args) > 1 else b""
    watch = "watch" in args
    version = int(named.get("version", -1))
    match name:
        case "create":
            return r.create(args[0], data, flags=int(named.get("flags", 0)))
        case "set":
            return r.set_data(args[0], data, version)
        case "delete":
            return r.delete(args[0], version)
        case "check":
            return r.check(args[0], version)
        case "get":
            return r.get_data(args[0], watch)
        case "exists":
            return r.exists(args[0], watch)
        case "children":
            return r.get_children(args[0], watch)
        case "addWatch":
            return r.add_watch(args[0], int(named["mode"]))
        case "sync":
            return r.sync(args[0])
        case "auth":
            return r.auth(args[0], data)
        case "broken":
            return r.raw(r.OPCODES["create"], b"\0")
        case "ping":
            return r.ping()
        case "close":
            return r.close_session()
        case _:
            raise AssertionError(f"no such request: {text}")
