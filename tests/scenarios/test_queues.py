"""Queues: in order, by priority, nothing lost and nothing given twice."""

from __future__ import annotations

from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionLoss

from tests.clients.support import wait_until
from tests.scenarios.place import Clients, Place, Work, together


def test_a_queue_keeps_its_order_over_a_crash(place: Place, clients: Clients, root: str) -> None:
    producer, consumer = clients.some(2)
    queue = producer.Queue(root)
    for number in range(20):
        queue.put(b"%d" % number)
    place.crash()
    other_end = consumer.Queue(root)
    taken = [int(consumer.retry(other_end.get)) for _ in range(20)]
    assert taken == list(range(20))
    assert other_end.get() is None


def test_the_urgent_comes_first(clients: Clients, root: str) -> None:
    producer, consumer = clients.some(2)
    queue = producer.Queue(root)
    for value, priority in (("later", 200), ("soon", 50), ("now", 1), ("soon too", 50)):
        queue.put(value.encode(), priority=priority)
    other_end = consumer.Queue(root)
    assert [other_end.get() for _ in range(4)] == [b"now", b"soon", b"soon too", b"later"]


def test_many_producers_and_consumers(place: Place, clients: Clients, root: str) -> None:
    """Every item comes to exactly one consumer, although a worker is killed meanwhile."""
    producers, consumers = clients.some(2), clients.some(3)
    items = {f"{number}-{item}" for number in range(2) for item in range(20)}
    taken: list[str] = []
    doubtful: set[str] = set()  # consumed, or given again: the reply was lost

    def produce(client: KazooClient, number: int) -> None:
        mine = sorted(item for item in items if item.startswith(f"{number}-"))
        client.LockingQueue(root).put_all([item.encode() for item in mine])

    def consume(client: KazooClient) -> None:
        queue = client.LockingQueue(root)
        item: bytes | None = None
        while client.retry(client.get_children, f"{root}/entries"):
            try:
                item = queue.get(timeout=1)
                if item is not None and queue.consume():
                    taken.append(item.decode())
            except ConnectionLoss:
                if item is not None:
                    doubtful.add(item.decode())
                _start_anew(client)
                queue = client.LockingQueue(root)

    for number, producer in enumerate(producers):
        produce(producer, number)
    with together(consume, consumers):
        wait_until(lambda: len(taken) > 10)
        place.lose_worker()
    assert len(taken) == len(set(taken))
    assert items - set(taken) <= doubtful


def _start_anew(client: KazooClient) -> None:
    """End the session, so that what it had taken is given again."""
    wait_until(lambda: client.connected)
    client.stop()
    client.start(timeout=60)


def test_what_a_vanished_consumer_held_is_given_again(clients: Clients, root: str) -> None:
    producer = clients.one()
    producer.LockingQueue(root).put(b"work")
    held = clients.member()
    assert held.client.LockingQueue(root).get(timeout=60) == b"work"
    second = producer.LockingQueue(root)
    assert second.get(timeout=0.1) is None
    held.vanish()
    got: list[bytes] = []
    with Work(lambda: got.append(second.get(timeout=60))):
        pass
    assert got == [b"work"] and second.consume()
