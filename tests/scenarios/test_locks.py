"""Locks, read and write locks, semaphores, leases: never too many inside, always somebody next."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial

from kazoo.client import KazooClient
from kazoo.recipe.lease import MultiNonBlockingLease, NonBlockingLease
from kazoo.recipe.lock import Lock

from tests.clients.support import wait_until
from tests.scenarios.place import Clients, Place, Work, together


class Room:
    """Counts who is inside."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._inside = 0
        self.most = 0
        self.turns = 0

    def __enter__(self) -> None:
        with self._guard:
            self._inside += 1
            self.most = max(self.most, self._inside)

    def __exit__(self, *_: object) -> None:
        with self._guard:
            self._inside -= 1
            self.turns += 1


def test_one_at_a_time_through_a_crash(place: Place, clients: Clients, root: str) -> None:
    """Sessions outlive the server's crash, so locks do as well."""
    room = Room()
    contenders = clients.some(4)
    half = threading.Barrier(len(contenders) + 1)

    def work(client: KazooClient) -> None:
        lock = client.Lock(root, str(contenders.index(client)))
        for turn in range(6):
            if turn == 3:
                half.wait(60)
            with lock, room:
                client.retry(client.sync, root)

    with together(work, contenders):
        half.wait(60)
        place.crash()
    assert (room.most, room.turns) == (1, 24)


def test_a_holder_keeps_its_lock_while_the_server_is_killed(
    place: Place, clients: Clients, root: str
) -> None:
    holder, other = clients.some(2)
    mine = holder.Lock(root, "holder")
    assert mine.acquire()
    place.crash()
    assert other.retry(other.Lock(root, "other").acquire, blocking=False) is False
    wait_until(lambda: holder.connected)
    mine.release()
    assert other.Lock(root, "other").acquire(timeout=60)


def test_the_lock_of_one_that_vanished_passes_on_in_order(clients: Clients, root: str) -> None:
    """And the lock's node gives a number that only grows, to fence off the one that vanished."""
    holder = clients.member()
    assert holder.client.Lock(root, "0").acquire()
    contenders = clients.some(3)
    order: list[str] = []
    fences: list[int] = []

    def work(client: KazooClient, name: str) -> None:
        lock: Lock = client.Lock(root, name)
        assert lock.acquire(timeout=60)
        order.append(name)
        fences.append(client.exists(f"{root}/{lock.node}").czxid)
        lock.release()

    with ExitStack() as waiting:
        for number, client in enumerate(contenders, 1):
            waiting.enter_context(Work(partial(work, client, str(number))))
            wait_until(partial(_stand_in_line, client, root, number + 1))
        holder.vanish()
    assert order == ["1", "2", "3"]
    assert fences == sorted(fences)


def _stand_in_line(client: KazooClient, path: str, count: int) -> bool:
    return len(client.get_children(path)) == count


def test_readers_together_writers_alone(place: Place, clients: Clients, root: str) -> None:
    one, two, writer = clients.some(3)
    readers = [one.ReadLock(root), two.ReadLock(root)]
    assert all(reader.acquire(timeout=60) for reader in readers)
    write = writer.WriteLock(root)
    assert not write.acquire(blocking=False)
    place.lose_worker()
    for client in (one, two, writer):
        wait_until(lambda client=client: client.connected)  # type: ignore[misc]
    assert not writer.retry(write.acquire, blocking=False)
    for reader in readers:
        reader.release()
    assert write.acquire(timeout=60)
    assert not one.ReadLock(root).acquire(blocking=False)
    write.release()


def test_a_semaphore_lets_so_many_in(clients: Clients, root: str) -> None:
    room = Room()

    def work(client: KazooClient) -> None:
        for _ in range(4):
            with client.Semaphore(root, max_leases=3), room:
                client.sync(root)

    with together(work, clients.some(6)):
        pass
    assert room.most <= 3 and room.turns == 24


def test_a_seat_of_one_that_vanished_is_free_again(clients: Clients, root: str) -> None:
    stays, guest = clients.member(), clients.one()
    assert stays.client.Semaphore(root, max_leases=1).acquire()
    seat = guest.Semaphore(root, max_leases=1)
    assert not seat.acquire(blocking=False)
    stays.vanish()
    assert seat.acquire(timeout=60)


class Clock:
    """The time that leases go by."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1)

    def __call__(self) -> datetime:
        return self.now


def test_a_lease_is_one_holders_until_it_runs_out(
    place: Place, clients: Clients, root: str
) -> None:
    one, two = clients.some(2)
    clock = Clock()
    hour = timedelta(hours=1)

    def lease(client: KazooClient, name: str) -> bool:
        return bool(client.retry(NonBlockingLease, client, root, hour, name, utcnow=clock))

    assert lease(one, "one")
    assert not lease(two, "two")
    place.restart()
    assert not lease(two, "two")
    assert lease(one, "one")  # its holder may renew it
    clock.now += 2 * hour
    assert lease(two, "two")
    assert not lease(one, "one")


def test_so_many_leases_at_once(clients: Clients, root: str) -> None:
    clock = Clock()
    holders = [
        bool(MultiNonBlockingLease(client, 2, root, timedelta(hours=1), name, utcnow=clock))
        for name, client in zip("abc", clients.some(3), strict=True)
    ]
    assert holders == [True, True, False]
