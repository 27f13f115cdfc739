"""The admin socket: who may read the data directory may ask about the replica and change it.

Owns:   the socket's file, and the connections to it.
Invariants:
  1. Whatever comes in is answered with a line or costs its own connection, nothing else.
  2. Bounded: CONNECTIONS_MAX at a time, LINE_BYTES_MAX a request, IDLE_SECONDS without one.
Design: a connection may ask one thing after the other. What the workers know is gathered as for the
        four-letter words, with the same time limit.
Not here: the command (server/admin.py), the settings (commit/live.py).
Source: the MBeans of Apache ZooKeeper; reference S4.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from zkstore.admin_socket import LINE_BYTES_MAX, address, path_of
from zkstore.commit.admin import Admin, Part
from zkstore.commit.live import LiveSettings
from zkstore.commit.loop import Loop
from zkstore.commit.ports import Connection, Port
from zkstore.commit.sessions import monotonic_ms
from zkstore.errors import ConfigError

_log = logging.getLogger("zkstore.admin")
CONNECTIONS_MAX: Final = 16
IDLE_SECONDS: Final = 30.0
# What can be reset → what the workers are told.
_RESETS: Final = {
    "auth-failed": "auth-failed",
    "connections": "crst",
    "latency": "latency",
    "max-latency": "max-latency",
    "statistics": "srst",
}


class Refused(Exception):
    """The request is right, but cannot be met."""


class Control:
    """Serves the admin socket on the commit process's loop."""

    def __init__(
        self, loop: Loop, admin: Admin, live: LiveSettings, aio: asyncio.AbstractEventLoop
    ) -> None:
        self._loop = loop
        self._admin = admin
        self._live = live
        self._aio = aio
        self._path = path_of(loop.settings.data_dir)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._words: dict[str, tuple[int, int, Callable[..., Any]]] = {
            # word → least and most arguments, what does it
            "get": (0, 1, self._get),
            "set": (2, 2, self._set),
            "reset": (1, 1, self._reset),
            "sessions": (0, 0, self._sessions),
            "connections": (0, 0, self._connections),
            "ephemerals": (0, 0, self._ephemerals),
            "terminate-session": (1, 1, self._terminate_session),
            "terminate-connection": (1, 1, self._terminate_connection),
        }

    async def start(self) -> None:
        """Listen; a replica whose data directory takes no sockets does without."""
        try:
            listening = _listen(self._path)
        except OSError as error:
            _log.warning("no admin socket at %s: %s", self._path, error.strerror)
            return
        self._server = await asyncio.start_unix_server(
            self._serve, sock=listening, limit=LINE_BYTES_MAX
        )

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until it ends, says nothing for long, or breaks the rules."""
        if len(self._writers) >= CONNECTIONS_MAX:
            writer.close()
            return
        self._writers.add(writer)
        try:
            while line := await asyncio.wait_for(reader.readline(), IDLE_SECONDS):
                answer = await self._answer(line)
                writer.write(json.dumps(answer).encode() + b"\n")
                await asyncio.wait_for(writer.drain(), IDLE_SECONDS)
        except ValueError:  # readline's word for a line that is too long
            writer.write(json.dumps(_error("the request is too long")).encode() + b"\n")
        except (TimeoutError, ConnectionError):
            pass  # nobody is there to be told
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            word, arguments = _read(line)
            if word not in self._words:
                raise ConfigError(f"there is no {word}; there are {', '.join(self._words)}")
            least, most, action = self._words[word]
            if not least <= len(arguments) <= most:
                expected = str(most) if least == most else f"{least} to {most}"
                raise ConfigError(f"{word} takes {expected} arguments, not {len(arguments)}")
            return {"answer": await action(*arguments)}
        except ConfigError as error:
            return _error(str(error))
        except Refused as error:
            return _error(str(error), wrong=False)

    # ---- settings

    async def _get(self, name: str = "") -> list[dict[str, Any]]:
        return [setting._asdict() for setting in self._live.get(name)]

    async def _set(self, name: str, value: str) -> dict[str, str]:
        before, after = self._live.set(name, value)
        return {"before": before, "after": after}

    # ---- numbers

    async def _gather(self, what: str) -> dict[Port, Part]:
        gathered: asyncio.Future[dict[Port, Part]] = self._aio.create_future()
        self._admin.gather(what, gathered.set_result)
        return await gathered

    async def _reset(self, what: str) -> str:
        if what not in _RESETS:
            raise ConfigError(f"{what} cannot be reset; {', '.join(_RESETS)} can")
        await self._gather(_RESETS[what])
        _log.info("%s reset by the administrator", what)
        return what

    # ---- who is there

    async def _sessions(self) -> list[dict[str, Any]]:
        now_ms = monotonic_ms()
        with self._loop.writer.views.open() as view:
            ephemerals = view.ephemerals_by_session()
        return [
            {
                "session_id": _shown(session.session_id),
                "timeout_ms": session.timeout_ms,
                "heard_ms_ago": now_ms - session.heard_ms,
                "ephemerals": len(ephemerals.get(session.session_id, ())),
                "address": getattr(session.place, "address", None),
            }
            for sessions in (self._loop.sessions.tracker, self._loop.sessions.local)
            for session in sessions.sessions.values()
        ]

    async def _connections(self) -> list[dict[str, Any]]:
        now = time.time_ns() // 1_000_000
        parts = await self._gather("connections")
        return [
            {
                "address": _address(one),
                "session_id": _shown(one["session_id"]),
                "timeout_ms": one["timeout_ms"],
                "connected_ms_ago": now - one["established_ms"],
                "received": one["received"],
                "sent": one["sent"],
                "outstanding": one["outstanding"],
            }
            for part in parts.values()
            for one in part["connections"]
        ]

    async def _ephemerals(self) -> dict[str, list[str]]:
        with self._loop.writer.views.open() as view:
            found = view.ephemerals_by_session()
        return {
            _shown(session_id): [path.decode(errors="replace") for path in paths]
            for session_id, paths in found.items()
        }

    # ---- ending

    async def _terminate_session(self, text: str) -> str:
        session = self._loop.sessions.find(_session_id(text))
        if session is None:
            raise Refused(f"there is no session {text}")
        if not session.local and not self._loop.leading:
            raise Refused("sessions are ended by the leader: ask that server")
        if self._loop.writer.stalled:
            raise Refused("the disk is full: nothing can be written")
        self._loop.sessions.terminate(session)
        _log.info("session %#x ended by the administrator", session.session_id)
        return _shown(session.session_id)

    async def _terminate_connection(self, text: str) -> list[str]:
        """One connection by address:port, or all of an address."""
        found: dict[str, Connection] = {}
        for port, part in (await self._gather("connections")).items():
            for one in part["connections"]:
                connection = port.connections.get(one["number"])
                if connection is not None and text in (one["address"], _address(one)):
                    found[_address(one)] = connection
        if not found:
            raise Refused(f"there is no connection from {text}")
        for connection in found.values():
            self._loop.sessions.dismiss(connection, "ended by the administrator")
        self._loop.finish_turn()
        return sorted(found)


def _listen(path: Path) -> socket.socket:
    """A socket that only this user can connect to. Raises: OSError.

    The data directory is locked by now: what is left of a socket is a killed server's.
    """
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with address(path) as bound:
            listening.bind(bound)
        path.chmod(0o600)  # before anybody can connect
        listening.listen(CONNECTIONS_MAX)
    except OSError:
        listening.close()
        raise
    return listening


def _read(line: bytes) -> tuple[str, list[str]]:
    """A request's word and arguments. Raises: ConfigError."""
    try:
        request = json.loads(line)
        word, arguments = request["do"], request.get("arguments", [])
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        raise ConfigError("the request is not a JSON object with a word to do") from None
    if not isinstance(word, str) or not isinstance(arguments, list):
        raise ConfigError("the request's word is no text, or its arguments are no list")
    if not all(isinstance(one, str) for one in arguments):
        raise ConfigError("an argument is no text")
    return word, arguments


def _error(text: str, *, wrong: bool = True) -> dict[str, Any]:
    return {"error": text, "wrong": wrong}


def _address(one: dict[str, Any]) -> str:
    host = f"[{one['address']}]" if ":" in one["address"] else one["address"]
    return f"{host}:{one['port']}"


def _session_id(text: str) -> int:
    """A session's id as logs and words show it: hexadecimal, with or without 0x.

    Raises: ConfigError.
    """
    try:
        number = int(text, 16)
    except ValueError:
        raise ConfigError(f"{text}: expected a session id, such as 0x100001") from None
    return number - (1 << 64) if number >> 63 else number


def _shown(session_id: int) -> str:
    """As logs and words show it; the sign is the first bit of the server's id."""
    return f"{session_id & 0xFFFFFFFFFFFFFFFF:#x}"
