"""A TCP proxy that loses connections on command."""

from __future__ import annotations

import asyncio
from types import TracebackType

from tests.ports import free_port


class Proxy:
    """Stands between clients and a server on a port of its own."""

    def __init__(self, target: str) -> None:
        host, _, port = target.partition(":")
        self._target = (host, int(port))
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()  # of clients, and of the server
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._pumps: set[asyncio.Task[None]] = set()
        self.port = free_port()  # not one that a client of somebody else may get meanwhile
        self.accepted = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def listen(self) -> None:
        """Take connections, on the same port as the last time."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    def refuse(self) -> None:
        """Take no new connections."""
        assert self._server is not None
        self._server.close()

    def cut(self) -> None:
        """Lose every connection there is, with all that is on its way."""
        for writer in self._ends:
            writer.transport.abort()

    def hold(self) -> None:
        """Let nothing through any more, and keep the connections open."""
        self._flowing.clear()

    def release(self) -> None:
        self._flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._ends.add(writer)  # at once: a cut means this one, too
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:  # the server is down
            writer.transport.abort()
            self._ends.discard(writer)
            return
        self._ends.add(far_writer)
        if writer.transport.is_closing():
            far_writer.transport.abort()
        pumps = [
            asyncio.ensure_future(self._pump(reader, far_writer)),
            asyncio.ensure_future(self._pump(far_reader, writer)),
        ]
        self._pumps.update(pumps)
        await asyncio.wait(pumps)
        self._pumps.difference_update(pumps)
        self._ends -= {writer, far_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # cut
        finally:
            writer.transport.close()

    async def __aenter__(self) -> Proxy:
        await self.listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.refuse()
        self.cut()
        self.release()
        if self._pumps:
            await asyncio.wait(self._pumps)
