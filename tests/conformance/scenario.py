"""What a scenario works with: named clients whose every frame goes into one transcript.

What for:   a scenario is a function of a `Scenario`; running it against a server gives a list of
            lines.
Owns:       the clients of one run, their sessions, the transcript; the janitor that cleans up
            around it.
Invariants:
  1. Closed: each session that a scenario opened is closed before the next one starts, and the tree
     below /t is gone, so nothing of one scenario (an expiry, a sweep) takes a zxid in another.
  2. Numbered from zero: z+0 is the server's zxid after the janitor left; nobody else is connected
     then.
Not here:   the scenarios (scenarios/), servers (servers.py), golden files (record.py,
            test_golden.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypedDict, Unpack

from tests.conformance import render, requests
from tests.conformance.requests import Request
from tests.conformance.wire import (
    XID_AUTH,
    XID_NOTIFICATION,
    XID_PING,
    ClosedError,
    Connection,
    DeadlineError,
    Reader,
    connect_request,
    i32,
    read_connect_response,
)

Address = tuple[str, int]

SUPER: Final = b"super:secret"
"""What the servers' superDigest setting is the digest of."""

FRAME_SECONDS_MAX: Final = 60.0
"""For what is sure to come."""
XID_HARNESS: Final = 1_000_000
"""Of the harness's own requests, whose replies stay out of the transcript."""


class Handshake(TypedDict, total=False):
    """The fields of wire.connect_request that a scenario may set."""

    protocol: int
    last_zxid: int
    timeout_ms: int
    session_id: int
    password: bytes | None
    read_only: bool | None


class Client:
    """One client of a scenario: what it sends and receives goes into the transcript."""

    def __init__(self, scenario: Scenario, name: str) -> None:
        self.name = name
        self.session_id = 0
        self.password: bytes | None = bytes(16)
        self.last_zxid = 0
        self.connection = Connection(scenario.address)
        self._scenario = scenario
        self._next_xid = 1
        self._opcodes: dict[int, int] = {XID_PING: 11, XID_AUTH: 100}

    def connect(
        self,
        *,
        trailing: bytes = b"",
        behind: Sequence[Request] = (),
        **fields: Unpack[Handshake],
    ) -> Client:
        """Shake hands and note the answer, or that the connection was closed without one.

        `trailing` bytes end the connect frame; the requests `behind` follow it in the same write.
        """
        shown = [f"{key}={self._shown(key, value)}" for key, value in fields.items()]
        shown += [f"trailing={trailing!r}"] if trailing else []
        self._log(">", " ".join(["connect", *shown]))
        payload = connect_request(**fields) + trailing
        frames = [payload, *(self.payload(request) for request in behind)]
        try:
            self.connection.send(*frames)
            response = read_connect_response(self.connection.recv())
        except ClosedError:
            self._log("<", "closed")
            return self
        self.session_id = response.session_id or self.session_id
        self.password = response.password if response.session_id else self.password
        self._log("<", "connected " + render.connect_response(self._scenario.names, response))
        return self

    def resume(self, other: Client, **fields: Unpack[Handshake]) -> Client:
        """Shake hands for the session of another client."""
        given: Handshake = {"session_id": other.session_id, "password": other.password}
        given.update(fields)
        return self.connect(**given)

    def call(self, request: Request, *, unordered: bool = False) -> str:
        """One request and everything up to its reply; returns the reply as it is shown."""
        return self.pipeline(request, unordered=unordered)[-1]

    def pipeline(self, *batch: Request, unordered: bool = False) -> list[str]:
        """Send all requests in one write; read until each is answered or the connection ends."""
        self.send(*batch)
        shown: list[str] = []
        for _ in batch:
            shown.append(self.read_reply(unordered=unordered))
            if shown[-1] == "closed":
                break
        return shown

    def send(self, *batch: Request) -> None:
        """Send all requests in one write."""
        payloads = [self.payload(request) for request in batch]
        try:
            self.connection.send(*payloads)
        except ClosedError:
            self._log("<", "closed")

    def payload(self, request: Request) -> bytes:
        """Note a request and give the frame's payload; its reply will be known by its xid."""
        xid = self._take_xid() if request.xid is None else request.xid
        self._opcodes[xid] = request.opcode
        self._log(">", request.text)
        return i32(xid) + i32(request.opcode) + request.body

    def quietly(self, *batch: Request) -> list[str]:
        """Like `pipeline`, but only returned, not noted."""
        lines = self._scenario.lines
        kept = len(lines)
        replies = self.pipeline(*batch)
        del lines[kept:]
        return replies

    def ping_for(self, seconds: float) -> None:
        """Ping several times a second for so long, then note whether all were answered."""
        until = time.monotonic() + seconds
        answers = set()
        while time.monotonic() < until:
            answers.add(self.quietly(requests.ping())[0].split(" zxid=")[0])
            time.sleep(0.2)
        self._log("<", f"pinged, answers: {sorted(answers)}")

    def until_gone(self, path: str) -> None:
        """Wait until a node is gone."""
        request = requests.exists(path).with_xid(XID_HARNESS)
        wait_until(lambda: "err=-101" in self.quietly(request)[0])
        self._log("<", f"{path} is gone")

    def read_reply(self, *, unordered: bool = False) -> str:
        """Note the frames up to and including the next reply (events come before it)."""
        while True:
            text, xid = self._read(unordered)
            self._log("<", text)
            if xid != XID_NOTIFICATION:
                return text

    def events(self, *, unordered: bool = False) -> None:
        """Note all events that the server owes this client: all that come before a read's reply.

        A read, not a ping: a server may answer pings at once, but no read may overtake an event.
        """
        lines = []
        try:
            self._ask_quietly()
        except ClosedError:
            self._log("<", "closed")
            return
        while True:
            text, xid = self._read(False)
            if xid == XID_HARNESS:
                break
            lines.append(text)
            if xid is None:
                break
        for line in sorted(lines) if unordered else lines or ["no events"]:
            self._log("<", line)

    def event(self, seconds: float = FRAME_SECONDS_MAX) -> None:
        """Wait for one frame that comes by itself."""
        self._log("<", self._read(False, seconds)[0])

    def expect_close(self, seconds: float = FRAME_SECONDS_MAX, *, unordered: bool = False) -> None:
        """Note everything up to the end of the connection."""
        lines = []
        xid: int | None = 0
        while xid is not None:
            text, xid = self._read(False, seconds)
            lines.append(text)
        for line in sorted(lines) if unordered else lines:
            self._log("<", line)

    def alive(self) -> None:
        """Note whether the server still answers on this connection."""
        try:
            self._ask_quietly()
        except ClosedError:
            self._log("<", "closed")
            return
        text, xid = self._read(False)
        self._log("<", "still served" if xid == XID_HARNESS else text)

    def send_bytes(self, data: bytes, text: str) -> None:
        """Send bytes that are no request, shown as `text`."""
        self._log(">", text)
        self.connection.send_raw(data)

    def word(self, word: str, seconds: float = 10.0) -> str:
        """Send a four-letter word on a fresh connection; returns the whole answer, unnoted."""
        self.connection.send_raw(word.encode())
        return self.connection.recv_all(seconds).decode()

    def drop(self) -> None:
        """Cut the TCP connection; the session lives on."""
        self._log("-", "drops its connection")
        self.connection.close()

    def xid(self) -> int:
        """The number that the next request will have."""
        return self._next_xid

    def _ask_quietly(self) -> None:
        self._opcodes[XID_HARNESS] = requests.OPCODES["exists"]
        self.connection.send(i32(XID_HARNESS) + i32(requests.OPCODES["exists"]) + b"\0\0\0\1/\0")

    def _take_xid(self) -> int:
        self._next_xid += 1
        return self._next_xid - 1

    def _read(self, unordered: bool, seconds: float = FRAME_SECONDS_MAX) -> tuple[str, int | None]:
        """The next frame as text and its xid; ("closed" | "nothing", None) when there is none."""
        try:
            payload = self.connection.recv(seconds)
        except ClosedError:
            return "closed", None
        except DeadlineError:
            return "nothing", None
        reader = Reader(payload)
        xid, zxid = (reader.i32(), reader.i64()) if len(payload) >= 12 else (0, 0)
        self.last_zxid = max(self.last_zxid, zxid)
        text = render.frame(self._scenario.names, payload, self._opcode_of, unordered)
        return text, xid

    def _opcode_of(self, xid: int) -> int:
        return self._opcodes.get(xid, 0)

    def _shown(self, key: str, value: object) -> str:
        names = self._scenario.names
        if key == "session_id" and isinstance(value, int):
            return names.session(value)
        if key == "password" and isinstance(value, bytes):
            return "its" if self._scenario.knows_password(value) else value.hex()
        if key == "last_zxid" and isinstance(value, int) and value < 1 << 50:
            return names.zxid(value)
        return str(value)

    def _log(self, direction: str, text: str) -> None:
        self._scenario.lines.append(f"{self.name} {direction} {text}")


class Scenario:
    """One run of one scenario against one server."""

    def __init__(self, address: Address, base_zxid: int) -> None:
        self.address = address
        self.names = render.Names(base_zxid)
        self.base_zxid = base_zxid
        self.lines: list[str] = []
        self._clients: list[Client] = []

    def socket(self) -> Client:
        """A client that has not shaken hands yet."""
        client = Client(self, f"c{len(self._clients) + 1}")
        self._clients.append(client)
        return client

    def client(self, **fields: Unpack[Handshake]) -> Client:
        return self.socket().connect(**fields)

    def admitted(self) -> Client:
        """A client where few are let in: a server may notice late that another one has gone."""
        deadline = time.monotonic() + FRAME_SECONDS_MAX
        while True:
            kept = len(self.lines)
            client = self.client()
            if client.session_id:
                return client
            assert time.monotonic() < deadline, "nobody is let in"
            client.connection.close()
            self._clients.remove(client)
            del self.lines[kept:]
            time.sleep(0.05)

    def note(self, text: str) -> None:
        self.lines.append(f"# {text}")

    def section(self, title: str) -> None:
        self.lines.append(f"-- {title}")

    def knows_password(self, password: bytes) -> bool:
        """Whether it is the password of a session of this scenario."""
        return any(each.password == password for each in self._clients if each.session_id)

    def finish(self) -> None:
        """Close every session that is still alive."""
        sessions = {}
        for client in self._clients:
            client.connection.close()
            if client.session_id:
                sessions[client.session_id] = client.password
        for session_id, password in sessions.items():
            close_session(self.address, session_id, password)


@dataclass(frozen=True, slots=True)
class Entry:
    """A registered scenario; its name is the golden file's.

    A `fresh` one gets a server of its own, one with `settings` (zoo.cfg) or `properties` (-D) too.
    """

    name: str
    run: Callable[[Scenario], None]
    fresh: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def shared(self) -> bool:
        """Whether it can run on the server that others use too."""
        return not (self.fresh or self.settings or self.properties)


SCENARIOS: Final[dict[str, Entry]] = {}

Run = Callable[[Scenario], None]


def scenario(run: Run) -> Run:
    """Register a scenario under its module's and its own name."""
    return on_server()(run)


def on_server(
    *,
    settings: Mapping[str, str] | None = None,
    properties: Mapping[str, str] | None = None,
    fresh: bool = False,
) -> Callable[[Run], Run]:
    """Register a scenario that needs a server of its own, as `Entry` says."""

    def add(run: Run) -> Run:
        name = f"{run.__module__.rsplit('.', 1)[-1]}.{run.__name__}"
        register(Entry(name, run, fresh, settings or {}, properties or {}))
        return run

    return add


def register(entry: Entry) -> None:
    assert entry.name not in SCENARIOS, entry.name
    SCENARIOS[entry.name] = entry


def play(entry: Entry, address: Address) -> list[str]:
    """Run a scenario and return its transcript; a shared server is left as it was before."""
    if entry.shared:
        _sweep(address)
        base_zxid = _make_root(address)
    else:
        base_zxid = _zxid(address)
    run = Scenario(address, base_zxid)
    try:
        entry.run(run)
    finally:
        run.finish()
    if entry.shared:
        _sweep(address)
    return run.lines


def close_session(address: Address, session_id: int, password: bytes | None) -> None:
    """End a session, whoever holds it now; nothing to do if it has ended already."""
    connection = Connection(address)
    try:
        fields = connect_request(session_id=session_id, password=password)
        if connection.handshake(fields).session_id:
            connection.send(i32(1) + i32(requests.OPCODES["closeSession"]))
            while connection.recv()[:4] != i32(1):
                pass
    except ClosedError:
        return
    finally:
        connection.close()


def _sweep(address: Address) -> None:
    """Delete /t and everything below it, as super user."""
    connection = Connection(address)
    connection.handshake(connect_request())
    _ask(connection, requests.auth("digest", SUPER))
    _delete_tree(connection, "/t")
    _ask(connection, requests.close_session())
    connection.close()


def _make_root(address: Address) -> int:
    """Create /t; the zxid after this client has left."""
    connection = Connection(address)
    connection.handshake(connect_request())
    assert _ask(connection, requests.create("/t"))[12:16] == i32(0)
    zxid = Reader(_ask(connection, requests.close_session())[4:]).i64()
    connection.close()
    return zxid


def _zxid(address: Address) -> int:
    """The zxid of a server that may insist on authentication or refuse it; nobody is connected."""
    for credentials in (b"", SUPER):
        connection = Connection(address)
        try:
            connection.handshake(connect_request())
            if credentials:
                _ask(connection, requests.auth("digest", credentials))
            reply = Reader(_ask(connection, requests.close_session())[4:])
            zxid, err = reply.i64(), reply.i32()
            if err == 0:
                return zxid
        finally:
            connection.close()
    raise AssertionError("the server lets nobody close a session")


def _delete_tree(connection: Connection, path: str) -> None:
    reply = Reader(_ask(connection, requests.get_children(path))[12:])
    if reply.i32() != 0:
        return
    for _ in range(reply.i32()):
        _delete_tree(connection, f"{path}/{reply.ustring()}")
    _ask(connection, requests.delete(path))


def _ask(connection: Connection, request: Request) -> bytes:
    xid = request.xid or XID_HARNESS
    connection.send(i32(xid) + i32(request.opcode) + request.body)
    while True:
        reply = connection.recv()
        if reply[:4] == i32(xid):
            return reply


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Poll until a condition holds. Raises: AssertionError after the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
