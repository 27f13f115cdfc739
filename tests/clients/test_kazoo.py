"""kazoo, the Python client, and its recipes against zkstore, through cut connections too."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from kazoo.client import KazooClient, KazooState, TransactionRequest
from kazoo.exceptions import (
    BadVersionError,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
    RuntimeInconsistency,
)
from kazoo.protocol.states import EventType, WatchedEvent
from kazoo.recipe.barrier import DoubleBarrier
from kazoo.recipe.watchers import ChildrenWatch, DataWatch, PatientChildrenWatch
from kazoo.security import make_digest_acl

from tests.clients.support import Proxy, wait_until

Connect = Callable[..., KazooClient]


@pytest.fixture
def connect(proxy: Proxy) -> Iterator[Connect]:
    """Starts clients; all are stopped at the end."""
    with ExitStack() as stack:

        def start(**options: object) -> KazooClient:
            client = KazooClient(hosts=proxy.hosts, timeout=30.0, **options)
            stack.callback(client.close)
            stack.callback(client.stop)
            client.start(timeout=60)
            return client

        yield start


@pytest.fixture
def root(request: pytest.FixtureRequest, connect: Connect) -> Iterator[str]:
    """A path of the test's own, gone when it ends."""
    path = f"/{request.node.name}"
    client = connect()
    client.ensure_path(path)
    yield path
    client.delete(path, recursive=True)


def test_data_and_errors(connect: Connect, root: str) -> None:
    client = connect()
    assert client.create(f"{root}/a", b"one") == f"{root}/a"
    with pytest.raises(NodeExistsError):
        client.create(f"{root}/a")
    data, stat = client.get(f"{root}/a")
    assert (data, stat.version, stat.data_length) == (b"one", 0, 3)
    assert client.set(f"{root}/a", b"two", version=0).version == 1
    with pytest.raises(BadVersionError):
        client.set(f"{root}/a", b"three", version=0)
    client.create(f"{root}/a/b")
    with pytest.raises(NotEmptyError):
        client.delete(f"{root}/a")
    client.delete(f"{root}/a", recursive=True)
    with pytest.raises(NoNodeError):
        client.get(f"{root}/a")
    assert client.exists(f"{root}/a") is None


def test_create_in_all_ways(connect: Connect, root: str) -> None:
    client = connect()
    path, stat = client.create(f"{root}/s-", b"x", sequence=True, include_data=True)
    assert (path, stat.version) == (f"{root}/s-0000000000", 0)
    path = client.create(f"{root}/e-", b"", ephemeral=True, sequence=True)
    assert path == f"{root}/e-0000000001"
    assert client.exists(path).ephemeralOwner == client.client_id[0]
    assert client.create(f"{root}/deep/er/still", b"", makepath=True) == f"{root}/deep/er/still"
    assert sorted(client.get_children(root)) == ["deep", "e-0000000001", "s-0000000000"]
    children, stat = client.get_children(root, include_data=True)
    assert (len(children), stat.children_count) == (3, 3)


def test_transaction(connect: Connect, root: str) -> None:
    client = connect()
    assert _commit(client, root, b"x", version=0) == [f"{root}/a", True]
    results = _commit(client, root, b"y", version=5)
    assert [type(result) for result in results] == [RolledBackError, BadVersionError]
    transaction = client.transaction()
    transaction.delete(f"{root}/none")
    transaction.create(f"{root}/never")
    first, second = transaction.commit()
    assert isinstance(first, NoNodeError) and isinstance(second, RuntimeInconsistency)
    assert client.exists(f"{root}/never") is None


def _commit(client: KazooClient, root: str, data: bytes, version: int) -> list[object]:
    transaction: TransactionRequest = client.transaction()
    if client.exists(f"{root}/a") is None:
        transaction.create(f"{root}/a", data)
        transaction.check(f"{root}/a", version)
    else:
        transaction.set_data(f"{root}/a", data)
        transaction.check(f"{root}/a", version)
    return list(transaction.commit())


def test_access_control(connect: Connect, root: str) -> None:
    acl = make_digest_acl("owner", "secret", all=True)
    owner = connect(auth_data=[("digest", "owner:secret")])
    other = connect()
    owner.create(f"{root}/mine", b"mine", acl=[acl])
    with pytest.raises(NoAuthError):
        other.get(f"{root}/mine")
    other.add_auth("digest", "owner:secret")
    assert other.get(f"{root}/mine")[0] == b"mine"
    assert owner.get_acls(f"{root}/mine")[0] == [acl]
    owner.delete(f"{root}/mine")


def test_watches_of_every_kind(connect: Connect, root: str) -> None:
    watcher, writer = connect(), connect()
    seen: list[tuple[str, str]] = []
    arrived = threading.Condition()

    def note(event: WatchedEvent) -> None:
        with arrived:
            seen.append((event.type, event.path))
            arrived.notify_all()

    def expect(*events: tuple[str, str]) -> None:
        with arrived:
            assert arrived.wait_for(lambda: len(seen) >= len(events), 30), seen
            assert sorted(seen) == sorted(events)
            seen.clear()

    watcher.exists(f"{root}/a", watch=note)
    watcher.get_children(root, watch=note)
    writer.create(f"{root}/a")
    expect((EventType.CREATED, f"{root}/a"), (EventType.CHILD, root))
    watcher.get(f"{root}/a", watch=note)
    writer.set(f"{root}/a", b"changed")
    expect((EventType.CHANGED, f"{root}/a"))
    watcher.get(f"{root}/a", watch=note)
    writer.delete(f"{root}/a")
    expect((EventType.DELETED, f"{root}/a"))


def test_watch_recipes_survive_a_cut(connect: Connect, root: str, proxy: Proxy) -> None:
    watcher, writer = connect(), connect()
    data: list[bytes | None] = []
    children: list[list[str]] = []
    writer.create(f"{root}/a", b"0")
    DataWatch(watcher, f"{root}/a", lambda value, stat: data.append(value))
    ChildrenWatch(watcher, root, lambda names: children.append(sorted(names)))
    for number in range(3):
        proxy.cut()
        writer.retry(writer.set, f"{root}/a", str(number + 1).encode())
        writer.retry(writer.ensure_path, f"{root}/child{number}")
    wait_until(lambda: bool(data) and data[-1] == b"3")
    wait_until(lambda: bool(children) and children[-1] == ["a", "child0", "child1", "child2"])


def test_session_and_ephemerals_survive_a_cut(connect: Connect, root: str, proxy: Proxy) -> None:
    client, other = connect(), connect()
    states: list[str] = []
    client.add_listener(states.append)
    client.create(f"{root}/e", ephemeral=True)
    session = client.client_id
    for _ in range(5):
        before = proxy.accepted
        proxy.cut()
        wait_until(lambda before=before: proxy.accepted >= before + 2)  # type: ignore[misc]
        wait_until(lambda: client.connected and other.connected)
    assert client.client_id == session
    assert other.retry(other.exists, f"{root}/e") is not None
    assert KazooState.LOST not in states
    client.stop()
    wait_until(lambda: other.retry(other.exists, f"{root}/e") is None)


def test_lock_lets_one_in_at_a_time(connect: Connect, root: str) -> None:
    inside = 0
    most = 0
    turns = 0
    guard = threading.Lock()

    def work(client: KazooClient) -> None:
        nonlocal inside, most, turns
        for _ in range(5):
            with client.Lock(f"{root}/lock", identifier=str(client.client_id[0])):
                with guard:
                    inside += 1
                    most = max(most, inside)
                client.sync(root)
                with guard:
                    inside -= 1
                    turns += 1

    _in_threads(work, [connect() for _ in range(4)])
    assert (most, turns) == (1, 20)


def test_lock_passes_on_when_its_owner_is_gone(connect: Connect, root: str) -> None:
    first, second = connect(), connect()
    assert first.Lock(f"{root}/lock", "first").acquire()
    waiting = second.Lock(f"{root}/lock", "second")
    got: list[bool] = []
    thread = threading.Thread(target=lambda: got.append(waiting.acquire(timeout=30)))
    thread.start()
    wait_until(lambda: len(second.Lock(f"{root}/lock").contenders()) == 2)
    first.stop()
    thread.join(30)
    assert got == [True]
    waiting.release()


def test_read_and_write_locks(connect: Connect, root: str) -> None:
    one, two = connect(), connect()
    read_one, read_two = one.ReadLock(f"{root}/rw"), two.ReadLock(f"{root}/rw")
    write = two.WriteLock(f"{root}/rw")
    assert read_one.acquire() and read_two.acquire()
    assert not write.acquire(blocking=False)
    read_one.release()
    read_two.release()
    assert write.acquire(timeout=20)
    write.release()


def test_semaphore(connect: Connect, root: str) -> None:
    clients = [connect() for _ in range(3)]
    semaphores = [client.Semaphore(f"{root}/sem", max_leases=2) for client in clients]
    assert semaphores[0].acquire() and semaphores[1].acquire()
    assert not semaphores[2].acquire(blocking=False)
    semaphores[0].release()
    assert semaphores[2].acquire(timeout=20)
    for semaphore in semaphores[1:]:
        semaphore.release()


def test_election(connect: Connect, root: str) -> None:
    led: list[str] = []
    clients = [connect() for _ in range(3)]

    def campaign(client: KazooClient) -> None:
        name = str(client.client_id[0])
        client.Election(f"{root}/election", name).run(led.append, name)

    _in_threads(campaign, clients)
    assert sorted(led) == sorted(str(client.client_id[0]) for client in clients)


def test_queue(connect: Connect, root: str) -> None:
    producer, consumer = connect(), connect()
    queue = producer.Queue(f"{root}/queue")
    for number in range(10):
        queue.put(str(number).encode(), priority=50 if number % 2 else 100)
    other_end = consumer.Queue(f"{root}/queue")
    taken = [int(other_end.get()) for _ in range(10)]
    assert taken == [1, 3, 5, 7, 9, 0, 2, 4, 6, 8]
    assert other_end.get() is None


def test_locking_queue(connect: Connect, root: str) -> None:
    clients = [connect() for _ in range(3)]
    clients[0].LockingQueue(f"{root}/queue").put_all([str(n).encode() for n in range(12)])
    taken: list[int] = []

    def work(client: KazooClient) -> None:
        queue = client.LockingQueue(f"{root}/queue")
        while len(taken) < 12:
            # Another one may take the last: hence the limit.
            if (item := queue.get(timeout=1)) is not None:
                taken.append(int(item))
                assert queue.consume()

    _in_threads(work, clients)
    assert sorted(taken) == list(range(12))


def test_counter(connect: Connect, root: str) -> None:
    def work(client: KazooClient) -> None:
        counter = client.Counter(f"{root}/counter")
        for _ in range(10):
            counter += 1

    clients = [connect() for _ in range(4)]
    _in_threads(work, clients)
    assert clients[0].Counter(f"{root}/counter").value == 40


def test_barriers(connect: Connect, root: str) -> None:
    one, two = connect(), connect()
    barrier = one.Barrier(f"{root}/barrier")
    barrier.create()
    assert two.Barrier(f"{root}/barrier").wait(timeout=0.1) is False
    barrier.remove()
    assert two.Barrier(f"{root}/barrier").wait(timeout=20) is True
    passed: list[str] = []

    def meet(client: KazooClient) -> None:
        double = DoubleBarrier(client, f"{root}/double", num_clients=2)
        double.enter()
        passed.append("in")
        double.leave()
        passed.append("out")

    _in_threads(meet, [one, two])
    assert passed[:2] == ["in", "in"] and passed[2:] == ["out", "out"]


def test_party(connect: Connect, root: str) -> None:
    one, two = connect(), connect()
    party, guest = one.Party(f"{root}/party", "one"), two.Party(f"{root}/party", "two")
    party.join()
    guest.join()
    wait_until(lambda: sorted(party) == ["one", "two"])
    two.stop()
    wait_until(lambda: list(party) == ["one"])


def test_patient_children_watch(connect: Connect, root: str) -> None:
    client = connect()
    for name in ("a", "b"):
        client.create(f"{root}/{name}")
    watch = PatientChildrenWatch(client, root, time_boundary=0.2)
    children, changed = watch.start().get(timeout=20)
    assert sorted(children) == ["a", "b"]
    client.create(f"{root}/c")
    assert changed.get(timeout=20) is not None


def test_many_requests_in_flight(connect: Connect, root: str) -> None:
    client = connect()
    client.create(f"{root}/a", b"")
    writes = [client.set_async(f"{root}/a", str(number).encode()) for number in range(500)]
    reads = [client.get_async(f"{root}/a") for _ in range(500)]
    assert [write.get(timeout=30).version for write in writes] == list(range(1, 501))
    assert {read.get(timeout=30)[0] for read in reads} == {b"499"}


def test_chroot(connect: Connect, root: str, proxy: Proxy) -> None:
    client = connect()
    inside = KazooClient(hosts=f"{proxy.hosts}{root}")
    inside.start(timeout=60)
    try:
        inside.create("/a", b"within")
        assert inside.get_children("/") == ["a"]
        assert client.get(f"{root}/a")[0] == b"within"
    finally:
        inside.stop()
        inside.close()


def test_four_letter_words_through_the_client(connect: Connect) -> None:
    client = connect()
    assert client.command(b"ruok") == "imok"
    assert "Mode: standalone" in client.command(b"srvr")
    version = client.server_version()
    assert version >= (3, 9), version


def _in_threads(work: Callable[[KazooClient], None], clients: list[KazooClient]) -> None:
    """Let every client work at once; errors of any of them are the test's."""
    errors: list[Exception] = []

    def guarded(client: KazooClient) -> None:
        try:
            work(client)
        except Exception as error:  # noqa: BLE001  -- handed on below
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors, errors
    assert not any(thread.is_alive() for thread in threads)
