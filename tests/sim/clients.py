"""Clients of the simulated ensemble: each has one operation under way, at one replica at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.sim.world import World

PATIENCE: Final = 800_000  # µs, then the client goes elsewhere and never learns


class Client:
    """Writes, and now and then syncs, through whichever replica serves it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sid = 0
        self._serial = 0  # of its operations: late answers are ignored
        self._next()

    def _next(self) -> None:
        self._serial += 1
        self._world.schedule(self._world.random.randint(1000, self._world.pause_max), self._act)

    def _act(self) -> None:
        world, random, serial = self._world, self._world.random, self._serial
        if not world.clients_run:
            return
        if random.random() < 0.1 or self._sid == 0:
            self._sid = random.choice(list(world.nodes))
        node = world.nodes[self._sid]
        floor = world.checkers.linearizable.last
        is_sync = random.random() < 0.4

        def done(zxid: int) -> None:
            if is_sync:
                world.checkers.linearizable.sync_done(floor, zxid)
            else:
                world.checkers.linearizable.write_done(floor, zxid)
            if serial == self._serial:
                self._next()

        world.operations += 1
        number = world.operations

        def ask() -> None:
            taken = node.sync(done) if is_sync else node.submit(number, done)
            if not taken:
                self._give_up(serial)

        if node.paused:
            node.after(0, ask)  # the request waits in its socket
        else:
            ask()
        world.schedule(PATIENCE, self._give_up, serial)

    def _give_up(self, serial: int) -> None:
        if serial == self._serial:
            self._sid = 0
            self._next()
